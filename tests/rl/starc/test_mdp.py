import numpy as np
import pytest
import scipy.sparse as sp
from finite_mdps import FROM_0, THREE, THREE_1, TWO, TWO_1, actions_as_sparse, drawn
from hypothesis import given, settings
from hypothesis import strategies as st

from whp.rl._starc.mdp import MDP, as_policy, as_reward, as_start, as_transitions


def mdp(P, discount=0.9, start=None):
    rows, A, correction = as_transitions(P)
    return MDP(rows, A, discount, as_start(start, rows.shape[1]), correction)


def best_by_iteration(P, r, discount):
    v = np.zeros(len(r))
    for _ in range(5000):
        v = (r + discount * P @ v).max(1)
    return v


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.5, 0.9, 0.99]))
def test_policy_iteration_finds_what_value_iteration_does(seed, discount):
    P, r, _ = drawn(np.random.default_rng(seed), 5, 3)
    found = mdp(P, discount).best(r)
    np.testing.assert_allclose(found.values, best_by_iteration(P, r, discount), atol=1e-9)
    assert found.residual < 1e-12


def test_ties_do_not_cycle():
    m = mdp(np.ones((4, 3, 4)) / 4)
    assert m.best(np.zeros((4, 3))).values.tolist() == [0, 0, 0, 0]
    assert m.best(np.full((4, 3), 1e-300)).residual >= 0


def test_visits_add_up_and_give_returns():
    P, r, _ = drawn(np.random.default_rng(0), 6, 3)
    start = np.random.default_rng(1).dirichlet(np.ones(6))
    m = mdp(P, 0.9, start)
    for policy in (np.array([0, 1, 2, 0, 1, 2]), m.uniform):
        visits = m.visits(policy)
        assert visits.sum() == pytest.approx(10)
        assert (visits * r).sum() == pytest.approx(start @ m.values(policy, r))


def test_sparse_is_dense():
    rng = np.random.default_rng(0)
    S, A = 120, 3
    P = np.zeros((S, A, S))
    for s in range(S):
        for a in range(A):
            P[s, a, rng.choice(S, 3, replace=False)] = rng.dirichlet(np.ones(3))
    r = rng.normal(size=(S, A))
    start = rng.dirichlet(np.ones(S))
    dense = MDP(P.reshape(S * A, S), A, 0.95, start)
    for given_as in (P, actions_as_sparse(P)):
        m = mdp(given_as, 0.95, start)
        assert m.sparse
        np.testing.assert_allclose(m.best(r).values, dense.best(r).values)
        np.testing.assert_allclose(m.visits(m.uniform), dense.visits(m.uniform))
        np.testing.assert_allclose(m.first_visits(m.uniform), dense.first_visits(m.uniform))
        np.testing.assert_allclose(
            as_reward(np.arange(S), m, "r").table, as_reward(np.arange(S), dense, "r").table
        )


def test_first_visits():
    m = mdp(THREE, 0.8, FROM_0)
    np.testing.assert_allclose(m.first_visits(m.uniform), [1, 0.6, 0.5])
    m = mdp(TWO)
    np.testing.assert_allclose(m.first_visits(m.uniform), [0.8461538462, 0.9009900990])


def test_a_state_that_cannot_be_reached_has_no_visits():
    P = np.zeros((4, 2, 4))
    P[:3, :, :3], P[3, :, 3] = THREE, 1
    m = mdp(P, 0.8, np.array([1.0, 0, 0, 0]))
    assert m.reached(m.uniform).tolist() == [True, True, True, False]
    assert m.first_visits(m.uniform)[3] == 0


def test_rewards_are_expected_ones():
    m = mdp(TWO)
    found = as_reward(TWO_1, m, "r")
    np.testing.assert_allclose(found.table + found.offset, [[0.9, 1.6], [0.5, 0]])
    entered = as_reward([1.0, 5.0], m, "r")
    np.testing.assert_allclose(entered.table + entered.offset, TWO @ [1.0, 5.0])


def test_what_cannot_happen_does_not_matter():
    m = mdp(THREE)
    R = np.repeat(THREE_1[:, :, None], 3, axis=2)
    wild = np.where(THREE > 0, R, np.nan)
    wild[0, 0, 0] = 1e300
    np.testing.assert_allclose(
        as_reward(wild, m, "r").table + as_reward(wild, m, "r").offset, THREE_1
    )
    with pytest.raises(
        ValueError, match=r"reward1 must be finite .* state 0, action 0, next state 1"
    ):
        as_reward(np.full((3, 2, 3), np.nan), m, "reward1")


def test_digits_are_kept_far_from_zero():
    m = mdp(THREE)
    near, far = (as_reward(THREE_1 + k, m, "r") for k in (0.0, 1e6))
    np.testing.assert_allclose(near.table, far.table, atol=1e-9)


@pytest.mark.parametrize(
    ("P", "message"),
    [
        (
            np.moveaxis(np.ones((16, 4, 16)) / 16, 1, 0),
            r"got \(4, 16, 16\): did you mean np.moveaxis",
        ),
        (np.ones((2, 2, 2)), "got 2 at state 0, action 0"),
        (np.array([[[0.5, 0.5]], [[1.5, -0.5]]]), "-0.5 at state 1, action 0, next state 1"),
        (np.array([[[0.5, 0.5]], [[np.nan, 1]]]), "nan at state 1"),
        (np.ones(4), r"must be \(S, A, S\)"),
        ((sp.eye_array(3), sp.eye_array(2)), "one square matrix for each action"),
    ],
)
def test_what_are_no_transitions_is_named(P, message):
    with pytest.raises(ValueError, match=message):
        as_transitions(P)


def test_single_precision_is_taken():
    P = np.random.default_rng(0).dirichlet(np.ones(48), (48, 4)).astype(np.float32)
    rows, _, correction = as_transitions(P)
    assert 0 < correction < 1e-6
    np.testing.assert_allclose(rows.sum(1), 1, rtol=1e-15)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ([0, 1, 2], r"actions 0\.\.1"),
        ([0, 0.5, 1], "whole numbers"),
        ([[1, 0], [0.4, 0.4], [1, 0]], "in state 1"),
        ([[1, 0]], "must be"),
    ],
)
def test_what_is_no_policy_is_named(policy, message):
    with pytest.raises(ValueError, match=message):
        as_policy(policy, (3, 2), "policy")


def test_a_start_is_a_law():
    for bad in ([1, 1, 0], [-1, 2, 0], [1, 0], [np.nan, 1, 0]):
        with pytest.raises(ValueError, match="start"):
            as_start(bad, 3)
