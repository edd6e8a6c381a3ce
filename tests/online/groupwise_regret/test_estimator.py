import numpy as np
import pandas as pd
import pytest
from groupwise import stream
from sklearn import config_context
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV

from whp.online import GroupwiseLearner, GroupwiseRegressor, OnlineRidge, groupwise_regret


def test_10_blocks_rows_and_permuted_groups_agree():
    X, y, G = stream()
    whole = groupwise_regret(X, y, G, target_range=(0, 1), track=True)
    model = GroupwiseRegressor(target_range=(0, 1), fit_intercept=False)
    rows = GroupwiseRegressor(target_range=(0, 1), fit_intercept=False)
    for start in range(0, 200, 60):
        part = slice(start, start + 60)
        model.partial_fit(X[part], y[part], memberships=G[part])
    for t in range(200):
        x = dict(enumerate(X[t]))
        if t > 1:
            assert rows.predict_one(x, G[t]) == pytest.approx(whole.predictions[t], abs=1e-9)
        rows.learn_one(x, y[t], G[t])
    for found in (model, rows):
        np.testing.assert_allclose(found.group_report_["loss"], whole.report["loss"], atol=1e-12)
        np.testing.assert_allclose(found.group_report_["bound"], whole.report["bound"], atol=1e-10)
    order = [2, 0, 1]
    turned = groupwise_regret(X, y, G[:, order], group_names=["c", "a", "b"], target_range=(0, 1))
    np.testing.assert_allclose(turned.report["loss"][:3], whole.report["loss"][order], atol=1e-9)
    np.testing.assert_allclose(whole.weights.sum(axis=1), 1)
    generic = GroupwiseLearner(lambda: OnlineRidge(3), 4)
    for x, target, a in zip(X, y, np.column_stack([G, np.ones(200)]), strict=True):
        generic.predict(x, a)
        generic.update(x, target, a)
    np.testing.assert_allclose(generic.losses, whole.report["loss"], atol=1e-9)
    assert [c.bound for c in generic.certificates()] == pytest.approx(list(whole.report["bound"]))


def test_a_block_in_one_group_as_a_whole_is_no_other_list_of_groups():
    rng = np.random.default_rng(0)
    X, G = rng.random((100, 2)), rng.random((100, 3)) < 0.8
    y = rng.random(100)
    whole = GroupwiseRegressor(target_range=(0, 1)).fit(X, y, G)
    parts = GroupwiseRegressor(target_range=(0, 1))
    for start in range(0, 100, 5):
        part = slice(start, start + 5)
        parts.partial_fit(X[part], y[part], G[part])
    np.testing.assert_allclose(parts.group_report_["loss"], whole.group_report_["loss"])
    assert whole.group_report_["group"].iloc[-1] == "everyone"


def test_a_search_does_not_take_memberships_for_its_splitter():
    X, y, G = stream()
    search = GridSearchCV(GroupwiseRegressor(target_range=(0, 1)), {"lam": [0.1, 1.0]}, cv=2)
    search.fit(X, y, memberships=G)
    assert len(search.best_estimator_.group_report_) == 4


def test_a_search_scores_with_memberships_that_are_routed():
    X, y, G = stream()
    plain = GroupwiseRegressor(target_range=(0, 1)).fit(X, y, memberships=G)
    assert plain.score(X, y, memberships=G) == pytest.approx(r2_score(y, plain.predict(X, G)))
    with config_context(enable_metadata_routing=True):
        model = GroupwiseRegressor(target_range=(0, 1))
        model.set_fit_request(memberships=True).set_score_request(memberships=True)
        search = GridSearchCV(model, {"lam": [1e-2, 1e4]}, error_score="raise")
        search.fit(X, y, memberships=G)
    assert search.best_params_ == {"lam": 1e-2}


def test_settings_stay_while_learning_goes_on():
    X, y, _ = stream()
    model = GroupwiseRegressor([lambda X: X[:, 0] > 0], target_range=(0, 1))
    model.partial_fit(X[:50], y[:50]).partial_fit(X[50:90], y[50:90])
    before = model.predict(X)
    for wrong in ({"lam": 5.0}, {"target_range": (0, 2)}, {"groups": None}):
        kept = {k: getattr(model, k) for k in wrong}
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} must stay"):
            model.set_params(**wrong).partial_fit(X[90:], y[90:])
        model.set_params(**kept)
    np.testing.assert_array_equal(model.predict(X), before)
    model.set_params(lam=5.0).fit(X, y)


def test_misuse_is_named():
    model = GroupwiseRegressor(target_range=(0, 1)).fit([[0.0], [1.0]], [0.0, 1.0])
    with pytest.raises(ValueError, match="row 1 has 2"):
        model.partial_fit([[0.0], [1.0]], [0.0, 2.0])
    with pytest.raises(ValueError, match="memberships must be of the groups of the first call"):
        model.partial_fit([[0.0]], [0.0], memberships=[[0]])
    with pytest.raises(ValueError, match="memberships must be of the groups of the first call"):
        model.predict([[0.0]], memberships=[[0]])


def test_dictionaries_after_a_table_go_by_name():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.random((100, 2)), columns=["a", "b"])
    model = GroupwiseRegressor().fit(X, X["a"])
    both = model.predict(pd.DataFrame({"a": [0.9], "b": [0.1]}))[0]
    assert model.predict_one({"b": 0.1, "a": 0.9}) == pytest.approx(both)
    model.learn_one({"b": 0.1, "a": 0.9}, 0.9)
    assert model.predict_one({"b": 0.1, "a": 0.9}) == pytest.approx(0.9, abs=0.1)
    by_row = GroupwiseRegressor(target_range=(0, 1))
    for row in X.to_dict("records"):
        by_row.learn_one(row, row["a"])
    with pytest.raises(ValueError, match="same order"):
        by_row.predict(X[["b", "a"]])


def test_memberships_of_one_row_go_by_name():
    rng = np.random.default_rng(0)
    X, flags = rng.random((100, 2)), pd.DataFrame(rng.random((100, 2)) < 0.5, columns=["f", "g"])
    everyone = flags.assign(everyone=True)[["everyone", "f", "g"]]
    for given in (flags, everyone):
        model = GroupwiseRegressor(target_range=(0, 1)).fit(X, X[:, 0], memberships=given)
        for record in (
            {"g": 1, "f": 0},
            pd.Series({"g": 1, "f": 0}),
            pd.DataFrame([{"g": 1, "f": 0}]),
        ):
            before = model.group_report_.set_index("group")["rounds"]
            model.learn_one({0: 0.1, 1: 0.2}, 0.1, memberships=record)
            more = model.group_report_.set_index("group")["rounds"] - before
            assert more.to_dict() == {**dict.fromkeys(more.index, 1), "f": 0}
        with pytest.raises(ValueError, match="first call"):
            model.predict_one({0: 0.1, 1: 0.2}, memberships={"f": 1})


def test_a_first_call_that_fails_leaves_nothing():
    model = GroupwiseRegressor()
    with pytest.raises(ValueError, match="entries of at most"):
        model.partial_fit(np.full((3, 1), 1e31), [1.0, 2.0, 3.0])
    model.partial_fit(np.ones((3, 1)), [10.0, 20.0, 30.0])
    assert model.span_ == (10, 30)
    model = GroupwiseRegressor(target_range=(0, 1))
    with pytest.raises(ValueError, match="target_range"):
        model.learn_one({"a": 1.0}, 3.0)
    model.learn_one({"b": 1.0}, 0.5)
    with pytest.raises(ValueError, match="groups must hold numbers"):
        GroupwiseRegressor(groups=["a"]).fit(np.ones((3, 1)), [1.0, 2.0, 3.0])


def test_rows_keep_the_groups_and_settings_with_which_learning_began():
    """Flags of fewer groups, and rows without their 1, were read beyond their ends."""
    row = {"a": 0.1, "b": 0.2}
    model = GroupwiseRegressor(target_range=(0, 1))
    model.learn_one(row, 0.5, memberships={"g": 1, "h": 0})
    for call in (lambda: model.learn_one(row, 0.5), lambda: model.predict_one(row)):
        with pytest.raises(ValueError, match="memberships must be of the groups"):
            call()
    model = GroupwiseRegressor([0], target_range=(0, 1))
    row = {"a": 0.0, "b": 1.0}
    model.learn_one(row, 0.5)
    for changed in ({"fit_intercept": False}, {"groups": [1]}):
        before = model.get_params(deep=False)
        model.set_params(**changed)
        for call in (
            lambda: model.learn_one(row, 0.5),
            lambda: model.predict_one(row),
            lambda: model.predict(np.array([[0.0, 1.0]])),
        ):
            with pytest.raises(ValueError, match="must stay"):
                call()
        model.set_params(**before)
    model.groups.append(1)
    with pytest.raises(ValueError, match="groups must stay"):
        model.learn_one(row, 0.5)


def test_a_bad_table_costs_nothing():
    X, y, _ = stream(T=60)
    model = GroupwiseRegressor().fit(X, y)
    before = model.predict(X)
    for wrong in ((np.full_like(X, np.nan), y, None), (X[:, :1], y, np.full((60, 1), 2))):
        with pytest.raises(ValueError, match=r"NaN|groups"):
            model.fit(*wrong)
        np.testing.assert_array_equal(model.predict(X), before)


def test_constant_targets_of_any_size():
    X, _, _ = stream(T=60)
    assert (GroupwiseRegressor().fit(X, np.full(60, 1e17)).predict(X) >= 1e17).all()
    with pytest.raises(ValueError, match="y must span a finite range"):
        GroupwiseRegressor().fit(X, np.where(X[:, 0] > 0.5, 1.5e308, -1.5e308))


def test_columns_named_by_numbers_keep_their_places():
    X, y, _ = stream(T=60)
    table = pd.DataFrame(X, columns=[2, 0, 1])
    model = GroupwiseRegressor().fit(table, y)
    row = table.iloc[3].to_dict()
    assert model.predict_one(row) == pytest.approx(model.predict(table)[3], abs=1e-12)
