"""What is promised of a private stream and of an attack on it, and what each promise rests on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from whp.certificate import Answer, Certificate
from whp.intervals import Estimate, exact
from whp.privacy._dp_continual_release.accuracy import ReleasePlan
from whp.privacy._dp_continual_release.budget import epsilon_of_rho, simple_epsilon
from whp.privacy._dp_continual_release.price import batch_bound, lower_bound
from whp.theorem import AT_LEAST, AT_MOST, POPULATION, THIS_RUN, Condition, Derived, Theorem

__all__ = [
    "ATTACKED",
    "AUDIT_EPSILON",
    "AUDIT_MU",
    "FRESH",
    "HORIZON",
    "INDEPENDENT",
    "MAX_ERROR",
    "ONCE",
    "ONE_EACH",
    "PRICE",
    "PRIVACY",
    "PUBLIC",
    "RECORDS",
    "THEOREMS",
    "UNCUT",
    "WIDE",
    "Attack",
    "Evidence",
    "audit_epsilon",
    "audit_mu",
    "certify",
    "max_error",
    "privacy",
    "proven_price",
]

PAPER = "Jain, Raskhodnikova, Sivakumar & Smith 2023"
SLUG = "dp-continual-release"
GROUPS = (2, 5, 10)
CUT_FROM = 0.01  # share of the ones from which cutting is no longer small beside noise

RECORDS = Condition(
    "records",
    "records are zeros and ones of one width, and no error told which of them were not",
    remedy="say on_unknown='none' (or 'other') from the first record on: then nothing is told of a bad one.",
)
HORIZON = Condition(
    "horizon", "the stream ends within the horizon", remedy="plan a longer one, or leave T out."
)
ONE_EACH = Condition("one-record-each", "a person owns one record")
FRESH = Condition(
    "fresh-noise",
    "noise is drawn exactly and unforeseeably, once for each number, and no one else goes on with it",
    remedy="begin anew without insecure_seed; noise that was foreseeable once is so for ever.",
)
PUBLIC = Condition(
    "public-plan",
    "horizon, columns, categories and strategy were chosen without the data",
    remedy="begin anew, and give them as arguments, from public knowledge.",
)
ONCE = Condition("released-once", "these records are released this once")
UNCUT = Condition(
    "nothing-cut",
    "cutting to max_ones took less than one in a hundred ones",
    remedy="raise max_ones: the answers are about the records that were cut, and not about the stream as it came.",
)
INDEPENDENT = Condition(
    "independent-runs",
    "the runs that were attacked are independent",
    remedy="make_mechanism must make a new object at each call.",
)
ATTACKED = Condition(
    "object-attacked", "what was attacked is the object whose answers leave, by its own run"
)
WIDE = Condition(
    "wide-noise",
    "noise is wide enough for the trade-off of a discrete Gaussian to be that of a Gaussian",
    remedy="look at audit-epsilon: so little noise has no μ.",
)

PRIVACY = Theorem(
    "privacy",
    claim="all answers together are as private as the budget says (ρ-zCDP, or ε-DP) for streams that differ in one record, "
    "also where records are chosen after seeing answers",
    quantity="ρ, or ε, that the noise really drawn adds up to (an account of the noise, no measurement of privacy)",
    relation=AT_MOST,
    scope=POPULATION,
    source=Derived(
        f"{SLUG}#composition", extends="Canonne, Kamath & Steinke 2020, whose noise it is"
    ),
    conditions=(RECORDS, HORIZON, ONE_EACH, FRESH, PUBLIC, ONCE),
    remedy="the mechanism drew less noise than it was planned for: do not release its answers.",
)
MAX_ERROR = Theorem(
    "max-error",
    claim="with probability 1 − β no answer, at any time, is further than the bound from the stream as it came, or, where "
    "records are cut to max_ones ones, from the cut stream",
    quantity="largest error of an answer against the stream as it came; for sumselect, how far the column named falls short "
    "of the largest count",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived(f"{SLUG}#error", extends=f"{PAPER}, upper bounds"),
    conditions=(RECORDS, HORIZON, UNCUT),
    needs="measure=True and reveal=True, which look at the true counts: the measured error is not private.",
    remedy="a longer stream, fewer columns, max_ones or a larger budget: so far, always answering half the number of records "
    "is as good.",
)
PRICE = Theorem(
    "price",
    claim="no private mechanism keeps its error below the bound at all times, with probability 1 − β, on every stream so long",
    quantity="proven error bound of this mechanism, which must lie above",
    relation=AT_LEAST,
    scope=THIS_RUN,
    source=Derived(f"{SLUG}#price", extends=f"{PAPER}, Theorem 1"),
    conditions=(HORIZON,),
    remedy="the stream is too short or has too few columns for continual answers to cost more than one at the end. If it "
    "fails, one of the two bounds is wrong: report it.",
)
AUDIT_MU = Theorem(
    "audit-mu",
    claim="this attack tells its two streams, which differ in one record, apart no better than μ = √(2ρ) allows; where it holds, "
    "the mechanism was not refuted by so many runs, which proves nothing of other attacks or of other streams",
    quantity="μ that the attack shows",
    relation=AT_MOST,
    scope=POPULATION,
    source=Derived(f"{SLUG}#audit"),
    conditions=(INDEPENDENT, ATTACKED, WIDE),
    needs="a mechanism with noise to spare; one that spends its whole budget is attacked up to its claim, and so many runs "
    "can refute it but not clear it.",
    remedy="if it fails, the mechanism is broken; if it is vacuous, so many runs cannot show more than is claimed: raise n.",
)
AUDIT_EPSILON = AUDIT_MU.variant(
    name="audit-epsilon",
    claim="this attack tells its two streams, which differ in one record, apart no better than (ε, δ) allows; where it holds, the "
    "mechanism was not refuted by so many runs, which proves nothing of other attacks or of other streams",
    quantity="ε at δ that the attack shows",
    conditions=(INDEPENDENT, ATTACKED),
)
THEOREMS = (PRIVACY, MAX_ERROR, PRICE, AUDIT_MU, AUDIT_EPSILON)


@dataclass(frozen=True)
class Evidence:
    """What is known of a stream after some records.

    Parameters
    ----------
    base, plan : ReleasePlan
        Of the whole stream, and of the running epoch.
    t, room : int
        Records answered, and left in the epoch.
    spent, bound : float
        What the noise drawn adds up to, and the error bound over all epochs so far.
    horizon : str
        "fixed" or "double".
    drawn_here, seeded : bool
        Whether this process drew all noise by unaltered code, and whether some of it came from a seed, ever.
    restored : int
        Records that were answered before a state was loaded.
    faults : tuple of str
        What was read from the data and should have been public, ever.
    exposed : int
        1 if an error told of a bad record, ever.
    error, cut : float, optional
        Largest error of an answer, and the share of ones that were cut, where they may be known.
    """

    base: ReleasePlan
    plan: ReleasePlan
    t: int
    room: int
    spent: float
    bound: float
    horizon: str = "fixed"
    drawn_here: bool = False
    seeded: bool = False
    restored: int = 0
    faults: tuple[str, ...] = ()
    exposed: int = 0
    error: float | None = None
    cut: float | None = None

    @property
    def inputs(self) -> dict[str, Any]:
        """What the bounds are made of."""
        plan = self.plan
        return {
            "query": plan.query,
            "strategy": plan.strategy,
            "T": plan.T,
            "d": plan.d,
            "neighbours": plan.neighbours,
            "entries of a record that can change": plan.sensitivity,
            "noise scale": float(plan.scale),
            "period": plan.period,
        }

    @property
    def records(self) -> Answer:
        """Each record was looked at; a bad one is refused or counts as none."""
        return RECORDS.check(
            self.exposed == 0,
            "an error told of a bad one" if self.exposed else f"all {self.t} were checked",
        )

    @property
    def within(self) -> Answer:
        """Records against the horizon."""
        return HORIZON.check(
            self.room >= 0, f"{self.t} records, T = {self.plan.T}, horizon {self.horizon}"
        )


def privacy(e: Evidence) -> Certificate:
    """The budget against what was spent."""
    budget, delta = e.base.budget, e.base.budget.delta
    inputs = dict(e.inputs)
    if not budget.pure:
        inputs |= {
            f"ε at δ = {delta:g}": epsilon_of_rho(budget.size, delta),
            "ε by ρ + 2√(ρ ln 1/δ)": simple_epsilon(budget.size, delta),
        }
    owners = []
    for g in GROUPS:
        spent = budget.group(g)
        also = "" if budget.pure else f", ε = {epsilon_of_rho(spent, delta):.4g} at δ = {delta:g}"
        owners.append(f"{g} records has {'ε' if budget.pure else 'ρ'} = {spent:.4g}{also}")
    if e.seeded:
        fresh = FRESH.check(False, "bits came from a seed, which gives all noise away")
    elif e.drawn_here:
        fresh = FRESH.by_construction(
            "integers by rejection from os.urandom in this process; every number keeps its noise"
        )
    elif e.restored:
        fresh = FRESH.unchecked(
            f"the noise of the first {e.restored} records came from a state; that no copy of it is continued elsewhere "
            "cannot be seen"
        )
    else:
        fresh = FRESH.unchecked("mechanism or noise were altered or made elsewhere")
    if e.faults:
        public = PUBLIC.check(False, "; ".join(e.faults))
    else:
        public = PUBLIC.unchecked("how they were chosen is not in the data")
    return PRIVACY(
        bound=budget.size,
        confidence=1.0,
        trivial=math.inf,
        measured=exact(e.spent),
        inputs=inputs,
        answers=(
            e.records,
            e.within,
            ONE_EACH.unchecked(f"not in the data; a person with {', with '.join(owners)}"),
            fresh,
            public,
            ONCE.unchecked("budgets of all releases of the same records add up, reruns too"),
        ),
    )


def max_error(e: Evidence) -> Certificate:
    """The bound on all errors at once."""
    ones = e.base.max_ones
    if ones is None or ones >= e.base.d:
        uncut = UNCUT.check(True, "records are not cut")
    elif e.cut is None:
        uncut = UNCUT.unchecked(
            f"answers are about the stream cut to {ones} of {e.base.d} ones a record; how many were cut is private"
        )
    else:
        uncut = UNCUT.check(e.cut < CUT_FROM, f"{e.cut:.3%} of the ones were cut")
    return MAX_ERROR(
        bound=e.bound,
        confidence=1 - e.base.beta,
        trivial=float(e.t) if e.base.query == "sumselect" else e.t / 2,
        measured=None if e.error is None else exact(e.error),
        inputs=e.inputs,
        answers=(e.records, e.within, uncut),
    )


def proven_price(e: Evidence) -> Certificate:
    """What any mechanism must err by, against what this one is proven to err by at most."""
    base = e.base
    length = e.plan.T if e.horizon == "fixed" else max(e.t, 1)
    size, pure = base.budget.size, base.budget.pure
    lower, n, columns = lower_bound(base.query, length, base.d, size, pure=pure, beta=base.beta)
    return PRICE(
        bound=lower,
        confidence=1.0,
        trivial=batch_bound(base),
        measured=exact(e.bound),
        inputs={
            "rows of the hard stream": 2 * n * columns,
            "secret records": n,
            "columns used": columns,
        },
        answers=(e.within,),
    )


def certify(e: Evidence) -> tuple[Certificate, ...]:
    """All certificates of a stream; the price only where the hard stream is one that could come: records are not cut."""
    both = privacy(e), max_error(e)
    cut = e.base.max_ones is not None and e.base.max_ones < e.base.d
    return both if e.base.query == "counts" or cut else (*both, proven_price(e))


@dataclass(frozen=True)
class Attack:
    """What an attack came to.

    Parameters
    ----------
    plan : ReleasePlan
        That is claimed.
    attack, streams, read : str
        How it was made, the two streams, and what of the answers was looked at.
    runs, tested : int
        Of each world in all, and on which the limits rest.
    shown : Estimate
        μ or ε of the attack with its limits.
    claimed, most : float
        What the plan allows, and what so many runs could show at most.
    objects : bool
        Whether objects were run, and not a plan.
    ours : bool
        Whether each was exactly of this library's classes, with its own run.
    fresh, repeated : bool
        Whether all were drawn here from the operating system, and whether one object came twice.
    """

    plan: ReleasePlan
    attack: str
    streams: str
    read: str
    runs: int
    tested: int
    shown: Estimate
    claimed: float
    most: float
    objects: bool
    ours: bool
    fresh: bool
    repeated: bool

    def certificate(self, theorem: Theorem, *more: Answer) -> Certificate:
        """The certificate of a theorem on attacks."""
        if self.repeated:
            independent = INDEPENDENT.check(False, "make_mechanism gave one object twice")
        elif self.fresh:
            independent = INDEPENDENT.by_construction(
                f"{2 * self.runs} mechanisms of this library, each with noise of its own from os.urandom"
            )
        else:
            independent = INDEPENDENT.unchecked(
                "where the mechanism's noise comes from is its own affair"
            )
        if self.ours:
            attacked = ATTACKED.by_construction(
                f"{2 * self.runs} mechanisms of this library were run, each by its own run"
            )
        elif self.objects:
            attacked = ATTACKED.unchecked(
                f"{2 * self.runs} objects were run; whether they answer elsewhere as they did here is their own affair"
            )
        else:
            attacked = ATTACKED.unchecked(
                "a plan was given: its noise was attacked, and no object of yours"
            )
        return theorem(
            bound=self.claimed,
            confidence=1.0,
            trivial=self.most,
            measured=self.shown,
            inputs={
                "runs of each world": self.runs,
                "tested": self.tested,
                "attack": self.attack,
                "streams": self.streams,
                "answers read": self.read,
                "T": self.plan.T,
                "budget": str(self.plan.budget),
            },
            answers=(independent, attacked, *more),
        )


def audit_epsilon(a: Attack) -> Certificate:
    """ε of an attack against the claim."""
    return a.certificate(AUDIT_EPSILON)


def audit_mu(a: Attack) -> Certificate:
    """μ of an attack against the claim."""
    wide = WIDE.check(a.plan.scale >= 1, f"σ = {float(a.plan.scale):.4g}, needed is 1")
    return a.certificate(AUDIT_MU, wide)
