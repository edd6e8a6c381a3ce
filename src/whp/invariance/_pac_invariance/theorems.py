"""The theorems of approximate invariance, and the certificates that evaluate them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from whp.certificate import Answer, Certificate
from whp.intervals import Estimate, exact, proportion
from whp.invariance._pac_invariance import bounds
from whp.theorem import AT_MOST, POPULATION, THIS_RUN, Condition, Derived, Theorem

__all__ = [
    "CONDITION_NUMBER",
    "FIXED",
    "GAUSSIAN",
    "INDEPENDENT",
    "MOMENTS",
    "OPTIMUM",
    "POPULATION_VALUE",
    "SAME_LAW",
    "SCENARIO",
    "SEM",
    "SPLIT",
    "SPLIT_HERE",
    "THEOREMS",
    "UNIFORM",
    "WELL_POSED",
    "Evidence",
    "moments",
    "population",
    "scenario",
    "split",
    "uniform",
]

CONDITION_NUMBER = 1e8
OPTIMAL = 1e-6
HALF = 0.5
QUADRATURE = (
    1e-3  # what the minimum over a grid of sizes and the quadrature may miss of a probability
)

INDEPENDENT = Condition(
    "independent-draws",
    "environments (blocks, where they are given) are independent draws from one law",
    "give the environments of one draw (month, chain, batch) as blocks=, each row in one environment, "
    "and model what drifts.",
)
SAME_LAW = Condition(
    "same-law",
    "the new environment is drawn from that law too",
    "fit again with environments like the new one.",
)
WELL_POSED = Condition(
    "well-posed",
    "in each environment the columns do not repeat each other (condition number at most 1e8)",
    "leave one of the columns out, or that environment.",
)
FIXED = Condition(
    "fixed-before",
    "head, features, columns, candidate subsets, options, the seed and the environments left out were "
    "settled without the results of these environments",
    "certify with environments that neither taught nor chose anything.",
)
OPTIMUM = Condition(
    "optimal-head",
    "the head is the minimax head of the fitted environments (duality gap at most 1e-6)",
    "leave out columns that nearly repeat others; where the head was changed, fit again.",
)
SPLIT_HERE = Condition(
    "random-split",
    "the held-out environments were drawn at random, all alike, by this library",
    "pass test_env as a fraction, and let rng draw the environments.",
)
GAUSSIAN = Condition(
    "gaussian-rows",
    "rows of an environment are independent, their columns Gaussian, their noise Gaussian of one variance",
    "rely on scenario, which needs no law of the rows.",
)
SEM = Condition(
    "linear-sem",
    "environments are linear acyclic models that differ by coefficients at the given sites alone, and the "
    "covariances are exact, not estimated",
    "leave sites out.",
)

SCENARIO = Theorem(
    "scenario",
    claim="a new environment, drawn as these were, loses more than epsilon by this head against its own "
    "best head with probability at most the bound",
    quantity="share of held-out environments whose residual exceeds epsilon",
    relation=AT_MOST,
    scope=POPULATION,
    source=Derived("pac-invariance#scenario", extends="Campi and Garatti 2008, theorem 1"),
    conditions=(INDEPENDENT, SAME_LAW, WELL_POSED, FIXED, OPTIMUM),
    needs="hold environments out: test_env=0.5.",
    remedy="do not use this head in new environments: those held out differ from those fitted.",
)
SPLIT = Theorem(
    "split",
    claim="of the environments of this table that were held out at random, at most the bound exceed epsilon",
    quantity="held-out environments whose residual exceeds epsilon",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived("pac-invariance#split", extends="Campi and Garatti 2008"),
    conditions=(SPLIT_HERE, WELL_POSED, OPTIMUM),
    remedy="hold fewer environments out, or fit fewer columns.",
)
UNIFORM = Theorem(
    "uniform",
    claim="whatever head and epsilon are chosen on these environments: the normal equations of a new one "
    "are off by more than the largest of these with probability at most the bound",
    quantity="share of held-out environments whose normal equations, in their own standard deviations, are "
    "off by more",
    relation=AT_MOST,
    scope=POPULATION,
    source=Derived("pac-invariance#uniform", extends="Parulekar, Shanmugam, Shakkottai 2023"),
    conditions=(INDEPENDENT, SAME_LAW, WELL_POSED, FIXED),
    needs="hold environments out: test_env=0.5.",
    remedy="its constants want thousands of environments; scenario says more.",
)
MOMENTS = UNIFORM.variant(
    name="uniform-moments",
    claim="whatever head and epsilon are chosen on these environments: the normal equations of a new one "
    "are off by more than epsilon with probability at most the bound",
    quantity="share of held-out environments whose normal equations are off by more than epsilon",
    conditions=(INDEPENDENT, SAME_LAW, FIXED, SEM),
    needs="give the moments of held-out environments.",
)
POPULATION_VALUE = Theorem(
    "population",
    claim="a new environment has a number of rows as these had, and a true loss against its own best head "
    "of at least t standard deviations of its noise, with probability at most the bound",
    quantity="probability that a new environment has a true loss of t or more",
    relation=AT_MOST,
    scope=POPULATION,
    source=Derived("pac-invariance#population"),
    conditions=(INDEPENDENT, SAME_LAW, WELL_POSED, FIXED, OPTIMUM, GAUSSIAN),
    needs="true losses, which rows do not show; a simulation can.",
    remedy="give more rows an environment, or more environments.",
)
THEOREMS = (SCENARIO, SPLIT, UNIFORM, MOMENTS, POPULATION_VALUE)

LOSES = "loses more than epsilon by this head against its own best head"
IN_WORDS = {  # what epsilon is of, where it is no share of the target's variance
    "excess_residual": f"{LOSES}, in standard deviations of what that one leaves,",
    "gradient": "has normal equations that are off by more than epsilon at this head",
}
VOUCHES = (
    "nothing here vouches for a new hospital, month or site unless it is drawn like these; for another "
    "environment of this table the split does"
)


@dataclass(frozen=True, eq=False)
class Evidence:
    """What certificates are made of.

    Attributes
    ----------
    draws : int
        Environments, or blocks, that were fitted.
    size : int
        Columns of the head, a common intercept among them.
    variables : int
        Decision variables of the programme: those and epsilon; 1 where the head was given.
    delta, share : float
        Failure probability, and the part of it that this subset has.
    searched : int
        Subsets that share delta.
    epsilon : float
        The largest residual that was fitted.
    trivial : float
        Share of fitted draws in which saying nothing exceeds epsilon.
    held_out, exceed : int
        Draws held out, and those that exceed epsilon.
    rows : (int, int)
        Fewest and most rows of a fitted environment.
    answers : dict of str to Answer
    unit : str
        "environment" or "block".
    metric : str
        What epsilon is a residual of.
    inputs : dict
        What is printed beside every verdict.
    """

    draws: int
    size: int
    variables: int
    delta: float
    share: float
    searched: int
    epsilon: float
    trivial: float
    held_out: int
    exceed: int
    rows: tuple[int, int]
    answers: dict[str, Answer]
    unit: str = "environment"
    metric: str = "excess"
    inputs: dict[str, bool | int | float | str] = field(default_factory=dict)

    @property
    def eta(self) -> float:
        """Probability of a violation that is promised."""
        return bounds.violation(self.draws, self.variables, self.share)

    def of(self, theorem: Theorem) -> list[Answer]:
        """Answers to a theorem's conditions."""
        return [self.answers[c.name] for c in theorem.conditions]

    def named(self, theorem: Theorem, **changes: str) -> Theorem:
        """The theorem in the words of this run: of blocks, where blocks are draws, and of its metric."""
        claim = theorem.claim.replace(LOSES, IN_WORDS.get(self.metric, LOSES))
        changes = {"claim": claim, **changes}
        if self.unit == "block":
            changes = {
                **changes,
                "claim": claim.replace(
                    "a new environment, drawn as these were,",
                    "a new block, drawn as these were, has an environment that",
                ).replace("environments of this table", "blocks of this table"),
                "quantity": theorem.quantity.replace(
                    "held-out environments whose", "held-out blocks with an environment whose"
                ),
            }
        return theorem.variant(**changes)

    def shown(self) -> dict[str, bool | int | float | str]:
        """Numbers that went into the bound."""
        wanted = bounds.draws_needed(self.variables, 0.1, self.share)
        few = {f"{self.unit}s for a bound of .1": wanted} if self.eta > 0.1 else {}
        return {
            f"{self.unit}s fitted": self.draws,
            **few,
            "variables": self.variables,
            "subsets searched": self.searched,
            "delta": self.delta,
            "epsilon": self.epsilon,
            **self.inputs,
        }


def scenario(e: Evidence) -> Certificate:
    """How often a new environment may exceed epsilon."""
    wanted = bounds.draws_needed(e.variables, 0.1, e.share)
    few = (
        f"{wanted} {e.unit}s fitted would bring the bound to .1 (there were {e.draws})"
        if e.eta > 0.1
        else "take columns that predict"
    )
    changes = {}
    if e.eta >= e.trivial:
        weak = (
            "saying nothing stays within epsilon nearly as often: invariant only because weak; "
            if e.trivial < 1
            else ""
        )
        changes["remedy"] = f"{weak}{few}."
    if e.held_out:
        wanted = bounds.held_out_needed(e.eta)
        changes["needs"] = (
            f"a 95 % interval below {e.eta:.3g} takes at least {wanted} held-out {e.unit}s, none of "
            f"which exceeds epsilon; there were {e.held_out}, {e.exceed} of which did."
        )
    return e.named(SCENARIO, **changes)(
        bound=e.eta,
        confidence=1 - e.delta,
        trivial=e.trivial,
        measured=proportion(e.exceed, e.held_out) if e.held_out else None,
        answers=e.of(SCENARIO),
        inputs=e.shown(),
    )


def split(e: Evidence, trivial: float) -> Certificate:
    """How many of the held-out environments of this table may exceed epsilon.

    `trivial` is how many of them saying nothing exceeds.
    """
    return e.named(SPLIT)(
        bound=float(bounds.split_count(e.draws, e.held_out, e.variables, e.share)),
        confidence=1 - e.delta,
        trivial=trivial,
        measured=exact(float(e.exceed)),
        answers=e.of(SPLIT),
        inputs={**e.shown(), f"{e.unit}s held out": e.held_out},
    )


def uniform(
    e: Evidence, gradients: np.ndarray, of_zero: np.ndarray, held_out: np.ndarray
) -> Certificate:
    """The theorem for all heads at once, from each draw's gradient at the head and at zero."""
    threshold = largest(gradients)
    v = bounds.vc_dimension("subset", size=e.size)
    exceed = int((held_out > threshold).sum())
    return e.named(UNIFORM)(
        bound=bounds.uniform(e.draws, v, e.share),
        confidence=1 - e.delta,
        trivial=float((of_zero > threshold).mean()),
        measured=proportion(exceed, len(held_out)) if len(held_out) else None,
        answers=e.of(UNIFORM),
        inputs={**e.shown(), "VC dimension": v, "largest gradient": threshold},
    )


def largest(gradients: np.ndarray, rounding: float = 1e-12) -> float:
    """The largest gradient, and what rounding may have taken from it; by default of correlations."""
    return float(gradients.max() * (1 + 1e-9) + rounding)


def population(e: Evidence, of_zero: np.ndarray) -> Certificate:
    """What the residuals say of true losses, for Gaussian rows; `of_zero` are residuals of saying nothing."""
    t = bounds.noticeable(e.rows, e.size, e.epsilon)
    seen = bounds.least_detection(t, e.rows, e.size, e.epsilon) - QUADRATURE
    return POPULATION_VALUE(
        bound=min(1.0, e.eta / seen),
        confidence=1 - e.delta,
        trivial=float((of_zero >= t).mean()),
        answers=e.of(POPULATION_VALUE),
        inputs={
            **e.shown(),
            "t": t,
            "chance that a residual shows t": seen,
            "fewest rows": e.rows[0],
            "most rows": e.rows[1],
        },
    )


def moments(
    gradients: np.ndarray,
    of_zero: np.ndarray,
    held_out: np.ndarray,
    epsilon: float,
    size: int,
    sites: tuple[int, int] | None,
    delta: float,
    answers: dict[str, Answer],
) -> Certificate:
    """The theorem for all heads at once, of moments that were given."""
    m = len(gradients)
    theorem, v, kind = MOMENTS, bounds.vc_dimension("subset", size=size), "subset"
    if sites is not None:
        family = bounds.vc_dimension("sites", sites=sites[0], in_degree=sites[1])
        if family < v:
            v, kind = family, "sites"
    if kind == "subset":  # the smaller class needs no model
        theorem = MOMENTS.variant(conditions=(INDEPENDENT, SAME_LAW, FIXED))
    measured: Estimate | None = None
    if len(held_out):
        measured = proportion(int((held_out > epsilon).sum()), len(held_out))
    return theorem(
        bound=bounds.uniform(m, v, delta),
        confidence=1 - delta,
        trivial=float((of_zero > epsilon).mean()),
        measured=measured,
        answers=[answers[c.name] for c in theorem.conditions],
        inputs={
            "environments": m,
            "VC dimension": v,
            "class": kind,
            "epsilon": epsilon,
            "delta": delta,
        },
    )
