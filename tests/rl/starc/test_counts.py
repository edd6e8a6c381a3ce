import numpy as np
import pytest
from finite_mdps import drawn
from scipy.optimize import linprog

from whp.rl import starc, worst_case_regret
from whp.rl._starc.counts import _extreme, _value, as_counts, radius, world_bound
from whp.rl._starc.mdp import MDP


def of_two(n, delta):
    return radius(np.full((1, 1), n), 2, delta)[0, 0]


def test_the_radius_by_hand():
    # √(2 (1.386294 + ln 202,000)/100), ln 202,000 = 12.216023
    assert of_two(100, 0.05) == pytest.approx(0.5215806, abs=1e-6)
    assert of_two(0, 0.05) == of_two(1, 0.05) == 2
    assert of_two(10**8, 0.05) < 1e-3


@pytest.mark.parametrize("sign", [1, -1])
def test_nature_is_a_linear_program(sign):
    rng = np.random.default_rng(0)
    for _ in range(40):
        p, w, e = rng.dirichlet(np.ones(5)), rng.normal(size=5), rng.uniform(0, 2)
        law = _extreme(w[None, None], (p[None, None], np.array([[e]])), sign)[0, 0]
        A = np.block([[np.eye(5), -np.eye(5)], [-np.eye(5), -np.eye(5)], [np.zeros(5), np.ones(5)]])
        found = linprog(
            np.r_[-sign * w, np.zeros(5)],
            A_ub=A,
            b_ub=np.r_[p, -p, e],
            A_eq=np.r_[np.ones(5), np.zeros(5)][None],
            b_eq=[1],
        )
        assert law @ w == pytest.approx(-sign * found.fun)
        assert law.sum() == pytest.approx(1)
        assert np.abs(law - p).sum() <= e + 1e-9


@pytest.mark.parametrize("sign", [1, -1])
def test_values_by_long_iteration(sign):
    rng = np.random.default_rng(1)
    P, _, _ = drawn(rng, 4, 2)
    R, epsilon = rng.normal(size=(4, 2, 4)), rng.uniform(0, 1, (4, 2))
    m = MDP(P.reshape(8, 4), 2, 0.8, np.full(4, 0.25))
    low, high = _value(m, R, (P, epsilon), sign)
    v = np.zeros(4)
    for _ in range(300):
        worth = R + 0.8 * v
        v = (_extreme(worth, (P, epsilon), sign) * worth).sum(-1).max(1)
    assert low <= v.mean() + 1e-9
    assert high >= v.mean() - 1e-9
    assert high - low < 1e-9


def test_without_doubt_the_bound_is_the_worst_case():
    P, r1, r2 = drawn(np.random.default_rng(2), 4, 2)
    r2 = r1 + 0.5 * r2
    found = worst_case_regret(r1, r2, P, discount=0.9)
    m = MDP(P.reshape(8, 4), 2, 0.9, np.full(4, 0.25))
    counts = np.rint(P * 10**12).astype(np.int64)  # so many visits that nothing is in doubt
    whole = tuple(np.broadcast_to(r[:, :, None], (4, 2, 4)) for r in (r1, r2))
    lam = found.lam * found.ranges[0] / found.ranges[1]
    bound = world_bound(m, counts, whole, lam, 0.05)
    assert bound.bound == pytest.approx(found.relative, abs=1e-3)
    assert bound.bound >= found.relative


def test_counts_speak_of_the_world():
    rng = np.random.default_rng(3)
    P, r1, r2 = drawn(rng, 6, 2)
    counts = rng.multinomial(10_000, P)
    found = starc(r1, r1 + 0.5 * r2, counts=counts, discount=0.9)
    world = found.certificates[-1]
    assert world.name == "world"
    assert str(world.verdict) == "unmeasured"
    true = worst_case_regret(r1, r1 + 0.5 * r2, P, discount=0.9).relative
    assert true <= world.bound < 1
    assert world.confidence == 0.95


def test_what_was_never_visited_is_open():
    rng = np.random.default_rng(4)
    P, r1, r2 = drawn(rng, 3, 2)
    counts = rng.multinomial(100, P)
    counts[1, 1] = 0
    with pytest.warns(UserWarning, match="1 pairs of state and action were never visited"):
        found = starc(r1, r2, counts=counts, discount=0.9)
    assert found.certificates[-1].inputs["unvisited"] == 1


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (np.full((2, 1, 2), 0.5), "got 0.5 at state 0"),
        (np.full((2, 1, 2), -1), "-1 at state 0"),
        (np.ones((2, 2)), r"\(S, A, S\)"),
    ],
)
def test_what_are_no_counts_is_named(counts, message):
    with pytest.raises(ValueError, match=message):
        as_counts(counts)
