"""What comes out: how answers are censored, what leaks, and what that costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from whp.certificate import Certificate
from whp.llm._information_censorship.mechanism import Censor
from whp.llm._information_censorship.wrapper import CensoredModel
from whp.result import PALETTE, Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["CensorshipResult"]

BIT = float(np.log(2))


@dataclass(frozen=True, eq=False)
class CensorshipResult(Result):
    """A censor for a system, with what it leaks. Logarithms are natural.

    Attributes
    ----------
    mechanism : str
        ``"erase"``, ``"krr"``, ``"filter"``, ``"none"`` or ``"given"``.
    eps : float
        The budget.
    k : int
        Interactions that it is for.
    strength : float or None
        p of erasure, η of swapping.
    leakage : float or None
        Of what is returned, by the best adaptive choice of k questions; None where there are too many histories.
    leakage_uncensored : float
        Of the same without a censor.
    ceiling : float
        H, what whoever learns the answer itself gains.
    per_question : DataFrame
        A question a row: its own leakage without a censor and behind it. Their sum bounds nothing.
    subset_leakage : dict of tuple of str to float
        Of every set of questions without a censor, up to 12 questions.
    utility : dict of str to float
        What honest users keep: share of answers that leave, distance of returned from true responses; with `benign` also the
        accuracy of the best guess and what remains uncertain.
    trace : DataFrame
        The attack: questions in greedy order, what they give away together, summed one by one, behind a filter, behind the
        censor.
    censor : Censor or None
        For :class:`CensoredModel`.
    notes : tuple of str
        What was done to the input.
    """

    mechanism: str
    eps: float
    k: int
    strength: float | None
    leakage: float | None
    leakage_uncensored: float
    ceiling: float
    certificates: tuple[Certificate, ...]
    per_question: pd.DataFrame = field(repr=False)
    subset_leakage: dict[tuple[str, ...], float] = field(repr=False)
    utility: dict[str, float] = field(repr=False)
    trace: pd.DataFrame = field(repr=False)
    censor: Censor | None = field(repr=False, default=None)
    worlds: int = 0
    notes: tuple[str, ...] = field(repr=False, default=())

    def summary(self) -> dict[str, bool | int | float | str | None]:
        """Budget, leakage, price; bits where they are said to be."""
        first = self.per_question.loc[self.per_question["alone"].idxmax()]
        made: dict[str, bool | int | float | str | None] = {
            "worlds": self.worlds,
            "questions": len(self.per_question),
            "interactions": self.k,
            "mechanism": self.mechanism,
            "budget": self.eps,
        }
        if self.strength is not None:
            made["answers_with_probability" if self.mechanism == "erase" else "eta"] = self.strength
        made |= {
            "leakage": self.leakage,
            "leakage_in_bits": None if self.leakage is None else self.leakage / BIT,
            "without_a_censor": self.leakage_uncensored,
            "at_most_ever": self.ceiling,
            "most_telling_question": f"{first['question']} ({first['alone']:.4g} alone)",
            **{k: float(v) for k, v in self.utility.items()},
        }
        if self.notes:
            made["input"] = "; ".join(self.notes)
        return made

    def artifacts(self) -> Mapping[str, Any]:
        """Questions, the attack, the censor, and the leakage of sets of questions."""
        plan: dict[str, Any] = {
            "mechanism": self.mechanism,
            "eps": self.eps,
            "k": self.k,
            "strength": self.strength,
        }
        sets = pd.DataFrame(
            {
                "questions": [" + ".join(s) for s in self.subset_leakage],
                "leakage": list(self.subset_leakage.values()),
            }
        )
        return {
            "questions.csv": self.per_question,
            "attack.csv": self.trace,
            "censor.json": {k: "inf" if v == np.inf else v for k, v in plan.items()},
            **({"sets.csv": sets} if len(sets) else {}),
        }

    def wrap(self, answer: Callable[[str], str], **options: Any) -> CensoredModel:
        """`answer` behind this censor; `options` go to :class:`CensoredModel`.

        Raises
        ------
        ValueError
            If the mechanism is no censor with a guarantee of its own.
        """
        if self.censor is None:
            raise ValueError(
                f"mechanism must be 'erase' or 'krr' to wrap a model, got {self.mechanism!r}"
            )
        return CensoredModel(answer, self.censor, **options)

    def draw(self, ax: Axes) -> None:
        """What the attack gains question by question, without a censor, behind a filter and behind this one."""
        x = np.arange(1, len(self.trace) + 1)
        refused = int((self.trace["alone"] > self.eps / self.k * (1 + 1e-9) + 1e-12).sum())
        lines = {
            "together": ("all answers together", "other", "o-"),
            "summed": ("each answer by itself, summed", "quiet", "o:"),
            "filtered": (f"behind a filter, which refuses {refused} of {len(x)}", "third", "s--"),
            "censored": (f"behind this censor ({self.mechanism})", "ours", "o-"),
        }
        for column, (label, colour, style) in lines.items():
            if self.trace[column].notna().any():
                ax.plot(x, self.trace[column], style, color=PALETTE[colour], label=label)
        ax.axhline(self.eps, color=PALETTE["truth"], linewidth=1, label=f"budget ε = {self.eps:g}")
        ax.axhline(
            self.ceiling,
            color=PALETTE["quiet"],
            linewidth=0.8,
            linestyle="-.",
            label="the answer itself, H",
        )
        ax.set_xticks(x, [str(q) for q in self.trace["question"]])
        ax.set(
            xlabel="questions asked, in the order of the attack",
            ylabel="nats learnt of what is refused",
        )
        ax.set_ylim(0, 1.6 * max(self.ceiling, self.eps, float(self.trace["summed"].max())))
        ax.legend(frameon=False, fontsize="small", ncols=2)
