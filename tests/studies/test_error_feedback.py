import numpy as np
import pandas as pd
import pytest
from trial import assert_flat_and_repeatable, judged

from whp.distributed.links import why_not
from whp.experiment.study import Outcome
from whp.peers.gradients import HOOKS
from whp.studies.error_feedback import experiments
from whp.studies.error_feedback.claims import CLAIMS, FIGURES
from whp.studies.error_feedback.experiments import study

NEEDS_LINK = pytest.mark.skipif(bool(why_not()), reason=why_not() or "links can be shaped")


def rows_of(experiment, **config):
    config = {"experiment": experiment, "seed": 0, **config}
    return [config | row for row in study.run(config, np.random.default_rng(config["seed"]))]


@pytest.fixture(scope="module")
def theory():
    return [row for v in ("qm", "am", "W") for row in rows_of("theory", variant=v, T=265)]


@pytest.fixture(scope="module")
def synthetic():
    """What is quick: constants, iterates and small problems; rare features of a model."""
    rows = rows_of("clones") + rows_of("identity", T=25) + rows_of("rare", books=0, least=0)
    for seed in (0, 1):
        for s in (0.0, 0.5, 1.0, 2.0):
            rows += rows_of("heterogeneity", spread=s, clients=8, seed=seed)
    return rows


@pytest.fixture(scope="module")
def made_up():
    """What needs a link, hours of steps or a Bible: numbers of the kind that come out."""
    rows = []
    for seed in (0, 1):
        for bound, slow in (("200 Mbit/s", 10.0), ("loopback", 0.5)):
            for hook in HOOKS:
                ms = {"dense": 100 * slow, "fp16": 50 * slow}.get(hook, 100.0 + seed)
                rows.append(
                    {"experiment": "link", "seed": seed, "variant": hook, "ms": ms, "bound": bound}
                )
        for hook in HOOKS:
            loss = 0.1 if hook == "EF21" else 1.0 + 0.1 * seed
            rows.append({"experiment": "training", "seed": seed, "variant": hook, "loss": loss})
        for variant in ("EF21-PP", "EF21-SGD"):
            for step, steps in (("qm", 500 + seed), ("am", 400)):
                rows.append(
                    {
                        "experiment": "noise",
                        "seed": seed,
                        "variant": variant,
                        "step": step,
                        "steps": steps,
                    }
                )
    for variant, starts in (("EF21", ("qm", "am")), ("EF14", ("qm", "am")), ("GD", ("am",))):
        for start in starts:
            row = {"experiment": "best", "variant": variant, "start": start, "steps": 50.0}
            rows.append({**row, "bytes": 1e6 if variant == "GD" else 1e4, "seed": 0})
    for books in (2, 5, 66):
        for weights, gain in (("uniform", 2.0), ("smoothness", 2.1), ("optimal", 2.5)):
            row = {"experiment": "rare", "books": books, "weights": weights, "gain": gain}
            rows.append({**row, "xi ratio": 2.1, "seed": 0})
    return rows


@pytest.fixture(scope="module")
def records(theory, synthetic, made_up):
    return pd.DataFrame([*theory, *synthetic, *made_up])


CHEAP = [
    {"experiment": "clones"},
    {"experiment": "heterogeneity", "spread": 1.0, "clients": 8},
    {"experiment": "best", "variant": "GD", "T": 10},
    {"experiment": "rare", "books": 0, "least": 0},
]


@pytest.mark.parametrize("config", CHEAP, ids=lambda c: c["experiment"])
def test_a_trial_is_flat_and_repeatable(config):
    assert_flat_and_repeatable(study, config)


@pytest.mark.slow
@pytest.mark.parametrize("experiment", ["theory", "noise", "identity", "best"])
def test_a_whole_trial_is_flat_and_repeatable(experiment):
    assert_flat_and_repeatable(
        study, next(c for c in study.trials("quick") if c["experiment"] == experiment)
    )


@pytest.mark.slow
@pytest.mark.parametrize("books", [2, 66])
def test_words_of_the_bible(books):
    rows = rows_of("rare", books=books, least=3)
    assert {r["weights"] for r in rows} == {"uniform", "smoothness", "optimal"}
    assert all(r["gain"] > 1 for r in rows)


REPRODUCED = (
    *("C1a", "C1b", "C1c", "C1d", "C1e", "C1f", "C3", "C4a", "C4b", "C5a", "C5b", "C6a", "C6b"),
    *("C6c", "C6d", "C7a", "C7b", "C7c", "C8a", "C8b", "C8c"),
)


def test_claims_judge(records):
    outcomes = {c.id: judged(c, records).outcome for c in CLAIMS}
    assert len(outcomes) == len(CLAIMS)
    for name in REPRODUCED:
        assert outcomes[name] is Outcome.REPRODUCED, name


def test_claims_can_come_out_either_way(records):
    slower = records.assign(ms=records["ms"].where(records["variant"] != "EF21", 1e4))
    assert {c.id: judged(c, slower) for c in CLAIMS}["C7a"].outcome is Outcome.NOT_REPRODUCED
    swapped = records.replace({"step": {"qm": "am", "am": "qm"}})
    outcomes = {c.id: judged(c, swapped).outcome for c in CLAIMS}
    assert outcomes["C5a"] is outcomes["C5b"] is Outcome.NOT_REPRODUCED
    none = records[~records["experiment"].isin(["link", "training"])].drop(columns=["ms", "loss"])
    outcomes = {c.id: judged(c, none).outcome for c in CLAIMS}
    assert outcomes["C7a"] is outcomes["C8a"] is Outcome.NOT_TESTED


def test_the_growth_is_the_least_of_three_differences(records):
    claim = next(c for c in CLAIMS if c.id == "C2a")
    flat = records.copy()
    where = (flat["experiment"] == "heterogeneity") & (flat["spread"] == 2.0)
    flat.loc[where, "steps"] = 100.0  # no gain at the largest spread, all the others as they were
    assert judged(claim, flat).ours.value < 0 < judged(claim, records).ours.value


def test_figures(records, monkeypatch):
    from matplotlib.figure import Figure

    for draw in FIGURES.values():
        draw(records, Figure().subplots())


def test_a_link_that_cannot_be_shaped_says_so(monkeypatch):
    monkeypatch.setattr("whp.distributed.links.why_not", lambda: "no root")
    for experiment in ("link", "training"):
        config = {"experiment": experiment, "d": 1000, "variant": "EF21", "budget": 0.1, "seed": 0}
        assert study.run(config, np.random.default_rng(0)) == [{"skipped": "no root"}]


def test_passes_are_timed_by_exchange_and_by_link(monkeypatch):
    """The worst rank of each pass counts, the first three passes do not, and each link has its place."""
    from contextlib import contextmanager
    from types import SimpleNamespace

    asked = []

    @contextmanager
    def link(rate):
        yield SimpleNamespace(namespaces=("a", "b"), host="h")

    def ranks(function, size, hook, d, steps, **place):
        asked.append((hook, d, place))
        slow = 2.0 if place else 1.0
        return [[9, 9, 9, 0.1, 0.1, 0.1], [9, 9, 9, slow, slow, slow]]

    monkeypatch.setattr("whp.distributed.links.why_not", lambda: "")
    monkeypatch.setattr("whp.distributed.links.shaped_link", link)
    monkeypatch.setattr("whp.distributed.processes.run_ranks", ranks)
    rows = experiments.link({"d": 100_000}, np.random.default_rng(0))
    assert [(r["variant"], r["ms"], r["bound"]) for r in rows] == [
        (hook, ms, bound)
        for bound, ms in (("200 Mbit/s", 2000.0), ("loopback", 1000.0))
        for hook in ("dense", "fp16", "EF21")
    ]
    assert asked[0] == ("dense", 100_000, {"namespaces": ("a", "b"), "host": "h"})
    assert asked[-1] == ("EF21", 100_000, {})


@pytest.mark.slow
@NEEDS_LINK
def test_the_link_is_measured():
    rows = study.run({"experiment": "link", "d": 100_000, "seed": 0}, np.random.default_rng(0))
    assert {r["bound"] for r in rows} == {"200 Mbit/s", "loopback"}


@pytest.mark.slow
def test_showcase():
    from matplotlib.figure import Figure

    from whp.studies.error_feedback.showcase import showcase

    card = showcase()
    card.draw(Figure(figsize=(6.4, 3.2)))
    assert all(c.verdict == "holds" for c in card.certificates)
