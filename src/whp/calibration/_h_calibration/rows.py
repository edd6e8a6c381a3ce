"""The rows that fit and certify a map, and what they show of the theorems' conditions."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from whp import conditions
from whp.calibration._h_calibration import theorems
from whp.calibration._h_calibration.maps import FAR
from whp.calibration._h_calibration.theorems import INDEPENDENT, NO_COPIES, ONE_LAW, UNUSED
from whp.certificate import Answer

__all__ = ["Rows", "answers", "held_back"]

REPEATED = 0.01  # share of rows from which repeats void a certificate
TIED_AGAIN = (
    0.05  # share of certified rows that may tie with the fit, beside ten times its own ties
)
SHIFT_LEVEL = 0.01


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
    steps = np.floor(np.arange(n + 1) * share)
    chosen[order[np.diff(steps) > 0]] = True
    return chosen


def answers(fit: Rows, certify: Rows, *, split: bool, refitted: bool) -> dict[str, Answer]:
    """What fit and certified rows say of the conditions.

    Parameters
    ----------
    fit, certify : Rows
        The same object if all rows did both.
    split : bool
        Whether `certify` was held back here.
    refitted : bool
        Whether the map that is given away was fitted again on both.
    """
    every = fit if certify is fit else fit.and_(certify)
    found = [_unused(fit, certify, split, refitted), _near_copies(every)]
    if certify is not fit:
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
    again = _again(fit, certify)
    if again is not None:
        return again
    for name in ("ids", "groups"):
        mine, theirs = getattr(certify, name), getattr(fit, name)
        if mine is not None:
            share = float(np.isin(mine, theirs).mean())
            return UNUSED.check(
                share <= REPEATED, f"{share:.2%} of the certified rows share {name} with the fit"
            )
    return UNUSED.unchecked("two samples were given; pass ids to see whether they share rows")


def _again(fit: Rows, certify: Rows) -> Answer | None:
    """A violation if certified rows are rows of the fit, bit by bit, where scores do not tie by nature."""
    rows = [np.column_stack([r.z[:, :16], r.y]) for r in (fit, certify)]
    codes = np.unique(np.concatenate(rows), axis=0, return_inverse=True)[1].ravel()
    mine, theirs = codes[: len(fit.y)], codes[len(fit.y) :]
    ties = 1 - len(np.unique(mine)) / len(mine)
    share = float(np.isin(theirs, mine).mean())
    if share <= TIED_AGAIN + 10 * ties:
        return None
    return UNUSED.check(
        False,
        f"{share:.1%} of the certified rows have scores and class of a row of the fit, to the last "
        f"digit, where {ties:.1%} of the rows of the fit tie with each other",
    )


def _near_copies(rows: Rows) -> Answer:
    """Nearest other row of the same class, where scores are continuous.

    Logits are centred and compressed, so that a few extreme ones do not set the scale; many classes
    are compared in four random directions. Of two classes, where scores lie on a line, nearness
    counts from a thousandth of the mean distance.
    """
    rows = rows.once()
    n, classes = rows.z.shape
    if n < 2:
        return NO_COPIES.unchecked("there is one row")
    present = np.where(rows.z > FAR, rows.z, np.inf).min(axis=1, keepdims=True)
    z = np.maximum(rows.z, present)  # impossible classes set no scale
    centred = z - np.median(z, axis=1, keepdims=True)
    centred = np.arcsinh(centred / max(float(np.median(np.abs(centred))), 1e-300))
    if classes > 4:
        directions = np.random.default_rng(0).normal(size=(classes, 4))
        centred = centred @ directions
    within = min(1e-6, 1e-3 / n) if classes == 2 else 1e-6
    exact, near = conditions.copies(centred, rows.y, within=within)
    if exact > REPEATED:
        return NO_COPIES.unchecked(
            f"{exact:.1%} of the scores tie exactly, as those of trees and rounded ones do, so "
            "copies cannot be told from ties; pass ids="
        )
    why = f"{near:.2%} of the rows nearly repeat another"
    if near > REPEATED:
        return NO_COPIES.check(False, why)
    return NO_COPIES.tested(
        1.0, REPEATED, f"repeats within {within:.0e} of the spread, not coarser ones; {why}"
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
