import numpy as np
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from whp.interpretability import SparseFeatureCoder

pytestmark = pytest.mark.filterwarnings("ignore")


@parametrize_with_checks(
    [
        SparseFeatureCoder(steps=5),
        SparseFeatureCoder(8, steps=5, batch_size=16, low=0.2, n_groups=2, random_state=0),
        SparseFeatureCoder(8, method="topk", k=2, steps=5),
        SparseFeatureCoder(8, method="ba", high=0.2),
    ]
)
def test_sklearn_conformance(estimator, check):
    check(estimator)


def test_the_transformer_codes_decodes_and_names():
    X = np.random.default_rng(0).normal(size=(500, 12))
    coder = SparseFeatureCoder(24, steps=40, batch_size=64, low=0.02, n_groups=4, random_state=0)
    Z = coder.fit_transform(X)
    assert Z.shape == (500, 24)
    assert coder.inverse_transform(Z).shape == (500, 12)
    assert coder.get_feature_names_out()[3] == "feature3"
    groups = np.repeat(np.arange(50), 10)
    assert coder.fit(X, groups=groups).features_.rows[2] < 50
