"""The front door: logits and labels in, recalibrated probabilities with certificates out."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pandas as pd

from whp.calibration._h_calibration import guarantee, metrics
from whp.calibration._h_calibration.fit import MAPPINGS, adapted, fit_map
from whp.calibration._h_calibration.maps import HCalibrationMap, standardise
from whp.calibration._h_calibration.objective import OBJECTIVES, Objective
from whp.certificate import Certificate
from whp.io import Data
from whp.result import Result
from whp.validate import as_choice, as_fraction, as_int, as_labels, as_real, column_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["HCalibration", "h_calibration"]

SUM_TOLERANCE = 1e-6
LEAST_LOGIT = -700.0  # a probability of 0 gets a logit this far below its row's maximum
SATURATED = 0.01


@dataclass(frozen=True, eq=False)
class HCalibration(Result):
    """A recalibrated classifier: the map, its probabilities, and how far they may be from the truth.

    Attributes
    ----------
    map : HCalibrationMap
        Call it on new logits.
    probs : ndarray, shape (n, C)
        Recalibrated probabilities of the calibration rows.
    probs_test : ndarray or None
        Those of the test rows.
    objective_before, objective_after : float
        Windowed error on the certification rows, and after calibration.
    objective_calibrated : float
        Median windowed error of a perfectly calibrated model on those rows: the floor.
    history : ndarray
        The objective along the fit: over the grid of temperatures, or over iterations.
    blocks : DataFrame
        The reliability band, see :func:`whp.calibration._h_calibration.guarantee.band`.
    blocks_before : DataFrame
        That of the probabilities as they were.
    metrics : DataFrame
        Metric, before, after, on the certification rows.
    certificates : tuple of Certificate
        ``error-bound``, ``calibration-test``, ``accuracy-preserved`` and ``overfit``.
    """

    map: HCalibrationMap
    probs: np.ndarray
    probs_test: np.ndarray | None
    objective_before: float
    objective_after: float
    objective_calibrated: float
    history: np.ndarray = field(repr=False)
    blocks: pd.DataFrame = field(repr=False)
    blocks_before: pd.DataFrame = field(repr=False)
    metrics: pd.DataFrame = field(repr=False)
    certificates: tuple[Certificate, ...]
    rows: tuple[int, int] = (0, 0)
    window: int = 200

    def summary(self) -> dict[str, bool | int | float | str | None]:
        """Map, windowed error and metrics before and after."""
        out: dict[str, bool | int | float | str | None] = {
            "rows_to_fit": self.rows[0],
            "rows_to_certify": self.rows[1],
            "map": self.map.kind,
            "inverse_temperature": self.map.beta,
            "windowed_error": f"{self.objective_before:.4g} before, {self.objective_after:.4g} after, "
            f"{self.objective_calibrated:.4g} if calibrated perfectly",
        }
        for row in self.metrics.itertuples():
            out[str(row.metric)] = f"{row.before:.4g} before, {row.after:.4g} after"
        return out

    def artifacts(self) -> dict[str, Any]:
        """Probabilities, reliability band, metrics and the map."""
        arrays = {"probs": self.probs} | (
            {} if self.probs_test is None else {"probs_test": self.probs_test}
        )
        return {
            "arrays.npz": arrays,
            "blocks.csv": self.blocks,
            "metrics.csv": self.metrics,
            "map.json": self.map.to_dict(),
        }

    def plot(self, ax: Axes | None = None) -> Axes:
        """Reliability band: true frequency against stated probability, block by block, with simultaneous intervals."""
        if ax is None:
            import matplotlib.pyplot as plt

            ax = plt.subplots(figsize=(5, 5))[1]
        for table, colour, label in (
            (self.blocks_before, "tab:orange", "as it was"),
            (self.blocks, "tab:blue", "recalibrated"),
        ):
            draw_band(ax, table, colour, label)
        ax.plot([0, 1], [0, 1], color="0.5", linewidth=0.8)
        ax.set(
            xlabel="stated probability",
            ylabel="true probability, simultaneous interval",
            xlim=(-0.02, 1.02),
        )
        ax.set_ylim(-0.02, 1.02)
        ax.legend(frameon=False)
        return ax


def draw_band(ax: Axes, table: pd.DataFrame, colour: str, label: str) -> None:
    """Blocks of a band as points with bars."""
    middle = table["frequency"].to_numpy()
    bars = np.stack([middle - table["lower"].to_numpy(), table["upper"].to_numpy() - middle])
    ax.errorbar(
        table["mean_predicted"],
        middle,
        yerr=np.maximum(bars, 0),
        fmt="o",
        color=colour,
        markersize=4,
        capsize=2,
        elinewidth=1.2,
        label=label,
    )


def _as_logits(value: Any, argument: str, from_probs: bool | None) -> tuple[np.ndarray, bool]:
    """Logits (n, C) in float64, and whether they were probabilities."""
    if value is None:
        raise TypeError(f"{argument} must be an array of numbers, got None")
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{argument} must be an array of real numbers: {error}") from error
    if array.ndim == 1 and array.size:
        array = array[:, None]
    if array.ndim != 2 or array.size == 0:
        raise ValueError(
            f"{argument} must have one row a sample and one column a class, got shape {array.shape}"
        )
    if np.isnan(array).any() or (array == np.inf).any():
        raise ValueError(
            f"{argument} must not hold NaN or +infinity, first in row {_first(~(array < np.inf))}"
        )
    single = array.shape[1] == 1
    inside = bool((array >= 0).all() and (array <= 1 + SUM_TOLERANCE).all())
    sums = single or np.abs(array.sum(axis=1) - 1).max() <= SUM_TOLERANCE
    if from_probs is None:
        from_probs = inside and bool(sums)
    if not isinstance(from_probs, bool | np.bool_):
        raise TypeError(f"from_probs must be True, False or None, got {from_probs!r}")
    if from_probs:
        if not inside:
            bad = (array < 0) | (array > 1 + SUM_TOLERANCE)
            raise ValueError(
                f"{argument} must hold probabilities in [0, 1], which row {_first(bad)} does not"
            )
        if not sums:
            row = int(np.abs(array.sum(axis=1) - 1).argmax())
            raise ValueError(
                f"{argument} must have rows that sum to 1 ± 1e-6, row {row} sums to {array[row].sum():g}"
            )
        array = np.column_stack([1 - array, array]) if single else array
        return np.log(np.maximum(array, 1e-300)), True
    if single:
        array = np.column_stack([np.zeros(len(array)), array[:, 0]])
    gone = np.isneginf(array)
    if gone.all(axis=1).any():
        raise ValueError(
            f"{argument} must have a finite entry in every row; row {_first(gone.all(axis=1))} has none"
        )
    if gone.any():
        array = np.where(gone, array.max(axis=1, keepdims=True) + LEAST_LOGIT, array)
    return array, False


def _first(flags: Any) -> int:
    return int(np.argwhere(flags)[0][0])


def _as_classes(
    value: Any,
    argument: str,
    size: int,
    names: tuple[str, ...] | None,
    codes: dict[Any, int] | None,
    classes: int,
) -> tuple[np.ndarray, dict[Any, int] | None]:
    """Class numbers out of labels: whole numbers as they are, text by the columns' names or in sorted order."""
    array = np.asarray(value)
    if array.ndim != 1 or array.dtype.kind not in "OUS":
        return as_labels(value, argument, size=size, classes=classes), codes
    if len(array) != size:
        raise ValueError(f"{argument} must have {size} entries, one a row, got {len(array)}")
    if any(not isinstance(v, str) for v in array):
        return as_labels(value, argument, size=size, classes=classes), codes
    present = sorted(set(array.tolist()))
    if codes is None:
        columns = [name.removeprefix("p_") for name in names] if names else []
        if set(present) <= set(columns):
            codes = {name: i for i, name in enumerate(columns)}
        elif len(present) == classes:
            codes = {name: i for i, name in enumerate(present)}
        else:
            raise ValueError(
                f"{argument} holds {len(present)} names for {classes} classes; give class numbers 0 to {classes - 1}, or name "
                "the columns of logits after the classes"
            )
    if unknown := [v for v in present if v not in codes]:
        raise ValueError(f"{argument} holds {unknown[0]!r}, a class that logits do not have")
    return np.array([codes[v] for v in array.tolist()], dtype=np.int64), codes


def _held_back(y: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Stratified choice of rows for the certificates."""
    chosen = np.zeros(len(y), dtype=bool)
    order = rng.permutation(len(y))
    order = order[np.argsort(y[order], kind="stable")]
    chosen[
        order[np.floor((np.arange(len(y)) + 1) * share) > np.floor(np.arange(len(y)) * share)]
    ] = True
    return chosen


def _warn_about_sample(y: np.ndarray, z: np.ndarray, objective: str, were_probs: bool) -> None:
    classes = z.shape[1]
    counts = np.bincount(y, minlength=classes)
    if (counts == 0).any():
        warnings.warn(
            f"y lacks class {int(counts.argmin())}: its probabilities are calibrated by the others'",
            stacklevel=3,
        )
    flat = np.exp(z)
    if were_probs and ((flat <= 1e-299) | (flat == 1)).mean() > SATURATED:
        warnings.warn(
            "more than 1 % of the probabilities are exactly 0 or 1, which no map can move; pass logits instead",
            stacklevel=3,
        )
    if objective == "leave-one-class-out":
        from scipy.stats import chisquare

        if chisquare(counts).pvalue < 0.01:
            warnings.warn(
                "objective 'leave-one-class-out' is biased where classes differ in frequency, as they do here; use 'pooled'",
                stacklevel=3,
            )


def h_calibration(
    logits: Annotated[Any, Data("matrix")],
    y: Annotated[Any, Data("labels")],
    *,
    logits_test: Annotated[Any, Data("matrix")] = None,
    y_test: Annotated[Any, Data("labels")] = None,
    from_probs: bool | None = None,
    mapping: Literal["temperature", "ensemble", "piecewise", "monotone", "auto"] = "temperature",
    objective: Literal["pooled", "leave-one-class-out", "classwise"] = "pooled",
    window: int = 200,
    tolerance: float = 0.0,
    clusters: int = 15,
    epsilon: float = 0.05,
    delta: float = 0.05,
    blocks: int = 20,
    resamples: int = 199,
    certify: float = 1 / 3,
    refit: bool = False,
    max_iter: int = 300,
    rng: np.random.Generator | int | None = None,
) -> HCalibration:
    """Recalibrate a classifier's probabilities, decisions unchanged, and bound the error that is left.

    The rows must not have trained the classifier: from logits alone that cannot be seen, and nothing below would hold.

    Parameters
    ----------
    logits : array-like, shape (n, C) or (n,)
        Logits or probabilities of calibration rows, a column a class; one column is the score of the second of two classes.
    y : array-like, shape (n,)
        Class of each row, 0 to C − 1, or names.
    logits_test : array-like, optional
        The same of other rows, from the same source.
    y_test : array-like, optional
        Classes of those; with them all of `logits` fit the map, and the test rows certify it.
    from_probs : bool or None
        Whether these are probabilities; by default they are if all rows lie in [0, 1] and sum to 1.
    mapping : {"temperature", "ensemble", "piecewise", "monotone", "auto"}
        One temperature, a mean of eight, ten slopes, a monotone network (needs torch), or the best by cross-validation.
    objective : {"pooled", "leave-one-class-out", "classwise"}
        Windows over all classes together, without each class in turn (biased for unequal classes), or in each class by itself.
    window : int
        Entries in a window less one, even; made smaller for small samples.
    tolerance : float
        Error of a window that does not count.
    clusters : int
        Clusters of probabilities that weigh alike.
    epsilon : float
        The error you can live with; what the certificate error-bound decides.
    delta : float
        Failure probability of each certificate.
    blocks : int
        Blocks of the reliability band (in each class, with objective classwise).
    resamples : int
        Draws of labels for the test of calibration.
    certify : float
        Share of the calibration rows held back for the certificates when no test rows with classes are given; 0 for none.
    refit : bool
        Fit the map again on all rows afterwards; the certificates are then for the map before.
    max_iter : int
        Iterations of Adam for maps with several parameters.
    rng : Generator or int, optional
        Source of randomness.

    Returns
    -------
    HCalibration

    Raises
    ------
    TypeError, ValueError
        If an argument is not what is accepted; the message names it.
    """
    names = column_names(logits)
    raw, were_probs = _as_logits(logits, "logits", from_probs)
    n, classes = raw.shape
    if n < 2:
        raise ValueError(f"logits must have at least 2 rows, got {n}")
    labels, codes = _as_classes(y, "y", n, names, None, classes)
    as_choice(mapping, "mapping", MAPPINGS)
    wanted = Objective(as_choice(objective, "objective", OBJECTIVES), window, tolerance, clusters)
    epsilon, delta = as_fraction(epsilon, "epsilon"), as_fraction(delta, "delta")
    blocks, resamples = as_int(blocks, "blocks", low=1), as_int(resamples, "resamples", low=1)
    share = as_real(certify, "certify", low=0, high=0.9)
    max_iter = as_int(max_iter, "max_iter", low=1)
    if not isinstance(refit, bool | np.bool_):
        raise TypeError(f"refit must be True or False, got {refit!r}")
    rng = np.random.default_rng(rng)
    z = standardise(raw)
    test_z = test_y = None
    if logits_test is not None:
        test, _ = _as_logits(logits_test, "logits_test", were_probs)
        if test.shape[1] != classes:
            raise ValueError(
                f"logits_test must have {classes} columns as logits has, got {test.shape[1]}"
            )
        test_z = standardise(test)
        if y_test is not None:
            test_y, _ = _as_classes(y_test, "y_test", len(test), names, codes, classes)
    elif y_test is not None:
        raise ValueError("y_test was given without logits_test")
    _warn_about_sample(labels, z, wanted.kind, were_probs)

    if test_z is not None and test_y is not None:
        fit_z, fit_y, certify_z, certify_y, held_out = z, labels, test_z, test_y, True
    else:
        chosen = _held_back(labels, share, rng)
        held_out = bool(chosen.any()) and not bool(chosen.all())
        if not held_out:
            chosen[:] = False
        fit_z, fit_y = np.ascontiguousarray(z[~chosen]), labels[~chosen]
        certify_z, certify_y = (z[chosen], labels[chosen]) if held_out else (z, labels)
    used = adapted(wanted, len(fit_z), classes)
    made, history = fit_map(fit_z, fit_y, mapping, used, max_iter, rng)
    split = guarantee.Split(
        np.exp(fit_z),
        fit_z,
        fit_y,
        np.exp(certify_z),
        certify_z,
        certify_y,
        held_out,
        bool(refit and held_out),
    )
    judged = adapted(wanted, len(certify_z), classes) if held_out else used
    common = guarantee.assumptions(split)
    before, after = np.exp(certify_z), made.apply(certify_z)
    classwise = wanted.kind == "classwise"
    tested, null = guarantee.calibration_test(
        after, certify_y, judged, delta=delta, resamples=resamples, rng=rng, assumptions=common
    )
    certificates = (
        guarantee.error_band(
            after,
            certify_y,
            epsilon=epsilon,
            delta=delta,
            blocks=blocks,
            classwise=classwise,
            assumptions=common,
        ),
        tested,
        guarantee.ranks(certify_z, after),
        guarantee.overfit(
            made.apply(fit_z), fit_y, used, delta=delta, resamples=resamples, rng=rng
        ),
    )
    if refit and held_out:
        everything = (
            (z, labels)
            if test_y is None
            else (np.concatenate([fit_z, certify_z]), np.append(fit_y, certify_y))
        )
        used = adapted(wanted, len(everything[1]), classes)
        made, history = fit_map(
            np.ascontiguousarray(everything[0]), everything[1], mapping, used, max_iter, rng
        )
    return HCalibration(
        map=made,
        probs=made.apply(z),
        probs_test=None if test_z is None else made.apply(test_z),
        objective_before=judged(before, certify_y),
        objective_after=judged(after, certify_y),
        objective_calibrated=float(np.median(null)),
        history=history,
        blocks=guarantee.band(after, certify_y, blocks, delta, classwise),
        blocks_before=guarantee.band(before, certify_y, blocks, delta, classwise),
        metrics=metrics.compare(before, after, certify_y),
        certificates=certificates,
        rows=(len(fit_z), len(certify_z)),
        window=used.window,
    )
