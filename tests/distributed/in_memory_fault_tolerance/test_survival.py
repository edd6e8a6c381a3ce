import numpy as np
import pytest

from whp.distributed import loss_probability, optimal_interval, survival_probability
from whp.distributed._in_memory_fault_tolerance.survival import (
    every_steps,
    largest_loss,
    least_survival,
    overhead,
)


@pytest.mark.parametrize(
    ("n", "m", "p", "groups", "expected"),
    [
        (4, 1, 0.01, 1, 0.99940797),
        (4, 2, 0.01, 1, 0.99999603),
        (8, 1, 0.01, 1, 0.99730992),
        (8, 2, 0.01, 1, 0.99994607),
        (6, 2, 0.05, 1, 0.99777016),
        (8, 1, 0.01, 16, 0.95781633),
        (8, 2, 0.01, 16, 0.99913742),
    ],
)
def test_6_survival_numbers(n, m, p, groups, expected):
    assert survival_probability(n, m, p, groups=groups) == pytest.approx(expected, abs=1e-8)


def test_6_intervals():
    assert optimal_interval(0.04, 1 / 3600) == pytest.approx(16.9705627, abs=1e-7)
    assert optimal_interval(60, 1 / 3600) == pytest.approx(657.2670690, abs=1e-7)
    times = np.linspace(1, 60, 5901)
    best = times[np.argmin([overhead(t, 0.04, 1 / 3600) for t in times])]
    assert best == pytest.approx(optimal_interval(0.04, 1 / 3600), abs=0.02)
    assert every_steps(0.04, 0.0, 0.3, 1 / 3600) == 57
    assert (
        every_steps(0.0001, 5.0, 0.3, 1.0) == 17
    )  # never before the previous version is committed


def test_correlation_destroys_survival():
    lost = [1 - survival_probability(8, 1, 0.01, rho=rho) for rho in (0, 0.01, 0.1, 0.5)]
    assert lost[0] == pytest.approx(1 - 0.99730992, abs=1e-8)
    assert lost[1] > 1.5 * lost[0]
    assert lost[2] > 3 * lost[0]
    assert survival_probability(8, 1, 0.01, rho=1) == pytest.approx(0.99)
    assert survival_probability(8, 1, 0.01, rho=1e-9) == pytest.approx(0.99730992, abs=1e-6)
    assert survival_probability(8, 1, 0.01, scheme="disk") == pytest.approx(0.99**8)
    assert survival_probability(8, 1, 0.01, scheme="pairs") == pytest.approx((1 - 1e-4) ** 4)
    assert loss_probability(0.1, 2.0) == pytest.approx(1 - np.exp(-0.2))
    assert loss_probability(0.1, 2.0, shape=2) == pytest.approx(1 - np.exp(-0.04))
    for wrong in ({"p": 1.5}, {"m": 8}, {"rho": -1}, {"scheme": "tape"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            survival_probability(**{"n": 8, "m": 1, "p": 0.01} | wrong)


@pytest.mark.parametrize(("m", "rho"), [(1, 1.0), (1, 0.2), (3, 0.9), (2, 1e-3)])
def test_the_least_survival_is_the_smallest_up_to_the_correlation(m, rho):
    values = [survival_probability(8, m, 0.01, rho=rho * i / 2000) for i in range(2001)]
    assert least_survival(8, m, 0.01, rho=rho) == pytest.approx(min(values), abs=1e-8)
    assert least_survival(8, m, 0.01, rho=rho) <= min(values) + 1e-12


@pytest.mark.parametrize("rho", [0.0, 0.1, 1.0])
def test_the_largest_loss_makes_that_many_windows_with_one(rho):
    hit = 1 - survival_probability(8, 0, 0.03, rho=rho)
    assert largest_loss(hit, 8, rho) == pytest.approx(0.03)
    assert (largest_loss(0.0, 8, rho), largest_loss(1.0, 8, rho)) == (0.0, 1.0)
