import ast
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import whp.studies
from whp.catalogue import CATALOGUE
from whp.experiment.claims import Outcome
from whp.experiment.study import load

BUILT = [m.slug for m in CATALOGUE if m.status == "built"]
SOURCES = sorted(Path(whp.studies.__path__[0]).rglob("*.py"))


@pytest.mark.parametrize("scale", ["quick", "standard", "full"])
@pytest.mark.parametrize("slug", BUILT)
def test_trials_are_plain_and_unique(slug, scale):
    tasks = load(slug).tasks(scale)
    assert tasks
    assert len({json.dumps(t.identity, sort_keys=True) for t in tasks}) == len(tasks)


@pytest.mark.parametrize("slug", BUILT)
def test_an_unknown_experiment_is_refused(slug):
    with pytest.raises(ValueError, match="experiment"):
        load(slug).run({"experiment": "other", "seed": 0}, np.random.default_rng(0))


@pytest.mark.parametrize("slug", BUILT)
def test_claims_are_numbered_once_and_figures_are_drawn_by_name(slug):
    study = load(slug)
    ids = [c.id for c in study.CLAIMS]
    assert ids
    assert len(set(ids)) == len(ids)
    assert all(callable(draw) for draw in study.FIGURES.values())


@pytest.mark.parametrize("slug", BUILT)
def test_nothing_stands_in_for_what_was_not_run(slug):
    """Without a single record no claim may have a measurement, but for those that are computed from nothing."""
    nothing = pd.DataFrame({"experiment": pd.Series(["none"]), "seed": [0], "error": [""]})
    for claim in load(slug).CLAIMS:
        if claim.computed:
            continue
        assert claim.judge(nothing).outcome is Outcome.NOT_TESTED, claim.id


def endless(node: ast.expr) -> bool:
    """Whether an argument is an end that no data gave: infinite, or a large round number."""
    try:
        value = abs(float(ast.literal_eval(node)))
    except (ValueError, TypeError):
        return "inf" in ast.unparse(node)
    return math.isinf(value) or value >= 100


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.name)
def test_no_interval_is_invented(path):
    in_package = path.parent != Path(whp.studies.__path__[0])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or ast.unparse(node.func).split(".")[-1] != "Estimate":
            continue
        where = f"{path.name}:{node.lineno}"
        assert not in_package, f"{where}: take a measure of whp.experiment.measures"
        arguments = [*node.args[:3], *(k.value for k in node.keywords)]
        assert not any(endless(a) for a in arguments), where
        constants = [a for a in node.args[:3] if isinstance(a, ast.Constant | ast.UnaryOp)]
        assert len(constants) < 2, f"{where}: these ends do not come from data"


@pytest.mark.parametrize(
    "code", ["1e3", "-1e3", "float('inf')", "math.inf", "-np.inf", "1e9", "1e6"]
)
def test_invented_ends_are_recognised(code):
    assert endless(ast.parse(code, mode="eval").body)
    assert not endless(ast.parse("high", mode="eval").body)
