import math

import numpy as np
import pytest

from whp.datasets.graph_models import btsbm_densities
from whp.graph import btsbm_threshold, btsbm_top_down_threshold, chernoff_hellinger
from whp.graph._hierarchical_communities.threshold import overlaps

X1, X2 = np.array([0.432, 1.44, 4.8, 16]), np.array([1.0, 2, 4, 20])


def test_chernoff_hellinger_divergences_of_worked_examples():
    np.testing.assert_allclose(
        [btsbm_threshold(X1, q) for q in (1, 2, 3)],
        [1.7643726896, 1.1027329310, 0.4091097700],
        rtol=1e-9,
    )
    np.testing.assert_allclose(
        [btsbm_threshold(X2, q) for q in (1, 2, 3)],
        [1.6748592301, 1.2117543887, 0.7639320225],
        rtol=1e-9,
    )
    assert btsbm_top_down_threshold(X1) == pytest.approx(1.5768002001, rel=1e-9)
    assert btsbm_top_down_threshold(X2) == pytest.approx(1.3542486889, rel=1e-9)
    value, t = chernoff_hellinger([[9, 2], [2, 5]], [0.3, 0.7])
    assert value == pytest.approx(0.6149768207, rel=1e-9)
    assert t == pytest.approx(0.5238820, abs=1e-6)


@pytest.mark.parametrize("x", [X1, X2])
def test_closed_form_agrees_with_the_maximum_over_t(x):
    matrix, weight = btsbm_densities(x), np.full(8, 1 / 8)
    for q in (1, 2, 3):
        apart = [(a, b) for a in range(8) for b in range(8) if a >> (3 - q) != b >> (3 - q)]
        lowest = min(chernoff_hellinger(matrix, weight, a, b)[0] for a, b in apart)
        assert lowest == pytest.approx(btsbm_threshold(x, q), rel=1e-8)
    assert btsbm_top_down_threshold(x) <= btsbm_threshold(x, 1)


def costs(p, pairs):
    terms, again = overlaps(p, p, np.arange(64).reshape(8, 8), np.asarray(pairs))
    np.testing.assert_array_equal(terms, again)  # without an interval both ends are the same
    return terms @ np.full(8, 100.0)


def test_bhattacharyya_costs_of_the_binary_tree():
    p = btsbm_densities(X1 * math.log(800) / 800)
    np.testing.assert_allclose(
        costs(p, [[0, 4], [0, 2], [0, 1]]), [12.5447, 7.9165, 2.9970], atol=1e-4
    )
    for width, most in ((4, 0.011404), (2, 0.594868)):
        apart = [[a, b] for a in range(8) for b in range(8) if a // width != b // width]
        assert 100 * np.exp(-costs(p, apart)).sum() == pytest.approx(most, rel=1e-3)


def test_overlaps_of_intervals_hold_every_density_within_them():
    rng = np.random.default_rng(0)
    pairs, entry = np.array([[0, 1], [1, 2]]), np.arange(9).reshape(3, 3)
    for _ in range(200):
        low = rng.random((3, 3))
        high = low + (1 - low) * rng.random((3, 3)) * 0.3
        inside = low + (high - low) * rng.random((3, 3))
        near, far = overlaps(low, high, entry, pairs)
        exact, _ = overlaps(inside, inside, entry, pairs)
        assert (near <= exact + 1e-12).all()
        assert (exact <= far + 1e-12).all()


def test_one_density_does_not_tell_nodes_apart():
    entry = np.array([[0, 2], [2, 2]])
    near, far = overlaps(np.full((2, 2), 0.1), np.full((2, 2), 0.5), entry, np.array([[0, 1]]))
    assert near.tolist() == [[0, 0]]
    assert far[0, 0] > 0
    assert far[0, 1] == 0
