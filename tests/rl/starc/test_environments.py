import gymnasium
import numpy as np
import pytest

from whp.rl import starc, tabular_model


@pytest.mark.parametrize("size", ["4x4", "8x8"])
def test_frozen_lake_has_holes_that_absorb(size):
    env = gymnasium.make("FrozenLake-v1", map_name=size)
    model = tabular_model(env)
    S = env.observation_space.n
    assert model.transitions.shape == (S, 4, S)
    assert model.time_limit == env.spec.max_episode_steps
    assert model.start[0] == 1
    np.testing.assert_allclose(model.transitions.sum(-1), 1)
    assert (model.reward.sum((0, 1)) > 0).sum() == 1  # the goal alone


@pytest.mark.parametrize(("name", "S"), [("CliffWalking-v1", 49), ("Taxi-v4", 501)])
def test_episodes_end_in_a_state_of_their_own(name, S):
    model = tabular_model(name)
    assert model.transitions.shape[0] == S
    assert (model.transitions[S - 1, :, S - 1] == 1).all()
    assert not model.reward[S - 1].any()
    np.testing.assert_allclose(model.transitions.sum(-1), 1)
    assert model.start[S - 1] == 0


def test_its_rewards_are_those_of_steps():
    env = gymnasium.make("Taxi-v4")
    model = tabular_model(env)
    rng = np.random.default_rng(0)
    env.reset(seed=0)
    for _ in range(200):
        s, a = env.unwrapped.s, int(rng.integers(6))
        t, reward, done, cut, _ = env.step(a)
        t = 500 if done else t
        assert model.transitions[s, a, t] > 0
        assert model.reward[s, a, t] == reward
        if done or cut:
            env.reset()


def test_taxi_in_a_second_or_two():
    model = tabular_model("Taxi-v4")
    other = np.where(model.reward == -10, -1, model.reward)
    found = starc(model.reward, other, model.transitions, discount=0.95, start=model.start)
    assert found.certificates[0].measured.value < 1e-9
    assert 0 < found.regret.relative <= found.range_distance


@pytest.mark.parametrize(
    ("env", "error", "message"),
    [
        ("CartPole-v1", ValueError, "must have a table"),
        ("Nowhere-v1", ValueError, "gymnasium has no 'Nowhere-v1'"),
        (3, TypeError, "gymnasium environment or its name"),
    ],
)
def test_what_has_no_table_is_named(env, error, message):
    with pytest.raises(error, match=message):
        tabular_model(env)
