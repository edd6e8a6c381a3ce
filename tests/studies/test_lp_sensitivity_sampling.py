import json

import numpy as np
import pandas as pd
import pytest
from trial import judged

from whp.datasets import tables
from whp.experiment.study import Outcome
from whp.linalg.lp_sensitivity_sampling import lp_regression, optimality_gap
from whp.studies import lp_sensitivity_sampling as study


def test_8_optima_of_randhie():
    A, b = tables.randhie_regression()
    assert A.shape == (20190, 10)
    for p, cost in ((1, 47692.7453), (1.5, 117710.4938), (3, 7575350.74)):
        found = optimality_gap(A, b, lp_regression(A, b, p), p)
        assert found.cost == pytest.approx(cost, rel=1e-8)
        assert found.gap <= (1e-12 if p > 1 else 0.02)


def test_8_optima_of_diamonds():
    A, b = tables.diamonds_regression(full=True)
    for p, cost in ((1.5, 2524.724794), (3, 1714.170891)):
        found = optimality_gap(A, b, lp_regression(A, b, p), p)
        assert found.cost == pytest.approx(cost, rel=1e-8)
        assert found.gap <= 1e-12


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
        {"experiment": "blocks", "rows": 300},
        {"experiment": "honesty", "rows": 1500},
        {"experiment": "total", "p": 1.5},
    ]
    records = [
        {**c, "seed": seed, **r}
        for c in configs
        for seed in range({"blocks": 20, "honesty": 3, "total": 1}[c["experiment"]])
        for r in study.run(c, np.random.default_rng(seed))
    ]
    frame = pd.DataFrame(records)
    claims = {c.id: c for c in study.CLAIMS}
    assert len(claims) == len(study.CLAIMS)
    assert judged(claims["C1a"], frame).outcome == Outcome.REPRODUCED
    assert (
        judged(claims["C1a"], frame.assign(total=frame["total"] * 2)).outcome
        == Outcome.NOT_REPRODUCED
    )
    assert judged(claims["C4b"], frame).outcome == Outcome.REPRODUCED
    assert judged(claims["C4b"], frame.assign(rank=63)).outcome == Outcome.NOT_REPRODUCED
    assert judged(claims["C6a"], frame.assign(bound=0.0)).outcome == Outcome.NOT_REPRODUCED
