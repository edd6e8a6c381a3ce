"""The front door: logits and labels in, recalibrated probabilities with certificates out."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np

from whp.calibration._h_calibration import metrics, theorems
from whp.calibration._h_calibration.band import band
from whp.calibration._h_calibration.fit import adapted, fit_map
from whp.calibration._h_calibration.maps import standardise
from whp.calibration._h_calibration.objective import Objective
from whp.calibration._h_calibration.result import HCalibrationResult
from whp.calibration._h_calibration.rows import Rows, answers, held_back
from whp.door import AtLeast, Between, Fraction, Range, check_fields, front_door
from whp.io import Data
from whp.scores import LEAST, as_classes, as_logits, as_units, check_columns, in_order
from whp.validate import same_order

__all__ = ["Fitting", "h_calibration"]

SATURATED = 0.01
RESOLVED = 1e-9  # logits that differ by less lose digits in their log-softmax
ROUNDING = 1e-12  # of logits that mean to be equal, relative to their size


@dataclass(frozen=True)
class Fitting:
    """How the map is fitted.

    Parameters
    ----------
    window : int
        Entries in a window less one, even; made smaller for small samples.
    tolerance : float
        Error of a window that does not count.
    clusters : int
        Clusters of probabilities that weigh alike.
    max_iter : int
        Iterations of L-BFGS-B for maps with several parameters.
    """

    window: Annotated[int, AtLeast(2)] = 200
    tolerance: Annotated[float, AtLeast(0)] = 0.0
    clusters: Annotated[int, AtLeast(1)] = 15
    max_iter: Annotated[int, AtLeast(1)] = 300

    def __post_init__(self) -> None:
        check_fields(self)
        if self.window % 2:
            raise ValueError(f"window must be even, got {self.window}")


@front_door
def h_calibration(
    logits: Annotated[Any, Data("matrix")],
    y: Annotated[Any, Data("labels")],
    *,
    logits_test: Annotated[Any, Data("matrix")] = None,
    y_test: Annotated[Any, Data("labels")] = None,
    ids: Annotated[Any, Data("ids")] = None,
    groups: Annotated[Any, Data("ids")] = None,
    ids_test: Annotated[Any, Data("ids")] = None,
    groups_test: Annotated[Any, Data("ids")] = None,
    classes: tuple[str, ...] | None = None,
    from_probs: bool | None = None,
    mapping: Literal["temperature", "ensemble", "piecewise", "monotone", "auto"] = "temperature",
    objective: Literal["pooled", "leave-one-class-out", "classwise"] = "pooled",
    epsilon: Annotated[float, Fraction()] = 0.1,
    delta: Annotated[float, Fraction()] = 0.05,
    blocks: Annotated[int, AtLeast(1)] | None = None,
    resamples: Annotated[int, Between(1, 1_000_000)] = 199,
    certify: Annotated[float, Range(0, 0.9)] = 1 / 3,
    refit: bool = False,
    fitting: Fitting = Fitting(),
    rng: np.random.Generator | int | None = None,
) -> HCalibrationResult:
    """Recalibrate a classifier's probabilities, decisions unchanged, and bound the error that is left.

    The rows must not have trained the classifier: from logits alone that cannot be seen, and nothing
    below would hold.

    Parameters
    ----------
    logits : array-like, shape (n, C) or (n,)
        Logits or probabilities of calibration rows, a column a class; one column is the score of the
        second of two classes, -infinity an impossible class.
    y : array-like, shape (n,)
        Class of each row: 0 to C − 1, or names that the columns or `classes` have.
    logits_test : array-like, optional
        The same of other rows, from the same source; named columns are put in the order of `logits`.
    y_test : array-like, optional
        Classes of those; with them all of `logits` fit the map, and the test rows certify it.
    ids : array-like, shape (n,), optional
        What each row is about; more than 1 % of repeats void the certificates.
    groups : array-like, shape (n,), optional
        Rows of one group may depend on each other (visits of a patient): they are held back together
        and count as one event. Instead of `ids`.
    ids_test, groups_test : array-like, optional
        The same of the test rows.
    classes : sequence, optional
        The classes in the order of the columns.
    from_probs : bool or None
        Whether these are probabilities; by default they are if all lie in [0, 1] and rows sum to 1,
        up to rounding. Scores in [0, 1] that may be either are refused.
    mapping : {"temperature", "ensemble", "piecewise", "monotone", "auto"}
        One temperature, a mean of eight, ten slopes, a monotone network (needs torch), or the
        simplest that cross-validation does not refuse.
    objective : {"pooled", "leave-one-class-out", "classwise"}
        Windows over all classes together, without each class in turn (biased for unequal classes),
        or in each class by itself.
    epsilon : float
        The error you can live with; what top-label-error and error-bound decide.
    delta : float
        Failure probability of each certificate; of the two bands together.
    blocks : int, optional
        Blocks of all entries (of each class with objective classwise), and two fifths as many of the
        top label; by default 5 to 20, as many as the certified rows can decide for `epsilon`.
    resamples : int
        Draws of labels for the test of calibration.
    certify : float
        Share of the calibration rows held back for the certificates when no test rows with classes
        are given; 0 for none.
    refit : bool
        Fit the map again on all rows afterwards; the certificates are then for the map before.
    fitting : Fitting
        Window, tolerance, clusters and iterations of the fit.
    rng : Generator or int, optional
        Source of randomness.

    Returns
    -------
    HCalibrationResult

    Raises
    ------
    TypeError, ValueError
        If an argument is not what is accepted; the message names it.

    References
    ----------
    W. Huang, G. Cao, J. Xia, J. Chen, H. Wang, J. Zhang. h-calibration: Rethinking Classifier
    Recalibration with Probabilistic Error-Bounded Objective. IEEE TPAMI 2025. arXiv:2506.17968.
    """
    same_order(logits=logits, y=y, ids=ids, groups=groups)
    same_order(logits_test=logits_test, y_test=y_test, ids_test=ids_test, groups_test=groups_test)
    rng = np.random.default_rng(rng)
    every, test_z, test, were_probs, raw = _read(
        logits, y, logits_test, y_test, ids, groups, ids_test, groups_test, classes, from_probs
    )
    number = every.z.shape[1]
    wanted = Objective(objective, fitting.window, fitting.tolerance, fitting.clusters)
    _warn_about_sample(every, objective, were_probs)

    split = test is None and certify > 0
    if test is not None:
        fit, certified = every, test
    else:
        chosen = held_back(every, certify, rng)
        split = bool(chosen.any() and not chosen.all())
        fit = every.take(~chosen) if split else every
        certified = every.take(chosen) if split else every
    used = adapted(wanted, len(fit.y), number)
    made, history = fit_map(fit.z, fit.y, mapping, used, fitting.max_iter, rng)
    judged = adapted(wanted, len(certified.y), number)
    known = answers(fit, certified, made, split=split, refitted=refit and certified is not fit)
    before, after = np.exp(certified.z), made.apply(certified.z)
    probs, probs_test = made.apply(every.z), None if test_z is None else made.apply(test_z)
    options: Any = {
        "blocks": blocks,
        "delta": delta,
        "classwise": objective == "classwise",
        "groups": certified.groups,
        "epsilon": epsilon,
    }
    table = band(after, certified.y, **options)
    tested, null = theorems.calibration_test(
        after,
        certified.y,
        judged,
        delta=delta,
        resamples=resamples,
        rng=rng,
        groups=certified.groups,
        answers=known,
    )
    certificates = (
        *theorems.of_band(table, len(certified.y), epsilon, delta, blocks, known),
        tested,
        theorems.accuracy_preserved(
            raw, probs if probs_test is None else np.concatenate([probs, probs_test])
        ),
        theorems.overfit(
            made.apply(fit.z), fit.y, used, delta=delta, rng=rng, groups=fit.groups, answers=known
        ),
    )
    if refit and certified is not fit:
        both = fit.and_(certified)
        used = adapted(wanted, len(both.y), number)
        made, history = fit_map(both.z, both.y, mapping, used, fitting.max_iter, rng)
        probs = made.apply(every.z)
        probs_test = None if test_z is None else made.apply(test_z)
    return HCalibrationResult(
        map=replace(made, from_probs=were_probs),
        probs=probs,
        probs_test=probs_test,
        objective_before=judged(before, certified.y),
        objective_after=judged(after, certified.y),
        objective_calibrated=float(np.median(null)),
        history=history,
        blocks=table,
        blocks_before=band(before, certified.y, **options),
        metrics=metrics.compare(before, after, certified.y),
        certificates=certificates,
        rows=(len(fit.y), len(certified.y)),
        window=used.window,
    )


def _read(
    logits: Any,
    y: Any,
    logits_test: Any,
    y_test: Any,
    ids: Any,
    groups: Any,
    ids_test: Any,
    groups_test: Any,
    classes: Any,
    from_probs: bool | None,
) -> tuple[Rows, np.ndarray | None, Rows | None, bool, np.ndarray]:
    """Calibration rows, standardised test logits, test rows if labelled, of what kind, all raw logits."""

    def named(value: Any, argument: str, size: int) -> np.ndarray | None:
        return None if value is None else as_units(value, argument, size)

    raw, were_probs = as_logits(logits, "logits", from_probs)
    n, columns = raw.shape
    check_columns(logits, "logits", raw, were_probs)
    if n < 2:
        raise ValueError(f"logits must have at least 2 rows, got {n}")
    labels = as_classes(y, "y", n, logits, classes, columns)
    if ids is not None and groups is not None:
        raise ValueError("give ids or groups, not both: groups= counts repeated rows once")
    apart = (raw.max(axis=1, keepdims=True) - raw)[np.isfinite(raw)].max()
    if ROUNDING * np.abs(raw[np.isfinite(raw)]).max() < apart < RESOLVED:
        raise ValueError(
            f"logits differ by {apart:.2g} within a row at most, which rounding hides in their "
            "log-softmax: give them in a smaller unit"
        )
    every = Rows(standardise(raw), labels, named(ids, "ids", n), named(groups, "groups", n))
    given = {"y_test": y_test, "ids_test": ids_test, "groups_test": groups_test}
    if logits_test is None:
        if extra := [name for name, value in given.items() if value is not None]:
            raise ValueError(f"{extra[0]} was given without logits_test")
        return every, None, None, were_probs, raw
    logits_test = in_order(logits_test, "logits_test", logits, "logits")
    other, _ = as_logits(logits_test, "logits_test", were_probs)
    if other.shape[1] != columns:
        raise ValueError(
            f"logits_test must have {columns} columns as logits has, got {other.shape[1]}"
        )
    test_z = standardise(other)
    for name, mine, theirs in (("ids", ids, ids_test), ("groups", groups, groups_test)):
        if (theirs is None) != (mine is None or y_test is None):
            raise ValueError(f"{name} and {name}_test go together, with y_test")
    both = np.concatenate([raw, other])
    if y_test is None:
        return every, test_z, None, were_probs, both
    size = len(other)
    # One mapping for both: which classes occur in only one of them must not change what a name means.
    labels_test = as_classes(y_test, "y_test", size, logits, classes, columns, beside=y)
    every = replace(every, y=as_classes(y, "y", n, logits, classes, columns, beside=y_test))
    test = Rows(
        test_z,
        labels_test,
        named(ids_test, "ids_test", size),
        named(groups_test, "groups_test", size),
    )
    return every, test_z, test, were_probs, both


def _warn_about_sample(rows: Rows, objective: str, were_probs: bool) -> None:
    counts = np.bincount(rows.y, minlength=rows.z.shape[1])
    if (counts == 0).any():
        warnings.warn(
            f"y lacks class {int(counts.argmin())}: its probabilities are calibrated by the others'",
            stacklevel=4,
        )
    flat = np.exp(rows.z)
    if were_probs and ((flat <= 2 * LEAST) | (flat == 1)).mean() > SATURATED:
        warnings.warn(
            "more than 1 % of the probabilities are exactly 0 or 1, which no map can move; pass "
            "logits instead",
            stacklevel=4,
        )
    if objective == "leave-one-class-out":
        from scipy.stats import chisquare

        if chisquare(counts).pvalue < 0.01:
            warnings.warn(
                "objective 'leave-one-class-out' is biased where classes differ in frequency, as "
                "they do here; use 'pooled'",
                stacklevel=4,
            )
