"""What is noted of a run, and how far rounding may have moved each number."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from whp.distributed._error_feedback.stepsizes import (
    Constants,
    Smoothness,
    constants,
    noisy,
    weighted_mean,
)

__all__ = [
    "COARSE",
    "DOUBLE",
    "NOTHING",
    "Noise",
    "Run",
    "Terms",
    "Trace",
    "f_rounding",
    "in_single",
]

DOUBLE, SINGLE = float(np.finfo(np.float64).eps), float(np.finfo(np.float32).eps)
COARSE = 1e-6  # the most that `rounding` may be
EDGE = 1 + 1e-9  # 1/L times L is not 1 in floating point
NOTHING = 1e-150  # lengths whose squares are rounded to few digits, or to 0


def in_single(values: np.ndarray) -> np.ndarray:
    """Which entries are numbers of single precision, as gradients of torch cast to float64 are."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32) == values


def f_rounding(d: int, magnitude: Any, norms: Any, size: Any, eps: float = DOUBLE) -> Any:
    """How far rounding by `eps` may move f: its terms are of the size of f_i and of ‖∇f_i‖‖x‖."""
    return (4 + math.sqrt(d)) * eps * (2 * magnitude + norms * size) + NOTHING**2


def promised(gamma: np.ndarray, gradient2: np.ndarray) -> np.ndarray:
    """By how much Φ falls at least."""
    return gamma / 2 * gradient2


@dataclass(frozen=True, eq=False)
class Noise:
    """Draws of noisy gradients, less the gradients.

    Parameters
    ----------
    squares : ndarray, shape (K, n)
        ‖ĝ_i − ∇f_i‖² of each draw.
    along : ndarray, shape (K, n)
        Its component along the sum of those before.
    """

    squares: np.ndarray
    along: np.ndarray


@dataclass(frozen=True, eq=False)
class Trace:
    """Numbers of a run of T steps and n clients.

    Parameters
    ----------
    f, gradient2, G : ndarray, shape (T + 1,)
        f, ‖∇f‖² and the weighted squared distance of shifts to gradients, at x^0 .. x^T.
    gamma : ndarray, shape (T,)
    size : ndarray, shape (T + 1,)
        ‖x‖.
    norms, magnitudes : ndarray, shape (T + 1, n)
        ‖∇f_i‖, and |f_i|: NaN without f.
    moved : ndarray, shape (T,)
        ‖x^{t+1} − x^t‖.
    before, after : ndarray, shape (T,)
        ⟨∇f(x), x^{t+1} − x^t⟩ at both ends.
    mean_change : ndarray, shape (T,)
        ‖∇f(x^{t+1}) − ∇f(x^t)‖.
    changes : ndarray, shape (T, n)
        The same of each client.
    single : ndarray of bool, shape (n,)
        Whose gradients came in single precision at every point.
    single_f : bool
        Whether all values did.
    lost : ndarray, shape (at most T + 1, n)
        ‖C(v) − v‖²/‖v‖² of each client at each step, NaN where it sent nothing.
    shrunk : float
        The least α that the compressor stated during the run, over that of the start.
    outside : float
        Largest entry of a gradient outside of its client's support.
    again : ndarray, shape (n,)
        How far the gradients at x^0 were from the first ones when asked for a second time.
    f_again : float
        The same of f.
    d : int
    source : str
        State of the generator at the start.
    noise : Noise, optional
    slopes : ndarray, shape (P, 4)
        Differences of f at some points: the step t, half of their length h,
        (f(x^t + hu) − f(x^t − hu))/(2h) of a direction u, and ⟨∇f(x^t), u⟩.
    """

    f: np.ndarray
    gradient2: np.ndarray
    G: np.ndarray
    gamma: np.ndarray
    magnitudes: np.ndarray
    size: np.ndarray
    norms: np.ndarray
    moved: np.ndarray
    before: np.ndarray
    after: np.ndarray
    mean_change: np.ndarray
    changes: np.ndarray
    single: np.ndarray
    single_f: bool
    lost: np.ndarray
    outside: float
    again: np.ndarray
    f_again: float
    d: int
    source: str = ""
    noise: Noise | None = None
    slopes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    shrunk: float = 1.0

    @cached_property
    def magnitude(self) -> np.ndarray:
        """Mean of |f_i|, shape (T + 1,)."""
        return self.magnitudes.mean(axis=1)

    @property
    def contraction(self) -> float:
        """Largest ‖C(v) − v‖²/‖v‖² that occurred."""
        return float(np.nanmax(self.lost, initial=0.0))


@dataclass(frozen=True, eq=False)
class Terms:
    """What a run was told, as its theorems need it.

    Parameters
    ----------
    smoothness : Smoothness
    alpha : float
        Contraction of the compressor, with rare features k/r.
    participation : float
        The least probability with which a client takes part.
    f_inf : float
    weights : ndarray, shape (n,)
    method, step, init : str
    mu : float, optional
    variance : ndarray, shape (n,), optional
    spread : tuple of float, optional
        √D and c/n of rare features.
    known : str
        Why the compressor contracts, if it is one of the library's.
    deterministic : bool
        Whether the compressor draws nothing.
    rounding : float
        Of gradients and values, relatively, where it is more than they show themselves.
    """

    smoothness: Smoothness
    alpha: float
    f_inf: float
    weights: np.ndarray
    method: str = "EF21"
    step: str = "am"
    init: str = "compress"
    participation: float = 1.0
    mu: float | None = None
    variance: np.ndarray | None = None
    spread: tuple[float, float] | None = None
    known: str = ""
    deterministic: bool = True
    rounding: float = 0.0

    @cached_property
    def own(self) -> Constants:
        """Of the compressor with participation."""
        return constants(self.alpha * self.participation)

    @property
    def random(self) -> bool:
        """Whether a run draws anything."""
        return self.method in ("EF21-SGD", "EF21-PP") or not self.deterministic

    @property
    def theta(self) -> float:
        """θ, or what takes its place with noisy gradients."""
        if self.method == "EF21-SGD":
            return noisy(self.own.alpha)[3]
        return self.own.theta

    @property
    def factor(self) -> float:
        """What G is multiplied by: c/n with rare features."""
        return 1.0 if self.spread is None else self.spread[1]

    @cached_property
    def longest(self) -> float:
        """Largest step that the theorem of the mean gradient allows."""
        L = self.smoothness.L
        if self.spread is not None:
            return 1 / (L + self.spread[0] * self.own.xi)
        if self.method == "EF21-SGD":
            _, B, _, theta = noisy(self.own.alpha)
            return 1 / (L + self.mean * math.sqrt(B / theta))
        return 1 / (L + self.mean * self.own.xi)

    def longest_polyak(self, mu: float) -> float:
        """Largest step that the theorem of the linear rate allows."""
        smooth = 1 / (self.smoothness.L + math.sqrt(2) * self.mean * self.own.xi)
        return min(smooth, self.own.theta / (2 * mu))

    @property
    def old(self) -> bool:
        """Whether the old analysis is the one: all clients weigh the same in G."""
        return self.step == "qm" and self.method != "EF21-W"

    @property
    def mean(self) -> float:
        """The mean of L_i that the analysis uses."""
        known = self.smoothness
        return known.qm if self.old else weighted_mean(known.clients, self.weights)

    @cached_property
    def coefficients(self) -> np.ndarray:
        """Of ‖g_i − ∇f_i‖² in G, g_i on the scale of gradients."""
        n = len(self.weights)
        if self.old:
            return np.full(n, 1 / n)
        return 1 / (n**2 * self.weights)


class Run:
    """A trace with its terms; the rounding of each number is an upper estimate.

    A sum of d products is off by √d ε of its terms or less, unless all errors have one sign; the
    terms inside of ∇f_i are taken to be of the size of ∇f_i, L_i‖x‖ and √(2 L_i|f_i|), which is that
    of residuals: a target that hardly depends on x leaves a small gradient of large terms.
    """

    def __init__(self, trace: Trace, terms: Terms) -> None:
        self.trace, self.terms = trace, terms
        self.many = 4 + float(np.sqrt(trace.d))

    @cached_property
    def clients_off(self) -> np.ndarray:
        """Rounding of each ∇f_i, shape (T + 1, n)."""
        t = self.trace
        eps = np.maximum(np.where(t.single, SINGLE, DOUBLE), self.terms.rounding)
        L = self.terms.smoothness.clients
        residuals = np.sqrt(2 * L) * np.sqrt(np.nan_to_num(t.magnitudes))
        return self.many * eps * (t.norms + L * t.size[:, None] + residuals)

    @cached_property
    def gradient_off(self) -> np.ndarray:
        """Rounding of ‖∇f‖, shape (T + 1,)."""
        return self.clients_off.mean(axis=1)

    @cached_property
    def f_off(self) -> np.ndarray:
        """Rounding of f, shape (T + 1,)."""
        t = self.trace
        eps = max(SINGLE if t.single_f else DOUBLE, self.terms.rounding)
        return f_rounding(t.d, t.magnitude, t.norms.mean(axis=1), t.size, eps)

    @cached_property
    def f_coarse(self) -> np.ndarray:
        """Rounding of f if some of it is in float32, which not every value shows, shape (T + 1,)."""
        t = self.trace
        return f_rounding(t.d, t.magnitude, t.norms.mean(axis=1), t.size, COARSE)

    @cached_property
    def G_off(self) -> np.ndarray:
        """Rounding of G, shape (T + 1,)."""
        t = self.trace
        squared = (self.clients_off**2) @ self.terms.coefficients
        return 2 * np.sqrt(t.G) * np.sqrt(squared) + squared + self.many * DOUBLE * t.G

    @cached_property
    def gradient2_off(self) -> np.ndarray:
        """Rounding of ‖∇f‖², shape (T + 1,)."""
        off = self.gradient_off
        return 2 * np.sqrt(self.trace.gradient2) * off + off**2

    @cached_property
    def rises(self) -> np.ndarray:
        """Φ^{t+1} − Φ^t + γ/2‖∇f(x^t)‖², each step with its own γ, shape (T,)."""
        t = self.trace
        weight = t.gamma / (2 * self.terms.theta) * self.terms.factor
        fall = (t.f[1:] - t.f[:-1]) + weight * (t.G[1:] - t.G[:-1])
        return fall + promised(t.gamma, t.gradient2[:-1])

    @cached_property
    def slack(self) -> np.ndarray:
        """How far rounding may have raised `rises`, shape (T,)."""
        t, off = self.trace, self.clients_off
        weight = t.gamma / (2 * self.terms.theta) * self.terms.factor
        # C acts on gradients as they were computed: what they are off by enters their change
        L = self.terms.smoothness.clients
        cross = (2 * t.moved[:, None] * L * (off[1:] + off[:-1])) @ self.terms.coefficients
        return (
            self.f_off[1:]
            + self.f_off[:-1]
            + weight * (self.G_off[1:] + self.G_off[:-1] + self.terms.own.beta * cross)
            + t.gamma * self.gradient2_off[:-1]
        )

    @cached_property
    def fell(self) -> bool:
        """Whether the proof's inequality held at every step."""
        return bool((self.rises <= self.slack).all())

    @property
    def seen(self) -> float:
        """Mean of ‖∇f‖² over the steps, each weighed by its length."""
        t = self.trace
        return float(t.gamma @ t.gradient2[:-1] / t.gamma.sum())

    @property
    def seen_off(self) -> float:
        """Its rounding."""
        t = self.trace
        return float(t.gamma @ self.gradient2_off[:-1] / t.gamma.sum())

    @cached_property
    def mean_changes(self) -> np.ndarray:
        """‖∇f(x^{t+1}) − ∇f(x^t)‖, less what rounding can make, shape (T,)."""
        off = self.gradient_off[1:] + self.gradient_off[:-1]
        return np.maximum(self.trace.mean_change - off, 0.0)

    @cached_property
    def largest_change(self) -> float:
        """Largest ‖∇f(x) − ∇f(y)‖/‖x − y‖ of two consecutive points, less what rounding can make."""
        moved = self.trace.moved
        went = moved > NOTHING
        return float((self.mean_changes[went] / moved[went]).max(initial=0.0))

    @cached_property
    def largest_changes(self) -> np.ndarray:
        """The same of each client, shape (n,)."""
        t = self.trace
        went = t.moved > NOTHING
        if not went.any():
            return np.zeros(t.norms.shape[1])
        off = (self.clients_off[1:] + self.clients_off[:-1])[went]
        return np.maximum((t.changes[went] - off) / t.moved[went, None], 0.0).max(axis=0)


def settings_of(run: Run) -> dict[str, Any]:
    """What goes into the inputs of a certificate."""
    t, terms = run.trace, run.terms
    known = terms.smoothness
    told = {"rounding": terms.rounding} if terms.rounding else {}
    return told | {
        "T": len(t.gamma),
        "γ": float(t.gamma[0]),
        "largest γ of the theorem": terms.longest,
        "L": known.L,
        "L_AM": known.am,
        "L_QM": known.qm,
        "α": terms.own.alpha,
        "ξ": terms.own.xi,
        "f(x⁰) − f_inf": float(t.f[0] - terms.f_inf),
    }
