from itertools import product

import numpy as np
import pandas as pd
import pytest
from trial import judged

from whp.datasets import packaged
from whp.experiment.study import Outcome, load
from whp.invariance import pac_invariance
from whp.studies.pac_invariance.truth import chain, excess, gradient, pair, sem

study = load("pac-invariance")

SMALL = [
    *({"experiment": "rate", "subset": s, "runs": 2} for s in ("cause", "causes", "all")),
    *({"experiment": "dimension", "p": p} for p in (5, 20)),
    *({"experiment": "rows", "n": n, "m": 40} for n in (50, 200)),
    {"experiment": "baselines"},
    {"experiment": "indirect", "mixed": True},
    {"experiment": "sites", "m": 4000},
    {"experiment": "uniform", "m": 600},
]


def flights(seed):
    """Rows as of the experiment on flights, made up."""
    rng = np.random.default_rng(seed)
    grid = product(("dep_delay", "three", "four"), ("none", "month", "carrier"))
    return [
        {
            "experiment": "real",
            "columns": columns,
            "blocks": blocks,
            "seed": seed,
            "trial": f"{columns} {blocks} {seed}",
            "epsilon": 0.1 + 0.05 * (columns != "dep_delay") + 0.001 * rng.random(),
            "eta": 0.58 if blocks == "month" else 0.11,
            "rate": 0.27 + 0.01 * rng.random(),
            "verdict": "holds",
            "fails": False,
            "worst": 0.1 + 0.01 * rng.random(),
            "worst_least_squares": 0.12 + 0.01 * rng.random(),
            "squared_error": 0.2 + 0.001 * rng.random(),
            "squared_error_least_squares": 0.19,
        }
        for columns, blocks in grid
    ]


@pytest.fixture(scope="module")
def records():
    rows = []
    for config in SMALL:
        for seed in range(3):
            again = {**config, "seed": seed}
            name = f"{sorted(config.items())} {seed}"
            made = study.run(again, np.random.default_rng(seed))
            rows += [again | {"trial": name} | row for row in made]
    return pd.DataFrame(rows + [row for seed in range(80) for row in flights(seed)])


def test_a_trial_is_flat_and_repeatable():
    for config in SMALL[:6]:
        first, second = (
            study.run({**config, "seed": 0}, np.random.default_rng(3)) for _ in range(2)
        )
        assert first == second
        for row in first:
            assert all(isinstance(v, bool | int | float | str | None) for v in row.values())


def test_claims_judge_and_are_unique(records):
    findings = {c.id: judged(c, records) for c in study.CLAIMS}
    assert len(findings) == len(study.CLAIMS)
    assert findings["C4a"].outcome is Outcome.REPRODUCED
    assert findings["C5a"].outcome is Outcome.REPRODUCED
    assert findings["C3a"].ours.value == pytest.approx(-0.5, abs=0.2)
    assert findings["C1d"].ours.value > 2
    assert findings["C9a"].ours.value < 0.5


def test_claims_can_come_out_either_way(records):
    worse = records.copy()
    worse["fails"] = True
    worse.loc[worse["experiment"] == "rate", "exceeded"] = 2
    worse["worst_least_squares"] = 0.5 * worse["worst"]
    claims = {c.id: c for c in study.CLAIMS}
    for name in ("C4a", "C5a", "C1a"):
        assert judged(claims[name], worse).outcome is Outcome.NOT_REPRODUCED, name


def test_figures_draw(records):
    from matplotlib.figure import Figure

    for draw in study.FIGURES.values():
        draw(records, Figure().subplots())


def test_the_example_works_without_the_extra(monkeypatch):
    monkeypatch.setattr(packaged, "find_spec", lambda name: None)
    found = pac_invariance(**study.example(), rng=0)
    assert "carat" in found.names
    assert len(found.residuals) > 20


def test_showcase():
    from matplotlib.figure import Figure

    card = study.showcase()
    card.draw(Figure(figsize=(8, 3.6)))
    assert card.ours == "15 of 15"
    assert card.baseline == "0 of 15"


def test_truth_is_what_it_says():
    rng = np.random.default_rng(0)
    X, y = pair(rng, np.array([2.0]), 100_000)
    slope = np.polyfit(y[0], X[0, :, 1], 1)[0]
    assert slope == pytest.approx(2, abs=0.02)
    coef = np.linalg.lstsq(X[0], y[0])[0]
    assert excess(X, y, coef)[0] < 1e-2
    assert gradient(X, y, coef)[0] < 1e-2
    assert excess(X, y, 0 * coef)[0] > 0.5
    Sigma, c = chain(np.array([0.7]))
    e = rng.standard_normal((4, 400_000))
    x2 = 0.7 * e[0] + e[1]
    x3 = x2 + e[2]
    np.testing.assert_allclose(Sigma[0], np.cov(np.stack([e[0], x2, x3])), atol=0.03)
    assert c[0, 1] == pytest.approx(np.cov(x2, x2 + 0.5 * x3 + e[3])[0, 1], abs=0.03)
    X, y = sem(rng, 3, 50)
    assert X.shape == (3, 50, 3)
    assert y.shape == (3, 50)
