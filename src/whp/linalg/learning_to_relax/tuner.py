"""Tuners: ask for a relaxation parameter, tell what the solve cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from whp.bandits.tsallis_inf import TsallisINF
from whp.kernel import compiled
from whp.linalg.learning_to_relax.solvers import as_omega
from whp.linalg.learning_to_relax.theory import optimal_omega
from whp.validate import as_int, as_real, as_vector

__all__ = ["GRID", "LEARNERS", "RelaxationTuner"]

GRID = tuple(np.linspace(1, 1.95, 20).round(10).tolist())
LEARNERS = ("tsallis", "tsallis-cb", "chebcb", "young")


@compiled
def _fit(G, h, limits, theta):
    """Least squares in a box by coordinate descent on the Gram matrix, from the last solution."""
    m = len(theta)
    for _ in range(500):
        moved, size = 0.0, 0.0
        for j in range(m):
            if G[j, j] <= 0:
                continue
            s = h[j]
            for i in range(m):
                s -= G[j, i] * theta[i]
            new = min(max(theta[j] + s / G[j, j], -limits[j]), limits[j])
            moved = max(moved, abs(new - theta[j]))
            size = max(size, abs(new))
            theta[j] = new
        if moved <= 1e-9 * (size + 1e-12):
            return


class Chebyshev:
    """ChebCB: costs of each arm as a polynomial of the context, arms drawn by inverse gaps. Memory does not grow.

    Constants are those of the authors' code; prediction errors that set its exploration are summed as they are made.
    """

    def __init__(
        self, arms: int, low: float, high: float, degree: int, rng: np.random.Generator
    ) -> None:
        self.low, self.high, self.degree, self.rng = low, high, degree, rng
        self.G, self.h = np.zeros((arms, degree, degree)), np.zeros((arms, degree))
        self.theta = np.zeros((arms, degree))
        self.sums = np.zeros(
            6
        )  # rounds, Σ squared errors of predictions, Σ (c − 1)², least and largest cost, clipped contexts
        self.sums[3], self.sums[4] = np.inf, -np.inf
        self._said: tuple[int, np.ndarray, np.ndarray] | None = None

    def _scales(self) -> tuple[float, float, np.ndarray]:
        """s, α and the box of the coefficients."""
        _, _, _, least, most, _ = self.sums
        span, K = self.high - self.low, max(most, 1.0)
        lipschitz = max(most - least, 0.0) / span
        N = 2 + 4 * span * lipschitz / K * (1 + math.log(self.degree))
        s = K * N
        limits = np.empty(self.degree)
        limits[0] = 1 / N
        limits[1:] = 2 * span * lipschitz / (s * np.arange(1, self.degree))
        m = self.degree
        alpha = (math.pi + 2 / math.pi * math.log(2 * m + 1)) * span * lipschitz / (2 * s * (m + 1))
        return s, alpha, limits

    def features(self, context: float) -> Float[np.ndarray, " m"]:
        """Chebyshev polynomials of the context, which is clipped to its range."""
        z = 2 * (context - self.low) / (self.high - self.low) - 1
        if abs(z) > 1:
            self.sums[5] += 1
        return np.cos(np.arange(self.degree) * math.acos(min(max(z, -1.0), 1.0)))

    def probabilities(self, phi: np.ndarray) -> np.ndarray:
        """Inverse to how much worse an arm seems than the best one."""
        d, t = len(self.theta), self.sums[0]
        if t == 0:
            return np.full(d, 1 / d)
        s, alpha, _ = self._scales()
        errors = max(self.sums[1] / (s * s), 1e-300)
        eta = 2 * t * math.sqrt(d * t / (errors + 2 * alpha * alpha * t))
        said = self.theta @ phi
        best = int(said.argmin())
        p = 1 / (d + eta * (said - said[best]))
        p[best] = 0.0
        p[best] = 1 - p.sum()
        return p

    def ask(self, context: float) -> tuple[int, np.ndarray]:
        phi = self.features(context)
        p = self.probabilities(phi)
        arm = min(int(np.searchsorted(np.cumsum(p), self.rng.random(), side="right")), len(p) - 1)
        self._said = arm, phi, p
        return arm, p

    def tell(self, cost: float) -> None:
        assert self._said is not None
        arm, phi, _ = self._said
        before, _, _ = self._scales() if self.sums[0] else (1.0, 0.0, phi)
        if self.sums[0]:
            self.sums[1] += (before * float(self.theta[arm] @ phi) - (cost - 1)) ** 2
        self.sums[0] += 1
        self.sums[2] += (cost - 1) ** 2
        grew = cost < self.sums[3] or cost > self.sums[4]
        self.sums[3], self.sums[4] = min(self.sums[3], cost), max(self.sums[4], cost)
        self.G[arm] += np.outer(phi, phi)
        self.h[arm] += (cost - 1) * phi
        s, _, limits = self._scales()
        for i in range(len(self.theta)) if grew else (arm,):
            if grew:
                self.theta[i] *= before / s
            _fit(self.G[i], self.h[i] / s, limits, self.theta[i])
        self._said = None


class RelaxationTuner:
    """Chooses ω for a stream of systems from what the solves cost, nothing else.

    Three lines in a time-stepping loop: ``_, omega = tuner.ask(); info = sor(A, b, omega); tuner.tell(info.iterations)``.

    Parameters
    ----------
    learner : {"tsallis", "tsallis-cb", "chebcb", "young"} or float
        Tsallis-INF; one in each bin of the context; Chebyshev polynomials of the context; Young's formula, which needs
        `jacobi` and takes the context for a shift; or a fixed ω.
    omegas : array_like, shape (d,), optional
        Grid in (0, 2); 20 values from 1 to 1.95 by default.
    context_range : (float, float), optional
        Needed by the contextual learners.
    bins, degree : int
        Bins of "tsallis-cb"; coefficients of "chebcb".
    rate : str
        Of Tsallis-INF, see :class:`whp.bandits.TsallisINF`.
    jacobi : (float, float), optional
        β₀ and the constant diagonal a₀ of an unshifted matrix, for "young": A₀ + cI has β₀a₀/(a₀ + c).
    rng : numpy.random.Generator, int or None

    Attributes
    ----------
    omegas : ndarray, shape (d,)
    rounds : int
    bound : float
        Executed bound on the expected regret, in iterations; NaN for "chebcb" and infinite precision for fixed ω: zero.
    """

    def __init__(
        self,
        learner: str | float = "tsallis",
        omegas: Any = None,
        *,
        context_range: tuple[float, float] | None = None,
        bins: int = 5,
        degree: int = 6,
        rate: str = "running",
        jacobi: tuple[float, float] | None = None,
        rng: np.random.Generator | int | None = None,
    ) -> None:
        grid = as_vector(GRID if omegas is None else omegas, "omegas", dtype=np.float64)
        if isinstance(learner, str) and learner not in LEARNERS:
            raise ValueError(
                f"learner must be one of {', '.join(LEARNERS)} or a number, got {learner!r}"
            )
        if not isinstance(learner, str):
            grid = np.array([as_omega(learner, "learner")])
        for value in grid.tolist():
            as_omega(value, "omegas")
        self.learner, self.omegas, self.rounds = learner, grid, 0
        random = np.random.default_rng(rng)
        self.contextual = learner in ("tsallis-cb", "chebcb") or learner == "young"
        self.range: tuple[float, float] | None = None
        if learner in ("tsallis-cb", "chebcb"):
            if context_range is None:
                raise ValueError(f"context_range must be given for {learner}, got None")
            low, high = (as_real(v, "context_range") for v in context_range)
            if not low < high or not math.isfinite(high - low):
                raise ValueError(
                    f"context_range must be two finite numbers, the first smaller, got {low:g}, {high:g}"
                )
            self.range = (low, high)
        self._cells: list[TsallisINF] = []
        self._cheb: Chebyshev | None = None
        self._young: tuple[float, float] | None = None
        if learner == "tsallis":
            self._cells = [TsallisINF(len(grid), rate, random)]
        elif learner == "tsallis-cb":
            self._cells = [
                TsallisINF(len(grid), rate, random) for _ in range(as_int(bins, "bins", low=1))
            ]
        elif learner == "chebcb":
            assert self.range is not None
            self._cheb = Chebyshev(len(grid), *self.range, as_int(degree, "degree", low=1), random)
        elif learner == "young":
            if jacobi is None:
                raise ValueError(
                    "jacobi must be given for young: β₀ and the diagonal of the unshifted matrix"
                )
            self._young = (
                as_real(jacobi[0], "jacobi", low=0, high=1),
                as_real(jacobi[1], "jacobi", low=0, open_ends=True, high=math.inf),
            )
        self._asked: TsallisINF | None = None
        self._open = False
        self.probabilities = np.full(len(grid), 1 / len(grid))

    def ask(self, context: float | np.number | None = None) -> tuple[int, float]:
        """Number and value of the ω to use now.

        Raises
        ------
        ValueError
            If a contextual learner gets no context, or one that is not finite.
        """
        value = math.nan
        if self.contextual:
            if context is None:
                raise ValueError(f"context must be given for {self.learner}, got None")
            value = as_real(float(context), "context", low=-1e300, high=1e300)
        self._open = True
        if self._cells:
            cell = self._cells[0]
            if len(self._cells) > 1 or self.learner == "tsallis-cb":
                assert self.range is not None
                low, high = self.range
                number = int((value - low) / (high - low) * len(self._cells))
                cell = self._cells[min(max(number, 0), len(self._cells) - 1)]
            self._asked = cell
            self.probabilities = cell.probabilities
            arm = cell.ask()
        elif self._cheb is not None:
            arm, self.probabilities = self._cheb.ask(value)
        elif self._young is not None:
            beta, diagonal = self._young
            return -1, optimal_omega(min(beta * diagonal / (diagonal + value), 1.0))
        else:
            arm = 0
        return arm, float(self.omegas[arm])

    def tell(self, cost: float | np.number) -> None:
        """Learn what the solve cost, at least 1 iteration.

        Raises
        ------
        ValueError
            If nothing was asked, or the cost is below 1.
        """
        if not self._open:
            raise ValueError("ask must come before tell")
        value = as_real(float(cost), "cost", low=1, high=1e300)
        if self._asked is not None:
            self._asked.tell(value)
            self._asked = None
        elif self._cheb is not None:
            self._cheb.tell(value)
        self._open = False
        self.rounds += 1

    @property
    def bound(self) -> float:
        """Executed bound on expected regret, to the best fixed ω, or to the best one of each bin."""
        return math.nan if self._cheb is not None else sum(c.bound for c in self._cells)

    @property
    def rates(self) -> tuple[float, ...]:
        """R of each Tsallis-INF."""
        return tuple(c.rate for c in self._cells)

    def state_dict(self) -> dict[str, Any]:
        """All that has been learnt, and the state of the draws."""
        state: dict[str, Any] = {
            "rounds": self.rounds,
            "cells": [c.state_dict() for c in self._cells],
        }
        if self._cheb is not None:
            c = self._cheb
            state["cheb"] = {n: getattr(c, n).copy() for n in ("G", "h", "theta", "sums")} | {
                "rng": c.rng.bit_generator.state
            }
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken, in a tuner of the same settings: the draws that follow are the same."""
        wanted = {"rounds", "cells"} | ({"cheb"} if self._cheb is not None else set())
        if set(state) != wanted or len(state["cells"]) != len(self._cells):
            raise ValueError(
                f"state must hold {', '.join(sorted(wanted))} of {len(self._cells)} learners"
            )
        for cell, told in zip(self._cells, state["cells"], strict=True):
            cell.load_state_dict(told)
        if self._cheb is not None:
            told = state["cheb"]
            for name in ("G", "h", "theta", "sums"):
                array = np.array(told[name], dtype=np.float64)
                if array.shape != getattr(self._cheb, name).shape:
                    raise ValueError(
                        f"state['cheb'][{name!r}] must have shape {getattr(self._cheb, name).shape}"
                    )
                setattr(self._cheb, name, array)
            self._cheb.rng.bit_generator.state = told["rng"]
        self.rounds = int(state["rounds"])
