"""Looks at every system of a stream, and answers the conditions of a bound on counts."""

from __future__ import annotations

import math

import numpy as np

from whp.certificate import Answer, Certificate
from whp.linalg._learning_to_relax import theorems as th
from whp.linalg._learning_to_relax.bounds import UNIT, Definite, Spectra, steps_of_cg, sweeps_of_sor
from whp.linalg._learning_to_relax.solvers import SolveInfo
from whp.linalg._learning_to_relax.system import System

__all__ = ["Inspector"]


class Inspector:
    """What is seen of the matrices and solves of a stream.

    Parameters
    ----------
    solver : {"sor", "ssor-cg"}
        Whose iterations are bounded.
    tol : float
        Of the stopping rule.
    cap : int
        Iterations at most.
    """

    def __init__(self, solver: str, tol: float, cap: int) -> None:
        self.solver, self.tol, self.cap = solver, tol, cap
        self.spectra = Spectra()
        self.told: Definite | None = None  # of the system being solved, if it is symmetric
        self.looked = math.nan  # its bound
        self.counts: list[int] = []
        self.bounds: list[float] = []
        self.ended: list[bool] = []
        self.skew = self.indefinite = self.unknown = self.stagnated = ""
        self.how: dict[str, int] = {}
        self.condition = 0.0

    def look(self, system: System, omega: float) -> None:
        """A system before it is solved: its bound, from any start for SOR, from one no worse than 0 for SSOR-CG."""
        self.told, self.looked = None, math.nan
        if system.skew is not None:
            return
        self.told = self.spectra.of(system)
        if self.told.spectrum is not None:
            computed = sweeps_of_sor if self.solver == "sor" else steps_of_cg
            bound = computed(self.told.spectrum, omega, self.tol)
            self.looked = bound if bound < math.inf else math.nan

    def solved(self, system: System, b: np.ndarray, *solves: SolveInfo) -> None:
        """The solve of the system that was looked at last, and what rescued it; only now is it entered.

        What ends a solve early leaves the systems before it as they are.
        """
        first, last = solves[0], solves[-1]
        self.bounds.append(self.looked)
        self.counts.append(first.iterations)
        self.ended.append(first.converged)
        number = len(self.bounds)
        if any(s.stagnated for s in solves):
            self.stagnated = self.stagnated or f"system {number}"
        if self.told is None:
            self.skew = self.skew or f"system {number}: A is not symmetric ({system.skew})"
            return
        if self.told.known is False:
            self.indefinite = self.indefinite or f"system {number}: {self.told.how}"
        elif self.told.spectrum is None:
            self.unknown = self.unknown or f"system {number}: {self.told.how}"
        else:
            self.how[self.told.how] = self.how.get(self.told.how, 0) + 1
            self.condition = max(self.condition, self.told.spectrum.condition)
        if any(s.indefinite for s in solves):
            self.indefinite = self.indefinite or (
                f"system {number}: conjugate gradients met p with pᵀAp < 0"
            )
        elif last.converged and math.isnan(self.bounds[-1]):
            # xᵀAx = xᵀ(b − r): its sign is known beyond what the residual leaves open.
            energy = float(last.x @ b)
            if energy < -2 * float(np.linalg.norm(last.x)) * last.residual:
                self.indefinite = self.indefinite or (
                    f"system {number}: the solution has xᵀAx = {energy:.3g}"
                )

    @property
    def answers(self) -> tuple[Answer, Answer, Answer]:
        """To the conditions of the bound."""
        T = len(self.bounds)
        symmetric = th.SYMMETRIC.check(not self.skew, self.skew or f"all {T} looked at")
        found = ", ".join(f"{n} {how}" for how, n in self.how.items())
        if self.indefinite or not self.unknown:
            evidence = self.indefinite or found or "none is symmetric"
            definite = th.POSITIVE_DEFINITE.check(not self.indefinite, evidence)
        else:
            definite = th.POSITIVE_DEFINITE.unchecked(self.unknown)
        floor = 4 * UNIT * max(self.condition, 1.0)
        if self.stagnated:
            reachable = th.TOL_REACHABLE.check(
                False, f"{self.stagnated}: residuals stopped falling above tol = {self.tol:g}"
            )
        elif self.tol < 4 * UNIT or (self.tol >= floor and not self.unknown):
            reachable = th.TOL_REACHABLE.check(
                self.tol >= floor, f"tol = {self.tol:g}, four roundings times κ are {floor:.2g}"
            )
        else:
            reachable = th.TOL_REACHABLE.unchecked(
                f"rounding times κ may reach {floor:.2g}, tol = {self.tol:g}"
                if not self.unknown
                else "the condition of A is not known"
            )
        return symmetric, definite, reachable

    @property
    def certificate(self) -> Certificate:
        """Whether every solve stayed within its bound."""
        counted = th.Counted(self.counts, self.bounds, self.ended, self.cap)
        return th.iteration_bound(counted, self.answers)
