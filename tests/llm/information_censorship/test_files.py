"""Files as people have them: a knowledge base, patients with an id, archives of probabilities."""

import json

import numpy as np
import pandas as pd
import pytest

from whp.cli import main


def whp(*arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(["run", "information-censorship", *map(str, arguments)])
    captured = capsys.readouterr()
    return end.value.code, captured.out, captured.err


@pytest.fixture
def base(tmp_path):
    """41 diseases, a dozen symptoms, some unknown, prevalence in per cent."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        rng.choice(["yes", "no", ""], (41, 12)), columns=[f"symptom {j}" for j in range(12)]
    )
    table.insert(0, "disease", [*(f"disease {i}" for i in range(40)), "HIV"])
    table["prevalence"] = rng.dirichlet(np.ones(41)).round(4) * 100
    path = tmp_path / "kb.csv"
    table.to_csv(path, index=False)
    return path


def test_a_knowledge_base(base, tmp_path, capsys):
    asked = ",".join(f"symptom {j}" for j in range(5))
    options = (
        "--target",
        "disease",
        "--impermissible",
        "HIV",
        "--prior",
        "prevalence",
        "--ask",
        asked,
        "--k",
        3,
    )
    code, out, err = whp(
        base,
        *options,
        "--eps",
        0.005,
        "--calibrate",
        "exact",
        "--out",
        tmp_path / "out",
        capsys=capsys,
    )
    assert code == 0, err
    assert "prior divided by its sum" in " ".join(out.split())
    questions = pd.read_csv(tmp_path / "out" / "questions.csv")
    assert questions["responses"].max() == 3
    assert json.loads((tmp_path / "out" / "censor.json").read_text())["k"] == 3
    code, _, err = whp(base, *options, "--calibrate", "exact", "--max-cells", 50, capsys=capsys)
    assert code == 2
    assert "calibrate='answers'" in err


def test_a_label_that_is_not_there(base, capsys):
    code, _, err = whp(
        base,
        "--target",
        "disease",
        "--impermissible",
        "hiv",
        "--prior",
        "prevalence",
        capsys=capsys,
    )
    assert code == 2
    assert "impermissible has 'hiv'" in err
    assert "did you mean 'HIV'" in err


def test_patients_are_a_sample(tmp_path, capsys):
    rng = np.random.default_rng(0)
    n = 812
    table = pd.DataFrame(
        {
            "patient_id": np.arange(n) + 1000,
            "sex": rng.integers(0, 2, n),
            "target": rng.integers(1, 3, n),
        }
    )
    path = tmp_path / "patients.csv"
    table.to_csv(path, index=False)
    code, out, _ = whp(path, "--json", capsys=capsys)
    assert code == 0
    record = json.loads(out)
    assert any("looks like a sample" in w for w in record["warnings"])
    assert record["result"]["most_telling_question"].startswith("patient_id")
    code, out, _ = whp(path, "--json", "--rows", "sample", "--priors", "any", capsys=capsys)
    record = json.loads(out)
    assert record["result"]["at_most_ever"] == pytest.approx(np.log(2))
    assert (
        record["verdicts"] == {"unmeasured": 1, "holds": 1}
        or record["verdicts"].get("unmeasured") == 1
    )


def test_archives_of_probabilities(tmp_path, capsys):
    rng = np.random.default_rng(0)
    path = tmp_path / "probs.npz"
    laws = {f"question {j}": rng.dirichlet(np.ones(3), 8).astype(np.float32) for j in range(3)}
    np.savez(path, target=np.arange(8) % 2, prior=np.arange(1.0, 9.0), **laws)
    code, out, err = whp(path, "--eps", 0.02, "--calibrate", "exact", "--json", capsys=capsys)
    assert code == 0, err
    record = json.loads(out)
    assert record["result"]["questions"] == 3
    assert record["result"]["leakage"] == pytest.approx(0.02, abs=1e-6)
    laws["question 2"][7] *= 0.93
    np.savez(path, target=np.arange(8) % 2, **laws)
    code, _, err = whp(path, capsys=capsys)
    assert code == 2
    assert (
        "channels[question 2] row 7 sums to 0.93: every row must be the probabilities"
        in " ".join(err.split())
    )


def test_the_built_in_example(capsys):
    code, out, err = whp("--require", "holds", "--only", "leakage", capsys=capsys)
    assert code == 0, err
    assert "leakage" in out
