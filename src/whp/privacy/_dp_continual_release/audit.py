"""An attack on a mechanism: two streams that differ in one record, many runs of each, and how well they are told apart.

Refutes and does not confirm: a lower confidence limit of ε, and of μ, above what the mechanism claims shows that it is broken. For
Gaussian noise μ is the sharper of the two: half the noise at ρ = 0.5 passes for ε at δ = 10⁻⁶ and is caught by μ.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from scipy.signal import fftconvolve
from scipy.stats import beta, norm

from whp.certificate import Certificate
from whp.intervals import exact, proportion
from whp.privacy._dp_continual_release.accuracy import ReleasePlan
from whp.privacy._dp_continual_release.counters import SquareRootCounter, counter
from whp.privacy._dp_continual_release.mechanisms import Mechanism
from whp.progress import track
from whp.result import Result
from whp.undeclared import met, unchecked, undeclared, violated
from whp.validate import as_fraction, as_int, as_real

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["PrivacyAudit", "audit_release"]

BLOCK = 1 << 22  # numbers held at once
FEATURES = 64


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

    def plot(self, ax: Axes | None = None) -> Axes:
        """Misses over false alarms, beside what the claim allows."""
        if ax is None:
            import matplotlib.pyplot as plt

            ax = plt.subplots()[1]
        alarms = np.linspace(0, 1, 200)
        ax.plot(*self.curve, color="tab:blue", label="attack")
        if math.isfinite(self.mu):
            ax.plot(
                alarms,
                norm.cdf(norm.ppf(1 - alarms) - self.mu),
                "--",
                color="tab:orange",
                label="claim, as μ",
            )
        allowed = np.maximum(1 - self.delta - math.exp(self.epsilon) * alarms, 0)
        ax.plot(
            alarms,
            np.maximum(allowed, math.exp(-self.epsilon) * (1 - self.delta - alarms)),
            ":",
            color="tab:green",
            label="claim, as ε",
        )
        ax.set(xlabel="false alarms", ylabel="misses", xlim=(0, 1), ylim=(0, 1))
        ax.legend(frameon=False)
        return ax


def audit_release(
    make_mechanism: Callable[[], Any],
    *,
    n: int = 20_000,
    delta: float = 1e-6,
    confidence: float = 0.95,
    adaptive: bool = False,
    rng: np.random.Generator | int | None = None,
) -> PrivacyAudit:
    """Attack a mechanism on its worst pair of streams: a first record of ones against one of zeros.

    Counts of a :class:`Mechanism` are attacked by the likelihood ratio of all answers, many runs at once. Anything else with
    ``run(X)`` and a ``plan`` is run `n` times in each world, and a logistic regression learns to tell the answers apart.

    Parameters
    ----------
    make_mechanism : callable
        Makes a fresh mechanism.
    n : int
        Runs of each world.
    delta : float
        δ at which ε is bounded; 0 is used for a pure mechanism.
    confidence : float
        Of the limits.
    adaptive : bool
        Whether later records depend on earlier answers: each is put where the count is under-estimated.
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
    n = as_int(n, "n", low=100)
    confidence, random = as_fraction(confidence, "confidence"), np.random.default_rng(rng)
    first = make_mechanism()
    plan = getattr(first, "plan", None)
    if not isinstance(plan, ReleasePlan) or not callable(getattr(first, "run", None)):
        raise TypeError("make_mechanism must make an object with plan and run(X), see Mechanism")
    delta = 0.0 if plan.budget.pure else as_real(delta, "delta", low=0, high=1, open_ends=True)
    linear = type(first) in (Mechanism, *Mechanism.__subclasses__()) and plan.strategy in (
        "tree",
        "sqrt",
        "naive",
    )
    if linear and (plan.query == "counts" or plan.d == 1):
        attack = "likelihood ratio of all answers" + (
            ", records chosen after seeing answers" if adaptive else ""
        )
        zero, one = (_linear(first, n, world, adaptive) for world in (0, 1))
        quarter = n // 4
        train, test = (zero[:quarter], one[:quarter]), (zero[quarter:], one[quarter:])
    else:
        if adaptive:
            raise ValueError("adaptive must be False for a mechanism that is run from outside")
        attack = "logistic regression on the answers"
        train, test = _learned(make_mechanism, plan, n, random)
    level = (1 - confidence) / 2
    eps_at = _best(train, lambda F, G: _epsilon(F, G, delta), level, 0.001)
    mu_at = _best(train, _mu, level, 0.25)  # errors of a shift are best told apart in the middle
    epsilon_low = max(0.0, float(_epsilon(*_limits(test, eps_at, level), delta)))
    mu_low = max(0.0, float(_mu(*_limits(test, mu_at, level))))
    epsilon, mu = plan.budget.at(delta) if delta else plan.budget.size, plan.budget.mu
    grid = np.quantile(np.concatenate(test), np.linspace(0, 1, 200))
    curve = np.array([[(test[0] > c).mean(), (test[1] <= c).mean()] for c in grid]).T
    certificates = _certify(
        plan, first, epsilon_low, mu_low, epsilon, mu, delta, confidence, n, attack
    )
    return PrivacyAudit(epsilon_low, mu_low, epsilon, mu, delta, n, attack, certificates, curve)


def _linear(mechanism: Mechanism, n: int, world: int, adaptive: bool) -> Float[np.ndarray, " n"]:
    """Log-likelihood ratio, up to a constant factor, of n runs side by side: columns are independent."""
    plan = mechanism.plan
    at_once = max(1, BLOCK // (plan.T * plan.d))
    found = []
    for start in track(range(0, n, at_once), f"runs of world {world}"):
        runs = min(at_once, n - start)
        width = runs * plan.d
        inner = counter(plan, mechanism.source, width)
        if adaptive:
            rest = _adaptively(inner, plan.T, width, world)
        else:
            rows = np.zeros((plan.T, width), dtype=np.uint8)
            rows[0] = world
            rest = inner.advance(rows)
        found.append(_statistic(inner, plan, rest).reshape(runs, plan.d).sum(axis=1))
    return np.concatenate(found)


def _adaptively(inner: Any, T: int, width: int, world: int) -> Float[np.ndarray, "T width"]:
    """Answers less what the adversary put in itself: a one wherever the last answer was below the count it knows of."""
    rest = np.empty((T, width))
    known = np.zeros(width)
    rows = np.full((1, width), world, dtype=np.uint8)
    for t in range(T):
        answer = inner.advance(rows)[0]
        rest[t] = answer - known
        rows = (rest[t] < 0.5).astype(np.uint8)[None]
        known += rows[0]
    return rest


def _statistic(
    inner: Any, plan: ReleasePlan, rest: Float[np.ndarray, "T width"]
) -> Float[np.ndarray, " width"]:
    """The sum of all noisy numbers that hold the first record, each weighted by how much of it it holds."""
    if plan.strategy == "tree":
        return rest[2 ** np.arange(plan.T.bit_length()) - 1].sum(axis=0)
    if plan.strategy == "naive":
        return rest.sum(axis=0)
    assert isinstance(inner, SquareRootCounter)
    R = inner.R / 2.0**inner.bits
    back = np.diff(R, prepend=0.0)  # L⁻¹ = R A⁻¹, and A⁻¹ takes differences
    noisy = fftconvolve(rest, back[:, None], axes=0)[: plan.T]
    return R @ noisy


def _learned(
    make: Callable[[], Any], plan: ReleasePlan, n: int, random: np.random.Generator
) -> Any:
    """Answers of each world at up to 64 times; a quarter of the runs trains, a quarter chooses, the rest is tested."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    times = np.unique(np.linspace(0, plan.T - 1, FEATURES).astype(int))
    seen: list[np.ndarray] = []
    for world in (0, 1):
        X = np.zeros((plan.T, plan.d), dtype=np.uint8)
        X[0] = world
        told = [
            np.asarray(make().run(X), dtype=np.float64)[times].ravel()
            for _ in track(range(n), f"world {world}")
        ]
        seen.append(np.stack(told)[random.permutation(n)])
    quarter = n // 4
    labels = np.repeat([0, 1], quarter)
    features = np.concatenate([s[:quarter] for s in seen])
    if plan.query == "sumselect":  # which column it is, not how large its number
        seen = [np.stack([(s == j).sum(axis=1) for j in range(plan.d)], axis=1) for s in seen]
        features = np.concatenate([s[:quarter] for s in seen])
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(features, labels)
    scores = [model.decision_function(s[quarter:]) for s in seen]
    scores = [
        s + 1e-9 * random.standard_normal(len(s)) for s in scores
    ]  # no threshold falls on a tie
    return tuple(s[:quarter] for s in scores), tuple(s[quarter:] for s in scores)


def _limits(worlds: Any, threshold: float, level: float) -> tuple[float, float]:
    """Upper limits of false alarms and misses, each at half of what is left of the confidence."""
    alarms, misses = int((worlds[0] > threshold).sum()), int((worlds[1] <= threshold).sum())
    return tuple(
        proportion(k, len(w), level=1 - 2 * level).high
        for k, w in zip((alarms, misses), worlds, strict=True)
    )  # type: ignore[return-value]


def _epsilon(F: Any, G: Any, delta: float) -> Any:
    """ε that a mechanism has at least, whose attack errs by F and G."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(np.maximum(np.maximum((1 - delta - F) / G, (1 - delta - G) / F), 1.0))


def _mu(F: Any, G: Any) -> Any:
    """μ that it has at least."""
    return norm.ppf(1 - F) - norm.ppf(G)


def _best(worlds: Any, value: Callable[[Any, Any], Any], level: float, tail: float) -> float:
    """The threshold for which `value` promises most on runs that are not tested."""
    # Limits as for the runs at hand: an extreme threshold that looks good by chance is punished for how few runs lie beyond.
    grid = np.quantile(np.concatenate(worlds), np.linspace(tail, 1 - tail, 400))
    size = len(worlds[0])
    alarms = np.array([(worlds[0] > c).sum() for c in grid])
    misses = np.array([(worlds[1] <= c).sum() for c in grid])
    upper = [
        np.minimum(beta.ppf(1 - level, k + 1, np.maximum(size - k, 0.5)), 1 - 1e-12)
        for k in (alarms, misses)
    ]
    return float(grid[int(np.argmax(value(*upper)))])


def _certify(
    plan: ReleasePlan,
    mechanism: Any,
    epsilon_low: float,
    mu_low: float,
    epsilon: float,
    mu: float,
    delta: float,
    confidence: float,
    n: int,
    attack: str,
) -> tuple[Certificate, ...]:
    independent = met("runs are independent", f"{n} of each world, fresh noise in each")
    secure = getattr(getattr(mechanism, "source", None), "secure", None)
    if secure is None:
        independent = unchecked(
            "runs are independent", "the mechanism does not say where its noise comes from"
        )
    inputs: dict[str, Any] = {
        "runs of each world": n,
        "attack": attack,
        "T": plan.T,
        "budget": str(plan.budget),
    }

    def made(
        name: str, what: str, bound: float, low: float, assumptions: tuple[Any, ...], trivial: float
    ) -> Certificate:
        return undeclared(
            name,
            f"no attack shows more than the {what} that is claimed; measured is the lower confidence limit of an attack, "
            "which refutes and does not confirm",
            "definition of differential privacy; Clopper-Pearson limits of both errors",
            "<=",
            bound,
            confidence,
            exact(low),
            trivial=trivial,
            assumptions=assumptions,
            inputs=inputs,
            remedy="the mechanism is broken if it fails. If it is vacuous, so many runs cannot show more than is claimed: raise n.",
        )

    edge = proportion(0, 3 * n // 4, level=confidence).high
    most = float(_epsilon(edge, edge, delta))
    told = f"ε at δ = {delta:g}" if delta else "ε"
    found = [made("audit-epsilon", told, epsilon, epsilon_low, (independent,), most)]
    if math.isfinite(mu) and not (plan.query == "sumselect" and plan.strategy == "recompute"):
        smooth = (
            "noise is wide enough for the trade-off of a discrete Gaussian to be that of a Gaussian"
        )
        wide = (met if plan.scale >= 1 else violated)(
            smooth, f"σ = {float(plan.scale):.4g}, needed is 1"
        )
        found.append(
            made(
                "audit-mu",
                "μ = √(2ρ)",
                mu,
                mu_low,
                (independent, wide),
                2 * float(norm.ppf(1 - 3 / n)),
            )
        )
    return tuple(found)
