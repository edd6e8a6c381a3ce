import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from whp.interpretability import SparseFeatureCoder

pytestmark = pytest.mark.filterwarnings("ignore")


@parametrize_with_checks(
    [SparseFeatureCoder(8, steps=5, batch_size=16, low=0.2, n_groups=2, random_state=0)]
)
def test_sklearn_conformance(estimator, check):
    check(estimator)
