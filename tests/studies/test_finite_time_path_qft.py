import json

import numpy as np
import pandas as pd
import pytest
from trial import judged

from whp.experiment.study import Outcome, load

study = load("finite-time-path-qft")


@pytest.mark.parametrize("scale", ["quick", "standard", "full"])
def test_trials_are_plain_and_unique(scale):
    keys = [json.dumps(c, sort_keys=True) for c in study.trials(scale)]
    assert len(keys) == len(set(keys))
    assert all(isinstance(c["seed"], int) for c in study.trials(scale))


def test_claims_can_come_out_either_way():
    configs = [
        *({"experiment": "cutoffs", "kappa": 0.0, "seed": s} for s in range(2)),
        *({"experiment": "limit", "seed": s} for s in range(2)),
        *({"experiment": "late", "seed": s} for s in range(2)),
        *({"experiment": "peer", "seed": s} for s in range(2)),
        *(
            {"experiment": "decays", "time": 1.0, "state": "young plasma", "seed": s}
            for s in range(4)
        ),
    ]
    rows = [{**c, **r} for c in configs for r in study.run(c, np.random.default_rng(c["seed"]))]
    frame = pd.DataFrame(rows)
    claims = {c.id: c for c in study.CLAIMS}
    assert len(claims) == len(study.CLAIMS)
    for name in ("C1a", "C1b", "C3a", "C3b", "C5", "C7"):
        assert judged(claims[name], frame).outcome == Outcome.REPRODUCED, name
    assert judged(claims["C1b"], frame.assign(product=1.2)).outcome == Outcome.NOT_REPRODUCED
    assert judged(claims["C3a"], frame.assign(repaired_off=0.1)).outcome == Outcome.NOT_REPRODUCED
    assert judged(claims["C6a"], frame).ours.value > 0
