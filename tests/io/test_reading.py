import os
import pickle
from pathlib import Path

import networkx as nx
import numpy as np
import pandas as pd
import pytest
import scipy.io
import scipy.sparse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from whp.io import Data, read

REGRESSION = {"A": Data("design"), "b": Data("vector", column="target")}
SCORES = {
    "logits": Data("matrix"),
    "y": Data("labels"),
    "logits_test": Data("matrix"),
    "y_test": Data("labels"),
}
GRAPH = {"graph": Data("graph")}


@pytest.fixture
def table():
    return pd.DataFrame({"x": [1.0, 2.0, 3.0], "cut": ["b", "a", "b"], "price": [5, 6, 7]})


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".parquet", ".jsonl", ".csv.gz"])
def test_design_from_every_kind_of_table(tmp_path, table, ending):
    path = tmp_path / f"t{ending}"
    if ending == ".parquet":
        table.to_parquet(path)
    elif ending == ".jsonl":
        table.to_json(path, orient="records", lines=True)
    else:
        table.to_csv(path, index=False, sep="\t" if ending == ".tsv" else ",")
    got = read([path], REGRESSION, required=["A", "b"], columns={"b": "price"})
    assert list(got["A"].columns) == ["intercept", "x", "cut_b"]
    assert got["A"].to_numpy().tolist() == [[1, 1, 1], [1, 2, 0], [1, 3, 1]]
    assert got["b"].tolist() == [5, 6, 7]


def test_arrays_by_name_and_by_order(tmp_path):
    logits, y = np.eye(3), np.arange(3)
    np.savez(tmp_path / "a.npz", logits=logits, y=y, other=y)
    save_file({"logits": logits, "y": y}, tmp_path / "a.safetensors")
    np.save(tmp_path / "l.npy", logits)
    np.save(tmp_path / "y.npy", y)
    for files in (["a.npz"], ["a.safetensors"], ["l.npy", "y.npy"], ["y=y.npy", "logits=l.npy"]):
        files = [
            f"{f.partition('=')[0]}={tmp_path / f.partition('=')[2]}" if "=" in f else tmp_path / f
            for f in files
        ]
        got = read(files, SCORES, required=["logits", "y"])
        assert set(got) == {"logits", "y"}
        assert np.array_equal(got["logits"], logits)


def test_scores_from_a_table(tmp_path):
    pd.DataFrame({"p_0": [0.1, 0.9], "p_1": [0.9, 0.1], "y": [1, 0]}).to_csv(
        tmp_path / "s.csv", index=False
    )
    got = read([tmp_path / "s.csv"], SCORES, required=["logits", "y"])
    assert got["logits"].shape == (2, 2)
    assert got["y"].tolist() == [1, 0]


def test_graphs_of_every_kind(tmp_path):
    g = nx.karate_club_graph()
    nx.write_graphml(g, tmp_path / "g.graphml")
    nx.write_gml(g, tmp_path / "g.gml")
    nx.to_pandas_edgelist(g).to_csv(tmp_path / "g.csv", index=False)
    nx.write_edgelist(g, tmp_path / "g.edges", data=False)
    a = nx.to_scipy_sparse_array(g, weight=None)
    scipy.io.mmwrite(tmp_path / "g.mtx", a)
    scipy.sparse.save_npz(tmp_path / "g.npz", a)
    np.save(tmp_path / "g.npy", a.toarray())
    for name in ("g.graphml", "g.gml", "g.csv", "g.edges"):
        got = read([tmp_path / name], GRAPH)["graph"]
        assert (got.number_of_nodes(), got.number_of_edges()) == (34, 78), name
    for name in ("g.mtx", "g.npz", "g.npy"):
        assert read([tmp_path / name], GRAPH)["graph"].sum() == 156, name


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def test_nothing_is_unpickled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bomb = np.array([Bomb()], dtype=object)
    np.save("b.npy", bomb, allow_pickle=True)  # makes the hostile file that the reader must refuse
    np.savez("b.npz", logits=bomb, y=bomb)
    Path("c.npy").write_bytes(pickle.dumps(Bomb()))
    for name, wants in (
        ("b.npy", REGRESSION),
        ("b.npz", SCORES),
        ("c.npy", GRAPH),
        ("b.npy", GRAPH),
        ("b.npz", GRAPH),
    ):
        with pytest.raises(ValueError, match=name):
            read([name], wants, required=["A", "b"] if wants is REGRESSION else list(wants)[:1])
    assert not Path("exploded").exists()


@pytest.mark.parametrize(
    ("content", "ending", "told"),
    [
        ("", ".csv", "no rows, not even a header"),
        ("x,price\n", ".csv", "no rows"),
        ("x,price\n1,\n2,3\n", ".csv", "missing"),
        ("x,price\n1,two\n2,3\n", ".csv", "holds .two. in row 1, which is no number"),
        ("x,y\n1,2\n", ".csv", "price"),
        ("x,x.1,price\n1,,2\n", ".csv", "'x.1' is empty"),
        ("{", ".jsonl", "line 1: "),
        ("PAR1", ".parquet", "cannot be read"),
        ("<a>", ".graphml", "read from"),
    ],
)
def test_broken_tables_say_what_is_wrong(tmp_path, content, ending, told):
    path = tmp_path / f"f{ending}"
    path.write_text(content)
    with pytest.raises(ValueError, match=told):
        read([path], REGRESSION, required=["A", "b"], columns={"b": "price"})


def test_missing_files_and_names(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        read([tmp_path / "none.csv"], REGRESSION, required=["A", "b"])
    with pytest.raises(ValueError, match="FILE"):
        read([], REGRESSION)
    np.savez(tmp_path / "a.npz", q=np.eye(2))
    with pytest.raises(ValueError, match="logits"):
        read([tmp_path / "a.npz"], SCORES, required=["logits", "y"])
    with pytest.raises(ValueError, match="no parameter 'nope'; accepted are logits, y"):
        read([tmp_path / "a.npz", "nope=x.npy"], SCORES)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.binary(max_size=200),
    st.sampled_from(
        [
            ".csv",
            ".tsv",
            ".parquet",
            ".jsonl",
            ".npy",
            ".npz",
            ".mtx",
            ".graphml",
            ".gml",
            ".safetensors",
            ".txt",
        ]
    ),
    st.sampled_from([REGRESSION, SCORES, GRAPH]),
)
def test_hostile_bytes_never_raise_anything_else(tmp_path, content, ending, wants):
    path = tmp_path / f"f{ending}"
    magic = {".npy": b"\x93NUMPY\x01\x00", ".npz": b"PK\x03\x04", ".parquet": b"PAR1"}.get(
        ending, b""
    )
    for data in (content, magic + content):
        path.write_bytes(data)
        try:
            read([path], wants, required=list(wants)[:1])
        except ValueError as error:
            assert str(path) in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    "moments",
    [
        pd.to_datetime(["2024-01-01", "2024-03-31"]),
        pd.to_datetime(["2024-01-01 06:30", "2024-03-31 00:00"]),
        pd.Series([pd.Timestamp("2024-01-01").date(), pd.Timestamp("2024-03-31").date()]),
    ],
)
def test_dates_of_a_table_are_those_of_the_same_csv(tmp_path, moments):
    table = pd.DataFrame({"arm": ["a", "b"], "time": moments})
    table.to_parquet(tmp_path / "log.parquet")
    table.to_csv(tmp_path / "log.csv", index=False)
    for kind in ("table", "stream"):
        typed = read([tmp_path / "log.parquet"], {"log": Data(kind)})["log"]
        assert typed["time"].tolist() == table["time"].astype(str).tolist()
    text = read([tmp_path / "log.csv"], {"log": Data("table")})["log"]
    pd.testing.assert_frame_equal(text, typed)


def test_a_missing_date_names_its_row(tmp_path):
    path = tmp_path / "log.parquet"
    pd.DataFrame({"arm": ["a", "b"], "time": [pd.Timestamp("2024-01-01"), None]}).to_parquet(path)
    with pytest.raises(ValueError, match="'time' has a missing value, first in row 2"):
        read([path], {"log": Data("table")})
