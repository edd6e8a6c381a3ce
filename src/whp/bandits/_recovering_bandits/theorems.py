"""What is promised about a timetable, about one made from a log, and about learning."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from whp.certificate import Answer, Certificate
from whp.intervals import Estimate, exact
from whp.theorem import AT_LEAST, AT_MOST, FITTED, POPULATION, THIS_RUN, Condition, Derived, Theorem

__all__ = [
    "AS_GIVEN",
    "BANDS",
    "CELL_MEANS",
    "FLAT_LOG",
    "FREE_GAPS",
    "INDEPENDENT",
    "LONG_RUN_LOSS",
    "LOSS",
    "MEANS_IN_RANGE",
    "NOISE",
    "OWN_GAP",
    "PULLED",
    "REGRET",
    "RISING",
    "RISING_LOG",
    "SAME_LATER",
    "SHARE",
    "STATE",
    "THEOREMS",
    "TIMETABLE",
    "TWO_VALUES",
    "Played",
    "bands",
    "long_run_loss",
    "loss",
    "regret",
    "share",
    "timetable",
]

PAPER = "Simchi-Levi, Zheng & Zhu 2021"
# Values and bounds are sums of at most some 10⁴ positive terms: relative rounding of them.
ROUNDING = 1e-11

AS_GIVEN = Condition(
    "as-given",
    "the timetable was made for the curves that were given",
    remedy="plan on the curves as they are, monotone='envelope', or fit them to a log.",
)
RISING = Condition(
    "rising",
    "no curve falls with the gap",
    remedy="for few slots nothing is lost: the loss that was computed needs no rising curves.",
)
STATE = Condition(
    "gap-is-all",
    "a reward depends on its arm's gap alone, is the same in every period, and flat beyond D",
)
RISING_LOG = Condition(
    "log-rises",
    "rewards of the log do not fall with the gap",
    remedy="subtract what units differ in: unit=.",
)
SAME_LATER = Condition(
    "same-later", "curves stay the same over time", remedy="use later data alone."
)
FREE_GAPS = Condition(
    "free-gaps", "nobody chose when to pull by what rewards were to be expected just then"
)
INDEPENDENT = Condition("independent-events", "what events (or units) pay is independent")
CELL_MEANS = Condition(
    "cell-means", "the mean of each arm and gap is as near to normal as Student's t takes it"
)
FLAT_LOG = Condition(
    "log-flat-beyond",
    "rewards of the log are the same at the longest gap that is told apart and beyond it",
    remedy="a larger D, and more events.",
)
TWO_VALUES = Condition("two-values", "rewards never have other values than the two that were seen")
NOISE = Condition(
    "noise",
    "rewards are σ-sub-Gaussian around their means",
    remedy="give a larger noise, or a larger bound.",
)
MEANS_IN_RANGE = Condition(
    "means-in-range", "mean rewards lie in [0, bound]", remedy="give a larger bound."
)
PULLED = Condition(
    "pulled-as-planned",
    "every pull that was planned was made",
    remedy="plan without arms that may be refused.",
)
OWN_GAP = Condition(
    "own-gap", "a reward is paid at once and depends on its own arm's gap alone, counted as here"
)

LOSS = Theorem(
    "loss",
    claim="no policy earns more than UB = max ΣF_i(x_i) a period in the long run on these curves, "
    "so that this timetable loses at most 1 − value/UB of any policy's reward",
    quantity="share of the best policy's reward that is lost",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived("recovering-bandits#upper-bound", extends=PAPER),
    conditions=(AS_GIVEN, STATE),
    needs="a better timetable or a smaller demand; the true optimum lies between value and UB.",
    remedy="where always pulling the same arms does as well, no timetable is needed.",
)
FITTED_LOSS = LOSS.variant(scope=FITTED, conditions=(RISING_LOG, SAME_LATER, STATE))
SHARE = Theorem(
    "share-of-the-optimum",
    claim="the timetable earns at least γ_K = max m(K − m)/((m + 1)K) of what any policy can",
    quantity="value over upper bound",
    relation=AT_LEAST,
    scope=THIS_RUN,
    source=Derived("recovering-bandits#share", extends=f"{PAPER}, ratio 1 − O(1/√K)"),
    conditions=(AS_GIVEN, RISING, STATE),
    remedy="for few slots the share known beforehand is small: the loss that was computed counts.",
)
LONG_RUN_LOSS = Theorem(
    "long-run-loss",
    claim="on the true curves, of which the log is a sample, this timetable loses at most "
    "1 − value/UB of any policy's reward, with lower limits where it pulls and upper ones elsewhere",
    quantity="share of the best policy's reward that is lost",
    relation=AT_MOST,
    scope=POPULATION,
    source=Derived("recovering-bandits#from-a-log"),
    conditions=(RISING_LOG, SAME_LATER, FLAT_LOG, FREE_GAPS, INDEPENDENT, CELL_MEANS, STATE),
    needs="more events of each arm and gap: limits narrow like their root.",
    remedy="always pulling the same arms may do as well.",
)
BINARY = LONG_RUN_LOSS.variant(
    conditions=tuple(TWO_VALUES if c is CELL_MEANS else c for c in LONG_RUN_LOSS.conditions)
)
TIMETABLE = Theorem(
    "timetable",
    claim="played out, no period has more than K pulls and the reward a period is the stated value",
    quantity="relative difference of played and stated reward, or pulls too many",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived("recovering-bandits#packing"),
    conditions=(AS_GIVEN,),
    remedy="the timetable is broken: do not use it.",
)
FITTED_TIMETABLE = TIMETABLE.variant(scope=FITTED, conditions=())
LEARNING = (NOISE, MEANS_IN_RANGE, SAME_LATER, OWN_GAP)
BANDS = Theorem(
    "bands",
    claim="the mean reward of every arm and gap lay within its limits lcb and ucb in every period",
    quantity="largest distance of a true mean outside of its limits, as a share of the bound",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived("recovering-bandits#bands"),
    conditions=LEARNING,
    needs="the true curves, as in a simulator: truth=curves.",
    remedy="the noise is larger than was said.",
)
REGRET = Theorem(
    "regret",
    claim="the expected reward is short of Σ γ̂ L UB over the phases by at most the widths of the "
    "bands along their schedules, and two pulls of each arm that was moved",
    quantity="expected reward short of Σ γ̂ L UB",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived("recovering-bandits#regret", extends=f"{PAPER}, regret Õ(N√T)"),
    conditions=(*LEARNING, RISING, PULLED),
    needs="the true curves, as in a simulator: truth=curves.",
    remedy="more periods: widths fall like their root.",
)
THEOREMS = (LOSS, SHARE, LONG_RUN_LOSS, TIMETABLE, BANDS, REGRET)


@dataclass(frozen=True)
class Played:
    """A timetable in numbers.

    Parameters
    ----------
    value, upper_bound, static : float
        Reward a period of the timetable, of the best policy at most, of always the same K arms.
    K, N, D : int
        Slots, arms, gaps.
    """

    value: float
    upper_bound: float
    static: float
    K: int
    N: int
    D: int

    @property
    def ratio(self) -> float:
        """Value over upper bound, 1 where nothing can be earned."""
        return self.value / self.upper_bound if self.upper_bound > 0 else 1.0

    @property
    def static_loss(self) -> float:
        """What always pulling the same arms may lose; nothing where that is less than rounding."""
        lost = 1 - self.static / self.upper_bound if self.upper_bound > 0 else 0.0
        return lost if lost > ROUNDING else 0.0

    def demand(self, at_least: float | None) -> float:
        """The loss that may be: as demanded, or half of what always the same arms lose."""
        return self.static_loss / 2 if at_least is None else 1 - at_least

    @property
    def inputs(self) -> dict[str, float | int | str | bool]:
        """What certificates show of it."""
        return {
            "value": self.value,
            "upper bound": self.upper_bound,
            "K": self.K,
            "N": self.N,
            "D": self.D,
            "always the same arms": self.static,
        }


def loss(
    played: Played, answers: Iterable[Answer], at_least: float | None, *, fitted: bool = False
) -> Certificate:
    """At most 1 − value/UB of any policy's reward is lost; the demand is the bound."""
    highest = 1 - played.ratio
    # A policy that is known to earn more says what is lost at least.
    known = max(played.value, played.static, 1e-300)
    return (FITTED_LOSS if fitted else LOSS)(
        bound=played.demand(at_least),
        confidence=1.0,
        trivial=played.static_loss,
        measured=Estimate.between(
            max(0.0, 1 - played.value / known - ROUNDING),
            max(0.0, highest) + ROUNDING,
            value=highest,
            method="exact",
        ),
        answers=answers,
        inputs=played.inputs,
    )


def share(played: Played, gamma: float, answers: Iterable[Answer]) -> Certificate:
    """γ_K of any policy's reward was certain before anything was computed."""
    return SHARE(
        bound=gamma,
        confidence=1.0,
        trivial=1 - played.static_loss,
        measured=exact(played.ratio, ROUNDING),
        answers=answers,
        inputs=played.inputs,
    )


def long_run_loss(
    lowest: float,
    highest: float,
    fitted: Played,
    delta: float,
    answers: Iterable[Answer],
    at_least: float | None,
    *,
    binary: bool,
) -> Certificate:
    """With the sampling error of every mean: value on lower limits, UB on upper ones.

    Parameters
    ----------
    lowest, highest : float
        What the timetable earns at least, and any policy on the worst curves within the limits.
    fitted : Played
        The same on the fitted curves.
    binary : bool
        Whether rewards have two values, and the limits are exact.
    """
    if lowest < 0:
        most = math.inf  # may lose more than there is to earn
    else:
        most = 1 - lowest / highest if highest > 0 else 0.0
    theorem = BINARY if binary else LONG_RUN_LOSS
    return theorem(
        bound=fitted.demand(at_least),
        confidence=1.0,
        trivial=fitted.static_loss,
        measured=Estimate.between(
            0.0, most + ROUNDING, value=1 - fitted.ratio, level=1 - delta, method="limits"
        ),
        answers=answers,
        inputs={"earns at least": lowest, "no policy above, then": highest, "delta": delta},
    )


def timetable(
    value: float, played: float, pulls: int, K: int, answers: Iterable[Answer], *, fitted: bool
) -> Certificate:
    """The timetable does what it says."""
    off = abs(played - value) / max(abs(value), 1e-300) if value != played else 0.0
    return (FITTED_TIMETABLE if fitted else TIMETABLE)(
        bound=1e-9,
        confidence=1.0,
        trivial=math.inf,
        measured=exact(max(off, float(max(0, pulls - K)))),
        answers=answers,
        inputs={"reward a period, played": played, "most pulls in a period": pulls, "K": K},
    )


def bands(distance: float | None, answers: Iterable[Answer], delta: float) -> Certificate:
    """Limits of all means held in all periods.

    Parameters
    ----------
    distance : float, optional
        How far a true mean was outside of its limits at most, as a share of the bound.
    """
    return BANDS(
        bound=ROUNDING,
        confidence=1 - delta,
        trivial=1.0,
        measured=None if distance is None else exact(distance),
        answers=answers,
        inputs={"delta": delta},
    )


def regret(
    bound: float,
    short: float | None,
    answers: Iterable[Answer],
    delta: float,
    *,
    trivial: float,
    inputs: dict[str, float | int | str | bool],
) -> Certificate:
    """Learning costs at most what the bands were wide along the schedules."""
    rounding = ROUNDING * max(trivial, 1e-300)
    return REGRET(
        bound=bound,
        confidence=1 - delta,
        trivial=trivial,
        measured=None if short is None else exact(short, rounding),
        answers=answers,
        inputs={"delta": delta, **inputs},
    )
