"""What a run says of the conditions that both variants of the method rest on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from whp.certificate import Answer
from whp.concentration import chernoff
from whp.intervals import Estimate
from whp.invariance._causal_minimax import checks
from whp.invariance._causal_minimax import theorems as th
from whp.invariance._causal_minimax.graph import Dag, reversible_edges
from whp.invariance._causal_minimax.rows import Rows

__all__ = ["common_answers", "graph_answer", "kept_answer", "largest_mean"]

OUTSIDE = 0.05  # share of an environment's rows outside of the support that is still the claim's


def largest_mean(
    rows: Rows, losses: np.ndarray, outside: np.ndarray
) -> tuple[Estimate, dict[str, float]]:
    """Largest mean loss over held-out environments, all at once with 95 %; and each one's share outside.

    Rows outside of the support count 0: the claim is about pairs inside.
    """
    assert rows.held_env is not None
    names, which = np.unique(rows.held_env, return_inverse=True)
    n = np.bincount(which)
    inside = np.bincount(which, np.where(outside, 0.0, np.minimum(losses, 1.0))) / n
    shares = np.bincount(which, outside) / n
    low, high = chernoff(inside, n, 0.05 / len(names))
    unit = rows.width**2
    measured = Estimate.between(
        float(low.max()) * unit,
        float(high.max()) * unit,
        value=float(inside.max()) * unit,
        level=0.95,
        n=int(n.min()),
        method="Chernoff",
    )
    return measured, {str(k): float(v) for k, v in zip(names, shares, strict=True)}


def common_answers(
    rows: Rows, dag: Dag, outside: Mapping[str, float], refit: bool
) -> dict[str, Answer]:
    """Those that both methods give alike."""
    made: dict[str, Answer] = {}
    if outside and max(outside.values()) > OUTSIDE:
        name = max(outside, key=lambda k: outside[k])
        made[th.SUPPORT.name] = th.SUPPORT.check(
            False, f"{outside[name]:.1%} of environment {name!r} are outside of the support"
        )
    made[th.HIDDEN.name] = th.HIDDEN.unchecked("no table shows what is not in it")
    repeated, counted = checks.copied(rows.raw, dag.order)
    made[th.ROWS.name] = (
        th.ROWS.check(False, f"{counted}, although a column hardly repeats")
        if repeated
        else th.ROWS.unchecked(f"{counted}; balanced classes and clusters cannot be seen")
    )
    made[th.RANGE.name] = _range_answer(rows)
    made[th.MUTABLE.name] = th.MUTABLE.check(
        bool(dag.mutable), f"mutable: {', '.join(dag.mutable) or 'nothing'}"
    )
    made[th.CERTIFIED.name] = (
        th.CERTIFIED.check(
            False, "certified is the predictor of half A, not this one, fitted on all rows"
        )
        if refit
        else th.CERTIFIED.by_construction("what predicts is what half B was asked about")
    )
    return made


def _range_answer(rows: Rows) -> Answer:
    told = f"[{rows.low:g}, {rows.high:g}]"
    y = rows.held[rows.target].to_numpy(float)
    if len(y) and (y.min() < rows.low or y.max() > rows.high):
        return th.RANGE.check(
            False,
            f"a held-out row has {y[np.abs(y - (rows.low + rows.high) / 2).argmax()]:g}, outside of {told}",
        )
    if rows.ranged == "given":
        return th.RANGE.check(True, f"{told} was given, and all rows lie in it")
    if rows.ranged == "truth values":
        return th.RANGE.check(True, "truth values")
    return th.RANGE.unchecked(f"{told} is what was observed")


def graph_answer(found: checks.Found, dag: Dag, discovered: bool) -> Answer:
    """What the implied independences say, and which directions none of them sees."""
    turned = [f"{a} -> {b}" for a, b in reversible_edges(dag)]
    shown = ", ".join(turned[:6]) + (", …" if len(turned) > 6 else "")
    blind = f"; no test sees the direction of {shown}" if turned else ""
    if found.p < checks.LEVEL:
        return th.GRAPH.check(False, f"{found.what}, p = {found.p:.2g}")
    if discovered:
        return th.GRAPH.unchecked(f"discovered from half A, not given{blind}")
    if not found.tests:
        return th.GRAPH.unchecked(f"{found.sees.removeprefix('nothing: ')}{blind}")
    return th.GRAPH.tested(found.p, checks.LEVEL, found.sees + blind)


def kept_answer(codes: Any, dag: Dag, rows: Rows) -> Answer:
    """Whether anything but the mutable mechanisms differs between the training environments."""
    if rows.env is None:
        return th.KEPT.unchecked("no column names environments (env=)")
    names, which = np.unique(rows.env, return_inverse=True)
    if len(names) < 2:
        return th.KEPT.unchecked("there is one training environment")
    found = checks.kept_test(codes, dag, which, [str(n) for n in names])
    if found.p < checks.LEVEL:
        return th.KEPT.check(False, f"{found.what}, p = {found.p:.2g}")
    return th.KEPT.tested(found.p, checks.LEVEL, found.sees)
