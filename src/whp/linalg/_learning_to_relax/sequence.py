"""Solve a stream of systems, the relaxation learnt from iteration counts alone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
import scipy.sparse as sp

from whp.certificate import Answer, Certificate
from whp.door import AtLeast, Between, Fraction, front_door
from whp.linalg._learning_to_relax import theorems as th
from whp.linalg._learning_to_relax.looking import Inspector
from whp.linalg._learning_to_relax.replay import Replay, fixed_scale, replayed
from whp.linalg._learning_to_relax.result import RelaxRun
from whp.linalg._learning_to_relax.solvers import SolveInfo, conjugate_gradients, sor, ssor_cg
from whp.linalg._learning_to_relax.system import System
from whp.linalg._learning_to_relax.tuner import BINS, DEGREE, RATE, RelaxationTuner
from whp.progress import track
from whp.validate import as_real, as_vector

__all__ = ["Options", "run_grid", "solve_sequence", "solved"]

SOLVERS: dict[str, Callable[..., SolveInfo]] = {"sor": sor, "ssor-cg": ssor_cg}
SPARSE = {
    getattr(sp, f"{form}_{kind}")
    for form in ("bsr", "coo", "csc", "csr", "dia", "dok", "lil")
    for kind in ("array", "matrix")
}
RESCUE = 10  # caps that conjugate gradients may take after the cap


@dataclass(frozen=True)
class Options:
    """How a stream is solved; for the fields see :func:`solve_sequence`."""

    solver: Literal["sor", "ssor-cg"]
    tol: float
    cap: int
    warm_start: bool
    fallback: Literal["cg", "none"]
    audit: float
    adaptive: bool
    keep: bool
    replays: int
    delta: float
    bins: int | None = None
    rate: str | None = None

    @property
    def most(self) -> int:
        """What a solve can cost."""
        return self.cap * (1 + RESCUE if self.fallback == "cg" else 1)

    def solve(
        self, A: System, b: np.ndarray, omega: float, x0: np.ndarray | None
    ) -> tuple[int, tuple[SolveInfo, ...]]:
        """Cost, at least 1, and the solve with what rescued it. What never converged costs the most there is."""
        info = SOLVERS[self.solver](A, b, omega, x0=x0, tol=self.tol, cap=self.cap)
        if info.converged:
            return max(info.iterations, 1), (info,)
        if self.fallback == "none":
            return self.most, (info,)
        if A.skew is None:
            rescue = conjugate_gradients(A, b, x0=x0, tol=self.tol, cap=RESCUE * self.cap)
        else:
            rescue = sor(A, b, 1.0, x0=x0, tol=self.tol, cap=RESCUE * self.cap)
        cost = info.iterations + rescue.iterations if rescue.converged else self.most
        return max(cost, 1), (info, rescue)


@dataclass(eq=False)
class _Log:
    """What happened, a row a system."""

    rows: list[tuple[int, int, float, float, bool]] = field(default_factory=list)
    probabilities: list[np.ndarray] = field(default_factory=list)
    solutions: list[np.ndarray] = field(default_factory=list)
    audited: dict[int, np.ndarray] = field(default_factory=dict)
    unsolved: str = ""
    failed: str = ""  # of the audited solves, the first that nothing brought to an end
    seconds: float = 0.0


def _items(systems: Any) -> tuple[Iterator[Any], Callable[[np.ndarray], Any] | None]:
    """The systems one after the other, and how to hand a solution back."""
    if hasattr(systems, "next_system"):
        sent: list[Any] = [None]

        def asked() -> Iterator[Any]:
            while (item := systems.next_system(sent[0])) is not None:
                yield item

        def back(x: np.ndarray) -> None:
            sent[0] = x

        return asked(), back
    if isinstance(systems, Generator):
        mail: list[Any] = [None]

        def driven() -> Iterator[Any]:
            try:
                yield next(systems)
                while True:
                    yield systems.send(mail[0]) if _listens(systems) else next(systems)
            except StopIteration:
                return

        def post(x: np.ndarray) -> None:
            mail[0] = x

        return driven(), post
    if not isinstance(systems, Iterable):
        raise TypeError(
            f"systems must be iterable, or have next_system(x), got {type(systems).__name__}"
        )
    return iter(systems), None


def _listens(generator: Any) -> bool:
    """Whether what is sent to a generator arrives: not where it yields from a list."""
    while (generator := getattr(generator, "gi_yieldfrom", None)) is not None:
        if not hasattr(generator, "send"):
            return False
    return True


def _fixed(systems: Any) -> bool:
    """Whether these systems cannot change while they are solved: plain lists of plain numbers and arrays."""
    if type(systems) not in (list, tuple):
        return False
    return all(type(item) in (list, tuple) and all(map(_plain, item)) for item in systems)


def _plain(value: Any) -> bool:
    """Whether it holds numbers, and nothing that makes them up when it is asked."""
    kind = type(value)
    if kind in (list, tuple):
        return all(map(_plain, value))
    if kind in SPARSE:  # nor has anybody put a method of his own into it
        parts = vars(value).values()
        own = any(isinstance(v, np.ndarray) and type(v) is not np.ndarray for v in parts)
        return value.dtype.kind in "fiub" and not own and not any(map(callable, parts))
    if kind is np.ndarray:
        return value.dtype.kind in "fiub"
    return kind in (int, float) or (kind.__module__ == "numpy" and isinstance(value, np.number))


def _contexts(systems: Any) -> list[float] | None:
    """Contexts of a list of systems; None where there are none, or it is no list."""
    if not isinstance(systems, Sequence):
        return None
    found = [item[2] for item in systems if isinstance(item, Sequence) and len(item) > 2]
    if not found or len(found) < len(systems):
        return None
    try:
        return [float(c) for c in found]
    except (TypeError, ValueError):
        return None  # refused with the number of its system


@front_door
def solve_sequence(
    systems: Any,
    *,
    solver: Literal["sor", "ssor-cg"] = "sor",
    learner: str | float = "auto",
    omegas: Any = None,
    context_range: tuple[float, float] | None = None,
    bins: Annotated[int, AtLeast(1)] | None = None,
    rate: str | None = None,
    jacobi: tuple[float, float] | None = None,
    tol: float = 1e-8,
    cap: Annotated[int, AtLeast(1)] = 10_000,
    warm_start: bool = True,
    fallback: Literal["cg", "none"] = "cg",
    audit: Annotated[float, Between(0, 1)] = 0.0,
    replays: Annotated[int, AtLeast(20)] = 1000,
    delta: Annotated[float, Fraction()] = 0.05,
    adaptive: bool = False,
    keep: bool = False,
    x0: Any = None,
    rng: np.random.Generator | int | None = None,
) -> RelaxRun:
    """Solve systems as they come, with ω learnt from how many iterations the solves took.

    Parameters
    ----------
    systems : iterable, generator or object with ``next_system(x)``
        ``(A, b)`` or ``(A, b, context)``, consumed lazily. A generator gets each solution sent back,
        ``x = yield A, b``.
    solver : {"sor", "ssor-cg"}
        Successive over-relaxation, or conjugate gradients preconditioned by symmetric SOR.
    learner : {"auto", "tsallis", "tsallis-cb", "chebcb", "young"} or float
        As in :class:`RelaxationTuner`; "auto" is "chebcb" where there are contexts, else "tsallis".
    omegas, bins, rate, jacobi
        As in :class:`RelaxationTuner`.
    context_range : (float, float), optional
        Of the contexts; by default that of a list of systems.
    tol : float
        Of the stopping rule: relative to the first residual for SOR, to b for SSOR-CG, so that counts of
        the two do not compare.
    cap : int
        Iterations after which conjugate gradients without preconditioner take over.
    warm_start : bool
        Whether each solve begins at the solution before, where that is no worse than 0.
    fallback : {"cg", "none"}
        What happens at the cap: conjugate gradients, for ten caps at most, Gauss-Seidel where A is not
        symmetric; or nothing.
    audit : float
        Share of the systems, drawn at random, on which every ω is run. With 1, cold starts and a list of
        systems, the learner is replayed on the table of counts, and its expected regret has an interval.
    replays : int
        How often.
    delta : float
        Probability with which an interval over replays may be wrong.
    adaptive : bool
        Say so if systems depend on which ω was chosen: the theorem is then void.
    keep : bool
        Keep all solutions.
    x0 : array_like, shape (n,), optional
        First guess, used where it is no worse than 0.
    rng : numpy.random.Generator, int or None
        Of the draws.

    Returns
    -------
    RelaxRun

    Raises
    ------
    TypeError, ValueError
        If a system is not as described; the message names the step.

    Notes
    -----
    Whatever ends the run early, an error of the generator or Ctrl-C included, has the :class:`RelaxRun` of
    the systems before as its attribute `run`.
    """
    if learner == "auto":
        contexts = _contexts(systems)
        if contexts and context_range is None and min(contexts) < max(contexts):
            context_range = (min(contexts), max(contexts))
        learner = "chebcb" if context_range is not None else "tsallis"
        told = contexts is None  # contexts of a stream would be ignored without a word
    else:
        told = False
        contexts = _contexts(systems)
        if learner not in ("tsallis-cb", "chebcb"):
            if context_range is not None:
                raise ValueError(f"context_range must be left out for {learner}, which has none")
        elif context_range is None and contexts:
            context_range = (min(contexts), max(contexts))
    options = Options(
        solver,
        as_real(tol, "tol", low=0, high=1, open_ends=True),
        cap,
        warm_start,
        fallback,
        audit,
        adaptive,
        keep,
        replays,
        delta,
        bins,
        rate,
    )
    items, back = _items(systems)
    return solved(
        items,
        learner,
        options,
        omegas=omegas,
        context_range=context_range,
        jacobi=jacobi,
        x0=x0,
        rng=rng,
        back=back,
        fixed=_fixed(systems),
        total=len(systems) if hasattr(systems, "__len__") else None,
        wants_range=told and learner == "tsallis",
    )


def solved(
    items: Iterator[Any],
    learner: str | float,
    options: Options,
    *,
    omegas: Any,
    context_range: tuple[float, float] | None,
    jacobi: tuple[float, float] | None = None,
    x0: Any = None,
    rng: Any = None,
    back: Callable[[np.ndarray], Any] | None = None,
    fixed: bool,
    total: int | None = None,
    wants_range: bool = False,
) -> RelaxRun:
    """The loop behind both doors; `fixed` says that nothing can change the systems meanwhile."""
    random = np.random.default_rng(rng)
    tuner = RelaxationTuner(
        learner,
        omegas,
        context_range=context_range,
        bins=options.bins,
        rate=options.rate,
        jacobi=jacobi,
        rng=random,
    )
    auditor, replayer = np.random.default_rng(random.integers(1 << 62, size=3)).spawn(2)
    inspector = Inspector(options.solver, options.tol, options.cap)
    x = None if x0 is None else as_vector(x0, "x0", dtype=np.float64)
    log, system = _Log(), None

    def finished() -> RelaxRun:
        arms, costs, used, contexts, fine = (np.array(v) for v in zip(*log.rows, strict=True))
        fed_back = options.warm_start or back is not None
        made, replay = _regret(
            tuner, log, costs, contexts, options, fixed=fixed, fed_back=fed_back, rng=replayer
        )
        return RelaxRun(
            solutions=np.stack(log.solutions),
            iterations=costs,
            actions=arms,
            used=used,
            probabilities=np.stack(log.probabilities),
            omegas=tuner.omegas,
            contexts=contexts,
            converged=fine,
            bounds=np.array(inspector.bounds),
            seconds=log.seconds,
            certificates=(*made, inspector.certificate),
            solver=options.solver,
            learner=str(learner),
            audited=log.audited,
            replay=replay,
            outside=tuner.outside,
        )

    try:
        for step, item in enumerate(track(items, "solving", total=total)):
            started = time.perf_counter()
            try:
                system, right, context = _checked(item, system, options.solver)
                if wants_range and context is not None:
                    raise ValueError(
                        "context_range must be given beside contexts; or learner='tsallis', which ignores them"
                    )
                arm, omega = tuner.ask(context)
            except (TypeError, ValueError) as error:
                raise type(error)(f"system {step + 1}: {error}") from error
            start = x if options.warm_start or step == 0 else None
            if start is not None and _worse(system, right, start):
                start = None
            log.seconds += time.perf_counter() - started
            inspector.look(system, omega)
            started = time.perf_counter()
            cost, solves = options.solve(system, right, omega, start)
            tuner.tell(cost)
            log.seconds += time.perf_counter() - started
            grid, failed = None, ""
            if options.audit and auditor.random() < options.audit:
                grid, failed = _audited(options, system, right, start, tuner.omegas, {arm: cost})
            # Entered whole, or not at all: Ctrl-C comes while something is solved.
            inspector.solved(system, right, *solves)
            if grid is not None:
                log.audited[step] = grid
                log.failed = log.failed or (failed and f"system {step + 1} {failed}")
            if not solves[-1].converged:
                log.unsolved = log.unsolved or f"system {step + 1} did not converge"
            log.rows.append(
                (arm, cost, omega, math.nan if context is None else context, solves[-1].converged)
            )
            log.probabilities.append(tuner.probabilities)
            x = solves[-1].x
            if not options.keep:
                log.solutions.clear()
            log.solutions.append(x)
            if back is not None:
                back(x.copy())  # what the caller does to it is not done to the solution
    except BaseException as error:
        if log.rows:  # solved, perhaps for hours
            broken: Any = error
            broken.run = finished()
            broken.add_note(
                f"The run of the {len(log.rows):,} systems before is this error's `run`."
            )
        raise
    if not log.rows:
        raise ValueError("systems must hold at least one system")
    return finished()


def _audited(
    options: Options,
    system: System,
    b: np.ndarray,
    start: np.ndarray | None,
    omegas: np.ndarray,
    known: dict[int, int],
) -> tuple[np.ndarray, str]:
    """What every ω costs, and which of them, if any, was not brought to an end."""
    costs, failed = [], ""
    for i, w in enumerate(omegas.tolist()):
        if i in known:
            costs.append(known[i])
            continue
        cost, solves = options.solve(system, b, w, start)
        costs.append(cost)
        if not solves[-1].converged:
            failed = failed or f"was not solved with ω = {w:g}"
    return np.array(costs), failed


def _checked(
    item: Any, before: System | None, solver: str
) -> tuple[System, np.ndarray, float | None]:
    """A system that can be solved."""
    try:
        A, b, *rest = item
    except TypeError:
        raise TypeError(
            f"systems must yield (A, b) or (A, b, context), got {type(item).__name__}"
        ) from None
    made = System(A, like=before)
    if len(rest) > 1:
        raise ValueError(f"systems must yield (A, b) or (A, b, context), got {2 + len(rest)} items")
    if before is not None and made.n != before.n:
        raise ValueError(f"A must keep its {before.n} unknowns, got {made.n}")
    if solver == "ssor-cg" and made.skew is not None:
        raise ValueError(f"A must be symmetric for ssor-cg ({made.skew}); use sor")
    return made, made.right(b), _context(rest[0]) if rest else None


def _context(value: Any) -> float | None:
    """A context as a number; None where there is none."""
    if value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"context must be a number, got {type(value).__name__}") from error


def _worse(system: System, b: np.ndarray, x0: np.ndarray) -> bool:
    """Whether a first guess is further off than 0.

    SOR, which stops relative to where it began, would end far from the solution; SSOR-CG, which stops relative
    to b, would only lose by it.
    """
    r = b - system.matrix @ as_vector(x0, "x0", size=system.n, dtype=np.float64)
    largest = float(max(np.abs(b).max(), np.abs(r).max()))
    return largest > 0 and float(np.linalg.norm(r / largest)) > float(np.linalg.norm(b / largest))


def _oblivious(options: Options, *, fixed: bool, fed_back: bool) -> Answer:
    if options.adaptive:
        return th.OBLIVIOUS.check(False, "adaptive=True says that they do")
    if fed_back:
        return th.OBLIVIOUS.unchecked(
            f"solves begin with, or systems are made of, solutions that are within tol = {options.tol:g}"
        )
    if not fixed:
        return th.OBLIVIOUS.unchecked("systems came one by one: nothing shows what made them")
    return th.OBLIVIOUS.by_construction("a list of arrays, every solve from zero")


def _regret(
    tuner: RelaxationTuner,
    log: _Log,
    costs: np.ndarray,
    contexts: np.ndarray,
    options: Options,
    *,
    fixed: bool,
    fed_back: bool,
    rng: np.random.Generator,
) -> tuple[tuple[Certificate, ...], Replay | None]:
    """What is promised of the learner: by replays where all counts are known, else little."""
    if tuner.learner not in th.OF_LEARNER:
        return (), None
    T, rate = len(costs), options.rate or RATE
    answers = (
        _oblivious(options, fixed=fixed, fed_back=fed_back),
        th.COSTS.check(
            not log.unsolved, log.unsolved or f"all {T}, from {costs.min()} to {costs.max()}"
        ),
    )
    whole = len(log.audited) == T and fixed and not fed_back and not options.adaptive
    if whole:
        table = np.stack([log.audited[t] for t in range(T)])
        if log.failed and not log.unsolved:
            answers = (answers[0], th.COSTS.check(False, log.failed))
        replay = replayed(
            table,
            str(tuner.learner),
            answers,
            contexts=contexts if tuner.range is not None else None,
            context_range=tuner.range,
            bins=options.bins or BINS,
            degree=DEGREE,
            rate=rate,
            replays=options.replays,
            delta=options.delta,
            most=options.most,
            rng=rng,
        )
        return replay.certificates, replay
    facts = th.Regret(
        str(tuner.learner), len(tuner.omegas), T, options.delta, options.most, executed=tuner.bound
    )
    made = [th.regret(facts, answers)]
    if tuner.learner == "tsallis" and (scale := fixed_scale(rate)) > 0:
        seen = max(float(costs.max()), *(float(v.max()) for v in log.audited.values()), 1.0) - 1
        if seen > scale or options.most - 1 <= scale:
            known = th.RANGE_KNOWN.check(
                seen <= scale,
                f"{scale:g} was set, the largest count less 1 that was seen is {seen:g}",
            )
        else:
            known = th.RANGE_KNOWN.unchecked("only counts that were drawn were seen")
        made.append(th.worst_case(facts, scale, (*answers, known)))
    return tuple(made), None


@front_door
def run_grid(
    systems: Iterable[Any],
    omegas: Any,
    solver: Literal["sor", "ssor-cg"] = "sor",
    *,
    tol: float = 1e-8,
    cap: Annotated[int, AtLeast(1)] = 10_000,
) -> np.ndarray:
    """Counts (T, d) of every ω on every system from zero, at least 1; a solve that does not converge counts as the cap.

    Parameters
    ----------
    systems : iterable of (A, b) or (A, b, context)
        The systems.
    omegas : array_like, shape (d,)
        Values of ω.
    solver, tol, cap
        As in :func:`solve_sequence`.

    Returns
    -------
    ndarray of int, shape (T, d)
        What :func:`replay_counts` takes.
    """
    grid = as_vector(omegas, "omegas", dtype=np.float64)
    options = Options(solver, tol, cap, False, "none", 0.0, False, False, 20, 0.05)
    rows, system = [], None
    for item in track(systems, "running the grid"):
        system, right, _ = _checked(item, system, solver)
        rows.append([options.solve(system, right, w, None)[0] for w in grid.tolist()])
    return np.array(rows)
