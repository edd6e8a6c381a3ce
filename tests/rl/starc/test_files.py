import json

import numpy as np
import pandas as pd
import pytest
from finite_mdps import BY_STATE, WARD, by_pair, drawn

from whp.cli import main


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["run", "starc", *map(str, arguments)])
    return ended.value.code, capsys.readouterr()


def test_arrays_of_single_precision(tmp_path, capsys):
    rng = np.random.default_rng(0)
    P = rng.dirichlet(np.ones(48), (48, 4)).astype(np.float32)
    first = rng.normal(size=48).astype(np.float32)
    path = tmp_path / "model.npz"
    np.savez(path, transitions=P, reward1=first, reward2=first + 0.1 * rng.normal(size=48))
    code, out = run(capsys, path, "--discount", "0.95", "--json")
    made = json.loads(out.out)
    assert code == 0
    assert made["result"]["states"] == 48
    assert made["result"]["start"] == "all states alike"
    assert made["verdicts"]["holds"] >= 4


def test_tables_with_text_ids(tmp_path, capsys):
    files = {"counts": WARD, "reward1": BY_STATE, "reward2": by_pair()}
    for name, table in files.items():
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    given = [f"{name}={tmp_path / name}.csv" for name in files]
    out_dir = tmp_path / "out"
    code, out = run(capsys, *given, "--discount", "0.9", "--json", "--out", out_dir)
    made = json.loads(out.out)
    assert code == 0
    assert [c["name"] for c in made["certificates"]][-1] == "world"
    pairs = pd.read_csv(out_dir / "pairs.csv")
    assert set(pairs["state"]) == {"ICU", "home", "ward"}
    by_pair(state="ward", action="discharge").to_csv(tmp_path / "reward2.csv", index=False)
    code, out = run(capsys, *given, "--discount", "0.9")
    assert code != 0
    assert "reward2 has no value at state 'ward', action 'discharge' (visited 41 times)" in (
        " ".join(out.err.split())
    )


def test_states_from_1_are_refused(tmp_path, capsys):
    rng = np.random.default_rng(0)
    rows = [(s, a, (s + a) % 16 + 1, 1.0) for s in range(1, 17) for a in (0, 1)]
    table = pd.DataFrame(rows, columns=["state", "action", "next_state", "p"])
    table.to_csv(tmp_path / "transitions.csv", index=False)
    for name in ("reward1", "reward2"):
        pd.DataFrame({"state": range(1, 17), "value": rng.normal(size=16)}).to_csv(
            tmp_path / f"{name}.csv", index=False
        )
    given = [f"{n}={tmp_path / n}.csv" for n in ("transitions", "reward1", "reward2")]
    code, out = run(capsys, *given, "--discount", "0.9")
    assert code != 0
    assert "hold 1..16 but 16 of them are numbered 0..15: subtract 1, or pass text ids" in (
        " ".join(out.err.split())
    )


def test_an_environment_by_name(tmp_path, capsys):
    _, _, r = drawn(np.random.default_rng(0), 16, 4)
    np.save(tmp_path / "reward2.npy", r)
    code, out = run(
        capsys,
        f"reward2={tmp_path / 'reward2.npy'}",
        "--env",
        "FrozenLake-v1",
        "--discount",
        ".9",
        "--json",
    )
    assert code == 0
    assert json.loads(out.out)["result"]["states"] == 16


@pytest.mark.parametrize("missing", ["reward1", "reward2", "transitions"])
def test_what_is_missing_is_named(tmp_path, capsys, missing):
    P, a, b = drawn(np.random.default_rng(0), 3, 2)
    arrays = {"reward1": a, "reward2": b, "transitions": P}
    del arrays[missing]
    np.savez(tmp_path / "model.npz", **arrays)
    code, out = run(capsys, tmp_path / "model.npz", "--discount", "0.9")
    assert code != 0
    assert missing in out.err
