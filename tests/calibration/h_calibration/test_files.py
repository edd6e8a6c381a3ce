"""Files as users have them, through the command line."""

import json

import numpy as np
import pandas as pd
import pytest

from whp.cli import main
from whp.studies.h_calibration.worlds import labels_of, law


def whp(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main(["run", "h-calibration", *map(str, arguments), "--seed", "0"])
    captured = capsys.readouterr()
    return stop.value.code, captured.out, " ".join(captured.err.split())


def forest(n=2140, seed=0):
    """A hundred trees' votes on patients, several rows a patient."""
    rng = np.random.default_rng(seed)
    malignant = np.round(rng.beta(0.6, 0.9, n), 2)
    label = np.where(rng.random(n) < 0.1 + 0.8 * malignant, "M", "B")
    return pd.DataFrame(
        {
            "patient_id": rng.integers(1500, size=n),
            "p_benign": np.round(1 - malignant, 2),
            "p_malignant": malignant,
            "label": label,
        }
    )


def test_names_that_the_columns_do_not_have_are_asked_for(tmp_path, capsys):
    path = tmp_path / "scores.csv"
    forest().to_csv(path, index=False)
    code, _, err = whp(capsys, path, "--y", "label", "--groups", "patient_id")
    assert code == 2
    assert "y holds 'B', 'M', but the columns are p_benign, p_malignant" in err
    assert "alphabetical order is not assumed" in err


def test_patients_are_counted_and_ties_are_no_copies(tmp_path, capsys):
    path = tmp_path / "scores.csv"
    forest().to_csv(path, index=False)
    named = ["--y", "label", "--groups", "patient_id", "--classes", "B", "--classes", "M"]
    code, out, _ = whp(capsys, path, *named, "--json")
    assert code == 0
    certificates = {c["name"]: c for c in json.loads(out)["certificates"]}
    band = certificates["top-label-error"]
    assert band["verdict"] != "void"
    conditions = {c["name"]: c for c in band["conditions"]}
    assert "groups are counted" in conditions["independent-events"]["evidence"]
    assert conditions["no-near-copies"]["status"] == "unchecked"


def test_labels_named_as_the_columns_need_nothing_more(tmp_path, capsys):
    path = tmp_path / "scores.csv"
    table = forest().replace({"label": {"B": "benign", "M": "malignant"}})
    table.drop(columns="patient_id").to_csv(path, index=False)
    code, out, _ = whp(capsys, path, "--y", "label", "--json")
    assert code == 0
    assert json.loads(out)["result"]["inverse_temperature"] > 0


def test_a_score_that_may_be_either_is_asked_about(tmp_path, capsys):
    rng = np.random.default_rng(0)
    p = rng.random(570)
    path = tmp_path / "decision.csv"
    pd.DataFrame({"score": p, "y": (rng.random(570) < p).astype(int)}).to_csv(path, index=False)
    code, _, err = whp(capsys, path)
    assert code == 2
    assert "lies in [0, 1]: say from_probs=True" in err
    code, out, _ = whp(capsys, path, "--from-probs")
    assert code == 0
    assert "with 5 blocks a calibrated model needs about 1,500 certified rows" in " ".join(
        out.split()
    )


@pytest.mark.slow
def test_a_thousand_classes_are_decided_by_the_top_label(tmp_path, capsys):
    rng = np.random.default_rng(0)
    n, classes = 6000, 1000
    logits = rng.normal(size=(n, classes)).astype(np.float32)
    logits[np.arange(n), rng.integers(classes, size=n)] += 12
    P = np.exp(logits.astype(float))
    y = labels_of(P / P.sum(axis=1, keepdims=True), rng)
    path = tmp_path / "val_logits.npz"
    np.savez(path, logits=logits, y=y)
    code, out, _ = whp(capsys, path, "--epsilon", "0.05", "--json")
    assert code == 0
    verdicts = {c["name"]: c["verdict"] for c in json.loads(out)["certificates"]}
    assert verdicts["error-bound"] == "vacuous"
    assert verdicts["top-label-error"] in ("holds", "inconclusive")


def test_an_archive_of_logits(tmp_path, capsys):
    _, z, y = law(np.random.default_rng(0), [0.5] * 3, 900)
    np.savez(tmp_path / "scores.npz", logits=z.astype(np.float32), y=y)
    code, out, _ = whp(capsys, tmp_path / "scores.npz", "--window", "60", "--json")
    assert code == 0
    assert json.loads(out)["result"]["inverse_temperature"] == pytest.approx(0.5, rel=0.3)


def test_the_columns_that_are_scores_are_said(tmp_path, capsys):
    _, z, y = law(np.random.default_rng(0), [0.5] * 3, 400)
    table = pd.DataFrame(z, columns=["cat", "cow", "dog"]).assign(loss=0.5 + y / 9, y=y)
    path = tmp_path / "scores.csv"
    table.to_csv(path, index=False)
    code, out, _ = whp(capsys, path, "--drop", "loss")
    assert code == 0
    assert "read as: 400 rows; y from 'y'; logits from 'cat', 'cow', 'dog'; 'loss' left out" in out
    table.drop(columns="loss").join(pd.DataFrame(z, columns=list("abc"))).join(
        pd.DataFrame(z, columns=list("def"))
    ).to_csv(path, index=False)
    _, out, _ = whp(capsys, path, "--json")
    said = json.loads(out)["input"]["read_as"]
    assert said == ["400 rows; y from 'y'; logits from 'cat', 'cow', 'dog', 'a', … 'f' (9 columns)"]
