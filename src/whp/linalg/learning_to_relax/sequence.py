"""Solve a stream of systems, the relaxation learnt from iteration counts alone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import scipy.sparse

from whp.certificate import Certificate
from whp.intervals import Estimate, bootstrap
from whp.io import Data
from whp.linalg.learning_to_relax import guarantee
from whp.linalg.learning_to_relax.solvers import (
    SolveInfo,
    System,
    conjugate_gradients,
    sor,
    ssor_cg,
)
from whp.linalg.learning_to_relax.theory import energy_bound, gershgorin, ssor_bound
from whp.linalg.learning_to_relax.tuner import RelaxationTuner
from whp.progress import track
from whp.result import Result
from whp.undeclared import met, unchecked, violated
from whp.validate import as_choice, as_floats, as_int, as_real, as_vector

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["RelaxRun", "learning_to_relax", "run_grid", "solve_sequence"]

SOLVERS: dict[str, Callable[..., SolveInfo]] = {"sor": sor, "ssor-cg": ssor_cg}
SMALL = 400  # unknowns up to which eigenvalues are computed for a bound
LOOKED_AT = 10  # systems for which they are


@dataclass(frozen=True, eq=False)
class RelaxRun(Result):
    """A stream of solves.

    Attributes
    ----------
    solutions : ndarray, shape (T, n) or (1, n)
        All with `keep`, else the last.
    iterations : ndarray, shape (T,)
        What each solve cost, conjugate gradients after the cap included.
    actions : ndarray, shape (T,)
        Number of the ω that was used; −1 for Young's formula.
    used : ndarray, shape (T,)
        The ω itself.
    probabilities : ndarray, shape (T, d)
    omegas : ndarray, shape (d,)
    contexts : ndarray, shape (T,)
        NaN where there were none.
    converged : ndarray, shape (T,)
    seconds : float
        Of the solves and the learner, without audits and certificates.
    audited : dict of int to ndarray
        Counts of every ω for the systems that were audited.
    certificates : tuple of Certificate
        ``regret`` and ``regret-worst-case`` for Tsallis-INF, ``iteration-bound``.
    """

    solutions: np.ndarray
    iterations: np.ndarray
    actions: np.ndarray
    used: np.ndarray
    probabilities: np.ndarray
    omegas: np.ndarray
    contexts: np.ndarray
    converged: np.ndarray
    seconds: float
    certificates: tuple[Certificate, ...]
    solver: str = "sor"
    learner: str = "tsallis"
    audited: dict[int, np.ndarray] = field(repr=False, default_factory=dict)

    def summary(self) -> dict[str, bool | int | float | str | None]:
        """Totals, and which ω came out."""
        T = len(self.iterations)
        late = self.used[T // 2 :]
        values, counts = np.unique(late.round(6), return_counts=True)
        found: dict[str, bool | int | float | str | None] = {
            "systems": T,
            "unknowns": self.solutions.shape[1],
            "solver": self.solver,
            "learner": self.learner,
            "iterations": int(self.iterations.sum()),
            "iterations_a_solve": float(self.iterations.mean()),
            "iterations_a_solve_in_the_second_half": float(self.iterations[T // 2 :].mean()),
            "omega_used_most_in_the_second_half": float(values[counts.argmax()]),
            "converged": int(self.converged.sum()),
            "seconds": self.seconds,
        }
        if self.audited:
            grid = np.mean(list(self.audited.values()), axis=0)
            found |= {
                "best_fixed_omega": float(self.omegas[grid.argmin()]),
                "its_iterations_a_solve": float(grid.min()),
            }
        return found

    def artifacts(self) -> dict[str, Any]:
        """Solutions, and what was chosen."""
        import pandas as pd

        columns = {
            "omega": self.used,
            "iterations": self.iterations,
            "context": self.contexts,
            "converged": self.converged,
        }
        table = pd.DataFrame(columns)
        return {"solutions.npy": self.solutions, "choices.csv": table}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Which ω was used, and what each solve cost."""
        if ax is None:
            import matplotlib.pyplot as plt

            ax = plt.subplots()[1]
        points = ax.scatter(
            np.arange(len(self.used)),
            self.used,
            c=np.log10(np.maximum(self.iterations, 1)),
            s=6,
            cmap="viridis_r",
        )
        ax.figure.colorbar(points, ax=ax, label="log₁₀ of iterations")
        ax.set(xlabel="systems", ylabel="relaxation ω that was used")
        return ax


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
                    yield systems.send(mail[0])
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


def solve_sequence(
    systems: Any,
    *,
    solver: Literal["sor", "ssor-cg"] = "sor",
    learner: str | float = "auto",
    omegas: Any = None,
    context_range: tuple[float, float] | None = None,
    bins: int = 5,
    rate: str = "running",
    jacobi: tuple[float, float] | None = None,
    tol: float = 1e-8,
    cap: int = 10_000,
    warm_start: bool = True,
    fallback: Literal["cg", "none"] = "cg",
    audit: float = 0.0,
    adaptive: bool = False,
    keep: bool = False,
    x0: Any = None,
    rng: np.random.Generator | int | None = None,
) -> RelaxRun:
    """Solve systems as they come, with ω learnt from how many iterations the solves took.

    Parameters
    ----------
    systems : iterable, generator or object with ``next_system(x)``
        ``(A, b)`` or ``(A, b, context)``, consumed lazily. A generator gets each solution sent back, ``x = yield A, b``.
    solver : {"sor", "ssor-cg"}
        Successive over-relaxation, or conjugate gradients preconditioned by symmetric SOR.
    learner : {"auto", "tsallis", "tsallis-cb", "chebcb", "young"} or float
        As in :class:`RelaxationTuner`; by default "chebcb" where `context_range` is given, else "tsallis".
    omegas, context_range, bins, rate, jacobi
        As in :class:`RelaxationTuner`.
    tol : float
        Of the stopping rule: relative to the first residual for SOR, to b for SSOR-CG, so that counts of the two do not compare.
    cap : int
        Iterations after which conjugate gradients without preconditioner take over.
    warm_start : bool
        Whether each solve begins at the solution before.
    fallback : {"cg", "none"}
        What happens at the cap.
    audit : float
        Share of the systems, drawn at random, on which every ω is run: an unbiased measurement of regret.
    adaptive : bool
        Say so if systems depend on which ω was chosen: the theorem is then void.
    keep : bool
        Keep all solutions.
    x0 : array_like, shape (n,), optional
        First guess.
    rng : numpy.random.Generator, int or None

    Returns
    -------
    RelaxRun

    Raises
    ------
    TypeError, ValueError
        If a system is not as described; the message names the step.
    """
    as_choice(solver, "solver", tuple(SOLVERS))
    as_choice(fallback, "fallback", ("cg", "none"))
    share, tolerance = (
        as_real(audit, "audit", low=0, high=1),
        as_real(tol, "tol", low=0, high=1, open_ends=True),
    )
    most = as_int(cap, "cap", low=1)
    random = np.random.default_rng(rng)
    if learner == "auto":
        learner = "chebcb" if context_range is not None else "tsallis"
    tuner = RelaxationTuner(
        learner,
        omegas,
        context_range=context_range,
        bins=bins,
        rate=rate,
        jacobi=jacobi,
        rng=random.spawn(1)[0],
    )
    auditor = random.spawn(1)[0]
    items, back = _items(systems)
    solve = SOLVERS[solver]
    log: list[tuple[int, int, float, float, bool]] = []
    probabilities, solutions, audited = [], [], {}
    bounded: list[tuple[System, int, float]] = []
    rates: list[tuple[float, ...]] = []
    x = None if x0 is None else as_vector(x0, "x0", dtype=np.float64)
    system: System | None = None
    spent = 0.0
    symmetric = True
    for step, item in enumerate(
        track(items, "solving", total=len(systems) if hasattr(systems, "__len__") else None)
    ):
        started = time.perf_counter()
        try:
            A, b, *rest = item
            made = System(A, like=system)
            if system is not None and made.n != system.n:
                raise ValueError(f"A must keep its {system.n} unknowns, got {made.n}")
            system, right = made, made.right(b)
            context = float(rest[0]) if rest else None
            arm, omega = tuner.ask(context)
        except (TypeError, ValueError) as error:
            raise type(error)(f"system {step + 1}: {error}") from error
        if step == 0:
            symmetric = made.symmetric
        if solver == "ssor-cg" and not symmetric:
            raise ValueError(f"system {step + 1}: A must be symmetric for ssor-cg; use sor")
        start = x if warm_start else None
        info = solve(made, right, omega, x0=start, tol=tolerance, cap=most)
        cost, fine, answer = info.iterations, info.converged, info.x
        if not fine and fallback == "cg":
            rescue = conjugate_gradients(made, right, x0=start, tol=tolerance, cap=10 * most)
            cost, fine, answer = most + rescue.iterations, rescue.converged, rescue.x
        tuner.tell(max(cost, 1))
        spent += time.perf_counter() - started
        if share and auditor.random() < share:
            audited[step] = np.array(
                [
                    _capped(solve, made, right, w, start, tolerance, most, fallback)
                    for w in tuner.omegas
                ]
            )
        log.append((arm, cost, omega, math.nan if context is None else context, fine))
        probabilities.append(tuner.probabilities)
        rates.append(tuner.rates)
        bounded.append((made, info.iterations if info.converged else -1, omega))
        if len(bounded) > 4 * LOOKED_AT:
            bounded = bounded[::2]
        solutions = [*solutions, answer] if keep else [answer]
        x = answer
        if back is not None:
            back(answer)
    if not log:
        raise ValueError("systems must hold at least one system")
    arms, counts, used, contexts, fine = (np.array(v) for v in zip(*log, strict=True))
    certificates = _certify(
        tuner,
        arms,
        counts,
        audited,
        bounded,
        rates,
        probabilities,
        symmetric=symmetric,
        solver=solver,
        tol=tolerance,
        adaptive=adaptive,
        fed_back=warm_start or back is not None,
    )
    return RelaxRun(
        solutions=np.stack(solutions),
        iterations=counts,
        actions=arms,
        used=used,
        probabilities=np.stack(probabilities),
        omegas=tuner.omegas,
        contexts=contexts,
        converged=fine,
        seconds=spent,
        certificates=certificates,
        solver=solver,
        learner=str(learner),
        audited=audited,
    )


def _capped(
    solve: Callable[..., SolveInfo],
    A: System,
    b: np.ndarray,
    omega: float,
    x: Any,
    tol: float,
    cap: int,
    fallback: str,
) -> int:
    info = solve(A, b, omega, x0=x, tol=tol, cap=cap)
    if info.converged or fallback == "none":
        return max(info.iterations, 1)
    return cap + conjugate_gradients(A, b, x0=x, tol=tol, cap=10 * cap).iterations


def run_grid(
    systems: Iterable[Any],
    omegas: Any,
    solver: Literal["sor", "ssor-cg"] = "sor",
    *,
    tol: float = 1e-8,
    cap: int = 10_000,
) -> np.ndarray:
    """Counts (T, d) of every ω on every system from zero; a cap that was reached counts as the cap.

    Parameters
    ----------
    systems : iterable of (A, b) or (A, b, context)
    omegas : array_like, shape (d,)
    solver, tol, cap
        As in :func:`solve_sequence`.
    """
    grid = as_vector(omegas, "omegas", dtype=np.float64)
    rows, system = [], None
    for item in track(systems, "running the grid"):
        system = System(item[0], like=system)
        rows.append(
            [SOLVERS[solver](system, item[1], w, tol=tol, cap=cap).iterations for w in grid]
        )
    return np.array(rows)


def regret_estimate(
    arms: np.ndarray, audited: dict[int, np.ndarray], rounds: int
) -> tuple[Estimate, float]:
    """Regret to the best fixed arm and that of a uniform choice, out of the audited systems, scaled to all."""
    steps = np.array(sorted(audited))
    table = np.stack([audited[int(t)] for t in steps])
    best = int(table.sum(axis=0).argmin())
    gaps = (table[np.arange(len(steps)), arms[steps]] - table[:, best]).astype(float)
    scale = float(rounds)
    uniform = float((table.mean(axis=1) - table[:, best]).mean()) * scale
    if len(steps) == rounds:
        total = float(gaps.sum())
        return Estimate(total, total, total, 1.0, rounds, "every system audited"), uniform
    found = (
        bootstrap(gaps, np.mean, resamples=1999)
        if len(steps) > 1
        else Estimate(float(gaps[0]), -math.inf, math.inf, 0.95, 1)
    )
    return Estimate(
        found.value * scale,
        found.low * scale,
        found.high * scale,
        found.level,
        len(steps),
        "bootstrap",
    ), uniform


def _certify(
    tuner: RelaxationTuner,
    arms: np.ndarray,
    counts: np.ndarray,
    audited: dict[int, np.ndarray],
    bounded: Sequence[tuple[System, int, float]],
    rates: Sequence[tuple[float, ...]],
    probabilities: Sequence[np.ndarray],
    *,
    symmetric: bool,
    solver: str,
    tol: float,
    adaptive: bool,
    fed_back: bool,
) -> tuple[Certificate, ...]:
    T, made = len(counts), []
    if tuner.learner in ("tsallis", "tsallis-cb"):
        measured, trivial = None, float(counts.max() - counts.min()) * T
        if audited:
            measured, trivial = regret_estimate(arms, audited, T)
        table = np.array(rates)
        rising = met if (np.diff(table, axis=0) >= 0).all() else violated
        assumptions = [
            guarantee.oblivious(adaptive=adaptive, fed_back=fed_back, tol=tol),
            met("costs are finite and at least 1", f"from {counts.min()} to {counts.max()}"),
            rising(
                "the rate does not fall",
                f"{len(tuner.rates)} of them, up to {max(tuner.rates):.4g}",
            ),
            met(
                "the recorded probabilities are those that were drawn from", "recorded at the draw"
            ),
        ]
        against = (
            "the best fixed ω in hindsight"
            if tuner.learner == "tsallis"
            else "the best ω of each bin of the context"
        )
        inputs = {
            "T": T,
            "d": len(tuner.omegas),
            "audited systems": len(audited),
            "largest count": int(counts.max()),
        }
        made.append(
            guarantee.regret_certificate(
                tuner.bound, measured, trivial, assumptions, inputs, against=against
            )
        )
        if tuner.learner == "tsallis":
            made.append(
                guarantee.worst_case_certificate(
                    len(tuner.omegas),
                    T,
                    float(max(counts.max() - 1, 1)),
                    measured,
                    trivial,
                    assumptions[:2],
                )
            )
    made.append(_bounded(bounded, symmetric, solver, tol))
    return tuple(made)


def _bounded(
    systems: Sequence[tuple[System, int, float]], symmetric: bool, solver: str, tol: float
) -> Certificate:
    statement = "systems are symmetric positive definite"
    if not symmetric:
        return guarantee.count_certificate(
            [],
            [],
            len(systems),
            [violated(statement, "A ≠ Aᵀ", "none: the bound is for those.")],
            solver,
        )
    chosen = [
        systems[i]
        for i in np.unique(
            np.linspace(0, len(systems) - 1, min(LOOKED_AT, len(systems))).astype(int)
        )
    ]
    counts, bounds, skipped = [], [], 0
    dominant = True
    for system, count, omega in chosen:
        strict = gershgorin(system) is not None
        dominant &= strict
        if (
            count < 0
            or (not strict and system.n > SMALL)
            or (solver == "ssor-cg" and system.n > SMALL)
        ):
            skipped += 1
            continue
        try:
            bound = (
                energy_bound(system, omega, tol=tol)
                if solver == "sor"
                else math.ceil(ssor_bound(system, omega, tol=tol)[1])
            )
        except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
            return guarantee.count_certificate(
                [],
                [],
                len(chosen),
                [violated(statement, str(error), "use another solver.")],
                solver,
            )
        counts.append(count)
        bounds.append(bound)
    told = (
        "strictly dominant with a positive diagonal"
        if dominant
        else "by eigenvalues in floating point"
    )
    assumption = met(statement, told) if dominant else unchecked(statement, told)
    return guarantee.count_certificate(counts, bounds, skipped, [assumption], solver)


def learning_to_relax(
    A: Annotated[Any, Data("matrix")],
    b: Annotated[Any, Data("matrix")],
    shifts: Annotated[Any, Data("vector", "shift")] = None,
    *,
    solver: Literal["sor", "ssor-cg"] = "sor",
    learner: str = "auto",
    tol: float = 1e-8,
    cap: int = 10_000,
    warm_start: bool = False,
    audit: float = 0.05,
    bins: int = 5,
    rate: str = "running",
    rng: np.random.Generator | int | None = None,
) -> RelaxRun:
    """Solve (A + cI)x = b for many right-hand sides and shifts, the relaxation ω learnt on the way.

    Parameters
    ----------
    A : scipy.sparse or array_like, shape (n, n)
        The matrix, in any ordering.
    b : array_like, shape (T, n)
        A right-hand side a row.
    shifts : array_like, shape (T,), optional
        c for each of them, which is also the context that the learner sees.
    solver : {"sor", "ssor-cg"}
        Successive over-relaxation, or conjugate gradients preconditioned by symmetric SOR.
    learner : str
        "auto", "tsallis", "tsallis-cb", "chebcb", or a number: a fixed ω. By default "chebcb" where there are shifts.
    tol : float
        Of the stopping rule.
    cap : int
        Iterations after which conjugate gradients take over.
    warm_start : bool
        Whether each solve begins at the solution before; worth it where right-hand sides change little.
    audit : float
        Share of the systems on which every ω of the grid is run, to measure regret.
    bins : int
        Of the context, for "tsallis-cb".
    rate : str
        Of Tsallis-INF: "running", or "fixed:" with a number.
    rng : numpy.random.Generator, int or None
        Of the draws.

    Returns
    -------
    RelaxRun

    Raises
    ------
    TypeError, ValueError
        If data do not fit together or an option is out of range; the message names the argument.

    References
    ----------
    Khodak, Chow, Balcan, Talwalkar (ICLR 2024), arXiv 2310.02246.

    Examples
    --------
    >>> A = scipy.sparse.diags_array([-1.0, 2.5, -1.0], offsets=[-1, 0, 1], shape=(50, 50))
    >>> run = learning_to_relax(A, np.ones((30, 50)), rng=0)
    >>> bool(run.converged.all())
    True
    """
    system = System(A)
    rights = np.atleast_2d(as_floats(b, "b"))
    if rights.ndim != 2 or rights.shape[1] != system.n or len(rights) == 0:
        raise ValueError(
            f"b must have shape (T, {system.n}), a right-hand side a row, got {rights.shape}"
        )
    if not np.isfinite(rights).all():
        raise ValueError("b must be finite, got NaN or infinity")
    T = len(rights)
    try:
        fixed: str | float = float(learner)
    except ValueError:
        fixed = learner
    if shifts is None:
        if learner in ("tsallis-cb", "chebcb"):
            raise ValueError(f"shifts must be given for {learner}: they are its context")
        items: Iterator[Any] = ((system.matrix, right) for right in rights)
        span = None
    else:
        moved = as_vector(shifts, "shifts", size=T, dtype=np.float64)
        eye = scipy.sparse.csr_array(scipy.sparse.eye_array(system.n))
        items = (
            (scipy.sparse.csr_array(system.matrix + c * eye), right, c)
            for right, c in zip(rights, moved.tolist(), strict=True)
        )
        low, high = float(moved.min()), float(moved.max())
        span = (low, high) if high > low else None
        if span is None and learner in ("tsallis-cb", "chebcb"):
            raise ValueError("shifts must differ for a contextual learner")
    return solve_sequence(
        _Listed(items, T),
        solver=solver,
        learner=fixed,
        context_range=span,
        bins=bins,
        rate=rate,
        tol=tol,
        cap=cap,
        warm_start=warm_start,
        audit=audit,
        rng=rng,
    )


class _Listed:
    """A generator that wants no answers, and knows how long it is."""

    def __init__(self, items: Iterator[Any], length: int) -> None:
        self.items, self.length = items, length

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Any]:
        return self.items
