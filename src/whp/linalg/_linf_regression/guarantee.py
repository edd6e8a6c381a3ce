"""The theorems: how many rows, how large an error, and the certificates of one run."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.stats import t as student

from whp.certificate import Certificate
from whp.intervals import exact
from whp.undeclared import Assumption, met, unchecked, undeclared, violated

__all__ = ["eps_explicit", "rows_needed"]

PAPER = "Song, Ye, Yin & Zhang 2023, Theorem 1.1"
CORRECTION = "Song & Zhang 2026, Theorem 10.1"


def embedding_distortion(m: int, d: int, delta: float) -> float:
    """ε₀ such that each end of the singular values of SU, Gaussian S, leaves 1 ± ε₀ with probability at most `delta`."""
    return math.sqrt(d / m) + math.sqrt(2 * math.log(1 / delta) / m)


def eps_explicit(m: int, d: int, delta: float, targets: int = 1) -> float:
    """The ε for which ``‖x̃ − x*‖∞ ≤ (ε/√d) ‖r‖ ‖A†‖`` holds with probability 1 − delta, Gaussian sketch of `m` rows.

    Derived here: given SA the error is normal with covariance ‖r‖²/m ((SA)ᵀSA)⁻¹, which takes care of the numerator, a union
    over the coordinates; Davidson & Szarek's bound on the smallest singular value of SU takes care of the denominator.

    Parameters
    ----------
    m, d : int
        Rows of the sketch and columns of A.
    delta : float
        Failure probability, one half for each of the two events.
    targets : int
        Number of right-hand sides for which it must hold at once.

    Returns
    -------
    float
        Infinite where `m` is too small to say anything.
    """
    room = 1 - embedding_distortion(m, d, delta / 2)
    return (
        math.sqrt(d) * math.sqrt(2 * math.log(4 * d * targets / delta) / m) / room
        if room > 0
        else math.inf
    )


def rows_needed(d: int, epsilon: float = 0.5, delta: float = 0.05, targets: int = 1) -> int:
    """The smallest number of rows m with ``eps_explicit(m, d, delta) <= epsilon``, at least d + 10."""
    a = math.sqrt(2 * d * math.log(4 * d * targets / delta))
    b = math.sqrt(d) + math.sqrt(2 * math.log(2 / delta))
    m = max(d + 10, math.ceil((a / epsilon + b) ** 2))
    while m > d + 10 and eps_explicit(m - 1, d, delta, targets) <= epsilon:
        m -= 1
    while eps_explicit(m, d, delta, targets) > epsilon:
        m += 1
    return m


def plain_bound(m: int, d: int, delta: float) -> float:
    """What an ℓ₂ embedding alone says about ``‖x̃ − x*‖₂ / (‖r‖ ‖A†‖)``."""
    distortion = embedding_distortion(m, d, delta / 2)
    return distortion / (1 - distortion) if distortion < 1 else math.inf


@dataclass(frozen=True)
class Evidence:
    """What one run knows, in coordinates in which the columns of A are scaled by `norms`; k right-hand sides.

    `row_law` and `family` are those of the sketch; `error` is the distance to the exact solution, of the answer and of the
    one-shot sketch-and-solve solution, where that solution is known; `residual` and `pinv` are ‖r‖ and ‖A†‖, or estimates.
    """

    n: int
    d: int
    m: int
    delta: float
    family: str
    row_law: str
    refined: bool
    stderr: Float[np.ndarray, "d k"]
    rounding: Float[np.ndarray, " k"]
    condition: float
    residual: Float[np.ndarray, " k"]
    pinv: float
    exact_norms: bool
    error: Float[np.ndarray, "d k"] | None = None
    one_shot_error: Float[np.ndarray, "d k"] | None = None
    inflation: float = 1.0
    block_share: float | None = None
    pooling: tuple[int, float] | None = (
        None  # block size, measured distortion (NaN where it was not measured)
    )

    @property
    def multiplier(self) -> float:
        """Half-width of the simultaneous error bars in standard errors."""
        if self.refined:
            return (1 + embedding_distortion(self.m, self.d, self.delta)) ** 2
        return float(student.isf(self.delta / (2 * self.stderr.size), self.m - self.d))


def _common(e: Evidence) -> list[Assumption]:
    found = [
        met(
            "A has full column rank",
            f"condition number of the sketched, scaled A is {e.condition:.4g}",
        ),
        met("the sketch has more rows than A has columns", f"m = {e.m} > d = {e.d}"),
        unchecked(
            "A and b were fixed before the sketch was drawn",
            "data cannot show how their sketch was chosen",
        ),
    ]
    if e.block_share is not None:
        statement = (
            "every block of rows carries no more than twice its share of leverage and residual"
        )
        evidence = f"the largest share is {e.block_share:.3g} times the block's part of the sketch"
        if e.block_share <= 2:
            found.append(met(statement, evidence))
        else:
            found.append(
                violated(
                    statement,
                    evidence,
                    "shuffle the rows, or sketch them all at once (block_rows=None).",
                )
            )
    return found


def _row_law(e: Evidence) -> Assumption:
    statement = "the rows of the sketch are independent Gaussian vectors"
    match e.row_law:
        case "gaussian":
            return met(statement, "by construction")
        case "asymptotic":
            return unchecked(
                statement,
                f"the rows of {e.family} mix all entries and are Gaussian only in the limit",
            )
        case "sampled":
            remedy = "use a dense sketch (srht, pooled, gaussian, circulant)."
            return violated(statement, f"each row of {e.family} holds one row of A", remedy)
        case _:
            return unchecked(statement, f"nothing is known about the rows of {e.family}")


def error_bars(e: Evidence) -> Certificate:
    """Theorem C(i) for the one-shot solution; for a refined one a bound a posteriori from its gradient."""
    measured = None
    if e.error is not None:
        radius = np.maximum(e.stderr + e.rounding / e.multiplier, np.finfo(float).tiny)
        measured = exact(float((np.abs(e.error) / radius).max()))
    inputs = {"m": e.m, "d": e.d, "delta": e.delta, "rounding": float(e.rounding.max())}
    needs = "the exact solution: verify=True computes it, x_exact passes it in."
    if e.refined:
        # e = (AᵀA)⁻¹ g with g = Aᵀ(b - Ax); Cauchy-Schwarz and (AᵀA)⁻¹ ⪯ (1 + ε₀)² (RᵀR)⁻¹ on the embedding event.
        return undeclared(
            "coordinate-error-bars",
            "every refined coefficient lies within (1 + ε₀)² times its own bar, √[(RᵀR)⁻¹]ⱼⱼ ‖R⁻ᵀAᵀ(b − Ax)‖, of the exact "
            "least-squares solution, up to rounding; measured is the largest error in bars",
            "derived here: Cauchy-Schwarz on the event that the sketch embeds the range of A",
            "<=",
            e.multiplier,
            1 - e.delta,
            measured,
            assumptions=(_row_law(e), *_common(e)),
            inputs=inputs,
            needs=needs,
        )
    return undeclared(
        "coordinate-error-bars",
        "every coefficient lies within t times its own standard error of the exact least-squares solution, all at once, up to "
        "rounding; measured is the largest error in standard errors",
        "derived here, exact for Gaussian sketches: (x̃ⱼ − x*ⱼ)/stderrⱼ has Student's t distribution with m − d degrees of freedom",
        "<=",
        e.multiplier,
        1 - e.delta,
        measured,
        assumptions=(_row_law(e), *_common(e)),
        inputs=inputs,
        needs=needs,
        remedy="take more rows, or a dense sketch (srht, pooled, gaussian) if this one is sparse.",
    )


def _proof(e: Evidence) -> tuple[str, Assumption]:
    """Source of the ℓ∞ bound for this sketch, and what is left to believe."""
    match e.family:
        case "gaussian":
            return "derived here: constants of the Gaussian sketch", met(
                "the sketch is Gaussian", "by construction"
            )
        case "pooled":
            size, distortion = e.pooling or (0, math.nan)
            kappa = e.d**-0.5
            evidence = f"blocks of {size} rows; the theorem leaves its constants open"
            if not math.isnan(distortion):
                evidence += f"; measured distortion {distortion:.3g}, wanted at most κ = {kappa:.3g} at constant 1"
            statement = "the pooled blocks are large enough to be nearly isotropic"
            return f"{CORRECTION}, with the constants of the Gaussian sketch", unchecked(
                statement, evidence
            )
        case "srht" | "circulant" | "block-srht" | "tensor-srht":
            statement = "rows in proportion to d (up to logarithms) suffice for this sketch"
            evidence = "the published proof is incomplete (Song & Zhang 2026); calibrated by simulation instead"
            return f"{PAPER}, with the constants of the Gaussian sketch", unchecked(
                statement, evidence
            )
        case _:
            statement = "the sketch is a dense oblivious coordinate-wise embedding"
            if e.row_law == "sampled":
                assumption = violated(
                    statement, f"{e.family} keeps single rows", "use srht, pooled or gaussian."
                )
            else:
                assumption = unchecked(statement, f"nothing is known about {e.family}")
            return f"{PAPER}, with the constants of the Gaussian sketch", assumption


def linf_bound(e: Evidence) -> Certificate:
    """Theorems A, B and C(ii): ``‖x̃ − x*‖∞ ≤ (ε/√d) ‖r‖ ‖A†‖`` for the one-shot solution."""
    source, assumption = _proof(e)
    epsilon = math.sqrt(e.inflation) * eps_explicit(e.m, e.d, e.delta, e.stderr.shape[1])
    bounds = epsilon / math.sqrt(e.d) * e.residual * e.pinv + e.rounding
    worst, measured = int(np.argmax(bounds)), None
    if e.one_shot_error is not None:
        errors = np.abs(e.one_shot_error).max(axis=0)
        if math.isfinite(epsilon):
            worst = int(np.argmax(errors / np.maximum(bounds, np.finfo(float).tiny)))
        measured = exact(float(errors[worst]))
    trivial = plain_bound(e.m, e.d, e.delta) * e.residual[worst] * e.pinv + e.rounding[worst]
    return undeclared(
        "linf-bound",
        "the largest error of any coefficient, times the norm of its column, is at most (ε/√d) ‖r‖ ‖A†‖"
        + (" before refinement" if e.refined else ""),
        source,
        "<=",
        float(bounds[worst]),
        1 - e.delta,
        measured,
        trivial=float(trivial),
        assumptions=(
            assumption,
            (met if e.exact_norms else unchecked)(
                "‖r‖ and ‖A†‖ are known",
                "computed from A and b" if e.exact_norms else "estimated from the sketch",
            ),
            *_common(e),
        ),
        inputs={
            "epsilon": epsilon,
            "m": e.m,
            "d": e.d,
            "residual norm": float(e.residual[worst]),
            "norm of A†": e.pinv,
        },
        needs="the exact solution: verify=True computes it, x_exact passes it in.",
        remedy="take more rows, or a dense sketch (srht, pooled, gaussian) if this one is sparse.",
    )


def optimality(
    gradient: float, scale: float, size: int, condition: float, unit: float
) -> Certificate:
    """For an exact solution: ``|xⱼ − x*ⱼ| ≤ √[(AᵀA)⁻¹]ⱼⱼ ‖R⁻ᵀAᵀ(b − Ax)‖``, so that norm must be rounding."""
    return undeclared(
        "exact-solution",
        "the solution meets the normal equations up to rounding, ‖R⁻ᵀAᵀ(b − Ax)‖ ≤ 100 u √d κ(A) ‖b‖",
        "derived here: optimality of least squares",
        "<=",
        100 * unit * math.sqrt(size) * condition * scale,
        1.0,
        exact(gradient),
        assumptions=(
            met("A has full column rank", f"condition number of the scaled A is {condition:.4g}"),
        ),
        inputs={"unit roundoff": unit, "condition": condition, "norm of b": scale},
    )
