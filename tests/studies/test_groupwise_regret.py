import json

import numpy as np
import pandas as pd
import pytest
from trial import judged

from whp.experiment.study import Outcome, load

study = load("groupwise-regret")


@pytest.mark.parametrize("scale", ["quick", "standard", "full"])
def test_trials_are_plain_and_unique(scale):
    keys = [json.dumps(c, sort_keys=True) for c in study.trials(scale)]
    assert len(keys) == len(set(keys))
    assert all(isinstance(c["seed"], int) for c in study.trials(scale))


def test_an_unknown_experiment_is_named():
    with pytest.raises(ValueError, match="experiment"):
        study.run({"experiment": "alchemy"}, np.random.default_rng(0))


def test_c2_any_order():
    found = {}
    for order in ("given", "by age"):
        config = {"experiment": "census in order", "order": order, "seed": 0}
        rows = study.run(config, np.random.default_rng(0))
        found[order] = {r["group"]: (r["global"], r["ours"]) for r in rows}
    assert found["given"]["everyone"] == pytest.approx((-62.8, -149.1), abs=0.1)
    assert found["given"]["college"] == pytest.approx((33.1, -23.4), abs=0.1)
    assert found["by age"]["everyone"] == pytest.approx((-37.6, -177.5), abs=0.1)
    assert found["by age"]["old"] == pytest.approx((36.1, 7.0), abs=0.1)


def test_claims_can_come_out_either_way():
    configs = [
        *({"experiment": "medical", "seed": s} for s in range(4)),
        *({"experiment": "synthetic", "label": "min", "rounds": 4000, "seed": s} for s in range(4)),
        *({"experiment": "paths", "rounds": 60, "seed": s} for s in range(2)),
    ]
    rows = [{**c, **r} for c in configs for r in study.run(c, np.random.default_rng(c["seed"]))]
    frame = pd.DataFrame(rows)
    claims = {c.id: c for c in study.CLAIMS}
    assert len(claims) == len(study.CLAIMS)
    assert judged(claims["C7a"], frame).outcome == Outcome.REPRODUCED
    assert (
        judged(claims["C7a"], frame.assign(**{"verdict_regret": "fails"})).outcome
        == Outcome.NOT_REPRODUCED
    )
    assert judged(claims["C3a"], frame).outcome == Outcome.NOT_REPRODUCED
    assert (
        judged(claims["C3a"], frame.assign(gain=1 + 0.01 * frame["seed"])).outcome
        == Outcome.REPRODUCED
    )
    assert judged(claims["C6c"], frame).outcome == Outcome.REPRODUCED
    assert (
        judged(claims["C6c"], frame.assign(share=2 + 0.01 * frame["seed"])).outcome
        == Outcome.NOT_REPRODUCED
    )


def test_peers_see_the_same_rows():
    rows = pd.DataFrame(
        study.run({"experiment": "peers", "rows": 300, "seed": 0}, np.random.default_rng(0))
    )
    cells = rows.pivot_table(index="group", columns="peer", values="loss")
    assert set(cells.columns) == {
        "ours",
        "river SGD",
        "river AdaGrad",
        "river Bayesian",
        "finite class",
    }
    assert (cells.loc["Female"] + cells.loc["Male"]).to_numpy() == pytest.approx(
        cells.loc["everyone"].to_numpy()
    )
