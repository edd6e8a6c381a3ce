"""Tables as people have them, each with the values that it holds."""

import decimal
import json

import numpy as np
import pandas as pd
import pytest

from whp.io import Choice, Data, class_columns, read

REGRESSION = {"A": Data("design"), "b": Data("vector", "target")}
SCORES = {"logits": Data("matrix"), "y": Data("labels")}
TABLE = {"table": Data("table")}


@pytest.fixture
def given(tmp_path):
    """Read a text as a file, for a regression if not said otherwise; returns the values and what was said."""

    def reader(text, wants=REGRESSION, name="f.csv", **options):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        notes = []
        required = [n for n, d in wants.items() if d.kind != "matrix" or n in ("logits", "X")]
        return read([path], wants, required=required, notes=notes, **options), "; ".join(notes)

    return reader


def numbers(given, *args, **options):
    found, notes = given(*args, **options)
    return found["A"].to_dict("list"), found["b"].tolist(), notes


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b,target\n1.5,2,3\n2.25,3,4\n1,2,2\n", ""),
        ("\ufeffa,b,target\r\n1.5,2,3\r\n2.25,3,4\r\n1,2,2\r\n", ""),
        ("a, b, target\n1.5, 2, 3\n2.25, 3, 4\n1, 2, 2\n", ""),
        ("a;b;target\n1.5;2;3\n2.25;3;4\n1;2;2\n", "parted by semicolons"),
        ("a;b;target\n1,5;2;3\n2,25;3;4\n1;2;2\n", "'a' with decimal commas"),
        ("a|b|target\n1.5|2|3\n2.25|3|4\n1|2|2\n", "parted by bars"),
        ("a\tb\ttarget\n1.5\t2\t3\n2.25\t3\t4\n1\t2\t2\n", "parted by tabs"),
        ("a,b,target\n1.5,2,3,\n2.25,3,4,\n1,2,2,\n", "an empty last column left out"),
        ("a,b,target,\n1.5,2,3,\n2.25,3,4,\n1,2,2,\n", "an empty last column left out"),
        (",a,b,target\n0,1.5,2,3\n1,2.25,3,4\n2,1,2,2\n", "which has no name, left out"),
        ("# made by us, in 2024\na,b,target\n1.5,2,3\n2.25,3,4\n1,2,2\n", ""),
        ("% one\n% two\na,b,target\n1.5,2,3\n2.25,3,4\n1,2,2\n", ""),
        ('a,b,target\n"1.5",+2,3\n2.25,3,"4"\n 1 ,2e0,2\n', ""),
        ("a,b,target\n\n1.5,2,3\n2.25,3,4\n\n1,2,2\n\n", ""),
    ],
)
def test_the_same_table_in_many_dialects(given, text, said):
    A, b, notes = numbers(given, text)
    assert A == {"intercept": [1, 1, 1], "a": [1.5, 2.25, 1], "b": [2, 3, 2]}
    assert b == [3, 4, 2]
    assert said in notes
    assert "3 rows" in notes


def test_a_separator_can_be_said(given):
    A, _, _ = numbers(given, "a:target\n1:2\n2:5\n", choice=Choice(sep=":"))
    assert A["a"] == [1, 2]
    assert Choice(sep="tab").sep == "\t"
    with pytest.raises(ValueError, match="sep must be one character"):
        Choice(sep="::")
    with pytest.raises(ValueError, match="sep must go with csv"):
        given('{"a": 1, "target": 2}\n', name="f.jsonl", choice=Choice(sep=";"))


def test_a_hash_may_begin_the_first_name(given):
    A, _, _ = numbers(given, "# rooms,target\n1,2\n3,4\n4,5\n")
    assert A["# rooms"] == [1, 3, 4]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x,target,target\n1,2,2\n", "column 'target' appears 2 times"),
        ("1,2,3\n4,5,6\n", "no column 'target'.* header line seems to be missing"),
        ("1.5,2,3\n4,5,6\n", "first line holds numbers .*add a header line"),
        ("a,target\n0,0,1.5\n1,1,2.5\n", "rows have 3 fields, first row 1, and the header 2 names"),
        ("a,target\n0,1\n1,2\n2,3,4\n", "row 3 has 3 fields where the header has 2 names"),
        ("a,,target\n0,1,1\n1,2,3\n", "column 2 has no name"),
        ("a;b;target\n1;2;3\n", None),
        ("a,target\n?,1\n2,3\n3,4\n", "column 'a' holds '\\?' in row 1, which is no number"),
        ("a,target\n1,1\n2,3\nNA,4\n", "column 'a' holds 'NA' in row 3, which is no number"),
        ("a,target\n1,1\n2,3\nnan,4\n", "column 'a' holds 'nan' in row 3, which is no number"),
        ("a,target\n1,1\n2,3\ninf,4\n", "column 'a' holds 'inf' in row 3"),
        ("a,target\n1,1\n2,3\n1e400,4\n", "'1e400' .beyond the range of floats. in row 3"),
        ("a,target\n1,1\n,3\n2,4\n", "column 'a' has a missing value, first in row 2"),
        ("a,target\n1,1\n  ,3\n2,4\n", "column 'a' has a missing value, first in row 2"),
        ('a,target\n"1,200",1\n"12,500",2\n1,3\n', "looks like thousands with separators"),
        ("a;target\n1,200;1\n2,500;2\n3,100;3\n", "looks like thousands with separators"),
        ("a,target\n$5,1\n$6,2\n$7,3\n", "looks like money \\('\\$5' in row 1\\)"),
        ("a;target\n$338,116;1\n$12,000;2\n$9;3\n", "looks like money"),
        ("a,target\n5%,1\n6%,2\n7%,3\n", "looks like percentages"),
        ("a,target\n", "it has no rows"),
        ("", "no rows, not even a header"),
        (b"a,target\nM\xfcller,1\n", "not UTF-8, first in line 2"),
        ("a,target\n1,2\n".encode("utf-16"), "UTF-16; save it as UTF-8"),
        (b"a,target\n1\0,2\n", "zero bytes"),
        ("d,target\n2024-01-05,1\n2024-02-05,2\n2024-02-05,3\n", "holds dates or times"),
        ("d,target\n5/1/24,1\n6/1/24,2\n6/1/24,3\n", "holds dates or times"),
        ("d,target\n12:30,1\n12:31,2\n12:31,3\n", "holds dates or times"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_place(given, text, said):
    if said is None:
        given(text)
        return
    with pytest.raises(ValueError, match=said) as error:
        given(text)
    assert "f.csv" in str(error.value)


def test_all_faults_come_in_one_message(given):
    rows = "".join(f"2022-01-{i % 28 + 1:02d},c{i},{i}{'?' * (i == 7)},{i}\n" for i in range(200))
    with pytest.raises(ValueError, match="column 'ordered' holds dates") as error:
        given("ordered,customer no,size,target\n" + rows)
    told = str(error.value)
    assert "column 'customer no' is text with 200 different values in 200 rows" in told
    assert "column 'size' holds '7?' in row 8" in told
    assert "--drop ordered --drop 'customer no' --drop size" in told
    with pytest.raises(ValueError, match="column 'a' has 2 missing values") as error:
        given("a,target\n1,\n,2\n,3\n")
    assert "column 'target' has a missing value, first in row 1" in str(error.value)
    assert "--missing drop" in str(error.value)


def test_rows_and_columns_are_chosen(given):
    text = "id,Day,size,note,target\n" + "".join(
        f"{i},2024-01-{i + 1:02d},{i * i},n{i},{'' if i == 3 else i}\n" for i in range(9)
    )
    choice = Choice(drop=("Day,note",), id="id", missing="drop")
    A, b, notes = numbers(given, text, choice=choice)
    assert {"intercept": [1] * 8, "size": [i * i for i in range(9) if i != 3]} == A
    assert b == [i for i in range(9) if i != 3]
    for said in (
        "8 rows",
        "1 rows with a missing value left out",
        "'Day' left out",
        "'id' left out",
    ):
        assert said in notes
    A, _, _ = numbers(given, text, choice=Choice(columns=("size",), missing="drop"))
    assert list(A) == ["intercept", "size"]
    with pytest.raises(ValueError, match="no column 'day'; did you mean 'Day'"):
        given(text, choice=Choice(drop=("day",)))
    with pytest.raises(ValueError, match=r"no column 'targt'; did you mean 'target'\?"):
        given(text, columns={"b": "targt"})
    with pytest.raises(ValueError, match="no column is left"):
        given("a,target\n1,2\n", choice=Choice(drop=("a",)))


def test_what_is_said_of_columns_must_be_about_a_table(tmp_path):
    np.savez(tmp_path / "a.npz", logits=np.eye(2), y=[0, 1])
    for options in ({"choice": Choice(drop=("x",))}, {"columns": {"y": "label"}}):
        with pytest.raises(ValueError, match="must go with a table"):
            read([tmp_path / "a.npz"], SCORES, required=["logits"], **options)


def test_only_the_empty_cell_is_missing(given):
    found, _ = given("arm,time,reward\nNA,1,2.5\nnull,2,3\nNone,3,4\nDE,4,5\n", TABLE)
    assert found["table"]["arm"].tolist() == ["NA", "null", "None", "DE"]
    with pytest.raises(ValueError, match="column 'arm' has a missing value, first in row 2"):
        given("arm,time,reward\nNA,1,2.5\n,2,3\n", TABLE)
    found, _ = given("arm,reward\na,1\nb,\n", TABLE)
    assert np.isnan(found["table"]["reward"][1])


def test_leading_zeros_stay_and_order_is_the_files(given):
    found, _ = given("arm,w\n02,1\n2,2\n01,3\n", TABLE)
    assert found["table"]["arm"].tolist() == ["02", "2", "01"]
    zips = "zip,target\n" + "01234,1\n94110,2\n" * 3
    A, _, notes = numbers(given, zips)
    assert A["zip_94110"] == [0, 1] * 3
    assert "'zip' 2 categories" in notes
    labels, _ = given("p_b,p_a,y\n0.5,0.5,01\n0.4,0.6,1\n", SCORES)
    assert labels["y"].tolist() == ["01", "1"]


def test_truth_values(given):
    A, _, _ = numbers(given, "ok,target\nTrue,1\nFalse,2\nFalse,4\n")
    assert A["ok"] == [1, 0, 0]
    found, _ = given("p_True,p_False,y\n0.5,0.5,True\n0.4,0.6,False\n", SCORES)
    assert found["y"].tolist() == [True, False]
    assert found["y"].dtype == bool


def test_labels_keep_their_kind(given):
    for cells, kind, wanted in (
        ("1\n2\n3", "i", [1, 2, 3]),
        ("1.5\n2\n3", "f", [1.5, 2, 3]),
        ("a\n2\nb", "O", ["a", "2", "b"]),
    ):
        text = "p,y\n" + "".join(f"0.5,{c}\n" for c in cells.splitlines())
        found, _ = given(text, SCORES)
        assert found["y"].dtype.kind == kind
        assert found["y"].tolist() == wanted
    numbers_but_one = "p,y\n" + "0.5,1.25\n" * 40 + "0.5,?\n"
    with pytest.raises(ValueError, match=r"column 'y' holds '\?' in row 41"):
        given(numbers_but_one, SCORES)


def test_few_words_are_a_category_and_many_are_not(given):
    levels = [f"w{i}" for i in range(100)]
    rows = "".join(f"{levels[i % 100]},{i}\n" for i in range(400))
    A, _, notes = numbers(given, "c,target\n" + rows)
    assert len(A) == 100
    assert "'c' 100 categories" in notes
    A, _, _ = numbers(given, "cut,target\nb,1\na,2\nb,3\n")
    assert A == {"intercept": [1, 1, 1], "cut_b": [1, 0, 1]}
    rows += "one more,1\n"
    with pytest.raises(ValueError, match="101 different values"):
        given("c,target\n" + rows)
    with pytest.raises(ValueError, match="3 different values in 3 rows"):
        given("c,target\na,1\nb,2\nc,3\n", {"X": Data("features"), "y": Data("labels", "target")})


def test_a_constant_column_is_the_intercept(given):
    A, _, _ = numbers(given, "one,x,target\n1,1,2\n1,2,5\n1,4,5\n")
    assert list(A) == ["one", "x"]
    A, _, _ = numbers(given, "intercept,x,target\n1,1,2\n1,2,5\n1,4,5\n")
    assert list(A) == ["intercept", "x"]
    with pytest.raises(ValueError, match="column 'intercept' must be constant"):
        given("intercept,x,target\n1,1,2\n2,2,5\n1,4,5\n")
    with pytest.raises(ValueError, match="column 'c_b' appears 2 times"):
        given("c,c_b,target\na,1,2\nb,2,5\na,4,5\n")


def test_json_lines_are_what_they_declare(given):
    rows = [
        {"x": 0.1, "wait_time": 45_000_000 + i, "code": f"00{i % 2}", "target": i} for i in range(9)
    ]
    text = "\n".join(map(json.dumps, rows)) + "\n\n"
    A, b, _ = numbers(given, text, name="f.jsonl")
    assert A["wait_time"] == [45_000_000 + i for i in range(9)]
    assert A["code_001"] == [0, 1, 0, 1, 0, 1, 0, 1, 0]
    assert list(A) == ["x", "wait_time", "code_001"]
    assert b == list(range(9))
    exact = given('{"target": 0.1234567890123456789, "x": 1}\n', name="f.jsonl")[0]["b"]
    assert exact[0] == 0.1234567890123456789
    for line, said in (
        ('{"x": 1, "x": 2}', "a name comes twice"),
        ('{"x": NaN}', "NaN is no JSON"),
        ("[1, 2]", "line 1 is no JSON object"),
        ('{"x": 1', "line 1: "),
        ("[" * 100_000, "line 1: "),
        ('{"x": {"y": 1}, "target": 1}', "column 'x' holds lists or records"),
    ):
        with pytest.raises(ValueError, match=said):
            given(line + "\n", name="f.jsonl")


def test_big_whole_numbers_and_late_columns_of_json(given):
    text = '{"id": 123456789012345678901}\n{"id": 5, "w": 2}\n'
    found, _ = given(text, {"y": Data("ids", "id")}, name="f.jsonl")
    assert found["y"].tolist() == ["123456789012345678901", "5"]
    with pytest.raises(ValueError, match="'w' has a missing value, first in row 1"):
        given(text, {"X": Data("matrix")}, name="f.jsonl", choice=Choice(drop=("id",)))


def test_parquet_of_every_type(tmp_path):
    path = tmp_path / "t.parquet"
    table = pd.DataFrame(
        {
            "price": [decimal.Decimal("1.50"), decimal.Decimal("2.00"), decimal.Decimal("3.25")],
            "big": np.array([2**60, 2, 3]),
            "cut": pd.Categorical(["b", "a", "b"]),
            "ok": [True, False, True],
            "target": np.array([1, 2, 3], dtype=np.float32),
        },
        index=[5, 7, 9],
    )
    table.to_parquet(path)
    notes = []
    found = read([path], REGRESSION, required=["A", "b"], notes=notes)
    assert found["A"].to_dict("list") == {
        "intercept": [1, 1, 1],
        "price": [1.5, 2, 3.25],
        "big": [2.0**60, 2, 3],
        "ok": [1, 0, 1],
        "cut_b": [1, 0, 1],
    }
    assert "the index of pandas left out" in notes[0]
    table["when"] = pd.Timestamp("2024-05-01")
    table["list"] = [[1], [2], [3]]
    table.to_parquet(path)
    with pytest.raises(ValueError, match=r"'when' holds dates or times .2024-05-01") as error:
        read([path], REGRESSION, required=["A", "b"])
    assert "'list' holds lists" in str(error.value)


def test_ids_stay_as_they_are(given):
    wants = {"X": Data("matrix"), "ids": Data("ids", "id")}
    found, _ = given("id,x\n007,1\n7,2\nNA,3\n", wants)
    assert found["ids"].tolist() == ["007", "7", "NA"]
    assert found["X"].columns.tolist() == ["x"]


def test_one_column_without_a_header(given):
    found, notes = given("1.5\n2\n3\n", {"X": Data("vector")})
    assert found["X"].tolist() == [1.5, 2, 3]
    assert "no header line" in notes
    found, _ = given("2019,2020,2021\n1,2,3\n", {"X": Data("matrix")})
    assert found["X"].columns.tolist() == ["2019", "2020", "2021"]
    with pytest.raises(ValueError, match="'x' has a missing value, first in row 2"):
        given("x\n1\n\n3\n\n\n", {"X": Data("vector")})


def test_quotes_line_breaks_and_long_records(given):
    note = "a\nlong, " + "x" * 3_000_000
    text = f'note,target\n"{note}",1\n"b""c",2\n"{note}",4\n'
    found, _ = given(text, TABLE)
    assert found["table"]["note"].tolist() == [note, 'b"c', note]


def test_a_bad_cell_far_down_is_named_though_numbers_were_parsed_at_once(given):
    text = "x,y,target\n" + "1,2,3\n" * 50_000 + "1,2 000,3\n" + "1,2,3\n" * 10
    with pytest.raises(ValueError, match="column 'y' holds '2 000' in row 50001"):
        given(text)


def test_pandas_reads_the_same_numbers(tmp_path):
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(5000, 7)) * 10.0 ** rng.integers(-300, 300, (5000, 7)))
    table.columns = [*"abcdef", "target"]
    table.to_csv(tmp_path / "t.csv", index=False)
    found = read([tmp_path / "t.csv"], REGRESSION, required=["A", "b"])
    np.testing.assert_array_equal(found["A"][[*"abcdef"]], table[[*"abcdef"]])
    np.testing.assert_array_equal(found["b"], table["target"])


@pytest.mark.parametrize(
    ("names", "classes", "order"),
    [
        (["prob_login", "prob_billing"], ["billing", "login"], [1, 0]),
        (["p_True", "p_False"], [False, True], [1, 0]),
        (["p_1", "p_0"], [0, 1], [1, 0]),
        (["b", "a"], ["a", "b"], [1, 0]),
        (["score: cat", "score: dog", "score: cow"], ["dog", "cat"], [1, 0]),
        (["p_apricot", "p_apple"], ["apple", "apricot"], [1, 0]),
        (["p_11", "p_1"], ["1", "11"], [1, 0]),
        (["p_yes"], ["yes"], [0]),
    ],
)
def test_classes_are_bound_to_columns_by_name(names, classes, order):
    assert class_columns(names, classes) == order


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (["p_a", "p_b"], ["a", "c"]),
        (["p_a", "p_B"], ["a", "b"]),
        (["x", "x"], ["x"]),
        (["id", "p_a", "p_b"], ["a", "c"]),
        (["a"], []),
    ],
)
def test_classes_without_a_column_are_refused(names, classes):
    with pytest.raises(ValueError, match=r"columns are .*, classes are ") as error:
        class_columns(names, classes)
    for word in (*names, *classes):
        assert word in str(error.value)
