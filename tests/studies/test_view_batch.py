import numpy as np
import pandas as pd
import pytest
from trial import assert_flat_and_repeatable, judged

from whp.experiment.study import Outcome, load
from whp.studies.view_batch.experiments import OTHERS, VARIANTS

study = load("view-batch")

TRAIN = {"data": "digits", "strategy": "er", "epochs": 8}
SMALL = [
    *(TRAIN | {"experiment": "variants", "variant": v} for v in VARIANTS),
    *(
        TRAIN | {"experiment": "long", "variant": v}
        for v in ("ordinary", "two views", "views", "eight views")
    ),
    *(
        TRAIN | {"experiment": "animals", "variant": v}
        for v in ("ordinary", "views", "views, strong", "views, strong, tied")
    ),
    *(
        TRAIN | {"experiment": e, "variant": v}
        for e in ("rotations", "rates")
        for v in ("ordinary", "views")
    ),
    *(
        TRAIN | {"experiment": "baselines", "variant": v}
        for v in ("views", "small batches", "four times the epochs")
    ),
    *(
        TRAIN | {"experiment": "others", "strategy": s, "variant": v}
        for s in OTHERS
        for v in ("ordinary", "views")
    ),
    {"experiment": "rest"},
    {"experiment": "price", "views": 4, "batches": 2000},
]


CERTIFIED = {"experiment": "certificates", "runs": 1, "views_are": "strong"}


@pytest.fixture(scope="module")
def records():
    """Trained once where it matters, and copied with a little noise for the second seed and for what is alike."""
    rng = np.random.default_rng(0)
    trained = {
        v: study.run(SMALL[0] | {"variant": v, "seed": 0}, rng)
        for v in ("ordinary", "views", "views, strong, tied")
    }
    rows = []
    for config in SMALL:
        for seed in (0, 1):
            again = config | {"seed": seed}
            if "variant" in config:
                found = [dict(r) for r in trained.get(config["variant"], trained["views"])]
                for r in found:
                    r["cycle"] *= VARIANTS[config["variant"]].get("views", 1)
                    if "acc" in r:
                        r["acc"] += 0.001 * rng.normal()
                        r["forgetting"] += 0.001 * rng.normal()
            else:
                found = study.run(again, np.random.default_rng(seed))
            rows += [again | r for r in found]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    "config", [SMALL[1], SMALL[-2], SMALL[-1], CERTIFIED], ids=lambda c: c["experiment"]
)
def test_a_trial_is_flat_and_repeatable(config):
    assert_flat_and_repeatable(study, config)


def test_claims_judge_and_can_come_out_either_way(records):
    findings = {c.id: judged(c, records) for c in study.CLAIMS}
    assert len(findings) == len(study.CLAIMS)
    for name in ("C1a", "C6b", "C6c", "C6d"):
        assert findings[name].outcome is Outcome.REPRODUCED, name
    worse = records.copy()
    views = worse["variant"] == "views"
    worse.loc[views, "forgetting"] = 0.9 + 0.001 * worse.loc[views, "seed"]
    worse.loc[views, "acc"] = 0.1 + 0.001 * worse.loc[views, "seed"]
    worse.loc[views & worse["images"].notna(), "images"] += 7
    claims = {c.id: c for c in study.CLAIMS}
    for name in ("C1a", "C2a", "C2b", "C8a"):
        assert judged(claims[name], worse).outcome is Outcome.NOT_REPRODUCED, name


def test_figures_draw(records):
    from matplotlib.figure import Figure

    for draw in study.FIGURES.values():
        draw(records, Figure().subplots())


@pytest.mark.slow
def test_showcase():
    from matplotlib.figure import Figure

    card = study.showcase()
    card.draw(Figure(figsize=(6.4, 3.2)))
    assert {c.name for c in card.certificates} >= {"minimum-rest", "forgetting"}
