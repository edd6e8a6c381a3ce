import numpy as np
import pandas as pd
import pytest
from trial import assert_flat_and_repeatable, judged

from whp.experiment.study import Outcome, load
from whp.studies.checkfree import claims, experiments
from whp.studies.checkfree.claims import CLAIMS

study = load("checkfree")

RULE = {"experiment": "rules", "rate": 0.1, "steps": 6}
JUMPS = {"experiment": "jumps", "steps": 3, "later": 1}


@pytest.fixture(scope="module")
def records():
    """Made up as the paper has it: what a trial returns is checked elsewhere."""
    rng = np.random.default_rng(0)
    order = {
        "none": 1.65,
        "grad": 1.71,
        "uniform": 1.72,
        "copy": 1.73,
        "random": 1.85,
        "checkpoint": 2.1,
        "swaps": 1.68,
    }
    rows = []
    for seed in range(4):
        noise = lambda: 0.001 * rng.normal()  # noqa: E731
        for how, loss in order.items():
            rate = 0.0 if how in ("none", "swaps") else 0.006
            rows.append(
                {
                    "experiment": "rules",
                    "how": how,
                    "rate": rate,
                    "seed": seed,
                    "loss": loss + noise(),
                }
            )
        for rate, slow in ((0.003, 1.1), (0.006, 1.3), (0.012, 2.5)):
            for how in ("grad", "plus"):
                rows += curve(
                    "rates" if rate != 0.006 or how == "plus" else "rules", how, rate, seed, slow
                )
        rows += curve("rules", "none", 0.0, seed, 1.0)
        rows += curve("rules", "checkpoint", 0.006, seed, 3.0)
        for stage in (0, 1, 4, 5):
            for rule, jump in (("grad", 0.1), ("random", 0.2)):
                rows.append(
                    {
                        "experiment": "rules",
                        "how": "swaps",
                        "rate": 0.0,
                        "seed": seed,
                        "stage": stage,
                        "rule": rule,
                        "jump": jump + noise(),
                    }
                )
        rows.append(
            {
                "experiment": "rules",
                "how": "swaps",
                "rate": 0.0,
                "seed": seed,
                "twins": 1.1 + noise(),
                "strangers": 1.2,
            }
        )
        for stage in experiments.INNER:
            for rule, jump in (
                ("grad", 0.2),
                ("uniform", 0.2),
                ("copy", 0.25),
                ("skip", 0.23),
                ("random", 0.3),
            ):
                rows.append(
                    {
                        "experiment": "jumps",
                        "seed": seed,
                        "stage": stage,
                        "rule": rule,
                        "jump": jump + noise(),
                        "later": jump / 10 + noise(),
                    }
                )
        for mode, seconds in (
            ("checkfree", 1.0),
            ("checkfree+", 1.05),
            ("redundant", 1.7),
            ("checkpoint", 1.1),
        ):
            rows.append(
                {
                    "experiment": "times",
                    "mode": mode,
                    "seed": seed,
                    "iteration_seconds": (mean := seconds + noise()),
                    "mean_seconds": mean,
                }
            )
        for spares, seconds in ((1, 0.1), (0, 0.5)):
            rows += [
                {
                    "experiment": "kills",
                    "spares": spares,
                    "seed": seed,
                    "recovery": seconds + noise(),
                    "in_order": True,
                    "loss": 2.0,
                }
                for _ in range(5)
            ]
    return pd.DataFrame(rows)


def curve(experiment, how, rate, seed, slow):
    steps = range(40, 801, 40)
    return [
        {
            "experiment": experiment,
            "how": how,
            "rate": rate,
            "seed": seed,
            "step": s,
            "heldout": 4 - 0.002 * s / slow,
        }
        for s in steps
    ]


@pytest.mark.parametrize(
    "config",
    [RULE | {"how": h} for h in ("grad", "checkpoint", "swaps")] + [JUMPS],
    ids=lambda c: c.get("how", "jumps"),
)
def test_a_trial_is_flat_and_repeatable(config, monkeypatch):
    monkeypatch.setattr(experiments, "_held", lambda: [experiments._batch(9, 0, 4)])
    assert_flat_and_repeatable(study, config)


def test_processes_are_timed_and_killed():
    rows = study.run(
        {"experiment": "kills", "kills": 2, "spares": 1, "seed": 0}, np.random.default_rng(0)
    )
    assert len(rows) == 2
    assert rows[-1]["survived"]
    assert all(r["in_order"] and r["detection"] <= r["recovery"] < 5 for r in rows)


@pytest.mark.slow
def test_iterations_of_all_modes_are_timed():
    rows = study.run(
        {"experiment": "times", "dim": 8, "steps": 3, "seed": 0}, np.random.default_rng(0)
    )
    assert {r["mode"] for r in rows} == {"checkfree", "checkfree+", "redundant"}
    assert all(r["iteration_seconds"] > 0 for r in rows)


def test_claims_judge_and_can_come_out_either_way(records):
    findings = {c.id: judged(c, records) for c in CLAIMS}
    assert len(findings) == len(CLAIMS)
    told = {k: v.outcome for k, v in findings.items()}
    assert told.pop("C1a") is Outcome.INCONCLUSIVE  # four seeds
    assert set(told.values()) == {Outcome.REPRODUCED}, told
    worse = records.copy()
    for column in ("loss", "jump", "later", "recovery", "heldout", "iteration_seconds"):
        worse[column] = -worse[column] if column in ("loss", "jump", "later") else worse[column]
    worse["recovery"] += 10
    worse.loc[worse["twins"].notna(), "twins"] += 1
    worse.loc[worse["mode"] == "redundant", ["iteration_seconds", "mean_seconds"]] = 0.5
    worse.loc[worse["how"].isin(["grad", "plus"]) & worse["heldout"].notna(), "heldout"] += 1
    worse.loc[worse["in_order"].notna(), "in_order"] = False
    told = {c.id: judged(c, worse).outcome for c in CLAIMS}
    assert told.pop("C5c") is Outcome.REPRODUCED  # redundant computation is faster everywhere
    assert Outcome.REPRODUCED not in told.values(), told


def test_trials_of_all_scales_are_flat_and_named():
    for scale in ("quick", "standard", "full"):
        assert {c["experiment"] for c in study.trials(scale)} == {
            "rules",
            "jumps",
            "rates",
            "times",
            "kills",
        }


def test_figures_draw(records):
    from matplotlib.figure import Figure

    for draw in claims.FIGURES.values():
        draw(records, Figure().subplots())


@pytest.mark.slow
def test_showcase():
    from matplotlib.figure import Figure

    card = study.showcase()
    card.draw(Figure(figsize=(6.4, 3.2)))
    assert {c.name for c in card.certificates} >= {"recovered-weights", "jumps-below-progress"}
