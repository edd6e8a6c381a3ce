import numpy as np
import pytest
from trial import assert_flat_and_repeatable, judged, records_of

from whp.experiment.study import Outcome, load
from whp.studies.stability_gap.experiments import REGULARISED, STREAMS

study = load("stability-gap")

SMALL = [
    *(
        {"experiment": "stream", "data": "digits", "method": m, "scenario": s}
        for m, s in STREAMS.items()
    ),
    *({"experiment": "regularised", "data": "digits", "method": m} for m in REGULARISED),
    *({"experiment": "angle", "data": "digits", "angle": a} for a in (10, 30, 60)),
    *(
        {"experiment": "gradients", "data": "digits", "method": m}
        for m in ("er", "lwf", "ewc", "si")
    ),
    {"experiment": "band", "instances": 10},
]


@pytest.fixture(scope="module")
def records():
    return records_of(study, SMALL)


@pytest.mark.parametrize(
    "config", [SMALL[0], SMALL[5], SMALL[-2], SMALL[-1]], ids=lambda c: c["experiment"]
)
def test_a_trial_is_flat_and_repeatable(config):
    assert_flat_and_repeatable(study, config)


def test_claims_judge_and_can_come_out_either_way(records):
    findings = {c.id: judged(c, records) for c in study.CLAIMS}
    assert len(findings) == len(study.CLAIMS)
    assert findings["C6c"].outcome is Outcome.REPRODUCED
    assert findings["C7a"].outcome is Outcome.REPRODUCED
    worse = records.copy()
    gem = worse["method"] == "gem"
    worse.loc[gem, "min_acc"] = 1.0 - 0.001 * worse.loc[gem, "seed"]
    worse.loc[worse["method"] == "er", "min_acc"] = 0.1
    worse.loc[worse["experiment"] == "gradients", "ratio"] = 1.0
    worse["missed"] = worse["instances"]
    claims = {c.id: c for c in study.CLAIMS}
    for name in ("C2a", "C7a", "C8a"):
        assert judged(claims[name], worse).outcome is Outcome.NOT_REPRODUCED, name


def test_figures_draw(records):
    from matplotlib.figure import Figure

    for draw in study.FIGURES.values():
        draw(records, Figure().subplots())


def test_streams():
    from whp.datasets import image_tasks

    train, test = image_tasks.by_class("digits", 0)
    assert [set(y.tolist()) for _, y in train] == [{2 * k, 2 * k + 1} for k in range(5)]
    assert sum(len(y) for _, y in test) == 597
    turned, _ = image_tasks.rotated("digits", 0, (0, 90))
    a, b = (X[0].reshape(8, 8).numpy() for X, _ in turned)
    np.testing.assert_allclose(np.rot90(a), b, atol=1e-6) if np.allclose(
        np.rot90(a), b, atol=1e-6
    ) else np.testing.assert_allclose(np.rot90(a, -1), b, atol=1e-6)
    shuffled, _ = image_tasks.permuted("digits", 0, 2)
    np.testing.assert_allclose(shuffled[0][0].sort(dim=1).values, shuffled[1][0].sort(dim=1).values)
    assert not np.allclose(shuffled[0][0], shuffled[1][0])


@pytest.mark.slow
def test_showcase():
    from matplotlib.figure import Figure

    card = study.showcase()
    card.draw(Figure(figsize=(6.4, 3.2)))
    assert float(card.ours.split()[0]) < float(card.baseline)
