import warnings

from gymnasium.utils.env_checker import check_env
from latent import worked

from whp.rl import LatentMDPEnv


def test_the_checker_of_gymnasium():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(LatentMDPEnv(worked(3)), skip_render_check=True)


def test_the_context_comes_at_the_end_alone():
    env = LatentMDPEnv(worked(3))
    env.reset(seed=0)
    infos = [env.step(0)[4] for _ in range(3)]
    assert ["context" in i for i in infos] == [False, False, True]
