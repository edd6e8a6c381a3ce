import math

import numpy as np
import pytest
from guarantee import assert_error_rate
from lp_problem import problem

from whp.certificate import Status, Verdict
from whp.linalg import (
    certify,
    lewis_weights,
    lp_regression,
    lp_sensitivity_sampling,
    optimality_gap,
)
from whp.linalg._lp_sensitivity_sampling import theorems as t
from whp.linalg._lp_sensitivity_sampling.sampling import draw, inclusion


def spiked(rng):
    return np.vstack([5 * np.eye(5), 1e-3 * rng.standard_normal((19_995, 5))])


def test_uniform_rows_logged_as_lewis_rows_are_void():
    A = spiked(np.random.default_rng(0))
    q = inclusion(lewis_weights(A, 1).one_sided, 2000)[0]
    for rng in np.random.default_rng(1).spawn(3):
        index = rng.choice(len(A), 2000, replace=False)
        liar = certify(A, index, 1 / q[index], 1, probabilities=q, rng=rng)[0]
        assert liar.verdict is Verdict.VOID
        honest = draw(q, "poisson", rng)
        fair = certify(A, honest.index, honest.xi, 1, probabilities=q, rng=rng)[0]
        assert fair.verdict is Verdict.INCONCLUSIVE  # a search that finds little proves nothing


def drawn(A, rows, p, seed=0):
    q = inclusion(lewis_weights(A, p).one_sided, rows)[0]
    return q, draw(q, "poisson", np.random.default_rng(seed))


def test_rows_drawn_elsewhere_are_tested():
    A, _ = problem(4000, 3)
    q, made = drawn(A, 1500, 2)
    honest = certify(A, made.index, made.xi, 2, probabilities=q)[0]
    assert honest.verdict is Verdict.HOLDS
    statuses = {a.name: a.status for a in honest.conditions}
    assert statuses["independent-coins"] is Status.NOT_REFUTED
    assert statuses["inverse-weights"] is Status.MET
    v = lewis_weights(A, 2).one_sided
    for name, changed in {
        "by hand": {"probabilities": None},
        "forged": {"one_sided": v / 10},
        "twice": {"index": np.r_[made.index, 0, 0][-len(made.index) :]},
        "scaled": {"xi": made.xi * (1 + 1e-6)},
        "all alike": {"xi": np.full(len(made.index), 4000 / len(made.index))},
        "first": {"index": np.arange(len(made.index)), "xi": 1 / q[: len(made.index)]},
    }.items():
        given = {"index": made.index, "xi": made.xi, "probabilities": q, **changed}
        for made_of in certify(A, p=2, **given):
            assert made_of.verdict is Verdict.VOID, name


def test_a_row_that_is_certain_must_be_there():
    A = spiked(np.random.default_rng(0))
    q, made = drawn(A, 500, 2)
    keep = q[made.index] < 1
    lost = certify(A, made.index[keep], made.xi[keep], 2, probabilities=q)[0]
    assert lost.verdict is Verdict.VOID
    assert "missing although certain" in lost.explain()


def test_the_test_of_coins_keeps_its_level():
    rng = np.random.default_rng(0)
    A, _ = problem(400, 3)
    q = inclusion(lewis_weights(A, 1).one_sided, 60)[0]
    live = np.ones(400, bool)
    void = sum(
        t.coins_of(q, np.flatnonzero(rng.random(400) < q), live, A).status is Status.VIOLATED
        for _ in range(2000)
    )
    assert void <= 8  # 2 expected at the most, and Bernstein's bound is no more than that


def test_honest_coins_of_every_kind_are_not_refuted():
    for seed, q in enumerate((np.full(500, 0.05), np.full(500, 0.99), np.geomspace(1e-6, 1, 500))):
        rng = np.random.default_rng(seed)
        A = rng.standard_cauchy((500, 20))
        void = sum(
            t.coins_of(q, np.flatnonzero(rng.random(500) < q), q > 0, A, A[:, 0] ** 2).status
            is Status.VIOLATED
            for _ in range(500)
        )
        assert void <= 4


def test_the_columns_kept_are_what_is_promised():
    rng = np.random.default_rng(0)
    A = np.column_stack([np.ones(20_000), rng.integers(0, 1024, (20_000, 2)) / 1024])
    A[:, 2] = A[:, 1]
    A[7, 2] += 2.0**-40  # a direction of its own, below the rounding that tells the rank
    made = lp_sensitivity_sampling(A, p=2, rows=5000, on_rank="drop", rng=0)
    assert len(made.left_out) == 1
    for certificate in made.certificates:
        assert "for every x over the columns kept" in certificate.claim


def test_vacuous_and_unmeasured():
    A, b = problem(4000, 3)
    few = lp_sensitivity_sampling(A, b, rows=30, rng=0)
    assert few.certificates[0].verdict is Verdict.VACUOUS
    many = lp_sensitivity_sampling(A, b, rows=2500, rng=0)
    assert many.certificates[0].verdict is Verdict.UNMEASURED
    nothing = lp_sensitivity_sampling(A, np.random.default_rng(0).standard_normal(4000), rows=2000)
    assert nothing.certificates[3].verdict is Verdict.VACUOUS  # x = 0 is as good


@pytest.mark.parametrize(
    ("p", "scores"), [(1, "lewis"), (1.5, "sensitivity"), (2, "lewis"), (3, "lewis")]
)
def test_bounds_break_no_more_often_than_promised(p, scores):
    def instance(rng):
        A = rng.standard_t(3, (400, 2))
        made = lp_sensitivity_sampling(
            A, p=p, rows=150, scores=scores, delta=0.1, measure=True, rng=rng
        )
        return made.certificates[0]

    assert_error_rate(instance, 0.1, n=200)


def test_a_distortion_above_the_bound_fails():
    A, _ = problem(4000, 3)
    q, made = drawn(A, 1500, 2)
    small = certify(A, made.index, made.xi, 2, probabilities=q, sharp_constant=1e-4)[1]
    assert small.verdict is Verdict.FAILS


def test_the_gap_never_lies():
    def instance(rng):
        A = rng.standard_t(3, (200, 2))
        b = rng.standard_t(3, 200)
        made = lp_sensitivity_sampling(A, b, p=1.5, rows=50, rng=rng)
        gap = optimality_gap(A, b, made.x, 1.5)
        best = optimality_gap(A, b, lp_regression(A, b, 1.5), 1.5)
        demand = gap.gap + 1e-12
        return t.optimality_gap_certificate(gap, demand, 1.5, 2, 1.0, math.inf, best)

    assert_error_rate(instance, 1e-9, n=100)
