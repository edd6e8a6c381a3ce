import numpy as np
import pandas as pd
import pytest

from whp.online import groupwise_regret
from whp.online._groupwise_regret.groups import features, members


def test_groups_of_all_kinds():
    table = pd.DataFrame(
        {
            "age": [20, 40, 60, 80],
            "sex": ["f", "m", "f", "m"],
            "member": [1, 0, 0, 1],
            "x": [0.1, 2.0, 0.3, 9.0],
        }
    )
    y = [0.0, 1.0, 0.5, 0.2]
    by_name = groupwise_regret(table, y, "sex,age:35:65,member")
    assert by_name.report["group"].tolist() == [
        "sex = f",
        "sex = m",
        "age ≤ 35",
        "35 < age ≤ 65",
        "age > 65",
        "member = 0",
        "member = 1",
        "everyone",
    ]
    assert by_name.report["rounds"].tolist() == [2, 2, 1, 2, 1, 2, 2, 4]
    assert by_name.scaled == "features and targets"
    predicates = groupwise_regret(
        table, y, {"rich": lambda t: t["x"] > 1, "old": table["age"] > 50}
    )
    assert predicates.report["rounds"].tolist() == [2, 2, 4]
    texts = groupwise_regret(table[["x"]], y, pd.DataFrame({"a": ["1", "0", "true", "False"]}))
    assert texts.report["rounds"].tolist() == [2, 4]
    import matplotlib.pyplot as plt

    assert by_name.plot().get_legend() is not None
    plt.close("all")
    assert set(by_name.artifacts()) == {"predictions.csv", "groups.csv"}
    words = groupwise_regret(table[["x"]], ["no", "yes", "no", "yes"])
    assert (
        set(words.predictions.tolist()) <= set(np.linspace(0, 1, 10**6).tolist())
        or words.predictions.max() <= 1
    )


def test_empty_words_are_a_category():
    table = pd.DataFrame({"sex": ["f", None, "m", None], "x": [0.1, 0.2, 0.3, 0.4]})
    report = groupwise_regret(table, [0.0, 1.0, 0.5, 0.2], "sex").report
    assert report.set_index("group").loc["sex = (empty)", "rounds"] == 2


def test_misuse_of_groups_is_named():
    numbers = pd.DataFrame({"a": np.arange(50.0), "age_group": np.arange(50) % 3})
    y = np.arange(50) % 2
    for groups, message in (
        ("agegroup", "did you mean 'age_group'"),
        ("sex", "groups must name columns"),
        ("a", "edges for the numbers"),
        (numbers[["age_group"]], "to make a group of each value"),
    ):
        with pytest.raises(ValueError, match=message):
            groupwise_regret(numbers, y, groups)


def test_no_group_is_lost_to_another_of_its_name():
    def above(age):
        def older(t):
            return t["age"] > age

        return older

    table = pd.DataFrame({"age": [1_000_001, 1_000_002, 30, 80], "m": [1, "1", 2, "2"]})
    flags, names = members([above(50), above(100)], table)
    assert names == ("older", "older 1", "everyone")
    assert flags.sum(axis=0).tolist() == [3, 2, 4]
    flags, names = members("age:1000001:1000000", table)
    assert names[1] == "1e+06 < age ≤ 1000001"
    assert flags.sum(axis=0).tolist() == [2, 1, 1, 4]
    flags, names = members("m", table)
    assert flags.sum(axis=0).tolist() == [2, 2, 4]
    with pytest.raises(ValueError, match="differ"):
        members({1: [1, 0, 0, 0], "1": [0, 1, 0, 0]}, table)
    with pytest.raises(ValueError, match="finite edges"):
        members("age:nan", table)


def test_missing_categories_and_dates_are_a_group_of_their_own():
    table = pd.DataFrame(
        {
            0: pd.Categorical(["u", None, "v", "u"]),
            "d": pd.to_datetime(["2020-01-01", None, None, None]),
        }
    )
    named = table.rename(columns={0: "c"})
    flags, names = members("c,d", named)
    assert flags[:, names.index("c = (empty)")].tolist() == [False, True, False, False]
    assert flags[:, names.index("d = (empty)")].sum() == 3
    rows, _, _ = features(table)  # a column whose name is a number
    assert rows.shape == (4, 6)
    with pytest.raises(ValueError, match="occurs twice"):
        features(pd.concat([table, table], axis=1))


def test_groups_follow_the_labels_of_the_rows():
    X = pd.DataFrame({"age": [20, 60, 40, 70], "v": [0.1, 0.2, 0.3, 0.4]})
    turned = (X["age"] > 50)[::-1]
    for groups in ({"old": turned}, {"old": lambda t: t.sort_values("age")["age"] > 50}):
        with pytest.raises(ValueError, match="another order"):
            members(groups, X)


def test_what_would_be_lost_is_refused():
    X = pd.DataFrame({"a": ["b = c", "d", "d"], "a = b": ["e", "c", "e"]})
    with pytest.raises(ValueError, match="two are 'a = b = c'"):
        members(["a", "a = b"], X)
    with pytest.raises(ValueError, match="masked"):
        members(np.ma.masked_array(np.ones((3, 1)), mask=[[0], [1], [0]]), X)
    with pytest.raises(ValueError, match="masked"):
        members({"g": np.ma.masked_array(np.ones(3), mask=[0, 1, 0])}, X)
    for named in ("a", ["a"], {"g": np.ones(3)}, pd.DataFrame({"g": np.ones(3)}), None):
        with pytest.raises(ValueError, match="group_names"):
            members(named, X, ["mine"])


def test_numbers_in_a_column_of_objects_are_numbers():
    rows, names, _ = features(pd.DataFrame({"age": [20, 40, 60]}, dtype=object))
    assert names == ("age", "bias")
    assert rows[:, 0].tolist() == [0, 0.5, 1]
    with pytest.raises(ValueError, match="finite ranges"):
        features(pd.DataFrame({"a": [-1.7e308, 1.7e308]}))
