"""What is promised about a sketched least-squares solution, and when."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from whp.certificate import Answer, Certificate
from whp.intervals import Estimate
from whp.linalg._linf_regression import bounds
from whp.theorem import AT_MOST, THIS_RUN, Condition, Derived, Theorem

__all__ = [
    "COORDINATE_ERROR_BARS",
    "EXACT_SOLUTION",
    "FIXED_BEFORE",
    "GAUSSIAN",
    "ISOMETRY",
    "LINF_BOUND",
    "RANK",
    "REFINED_ERROR_BARS",
    "ROW_COUNT",
    "SINGLE_ROWS",
    "THEOREMS",
    "X_EXACT",
    "Evidence",
    "error_bars",
    "exact_solution",
    "linf_bound",
    "refined_error_bars",
]

Law = Literal["gaussian", "here", "unknown"]
# First-order rounding needs ‖E‖ ‖A†‖ small; where it is larger than this nothing is said.
LARGEST_BACKWARD = 0.1

RANK = Condition(
    "full-rank",
    "A has full column rank, well above rounding",
    remedy="drop columns that nearly depend on others, or subtract a constant from them.",
)
GAUSSIAN = Condition("gaussian-rows", "the rows of the sketch are independent Gaussian vectors")
SINGLE_ROWS = Condition(
    "mixing-rows",
    "a row of the sketch mixes many rows of A",
    remedy="use a dense sketch (srht, pooled, gaussian, circulant).",
)
FIXED_BEFORE = Condition(
    "fixed-before",
    "A and b were fixed before the sketch was drawn, and no other sketch was looked at",
)
X_EXACT = Condition(
    "exact-reference",
    "the solution that errors are measured from solves the normal equations",
    remedy="an x_exact that does not solve them is no reference: use measure=True; where that was "
    "used, columns depend too nearly for rounding: drop or subtract some.",
)
ISOMETRY = Condition(
    "isometry",
    "E SᵀS = I: the sketch keeps lengths on average",
    remedy="divide a sketch of m rows with entries of variance 1 by √m.",
)
ROW_COUNT = Condition(
    "row-count", "rows in proportion to d, up to logarithms, suffice for this sketch"
)

NEEDS = "the exact solution: measure=True computes it, x_exact passes it in."
REMEDY = "take more rows, or a dense sketch (srht, pooled, gaussian) if this one is sparse."

COORDINATE_ERROR_BARS = Theorem(
    "coordinate-error-bars",
    claim="every coefficient of the exact least-squares solution lies within its error bar, t times "
    "its standard error and rounding, all at once",
    quantity="largest distance to the exact solution, in error bars",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived("linf-regression#error-bars"),
    conditions=(GAUSSIAN, FIXED_BEFORE, SINGLE_ROWS, ISOMETRY, RANK, X_EXACT),
    needs=NEEDS,
    remedy=REMEDY,
)
REFINED_ERROR_BARS = Theorem(
    "refined-error-bars",
    claim="every coefficient of the exact least-squares solution lies within (1 + ε₀)² times "
    "√[(RᵀR)⁻¹]ⱼⱼ ‖R⁻ᵀAᵀ(b − Ax)‖, and rounding, of the refined one",
    quantity="largest distance to the exact solution, in error bars",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived("linf-regression#refined-error-bars"),
    conditions=(GAUSSIAN, FIXED_BEFORE, SINGLE_ROWS, ISOMETRY, RANK, X_EXACT),
    needs=NEEDS,
    remedy="take more rows, or more steps.",
)
LINF_BOUND = Theorem(
    "linf-bound",
    claim="no coefficient, its column scaled to norm 1, is further than (ε/√d) ‖r‖ ‖A†‖ and rounding "
    "from the exact solution",
    quantity="largest distance to the exact solution beyond rounding, in ‖r‖ ‖A†‖",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived(
        "linf-regression#explicit-constants", extends="Song, Ye, Yin & Zhang 2023, Theorem 1.1"
    ),
    conditions=(ROW_COUNT, FIXED_BEFORE, SINGLE_ROWS, ISOMETRY, RANK, X_EXACT),
    needs=NEEDS,
    remedy=REMEDY,
)
POOLED = Derived("linf-regression#explicit-constants", extends="Song & Zhang 2026, Theorem 10.1")
UNSCALED = (
    "no coefficient, of columns as they are, is further than (ε/√d) ‖r‖ ‖A†‖ and rounding from the "
    "exact solution"
)
EXACT_SOLUTION = Theorem(
    "exact-solution",
    claim="the coefficients are the exact least-squares solution, each within its rounding radius "
    "√[(AᵀA)⁻¹]ⱼⱼ 8u√d (‖b‖ + ‖y‖ + κ‖r‖) and its last bit",
    quantity="‖R⁻ᵀAᵀ(b − Ax)‖ over 8u√d (‖b‖ + ‖y‖ + κ‖r‖)",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived("linf-regression#rounding"),
    conditions=(RANK,),
    remedy="the answer is not told from rounding: subtract constants from columns or from b.",
)
THEOREMS = (COORDINATE_ERROR_BARS, REFINED_ERROR_BARS, LINF_BOUND, EXACT_SOLUTION)


@dataclass(frozen=True, eq=False)
class Evidence:
    """What one run knows, for coefficients of columns scaled to norm 1; k right-hand sides.

    Parameters
    ----------
    d, m : int
        Columns of A and rows of the sketch.
    embedding_rows : float
        Rows of a sketch of all rows at once that embeds the range of A as well.
    delta : float
        Failure probability.
    sketch : str
        Its name.
    law : {"gaussian", "here", "unknown"}
        Gaussian and drawn here; another of ours and drawn here; anything else.
    probed : tuple of int, optional
        Rows of the sketch that were looked at, and how many had a single entry; None where they
        could not be.
    lengths : tuple of float
        Smallest and largest ‖Sv‖/‖v‖ of the columns v of A and b, and by how much they may leave 1.
    condition, backward : float
        Condition number of the sketched A, and by how much rounding may have moved it, relative to
        its smallest singular value.
    half, rounding : ndarray, shape (d, k)
        Half-widths of the error bars at `delta`, and the part of them that is rounding.
    reach : ndarray, shape (d, k)
        How far the exact solution could be at worst, by ‖b‖ alone.
    variance, uneven : float
        Largest variance of a coefficient over that of a Gaussian sketch; what uneven blocks widen a
        bar by.
    error, radius : ndarray, optional
        Distance to the reference, and how far that may be from the exact solution.
    level : float
        Probability that it is no farther.
    residual : ndarray, shape (k,)
        ‖b − Ax*‖ of the reference, else an estimate.
    pinv : tuple of float
        Between which numbers ‖A†‖ lies.
    scale : ndarray, shape (d, 1), optional
        What distances are multiplied by before the largest is taken for the ℓ∞ bound; None for that
        of columns scaled to norm 1.
    """

    d: int
    m: int
    embedding_rows: float
    delta: float
    sketch: str
    law: Law
    probed: tuple[int, int] | None
    lengths: tuple[float, float, float]
    condition: float
    backward: float
    half: Float[np.ndarray, "d k"]
    rounding: Float[np.ndarray, "d k"]
    reach: Float[np.ndarray, "d k"]
    variance: float
    uneven: float
    residual: Float[np.ndarray, " k"]
    pinv: tuple[float, float]
    scale: Float[np.ndarray, "d 1"] | None
    error: Float[np.ndarray, "d k"] | None = None
    radius: Float[np.ndarray, "d k"] | None = None
    level: float = 1.0


def error_bars(e: Evidence) -> Certificate:
    """Every coefficient within t of its own standard errors."""
    return _bars(COORDINATE_ERROR_BARS, e)


def refined_error_bars(e: Evidence) -> Certificate:
    """Every refined coefficient within a bar computed from its gradient on all of A."""
    return _bars(REFINED_ERROR_BARS, e)


def _bars(theorem: Theorem, e: Evidence) -> Certificate:
    half = np.maximum(e.half, np.finfo(float).tiny)
    measured = None
    if e.error is not None and e.radius is not None:
        distance = np.abs(e.error)
        measured = Estimate.between(
            float((np.maximum(distance - e.radius, 0) / half).max()),
            float(((distance + e.radius) / half).max()),
            value=float((distance / half).max()),
            level=e.level,
            method="exact",
        )
    return theorem(
        bound=1.0,
        confidence=1 - e.delta,
        trivial=float((e.reach / half).max()),
        measured=measured,
        answers=(_gaussian(e), *_common(e)),
        inputs={
            "m": e.m,
            "d": e.d,
            "delta": e.delta,
            "share of rounding in a bar": float((e.rounding / half).max()),
            "wider for uneven blocks": e.uneven,
            "wider than for Gaussian rows": math.sqrt(e.variance),
        },
    )


def linf_bound(e: Evidence) -> Certificate:
    """Theorem 1.1 with the constants of the Gaussian sketch; the worst of all right-hand sides."""
    targets = e.half.shape[1]
    # Of variance/m are the errors given SA, of other rows only the embedding in the denominator.
    wider = math.sqrt(e.variance * e.embedding_rows / e.m)
    epsilon = wider * bounds.eps_explicit(e.embedding_rows, e.d, e.delta, targets)
    low, high = e.pinv
    plain = bounds.plain_bound(e.embedding_rows, e.d, e.delta)

    scale = 1.0 if e.scale is None else e.scale

    def relative(distance: np.ndarray, pinv: float) -> float:
        largest = (np.maximum(distance - e.rounding, 0) * scale).max(axis=0)
        size = e.residual * pinv
        return float(
            np.divide(largest, size, np.where(largest > 0, np.inf, 0.0), where=size > 0).max()
        )

    measured = None
    if e.error is not None and e.radius is not None:
        distance = np.abs(e.error)
        measured = Estimate.between(
            relative(np.maximum(distance - e.radius, 0), high),
            relative(distance + e.radius, low) if low > 0 else math.inf,
            value=relative(distance, high),
            level=e.level,
            method="exact",
        )
    bound = epsilon / math.sqrt(e.d)
    theorem = LINF_BOUND
    if e.sketch == "pooled" and e.law == "here":
        theorem = theorem.variant(source=POOLED)
    if e.scale is not None:
        theorem = theorem.variant(claim=UNSCALED)
    unit = "coefficient" if e.scale is not None else "coefficient × column norm"
    return theorem(
        bound=bound,
        confidence=1 - e.delta,
        trivial=min(plain, relative(e.reach + e.rounding, high)),
        measured=measured,
        answers=(_row_count(e), *_common(e)),
        inputs={
            "epsilon": epsilon,
            "m": e.m,
            "d": e.d,
            "residual norm": float(e.residual.max()),
            "norm of A†": high,
            f"{unit}, at most": float(bound * e.residual.max() * high),
        },
    )


def exact_solution(
    remaining: Float[np.ndarray, " k"],
    leaves: Float[np.ndarray, " k"],
    reached: Float[np.ndarray, " k"],
    rounding: float,
    condition: float,
    backward: float,
) -> Certificate:
    """The gradient of an exact solution is no larger than rounding leaves it.

    Parameters
    ----------
    remaining, leaves, reached : ndarray, shape (k,)
        ‖R⁻ᵀAᵀ(b − Ax)‖, what rounding may leave of it, and what x = 0 would have.
    rounding : float
        The constant in `leaves`; computing `remaining` was off by one such part.
    condition, backward : float
        As in :class:`Evidence`.
    """
    leaves = np.maximum(leaves, np.finfo(float).tiny)
    largest, own = float((remaining / leaves).max()), 1 / max(rounding, 1.0)
    return EXACT_SOLUTION(
        bound=1.0,
        confidence=1.0,
        trivial=float((reached / leaves).max()),
        measured=Estimate.between(
            max(0.0, largest - own), largest + own, value=largest, method="exact"
        ),
        answers=(_rank(condition, backward),),
        inputs={
            "condition": condition,
            "leaves over ‖Uᵀb‖": float(leaves.max() / max(reached.max(), 1e-300)),
        },
    )


def _rank(condition: float, backward: float) -> Answer:
    return RANK.check(
        backward <= LARGEST_BACKWARD,
        f"condition number {condition:.4g}; rounding moves the smallest singular value by at most "
        f"{backward:.2g} of itself, wanted {LARGEST_BACKWARD:g}",
    )


def _common(e: Evidence) -> list[Answer]:
    reference = X_EXACT.unchecked("there is none: nothing was measured")
    if e.radius is not None:
        # A reference off by a hundredth of a bar, or by rounding, changes no verdict.
        off = float((e.radius / np.maximum(0.01 * e.half + e.rounding, np.finfo(float).tiny)).max())
        bars = float((e.radius / np.maximum(e.half, np.finfo(float).tiny)).max())
        reference = X_EXACT.check(
            off <= 1, f"by its gradient it is at most {bars:.2g} of an error bar off"
        )
    return [
        FIXED_BEFORE.unchecked(
            "data cannot show how their sketch was chosen; draw one, and keep it whatever it says"
        ),
        _mixing(e),
        _isometry(e),
        _rank(e.condition, e.backward),
        reference,
    ]


def _mixing(e: Evidence) -> Answer:
    if e.law != "unknown":
        which = "all rows of its block" if e.sketch == "block-srht" else "all rows"
        return SINGLE_ROWS.by_construction(f"a row of {e.sketch} mixes {which}")
    if e.probed is None:
        return SINGLE_ROWS.unchecked("the operator has no adjoint to look at its rows with")
    looked, single = e.probed
    return SINGLE_ROWS.check(
        4 * single < 3 * looked, f"of {looked} rows that were looked at {single} have one entry"
    )


def _isometry(e: Evidence) -> Answer:
    if e.law != "unknown":
        return ISOMETRY.by_construction(f"{e.sketch} was drawn here")
    low, high, room = e.lengths
    return ISOMETRY.check(
        1 - room <= low and high <= 1 + room,
        f"of the columns of A and b it keeps between {low:.3g} and {high:.3g} of the length, "
        f"wanted 1 ± {room:.2g}",
    )


def _gaussian(e: Evidence) -> Answer:
    match e.law:
        case "gaussian":
            return GAUSSIAN.by_construction("every entry was drawn here from one normal law")
        case "here":
            return GAUSSIAN.unchecked(
                f"the rows of {e.sketch} mix all entries and are Gaussian only in the limit"
            )
        case _:
            return GAUSSIAN.unchecked(f"not drawn here: nothing is known of {e.sketch}")


def _row_count(e: Evidence) -> Answer:
    if e.law == "gaussian":
        return ROW_COUNT.by_construction("every entry was drawn here from one normal law")
    if e.law == "unknown":
        return ROW_COUNT.unchecked(f"not drawn here: nothing is known of {e.sketch}")
    if e.sketch == "pooled":
        return ROW_COUNT.unchecked("proven, with constants that the theorem leaves open")
    return ROW_COUNT.unchecked(
        "the published proof is incomplete (Song & Zhang 2026); calibrated by simulation"
    )
