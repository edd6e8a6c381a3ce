import numpy as np
import pandas as pd
import pytest
from finite_mdps import BY_STATE, WARD, by_pair

from whp.rl import starc
from whp.rl._starc.tables import from_tables


def test_ids_are_sorted_and_counts_go_where_they_belong():
    found = from_tables({"counts": WARD, "reward1": BY_STATE, "reward2": by_pair()})
    assert found.states == ("ICU", "home", "ward")
    assert found.actions == ("discharge", "treat")
    assert found.arrays["counts"][0, 1].tolist() == [11, 0, 30]
    assert found.arrays["counts"].sum() == WARD["n"].sum()
    assert found.arrays["reward1"].tolist() == [-1, 1, 0]
    assert found.arrays["reward2"][2].tolist() == [13, 9]


def test_a_log_is_counted():
    log = WARD.loc[WARD.index.repeat(WARD["n"])].drop(columns="n").sample(frac=1, random_state=0)
    whole = from_tables({"counts": WARD})
    np.testing.assert_array_equal(
        from_tables({"counts": log}).arrays["counts"], whole.arrays["counts"]
    )


def test_a_value_may_be_missing_where_nothing_happened():
    few = WARD[~((WARD.state == "home") & (WARD.action == "treat"))]
    missing = by_pair(state="home", action="treat")
    assert np.isnan(from_tables({"counts": few, "reward1": missing}).arrays["reward1"][1, 1])
    with pytest.warns(UserWarning, match="reward1 is not given at 1 places"):
        found = starc(missing, BY_STATE, counts=few, discount=0.9)
    assert found.certificates[-1].verdict == "void"
    assert np.isfinite(found.distance)
    with pytest.raises(
        ValueError,
        match=r"reward2 has no value at state 'ward', action 'discharge' \(visited 41 times\)",
    ):
        from_tables({"counts": WARD, "reward2": by_pair(state="ward", action="discharge")})


def test_probabilities():
    law = WARD.assign(p=WARD["n"] / WARD.groupby(["state", "action"])["n"].transform("sum"))
    with pytest.raises(ValueError, match="no column 'p'"):
        from_tables({"transitions": WARD})
    found = starc(BY_STATE, by_pair(), law.drop(columns="n"), discount=0.9)
    counted = starc(BY_STATE, by_pair(), counts=WARD, discount=0.9)
    assert found.distance == pytest.approx(counted.distance)
    assert counted.states == ("ICU", "home", "ward")
    assert counted.certificates[-1].name == "world"
    assert set(found.to_frame()["state"]) == {"ICU", "home", "ward"}


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"reward1": BY_STATE}, "needs one of counts= or transitions="),
        (
            {"counts": WARD.assign(state=range(1, 8), next_state=1)},
            r"hold 1\.\.7 but 7 of them are numbered 0\.\.6: subtract 1, or pass text ids",
        ),
        ({"counts": WARD.assign(state=[0, 2, 4, 6, 8, 10, 12], next_state=4)}, "leave numbers out"),
        ({"counts": pd.concat([WARD, WARD])}, "two rows for state 'ICU'"),
        ({"counts": WARD.assign(state=None)}, "missing value in row 0"),
        (
            {"counts": WARD.rename(columns={"state": "stat"})},
            "no column 'state'; did you mean 'stat'",
        ),
        ({"counts": WARD.assign(n="many")}, "must hold numbers, got many in row 0"),
        (
            {"counts": WARD, "reward1": BY_STATE.assign(state=["home", "ICU", "word"])},
            "'word' is in no",
        ),
        ({"counts": WARD, "reward1": BY_STATE.drop(columns="value")}, "no column 'value'"),
        ({"transitions": WARD.rename(columns={"n": "p"})[1:3]}, "no row for state 'home', action"),
        ({"transitions": WARD.assign(p=1.0, probability=1.0)}, "both columns"),
    ],
    ids=range(11),
)
def test_what_is_no_table_is_named(tables, message):
    with pytest.raises(ValueError, match=message):
        from_tables(tables)


def numbered(names, S=12):
    rng = np.random.default_rng(0)
    P, first, second = rng.dirichlet(np.ones(S), (S, 2)), *rng.normal(size=(2, S, 2))
    at = np.indices(P.shape).reshape(3, -1)
    law = pd.DataFrame(dict(zip(("state", "action", "next_state"), at, strict=True)))
    law = law.assign(p=P.ravel(), **{k: names(law[k]) for k in ("state", "next_state")})
    start = np.eye(S)[2]
    plain = starc(first, second, P, discount=0.9, start=start)
    with pytest.warns(UserWarning, match="start: an array beside ids that are text"):
        given = starc(first, second, law, discount=0.9, start=start)
    return plain, given


@pytest.mark.parametrize("names", [lambda x: x.astype(str), lambda x: x.astype("category")])
def test_numbers_as_text_are_in_their_order(names):
    plain, given = numbered(names)
    assert given.states == tuple(map(str, range(12)))
    assert given.distance == pytest.approx(plain.distance)
    assert given.regret is not None
    assert plain.regret is not None
    assert given.regret.relative == pytest.approx(plain.regret.relative)
