"""Certificates: a theorem evaluated on one run.

A certificate holds what a theorem promises (`claim`, `bound`, `confidence`), what the promise is
about (`scope`) and rests on (`conditions`, each answered as far as data can answer it), and what
was measured. The verdict follows from these alone. Certificates are made by calling a
:class:`whp.theorem.Theorem`; this module knows how they are judged, stored and shown.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from whp.intervals import Estimate
from whp.text import visible

if TYPE_CHECKING:
    from rich.panel import Panel

__all__ = [
    "Answer",
    "Certificate",
    "Relation",
    "Require",
    "Scope",
    "Status",
    "Verdict",
    "schema",
    "worst",
]

SCHEMA_VERSION = 2
Scalar = bool | int | float | str | np.generic
Require = Literal["holds", "stands", "checked"]


class Relation(StrEnum):
    """Which side of the bound is promised: ``measured relation bound``."""

    AT_MOST = "<="
    AT_LEAST = ">="

    @property
    def sign(self) -> float:
        """1 for "at most", -1 for "at least": ``sign * measured <= sign * bound`` is promised."""
        return 1.0 if self is Relation.AT_MOST else -1.0

    @property
    def words(self) -> str:
        """``"at most"`` or ``"at least"``."""
        return "at most" if self is Relation.AT_MOST else "at least"


class Scope(StrEnum):
    """What a claim is about."""

    THIS_RUN = "this run"
    ON_AVERAGE = "on average"
    FITTED = "the fitted model"
    POPULATION = "the population"


SCOPE_MEANING = {
    Scope.THIS_RUN: "about this run",
    Scope.ON_AVERAGE: "about an expectation, which no single run decides",
    Scope.FITTED: "about the fitted model, not about the world that it was fitted to",
    Scope.POPULATION: "about the law that the rows came from",
    None: "scope not declared",
}


class Status(StrEnum):
    """What is known of a condition."""

    MET = "met"
    VIOLATED = "violated"
    NOT_REFUTED = "not refuted"
    UNCHECKED = "unchecked"
    BY_CONSTRUCTION = "by construction"


MARK = {
    Status.MET: ("✓", "green"),
    Status.VIOLATED: ("✗", "red"),
    Status.NOT_REFUTED: ("~", "yellow"),
    Status.UNCHECKED: ("?", "yellow"),
    Status.BY_CONSTRUCTION: ("=", "green"),
}


class Verdict(StrEnum):
    """What a certificate comes to; :attr:`Certificate.verdict` gives the order of decision."""

    VOID = "void"
    FAILS = "fails"
    VACUOUS = "vacuous"
    UNMEASURED = "unmeasured"
    INCONCLUSIVE = "inconclusive"
    HOLDS = "holds"


# From the most to the least alarming: which of several verdicts stands for all of them.
SEVERITY = (
    Verdict.FAILS,
    Verdict.VOID,
    Verdict.INCONCLUSIVE,
    Verdict.UNMEASURED,
    Verdict.VACUOUS,
    Verdict.HOLDS,
)

MEANING = {
    Verdict.VOID: "a condition is violated, so the theorem says nothing about this run",
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
class Answer:
    """What a run says about one condition of a theorem.

    Parameters
    ----------
    statement : str
        The condition in words, e.g. ``"A has full column rank"``.
    status : Status
        What is known of it.
    evidence : str
        The numbers that say so, what a test would have seen, or why it cannot be checked.
    remedy : str
        What to do when it is violated.
    name : str
        Identifier of the condition, e.g. ``"full-rank"``; empty in files older than version 2.
    """

    statement: str
    status: Status
    evidence: str = ""
    remedy: str = ""
    name: str = ""


@dataclass(frozen=True)
class Certificate:
    """A theorem evaluated on one run.

    Parameters
    ----------
    name : str
        Short identifier, unique within a method, e.g. ``"coordinate-error-bars"``.
    claim : str
        The promise in words.
    source : str
        Paper and theorem number, or where its derivation stands.
    relation : Relation
        `measured` *relation* `bound` is what is promised.
    bound : float
        The promised value with all constants; infinite is allowed and is vacuous.
    confidence : float
        Probability 1 - delta with which the promise holds; 1 for a deterministic statement.
    measured : Estimate, optional
        The quantity observed on this run.
    trivial : float, optional
        What any answer would satisfy: a bound no better than this is vacuous.
    conditions : tuple of Answer
        What the theorem rests on.
    inputs : mapping of str to scalar
        The named quantities that went into the bound.
    needs : str
        What it takes to measure the quantity when it is unmeasured, or to decide an inconclusive one.
    remedy : str
        What to do when the certificate fails or is vacuous.
    quantity : str
        What is measured, with its unit.
    scope : Scope, optional
        What the claim is about; None for a certificate without a declared theorem.

    Raises
    ------
    ValueError
        If `bound` or `trivial` is NaN or `confidence` is not in (0, 1].
    """

    name: str
    claim: str
    source: str
    relation: Relation
    bound: float
    confidence: float
    measured: Estimate | None = None
    trivial: float | None = None
    conditions: tuple[Answer, ...] = ()
    inputs: Mapping[str, Scalar] = field(default_factory=dict)
    needs: str = ""
    remedy: str = ""
    quantity: str = ""
    scope: Scope | None = None

    def __post_init__(self) -> None:
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
        object.__setattr__(self, "conditions", tuple(self.conditions))
        # numpy scalars are not JSON
        plain = {k: getattr(v, "item", lambda v=v: v)() for k, v in self.inputs.items()}
        object.__setattr__(self, "inputs", MappingProxyType(plain))

    def __reduce__(self) -> tuple[Any, ...]:  # a mapping proxy cannot be pickled
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return _rebuild, ({**values, "inputs": dict(self.inputs)},)

    def __hash__(self) -> int:
        return hash(self.to_json())

    @property
    def assumptions(self) -> tuple[Answer, ...]:
        """The older name of :attr:`conditions`."""
        return self.conditions

    @property
    def verdict(self) -> Verdict:
        """The first that applies of: void, fails, vacuous, unmeasured, inconclusive, holds."""
        sign = self.relation.sign
        bound = sign * self.bound
        if self._count(Status.VIOLATED):
            return Verdict.VOID
        best, worst_end = math.inf, math.inf
        if self.measured is not None:
            best, worst_end = sorted((sign * self.measured.low, sign * self.measured.high))
            if best > bound:
                return Verdict.FAILS
        if bound == math.inf or (self.trivial is not None and bound >= sign * self.trivial):
            return Verdict.VACUOUS
        if self.measured is None:
            return Verdict.UNMEASURED
        return Verdict.HOLDS if worst_end <= bound else Verdict.INCONCLUSIVE

    @property
    def sure(self) -> float:
        """Probability that the verdict is right: 1 - delta - (1 - level of the measurement)."""
        level = 1.0 if self.measured is None else self.measured.level
        return max(0.0, self.confidence - (1.0 - level))

    @property
    def headline(self) -> str:
        """The verdict with what it rests on, e.g. ``"holds, given 2 unchecked, 1 not refuted"``."""
        words = str(self.verdict)
        if self.verdict is not Verdict.HOLDS:
            return words
        if self.scope is Scope.FITTED:
            words = "holds of the fit"
        counts = [(self._count(s), str(s)) for s in (Status.UNCHECKED, Status.NOT_REFUTED)]
        given = ", ".join(f"{n} {word}" for n, word in counts if n)
        return f"{words}, given {given}" if given else words

    @property
    def tightness(self) -> float | None:
        """`measured / bound`: how much of the bound was used; None where that means nothing."""
        if self.measured is None or self.bound == 0 or not math.isfinite(self.bound):
            return None
        return self.measured.value / self.bound

    def passes(self, require: Require) -> bool:
        """Whether this certificate lets a gate open.

        Parameters
        ----------
        require : {"holds", "stands", "checked"}
            ``"holds"``: it holds, and not only of a fitted model; ``"stands"``: that, or its bound
            stands unmeasured; ``"checked"``: it holds and no condition is unchecked.
        """
        if self.scope is Scope.FITTED:
            return False
        if require == "stands" and self.verdict is Verdict.UNMEASURED:
            return True
        unchecked = require == "checked" and self._count(Status.UNCHECKED)
        return self.verdict is Verdict.HOLDS and not unchecked

    def _count(self, status: Status) -> int:
        return sum(a.status is status for a in self.conditions)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready dictionary that :func:`schema` describes; infinity is the string ``"inf"``."""
        measured = self.measured
        numbers = (
            {}
            if measured is None
            else {f.name: getattr(measured, f.name) for f in fields(measured)}
        )
        return {
            "schema": SCHEMA_VERSION,
            "name": self.name,
            "claim": self.claim,
            "quantity": self.quantity,
            "scope": None if self.scope is None else str(self.scope),
            "source": self.source,
            "relation": str(self.relation),
            "bound": _encode(self.bound),
            "confidence": self.confidence,
            "measured": None if measured is None else {k: _encode(v) for k, v in numbers.items()},
            "trivial": _encode(self.trivial),
            "conditions": [{**vars(a), "status": str(a.status)} for a in self.conditions],
            "inputs": {k: _encode(v) for k, v in self.inputs.items()},
            "needs": self.needs,
            "remedy": self.remedy,
            "verdict": str(self.verdict),
            "sure": self.sure,
            "tightness": _encode(self.tightness),
        }

    def to_json(self, **options: Any) -> str:
        """JSON text; `options` go to :func:`json.dumps`."""
        return json.dumps(self.to_dict(), allow_nan=False, **options)

    @classmethod
    def from_dict(cls, data: Any) -> Certificate:
        """The certificate that :meth:`to_dict` wrote, of this version or of version 1.

        What follows from the rest (verdict, `sure`, tightness) is computed anew, never believed.

        Raises
        ------
        ValueError
            If `data` lacks a field, has one of a wrong type or one that certificates do not have.
        """
        if not isinstance(data, Mapping):
            raise ValueError(f"a certificate must be a JSON object, got {type(data).__name__}")
        data = _upgraded(dict(data))
        known = {f.name for f in fields(cls)} | {"schema", "verdict", "sure", "tightness"}
        if wrong := set(data) ^ known:
            raise ValueError(
                "a certificate has exactly the fields of its schema; missing or unknown: "
                f"{sorted(map(str, wrong))}"
            )
        if data["schema"] != SCHEMA_VERSION:
            raise ValueError(f"certificates of schema version {data['schema']!r} are not known")
        texts = ("name", "claim", "quantity", "source", "needs", "remedy")
        try:
            measured = data["measured"]
            numbers = ("value", "low", "high", "level")
            return cls(
                **{k: str(data[k]) for k in texts},
                relation=Relation(data["relation"]),
                scope=None if data["scope"] is None else Scope(data["scope"]),
                confidence=float(data["confidence"]),
                bound=float(data["bound"]),
                trivial=None if data["trivial"] is None else float(data["trivial"]),
                measured=None
                if measured is None
                else Estimate(**{**measured, **{k: float(measured[k]) for k in numbers}}),
                conditions=tuple(
                    Answer(**{**a, "status": Status(a["status"])}) for a in data["conditions"]
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
        lines = [
            f"Promised ({self.source}; {self._surely}; {SCOPE_MEANING[self.scope]}): {self.claim}."
        ]
        if self.quantity:
            lines.append(f"Quantity: {self.quantity}.")
        if self.inputs:
            quantities = ", ".join(f"{k} = {_plain(v)}" for k, v in self.inputs.items())
            lines.append(f"The bound is {_plain(self.bound)}, from {quantities}.")
        else:
            lines.append(f"The bound is {_plain(self.bound)}.")
        for status in Status:
            matching = [a for a in self.conditions if a.status is status]
            lines += [
                f"{status.capitalize()}: {a.statement}"
                + (f" ({a.evidence})." if a.evidence else ".")
                for a in matching
            ]
        if self.measured is not None:
            lines.append(
                f"Measured: {self.measured}, must be {self.relation} {_plain(self.bound)}."
            )
        lines.append(f"Verdict: {self.headline}; {MEANING[self.verdict]}.")
        if advice := self.advice:
            lines.append(f"What to do: {advice}")
        return "\n".join(lines)

    @property
    def _surely(self) -> str:
        if self.sure == 1:
            return "certain"
        return f"confidence {self.sure:.4g}"

    @property
    def advice(self) -> str:
        """What to do now, in a sentence; empty when it holds."""
        match self.verdict:
            case Verdict.VOID:
                broken = [a for a in self.conditions if a.status is Status.VIOLATED]
                remedies = list(dict.fromkeys(a.remedy for a in broken if a.remedy))
                return " ".join(remedies) or (
                    "mend what is violated, or do not rely on this guarantee here."
                )
            case Verdict.VACUOUS:
                return self.remedy or (
                    "give the method more data or a larger budget; the answer may still be good."
                )
            case Verdict.FAILS:
                return self.remedy or (
                    "do not trust this answer; look for a condition that the data cannot check."
                )
            case Verdict.UNMEASURED | Verdict.INCONCLUSIVE:
                return self.needs
            case Verdict.HOLDS:
                return ""

    @property
    def _measurement(self) -> str:
        measured = "not measured" if self.measured is None else f"measured {self.measured}"
        return f"{measured}, must be {self.relation.words} {_plain(self.bound)}"

    def __rich__(self) -> Panel:
        from rich.panel import Panel
        from rich.text import Text

        colour = COLOUR[self.verdict]
        body = Text(visible(self.claim), style="default")
        if self.quantity:
            body.append(visible(f"\n{self.quantity}: "), style="dim")
        else:
            body.append("\n")
        body.append(self._measurement)
        for answer in self.conditions:
            mark, style = MARK[answer.status]
            body.append(f"\n{mark} ", style=style).append(visible(answer.statement))
            if answer.status in (Status.NOT_REFUTED, Status.UNCHECKED, Status.BY_CONSTRUCTION):
                body.append(f" · {answer.status}", style=style)
            if answer.evidence:
                body.append(visible(f" ({answer.evidence})"), style="dim")
        if advice := self.advice:
            body.append(visible(f"\n→ {advice}"), style=colour)
        footer = f"\n{self._surely} · {SCOPE_MEANING[self.scope]} · {self.source}"
        body.append(visible(footer), style="dim")
        title = Text.assemble((visible(self.name), "bold"), "  ", (self.headline, f"bold {colour}"))
        return Panel(body, title=title, title_align="left", border_style=colour)

    def _repr_html_(self) -> str:
        def cell(text: str) -> str:
            return html.escape(visible(text))

        rows = "".join(
            f'<li style="list-style:none"><b style="color:{style}">{mark}</b> {cell(a.statement)} '
            f"<small>{a.status}{cell(f': {a.evidence}' if a.evidence else '')}</small></li>"
            for a in self.conditions
            for mark, style in (MARK[a.status],)
        )
        quantity = f"{cell(self.quantity)}: " if self.quantity else ""
        advice = f"<p>→ {cell(self.advice)}</p>" if self.advice else ""
        colour = COLOUR[self.verdict]
        return (
            f'<section class="whp-certificate whp-{self.verdict}" '
            f'style="border-left:4px solid {colour};padding:0 .8em;margin:.6em 0">'
            f'<h4>{cell(self.name)} <span class="whp-verdict" style="color:{colour}">'
            f"{self.headline}</span></h4><p>{cell(self.claim)}</p>"
            f"<p>{quantity}{cell(self._measurement)}</p><ul>{rows}</ul>{advice}"
            f"<small>{self._surely} · {SCOPE_MEANING[self.scope]} · {cell(self.source)}</small>"
            "</section>"
        )


def worst(certificates: Mapping[str, Certificate]) -> Certificate:
    """One certificate for many of the same theorem: the one with the most alarming verdict.

    For right-hand sides, groups, layers: the failure probability must have been divided among them
    before, so that all hold at once with the confidence of the theorem.

    Parameters
    ----------
    certificates : mapping of str to Certificate
        What each is about (a target, a group) to its certificate.

    Returns
    -------
    Certificate
        The first in the order fails, void, inconclusive, unmeasured, vacuous, holds; among equals
        the one that used most of its bound. Its inputs say which it is and of how many, its
        confidence is the sum of all failure probabilities taken from one.

    Raises
    ------
    ValueError
        If there is none, or they are not of one theorem.
    """
    if len({c.name for c in certificates.values()}) != 1:
        raise ValueError(f"certificates of one theorem are wanted, got {sorted(certificates)}")
    at, chosen = min(
        certificates.items(), key=lambda item: (SEVERITY.index(item[1].verdict), -_used(item[1]))
    )
    if len(certificates) == 1:
        return chosen
    failing = sum(1 - c.confidence for c in certificates.values())
    inputs = {**chosen.inputs, "worst of": len(certificates), "which is": at}
    if failing >= 1:
        raise ValueError(
            "divide delta among the certificates before: together they promise nothing"
        )
    return replace(chosen, inputs=inputs, confidence=1 - failing)


def _used(certificate: Certificate) -> float:
    """How much of its bound a measurement used up: larger is closer to failing."""
    if certificate.measured is None:
        return -math.inf
    sign = certificate.relation.sign
    over = sign * (certificate.measured.value - certificate.bound)
    return over / max(abs(certificate.bound), 1e-300) if math.isfinite(over) else over


def _upgraded(data: dict[str, Any]) -> dict[str, Any]:
    """A dictionary of version 1 as one of version 2; others unchanged."""
    if "schema" in data or "assumptions" not in data:
        return data
    conditions = data.pop("assumptions")
    return data | {
        "schema": SCHEMA_VERSION,
        "conditions": conditions,
        "quantity": "",
        "scope": None,
        "sure": None,
    }


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
