"""What is promised of the regret: on the run itself, against a path, and on average."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from whp.certificate import Answer, Certificate, Status
from whp.concentration import betting
from whp.intervals import Estimate, exact
from whp.theorem import AT_MOST, ON_AVERAGE, THIS_RUN, Condition, Derived, Theorem
from whp.validate import private_stream

__all__ = [
    "AT_THE_POINT_PLAYED",
    "CAPPED",
    "CONVEX",
    "CONVEX_ON_AVERAGE",
    "CURVED",
    "GRADIENTS_BOUNDED",
    "INDEPENDENT",
    "IN_DOMAIN",
    "KNOWN_VARIANCE",
    "LAST_GRADIENT",
    "OF_THE_RUNS",
    "PATH",
    "PATHWISE",
    "SEA",
    "SMOOTH",
    "THEOREMS",
    "check_exp_concavity",
    "check_smoothness",
    "check_strong_convexity",
    "linear_regret",
    "mean_regret",
    "of_the_run",
    "on_average",
    "with_checked",
]

SLUG = "optimistic-mirror-descent"
PAPER = "Chen, Tu, Zhao & Zhang 2023"

IN_DOMAIN = Condition("in-domain", "every point played lies in the domain, whose diameter is D")
GRADIENTS_BOUNDED = Condition(
    "gradients-bounded",
    "every gradient has norm at most G",
    remedy="raise gradient_bound, or leave it out (scale-free).",
)
AT_THE_POINT_PLAYED = Condition(
    "at-the-point-played",
    "each gradient is that of its round's loss at the point played in that round: not late, not of "
    "another point, not averaged over rounds",
    remedy="take every gradient at learner.x, and hand it in before the next point is played.",
)
CONVEX = Condition("convex", "the loss of each round is convex")
CURVED = Condition(
    "curved",
    "the loss of each round is as strongly convex, or as exp-concave, as was said",
    remedy="lower strong_convexity or exp_concavity, or take curvature='convex'.",
)
PATH = Condition(
    "path",
    "the path of comparators is no longer than was said",
    remedy="give its length, Σ‖u_t − u_{t−1}‖.",
)
KNOWN_VARIANCE = Condition(
    "known-variance", "σ² and Σ² are those of the environment, along the points that were played"
)
INDEPENDENT = Condition(
    "independent",
    "nature draws each round without having seen the draws, and no two rounds share a draw",
)
SMOOTH = Condition("smooth", "the expected losses are L-smooth", remedy="raise smoothness.")
CONVEX_ON_AVERAGE = Condition("convex-on-average", "the expected losses are convex")
LAST_GRADIENT = Condition(
    "last-gradient",
    "the hint of every round is the gradient before",
    remedy="leave hint= out: the bound in √σ² + √Σ² is for the last gradient as hint.",
)
OF_THE_RUNS = Condition(
    "of-the-runs",
    "the regrets are of independent runs in this environment, linearised or in convex losses, with "
    "gradients no longer than G",
)
CAPPED = Condition("capped", "no step of the pool exceeds 1/(16L)", remedy="leave pool_cap out.")

PLAYED = (IN_DOMAIN, AT_THE_POINT_PLAYED)
NEEDS = "losses, or the regret itself: certificate(regret=...)."
REMEDY = (
    "take a smaller radius or more rounds: the bound contains D²L, the trivial one grows with the "
    "rounds. If it fails, losses and gradients disagree, or the losses are less curved than was said."
)
LINEAR = (
    "regret: that in the losses where they are known, else Σ⟨g_t, x_t − u⟩, which is at least it"
)

SCALE_FREE_REGRET = Theorem(
    "scale-free-regret",
    claim="the regret of this run is at most D²/(2η_T) + Σ min(η_t v_t, D√v_t), v_t the squared "
    "distance of gradient and hint",
    quantity=LINEAR,
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived(f"{SLUG}#scale-free", extends=f"{PAPER}, convex theorem"),
    conditions=(*PLAYED, CONVEX),
    needs=NEEDS,
    remedy=REMEDY,
)
PAPER_REGRET = SCALE_FREE_REGRET.variant(
    name="convex-regret",
    claim="the regret of this run is at most D²/(2η_T) + Σ η_t v_t, v_t the squared distance of "
    "gradient and hint",
    source=Derived(f"{SLUG}#convex", extends=f"{PAPER}, convex theorem"),
    conditions=(*PLAYED, CONVEX, GRADIENTS_BOUNDED),
)
STRONGLY_CONVEX_REGRET = SCALE_FREE_REGRET.variant(
    name="strongly-convex-regret",
    claim="the regret of this run is at most λD²/4 + (2/λ) Σ (1/t + 1/t²) v_t, v_t the squared "
    "distance of gradient and hint",
    quantity="regret: that in the losses where they are known, else Σ⟨g_t, x_t − u⟩ − (λ/2)‖x_t − u‖²",
    source=Derived(f"{SLUG}#strongly-convex", extends=f"{PAPER}, strongly convex theorem"),
    conditions=(*PLAYED, CURVED),
)
EXP_CONCAVE_REGRET = SCALE_FREE_REGRET.variant(
    name="exp-concave-regret",
    claim="the regret of this run is at most (ε + βG²/2)D²/2 + 2 Σ ‖g_t − m_t‖², hints m_t, in the "
    "metric H_t⁻¹",
    quantity="regret: that in the losses where they are known, else Σ⟨g_t, x_t − u⟩ − (β/2)⟨g_t, x_t − u⟩²",
    source=Derived(f"{SLUG}#exp-concave", extends=f"{PAPER}, exp-concave theorem"),
    conditions=(*PLAYED, CURVED, GRADIENTS_BOUNDED),
)
MOVING_REGRET = SCALE_FREE_REGRET.variant(
    name="moving-regret",
    claim="the regret of this run against a path of length P is at most (ln N)/ε_T + D² Σ ε_t v_t + "
    "L(S_i − Σ p c) + η_i V̄ + (D² + 2DP)/(2η_i) − S_i/(8η_i), the least over the base learners i",
    quantity="regret against the path: that in the losses where they are known, else linearised",
    source=Derived(f"{SLUG}#moving", extends=f"{PAPER}, dynamic regret"),
    conditions=(*PLAYED, CONVEX, GRADIENTS_BOUNDED, PATH),
)
SEA_REGRET = Theorem(
    "sea-regret",
    claim="the expected regret is at most a bound in √σ² and √Σ², the stochastic variance and the "
    "adversarial variation along the path",
    quantity="mean regret of independent runs",
    relation=AT_MOST,
    scope=ON_AVERAGE,
    source=Derived(f"{SLUG}#sea", extends=f"{PAPER}, SEA theorems"),
    conditions=(
        *PLAYED,
        GRADIENTS_BOUNDED,
        PATH,
        LAST_GRADIENT,
        CAPPED,
        CURVED,
        CONVEX_ON_AVERAGE,
        SMOOTH,
        KNOWN_VARIANCE,
        INDEPENDENT,
        OF_THE_RUNS,
    ),
    needs="regrets of independent runs: one run shows one draw, not an expectation. The fewer, and the "
    "larger the regret that gradients allow, the wider the interval.",
    remedy="take a smaller radius or more rounds: the bound contains D²L.",
)
PATHWISE = {
    "scale_free": SCALE_FREE_REGRET,
    "paper": PAPER_REGRET,
    "strongly_convex": STRONGLY_CONVEX_REGRET,
    "exp_concave": EXP_CONCAVE_REGRET,
    "dynamic": MOVING_REGRET,
}
SEA = {
    rule: tuple(c for c in SEA_REGRET.conditions if c not in others)
    for rule, others in {
        "convex": (PATH, CAPPED, CURVED),
        "strongly_convex": (PATH, CAPPED),
        "exp_concave": (PATH, CAPPED),
        "dynamic": (CURVED,),
    }.items()
}
THEOREMS = (*PATHWISE.values(), SEA_REGRET)


def of_the_run(
    rule: str,
    bound: float,
    measured: Estimate | None,
    trivial: float,
    answers: Iterable[Answer],
    inputs: dict[str, Any],
) -> Certificate:
    """Regret on this very run, without probability."""
    return PATHWISE[rule](
        bound=bound,
        confidence=1.0,
        trivial=trivial,
        measured=measured,
        answers=answers,
        inputs=inputs,
    )


def on_average(
    curvature: str,
    bound: float,
    measured: Estimate | None,
    trivial: float,
    answers: Iterable[Answer],
    inputs: dict[str, Any],
) -> Certificate:
    """Expected regret from stochastic variance and adversarial variation."""
    return SEA_REGRET.variant(conditions=SEA[curvature])(
        bound=bound,
        confidence=1.0,
        trivial=trivial,
        measured=measured,
        answers=answers,
        inputs=inputs,
    )


def mean_regret(regrets: Any, least: float, most: float, delta: float) -> Estimate:
    """Interval of the expectation that is valid for rare runs, however few were made.

    No regret is above `most`, what gradients of this size allow on any path, or below `least`. What is
    below zero counts as zero for the upper end: that raises the mean, and narrows the range.
    """
    values = np.asarray(regrets, dtype=np.float64)
    above = betting(np.maximum(values, 0.0), delta / 2, low=0.0, high=most)
    below = betting(values, delta / 2, low=least, high=most)
    value = float(values.mean())
    low, high = min(below.low, value), max(above.high, value)
    return Estimate(value, low, high, 1 - delta, len(values), "betting")


# What random pairs of points refute


def check_smoothness(
    gradient: Callable[[np.ndarray], np.ndarray],
    domain: Any,
    L: float,
    *,
    dim: int,
    pairs: int = 32,
    rng: np.random.Generator | int | None = 0,
) -> Answer:
    """Whether ‖∇F(x) − ∇F(y)‖ ≤ L‖x − y‖ at random pairs, near and far; that can refute smoothness, never prove it.

    Parameters
    ----------
    gradient : callable
        Point (d,) to the gradient (d,) of an expected loss.
    domain : Domain
        Where points are taken.
    L : float
        The claimed constant.
    dim : int
        Of the points.
    pairs : int
        How many, by default 32.
    rng : numpy.random.Generator, int or None
        Source of the pairs.

    Returns
    -------
    Answer
        Violated or unchecked, for the `checked` of a learner's certificates.
    """
    worst = 0.0
    for a, b in _pairs(domain, dim, pairs, rng):
        far = float(np.linalg.norm(a - b))
        if far > 1e-6 * domain.diameter:  # else both were projected onto one point
            given = [np.asarray(gradient(x)) for x in (a, b)]
            here, there = (g.astype(np.float64) for g in given)
            # In single precision the points were rounded as well, which moves a gradient by as much as L does.
            unit = 45 * _rounding(*given)
            size = float(np.linalg.norm(here) + np.linalg.norm(there))
            rounding = unit * (size + L * float(np.linalg.norm(a) + np.linalg.norm(b)))
            slope = (float(np.linalg.norm(here - there)) - rounding) / far
            worst = max(worst, slope if math.isfinite(slope) else math.inf)
    return _refuted(
        SMOOTH,
        not worst <= L * (1 + 1e-6),
        f"the steepest of {pairs} random secants has slope {worst:.4g}, L = {L:.4g}",
    )


Losses = Sequence[tuple[Callable[[np.ndarray], float], Callable[[np.ndarray], np.ndarray]]]


def check_strong_convexity(
    losses: Losses,
    domain: Any,
    lam: float,
    *,
    dim: int,
    pairs: int = 32,
    rng: np.random.Generator | int | None = 0,
) -> Answer:
    """Whether f(y) ≥ f(x) + ⟨g, y − x⟩ + (λ/2)‖y − x‖² at random pairs, for each (loss, gradient) given.

    Parameters
    ----------
    losses : sequence of (callable, callable)
        Loss and gradient of some rounds, each a function of a point (d,).
    domain, dim, pairs, rng
        As in :func:`check_smoothness`.
    lam : float
        The claimed λ.

    Returns
    -------
    Answer
        Violated or unchecked, for the `checked` of a learner's certificates.
    """
    return _curved(losses, domain, dim, pairs, rng, lambda g, step: lam / 2 * float(step @ step))


def check_exp_concavity(
    losses: Losses,
    domain: Any,
    beta: float,
    *,
    dim: int,
    pairs: int = 32,
    rng: np.random.Generator | int | None = 0,
) -> Answer:
    """Whether f(y) ≥ f(x) + ⟨g, y − x⟩ + (β/2)⟨g, y − x⟩² at random pairs, for each (loss, gradient) given.

    Parameters
    ----------
    losses, domain, dim, pairs, rng
        As in :func:`check_strong_convexity`.
    beta : float
        The β of the rule, `learner.beta`.

    Returns
    -------
    Answer
        Violated or unchecked, for the `checked` of a learner's certificates.
    """
    return _curved(losses, domain, dim, pairs, rng, lambda g, step: beta / 2 * float(g @ step) ** 2)


def _curved(
    losses: Losses,
    domain: Any,
    dim: int,
    pairs: int,
    rng: Any,
    quadratic: Callable[[np.ndarray, np.ndarray], float],
) -> Answer:
    worst = -math.inf
    for f, gradient in losses:
        for a, b in _pairs(domain, dim, pairs, rng):
            given = [np.asarray(v) for v in (gradient(a), f(a), f(b))]
            g, (here, there) = given[0].astype(np.float64), map(float, given[1:])
            curve = quadratic(g, b - a)
            # Differences of losses, and products that cancel, are known to their rounding only.
            size = float(np.linalg.norm(g)) * float(np.linalg.norm(a) + np.linalg.norm(b))
            room = 4500 * _rounding(*given) * (abs(here) + abs(there) + size) + 1e-6 * curve
            above = here + float(g @ (b - a)) + curve - there - room
            worst = max(worst, above if math.isfinite(above) else math.inf)
    return _refuted(
        CURVED,
        not worst <= 0,
        f"{pairs} random pairs of each of {len(losses)} losses, the worst {worst:+.4g} above the loss",
    )


def _rounding(*values: np.ndarray) -> float:
    """Of the coarsest of these numbers."""
    kinds = [v.dtype for v in values if v.dtype.kind == "f"]
    return max([float(np.finfo(k).eps) for k in kinds if k.itemsize < 8], default=2.22e-16)


def _refuted(condition: Condition, wrong: bool, evidence: str) -> Answer:
    return condition.check(False, evidence) if wrong else condition.unchecked(evidence)


def _pairs(domain: Any, dim: int, pairs: int, rng: Any) -> Any:
    """Half of them far apart, half near to each other, where a curve is steepest or flattest."""
    draws = private_stream(rng).standard_normal((pairs, 2, dim)) * domain.diameter / math.sqrt(dim)
    draws[::2, 1] = draws[::2, 0] + 1e-3 * (draws[::2, 1] - draws[::2, 0])
    return [(domain.project(a), domain.project(b)) for a, b in draws]


def with_checked(answers: Iterable[Answer], checked: Sequence[Answer]) -> tuple[Answer, ...]:
    """Answers, and in their place what a user looked at: that can refute a condition, not meet it."""
    looked = {a.name: a for a in sorted(checked, key=lambda a: a.status is Status.VIOLATED)}
    known = tuple(answers)
    names = {a.name for a in known}
    for name, answer in looked.items():
        if name not in names:
            raise ValueError(f"checked must be of conditions of this theorem, got {name!r}")
        if answer.status not in (Status.VIOLATED, Status.UNCHECKED):
            raise ValueError(f"checked must hold what check_* functions return, got {answer}")
    return tuple(
        looked[a.name]
        if a.name in looked
        and (a.status is Status.UNCHECKED or looked[a.name].status is Status.VIOLATED)
        else a
        for a in known
    )


def linear_regret(value: float, rounds: int, trivial: float) -> Estimate:
    """A sum of `rounds` terms whose sizes add up to `trivial`, and what rounding it may carry."""
    return exact(value, float(np.finfo(float).eps) * (16 + rounds) * trivial)
