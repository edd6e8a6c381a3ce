from sklearn.utils.estimator_checks import parametrize_with_checks

from whp.invariance import InvariantRegressor


@parametrize_with_checks(
    [InvariantRegressor(), InvariantRegressor(subsets="forward", center=False)]
)
def test_sklearn_conformance(estimator, check):
    check(estimator)
