"""What a stream of solves returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from whp.certificate import Certificate
from whp.linalg._learning_to_relax.replay import Replay
from whp.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["RelaxRun"]


@dataclass(frozen=True, eq=False)
class RelaxRun(Result):
    """A stream of solves.

    Attributes
    ----------
    solutions : ndarray, shape (T, n) or (1, n)
        All with `keep`, else the last.
    iterations : ndarray, shape (T,)
        What each solve cost, conjugate gradients after the cap included.
    actions : ndarray, shape (T,)
        Number of the ω that was used; −1 for Young's formula.
    used : ndarray, shape (T,)
        The ω itself.
    probabilities : ndarray, shape (T, d)
        What it was drawn from.
    omegas : ndarray, shape (d,)
        The grid.
    contexts : ndarray, shape (T,)
        NaN where there were none.
    converged : ndarray, shape (T,)
        Whether the tolerance was met, perhaps by conjugate gradients after the cap.
    bounds : ndarray, shape (T,)
        Iterations that were computed for each solve beforehand; NaN where none could be.
    seconds : float
        Of the solves and the learner, without audits and certificates.
    audited : dict of int to ndarray
        Counts of every ω for the systems that were audited.
    replay : Replay or None
        The learner on the table of all counts, where every system was audited.
    outside : int
        Contexts outside of their range.
    certificates : tuple of Certificate
        One of regret for a learner that draws, and ``iteration-bound``.
    """

    solutions: np.ndarray
    iterations: np.ndarray
    actions: np.ndarray
    used: np.ndarray
    probabilities: np.ndarray
    omegas: np.ndarray
    contexts: np.ndarray
    converged: np.ndarray
    bounds: np.ndarray
    seconds: float
    certificates: tuple[Certificate, ...]
    solver: str = "sor"
    learner: str = "tsallis"
    audited: dict[int, np.ndarray] = field(repr=False, default_factory=dict)
    replay: Replay | None = field(repr=False, default=None)
    outside: int = 0

    def summary(self) -> dict[str, bool | int | float | str | None]:
        """Totals, and which ω came out; on audited systems, what fixed ω would have cost."""
        T = len(self.iterations)
        late = self.used[T // 2 :]
        values, counts = np.unique(late.round(6), return_counts=True)
        shown: dict[str, bool | int | float | str | None] = {
            "systems": T,
            "unknowns": self.solutions.shape[1],
            "solver": self.solver,
            "learner": self.learner,
            "iterations": int(self.iterations.sum()),
            "iterations_a_solve": float(self.iterations.mean()),
            "iterations_a_solve_in_the_second_half": float(self.iterations[T // 2 :].mean()),
            "omega_used_most_in_the_second_half": float(values[counts.argmax()]),
            "converged": int(self.converged.sum()),
            "seconds": self.seconds,
        }
        if self.outside:
            shown["contexts_outside_of_their_range"] = self.outside
        if self.audited:
            steps = sorted(self.audited)
            grid = np.mean([self.audited[t] for t in steps], axis=0)
            shown |= {
                "audited_systems": len(steps),
                "iterations_a_solve_on_those": float(self.iterations[steps].mean()),
                "omega_1_takes": float(grid[int(np.abs(self.omegas - 1).argmin())])
                if np.isclose(self.omegas, 1).any()
                else None,
                "best_fixed_omega": float(self.omegas[grid.argmin()]),
                "it_takes": float(grid.min()),
            }
        if self.replay is not None:
            shown["expected_iterations_a_solve"] = str(self.replay.expected)
        return shown

    def artifacts(self) -> dict[str, Any]:
        """Solutions, what was chosen, and all counts that are known."""
        import pandas as pd

        columns = {
            "omega": self.used,
            "iterations": self.iterations,
            "bound": self.bounds,
            "context": self.contexts,
            "converged": self.converged,
        }
        made = {"solutions.npy": self.solutions, "choices.csv": pd.DataFrame(columns)}
        if self.audited:
            table = pd.DataFrame.from_dict(
                self.audited, orient="index", columns=[f"{w:g}" for w in self.omegas]
            )
            made["counts.csv"] = table.rename_axis("system").reset_index()
        return made

    def draw(self, ax: Axes) -> None:
        """Which ω was used, and what each solve cost."""
        points = ax.scatter(
            np.arange(len(self.used)),
            self.used,
            c=np.log10(np.maximum(self.iterations, 1)),
            s=6,
            cmap="viridis_r",
        )
        ax.figure.colorbar(points, ax=ax, label="log₁₀ of iterations")
        ax.set(xlabel="systems", ylabel="relaxation ω that was used")
