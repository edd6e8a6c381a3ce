import math

import numpy as np
import pytest
from guarantee import assert_error_rate
from least_squares import coverage, problem, verdicts

from whp.certificate import Verdict
from whp.datasets.linear_models import dense_regression
from whp.linalg import linf_regression
from whp.studies.linf_regression.worlds import extended


@pytest.mark.parametrize("rows", [16, 30, 120])
def test_refinement_contracts_even_at_few_rows(rows):
    A, b = problem(4096, 8)
    exact = np.linalg.lstsq(A, b)[0]
    norms = np.linalg.norm(A, axis=0)
    # The median of several draws: d/m is an edge of the spectrum in the limit only, and of 30 rows
    # for 8 columns 7 draws of 100 lie so far beyond it that the steps diverge.
    runs = [
        [
            np.linalg.norm((linf_regression(A, b, rows=rows, refine=k, rng=s).x - exact) * norms)
            for k in (0, 10, 20, 40)
        ]
        for s in range(5)
    ]
    errors = np.median(runs, axis=0)
    rate = math.sqrt(8 / rows)
    for k, error in zip((10, 20, 40), errors[1:], strict=True):
        assert error <= max(30 * k * rate**k * errors[0], 1e-9)


def test_lsqr_goes_to_machine_precision():
    A, b = problem(4096, 8)
    result = linf_regression(A, b, rows=40, refine="lsqr", measure=True, rng=0)
    np.testing.assert_allclose(result.x, np.linalg.lstsq(A, b)[0], rtol=1e-11)
    assert verdicts(result) == [Verdict.HOLDS]


def test_refined_bound_is_never_broken():
    def instance(rng):
        A, b = dense_regression(512, 6, rng, design="outliers")
        return linf_regression(
            A, b, rows=64, refine=3, measure=True, delta=0.1, rng=rng
        ).certificates[0]

    assert_error_rate(instance, 0.1, n=150)


@pytest.mark.parametrize("refine", [1, 3, 40, "lsqr"])
def test_the_interval_of_a_refined_solution_covers_down_to_rounding(refine):
    for seed in range(10):
        A, b = problem(2000, 8, seed)
        result = linf_regression(A, b, rows=100, refine=refine, rng=seed)
        assert coverage(result, extended(A, b))
        assert (result.rounding > 0).all()
