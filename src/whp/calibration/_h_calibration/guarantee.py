"""The theorems: a simultaneous band on the error, an exact test of calibration, unchanged ranks, and a check for overfitting.

Everything here is conditional on the inputs of the certification rows and on the map, so that only labels are random.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import rel_entr

from whp.calibration._h_calibration.objective import Objective
from whp.certificate import Certificate
from whp.intervals import Estimate, exact
from whp.undeclared import Assumption, met, unchecked, undeclared, violated

__all__ = [
    "Split",
    "assumptions",
    "band",
    "calibration_test",
    "error_band",
    "kl_interval",
    "overfit",
    "ranks",
]

PAPER = "Huang et al. 2025"
SHIFT_LEVEL = 0.01
DUPLICATES = 0.01
ORDER_TOLERANCE = 1e-12


def kl_interval(
    rates: np.ndarray, sizes: np.ndarray, log_term: float
) -> tuple[np.ndarray, np.ndarray]:
    """Ends of {q : m·kl(rate, q) ≤ log_term} for rates in [0, 1] and sizes m, by bisection; safe at both ends."""
    rates = np.asarray(rates, dtype=np.float64)
    room = log_term / np.asarray(sizes, dtype=np.float64)

    def divergence(q: np.ndarray) -> np.ndarray:
        return rel_entr(rates, q) + rel_entr(1 - rates, 1 - q)

    def end(outer: np.ndarray) -> np.ndarray:
        inside, outside = rates.copy(), outer
        for _ in range(60):
            middle = (inside + outside) / 2
            near = divergence(middle) <= room
            inside, outside = np.where(near, middle, inside), np.where(near, outside, middle)
        return outside

    low = np.where(rates > 0, end(np.zeros_like(rates)), 0.0)
    return np.where(rates > 0, low, 0.0), np.where(rates < 1, end(np.ones_like(rates)), 1.0)


def band(
    probs: np.ndarray, y: np.ndarray, blocks: int = 20, delta: float = 0.05, classwise: bool = False
) -> pd.DataFrame:
    """Blocks of entries of like probability, with simultaneous intervals for their mean true probability.

    Given the inputs, the outcomes of a block sum to S, a sum of m independent Bernoulli variables, one a distinct sample (a
    sample has one occurring class at most). Chernoff's bound P(S ≥ s) ≤ exp(−m kl(s/m, μ/m)) holds for such sums, so that with
    probability 1 − delta all blocks at once have their true mean in [q⁻ m/|W|, q⁺ m/|W|], m kl(S/m, q^±) = ln(2K/delta).

    Parameters
    ----------
    probs, y
        Probabilities (n, C) and classes (n,).
    blocks : int
        Number of blocks K, cut by probability and never by outcome.
    delta : float
        Failure probability for all of them.
    classwise : bool
        Cut each class's column into K blocks of its own; delta is then split over all K·C.

    Returns
    -------
    DataFrame
        A row a block: ``class`` (−1 for pooled), ``entries``, ``samples``, ``mean_predicted``, ``frequency``, ``lower``,
        ``upper``, and for the error of the mean ``error``, ``error_low``, ``error_high``.
    """
    n, classes = probs.shape
    hits = np.zeros((n, classes))
    hits[np.arange(n), y] = 1.0
    cells = [(c, np.arange(n), probs[:, c], hits[:, c]) for c in range(classes)]
    if not classwise:
        cells = [(-1, np.repeat(np.arange(n), classes), probs.ravel(), hits.ravel())]
    rows = []
    for c, sample, p, o in cells:
        order = np.argsort(p, kind="stable")
        rows += [
            (
                c,
                len(part),
                len(np.unique(sample[part])),
                float(p[part].mean()),
                float(o[part].sum()),
            )
            for part in np.array_split(order, min(blocks, len(order)))
        ]
    table = pd.DataFrame(rows, columns=["class", "entries", "samples", "mean_predicted", "sum"])
    entries, samples = table["entries"].to_numpy(float), table["samples"].to_numpy(float)
    total, stated = table.pop("sum").to_numpy(), table["mean_predicted"].to_numpy()
    low, high = kl_interval(total / samples, samples, math.log(2 * len(table) / delta))
    lower, upper = low * samples / entries, np.minimum(high * samples / entries, 1.0)
    frequency = total / entries
    return table.assign(
        frequency=frequency,
        lower=lower,
        upper=upper,
        error=np.abs(stated - frequency),
        error_low=np.maximum(0.0, np.maximum(lower - stated, stated - upper)),
        error_high=np.maximum(np.abs(stated - lower), np.abs(stated - upper)),
    )


def _rows_that_decide(table: pd.DataFrame, epsilon: float, n: int) -> str:
    """How many rows would decide, if the frequencies stayed as they are: widths shrink like 1/√n."""
    gap = float(np.abs(table["error"] - epsilon).min())
    width = float((table["error_high"] - table["error"]).max())
    worst = float(table["error"].max())
    room = abs(epsilon - worst)
    if room <= 1e-3 or gap == 0:
        return "the estimate is next to epsilon itself: choose another epsilon."
    return f"about {math.ceil(n * max(1.1, (width / room) ** 2) / 100) * 100:,} certification rows would decide (there are {n:,})."


def error_band(
    probs: np.ndarray,
    y: np.ndarray,
    *,
    epsilon: float = 0.05,
    delta: float = 0.05,
    blocks: int = 20,
    classwise: bool = False,
    assumptions: Sequence[Assumption] = (),
) -> Certificate:
    """Certificate that in every block of stated probabilities their mean is within `epsilon` of the true one.

    See :func:`band`; `probs` must not depend on `y`.
    """
    table = band(probs, y, blocks, delta, classwise)
    stated = table["mean_predicted"]
    measured = Estimate(
        float(table["error"].max()),
        float(table["error_low"].max()),
        float(table["error_high"].max()),
        1 - delta,
        len(y),
        "Chernoff, simultaneous",
    )
    scope = f"in each of {len(table)} {'blocks of one class' if classwise else 'blocks of all classes together'}"
    return undeclared(
        "error-bound",
        f"{scope}, of equally many entries of like probability, the mean stated probability is within epsilon of the mean true "
        "one; measured is the largest error with its simultaneous interval",
        f"derived here: Chernoff's bound for sums of independent events; the error that {PAPER} bounds asymptotically",
        "<=",
        epsilon,
        1 - delta,
        measured,
        trivial=float(np.maximum(stated, 1 - stated).max()),
        assumptions=tuple(assumptions),
        inputs={
            "rows": len(y),
            "blocks": len(table),
            "delta": delta,
            "least samples in a block": int(table["samples"].min()),
        },
        needs=_rows_that_decide(table, epsilon, len(y)),
        remedy="try mapping='ensemble' or 'auto', or state a larger epsilon.",
    )


def calibration_test(
    probs: np.ndarray,
    y: np.ndarray,
    objective: Objective,
    *,
    delta: float = 0.05,
    resamples: int = 199,
    rng: np.random.Generator | int | None = None,
    assumptions: Sequence[Assumption] = (),
) -> tuple[Certificate, np.ndarray]:
    """Exact test of perfect calibration, and the resampled errors it rests on.

    If the probabilities are the true ones, the labels are one more draw from them: the rank of their error among those of B
    draws is uniform, for any n, any number of classes and any fixed map.
    """
    value = objective(probs, y)
    null = np.sort(objective.null(probs, resamples, np.random.default_rng(rng)))
    allowed = math.floor(delta * (resamples + 1) + 1e-9)
    bound = float(null[resamples - allowed]) if allowed >= 1 else math.inf
    order = np.sort(probs, axis=None)
    prefix = np.concatenate([[0.0], np.cumsum(order)])
    half, at = objective.window // 2, np.arange(len(order))
    low, high = np.maximum(0, at - half), np.minimum(len(order), at + half + 1)
    means = (prefix[high] - prefix[low]) / (high - low)
    certificate = undeclared(
        "calibration-test",
        f"the {objective.kind} windowed error is not above the {1 - delta:.4g} quantile of its law under perfect calibration; "
        "fails means that perfect calibration is refuted",
        f"derived here: exact rank test; statistic of {PAPER}",
        "<=",
        bound,
        1 - delta,
        exact(value),
        trivial=float(np.maximum(means, 1 - means).mean()),
        assumptions=tuple(assumptions),
        inputs={
            "p-value": (1 + int((null >= value).sum())) / (resamples + 1),
            "resamples": resamples,
            "window": objective.window,
            "median under calibration": float(np.median(null)),
        },
        remedy="some error is left: see error-bound for how large; try mapping='ensemble', 'piecewise' or 'auto'.",
    )
    return certificate, null


def ranks(before: np.ndarray, after: np.ndarray) -> Certificate:
    """Certificate that no row's classes changed order; `before` are logits or probabilities, ties there may break either way."""
    rows = np.arange(len(before))
    order = np.argsort(before, axis=1, kind="stable")
    sorted_after = np.take_along_axis(after, order, axis=1)
    strict = np.diff(np.take_along_axis(before, order, axis=1), axis=1) > 0
    falls = ((np.diff(sorted_after, axis=1) < -ORDER_TOLERANCE) & strict).any(axis=1)
    top = before[rows, after.argmax(axis=1)] < before.max(axis=1) - ORDER_TOLERANCE
    # Where saturated logits round to equal probabilities, arg-max may point to any of the equals.
    top &= after.max(axis=1) > after[rows, before.argmax(axis=1)]
    return undeclared(
        "accuracy-preserved",
        "no row's classes change their order (to 1e-12), so every arg-max and the accuracy stay as they were",
        f"{PAPER}: the maps increase strictly with each logit",
        "<=",
        0.0,
        1.0,
        exact(float((falls | top).sum())),
        assumptions=(
            met("the map increases strictly within a row", "by construction of all maps here"),
        ),
        inputs={"rows": len(before), "changed arg-max": int(top.sum())},
        remedy="this map is not one of ours; its decisions differ from the classifier's.",
    )


def overfit(
    probs: np.ndarray,
    y: np.ndarray,
    objective: Objective,
    *,
    delta: float = 0.05,
    resamples: int = 199,
    rng: np.random.Generator | int | None = None,
) -> Certificate:
    """Certificate that the error on the rows that fitted the map is not below what perfect calibration leaves."""
    value = objective(probs, y)
    null = np.sort(objective.null(probs, resamples, np.random.default_rng(rng)))
    allowed = math.floor(delta * (resamples + 1) + 1e-9)
    bound = float(null[allowed - 1]) if allowed >= 1 else 0.0
    return undeclared(
        "overfit",
        f"on the rows that fitted the map its error is not below the {delta:.4g} quantile of what a perfectly calibrated model "
        "shows; below it the map has fitted the noise of the labels",
        "derived here: the rank test of calibration-test, other side",
        ">=",
        bound,
        1 - delta,
        exact(value),
        trivial=0.0,
        assumptions=(
            unchecked(
                "fitting lowers the error by less than the spread of the law",
                "it lowers it by a little, always",
            ),
        ),
        inputs={
            "rows": len(y),
            "resamples": resamples,
            "median under calibration": float(np.median(null)),
        },
        remedy="use a map with fewer parameters, or more rows; trust only what was measured on held-out rows.",
    )


@dataclass(frozen=True)
class Split:
    """Rows that fitted the map and rows that certify it: their raw probabilities, logits and labels."""

    fit_probs: np.ndarray
    fit_z: np.ndarray
    fit_y: np.ndarray
    certify_probs: np.ndarray
    certify_z: np.ndarray
    certify_y: np.ndarray
    held_out: bool = True
    refitted: bool = False


def _duplicates(*tables: np.ndarray) -> int:
    rows = np.ascontiguousarray(np.concatenate(tables))
    keys = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()
    return len(keys) - len(np.unique(keys))


def assumptions(split: Split) -> tuple[Assumption, ...]:
    """A1 to A3: one law, rows not used for fitting, and distinct rows."""
    return (_one_law(split), _unused(split), _distinct(split))


def _one_law(split: Split) -> Assumption:
    from scipy.stats import chi2_contingency, ks_2samp

    statement = "the rows for fitting and for certifying are independent draws from one law"
    if not split.held_out:
        return unchecked(statement, "there is one sample only")

    def views(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return p.max(axis=1), -(p * np.log(np.maximum(p, 1e-300))).sum(axis=1)

    values = [
        float(ks_2samp(a, b).pvalue)
        for a, b in zip(views(split.fit_probs), views(split.certify_probs), strict=True)
    ]
    classes = split.fit_probs.shape[1]
    counts = np.array([np.bincount(y, minlength=classes) for y in (split.fit_y, split.certify_y)])
    counts = counts[:, counts.sum(axis=0) > 0]
    values.append(float(chi2_contingency(counts).pvalue) if counts.shape[1] > 1 else 1.0)
    evidence = "p-values: top probability {:.2g}, entropy {:.2g}, labels {:.2g}".format(*values)
    if min(values) < SHIFT_LEVEL / 3:
        return violated(
            statement, evidence, "calibrate on rows from where the probabilities will be used."
        )
    return met(
        statement,
        f"{evidence}, none below {SHIFT_LEVEL / 3:.2g}; data can refute this, never prove it",
    )


def _unused(split: Split) -> Assumption:
    statement = "the map was fitted without the rows that certify it"
    if not split.held_out:
        return violated(
            statement,
            "all rows went into the fit",
            "hold rows back (certify > 0) or give a test sample.",
        )
    if split.refitted:
        return unchecked(
            statement, "the map was refitted on all rows; what was certified is the map before that"
        )
    return met(
        statement,
        "held back before fitting; that the classifier did not see them cannot be checked",
    )


def _distinct(split: Split) -> Assumption:
    statement = "rows are distinct events"
    tables = (split.fit_z, split.certify_z) if split.held_out else (split.fit_z,)
    found, total = _duplicates(*tables), sum(map(len, tables))
    evidence = f"{found} of {total} rows repeat another exactly"
    if found > DUPLICATES * total:
        return violated(
            statement, evidence, "drop repeated rows, above all across fit and certification."
        )
    return met(statement, evidence)
