import numpy as np

from whp.privacy import hard_stream, marginals, price
from whp.privacy._dp_continual_release.price import lower_bound


def test_lower_bounds():
    assert lower_bound("maxsum", 10**4, 10**6, 0.5) == (9.0, 18, 248)
    assert lower_bound("maxsum", 155_659, 10**6, 0.5) == (23.0, 46, 1608)
    assert lower_bound("maxsum", 155_659, 302, 0.5) == (9.5, 19, 276)
    assert lower_bound("maxsum", 10**4, 10**6, 1.0, pure=True)[0] == 28.0
    assert lower_bound("maxsum", 155_659, 10**6, 1.0, pure=True)[0] == 112.5
    assert lower_bound("sumselect", 10**4, 10**6, 0.5)[0] <= 9.0
    for T in np.unique(np.geomspace(10, 10**6, 30).astype(int)):
        for rho in (1e-3, 1e-2, 0.1, 1.0):
            found = price("maxsum", int(T), 10**6, rho=rho)
            assert found.lower < found.upper


def test_the_hard_stream_gives_its_secret_away():
    secret = np.random.default_rng(0).integers(0, 2, (7, 5))
    stream = hard_stream(secret)
    assert stream.shape == (70, 5)
    answers = np.cumsum(stream, axis=0, dtype=int).max(axis=1)
    np.testing.assert_array_equal(marginals(answers, 7, 5), secret.sum(axis=0))
    np.testing.assert_array_equal(np.sort(secret.sum(axis=0))[::-1], (5, 5, 4, 4, 4))
