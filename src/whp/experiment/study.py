"""What a study is made of: trials, claims, findings and a showcase."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import pandas as pd

from whp.certificate import Certificate
from whp.intervals import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Claim", "Finding", "Outcome", "Scale", "Showcase", "Study", "load", "select"]

Scale = Literal["quick", "standard", "full"]


class Outcome(StrEnum):
    """What became of a claim."""

    REPRODUCED = "reproduced"
    NOT_REPRODUCED = "not reproduced"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class Claim:
    """One statement of a paper that a study tests.

    Parameters
    ----------
    id : str
        Number of the claim, with a letter for each part: ``"C1"``, ``"C4b"``.
    statement : str
        What is claimed, in a sentence.
    paper : str
        The paper's own number, or that it has none.
    quantity : str
        What is measured, with its unit.
    relation : {"<=", ">="}
        The claim stands if `measure` *relation* `threshold`.
    threshold : float
        Fixed before the study was run.
    measure : callable
        Records (one row a result) to the estimate, its interval taken over seeds.
    note : str
        Why it did not reproduce as far as we know, or what a reader should bear in mind.
    """

    id: str
    statement: str
    paper: str
    quantity: str
    relation: Literal["<=", ">="]
    threshold: float
    measure: Callable[[pd.DataFrame], Estimate]
    note: str = ""

    def judge(self, records: pd.DataFrame) -> Finding:
        """Measure on `records` and compare, interval and all."""
        ours = self.measure(records)
        sign = 1.0 if self.relation == "<=" else -1.0
        best, worst = sorted((sign * ours.low, sign * ours.high))
        if worst <= sign * self.threshold:
            outcome = Outcome.REPRODUCED
        elif best > sign * self.threshold:
            outcome = Outcome.NOT_REPRODUCED
        else:
            outcome = Outcome.INCONCLUSIVE
        return Finding(
            self.id,
            self.statement,
            self.paper,
            self.quantity,
            self.relation,
            self.threshold,
            ours,
            outcome,
            self.note,
        )


@dataclass(frozen=True)
class Finding:
    """A claim with what came out; see :class:`Claim` for the fields they share."""

    id: str
    statement: str
    paper: str
    quantity: str
    relation: Literal["<=", ">="]
    threshold: float
    ours: Estimate
    outcome: Outcome
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionary for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Finding:
        """The finding that :meth:`to_dict` wrote."""
        return cls(
            **{**data, "ours": Estimate(**data["ours"]), "outcome": Outcome(data["outcome"])}
        )


@dataclass(frozen=True)
class Showcase:
    """A method at work on real data, for the tour: one row of its table and one card of its page.

    Parameters
    ----------
    data : str
        The data in a few words, e.g. ``"53,940 diamonds, 24 columns"``.
    quantity : str
        What the two numbers are, e.g. ``"error bars that cover all coefficients"``.
    ours, baseline : str
        The headline number, formatted with its unit, for the method and for its baseline.
    baseline_name : str
        Who the baseline is, e.g. ``"uniform row sampling"``.
    certificates : tuple of Certificate
        Those of the run that is shown.
    draw : callable
        Draws the picture that shows the method against its baseline on an empty matplotlib figure.
    caption : str
        What to see in the picture, in one or two sentences.
    """

    data: str
    quantity: str
    ours: str
    baseline: str
    baseline_name: str
    certificates: tuple[Certificate, ...]
    draw: Callable[[Figure], None]
    caption: str
    code: str = ""


class Study(Protocol):
    """What a module of :mod:`whp.studies` offers.

    `run` must be pure and picklable: the same `config` and generator give the same rows on any machine.
    """

    CLAIMS: Sequence[Claim]
    FIGURES: Mapping[str, Callable[[pd.DataFrame, Axes], None]]

    def trials(self, scale: Scale) -> Iterable[dict[str, Any]]:
        """Configurations, each a flat dictionary of JSON scalars with its ``seed`` (int) among them."""
        ...

    def run(self, config: dict[str, Any], rng: np.random.Generator) -> list[dict[str, Any]]:
        """One trial: rows of scalars; the runner adds the configuration, the time and, if it raised, the error."""
        ...

    def example(self) -> dict[str, Any]:
        """Arguments of the front door for the built-in real example."""
        ...

    def showcase(self) -> Showcase:
        """The method on real data against its baseline, in at most 20 s."""
        ...


def select(records: pd.DataFrame, experiment: str, **wanted: Any) -> pd.DataFrame:
    """Rows of one experiment of a study, with these values in these columns."""
    found = records[records["experiment"] == experiment]
    for column, value in wanted.items():
        found = found[found[column] == value]
    return found


def load(slug: str) -> ModuleType:
    """The study module of a method."""
    return import_module(f"whp.studies.{slug.replace('-', '_')}")
