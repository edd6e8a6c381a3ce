import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from whp.optim import SSOClassifier, SSORegressor

pytestmark = pytest.mark.filterwarnings("ignore")


@parametrize_with_checks(
    [SSOClassifier(), SSORegressor(), SSOClassifier(batch_size=10), SSORegressor(m=5, inner="gd")]
)
def test_sklearn_conformance(estimator, check):
    check(estimator)
