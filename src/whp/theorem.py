"""Theorems as values: what a paper promises, on which conditions, about what.

A theorem is declared once, in the ``theorems.py`` of its method, and called with the numbers of a
run; the call returns a :class:`whp.certificate.Certificate`. It refuses to make one that does not
answer each of its conditions exactly once, and one whose measurement cannot mean what the scope of
the claim asks for.

A condition is answered in one of four ways, each printed as what it is:

* ``check(ok, evidence)``: met or violated, by looking at this run;
* ``tested(p, level, sees)``: violated, or *not refuted* by a test that says what it would have seen;
* ``unchecked(why)``: the data cannot tell;
* ``by_construction(how)``: the code of this library made it so (see :mod:`whp.provenance`).

An answer that no input can turn into *violated* is not a check.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, SupportsFloat

import numpy as np

from whp.certificate import Answer, Certificate, Relation, Scalar, Scope, Status
from whp.intervals import Estimate

__all__ = [
    "AT_LEAST",
    "AT_MOST",
    "COMPUTED",
    "FITTED",
    "ON_AVERAGE",
    "POPULATION",
    "THIS_RUN",
    "Condition",
    "Derived",
    "Theorem",
]

AT_MOST, AT_LEAST = Relation.AT_MOST, Relation.AT_LEAST
THIS_RUN, ON_AVERAGE = Scope.THIS_RUN, Scope.ON_AVERAGE
FITTED, POPULATION = Scope.FITTED, Scope.POPULATION

# Intervals for an expectation that hold at every number of runs. Student's t over 20 runs misses in
# a third of all cases where rare events carry the mean, and so does the bootstrap.
VALID_AT_ANY_N = (
    "Clopper-Pearson",
    "Hoeffding",
    "empirical Bernstein",
    "betting",
    "Azuma",
    "Chernoff",
)
# An expectation over draws of known law that was summed, not sampled: certain up to its rounding.
COMPUTED = "computed expectation"


@dataclass(frozen=True)
class Condition:
    """Something that a theorem rests on; a module value that theorems share.

    Parameters
    ----------
    name : str
        Identifier in lower case with hyphens, e.g. ``"full-rank"``.
    statement : str
        The condition in words, e.g. ``"A has full column rank"``.
    remedy : str
        What to do when it is violated.
    """

    name: str
    statement: str
    remedy: str = ""

    def __post_init__(self) -> None:
        _identifier(self.name, "name of a condition")

    def check(self, ok: bool | np.bool_, evidence: str, *, remedy: str = "") -> Answer:
        """Met or violated, by a look at this run; `evidence` holds the numbers.

        Parameters
        ----------
        ok : bool
            What came out.
        evidence : str
            The numbers that say so.
        remedy : str
            In place of the condition's own, where the run knows better.
        """
        return self._answer(Status.MET if ok else Status.VIOLATED, evidence, remedy)

    def tested(self, p: float, level: float, sees: str, *, remedy: str = "") -> Answer:
        """Violated if ``p < level``, else not refuted.

        Parameters
        ----------
        p : float
            Probability, were the condition true, of data as far off as these.
        level : float
            How often the test may cry wolf.
        sees : str
            What it would have seen: ``"a drift of one standard deviation, with 90 %"``.
        remedy : str
            In place of the condition's own, where the run knows better.
        """
        if not 0 <= p <= 1 or not 0 < level < 1:
            raise ValueError(f"p must be in [0, 1] and level in (0, 1), got {p} and {level}")
        if not sees:
            raise ValueError(f"{self.name}: sees must say what the test would have seen")
        if p < level:
            return self._answer(Status.VIOLATED, f"p = {p:.2g} < {level:g}", remedy)
        return self._answer(Status.NOT_REFUTED, f"p = {p:.2g}; would have seen {sees}")

    def unchecked(self, why: str) -> Answer:
        """The data cannot tell; `why` says why not."""
        return self._answer(Status.UNCHECKED, why)

    def by_construction(self, how: str) -> Answer:
        """Code of this library made it so; `how` says what did.

        Only for what no caller can undo: see :func:`whp.provenance.made_here`.
        """
        return self._answer(Status.BY_CONSTRUCTION, how)

    def _answer(self, status: Status, evidence: str, remedy: str = "") -> Answer:
        if not evidence:
            raise ValueError(f"{self.name}: an answer needs its evidence")
        shown = (remedy or self.remedy) if status is Status.VIOLATED else ""
        return Answer(self.statement, status, evidence, shown, self.name)


@dataclass(frozen=True)
class Derived:
    """The source of a theorem that was derived for this library.

    Parameters
    ----------
    anchor : str
        ``"slug#anchor"``: the paragraph with that anchor in the section *Why it is true* of the
        method's page. A test resolves it.
    extends : str
        The published theorem whose constants or conditions are completed, if there is one.
    """

    anchor: str
    extends: str = ""

    @property
    def page(self) -> str:
        """Path of the page in the repository."""
        return f"docs/methods/{self.anchor.partition('#')[0]}.md"

    def __str__(self) -> str:
        after = f" from {self.extends}" if self.extends else ""
        return f"derived here{after}: {self.page}#{self.anchor.partition('#')[2]}"


@dataclass(frozen=True)
class Theorem:
    """A promise, and what it rests on.

    Parameters
    ----------
    name : str
        Identifier, unique within a method, e.g. ``"coordinate-error-bars"``.
    claim : str
        What is promised, in words, without the name of the measured quantity.
    quantity : str
        What is measured against the bound, with its unit.
    relation : Relation
        ``AT_MOST`` or ``AT_LEAST``: on which side of the bound the quantity is promised to lie.
    scope : Scope
        ``THIS_RUN``, ``ON_AVERAGE``, ``FITTED`` or ``POPULATION``.
    source : str or Derived
        Paper and theorem number, or where its derivation stands.
    conditions : tuple of Condition
        What it rests on; each certificate answers each of them.
    needs : str
        What it takes to measure the quantity, or to decide an inconclusive one.
    remedy : str
        What to do when it fails or is vacuous.
    """

    name: str
    claim: str
    quantity: str
    relation: Relation
    scope: Scope
    source: str | Derived
    conditions: tuple[Condition, ...] = ()
    needs: str = ""
    remedy: str = ""
    _names: tuple[str, ...] = field(init=False, repr=False, compare=False, default=())

    def __post_init__(self) -> None:
        _identifier(self.name, "name of a theorem")
        names = tuple(c.name for c in self.conditions)
        if len(set(names)) < len(names):
            raise ValueError(f"{self.name}: a condition is listed twice: {', '.join(names)}")
        object.__setattr__(self, "_names", names)

    def variant(self, **changes: Any) -> Theorem:
        """A relative: the same theorem with other fields, e.g. `source` and `conditions`."""
        return replace(self, **changes)

    def __call__(
        self,
        *,
        bound: SupportsFloat,
        confidence: SupportsFloat,
        trivial: SupportsFloat,
        measured: Estimate | None = None,
        answers: Iterable[Answer] = (),
        inputs: Mapping[str, Scalar] | None = None,
    ) -> Certificate:
        """The certificate of one run.

        Parameters
        ----------
        bound : float
            The promised value, with all constants.
        confidence : float
            1 - delta; 1 for what is certain.
        trivial : float
            What the data of this run could reach at worst, rounding included: a bound no better
            is vacuous. ``math.inf`` (``-math.inf`` for "at least") for an identity only.
        measured : Estimate, optional
            The quantity on this run; None if it was not observed.
        answers : iterable of Answer
            One for each condition.
        inputs : mapping of str to scalar, optional
            The quantities that went into the bound.

        Raises
        ------
        ValueError
            If a condition has no answer or more than one, an answer belongs to none, or the
            measurement cannot carry a claim of this scope.
        """
        given = tuple(answers)
        names = [a.name for a in given]
        if sorted(names) != sorted(self._names):
            missing = [n for n in self._names if n not in names]
            strange = [n for n in names if n not in self._names]
            twice = sorted({n for n in names if names.count(n) > 1})
            raise ValueError(
                f"{self.name}: each condition is answered once; without an answer: {missing}, "
                f"not of this theorem: {strange}, answered twice: {twice}"
            )
        valid = (
            measured is None
            or (measured.method == COMPUTED and measured.level == 1 and measured.n is None)
            or (measured.level < 1 and measured.method in VALID_AT_ANY_N)
        )
        if self.scope is ON_AVERAGE and not valid:
            assert measured is not None
            raise ValueError(
                f"{self.name}: an expectation is measured by an interval that holds at its "
                f"number of runs ({', '.join(VALID_AT_ANY_N)}), or summed over all draws "
                f"({COMPUTED}: level 1, no number of runs), got {measured.method!r} at level "
                f"{measured.level:g} of {measured.n} runs"
            )
        ordered = sorted(given, key=lambda a: self._names.index(a.name))
        return Certificate(
            self.name,
            self.claim,
            str(self.source),
            self.relation,
            float(bound),
            float(confidence),
            measured,
            float(trivial),
            tuple(ordered),
            dict(inputs or {}),
            self.needs,
            self.remedy,
            self.quantity,
            self.scope,
        )


def _identifier(name: str, what: str) -> None:
    if not name or not name.replace("-", "a").isalnum() or name != name.lower():
        raise ValueError(f"{what} must be lower case words joined by hyphens, got {name!r}")
