"""Maps from logits to probabilities that keep the order of the classes of every row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import log_softmax

from whp.calibration._h_calibration import kernels
from whp.scores import EXACT, as_logits

__all__ = ["FAR", "HCalibrationMap", "softmax", "standardise"]

ABSENT = (
    -1e60
)  # in place of the logarithm of probability 0: no map makes it more, no square overflows
FAR = -1e40  # what lies below is of an impossible class and sets no scale


def softmax(scores: np.ndarray) -> np.ndarray:
    """Softmax along the rows."""
    out = scores - scores.max(axis=1, keepdims=True)
    np.exp(out, out=out)
    out /= out.sum(axis=1, keepdims=True)
    return out


def standardise(logits: np.ndarray) -> np.ndarray:
    """z = log-softmax(logits) in float64: what all maps work on, whatever constant is added to a row.

    A logit of -infinity stays below all finite ones, with probability 0 after any map.

    Raises
    ------
    ValueError
        If finite logits of a row are so far apart that some could not be told from -infinity.
    """
    z = log_softmax(np.asarray(logits, dtype=np.float64), axis=1)
    if (far := (z <= FAR) & ~np.isneginf(logits)).any():
        raise ValueError(
            f"logits of row {np.argwhere(far)[0, 0]} are more than {-FAR:g} apart: give them in a "
            "larger unit, or -infinity for an impossible class"
        )
    return np.maximum(z, ABSENT)


@dataclass(frozen=True, eq=False)
class HCalibrationMap:
    """A fitted map: call it on scores (n, C) of the kind it was fitted to, to get probabilities (n, C).

    Every map increases strictly with each logit of a row and so leaves the order of the classes as it was.

    Parameters
    ----------
    kind : {"temperature", "ensemble", "piecewise", "monotone"}
        ``softmax(beta z)``; a weighted mean of several of those; softmax of a function of z that is piecewise linear; the same
        with slopes that a small network has produced.
    betas, weights : ndarray
        Inverse temperatures and their weights, which sum to 1 (one of each for ``"temperature"``).
    edges, slopes : ndarray
        Where the segments of −z begin, the first at 0 and the last without end, and their slopes.
    from_probs : bool
        Whether it was fitted to probabilities, and is called on them, not on logits.
    """

    kind: str
    betas: Any = None
    weights: Any = None
    edges: Any = None
    slopes: Any = None
    from_probs: bool = False

    def __post_init__(self) -> None:
        names = (
            ("betas", "weights")
            if self.kind in ("temperature", "ensemble")
            else ("edges", "slopes")
        )
        if self.kind not in ("temperature", "ensemble", "piecewise", "monotone"):
            raise ValueError(
                f"kind must be temperature, ensemble, piecewise or monotone, got {self.kind!r}"
            )
        if not isinstance(self.from_probs, bool):
            raise ValueError(f"from_probs must be True or False, got {self.from_probs!r}")
        arrays = []
        for name in ("betas", "weights", "edges", "slopes"):
            value = getattr(self, name)
            if (value is not None) != (name in names):
                raise ValueError(
                    f"a {self.kind} map needs exactly {' and '.join(names)}; check {name}"
                )
            if value is None:
                continue
            array = np.atleast_1d(np.asarray(value, dtype=np.float64))
            if (
                array.ndim != 1
                or array.size == 0
                or not np.isfinite(array).all()
                or (array < 0).any()
            ):
                raise ValueError(f"{name} must be finite numbers that are not negative")
            object.__setattr__(self, name, array)
            arrays.append(array)
        if len(arrays[0]) != len(arrays[1]):
            raise ValueError(
                f"{names[0]} and {names[1]} must be of one length, got {len(arrays[0])} and {len(arrays[1])}"
            )
        if self.betas is not None and self.weights is not None:
            if (self.betas <= 0).any() or abs(float(self.weights.sum()) - 1) > 1e-9:
                raise ValueError("betas must be positive and weights must sum to 1")
        elif self.edges is not None and (self.edges[0] != 0 or (np.diff(self.edges) <= 0).any()):
            raise ValueError("edges must increase from 0")
        elif self.slopes is not None and (self.slopes <= 0).any():
            raise ValueError("slopes must be positive")

    @classmethod
    def temperature(cls, beta: float) -> HCalibrationMap:
        """``softmax(beta z)``."""
        return cls("temperature", betas=np.array([beta]), weights=np.ones(1))

    @property
    def beta(self) -> float:
        """Inverse temperature; the weighted geometric mean of several; of a piecewise map the first slope."""
        if self.betas is not None and self.weights is not None:
            return float(np.exp(self.weights @ np.log(self.betas)))
        assert self.slopes is not None
        return float(self.slopes[0])

    def __call__(self, logits: Any) -> np.ndarray:
        """Probabilities of logits (n, C), or of probabilities where the map was fitted to those.

        One column is the score of the second of two classes.

        Raises
        ------
        ValueError
            If the scores are plainly of the other kind.
        """
        if np.ndim(logits) != 2:
            raise ValueError(
                f"logits must be two-dimensional, a row a sample, got shape {np.shape(logits)}"
            )
        array, _ = as_logits(logits, "logits", self.from_probs)
        inside = len(array) > 1 and not self.from_probs and array.min() >= 0
        if inside and (np.abs(array.sum(axis=1) - 1) <= EXACT).all():
            raise ValueError(
                "logits must be logits, as those that the map was fitted to; these are probabilities"
            )
        return self.apply(standardise(array))

    def apply(self, z: np.ndarray) -> np.ndarray:
        """Probabilities of standardised logits z = log-softmax(logits)."""
        if self.betas is not None and self.weights is not None:
            out = self.weights[0] * softmax(self.betas[0] * z)
            for beta, weight in zip(self.betas[1:], self.weights[1:], strict=True):
                out += weight * softmax(beta * z)
            return out
        return softmax(kernels.piecewise_forward(np.ascontiguousarray(z), self.edges, self.slopes))

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionary for JSON."""
        values = {name: getattr(self, name) for name in ("betas", "weights", "edges", "slopes")}
        given = {k: v.tolist() for k, v in values.items() if v is not None}
        return {"kind": self.kind, **given, "from_probs": self.from_probs}

    @classmethod
    def from_dict(cls, data: Any) -> HCalibrationMap:
        """The map that :meth:`to_dict` wrote.

        Raises
        ------
        ValueError
            If `data` is not that of a map.
        """
        if not isinstance(data, Mapping) or set(data) - {"from_probs"} not in (
            {"kind", "betas", "weights"},
            {"kind", "edges", "slopes"},
        ):
            raise ValueError(
                "a map has the fields kind, betas and weights, or kind, edges and slopes"
            )
        try:
            return cls(**data)
        except TypeError as error:
            raise ValueError(f"not a map: {error}") from error
