"""Files as users have them, through the command line."""

import json

import numpy as np
import pandas as pd
import pytest

from whp.cli import main


def whp(*arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["run", "linf-regression", *map(str, arguments)])
    captured = capsys.readouterr()
    return stop.value.code, captured.out, captured.err


@pytest.fixture
def houses(tmp_path):
    rng = np.random.default_rng(0)
    n = 3000
    table = pd.DataFrame(
        {
            "sqft_above": rng.integers(500, 4000, n),
            "sqft_basement": rng.integers(0, 1500, n) * (rng.random(n) < 0.4),
            "bedrooms": rng.integers(1, 7, n),
            "yr_built": rng.integers(1900, 2016, n),
            "lat": 47.5 + 0.14 * rng.standard_normal(n),
            "waterfront": (rng.random(n) < 0.01).astype(int),
        }
    )
    effects = 200 * table["sqft_above"] + 150 * table["sqft_basement"] + 5e5 * table["waterfront"]
    table["price"] = (effects + 1e5 * rng.standard_t(4, n) + 3e5).round()
    path = tmp_path / "houses.csv"
    table.to_csv(path, index=False)
    return path


def test_house_prices_are_solved_exactly_each_with_its_rounding(houses, tmp_path, capsys):
    out = tmp_path / "out"
    run = (houses, "--target", "price", "--require", "checked", "--out", out)
    code, shown, _ = whp(*run, capsys=capsys)
    assert code == 0
    assert "exactly, which is cheaper here than a sketch" in shown
    assert "exact-solution" in shown
    assert "sqft_above" in shown
    table = pd.read_csv(out / "coefficients.csv").set_index("name")
    width = table["high"] - table["low"]
    assert (width > 0).all()
    assert (width < 1e-6 * table["statistical_stderr"]).all()
    assert abs(table.loc["sqft_above", "coefficient"] - 200) < 10


def test_a_column_that_is_a_sum_of_others_is_named(houses, capsys):
    table = pd.read_csv(houses)
    table["sqft_living"] = table["sqft_above"] + table["sqft_basement"]
    table.to_csv(houses, index=False)
    for rows in ((), ("--rows", 400)):
        code, _, err = whp(houses, "--target", "price", *rows, capsys=capsys)
        assert code == 2
        assert "A has rank 7 < d = 8; drop dependent columns: sqft_" in err


def test_numbers_that_hardly_vary_are_named_beside_the_intercept(houses, capsys):
    table = pd.read_csv(houses)
    table.insert(0, "id", 2**60 + np.arange(len(table)))
    table.to_csv(houses, index=False)
    code, _, err = whp(houses, "--target", "price", capsys=capsys)
    assert code == 2
    assert "or as many others among intercept, id" in err


def test_coefficients_printed_to_four_digits_are_not_the_exact_solution(houses, tmp_path, capsys):
    table = pd.read_csv(houses)
    A = table.drop(columns="price").assign(intercept=1.0)
    exact = np.linalg.lstsq(A, table["price"])[0]
    A.to_csv(tmp_path / "A.csv", index=False)
    table[["price"]].to_csv(tmp_path / "b.csv", index=False)
    for digits, verdict in ((4, "void"), (17, "holds")):
        printed = pd.Series([f"{v:.{digits}g}" for v in exact], name="x")
        printed.to_csv(tmp_path / "x.csv", index=False)
        files = (tmp_path / "A.csv", tmp_path / "b.csv", f"x_exact={tmp_path / 'x.csv'}")
        code, out, _ = whp(*files, "--rows", 400, "--seed", 1, "--json", capsys=capsys)
        assert code == 0
        first = json.loads(out)["certificates"][0]
        assert first["verdict"] == verdict
    _, out, _ = whp(*files[:2], "--rows", 400, "--seed", 1, "--json", capsys=capsys)
    assert json.loads(out)["certificates"][0]["verdict"] == "unmeasured"


def test_a_log_sorted_by_day_has_bars_as_wide_as_its_blocks_are_uneven(tmp_path, capsys):
    rng = np.random.default_rng(0)
    n = 16_384
    day = np.sort(rng.integers(0, 365, n))
    load = np.exp(day / 80)  # traffic grows through the year, and its noise with it
    table = pd.DataFrame({f"m{j}": load * rng.standard_normal(n) for j in range(12)})
    table["latency"] = table.sum(axis=1) + load * rng.standard_normal(n)
    path = tmp_path / "log.parquet"
    table.to_parquet(path)
    run = (path, "--target", "latency", "--rows", 1024, "--block-rows", 2048, "--seed", 2)
    code, out, _ = whp(*run, "--measure", capsys=capsys)
    assert code == 0
    assert "bars wider for uneven blocks" in out
    assert "holds, given 2 unchecked" in out
    _, out, _ = whp(*run, "--json", capsys=capsys)
    record = json.loads(out)
    assert record["certificates"][0]["verdict"] == "unmeasured"
    assert 1.3 < record["result"]["bars_wider_for_uneven_blocks"] < 3


def test_weights_come_from_a_column(houses, capsys):
    table = pd.read_csv(houses)
    table["weight"] = np.arange(len(table)) % 3
    table.to_csv(houses, index=False)
    run = (houses, "--target", "price", "--sample-weight", "weight", "--json")
    code, out, _ = whp(*run, capsys=capsys)
    assert code == 0
    assert json.loads(out)["result"]["columns_of_A"] == 7


def test_a_column_that_is_taken_for_weights_is_named(houses, capsys):
    table = pd.read_csv(houses)
    table["sample_weight"] = 1.0
    table.to_csv(houses, index=False)
    _, out, _ = whp(houses, "--target", "price", capsys=capsys)
    assert "sample_weight from 'sample_weight'" in " ".join(out.split())
