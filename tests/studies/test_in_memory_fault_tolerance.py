import numpy as np
import pandas as pd
import pytest
from trial import assert_flat_and_repeatable, judged

from whp.distributed import optimal_interval
from whp.experiment.study import Outcome, load
from whp.studies.in_memory_fault_tolerance.experiments import PEERS, SURVIVAL

study = load("in-memory-fault-tolerance")

STALL = {
    "ours": (0.003, 0.09),
    "stager": (0.01, 1.0),
    "async_save": (0.3, 1.0),
    "torch.save": (0.4, 0.4),
    "dcp.save": (1.0, 1.0),
}


def records_of(stall=STALL, back=True, rebuilt=True, useful=0.97):
    rows = []
    for seed in range(3):
        for method, (wait, total) in stall.items():
            noise = 1 + 0.01 * seed
            rows.append(
                {
                    "experiment": "stall",
                    "seed": seed,
                    "method": method,
                    "stall": wait * noise,
                    "total": total * noise,
                    "plain": 0.3,
                    "interval": optimal_interval(wait * noise, 1 / 3600),
                    "step": 0.305,
                }
            )
        rows += [{"experiment": "kills", "seed": seed, "back": back}] * 30
        struck = {"struck": 30, "restored": 30 * back}
        rows.append({"experiment": "kills", "seed": seed, "same": back, **struck})
        rows += [
            {"experiment": "nodes", "seed": seed, "rebuilt": rebuilt},
            {"experiment": "nodes", "seed": seed, "refused": rebuilt},
        ]
        rows += [
            {"experiment": "rate", "seed": seed, "method": m, "useful": u * (1 + 0.01 * seed)}
            for m, u in (("ours", useful), ("none, no failure", 1.0))
        ]
        for n, m, p in SURVIVAL:
            config = {"experiment": "survival", "n": n, "m": m, "p": p, "draws": 5000, "seed": seed}
            rows += [config | row for row in study.run(config, np.random.default_rng(seed))]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    "config",
    [
        {"experiment": "survival", "n": 8, "m": 1, "p": 0.01, "draws": 5000},
        {"experiment": "nodes", "n": 3, "m": 1, "kb": 4},
    ],
    ids=lambda c: c["experiment"],
)
def test_a_trial_is_flat_and_repeatable(config):
    assert_flat_and_repeatable(study, config)


def test_a_trial_of_stalls_has_all_methods():
    rows = study.run({"experiment": "stall", "mb": 1, "seed": 0}, np.random.default_rng(0))
    assert [r["method"] for r in rows] == ["ours", *PEERS]
    assert all(r["stall"] <= r["total"] for r in rows)


def test_a_trial_of_kills_comes_back():
    config = {
        "experiment": "kills",
        "ranks": 2,
        "kills": 1,
        "node_kills": 1,
        "steps": 16,
        "seed": 0,
    }
    rows = study.run(config, np.random.default_rng(0))
    assert [r["back"] for r in rows[:-1]] == [True, True]
    assert rows[-1] == {"finished": True, "same": True, "struck": 2, "restored": 2}


def test_claims_judge_and_can_come_out_either_way():
    good = {c.id: judged(c, records_of()) for c in study.CLAIMS}
    assert {f.outcome for f in good.values()} == {Outcome.REPRODUCED}, {
        k: str(v.ours) for k, v in good.items()
    }
    slow = dict.fromkeys(STALL, (0.4, 1.0))
    bad = records_of(stall=slow, back=False, rebuilt=False, useful=0.5)
    bad.loc[bad["experiment"] == "survival", "off"] = 9.0
    bad["step"] *= 1.5
    found = {c.id: judged(c, bad).outcome for c in study.CLAIMS}
    assert {k for k, v in found.items() if v is not Outcome.NOT_REPRODUCED} <= {"C1c", "C5b"}


def test_figures_draw():
    from matplotlib.figure import Figure

    for draw in study.FIGURES.values():
        draw(records_of(), Figure().subplots())


@pytest.mark.slow
def test_showcase():
    from matplotlib.figure import Figure

    card = study.showcase()
    card.draw(Figure(figsize=(6.4, 4)))
    assert {c.name for c in card.certificates} >= {"bit-exact-recovery", "same-as-undisturbed"}
    assert int(card.ours) < int(card.baseline)
