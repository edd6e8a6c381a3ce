import json

import numpy as np
import pandas as pd
import pytest
from trial import judged

from whp.experiment.study import Outcome, load
from whp.rl import LatentMDP
from whp.studies.latent_mdp.experiments import hard, selection
from whp.studies.latent_mdp.truth import best_value, earned, probe

study = load("latent-mdp")


@pytest.mark.parametrize("scale", ["quick", "standard", "full"])
def test_trials_are_plain_and_unique(scale):
    keys = [json.dumps(c, sort_keys=True) for c in study.trials(scale)]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("H", [3, 4, 8])
def test_the_probe_is_worth_the_same_at_every_horizon(H):
    model = LatentMDP(**probe(H))
    plan = model.optimal()
    given = (model.w, model.nu, model.P, model.R)
    assert plan.value == pytest.approx(0.74)
    assert best_value(*given, H) == pytest.approx(0.74)
    assert earned(plan.policy, *given) == pytest.approx(0.74)


def test_the_hard_family():
    model = hard(3, 8, 3, 0.1)
    assert model.optimal().value == pytest.approx(0.6)
    assert (model.P > 0).sum(axis=-1).max() == 2


def test_wine_is_what_the_page_says():
    assert selection("wine", 5, 2).model.optimal().value == pytest.approx(0.9049, abs=2e-3)


def test_claims_can_come_out_either_way():
    frame = pd.DataFrame(
        [
            {"experiment": "horizons", "solver": s, "seed": i, "ratio": r + 0.01 * i}
            for s, r in (("mvp .1", 1.0), ("l1 .1", 2.5))
            for i in range(5)
        ]
        + [
            {"experiment": "solvers", "solver": s, "seed": i, "regret": r + i}
            for s, r in (("mvp", 300.0), ("bernstein", 70.0))
            for i in range(5)
        ]
        + [
            {"experiment": "tests on wine", "solver": s, "seed": i, "regret": r + i}
            for s, r in (("greedy", 1500.0), ("posterior", 50.0))
            for i in range(5)
        ]
        + [{"experiment": "history", "best": 0.638, "seed": 0}]
    )
    claims = {c.id: c for c in study.CLAIMS}
    for name in ("C1a", "C1b", "C5", "C6a", "C7"):
        assert judged(claims[name], frame).outcome == Outcome.REPRODUCED, name
    worse = frame.assign(ratio=frame["ratio"] + 1, regret=100.0 + frame["seed"], best=0.6)
    for name in ("C1a", "C5", "C6a", "C7"):
        assert judged(claims[name], worse).outcome == Outcome.NOT_REPRODUCED, name
    assert judged(claims["C2a"], frame).outcome == Outcome.NOT_TESTED


def test_a_row_of_each_experiment():
    small = [
        {"experiment": "lower", "M": 2, "K": 50, "solver": "posterior"},
        {"experiment": "spread", "episodes": 100},
        {"experiment": "tests on wine", "solver": "greedy, 10 % at random", "episodes": 50},
        {"experiment": "held out", "data": "wine"},
        {"experiment": "solvers", "solver": "bernstein", "episodes": 50},
        {"experiment": "horizons", "solver": "l1 .1", "episodes": 20},
    ]
    for config in small:
        for row in study.run(config, np.random.default_rng(0)):
            assert all(np.isfinite(v) for v in row.values() if not isinstance(v, str))
