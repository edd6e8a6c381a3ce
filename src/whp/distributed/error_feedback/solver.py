"""EF21 and its relatives as a function in the style of scipy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.optimize import OptimizeResult

from whp.distributed.error_feedback import guarantee
from whp.distributed.error_feedback.compressors import Compressor, TopK
from whp.distributed.error_feedback.stepsizes import (
    Smoothness,
    constants,
    estimated_smoothness,
    optimal_weights,
    rare_features,
    spread,
    stepsize,
)
from whp.progress import track
from whp.validate import as_choice, as_int, as_real, as_vector

__all__ = ["METHODS", "ef21"]

METHODS = ("EF21", "EF21-W", "EF21-PP", "EF21-SGD", "EF14", "DCGD", "GD")
Function = Callable[[np.ndarray], Any]


def ef21(
    grads: Sequence[Function] | Callable[[np.ndarray, int], np.ndarray],
    x0: Any,
    *,
    smoothness: Any,
    compressor: Compressor | None = None,
    n: int | None = None,
    f: Sequence[Function] | None = None,
    f_inf: float = 0.0,
    L: float | None = None,
    step: str | float = "am",
    T: int = 1000,
    tol: float = 0.0,
    weights: Any = "smoothness",
    init: str = "compress",
    participation: Any = 1.0,
    mu: float | None = None,
    supports: Any = None,
    method: str = "EF21",
    noisy_grads: Sequence[Callable[[np.ndarray, np.random.Generator], np.ndarray]] | None = None,
    variance: Any = None,
    momentum: float | None = None,
    callback: Callable[[int, np.ndarray], Any] | None = None,
    rng: np.random.Generator | int | None = None,
) -> OptimizeResult:
    """Minimise f = (1/n) Σ f_i from compressed differences of the clients' gradients (error feedback).

    Parameters
    ----------
    grads : list of n callables, or one callable
        ``x -> ∇f_i(x)``, or ``(x, i) -> ∇f_i(x)``, which needs `n`; float64 of shape (d,).
    x0 : array-like, shape (d,)
        Start.
    smoothness : array-like, shape (n,), or "estimate"
        L_i. Estimates are lower bounds; where the run itself finds a larger one it starts again with that.
    compressor : Compressor
        By default ``TopK(1)``.
    n : int, optional
        Clients, for a single callable.
    f : list of n callables, optional
        Objectives; certificates and ``step="guarded"`` need them.
    f_inf : float
        A lower bound of f.
    L : float, optional
        Smoothness of f; by default the mean of L_i, which is valid but longer.
    step : {"am", "qm", "pl", "rf", "sgd", "guarded"} or float
        See :func:`stepsize`. ``"guarded"`` doubles the step after ten steps at which the Lyapunov inequality held, and halves it
        and repeats the step where it does not.
    T : int
        Steps.
    tol : float
        Stop when ‖∇f‖² falls below.
    weights : {"smoothness", "uniform", "optimal"} or array-like, shape (n,)
        Of the analysis, and of EF21-W itself; ``"optimal"`` needs `supports`.
    init : {"compress", "dense", "zero"}
        First shifts: C(∇f_i(x0)), ∇f_i(x0) or 0.
    participation : float or array-like, shape (n,)
        Probability that a client takes part in a step, for EF21-PP.
    mu : float, optional
        For ``step="pl"``.
    supports : array-like of bool, shape (n, d), optional
        For ``step="rf"``.
    method : {"EF21", "EF21-W", "EF21-PP", "EF21-SGD", "EF14", "DCGD", "GD"}
        EF14 is classic error feedback, DCGD none at all, GD without compression.
    noisy_grads : list of n callables, optional
        ``(x, rng) -> gradient`` of a minibatch, for EF21-SGD.
    variance : float or array-like, shape (n,), optional
        Bounds σ_i² of their variances.
    momentum : float, optional
        η of v_i ← (1 − η) v_i + η ∇f_i, which is compressed in the gradient's place; without a certificate here.
    callback : callable, optional
        ``callback(t, x)`` before each step; StopIteration ends the run.
    rng : Generator or int, optional
        Source of randomness.

    Returns
    -------
    OptimizeResult
        ``x``, ``fun``, ``jac`` (∇f(x)), ``nit``, ``history`` (arrays ``f``, ``grad_norm2``, ``G``, ``lyapunov``, ``bytes_up`` of
        all steps and x's after them, ``gamma`` of the steps), ``step``, ``smoothness``, ``weights``, ``certificates``,
        ``success``, ``message``.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what is accepted; the message names it and the client.
    """
    generator = np.random.default_rng(rng)
    x0 = as_vector(x0, "x0", dtype=np.float64)
    d = len(x0)
    if callable(grads):
        n = as_int(n, "n (clients, since grads is one callable)", low=1)
        one = grads
        grads = [lambda x, i=i: one(x, i) for i in range(n)]
    n = len(grads)
    if n == 0:
        raise ValueError("grads must hold at least one client, got none")
    as_choice(method, "method", METHODS)
    as_choice(init, "init", ("compress", "dense", "zero"))
    T, tol = as_int(T, "T", low=1), as_real(tol, "tol", low=0)
    if f is not None and len(f) != n:
        raise ValueError(f"f must have {n} entries, one a client, got {len(f)}")
    if method == "EF21-SGD" and (noisy_grads is None or len(noisy_grads) != n):
        raise ValueError(f"method='EF21-SGD' needs noisy_grads, {n} callables (x, rng) -> gradient")
    compressor = TopK(1) if compressor is None else compressor
    if not isinstance(compressor, Compressor):
        raise TypeError(f"compressor must be a Compressor, got {type(compressor).__name__}")
    alpha = (
        1.0 if method == "GD" else as_real(compressor.alpha(d), "compressor.alpha", low=0, high=1)
    )
    p = np.broadcast_to(np.asarray(participation, dtype=float), (n,))
    if not ((p > 0) & (p <= 1)).all():
        raise ValueError(f"participation must be in (0, 1], got {p.min():g} to {p.max():g}")
    if method != "EF21-PP" and (p < 1).any():
        raise ValueError("participation below 1 needs method='EF21-PP'")
    estimate = isinstance(smoothness, str)
    if estimate:
        as_choice(smoothness, "smoothness", ("estimate",))
        clients = estimated_smoothness(grads, x0, generator)
        clients = np.maximum(clients, clients.max() * 1e-6)
    else:
        clients = as_vector(smoothness, "smoothness", size=n, dtype=np.float64)
    if (clients <= 0).any():
        worst = int(np.argmin(clients))
        raise ValueError(f"smoothness must be positive, client {worst} has {clients[worst]:g}")
    if not isinstance(step, str):
        step = as_real(step, "step", low=0, high=math.inf, open_ends=True)
    owned = None if supports is None else np.asarray(supports, dtype=bool)
    if owned is not None and owned.shape != (n, d):
        raise ValueError(f"supports must be ({n}, {d}), a row a client, got {owned.shape}")
    if step == "guarded" and (f is None or method not in ("EF21", "EF21-W", "GD")):
        raise ValueError("step='guarded' needs f and method 'EF21' or 'EF21-W'")
    momentum = None if momentum is None else as_real(momentum, "momentum", low=0, high=1)

    while True:
        known = Smoothness(
            float(clients.mean()) if L is None else as_real(L, "L", low=0), clients, estimate
        )
        w = _weights(weights, known, owned)
        plan = _Plan(
            grads,
            noisy_grads,
            f,
            float(f_inf),
            x0,
            compressor,
            alpha,
            known,
            w,
            method,
            init,
            p,
            owned,
            momentum,
            tol,
            step == "qm",
        )
        gamma = plan.stepsize(step, mu)
        found = plan.run(gamma, T, step == "guarded", callback, generator)
        seen = found.pop("ratio")
        if not (estimate and (seen > clients).any()):
            break
        clients = np.maximum(clients, seen * (1 + 1e-9))
    certificates = (
        guarantee.of_run(
            found["history"],
            found["checks"] | {"ratio": seen},
            smoothness=known,
            alpha=plan.alpha,
            gamma=gamma,
            f_inf=float(f_inf),
            weights=w,
            step=step,
            method=method,
            mu=mu,
            variance=variance,
            participation=float(p.min()),
            momentum=momentum,
            spread=(spread(owned, w, clients), rare_features(owned, w)[1])
            if step == "rf" and owned is not None
            else None,
            deterministic=compressor.deterministic,
        )
        if method not in ("EF14", "DCGD") and f is not None
        else ()
    )
    return OptimizeResult(
        **{k: v for k, v in found.items() if k != "checks"},
        step=gamma,
        smoothness=known,
        weights=w,
        certificates=certificates,
    )


def _weights(weights: Any, known: Smoothness, owned: np.ndarray | None) -> np.ndarray:
    n = len(known.clients)
    if isinstance(weights, str):
        as_choice(weights, "weights", ("smoothness", "uniform", "optimal"))
        if weights == "optimal":
            if owned is None:
                raise ValueError("weights='optimal' needs supports")
            return optimal_weights(owned, known.clients)
        return known.clients / known.clients.sum() if weights == "smoothness" else np.full(n, 1 / n)
    w = as_vector(weights, "weights", size=n, dtype=np.float64)
    if (w <= 0).any():
        raise ValueError(f"weights must be positive, client {int(w.argmin())} has {w.min():g}")
    if abs(w.sum() - 1) > 1e-9:
        raise ValueError(f"weights must sum to 1, got {w.sum():g}")
    return w


class _Plan:
    """One run, its arguments checked."""

    def __init__(
        self,
        grads: Sequence[Function],
        noisy: Any,
        f: Sequence[Function] | None,
        f_inf: float,
        x0: np.ndarray,
        compressor: Compressor,
        alpha: float,
        known: Smoothness,
        weights: np.ndarray,
        method: str,
        init: str,
        p: np.ndarray,
        owned: np.ndarray | None,
        momentum: float | None,
        tol: float,
        old: bool,
    ) -> None:
        self.grads, self.noisy, self.f, self.f_inf, self.x0 = grads, noisy, f, f_inf, x0
        self.compressor, self.alpha, self.known, self.weights = compressor, alpha, known, weights
        self.method, self.init, self.p, self.owned, self.momentum, self.tol, self.old = (
            method,
            init,
            p,
            owned,
            momentum,
            tol,
            old,
        )
        n = len(grads)
        self.scale = 1 / (n * weights) if method == "EF21-W" else np.ones(n)
        self.share = weights if method == "EF21-W" else np.full(n, 1 / n)

    def stepsize(self, step: str | float, mu: Any) -> float:
        if not isinstance(step, str):
            return float(step)
        name = "am" if step == "guarded" else step
        n = len(self.grads)
        if name == "rf":
            if not isinstance(self.compressor, TopK) or self.owned is None:
                raise ValueError("step='rf' needs supports, and a TopK compressor")
            r, _ = rare_features(self.owned, self.weights)
            self.alpha = min(1.0, self.compressor.count(len(self.x0)) / r)
            return stepsize(
                name,
                self.known,
                self.alpha,
                supports=self.owned,
                weights=self.weights,
                k=self.compressor.count(len(self.x0)),
            )
        if name == "am":  # with other weights than L_i/ΣL the mean is √(Σ L_i²/(n² w_i)) ≥ L_AM
            mean = math.sqrt(float((self.known.clients**2 / (n**2 * self.weights)).sum()))
            return 1 / (self.known.L + mean * constants(self.alpha * self.p.min()).xi)
        return stepsize(name, self.known, self.alpha, mu=mu, participation=float(self.p.min()))

    def gradients(self, x: np.ndarray) -> np.ndarray:
        rows = []
        for i, g in enumerate(self.grads):
            row = np.asarray(g(x), dtype=np.float64)
            if row.shape != x.shape:
                raise ValueError(
                    f"grads: client {i} returned shape {row.shape} for x of shape {x.shape}"
                )
            rows.append(row)
        found = np.stack(rows)
        if not np.isfinite(found).all():
            i = int((~np.isfinite(found).all(axis=1)).argmax())
            raise ValueError(
                f"grads: client {i} returned NaN or infinity at ‖x‖ = {np.linalg.norm(x):.3g}; the step may be too long"
            )
        return found

    def value(self, x: np.ndarray) -> float:
        return math.nan if self.f is None else float(np.mean([g(x) for g in self.f]))

    def distance(self, shifts: np.ndarray, gradients: np.ndarray) -> float:
        """G of the analysis that is used: the old one's for the old step."""
        n = len(gradients)
        if self.method == "EF21-W":
            coefficients = self.weights
        else:
            coefficients = np.full(n, 1 / n) if self.old else 1 / (n**2 * self.weights)
        return float(coefficients @ ((shifts - self.scale[:, None] * gradients) ** 2).sum(axis=1))

    def compressed(
        self, V: np.ndarray, rng: np.random.Generator, rows: np.ndarray
    ) -> tuple[np.ndarray, int, float]:
        """C of the chosen rows (others are 0), bytes that were sent, and the largest ‖C(v) − v‖²/‖v‖²."""
        out, sent = np.zeros_like(V), 0
        if isinstance(self.compressor, TopK) and self.compressor.count(V.shape[1]) == 1:
            chosen = np.flatnonzero(rows)
            where = np.abs(V[chosen]).argmax(axis=1)
            out[chosen, where] = V[chosen, where]
            sent = 8 * len(chosen)
        else:
            for i in np.flatnonzero(rows):
                payload = self.compressor.compress(V[i], rng)
                out[i] = self.compressor.decompress(payload)
                sent += payload.nbytes
        size = (V[rows] ** 2).sum(axis=1)
        left = ((out[rows] - V[rows]) ** 2).sum(axis=1)
        worst = float((left[size > 0] / size[size > 0]).max(initial=0.0))
        return out, sent, worst

    def run(
        self, gamma: float, T: int, guarded: bool, callback: Any, rng: np.random.Generator
    ) -> dict[str, Any]:
        n, d, method = len(self.grads), len(self.x0), self.method
        everybody = np.ones(n, dtype=bool)
        theta = constants(self.alpha * self.p.min()).theta
        x, true = self.x0.copy(), self.gradients(self.x0)
        target = self._target(x, true, rng)
        velocity = target.copy()
        compresses = method != "GD"
        shifts, sent, contraction = np.zeros((n, d)), 0, 0.0
        if method not in ("EF14", "DCGD") and self.init != "zero":
            if self.init == "compress" and compresses:
                shifts, sent, contraction = self.compressed(
                    self.scale[:, None] * target, rng, everybody
                )
            else:
                shifts, sent = self.scale[:, None] * target, 4 * n * d
        history: dict[str, list[float]] = {
            k: [] for k in ("f", "grad_norm2", "G", "lyapunov", "bytes_up", "gamma")
        }
        ratio, floor, streak, message = np.zeros(n), gamma, 0, "all steps were made"

        def note(value: float, gradients: np.ndarray, g: float) -> float:
            mean = gradients.mean(axis=0)
            distance = self.distance(shifts, gradients)
            for k, v in (
                ("f", value),
                ("grad_norm2", float(mean @ mean)),
                ("G", distance),
                ("lyapunov", value - self.f_inf + g / (2 * theta) * distance),
                ("bytes_up", float(sent)),
            ):
                history[k].append(v)
            return history["lyapunov"][-1]

        value = self.value(x)
        note(value, true, gamma)
        for t in track(range(T), f"{method}, {n} clients"):
            if history["grad_norm2"][-1] < self.tol:
                message = f"‖∇f‖² fell below {self.tol:g}"
                break
            if callback is not None:
                try:
                    callback(t, x)
                except StopIteration:
                    message = "stopped by callback"
                    break
            while True:
                if method == "EF14":
                    pushed = shifts + gamma * target
                    made, cost, worst = self.compressed(pushed, rng, everybody)
                    after, new = x - made.mean(axis=0), pushed - made
                elif method == "DCGD":
                    made, cost, worst = self.compressed(target, rng, everybody)
                    after, new = x - gamma * made.mean(axis=0), shifts
                else:
                    after, new, cost, worst = x - gamma * (self.share @ shifts), shifts, 0, 0.0
                true_after = self.gradients(after)
                target_after = self._target(after, true_after, rng)
                if self.momentum is not None:
                    velocity_after = (1 - self.momentum) * velocity + self.momentum * target_after
                else:
                    velocity_after = target_after
                if method == "GD":
                    new, cost = self.scale[:, None] * target_after, 4 * n * d
                elif method not in ("EF14", "DCGD"):
                    takes_part = rng.random(n) < self.p if (self.p < 1).any() else everybody
                    change, cost, worst = self.compressed(
                        self.scale[:, None] * velocity_after - shifts, rng, takes_part
                    )
                    new = shifts + change
                value_after = self.value(after)
                if not guarded:
                    break
                phi = history["f"][-1] - self.f_inf + gamma / (2 * theta) * history["G"][-1]
                next_phi = (
                    value_after - self.f_inf + gamma / (2 * theta) * self.distance(new, true_after)
                )
                if (
                    next_phi
                    <= phi - gamma / 2 * history["grad_norm2"][-1] + 1e-12 * history["lyapunov"][0]
                    or gamma <= floor
                ):
                    break
                gamma, streak = max(floor, gamma / 2), 0
            moved = float(np.linalg.norm(after - x))
            if moved > 0:  # less what rounding alone can make of two gradients
                differ = np.linalg.norm(true_after - true, axis=1)
                rounding = (
                    1e-15 * d * (np.linalg.norm(true_after, axis=1) + np.linalg.norm(true, axis=1))
                )
                ratio = np.maximum(ratio, (differ - rounding) / moved)
            x, true, target, velocity, shifts = after, true_after, target_after, velocity_after, new
            sent, contraction = sent + cost, max(contraction, worst)
            history["gamma"].append(gamma)
            note(value_after, true, gamma)
            streak += 1
            if guarded and streak == 10:
                gamma, streak = 2 * gamma, 0
        mean = true.mean(axis=0)
        return {
            "x": x,
            "fun": self.value(x),
            "jac": mean,
            "nit": len(history["gamma"]),
            "success": True,
            "message": message,
            "history": {k: np.array(v) for k, v in history.items()},
            "shifts": shifts,
            "ratio": ratio,
            "checks": {"contraction": contraction, "theta": theta},
        }

    def _target(self, x: np.ndarray, true: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return np.stack([g(x, rng) for g in self.noisy]) if self.method == "EF21-SGD" else true
