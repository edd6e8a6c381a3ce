import json

import numpy as np
import pandas as pd
import pytest
from trial import judged

from whp.experiment.study import Outcome, load
from whp.studies.starc.experiments import CHANGES, ENVIRONMENTS, changed

study = load("starc")


@pytest.mark.parametrize("scale", ["quick", "standard", "full"])
def test_trials_are_plain_and_unique(scale):
    keys = [json.dumps(c, sort_keys=True) for c in study.trials(scale)]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ENVIRONMENTS[:3])
def test_changes_are_of_what_can_happen(name, change):
    model, other = changed(name, change)
    assert other.shape == model.reward.shape
    possible = model.transitions > 0
    assert (other != model.reward)[possible].any()


def test_claims_can_come_out_either_way():
    configs = [
        *(
            {"experiment": "correlation", "S": 8, "A": 2, "pairs": 2, "steps": 2, "seed": s}
            for s in range(3)
        ),
        *({"experiment": "fooled", "M": m, "seed": 0} for m in (1, 100)),
        *({"experiment": "bounds", "norm": "2", "discount": 0.9, "seed": s} for s in range(2)),
        {"experiment": "environments", "env": ENVIRONMENTS[0], "change": "shaped", "seed": 0},
        {"experiment": "swings", "n": 1000, "seed": 0},
    ]
    rows = [{**c, **r} for c in configs for r in study.run(c, np.random.default_rng(c["seed"]))]
    frame = pd.DataFrame(rows)
    claims = {c.id: c for c in study.CLAIMS}
    assert judged(claims["C2a"], frame).outcome == Outcome.REPRODUCED
    assert judged(claims["C2c"], frame.assign(lost=0.5)).outcome == Outcome.NOT_REPRODUCED
    assert judged(claims["C4a"], frame).outcome == Outcome.REPRODUCED
    assert judged(claims["C4a"], frame.assign(val=0.1)).outcome == Outcome.NOT_REPRODUCED
    assert judged(claims["C3b"], frame).outcome == Outcome.REPRODUCED
    assert (
        judged(
            claims["C1a"], frame.assign(val_over_epic=[*np.linspace(-0.4, -0.3, len(frame))])
        ).outcome
        == Outcome.NOT_REPRODUCED
    )
    assert (frame["broken"].dropna() == 0).all()
