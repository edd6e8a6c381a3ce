"""Files as users have them, through the command line."""

import json

import numpy as np
import pandas as pd
import pytest

from whp.cli import main


def whp(*arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["run", "lp-sensitivity-sampling", *map(str, arguments)])
    captured = capsys.readouterr()
    return stop.value.code, captured.out, captured.err


def trips(n):
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "distance": rng.lognormal(1, 0.8, n),
            "minutes": rng.lognormal(2.5, 0.6, n),
            "passengers": rng.integers(1, 5, n),
            "airport": (rng.random(n) < 0.03).astype(int),
        }
    )
    fare = 3 + 2 * table["distance"] + 0.4 * table["minutes"] + 40 * table["airport"]
    return table.assign(fare=(fare + rng.standard_t(2, n)).round(2))


def test_trips_are_regressed_on_a_coreset_and_the_gap_holds(tmp_path, capsys):
    path, out = tmp_path / "trips.parquet", tmp_path / "out"
    trips(60_000).to_parquet(path)
    demand = ("--gap", 0.05, "--require", "holds", "--only", "optimality-gap")
    run = (path, "--target", "fare", "--p", 1, *demand, "--json", "--out", out)
    code, shown, _ = whp(*run, capsys=capsys)
    assert code == 0
    verdicts = {c["name"]: c["verdict"] for c in json.loads(shown)["certificates"]}
    assert verdicts["optimality-gap"] == "holds"
    assert verdicts["subspace-embedding"] == "unmeasured"
    coreset = pd.read_csv(out / "coreset.csv")
    assert 1000 < len(coreset) < 30_000
    assert coreset["weight"].min() >= 1
    effects = pd.read_csv(out / "coefficients.csv").set_index("name")["coefficient"]
    assert effects["distance"] == pytest.approx(2, abs=0.05)
    assert effects["airport"] == pytest.approx(40, abs=0.5)


def test_a_small_table_is_solved_whole_and_everything_holds(tmp_path, capsys):
    path = tmp_path / "houses.csv"
    trips(312).to_csv(path, index=False)
    code, shown, _ = whp(path, "--target", "fare", "--require", "holds", capsys=capsys)
    assert code == 0
    assert "all rows kept" in shown
    assert "fails" not in shown


def test_a_date_in_seconds_as_the_target_gives_the_slopes_of_one_less_a_constant(tmp_path, capsys):
    table = trips(3000)
    slopes = []
    for start in (0, 1_700_000_000):
        table["when"] = (table["fare"] * 60 + start).round()
        path, out = tmp_path / "sales.csv", tmp_path / f"out{start}"
        table.drop(columns="fare").to_csv(path, index=False)
        run = (path, "--target", "when", "--rows", 600, "--seed", 0, "--out", out)
        assert whp(*run, capsys=capsys)[0] == 0
        slopes.append(pd.read_csv(out / "coefficients.csv").set_index("name")["coefficient"])
    first, second = (s.drop("intercept", errors="ignore") for s in slopes)
    np.testing.assert_allclose(second, first, atol=1e-3)


def test_a_word_among_numbers_is_named(tmp_path, capsys):
    table = trips(500).astype({"minutes": object})
    table.loc[16, "minutes"] = "n/a"
    path = tmp_path / "trips.csv"
    table.to_csv(path, index=False)
    code, _, err = whp(path, "--target", "fare", capsys=capsys)
    assert code != 0
    assert "minutes" in err
    assert "n/a" in err


def test_a_quantile_with_another_power_is_refused(tmp_path, capsys):
    path = tmp_path / "trips.csv"
    trips(500).to_csv(path, index=False)
    code, _, err = whp(path, "--target", "fare", "--quantile", 0.9, "--p", 2, capsys=capsys)
    assert code != 0
    assert "quantile needs p = 1" in err
