import json

import numpy as np
import pandas as pd
import pytest
from trial import judged

from whp.experiment.study import Outcome, load
from whp.studies.adversarial_linear_mdp.experiments import airports, latest_delays, routes

study = load("adversarial-linear-mdp")


@pytest.mark.parametrize("scale", ["quick", "standard", "full"])
def test_trials_are_plain_and_unique(scale):
    keys = [json.dumps(c, sort_keys=True) for c in study.trials(scale)]
    assert len(keys) == len(set(keys))


def test_delays_are_those_of_new_york():
    losses, months = airports()
    assert losses.shape == (len(months), 2, 3, 3)
    assert len(months) == 2551
    assert (losses[:, 0] == 0).all()
    model = routes()
    uniform = model.value(np.full((2, 3, 3), 1 / 3), losses).mean()
    best = model.value(model.best_fixed(losses.sum(axis=0)), losses).mean()
    assert 0.2 < best < uniform < 0.4
    made = latest_delays()
    assert made.shape == (328_521, 3)
    assert 0 <= made.min() <= made.max() <= 1


def test_claims_can_come_out_either_way():
    configs = [
        *(
            {"experiment": "rates", "K": k, "method": "hedge", "seed": s}
            for k in (200, 800)
            for s in (0, 1)
        ),
        *({"experiment": "lemma", "draws": 200, "seed": s} for s in range(2)),
        *({"experiment": "magnitude", "d": 4, "gamma": 1e-3, "seed": s} for s in range(3)),
        {"experiment": "covariance", "n": 20000, "d": 4, "gamma": 0.01, "seed": 0},
        {"experiment": "covariance", "n": 20000, "d": 4, "gamma": 0.01, "seed": 1},
    ]
    rows = [{**c, **r} for c in configs for r in study.run(c, np.random.default_rng(c["seed"]))]
    frame = pd.DataFrame(rows)
    claims = {c.id: c for c in study.CLAIMS}
    assert judged(claims["C3a"], frame).outcome == Outcome.REPRODUCED
    assert judged(claims["C3a"], frame.assign(reduced=2.0)).outcome == Outcome.NOT_REPRODUCED
    assert judged(claims["C3c"], frame).outcome == Outcome.REPRODUCED
    assert judged(claims["C4a"], frame).outcome == Outcome.REPRODUCED
    assert judged(claims["C4a"], frame.assign(log_barrier=1.1)).outcome == Outcome.NOT_REPRODUCED
    growing = frame.assign(regret=frame["K"] ** 0.9 * (1 + frame["seed"] / 1000))
    assert judged(claims["C1c"], growing).outcome == Outcome.REPRODUCED
    slow = frame.assign(regret=frame["K"] ** 0.4 * (1 + frame["seed"] / 1000))
    assert judged(claims["C1c"], slow).outcome == Outcome.NOT_REPRODUCED
