import json

import numpy as np
import pandas as pd
import pytest
from comp_sum import labels_of

from whp.cli import main


@pytest.fixture
def law():
    rng = np.random.default_rng(0)
    P = rng.dirichlet(np.full(3, 0.5), 3000)
    return rng, P, np.log(P) + 0.3 * rng.normal(size=P.shape), labels_of(P, rng)


def run(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        main(["run", "comp-sum-losses", *map(str, words), "--json"])
    shown = capsys.readouterr()
    return stop.value.code, shown


def result(capsys, *words):
    code, shown = run(capsys, *words)
    assert code == 0, shown.err
    return json.loads(shown.out)


def test_logits_with_impossible_classes(law, tmp_path, capsys):
    _, _, z, y = law
    wide = np.column_stack([z, np.full(len(z), -np.inf)]).astype(np.float32)
    np.savez(tmp_path / "val.npz", logits=wide, y=y)
    found = result(capsys, tmp_path / "val.npz")
    assert found["certificates"][0]["verdict"] == "vacuous"
    assert found["result"]["error"] == found["result"]["excess_error_counted"]


def test_votes_beside_scores(law, tmp_path, capsys):
    rng, P, z, y = law
    np.savez(tmp_path / "votes.npz", logits=z, y=y, conditional=rng.multinomial(5, P))
    found = result(capsys, tmp_path / "votes.npz")
    assert "votes of 5 a row" in found["result"]["read_as"]
    assert found["certificates"][0]["measured"] is None


def test_labels_as_text_go_by_the_columns_names(law, tmp_path, capsys):
    _, _, z, y = law
    names = np.array(["ant", "bee", "cat"])
    table = pd.DataFrame(z, columns=[f"z_{n}" for n in names]).assign(label=names[y])
    table.to_csv(tmp_path / "preds.csv", index=False)
    found = result(capsys, tmp_path / "preds.csv", "--y", "label")
    np.savez(tmp_path / "same.npz", logits=z, y=y)
    assert found["result"]["error"] == result(capsys, tmp_path / "same.npz")["result"]["error"]


def test_probabilities_are_said_to_be_read_as_such(law, tmp_path, capsys):
    _, P, _, y = law
    table = pd.DataFrame(P, columns=["p_0", "p_1", "p_2"]).assign(y=y)
    table.to_csv(tmp_path / "preds.csv", index=False)
    assert result(capsys, tmp_path / "preds.csv")["result"]["read_as"] == "probabilities"
    table.assign(y=y + 1).to_csv(tmp_path / "from_one.csv", index=False)
    code, shown = run(capsys, tmp_path / "from_one.csv")
    assert code != 0
    assert "classes" in shown.err


def test_clean_labels_beside_noisy_ones(law, tmp_path, capsys):
    rng = np.random.default_rng(1)
    clean = rng.integers(0, 3, 3000)
    y = np.where(rng.random(3000) < 0.3, (clean + rng.integers(1, 3, 3000)) % 3, clean)
    z = 4.0 * np.eye(3)[clean] + 0.1 * rng.normal(size=(3000, 3))
    table = pd.DataFrame(z, columns=["z_0", "z_1", "z_2"]).assign(y=y, y_clean=clean)
    table.to_csv(tmp_path / "noisy.csv", index=False)
    found = result(capsys, tmp_path / "noisy.csv", "--noise", 0.3, "--y-clean", "y_clean")
    assert found["certificates"][0]["verdict"] == "holds"
