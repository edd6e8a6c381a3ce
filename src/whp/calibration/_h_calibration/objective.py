"""The windowed event-wise calibration error, its gradient, and its law under perfect calibration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from whp.calibration._h_calibration import kernels
from whp.scores import as_probabilities
from whp.validate import as_choice, as_int, as_real

__all__ = ["Objective", "windowed_calibration_error"]

Kind = Literal["pooled", "leave-one-class-out", "classwise"]
Weights = Literal["clusters", "uniform", "equal-width"]
OBJECTIVES = ("pooled", "leave-one-class-out", "classwise")
WEIGHTS = {
    "clusters": kernels.CLUSTERS,
    "uniform": kernels.UNIFORM,
    "equal-width": kernels.EQUAL_WIDTH,
}


@dataclass(frozen=True)
class Objective:
    """Windowed calibration error as a function of probabilities and labels.

    All n·C pairs of a stated probability p and an outcome o = 1{y = class} are sorted by p; in each window of M + 1
    consecutive pairs the mean of p − o is what the statement was off. Windows are cut short at both ends, their divisor is not.

    Parameters
    ----------
    kind : {"pooled", "leave-one-class-out", "classwise"}
        All entries at once; the mean over classes c of the error without the samples labelled c (which selects on the label
        and is biased where classes differ in frequency); or the mean over classes of their own column's error.
    window : int
        M, even.
    tolerance : float
        Error of a window that is not counted.
    clusters : int
        Segments of the sorted probabilities that weigh alike; empty ones do not count, unlike in the authors' code, where
        they reward maps that push all probabilities to 0 and 1.
    weights : {"clusters", "uniform", "equal-width"}
        Segments by one-dimensional k-means, one segment, or bins of [0, 1].
    """

    kind: Kind = "pooled"
    window: int = 200
    tolerance: float = 0.0
    clusters: int = 15
    weights: Weights = "clusters"

    def __post_init__(self) -> None:
        as_choice(self.kind, "objective", OBJECTIVES)
        as_choice(self.weights, "weights", tuple(WEIGHTS))
        if as_int(self.window, "window", low=2) % 2:
            raise ValueError(f"window must be even, got {self.window}")
        as_real(self.tolerance, "tolerance", low=0)
        as_int(self.clusters, "clusters", low=1)

    def __call__(self, probs: np.ndarray, y: np.ndarray) -> float:
        """The error of probabilities (n, C) given labels (n,) int64."""
        return self._evaluate(probs, y, None)

    def with_gradient(self, probs: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
        """The error and its derivative by each probability; order, clusters and weights are held constant."""
        gradient = np.zeros(probs.shape)
        return self._evaluate(probs, y, gradient), gradient

    def _class_window(self, n: int) -> int:
        return max(2, min(self.window, 2 * (n // 10)))

    def _evaluate(self, probs: np.ndarray, y: np.ndarray, gradient: np.ndarray | None) -> float:
        probs = np.asarray(probs, dtype=np.float64)
        n, classes = probs.shape
        if self.kind == "classwise":
            total = 0.0
            for c in range(classes):
                hits = (y == c).astype(np.float64)
                value, part = self._sorted(
                    probs[:, c], hits, self._class_window(n), gradient is not None
                )
                total += value / classes
                if gradient is not None:
                    gradient[:, c] = part / classes
            return float(total)
        outcomes = np.zeros((n, classes))
        outcomes[np.arange(n), y] = 1.0
        if self.kind == "pooled":
            value, part = self._sorted(
                probs.ravel(), outcomes.ravel(), self.window, gradient is not None
            )
            if gradient is not None:
                gradient[:] = part.reshape(n, classes)
            return float(value)
        flat = probs.ravel()
        order = np.argsort(flat, kind="stable")
        p, o, owner = flat[order], outcomes.ravel()[order], np.repeat(y, classes)[order]
        total, kind = 0.0, WEIGHTS[self.weights]
        for c in range(classes):
            values, hits, kept = kernels.drop_class(p, o, owner, c)
            if len(values) == 0:
                continue
            kernels.tie_means(values, hits)
            bounds = kernels.bounds_of(values, kind, self.clusters)
            if gradient is None:
                total += kernels.loss(values, hits, self.window, self.tolerance, bounds)
            else:
                value, slope = kernels.gradient(values, hits, self.window, self.tolerance, bounds)
                kernels.tie_means(values, slope)
                total += value
                gradient.ravel()[order[kept]] += slope / classes
        return float(total / classes)

    def _sorted(
        self, p: np.ndarray, o: np.ndarray, window: int, wanted: bool
    ) -> tuple[float, np.ndarray]:
        values, order = kernels.order_of(np.ascontiguousarray(p))
        hits = o[order]
        kernels.tie_means(values, hits)
        bounds = kernels.bounds_of(values, WEIGHTS[self.weights], self.clusters)
        if not wanted:
            return kernels.loss(values, hits, window, self.tolerance, bounds), order
        value, slope = kernels.gradient(values, hits, window, self.tolerance, bounds)
        kernels.tie_means(values, slope)
        back = np.empty(len(p))
        back[order] = slope
        return value, back

    def over_temperatures(self, u: np.ndarray, y: np.ndarray, betas: np.ndarray) -> np.ndarray:
        """The error of softmax(beta u) for each beta; u has row maxima 0."""
        out = np.empty(len(betas))
        scores = np.empty(u.shape)
        keys, spare = np.empty(u.size, dtype=np.int64), np.empty(u.size, dtype=np.int64)
        for i, beta in enumerate(betas):
            np.multiply(u, beta, out=scores)
            np.exp(scores, out=scores)
            if self.kind != "pooled":
                out[i] = self(scores / scores.sum(axis=1, keepdims=True), y)
                continue
            kernels.interleave(scores, y, keys)
            out[i] = kernels.packed_loss(
                keys, spare, self.window, self.tolerance, WEIGHTS[self.weights], self.clusters
            )
        return out

    def null(self, probs: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
        """The error under `resamples` draws of labels from the probabilities themselves: its law if they are calibrated."""
        probs = np.asarray(probs, dtype=np.float64)
        n, classes = probs.shape
        cumulative = np.cumsum(probs, axis=1)
        cumulative /= cumulative[:, -1:]
        if (
            self.kind == "leave-one-class-out"
        ):  # which entries remain depends on the labels: nothing can be reused
            out = np.empty(resamples)
            for b in range(resamples):
                y = np.minimum((cumulative < rng.random((n, 1))).sum(axis=1), classes - 1)
                out[b] = self(probs, y)
            return out
        groups = [probs.ravel()] if self.kind == "pooled" else list(probs.T)
        window = self.window if self.kind == "pooled" else self._class_window(n)
        place, pieces, bounds = np.empty(probs.size, dtype=np.int64), [], []
        for g, column in enumerate(groups):
            order = np.argsort(column, kind="stable")
            pieces.append(column[order])
            bounds.append(kernels.bounds_of(pieces[-1], WEIGHTS[self.weights], self.clusters))
            entries = order if self.kind == "pooled" else order * classes + g
            place[entries] = np.arange(len(column)) + g * len(column)
        starts = np.arange(len(groups) + 1) * len(groups[0])
        out = np.empty(resamples)
        step = max(1, 4_000_000 // n)  # uniforms in blocks of at most 32 MB
        for first in range(0, resamples, step):
            last = min(resamples, first + step)
            out[first:last] = kernels.resampled(
                cumulative,
                rng.random((last - first, n)),
                np.concatenate(pieces),
                place.reshape(n, classes),
                len(groups),
                np.full(len(groups), window),
                np.stack(bounds),
                self.tolerance,
                starts,
            )
        return out


def windowed_calibration_error(
    probs: Any,
    y: Any,
    *,
    window: int = 200,
    tolerance: float = 0.0,
    clusters: int = 15,
    objective: Kind = "pooled",
    weights: Weights = "clusters",
    return_grad: bool = False,
) -> float | tuple[float, np.ndarray]:
    """Windowed event-wise calibration error of probabilities.

    Parameters
    ----------
    probs : array-like, shape (n, C)
        Probabilities.
    y : array-like of int, shape (n,)
        Classes 0 to C − 1.
    window, tolerance, clusters, weights
        As in :class:`Objective`.
    objective : {"pooled", "leave-one-class-out", "classwise"}
        Its `kind`.
    return_grad : bool
        Whether the derivative by each probability is wanted as well.

    Returns
    -------
    float or (float, ndarray)

    Notes
    -----
    Values for different n, C or window do not compare: under perfect calibration a window errs by about
    √(2 p(1 − p) / (π (M + 1))). Compare with the resampled law (:meth:`Objective.null`).
    """
    made = Objective(objective, window, tolerance, clusters, weights)
    matrix, labels = as_probabilities(probs, y)
    return made.with_gradient(matrix, labels) if return_grad else made(matrix, labels)
