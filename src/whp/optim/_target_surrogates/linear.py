"""The method on linear models z = Xθ, where the surrogate can be minimised exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.linalg import pinvh
from scipy.sparse import issparse
from scipy.special import expit

from whp.optim._target_surrogates.losses import Loss
from whp.optim._target_surrogates.problem import RANK, LinearProblem, column_norms

__all__ = ["ARMIJO", "History", "Settings", "default_eta", "fit_linear", "line_search"]

Inner = Literal["exact", "gd", "armijo"]
Rule = Literal["auto", "sgd", "sls", "adagrad", "adagrad-diag", "newton"]
Schedule = Literal["constant", "sqrt", "exponential"]
Batches = Literal["independent", "passes"]
ARMIJO = 0.1  # share of the promised decrease that a step must bring
UNIT = np.finfo(float).eps
SLACK = 1e-9  # of the first loss, and of ‖G‖‖Δz‖: what a surrogate may be below the loss


@dataclass(frozen=True)
class Settings:
    """How steps are made; see :func:`whp.optim.target_surrogates`."""

    m: int | None = None  # inner steps; None solves exactly
    inner: Inner = "exact"
    eta: float | None = None
    rule: Rule = "auto"
    schedule: Schedule = "constant"
    projection: Literal["full", "batch"] = "full"
    batch_size: int | None = None
    batches: Batches = "independent"
    max_iter: int = 100
    tol: float = 1e-6
    alpha: float = 0.0
    solver: Literal["direct", "cg"] = "direct"

    def rule_for(self, loss: Loss) -> Rule:
        """Which rule it comes to: a search where the loss has no L."""
        if self.rule != "auto":
            return self.rule
        return "sgd" if loss.smoothness is not None or self.eta is not None else "sls"


@dataclass
class History:
    """What happened at each outer step.

    Attributes
    ----------
    rows : list of dict
        ``loss`` of the rows asked about (sum), ``surrogate`` after the inner steps and ``after``,
        the loss of the same rows then; ``slack``, what rounding may put between the two;
        ``eta``, the inverse of the surrogate's least curvature in the outputs; ``inner_steps``;
        ``values``, extra function values of a search; ``rows``; ``target_step`` = ‖z_new − z_t‖;
        ``first_step`` of the inner loop; ``gradient`` = ‖∇h‖² before the step, ``rounding`` its
        radius; ``share``, what the surrogate must fall by for each unit of it; ``penalty`` before
        the step.
    """

    rows: list[dict[str, float]] = field(default_factory=list)

    @property
    def n_oracle(self) -> int:
        """Calls of the oracle with a gradient."""
        return len(self.rows)

    def column(self, name: str) -> np.ndarray:
        """One number a step."""
        return np.array([r[name] for r in self.rows], dtype=np.float64)

    def to_frame(self) -> pd.DataFrame:
        """A row an outer step."""
        return pd.DataFrame(self.rows)


def line_search(
    value: Callable[[np.ndarray], float],
    z: np.ndarray,
    G: np.ndarray,
    before: float,
    start: float,
    c: float = 0.5,
    beta: float = 0.9,
) -> tuple[float, int]:
    """The largest η = start·βʲ with ℓ(z − ηG) ≤ ℓ(z) − cη‖G‖², and how many function values it took."""
    size, eta = float(np.square(G).sum()), start
    for tries in range(1, 400):
        with np.errstate(over="ignore", invalid="ignore"):
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


class _Batches:
    """The rows of each step."""

    def __init__(self, n: int, b: int, kind: Batches, rng: np.random.Generator) -> None:
        self.n, self.b, self.kind, self.rng = n, b, kind, rng
        self.order, self.place = np.empty(0, int), n

    def draw(self) -> np.ndarray:
        if self.kind == "independent":
            return self.rng.choice(self.n, self.b, replace=False, shuffle=False)
        if self.place + self.b > self.n:
            self.order, self.place = self.rng.permutation(self.n), 0
        self.place += self.b
        return self.order[self.place - self.b : self.place]


class _Rates:
    """η, or a metric in the outputs, of each step."""

    def __init__(self, loss: Loss, s: Settings, shape: tuple[int, ...], n: int, b: int) -> None:
        self.loss, self.s, self.rule = loss, s, s.rule_for(loss)
        self.base = s.eta if s.eta is not None else default_eta(loss, s.projection, n, b)
        self.share = b / n if s.projection == "full" and b < n else 1.0
        self.squares, self.previous = 0.0, 1e4
        self.accumulated = np.zeros(shape) if self.rule == "adagrad-diag" else np.empty(0)

    def at(
        self, t: int, z: np.ndarray, G: np.ndarray, y: np.ndarray, value: float, rows: Any
    ) -> tuple[float, np.ndarray | None, int]:
        """η, a metric if it is not the same for all outputs, and function values that it took."""
        values, eta = 0, self.base
        if self.rule == "sls":
            eta, values = line_search(
                lambda u: self.loss.value(u, y), z, G, value, min(1e4, 2 * self.previous)
            )
            self.previous = eta
            eta *= self.share
        elif self.rule == "adagrad":
            self.squares += float(np.square(G).sum())
            eta = self.base / np.sqrt(max(self.squares, 1e-300))
        eta = float(_scheduled(eta, self.s.schedule, t, self.s.max_iter))
        metric = None
        if self.rule == "newton":
            metric = np.maximum(_curvature(self.loss, z), 1e-5)
            metric = metric / (eta if self.s.eta is not None else 1.0)
        elif self.rule == "adagrad-diag":
            self.accumulated[rows] += np.square(G)
            metric = np.clip(np.sqrt(self.accumulated[rows]), 1e-5, 1e5) / eta
        return eta, metric, values


def fit_linear(
    X: Any,
    y: np.ndarray,
    loss: Loss,
    settings: Settings,
    theta: np.ndarray,
    rng: np.random.Generator,
    *,
    free: np.ndarray | None = None,
    problem: LinearProblem | None = None,
    stop: Callable[[int, np.ndarray, float], bool] | None = None,
) -> tuple[np.ndarray, History]:
    """Run the method from `theta`; one gradient of the loss a step.

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
    free : ndarray of bool, shape (d,), optional
        Coefficients that are not penalised.
    problem : LinearProblem, optional
        One that was made before.
    stop : callable, optional
        ``stop(t, theta, after)`` after each step; `after` is the loss of the step's rows.
    """
    n, s = X.shape[0], settings
    b = n if s.batch_size is None else min(s.batch_size, n)
    problem = problem or LinearProblem(X, s.alpha, s.solver, free)
    shape = y.shape if theta.ndim == 1 else (n, theta.shape[1])
    rates, batches = _Rates(loss, s, shape, n, b), _Batches(n, b, s.batches, rng)
    scale = n / b if s.projection == "full" else 1.0
    history, theta = History(), theta.copy()
    first, limit, largest = 1.0, 0.0, 0.0
    rows: Any = slice(None)
    z = X @ theta if b == n else np.empty(0)
    value = loss.value(z, y) if b == n else 0.0
    part, targets = X, y
    for t in range(s.max_iter):
        if b < n:
            rows = batches.draw()
            part, targets = X[rows], y[rows]
            z = part @ theta
            value = loss.value(z, targets)
        G = loss.gradient(z, targets)
        if not np.isfinite(value) or not np.isfinite(G).all():
            raise FloatingPointError(f"the loss is not finite at step {t + 1}: lower eta")
        eta, metric, values = rates.at(t, z, G, targets, value, rows)
        pull = problem.pull(theta)
        slope = part.T @ G
        norm2 = float(np.square(slope + pull).sum())
        if t == 0:
            limit, largest = s.tol * np.sqrt(norm2) if b == n else 0.0, value
        inner = problem
        if s.projection == "batch" and b < n and metric is None:
            inner = LinearProblem(part, s.alpha, "direct", problem.penalty == 0)
        beta = inner.norm / eta + float(inner.penalty.max()) if b == n else 0.0
        if metric is not None:
            beta = problem.norm * float(metric.max()) + float(problem.penalty.max())
            new, steps = _weighted(part, G, metric, theta, problem.penalty * b / n), 1
        elif s.inner == "exact" or s.m is None:
            chosen = None if b == n or inner is not problem else rows
            new, steps = inner.solve(scale * slope, theta, eta, scale * G, chosen), 1
        else:
            new, steps, first = _inner(inner, scale * slope, theta, eta, s, first, limit)
        z_new = part @ new
        moved = z_new - z
        linear, square = G * moved, np.square(moved)
        bent = proximity(square, eta if metric is None else 1 / metric)
        after = loss.value(z_new, targets)
        radius = _radius(problem, theta, new, z, G, linear, bent, value, after, loss)
        step, long = float(np.sqrt(square.sum())), float(np.linalg.norm(G))
        history.rows.append(
            {
                "loss": value,
                "surrogate": value + float(linear.sum()) + bent,
                "after": after,
                "slack": SLACK * (largest + long * step) + 4 * radius,
                "rounding": radius,
                "eta": eta if metric is None else 1 / float(metric.min()),
                "inner_steps": steps,
                "values": values,
                "rows": b,
                "target_step": step,
                "first_step": first,
                "gradient": norm2,
                "gradient_rounding": _gradient_radius(problem, G, pull, norm2),
                "share": ARMIJO * first
                if s.inner == "armijo"
                else 1 / (2 * beta)
                if beta > 0
                else 0.0,
                "penalty": 0.5 * float((pull * theta).sum()),
            }
        )
        theta = new
        if b == n:
            z, value = z_new, after
        if (stop is not None and stop(t, theta, after)) or (b == n and np.sqrt(norm2) <= limit):
            break
    return theta, history


def proximity(square: np.ndarray, eta: Any) -> float:
    """Σ (z − z_t)²/(2η), by which the surrogate lies above the tangent; η may differ by output."""
    return float((square / eta).sum()) / 2


def _radius(
    problem: LinearProblem,
    theta: np.ndarray,
    new: np.ndarray,
    z: np.ndarray,
    G: np.ndarray,
    linear: np.ndarray,
    bent: float,
    value: float,
    after: float,
    loss: Loss,
) -> float:
    """How far rounding may put loss and surrogate: of sums, and of outputs, whose change G measures."""
    sums = abs(value) + abs(after) + float(np.abs(linear).sum()) + float(np.abs(G * z).sum()) + bent
    off = UNIT * (problem.d + 2) * max(problem.size(theta), problem.size(new))
    steep = float(np.linalg.norm(G)) + (loss.smoothness or 1.0) * off
    radius = 16 * UNIT * sums + steep * off
    return radius if np.isfinite(radius) else 0.0


def _gradient_radius(
    problem: LinearProblem, G: np.ndarray, pull: np.ndarray, norm2: float
) -> float:
    """How far rounding may have moved ‖∇h‖²."""
    sizes = problem.scale * float(np.linalg.norm(G))
    off = 16 * UNIT * float(np.linalg.norm(sizes) + np.linalg.norm(pull))
    return 2 * np.sqrt(norm2) * off + off**2


def default_eta(loss: Loss, projection: str, n: int, b: int) -> float:
    """1/L, or half the inverse of the largest single gradient's smoothness n L/b for minibatches."""
    if loss.smoothness is None:
        return 1.0
    if projection == "full" and b < n:
        return b / (2 * n * loss.smoothness)
    return 1 / loss.smoothness


def _curvature(loss: Loss, z: np.ndarray) -> np.ndarray:
    if loss.name == "logistic":
        return expit(z) * (1 - expit(z))
    if loss.name == "poisson":
        return np.exp(np.minimum(z, 50))
    return np.ones_like(z)


def _weighted(
    X: Any, G: np.ndarray, metric: np.ndarray, theta: np.ndarray, penalty: np.ndarray
) -> np.ndarray:
    """The minimiser where each output is weighed by its own metric."""
    if theta.ndim == 2:
        columns = [
            _weighted(X, G[:, c], metric[:, c], theta[:, c], penalty) for c in range(theta.shape[1])
        ]
        return np.stack(columns, axis=1)
    dense = X.toarray() if issparse(X) else X
    scale = column_norms(dense)
    scale[scale == 0] = 1.0
    A = dense / scale
    H = (A.T * metric) @ A + np.diag(penalty / scale**2)
    return theta - (pinvh(H, rtol=RANK) @ (A.T @ G + penalty * theta / scale)) / scale


class _Quadratic:
    """The surrogate, penalty included, as a function of the change of θ."""

    def __init__(self, problem: LinearProblem, slope: np.ndarray, eta: float) -> None:
        self.problem, self.slope, self.eta = problem, slope, eta

    def bent(self, delta: np.ndarray) -> np.ndarray:
        """The Hessian times `delta`."""
        return self.problem.gram(delta) / self.eta + self.problem.pull(delta)

    def derivative(self, delta: np.ndarray) -> np.ndarray:
        return self.slope + self.bent(delta)

    def value(self, delta: np.ndarray) -> float:
        """Less its value at no change."""
        return float((self.slope * delta).sum() + 0.5 * (delta * self.bent(delta)).sum())


def _inner(
    problem: LinearProblem,
    slope: np.ndarray,
    theta: np.ndarray,
    eta: float,
    settings: Settings,
    first: float,
    limit: float,
) -> tuple[np.ndarray, int, float]:
    """m gradient steps on the surrogate: new parameters, how many steps, and the first one's size."""
    beta = problem.norm / eta + float(problem.penalty.max())
    surrogate = _Quadratic(problem, slope + problem.pull(theta), eta)
    assert settings.m is not None
    delta, steps = np.zeros_like(theta), 0
    size = 1 / beta if beta > 0 else 0.0
    trial = first * 1.8
    for k in range(settings.m):
        g = surrogate.derivative(delta)
        norm2 = float(np.square(g).sum())
        if norm2 == 0 or (k and np.sqrt(norm2) <= limit):
            break
        if settings.inner == "armijo":
            here = surrogate.value(delta)
            for _ in range(1100):
                if surrogate.value(delta - trial * g) <= here - ARMIJO * trial * norm2:
                    break
                trial *= 0.5
            else:  # what a step would gain is below rounding
                break
            size, trial = trial, trial * 1.8
        if not steps:
            first = size
        delta = delta - size * g
        steps = k + 1
    return theta + delta, steps, first
