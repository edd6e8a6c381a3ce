"""Certificates of methods whose theorems are not declared yet.

They carry no scope and no quantity. New code declares a :class:`whp.theorem.Theorem` instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from whp.certificate import Answer, Certificate, Relation, Scalar, Status
from whp.intervals import Estimate

__all__ = ["Assumption", "met", "unchecked", "undeclared", "violated"]

Assumption = Answer


def met(statement: str, evidence: str = "") -> Answer:
    """A condition that the data were seen to meet."""
    return Answer(statement, Status.MET, evidence)


def unchecked(statement: str, evidence: str = "") -> Answer:
    """A condition that the data cannot check; `evidence` says why."""
    return Answer(statement, Status.UNCHECKED, evidence)


def violated(statement: str, evidence: str = "", remedy: str = "") -> Answer:
    """A condition that the data were seen to break; it makes a certificate void."""
    return Answer(statement, Status.VIOLATED, evidence, remedy)


def undeclared(
    name: str,
    claim: str,
    source: str,
    relation: str,
    bound: float,
    confidence: float,
    measured: Estimate | None = None,
    trivial: float | None = None,
    assumptions: Iterable[Answer] = (),
    inputs: Mapping[str, Scalar] | None = None,
    needs: str = "",
    remedy: str = "",
) -> Certificate:
    """A certificate without a declared theorem; for the arguments see :class:`Certificate`."""
    return Certificate(
        name,
        claim,
        source,
        Relation(relation),
        bound,
        confidence,
        measured,
        trivial,
        tuple(assumptions),
        dict(inputs or {}),
        needs,
        remedy,
    )
