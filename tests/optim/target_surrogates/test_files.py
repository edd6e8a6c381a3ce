"""Files as users have them, through the command line."""

import json

import numpy as np
import pandas as pd
import pytest

from whp.cli import main


def whp(*arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["run", "target-surrogates", *map(str, arguments)])
    captured = capsys.readouterr()
    return stop.value.code, captured.out, captured.err


def claims(n=900):
    rng = np.random.default_rng(0)
    regions = np.array(["north", "south", "east", "west", "n-e", "n-w", "s-e", "s-w", "centre"])
    table = pd.DataFrame(
        {"region": regions[rng.integers(9, size=n)], "age": rng.integers(60, 75, n)}
    )
    return table.assign(amount=1000 + table["age"] + 0.1 * rng.normal(size=n))


def test_an_intercept_stays_free_and_columns_have_names(tmp_path, capsys):
    path, out = tmp_path / "claims.csv", tmp_path / "out"
    claims().to_csv(path, index=False)
    options = ("--target", "amount", "--alpha", 1, "--no-compare", "--json", "--out", out)
    code, shown, _ = whp(path, *options, capsys=capsys)
    assert code == 0
    assert json.loads(shown)["result"]["loss"] == "squared"
    named = pd.read_csv(out / "coefficients.csv").set_index("column")["coefficient"]
    assert len(named) == 10
    # Shrunk slopes leave some of the age to the intercept; it is not halved.
    assert 1000 <= named["intercept"] <= 1005
    assert "region_south" in named


def test_an_ordinary_run_holds(tmp_path, capsys):
    table = claims()
    table["amount"] = np.where(
        table["age"] + np.random.default_rng(1).normal(0, 4, 900) > 67, "yes", "no"
    )
    path = tmp_path / "yes.csv"
    table.to_csv(path, index=False)
    # Raw columns make the bound on gradients vacuous, as it says; the surrogate is what to gate on.
    gate = ("--only", "majorisation", "--require", "holds")
    code, shown, _ = whp(path, "--target", "amount", *gate, capsys=capsys)
    assert code == 0
    assert "holds" in shown


def test_whole_numbers_are_classes_only_if_said(tmp_path, capsys):
    path = tmp_path / "ages.csv"
    claims().drop(columns="amount").to_csv(path, index=False)
    for options, loss in (((), "squared"), (("--loss", "softmax"), "softmax")):
        run = (path, "--target", "age", "--max-iter", 5, "--json", *options)
        code, shown, _ = whp(*run, capsys=capsys)
        assert code == 0
        assert json.loads(shown)["result"]["loss"] == loss


def test_rows_without_a_label_are_refused(tmp_path, capsys):
    rng = np.random.default_rng(0)
    label = np.where(rng.random(200) < 0.2, None, np.where(rng.random(200) < 0.5, "a", "b"))
    path = tmp_path / "reviews.parquet"
    pd.DataFrame({"x": rng.normal(size=200), "label": label}).to_parquet(path)
    code, _, told = whp(path, "--target", "label", capsys=capsys)
    assert code != 0
    assert "missing values" in told
    assert "label" in told


def test_counts_have_no_certificate_but_losses(tmp_path, capsys):
    rng = np.random.default_rng(0)
    x = rng.normal(size=300)
    path = tmp_path / "counts.csv"
    pd.DataFrame({"x": x, "y": rng.poisson(400 * np.exp(0.5 * x))}).to_csv(path, index=False)
    run = (path, "--target", "y", "--loss", "poisson", "--json")
    code, shown, _ = whp(*run, capsys=capsys)
    assert code == 0
    made = json.loads(shown)
    assert {c["verdict"] for c in made["certificates"]} == {"void"}
    assert made["result"]["function_values"] > 0


def test_columns_beyond_all_scales_are_named(tmp_path, capsys):
    path = tmp_path / "far.npz"
    np.savez(path, X=1e150 * np.ones((20, 2)), y=np.arange(20.0))
    code, _, told = whp(path, capsys=capsys)
    assert code != 0
    assert "X reaches 1e+150; scale it" in told
