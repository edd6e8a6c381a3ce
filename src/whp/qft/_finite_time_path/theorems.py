"""What is promised about one-loop objects at finite time: causality, vertices, thermal balance, tadpoles, error bars."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from whp.certificate import Answer, Certificate, worst
from whp.intervals import Estimate, exact, proportion
from whp.qft._finite_time_path.causality import BOXES, RADII, Function, Residual, boxes, slopes
from whp.qft._finite_time_path.field import Field
from whp.theorem import AT_MOST, THIS_RUN, Condition, Derived, Theorem

__all__ = [
    "ACCURACY",
    "ANALYTIC",
    "CAUSALITY",
    "COUNTERTERM",
    "DECAY",
    "KMS",
    "LOCALISED",
    "OCCUPATION",
    "RETARDED",
    "SMOOTH",
    "SPLITTABLE",
    "THEOREMS",
    "THERMAL",
    "VANISHES",
    "VERTEX",
    "accuracy",
    "analytic",
    "causal",
    "counterterm",
    "decay",
    "kms",
    "occupation",
    "retarded_in_time",
    "splittable",
    "vanishes",
    "vertex",
]

PAGE = "finite-time-path-qft"
PAPER = "Dadić & Klabučar 2019"
CAUCHY = 1e-8  # relative error of Cauchy's formula that is not refused
UNKNOWN = 0.01  # least power by which a function of unknown fall-off must fall
CONSERVED = 1e-6  # of the largest value of the product
SAME = 1e-8
SHARE = 0.1  # of the returned numbers that may lie outside of their error bars
FINITE = 0.5  # ratio at κ = 0 of two effects of a cut-off whose logarithms are one decade apart
FOREIGN = 0.9
LOGARITHM = 0.98  # at these cut-offs not told from 1
FINE = 0.25  # of a bound, which quadrature may be off by at the larger radii
GROWTH = 1.02  # by which the scaled remainder may still climb to its limit

ANALYTIC = Condition(
    "analytic-above",
    "the function is analytic above the real axis",
    remedy="check the sign of iε, and that no advanced or Feynman part is in it.",
)
VANISHES = Condition(
    "vanishes-at-infinity",
    "it falls off at infinity in the upper half plane",
    remedy="it is not causal by itself: multiply by a propagator first, then subtract the pole and let "
    "κ go to 0.",
)
OCCUPATION = Condition(
    "occupation",
    "f is not negative, and ∫ωf dω is finite",
    remedy="give an occupation that is positive and falls faster than the power −2.2.",
)
THERMAL = Condition(
    "thermal",
    "the state has a temperature",
    remedy="give T, or write the table with 8 digits; a chemical potential is no vacuum of this relation.",
)
SMOOTH = Condition(
    "smooth-source",
    "the source is a smooth function of p²",
    remedy="give a width or a smooth function.",
)
LOCALISED = Condition(
    "localised-source",
    "the source is localised in space",
    remedy="a constant source oscillates for ever: average over time, or give a width.",
)

CAUSALITY = Theorem(
    "causality",
    claim="what the axis leaves of F(z0) is no more than the arc at infinity can carry, at up to three radii",
    quantity="distance of the dispersion integral from F(z0)",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived(f"{PAGE}#causality"),
    conditions=(ANALYTIC, VANISHES, OCCUPATION),
    remedy="values on the axis are not those of a function that is analytic above it.",
)
VERTEX = Theorem(
    "vertex",
    claim="energy is conserved where G_R meets Σ_R: product in energy and convolution in time agree",
    quantity="largest difference of the two, in units of the largest value",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived(f"{PAGE}#vertex"),
    conditions=(VANISHES, OCCUPATION),
    needs="the convolution in time (measure=True).",
    remedy="keep κ > 0 until the product is made, and subtract the same pole in both.",
)
RETARDED = Theorem(
    "retardedness",
    claim="nothing comes before its cause: the product vanishes at negative times",
    quantity="largest value at negative times, in units of the largest at positive ones",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived(f"{PAGE}#causality"),
    conditions=(VANISHES, OCCUPATION),
    needs="two more lines above the axis (measure=True).",
)
SPLITTABLE = Theorem(
    "splittable",
    claim="the Feynman function has retarded and advanced parts that do not depend on a cut-off",
    quantity="what a tenfold cut-off leaves of its effect, at worst",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived(f"{PAGE}#splittable"),
    conditions=(OCCUPATION,),
    remedy="split the product with the propagator, or keep κ > 0.",
)
KMS = Theorem(
    "thermal-balance",
    claim="emission and absorption are in balance: Σ_K = coth(p0/2T)(Σ_R − Σ_A)",
    quantity="largest deviation",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived(f"{PAGE}#thermal-balance"),
    conditions=(THERMAL,),
)
DECAY = Theorem(
    "tadpole-decay",
    claim="the oscillation of a localised source is its t^{−3/2} term up to one of t^{−5/2}",
    quantity="distance from the leading term on [2t, 4t], scaled to 2t",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived(f"{PAGE}#tadpole"),
    conditions=(SMOOTH, LOCALISED),
    remedy="the source has an edge or a kink, or t is too small.",
)
COUNTERTERM = Theorem(
    "counterterm",
    claim="the counterterm takes the whole divergence off the tadpole",
    quantity="coefficient of 1/κ that is left, over that of the tadpole",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived(f"{PAGE}#counterterm"),
)
ACCURACY = Theorem(
    "error-bars",
    claim="at most a tenth of the returned numbers lie outside of their error bars",
    quantity="share outside among numbers drawn and computed by another representation",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived(f"{PAGE}#error-bars"),
    conditions=(OCCUPATION,),
    needs="other representations of 40 numbers (measure=True).",
)
THEOREMS = (CAUSALITY, VERTEX, RETARDED, SPLITTABLE, KMS, DECAY, COUNTERTERM, ACCURACY)


def analytic(F: Function) -> Answer:
    """By Cauchy's formula on boxes; what lies outside of them nobody looked at."""
    off = boxes(F)
    seen = f"for |Re| ≤ 10, {min(BOXES):g} ≤ Im ≤ 5 in units of the mass"
    if off > CAUCHY:
        return ANALYTIC.check(False, f"Cauchy's formula is off by {off:.2g} {seen}")
    return ANALYTIC.unchecked(f"no singularity found {seen}; outside nobody looked")


def vanishes(F: Function, kappa: float | None) -> Answer:
    """By the slopes of ln|F| over three arcs; unchecked below the smallest value met."""
    made, smallest = slopes(F)
    least = UNKNOWN if kappa is None or kappa == 0 else kappa
    shown = f"slopes {made[0]:.2f} and {made[1]:.2f} to {RADII[-1]:g} masses"
    if (made > -least).any():
        return VANISHES.check(False, shown)
    # An advance a adds aΛ to ln|F|: one that leaves a falling power falling is not seen.
    hidden = max(1 / RADII[-1], -made[0] * math.log(10) / (RADII[2] - 2 * RADII[1] + RADII[0]))
    return VANISHES.unchecked(
        f"{shown}; nothing is known below |F| = {smallest:.1g}, nor of times shorter than {hidden:.2g}/m"
    )


def occupation(field: Field | None) -> Answer:
    """Of a table and a temperature exactly, of a function where it was looked at."""
    if field is None:
        return OCCUPATION.by_construction("no occupation goes in")
    fault = field.f.fault()
    if fault:
        return OCCUPATION.check(False, fault)
    if field.f.kind == "callable":
        return OCCUPATION.unchecked(
            "looked at 2,000 energies up to 500 masses; beyond nobody looked"
        )
    return OCCUPATION.check(True, "no modes" if field.f.kind == "vacuum" else "every row, or Bose")


def causal(
    made: Sequence[Residual],
    radii: np.ndarray,
    value: float,
    answers: Sequence[Answer],
    z0: complex,
) -> Certificate:
    """The worst of several radii; both sides over |F(z0)|.

    A table's quadrature may be coarser than the bound of a large radius, which then decides nothing:
    radii are left out whose quadrature alone is too coarse, whatever came out there, but for the first.
    """
    scale = max(value, 1e-300)
    pairs = list(zip(radii, made, strict=True))
    pairs = pairs[:1] + [(radius, r) for radius, r in pairs[1:] if r.error <= FINE * r.bound]
    decided = ", ".join(f"{radius:g}" for radius, _ in pairs)
    return worst(
        {
            f"{radius:g}": CAUSALITY(
                bound=r.bound / scale,
                confidence=1.0,
                trivial=1.0,
                measured=exact(r.off / scale, r.error / scale),
                answers=answers,
                inputs={
                    "cut-off in masses": float(radius),
                    "z0": str(z0),
                    "|F(z0)|": value,
                    "cut-offs that decide": decided,
                },
            )
            for radius, r in pairs
        }
    )


def vertex(
    first: np.ndarray,
    second: np.ndarray | None,
    error: np.ndarray,
    times: np.ndarray,
    omega: float,
    answers: Sequence[Answer],
    largest: float,
) -> Certificate:
    """Product in energy against convolution in time, in units of the latter's largest value."""
    measured: Estimate | None = None
    inputs: dict[str, float | str] = {"largest value": largest}
    if second is not None:
        off = np.abs(first - second) / largest
        at = int(np.argmax(off + error / largest))
        measured = exact(float(off[at]), float(error[at] / largest))
        wave = np.sin(omega * times)
        if off[at] > CONSERVED and len(times) > 2:
            amount = float((first - second) @ wave / max(wave @ wave, 1e-300))
            if np.abs(first - second - amount * wave).max() < 1e-3 * np.abs(first - second).max():
                inputs["they differ by"] = "a constant in Σ_R (another scheme?)"
    return VERTEX(
        bound=CONSERVED,
        confidence=1.0,
        trivial=1.0,
        measured=measured,
        answers=answers,
        inputs=inputs,
    )


def retarded_in_time(
    before: Sequence[np.ndarray] | None,
    errors: Sequence[np.ndarray],
    answers: Sequence[Answer],
    largest: float,
) -> Certificate:
    """Values at negative times on lines of two heights, between which a pole would hide."""
    measured = None
    if before is not None:
        sizes = np.concatenate([np.abs(v) for v in before]) / largest
        radius = np.concatenate(list(errors)) / largest
        at = int(np.argmax(sizes))
        measured = Estimate.between(
            max(0.0, float((sizes - radius).max())),
            float((sizes + radius).max()),
            value=float(sizes[at]),
            method="exact",
        )
    return RETARDED(
        bound=CONSERVED,
        confidence=1.0,
        trivial=1.0,
        measured=measured,
        answers=answers,
        inputs={"largest value": largest},
    )


def splittable(effects: np.ndarray, kappa: float | None, answers: Sequence[Answer]) -> Certificate:
    """Effects of doubling cut-offs a decade apart; known fall-off κ, 0, or None for a user's function."""
    ratios = effects[1:] / np.maximum(effects[:-1], 1e-300)
    bound = FOREIGN if kappa is None else FINITE if kappa == 0 else 10**-kappa
    return SPLITTABLE(
        bound=bound,
        confidence=1.0,
        trivial=LOGARITHM,
        measured=exact(float(ratios.max()), 1e-9 * float(ratios.max())),
        answers=answers,
    )


def kms(
    field: Field, deviation: float, rounding: float, largest: float, without: float
) -> Certificate:
    """Deviation from thermal balance; the error of a table enters the bound."""
    T = field.f.temperature
    answer = THERMAL.check(
        T is not None, "no temperature fits f to 1e-6" if T is None else f"T = {T * field.mass:.8g}"
    )
    slack = 2 * (1 + 2 * field.f.largest) * field.f.table_error * math.pi * field.scale
    return KMS(
        bound=SAME * largest + slack,
        confidence=1.0,
        trivial=without,
        measured=exact(deviation, rounding),
        answers=(answer,),
        inputs={"largest |Σ_K|": largest, "error of the table": field.f.table_error},
    )


def decay(
    limit: float, measured: float | None, trivial: float, answers: Sequence[Answer], t: float
) -> Certificate:
    """Remainder on [2t, 4t] against 1.02 times its scaled maximum on [t, 2t]."""
    return DECAY(
        bound=GROWTH * limit,
        confidence=1.0,
        trivial=trivial,
        measured=None if measured is None else exact(measured, 1e-12 * trivial),
        answers=answers,
        inputs={"t in 1/m": t},
    )


def counterterm(left: float) -> Certificate:
    """What is left of the coefficient of 1/κ, over that of the tadpole."""
    return COUNTERTERM(bound=SAME, confidence=1.0, trivial=1.0, measured=exact(abs(left), 1e-12))


def accuracy(
    outside: int | None,
    drawn: int,
    answers: Sequence[Answer],
    worst_at: str,
    *,
    every: bool = False,
) -> Certificate:
    """Share of the numbers drawn that other representations put outside of their error bars; exact if `every` was."""
    inputs = {"drawn": drawn} | ({"furthest outside": worst_at} if worst_at else {})
    return ACCURACY(
        bound=SHARE,
        confidence=1.0,
        trivial=1.0,
        measured=None
        if outside is None
        else exact(outside / drawn)
        if every
        else proportion(outside, drawn),
        answers=answers,
        inputs=inputs,
    )
