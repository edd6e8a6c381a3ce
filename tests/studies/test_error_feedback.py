import numpy as np
import pandas as pd
import pytest
from trial import assert_flat_and_repeatable, judged

from whp.distributed.links import why_not
from whp.experiment.study import Outcome
from whp.studies import error_feedback as study

NEEDS_LINK = pytest.mark.skipif(bool(why_not()), reason=why_not() or "links can be shaped")


@pytest.fixture(scope="module")
def records():
    """The quick scale without what needs the link, which is made up."""
    rows = []
    for config in study.trials("quick"):
        if config["experiment"] in ("link", "training") or (
            config["experiment"] == "noise" and config["seed"]
        ):
            continue
        config |= {"clients": 8} if "clients" in config else {}
        config |= {"T": 60} if "T" in config else {}
        rows += [config | row for row in study.run(config, np.random.default_rng(config["seed"]))]
    rows += [
        row | {"seed": 1, "steps": row["steps"] + 1} for row in rows if row["experiment"] == "noise"
    ]
    for seed in (0, 1):
        for bound, slow in (("200 Mbit/s", 10.0), ("loopback", 0.5)):
            for hook in study.HOOKS:
                ms = {"dense": 100 * slow, "fp16": 50 * slow}.get(hook, 100.0 + seed)
                rows.append(
                    {"experiment": "link", "seed": seed, "variant": hook, "ms": ms, "bound": bound}
                )
        for hook in study.HOOKS:
            rows.append(
                {
                    "experiment": "training",
                    "seed": seed,
                    "variant": hook,
                    "loss": 0.1 if hook == "EF21" else 1.0 + 0.1 * seed,
                }
            )
    return pd.DataFrame(rows)


@pytest.mark.parametrize("experiment", ["theory", "heterogeneity", "noise", "clones"])
def test_a_trial_is_flat_and_repeatable(experiment):
    assert_flat_and_repeatable(
        study, next(c for c in study.trials("quick") if c["experiment"] == experiment)
    )


def test_claims_judge_and_can_come_out_either_way(records):
    findings = {c.id: judged(c, records) for c in study.CLAIMS}
    assert len(findings) == len(study.CLAIMS)
    for name in (
        "C1a",
        "C1b",
        "C1c",
        "C3",
        "C4a",
        "C4b",
        "C6a",
        "C6c",
        "C6d",
        "C7a",
        "C7b",
        "C7c",
        "C8a",
    ):
        assert findings[name].outcome is Outcome.REPRODUCED, name
    worse = records.assign(ms=records["ms"].where(records["variant"] != "EF21", 1e4))
    assert {c.id: judged(c, worse) for c in study.CLAIMS}["C7a"].outcome is Outcome.NOT_REPRODUCED
    none = records[~records["experiment"].isin(["link", "training"])].drop(columns=["ms", "loss"])
    assert {c.id: judged(c, none) for c in study.CLAIMS}["C7a"].outcome is Outcome.NOT_TESTED


def test_figures(records):
    from matplotlib.figure import Figure

    for draw in study.FIGURES.values():
        draw(records, Figure().subplots())


@NEEDS_LINK
def test_the_link_is_measured():
    rows = study.run({"experiment": "link", "d": 100_000, "seed": 0}, np.random.default_rng(0))
    assert {r["bound"] for r in rows} == {"200 Mbit/s", "loopback"}


@pytest.mark.slow
def test_showcase():
    from matplotlib.figure import Figure

    card = study.showcase()
    card.draw(Figure(figsize=(6.4, 3.2)))
    assert all(c.verdict == "holds" for c in card.certificates)
