import numpy as np
import pytest

from whp.datasets.graph_models import btsbm_densities
from whp.graph import Tree, average_linkage


def clades(children):
    """The sets of leaves below the merges."""
    tree = Tree(children)
    return {frozenset(np.flatnonzero(row)) for row in tree.below[tree.leaves :]}


def test_merges_of_a_worked_example():
    E = np.array([[0, 40, 15, 20], [40, 0, 30, 32], [15, 30, 0, 240], [20, 32, 240, 0]])
    children, density = average_linkage(E, [10, 20, 30, 40])
    assert children.tolist() == [[0, 1], [2, 3], [4, 5]]
    np.testing.assert_allclose(density, [0.2, 0.2, 97 / 2100], rtol=1e-12)


def test_no_inversion_for_any_counts():
    rng = np.random.default_rng(0)
    for _ in range(500):
        k = rng.integers(3, 15)
        E = rng.integers(0, 100, (k, k)) * rng.integers(0, 2, (k, k))
        _, density = average_linkage(E + E.T, rng.integers(1, 50, k))
        assert (np.diff(density) <= 1e-12 * density[0]).all()


def lemma_instance(rng, size):
    """Perturbed densities of the model K = 8, p = (.1, .2, .3, .5), and whether linkage finds the tree."""
    p = btsbm_densities(np.array([0.1, 0.2, 0.3, 0.5]))
    sizes = rng.integers(1, 50, 8)
    noise = np.triu(rng.uniform(-size, size, (8, 8)), 1)
    counts = np.maximum(p + noise + noise.T, 0) * np.outer(sizes, sizes)
    found = clades(average_linkage(counts, sizes)[0])
    wanted = {frozenset(range(i, i + w)) for w in (2, 4, 8) for i in range(0, 8, w)}
    return found == wanted, counts, sizes


def test_linkage_finds_the_tree_within_half_a_gap():
    rng = np.random.default_rng(0)
    assert all(lemma_instance(rng, 0.05)[0] for _ in range(2000))
    assert not all(lemma_instance(rng, 0.2)[0] for _ in range(200))


def test_linkage_is_the_average_of_pairs():
    """Against the definition: at each step the densest pair of clusters, counted afresh."""
    rng = np.random.default_rng(3)
    for _ in range(100):
        k = int(rng.integers(2, 9))
        E = rng.integers(0, 50, (k, k))
        E, sizes = E + E.T, rng.integers(1, 20, k)
        children, density = average_linkage(E, sizes)
        members = np.eye(k)
        live = np.ones(2 * k - 1, dtype=bool)
        live[k:] = False
        for step, (a, b) in enumerate(children):
            pairs = np.outer(members @ sizes, members @ sizes)
            between = np.where(
                np.outer(live[: k + step], live[: k + step]), members @ E @ members.T / pairs, -1
            )
            np.fill_diagonal(between, -1)
            assert between[a, b] == pytest.approx(between.max())
            assert density[step] == pytest.approx(between.max())
            members = np.vstack([members, members[a] + members[b]])
            live[[a, b, k + step]] = False, False, True


def test_ties_go_to_the_smallest_pair():
    children, density = average_linkage(np.ones((4, 4)), np.ones(4))
    assert children[0].tolist() == [0, 1]
    assert density.tolist() == [1, 1, 1]
    assert average_linkage([[0]], [3])[0].shape == (0, 2)


@pytest.mark.parametrize(
    ("counts", "sizes", "message"),
    [
        ([[0, 1], [2, 0]], [1, 1], "counts must be a symmetric"),
        ([[0, -1], [-1, 0]], [1, 1], "counts must be a symmetric"),
        ([[0, 1, 2]], [1], "counts must be a symmetric"),
        ([[0, 1], [1, 0]], [1, 0], "sizes must be positive"),
        ([[0, 1], [1, 0]], [1], "sizes must have 2"),
        ([[0, np.nan], [np.nan, 0]], [1, 1], "counts must be finite"),
    ],
)
def test_bad_counts_are_named(counts, sizes, message):
    with pytest.raises(ValueError, match=message):
        average_linkage(counts, sizes)
