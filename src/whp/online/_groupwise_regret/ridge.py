"""Online ridge regression and the Vovk-Azoury-Warmuth forecaster, and the compiled loop of one a group.

Of A = λI + Σ x xᵀ a root S of the inverse is kept, A⁻¹ = SSᵀ, and brought up to date by Potter's rule:
it stays positive definite, and features of scale 10⁸ cost half of the digits, not all of them.
The optimum in hindsight comes from a QR factorisation of the rows, for the same reason: from the Gram
matrix, two columns of Unix times whose difference matters gave eighty times the right one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from whp.kernel import compiled
from whp.online._groupwise_regret.hedge import hedge_update, hedge_weights
from whp.validate import as_choice, as_int, as_real, as_vector

__all__ = [
    "SUMS",
    "Hindsight",
    "OnlineRidge",
    "as_range",
    "check_size",
    "empty_factor",
    "hindsight",
    "learn_block",
    "range_of",
]

# What is summed up for each group: rounds, loss of the mixture, of the prediction, of the group's
# own learner, of the global one, of the plain average, executed bound E, ln det(A/λ), Σ y², and the
# penalised optimum by the identities of the page (docs: ridge).
ROUNDS, MIXTURE, LOSS, OWN, GLOBAL, AVERAGE, EXECUTED, LOGDET, SQUARES, IDENTITY = range(10)
SUMS = 10
LARGEST = 1e30  # squares of squares still fit


@compiled
def _predict(root, theta, x, v, vaw):
    """Raw prediction, with v = Sᵀx and h = xᵀA⁻¹x of the rows before."""
    d = len(x)
    for j in range(d):
        v[j] = 0.0
    raw = 0.0
    for i in range(d):
        if x[i] != 0.0:  # dummies are mostly zero
            raw += x[i] * theta[i]
            for j in range(d):
                v[j] += x[i] * root[i, j]
    h = 0.0
    for j in range(d):
        h += v[j] * v[j]
    return (raw / (1 + h) if vaw else raw), h


@compiled
def _learn(factor, root, theta, x, v, h, y, vaw, raw):
    """Root (Potter), coefficients and factor (Givens) with one more row."""
    d = len(x)
    before = raw * (1 + h) if vaw else raw
    step, shrink = (y - before) / (1 + h), 1 / (1 + h + math.sqrt(1 + h))
    for i in range(d):
        u = 0.0
        for j in range(d):
            u += root[i, j] * v[j]
        theta[i] += u * step
        c = u * shrink
        for j in range(d):
            root[i, j] -= c * v[j]
    row = v  # not needed any more
    for j in range(d):
        row[j] = x[j]
    for i in range(d):
        if row[i] != 0.0:
            length = math.hypot(factor[i, i], row[i])
            cosine, sine = factor[i, i] / length, row[i] / length
            factor[i, i] = length
            for j in range(i + 1, d):
                old = factor[i, j]
                factor[i, j] = cosine * old + sine * row[j]
                row[j] = cosine * row[j] - sine * old
            old = factor[i, d]
            factor[i, d] = cosine * old + sine * y
            y = cosine * y - sine * old
    factor[d, d] += y * y


@compiled
def _executed(raw, loss, h, y, vaw):
    """What one round adds to E and to the penalised optimum; h before the row was learnt."""
    after = h / (1 + h)
    if vaw:
        growth = y * y * after - raw * raw * h
        return growth, (raw - y) ** 2 - growth
    return loss * after, (raw - y) ** 2 / (1 + h)


@compiled
def learn_block(
    X,
    y,
    active,
    coins,
    vaw,
    sample,
    scale,
    factor,
    root,
    theta,
    R,
    C,
    budget,
    prior,
    sums,
    predictions,
    losses,
    alone,
    weights,
):
    """All rows of a block. Learners 0…N−1 are the groups', the last one is global, for comparison.

    `budget` holds B, the largest |r| and the largest loss. `scale` is one over the range of losses.
    `alone` gets the global one's losses. `weights` may have no rows.
    """
    n, d = X.shape
    N = len(R)
    v = np.empty((N + 1, d))
    h, raw, ell, p = np.empty(N + 1), np.empty(N + 1), np.empty(N + 1), np.empty(N)
    for t in range(n):
        x = X[t]
        own = 0.0
        count = 0
        for g in range(N + 1):
            if g == N or active[t, g]:
                raw[g], h[g] = _predict(root[g], theta[g], x, v[g], vaw)
                z = min(max(raw[g], 0.0), 1.0)
                ell[g] = (z - y[t]) ** 2
                if g < N:
                    own += z
                    count += 1
        awake = hedge_weights(R, C, prior, active[t], p)
        prediction = 0.0
        if awake:
            if sample:
                left, chosen = coins[t], -1
                for g in range(N):
                    if active[t, g]:
                        chosen = g
                        left -= p[g]
                        if left < 0:
                            break
                prediction = min(max(raw[chosen], 0.0), 1.0)
            else:
                for g in range(N):
                    if active[t, g]:
                        prediction += p[g] * min(max(raw[g], 0.0), 1.0)
        predictions[t] = prediction
        losses[t] = (prediction - y[t]) ** 2
        alone[t] = ell[N]
        if len(weights):
            weights[t] = p
        if not awake:
            continue
        average = (own / count - y[t]) ** 2
        for g in range(N):
            if active[t, g]:
                budget[2] = max(budget[2], ell[g] * scale)
                ell[g] *= scale
        mixture, growth, worst = hedge_update(R, C, prior, active[t], p, ell)
        budget[0] += growth
        budget[1] = max(budget[1], worst)
        for g in range(N + 1):
            if g == N or active[t, g]:
                plain = ell[g] / scale if g < N else ell[g]
                more, optimum = _executed(raw[g], plain, h[g], y[t], vaw)
                sums[g, 0] += 1
                sums[g, 1] += mixture / scale
                sums[g, 2] += losses[t]
                sums[g, 3] += plain
                sums[g, 4] += ell[N]
                sums[g, 5] += average
                sums[g, 6] += more
                sums[g, 7] += math.log1p(h[g])
                sums[g, 8] += y[t] * y[t]
                sums[g, 9] += optimum
                _learn(factor[g], root[g], theta[g], x, v[g], h[g], y[t], vaw, raw[g])


@compiled
def _one(factor, root, theta, x, v, y, vaw, sums):
    raw, h = _predict(root, theta, x, v, vaw)
    loss = (min(max(raw, 0.0), 1.0) - y) ** 2
    more, optimum = _executed(raw, loss, h, y, vaw)
    sums[0] += 1
    sums[3] += loss
    sums[6] += more
    sums[7] += math.log1p(h)
    sums[8] += y * y
    sums[9] += optimum
    _learn(factor, root, theta, x, v, h, y, vaw, raw)


class OnlineRidge:
    """Online least squares, penalised; its excess over the best penalised linear predictor is summed up as it goes.

    Parameters
    ----------
    dim : int
        Columns of a row.
    lam : float
        λ > 0 of the penalty.
    forecaster : {"ridge", "vaw"}
        Ridge regression on the rows before, or Vovk-Azoury-Warmuth, which counts the row that is to
        be predicted and shrinks.
    clip : tuple of float
        Range of the targets; predictions are clipped to it, which never hurts.

    Attributes
    ----------
    rounds : int
        Rows learnt.
    loss : float
        Sum of squared errors of its clipped predictions, in units of the target squared.

    References
    ----------
    F. Zhdanov, Y. Kalnishkan (2013), identity for ridge; K. Azoury, M. Warmuth (2001).
    """

    def __init__(
        self,
        dim: int,
        lam: float = 1.0,
        forecaster: Literal["ridge", "vaw"] = "ridge",
        clip: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        self.dim = as_int(dim, "dim", low=1)
        self.lam = as_real(lam, "lam", low=0, high=math.inf, open_ends=True)
        as_choice(forecaster, "forecaster", ("ridge", "vaw"))
        self.forecaster, (self.low, self.high) = forecaster, as_range(clip, "clip")
        self._factor, self._root = empty_factor(dim, self.lam), np.eye(dim) / math.sqrt(self.lam)
        self._theta, self._v = np.zeros((2, dim))
        self._sums = np.zeros(SUMS)

    @property
    def unit(self) -> float:
        """Square of the range of the targets: losses are kept for targets scaled to [0, 1]."""
        return (self.high - self.low) ** 2

    @property
    def rounds(self) -> int:
        """Rows learnt."""
        return int(self._sums[ROUNDS])

    @property
    def loss(self) -> float:
        """Sum of squared errors of the clipped predictions."""
        return self.unit * float(self._sums[OWN])

    def predict_one(self, x: Any) -> float:
        """Prediction for a row, before its target is known."""
        row = self._row(x)
        raw, _ = _predict(self._root, self._theta, row, self._v, self.forecaster == "vaw")
        return self.low + (self.high - self.low) * min(max(float(raw), 0.0), 1.0)

    def learn_one(self, x: Any, y: float) -> None:
        """Learn from a row and its target, which must lie in the range."""
        row = self._row(x)
        target = (as_real(y, "y", low=self.low, high=self.high) - self.low) / (self.high - self.low)
        _one(
            self._factor,
            self._root,
            self._theta,
            row,
            self._v,
            target,
            self.forecaster == "vaw",
            self._sums,
        )

    def _row(self, x: Any) -> np.ndarray:
        row = as_vector(x, "x", size=self.dim, dtype=np.float64)
        check_size(row, "x", self.lam)
        return row

    def hindsight(self) -> tuple[float, float]:
        """The penalised minimum of the loss over linear predictors, and the part that is loss.

        Predictors θᵀx of the targets scaled to [0, 1], penalty λ‖θ‖² in the unit of the loss.
        """
        best = self.in_hindsight()
        return best.best, best.plain

    def in_hindsight(self) -> Hindsight:
        """The same with how far rounding may have moved it."""
        return hindsight(self._factor, self._sums, self.lam).times(self.unit)

    def bound(self) -> float:
        """Bound on :attr:`loss` less the penalised minimum, executed."""
        return self.unit * float(self._sums[EXECUTED])


@dataclass(frozen=True)
class Hindsight:
    """The best penalised linear predictor of a group.

    Parameters
    ----------
    best, plain : float
        Its loss with and without the penalty.
    rounding : float
        How far `best` may be off.
    """

    best: float
    plain: float
    rounding: float

    def times(self, unit: float) -> Hindsight:
        """In other units of the loss."""
        return Hindsight(self.best * unit, self.plain * unit, self.rounding * unit)


def empty_factor(dim: int, lam: float) -> Float[np.ndarray, "d1 d1"]:
    """Triangular factor of √λ I beside a column of targets, the optimum in the last corner."""
    factor = math.sqrt(lam) * np.eye(dim + 1)
    factor[dim, dim] = 0.0
    return factor


def check_size(X: np.ndarray, name: str, lam: float) -> None:
    """Squares of entries, and of entries over √λ, have to fit into a number."""
    most = min(LARGEST, 1e140 * math.sqrt(lam))
    if (largest := float(np.abs(X).max(initial=0.0))) > most:
        raise ValueError(
            f"{name} must have entries of at most {most:g}, got {largest:g}; scale its columns, "
            "or give a larger lam"
        )


def hindsight(
    factor: Float[np.ndarray, "d1 d1"], sums: Float[np.ndarray, " k"], lam: float
) -> Hindsight:
    """From the factor of the rows, and from the run itself.

    Both are the same number, so that their difference is rounding, of which they show some; four times
    as much is taken for it, and what the factor's backward error may move. Directions within that
    error, as of columns given twice, are left out; what they would explain is anything up to all of it.
    """
    R, z = factor[:-1, :-1], factor[:-1, -1]
    scale = np.linalg.norm(R, axis=0)
    U, sizes, V = np.linalg.svd(R / scale)
    # A rotation a row: columns are exact for rows moved by a few units of rounding, times √rows.
    backward = 4 * np.finfo(float).eps * math.sqrt(1 + float(sums[ROUNDS]))
    kept, parts = sizes > backward * sizes[0], U.T @ z
    solution = (V[kept].T @ (parts[kept] / sizes[kept])) / scale
    best, by_run = float(factor[-1, -1] + (parts[~kept] ** 2).sum()), float(sums[IDENTITY])
    least = 1e-12 * (1 + float(sums[SQUARES]) + float(sums[ROUNDS]))
    moved = backward * float(scale @ np.abs(solution))  # so far the residuals
    least += moved * (2 * math.sqrt(max(best, 0.0)) + moved)
    least += 0.0 if kept.all() else max(best, 0.0)
    return Hindsight(best, best - lam * float(solution @ solution), 4 * abs(best - by_run) + least)


def as_range(value: Any, name: str) -> tuple[float, float]:
    """Two numbers, the first smaller."""
    try:
        low, high = value
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be two numbers, got {value!r}") from error
    low, high = as_real(low, name), as_real(high, name)
    if not low < high or not math.isfinite(high - low):
        raise ValueError(
            f"{name} must be two finite numbers, the first smaller, got {low:g}, {high:g}"
        )
    return low, high


def range_of(values: np.ndarray, name: str) -> tuple[float, float]:
    """The least and the largest value; where they are one, a range above it."""
    low, high = float(values.min()), float(values.max())
    if low == high:
        high = low + max(1.0, abs(low))
    if not math.isfinite(high - low):
        raise ValueError(f"{name} must span a finite range, got {low:g} to {high:g}")
    return low, high
