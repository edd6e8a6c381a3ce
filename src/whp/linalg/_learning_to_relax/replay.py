"""Learners replayed on a table of all counts: what they lose on average, without another solve."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np

from whp.bandits import tsallis_inf
from whp.certificate import Answer, Certificate
from whp.concentration import betting
from whp.door import AtLeast, Fraction, front_door
from whp.intervals import Estimate
from whp.linalg._learning_to_relax import chebyshev
from whp.linalg._learning_to_relax import theorems as th
from whp.linalg._learning_to_relax.tuner import BINS, DEGREE, RATE, as_range, bin_of, refuse_ignored
from whp.progress import track
from whp.result import PALETTE, Result
from whp.validate import as_matrix, as_vector, private_stream

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Replay", "fixed_scale", "replay_counts", "replayed"]

CHUNK = 25  # replays between two looks at the progress bar
Learner = Literal["tsallis", "tsallis-cb", "chebcb"]


@dataclass(frozen=True, eq=False)
class Replay(Result):
    """What a learner pays on average on a table of counts.

    Attributes
    ----------
    expected : Estimate
        Iterations a system.
    regret : Estimate
        Iterations in all above the comparator: the best fixed ω, the best one of each bin, or each
        system's own best.
    bound : Estimate
        Expectation of the executed bound on it.
    uniform : float
        Regret of an ω that is drawn uniformly.
    best_fixed : float
        Iterations a system of the best fixed ω.
    best_each : float
        Iterations a system of each system's own best ω.
    """

    learner: str
    replays: int
    expected: Estimate
    best_fixed: float
    best_each: float
    regret: Estimate
    bound: Estimate
    uniform: float
    certificates: tuple[Certificate, ...]
    paid: np.ndarray = field(repr=False, default_factory=lambda: np.zeros(0))

    def summary(self) -> dict[str, bool | int | float | str | None]:
        """Iterations a system, and regret with its interval."""
        return {
            "learner": self.learner,
            "replays": self.replays,
            "expected_iterations_a_system": self.expected.value,
            "best_fixed_omega_takes": self.best_fixed,
            "best_omega_of_each_system_takes": self.best_each,
            "expected_regret": str(self.regret),
            "expected_bound": str(self.bound),
        }

    def draw(self, ax: Axes) -> None:
        """Iterations a system over the replays."""
        ax.hist(self.paid, bins=30, color=PALETTE["ours"])
        ax.axvline(self.best_fixed, color=PALETTE["other"], label="best fixed ω")
        ax.axvline(self.best_each, color=PALETTE["quiet"], label="best ω of each system")
        ax.set(xlabel="iterations a system", ylabel="replays")
        ax.legend(frameon=False)


def fixed_scale(rate: str) -> float:
    """σ of "fixed:σ"; 0 for "running"."""
    return tsallis_inf.TsallisINF(1, rate)._sigma


def _largest_bound(costs: np.ndarray, cell: np.ndarray, sigma: float) -> float:
    """What the executed bound of Tsallis-INF cannot exceed on this table, whatever is drawn."""
    d, total = costs.shape[1], 0.0
    for c in np.unique(cell):
        part = costs[cell == c] - 1
        n = np.arange(1, len(part) + 1)
        scale = np.maximum(part.max(), 1.0) if sigma == 0 else sigma
        least = np.cumsum(part.min(axis=1)) / n if sigma == 0 else np.full(len(part), sigma)
        # R_t follows the mean of t − 1 costs and never falls; that of the first round is R_2.
        rate = np.maximum(np.roll(least, 1), 1.0 if sigma == 0 else 0.0) * np.sqrt(n)
        rate[0] = np.sqrt(2) * max(least[0], 1.0 if sigma == 0 else 0.0)
        rate = np.maximum.accumulate(rate)
        # Σ√p v ≤ ‖v‖ for probabilities p.
        unit = max(float(part.max()), 1.0)  # fourth powers of large counts overflow
        total += float((unit**2 * np.sqrt(((part / unit) ** 4).sum(axis=1)) / rate).sum())
        total += 2 * (math.sqrt(d) - 1) * scale * math.sqrt(len(part) + 1)
    return total


def replayed(
    counts: np.ndarray,
    learner: str,
    answers: tuple[Answer, Answer],
    *,
    contexts: np.ndarray | None,
    context_range: tuple[float, float] | None,
    bins: int,
    degree: int,
    rate: str,
    replays: int,
    delta: float,
    most: float,
    rng: np.random.Generator,
) -> Replay:
    """Replays of a learner on a table of counts, with its certificates."""
    T, d = counts.shape
    costs = np.ascontiguousarray(counts, dtype=np.float64)
    cell = np.zeros(T, dtype=np.int64)
    sigma, span = 0.0, (0.0, 1.0)
    if learner != "tsallis":
        assert contexts is not None
        assert context_range is not None
        span = context_range
    if learner == "tsallis-cb":
        assert contexts is not None
        cell = np.array([bin_of(float(c), *span, bins) for c in contexts])
    paid, bounds = np.empty(replays), np.empty(replays)
    phi = chebyshev.features(contexts, *span, degree) if learner == "chebcb" else None  # type: ignore[arg-type]
    if phi is None:
        sigma = fixed_scale(rate)
    for start in track(range(0, replays, CHUNK), "replaying the learner"):
        part = slice(start, min(start + CHUNK, replays))
        uniforms = rng.random((part.stop - part.start, T))
        if phi is None:
            tsallis_inf.replays(
                costs, cell, cell.max() + 1, sigma, uniforms, paid[part], bounds[part]
            )
        else:
            chebyshev.replays(costs, phi, span[1] - span[0], uniforms, paid[part], bounds[part])
    fixed = float(costs.sum(axis=0).min())
    each = float(costs.min(axis=1).sum())
    against = fixed
    if learner == "tsallis-cb":
        against = sum(float(costs[cell == c].sum(axis=0).min()) for c in np.unique(cell))
    elif learner == "chebcb":
        against = each
    least, largest = each, float(costs.max(axis=1).sum())
    over = largest - each if phi is not None else _largest_bound(costs, cell, sigma)
    share = delta / 2
    measured = _mean(paid - against, share, least - against, largest - against)
    facts = th.Regret(
        learner,
        d,
        T,
        delta,
        most,
        measured,
        _mean(bounds, share, 0.0, over),
        float(costs.mean(axis=1).sum()) - against,
    )
    expected = _over(measured, T, against)
    made = [th.regret(facts, answers)]
    if learner != "tsallis":
        uniform = float(costs.mean())
        made.append(th.no_worse(facts, expected, fixed / T, uniform, answers))
    if learner == "tsallis" and sigma > 0:
        highest = float(costs.max()) - 1
        known = th.RANGE_KNOWN.check(
            highest <= sigma, f"{sigma:g} was set, the largest count less 1 is {highest:g}"
        )
        made.append(th.worst_case(facts, sigma, (*answers, known)))
    assert facts.bound is not None
    return Replay(
        learner,
        replays,
        expected,
        fixed / T,
        each / T,
        measured,
        facts.bound,
        facts.uniform,
        tuple(made),
        paid / T,
    )


def _mean(values: np.ndarray, delta: float, low: float, high: float) -> Estimate:
    """Mean over replays, by betting on the range that the table allows, rounding included."""
    room = 1e-9 * (abs(low) + abs(high) + 1)
    return betting(
        np.clip(values, low - room, high + room), delta, low=low - room, high=high + room
    )


def _over(e: Estimate, T: int, plus: float) -> Estimate:
    value, low, high = ((v + plus) / T for v in (e.value, e.low, e.high))
    return Estimate(value, low, high, e.level, e.n, e.method)


@front_door
def replay_counts(
    counts: Any,
    learner: Learner = "tsallis",
    *,
    contexts: Any = None,
    context_range: tuple[float, float] | None = None,
    bins: Annotated[int, AtLeast(1)] | None = None,
    degree: Annotated[int, AtLeast(1)] | None = None,
    rate: str | None = None,
    replays: Annotated[int, AtLeast(20)] = 1000,
    delta: Annotated[float, Fraction()] = 0.05,
    rng: np.random.Generator | int | None = None,
) -> Replay:
    """What a learner pays on average on a table of counts, over independent replays.

    Parameters
    ----------
    counts : array_like, shape (T, d)
        What each ω costs on each system, at least 1: see :func:`whp.linalg.run_grid`. A table with names may
        have a column `system`, as the counts.csv of a run does: it is no ω, and left out.
    learner : {"tsallis", "tsallis-cb", "chebcb"}
        As in :class:`whp.linalg.RelaxationTuner`.
    contexts : array_like, shape (T,), optional
        For "tsallis-cb" and "chebcb".
    context_range : (float, float), optional
        By default from the least to the largest context.
    bins, degree, rate
        As in :class:`whp.linalg.RelaxationTuner`.
    replays : int
        How many runs with draws of their own.
    delta : float
        Probability with which either interval may be wrong.
    rng : numpy.random.Generator, int or None
        Of the draws.

    Returns
    -------
    Replay

    Raises
    ------
    TypeError, ValueError
        If counts are below 1 or not finite, or contexts are missing.

    Examples
    --------
    >>> table = np.where(np.arange(3) == 1, 5, 30) * np.ones((300, 1))
    >>> made = replay_counts(table, replays=200, rng=0)
    >>> made.best_fixed
    5.0
    """
    if "system" in getattr(counts, "columns", ()):
        counts = counts[[name for name in counts.columns if name != "system"]]
    table = as_matrix(counts, "counts", dtype=np.float64)
    if table.min() < 1 or table.max() > 1e100:
        raise ValueError(f"counts must be from 1 to 1e100, got {table.min():g} to {table.max():g}")
    given = (
        None
        if contexts is None
        else as_vector(contexts, "contexts", size=len(table), dtype=np.float64)
    )
    if learner == "tsallis":
        if given is not None or context_range is not None:
            raise ValueError("contexts must go with tsallis-cb or chebcb, tsallis ignores them")
    elif given is None:
        raise ValueError(f"contexts must be given for {learner}, got None")
    elif context_range is None:
        context_range = as_range((given.min(), given.max()), learner)
    else:
        context_range = as_range(context_range, learner)
    refuse_ignored(learner, bins=bins, degree=degree, rate=rate)
    answers = (
        th.OBLIVIOUS.by_construction("every ω's counts stand in a table that was given"),
        th.COSTS.unchecked("a table does not show which solves converged"),
    )
    return replayed(
        table,
        learner,
        answers,
        contexts=given,
        context_range=context_range,
        bins=bins or BINS,
        degree=degree or DEGREE,
        rate=rate or RATE,
        replays=replays,
        delta=delta,
        most=math.inf,
        rng=private_stream(rng),
    )
