"""The certificates of a table: what it is asked to keep to, against what is returned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from whp.certificate import Answer, Certificate
from whp.intervals import Estimate
from whp.llm._information_censorship import theorems as th
from whp.llm._information_censorship.attack import composed
from whp.llm._information_censorship.leakage import Measure, TooMany
from whp.llm._information_censorship.mechanism import Censor, leaked, output
from whp.llm._information_censorship.price import left, shared
from whp.llm._information_censorship.system import System

__all__ = ["Setting", "certify"]


@dataclass(frozen=True)
class Setting:
    """A system behind its censor.

    Attributes
    ----------
    systems : tuple of System
        The same under every prior that counts.
    matrices : list of ndarray
        P(returned | response) of every question.
    how : Measure
        How gains are counted.
    k : int
        Interactions.
    eps, ceiling : float
        Budget and H, nats.
    most : int
        Histories that are summed.
    censor : Censor or None
        Where the matrices are those of a calibrated one.
    """

    systems: Sequence[System]
    matrices: list[np.ndarray]
    how: Measure
    k: int
    eps: float
    ceiling: float
    most: int
    censor: Censor | None

    def leaked(self, matrices: Sequence[np.ndarray] | None = None) -> float:
        """By the best adaptive adversary, of the worst prior."""
        given = self.matrices if matrices is None else matrices
        return max(leaked(s, given, self.k, self.how, self.most) for s in self.systems)


def certify(
    s: Setting,
    measured: Estimate | None,
    uncensored: float,
    *,
    calibrate: str,
    any_prior: bool,
    sample: bool,
    benign: np.ndarray | None,
) -> tuple[Certificate, ...]:
    """Leakage and its bound; of all questions together their composition, and with `benign` what it must cost."""
    system, how = s.systems[0], s.how
    average = how.kind == "expected" and how.truth == "average"
    coins = th.COINS.by_construction(
        "each answer passes through a matrix of its own, and their law is what was evaluated"
    )
    limit = th.LIMIT.unchecked(_second_account(s))
    prior = th.PRIOR.unchecked(_other_prior(s))
    side = th.SIDE.unchecked("latency and wording are not in a table")
    table = th.TABLE.unchecked(
        "whether the table is the system cannot be seen from it; the confidence is about the table"
    )
    told = "not at all"
    if s.censor is not None:
        told = {"exact": "exact: checks the arithmetic"}.get(calibrate, calibrate)
    kind = "worst-case" if how.truth == "worst" else how.kind
    evidence = th.Evidence(
        s.k, s.eps, s.ceiling, uncensored, measured, coins, limit, prior, side, table, kind, told
    )
    made = [th.leakage(evidence, sample=sample)]
    if s.censor is not None:
        covered: Answer = prior
        if any_prior:
            covered = th.PRIOR.by_construction("H is the largest over all priors")
        elif sample:
            covered = th.PRIOR.unchecked(
                "H is estimated from the rows; priors='any' needs none of them"
            )
        # Rows of a sample say nothing exact of the population's leakage.
        made.append(
            th.universal(s.censor, None if sample else measured, (coins, limit, covered, side))
        )
    if sample or measured is None or not average or s.k < len(s.matrices) or measured.level < 1:
        return tuple(made)
    merged = system.merged()
    terms = composed(merged, output(merged, s.matrices), how.mask)
    joint = leaked(system, s.matrices, s.k, how, s.most)
    ceiling = how.ceiling(system.probabilities)
    made.append(
        th.composition(terms.single, terms.dependence, terms.rest, ceiling, joint, table, coins)
    )
    if benign is not None:
        common, rest = shared(system, benign), left(system, s.matrices, benign)[0]
        made.append(th.utility(s.eps, common, rest, measured.value, bool(how.mask.all()), table))
    return tuple(made)


def _second_account(s: Setting) -> str:
    told = "accounts of one person are not in a table"
    if s.censor is None:
        return told
    bound = f"{told}: of two, the bound is {replace(s.censor, k=2 * s.k).bound:.4g}"
    if s.censor.name == "krr" or not s.systems[0].deterministic or s.how.truth == "worst":
        return bound
    twice = replace(s.censor, strength=1 - (1 - s.censor.strength) ** 2)
    try:
        return f"{told}: two would gain {s.leaked([twice.matrix(size) for size in s.systems[0].sizes]):.4g}"
    except TooMany:
        return bound


def _other_prior(s: Setting) -> str:
    """What somebody gains who holds all answers alike; a number, not a bound."""
    told = "what an adversary believes beforehand is not in a table"
    system = s.systems[0]
    weights = system.prior / system.probabilities[system.answer]
    try:
        other = leaked(system.believed(weights / weights.sum()), s.matrices, s.k, s.how, s.most)
    except ValueError:
        return told
    return f"{told}: who holds all answers alike gains {other:.4g}"
