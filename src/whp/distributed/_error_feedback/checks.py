"""Whether the conditions of the theorems hold, as far as a run can tell."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from whp.certificate import Answer, Status
from whp.distributed._error_feedback import conditions as c
from whp.distributed._error_feedback.trace import EDGE, NOTHING, Noise, Run

__all__ = [
    "bounded",
    "client_smooth",
    "contracts",
    "distinct",
    "gradients_of_f",
    "mean_smooth",
    "polyak",
    "short_enough",
    "supported",
    "unbiased",
    "variance_at_most",
    "worst_of",
]

LEVEL = 0.01  # of each statistical test
BETS = (0.01, 0.05, 0.2, 0.5, 0.9)


def mean_smooth(run: Run) -> Answer:
    """L against the run's own mean gradients."""
    seen, L = run.largest_change, run.terms.smoothness.L
    if seen > L * EDGE:
        return c.SMOOTH.check(False, f"∇f changed by {seen:.6g} a unit, L = {L:.6g}")
    return c.SMOOTH.unchecked(
        f"the run saw a change of {seen:.4g} a unit, L = {L:.4g}; elsewhere it may be larger"
    )


def client_smooth(run: Run) -> Answer:
    """L_i against the run's own gradients."""
    known = run.terms.smoothness
    over = run.largest_changes / known.clients
    i = int(over.argmax())
    if over[i] > EDGE:
        return c.CLIENTS.check(
            False,
            f"client {i}: its gradient changed by {run.largest_changes[i]:.6g} a unit, "
            f"L_i = {known.clients[i]:.6g}",
        )
    how = "estimated from gradients, which finds lower bounds" if known.estimated else "given"
    return c.CLIENTS.unchecked(f"{how}; the run saw changes of up to {over[i]:.3g} of L_i")


def gradients_of_f(run: Run) -> Answer:
    """Whether f changed as its gradients at both ends of a step allow, and both come out again the same.

    Of an L-smooth f, f(y) − f(x) is within (L/4)‖y − x‖² − ‖∇f(y) − ∇f(x)‖²/(4L) of
    ½⟨∇f(x) + ∇f(y), y − x⟩, and for two points there is such an f wherever that is so (Taylor,
    Hendrickx, Glineur 2017, theorem 4). A difference of f over 2h is within Lh/2 of its slope.
    """
    t = run.trace
    if (t.again > 2 * run.clients_off[0] * EDGE).any() or t.f_again > 2 * run.f_off[0]:
        i = int((t.again - 2 * run.clients_off[0]).argmax())
        return c.GRADIENTS.check(
            False,
            f"asked again at x⁰, the gradient of client {i} was {t.again[i]:.3g} away, "
            f"f {t.f_again:.3g}",
        )
    if not len(t.gamma):
        return c.GRADIENTS.unchecked("no step was made")
    L = max(run.terms.smoothness.L, run.largest_change)
    curved = np.maximum((L * EDGE) * t.moved**2 - run.mean_changes**2 / (L * EDGE), 0.0) / 4
    rounding = (
        run.f_off[1:]
        + run.f_off[:-1]
        + 2 * (run.gradient_off[1:] + run.gradient_off[:-1]) * t.moved
    )
    off = np.abs((t.f[1:] - t.f[:-1]) - (t.before + t.after) / 2)
    over = off - curved - rounding
    at = int(over.argmax())
    if over[at] > 0:
        return c.GRADIENTS.check(
            False,
            f"step {at + 1}: f changed by {t.f[at + 1] - t.f[at]:.6g}, the gradients at both ends "
            f"say {(t.before[at] + t.after[at]) / 2:.6g} ± {curved[at] + rounding[at]:.2g}",
        )
    at, h, seen, said = t.slopes.T
    where = at.astype(int)
    bent = L * EDGE * h / 2 + run.f_coarse[where] / np.maximum(h, NOTHING) + run.gradient_off[where]
    wrong = np.abs(seen - said) - bent
    if (wrong > 0).any():
        i = int(wrong.argmax())
        return c.GRADIENTS.check(
            False,
            f"at step {where[i]} f rises by {seen[i]:.6g} a unit along a line, where its gradient says "
            f"{said[i]:.6g} ± {bent[i]:.2g}",
        )
    return c.GRADIENTS.unchecked(
        f"{len(wrong)} slopes of f were as its gradients say, f changed at every step as the "
        "gradients at both ends allow, and both were the same when asked again; small errors stay "
        "unseen"
    )


def contracts(runs: Sequence[Run]) -> Answer:
    """Whether the compressor contracts: by its code, or as far as the runs tell."""
    terms = runs[0].terms
    seen, kept = max(run.trace.contraction for run in runs), 1 - terms.alpha
    worst = f"largest ratio {seen:.4g}, 1 − α = {kept:.4g}"
    if terms.deterministic and seen > kept + 1e-9:
        return c.CONTRACTS.check(False, worst)
    shrunk = min(run.trace.shrunk for run in runs)
    if not terms.deterministic and shrunk < 1 / EDGE:
        return c.CONTRACTS.check(False, f"its α fell to {shrunk:.3g} of what it was at the start")
    if all(run.terms.known for run in runs):
        return c.CONTRACTS.by_construction(terms.known)
    if not terms.deterministic:
        lost = np.concatenate([run.trace.lost for run in runs])
        p = mean_above_one(with_mean(lost / (kept + 1e-9)))
        return c.CONTRACTS.tested(p, LEVEL, f"a mean ratio of 1.3 (1 − α), over {len(lost)} steps")
    return c.CONTRACTS.unchecked(
        f"a compressor or a generator that was not made here, or was changed; on this run {worst}"
    )


def bounded(run: Run) -> Answer:
    """f_inf against f, and against what one step from each point must reach if f is L-smooth."""
    t, f_inf, L = run.trace, run.terms.f_inf, run.terms.smoothness.L
    reach = t.f - t.gradient2 / (2 * L)
    room = run.f_off + run.gradient2_off / (2 * L) + 4e-16 * abs(f_inf)
    under = f_inf - reach - room
    at = int(under.argmax())
    if under[at] > 0:
        return c.LOWER.check(
            False,
            f"f = {t.f[at]:.6g} with ‖∇f‖² = {t.gradient2[at]:.4g} at step {at}, so that f falls "
            f"to {reach[at]:.6g}, below f_inf = {f_inf:.6g}",
        )
    return c.LOWER.unchecked(f"{f_inf:.6g} was given; least value seen {t.f.min():.6g}")


def short_enough(run: Run, longest: float, *, excused: bool) -> Answer:
    """The step against its limit; `excused` if the proof's inequality, checked on the run, may stand for it."""
    largest = float(run.trace.gamma.max(initial=0.0))
    numbers = f"longest {largest:.4g}, allowed {longest:.4g}"
    if largest <= longest * EDGE:
        return c.STEP.check(True, numbers)
    if excused and run.fell:
        return c.STEP.check(True, f"{numbers}; the inequality held at all {len(run.rises)} steps")
    return c.STEP.check(False, numbers)


def supported(run: Run) -> Answer:
    """Whether gradients were zero outside of their supports, which is all that the proof asks."""
    outside = run.trace.outside
    return c.SUPPORTS.check(outside == 0, f"largest entry outside {outside:.3g}")


def polyak(run: Run) -> Answer:
    """μ against the points of the run."""
    t, f_inf, mu = run.trace, run.terms.f_inf, run.terms.mu
    assert mu is not None
    gap = t.f - f_inf - t.gradient2 / (2 * mu)
    over = gap - run.f_off - run.gradient2_off / (2 * mu) - 4e-16 * abs(f_inf)
    at = int(over.argmax())
    if over[at] > 0:
        return c.POLYAK.check(
            False, f"at step {at}: {t.f[at] - f_inf:.4g} > {t.gradient2[at] / (2 * mu):.4g}"
        )
    return c.POLYAK.unchecked(f"μ = {mu:.4g} held at every point of the run; elsewhere it may not")


def unbiased(noises: Sequence[Noise], variance: np.ndarray) -> Answer:
    """Whether noisy gradients average to the gradients, by bets that noise goes on as it went.

    Z, in units of σ_i, is the noise along the sum of what came before. If its mean is 0 and that of
    Z² at most 1, exp(λZ − λ²(Z²/6 + 1/3)) has mean at most 1, as exp(x − x²/6) ≤ 1 + x + x²/3
    (Delyon 2009); products over draws are bets as in :func:`mean_above_one`.
    """
    along = np.concatenate([noise.along for noise in noises])
    with np.errstate(divide="ignore", invalid="ignore"):
        Z = np.nan_to_num(along / np.sqrt(variance), posinf=0.0, neginf=0.0)
    bets = np.array(BETS)[:, None, None]
    capital = np.cumsum(bets * Z - bets**2 * (Z**2 / 6 + 1 / 3), axis=1)
    many = len(BETS) * Z.shape[1]
    top = float(np.logaddexp.reduce(capital, axis=(0, 2)).max(initial=-math.inf)) - math.log(many)
    p = min(1.0, math.exp(-max(top, 0.0)))
    least = 2 * math.sqrt(math.log(many / LEVEL) / len(Z))
    return c.UNBIASED.tested(p, LEVEL, f"a bias of {least:.2g} σ, over {len(Z)} draws")


def variance_at_most(noises: Sequence[Noise], variance: np.ndarray) -> Answer:
    """Whether the variance of noisy gradients is as stated, by bets that it is larger.

    1 + λ(X − 1) multiplied over draws has mean at most 1 if each X = ‖ĝ − ∇f‖²/σ² has, and Ville's
    inequality gives a p-value for the largest product.
    """
    squares = np.concatenate([noise.squares for noise in noises])
    with np.errstate(divide="ignore", invalid="ignore"):
        X = with_mean(np.nan_to_num(squares / variance, posinf=1e300))
    return c.VARIANCE.tested(
        mean_above_one(X), LEVEL, f"twice the variance, if noise is not rare, over {len(X)} draws"
    )


def with_mean(X: np.ndarray) -> np.ndarray:
    """Columns of the clients, and as many of their mean: bets are on one client, or on all of them.

    NaN says nothing, as 1 does. One client that is never served is hidden in a mean; a little too
    much of all shows in the mean first.
    """
    there = ~np.isnan(X)
    many = there.sum(axis=1, keepdims=True)
    mean = np.where(there, X, 0.0).sum(axis=1, keepdims=True) / np.maximum(many, 1)
    mean = np.where(many > 0, mean, 1.0)
    return np.hstack([np.where(there, X, 1.0), np.repeat(mean, X.shape[1], axis=1)])


def mean_above_one(X: np.ndarray) -> float:
    """p-value of values of at least 0 whose means, given those before, are at most 1, by bets against it.

    Shape (K,), or (K, m) for m kinds of values, each of which is bet on with a share of the capital.
    """
    X = X.reshape(len(X), -1)
    bets = np.array(BETS)[:, None, None]
    capital = np.cumsum(np.log1p(bets * (X - 1)), axis=1)
    many = len(BETS) * X.shape[1]
    top = float(np.logaddexp.reduce(capital, axis=(0, 2)).max(initial=-math.inf)) - math.log(many)
    return min(1.0, math.exp(-max(top, 0.0)))


def distinct(runs: Sequence[Run]) -> Answer:
    """Whether the runs drew apart from each other."""
    sources = [run.trace.source for run in runs]
    squares = [run.trace.noise.squares for run in runs if run.trace.noise is not None]
    # noise of few values, such as a coin's, may be the same by chance
    told = [s.tobytes() for s in squares if len(np.unique(s)) >= 5]
    if len(set(sources)) < len(sources):
        return c.DISTINCT.check(False, "two runs began with the same state of the generator")
    if len(set(told)) < len(told):
        return c.DISTINCT.check(False, "two runs drew the same noise")
    return c.DISTINCT.unchecked(f"{len(runs)} runs with different generators and draws")


def worst_of(answers: Sequence[Answer]) -> Answer:
    """Of one condition in several runs: a violated one if there is any."""
    return next((a for a in answers if a.status is Status.VIOLATED), answers[0])
