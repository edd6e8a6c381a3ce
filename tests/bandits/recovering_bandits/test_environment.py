import pytest
from gymnasium.utils.env_checker import check_env
from recovering import THREE

from whp.bandits import RecoveringEnv


def test_the_environment():
    env = RecoveringEnv(THREE, 2, T=50)
    check_env(env, skip_render_check=True)
    env.reset(seed=0)
    observation, reward, _, _, info = env.step([1, 0, 1])
    assert (observation.tolist(), reward) == ([1, 2, 1], pytest.approx(0.2))
    assert info["arms"].tolist() == [0, 2]
    _, reward, *_ = env.step([1, 1, 1])
    assert reward == pytest.approx(0.2 + 0.6)
    rested = RecoveringEnv(THREE, 1, start="rested")
    assert rested.reset()[0].tolist() == [4, 4, 4]
    with pytest.raises(ValueError, match="action"):
        env.step([2, 0, 0])
