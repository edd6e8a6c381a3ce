"""Worlds of optimistic mirror descent: streams whose losses the generator knows.

The true regret is that of the points played in the generator's own losses. What is printed as the
bound must also be what the claim says, recomputed here from points and gradients by plain loops:
regrets stay so far below most bounds that a halved constant would not show in them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize, minimize_scalar

from whp.certificate import Certificate, Verdict
from whp.experiment.worlds import Instance, Worlds
from whp.online import (
    Ball,
    DynamicOptimisticMirrorDescent,
    OptimisticMirrorDescent,
    check_exp_concavity,
    check_smoothness,
    check_strong_convexity,
    optimistic_mirror_descent,
)
from whp.online._optimistic_mirror_descent import theorems as t

__all__ = ["worlds"]

worlds = Worlds("optimistic-mirror-descent", t.THEOREMS)
HERE = "whp.online._optimistic_mirror_descent"
Rng = np.random.Generator
Nature = Callable[[int, np.ndarray], np.ndarray]
SCALE_FREE, PAPER, STRONG, CONCAVE, MOVING = (th.name for th in t.PATHWISE.values())
SEA = t.SEA_REGRET.name
RULES: dict[str, dict[str, Any]] = {
    SCALE_FREE: {"smoothness": 0.5},
    PAPER: {"smoothness": 0.5, "gradient_bound": 2.0},
    STRONG: {"curvature": "strongly_convex", "strong_convexity": 0.5},
    CONCAVE: {"curvature": "exp_concave", "exp_concavity": 0.5, "gradient_bound": 2.0},
}


@dataclass(frozen=True)
class Played:
    """What a user is given, and what the generator saw of it."""

    certificates: tuple[Certificate, ...]
    points: np.ndarray
    gradients: np.ndarray
    regret: float | None = None


# The formulas of the claims, by plain loops


def formula(name: str, g: np.ndarray, D: float, s: Mapping[str, Any]) -> float:
    """The measured form of the bound, from the gradients alone."""
    d = g.shape[1]
    v = ((g - np.vstack([np.zeros(d), g[:-1]])) ** 2).sum(axis=1)
    if name in (SCALE_FREE, PAPER):
        G, L = s.get("gradient_bound"), s.get("smoothness", 0.0)
        total, eta, known = 0.0, 0.0, 10 * D**2 * L**2 + 4 * (G or 0) ** 2
        for vt in v:
            eta = D / math.sqrt(known) if known > 0 else (D / math.sqrt(vt) if vt > 0 else 0.0)
            total += eta * vt if G else min(eta * vt, D * math.sqrt(vt))
            known += vt
        return (D**2 / (2 * eta) if eta else 0.0) + total
    if name == STRONG:
        lam = s["strong_convexity"]
        return lam * D**2 / 4 + 2 / lam * sum(
            (1 / k + 1 / k**2) * vt for k, vt in enumerate(v, start=1)
        )
    G = s["gradient_bound"]
    beta = 0.5 * min(1 / (4 * G * D), s["exp_concavity"])
    H, total, last = (1 + beta * G**2 / 2) * np.eye(d), 0.0, np.zeros(d)
    for gt in g:
        total += 2 * (gt - last) @ np.linalg.solve(H, gt - last)
        H, last = H + beta / 2 * np.outer(gt, gt), gt
    return (1 + beta * G**2 / 2) * D**2 / 2 + total


def pooled(g: np.ndarray, D: float, L: float, G: float, horizon: int, P: float) -> float:
    """The measured form of the moving rule on the unit ball, its learners replayed."""
    least = D / math.sqrt(2 * G**2 + 8 * G**2 * (horizon - 1))
    top = 1 / (16 * L)
    etas = [top / 2**i for i in range(1 + max(0, math.ceil(math.log2(top / least))))]
    N, d = len(etas), g.shape[1]

    def onto(z: np.ndarray) -> np.ndarray:
        return z / max(1.0, float(np.linalg.norm(z)))

    x, hat, before = (np.zeros((N, d)) for _ in range(3))
    p, loss, moved, cost = np.full(N, 1 / N), np.zeros(N), np.zeros(N), np.zeros(N)
    epsilon, V, mixed, stability, last = 1 / (16 * L * D**2), 0.0, 0.0, 0.0, np.zeros(d)
    used = epsilon
    for gt in g:
        v = float(((gt - last) ** 2).sum())
        V, stability, last, used = V + v, stability + D**2 * epsilon * v, gt, epsilon
        loss += x @ gt + L * cost
        mixed += float(p @ cost)
        moved += cost
        before = x.copy()
        hat = np.array([onto(h - e * gt) for h, e in zip(hat, etas, strict=True)])
        x = np.array([onto(h - e * gt) for h, e in zip(hat, etas, strict=True)])
        cost = ((x - before) ** 2).sum(axis=1)
        while epsilon > math.sqrt((math.log(N) + 1) / (D**2 * (4 * G**2 + V))):
            epsilon /= 2
        hoped = loss + x @ gt + L * cost
        p = np.exp(-epsilon * (hoped - hoped.min()))
        p /= p.sum()
    own = [
        e * V + (D**2 + 2 * D * P) / (2 * e) - moved[i] / (8 * e) + L * (moved[i] - mixed)
        for i, e in enumerate(etas)
    ]
    return math.log(N) / used + stability + min(own)


def in_expectation(D: float, L: float, G: float, sigma2: float, Sigma2: float, k: float) -> float:
    """max over S ≥ 0 of kD√(A + 4L²S) − cS, S the summed squared moves, by a search."""
    delta = 10 * D**2 * L**2
    free = k != 2.5
    A = delta + (1 if free else 5) * G**2 + 8 * sigma2 + 4 * Sigma2
    if L == 0:
        return k * D * math.sqrt(A)
    c = math.sqrt(delta + (0 if free else 4 * G**2)) / (8 * D)
    top = max(1.0, (2 * k * D * L**2 / c) ** 2 / (4 * L**2))

    def negative(S: float) -> float:
        return c * S - k * D * math.sqrt(A + 4 * L**2 * S)

    found = minimize_scalar(negative, bounds=(0.0, top), method="bounded", options={"xatol": 1e-10})
    return -min(negative(0.0), float(found.fun))  # pyright: ignore[reportAttributeAccessIssue]


def agree(a: float, b: float) -> bool:
    """But for rounding, and the tolerance of a search."""
    return bool(abs(a - b) <= 1e-7 * (1e-9 + abs(b)))


def below(regret: float, bound: float, size: float) -> bool | None:
    """Whether a regret is within its bound; None where they are equal but for rounding."""
    if abs(regret - bound) <= 1e-9 * size:
        return None
    return bool(regret <= bound)


# Streams of gradients of linear losses


def fed(
    nature: Nature,
    settings: Mapping[str, Any],
    rounds: int,
    late: int = 0,
    told: Mapping[str, Any] | None = None,
    losses: bool = False,
    dim: int = 3,
) -> Played:
    """A learner on the unit ball; gradients may arrive late, and the regret in the losses be handed in."""
    learner = OptimisticMirrorDescent(Ball(1.0), dim=dim, **(told or settings))
    points, gradients = np.zeros((rounds, dim)), np.zeros((rounds, dim))
    for k in range(rounds):
        points[k] = learner.x
        gradients[k] = nature(k, points[k])
        learner.step(gradients[k - late] if k >= late else np.zeros(dim))
    regret = linear(points, gradients)
    certificate = learner.certificate(regret=regret if losses else None)
    return Played((certificate,), points, gradients, regret)


def linear(points: np.ndarray, gradients: np.ndarray) -> float:
    """Regret of linear losses on the unit ball."""
    return float((points * gradients).sum() + np.linalg.norm(gradients.sum(axis=0)))


def kept(name: str, settings: Mapping[str, Any]) -> Callable[[Played], dict[str, bool | None]]:
    """Whether the regret is below what was printed, and that is what the claim says."""

    def judge(r: Played) -> dict[str, bool | None]:
        bound = r.certificates[0].bound
        if not agree(bound, formula(name, r.gradients, 2.0, settings)):
            return {name: False}
        assert r.regret is not None
        size = 2 * float(np.linalg.norm(r.gradients, axis=1).sum())
        return {name: below(r.regret, bound, size)}

    return judge


def only_below(name: str) -> Callable[[Played], dict[str, bool | None]]:
    """Whether the regret is below what was printed."""

    def judge(r: Played) -> dict[str, bool | None]:
        assert r.regret is not None
        return {name: below(r.regret, r.certificates[0].bound, 1.0)}

    return judge


def nature_of(kind: int, rng: Rng, size: float = 1.0) -> Nature:
    """At random, along the point played, constant, or switching every forty rounds."""
    first = rng.standard_normal(3)
    first /= np.linalg.norm(first)

    def push(k: int, x: np.ndarray) -> np.ndarray:
        g = x + 1e-3 * rng.standard_normal(3)
        return size * g / np.linalg.norm(g)

    def random(k: int, x: np.ndarray) -> np.ndarray:
        g = rng.standard_normal(3)
        return size * g / np.linalg.norm(g)

    return (
        random,
        push,
        lambda k, x: size * first,
        lambda k, x: size * first * (1 if (k // 40) % 2 else -1),
    )[kind]


@worlds.world(run=fed, strengths=(0, 1, 2, 3))
def streams(rng: Rng, strength: float) -> Instance:
    """Gradients at random, along the point played (1), constant (2) or switching (3), of any size; scale-free."""
    size = 10 ** rng.uniform(-1, 2)
    settings = {"smoothness": 0.01 * size}
    return Instance(
        {"nature": nature_of(int(strength), rng, size), "settings": settings, "rounds": 200},
        kept(SCALE_FREE, settings),
    )


@worlds.world(run=fed, strengths=(0, 1, 2, 3))
def streams_of_the_papers_rule(rng: Rng, strength: float) -> Instance:
    """The same with G known, which most gradients attain."""
    settings = {"smoothness": 0.01, "gradient_bound": 1.0}
    return Instance(
        {"nature": nature_of(int(strength), rng), "settings": settings, "rounds": 200},
        kept(PAPER, settings),
    )


@worlds.world(run=fed)
def scale_shock(rng: Rng, strength: float) -> Instance:
    """Two small gradients, then one a thousand times larger against them: the bound is nearly attained."""
    size, axis = 10 ** rng.uniform(-3, 3), rng.standard_normal(3)
    axis /= np.linalg.norm(axis)
    sizes = (0.001, 0.001, -1.0)
    settings = {"smoothness": 0.0}
    return Instance(
        {"nature": lambda k, x: sizes[k] * size * axis, "settings": settings, "rounds": 3},
        kept(SCALE_FREE, settings),
    )


@worlds.world(run=fed, strengths=(0, 1, 2, 3))
def a_few_rounds(rng: Rng, strength: float) -> Instance:
    """One to five rounds by each rule."""
    name = list(RULES)[int(strength)]
    arguments = {
        "nature": nature_of(int(rng.integers(2)), rng),
        "settings": RULES[name],
        "rounds": int(rng.integers(1, 6)),
    }
    # Linear losses have no curvature: those rules are judged by their formula alone.
    if name in (SCALE_FREE, PAPER):
        return Instance(arguments, kept(name, RULES[name]))
    return Instance(
        arguments,
        lambda r: {
            name: agree(r.certificates[0].bound, formula(name, r.gradients, 2.0, RULES[name]))
        },
    )


@worlds.world(run=fed, breaks=t.GRADIENTS_BOUNDED, strengths=(1.01, 1.5))
def one_large_gradient(rng: Rng, strength: float) -> Instance:
    """G = 1, and one gradient of this norm among 200."""
    plain, at = nature_of(0, rng), int(rng.integers(200))
    settings = {"smoothness": 0.01, "gradient_bound": 1.0}
    return Instance(
        {
            "nature": lambda k, x: plain(k, x) * (strength if k == at else 1.0),
            "settings": settings,
            "rounds": 200,
        },
        kept(PAPER, settings),
    )


@worlds.world(run=fed, breaks=t.GRADIENTS_BOUNDED, strengths=(0.9, 0.5, 0.1), rising=False)
def bound_understated(rng: Rng, strength: float) -> Instance:
    """All gradients have norm 1, and G is said to be this."""
    settings = {"smoothness": 0.01, "gradient_bound": strength}
    return Instance(
        {"nature": nature_of(1, rng), "settings": settings, "rounds": 200}, kept(PAPER, settings)
    )


@worlds.world(run=fed, breaks=t.AT_THE_POINT_PLAYED, strengths=(1, 5, 20), noticeable=False)
def late_gradients(rng: Rng, strength: float) -> Instance:
    """Gradients arrive this many rounds late, as from an asynchronous worker; nature pushes along x_t."""
    arguments = {
        "nature": nature_of(1, rng),
        "settings": {"smoothness": 0.0},
        "rounds": 300,
        "late": int(strength),
    }
    return Instance(arguments, only_below(SCALE_FREE))


@worlds.world(run=fed, strengths=(20,), expects=Verdict.FAILS)
def late_gradients_with_losses(rng: Rng, strength: float) -> Instance:
    """The same, and the regret in the losses is handed in."""
    arguments = {
        "nature": nature_of(1, rng),
        "settings": {"smoothness": 0.0},
        "rounds": 300,
        "late": int(strength),
        "losses": True,
    }
    return Instance(arguments, only_below(SCALE_FREE))


def averaged(nature: Nature, rounds: int) -> Played:
    """The user plays the running mean of the learner's points, and hands in gradients taken there."""
    learner = OptimisticMirrorDescent(Ball(1.0), dim=3, smoothness=0.0)
    points, gradients, mean = np.zeros((rounds, 3)), np.zeros((rounds, 3)), np.zeros(3)
    for k in range(rounds):
        mean += (learner.x - mean) / (k + 1)
        points[k], gradients[k] = mean, nature(k, mean)
        learner.step(gradients[k])
    return Played((learner.certificate(),), points, gradients, linear(points, gradients))


@worlds.world(run=averaged, breaks=t.AT_THE_POINT_PLAYED, noticeable=False)
def another_point_is_played(rng: Rng, strength: float) -> Instance:
    """What is played is the mean of the learner's points; nature pushes along it."""
    return Instance({"nature": nature_of(1, rng), "rounds": 300}, only_below(SCALE_FREE))


# Curved losses


def tracked(
    centres: np.ndarray,
    curve: float,
    settings: Mapping[str, Any],
    losses: bool,
    check: str = "",
    flat: bool = False,
) -> Played:
    """½c‖x − a_t‖² (or, flat, c⟨a_t, x⟩) on the unit ball; regret and secants may be handed in."""
    rounds, d = centres.shape
    learner = OptimisticMirrorDescent(Ball(1.0), dim=d, **settings)
    points, gradients = np.zeros((rounds, d)), np.zeros((rounds, d))

    def pair(a: np.ndarray) -> Any:
        if flat:
            return (lambda x: curve * float(a @ x)), (lambda x: curve * a)
        return (lambda x: curve / 2 * float((x - a) @ (x - a))), (lambda x: curve * (x - a))

    for k, a in enumerate(centres):
        points[k] = learner.x
        gradients[k] = curve * a if flat else curve * (points[k] - a)
        learner.step(gradients[k])
    if flat:
        regret = linear(points, gradients)
    else:
        mean = centres.mean(axis=0)
        best = mean / max(1.0, float(np.linalg.norm(mean)))
        regret = curve / 2 * float(((points - centres) ** 2).sum() - ((best - centres) ** 2).sum())
    checked = []
    if check:
        some = [pair(a) for a in centres[:: max(1, rounds // 4)]]
        look, value = (
            (check_strong_convexity, learner.strong_convexity)
            if check == "strong"
            else (check_exp_concavity, learner.beta)
        )
        assert value is not None
        checked = [look(some, Ball(1.0), value, dim=d, pairs=8)]
    certificate = learner.certificate(regret=regret if losses else None, checked=checked)
    return Played((certificate,), points, gradients, regret)


def _coins(rng: Rng, rounds: int) -> np.ndarray:
    return 0.8 * rng.choice([-1.0, 1.0], (rounds, 1))


def _turned(rounds: int, wrong: int = 1) -> np.ndarray:
    centres = np.full((rounds, 1), 0.8)
    centres[:wrong] = -0.8
    return centres


@worlds.world(run=tracked, strengths=(0, 1))
def quadratics(rng: Rng, strength: float) -> Instance:
    """½·.5(x − a_t)², λ = .5 said and true: a_t a fair ±.8, or (1) first wrong, then right."""
    centres = _turned(500) if strength else _coins(rng, 500)
    settings = {"curvature": "strongly_convex", "strong_convexity": 0.5}
    arguments = {"centres": centres, "curve": 0.5, "settings": settings}
    return Instance(
        {**arguments, "losses": bool(rng.random() < 0.5), "check": "strong"}, kept(STRONG, settings)
    )


@worlds.world(run=tracked, strengths=(0, 1))
def quadratics_by_the_exp_concave_rule(rng: Rng, strength: float) -> Instance:
    """The same, said to be .5-exp-concave; they are .61-exp-concave."""
    centres = _turned(500) if strength else _coins(rng, 500)
    settings = {"curvature": "exp_concave", "exp_concavity": 0.5, "gradient_bound": 1.0}
    arguments = {"centres": centres, "curve": 0.5, "settings": settings}
    return Instance(
        {**arguments, "losses": bool(rng.random() < 0.5), "check": "concave"},
        kept(CONCAVE, settings),
    )


@worlds.world(
    run=tracked, breaks=t.CURVED, strengths=(2, 3, 5, 10), noticeable=False, broken_from=2
)
def curvature_overclaimed(rng: Rng, strength: float) -> Instance:
    """λ = .5 true, this many times as much said; the first three targets wrong."""
    settings = {"curvature": "strongly_convex", "strong_convexity": 0.5 * strength}
    arguments = {"centres": _turned(1000, 3), "curve": 0.5, "settings": settings, "losses": False}
    return Instance(arguments, only_below(STRONG))


@worlds.world(run=tracked, breaks=t.CURVED, strengths=(1.0, 1.1, 2, 5, 10), broken_from=1.1)
def curvature_overclaimed_and_looked_at(rng: Rng, strength: float) -> Instance:
    """The same, secants of some losses handed in."""
    settings = {"curvature": "strongly_convex", "strong_convexity": 0.5 * strength}
    arguments = {"centres": _turned(1000, 3), "curve": 0.5, "settings": settings, "losses": False}
    return Instance({**arguments, "check": "strong"}, only_below(STRONG))


@worlds.world(run=tracked, breaks=t.CURVED, strengths=(0.1, 1.0, 10.0))
def linear_losses_called_curved(rng: Rng, strength: float) -> Instance:
    """Linear losses said to be this strongly convex, secants handed in."""
    settings = {"curvature": "strongly_convex", "strong_convexity": strength}
    arguments = {"centres": _coins(rng, 300), "curve": 1.0, "settings": settings, "losses": False}
    return Instance({**arguments, "check": "strong", "flat": True}, only_below(STRONG))


@worlds.world(run=tracked, breaks=t.CURVED, strengths=(1.0, 100.0))
def linear_losses_called_exp_concave(rng: Rng, strength: float) -> Instance:
    """Linear losses said to be this exp-concave, secants handed in."""
    settings = {**RULES[CONCAVE], "exp_concavity": strength}
    arguments = {"centres": _coins(rng, 300), "curve": 1.0, "settings": settings, "losses": False}
    return Instance({**arguments, "check": "concave", "flat": True}, only_below(CONCAVE))


def hilltop(width: float, rounds: int, losses: bool) -> Played:
    """f(x) = cos(x/width) on [-1, 1] from its top, where the gradient is zero."""
    learner = OptimisticMirrorDescent(Ball(1.0), dim=1, smoothness=1 / width**2)
    points, gradients = np.zeros((rounds, 1)), np.zeros((rounds, 1))
    for k in range(rounds):
        points[k] = learner.x
        gradients[k] = -np.sin(points[k] / width) / width
        learner.step(gradients[k])
    least = -1.0 if width * np.pi <= 1 else float(np.cos(1 / width))
    regret = float(np.cos(points / width).sum() - rounds * least)
    certificate = learner.certificate(regret=regret if losses else None)
    return Played((certificate,), points, gradients, regret)


@worlds.world(run=hilltop, breaks=t.CONVEX, strengths=(1.0, 0.3), noticeable=False, rising=False)
def losses_are_not_convex(rng: Rng, strength: float) -> Instance:
    """The loss of every round is a hill of this width, and play begins on its top."""
    return Instance({"width": strength, "rounds": 100, "losses": False}, only_below(SCALE_FREE))


@worlds.world(run=hilltop, strengths=(1.0, 0.3), rising=False, expects=Verdict.FAILS)
def losses_are_not_convex_and_known(rng: Rng, strength: float) -> Instance:
    """The same, and the regret is handed in."""
    return Instance({"width": strength, "rounds": 400, "losses": True}, only_below(SCALE_FREE))


def wavy(depth: float, start: float, rounds: int) -> Played:
    """f(x) = (x − .5)² + depth·cos(12x): convex to a depth of 1/72, from a start on the wrong side."""
    learner = OptimisticMirrorDescent(Ball(1.0), dim=1, smoothness=2 + 144 * depth, x0=[start])
    points, gradients = np.zeros((rounds, 1)), np.zeros((rounds, 1))
    grid = np.linspace(-1, 1, 20_001)
    f = lambda x: (x - 0.5) ** 2 + depth * np.cos(12 * x)  # noqa: E731
    for k in range(rounds):
        points[k] = learner.x
        gradients[k] = 2 * (points[k] - 0.5) - 12 * depth * np.sin(12 * points[k])
        learner.step(gradients[k])
    regret = float(f(points).sum() - rounds * f(grid).min())
    return Played((learner.certificate(),), points, gradients, regret)


@worlds.world(
    run=wavy, breaks=t.CONVEX, strengths=(0.0, 0.1, 1.0), broken_from=0.1, noticeable=False
)
def losses_with_waves(rng: Rng, strength: float) -> Instance:
    """A parabola with waves of this depth: play stays in a hollow."""
    start = float(rng.uniform(-1, -0.5))
    return Instance({"depth": strength, "start": start, "rounds": 300}, only_below(SCALE_FREE))


# The domain


class Understated(Ball):
    """A user's own domain that says less than its diameter."""

    @property
    def diameter(self) -> float:
        """A hundredth of the truth."""
        return 0.02 * self.radius


def own_domain(nature: Nature, rounds: int) -> Played:
    """A learner on it."""
    learner = OptimisticMirrorDescent(Understated(1.0), dim=3, smoothness=0.0)
    points, gradients = np.zeros((rounds, 3)), np.zeros((rounds, 3))
    for k in range(rounds):
        points[k], gradients[k] = learner.x, nature(k, learner.x)
        learner.step(gradients[k])
    return Played((learner.certificate(),), points, gradients, linear(points, gradients))


@worlds.world(run=own_domain, breaks=t.IN_DOMAIN, noticeable=False)
def diameter_understated(rng: Rng, strength: float) -> Instance:
    """A domain of the user's own that understates its diameter; gradients are constant."""
    return Instance({"nature": nature_of(2, rng), "rounds": 100}, only_below(SCALE_FREE))


def resumed(nature: Nature, rounds: int, radius: float, tampered: bool) -> Played:
    """Saved on the unit ball, gone on with on a ball of another radius, or from a point put in by hand."""
    learner = OptimisticMirrorDescent(Ball(1.0), dim=3, smoothness=0.0)
    points, gradients = np.zeros((rounds, 3)), np.zeros((rounds, 3))
    for k in range(rounds):
        if k == rounds // 2:
            state = learner.state_dict()
            if tampered:
                state = {**state, "vectors": state["vectors"] * 3 + 1}
            learner = OptimisticMirrorDescent(Ball(radius), dim=3, smoothness=0.0)
            learner.load_state_dict(state)
        points[k], gradients[k] = learner.x, nature(k, learner.x)
        learner.step(gradients[k])
    return Played((learner.certificate(),), points, gradients, linear(points, gradients))


@worlds.world(
    run=resumed,
    breaks=t.IN_DOMAIN,
    strengths=(1.0, 0.5, 0.1),
    broken_from=0.5,
    rising=False,
    refuses=(ValueError,),
)
def state_of_another_ball(rng: Rng, strength: float) -> Instance:
    """The state of the unit ball, loaded into a learner on a ball of this radius."""
    arguments = {"nature": nature_of(0, rng), "rounds": 60, "radius": strength, "tampered": False}
    return Instance(
        arguments, kept(SCALE_FREE, {"smoothness": 0.0}) if strength == 1 else lambda r: {}
    )


@worlds.world(run=resumed, breaks=t.IN_DOMAIN, refuses=(ValueError,))
def state_put_in_by_hand(rng: Rng, strength: float) -> Instance:
    """A state whose point lies outside the domain."""
    arguments = {"nature": nature_of(0, rng), "rounds": 60, "radius": 1.0, "tampered": True}
    return Instance(arguments, only_below(SCALE_FREE))


def far_away(nature: Nature, rounds: int, far: float) -> Played:
    """A learner on the unit ball around a point this far from zero, in each coordinate."""
    learner = OptimisticMirrorDescent(Ball(1.0, center=far), dim=3, smoothness=0.0)
    points, gradients = np.zeros((rounds, 3)), np.zeros((rounds, 3))
    for k in range(rounds):
        points[k] = learner.x - far
        gradients[k] = nature(k, points[k])
        learner.step(gradients[k])
    return Played((learner.certificate(),), points, gradients, linear(points, gradients))


@worlds.world(
    run=far_away,
    breaks=t.IN_DOMAIN,
    strengths=(1.0, 1e7, 1e10, 1e13, 1e16),
    broken_from=1e10,
    refuses=(ValueError,),
)
def a_ball_among_large_numbers(rng: Rng, strength: float) -> Instance:
    """Gradients are constant; from 10¹⁶ on no number but the centre lies in the ball."""
    arguments = {"nature": nature_of(2, rng), "rounds": 100, "far": strength}
    return Instance(arguments, only_below(SCALE_FREE))


# Rows: the front door


def door(**arguments: Any) -> Any:
    """The front door."""
    return optimistic_mirror_descent(**arguments)


def _best(A: np.ndarray, y: np.ndarray, R: float, logistic: bool) -> float:
    """Least loss on the ball, by SLSQP."""

    def loss(w: np.ndarray) -> float:
        z = A @ w
        return float(np.logaddexp(0, -y * z).sum() if logistic else ((z - y) ** 2).sum() / 2)

    limit = {"type": "ineq", "fun": lambda w: R * R - w @ w, "jac": lambda w: -2 * w}
    found = minimize(
        loss, np.zeros(A.shape[1]), method="SLSQP", constraints=[limit], options={"ftol": 1e-12}
    )
    return float(found.fun)


def _rows(rng: Rng, n: int, classes: bool) -> tuple[np.ndarray, np.ndarray]:
    X = rng.standard_normal((n, 2))
    z = X[:, 0] - 0.5 * X[:, 1] + 0.5 * rng.standard_normal(n)
    return X, (z > 0).astype(float) if classes else 0.3 * z


def _of_rows(name: str, X: np.ndarray, y: np.ndarray, R: float, logistic: bool) -> Any:
    scale = 1 / np.sqrt(1 + (X**2).sum(axis=1))
    A = np.column_stack([scale, X * scale[:, None]])
    target = np.where(y > 0, 1.0, -1.0) if logistic else y

    def judge(r: Any) -> dict[str, bool | None]:
        z = np.einsum("ij,ij->i", A, r.points)
        mine = np.logaddexp(0, -target * z) if logistic else (z - target) ** 2 / 2
        best = _best(A, target, R, logistic)
        return {name: below(float(mine.sum()) - best, r.certificates[0].bound, 1e3)}

    return judge


@worlds.world(run=door, strengths=(0, 1))
def rows_of_a_regression(rng: Rng, strength: float) -> Instance:
    """2,000 rows of a linear regression, or (1) of two classes: a user's good run."""
    X, y = _rows(rng, 2000, bool(strength))
    return Instance(
        {"X": X, "y": y, "radius": 2.0}, _of_rows(SCALE_FREE, X, y, 2.0, bool(strength))
    )


@worlds.world(run=door)
def rows_by_the_exp_concave_rule(rng: Rng, strength: float) -> Instance:
    """2,000 rows of a regression in a small ball."""
    X, y = _rows(rng, 2000, False)
    return Instance(
        {"X": X, "y": y, "radius": 0.5, "curvature": "exp_concave"},
        _of_rows(CONCAVE, X, y, 0.5, False),
    )


@worlds.world(run=door, strengths=(17, 18, 20))
def targets_that_dwarf_the_radius(rng: Rng, strength: float) -> Instance:
    """Targets of size 10^strength on the unit ball: losses are so large that regrets drown in their rounding."""
    X = rng.standard_normal((400, 2))
    y = 10.0**strength * (1 + X[:, 0] + 0.1 * rng.standard_normal(400))
    A = np.column_stack([np.ones(400), X]) / np.sqrt(1 + (X**2).sum(axis=1))[:, None]
    best = A @ (A.T @ y) / np.linalg.norm(A.T @ y)  # what is quadratic does not count here

    def judge(r: Any) -> dict[str, bool | None]:
        z = np.einsum("ij,ij->i", A, r.points)
        regret = float(((z - best) * ((z + best) / 2 - y)).sum())
        return {SCALE_FREE: below(regret, r.certificates[0].bound, 10.0**strength)}

    return Instance({"X": X, "y": y, "radius": 1.0}, judge)


# A path of comparators


def moved(nature: Nature, rounds: int, pieces: int, told: float | None) -> Played:
    """The moving rule on the unit ball against the best point of each piece; the length of their path may be mistold."""
    learner = DynamicOptimisticMirrorDescent(
        Ball(1.0), dim=3, smoothness=0.2, gradient_bound=1.0, horizon=rounds
    )
    points, gradients = np.zeros((rounds, 3)), np.zeros((rounds, 3))
    for k in range(rounds):
        points[k], gradients[k] = learner.x, nature(k, learner.x)
        learner.step(gradients[k])
    path, best = against_pieces(gradients, pieces)
    regret = float((points * gradients).sum()) - best
    length = path if told is None else told
    return Played(
        (learner.certificate(path_length=length, regret=regret),), points, gradients, regret
    )


def against_pieces(gradients: np.ndarray, pieces: int) -> tuple[float, float]:
    """Length of the path of the best points of each piece, and their loss."""
    sums = [part.sum(axis=0) for part in np.array_split(gradients, pieces)]
    ends = np.array([-s / max(float(np.linalg.norm(s)), 1e-300) for s in sums])
    loss = -float(sum(np.linalg.norm(s) for s in sums))
    return float(np.linalg.norm(np.diff(ends, axis=0), axis=1).sum()), loss


@worlds.world(run=moved, strengths=(1, 2, 5))
def a_comparator_that_moves(rng: Rng, strength: float) -> Instance:
    """Gradients that switch every forty rounds, or at random; so many best points, 200 rounds."""
    nature = nature_of(3 if rng.random() < 0.5 else 0, rng)

    def judge(r: Played) -> dict[str, bool | None]:
        bound = r.certificates[0].bound
        path, _ = against_pieces(r.gradients, int(strength))
        if not agree(bound, pooled(r.gradients, 2.0, 0.2, 1.0, 200, path)):
            return {MOVING: False}
        assert r.regret is not None
        return {MOVING: below(r.regret, bound, 400)}

    return Instance({"nature": nature, "rounds": 200, "pieces": int(strength), "told": None}, judge)


@worlds.world(run=moved)
def a_thousand_rounds_that_pay(rng: Rng, strength: float) -> Instance:
    """1,000 rounds of one direction with noise: the bound says something."""
    axis = rng.standard_normal(3)
    axis /= np.linalg.norm(axis)

    def nature(k: int, x: np.ndarray) -> np.ndarray:
        g = axis + 0.3 * rng.standard_normal(3)
        return g / max(1.0, float(np.linalg.norm(g)))

    return Instance(
        {"nature": nature, "rounds": 1000, "pieces": 1, "told": None}, only_below(MOVING)
    )


@worlds.world(run=moved, breaks=t.PATH, strengths=(0.0, 4.0), rising=False, noticeable=False)
def path_told_too_short(rng: Rng, strength: float) -> Instance:
    """Gradients that switch every forty rounds; the path of ten best points, 18 long, is told as this."""
    arguments = {"nature": nature_of(3, rng), "rounds": 400, "pieces": 10, "told": strength}
    return Instance(arguments, only_below(MOVING))


@worlds.world(run=moved, breaks=t.PATH, strengths=(50.0, 100.0), noticeable=False)
def a_point_for_every_round(rng: Rng, strength: float) -> Instance:
    """Gradients at random, so many best points in hindsight, said not to move."""
    arguments = {"nature": nature_of(0, rng), "rounds": 400, "pieces": int(strength), "told": 0.0}
    return Instance(arguments, only_below(MOVING))


# On average


def environment(
    rng: Rng,
    *,
    runs: int,
    rounds: int,
    noise: float,
    drift: float = 0.0,
    bias: float = 0.0,
    rho: float = 0.0,
    L: float = 1.0,
    told: float = 1.0,
    smooth: float | None = None,
    repeat: bool = False,
    easier: bool = False,
    hint: str = "",
    shape: str = "square",
) -> Played:
    """½L(x − a_t)² in d = 1 over many runs; E a_t walks by `drift`, a_t has noise of this size.

    `bias`: share of runs all of whose targets are shifted by ½; `rho`: autocorrelation of the
    noise; `told`: share of σ² that is told.
    """
    smoothness = L if smooth is None else smooth
    G = L * (1.0 + 1.0 + noise + 0.5)
    regrets, learner = [], None
    for _ in range(1 if repeat else runs):
        learner = OptimisticMirrorDescent(Ball(1.0), dim=1, smoothness=smoothness, gradient_bound=G)
        shift = 0.5 if rng.random() < bias else 0.0
        e, total, points = 0.0, 0.0, np.zeros(rounds)
        centres = 0.3 + np.clip(drift * np.arange(rounds), 0, 0.5)
        signs = rng.choice([-1.0, 1.0], rounds)
        for k in range(rounds):
            e = signs[k] if k == 0 or rng.random() >= rho else e
            x = learner.x
            points[k] = x[0]
            if shape == "hill":
                g = np.array([-L * np.sin(3 * x[0]) / 3 + L * noise * e])
            else:
                g = L * (x - centres[k] - shift - noise * e)
            learner.step(g, hint={"": None, "zero": 0 * g, "twice": -2 * g}[hint])
        if shape == "hill":
            total = float(L * np.cos(3 * points).sum() / 9 - rounds * L * np.cos(3.0) / 9)
        else:
            best = float(np.mean(centres))
            total = L / 2 * float(((points - centres) ** 2).sum() - ((best - centres) ** 2).sum())
        regrets.append(total)
    assert learner is not None
    if repeat:
        regrets = regrets * runs
    handed = [0.2 * r for r in regrets] if easier else regrets
    checked = []
    if smooth is not None:
        checked = [check_smoothness(lambda x: L * (x - 0.3), Ball(1.0), smooth, dim=1)]
    certificate = learner.sea_certificate(
        told * rounds * (L * noise) ** 2,
        0.0 if told < 1 else rounds * (L * drift) ** 2,
        regrets=handed,
        checked=checked,
    )
    return Played((certificate,), np.zeros((0, 1)), np.zeros((0, 1)), float(np.mean(regrets)))


def _on_average(rng: Rng, truth: Any = None, **options: Any) -> Instance:
    """`truth` is the mean regret of many more runs; by default the bound itself is recomputed."""
    given = {"runs": 40, "rounds": 200, "noise": 0.3, **options}

    def judge(r: Played) -> dict[str, bool | None]:
        L, noise = given.get("L", 1.0), given["noise"]
        G = L * (2.5 + noise)
        told, rounds = given.get("told", 1.0), given["rounds"]
        drift = rounds * (L * given.get("drift", 0.0)) ** 2 if told >= 1 else 0.0
        smooth = given.get("smooth") or L
        bound = in_expectation(2.0, smooth, G, told * rounds * (L * noise) ** 2, drift, 2.5)
        if not agree(r.certificates[0].bound, bound):
            return {SEA: False}
        mean = r.regret if truth is None else truth
        return {SEA: below(float(mean or 0.0), bound, 1.0)}

    return Instance({"rng": rng, **given}, judge)


def many(rng: Rng, **options: Any) -> Played:
    """Runs in one environment."""
    return environment(rng, **options)


@worlds.world(run=many, strengths=(0.0, 0.3, 1.0))
def noisy_targets(rng: Rng, strength: float) -> Instance:
    """Forty runs of 200 rounds of ½(x − a_t)², independent noise of this size."""
    return _on_average(rng, noise=strength)


@worlds.world(run=many, strengths=(0.001, 0.01))
def drifting_targets(rng: Rng, strength: float) -> Instance:
    """The same with a mean that walks by this a round."""
    return _on_average(rng, drift=strength)


@worlds.world(run=many, breaks=t.LAST_GRADIENT)
def hints_of_zero(rng: Rng, strength: float) -> Instance:
    """The hint of every round is zero."""
    return _on_average(rng, hint="zero", runs=5)


@worlds.world(run=many, breaks=t.LAST_GRADIENT)
def wrong_hints(rng: Rng, strength: float) -> Instance:
    """The hint of every round is twice the gradient, turned round."""
    return _on_average(rng, hint="twice", runs=5)


@worlds.world(
    run=many, breaks=t.KNOWN_VARIANCE, strengths=(0.5, 0.1, 0.0), rising=False, noticeable=False
)
def variance_understated(rng: Rng, strength: float) -> Instance:
    """This share of σ² is told."""
    return _on_average(rng, noise=1.0, told=strength, runs=20)


@worlds.world(run=many, breaks=t.KNOWN_VARIANCE, strengths=(0.001, 0.01), noticeable=False)
def drift_left_out(rng: Rng, strength: float) -> Instance:
    """The mean walks by this a round, and Σ² is said to be zero."""
    return _on_average(rng, drift=strength, told=0.999, runs=20)


@worlds.world(run=many, breaks=t.INDEPENDENT, strengths=(0.02, 0.1, 1.0), noticeable=False)
def runs_of_a_bad_worker(rng: Rng, strength: float) -> Instance:
    """All targets of a run are shifted by ½ with this probability; σ² is that within a run."""
    long = {"rounds": 400, "L": 1.0, "noise": 0.1, "runs": 20}
    # Play settles at the shifted mean: the squared distance ¼ is lost every round.
    return _on_average(rng, truth=strength * 400 * 0.125, bias=strength, **long)


@worlds.world(run=many, breaks=t.INDEPENDENT, strengths=(0.9, 0.99), noticeable=False)
def noise_that_lasts(rng: Rng, strength: float) -> Instance:
    """Noise keeps its sign from round to round with this probability; σ² is told as if it did not."""
    return _on_average(rng, rho=strength, noise=0.5, runs=20)


@worlds.world(
    run=many, breaks=t.SMOOTH, strengths=(1.0, 0.5, 0.1, 0.01), broken_from=0.5, rising=False
)
def smoothness_understated(rng: Rng, strength: float) -> Instance:
    """This share of L is told, and secants are looked at."""
    return _on_average(rng, smooth=strength, runs=5)


@worlds.world(run=door, breaks=t.SMOOTH, strengths=(0.3, 0.1), rising=False)
def smoothness_of_rows_understated(rng: Rng, strength: float) -> Instance:
    """300 rows of a regression in random order, whose L is at least a third, said to be this."""
    X, y = _rows(rng, 300, False)
    arguments = {"X": X, "y": y, "radius": 1.0, "order": "shuffle", "smoothness": strength}
    return Instance({**arguments, "rng": int(rng.integers(1 << 31))}, lambda r: {SEA: None})


@worlds.world(
    run=many, breaks=t.CONVEX_ON_AVERAGE, strengths=(0.0, 0.3), noticeable=False, rising=False
)
def expected_losses_are_a_hill(rng: Rng, strength: float) -> Instance:
    """E f(x) = cos(3x)/9 from its top, noise of this size."""
    return _on_average(rng, shape="hill", noise=strength, runs=20)


@worlds.world(run=many, breaks=t.CONVEX_ON_AVERAGE, strengths=(3.0,), noticeable=False)
def a_steep_hill(rng: Rng, strength: float) -> Instance:
    """The same, this many times as steep, for 1,000 rounds."""
    return _on_average(rng, shape="hill", noise=0.0, runs=2, L=strength, rounds=1000)


@worlds.world(run=many, breaks=t.OF_THE_RUNS, noticeable=False)
def one_run_counted_forty_times(rng: Rng, strength: float) -> Instance:
    """The regret of a single run, handed in forty times."""
    return _on_average(rng, repeat=True, bias=0.5, rounds=400)


@worlds.world(run=many, breaks=t.OF_THE_RUNS, noticeable=False)
def regrets_of_an_easier_stream(rng: Rng, strength: float) -> Instance:
    """Regrets handed in are a fifth of those made."""
    return _on_average(rng, easier=True, runs=20)


@worlds.world(run=door)
def random_orders(rng: Rng, strength: float) -> Instance:
    """400 rows in thirty random orders."""
    X, y = _rows(rng, 400, True)
    seed = int(rng.integers(1 << 31))

    def judge(r: Any) -> dict[str, bool | None]:
        other = optimistic_mirror_descent(
            X, y, radius=1.0, order="shuffle", repeats=30, rng=seed + 1
        )
        measured = other.certificates[1].measured
        assert measured is not None
        return {SEA: below(measured.value, r.certificates[1].bound, 1.0)}

    arguments = {"X": X, "y": y, "radius": 1.0, "order": "shuffle", "repeats": 30, "rng": seed}
    return Instance(arguments, judge)


@worlds.world(run=door, breaks=t.CAPPED, strengths=(1.0, 2.0, 16.0), broken_from=2.0)
def pool_begins_too_high(rng: Rng, strength: float) -> Instance:
    """The pool begins at this many times 1/(16L)."""
    X, y = _rows(rng, 300, True)
    arguments = {"X": X, "y": y, "radius": 1.0, "order": "shuffle", "dynamic": True}
    return Instance(
        {**arguments, "pool_cap": strength / 4, "rng": int(rng.integers(1 << 31))},
        lambda r: {SEA: None},
    )


@worlds.world(run=door, breaks=t.CAPPED, strengths=(1.0,))
def the_papers_cap(rng: Rng, strength: float) -> Instance:
    """1/(8L), for squared losses."""
    X, y = _rows(rng, 300, False)
    arguments = {"X": X, "y": y, "radius": 1.0, "order": "shuffle", "dynamic": True}
    return Instance(
        {**arguments, "pool_cap": 1 / 8, "rng": int(rng.integers(1 << 31))}, lambda r: {SEA: None}
    )


def constant_slope(rounds: int, share: float) -> Played:
    """x₁ on the unit ball in every round of a hundred runs; the pool begins at this share of 1/(16L)."""
    L = 0.01
    learner = DynamicOptimisticMirrorDescent(
        Ball(1.0),
        dim=2,
        smoothness=L,
        gradient_bound=1.0,
        horizon=rounds,
        pool_cap=share / (16 * L),
    )
    points, gradients = np.zeros((rounds, 2)), np.zeros((rounds, 2))
    for k in range(rounds):
        points[k], gradients[k] = learner.x, (1.0, 0.0)
        learner.step(gradients[k])
    regret = linear(points, gradients)
    certificate = learner.sea_certificate(0.0, 0.0, regrets=[regret] * 100)
    return Played((certificate,), points, gradients, regret)


@worlds.world(run=constant_slope, strengths=(1.0, 1e-2, 1e-4), rising=False)
def a_pool_that_begins_low(rng: Rng, strength: float) -> Instance:
    """The pool begins at this share of 1/(16L), and its bound is of the steps that it has."""
    rounds, D, L = int(rng.integers(1000, 2000)), 2.0, 0.01
    least, etas = D / math.sqrt(2 + 8 * (rounds - 1)), [strength / (16 * L)]
    while etas[-1] > least:
        etas.append(etas[-1] / 2)
    logs = math.log(len(etas)) + 1
    bound = 96 * L * D * D * logs + 4 * D * math.sqrt(logs * 5.0)
    bound += min(eta + D * D / (2 * eta) for eta in etas)

    def judge(r: Played) -> dict[str, bool | None]:
        assert r.regret is not None
        same = agree(r.certificates[0].bound, bound)
        return {SEA: below(r.regret, bound, 1.0) if same else False}

    return Instance({"rounds": rounds, "share": strength}, judge)


# Mutants


def _halved(original: Callable[..., dict[str, float]]) -> Callable[..., dict[str, float]]:
    return lambda *a, **k: {name: v / 2 for name, v in original(*a, **k).items()}


for name, world, strength in (
    (SCALE_FREE, scale_shock, None),
    (PAPER, streams_of_the_papers_rule, 1.0),
    (STRONG, quadratics, 0.0),
    (CONCAVE, quadratics_by_the_exp_concave_rule, 1.0),
):
    worlds.mutant(
        name,
        "the bound halved",
        target=f"{HERE}.learner:OptimisticMirrorDescent.bounds",
        change=_halved,
        world=world,
        strength=strength,
    )
worlds.mutant(
    MOVING,
    "the bound halved",
    target=f"{HERE}.dynamic:DynamicOptimisticMirrorDescent.bounds",
    change=_halved,
    world=a_comparator_that_moves,
    strength=2.0,
)
worlds.mutant(
    SEA,
    "the bound halved",
    target=f"{HERE}.bounds:sea_bound",
    change=lambda original: lambda *a, **k: original(*a, **k) / 2,
    world=noisy_targets,
    strength=0.3,
)
