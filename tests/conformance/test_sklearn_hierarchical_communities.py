import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from whp.graph._hierarchical_communities import HierarchicalCommunityClustering

pytestmark = pytest.mark.filterwarnings("ignore")


# The check clusters points in the plane, which are not a square matrix and have negative coordinates; a graph can be neither.
NOT_A_GRAPH = {"check_clustering": "fits points, not an adjacency matrix"}


@parametrize_with_checks(
    [HierarchicalCommunityClustering(), HierarchicalCommunityClustering(2, weighted=True)],
    expected_failed_checks=lambda _: NOT_A_GRAPH,
)
def test_sklearn_conformance(estimator, check):
    check(estimator)
