"""What people hand in: schemes, tables, hot and fast modes; and what becomes of a field that is saved."""

import pickle

import mpmath as mp
import numpy as np
import pytest

from whp.qft import Field, causality, composite, finite_time_path, self_energy, split_of, vertex_of

TIMES = np.linspace(0.3, 10, 12)


def table(rows):
    w = np.linspace(1, 30, rows)
    return np.c_[w, 1 / np.expm1(w)]


def test_a_product_in_four_dimensions_is_not_bare():
    with pytest.raises(ValueError, match="scheme"):
        composite(TIMES, 0.0, Field(), scheme="bare")
    with pytest.raises(ValueError, match="scheme"):
        vertex_of(np.ones(12), TIMES, 0.0, Field(), scheme="bare")


def test_both_cut_offs_of_a_feynman_function_are_looked_at():
    for sign in (1, -1):
        certificate = split_of(lambda x, sign=sign: np.where(sign * x > 0, 1.0, 1 / (x * x + 1)))
        assert certificate.verdict == "fails"
    with pytest.raises(ValueError, match="finite"):
        split_of(lambda x: np.nan * x)


def test_numbers_of_the_true_occupation_do_not_fail_against_its_table():
    true = composite(TIMES, 0.0, Field(distribution=1.0))
    for rows, verdict in ((50, "inconclusive"), (2000, "holds")):
        field = Field(distribution=table(rows))
        assert vertex_of(true, TIMES, 0.0, field).verdict == verdict
        assert vertex_of(-true, TIMES, 0.0, field).verdict == "fails"


@pytest.mark.parametrize("given", [None, 1.0, table(50), np.reciprocal])
def test_a_field_is_pickled(given):
    field = Field(distribution=given)
    again = pickle.loads(pickle.dumps(field))
    assert np.array_equal(self_energy([0.5, 3.0], 0.0, field), self_energy([0.5, 3.0], 0.0, again))


def test_hot_modes_lie_within_their_error_bars():
    T, E = 1e4, 0.8
    made = self_energy(E, 0.0, Field(distribution=T), part="medium", with_error=True)
    with mp.workdps(20):
        exact = mp.quad(
            lambda w: mp.sqrt(w * w - 1) / mp.expm1(w / T) / (2 * mp.pi**2) / (E * E - 4 * w * w),
            [1, 2, 10, 100, 1e3, 1e4, 1e5, 4e5, 1e6],
        )
    assert abs(made.value - float(exact)) <= made.error <= 1e-4


@pytest.mark.parametrize("given", [{"temperature": 1e3}, {"temperature": 1.0, "momentum": 100.0}])
def test_hot_and_fast_modes_do_not_fail(given):
    certificates = finite_time_path(**given, rng=0).certificates
    assert not {c.name for c in certificates if c.verdict in ("void", "fails")}


def test_a_table_of_many_rows_lies_within_its_error_bars():
    made = finite_time_path(table(2000), rng=0)
    assert {c.name: str(c.verdict) for c in made.certificates}["error-bars"] == "holds"


def test_the_resolution_in_time_is_that_of_the_fall_off():
    for power, advance in ((1, 3e-4), (2, 1e-3)):
        F = lambda q, n=power, a=advance: (q + 0.3j) ** (-2 * n) * np.exp(-1j * a * q)  # noqa: E731
        said = causality(F).explain()
        resolution = float(said.split("times shorter than ")[1].split("/m")[0])
        assert resolution >= advance


def test_a_distribution_of_one_number_is_told_so():
    with pytest.raises(ValueError, match="distribution must take an array"):
        Field(distribution=lambda w: 0.5 if w < 3 else 0.0)
