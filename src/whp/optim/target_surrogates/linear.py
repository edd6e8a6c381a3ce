"""The method on linear models z = Xθ, where the projection can be exact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.linalg import cho_factor, cho_solve, pinvh
from scipy.sparse import issparse
from scipy.sparse.linalg import LinearOperator, cg

from whp.optim.target_surrogates.losses import Loss

__all__ = ["History", "LinearProblem", "Settings", "fit_linear", "line_search"]

Inner = Literal["exact", "gd", "armijo"]
Rule = Literal["sgd", "sls", "adagrad", "adagrad-diag", "newton"]
Schedule = Literal["constant", "sqrt", "exponential"]
RANK = 1e-10


@dataclass(frozen=True)
class Settings:
    """How steps are made; see :func:`whp.optim.target_surrogates`."""

    m: int | None = None  # inner steps; None solves exactly
    inner: Inner = "exact"
    eta: float | None = None
    rule: Rule = "sgd"
    schedule: Schedule = "constant"
    projection: Literal["full", "batch"] = "full"
    batch_size: int | None = None
    max_iter: int = 100
    tol: float = 1e-6
    alpha: float = 0.0
    solver: Literal["direct", "cg"] = "direct"


@dataclass
class History:
    """What happened at each outer step.

    Attributes
    ----------
    rows : list of dict
        ``loss`` of the rows asked about (sum), ``surrogate`` after the inner steps, ``eta``, ``inner_steps``, ``target_step``
        = ‖z_new − z_t‖, ``values`` = extra function values, ``first_step`` of the inner loop, ``gradient`` = ‖∇h‖².
    outputs : list of ndarray
        z after each step, if kept.
    exact_gap : list of float
        Distance of the outputs from the exact projection.
    """

    rows: list[dict[str, float]] = field(default_factory=list)
    outputs: list[np.ndarray] = field(default_factory=list)
    exact_gap: list[float] = field(default_factory=list)

    @property
    def n_oracle(self) -> int:
        """Calls of the oracle with a gradient."""
        return len(self.rows)

    def to_frame(self) -> pd.DataFrame:
        """A row an outer step."""
        return pd.DataFrame(self.rows)


class LinearProblem:
    """min ⟨C, ω⟩ + ‖X(ω − θ)‖²/(2η) + nα‖ω‖²/2 in ω, by one factorisation for each η.

    Parameters
    ----------
    X : ndarray or sparse, shape (n, d)
    alpha : float
        Ridge penalty a sample; not on the last column if `free_last`.
    solver : {"direct", "cg"}
    free_last : bool
    """

    def __init__(self, X: Any, alpha: float, solver: str, free_last: bool = False) -> None:
        self.X, self.n, self.d = X, X.shape[0], X.shape[1]
        self.penalty = np.full(self.d, alpha * self.n)
        if free_last:
            self.penalty[-1] = 0.0
        self.solver = solver
        self._factors: dict[float, Callable[[np.ndarray], np.ndarray]] = {}
        if solver == "direct":
            H = X.T @ X
            self.H = H.toarray() if issparse(H) else np.asarray(H)
            self.norm = float(np.linalg.eigvalsh(self.H)[-1])
        else:
            from scipy.sparse.linalg import svds

            self.norm = float(
                svds(X.astype(np.float64), k=1, return_singular_vectors=False)[0] ** 2
            )

    def gram(self, v: np.ndarray) -> np.ndarray:
        """XᵀX v."""
        return self.H @ v if self.solver == "direct" else self.X.T @ (self.X @ v)

    def solve(self, slope: np.ndarray, theta: np.ndarray, eta: float) -> np.ndarray:
        """The minimiser for C = slope; of all, the one nearest to θ where X lacks rank."""
        step = self._factor(eta)(slope + (self.penalty * theta.T).T)
        return theta - step

    def _factor(self, eta: float) -> Callable[[np.ndarray], np.ndarray]:
        if eta not in self._factors:
            if len(self._factors) > 8:
                self._factors.clear()
            self._factors[eta] = self._make(eta)
        return self._factors[eta]

    def _make(self, eta: float) -> Callable[[np.ndarray], np.ndarray]:
        if self.solver == "cg":

            def product(v: np.ndarray) -> np.ndarray:
                return self.X.T @ (self.X @ v) / eta + self.penalty * v

            operator = LinearOperator((self.d, self.d), matvec=product, dtype=np.float64)  # type: ignore[call-arg]
            return lambda r: np.stack(
                [
                    cg(operator, column, rtol=1e-10, maxiter=10 * self.d)[0]
                    for column in np.atleast_2d(r.T)
                ]
            ).T.reshape(r.shape)
        A = self.H / eta + np.diag(self.penalty)
        try:
            factor = cho_factor(A)
            if np.diag(factor[0]).min() ** 2 > RANK * np.diag(factor[0]).max() ** 2:
                return lambda r: cho_solve(factor, r)
        except np.linalg.LinAlgError:
            pass
        inverse = pinvh(A, rtol=RANK)
        return lambda r: inverse @ r


def line_search(
    value: Callable[[np.ndarray], float],
    z: np.ndarray,
    G: np.ndarray,
    before: float,
    start: float,
    c: float = 0.5,
    beta: float = 0.9,
) -> tuple[float, int]:
    """The largest η = start·βʲ with ℓ(z − ηG) ≤ ℓ(z) − cη‖G‖², and the function values that it took."""
    size, eta = float(np.square(G).sum()), start
    for tries in range(1, 400):
        after = value(z - eta * G)
        if np.isfinite(after) and after <= before - c * eta * size:
            return eta, tries
        eta *= beta
    return eta, 400


def _scheduled(eta: float, schedule: str, t: int, T: int) -> float:
    if schedule == "sqrt":
        return eta / np.sqrt(t + 1)
    if schedule == "exponential":
        return eta * (1 / T) ** (t / T)
    return eta


def fit_linear(
    X: Any,
    y: np.ndarray,
    loss: Loss,
    settings: Settings,
    theta: np.ndarray,
    rng: np.random.Generator,
    *,
    free_last: bool = False,
    keep: bool = False,
    problem: LinearProblem | None = None,
    oracle: Callable[[np.ndarray, np.ndarray], tuple[float, np.ndarray]] | None = None,
    stop: Callable[[int, np.ndarray], bool] | None = None,
) -> tuple[np.ndarray, History]:
    """Run the method from `theta`; one call of the oracle a step.

    Parameters
    ----------
    X : ndarray or sparse, shape (n, d)
    y : ndarray, shape (n,)
    loss : Loss
    settings : Settings
    theta : ndarray, shape (d,) or (d, C)
        Start; not changed.
    rng : Generator
        Of the minibatches.
    free_last : bool
        The last coefficient is an intercept, which is not penalised.
    keep : bool
        Keep the outputs after each step, and how far from the exact projection they are.
    problem : LinearProblem, optional
        One that was made before.
    oracle : callable, optional
        ``oracle(z, rows)`` gives loss and gradient instead of `loss`, of the rows asked about.
    stop : callable, optional
        ``stop(t, theta)`` after each step.
    """
    n = X.shape[0]
    b = n if settings.batch_size is None else min(settings.batch_size, n)
    problem = problem or LinearProblem(X, settings.alpha, settings.solver, free_last)
    rule = settings.rule if loss.smoothness is not None or settings.rule == "newton" else "sls"
    default = _default_eta(loss, settings.projection, n, b)
    base = settings.eta if settings.eta is not None else default
    history = History()
    theta = theta.copy()
    sums, previous = 0.0, 1e4
    accumulators = np.zeros(y.shape if theta.ndim == 1 else (n, theta.shape[1]))
    order, place = rng.permutation(n), 0
    first = 1.0
    for t in range(settings.max_iter):
        if place + b > n:
            order, place = rng.permutation(n), 0
        rows = np.arange(n) if b == n else order[place : place + b]
        place += b
        part, targets = (X, y) if b == n else (X[rows], y[rows])
        z = part @ theta
        if oracle is None:
            value, G = loss.value(z, targets), loss.gradient(z, targets)
        else:
            value, G = oracle(z, rows)
        if not np.isfinite(value) or not np.isfinite(G).all():
            raise FloatingPointError(f"the oracle is not finite at step {t + 1}: lower eta")
        values = 0
        if rule == "sls":
            eta, values = line_search(
                lambda u: loss.value(u, targets),  # noqa: B023
                z,
                G,
                value,
                min(1e4, 2 * previous),
            )
            previous = eta
            eta *= (b / n) if settings.projection == "full" and b < n else 1.0
        elif rule == "adagrad":
            sums += float(np.square(G).sum())
            eta = base / np.sqrt(max(sums, 1e-300))
        else:
            eta = base
        eta = _scheduled(eta, settings.schedule, t, settings.max_iter)
        scale = n / b if settings.projection == "full" else 1.0
        slope = scale * (part.T @ G)
        gradient = float(np.square(part.T @ G + (problem.penalty * theta.T).T).sum())
        if rule in ("adagrad-diag", "newton"):
            if rule == "newton":
                metric = np.maximum(_curvature(loss, z, targets), 1e-5) / (
                    eta if settings.eta is not None else 1.0
                )
            else:
                accumulators[rows] += np.square(G)
                metric = np.clip(np.sqrt(accumulators[rows]), 1e-5, 1e5) / eta
            new = _weighted(part, G, metric, theta, problem.penalty * b / n)
            steps = 1
        elif settings.projection == "batch" and b < n:
            new, steps, first = _inner(
                LinearProblem(part, settings.alpha, "direct", free_last),
                slope,
                theta,
                eta,
                settings,
                first,
            )
        else:
            new, steps, first = _inner(problem, slope, theta, eta, settings, first)
        moved = part @ new - z
        surrogate = value + float((G * moved).sum()) + float(np.square(moved).sum()) / (2 * eta)
        history.rows.append(
            {
                "loss": value,
                "surrogate": surrogate,
                "eta": eta,
                "inner_steps": steps,
                "values": values,
                "rows": b,
                "target_step": float(np.linalg.norm(moved)),
                "first_step": first,
                "gradient": gradient,
            }
        )
        if keep:
            exact = (
                problem.solve(slope, theta, eta) if settings.projection == "full" or b == n else new
            )
            outputs = X @ new
            history.exact_gap.append(float(np.linalg.norm(outputs - X @ exact)))
            history.outputs.append(outputs)
        theta = new
        if (stop is not None and stop(t, theta)) or (b == n and np.sqrt(gradient) <= settings.tol):
            break
    return theta, history


def _default_eta(loss: Loss, projection: str, n: int, b: int) -> float:
    """1/L, and half the inverse of the largest single gradient's smoothness n L/b where the theory needs it."""
    if loss.smoothness is None:
        return 1.0
    if projection == "full" and b < n:
        return b / (2 * n * loss.smoothness)
    return 1 / loss.smoothness


def _curvature(loss: Loss, z: np.ndarray, y: np.ndarray) -> np.ndarray:
    if loss.name == "logistic":
        from scipy.special import expit

        return expit(z) * (1 - expit(z))
    if loss.name == "poisson":
        return np.exp(np.minimum(z, 50))
    return np.ones_like(z)


def _weighted(
    X: Any, G: np.ndarray, metric: np.ndarray, theta: np.ndarray, penalty: np.ndarray
) -> np.ndarray:
    """The minimiser where each output is weighed by its own metric."""
    if theta.ndim == 2:
        return np.stack(
            [
                _weighted(X, G[:, c], metric[:, c], theta[:, c], penalty)
                for c in range(theta.shape[1])
            ],
            axis=1,
        )
    dense = X.toarray() if issparse(X) else X
    A = (dense.T * metric) @ dense + np.diag(penalty)
    return theta - pinvh(A, rtol=RANK) @ (dense.T @ G + penalty * theta)


def _inner(
    problem: LinearProblem,
    slope: np.ndarray,
    theta: np.ndarray,
    eta: float,
    settings: Settings,
    first: float,
) -> tuple[np.ndarray, int, float]:
    """m steps on the surrogate, or all of them; the new parameters, the steps, and the first one's size."""
    if settings.inner == "exact" or settings.m is None:
        return problem.solve(slope, theta, eta), 1, first
    beta = problem.norm / eta + float(problem.penalty.max())
    pull = (problem.penalty * theta.T).T

    def derivative(delta: np.ndarray) -> np.ndarray:
        return slope + problem.gram(delta) / eta + pull + (problem.penalty * delta.T).T

    def value(delta: np.ndarray) -> float:
        both = slope + pull
        quadratic = problem.gram(delta) / eta + (problem.penalty * delta.T).T
        return float((both * delta).sum() + 0.5 * (delta * quadratic).sum())

    delta, steps, size = np.zeros_like(theta), 0, 1 / beta
    trial = first * 1.8 if settings.inner == "armijo" else size
    started = False
    for k in range(settings.m):
        g = derivative(delta)
        norm2 = float(np.square(g).sum())
        if np.sqrt(norm2) <= settings.tol:
            break
        if settings.inner == "armijo":
            here = value(delta)
            for _ in range(100):
                if value(delta - trial * g) <= here - 0.1 * trial * norm2:
                    break
                trial *= 0.5
            size = trial
            trial = size * 1.8
        if not started:
            first, started = size, True
        delta = delta - size * g
        steps = k + 1
    return theta + delta, steps, first
