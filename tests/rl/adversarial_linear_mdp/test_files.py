import itertools
import json

import numpy as np
import pandas as pd
import pytest

from whp.cli import main


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["run", "adversarial-linear-mdp", *map(str, arguments)])
    return ended.value.code, capsys.readouterr()


AIRPORTS = ("JFK", "EWR", "LGA")


def slots(K=60, seed=0):
    """Two steps: an airport is chosen, then a carrier at it; episodes count from 1."""
    rng = np.random.default_rng(seed)
    rows = [
        (k, h, s, a, round(float(rng.random()), 3) if h == 2 else 0.0)
        for k, h, s, a in itertools.product(range(1, K + 1), (1, 2), AIRPORTS, (0, 1, 2))
    ]
    return pd.DataFrame(rows, columns=["episode", "step", "state", "action", "loss"])


def model(path, dtype=np.float64):
    P = np.zeros((1, 3, 3, 3))
    P[0] = 0.05 + 0.85 * np.eye(3)
    phi = np.broadcast_to(np.eye(9, dtype=int).reshape(3, 3, 9), (2, 3, 3, 9))
    P, init = P.astype(dtype), np.array([1.0, 0.0, 0.0], dtype)
    np.savez(path, P=P / P.sum(-1, keepdims=True), init=init, phi=phi)
    return path


def test_a_table_of_two_steps_with_names(tmp_path, capsys):
    slots().to_csv(tmp_path / "losses.csv", index=False)
    given = [f"losses={tmp_path / 'losses.csv'}", f"model={model(tmp_path / 'model.npz', 'f4')}"]
    code, out = run(capsys, *given, "--json", "--replays", 20, "--out", tmp_path / "out")
    made = json.loads(out.out)
    assert code == 0
    assert made["result"]["episodes"] == 60
    assert "0 'EWR', 1 'JFK', 2 'LGA'" in " ".join((out.err + out.out).split())
    policy = pd.read_csv(tmp_path / "out" / "policy.csv")
    assert set(policy["state"]) == set(AIRPORTS)
    assert np.allclose(policy.groupby(["step", "state"])["probability"].sum(), 1)
    assert (tmp_path / "out" / "curve.csv").exists()


def test_a_table_of_one_step_holds(tmp_path, capsys):
    rng = np.random.default_rng(0)
    K = 3000
    table = pd.DataFrame(
        {
            "episode": np.repeat(np.arange(K), 2),
            "action": np.tile(["bus", "train"], K),
            "loss": np.column_stack([rng.random(K) / 20, 1 - rng.random(K) / 20]).ravel(),
        }
    )
    table.to_csv(tmp_path / "losses.csv", index=False)
    given = (tmp_path / "losses.csv", "--require", "stands", "--seed", 0, "--json")
    code, out = run(capsys, *given)
    made = json.loads(out.out)
    assert code == 0, out.out
    assert made["verdicts"]["holds"] == 2


def test_a_log_of_choices(tmp_path, capsys):
    rng = np.random.default_rng(0)
    n = 6000
    action = rng.integers(12, size=n)
    log = pd.DataFrame(
        {
            "episode": np.arange(1, n + 1),
            "state": rng.choice(["old", "young"], size=n),
            "action": [f"page {a:02d}" for a in action],
            "loss": (rng.random(n) < np.where(action == 3, 0.2, 0.8)).astype(int),
        }
    )
    path = tmp_path / "log.csv"
    log.to_csv(path, index=False)
    code, out = run(capsys, path, "--tuning", "tuned", "--json", "--seed", 0)
    made = json.loads(out.out)
    assert code == 0
    assert made["result"]["episodes"] == 450  # nine tenths of 6,000/12
    assert "regret" not in made["result"]
    regret = made["certificates"][0]
    assert regret["measured"] is None
    log["action"] = np.where(rng.random(n) < 0.3, "page 03", log["action"])
    log.to_csv(path, index=False)
    code, out = run(capsys, path, "--json", "--seed", 0)
    regret = json.loads(out.out)["certificates"][0]
    assert regret["verdict"] == "void"
    assert [c["name"] for c in regret["conditions"] if c["status"] == "violated"][-1] == "world"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.assign(loss=t["loss"].astype(object).where(t.index != 20, "")),
            "episode 2, step 1, state JFK, action 2 has no loss: bandit updates need one for every step",
        ),
        (lambda t: t.assign(loss="much"), "column 'loss' must hold numbers, got much in row 0"),
        (lambda t: t.drop(index=50), "losses has no row for episode number 3"),
        (lambda t: pd.concat([t, t.iloc[:1]]), "losses has two rows for episode 1, step 1"),
        (
            lambda t: t.rename(columns={"loss": "los"}),
            "needs one column 'loss'; did you mean 'los'?",
        ),
        (
            lambda t: t[t["action"] == 1].drop_duplicates(["episode", "step"]),
            "is a log of one path",
        ),
        (lambda t: t.assign(state=t["state"].replace("LGA", "JFK2 ")), ""),
        (lambda t: t[t["state"] != "LGA"], "losses has 2 names in column 'state', and the model 3"),
        (lambda t: t.assign(action=t["action"] + 1), "action 3 is not in 0..2"),
    ],
)
def test_what_a_table_may_not_be(tmp_path, capsys, change, message):
    change(slots(5)).to_csv(tmp_path / "losses.csv", index=False)
    given = [f"losses={tmp_path / 'losses.csv'}", f"model={model(tmp_path / 'model.npz')}"]
    code, out = run(capsys, *given, "--replays", 2)
    told = " ".join((out.err + out.out).split())
    if message:
        assert code != 0
        assert message in told
    else:
        assert code == 0


def test_what_a_model_may_not_be(tmp_path, capsys):
    slots(5).to_csv(tmp_path / "losses.csv", index=False)
    P = np.full((1, 3, 3, 3), 0.3)
    for arrays, message in (
        ({"P": P, "init": [1, 0, 0]}, "sums to 0.9, and must sum to 1"),
        ({"Q": P, "init": [1, 0, 0]}, "model has an array 'Q'"),
        ({"init": [1, 0, 0]}, "model needs P and init"),
    ):
        np.savez(tmp_path / "model.npz", **arrays)
        given = [f"losses={tmp_path / 'losses.csv'}", f"model={tmp_path / 'model.npz'}"]
        code, out = run(capsys, *given)
        assert code != 0
        assert message in " ".join(out.err.split())
    code, out = run(capsys, tmp_path / "losses.csv")
    assert code != 0
    assert "model must be given" in " ".join(out.err.split())
