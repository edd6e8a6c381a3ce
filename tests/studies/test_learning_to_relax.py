import json

import numpy as np
import pandas as pd
import pytest
from trial import judged

from whp.experiment.study import Outcome
from whp.studies import learning_to_relax as study


@pytest.mark.parametrize("scale", ["quick", "standard", "full"])
def test_trials_are_plain_and_unique(scale):
    keys = [json.dumps(c, sort_keys=True) for c in study.trials(scale)]
    assert len(keys) == len(set(keys))
    assert all(isinstance(c["seed"], int) for c in study.trials(scale))


def test_an_unknown_experiment_is_named():
    with pytest.raises(ValueError, match="experiment"):
        study.run({"experiment": "alchemy"}, np.random.default_rng(0))


def test_claims_can_come_out_either_way():
    configs = [
        *({"experiment": "shifts", "variance": "high", "rounds": 300, "seed": s} for s in range(2)),
        *({"experiment": "honesty", "rounds": 100, "seed": s} for s in range(20)),
    ]
    rows = [{**c, **r} for c in configs for r in study.run(c, np.random.default_rng(c["seed"]))]
    frame = pd.DataFrame(rows)
    claims = {c.id: c for c in study.CLAIMS}
    assert len(claims) == len(study.CLAIMS)
    assert judged(claims["C4a"], frame).outcome == Outcome.REPRODUCED
    assert judged(claims["C4a"], frame.assign(bound=-1e9)).outcome == Outcome.NOT_REPRODUCED
    worse = frame.assign(
        mean=np.where(frame["learner"] == "chebcb", 1e6 + frame["seed"], frame["mean"])
    )
    assert judged(claims["C2a"], worse).outcome == Outcome.NOT_REPRODUCED
    better = frame.assign(
        mean=np.where(frame["learner"] == "chebcb", 1 + 0.01 * frame["seed"], frame["mean"])
    )
    assert judged(claims["C2a"], better).outcome == Outcome.REPRODUCED
    part = frame[frame["experiment"] == "shifts"].set_index(["seed", "learner"])["mean"].unstack()
    assert (part["best ω of the grid per system"] <= part["best fixed ω"]).all()
    assert (part["young"] < part["ω = 1"]).all()


def test_the_heat_equation_is_solved():
    config = {"experiment": "heat", "learner": "1.4", "nx": 12, "rounds": 40}
    assert study.run(config, np.random.default_rng(0))[0]["total"] > 0
