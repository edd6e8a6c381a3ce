import itertools

import numpy as np
import pytest
from latent import worked

from whp.rl import LatentMDP, PlanningBudgetError
from whp.rl._latent_mdp.policy import memoryless


@pytest.mark.parametrize(
    ("H", "value"), [(2, 0.6583333333), (3, 0.6384259259), (4, 0.6292534722), (5, 0.6236689815)]
)
def test_the_best_value(H, value):
    found = worked(H).optimal()
    assert found.value == pytest.approx(value, abs=1e-10)
    assert found.upper == pytest.approx(found.value, abs=1e-12)
    assert found.exact
    assert found.gap == 0


def test_history_is_worth_something():
    model = worked(3)
    plans = (np.reshape(a, (3, 3)) for a in itertools.product((0, 1), repeat=9))
    assert max(model.value(memoryless(a)) for a in plans) == pytest.approx(0.6125)
    assert model.known_context() == pytest.approx(0.6826388889)


def test_variance_of_the_best_policy():
    model = worked(3)
    policy = model.optimal().policy
    parts = model.variance(policy)
    assert parts.initial == pytest.approx(0.0232433128, abs=1e-10)
    assert parts.transitions == pytest.approx(0.0153109997, abs=1e-10)
    assert parts.total == pytest.approx(variance_of_the_return(model, policy), abs=1e-12)


def variance_of_the_return(model, policy):
    """By going through all episodes."""
    first = second = 0.0
    M, S, _ = model.shape
    for m in range(M):
        for states in itertools.product(range(S), repeat=model.horizon):
            p, G, node = model.w[m] * model.nu[m, states[0]], 0.0, policy.root[states[0]]
            for t, s in enumerate(states):
                a = policy.action(t, node)
                G += model.R[m, s, a]
                if t + 1 < model.horizon:
                    p *= model.P[m, s, a, states[t + 1]]
                    node = policy.after(t, node, a, states[t + 1])
            first, second = first + p * G, second + p * G**2
    return second - first**2


def test_the_largest_variance():
    assert worked(2).var_star("enumerate") == pytest.approx(0.0888671875, abs=1e-12)
    assert worked(2).var_star() == pytest.approx(0.0905239855, abs=1e-9)
    assert worked(3).var_star() == pytest.approx(0.0719851481, abs=1e-9)


def test_a_context_split_in_two_changes_nothing():
    model = worked(3)
    twice = [0, 1, 1]
    split = LatentMDP([0.4, 0.4, 0.2], model.nu[twice], model.P[twice], model.R[twice], 3)
    assert split.optimal().value == pytest.approx(model.optimal().value, abs=1e-12)


def test_one_context_is_value_iteration():
    model = worked(4)
    one = LatentMDP([1.0], model.nu[1:], model.P[1:], model.R[1:], 4)
    values = np.zeros(3)
    for _ in range(4):
        values = (model.R[1] + model.P[1] @ values).max(axis=1)
    assert one.optimal().value == pytest.approx(float(model.nu[1] @ values), abs=1e-12)
    assert one.known_context() == pytest.approx(one.optimal().value, abs=1e-12)


def test_contexts_may_be_relabelled():
    model = worked(3)
    back = LatentMDP(model.w[::-1], model.nu[::-1], model.P[::-1], model.R[::-1], 3)
    assert back.optimal().value == pytest.approx(model.optimal().value, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_no_policy_is_better_by_brute_force(seed):
    rng = np.random.default_rng(seed)
    P, R = rng.dirichlet([0.5, 0.5], (2, 2, 2)), rng.random((2, 2, 2)) / 2
    model = LatentMDP(rng.dirichlet([1, 1]), rng.dirichlet([1, 1], 2), P, R, 2)
    best = 0.0
    for first in itertools.product((0, 1), repeat=2):
        for second in itertools.product((0, 1), repeat=4):
            total = 0.0
            for m, s, t in itertools.product((0, 1), repeat=3):
                a, b = first[s], second[2 * s + t]
                p = model.w[m] * model.nu[m, s] * P[m, s, a, t]
                total += p * (R[m, s, a] + R[m, t, b])
            best = max(best, total)
    assert model.optimal().value == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("max_nodes", [3, 40, 200])
def test_a_plan_beyond_the_budget_has_a_gap(max_nodes):
    model = worked(5)
    with pytest.raises(PlanningBudgetError, match="max_nodes"):
        model.optimal("exact", max_nodes=max_nodes)
    best, found = model.optimal().value, model.optimal(max_nodes=max_nodes)
    assert not found.exact
    assert found.value <= best + 1e-12 <= found.value + found.gap + 2e-12
    assert model.value(found.policy) == pytest.approx(found.value)


def test_simulated_episodes_earn_the_value():
    model = worked(3)
    policy = model.optimal().policy
    drawn = model.simulate(policy, 40_000, 0)
    earned = drawn.rewards.sum(axis=1)
    assert earned.mean() == pytest.approx(model.value(policy), abs=0.005)
    assert earned.var() == pytest.approx(model.variance(policy).total, abs=0.002)
    assert np.bincount(drawn.context).tolist() == pytest.approx([16_000, 24_000], rel=0.03)


def test_units():
    model = worked(3)
    dollars = LatentMDP(model.w, model.nu, model.P, 250 * model.R, 3, reward_scale=250)
    assert dollars.optimal().value == pytest.approx(250 * model.optimal().value)
    assert dollars.var_star() == pytest.approx(250**2 * model.var_star())
    with pytest.raises(ValueError, match=r"can reach 250 > 1: pass reward_scale=250"):
        LatentMDP(model.w, model.nu, model.P, 250 * model.R, 3)


def test_sums_of_tenths_are_no_more_than_1():
    P = np.eye(4, k=1)[None, :, None, :]
    P[0, 3, 0, 3] = 1
    R = np.array([0.1, 0.2, 0.7, 0.0])[None, :, None]
    assert LatentMDP([1.0], [[1, 0, 0, 0]], P, R, 4).optimal().value == pytest.approx(1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"P": np.full((2, 3, 2, 3), 0.3)}, r"P\[m,s,a\] must sum to 1"),
        ({"w": [0.5, 0.6]}, "w must sum to 1"),
        ({"nu": np.ones((3, 3)) / 3}, r"nu must have shape \(2, 3\)"),
        ({"R": np.full((2, 3, 2), np.nan)}, "R must be finite"),
        ({"R": -np.ones((2, 3, 2))}, "not negative"),
        ({"P": np.ones((2, 3, 2))}, "4 dimensions"),
        ({"horizon": 0}, "horizon"),
    ],
)
def test_what_is_wrong_is_named(change, message):
    model = worked(3)
    given = {"w": model.w, "nu": model.nu, "P": model.P, "R": model.R, "horizon": 3} | change
    with pytest.raises(ValueError, match=message):
        LatentMDP(**given)
