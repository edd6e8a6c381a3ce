"""How well probabilities and outcomes agree: proper scores, binned errors, and the error of the cumulative curve."""

from __future__ import annotations

import numpy as np
import pandas as pd

__all__ = ["METRICS", "brier", "classwise_ece", "compare", "ece", "ece_equal_mass", "ks", "nll"]

BINS = 15


def nll(probs: np.ndarray, y: np.ndarray) -> float:
    """Mean negative log-likelihood; probabilities below 1e-300 count as that."""
    return float(-np.log(np.maximum(probs[np.arange(len(y)), y], 1e-300)).mean())


def brier(probs: np.ndarray, y: np.ndarray) -> float:
    """Mean over rows of the squared distance between probabilities and the outcome, summed over classes."""
    return float((np.square(probs).sum(axis=1) - 2 * probs[np.arange(len(y)), y] + 1).mean())


def _top(probs: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    best = probs.argmax(axis=1)
    return probs[np.arange(len(y)), best], (best == y).astype(np.float64)


def _binned(stated: np.ndarray, came: np.ndarray, bins: int = BINS) -> float:
    """Σ over bins of equal width of |Σ (stated − came)| / n."""
    which = np.clip(np.ceil(stated * bins).astype(np.int64) - 1, 0, bins - 1)
    return float(np.abs(np.bincount(which, stated - came, bins)).sum() / len(stated))


def ece(probs: np.ndarray, y: np.ndarray) -> float:
    """Expected calibration error of the top label, 15 bins of equal width."""
    return _binned(*_top(probs, y))


def ece_equal_mass(probs: np.ndarray, y: np.ndarray) -> float:
    """Expected calibration error of the top label, 15 bins of equally many rows."""
    stated, came = _top(probs, y)
    order = np.argsort(stated, kind="stable")
    gaps = [
        abs(float(part.sum())) for part in np.array_split((stated - came)[order], min(BINS, len(y)))
    ]
    return sum(gaps) / len(y)


def classwise_ece(probs: np.ndarray, y: np.ndarray) -> float:
    """Mean over classes of the binned error of their own column."""
    return float(
        np.mean([_binned(probs[:, c], (y == c).astype(np.float64)) for c in range(probs.shape[1])])
    )


def ks(probs: np.ndarray, y: np.ndarray) -> float:
    """Largest distance between the cumulative sums of top probability and of hits, rows sorted by probability (no bins)."""
    stated, came = _top(probs, y)
    order = np.argsort(stated, kind="stable")
    values, total = stated[order], np.cumsum((stated - came)[order])
    ends = np.append(
        values[1:] != values[:-1], True
    )  # inside a tie the order of the rows means nothing
    return float(np.abs(total[ends]).max() / len(y))


METRICS = {
    "nll": nll,
    "brier": brier,
    "ece": ece,
    "ece_equal_mass": ece_equal_mass,
    "classwise_ece": classwise_ece,
    "ks": ks,
}


def compare(before: np.ndarray, after: np.ndarray, y: np.ndarray) -> pd.DataFrame:
    """All metrics of two sets of probabilities."""
    return pd.DataFrame(
        [
            {"metric": name, "before": metric(before, y), "after": metric(after, y)}
            for name, metric in METRICS.items()
        ]
    )
