"""What rows show of the conditions of the bound: copies, and labels that are not as was stated."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, logsumexp
from scipy.stats import binomtest

from whp import conditions
from whp.certificate import Answer
from whp.losses._comp_sum_losses.loss import mixed_log, picked
from whp.losses._comp_sum_losses.rows import Rows
from whp.losses._comp_sum_losses.theorems import INDEPENDENT, NOT_TRAINED_ON, SOURCE
from whp.validate import private_stream

__all__ = ["answers"]

REPEATED = 0.01  # share of rows from which copies void
LEVEL = 0.001  # of all tests of the labels together
BINS = 10
MANY = 50  # classes, beyond which they are not looked at one by one
FEW = 20  # classes, up to which each pair of them is looked at
DRAWS = 9999  # tables of flips
FIRST, PLAIN = 499, 0.05  # of which so many are drawn first, and suffice for a p-value above this
LEARNT = 8000  # rows, of which a half learns a correction at most
TINY, FAR = 1e-12, -12.0


def answers(rows: Rows, *, distinct: bool, excess_limit: float) -> tuple[Answer, Answer, Answer]:
    """Independent rows, new to the model, with labels as stated."""
    new = NOT_TRAINED_ON.unchecked("scores cannot tell; ask who trained the model")
    return independent(rows, distinct), new, source(rows, excess_limit)


def independent(rows: Rows, distinct: bool) -> Answer:
    """Copies show that rows are not independent; nothing shows that they are."""
    one = rows.once()
    if not distinct:
        return INDEPENDENT.unchecked("equal rows are said to be no copies")
    z = one.logits / (np.abs(one.logits[np.isfinite(one.logits)]).max() or 1.0)  # of any unit
    z = z - z.max(axis=1, keepdims=True)
    z = np.where(np.isneginf(z), -100.0, z)
    # Scores of two classes lie on a line, where neighbours are near by chance.
    within = min(1e-6, 1e-3 / len(z)) if rows.n_classes == 2 else 1e-6
    # Scores that are rounded, saturated or shares of votes tie by themselves; copies tie in numbers
    # that no other row has.
    own, tied = _own_values(one.logits if one.given is None else one.given)
    exact, near = (0.0, 0.0)
    if own.any():
        exact, near = conditions.copies(z[own], one.y[own], within=within)
        exact, near = exact * own.mean(), near * own.mean()
    why = f"{exact:.1%} of the rows repeat another one exactly, {near:.1%} nearly"
    if tied > exact:
        why += f"; {tied - exact:.1%} tie in numbers that other rows have, too, which says nothing"
    if max(exact, near) > REPEATED:
        return INDEPENDENT.check(False, why)
    if rows.groups is not None:
        why = f"{len(one.y):,} groups are counted, not rows; {why}"
    return INDEPENDENT.unchecked(f"{why}; rows that depend on each other cannot be seen")


def _own_values(given: np.ndarray) -> tuple[np.ndarray, float]:
    """Whether each row has a score that none but its copies have, and the share of rows that tie.

    A probability of 0 or 1 is no such score.
    """
    distinct, of = np.unique(given, axis=0, return_inverse=True)
    _, codes, counts = np.unique(distinct, return_inverse=True, return_counts=True)
    single = counts[codes].reshape(distinct.shape) == 1
    single &= np.isfinite(distinct) & (distinct != 0) & (distinct != 1)
    return single.any(axis=1)[of.ravel()], 1 - len(distinct) / len(given)


def source(rows: Rows, excess_limit: float) -> Answer:
    """Whether labels refute what was stated of them; they cannot confirm it."""
    if rows.conditional is None and rows.noise is None:
        return SOURCE.by_construction("nothing was stated; the least risk is 0, never more")
    if excess_limit < 0:
        return SOURCE.check(
            False, f"the risk lies {-excess_limit:.3g} below the least that such labels allow"
        )
    one = rows.once()
    if one.conditional is not None:
        return _conditional(one)
    if one.y_clean is None:
        return SOURCE.unchecked("without y_clean flips cannot be looked at")
    return _flips(one)


def _conditional(rows: Rows) -> Answer:
    assert rows.conditional is not None
    P = rows.conditional
    if rows.votes:
        return SOURCE.unchecked(
            f"votes of {rows.votes} stand in for the true probabilities; the bound is the larger for "
            "it, and no excess error is measured by them"
        )
    likely = picked(P, rows.y)
    if (likely <= 0).any():
        row = int(likely.argmin())
        return SOURCE.check(False, f"row {row} has a label of probability 0")
    p, where, looks = refuted(P, rows.y, rows.predicted, rows.logits)
    if p < LEVEL:
        return SOURCE.check(False, f"{where}: p = {p:.2g} < {LEVEL:g} over {looks} looks")
    return SOURCE.unchecked(
        f"calibrated as far as {looks} looks by bin, class and prediction show (p = {p:.2g}), which a "
        "coarse or blind teacher is, too: that they are the truth is yours to say"
    )


def refuted(
    P: np.ndarray, y: np.ndarray, predicted: np.ndarray, logits: np.ndarray
) -> tuple[float, str, int]:
    """p-value of the labels were they drawn from P, where they are furthest off, and how many looks.

    Every look is a sum over rows of something with mean 0 and values within 1, weighed by
    Bernstein's inequality, so that the p-value is valid at every n.
    """
    n, classes = P.shape
    rows = np.arange(n)
    off, variance = np.zeros_like(P), P * (1 - P)
    off[rows, y] = 1.0
    off -= P
    top = P.argmax(axis=1)
    looks: list[tuple[str, np.ndarray, np.ndarray]] = []

    def look(name: str, codes: np.ndarray, column: np.ndarray) -> None:
        sums = np.bincount(codes, off[rows, column], minlength=1)
        looks.append((name, sums, np.bincount(codes, variance[rows, column], minlength=1)))

    look("the likeliest class, by its probability", _bins(P[rows, top]), top)
    look("the predicted class, by its probability", _bins(P[rows, predicted]), predicted)
    margin = np.sort(logits, axis=1)[:, -1] - np.sort(logits, axis=1)[:, -2]
    look("the predicted class, by the model's margin", _bins(margin), predicted)
    look("the predicted class, one by one", predicted, predicted)
    apart = (predicted != top).astype(int)
    look("the predicted class where the likeliest is another", apart, predicted)
    look("the likeliest class where another is predicted", apart, top)
    for c in range(classes if classes <= MANY else 0):
        column = np.full(n, c)
        look(f"class {c}", np.zeros(n, dtype=int), column)
        look(f"class {c} by its probability", _bins(P[:, c]), column)
        look(f"class {c} by what is predicted", predicted, column)
    squares = (P**2).sum(axis=1)
    sharp = (P[rows, y] - squares).sum()
    spread = ((P**3).sum(axis=1) - squares**2).sum()
    looks.append(("probabilities too sharp or too flat", np.array([sharp]), np.array([spread])))
    count = sum(len(s) for _, s, _ in looks)
    best, where = bet_against(P, y, logits), "a correction learnt on every other row"
    for name, sums, variances in looks:
        far = np.abs(sums)
        log_p = np.log(2 * count) - far**2 / np.maximum(2 * (variances + far / 3), 1e-300)
        p = float(np.exp(min(0.0, log_p[far > 0].min(initial=0.0))))
        if p < best:
            best, where = p, name
    return min(1.0, 2 * best), where, count + 1


def bet_against(P: np.ndarray, y: np.ndarray, logits: np.ndarray) -> float:
    """p-value of a bet: a correction of P, learnt on every other row, against P on the rows between.

    Were labels drawn from P, the expected likelihood ratio would be 1 whatever was learnt, so that its
    inverse is a p-value at every n (Markov's inequality). Small errors in many places add up in it.
    """
    n, classes = P.shape
    base = np.log(np.maximum(P, TINY))
    if classes <= MANY:
        own = mixed_log(logits, TINY)
        features = np.column_stack([base.clip(FAR), own.clip(FAR), np.ones(n)])
    else:
        features = np.ones((n, 1))
    scale = features.std(axis=0)
    features = (features - np.where(scale > 0, features.mean(axis=0), 0)) / np.where(
        scale > 0, scale, 1
    )
    logs = []
    for first in (0, 1):
        learn, test = slice(first, None, 2), slice(1 - first, None, 2)
        step = 2 * max(1, n // LEARNT)
        learn = slice(first, None, step) if n > LEARNT else learn
        weight = _correction(base[learn], features[learn], y[learn])
        made = log_softmax(_corrected(weight, base[test], features[test]), axis=1)
        plain = log_softmax(base[test], axis=1)
        rows = np.arange(len(made))
        logs.append(float((made - plain)[rows, y[test]].sum()))
    return float(np.exp(min(0.0, np.log(2) - logsumexp(logs))))


def _corrected(weight: np.ndarray, base: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Logarithms of P, a power of it and what the features add."""
    return (1 + weight[0]) * base + features @ weight[1:].reshape(features.shape[1], -1)


def _correction(base: np.ndarray, features: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Weights of the likeliest correction, with a standard normal prior; all 0 leave P as it is."""
    n, classes = base.shape
    rows = np.arange(n)

    def loss(weight: np.ndarray) -> tuple[float, np.ndarray]:
        z = _corrected(weight, base, features)
        z -= z.max(axis=1, keepdims=True)
        off = np.exp(z)
        sums = off.sum(axis=1)
        found = float(np.log(sums).sum() - z[rows, y].sum())
        off /= sums[:, None]
        off[rows, y] -= 1
        slope = np.r_[np.vdot(off, base), (features.T @ off).ravel()] + weight
        return found + float(weight @ weight) / 2, slope

    start = np.zeros(1 + features.shape[1] * classes)
    return minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 60}).x


def _bins(values: np.ndarray) -> np.ndarray:
    """Number of the bin of each value, about equally many in each; equal values share one."""
    ends = np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1])
    return np.searchsorted(ends, values, side="right")


def _flips(rows: Rows) -> Answer:
    """The table of flips, a row a clean class, and flips where the model errs, against the rate stated."""
    assert rows.noise is not None
    assert rows.y_clean is not None
    noise, classes, clean = rows.noise, rows.n_classes, rows.y_clean
    flipped = rows.y != clean
    seen = f"{flipped.mean():.4g} of the labels differ"
    if noise == 0:
        if flipped.any():
            return SOURCE.check(False, f"{int(flipped.sum())} labels differ")
        return SOURCE.unchecked("no label differs; that they are certain cannot be seen")
    wrong = rows.predicted != clean
    tests = [
        (int((flipped & ~wrong).sum()), int((~wrong).sum()), noise),
        (int((flipped & wrong).sum()), int(wrong.sum()), noise),
        (int((rows.y == rows.predicted)[wrong].sum()), int(wrong.sum()), noise / (classes - 1)),
    ]
    single = min(float(binomtest(k, m, q).pvalue) for k, m, q in tests if m)
    p = min(1.0, 2 * table_p_value(rows.y, clean, noise, classes), 2 * len(tests) * single)
    evidence = f"{seen}; p = {p:.2g} by clean class, flipped to, and where the model errs"
    if p < LEVEL:
        learnt = " (a model that learnt these very labels errs where they are wrong)"
        return SOURCE.check(False, evidence + learnt)
    if rows.estimated:
        evidence += "; the rate is what these flips say, and as uncertain as they are"
    own = "; the model says y_clean in every row, which is no news of it" if not wrong.any() else ""
    return SOURCE.unchecked(
        f"{evidence}; labels' noise may depend on the input otherwise, and y_clean on the model{own}"
    )


def table_p_value(y: np.ndarray, clean: np.ndarray, noise: float, classes: int) -> float:
    """p-value of the table of flips: of its rates by class, and of all its cells, against drawn tables.

    Below PLAIN it is that of all draws, and as valid as one that never looked at the first.
    """
    p = _table_p_value(y, clean, noise, classes, FIRST)
    return p if p > PLAIN else _table_p_value(y, clean, noise, classes, DRAWS)


def _table_p_value(
    y: np.ndarray, clean: np.ndarray, noise: float, classes: int, draws: int
) -> float:
    table = np.bincount(clean * classes + y, minlength=classes**2).reshape(classes, classes)
    sizes = table.sum(axis=1)
    present = np.flatnonzero(sizes)
    size = sizes[present]
    flips = size - np.diag(table)[present]
    rng = private_stream(0)
    drawn = rng.binomial(size, noise, (draws, len(size)))

    def rates(k: np.ndarray) -> Any:
        return ((k - size * noise) ** 2 / (size * noise * (1 - noise))).sum(axis=-1)

    p = _rank(float(rates(flips)), rates(drawn))
    if 2 < classes <= FEW and p > 1 / (1 + draws):  # else nothing is less
        # Of the flips of a class, each other class takes an equal share.
        cells = table[~np.eye(classes, dtype=bool)].reshape(classes, classes - 1)[present]
        wanted = (size * noise / (classes - 1))[:, None]
        share = np.full(classes - 1, 1 / (classes - 1))
        found = float(((cells - wanted) ** 2 / wanted).sum())
        null = np.zeros(draws)
        for j in range(len(size)):
            parts = rng.multinomial(drawn[:, j], share)
            null += ((parts - wanted[j]) ** 2 / wanted[j]).sum(axis=1)
        p = min(1.0, 2 * min(p, _rank(found, null)))
    return p


def _rank(value: float, null: np.ndarray) -> float:
    return (1 + int((null >= value * (1 - 1e-12)).sum())) / (1 + len(null))
