from sklearn.utils.estimator_checks import parametrize_with_checks

from whp.online import GroupwiseRegressor


@parametrize_with_checks([GroupwiseRegressor(), GroupwiseRegressor(forecaster="vaw", lam=0.1)])
def test_sklearn_conformance(estimator, check):
    check(estimator)


def test_progressive_validation_with_river():
    from river import evaluate, metrics, stream

    X, y = [[i % 7 / 7, i % 3 / 3] for i in range(200)], [i % 7 / 7 for i in range(200)]
    model = GroupwiseRegressor(target_range=(0, 1))
    assert evaluate.progressive_val_score(stream.iter_array(X, y), model, metrics.MAE()).get() < 0.1
