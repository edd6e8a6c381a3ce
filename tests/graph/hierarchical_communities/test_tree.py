import numpy as np
import pytest
from sklearn.metrics import adjusted_mutual_info_score as ami

from whp.datasets.graph_models import block_model, btsbm_densities
from whp.graph import hierarchical_communities
from whp.graph._hierarchical_communities.tree import Tree, paths


@pytest.mark.parametrize("method", ["bottom-up", "top-down"])
def test_cut_gives_exactly_k(method):
    A, _ = block_model(
        btsbm_densities(np.array([0.02, 0.1, 0.2, 0.6])), np.full(8, 30), np.random.default_rng(0)
    )
    result = hierarchical_communities(A, 8, method=method, rng=0)
    assert result.n_communities == 8
    for k in range(1, 9):
        labels = result.cut(k)
        assert np.unique(labels).tolist() == list(range(k))
        if k > 1:  # cuts are nested
            assert len({*zip(labels, result.cut(k - 1), strict=True)}) == k
    for wrong in (0, 9):
        with pytest.raises(ValueError, match="k must be"):
            result.cut(wrong)


def test_cuts_by_density_and_by_depth():
    A, labels = block_model(
        btsbm_densities(np.array([0.02, 0.2, 0.7])), np.full(4, 50), np.random.default_rng(0)
    )
    result = hierarchical_communities(A, rng=0)
    assert ami(result.cut_density(0.05), labels // 2) == pytest.approx(1)
    assert ami(result.cut_density(1.0), labels) == pytest.approx(1)
    assert len(np.unique(result.cut_density(0.0))) == 1
    assert ami(result.cut_depth(1), labels // 2) == pytest.approx(1)
    assert ami(result.cut_depth(9), labels) == pytest.approx(1)
    assert len(np.unique(result.cut_depth(0))) == 1


def test_paths_skip_branches_that_are_not_kept():
    tree = Tree(np.array([[0, 1], [2, 3], [4, 5]]))
    kept = np.array([True, False, True, True, True, False, False])
    assert paths(tree, kept) == [[4, 0], [4], [2], [3]]
