import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from whp.certificate import Verdict
from whp.io import Log
from whp.privacy import release_stream


def bits(T, d, seed=0):
    return np.random.default_rng(seed).integers(0, 2, (T, d)).astype(np.uint8)


def test_what_a_stream_may_be():
    X = bits(300, 3)
    labels = np.array(["b", "a", "c"])[np.random.default_rng(0).integers(0, 3, 300)]
    given = {"query": "counts", "T": 300, "rho": 5.0}
    for stream in (X, X.astype(bool), csr_array(X), X.tolist(), iter(X)):
        assert release_stream(stream, **given).answers.shape == (300, 3)
    public = release_stream(labels, categories="a,b,c", **given)
    assert public.certificates[0].verdict == Verdict.HOLDS
    assert public.plan.sensitivity == 2
    seen = release_stream(labels, categories="from-data", **given)
    assert seen.certificates[0].verdict == Verdict.VOID
    assert seen.names == ("a", "b", "c")
    with pytest.raises(ValueError, match=r"record \d+ has a category that is not in categories"):
        release_stream(labels, categories=["a", "b"], **given)
    other = release_stream(labels, categories=["a", "b"], on_unknown="other", **given)
    assert other.names[-1] == "(other)"
    assert abs(other.answers[-1] - [np.sum(labels == v) for v in "abc"]).max() <= other.bound
    import matplotlib.pyplot as plt

    for query in ("counts", "maxsum", "sumselect"):
        shown = release_stream(X, query=query, T=300, rho=0.5)
        shown.plot()
        assert len(shown.artifacts()["answers.csv"]) == 300
    plt.close("all")


MISUSE = [
    ({"rho": -1.0}, "rho"),
    ({"rho": 1.0, "epsilon": 1.0}, "rho or epsilon"),
    ({"epsilon": 0.0}, "epsilon"),
    ({"epsilon": 1.0, "delta": 1.0}, "delta"),
    ({"T": 0}, "T"),
    ({"T": 10}, "T must be at least the 40 records"),
    ({"query": "median"}, "query"),
    ({"strategy": "recompute", "query": "counts"}, "strategy"),
    ({"strategy": "sqrt", "epsilon": 1.0}, "strategy"),
    ({"max_ones": 9}, "max_ones"),
    ({"beta": 1.0}, "beta"),
    ({"stream": None}, "stream"),
    ({"stream": np.full((5, 2), 2)}, "record 1 must hold zeros and ones"),
    ({"stream": np.zeros((0, 2))}, "stream"),
    ({"stream": np.full((5, 2), np.nan)}, "record 1"),
    ({"truth": "measure"}, "truth"),
    ({"on_unknown": "other"}, "on_unknown"),
    ({"rotated": "continue"}, "rotated"),
    ({"horizon": "fixed", "T": None}, "T must be given"),
    ({"measure": "no"}, "measure"),
    ({"reveal": 1}, "reveal"),
    ({"insecure_seed": "x"}, "insecure_seed"),
    ({"insecure_seed": -1}, "insecure_seed"),
    ({"every": 0}, "every"),
    ({"categories": "from-data"}, "categories"),
    ({"stream": list("ab")}, "categories must list"),
    ({"stream": list("ab"), "categories": "a,b", "max_ones": 2}, "max_ones"),
    ({"stream": list("ab"), "categories": "a,a"}, "categories"),
    ({"stream": np.ma.masked_array(np.ones((5, 2)), mask=True)}, "masked"),
    ({"stream": [[1, 0], [1]]}, "stream"),
    ({"column": "x"}, "column"),
    ({"follow": True}, "follow"),
    ({"reveal": True}, "reveal"),
    ({"neighbours": "twins"}, "neighbours"),
    ({"categories": "a,b"}, "categories"),
]


@pytest.mark.parametrize(("wrong", "named"), MISUSE, ids=str)
def test_misuse_is_named(wrong, named):
    good = {"stream": bits(40, 3), "T": 40}
    with pytest.raises((ValueError, TypeError), match=named):
        release_stream(**{**good, **wrong})


@settings(max_examples=80, deadline=None)
@given(
    st.one_of(
        st.lists(
            st.lists(st.one_of(st.integers(-1, 2), st.floats(), st.text(max_size=1)), max_size=3),
            max_size=5,
        ),
        st.lists(st.one_of(st.text(max_size=2), st.none(), st.floats()), max_size=5),
        st.integers(),
        st.text(max_size=3),
    )
)
def test_bad_streams_are_refused_by_name(stream):
    told = ""
    try:
        release_stream(stream, query="counts", rho=0.5, strategy="tree")
    except (ValueError, TypeError) as error:
        told = str(error)
    assert not told or any(
        word in told for word in ("stream", "record", "X must", "categories", "d must")
    )


def test_one_column_of_zeros_and_ones_is_a_counter():
    one = bits(50, 1)[:, 0]
    made = release_stream(one, query="counts", T=50, rho=1e5)
    np.testing.assert_allclose(made.answers[:, 0], np.cumsum(one), atol=1)
    assert made.certificates[0].verdict == Verdict.HOLDS


@pytest.mark.parametrize("numbers", [[1.0, 2.0, 3.0, 1.0], [1, 2, 3, 1]], ids=str)
def test_codes_of_categories_may_be_floats(numbers):
    for listed in ("1,2,3", [1, 2, 3], [1.0, 2.0, 3.0], np.arange(1, 4), np.float32([1, 2, 3])):
        made = release_stream(np.array(numbers), categories=listed, query="counts", T=9, rho=1e5)
        assert made.answers[-1].round().tolist() == [2, 1, 1]


def test_labels_are_read_alike_out_of_an_array_and_one_by_one():
    options = {"query": "counts", "T": 9, "rho": 1e5, "on_unknown": "none"}
    labels = np.float32([1, 2, 1])
    for stream in (labels, iter(labels)):
        made = release_stream(stream, categories=[1, 2], **options)
        assert made.answers[-1].round().tolist() == [2, 1]


def test_a_list_of_categories_has_an_order():
    from whp.privacy._dp_continual_release.records import Records

    with pytest.raises(TypeError, match="categories"):
        Records(["a"], None, {"a", "b"}, "error")  # type: ignore


def test_rows_may_be_true_and_false(tmp_path):
    """As a data frame of booleans is written."""
    path = tmp_path / "bought.csv"
    pd.DataFrame({"p": [True, True], "q": [False, True]}).to_csv(path, index=False)
    for unknown in ("error", "none"):
        made = release_stream(Log(path), query="counts", T=9, rho=1e5, on_unknown=unknown)
        assert made.answers[-1].round().tolist() == [2, 1]


def test_a_record_of_no_category_may_count_for_none():
    labels = ["a", "x", "b", "a"]
    made = release_stream(labels, categories="a,b", on_unknown="none", query="counts", T=9, rho=1e5)
    assert made.answers.round().tolist() == [[1, 0], [1, 0], [1, 1], [2, 1]]
    rows = np.array([[1, 0], [2, 1], [0, np.nan], [1, 1]])
    made = release_stream(rows, on_unknown="none", query="counts", T=9, rho=1e5)
    assert made.answers.round().tolist() == [[1, 0], [1, 0], [1, 0], [2, 1]]


def test_no_record_is_answered_where_one_in_memory_is_bad():
    """Nothing has left, so that nothing was spent."""
    X = bits(9000, 2).astype(float)
    X[8999, 1] = 2
    with pytest.raises(ValueError, match="record 9000 must hold zeros and ones only"):
        release_stream(X, T=9000)
    with pytest.raises(ValueError, match="record 9000"):
        release_stream(csr_array(X), T=9000)


def test_horizons():
    X = bits(300, 2)
    assert release_stream(X, query="counts", T=300).plan.T == 300
    assert release_stream(X, query="counts").plan.T == 1024
    made = release_stream(X, query="counts", T=100, horizon="double")
    assert made.plan.T == 200
    assert made.summary()["records"] == 300


def test_the_measured_error_of_cut_records_is_that_of_the_stream_as_it_came():
    X = np.ones((400, 10), np.uint8)
    options = {"query": "counts", "T": 400, "rho": 5.0, "max_ones": 5, "measure": True}
    told = release_stream(X, reveal=True, **options)
    assert told.errors[-1] > 350, "half of the columns are never counted"
    assert told.certificates[1].verdict == Verdict.VOID
    kept = release_stream(X, **options)
    assert kept.certificates[1].verdict == Verdict.UNMEASURED
    assert "private" in str(kept.certificates[1].conditions[-1].evidence)


def ran(capsys, *arguments):
    from whp.cli import main

    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in arguments])
    return stop.value.code, *capsys.readouterr()


def test_a_users_visits_by_ward(tmp_path, capsys):
    path = tmp_path / "visits.csv"
    wards = np.random.default_rng(0).choice(list("ABCD"), 3000)
    lines = (f"2024-01-{i % 28 + 1:02},{w},note" for i, w in enumerate(wards))
    path.write_text("day,ward,text\n" + "\n".join(lines) + "\n")
    code, out, err = ran(
        capsys,
        "run",
        "dp-continual-release",
        path,
        "--column",
        "ward",
        "--categories",
        "A,B,C,D",
        "--query",
        "counts",
        "--epsilon",
        1,
        "--delta",
        "1e-6",
        "--out",
        tmp_path / "o",
    )
    assert code == 0, err
    text = " ".join(out.replace("│", " ").split())
    assert "one category of 4 (two entries change)" in text
    for owner in ("2 records has", "5 records has", "10 records has"):
        assert owner in text
    assert "error bound" in text
    import pandas as pd

    last = pd.read_csv(tmp_path / "o" / "answers.csv").iloc[-1]
    assert last["record"] == 3000
    assert abs(last["A"] - (wards == "A").sum()) < 400


def test_a_users_baskets_are_cut(tmp_path, capsys):
    import pandas as pd

    path = tmp_path / "baskets.parquet"
    X = np.random.default_rng(0).integers(0, 2, (400, 12))
    pd.DataFrame(X, columns=[f"p{j}" for j in range(12)]).to_parquet(path)
    code, out, err = ran(
        capsys, "run", "dp-continual-release", path, "--max-ones", 5, "--t", 400, "--rho", 5
    )
    assert code == 0, err
    text = " ".join(out.replace("│", " ").split())
    assert "where records are cut to max_ones ones, from the cut stream" in text
    assert "stream cut to 5 of 12 ones a record; how many were cut is private" in text


def test_a_users_diagnoses_are_not_published(tmp_path, capsys):
    path = tmp_path / "log.csv"
    path.write_text("diagnosis,day\n" + "rare disease of Person A,1\nflu,2\n" * 5)
    code, out, err = ran(capsys, "run", "dp-continual-release", path, "--column", "diagnosis")
    assert code == 2
    told = " ".join((out + err).split())
    assert "categories must list the values of 'diagnosis' from public knowledge" in told
    assert "Person" not in told
    assert "flu" not in told
