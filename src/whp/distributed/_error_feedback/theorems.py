"""What is promised about a run, and about several."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from whp.certificate import Answer, Certificate
from whp.distributed._error_feedback import checks
from whp.distributed._error_feedback import conditions as c
from whp.distributed._error_feedback.expectation import lower_end
from whp.distributed._error_feedback.stepsizes import noisy
from whp.distributed._error_feedback.trace import EDGE, Noise, Run, promised, settings_of
from whp.intervals import exact
from whp.theorem import AT_MOST, ON_AVERAGE, THIS_RUN, Derived, Theorem

__all__ = [
    "BEST_RUN",
    "CONTRACTION",
    "EXPECTED_GRADIENT",
    "INVARIANT",
    "LINEAR_RATE",
    "LYAPUNOV",
    "MEAN_GRADIENT",
    "THEOREMS",
    "contraction",
    "invariant",
    "of_run",
    "of_runs",
]

PAPER = "Richtárik, Gasanov, Burlachenko 2024"
WHOLE = (c.SMOOTH, c.CLIENTS, c.GRADIENTS, c.CONTRACTS, c.LOWER, c.STEP)
NOISY = (c.UNBIASED, c.VARIANCE)
CONTRACTS_AT = WHOLE.index(c.CONTRACTS)

MEAN_GRADIENT = Theorem(
    "mean-gradient",
    claim="the mean of ‖∇f(x^t)‖² over the steps is at most 2(f(x⁰) − f_inf)/(γT) + G⁰/(θT)",
    quantity="mean of ‖∇f(x^t)‖², each step weighed by its length",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived("error-feedback#mean-gradient", extends=f"{PAPER}, Theorem 3"),
    conditions=WHOLE,
    needs="a step.",
    remedy="the bound falls like 1/T: more steps, or step='guarded', say more.",
)
RARE = MEAN_GRADIENT.variant(
    claim="the mean of ‖∇f(x^t)‖² over the steps is at most 2(f(x⁰) − f_inf)/(γT) + (c/n)G⁰/(θT), θ of k/r",
    source=Derived("error-feedback#rare-features", extends=f"{PAPER}, Section 3.3"),
    conditions=(*WHOLE, c.SUPPORTS),
)
LYAPUNOV = Theorem(
    "lyapunov",
    claim="Φ = f − f_inf + γ/(2θ)·G falls at every step by γ/2·‖∇f(x^t)‖² at least, up to rounding",
    quantity="Φ^{t+1} − Φ^t + γ/2·‖∇f(x^t)‖² of the step nearest to its bound, which is the rounding",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived("error-feedback#mean-gradient", extends=f"{PAPER}, proof of Theorem 3"),
    conditions=(c.GRADIENTS,),
    needs="a step.",
    remedy="the step is too long for these functions: step='auto', or step='guarded'.",
)
LINEAR_RATE = Theorem(
    "linear-rate",
    claim="f(x^T) − f* is at most (1 − γμ)^T (f(x⁰) − f* + γ/θ·G⁰), up to rounding",
    quantity="f(x^T) − f*, with the least f* that μ allows",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived("error-feedback#linear-rate", extends=f"{PAPER}, Theorem 4"),
    conditions=(*WHOLE, c.POLYAK),
    needs="a step.",
    remedy="more steps.",
)
EXPECTED_GRADIENT = Theorem(
    "expected-gradient",
    claim="the expected mean of ‖∇f(x^t)‖² over the steps is at most 2(f(x⁰) − f_inf)/(γT) + E G⁰/(θT), "
    "and with noisy gradients C_n σ²/θ more",
    quantity="expected mean of ‖∇f(x^t)‖² over the steps",
    relation=AT_MOST,
    scope=ON_AVERAGE,
    source=Derived("error-feedback#in-expectation", extends=f"{PAPER}, Theorem 3"),
    conditions=(*WHOLE, *NOISY, c.DISTINCT),
    needs="runs refute it and none confirm it, as rare ones might be far worse: see best-run.",
    remedy="more steps; with noisy gradients larger batches, as the floor does not fall with the step.",
)
BEST_RUN = Theorem(
    "best-run",
    claim="in the best of R independent runs the mean of ‖∇f(x^t)‖² is at most the bound of its "
    "expectation over δ^(1/R)",
    quantity="least mean of ‖∇f(x^t)‖² of a run",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived("error-feedback#best-run"),
    conditions=(*WHOLE, *NOISY, c.DISTINCT),
    needs="a step.",
    remedy="more runs bring the bound down to that of the expectation; more steps bring that down.",
)
CONTRACTION = Theorem(
    "contraction",
    claim="at every step that was looked at the compressor of this rank kept ‖C(v) − v‖² ≤ (1 − α)‖v‖², "
    "α the least of all parameters; of the steps of the optimizer nothing is said",
    quantity="largest ‖C(v) − v‖²/‖v‖² of a parameter",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=f"{PAPER}, equation 2",
    needs="more steps than check_every.",
    remedy="the compressor is not contractive, and its error feedback has no guarantee; in float32 α below "
    "1e-5 cannot be seen.",
)
INVARIANT = Theorem(
    "invariant",
    claim="whenever shifts were averaged anew, the average that every rank keeps was that of the ranks' "
    "shifts, to 1e-5 of the mean of their norms",
    quantity="largest distance of a rank's average to that of the shifts, over the mean of their norms",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived("error-feedback#invariant"),
    needs="more steps than resync_every.",
    remedy="resync more often.",
)
THEOREMS = (
    MEAN_GRADIENT,
    LYAPUNOV,
    LINEAR_RATE,
    EXPECTED_GRADIENT,
    BEST_RUN,
    CONTRACTION,
    INVARIANT,
)


def of_run(run: Run) -> tuple[Certificate, ...]:
    """Certificates of one run: deterministic ones decide; those that draw have :func:`of_runs`."""
    if not len(run.trace.gamma):
        return ()
    if run.terms.random:
        return of_runs([run])
    made = [mean_gradient(run), lyapunov(run)]
    if run.terms.mu is not None and run.terms.spread is None:
        made.append(linear_rate(run))
    return tuple(made)


def gradient_bound(room: float, shifts: float, total: float, floor: float = 0.0) -> float:
    """(2(f(x⁰) − f_inf) + γ/θ·G⁰)/Σγ, and the floor of noise."""
    return (2 * room + shifts) / total + floor


def whole(run: Run, longest: float, *, excused: bool) -> list[Answer]:
    """Answers to the conditions that all theorems of a run share."""
    return [
        checks.mean_smooth(run),
        checks.client_smooth(run),
        checks.gradients_of_f(run),
        checks.contracts([run]),
        checks.bounded(run),
        checks.short_enough(run, longest, excused=excused),
    ]


def mean_gradient(run: Run) -> Certificate:
    """Of a run that drew nothing."""
    t, terms = run.trace, run.terms
    gamma, factor, theta = t.gamma, terms.factor, terms.theta
    shifts = gamma[0] / theta * factor * (t.G[0] + run.G_off[0])
    # where a step grows, so does the weight of G in Φ
    grown = np.maximum(np.diff(gamma), 0) @ (t.G + run.G_off)[1:-1] * factor / theta
    room = float(t.f[0] - terms.f_inf + run.f_off[0])
    total = float(gamma.sum())
    bound = gradient_bound(room, float(shifts + grown), total) * EDGE
    answers = whole(run, terms.longest, excused=True)
    rare = terms.spread is not None
    return (RARE if rare else MEAN_GRADIENT)(
        bound=bound + 2 * run.seen_off,
        confidence=1.0,
        trivial=2 * terms.smoothness.L * max(float(t.f[0] - terms.f_inf), 0.0),
        measured=exact(run.seen, run.seen_off),
        answers=[*answers, checks.supported(run)] if rare else answers,
        inputs=settings_of(run) | {"G⁰": float(t.G[0])},
    )


def lyapunov(run: Run) -> Certificate:
    """Of the step at which Φ came nearest to falling too little, or fell too little."""
    t = run.trace
    at = int(np.argmax(run.rises - run.slack))
    return LYAPUNOV(
        bound=float(run.slack[at]),
        confidence=1.0,
        trivial=float(promised(t.gamma, t.gradient2[:-1]).max()),
        measured=exact(float(run.rises[at])),
        answers=[checks.gradients_of_f(run)],
        inputs={
            "steps": len(t.gamma),
            "step": at + 1,
            "steps that break it": int((run.rises > run.slack).sum()),
        },
    )


def rate(start: float, gamma: float, mu: float, T: int) -> float:
    """(1 − γμ)^T times what it starts from."""
    return start * math.exp(T * math.log1p(-min(gamma * mu, 1 - 1e-16)))


def least_value(run: Run, mu: float) -> tuple[float, float]:
    """The least f* that μ allows at the points of the run, at most f_inf, and its rounding.

    A larger f* makes the claim weaker, and an f_inf that is too high would make it stronger than
    what is true.
    """
    t = run.trace
    room = run.f_off + run.gradient2_off / (2 * mu) + 4e-16 * abs(run.terms.f_inf)
    lowest = t.f - t.gradient2 / (2 * mu) - room
    at = int(lowest.argmax())
    return min(float(lowest[at]), run.terms.f_inf), float(room[at])


def linear_rate(run: Run) -> Certificate:
    """Of the last point, where μ was given."""
    t, terms = run.trace, run.terms
    mu = terms.mu
    assert mu is not None
    T, gamma = len(t.gamma), float(t.gamma[0])
    off = float(run.f_off[-1]) + 4e-16 * abs(terms.f_inf)
    least, room = least_value(run, mu)
    start = float(t.f[0] - least + run.f_off[0] + gamma / terms.theta * (t.G[0] + run.G_off[0]))
    longest = terms.longest_polyak(mu)
    return LINEAR_RATE(
        bound=rate(start, gamma, mu, T) * EDGE + 2 * off + room,
        confidence=1.0,
        trivial=max(float(t.f[0] - least), 0.0),
        measured=exact(float(t.f[-1] - least), off),
        answers=[*whole(run, longest, excused=False), checks.polyak(run)],
        inputs={
            "μ": mu,
            "γ": gamma,
            "largest γ of the theorem": longest,
            "T": T,
            "Ψ⁰": start,
            "f* at least": least,
        },
    )


def first_shifts(run: Run) -> float:
    """A bound of E G⁰ that is the same in all runs."""
    t, terms = run.trace, run.terms
    coefficients, squares = terms.coefficients, t.norms[0] ** 2
    alpha = terms.alpha
    if terms.method == "EF21-SGD" and terms.init != "zero":
        assert terms.variance is not None
        if alpha == 1 or terms.init == "dense":
            return float(coefficients @ terms.variance)
        # ‖C(ĝ) − ∇f‖² ≤ 2‖C(ĝ) − ĝ‖² + 2‖ĝ − ∇f‖²
        each = 2 * (1 - alpha) * (squares + terms.variance) + 2 * terms.variance
        return float(coefficients @ each)
    if terms.init == "compress" and not terms.deterministic:
        return float((1 - alpha) * (coefficients @ squares))
    return float(t.G[0] + run.G_off[0])


def noise_floor(run: Run) -> float:
    """C_n σ²/θ of noisy gradients, which no step makes smaller."""
    terms = run.terms
    if terms.method != "EF21-SGD":
        return 0.0
    assert terms.variance is not None
    n = len(terms.weights)
    sigma = float((terms.variance / (n**2 * terms.weights)).sum())
    return noisy(terms.own.alpha)[2] * sigma / terms.theta


def of_runs(runs: Sequence[Run], delta: float = 0.05) -> tuple[Certificate, ...]:
    """``expected-gradient`` and ``best-run`` of runs of one problem that drew independently.

    Parameters
    ----------
    runs : sequence of Run
    delta : float
        Failure probability of each of the two.
    """
    first = runs[0]
    t, terms = first.trace, first.terms
    gamma, T = float(t.gamma[0]), len(t.gamma)
    shifts = gamma / terms.theta * terms.factor * first_shifts(first)
    room = float(t.f[0] - terms.f_inf + first.f_off[0])
    floor = noise_floor(first)
    off = max(run.seen_off for run in runs)
    bound = gradient_bound(room, shifts, gamma * T, floor) * EDGE + 2 * off
    each = [whole(run, terms.longest, excused=False) for run in runs]
    answers = [checks.worst_of(column) for column in zip(*each, strict=True)]
    answers[CONTRACTS_AT] = checks.contracts(runs)
    conditions: tuple[Any, ...] = WHOLE
    if terms.spread is not None:
        answers.append(checks.worst_of([checks.supported(run) for run in runs]))
        conditions = (*conditions, c.SUPPORTS)
    if terms.method == "EF21-SGD":
        noises: list[Noise] = [run.trace.noise for run in runs if run.trace.noise is not None]
        assert terms.variance is not None
        answers += [
            checks.unbiased(noises, terms.variance),
            checks.variance_at_most(noises, terms.variance),
        ]
        conditions = (*conditions, *NOISY)
    answers.append(checks.distinct(runs))
    conditions = (*conditions, c.DISTINCT)
    seen = np.array([run.seen for run in runs])
    inputs = settings_of(first) | {"runs": len(runs), "E G⁰ at most": first_shifts(first)}
    if floor:
        inputs["floor from noise"] = floor
    given: dict[str, Any] = {
        "trivial": 2 * terms.smoothness.L * max(float(t.f[0] - terms.f_inf), 0.0),
        "answers": answers,
        "inputs": inputs,
    }
    at = int(seen.argmin())
    return (
        EXPECTED_GRADIENT.variant(conditions=conditions)(
            bound=bound,
            confidence=1.0,
            measured=lower_end(seen, delta) if len(runs) > 1 else None,
            **given,
        ),
        BEST_RUN.variant(conditions=conditions)(
            bound=bound * delta ** (-1 / len(runs)),
            confidence=1 - delta,
            measured=exact(float(seen[at]), runs[at].seen_off),
            **given,
        ),
    )


def contraction_limit(alpha: float) -> float:
    """1 − α, and what float32 may add."""
    return 1 - alpha + 1e-5


def contraction(seen: float | None, alpha: float, looked: int) -> Certificate:
    """What the hook measured of its compressor, on `looked` steps."""
    return CONTRACTION(
        bound=contraction_limit(alpha),
        confidence=1.0,
        trivial=1.0,
        measured=None if seen is None else exact(seen),
        inputs={"α": alpha, "steps looked at": looked},
    )


def drift_limit() -> float:
    """How far the two averages may be apart, relatively."""
    return 1e-5


def invariant(seen: float | None, looked: int) -> Certificate:
    """Whether the average that every rank keeps still is the average of the shifts."""
    return INVARIANT(
        bound=drift_limit(),
        confidence=1.0,
        trivial=math.inf,
        measured=None if seen is None else exact(seen),
        inputs={"times averaged anew": looked},
    )
