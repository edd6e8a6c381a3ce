"""Online ridge regression and the Vovk-Azoury-Warmuth forecaster, and the compiled loop that runs one a group."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from whp.kernel import compiled
from whp.online.groupwise_regret.hedge import hedge_update, hedge_weights
from whp.validate import as_choice, as_int, as_real, as_vector

__all__ = ["SUMS", "OnlineRidge", "learn_block", "reinvert"]

REINVERT = 2000  # updates after which the inverse is made anew from the Gram matrix
# What is summed up for each group: rounds, loss of the mixture, of the prediction, of the group's own learner, of the global
# one, of the plain average, executed bound E, ln det(A/λ), Σ y².
ROUNDS, MIXTURE, LOSS, OWN, GLOBAL, AVERAGE, EXECUTED, LOGDET, SQUARES = range(9)
SUMS = 9


@compiled
def _predict(inverse, s, x, u, vaw):
    """Raw prediction, with u = A⁻¹x and h = xᵀA⁻¹x of the rows before."""
    d = len(x)
    for j in range(d):
        u[j] = 0.0
    for i in range(d):
        if x[i] != 0.0:  # dummies are mostly zero
            for j in range(d):
                u[j] += x[i] * inverse[i, j]
    h, z = 0.0, 0.0
    for j in range(d):
        h += x[j] * u[j]
        z += s[j] * u[j]
    return (z / (1 + h) if vaw else z), h


@compiled
def _learn(gram, inverse, s, x, u, h, y):
    """Rank-one update of Gram matrix and inverse (Sherman and Morrison)."""
    d = len(x)
    for i in range(d):
        c = u[i] / (1 + h)
        for j in range(d):
            inverse[i, j] -= c * u[j]
        if x[i] != 0.0:
            for j in range(d):
                gram[i, j] += x[i] * x[j]
            s[i] += y * x[i]


@compiled
def reinvert(gram, inverse):
    """The inverse anew, by Cholesky's factor."""
    d = len(gram)
    factor = np.linalg.inv(np.linalg.cholesky(gram))
    fresh = factor.T @ factor
    for i in range(d):
        for j in range(d):
            inverse[i, j] = fresh[i, j]


@compiled
def learn_block(
    X,
    y,
    active,
    coins,
    vaw,
    sample,
    scale,
    gram,
    inverse,
    s,
    R,
    C,
    budget,
    prior,
    sums,
    predictions,
    losses,
    weights,
):
    """All rows of a block. Learners 0…N−1 are the groups', the last one is global and for comparison only.

    `budget` holds B, the largest |r| and the largest loss. `scale` is one over the range of losses. `weights` may have no rows.
    """
    n, d = X.shape
    N = len(R)
    u = np.empty((N + 1, d))
    h, raw, ell, p = np.empty(N + 1), np.empty(N + 1), np.empty(N + 1), np.empty(N)
    for t in range(n):
        x = X[t]
        own = 0.0
        count = 0
        for g in range(N + 1):
            if g == N or active[t, g]:
                raw[g], h[g] = _predict(inverse[g], s[g], x, u[g], vaw)
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
                after = h[g] / (1 + h[g])  # h with A that includes x
                plain = ell[g] / scale if g < N else ell[g]
                sums[g, 0] += 1
                sums[g, 1] += mixture / scale
                sums[g, 2] += losses[t]
                sums[g, 3] += plain
                sums[g, 4] += ell[N]
                sums[g, 5] += average
                sums[g, 6] += y[t] * y[t] * after - raw[g] * raw[g] * h[g] if vaw else plain * after
                sums[g, 7] += math.log1p(h[g])
                sums[g, 8] += y[t] * y[t]
                _learn(gram[g], inverse[g], s[g], x, u[g], h[g], y[t])
                if sums[g, 0] % 2000 == 0:
                    reinvert(gram[g], inverse[g])


@compiled
def _one(gram, inverse, s, x, u, y, vaw, sums):
    raw, h = _predict(inverse, s, x, u, vaw)
    z = min(max(raw, 0.0), 1.0)
    after = h / (1 + h)
    sums[0] += 1
    sums[3] += (z - y) ** 2
    sums[6] += y * y * after - raw * raw * h if vaw else (z - y) ** 2 * after
    sums[7] += math.log1p(h)
    sums[8] += y * y
    _learn(gram, inverse, s, x, u, h, y)
    if sums[0] % 2000 == 0:
        reinvert(gram, inverse)


class OnlineRidge:
    """Online least squares, penalised; its excess over the best penalised linear predictor is summed up as it goes.

    Parameters
    ----------
    dim : int
        Columns of a row.
    lam : float
        λ > 0 of the penalty.
    forecaster : {"ridge", "vaw"}
        Ridge regression on the rows before, or Vovk-Azoury-Warmuth, which counts the row that is to be predicted and shrinks.
    clip : tuple of float
        Range of the targets; predictions are clipped to it, which never hurts.

    Attributes
    ----------
    rounds : int
    loss : float
        Of its clipped predictions, in units of the range squared.

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
        self._gram, self._inverse = self.lam * np.eye(dim), np.eye(dim) / self.lam
        self._s, self._u, self._sums = np.zeros(dim), np.zeros(dim), np.zeros(SUMS)

    @property
    def rounds(self) -> int:
        """Rows learnt."""
        return int(self._sums[ROUNDS])

    @property
    def loss(self) -> float:
        """Sum of squared errors of the clipped predictions, targets scaled to [0, 1]."""
        return float(self._sums[OWN])

    def predict_one(self, x: Any) -> float:
        """Prediction for a row, before its target is known."""
        row = as_vector(x, "x", size=self.dim, dtype=np.float64)
        raw, _ = _predict(self._inverse, self._s, row, self._u, self.forecaster == "vaw")
        return self.low + (self.high - self.low) * min(max(float(raw), 0.0), 1.0)

    def learn_one(self, x: Any, y: float) -> None:
        """Learn from a row and its target, which must lie in the range."""
        row = as_vector(x, "x", size=self.dim, dtype=np.float64)
        target = (as_real(y, "y", low=self.low, high=self.high) - self.low) / (self.high - self.low)
        _one(
            self._gram,
            self._inverse,
            self._s,
            row,
            self._u,
            target,
            self.forecaster == "vaw",
            self._sums,
        )

    def hindsight(self) -> tuple[float, float]:
        """min over θ of Σ(θᵀx − y)² + λ‖θ‖², and the part of it without the penalty."""
        return hindsight(self._gram, self._s, float(self._sums[SQUARES]), self.lam)

    def bound(self) -> float:
        """Bound on :attr:`loss` less the penalised minimum, executed."""
        return float(self._sums[EXECUTED])


def hindsight(
    gram: Float[np.ndarray, "d d"], s: Float[np.ndarray, " d"], squares: float, lam: float
) -> tuple[float, float]:
    """The penalised minimum of a group, and its loss alone."""
    theta = np.linalg.solve(gram, s)
    best = squares - float(s @ theta)
    return best, best - lam * float(theta @ theta)


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
