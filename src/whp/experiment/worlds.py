"""Worlds: generators of runs whose truth is known, which certificates are judged in.

A world makes the arguments of a run and a judge of what the user was given by it. An *honest* world
keeps every condition of the theorems; a *broken* one breaks one condition, at a stated strength. The
judge knows the truth from the generator, never from the certificate's own code, and looks at what
the user is given (interval, band, plan), not at the certificate's measurement: where that is the
exact truth, "holds" is the claim, and bars half as wide would show no false one.

Mutants are the test of the worlds: a constant of the code is halved, and a world must notice.
"""

from __future__ import annotations

import inspect
import math
import time
import traceback
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal
from unittest.mock import patch

import numpy as np
from scipy.stats import binom

from whp.certificate import Certificate, Verdict
from whp.intervals import Estimate, proportion
from whp.theorem import Condition

__all__ = [
    "Counts",
    "Instance",
    "Mutant",
    "World",
    "Worlds",
    "caught",
    "count",
    "load_worlds",
    "problems",
    "run_block",
]

BLOCK = 50
UNMEASURED_EVERY = 4  # one run in four does without measure=True, as many users do
NOTICED = 0.9  # of blatantly broken runs


@dataclass(frozen=True)
class Instance:
    """One run of a world.

    Parameters
    ----------
    arguments : mapping of str to object
        For the world's `run`.
    truths : callable
        From what `run` returns to a mapping from the name of a theorem to whether its claim is
        true by what the user was given; None within the truth's own rounding.
    """

    arguments: Mapping[str, Any]
    truths: Callable[[Any], Mapping[str, bool | None]]


@dataclass(frozen=True)
class World:
    """A generator of runs; made by :meth:`Worlds.world`, whose parameters its fields are."""

    name: str
    description: str
    make: Callable[..., Instance]
    run: Callable[..., Any]
    breaks: Condition | None
    strengths: tuple[float, ...]
    broken_from: float | None
    noticeable: bool
    expects: Verdict | None
    refuses: tuple[type[Exception], ...]
    false_voids: float
    rising: bool
    slow: bool
    seeds: int | None

    def blatant(self, strength: float) -> bool:
        """Whether at this strength the break has to be noticed."""
        if self.breaks is None and self.expects is None:
            return False
        if self.broken_from is None:
            return True
        return strength >= self.broken_from if self.rising else strength <= self.broken_from


@dataclass(frozen=True)
class Mutant:
    """A constant of the code halved; made by :meth:`Worlds.mutant`, whose parameters its fields are."""

    theorem: str
    how: str
    target: str
    change: Callable[[Any], Any]
    world: str
    strength: float
    caught_by: Literal["claim false", "false fails", "false holds"]
    seeds: int


class Worlds:
    """The worlds of one method.

    Parameters
    ----------
    slug : str
        The method.
    theorems : sequence of Theorem
        All that it declares.
    """

    def __init__(self, slug: str, theorems: Sequence[Any]) -> None:
        self.slug = slug
        self.theorems = tuple(theorems)
        self.worlds: dict[str, World] = {}
        self.mutants: list[Mutant] = []
        self.constructed: dict[str, str] = {}

    def world(
        self,
        *,
        run: Callable[..., Any],
        breaks: Condition | None = None,
        strengths: Sequence[float] = (1.0,),
        broken_from: float | None = None,
        noticeable: bool = True,
        expects: Verdict | None = None,
        refuses: tuple[type[Exception], ...] = (),
        false_voids: float = 0.05,
        rising: bool = True,
        slow: bool = False,
        seeds: int | None = None,
    ) -> Callable[[Callable[..., Instance]], World]:
        """Decorate ``make(rng, strength) -> Instance``; its name and docstring become the world's.

        Parameters
        ----------
        run : callable
            A front door, or a script such as save, load and resume. Its result has `certificates`,
            or is a certificate or a sequence of them. If it takes `measure` and the instance does
            not set it, three runs in four measure.
        breaks : Condition, optional
            The condition that is false in this world; None for an honest one.
        strengths : sequence of float
            How strongly it is broken.
        broken_from : float, optional
            From here on a user would call it broken, and nine in ten runs must be void; by default
            at every strength.
        noticeable : bool
            False where no data can show the break: the condition is then *unchecked*, and the table
            shows the rate.
        expects : Verdict, optional
            For a world in which no condition is broken but a demand is not met (a miscalibrated
            model): the verdict that nine in ten runs must come to.
        refuses : tuple of exception types
            Errors by which a run may refuse such data; they count as noticed.
        false_voids : float
            Level of all tests of conditions together, which an honest world may not exceed.
        rising : bool
            Whether a larger strength breaks more.
        slow : bool
            Not run by the tests, only by ``whp soundness``.
        seeds : int, optional
            At most so many in ``whp soundness``, for worlds of processes or training.
        """

        def add(make: Callable[..., Instance]) -> World:
            name = make.__name__.strip("_").replace("_", "-")
            if name in self.worlds:
                raise ValueError(f"{self.slug}: there are two worlds {name!r}")
            self.worlds[name] = World(
                name,
                " ".join((make.__doc__ or "").split()),
                make,
                run,
                breaks,
                tuple(map(float, strengths)),
                broken_from,
                noticeable,
                expects,
                refuses,
                false_voids,
                rising,
                slow,
                seeds,
            )
            return self.worlds[name]

        return add

    def mutant(
        self,
        theorem: str,
        how: str,
        *,
        target: str,
        change: Callable[[Any], Any],
        world: World,
        strength: float | None = None,
        caught_by: Literal["claim false", "false fails", "false holds"] = "claim false",
        seeds: int = 40,
    ) -> None:
        """Declare that `world` notices when `target` is replaced by ``change(target)``.

        Parameters
        ----------
        theorem, how : str
            Name of the theorem, and what is wrong with it now, e.g. ``"t halved"``.
        target : str
            ``"module:name.of.attribute"``; the code must look it up there when it runs.
        change : callable
            From the original to the mutant.
        world : World
            Honest, and the one that notices.
        strength : float, optional
            By default the first of the world.
        caught_by : {"claim false", "false fails", "false holds"}
            Which rate then exceeds delta.
        seeds : int
            Enough to tell; above 40 the tests leave it to ``whp soundness``.
        """
        self.mutants.append(
            Mutant(
                theorem,
                how,
                target,
                change,
                world.name,
                world.strengths[0] if strength is None else strength,
                caught_by,
                seeds,
            )
        )

    def by_construction(self, condition: Condition, test: str) -> None:
        """Declare that no run can break `condition`; `test` (``"file.py::name"``) tries to."""
        self.constructed[condition.name] = test

    def missing(self) -> list[str]:
        """What the declared theorems and conditions still lack, in words."""
        mutated = {m.theorem for m in self.mutants}
        lacking = [
            f"theorem {t.name} has no mutant" for t in self.theorems if t.name not in mutated
        ]
        conditions = {c.name for t in self.theorems for c in t.conditions}
        for name in sorted(conditions - set(self.constructed)):
            broken = [w for w in self.worlds.values() if w.breaks and w.breaks.name == name]
            if len(broken) < 2:
                lacking.append(f"condition {name} has {len(broken)} broken worlds, wants 2")
        return lacking


@dataclass(frozen=True)
class Counts:
    """What became of one theorem over the runs of a world.

    Attributes
    ----------
    n : int
        Runs in which the theorem was judged, those that were refused with them.
    false_not_void : int
        The claim was false by what the user was given, and the certificate was not void.
    false_holds, true_fails, void, decided : int
        False claims that "hold", true ones that "fail", void verdicts, verdicts of holds or fails.
    measured : int
        Runs asked to measure; `decided` is of these.
    refused, crashed : int
        Runs that ended in an error that the world expects, or in another.
    expected : int
        Runs that came to the verdict that the world expects.
    unknown : int
        Truths within their own rounding.
    delta : float
        Largest failure probability that a certificate stated.
    rests : bool
        Whether the theorem rests on the condition that the world breaks.
    crash : str
        The last crash.
    """

    n: int = 0
    false_not_void: int = 0
    false_holds: int = 0
    true_fails: int = 0
    void: int = 0
    decided: int = 0
    measured: int = 0
    refused: int = 0
    crashed: int = 0
    expected: int = 0
    unknown: int = 0
    delta: float = 0.0
    rests: bool = False
    crash: str = ""

    def __add__(self, other: Counts) -> Counts:
        total = {
            f.name: getattr(self, f.name) + getattr(other, f.name)
            for f in fields(self)
            if f.name not in ("delta", "rests", "crash")
        }
        return Counts(
            **total,
            delta=max(self.delta, other.delta),
            rests=self.rests or other.rests,
            crash=self.crash or other.crash,
        )

    def rate(self, name: str, of: str = "n", level: float = 0.95) -> Estimate | None:
        """A count as a rate with its Clopper-Pearson interval; None where there were no runs."""
        trials = getattr(self, of)
        return proportion(getattr(self, name), trials, level=level) if trials else None

    @property
    def noticed(self) -> int:
        """Runs that were void or refused."""
        return self.void + self.refused


def count(
    worlds: Worlds,
    world: World,
    strength: float,
    seeds: Sequence[int],
    *,
    mutant: Mutant | None = None,
    seconds: float = math.inf,
) -> dict[str, Counts]:
    """Run a world over `seeds`, for at most about `seconds` of computing, and judge every theorem that it judges.

    Returns
    -------
    dict
        Name of a theorem to its counts; under the name ``""`` runs that crashed or were refused
        before any theorem could be judged are spread over all theorems of the world.
    """
    totals: dict[str, Counts] = {}
    blank = Counts()
    start = time.process_time()  # not the clock's: a busy machine must not decide how many
    takes = "measure" in inspect.signature(world.run).parameters
    with _mutated(mutant):
        for done, seed in enumerate(seeds):
            if done >= 5 and time.process_time() - start > seconds:
                break
            rng = np.random.default_rng([zlib.crc32(f"{worlds.slug}/{world.name}".encode()), seed])
            try:
                instance = world.make(rng, strength)
                arguments = dict(instance.arguments)
                if takes:
                    arguments.setdefault("measure", seed % UNMEASURED_EVERY != 0)
                measured = bool(arguments.get("measure", True))
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    result = world.run(**arguments)
                certificates = _certificates(result)
                truths = instance.truths(result)
            except world.refuses:
                blank += Counts(n=1, refused=1)
                continue
            except Exception:  # counted and shown: a crash in a world is a finding
                blank += Counts(n=1, crashed=1, crash=traceback.format_exc(limit=-3))
                continue
            for name, truth in truths.items():
                if name in certificates:
                    one = _judged(certificates[name], truth, world, measured)
                    totals[name] = totals.get(name, Counts()) + one
    if not totals and blank.n:
        return {"": blank}
    return {name: c + blank for name, c in totals.items()}


def _judged(c: Certificate, truth: bool | None, world: World, measured: bool) -> Counts:
    verdict = c.verdict
    void, decided = verdict is Verdict.VOID, verdict in (Verdict.HOLDS, Verdict.FAILS)
    return Counts(
        n=1,
        false_not_void=int(truth is False and not void),
        false_holds=int(truth is False and verdict is Verdict.HOLDS),
        true_fails=int(truth is True and verdict is Verdict.FAILS),
        void=int(void),
        decided=int(decided and measured),
        measured=int(measured),
        expected=int(verdict is world.expects),
        unknown=int(truth is None),
        delta=0.0 if void else 1 - c.sure,
        rests=world.breaks is not None and any(a.name == world.breaks.name for a in c.conditions),
    )


def _certificates(result: Any) -> dict[str, Certificate]:
    if isinstance(result, Certificate):
        result = (result,)
    given = tuple(getattr(result, "certificates", result))
    by_name = {c.name: c for c in given}
    if len(by_name) < len(given):
        raise ValueError(f"a run made two certificates of one name: {[c.name for c in given]}")
    return by_name


@contextmanager
def _mutated(mutant: Mutant | None) -> Iterator[None]:
    if mutant is None:
        yield
        return
    module, _, path = mutant.target.partition(":")
    owner: Any = import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    original = inspect.getattr_static(owner, name)
    with patch.object(owner, name, mutant.change(original)):
        yield


def problems(world: World, strength: float, counts: Mapping[str, Counts], p: float) -> list[str]:
    """What the counts of a world refute, each refuted at one-sided level `p`; in words."""
    complaints = []
    for name, c in counts.items():
        where = f"{world.name}({strength:g}) {name or 'all'}"

        def refuted(k: int, n: int, rate: float) -> bool:
            return n > 0 and bool(binom.sf(k - 1, n, rate) < p)

        if c.crashed:
            complaints.append(f"{where}: {c.crashed} of {c.n} runs crashed: {c.crash}")
        if world.noticeable and refuted(c.false_not_void, c.n, c.delta) and world.expects is None:
            complaints.append(
                f"{where}: claim false and not void in {c.false_not_void} of {c.n}, "
                f"delta {c.delta:.3g}"
            )
        if refuted(c.true_fails, c.n, c.delta):
            complaints.append(f"{where}: fails on a true claim in {c.true_fails} of {c.n}")
        if refuted(c.false_holds, c.n, c.delta) and world.noticeable:
            complaints.append(f"{where}: holds on a false claim in {c.false_holds} of {c.n}")
        if world.breaks is None and refuted(c.void, c.n, world.false_voids):
            complaints.append(f"{where}: void in {c.void} of {c.n} honest runs")
        if not world.blatant(strength):
            continue
        missed = c.n - (c.expected if world.expects else c.noticed)
        rests = world.expects is not None or c.rests or c.refused == c.n
        if world.noticeable and rests and refuted(missed, c.n, 1 - NOTICED):
            complaints.append(f"{where}: not noticed in {missed} of {c.n}")
    return complaints


def caught(mutant: Mutant, counts: Mapping[str, Counts], p: float) -> bool:
    """Whether the world noticed the mutant: its rate exceeds delta at one-sided level `p`."""
    c = counts.get(mutant.theorem, Counts())
    bad = {
        "claim false": c.false_not_void,
        "false fails": c.true_fails,
        "false holds": c.false_holds,
    }[mutant.caught_by]
    return c.n > 0 and bool(binom.sf(bad - 1, c.n, c.delta) < p)


def load_worlds(slug: str) -> Worlds | None:
    """The worlds of a method; None where it has none yet."""
    package = f"whp.studies.{slug.replace('-', '_')}"
    spec = find_spec(package)
    if (
        spec is None
        or not spec.submodule_search_locations
        or find_spec(f"{package}.worlds") is None
    ):
        return None
    return import_module(f"{package}.worlds").worlds


def run_block(config: dict[str, Any], rng: np.random.Generator) -> list[dict[str, Any]]:
    """One task of ``whp soundness``: a block of seeds of a world and strength, or of a mutant.

    `rng` is not used: each run is seeded by its world and number, so that a block can be cut anew.
    """
    worlds = load_worlds(config["slug"])
    assert worlds is not None
    mutant = None if config["mutant"] is None else worlds.mutants[config["mutant"]]
    seeds = range(config["first"], config["first"] + config["count"])
    counts = count(worlds, worlds.worlds[config["world"]], config["strength"], seeds, mutant=mutant)
    return [{"theorem": name, **asdict(c)} for name, c in counts.items()]
