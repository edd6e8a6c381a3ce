import json

import numpy as np
import pandas as pd
import pytest
from trial import judged

from whp.experiment.study import Outcome, load
from whp.studies.learning_to_relax.truth import below, cg_count, sor_count, tsallis

study = load("learning-to-relax")


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
    assert judged(claims["C4a"], frame.assign(above=1e9)).outcome == Outcome.NOT_REPRODUCED
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
    for figure in ("shifts",):
        from matplotlib.figure import Figure

        axes = Figure().subplots()
        study.FIGURES[figure](frame, axes)
        assert axes.has_data()


def test_the_heat_equation_is_solved():
    config = {"experiment": "heat", "learner": "1.4", "nx": 12, "rounds": 40}
    row = study.run(config, np.random.default_rng(0))[0]
    assert row["total"] > 0
    assert row["verdict_iteration-bound"] == "holds"


def test_truths_are_those_of_small_cases():
    line = np.array([[4.0, -1, 0], [-1, 4, -1], [0, -1, 4]])
    b = np.array([1.0, 2, 3])
    assert [sor_count(line, b, w, 1e-8, 100) for w in (1.0, 1.0334, 1.2, 1.5)] == [10, 7, 12, 28]
    assert [cg_count(line, b, w, 1e-8, 100) for w in (1.0, 1.2)] == [3, 3]
    paid = tsallis(np.full((30, 3), 7.0), np.random.default_rng(0))
    np.testing.assert_allclose(paid, 210)
    assert below(paid, 200.0, 9.0) is False
    assert below(paid, 200.0, 11.0) is True
    assert below(paid, 200.0, 10.0) is None
