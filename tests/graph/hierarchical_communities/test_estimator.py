import numpy as np
import pytest
from sklearn.metrics import adjusted_mutual_info_score as ami

from whp.datasets.graph_models import block_model, btsbm_densities
from whp.graph import HierarchicalCommunityClustering


def test_estimator_cuts():
    A, labels = block_model(
        btsbm_densities(np.array([0.02, 0.2, 0.7])), np.full(4, 50), np.random.default_rng(0)
    )
    model = HierarchicalCommunityClustering(random_state=0).fit(A)
    assert ami(model.labels_, labels) == pytest.approx(1)
    assert (model.n_leaves_, model.children_.shape, model.distances_.shape) == (4, (3, 2), (3,))
    for options in ({"n_clusters": 2}, {"depth_cut": 1}):
        coarse = HierarchicalCommunityClustering(random_state=0, **options).fit_predict(A)
        assert ami(coarse, labels // 2) == pytest.approx(1)
    with pytest.raises(ValueError, match="metric"):
        HierarchicalCommunityClustering(metric="euclidean").fit(A)
