"""What comes out of a private stream."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from whp.certificate import Certificate
from whp.privacy._dp_continual_release.accuracy import ReleasePlan
from whp.result import PALETTE, Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["PrivateStream"]

WRITTEN = 1_000_000  # numbers in answers.csv, unless more are asked for
SHOWN = 2_000
LINES = 8


@dataclass(frozen=True, eq=False)
class PrivateStream(Result):
    """Private answers of a stream.

    Attributes
    ----------
    answers : ndarray, shape (n,) or (n, d)
        One a record: the largest count, the number of the leading column, or all counts.
    names : tuple of str
        Of the columns.
    plan : ReleasePlan
        What was decided beforehand.
    spent : float
        ρ, or ε, that the record that cost most has cost.
    bound : float
        On the largest error of any answer, with probability 1 − β.
    certificates : tuple of Certificate
        ``privacy``, ``max-error``, and ``price`` for MaxSum and SumSelect of records that are not cut.
    errors : ndarray, shape (n,), or None
        True error of each answer, where it was asked for. **Not private**: neither printed nor saved.
    first : int
        Number of the record of the first answer, 1 unless a state was continued.
    records : str
        What a record is, in words.
    every : int, optional
        Answers.csv has every so many-th answer and the last one; by default so many that it has a million numbers at most.
    """

    answers: np.ndarray
    names: tuple[str, ...]
    plan: ReleasePlan = field(repr=False)
    spent: float
    bound: float
    certificates: tuple[Certificate, ...]
    errors: np.ndarray | None = field(repr=False, default=None)
    first: int = 1
    records: str = ""
    every: int | None = field(repr=False, default=None)

    def summary(self) -> dict[str, bool | int | float | str | None]:
        """What was spent and how far off an answer may be; never the truth."""
        last: Any = self.answers[-1]
        leads = self.plan.query == "sumselect"
        return {
            "records": self.first - 1 + len(self.answers),
            "records_are": self.records,
            "columns": self.plan.d,
            "strategy": self.plan.strategy,
            "period": self.plan.period,
            "leading_column" if leads else "largest_count": self.names[int(last)]
            if leads
            else float(np.max(last)),
            "error_bound": self.bound,
            "spent": self.spent,
            "budget": str(self.plan.budget),
        }

    def artifacts(self) -> dict[str, Any]:
        """Answers, thinned where they are many, and the plan."""
        import pandas as pd

        n = len(self.answers)
        step = self.every or max(1, -(-self.answers.size // WRITTEN))
        kept = np.unique(np.append(np.arange(step - 1, n, step), n - 1))
        answers = self.answers[kept]
        if answers.ndim == 2:
            table = pd.DataFrame(answers, columns=list(self.names))
        elif self.plan.query == "sumselect":
            table = pd.DataFrame({"leader": [self.names[int(j)] for j in answers]})
        else:
            table = pd.DataFrame({"answer": answers})
        name = "record" if "record" not in table else "number of the record"
        table.insert(0, name, kept + self.first)
        plan = self.plan
        return {
            "answers.csv": table,
            "plan.json": {
                "query": plan.query,
                "strategy": plan.strategy,
                "T": plan.T,
                "columns": plan.d,
                "period": plan.period,
                "noise_scale": float(plan.scale),
                "budget": str(plan.budget),
                "error_bound": self.bound,
                "beta": plan.beta,
                "max_ones": plan.max_ones,
                "neighbours": plan.neighbours,
                "column_seed": plan.column_seed,
                "answers_of_every": step,
            },
        }

    def draw(self, ax: Axes) -> None:
        """Answers over time with their band, the largest counts last; or which column leads."""
        n = len(self.answers)
        shown = np.unique(np.linspace(0, n - 1, min(n, SHOWN)).astype(int))
        x = shown + self.first
        if self.plan.query == "sumselect":
            led, places = np.unique(self.answers[shown], return_inverse=True)
            ax.step(x, places, where="post", color=PALETTE["ours"])
            ax.set_yticks(range(len(led)), [self.names[int(j)] for j in led])
            ax.set(xlabel="records", ylabel="column that leads")
            return
        columns = self.answers[:, None] if self.answers.ndim == 1 else self.answers
        best = np.argsort(-columns[-1])[:LINES]
        colours = [PALETTE["ours"], PALETTE["other"], PALETTE["third"], PALETTE["fourth"]]
        for place, j in enumerate(best):
            y = columns[shown, j]
            colour = colours[place] if place < len(colours) else PALETTE["quiet"]
            name = self.names[j] if self.answers.ndim == 2 else "largest count, private"
            ax.plot(x, y, label=name, color=colour)
            band = None if place else f"± {self.bound:.4g}, all times at once"
            low, high = y - self.bound, y + self.bound
            ax.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0, label=band)
        ax.set(xlabel="records", ylabel="running count")
        ax.legend(frameon=False, fontsize="small")
