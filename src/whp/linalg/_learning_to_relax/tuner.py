"""Tuners: ask for a relaxation parameter, tell what the solve cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from whp.bandits.tsallis_inf import TsallisINF
from whp.linalg._learning_to_relax.chebyshev import Chebyshev
from whp.linalg._learning_to_relax.solvers import as_omega
from whp.linalg._learning_to_relax.young import optimal_omega
from whp.validate import as_int, as_real, as_vector, private_stream

__all__ = [
    "BINS",
    "DEGREE",
    "GRID",
    "LEARNERS",
    "RATE",
    "RelaxationTuner",
    "as_grid",
    "as_range",
    "bin_of",
    "refuse_ignored",
]

GRID = tuple(np.linspace(1, 1.95, 20).round(10).tolist())
LEARNERS = ("tsallis", "tsallis-cb", "chebcb", "young")
BINS, DEGREE, RATE = 5, 6, "running"  # where nothing else is given
OWNERS = {
    "omegas": LEARNERS,
    "bins": ("tsallis-cb",),
    "degree": ("chebcb",),
    "rate": ("tsallis", "tsallis-cb"),
    "jacobi": ("young",),
}


def refuse_ignored(learner: str | float, **given: Any) -> None:
    """Refuse options of other learners, which this one would ignore without a word."""
    for name, value in given.items():
        if value is not None and learner not in OWNERS[name]:
            raise ValueError(f"{name} must go with {' or '.join(OWNERS[name])}, not with {learner}")


def as_grid(omegas: Any) -> np.ndarray:
    """The values of ω to choose from, each in (0, 2)."""
    grid = as_vector(GRID if omegas is None else omegas, "omegas", dtype=np.float64)
    for value in grid.tolist():
        as_omega(value, "omegas")
    return grid


def as_range(value: Any, learner: str) -> tuple[float, float]:
    """The two ends of the contexts."""
    if value is None:
        raise ValueError(f"context_range must be given for {learner}, got None")
    low, high = (as_real(v, "context_range") for v in value)
    if not low < high or not math.isfinite(high - low):
        raise ValueError(
            f"context_range must be two finite numbers, the first smaller, got {low:g}, {high:g}"
        )
    return low, high


def bin_of(context: float, low: float, high: float, bins: int) -> int:
    """The bin of equal width that holds a context, the outermost ones for those outside."""
    share = min(max((context - low) / (high - low), 0.0), 1.0)  # before it is cut: it may overflow
    return min(int(share * bins), bins - 1)


class RelaxationTuner:
    """Chooses ω for a stream of systems from what the solves cost, nothing else.

    Three lines in a time-stepping loop: ``_, omega = tuner.ask(); info = sor(A, b, omega);
    tuner.tell(info.iterations)``.

    Parameters
    ----------
    learner : {"tsallis", "tsallis-cb", "chebcb", "young"} or float
        Tsallis-INF; one in each bin of the context; Chebyshev polynomials of the context; Young's
        formula, which needs `jacobi` and takes the context for a shift; or a fixed ω.
    omegas : array_like, shape (d,), optional
        Grid in (0, 2); 20 values from 1 to 1.95 by default.
    context_range : (float, float), optional
        Needed by the contextual learners; the others have no use for it.
    bins, degree : int, optional
        Bins of "tsallis-cb", 5 if not given; coefficients of "chebcb", 6 if not given.
    rate : str, optional
        Of Tsallis-INF, see :class:`whp.bandits.TsallisINF`; "running" if not given.
    jacobi : (float, float), optional
        β₀ and the constant diagonal a₀ of an unshifted matrix, for "young": A₀ + cI has β₀a₀/(a₀ + c).
    rng : numpy.random.Generator, int or None
        Of the draws, from a stream of its own: data drawn from the same seed share nothing with it.

    Attributes
    ----------
    omegas : ndarray, shape (d,)
        The grid.
    rounds : int
        How many have been told.
    outside : int
        Contexts outside of `context_range`, which were taken for its nearer end.
    """

    def __init__(
        self,
        learner: str | float = "tsallis",
        omegas: Any = None,
        *,
        context_range: tuple[float, float] | None = None,
        bins: int | None = None,
        degree: int | None = None,
        rate: str | None = None,
        jacobi: tuple[float, float] | None = None,
        rng: np.random.Generator | int | None = None,
    ) -> None:
        if isinstance(learner, str) and learner not in LEARNERS:
            raise ValueError(
                f"learner must be one of {', '.join(LEARNERS)} or a number, got {learner!r}"
            )
        refuse_ignored(learner, omegas=omegas, bins=bins, degree=degree, rate=rate, jacobi=jacobi)
        bins = as_int(BINS if bins is None else bins, "bins", low=1)
        degree = as_int(DEGREE if degree is None else degree, "degree", low=1)
        rate = RATE if rate is None else rate
        grid = (
            as_grid(omegas)
            if isinstance(learner, str)
            else np.array([as_omega(learner, "learner")])
        )
        self.learner, self.omegas, self.rounds = learner, grid, 0
        random = private_stream(rng)
        self.contextual = learner in ("tsallis-cb", "chebcb", "young")
        self.range: tuple[float, float] | None = None
        if learner in ("tsallis-cb", "chebcb"):
            self.range = as_range(context_range, str(learner))
        self._cells: list[TsallisINF] = []
        self._cheb: Chebyshev | None = None
        self._young: tuple[float, float] | None = None
        if learner == "tsallis":
            self._cells = [TsallisINF(len(grid), rate, random)]
        elif learner == "tsallis-cb":
            self._cells = [TsallisINF(len(grid), rate, random) for _ in range(bins)]
        elif learner == "chebcb":
            assert self.range is not None
            self._cheb = Chebyshev(len(grid), *self.range, degree, random)
        elif learner == "young":
            if jacobi is None:
                raise ValueError(
                    "jacobi must be given for young: β₀ and the diagonal of the unshifted matrix"
                )
            self._young = (
                as_real(jacobi[0], "jacobi", low=0, high=1),
                as_real(jacobi[1], "jacobi", low=0, open_ends=True, high=math.inf),
            )
        self._settings: dict[str, Any] = {
            "learner": learner,
            "omegas": tuple(grid.tolist()),
            "range": self.range,
            "rate": rate if self._cells else None,
            "bins": len(self._cells),
            "degree": self._cheb.degree if self._cheb is not None else None,
            "jacobi": self._young,
        }
        self._asked: TsallisINF | None = None
        self._open = False
        self.outside = 0
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
        if self.range is not None and not self.range[0] <= value <= self.range[1]:
            self.outside += 1
        if self._cells:
            cell = self._cells[0]
            if self.range is not None:
                cell = self._cells[bin_of(value, *self.range, len(self._cells))]
            self._asked = cell
            self.probabilities = cell.probabilities
            arm = cell.ask()
        elif self._cheb is not None:
            arm, self.probabilities = self._cheb.ask(value)
        elif self._young is not None:
            omega = self._formula(value)
            self._open = True
            return -1, omega
        else:
            arm = 0
        self._open = True
        return arm, float(self.omegas[arm])

    def _formula(self, shift: float) -> float:
        """Young's ω for A₀ + cI, whose Jacobi iteration has the radius β₀a₀/(a₀ + c)."""
        assert self._young is not None
        beta, diagonal = self._young
        if diagonal + shift <= 0 or beta * diagonal >= diagonal + shift:
            raise ValueError(
                f"context must be above {diagonal * (beta - 1):g} for young, where the shifted matrix is "
                f"no longer definite, got {shift:g}"
            )
        return optimal_omega(beta * diagonal / (diagonal + shift))

    def tell(self, cost: float | np.number) -> None:
        """Learn what the solve cost.

        Parameters
        ----------
        cost : float
            At least 1; or 0 iterations, where there was nothing to solve, which count as 1.

        Raises
        ------
        ValueError
            If nothing was asked, or the cost is negative or a part of 1.
        """
        if not self._open:
            raise ValueError("ask must come before tell")
        value = as_real(float(cost) if cost != 0 else 1.0, "cost", low=1, high=1e300)
        if self._asked is not None:
            self._asked.tell(value)
            self._asked = None
        elif self._cheb is not None:
            self._cheb.tell(value)
        self._open = False
        self.rounds += 1

    @property
    def bound(self) -> float:
        """Σ 2(R_t − R_{t−1})(Σ√p − 1) + Σ (c − 1)²/(R_t √p_I) of this run; NaN for "chebcb".

        Its expectation bounds the expected regret to the best fixed ω, or to the best one of each bin; one
        run's value may be far below: see :func:`whp.linalg.replay_counts`.
        """
        return math.nan if self._cheb is not None else sum(c.bound for c in self._cells)

    @property
    def rates(self) -> tuple[float, ...]:
        """R of each Tsallis-INF."""
        return tuple(c.rate for c in self._cells)

    def state_dict(self) -> dict[str, Any]:
        """Settings, all that has been learnt, and the state of the draws."""
        return {
            "settings": dict(self._settings),
            "rounds": self.rounds,
            "cells": [c.state_dict() for c in self._cells],
            "cheb": None if self._cheb is None else self._cheb.state_dict(),
            "outside": self.outside,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken: the draws that follow are the same.

        Raises
        ------
        ValueError
            If the state is of a tuner with other settings; the message says which.
        """
        wanted = ("settings", "rounds", "cells", "cheb", "outside")
        if not isinstance(state, Mapping) or set(state) != set(wanted):
            raise ValueError(f"state must hold {', '.join(wanted)}")
        for name, own in self._settings.items():
            theirs = state["settings"].get(name)
            theirs = tuple(theirs) if isinstance(theirs, list) else theirs
            if theirs != own:
                shown = {"omegas": "ω", "range": "context_range"}.get(name, name)
                raise ValueError(
                    f"state is of {shown} = {_said(theirs)}, this tuner of {_said(own)}"
                )
        before = [c.state_dict() for c in self._cells]
        try:
            for cell, told in zip(self._cells, state["cells"], strict=True):
                cell.load_state_dict(told)
            if self._cheb is not None:
                self._cheb.load_state_dict(state["cheb"])
        except BaseException:
            for cell, told in zip(self._cells, before, strict=True):
                cell.load_state_dict(told)
            raise
        self.rounds, self.outside = int(state["rounds"]), int(state["outside"])
        self._asked, self._open = None, False


def _said(value: Any) -> str:
    return ", ".join(f"{v:g}" for v in value) if isinstance(value, tuple) else str(value)
