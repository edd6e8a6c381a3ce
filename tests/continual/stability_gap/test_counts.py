import numpy as np
import pytest

from whp.continual._stability_gap.counts import counted, half_a_digit


def rows(n, T=40, seed=0):
    rng = np.random.default_rng(seed)
    return rng.binomial(n, rng.uniform(0.6, 0.9, T)) / n


@pytest.mark.parametrize("n", [37, 100, 1000, 10000, 123457])
def test_shares_of_n_rows_pass(n):
    assert counted([rows(n)], [n]).status == "not refuted"
    assert counted([rows(n).astype(np.float32).astype(float)], [n]).status == "not refuted"


def test_rounding_of_a_log_is_no_fault():
    assert counted([np.round(rows(300), 4)], [300]).status == "not refuted"
    assert counted([np.round(rows(1000), 3)], [1000]).status == "not refuted"


@pytest.mark.parametrize("factor", [5, 20, 100])
def test_a_divisor_of_n_is_found(factor):
    answer = counted([rows(100)], [100 * factor])
    assert answer.status == "violated"
    assert "as if from 100 rows" in answer.evidence


@pytest.mark.parametrize("weight", [0.3, 0.6, 0.9])
def test_smoothing_is_found(weight):
    values = rows(500)
    for t in range(1, len(values)):
        values[t] = weight * values[t - 1] + (1 - weight) * values[t]
    assert counted([values], [500]).status == "violated"


def test_a_model_that_stands_still_at_a_half_is_no_evidence():
    answer = counted([np.full(50, 0.5)], [10000])
    assert answer.status == "unchecked"
    assert "so few digits" in answer.evidence


def test_honest_rows_are_seldom_refuted():
    """At the level of the test, over small and composite n."""
    refuted = sum(
        counted([rows(n, T=8, seed=s)], [n]).status == "violated"
        for s in range(100)
        for n in (60, 64, 120)
    )
    assert refuted <= 9  # 300 at 1 %: more than 9 with probability 1e-3


@pytest.mark.parametrize(("n", "digits"), [(2115, 3), (1501, 2), (99_991, 2)])
def test_digits_that_leave_every_number_a_share_show_nothing(n, digits):
    """Rounded to so few digits, smoothed accuracies look like shares of n rows too."""
    values = rows(n)
    smooth = values.copy()
    for t in range(1, len(smooth)):
        smooth[t] = 0.9 * smooth[t - 1] + 0.1 * smooth[t]
    for seen in (values, smooth):
        assert counted([np.round(seen, digits)], [n]).status == "unchecked"


def test_one_value_does_not_show_how_many_digits_there_are():
    """A task that is always right is no log of one digit."""
    assert half_a_digit([np.ones(40)]) == pytest.approx(5e-4)
    assert half_a_digit([np.array([1, 0.9, 0.8, 0.7])]) == pytest.approx(0.05)
    assert half_a_digit([rows(123_457)]) < 1e-8


def test_numbers_of_fewer_bits_are_rounded_ones():
    seen = np.round(rows(2115), 2)
    assert half_a_digit([seen.astype(np.float32).astype(float)]) == half_a_digit([seen]) == 0.005
    assert half_a_digit([rows(2115).astype(np.float32).astype(float)]) < 1e-6
    half = rows(2000).astype(np.float16).astype(float)
    assert np.abs(half - rows(2000)).max() <= half_a_digit([half]) == 2.0**-12
    assert counted([half], [2000]).status == "not refuted"
    assert counted([half], [200_000]).status != "not refuted"
