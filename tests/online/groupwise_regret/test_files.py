"""Files as people have them, through the command line."""

import json

import numpy as np
import pandas as pd
import pytest

from whp.cli import main


def whp(*arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["run", "groupwise-regret", *map(str, arguments)])
    captured = capsys.readouterr()
    return stop.value.code, captured.out, captured.err


@pytest.fixture
def claims(tmp_path):
    rng = np.random.default_rng(0)
    n = 600
    table = pd.DataFrame(
        {
            "sex": rng.choice(["f", "m"], n),
            "race": rng.choice(["a", "b", ""], n, p=[0.6, 0.3, 0.1]),
            "age": rng.integers(20, 90, n),
            "chronic": rng.integers(0, 5, n),
        }
    )
    table["cost"] = 2 + 0.05 * table["age"] + table["chronic"] * (table["sex"] == "f")
    path = tmp_path / "claims.csv"
    table.to_csv(path, index=False)
    return path


def test_groups_by_columns_of_the_file(claims, tmp_path, capsys):
    out = tmp_path / "out"
    given = ("--target", "cost", "--groups", "sex,age:65:75", "--drop", "race", "--out", out)
    code, _, err = whp(claims, *given, capsys=capsys)
    assert code == 0, err
    groups = pd.read_csv(out / "groups.csv")
    assert groups["group"].tolist()[:2] == ["sex = f", "sex = m"]
    assert (groups["regret"] <= groups["bound"]).all()
    _, told, _ = whp(claims, *given[:-2], "--json", capsys=capsys)
    assert "read from the data" in told
    assert pd.read_csv(out / "predictions.csv")["row"].tolist() == list(range(600))


def test_a_class_as_target(tmp_path, capsys):
    rng = np.random.default_rng(0)
    rows = [
        {
            "clicked": str(rng.choice(["yes", "no"])),
            "site": str(rng.choice(["a", "b"])),
            "x": 0.1 * i,
        }
        for i in range(60)
    ]
    path = tmp_path / "stream.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    code, out, err = whp(path, "--target", "clicked", "--groups", "site", "--json", capsys=capsys)
    assert code == 0, err
    assert json.loads(out)["result"]["groups"] == 3


def test_a_column_that_is_not_there(claims, capsys):
    given = ("--target", "cost", "--groups", "rase", "--drop", "race")
    code, _, err = whp(claims, *given, capsys=capsys)
    assert code == 2
    assert "groups must name columns of X, which 'rase' is not" in err
