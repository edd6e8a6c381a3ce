import pickle

import numpy as np
import pandas as pd
import pytest
from environments import hospitals
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from whp.invariance import InvariantRegressor, pac_invariance


def test_it_is_the_front_door():
    X, y, env = hospitals()
    model = InvariantRegressor(eps=0.3, test_env=0.5, random_state=0).fit(X, y, env)
    assert [c.name for c in model.certificates_] == ["scenario", "split", "uniform"]
    found = pac_invariance(X, y, env, eps=0.3)
    assert model.result_.support == found.support
    assert model.coef_[1] == 0
    np.testing.assert_allclose(model.predict(X), model.result_.predict(X))


def test_without_environments_the_certificates_are_void():
    X, y, _ = hospitals()
    assert {c.verdict for c in InvariantRegressor().fit(X, y).certificates_} == {"void"}


def test_many_columns_are_searched_one_by_one():
    rng = np.random.default_rng(0)
    env = np.repeat(np.arange(20), 60)
    X = rng.standard_normal((1200, 14))
    y = X[:, 3] + rng.standard_normal(1200)
    model = InvariantRegressor(eps=0.6).fit(X, y, env)
    assert 3 in model.result_.support
    assert len(model.result_.path) == 14 * 15 / 2
    model = InvariantRegressor(max_size=2, eps=0.6).fit(X, y, env)
    assert len(model.result_.path) == 14 + 14 * 13 / 2


def test_state_survives():
    X, y, env = hospitals()
    model = InvariantRegressor(test_env=0.5, random_state=0).fit(X, y, env)
    back = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(back.predict(X), model.predict(X))
    assert [c.to_dict() for c in back.certificates_] == [c.to_dict() for c in model.certificates_]
    again = clone(model).fit(X, y, env)
    np.testing.assert_array_equal(again.coef_, model.coef_)


def test_in_a_pipeline_and_with_tables():
    X, y, env = hospitals()
    table = pd.DataFrame(X, columns=["a", "b"])
    pipe = make_pipeline(StandardScaler(), InvariantRegressor())
    pipe.fit(table, y, invariantregressor__env=env)
    assert pipe.score(table, y) > 0.3
    shuffled = pd.Series(y).sample(frac=1, random_state=0)
    with pytest.raises(ValueError, match="another order"):
        InvariantRegressor().fit(table, shuffled, env)


def test_wrong_settings_are_refused_by_fit():
    X, y, env = hospitals(20)
    for name, value in {"eps": -1.0, "delta": 2.0, "metric": "none", "max_size": 0}.items():
        with pytest.raises((ValueError, TypeError), match=name):
            InvariantRegressor(**{name: value}).fit(X, y, env)


def test_columns_are_known_by_name_and_blocks_by_position():
    X, y, env = hospitals()
    table = pd.DataFrame(X, columns=["cause", "effect"])
    model = InvariantRegressor(subsets=[["cause"]]).fit(table, y, env)
    assert model.result_.names == ("cause",)
    blocks = pd.Series(env // 2)
    with pytest.raises(ValueError, match="blocks has the labels of X in another order"):
        model.fit(table, y, env, blocks=blocks.iloc[::-1])


class Same(np.random.RandomState):
    def randint(self, *given, **named):
        return 5


def test_a_random_state_of_their_own_draws_no_split():
    X, y, env = hospitals()

    def held(state):
        model = InvariantRegressor(test_env=0.5, random_state=state).fit(X, y, env)
        return list(model.result_.held_out_residuals.index)

    assert held(np.random.RandomState(0)) == held(np.random.RandomState(0))
    assert held(Same(0)) != held(Same(1))  # its own numbers are not used
