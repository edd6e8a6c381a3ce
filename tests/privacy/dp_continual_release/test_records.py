import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array

from whp.io import Log
from whp.privacy import release_stream
from whp.privacy._dp_continual_release.records import Records

SHARP = {"query": "counts", "T": 500, "rho": 1e5}


def log(tmp_path, text):
    path = tmp_path / "log.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Log(path)


def answered(stream, **options):
    return release_stream(stream, **SHARP, **options).answers.round().astype(int).tolist()


def test_names_are_not_published_unasked(tmp_path):
    stream = log(tmp_path, "diagnosis,day\nPerson A,1\nPerson B,2\n")
    with pytest.raises(ValueError, match="categories must list the values of 'diagnosis'") as told:
        release_stream(stream, column="diagnosis")
    assert "from-data" in str(told.value)
    assert "Person" not in str(told.value)
    asked = release_stream(stream, column="diagnosis", categories="from-data", T=9)
    assert asked.names == ("Person A", "Person B")
    assert str(asked.certificates[0].verdict) == "void"


def test_a_file_of_one_column_is_zeros_and_ones_unless_categories_are_listed(tmp_path):
    assert answered(log(tmp_path, "clicks\n1\n0\n1\n")) == [[1], [1], [2]]
    stream = log(tmp_path, "patient\nPerson A\nPerson B\n")
    with pytest.raises(ValueError, match="record 1 must have 1 columns of zeros and ones") as told:
        release_stream(stream)
    assert "Person" not in str(told.value)
    assert answered(log(tmp_path, "c\na\nb\na\n"), categories="a,b")[-1] == [2, 1]


def test_what_pandas_writes_of_a_column_with_a_gap_is_read(tmp_path):
    assert answered(log(tmp_path, "a,b\n1.0,0.0\n0.0,1\n")) == [[1, 0], [1, 1]]


def test_labels_are_stripped(tmp_path):
    assert answered(log(tmp_path, "c,d\n a,1\nb ,2\n"), column="c", categories=" a, b")[-1] == [
        1,
        1,
    ]


def test_a_comma_too_many_is_no_category(tmp_path):
    with pytest.raises(ValueError, match="is there a comma too many"):
        answered(log(tmp_path, "c\na\nb\n"), categories="a,b,")


def test_a_column_of_a_frame_holds_categories():
    import pandas as pd

    frame = pd.DataFrame({"id": [1, 2, 3], "ward": ["A", "B", "A"]})
    assert answered(frame, column="ward", categories="A,B")[-1] == [2, 1]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("x\n", "record 3 has a category that is not in categories"),
        (b"\xe9\n", "is not UTF-8"),
        ('"never closed\n', "quote that never closes"),
    ],
)
def test_good_records_before_a_bad_one_are_answered(tmp_path, bad, said):
    tail = bad if isinstance(bad, bytes) else bad.encode()
    stream = log(tmp_path, b"c\na\nb\n" + tail + b"a\nb\n")
    options = {"categories": "a,b", "state": tmp_path / "state", "column": "c"}
    with pytest.raises(ValueError, match=said) as told:
        release_stream(stream, **SHARP, **options)
    assert "the 2 before it are answered" in str(told.value)
    if "quote" in said:
        return
    # It takes its place in the stream and counts for nothing; the others are not lost.
    made = release_stream(stream, **SHARP, **options, on_unknown="none")
    assert made.answers.round().tolist() == [[1, 0], [1, 1], [1, 1], [2, 1], [2, 2]]
    broken = next(a for a in made.certificates[0].conditions if a.name == "records")
    assert str(broken.status) == "violated"
    assert str(made.certificates[0].verdict) == "void"


def test_bad_rows_of_a_file_count_as_zeros_where_that_is_asked(tmp_path):
    text = "a,b\n1,0\n0,2\n1\n0,1\n\n1,1,1\n0,1\n"
    assert answered(log(tmp_path, text), on_unknown="none") == [
        [1, 0],
        [1, 0],
        [1, 0],
        [1, 1],
        [1, 1],
        [1, 2],
    ]


def test_an_iterator_stops_at_a_bad_record_and_says_which():
    with pytest.raises(ValueError, match="record 2 has a category"):
        release_stream(iter(["a", "x"]), categories="a,b", T=9)


@pytest.mark.parametrize("kind", ["array", "labels", "iterator"])
def test_a_stream_in_memory_must_begin_as_it_did(kind, tmp_path):
    rng = np.random.default_rng(0)
    rows, others = rng.integers(0, 2, (30, 3)), rng.integers(0, 2, (40, 3))
    others[0] = 1 - rows[0]
    options = {"query": "counts", "T": 100, "rho": 0.5, "state": tmp_path / "state"}
    if kind == "labels":
        rows, others = (np.array(list("abc"))[r.argmax(axis=1)] for r in (rows, others))
        rows[0], others[0] = "a", "b"
        options["categories"] = "a,b,c"

    def given(data):
        return iter(data) if kind == "iterator" else data

    release_stream(given(rows), **options)
    with pytest.raises(ValueError, match="begin with the 30 records"):
        release_stream(given(others), **options)
    more = np.concatenate([rows, others])
    assert len(release_stream(given(more), **options).answers) == 70
    if kind != "iterator":
        with pytest.raises(ValueError, match="begin with the 70 records"):
            release_stream(given(rows), **options)


@pytest.mark.parametrize("kind", ["array", "iterator", "sparse"])
def test_a_stream_in_memory_is_compared_whole(kind, tmp_path):
    """Its first and last records are those that were answered; between them it is another one."""
    options = {"query": "counts", "T": 100, "rho": 0.5, "state": tmp_path / "state"}
    rows = np.zeros((30, 2), np.uint8)
    others = np.ones((40, 2))
    others[[0, 29]] = 0
    make = {"array": np.asarray, "iterator": iter, "sparse": csr_array}[kind]
    release_stream(make(rows), **options)
    for given in (others, rows[:20]):
        with pytest.raises(ValueError, match="begin with the 30 records"):
            release_stream(make(given), **options)
    more = np.concatenate([rows, others[:5]])  # of another type, with the same records
    assert release_stream(make(more), **options).summary()["records"] == 35


def test_an_iterator_with_a_bad_record_is_void_for_ever(tmp_path):
    options = {"query": "counts", "T": 100, "rho": 0.5, "state": tmp_path / "state"}
    rows = [[0, 1], [1, 0], [0, 2]]
    with pytest.raises(ValueError, match="record 3 must hold 2 zeros and ones"):
        release_stream(iter(rows), **options)
    made = release_stream(iter([*rows[:2], [0, 1]]), **options)
    assert str(made.certificates[0].verdict) == "void"


def test_what_a_sparse_array_stores_twice_is_no_record_of_zeros_and_ones(tmp_path):
    twice = csr_array(([1, 1, 1], [0, 1, 1], [0, 1, 3, 3]), shape=(3, 2))
    options = {"query": "counts", "T": 9, "rho": 1e5, "state": tmp_path / "state"}
    with pytest.raises(ValueError, match="record 2 must hold"):
        release_stream(twice, **options)
    made = release_stream(twice, on_unknown="none", **options)
    assert made.answers.round().tolist() == [[1, 0], [1, 0], [1, 0]]
    assert str(made.certificates[0].verdict) == "void"
    assert twice.nnz == 3


def test_a_missing_value_of_one_column_takes_its_place(tmp_path):
    text = 'ward\nA\n""\nB\n\nA\n'
    options = {"column": "ward", "categories": "A,B"}
    with pytest.raises(ValueError, match="record 2 has a category"):
        answered(log(tmp_path, text), **options)
    made = answered(log(tmp_path, text), on_unknown="none", **options)
    assert made == [[1, 0], [1, 0], [1, 1], [2, 1]]


def test_a_rotated_log_is_not_the_old_one(tmp_path):
    """Its first record, and the bytes where the old one ended, are the same."""
    options = {"query": "counts", "T": 5000, "rho": 50.0, "state": tmp_path / "state"}
    path = log(tmp_path, "x,y\n" + "0,0\n" * 500).path
    release_stream(Log(path), **options)
    path.rename(tmp_path / "old")
    path.write_text("x,y\n0,0\n" + "1,1\n" * 400 + "0,0\n" * 300)
    with pytest.raises(ValueError, match="no longer as it was"):
        release_stream(Log(path), **options)
    on = release_stream(Log(path), rotated="continue", **options)
    assert on.summary()["records"] == 1201
    assert abs(on.answers[-1] - 400).max() <= on.bound


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("HIV\nflu\n", {"categories": "HIV,flu"}),
        ("Alice,HIV\nBob,flu\n", {"categories": "HIV,flu", "column": "HIV"}),
        ("1,0\n0,1\n", {}),
        ("Alice,HIV\nBob,flu\n", {"categories": "HIV,flu", "column": "ward"}),
    ],
)
def test_a_record_is_no_header(tmp_path, text, options):
    with pytest.raises(ValueError, match="first line") as told:
        answered(log(tmp_path, text), **options)
    assert "Alice" not in str(told.value)


def test_a_record_is_described():
    assert Records([[1, 0]], None, None, "error").described == "zeros and ones in 2 columns"
    told = Records(["a"], None, "a,b,c,d", "error").described
    assert told == "one category of 4 (two entries change)"


@pytest.mark.parametrize("query", ["counts", "sumselect"])
def test_columns_are_not_named_in_another_order(query, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n1,0\n1,0\n")
    for stream in (Log(path), pd.DataFrame({"a": [1, 1], "b": [0, 0]})):
        with pytest.raises(ValueError, match="categories must name the columns in their order"):
            release_stream(stream, categories="b,a", query=query, T=5, rho=1e5)
        named = release_stream(stream, categories="first,b", query=query, T=5, rho=1e5)
        assert named.names == ("first", "b")


@pytest.mark.parametrize(
    ("values", "listed", "names"),
    [
        (pd.to_datetime(["2024-01-01", "2024-01-02"]), "2024-01-01,2024-01-02", None),
        (
            pd.to_datetime(["2024-01-01", "2024-01-02"]),
            list(pd.to_datetime(["2024-01-01", "2024-01-02"])),
            None,
        ),
        (
            pd.to_datetime(["2024-01-01", "2024-01-02"]).tz_localize("Asia/Tokyo"),
            ["2024-01-01", "2024-01-02"],
            None,
        ),
        (
            pd.to_datetime(["2024-01-01", "2024-01-02"]).tz_localize("Asia/Tokyo"),
            list(pd.to_datetime(["2023-12-31 15:00", "2024-01-01 15:00"]).tz_localize("UTC")),
            None,
        ),
        (np.array([1.0, 2.0]), "1.0,2.0", ("1.0", "2.0")),
        (np.array([1, 2]), ["01", "2.0"], ("01", "2.0")),
        (np.array([0.1, 0.2], np.float32), [0.1, 0.2], ("0.1", "0.2")),
        (np.array([2**53 + 1, 2**53 + 3]), [2**53 + 1, 2**53 + 3], None),
        (np.array([b"a", b"b"]), "a,b", ("a", "b")),
        (np.array([True, False]), "true,false", ("true", "false")),
    ],
)
def test_a_list_may_be_written_in_other_words_than_the_records(values, listed, names):
    for stream in (
        pd.Series(values).iloc[[0, 0, 1, 0]],
        pd.DataFrame({"c": values}).iloc[[0, 0, 1, 0]],
    ):
        column = "c" if hasattr(stream, "columns") else None
        options = {"column": column, "query": "counts", "T": 4, "rho": 1e5}
        made = release_stream(stream, categories=listed, on_unknown="none", **options)
        assert np.abs(made.answers[-1] - [3, 1]).max() < 0.5
        assert names is None or made.names == names


@pytest.mark.parametrize(
    ("values", "listed"),
    [
        (np.array([True, False]), "1,0"),
        (np.array([1, 2]), "one,two"),
        (pd.to_datetime(["2024-01-01"]), "monday"),
        (pd.to_datetime(["2024-01-01"]), ["2024-01-01 00:00+01:00"]),
        (np.array([1, 2]), ["1", "1.0"]),
    ],
)
def test_a_list_of_another_kind_is_refused(values, listed):
    with pytest.raises(ValueError, match="categories must be"):
        release_stream(values, categories=listed, on_unknown="none", T=4, rho=1.0)


def test_what_spreadsheets_and_frames_call_a_one_is_one(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("a,b\nTRUE,FALSE\nTRUE,TRUE\n")
    mixed = pd.DataFrame({"a": pd.array([True, True], "boolean"), "b": [0, 1]})
    gaps = pd.DataFrame(
        {"a": pd.array([True, True, None], "boolean"), "b": pd.array([0, 1, 1], "Int8")}
    )
    for stream in (Log(path), mixed, gaps):
        made = release_stream(stream, query="counts", T=4, rho=1e5, on_unknown="none")
        assert np.abs(made.answers[-1] - [2, 1]).max() < 0.5
    with pytest.raises(ValueError, match="record 3 must hold zeros and ones"):
        release_stream(gaps, query="counts", T=4, rho=1.0)


def test_a_column_that_is_there_twice_is_none():
    twice = pd.DataFrame([[1, 0], [1, 0]], columns=["a", "a"])
    with pytest.raises(ValueError, match="more than once"):
        release_stream(twice, column="a", query="counts", T=4, rho=1.0)
