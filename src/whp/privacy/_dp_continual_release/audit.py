"""An attack on a mechanism: two streams that differ in one record, many runs of each, and how well they are told apart.

Refutes and does not confirm: lower confidence limits of ε, and of μ, above what the mechanism claims show that it is broken. For
Gaussian noise μ is the sharper of the two: half the noise at ρ = 0.5 passes for ε at δ = 10⁻⁶ and is caught by μ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import beta, norm

from whp.certificate import Certificate
from whp.intervals import Estimate, proportion
from whp.privacy._dp_continual_release.accuracy import ReleasePlan
from whp.privacy._dp_continual_release.attacks import Seen, attack_objects, attack_plan
from whp.privacy._dp_continual_release.theorems import Attack, audit_epsilon, audit_mu
from whp.result import PALETTE, Result
from whp.validate import as_bool, as_fraction, as_int, as_matrix, as_real, as_rng

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["PrivacyAudit", "audit_release"]

Scores = tuple[np.ndarray, np.ndarray]  # of the runs of either world


@dataclass(frozen=True, eq=False)
class PrivacyAudit(Result):
    """What an attack could tell.

    Attributes
    ----------
    epsilon_low : float
        Lower confidence limit of ε at `delta`.
    mu_low : float
        Lower confidence limit of μ.
    epsilon, mu : float
        What the mechanism claims; μ is infinite for pure differential privacy.
    runs : int
        Of each world.
    attack : str
        What was attacked, and how.
    certificates : tuple of Certificate
        ``audit-epsilon``, and ``audit-mu`` for Gaussian noise.
    curve : ndarray, shape (2, m)
        False alarms and misses over all thresholds, on the runs that were tested.
    """

    epsilon_low: float
    mu_low: float
    epsilon: float
    mu: float
    delta: float
    runs: int
    attack: str
    certificates: tuple[Certificate, ...]
    curve: np.ndarray

    def draw(self, ax: Axes) -> None:
        """Misses over false alarms, beside what the claim allows."""
        alarms = np.linspace(0, 1, 200)
        ax.plot(*self.curve, color=PALETTE["ours"], label="attack")
        if math.isfinite(self.mu):
            allowed = norm.cdf(norm.ppf(1 - alarms) - self.mu)
            ax.plot(alarms, allowed, "--", color=PALETTE["other"], label="claim, as μ")
        allowed = np.maximum(1 - self.delta - math.exp(self.epsilon) * alarms, 0)
        allowed = np.maximum(allowed, math.exp(-self.epsilon) * (1 - self.delta - alarms))
        ax.plot(alarms, allowed, ":", color=PALETTE["third"], label="claim, as ε")
        ax.set(xlabel="false alarms", ylabel="misses", xlim=(0, 1), ylim=(0, 1))
        ax.legend(frameon=False)


def audit_release(
    make_mechanism: Callable[[], Any] | ReleasePlan,
    *,
    n: int = 2_000,
    delta: float = 1e-6,
    confidence: float = 0.95,
    adaptive: bool = False,
    challenge: int = 1,
    others: Any = None,
    rng: np.random.Generator | int | None = None,
) -> PrivacyAudit:
    """Attack a mechanism with a pair of streams that differ in one record: all ones against all zeros.

    Each object that `make_mechanism` makes is run by its own ``run(X)``, `n` in each world. The attack is the likelihood ratio
    that the claimed plan implies, the one number that differs most between the worlds, or a logistic regression on the 64 that
    do, out of values, fractional parts and parities of the answers; whichever tells the worlds apart best on runs that are not
    tested. Nothing is said of other pairs of streams, or of what no such score sees; the certificates name both.

    Parameters
    ----------
    make_mechanism : callable or ReleasePlan
        Makes a fresh mechanism at each call: an object with ``plan`` and ``run(X)``, see :class:`Mechanism`. A plan in its
        place is a shortcut that attacks the noise of this library's counters, many runs side by side; it runs no object of
        yours, and says so.
    n : int
        Runs of each world.
    delta : float
        δ at which ε is bounded; 0 is used for a pure mechanism.
    confidence : float
        Of each limit.
    adaptive : bool
        Whether the other records depend on earlier answers: each is put where the count is under-estimated.
    challenge : int
        Number of the record in which the streams differ. The first one lies in the most noisy numbers.
    others : array_like, shape (T, d), optional
        The other records, in both streams; zeros by default, where a leak that waits for ones does not show. Row `challenge`
        is put in its place. Only where objects are run, and none is chosen by `adaptive`.
    rng : numpy.random.Generator, int or None
        Of the attack's own choices. The mechanism's noise is its own.

    Returns
    -------
    PrivacyAudit

    Raises
    ------
    TypeError, ValueError
        If the mechanism has no ``plan`` or ``run``, or a number is out of range.
    """
    n, adaptive = as_int(n, "n", low=100), as_bool(adaptive, "adaptive")
    confidence, random = as_fraction(confidence, "confidence"), as_rng(rng)
    if isinstance(make_mechanism, ReleasePlan):
        plan = make_mechanism
        challenge = as_int(challenge, "challenge", low=1, high=plan.T)
        if others is not None:
            raise ValueError(
                "others must be left out where a plan is given: its noise has no records"
            )
        seen = attack_plan(plan, n, challenge, adaptive)
    else:
        first = make_mechanism()
        plan = getattr(first, "plan", None)
        if not isinstance(plan, ReleasePlan) or not callable(getattr(first, "run", None)):
            raise TypeError(
                "make_mechanism must make an object with plan and run(X), see Mechanism"
            )
        challenge = as_int(challenge, "challenge", low=1, high=plan.T)
        if others is not None:
            if adaptive:
                raise ValueError("others must be left out with adaptive=True, which chooses them")
            others = as_matrix(others, "others")
            if others.shape != (plan.T, plan.d) or not np.isin(others, (0, 1)).all():
                raise ValueError(
                    f"others must be zeros and ones of shape ({plan.T}, {plan.d}), got shape {others.shape}"
                )
            others = others.astype(np.uint8)
            others[challenge - 1] = 0
        seen = attack_objects(make_mechanism, first, plan, n, challenge, adaptive, others, random)
    return _judged(plan, seen, n, delta, confidence)


def _judged(plan: ReleasePlan, seen: Seen, n: int, delta: float, confidence: float) -> PrivacyAudit:
    delta = 0.0 if plan.budget.pure else as_real(delta, "delta", low=0, high=1, open_ends=True)
    level = (1 - confidence) / 2  # of each of the two limits that make one of ε or μ

    def epsilon_at(F: Any, G: Any) -> Any:
        return _epsilon(F, G, delta)

    # Errors of a shift are best told apart in the middle.
    eps, _ = _chosen(seen, epsilon_at, level, 0.001)
    mu, mu_test = _chosen(seen, _mu, level, 0.25)
    tested = len(seen.test[0][0])
    edge = proportion(0, tested, level=1 - 2 * level).high
    claims = plan.budget.at(delta) if delta else plan.budget.size, plan.budget.mu
    attacks = []
    for claimed, shown, value in ((claims[0], eps, epsilon_at), (claims[1], mu, _mu)):
        most = float(value(edge, edge))
        attacks.append(
            Attack(
                plan,
                seen.attack,
                seen.streams,
                seen.read,
                n,
                tested,
                shown,
                claimed,
                most,
                seen.objects,
                seen.ours,
                seen.fresh,
                seen.repeated,
            )
        )
    certificates = [audit_epsilon(attacks[0])]
    if math.isfinite(claims[1]) and not (
        plan.query == "sumselect" and plan.strategy == "recompute"
    ):
        certificates.append(audit_mu(attacks[1]))
    grid = np.quantile(np.concatenate(mu_test), np.linspace(0, 1, 200))
    curve = np.array([[(mu_test[0] > c).mean(), (mu_test[1] <= c).mean()] for c in grid]).T
    attack = f"{seen.attack}; {seen.streams}"
    return PrivacyAudit(eps.low, mu.low, *claims, delta, n, attack, tuple(certificates), curve)


def _chosen(
    seen: Seen, value: Callable[[Any, Any], Any], level: float, tail: float
) -> tuple[Estimate, Scores]:
    """The score and threshold that promise most on runs that are not tested, and what they show on those that are."""
    found = [_best(scores, value, level, tail) for scores in seen.choose]
    which = max(range(len(found)), key=lambda i: found[i][0])
    scores, threshold = seen.test[which], found[which][1]
    alarms, misses = int((scores[0] > threshold).sum()), int((scores[1] <= threshold).sum())
    rates = [
        proportion(k, len(w), level=1 - 2 * level)
        for k, w in zip((alarms, misses), scores, strict=True)
    ]
    low = max(0.0, float(value(*(r.high for r in rates))))
    high = max(low, float(value(*(max(r.low, 0.0) for r in rates))))
    centre = float(value(*(min(max(r.value, 1e-12), 1 - 1e-12) for r in rates)))
    method = "Clopper-Pearson limits of both errors"
    shown = Estimate.between(
        low, high, value=centre, level=1 - 2 * level, n=len(scores[0]), method=method
    )
    return shown, scores


def _epsilon(F: Any, G: Any, delta: float) -> Any:
    """ε that a mechanism has at least, whose attack errs by F and G."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = (np.divide(1 - delta - F, G), np.divide(1 - delta - G, F))
        return np.log(np.maximum(np.maximum(*ratios), 1.0))


def _mu(F: Any, G: Any) -> Any:
    """μ that it has at least."""
    return norm.ppf(1 - np.asarray(F)) - norm.ppf(G)


def _best(
    worlds: Sequence[np.ndarray], value: Callable[[Any, Any], Any], level: float, tail: float
) -> tuple[float, float]:
    """What a score promises at best on runs that are not tested, and its threshold."""
    # Limits as for the runs at hand: an extreme threshold that looks good by chance is punished for how few runs lie beyond.
    grid = np.unique(np.quantile(np.concatenate(worlds), np.linspace(tail, 1 - tail, 400)))
    size = len(worlds[0])
    ordered = [np.sort(w) for w in worlds]
    alarms = size - np.searchsorted(ordered[0], grid, side="right")
    misses = np.searchsorted(ordered[1], grid, side="right")
    upper = [
        np.minimum(beta.ppf(1 - level, k + 1, np.maximum(size - k, 0.5)), 1 - 1e-12)
        for k in (alarms, misses)
    ]
    promised = value(*upper)
    at = int(np.argmax(promised))
    return float(promised[at]), float(grid[at])
