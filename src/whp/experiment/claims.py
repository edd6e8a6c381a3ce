"""Claims and what becomes of them. Nothing stands in for what was not run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import InitVar, asdict, dataclass, fields
from enum import StrEnum
from typing import Any, Literal, NoReturn

import pandas as pd

from whp.intervals import Estimate

__all__ = [
    "Claim",
    "Finding",
    "Measure",
    "NotTested",
    "Origin",
    "Outcome",
    "ThresholdSet",
    "select",
]

ThresholdSet = Literal["before", "after"]
NOT_OF_THE_PAPER = ("not in the paper", "none", "ours")  # how a text that names no place begins
AFTER_A_LOOK = "set after a first look"


class Outcome(StrEnum):
    """What became of a claim."""

    NOT_REPRODUCED = "not reproduced"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"
    REPRODUCED = "reproduced"
    DESCRIBED = "described"
    NOT_TESTED = "not tested"

    @property
    def meaning(self) -> str:
        """In a sentence."""
        return MEANING[self]

    @property
    def colour(self) -> str:
        """For a terminal."""
        return COLOUR[self]


MEANING = {
    Outcome.NOT_REPRODUCED: "the whole interval lies on the wrong side of the threshold",
    Outcome.FAILED: "the trials that it needs raised errors",
    Outcome.INCONCLUSIVE: "the interval contains the threshold",
    Outcome.REPRODUCED: "the whole interval lies on the claimed side of a threshold set before",
    Outcome.DESCRIBED: "measured, but not a test: no interval, or a threshold set after a look",
    Outcome.NOT_TESTED: "nothing was run that could tell",
}


COLOUR = {
    Outcome.NOT_REPRODUCED: "red",
    Outcome.FAILED: "bold red",
    Outcome.INCONCLUSIVE: "yellow",
    Outcome.REPRODUCED: "green",
    Outcome.DESCRIBED: "cyan",
    Outcome.NOT_TESTED: "dim",
}


class Origin(StrEnum):
    """Whose claim it is."""

    PAPER = "paper"
    OURS = "ours"


class NotTested(Exception):
    """There is nothing that a measure could measure.

    Raised by :func:`select`, so that it passes through whatever a measure computes, and returned by the measures of
    :mod:`whp.experiment.measures`; :meth:`Claim.judge` takes both.

    Parameters
    ----------
    reason : str
        What was not run, e.g. ``"nothing was run with K = 64; there was 4, 16"``.
    wanted : mapping, optional
        The columns and values that were asked for, to tell trials that were not run from trials that failed.
    """

    def __init__(self, reason: str, wanted: Mapping[str, Any] | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wanted = dict(wanted or {})


Measure = Callable[[pd.DataFrame], Estimate | NotTested]


def select(records: pd.DataFrame, experiment: str | None = None, **wanted: Any) -> pd.DataFrame:
    """Rows of one experiment of a study, with these values in these columns.

    Parameters
    ----------
    records : DataFrame
        One row a result.
    experiment : str, optional
        Value of the column ``experiment``.
    **wanted
        A value, or a list, tuple or set of values, a column.

    Returns
    -------
    DataFrame
        At least one row.

    Raises
    ------
    NotTested
        If there is no such row; says what there was.
    """
    return rows_where(
        records, wanted if experiment is None else {"experiment": experiment, **wanted}
    )


def rows_where(records: pd.DataFrame, wanted: Mapping[str, Any]) -> pd.DataFrame:
    """Like :func:`select`, from a mapping."""
    rows = records
    for column, value in wanted.items():
        values = list(value) if isinstance(value, list | tuple | set | frozenset) else [value]
        present = rows[column].dropna() if column in rows else pd.Series(dtype=object)
        kept = rows[rows[column].isin(values)] if column in rows else rows.iloc[:0]
        if kept.empty:
            _nothing(column, values, present, wanted)
        rows = kept
    return rows


def _nothing(
    column: str, values: list[Any], present: pd.Series, wanted: Mapping[str, Any]
) -> NoReturn:
    asked = " or ".join(_said(v) for v in values)
    kinds = list(dict.fromkeys(present.tolist()))
    there = ", ".join(_said(v) for v in kinds[:8]) + (", …" if len(kinds) > 8 else "")
    raise NotTested(f"nothing was run with {column} = {asked}; there was {there or 'none'}", wanted)


def _said(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Claim:
    """One statement that a study tests.

    Parameters
    ----------
    id : str
        Number of the claim, with a letter for each part: ``"C1"``, ``"C4b"``.
    statement : str
        What is claimed, in a sentence.
    paper : str
        The paper's own place and number, or that it has none.
    quantity : str
        What is measured, with its unit.
    relation : {"<=", ">="}
        The claim stands if `measure` *relation* `threshold`; give `at_least` or `at_most` instead.
    threshold : float
        See `relation`.
    measure : callable
        Records (one row a result) to the estimate, its interval taken over seeds, or to :class:`NotTested`.
    note : str
        Why it did not reproduce as far as we know, or what a reader should bear in mind.
    origin : Origin, optional
        The paper's claim or ours. Default: ours if `paper` says that it is not in the paper.
    threshold_set : {"before", "after"}, optional
        When the threshold was chosen. A threshold chosen after a look at the data tests nothing: such a claim is only
        described. Default: after if `note` says so.
    computed : bool
        Nothing random or timed went into the number, so that it needs no interval: an identity, a closed form, a count over
        all cases, a deterministic algorithm on the very data that the claim is about; or it is the outcome of a test (a
        p-value, Holm's count) whose sampling error is inside. Not for runs that happen to agree.
    at_least, at_most : float
        The threshold, as it is meant.

    Raises
    ------
    ValueError
        If not exactly one threshold is given, or no measure.
    """

    id: str
    statement: str
    paper: str = ""
    quantity: str = ""
    relation: Literal["<=", ">="] | None = None
    threshold: float | int = math.nan
    measure: Measure | None = None
    note: str = ""
    origin: Origin | None = None
    threshold_set: ThresholdSet | None = None
    computed: bool = False
    at_least: InitVar[float | int | None] = None
    at_most: InitVar[float | int | None] = None

    def __post_init__(self, at_least: float | int | None, at_most: float | int | None) -> None:
        named = ((">=", at_least), ("<=", at_most))
        bounds = [(relation, bound) for relation, bound in named if bound is not None]
        if self.relation is not None:
            bounds.append((self.relation, self.threshold))
        if len(bounds) != 1 or math.isnan(bounds[0][1]):
            raise ValueError(f"claim {self.id} needs exactly one of at_least and at_most")
        if self.measure is None:
            raise ValueError(f"claim {self.id} needs a measure")
        origin = Origin(self.origin) if self.origin else _origin(self.paper)
        object.__setattr__(self, "relation", bounds[0][0])
        object.__setattr__(self, "threshold", bounds[0][1])
        object.__setattr__(self, "origin", origin)
        object.__setattr__(self, "threshold_set", self.threshold_set or _threshold_set(self.note))

    def judge(self, records: pd.DataFrame) -> Finding:
        """Measure on `records` and compare, interval and all.

        Parameters
        ----------
        records : DataFrame
            One row a result. Rows with an ``error`` are not measured; a claim that lacks them is *failed*.
        """
        assert self.measure is not None
        failed = records["error"].fillna("").astype(bool) if "error" in records else None
        good = records if failed is None else records[~failed]
        try:
            ours = self.measure(good)
        except NotTested as nothing:
            ours = nothing
        if isinstance(ours, NotTested):
            lost = records.iloc[:0] if failed is None else _lost(records[failed], ours)
            if len(lost):
                last = str(lost["error"].iloc[0]).strip().splitlines()[-1]
                reason = f"{len(lost)} of its trials failed: {last}"
                return self._finding(None, Outcome.FAILED, reason)
            return self._finding(None, Outcome.NOT_TESTED, ours.reason)
        verdict, reason = self._outcome(ours)
        if failed is not None and failed.any():
            trials = records[failed].groupby("experiment").size() if "experiment" in records else ()
            names = ", ".join(f"{n} of {name}" for name, n in dict(trials).items())
            reason = "; ".join(
                filter(None, (reason, f"left out, failed trials: {names or failed.sum()}"))
            )
        return self._finding(ours, verdict, reason)

    def again(self, ours: Estimate) -> Finding:
        """The finding for an estimate that was measured before."""
        return self._finding(ours, *self._outcome(ours))

    def _outcome(self, ours: Estimate) -> tuple[Outcome, str]:
        assert self.relation is not None
        return outcome(ours, self.relation, self.threshold, str(self.threshold_set), self.computed)

    def _finding(self, ours: Estimate | None, outcome: Outcome, reason: str) -> Finding:
        shared = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "measure"}
        return Finding(**shared, ours=ours, outcome=outcome, reason=reason)


def outcome(
    ours: Estimate, relation: str, threshold: float | int, threshold_set: str, computed: bool
) -> tuple[Outcome, str]:
    """What an estimate says about a threshold, and why it says no more where it does not."""
    if threshold_set == "after":
        return Outcome.DESCRIBED, "the threshold was set after a look at the data"
    if ours.low == ours.high and not computed:
        return Outcome.DESCRIBED, _widthless(ours)
    sign = 1.0 if relation == "<=" else -1.0
    best, worst = sorted((sign * ours.low, sign * ours.high))
    if worst <= sign * threshold:
        return Outcome.REPRODUCED, ""
    return (Outcome.NOT_REPRODUCED if best > sign * threshold else Outcome.INCONCLUSIVE), ""


def _widthless(ours: Estimate) -> str:
    if ours.n == 1:
        return "one run, no interval"
    if ours.n is None or ours.level == 1:
        return "a number without an interval"
    return f"no interval: {ours.n} runs gave the same number"


def _lost(failed: pd.DataFrame, nothing: NotTested) -> pd.DataFrame:
    """Failed trials that could have had what a measure lacked. They have a configuration but no measurements."""
    for column, value in nothing.wanted.items():
        values = list(value) if isinstance(value, list | tuple | set | frozenset) else [value]
        if column in failed:
            failed = failed[failed[column].isna() | failed[column].isin(values)]
    return failed


def _origin(paper: str) -> Origin:
    return Origin.OURS if paper.lower().startswith(NOT_OF_THE_PAPER) else Origin.PAPER


def _threshold_set(note: str) -> ThresholdSet:
    return "after" if AFTER_A_LOOK in note else "before"


@dataclass(frozen=True)
class Finding:
    """A claim with what came out; see :class:`Claim` for the fields they share.

    Parameters
    ----------
    ours : Estimate or None
        What was measured; None if nothing could be.
    outcome : Outcome
        The verdict.
    reason : str
        Why it was not judged, if it was not.
    """

    id: str
    statement: str
    paper: str
    quantity: str
    relation: Literal["<=", ">="]
    threshold: float | int
    ours: Estimate | None
    outcome: Outcome
    note: str = ""
    origin: Origin = Origin.PAPER
    threshold_set: ThresholdSet = "before"
    computed: bool = False
    reason: str = ""

    @property
    def evidence(self) -> str:
        """Kind of evidence: seeds, computed, one run, or none."""
        if self.ours is None:
            return "none"
        if self.computed:
            return "computed"
        return "runs without spread" if self.ours.low == self.ours.high else "seeds"

    @property
    def demand(self) -> str:
        """The threshold with its relation."""
        return f"{'≤' if self.relation == '<=' else '≥'} {self.threshold:.4g}"

    @property
    def measured(self) -> str:
        """The estimate with its interval, or a dash."""
        return "–" if self.ours is None else str(self.ours)

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionary for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Finding:
        """The finding that :meth:`to_dict` wrote. Files of the first version had less in them: it is derived."""
        ours = None if data["ours"] is None else Estimate(**data["ours"])
        rest = {
            "origin": _origin(data["paper"]),
            "threshold_set": _threshold_set(data["note"]),
            **data,
            "ours": ours,
        }
        rest |= {"outcome": Outcome(data["outcome"]), "origin": Origin(rest["origin"])}
        if ours is not None and "threshold_set" not in data:
            rest["outcome"], rest["reason"] = outcome(
                ours, data["relation"], data["threshold"], rest["threshold_set"], False
            )
        return cls(**rest)
