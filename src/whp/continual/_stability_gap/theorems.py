"""Certificates: what the usual evaluation hid, whether the subsets were fair, and what the first step of a task is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from whp.certificate import Certificate
from whp.continual.stability_gap.bands import band
from whp.continual.stability_gap.intervals import Limits
from whp.continual.stability_gap.metrics import Metrics
from whp.continual.stability_gap.outcomes import Audit
from whp.intervals import Estimate, exact
from whp.undeclared import Assumption, met, unchecked, undeclared, violated

__all__ = [
    "assumptions",
    "band_audit",
    "envelope",
    "first_step",
    "hidden_drop",
    "temporary_forgetting",
]

PAPER = "De Lange, van de Ven, Tuytelaars 2023"
SLACK = 1e-12
AT_REST = 1e-5


def assumptions(limits: Limits, audit: Audit | None) -> tuple[Assumption, ...]:
    """A1 rows not trained on; A2 a fixed random subset; A3 every update; A4 no influence on training; A5 rows drawn alike."""
    found = []
    unused = "rows for evaluation are not trained on"
    if audit is None or audit.overlap is None:
        found.append(unchecked(unused, "training rows were not shown"))
    elif audit.overlap:
        found.append(
            violated(
                unused,
                f"{audit.overlap} of them were, to the last bit",
                "take copies out of one of the sets",
            )
        )
    else:
        found.append(met(unused, "no row of the one is in the other"))
    fixed = "each subset was drawn uniformly before training, and nothing was chosen by it"
    if limits.n is None:
        found.append(
            unchecked("accuracies are exact", "n, the number of rows behind them, was not given")
        )
    elif audit is not None:
        found.append(met("each subset was drawn uniformly, once, before training"))
        found.append(
            unchecked("nothing was chosen by the evaluations", "no early stopping, no tuning")
        )
    else:
        found.append(unchecked(fixed, "accuracies alone do not show it"))
    same = "evaluating leaves training as it was"
    if audit is None or audit.changed is None:
        found.append(unchecked(same))
    elif audit.changed:
        found.append(violated(same, "it changes " + ", ".join(audit.changed)))
    else:
        found.append(met(same, "generators, buffers and modes are the same before and after"))
    if limits.n is not None and limits.target == "population":
        found.append(unchecked("evaluation rows are independent draws of their task"))
    return tuple(found)


def hidden_drop(limits: Limits, gap: float, known: tuple[Assumption, ...]) -> Certificate:
    """Whether evaluating at the ends of tasks alone would have hidden more than `gap`."""
    measured, trivial = limits.hidden()
    return undeclared(
        "hidden-drop",
        "the accuracy at the end exceeds the worst-case accuracy by at most gap: evaluating at the ends of tasks hides no more "
        "than that. It fails where a stability gap is proved",
        f"derived here for the metrics of {PAPER}: exact limits of paired differences for all evaluations at once",
        "<=",
        float(gap),
        1.0 if measured.low == measured.high else 1 - limits.delta,
        measured,
        trivial=trivial,
        assumptions=known,
        inputs={
            "tasks": len(limits.curves.ends),
            "evaluations": len(limits.curves.times),
            "paired": limits.outcomes is not None,
            "every update": limits.dense,
        },
        needs="evaluate more rows, pass correct for paired limits, or evaluate after every update: between evaluations anything "
        "may have happened",
        remedy="the model was worse on old tasks between the ends of tasks: do not serve it there, or serve the one before; a "
        "gap as large as the accuracy itself can hide nothing.",
    )


def temporary_forgetting(
    limits: Limits, gap: float, known: tuple[Assumption, ...]
) -> tuple[Certificate, pd.DataFrame]:
    """Whether some old task fell by `gap` and came back by as much while one new task was learnt; and the table of gaps."""
    table, measured = limits.gaps()
    return undeclared(
        "temporary-forgetting",
        "some old task lost at least gap while one new task was learnt, and got at least that back before it ended",
        f"derived here for the phenomenon that {PAPER} describe: exact limits of paired differences",
        ">=",
        float(gap),
        1.0 if measured.low == measured.high else 1 - limits.delta,
        measured,
        trivial=0.0,
        assumptions=known,
        inputs={"gaps": len(table)},
        needs="evaluate more rows, or pass correct for paired limits",
        remedy="no such gap was seen.",
    ), table


def band_audit(limits: Limits, audit: Audit) -> Certificate:
    """Whether the whole sets, where they were looked at, lie in the band made of the subsets."""
    assert limits.n is not None
    assert limits.n_total is not None
    curves = limits.curves
    pairs = int(np.isfinite(curves.accuracy).sum())
    worst = 0.0
    for i, t, full in audit.full:
        seen = np.array([curves.accuracy[i, t]])
        low, high = band(seen, limits.n[i], limits.delta / pairs, limits.n_total[i], "set")
        room = high[0] - seen[0] if full > seen[0] else seen[0] - low[0]
        off = abs(full - seen[0])
        worst = max(worst, off / room if room > 0 else (0.0 if off < SLACK else np.inf))
    return undeclared(
        "band-audit",
        "accuracies on the whole sets, looked at where new minima appeared, lie within the band that their subsets gave",
        "derived here: hypergeometric limits for all evaluations at once",
        "<=",
        1.0,
        1 - limits.delta,
        exact(float(worst)) if audit.full else None,
        assumptions=(met("rows of a set are what counts", "target='set'"),),
        inputs={"looked at": len(audit.full)},
        needs="let the recorder look at whole sets: audit ≥ 1",
        remedy="the subset is not a random sample of its set: draw it anew, uniformly, before training.",
    )


def first_step(grads: pd.DataFrame, known: tuple[Assumption, ...]) -> Certificate:
    """Whether the stability gradient is zero at the first step of every new task, which is then plain fine-tuning."""
    first = grads[(grads["step"] == 0) & (grads["task"] > 0)]
    ratios = first["stability"] / first["plasticity"].where(first["plasticity"] > 0)
    if len(first) == 0:
        measured = None
    else:
        measured = exact(float(ratios.fillna(np.inf).max()))
    return undeclared(
        "first-step",
        "at the first step of every new task the stability loss has no gradient, whatever its strength: that step is plain "
        "fine-tuning, and what it does to old tasks nobody holds back",
        f"derived here: a quadratic at its centre, a divergence of equals; the explanation that {PAPER} give in words",
        "<=",
        AT_REST,
        1.0,
        measured,
        assumptions=known,
        inputs={
            f"task {int(t) + 1}": float(r)
            for t, r in zip(first["task"], ratios.fillna(np.inf), strict=True)
        },
        needs="train at least two tasks with record_gradients=True",
        remedy="an anchor is not where the old model was; with one anchor for each old task only the first switch starts at rest.",
    )


def envelope(found: Metrics, reported: dict[str, float]) -> Certificate:
    """The inequality between worst-case and mean accuracy, on our numbers and on those that were reported."""
    excess = float((found.wc_curve - found.acc_curve).max())
    inputs: dict[str, Any] = {"ACC": found.acc, "WC-ACC": found.wc_acc}
    if "wc_acc" in reported:
        excess = max(
            excess,
            reported["wc_acc"] - reported.get("acc", found.acc),
            found.wc_acc - reported["wc_acc"],
        )
    if "acc" in reported:
        excess = max(excess, abs(reported["acc"] - found.acc))
    inputs |= {f"reported {k}": v for k, v in reported.items()}
    return undeclared(
        "envelope",
        "worst-case accuracy never exceeds the mean accuracy of the same moment; a reported one lies between what all evaluations "
        "give and the mean, since fewer evaluations can only flatter",
        "derived here: a minimum over a set that holds the moment itself",
        "<=",
        SLACK if not reported else 5e-4,  # reports are rounded
        1.0,
        Estimate(excess, excess, excess, 1.0, None, "exact"),
        assumptions=(met("accuracies of old tasks are of the same model as the new one's"),),
        inputs=inputs,
        remedy="the reported numbers do not belong to these curves.",
    )
