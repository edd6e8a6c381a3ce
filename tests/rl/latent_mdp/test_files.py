import json

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_wine

from whp.cli import main


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["run", "latent-mdp", *map(str, arguments)])
    out = capsys.readouterr()
    return ended.value.code, out.out, " ".join(out.err.split())


def wine():
    made = load_wine(as_frame=True)
    table = made.data.assign(label=made.target + 1)
    table.loc[3, "proline"] = np.nan
    table.loc[90, "proline"] = np.nan
    return table


def visits():
    """A cough and a fever, asked for in either order; the diagnosis in the last row."""
    rng = np.random.default_rng(0)
    rows = []
    for k in range(60):
        sick = k % 3 > 0
        results = {
            "cough": "yes" if rng.random() < (0.8 if sick else 0.2) else "no",
            "fever": "high" if rng.random() < (0.9 if sick else 0.1) else "none",
        }
        order = rng.permutation(list(results))
        for step, test in enumerate(order):
            last = step + 1 == len(order)
            rows.append((k, step, test, results[test], ("flu" if sick else "cold") if last else ""))
    return pd.DataFrame(rows, columns=["episode", "step", "test", "result", "diagnosis"])


def test_wine_with_missing_values(tmp_path, capsys):
    wine().assign(same=1.0).to_csv(tmp_path / "wine.csv", index=False)
    arguments = (tmp_path / "wine.csv", "--context", "label", "--queries", 2, "--seed", 1)
    code, out, err = run(capsys, *arguments, "--json", "--out", tmp_path / "out")
    made = json.loads(out)
    assert code == 0
    assert made["result"]["contexts"] == 3
    assert made["result"]["first"].startswith("ask ")
    assert 0.75 < made["result"]["right_of_rows_not_fitted"] <= 1
    told = " ".join(made.get("warnings", [err]))
    assert "'proline' is missing in 2 rows: a result of its own" in told
    assert "'same' is the same in all rows" in told
    plan = pd.read_csv(tmp_path / "out" / "plan.csv")
    assert plan["after"].iloc[0] == "(start)"
    assert plan["share"].iloc[0] == pytest.approx(1.0)
    again = run(capsys, *arguments, "--json")[1]
    assert json.loads(again)["result"] == made["result"]


def test_features_are_named_by_commas_or_one_by_one(tmp_path, capsys):
    wine().to_csv(tmp_path / "wine.csv", index=False)
    common = (tmp_path / "wine.csv", "--context", "label", "--seed", 1, "--json")
    one = run(capsys, *common, "--features", "alcohol,hue")[1]
    two = run(capsys, *common, "--features", "alcohol", "--features", "hue")[1]
    assert json.loads(one)["result"] == json.loads(two)["result"]
    accuracy = next(c for c in json.loads(one)["certificates"] if c["name"] == "accuracy")
    assert {c["name"]: c["status"] for c in accuracy["conditions"]}["half-not-seen"] == "unchecked"
    code, _, err = run(capsys, *common, "--features", "alcohl")
    assert code != 0
    assert "did you mean 'alcohol'" in err


def test_a_log_of_tests(tmp_path, capsys):
    visits().to_csv(tmp_path / "visits.csv", index=False)
    code, out, _ = run(
        capsys, tmp_path / "visits.csv", "--context", "diagnosis", "--seed", 0, "--json"
    )
    made = json.loads(out)
    assert code == 0
    assert made["result"]["first"] == "ask fever"
    assert made["result"]["right_of_rows_not_fitted"] > 0.6


def test_an_episode_without_a_diagnosis_is_refused(tmp_path, capsys):
    table = visits()
    table.loc[table["episode"] == 17, "diagnosis"] = ""
    table.to_csv(tmp_path / "visits.csv", index=False)
    common = (tmp_path / "visits.csv", "--context", "diagnosis", "--seed", 0)
    code, _, err = run(capsys, *common)
    assert code != 0
    assert "episode 17 has no diagnosis: the theorem needs the label of every episode" in err
    assert "on_missing='drop'" in err or "--on-missing drop" in err
    code, out, err = run(capsys, *common, "--on-missing", "drop")
    assert code == 0
    assert "1 of 60 episodes have no label and were left out" in " ".join((out + err).split())


def test_a_model_in_dollars(tmp_path, capsys):
    rng = np.random.default_rng(0)
    P = rng.dirichlet(np.ones(3), (2, 3, 2)).astype(np.float32)
    R = (250 * rng.random((2, 3, 2))).astype(np.float32)
    R[0, 0, 0] = 250
    R[0] = np.maximum(R[0], 250 * (R[0] > 240))
    P[0, 0, 0] = [1, 0, 0]
    np.savez(tmp_path / "model.npz", P=P, R=R, w=np.float32([0.4, 0.6]), nu=np.full((2, 3), 1 / 3))
    code, _, err = run(capsys, tmp_path / "model.npz", "--horizon", 3)
    assert code != 0
    assert "episode return can reach 750 > 1: pass reward_scale=750" in err
    common = (tmp_path / "model.npz", "--horizon", 3, "--reward-scale", 750, "--json")
    code, out, _ = run(capsys, *common, "--episodes", 50, "--seed", 0)
    made = json.loads(out)
    assert code == 0
    assert 100 < made["result"]["value"] <= 750
    assert [c["name"] for c in made["certificates"]] == ["plan", "regret"]
    assert made["result"]["regret_at_most"] > 750


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "context must name the column of labels"),
        (("--context", "labl"), "did you mean 'label'"),
        (("--context", "label", "--horizon", "3"), "horizon must go with a model"),
        (("--context", "label", "--bins", "1"), "bins"),
        (("--context", "alcohol"), "stands in one row alone"),
    ],
)
def test_what_is_refused(tmp_path, capsys, options, message):
    wine().to_csv(tmp_path / "wine.csv", index=False)
    code, _, err = run(capsys, tmp_path / "wine.csv", *options)
    assert code != 0
    assert message in err


def test_a_model_that_lacks_an_array(tmp_path, capsys):
    np.savez(tmp_path / "model.npz", P=np.full((1, 2, 1, 2), 0.5), R=np.zeros((1, 2, 1)))
    code, _, err = run(capsys, tmp_path / "model.npz", "--horizon", 3)
    assert code != 0
    assert "no array w, nu; they hold P, R" in err
