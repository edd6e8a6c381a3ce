from dataclasses import replace

import numpy as np
import pytest

from whp.certificate import Status, Verdict
from whp.continual import design_effect
from whp.continual._view_batch import noise
from whp.continual._view_batch import theorems as th


def test_5_design_effect():
    rng = np.random.default_rng(0)
    n, B, sigma = 800, 32, 1.5
    mu = rng.normal(size=n)
    for views in (1, 2, 4, 8):
        d = B // views
        chosen = np.stack([rng.choice(n, d, replace=False) for _ in range(20_000)])
        drawn = mu[chosen].mean(axis=1) + sigma / np.sqrt(B) * rng.normal(size=20_000)
        assert drawn.var() == pytest.approx(
            design_effect(n, B, views, mu.var(ddof=1), sigma**2)[0], rel=0.04
        )
    rho = 1 / (1 + sigma**2)
    factors = [np.divide(*design_effect(10**9, B, v, 1.0, sigma**2)) for v in (2, 4, 8)]
    np.testing.assert_allclose(factors, [1 + (v - 1) * rho for v in (2, 4, 8)], rtol=1e-6)
    assert np.divide(*design_effect(n, B, 4, 1.0, 0.0)) == pytest.approx((n * 4 - B) / (n - B))


def drawn(rng, within=1.0, spread=1.0, n=300, equal=0):
    mu = rng.normal(size=(n, 8))
    rows = np.stack([rng.permutation(n)[:32] for _ in range(200)])
    ordinary = mu[rows].mean(axis=1) + within / 32**0.5 * rng.normal(size=(200, 8))
    views = mu[rows[::-1, :8]].mean(axis=1) + within * spread / 32**0.5 * rng.normal(size=(200, 8))
    singles = mu[:64, None] + within * rng.normal(size=(64, 4, 8)) * np.array(
        [1, spread, spread, spread]
    ).reshape(1, 4, 1)
    return noise.Gradients(np.stack([views, ordinary], axis=1), singles, equal, 0.0)


def test_certificates_of_measured_gradients():
    rng = np.random.default_rng(0)
    good = noise.certified(drawn(rng), 300, 32, 4, rng)
    assert good.headline == "holds of the fit, given 1 not refuted"
    assert good.inputs["predicted ratio"] == pytest.approx(2.58, rel=0.15)
    assert noise.certified(drawn(rng, equal=1), 300, 32, 4, rng).verdict is Verdict.VOID
    assert noise.certified(drawn(rng, spread=3), 300, 32, 4, rng).verdict is Verdict.VOID
    assert noise.certified(None, 300, 32, 4, rng).verdict is Verdict.UNMEASURED
    assert noise.certified(drawn(rng), 32, 32, 4, rng).verdict is Verdict.VOID
    known = th.ALIKE.by_construction("so")
    assert "not refuted" not in noise.certified(drawn(rng), 300, 32, 4, rng, known).headline


def test_gradients_that_are_all_zero_say_nothing():
    rng = np.random.default_rng(0)
    nothing = noise.Gradients(np.zeros((20, 2, 3)), np.zeros((8, 4, 3)), 0, 0.0)
    assert noise.certified(nothing, 300, 32, 4, rng).verdict is Verdict.UNMEASURED


@pytest.mark.parametrize("views", [2, 4])
def test_views_drawn_alike_are_rarely_called_unlike(views):
    rng = np.random.default_rng(1)
    ps = [noise.unlike(rng.standard_t(3, size=(64, views, 8)), rng) for _ in range(100)]
    assert np.mean(np.array(ps) < 0.1) < 0.25
    assert min(ps) > noise.LEVEL


def test_gradients_without_spread_are_alike():
    assert noise.unlike(np.ones((64, 4, 8)), np.random.default_rng(0)) == 1


def test_the_ratio_of_variances_is_covered():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        batches = rng.normal(size=(200, 2, 4)) * np.array([2.0, 1.0]).reshape(1, 2, 1)
        e = noise.ratio_of_variances(batches)
        hits += e.low <= 4 <= e.high
    assert 180 <= hits <= 199


def test_scores_that_depend_on_the_batch_are_void():
    rng = np.random.default_rng(0)
    found = replace(drawn(rng), company=0.1)
    made = noise.certified(found, 300, 32, 4, rng)
    assert made.verdict is Verdict.VOID
    assert [a.status for a in made.conditions if a.name == "scores-of-an-image-alone"] == [
        Status.VIOLATED
    ]


def test_a_row_that_carries_the_variance_refutes_nothing():
    """One row in 10,000 has nearly all of it: copies' ratio is true, and a batch in 300 shows it."""
    fails = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        groups = []
        for count in (8, 32):
            hit = rng.random((400, 1)) < count / 10_000
            groups.append((rng.normal(size=(400, 8)) + hit * 300 / count**0.5) / count**0.5)
        e = noise.ratio_of_variances(np.stack(groups, axis=1))
        fails += e.low > (40_000 - 32) / (10_000 - 32)
    assert fails <= 2


def test_an_ordinary_variance_is_carried_by_enough_batches():
    rng = np.random.default_rng(0)
    for m in (30, 400):
        e = noise.ratio_of_variances(rng.normal(size=(m, 2, 4)))
        assert np.isfinite(e.high)
