"""Certificates: a theorem evaluated on one run.

A certificate holds what a paper promises (`claim`, `bound`, `confidence`), what the promise rests on (`assumptions`, each
checked as far as data can check it) and what was measured. The verdict follows from these alone.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from whp.intervals import Estimate

if TYPE_CHECKING:
    from rich.panel import Panel

__all__ = [
    "Assumption",
    "Certificate",
    "Status",
    "Verdict",
    "met",
    "schema",
    "unchecked",
    "violated",
]

Scalar = bool | int | float | str
Relation = Literal["<=", ">="]


class Status(StrEnum):
    """What the data say about an assumption."""

    MET = "met"
    VIOLATED = "violated"
    UNCHECKED = "unchecked"


class Verdict(StrEnum):
    """What a certificate comes to; see :attr:`Certificate.verdict` for the order in which they are decided."""

    VOID = "void"
    FAILS = "fails"
    VACUOUS = "vacuous"
    UNMEASURED = "unmeasured"
    INCONCLUSIVE = "inconclusive"
    HOLDS = "holds"


MEANING = {
    Verdict.VOID: "an assumption is violated, so the theorem says nothing about this run",
    Verdict.FAILS: "the measurement, interval and all, is on the wrong side of the bound",
    Verdict.VACUOUS: "the bound is no better than what any answer would satisfy",
    Verdict.UNMEASURED: "the bound stands, but the quantity was not observed on this run",
    Verdict.INCONCLUSIVE: "the interval of the measurement straddles the bound",
    Verdict.HOLDS: "the measurement, interval and all, respects the bound",
}

COLOUR = {
    Verdict.VOID: "magenta",
    Verdict.FAILS: "red",
    Verdict.VACUOUS: "yellow",
    Verdict.UNMEASURED: "cyan",
    Verdict.INCONCLUSIVE: "yellow",
    Verdict.HOLDS: "green",
}


@dataclass(frozen=True)
class Assumption:
    """One condition of a theorem.

    Parameters
    ----------
    statement : str
        The condition in words, e.g. ``"A has full column rank"``.
    status : Status
        Whether the data meet it, violate it, or cannot tell.
    evidence : str
        The numbers that say so, or why it cannot be checked.
    remedy : str
        What to do when it is violated.
    """

    statement: str
    status: Status
    evidence: str = ""
    remedy: str = ""


def met(statement: str, evidence: str = "") -> Assumption:
    """An assumption that the data were seen to meet."""
    return Assumption(statement, Status.MET, evidence)


def unchecked(statement: str, evidence: str = "") -> Assumption:
    """An assumption that the data cannot check; `evidence` says why."""
    return Assumption(statement, Status.UNCHECKED, evidence)


def violated(statement: str, evidence: str = "", remedy: str = "") -> Assumption:
    """An assumption that the data were seen to break; it makes a certificate void."""
    return Assumption(statement, Status.VIOLATED, evidence, remedy)


@dataclass(frozen=True)
class Certificate:
    """A theorem evaluated on one run.

    Parameters
    ----------
    name : str
        Short identifier, unique within a method, e.g. ``"coordinate-error-bars"``.
    claim : str
        The promise, formula in words.
    source : str
        Paper and theorem number, or ``"derived here: ..."``.
    relation : {"<=", ">="}
        `measured` *relation* `bound` is what is promised.
    bound : float
        The promised value with all constants; infinite is allowed and is vacuous.
    confidence : float
        Probability 1 - delta with which the promise holds; 1 for a deterministic statement.
    measured : Estimate, optional
        The quantity observed on this run.
    trivial : float, optional
        What any answer would satisfy: a bound no better than this is vacuous.
    assumptions : tuple of Assumption
        What the theorem rests on.
    inputs : mapping of str to scalar
        The named quantities that went into the bound.
    needs : str
        What would be needed to measure the quantity when it is unmeasured, or to decide an inconclusive one.
    remedy : str
        What to do when the certificate fails or is vacuous.

    Raises
    ------
    ValueError
        If `bound` or `trivial` is NaN, `relation` is unknown or `confidence` is not in (0, 1].
    """

    name: str
    claim: str
    source: str
    relation: Relation
    bound: float
    confidence: float
    measured: Estimate | None = None
    trivial: float | None = None
    assumptions: tuple[Assumption, ...] = ()
    inputs: Mapping[str, Scalar] = field(default_factory=dict)
    needs: str = ""
    remedy: str = ""

    def __post_init__(self) -> None:
        if self.relation not in ("<=", ">="):
            raise ValueError(f"relation must be '<=' or '>=', got {self.relation!r}")
        object.__setattr__(self, "bound", float(self.bound))
        if self.trivial is not None:
            object.__setattr__(self, "trivial", float(self.trivial))
        if math.isnan(self.bound) or (self.trivial is not None and math.isnan(self.trivial)):
            raise ValueError(
                f"bound and trivial must not be NaN, got {self.bound} and {self.trivial}"
            )
        if not 0 < self.confidence <= 1:
            raise ValueError(f"confidence must be in (0, 1], got {self.confidence}")
        object.__setattr__(self, "confidence", float(self.confidence))
        object.__setattr__(self, "assumptions", tuple(self.assumptions))
        plain = {
            k: getattr(v, "item", lambda v=v: v)() for k, v in self.inputs.items()
        }  # numpy scalars are not JSON
        object.__setattr__(self, "inputs", MappingProxyType(plain))

    def __reduce__(
        self,
    ) -> tuple[Any, ...]:  # a mapping proxy cannot be pickled, and certificates cross processes
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return _rebuild, ({**values, "inputs": dict(self.inputs)},)

    def __hash__(self) -> int:
        return hash(self.to_json())

    @property
    def verdict(self) -> Verdict:
        """The first of: void, fails, vacuous, unmeasured, inconclusive, holds, that applies."""
        sign = 1.0 if self.relation == "<=" else -1.0
        bound = sign * self.bound
        if any(a.status is Status.VIOLATED for a in self.assumptions):
            return Verdict.VOID
        best, worst = math.inf, math.inf
        if self.measured is not None:
            best, worst = sorted((sign * self.measured.low, sign * self.measured.high))
            if best > bound:
                return Verdict.FAILS
        if bound == math.inf or (self.trivial is not None and bound >= sign * self.trivial):
            return Verdict.VACUOUS
        if self.measured is None:
            return Verdict.UNMEASURED
        return Verdict.HOLDS if worst <= bound else Verdict.INCONCLUSIVE

    @property
    def tightness(self) -> float | None:
        """`measured / bound`: how much of the bound was used; None where that ratio means nothing."""
        if self.measured is None or self.bound == 0 or not math.isfinite(self.bound):
            return None
        return self.measured.value / self.bound

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready dictionary that :func:`schema` describes; infinities are the string ``"inf"`` or ``"-inf"``."""
        measured = self.measured
        return {
            "name": self.name,
            "claim": self.claim,
            "source": self.source,
            "relation": self.relation,
            "bound": _encode(self.bound),
            "confidence": self.confidence,
            "measured": None
            if measured is None
            else {f.name: _encode(getattr(measured, f.name)) for f in fields(measured)},
            "trivial": _encode(self.trivial),
            "assumptions": [{**vars(a), "status": str(a.status)} for a in self.assumptions],
            "inputs": {k: _encode(v) for k, v in self.inputs.items()},
            "needs": self.needs,
            "remedy": self.remedy,
            "verdict": str(self.verdict),
            "tightness": _encode(self.tightness),
        }

    def to_json(self, **options: Any) -> str:
        """JSON text; `options` go to :func:`json.dumps`."""
        return json.dumps(self.to_dict(), allow_nan=False, **options)

    @classmethod
    def from_dict(cls, data: Any) -> Certificate:
        """The certificate that :meth:`to_dict` wrote. Verdict and tightness are computed anew, never believed.

        Raises
        ------
        ValueError
            If `data` lacks a field, has one of a wrong type or one that certificates do not have.
        """
        known = {f.name for f in fields(cls)}
        if not isinstance(data, Mapping):
            raise ValueError(f"a certificate must be a JSON object, got {type(data).__name__}")
        if wrong := set(data) ^ (known | {"verdict", "tightness"}):
            raise ValueError(
                f"a certificate has exactly the fields of its schema; missing or unknown: {sorted(wrong)}"
            )
        try:
            measured = data["measured"]
            numbers = ("value", "low", "high", "level")
            return cls(
                **{k: str(data[k]) for k in ("name", "claim", "source", "needs", "remedy")},
                relation=data["relation"]
                if data["relation"] in ("<=", ">=")
                else _refuse(data["relation"]),
                confidence=float(data["confidence"]),
                bound=float(data["bound"]),
                trivial=None if data["trivial"] is None else float(data["trivial"]),
                measured=None
                if measured is None
                else Estimate(**{**measured, **{k: float(measured[k]) for k in numbers}}),
                assumptions=tuple(
                    Assumption(**{**a, "status": Status(a["status"])}) for a in data["assumptions"]
                ),
                inputs={k: _decode(v) for k, v in data["inputs"].items()},
            )
        except (TypeError, AttributeError, KeyError) as error:
            raise ValueError(f"not a certificate: {error}") from error

    @classmethod
    def from_json(cls, text: str) -> Certificate:
        """The certificate in a JSON text; see :meth:`from_dict`."""
        return cls.from_dict(json.loads(text))

    def explain(self) -> str:
        """What was promised, assumed and checked, measured, and what to do now, in plain words."""
        sure = (
            "always" if self.confidence == 1 else f"with probability at least {self.confidence:.4g}"
        )
        lines = [f"Promised ({self.source}), {sure}: {self.claim}."]
        if self.inputs:
            quantities = ", ".join(f"{k} = {_plain(v)}" for k, v in self.inputs.items())
            lines.append(f"The bound is {_plain(self.bound)}, from {quantities}.")
        else:
            lines.append(f"The bound is {_plain(self.bound)}.")
        for status, word in (
            (Status.MET, "Checked"),
            (Status.VIOLATED, "Violated"),
            (Status.UNCHECKED, "Not checked"),
        ):
            matching = [a for a in self.assumptions if a.status is status]
            lines += [
                f"{word}: {a.statement}" + (f" ({a.evidence})." if a.evidence else ".")
                for a in matching
            ]
        if self.measured is not None:
            lines.append(
                f"Measured: {self.measured}" + (f", against {self.relation} {_plain(self.bound)}.")
            )
        lines.append(f"Verdict: {self.verdict}; {MEANING[self.verdict]}.")
        if advice := self._advice():
            lines.append(f"What to do: {advice}")
        return "\n".join(lines)

    def _advice(self) -> str:
        match self.verdict:
            case Verdict.VOID:
                broken = [a for a in self.assumptions if a.status is Status.VIOLATED]
                told = [a.remedy for a in broken if a.remedy]
                return (
                    " ".join(told)
                    or "mend what is violated, or do not rely on this guarantee here."
                )
            case Verdict.VACUOUS:
                return (
                    self.remedy
                    or "give the method more data or a larger budget; the answer may still be good."
                )
            case Verdict.FAILS:
                return (
                    self.remedy
                    or "do not trust this answer; look for an assumption that the data cannot check."
                )
            case Verdict.UNMEASURED | Verdict.INCONCLUSIVE:
                return self.needs
            case Verdict.HOLDS:
                return ""

    def __rich__(self) -> Panel:
        from rich.panel import Panel
        from rich.text import Text

        colour = COLOUR[self.verdict]
        body = Text(f"{self.claim}\n", style="default")
        measured = "not measured" if self.measured is None else str(self.measured)
        body.append(f"measured {measured}   must be {self.relation} {_plain(self.bound)}")
        if self.tightness is not None:
            body.append(f"   tightness {self.tightness:.3g}")
        marks = {
            Status.MET: ("✓", "green"),
            Status.VIOLATED: ("✗", "red"),
            Status.UNCHECKED: ("?", "yellow"),
        }
        for a in self.assumptions:
            mark, style = marks[a.status]
            body.append(f"\n{mark} ", style=style).append(a.statement)
            if a.evidence:
                body.append(f" ({a.evidence})", style="dim")
        if advice := self._advice():
            body.append(f"\n→ {advice}", style=colour)
        sure = "certain" if self.confidence == 1 else f"confidence {self.confidence:.4g}"
        title = Text.assemble((self.name, "bold"), "  ", (str(self.verdict), f"bold {colour}"))
        return Panel(
            body,
            title=title,
            title_align="left",
            subtitle=f"{sure} · {self.source}",
            subtitle_align="left",
            border_style=colour,
        )

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<li class="whp-{a.status}">{html.escape(a.statement)}'
            + (f" <small>({html.escape(a.evidence)})</small>" if a.evidence else "")
            + "</li>"
            for a in self.assumptions
        )
        measured = "not measured" if self.measured is None else str(self.measured)
        relation = "≤" if self.relation == "<=" else "≥"
        advice = f"<p>{html.escape(self._advice())}</p>" if self._advice() else ""
        return (
            f'<section class="whp-certificate whp-{self.verdict}"><h4>{html.escape(self.name)} '
            f'<span class="whp-verdict">{self.verdict}</span></h4><p>{html.escape(self.claim)}</p>'
            f"<p>measured {html.escape(measured)}, must be {relation} {_plain(self.bound)}; "
            f"confidence {self.confidence:.4g}; {html.escape(self.source)}</p><ul>{rows}</ul>{advice}</section>"
        )


def _refuse(relation: Any) -> NoReturn:
    raise ValueError(f"relation must be '<=' or '>=', got {relation!r}")


def _rebuild(values: dict[str, Any]) -> Certificate:
    return Certificate(**values)


def _encode(value: Any) -> Any:
    """JSON has no infinities."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _decode(value: Any) -> Any:
    return float(value) if value in ("inf", "-inf") else value


def _plain(value: Scalar) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@cache
def schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of a certificate, as published with the package."""
    return json.loads((files("whp") / "certificate.schema.json").read_text())
