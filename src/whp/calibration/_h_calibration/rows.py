"""The rows that fit and certify a map, and what they show of the theorems' conditions."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import kl_div

from whp import conditions
from whp.calibration._h_calibration import theorems
from whp.calibration._h_calibration.maps import FAR, HCalibrationMap
from whp.calibration._h_calibration.theorems import INDEPENDENT, NO_COPIES, ONE_LAW, UNUSED
from whp.certificate import Answer, Status

__all__ = ["Rows", "answers", "held_back"]

REPEATED = 0.01  # share of rows from which repeats void a certificate
TIED_AGAIN = 0.05  # share of certified rows that may tie with the fit, beside what ties by nature
SHIFT_LEVEL = 0.01
COPY_LEVEL = 0.001
# Tied rows that differ in class less often than this share of what is expected are copies.
ALIKE = 0.2


@dataclass(frozen=True)
class Rows:
    """Standardised logits z (n, C), classes y (n,), and an id or a group of each row, if given."""

    z: np.ndarray
    y: np.ndarray
    ids: np.ndarray | None = None
    groups: np.ndarray | None = None

    def take(self, which: Any) -> Rows:
        """Some of the rows."""
        ids = None if self.ids is None else self.ids[which]
        groups = None if self.groups is None else self.groups[which]
        return Rows(np.ascontiguousarray(self.z[which]), self.y[which], ids, groups)

    def and_(self, other: Rows) -> Rows:
        """These rows and others below them."""
        both = {
            name: np.concatenate([getattr(self, name), getattr(other, name)])
            for name in ("z", "y", "ids", "groups")
            if getattr(self, name) is not None
        }
        return replace(self, **both)

    def once(self) -> Rows:
        """The first row of each group."""
        if self.groups is None:
            return self
        return self.take(np.sort(np.unique(self.groups, return_index=True)[1]))


def held_back(rows: Rows, share: float, rng: np.random.Generator) -> np.ndarray:
    """Which rows to keep for the certificates: a share of each class, or whole groups and ids."""
    n = len(rows.y)
    units = rows.groups if rows.groups is not None else rows.ids
    order = rng.permutation(n)
    if units is not None and len(np.unique(units)) < n:
        codes = np.unique(units, return_inverse=True)[1]
        turn = rng.permutation(codes.max() + 1)[codes]
        sizes = np.bincount(turn)
        return (np.cumsum(sizes) <= round(n * share))[turn]
    chosen = np.zeros(n, dtype=bool)
    order = order[np.argsort(rows.y[order], kind="stable")]
    # From a random start, so that each row is held back with the same chance, also one of a rare class.
    steps = np.floor(np.arange(n + 1) * share + rng.random())
    chosen[order[np.diff(steps) > 0]] = True
    return chosen


def answers(
    fit: Rows, certify: Rows, made: HCalibrationMap, *, split: bool, refitted: bool
) -> dict[str, Answer]:
    """What fit and certified rows say of the conditions.

    Parameters
    ----------
    fit, certify : Rows
        The same object if all rows did both.
    made : HCalibrationMap
        The map that was fitted.
    split : bool
        Whether `certify` was held back here.
    refitted : bool
        Whether the map that is given away was fitted again on both.
    """
    every = fit if certify is fit else fit.and_(certify)
    found = [_unused(fit, certify, split, refitted), _near_copies(every, made)]
    if split:
        found.append(
            ONE_LAW.unchecked(
                "rows were held back at random, so these two parts are alike; rows to come cannot be seen"
            )
        )
    elif certify is not fit:
        found.append(_one_law(fit.once(), certify.once()))
    if every.ids is not None:
        share = 1 - len(np.unique(every.ids)) / len(every.ids)
        why = f"{share:.2%} of the rows repeat an id"
        found.append(
            INDEPENDENT.check(False, why)
            if share > REPEATED
            else INDEPENDENT.unchecked(
                f"{why}; ids cannot tell whether rows of different ids depend"
            )
        )
    elif every.groups is not None:
        found.append(
            INDEPENDENT.unchecked(
                f"{len(np.unique(every.groups)):,} groups are counted, not rows; whether groups "
                "depend on each other scores cannot tell"
            )
        )
    return theorems.unknown() | {a.name: a for a in found}


def _unused(fit: Rows, certify: Rows, split: bool, refitted: bool) -> Answer:
    if certify is fit:
        return UNUSED.check(False, "all rows went into the fit")
    if refitted:
        return UNUSED.unchecked(
            "the map was fitted again on all rows; what was certified is the map before that"
        )
    if split:
        return UNUSED.by_construction("held back before the fit")
    named = UNUSED.unchecked("two samples were given; pass ids to see whether they share rows")
    for name in ("ids", "groups"):
        mine, theirs = getattr(certify, name), getattr(fit, name)
        if mine is not None:
            share = float(np.isin(mine, theirs).mean())
            why = f"{share:.2%} of the certified rows share {name} with the fit"
            named = (
                UNUSED.check(False, why)
                if share > REPEATED
                else UNUSED.unchecked(f"{why}; one thing may have two of them, as row numbers do")
            )
    if named.status is Status.VIOLATED:
        return named
    return _again(fit, certify) or _beside(fit.once(), certify.once()) or named


def _again(fit: Rows, certify: Rows) -> Answer | None:
    """A violation if certified rows are rows of the fit, bit by bit, where scores do not tie by nature."""
    rows = [np.column_stack([r.z[:, :16], r.y]) for r in (fit, certify)]
    codes = np.unique(np.concatenate(rows), axis=0, return_inverse=True)[1].ravel()
    mine, theirs = codes[: len(fit.y)], codes[len(fit.y) :]
    ties = 1 - len(np.unique(mine)) / len(mine)
    share = float(np.isin(theirs, mine).mean())
    # A fit of few rows shows few ties: as many certified rows would tie with others of these.
    beside = (np.bincount(theirs)[theirs] - 1) / max(1, len(theirs) - 1)
    alike = float((1 - (1 - beside) ** len(mine)).mean())
    if share <= TIED_AGAIN + max(10 * ties, 2 * alike):
        return None
    return UNUSED.check(
        False,
        f"{share:.1%} of the certified rows have scores and class of a row of the fit, to the last "
        f"digit, where {ties:.1%} of the rows of the fit tie with each other",
    )


def _beside(fit: Rows, certify: Rows) -> Answer | None:
    """A violation if rows nearest to each other are too often one of the fit and one certified.

    Rows scored again (half precision, another batch, a little noise) lie beside their first scores.
    Which rows of a class fit and which certify is exchangeable given their scores, so that of the
    pairs that are each other's nearest row in the class a known share mixes the two. Tied scores
    are left out.
    """
    from scipy.spatial import cKDTree
    from scipy.stats import binom

    both = fit.and_(certify)
    scores = _compressed(both.z)
    certified = np.arange(len(both.y)) >= len(fit.y)
    mixed, pairs, expected = 0, 0, 0.0
    for c in np.unique(both.y):
        mine = np.flatnonzero(both.y == c)
        _, first, sizes = np.unique(scores[mine], axis=0, return_index=True, return_counts=True)
        mine = mine[first[sizes == 1]]
        n, tested = len(mine), int(certified[mine].sum())
        if n < 4:
            continue
        nearest = cKDTree(scores[mine]).query(scores[mine], k=2)[1]
        other = np.where(nearest[:, 0] == np.arange(n), nearest[:, 1], nearest[:, 0])
        left = np.flatnonzero((other[other] == np.arange(n)) & (np.arange(n) < other))
        mixed += int((certified[mine[left]] != certified[mine[other[left]]]).sum())
        pairs += len(left)
        expected += len(left) * 2 * tested * (n - tested) / (n * (n - 1))
    if not pairs or binom.sf(mixed - 1, pairs, min(1.0, expected / pairs)) > COPY_LEVEL:
        return None
    return UNUSED.check(
        False,
        f"{mixed:,} of {pairs:,} pairs of nearest rows are a row of the fit and a certified one, where "
        f"about {expected:,.0f} would be of two samples: the same rows, scored again or rounded",
        remedy="certify on rows that the fit has not seen; if the parts were dealt in turn out of a file "
        "sorted by score, deal them at random.",
    )


def _compressed(z: np.ndarray) -> np.ndarray:
    """Scores to measure distances in: centred and compressed, so that a few extreme ones do not set the scale.

    Many classes are seen from four random directions.
    """
    present = np.where(z > FAR, z, np.inf).min(axis=1, keepdims=True)
    z = np.maximum(z, present)  # impossible classes set no scale
    centred = z - np.median(z, axis=1, keepdims=True)
    centred = np.arcsinh(centred / max(float(np.median(np.abs(centred))), 1e-300))
    if z.shape[1] > 4:
        centred = centred @ np.random.default_rng(0).normal(size=(z.shape[1], 4))
    return centred


def _near_copies(rows: Rows, made: HCalibrationMap) -> Answer:
    """Nearest other row of the same class, where scores are continuous; else what classes tied rows have.

    Of two classes, where scores lie on a line, nearness counts from a thousandth of the mean distance.
    """
    rows = rows.once()
    n, classes = rows.z.shape
    if n < 2:
        return NO_COPIES.unchecked("there is one row")
    scores = _compressed(rows.z)
    within = min(1e-6, 1e-3 / n) if classes == 2 else 1e-6
    exact, near = conditions.copies(scores, rows.y, within=within)
    if exact > REPEATED:
        return _of_ties(scores, rows, made, f"{exact:.1%} of the scores tie exactly")
    why = f"{near:.2%} of the rows nearly repeat another"
    if near > REPEATED:
        return NO_COPIES.check(False, why)
    return NO_COPIES.tested(
        1.0, REPEATED, f"repeats within {within:.0e} of the spread, not coarser ones; {why}"
    )


def _of_ties(scores: np.ndarray, rows: Rows, made: HCalibrationMap, why: str) -> Answer:
    """Whether rows that tie differ in class as other rows would, or never, as copies do.

    What others would is the less of two: by the map's probabilities, which may be wrong, and by the
    class of the row of the same top label whose probability is next, which may be far.
    """
    classes = rows.z.shape[1]
    _, first, codes = np.unique(scores, axis=0, return_index=True, return_inverse=True)
    codes = codes.ravel()
    cells, counts = np.unique(codes * classes + rows.y, return_counts=True)
    sizes = np.bincount(codes)
    tied = np.flatnonzero(sizes > 1)
    # Share of the pairs of a tie that differ: one number in [0, 1] a tie, so that ties are independent.
    same = np.bincount(cells // classes, counts * (counts - 1.0))[tied]
    differ = float((1 - same / (sizes * (sizes - 1.0))[tied]).sum())
    stated = made.apply(np.ascontiguousarray(rows.z[first[tied]]))
    expected = float((1 - (stated**2).sum(axis=1)).sum())
    if len(first) > 1:
        top = rows.z[first].argmax(axis=1)
        ranked = np.lexsort((rows.z[first].max(axis=1), top))
        before, after = np.roll(ranked, 1), np.roll(ranked, -1)
        beside = np.empty_like(ranked)
        beside[ranked] = np.where(top[before] == top[ranked], before, after)
        wanted = tied * classes + rows.y[first[beside[tied]]]
        at = np.minimum(np.searchsorted(cells, wanted), len(cells) - 1)
        agree = np.where(cells[at] == wanted, counts[at], 0) / sizes[tied]
        expected = min(expected, float((1 - agree).sum()))
    chance = math.exp(-float(kl_div(differ, expected))) if differ < expected else 1.0
    if differ <= ALIKE * expected and chance <= COPY_LEVEL:
        return NO_COPIES.check(
            False,
            f"{why}, and of {len(tied):,} ties {differ:.3g} differ in class where {expected:.3g} "
            "would if they were different rows: they are copies",
            remedy="take each row once, or pass what the copies come from as groups=.",
        )
    return NO_COPIES.unchecked(
        f"{why}, as those of trees and rounded ones do, so copies cannot be told from ties; pass ids="
    )


def _one_law(fit: Rows, certify: Rows) -> Answer:
    from scipy.stats import chi2_contingency

    def views(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        p = np.exp(z)
        return p.max(axis=1), -(p * z).sum(axis=1)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scipy tells when it turns to the law of many rows
        pairs = zip(views(fit.z), views(certify.z), strict=True)
        tests = [conditions.same_law(a, b) for a, b in pairs]
    counts = np.array([np.bincount(r.y, minlength=fit.z.shape[1]) for r in (fit, certify)])
    rare = counts.sum(axis=0) * counts.sum(axis=1).min() < 5 * counts.sum()  # expected below 5
    counts = np.column_stack([counts[:, ~rare], counts[:, rare].sum(axis=1)])
    counts = counts[:, counts.sum(axis=0) > 0]
    labels = float(chi2_contingency(counts).pvalue) if counts.shape[1] > 1 else 1.0
    smallest = min(labels, *(t.p for t in tests))
    return ONE_LAW.tested(
        min(1.0, 3 * smallest),
        SHIFT_LEVEL,
        f"of the top probability, the entropy and the labels: {tests[0].sees}",
    )
