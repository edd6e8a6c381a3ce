"""Files as people have them, through the command line."""

import json

import numpy as np
import pandas as pd
import pytest
from environments import hospitals

from whp.cli import main


def whp(*arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["run", "pac-invariance", *map(str, arguments)])
    captured = capsys.readouterr()
    return stop.value.code, captured.out, captured.err


def record(*arguments, capsys):
    code, out, err = whp(*arguments, "--json", capsys=capsys)
    assert code == 0, err
    return json.loads(out)


def verdicts(found):
    return {c["name"]: c["verdict"] for c in found["certificates"]}


@pytest.fixture
def icu(tmp_path):
    """Seven hospitals, lab values with gaps, sex in letters."""
    X, y, env = hospitals(7, 300, seed=3)
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "hospital": [f"H{e:02d}" for e in env],
            "sex": rng.choice(["M", "F"], len(y)),
            "lactate": X[:, 0],
            "sodium": X[:, 1],
            "days": y,
        }
    )
    table.loc[rng.choice(len(y), 312, replace=False), "lactate"] = np.nan
    path = tmp_path / "icu.csv"
    table.to_csv(path, index=False)
    return path


def test_gaps_and_letters_are_named(icu, capsys):
    given = (icu, "--target", "days", "--env", "hospital", "--test-env", "0.5")
    code, _, err = whp(*given, capsys=capsys)
    assert code == 2
    assert "column 'lactate' has 312 missing values" in err
    assert "column 'sex'" in err
    assert "--drop" in err


def test_three_hospitals_prove_little(icu, capsys):
    table = pd.read_csv(icu)
    table["sex"] = (table["sex"] == "M").astype(int)
    table["lactate"] = table["lactate"].fillna(table["lactate"].mean())
    table.to_csv(icu, index=False)
    given = ("--target", "days", "--env", "hospital", "--test-env", "0.5", "--seed", "0")
    found = record(icu, *given, "--columns", "lactate", capsys=capsys)
    assert found["result"]["environments_fitted"] == 3
    assert found["result"]["new_environments_above_at_most"] == pytest.approx(0.865, abs=1e-3)
    scenario = found["certificates"][0]
    assert scenario["inputs"]["environments for a bound of .1"] == 46
    assert verdicts(found)["uniform"] == "vacuous"
    found = record(icu, *given, "--columns", "lactate,sex,sodium", capsys=capsys)
    assert verdicts(found)["scenario"] == "vacuous"


@pytest.fixture
def flights(tmp_path):
    """Carriers by month as a categorical with empty levels, whole numbers among the columns."""
    X, y, env = hospitals(132, 60, seed=1)
    labels = [f"AA-{e:03d}" for e in range(192)]
    table = pd.DataFrame(
        {
            "dep_delay": np.round(10 * X[:, 0]).astype(int),
            "arr_delay": np.round(10 * y).astype(int),
            "carrier_month": pd.Categorical([labels[e] for e in env], categories=labels),
        }
    )
    path = tmp_path / "flights.parquet"
    table.to_parquet(path)
    return path


def test_a_good_run_holds(flights, tmp_path, capsys):
    given = (flights, "--target", "arr_delay", "--env", "carrier_month", "--test-env", "0.7")
    out = tmp_path / "out"
    found = record(*given, "--seed", "0", "--eps", "0.3", "--out", out, capsys=capsys)
    assert verdicts(found) == {"scenario": "holds", "split": "holds", "uniform": "vacuous"}
    conditions = {c["name"]: c for c in found["certificates"][0]["conditions"]}
    assert conditions["independent-draws"]["status"] == "unchecked"
    assert "months" in conditions["independent-draws"]["evidence"]
    assert pd.read_csv(out / "head.csv")["column"].tolist() == ["dep_delay", "intercept"]
    assert pd.read_csv(out / "environments.csv")["held_out"].sum() == 93
    assert len(pd.read_csv(out / "subsets.csv")) == 1
    assert (out / "picture.png").stat().st_size > 5000
    gate = ("--require", "holds", "--only", "scenario", "--seed", "0")
    assert whp(*given, *gate, capsys=capsys)[0] == 0
    assert whp(*given, "--require", "checked", "--seed", "0", capsys=capsys)[0] == 3


def test_labels_are_only_compared(flights, tmp_path, capsys):
    table = pd.read_parquet(flights)
    codes = table["carrier_month"].cat.codes + 1
    table = table.assign(carrier_month=codes.astype("int64"))
    path = tmp_path / "codes.parquet"
    table.to_parquet(path)
    given = ("--target", "arr_delay", "--env", "carrier_month", "--seed", "0")
    one, other = (record(p, *given, capsys=capsys)["result"] for p in (flights, path))
    assert one["epsilon"] == pytest.approx(other["epsilon"], rel=1e-9)


def test_a_row_id_is_no_environment(tmp_path, capsys):
    X, y, _ = hospitals(10, 1000)
    table = pd.DataFrame({"x": X[:, 0], "target": y, "env": np.arange(10_000)})
    path = tmp_path / "sites.parquet"
    table.to_parquet(path)
    code, _, err = whp(path, capsys=capsys)
    assert code == 2
    assert "env has 10,000 values in 10,000 rows" in err
    assert "not the row's id" in err


def test_nothing_admissible_does_not_open_a_gate(flights, capsys):
    given = (flights, "--target", "arr_delay", "--env", "carrier_month", "--eps", "1e-6")
    code, out, _ = whp(*given, "--require", "stands", capsys=capsys)
    assert code == 3
    assert "no subset has epsilon at most" in out.replace("\n", " ")


def test_blocks_and_order_are_columns(tmp_path, capsys):
    X, y, env = hospitals(48, 60)
    table = pd.DataFrame(X, columns=["a", "b"]).assign(target=y, env=env, month=env // 4, day=env)
    path = tmp_path / "table.csv"
    table.to_csv(path, index=False)
    given = ("--blocks", "month", "--order", "day", "--test-env", "0.5", "--seed", "1")
    found = record(path, *given, capsys=capsys)
    scenario = found["certificates"][0]
    assert scenario["inputs"]["blocks fitted"] == 6
    conditions = {c["name"]: c["status"] for c in scenario["conditions"]}
    assert conditions["independent-draws"] == "not refuted"


def test_help_stands_alone(capsys):
    code, out, _ = whp("--help", capsys=capsys)
    assert code == 0
    for option in ("--test-env", "--blocks", "--min-rows", "--eps", "--env", "--target"):
        assert option in out
