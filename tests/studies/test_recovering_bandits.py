import json

import numpy as np
import pandas as pd
import pytest
from trial import judged

from whp.bandits import plan_recovering
from whp.experiment.study import Outcome, load
from whp.studies.recovering_bandits.experiments import promotion_curves

study = load("recovering-bandits")


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
        *({"experiment": "exact", "K": 1, "seed": s} for s in range(6)),
        *({"experiment": "planning", "K": 4, "seed": s} for s in range(3)),
        *({"experiment": "honesty", "T": 40, "seed": s} for s in range(5)),
        *({"experiment": "learning", "T": 200, "seed": s} for s in range(2)),
        *({"experiment": "peer", "T": 200, "seed": s} for s in range(2)),
    ]
    rows = [{**c, **r} for c in configs for r in study.run(c, np.random.default_rng(c["seed"]))]
    frame = pd.DataFrame(rows)
    claims = {c.id: c for c in study.CLAIMS}
    assert len(claims) == len(study.CLAIMS)
    assert judged(claims["C4c"], frame.assign(bound_share=1.0)).outcome == Outcome.REPRODUCED
    assert judged(claims["C4b"], frame.assign(plan_share=0.5)).outcome == Outcome.NOT_REPRODUCED
    assert judged(claims["C3b"], frame).ours.value > 0
    assert judged(claims["C3d"], frame.assign(broken=True)).outcome == Outcome.NOT_REPRODUCED
    assert (frame["bound_share"].dropna() <= 1 + 1e-6).all()
    assert (frame["plan_share"].dropna() <= 1 + 1e-6).all()


@pytest.mark.slow
def test_c2_promotions():
    log, fit = promotion_curves()
    assert (len(fit.arms), fit.curves.shape[1]) == (23, 8)
    assert len(log) < 148_731
    for K, bound, share in (
        (1, 14.810026, 1),
        (2, 19.922958, 0.9994),
        (3, 22.911471, 0.9998),
        (5, 27.332889, 0.9987),
        (10, 34.59697, 0.9984),
    ):
        plan = plan_recovering(fit.curves, K)
        assert plan.upper_bound == pytest.approx(bound, abs=1e-5)
        assert plan.ratio == pytest.approx(share, abs=1e-4)
