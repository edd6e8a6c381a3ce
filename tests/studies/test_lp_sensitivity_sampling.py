import numpy as np
import pandas as pd
import pytest
from trial import judged, records_of

from whp.datasets import tables
from whp.experiment.study import Outcome, load
from whp.linalg import lp_regression, optimality_gap
from whp.studies.lp_sensitivity_sampling import worlds
from whp.studies.lp_sensitivity_sampling.experiments import blocks

study = load("lp-sensitivity-sampling")


def test_optima_of_randhie():
    A, b = tables.randhie_regression()
    assert A.shape == (20190, 10)
    for p, cost in ((1, 47692.7453), (1.5, 117710.4938), (3, 7575350.74)):
        found = optimality_gap(A, b, lp_regression(A, b, p), p)
        assert found.cost == pytest.approx(cost, rel=1e-8)
        assert found.gap <= (1e-9 if p > 1 else 0.02)


def test_optima_of_diamonds():
    A, b = tables.diamonds_regression(full=True)
    for p, cost in ((1.5, 2524.724794), (3, 1714.170891)):
        found = optimality_gap(A, b, lp_regression(A, b, p), p)
        assert found.cost == pytest.approx(cost, rel=1e-8)
        assert found.gap <= 1e-9


def test_the_truth_of_the_worlds_is_that_of_the_solvers():
    rng = np.random.default_rng(0)
    A, b = worlds.regression(rng, 200, 3)
    for p in (1, 1.5, 2, 3, 16, 64):
        cost = worlds.costs(b - A @ lp_regression(A, b, p), p, None)
        assert worlds.least(A, b, p, None) == pytest.approx(cost, rel=1e-8)
    assert float(worlds.least_of_fractions(A, b)) == pytest.approx(worlds.least(A, b, 2, None))


def test_claims_can_come_out_either_way():
    seeds = tuple(range(4))
    frame = pd.concat(
        [
            records_of(study, [{"experiment": "honesty", "rows": 1500}], seeds),
            records_of(study, [{"experiment": "total", "p": 3.0}], (0,)),
            pd.DataFrame(
                {"experiment": "two blocks", "scheme": scheme, "seed": seed, "full_rank": True}
                for seed in seeds
                for scheme in ("lewis", "augmented")
            ),
        ]
    )
    claims = {c.id: c for c in study.CLAIMS}
    assert judged(claims["C1a"], frame).outcome == Outcome.REPRODUCED
    off = frame.assign(deviation=0.5)
    assert judged(claims["C1a"], off).outcome == Outcome.NOT_REPRODUCED
    assert judged(claims["C4b"], frame).ours.value == 1
    lost = judged(claims["C4b"], frame.assign(full_rank=False))
    assert lost.outcome == Outcome.NOT_REPRODUCED
    assert judged(claims["C6a"], frame).ours.value == 0
    assert judged(claims["C6a"], frame.assign(broken=True)).outcome == Outcome.NOT_REPRODUCED


def test_two_blocks_are_as_the_claim_needs_them():
    A = blocks()
    assert A.shape == (8192, 128)
    assert np.linalg.matrix_rank(A) == 128
    # Each row of the second block is one of 64 copies of a unit vector: sensitivity 1/64.
    assert (np.abs(A[4096:]).sum(axis=1) == 1 / 64).all()
