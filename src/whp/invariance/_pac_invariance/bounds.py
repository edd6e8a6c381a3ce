"""What a number of environments proves: probabilities, counts, and environments needed."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from whp.validate import as_bool, as_choice, as_fraction, as_int, as_real

__all__ = [
    "detection",
    "draws_needed",
    "environments_needed",
    "held_out_needed",
    "noticeable",
    "split_count",
    "uniform",
    "vc_dimension",
    "violation",
]

NODES = 400  # of the quadrature over chi-squared quantiles
MANY = 1000  # places or parents, whose dimensions are beyond use
LARGE = 100  # standard deviations of the noise, beyond which it no longer matters
SIZES = 30  # of environments at which the chance of detection is looked at


def violation(m: int, d: int, delta: float) -> float:
    """The probability η that a new constraint is violated, of a convex programme in d variables and m random constraints.

    The smallest η with P(binomial(m, η) ≤ d − 1) ≤ delta; 1 where m < d.
    """
    from scipy.stats import beta

    return 1.0 if m < d else float(beta.isf(delta, d, m - d + 1))


def split_count(m: int, held_out: int, d: int, delta: float) -> int:
    """The most of `held_out` constraints, split off at random, that violate the optimum of the other m; `held_out` where m < d."""
    from scipy.stats import betabinom

    if m < d:
        return held_out
    return int(betabinom.isf(delta, held_out, d, m - d + 1))


def uniform(m: int, v: float, delta: float) -> float:
    """The probability of a violation for every consistent set of a class of VC dimension v at once (Blumer et al. 1989)."""
    if m < v / 2 or m < 1:
        return 1.0
    return min(1.0, 2 / m * (v * math.log2(2 * math.e * m / v) + math.log2(2 / delta)))


def environments_needed(
    size: int, *, eta: float, delta: float = 0.05, n_subsets: int = 1, center: bool = True
) -> int:
    """How many environments must be fitted before the violation probability of a subset is at most `eta`.

    Parameters
    ----------
    size : int
        Columns of the subset.
    eta : float
        Probability that a new environment exceeds the largest residual of the fitted ones.
    delta : float
        Failure probability.
    n_subsets : int
        Subsets that are searched.
    center : bool
        Whether each environment has an intercept of its own; a common one counts as a column.

    Examples
    --------
    >>> environments_needed(1, eta=0.1)
    46
    """
    size, n_subsets = as_int(size, "size", low=1), as_int(n_subsets, "n_subsets", low=1)
    eta, delta = as_real(eta, "eta", low=1e-12, high=1), as_fraction(delta, "delta")
    center = as_bool(center, "center")
    return draws_needed(size + 1 + (not center), eta, delta / n_subsets)


def draws_needed(d: int, eta: float, delta: float) -> int:
    """The fewest constraints for which :func:`violation` in d variables is at most `eta`."""
    high = d
    while violation(high, d, delta) > eta:
        high *= 2
    low = max(d - 1, high // 2)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if violation(middle, d, delta) <= eta else (middle, high)
    return high


def held_out_needed(eta: float) -> int:
    """How many held-out environments without a violation it takes for a 95 % interval to lie below `eta`."""
    return math.ceil(math.log(0.025) / math.log1p(-eta)) if eta < 1 else 0


def vc_dimension(kind: Literal["subset", "linear", "sites"], **sizes: int) -> int:
    """VC dimension of the sets of environments in which the normal equations of a head are off by at most ε.

    Parameters
    ----------
    kind : {"subset", "linear", "sites"}
        A fixed representation of `size` outputs, heads and ε free; every linear representation of
        `outputs` × `inputs`; or every representation and head, where environments differ by
        interventions at `sites` places with `in_degree` parents each (`scales=1`: and noise scales).
    **sizes : int
        As named.

    Examples
    --------
    >>> vc_dimension("subset", size=2), vc_dimension("sites", sites=1, in_degree=2)
    (6, 15)
    """
    wanted = {
        "subset": ("size",),
        "linear": ("outputs", "inputs"),
        "sites": ("sites", "in_degree", "scales"),
    }
    kind = as_choice(kind, "kind", tuple(wanted))
    if kind == "sites":
        sizes = {"scales": 0, **sizes}
    if set(sizes) != set(wanted[kind]):
        raise TypeError(
            f"kind {kind!r} takes {', '.join(wanted[kind])}, got {', '.join(sizes) or 'nothing'}"
        )
    for name in sizes:
        as_int(
            sizes[name],
            name,
            low=0 if name == "scales" else 1,
            high=MANY if kind == "sites" else None,
        )
    if kind == "subset":
        return math.comb(sizes["size"] + 2, 2)
    if kind == "linear":
        k, p = sizes["outputs"], sizes["inputs"]
        return math.floor(2 * (k * p + k + 1) * math.log2(72))
    K, r = sizes["sites"], sizes["in_degree"]
    if sizes["scales"]:
        return math.comb(K * r + K + 4 * K + 2, 4 * K + 2)
    return math.comb(K * r + 4 * K, 4 * K)


def detection(t: float, n: np.ndarray | int, size: int, epsilon: float) -> np.ndarray:
    """P(residual > epsilon) in an environment of n rows whose true value is t, residual metric, Gaussian columns and noise.

    Parameters
    ----------
    t : float
        Excess risk over the environment's own best head, in standard deviations of its noise.
    n : int or ndarray of int
        Rows.
    size : int
        Columns of the subset.
    epsilon : float
        The largest residual of the fitted environments.

    Returns
    -------
    ndarray, shape of n
    """
    from scipy.stats import chi2, ncf

    if epsilon > LARGE:  # the ratio of both alone counts, and series of ncf grow long
        t, epsilon = t * LARGE / epsilon, LARGE
    rows = np.atleast_1d(np.asarray(n, float))[:, None]
    quantiles = chi2.ppf((np.arange(NODES) + 0.5) / NODES, rows - 1)
    free = rows - size - 1
    with np.errstate(all="ignore"):
        seen = ncf.sf(free / size * epsilon**2, size, free, t**2 * quantiles)
    return np.clip(seen, 0.0, 1.0).mean(axis=1)


def least_detection(t: float, rows: tuple[int, int], size: int, epsilon: float) -> float:
    """The smallest :func:`detection` over environments of `rows` = (fewest, most) rows; neither end is always the smallest."""
    return float(detection(t, between(rows), size, epsilon).min())


def between(rows: tuple[int, int]) -> np.ndarray:
    """Numbers of rows at which detection is looked at: both ends, and a geometric grid."""
    return np.unique(np.geomspace(rows[0], rows[1], SIZES).round().astype(int))


def noticeable(rows: tuple[int, int], size: int, epsilon: float) -> float:
    """The smallest t that an environment of any of these numbers of rows shows with probability one half."""
    from scipy.optimize import brentq

    def short(t: float) -> float:
        return least_detection(t, rows, size, epsilon) - 0.5

    if short(0.0) >= 0:
        return 0.0
    high = 2 * epsilon
    while short(high) < 0:
        high *= 2
    return float(brentq(short, 0.0, high, xtol=1e-7 * epsilon))
