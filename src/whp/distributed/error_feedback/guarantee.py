"""Certificates: the mean gradient along the run, its Lyapunov function, the linear rate, and what the hook can check."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from whp.certificate import Certificate
from whp.distributed.error_feedback.stepsizes import Smoothness, constants, noisy, stepsize
from whp.intervals import exact, mean
from whp.undeclared import Assumption, met, unchecked, undeclared, violated

__all__ = ["contraction", "drift", "in_expectation", "of_run"]

PAPER = "Richtárik, Gasanov, Burlachenko 2024"
SOURCES = {
    "qm": f"{PAPER}, Theorem 1 (the old analysis of EF21)",
    "EF21": f"{PAPER}, Theorem 3",
    "EF21-W": f"{PAPER}, Theorem 2",
    "EF21-PP": "derived here: taking part with probability p, composed with C, contracts by αp",
    "EF21-SGD": "derived here: Theorem 3's recursion with noise of variance σ²",
    "GD": "the descent lemma",
    "rf": f"{PAPER}, Section 3.3, re-derived",
}


def of_run(
    history: Mapping[str, np.ndarray],
    checks: Mapping[str, Any],
    *,
    smoothness: Smoothness,
    alpha: float,
    gamma: float,
    f_inf: float,
    weights: np.ndarray,
    step: str | float = "am",
    method: str = "EF21",
    mu: float | None = None,
    variance: Any = None,
    participation: float = 1.0,
    momentum: float | None = None,
    spread: tuple[float, float] | None = None,
    deterministic: bool = True,
) -> tuple[Certificate, ...]:
    """Certificates of one run.

    Parameters
    ----------
    history : mapping
        Arrays ``f``, ``grad_norm2`` and ``G`` of x^0 .. x^T, and ``gamma`` of the T steps.
    checks : mapping
        ``contraction``: largest ‖C(v) − v‖²/‖v‖² that occurred; ``ratio``: largest ‖∇f_i(x) − ∇f_i(y)‖/‖x − y‖ of each client.
    smoothness, alpha, gamma, f_inf, weights, step, method, mu, variance, participation
        As in :func:`ef21`.
    momentum : float, optional
        There is no theorem here with it: no certificates.
    spread : tuple of float, optional
        √D and c of rare features.
    deterministic : bool
        Whether C draws nothing.
    """
    if momentum is not None or not len(history["gamma"]):
        return ()
    own = constants(alpha * participation)
    f, grad2, G, steps = (
        np.asarray(history[k], dtype=float) for k in ("f", "grad_norm2", "G", "gamma")
    )
    factor = 1.0
    if spread is not None:
        limit, factor = 1 / (smoothness.L + spread[0] * own.xi), spread[1] / len(weights)
    elif method == "EF21-SGD":
        limit = stepsize("sgd", smoothness, alpha * participation)
    elif step == "qm":
        limit = stepsize("qm", smoothness, alpha)
    else:
        n = len(weights)
        limit = 1 / (
            smoothness.L
            + math.sqrt(float((smoothness.clients**2 / (n**2 * weights)).sum())) * own.xi
        )
    theta = noisy(alpha * participation)[3] if method == "EF21-SGD" else own.theta
    random = method in ("EF21-SGD", "EF21-PP") or not deterministic
    rises = _rises(f, grad2, factor * G, steps, theta, float(f_inf))
    slack = 1e-12 * (abs(f[0] - f_inf) + steps[0] / (2 * theta) * factor * G[0]) + 1e-300
    promised = steps / 2 * grad2[:-1]
    assumptions = [
        _long_enough(steps, limit, None if random else float(rises.max()), slack),
        _smooth(smoothness, checks["ratio"]),
        _contracts(float(checks["contraction"]), alpha, deterministic),
        _bounded(f, float(f_inf)),
        _proper(weights),
    ]
    T = len(steps)
    grown = np.maximum(np.diff(steps), 0) @ (factor * G[1:-1]) / theta if T > 1 else 0.0
    bound = (2 * (f[0] - f_inf) + steps[0] / theta * factor * G[0] + grown) / steps.sum()
    inputs: dict[str, Any] = {
        "T": T,
        "γ": float(gamma),
        "largest γ of the theorem": limit,
        "L": smoothness.L,
        "L_AM": smoothness.am,
        "L_QM": smoothness.qm,
        "α": own.alpha,
        "ξ": own.xi,
        "f(x⁰) − f_inf": float(f[0] - f_inf),
        "G⁰": float(G[0]),
    }
    if method == "EF21-SGD":
        if variance is None:
            return ()
        sigma = float(
            (
                np.broadcast_to(np.asarray(variance, dtype=float), weights.shape)
                / (len(weights) ** 2 * weights)
            ).sum()
        )
        floor = noisy(alpha * participation)[2] * sigma / theta
        bound += floor
        inputs["floor from noise"] = floor
        assumptions.append(
            unchecked("gradients have variance at most σ²", "a bound that was handed in")
        )
    seen = float(steps @ grad2[:T] / steps.sum())
    found = [
        undeclared(
            "mean-gradient",
            "the mean of ‖∇f(x^t)‖² over the steps is at most 2(f(x⁰) − f_inf)/(γT) + G⁰/(θT)"
            + (", in expectation" if random else ""),
            SOURCES["rf" if spread is not None else "qm" if step == "qm" else method],
            "<=",
            bound,
            0.95 if random else 1.0,
            None if random else exact(seen),
            trivial=2 * smoothness.L * float(f[0] - f_inf),
            assumptions=tuple(assumptions),
            inputs=inputs | {"of this run": seen},
            needs="the mean over 20 seeded runs: in_expectation(results)",
            remedy="the bound falls like 1/T: more steps say more.",
        )
    ]
    if not random:
        found.append(
            undeclared(
                "lyapunov",
                "Φ = f − f_inf + γ/(2θ)·G falls at every step by γ/2·‖∇f(x^t)‖² at least",
                f"{PAPER}, proof of Theorem 3",
                ">=",
                1.0,
                1.0,
                exact(float((1 + (slack - rises) / np.maximum(promised, slack)).min())),
                inputs={
                    "steps that break it": int((rises > slack).sum()),
                    "steps": T,
                    "Φ⁰": slack / 1e-12,
                },
                remedy="the step is too long for these functions: step='am', or step='guarded'.",
            )
        )
    if mu is not None and not random:
        start = float(f[0] - f_inf + steps[0] / own.theta * factor * G[0])
        longest = stepsize("pl", smoothness, alpha, mu=mu)
        found.append(
            undeclared(
                "linear-rate",
                "f(x^T) − f* is at most (1 − γμ)^T (f(x⁰) − f* + γ/θ·G⁰)",
                f"{PAPER}, Theorem 4 (Polyak–Łojasiewicz)",
                "<=",
                start * float(np.exp(T * np.log1p(-min(steps[0] * mu, 1 - 1e-16)))),
                1.0,
                exact(float(f[-1] - f_inf)),
                trivial=float(f[0] - f_inf),
                assumptions=(
                    _long_enough(steps, longest, None, slack),
                    _smooth(smoothness, checks["ratio"]),
                    _contracts(float(checks["contraction"]), alpha, deterministic),
                    _bounded(f, float(f_inf)),
                    _pl(f, grad2, float(f_inf), float(mu)),
                ),
                inputs={"μ": float(mu), "γ": float(gamma), "T": T, "Ψ⁰": start},
                remedy="more steps.",
            )
        )
    return tuple(found)


def _rises(
    f: np.ndarray, grad2: np.ndarray, G: np.ndarray, steps: np.ndarray, theta: float, f_inf: float
) -> np.ndarray:
    """Φ^{t+1} − Φ^t + γ/2‖∇f(x^t)‖², each step with its own γ."""
    weight = steps / (2 * theta)
    return (
        (f[1:] - f_inf + weight * G[1:])
        - (f[:-1] - f_inf + weight * G[:-1])
        + steps / 2 * grad2[:-1]
    )


def _long_enough(steps: np.ndarray, limit: float, rise: float | None, slack: float) -> Assumption:
    statement = "the step is at most what the theorem allows"
    longest = float(steps.max())
    if longest <= limit * (1 + 1e-9):
        return met(statement, f"{longest:.4g} ≤ {limit:.4g}")
    if rise is not None and rise <= slack:
        return met(
            "the Lyapunov inequality held at every step",
            f"steps up to {longest / limit:.4g} times the theorem's {limit:.4g}",
        )
    return violated(
        statement,
        f"{longest:.4g} > {limit:.4g}",
        "step='am', or step='guarded', which checks every step.",
    )


def _smooth(smoothness: Smoothness, ratio: Any) -> Assumption:
    statement = "each f_i is L_i-smooth"
    over = np.asarray(ratio, dtype=float) / smoothness.clients
    i = int(over.argmax())
    if over[i] > 1 + 1e-9:
        told = f"client {i}: gradients differ by {over[i] * smoothness.clients[i]:.6g} a unit, L_i = {smoothness.clients[i]:.6g}"
        return violated(statement, told, "hand in larger constants, or smoothness='estimate'.")
    if smoothness.estimated:
        return unchecked(
            statement,
            f"constants were estimated, which finds lower bounds; largest ratio seen {over[i]:.3g} of L_i",
        )
    return met(statement, f"largest ratio of gradient differences seen is {over[i]:.3g} of L_i")


def _contracts(seen: float, alpha: float, deterministic: bool) -> Assumption:
    statement = "the compressor contracts: ‖C(v) − v‖² ≤ (1 − α)‖v‖²"
    if seen <= 1 - alpha + 1e-9:
        return met(statement, f"largest ratio {seen:.4g}, 1 − α = {1 - alpha:.4g}")
    if not deterministic and seen <= 1:
        return unchecked(
            statement + " in expectation",
            f"largest single ratio {seen:.4g}, 1 − α = {1 - alpha:.4g}",
        )
    return violated(
        statement,
        f"a ratio of {seen:.4g} occurred, 1 − α = {1 - alpha:.4g}",
        "take a contractive compressor.",
    )


def _bounded(f: np.ndarray, f_inf: float) -> Assumption:
    statement = "f ≥ f_inf"
    if f.min() < f_inf - 1e-12 * max(1.0, abs(f_inf)):
        return violated(
            statement,
            f"f = {f.min():.6g} occurred, f_inf = {f_inf:.6g}",
            "hand in a true lower bound.",
        )
    return met(statement, f"least value seen {f.min():.6g}, f_inf = {f_inf:.6g}")


def _proper(weights: np.ndarray) -> Assumption:
    statement = "weights are positive and sum to 1"
    good = (weights > 0).all() and abs(weights.sum() - 1) <= 1e-9
    return (met if good else violated)(
        statement, f"least {weights.min():.4g}, sum {weights.sum():.6g}"
    )


def _pl(f: np.ndarray, grad2: np.ndarray, f_inf: float, mu: float) -> Assumption:
    statement = "f(x) − f* ≤ ‖∇f(x)‖²/(2μ)"
    gap = f - f_inf - grad2 / (2 * mu)
    worst = int(gap.argmax())
    if gap[worst] > 1e-9 * max(1.0, abs(f_inf), float(f[0] - f_inf)):
        return violated(
            statement,
            f"at step {worst}: {f[worst] - f_inf:.4g} > {grad2[worst] / (2 * mu):.4g}",
            "a smaller mu, or f* is not f_inf.",
        )
    return unchecked(statement, "held at every point of the run")


def in_expectation(results: Sequence[Any], *, level: float = 0.95) -> Certificate:
    """The mean-gradient certificate of a method that draws, over seeded runs of the same problem.

    Parameters
    ----------
    results : sequence of OptimizeResult
        What :func:`ef21` returned, one a seed; twenty or more.
    level : float
        Of the interval of the mean.
    """
    if len(results) < 2:
        raise ValueError(f"results must hold at least two runs, got {len(results)}")
    made = [r.certificates[0] for r in results]
    bound = float(np.mean([c.bound for c in made]))
    seen = mean([float(c.inputs["of this run"]) for c in made], level=float(level))
    first = next((c for c in made if any(a.status == "violated" for a in c.assumptions)), made[0])
    return undeclared(
        "mean-gradient",
        first.claim,
        first.source,
        "<=",
        bound,
        float(level),
        seen,
        trivial=first.trivial,
        assumptions=first.assumptions,
        inputs={k: v for k, v in first.inputs.items() if k != "of this run"}
        | {"runs": len(results)},
        remedy=first.remedy,
    )


def contraction(seen: float | None, alpha: float, steps: int) -> Certificate:
    """What the hook measured of its compressor."""
    return undeclared(
        "contraction",
        "the compressor kept ‖C(v) − v‖² ≤ (1 − α)‖v‖² on the gradients of this run",
        f"{PAPER}, equation 2",
        "<=",
        1 - alpha + 1e-5,
        1.0,
        None if seen is None else exact(seen),
        trivial=1.0,
        inputs={"α": alpha, "steps": steps},
        needs="more steps than check_every",
        remedy="the compressor is not contractive: its error feedback has no guarantee. In float32 α below 1e-5 cannot be seen.",
    )


def drift(seen: float | None, steps: int) -> Certificate:
    """Whether the replicated average still is the average of the shifts."""
    return undeclared(
        "invariant",
        "the average that every rank keeps is that of the ranks' shifts, to 1e-5 of its norm",
        "derived here: both are updated by the same messages; rounding is what differs",
        "<=",
        1e-5,
        1.0,
        None if seen is None else exact(seen),
        inputs={"steps": steps},
        needs="more steps than resync_every: it is measured when shifts are averaged anew",
        remedy="resync more often.",
    )
