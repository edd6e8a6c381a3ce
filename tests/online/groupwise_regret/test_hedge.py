import math

import numpy as np
import pytest

from whp.online import AdaNormalHedge
from whp.online._groupwise_regret.hedge import log_weight


def test_1_log_weights():
    wanted = {
        (0, 0): -1.6204674521,
        (2, 3): -0.6634952107,
        (0.5, 7): -3.0130296106,
        (-0.5, 0): -3.1360978286,
        (-1, 0): -math.inf,
        (-2, 5): -math.inf,
        (300, 300): 99.3326178144,
    }
    for (R, C), w in wanted.items():
        assert log_weight(float(R), float(C)) == pytest.approx(w, abs=1e-9)
    assert math.isfinite(log_weight(3000.0, 3000.0))


def test_2_five_rounds_by_hand():
    hedge = AdaNormalHedge(3)
    rounds = [
        ((1, 0, 1), (0.2, 0, 0.6)),
        ((1, 1, 1), (0.1, 0.9, 0.5)),
        ((0, 1, 1), (0, 0.3, 0.4)),
        ((1, 1, 1), (0.8, 0.2, 0.5)),
        ((1, 0, 1), (0, 0, 1)),
    ]
    p = [
        (0.5, 0, 0.5),
        (0.45455276, 0.36563174, 0.17981551),
        (0, 0.31017505, 0.68982495),
        (0.73639803, 0.10000516, 0.16359681),
        (0.70862428, 0, 0.29137572),
    ]
    for (active, losses), weights, mixture in zip(
        rounds, p, (0.4, 0.46443159, 0.3689825, 0.69091786, 0.29137572), strict=True
    ):
        np.testing.assert_allclose(hedge.weights(active), weights, atol=1e-8)
        assert hedge.update(losses, active) == pytest.approx(mixture, abs=1e-8)
    np.testing.assert_allclose(hedge.R, (0.74672518, 0.12433195, -0.78429233), atol=1e-8)
    np.testing.assert_allclose(hedge.C, (0.96488945, 0.99546876, 1.16612805), atol=1e-8)
    assert pytest.approx(2.2245538571, abs=1e-9) == hedge.B
    np.testing.assert_allclose(hedge.bound(), (2.34404966, 2.38090379, 2.57692126), atol=1e-8)


def test_3_no_meta_bound_is_broken():
    for rng in np.random.default_rng(0).spawn(300):
        N, kind = int(rng.integers(2, 6)), rng.integers(4)
        hedge, fixed = AdaNormalHedge(N), rng.random(N)
        for t in range(60):
            active = rng.random(N) < 0.7
            losses = [
                rng.random(N),
                fixed,
                (np.arange(N) + t) % 2 * 1.0,
                (hedge.weights(active) > 1 / N) * 1.0,
            ][kind]
            hedge.update(losses, active)
        assert (hedge.bound() + 1e-12 >= hedge.R).all()


def test_3_symmetries():
    rng = np.random.default_rng(0)
    losses, active = rng.random((50, 4)), rng.random((50, 4)) < 0.8
    order = rng.permutation(4)
    plain, turned, doubled = AdaNormalHedge(4), AdaNormalHedge(4), AdaNormalHedge(8)
    sure = AdaNormalHedge(4, prior=[1 - 3e-12, 1e-12, 1e-12, 1e-12])
    for ell, a in zip(losses, active, strict=True):
        np.testing.assert_allclose(turned.weights(a[order]), plain.weights(a)[order], atol=1e-12)
        np.testing.assert_allclose(
            doubled.weights(np.tile(a, 2)).reshape(2, 4).sum(axis=0), plain.weights(a), atol=1e-12
        )
        if a[0]:
            assert sure.weights(a)[0] > 0.999
        plain.update(ell, a)
        turned.update(ell[order], a[order])
        doubled.update(np.tile(ell, 2), np.tile(a, 2))
    saved = AdaNormalHedge(4)
    saved.load_state_dict(plain.state_dict())
    np.testing.assert_array_equal(saved.weights(active[0]), plain.weights(active[0]))
    np.testing.assert_array_equal(plain.weights([False] * 4), np.full(4, 0.25))


def test_the_potential_stays_below_its_budget():
    """Σ q Φ(R, C) ≤ B in every round, which is what the bound rests on."""
    for rng in np.random.default_rng(1).spawn(50):
        N = int(rng.integers(2, 8))
        hedge = AdaNormalHedge(N, prior=rng.dirichlet(np.ones(N)) * 0.9 + 0.1 / N)
        for _ in range(80):
            active = rng.random(N) < 0.8
            losses = (hedge.weights(active) > rng.random()) * 1.0
            hedge.update(losses, active)
            potential = np.exp(np.maximum(hedge.R, 0) ** 2 / (3 * np.maximum(hedge.C, 1e-300)))
            assert hedge.prior @ potential <= hedge.B + 1e-12


def test_the_bound_of_the_mixture_is_within_reach():
    """The leader is always right among 1,000: two thirds of the bound are used, so half would lie."""
    hedge = AdaNormalHedge(1000)
    for _ in range(10):
        hedge.update(np.append(0.0, np.ones(999)), np.ones(1000))
    assert 0.5 < hedge.R[0] / hedge.bound()[0] < 1


def test_a_state_knows_its_prior():
    """The budget is of one prior; under another the bound would be another."""
    hedge = AdaNormalHedge(2, prior=[0.01, 0.99])
    hedge.update([0.0, 1.0], [True, True])
    again = AdaNormalHedge(2, prior=[0.01, 0.99])
    again.load_state_dict(hedge.state_dict())
    np.testing.assert_array_equal(again.bound(), hedge.bound())
    with pytest.raises(ValueError, match="prior"):
        AdaNormalHedge(2).load_state_dict(hedge.state_dict())
