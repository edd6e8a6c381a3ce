"""EF21 and its relatives as a function in the style of scipy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.optimize import OptimizeResult

from whp.certificate import Certificate
from whp.distributed._error_feedback.compressors import Compressor, TopK, contracts_by_construction
from whp.distributed._error_feedback.steps import LARGEST, Function, Loop
from whp.distributed._error_feedback.stepsizes import (
    Smoothness,
    estimated_smoothness,
    noisy,
    optimal_weights,
    rare_features,
    spread,
    stepsize,
)
from whp.distributed._error_feedback.theorems import of_run, of_runs
from whp.distributed._error_feedback.trace import COARSE, Run, Terms
from whp.provenance import plain_generator
from whp.validate import as_choice, as_fraction, as_int, as_real, as_vector

__all__ = ["METHODS", "ef21", "in_expectation"]

METHODS = ("EF21", "EF21-W", "EF21-PP", "EF21-SGD", "EF14", "DCGD", "GD")
STEPS = ("auto", "am", "qm", "pl", "rf", "sgd", "guarded")


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
    step: str | float = "auto",
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
    rounding: float = 0.0,
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
        L_i. Estimates are lower bounds; where the run itself finds a larger one it starts again with
        that.
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
    step : {"auto", "am", "qm", "pl", "rf", "sgd", "guarded"} or float
        See :func:`stepsize`. ``"auto"`` is what the theorem of the method allows: "sgd" for
        EF21-SGD, "pl" where `mu` is given, else "am". ``"guarded"`` doubles the step after ten
        steps at which the proof's inequality held, and halves it and repeats the step where it does
        not.
    T : int
        Steps.
    tol : float
        Stop when ‖∇f‖² falls below; a run that draws has no certificates then.
    weights : {"smoothness", "uniform", "optimal"} or array-like, shape (n,)
        Of the analysis, and of EF21-W itself; ``"optimal"`` needs `supports`.
    init : {"compress", "dense", "zero"}
        First shifts: C(∇f_i(x0)), ∇f_i(x0) or 0.
    participation : float or array-like, shape (n,)
        Probability that a client takes part in a step, for EF21-PP.
    mu : float, optional
        Of Polyak and Łojasiewicz: f(x) − f* ≤ ‖∇f(x)‖²/(2μ), with f* = `f_inf`.
    supports : array-like of bool, shape (n, d), optional
        Where gradients can be other than 0, for ``step="rf"``.
    method : {"EF21", "EF21-W", "EF21-PP", "EF21-SGD", "EF14", "DCGD", "GD"}
        EF14 is classic error feedback, DCGD none at all, GD without compression.
    noisy_grads : list of n callables, optional
        ``(x, rng) -> gradient`` of a minibatch, for EF21-SGD.
    variance : float or array-like, shape (n,), optional
        Bounds σ_i² of E‖ĝ_i − ∇f_i‖².
    momentum : float, optional
        η of v_i ← (1 − η) v_i + η ∇f_i, which is compressed in the gradient's place; without a
        certificate here.
    callback : callable, optional
        ``callback(t, x)`` before each step; StopIteration ends the run, and x is read-only.
    rounding : float
        Relative rounding of gradients and values, at most 1e-6: 1.2e-7 where they are worked out in
        float32 and something is added in float64 afterwards. Numbers that are float32 as they come
        are taken for that by themselves. Half precision is too coarse for what is checked.
    rng : Generator or int, optional
        Source of randomness.

    Returns
    -------
    OptimizeResult
        ``x``, ``fun``, ``jac`` (∇f(x)), ``nit``, ``history`` (arrays ``f``, ``grad_norm2``, ``G``,
        ``lyapunov``, ``bytes_up`` of all steps and x's after them, ``gamma`` of the steps),
        ``step``, ``smoothness``, ``weights``, ``certificates``, ``success``, ``message``. A run that
        diverges ends with ``success=False`` and the certificates of the steps before.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what is accepted; the message names it and the client.
    """
    generator = np.random.default_rng(rng)
    # copies of all that is kept: certificates are made later, and callers change their arrays
    x0 = as_vector(x0, "x0", dtype=np.float64).copy()
    d = len(x0)
    if callable(grads):
        n = as_int(n, "n (clients, since grads is one callable)", low=1)
        one = grads
        grads = [lambda x, i=i: one(x, i) for i in range(n)]
    elif n is not None and n != len(grads):
        raise ValueError(f"n is {n}, and grads holds {len(grads)} clients")
    n = len(grads)
    if n == 0:
        raise ValueError("grads must hold at least one client, got none")
    as_choice(method, "method", METHODS)
    as_choice(init, "init", ("compress", "dense", "zero"))
    T, tol = as_int(T, "T", low=1), as_real(tol, "tol", low=0)
    f_inf = as_real(f_inf, "f_inf", open_ends=True)
    rounding = as_real(rounding, "rounding", low=0, high=COARSE)
    if f is not None and len(f) != n:
        raise ValueError(f"f must have {n} entries, one a client, got {len(f)}")
    if method == "EF21-SGD" and (noisy_grads is None or len(noisy_grads) != n):
        raise ValueError(f"method='EF21-SGD' needs noisy_grads, {n} callables (x, rng) -> gradient")
    if method != "EF21-SGD" and (noisy_grads is not None or variance is not None):
        raise ValueError("noisy_grads and variance need method='EF21-SGD'")
    sigma = None if variance is None else _variance(variance, n)
    compressor = TopK(1) if compressor is None else compressor
    if not isinstance(compressor, Compressor):
        raise TypeError(f"compressor must be a Compressor, got {type(compressor).__name__}")
    gd = method == "GD"
    alpha = 1.0 if gd else as_real(compressor.alpha(d), "compressor.alpha", low=0, high=1)
    p = np.broadcast_to(np.array(participation, dtype=float), (n,))
    if not ((p > 0) & (p <= 1)).all():
        raise ValueError(f"participation must be in (0, 1], got {p.min():g} to {p.max():g}")
    if method != "EF21-PP" and (p < 1).any():
        raise ValueError("participation below 1 needs method='EF21-PP'")
    estimate = isinstance(smoothness, str)
    if estimate:
        as_choice(smoothness, "smoothness", ("estimate",))
        clients = estimated_smoothness(grads, x0, generator)
        clients = np.maximum(clients, max(clients.max() * 1e-6, np.finfo(float).tiny))
    else:
        clients = as_vector(smoothness, "smoothness", size=n, dtype=np.float64).copy()
    if (clients <= 0).any():
        worst = int(np.argmin(clients))
        raise ValueError(f"smoothness must be positive, client {worst} has {clients[worst]:g}")
    if clients.max() > LARGEST:
        raise ValueError(
            f"smoothness of client {int(clients.argmax())} is {clients.max():g}, which has no square; "
            "measure f in a larger unit"
        )
    if not isinstance(step, str):
        step = as_real(step, "step", low=0, high=math.inf, open_ends=True)
    elif step == "auto":
        step = "sgd" if method == "EF21-SGD" else "am" if mu is None else "pl"
    else:
        as_choice(step, "step", STEPS)
    mu = None if mu is None else as_real(mu, "mu", low=0, high=math.inf, open_ends=True)
    owned = None if supports is None else np.array(supports, dtype=bool)
    if owned is not None and owned.shape != (n, d):
        raise ValueError(f"supports must be ({n}, {d}), a row a client, got {owned.shape}")
    if owned is not None and not owned.any(axis=1).all():
        i = int((~owned.any(axis=1)).argmax())
        raise ValueError(f"supports must give each client a coordinate, client {i} has none")
    guarded = step == "guarded"
    if guarded and (f is None or method not in ("EF21", "EF21-W", "GD")):
        raise ValueError("step='guarded' needs f and method 'EF21' or 'EF21-W'")
    if guarded and not compressor.deterministic:
        raise ValueError("step='guarded' needs a compressor that draws nothing")
    momentum = None if momentum is None else as_real(momentum, "momentum", low=0, high=1)
    rare = step == "rf"
    if rare:
        if type(compressor) is not TopK or owned is None:
            raise ValueError("step='rf' needs supports, and a TopK compressor")
        alpha = min(1.0, compressor.count(d) / rare_features(owned, np.full(n, 1 / n))[0])

    while True:
        known = Smoothness(
            float(clients.mean()) if L is None else as_real(L, "L", low=0, open_ends=True),
            clients,
            estimate,
        )
        clients.setflags(write=False)  # certificates of several runs are made later
        if mu is not None and mu > known.L * (1 + 1e-12):
            raise ValueError(f"mu must be at most L = {known.L:g}, got {mu:g}")
        w = _weights(weights, known, owned)
        terms = Terms(
            known,
            alpha,
            f_inf,
            w,
            method,
            step if isinstance(step, str) else "number",
            init,
            float(p.min()),
            mu,
            sigma,
            (spread(owned, w, clients), rare_features(owned, w)[1] / n)
            if rare and owned is not None
            else None,
            "nothing is compressed" if gd else _by_construction(compressor, method, rng),
            gd or compressor.deterministic,
            rounding,
        )
        certify = f is not None and momentum is None and method not in ("EF14", "DCGD")
        loop = Loop(grads, noisy_grads, f, x0, compressor, terms, p, owned, momentum, tol)
        gamma = _length(step, terms)
        made = loop.run(gamma, T, guarded, callback, generator, certify)
        # asked again: a callback may have changed it, for good or for a while
        if not gd and (made.trace.shrunk < 1 or not _by_construction(compressor, method, rng)):
            terms = replace(terms, known="")
        run = Run(made.trace, terms)
        seen = run.largest_changes
        if not (estimate and (seen > clients).any()):
            break
        clients = np.maximum(clients, seen * (1 + 1e-9))
    # an expectation is about a number of steps that was fixed before, and needs a variance
    certify &= not terms.random or (made.complete and (method != "EF21-SGD" or sigma is not None))
    return OptimizeResult(
        x=made.x,
        fun=made.value,
        jac=made.mean,
        nit=len(made.trace.gamma),
        success=made.success,
        message=made.message,
        history={name: series.copy() for name, series in made.history.items()},
        shifts=made.shifts,
        step=gamma,
        smoothness=known,
        weights=w.copy(),
        run=run if certify else None,
        certificates=of_run(run) if certify else (),
    )


def in_expectation(results: Sequence[Any], *, delta: float = 0.05) -> tuple[Certificate, ...]:
    """``expected-gradient`` and ``best-run`` of a method that draws, over runs of one problem.

    Parameters
    ----------
    results : sequence of OptimizeResult
        What :func:`ef21` returned, one a seed; twenty or more.
    delta : float
        Failure probability of each.

    Raises
    ------
    ValueError
        If there are fewer than two, one has no certificates, or they are not of one problem.
    """
    delta = as_fraction(delta, "delta")
    if delta < 1e-15:
        raise ValueError(f"delta must be at least 1e-15, got {delta:g}: 1 − delta would be 1")
    if len(results) < 2:
        raise ValueError(f"results must hold at least two runs, got {len(results)}")
    runs = [r.run for r in results]
    if None in runs:
        raise ValueError(
            f"run {runs.index(None)} has no certificates: it needs f, no momentum, for EF21-SGD "
            "a variance, and all of its steps"
        )
    if not runs[0].terms.random:
        raise ValueError("these runs drew nothing: each has certificates of its own")
    for i, run in enumerate(runs):
        if not _same_problem(runs[0], run):
            raise ValueError(f"runs 0 and {i} are not of one problem with the same settings")
    return of_runs(runs, delta)


def _same_problem(one: Run, two: Run) -> bool:
    a, b = one.terms, two.terms
    settings = (
        *("alpha", "f_inf", "method", "step", "init", "participation", "rounding"),
        *("deterministic", "spread"),
    )
    return (
        all(getattr(a, s) == getattr(b, s) for s in settings)
        and a.smoothness.L == b.smoothness.L
        and np.array_equal(a.smoothness.clients, b.smoothness.clients)
        and np.array_equal(a.weights, b.weights)
        and np.array_equal(a.variance, b.variance)  # pyright: ignore[reportArgumentType]
        and np.array_equal(one.trace.gamma, two.trace.gamma)
        and one.trace.f[0] == two.trace.f[0]
        and np.array_equal(one.trace.norms[0], two.trace.norms[0])
    )


def _by_construction(compressor: Compressor, method: str, rng: Any) -> str:
    """Why it contracts with the clients that take part; "" where nothing but the run can tell."""
    if method == "EF21-PP" and not plain_generator(rng):
        return ""
    return contracts_by_construction(compressor, rng)


def _length(step: str | float, terms: Terms) -> float:
    """The step that is asked for."""
    if not isinstance(step, str):
        return float(step)
    if step == "pl":
        if terms.mu is None:
            raise ValueError("step='pl' needs mu, the constant of Polyak and Łojasiewicz")
        return terms.longest_polyak(terms.mu)
    known, own = terms.smoothness, terms.own
    if step == "qm":
        return stepsize("qm", known, own.alpha)
    if step == "sgd":
        _, B, _, theta = noisy(own.alpha)
        return 1 / (known.L + terms.mean * math.sqrt(B / theta))
    if step == "rf":
        return terms.longest
    return 1 / (known.L + terms.mean * own.xi)


def _variance(variance: Any, n: int) -> np.ndarray:
    sigma = np.broadcast_to(np.asarray(variance, dtype=float), (n,)).copy()
    if not (np.isfinite(sigma) & (sigma >= 0)).all():
        raise ValueError(f"variance must be finite and at least 0, got {variance!r}")
    return sigma


def _weights(weights: Any, known: Smoothness, owned: np.ndarray | None) -> np.ndarray:
    n = len(known.clients)
    if isinstance(weights, str):
        as_choice(weights, "weights", ("smoothness", "uniform", "optimal"))
        if weights == "optimal":
            if owned is None:
                raise ValueError("weights='optimal' needs supports")
            return optimal_weights(owned, known.clients)
        return known.clients / known.clients.sum() if weights == "smoothness" else np.full(n, 1 / n)
    w = as_vector(weights, "weights", size=n, dtype=np.float64).copy()
    if (w <= 0).any():
        raise ValueError(f"weights must be positive, client {int(w.argmin())} has {w.min():g}")
    if abs(w.sum() - 1) > 1e-9:
        raise ValueError(f"weights must sum to 1, got {w.sum():g}")
    return w
