"""Certificates of methods whose theorems are not declared yet.

They carry no scope and no quantity. New code declares a :class:`whp.theorem.Theorem` instead.
"""

from __future__ import annotations

from whp.certificate import Answer, Status
from whp.theorem import undeclared

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
