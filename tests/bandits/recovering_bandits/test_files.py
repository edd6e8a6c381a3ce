"""Files as people have them: curves with names, a log with weeks, a mistyped column."""

import json

import numpy as np
import pandas as pd
import pytest

from whp.cli import main


def whp(*arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(["run", "recovering-bandits", *map(str, arguments)])
    captured = capsys.readouterr()
    return end.value.code, captured.out, captured.err


@pytest.fixture
def log(tmp_path):
    """A year and a half of promotions, weeks as ISO writes them."""
    rng = np.random.default_rng(0)
    rows = []
    for sku, best in (("tea", 3.0), ("coffee", 5.0), ("NA", 4.0)):
        week = pd.Timestamp("2016-12-26")
        while week < pd.Timestamp("2020-06-30"):
            gap = int(rng.integers(1, 4))
            week += pd.Timedelta(weeks=gap)
            year, number, _ = week.isocalendar()
            paid = best * (1 - 0.4**gap) + 0.1 * rng.standard_normal()
            rows.append((sku, f"{year}-W{number:02d}", round(paid, 3)))
    path = tmp_path / "promo.csv"
    pd.DataFrame(rows, columns=["sku", "week", "uplift"]).to_csv(path, index=False)
    return path


def test_curves_with_names(tmp_path, capsys):
    path = tmp_path / "curves.csv"
    header = ",".join(["exercise", *map(str, range(1, 15))])
    rows = [
        ",".join([name, *(f"{best * (1 - 0.7**d):.4f}" for d in range(1, 15))])
        for name, best in (("squats", 1.0), ("rows", 0.9), ("007", 0.8))
    ]
    path.write_text("\n".join([header, *rows]) + "\n")
    code, out, err = whp(path, "--k", 1, "--out", tmp_path / "out", capsys=capsys)
    assert code == 0, err
    plan = pd.read_csv(tmp_path / "out" / "plan.csv", dtype=str)
    assert plan["arm"].tolist() == ["squats", "rows", "007"]
    assert "holds" in out
    assert "events" not in out


def test_a_log_with_weeks(log, tmp_path, capsys):
    names = ("--arm", "sku", "--time", "week", "--reward", "uplift")
    code, out, err = whp(log, *names, "--d", 3, "--json", capsys=capsys)
    assert code == 0, err
    made = json.loads(out)
    verdicts = {c["name"]: c["verdict"] for c in made["certificates"]}
    assert verdicts["loss"] == "holds"
    assert "long-run-loss" in verdicts
    code, *_ = whp(log, *names, "--d", 3, "--require", "holds", capsys=capsys)
    assert code == 3, "what holds of the fit does not hold"
    curves = tmp_path / "out"
    whp(log, *names, "--d", 3, "--out", curves, capsys=capsys)
    fitted = pd.read_csv(curves / "curves.csv", keep_default_na=False)
    assert set(fitted["arm"]) == {"tea", "coffee", "NA"}
    row = fitted[(fitted["arm"] == "coffee") & (fitted["gap"] == 2)]
    assert row["fitted"].item() == pytest.approx(5 * (1 - 0.4**2), abs=0.1)


def test_a_mistyped_column(log, capsys):
    code, _, err = whp(log, "--arm", "sku", "--time", "week", "--reward", "upliftt", capsys=capsys)
    assert code == 2
    assert "no column 'upliftt'; did you mean 'uplift'?" in err
    code, _, err = whp(log, capsys=capsys)
    assert code == 2
    assert "table must hold a log" in err


def test_a_log_with_dates(log, capsys):
    table = pd.read_csv(log, keep_default_na=False)
    table["week"] = [
        pd.Timestamp.fromisocalendar(int(w[:4]), int(w[-2:]), 3) for w in table["week"]
    ]
    table.to_csv(log, index=False)
    names = ("--arm", "sku", "--time", "week", "--reward", "uplift", "--d", 3)
    code, _, err = whp(log, *names, capsys=capsys)
    assert code == 2
    assert "say how long a period is" in err
    code, out, err = whp(log, *names, "--every", "week", capsys=capsys)
    assert code == 0, err
    assert "holds" in out
