import numpy as np
import pandas as pd
import pytest
from trial import assert_flat_and_repeatable, judged, records_of

from whp.experiment.study import Outcome, load
from whp.studies.information_censorship.showcase import showcase

study = load("information-censorship")


@pytest.mark.parametrize(
    "config",
    [
        {"experiment": "decomposition", "data": "asia"},
        {"experiment": "filters", "data": "parity", "budget": 0.2},
        {"experiment": "price", "data": "parity", "mechanism": "erase"},
        {"experiment": "choices"},
        {"experiment": "repetitions", "k": 2},
        {"experiment": "fitted", "p": 0.2},
    ],
    ids=lambda c: c["experiment"],
)
def test_rows_are_flat_and_repeatable(config):
    assert_flat_and_repeatable(study, config)


def test_claims_can_come_out_either_way():
    configs = [
        {"experiment": "decomposition", "data": "asia"},
        {"experiment": "filters", "data": "parity", "budget": 0.2},
        {"experiment": "price", "data": "parity", "mechanism": "erase"},
    ]
    frame = records_of(study, configs)
    claims = {c.id: c for c in study.CLAIMS}
    assert judged(claims["C1"], frame).outcome == Outcome.REPRODUCED
    assert judged(claims["C1"], frame.assign(share=0.05)).outcome == Outcome.NOT_REPRODUCED
    assert judged(claims["C2b"], frame).outcome == Outcome.REPRODUCED
    assert judged(claims["C2b"], frame.assign(over=0.5)).outcome == Outcome.NOT_REPRODUCED
    assert judged(claims["C4b"], frame.assign(broken=True)).outcome == Outcome.NOT_REPRODUCED


def test_random_tables_break_the_published_composition_and_nothing_else():
    rows = study.run({"experiment": "bounds", "seed": 0}, np.random.default_rng(0))
    (row,) = rows
    assert [row[n] for n in ("once", "erasure", "swapping", "composition")] == [0, 0, 0, 0]
    assert row["published"] > 0
    claims = {c.id: c for c in study.CLAIMS}
    frame = pd.DataFrame([{"experiment": "bounds", "seed": 0, "error": "", **row}] * 20)
    assert judged(claims["C3e"], frame).outcome == Outcome.REPRODUCED
    assert judged(claims["C3d"], frame).outcome == Outcome.NOT_REPRODUCED


def test_the_showcase_shows_the_attack():
    shown = showcase()
    assert shown.ours.startswith("0.050")
    assert shown.baseline == "0.146"
