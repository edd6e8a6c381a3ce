"""Worlds of learning to relax: tables of counts and streams of systems whose truth is computed apart.

Regret is an expectation: its truth is the mean of many runs of learners that were written anew, or that
are asked and told by hand. Bounds on counts are held against powers of the dense matrix of a sweep, and
against solves by dense algebra.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import scipy.sparse as sp

from whp.certificate import Verdict
from whp.datasets.linear_systems import stencil
from whp.experiment.worlds import Instance, Worlds
from whp.linalg import RelaxRun, Replay, replay_counts, solve_sequence
from whp.linalg._learning_to_relax import theorems as t
from whp.studies.learning_to_relax.truth import (
    below,
    cg_count,
    contextual,
    sor_count,
    swept,
    tsallis,
)

__all__ = ["worlds"]

worlds = Worlds("learning-to-relax", t.THEOREMS)
HERE = "whp.linalg._learning_to_relax"
Rng = np.random.Generator
Truths = Mapping[str, bool | None]
SIZE, TOL = 6, 1e-8
GRID = (1.0, 1.3, 1.5, 1.7, 1.85, 1.95)
BINS = 5
REPLAYS = 200


# Regret on tables of counts


def stated(run: Replay | RelaxRun, name: str) -> float:
    """The bound that the user is told."""
    return next(c.bound for c in run.certificates if c.name == name)


def table(rng: Rng, costs: np.ndarray, **options: Any) -> Instance:
    """Tsallis-INF on a table of counts."""
    scale = float(options.get("rate", "fixed:0").partition(":")[2])

    def truths(run: Replay) -> Truths:
        paid, against = tsallis(costs, rng, scale=scale), float(costs.sum(axis=0).min())
        judged = {"regret": below(paid, against, stated(run, "regret"))}
        if scale:
            judged["regret-worst-case"] = below(paid, against, stated(run, "regret-worst-case"))
        return judged

    arguments = {"counts": costs, "replays": REPLAYS, "rng": int(rng.integers(1 << 31))}
    return Instance({**arguments, **options}, truths)


@worlds.world(run=replay_counts)
def one_fast_omega(rng: Rng, strength: float) -> Instance:
    """One ω takes 1 iteration, three take 20, always; the scale of the rate is set: tightest known."""
    return table(rng, np.tile([20.0, 1.0, 20.0, 20.0], (300, 1)), rate="fixed:19")


@worlds.world(run=replay_counts)
def twenty_omegas(rng: Rng, strength: float) -> Instance:
    """One of twenty ω takes 5 iterations, the others 25."""
    return table(rng, np.tile([5.0] + [25.0] * 19, (200, 1)), replays=5 * REPLAYS)


@worlds.world(run=replay_counts)
def heavy_tails(rng: Rng, strength: float) -> Instance:
    """Counts of five ω are Cauchy's: a few systems cost as much as all others."""
    return table(rng, np.ceil(1 + np.abs(10 * rng.standard_cauchy((150, 5)))))


@worlds.world(run=replay_counts, strengths=(5, 20, 1e6))
def quiet_then_something(rng: Rng, strength: float) -> Instance:
    """For a hundred systems nothing is to do, then one of two ω takes as many iterations as the strength."""
    costs = np.ones((200, 2))
    costs[100:, 1] = strength
    return table(rng, costs)


@worlds.world(run=replay_counts)
def fortunes_change(rng: Rng, strength: float) -> Instance:
    """The best of four ω becomes the worst after seven tenths of the systems."""
    costs = np.tile([3.0, 30.0, 60.0, 90.0], (150, 1)) + rng.integers(0, 5, (150, 4))
    costs[105:] = costs[105:, ::-1]
    return table(rng, costs)


@worlds.world(run=replay_counts, breaks=t.RANGE_KNOWN, strengths=(0.9, 0.5, 0.1), rising=False)
def scale_below_the_counts(rng: Rng, strength: float) -> Instance:
    """The scale that was set is a share of what the slow ω take."""
    costs = np.tile([40.0, 1.0, 40.0, 40.0], (150, 1))
    return table(rng, costs, rate=f"fixed:{39 * strength:g}")


def seen(rng: Rng, costs: np.ndarray, c: np.ndarray, learner: str, **options: Any) -> Instance:
    """A learner that sees contexts in [0, 1], on a table of counts."""

    scale = float(str(options.get("rate", "fixed:0")).partition(":")[2])
    cell = np.minimum((c * BINS).astype(int), BINS - 1)
    fixed, each = float(costs.sum(axis=0).min()), float(costs.min(axis=1).sum())
    binned = sum(float(costs[cell == i].sum(axis=0).min()) for i in set(cell.tolist()))

    def truths(run: Replay) -> Truths:
        if learner == "chebcb":
            paid = contextual(costs, c, rng)
        else:
            parts = [tsallis(costs[cell == i], rng, scale=scale) for i in set(cell.tolist())]
            paid = np.sum(parts, axis=0)
        name, against = {
            "chebcb": ("regret-per-system", each),
            "tsallis-cb": ("regret-per-bin", binned),
        }[learner]
        return {
            name: below(paid, against, stated(run, name)),
            "no-worse-than-fixed": below(paid, fixed, 0.0),
        }

    arguments = {
        "counts": costs,
        "learner": learner,
        "contexts": c,
        "context_range": (0.0, 1.0),
        "bins": BINS if learner == "tsallis-cb" else None,
        "replays": REPLAYS // 2,
        "rng": int(rng.integers(1 << 31)),
    }
    return Instance({**arguments, **options}, truths)


def hills(c: np.ndarray, arms: int) -> np.ndarray:
    """Counts that grow with the distance of the context from each arm's own."""
    return np.ceil(10 + 100 * np.abs(c[:, None] - np.linspace(0, 1, arms)))


@worlds.world(run=replay_counts)
def context_says_all(rng: Rng, strength: float) -> Instance:
    """Counts are a function of the context: each of four ω is best somewhere, ChebCB learns where."""
    c = rng.random(120)
    return seen(rng, hills(c, 4), c, "chebcb", replays=2 * REPLAYS)


@worlds.world(run=replay_counts)
def context_and_noise(rng: Rng, strength: float) -> Instance:
    """As much noise on the counts as the context says of them."""
    c = rng.random(120)
    return seen(rng, np.ceil(hills(c, 4) + 30 * rng.exponential(1, (120, 4))), c, "chebcb")


@worlds.world(run=replay_counts, expects=Verdict.FAILS)
def context_says_nothing(rng: Rng, strength: float) -> Instance:
    """Contexts have nothing to do with the counts, one ω is clearly best: ChebCB loses to it."""
    costs = np.ceil(1 + rng.exponential([20.0, 40.0, 50.0, 60.0], (80, 4)))
    return only(seen(rng, costs, rng.random(80), "chebcb"), "no-worse-than-fixed")


@worlds.world(run=replay_counts)
def a_best_omega_in_each_bin(rng: Rng, strength: float) -> Instance:
    """In each bin of the context another of five ω takes 2 iterations, the others 40."""
    c = rng.random(250)
    best = np.minimum((c * BINS).astype(int), BINS - 1)
    costs = np.where(np.arange(5) == best[:, None], 2.0, 40.0)
    return seen(rng, costs, c, "tsallis-cb", rate="fixed:39", replays=REPLAYS)


def only(instance: Instance, name: str) -> Instance:
    """Judged by one theorem alone."""
    return Instance(instance.arguments, lambda run: {name: instance.truths(run)[name]})


# Streams of systems

Systems = list[tuple[Any, np.ndarray]]
BASE = sp.csr_array(stencil(SIZE))
EYE = sp.csr_array(sp.eye_array(SIZE * SIZE))
ON_DIAGONAL = BASE.indices == np.repeat(np.arange(SIZE * SIZE), np.diff(BASE.indptr))
SKEW = sp.csr_array(sp.diags_array([1.0, -1.0], offsets=[-1, 1], shape=(SIZE * SIZE, SIZE * SIZE)))


def shifted(rng: Rng, shifts: Any, units: Any = 1.0) -> Systems:
    """Stencils with these shifts and normal right-hand sides, in these units."""

    def plus(c: float) -> Any:
        matrix = BASE.copy()
        matrix.data[ON_DIAGONAL] += c
        return matrix

    return [
        (plus(c), u * rng.standard_normal(SIZE * SIZE))
        for c, u in zip(np.atleast_1d(shifts), np.broadcast_to(units, np.size(shifts)), strict=True)
    ]


def counted(systems: Systems, **options: Any) -> Instance:
    """Every ω that was used against what sweeps and steps really take, cold; bounds are what users are given."""
    arguments: dict[str, Any] = {"systems": systems, "warm_start": False, "learner": 1.5, **options}
    tol, sor = arguments.get("tol", TOL), arguments.get("solver", "sor") == "sor"

    def fine(A: np.ndarray, b: np.ndarray, omega: float, bound: float, took: int) -> bool:
        count = (sor_count if sor else cg_count)(A, b, omega, tol, int(bound))
        if count > bound or took > bound:
            return False
        if not sor:
            return True
        left = np.linalg.norm(np.linalg.matrix_power(swept(A, omega), int(bound)), 2)
        return bool(left <= tol * (1 + 1e-6) + 1e-12)

    def truths(run: RelaxRun) -> Truths:
        found = []
        for (A, b), omega, bound, took, done in zip(
            systems, run.used, run.bounds, run.iterations, run.converged, strict=True
        ):
            if np.isnan(bound):
                found.append(bool(done) or None)
            else:
                dense = A.toarray() if sp.issparse(A) else np.asarray(A)
                found.append(fine(dense, b, float(omega), float(bound), int(took)))
        return {"iteration-bound": False if False in found else None if None in found else True}

    return Instance(arguments, truths)


@worlds.world(run=solve_sequence, strengths=(1.0, 1.5, 1.85, 1.95))
def dominant_systems(rng: Rng, strength: float) -> Instance:
    """Shifts between .5 and 3 of a stencil: row sums bound the spectrum; ω is the strength."""
    return counted(shifted(rng, rng.uniform(0.5, 3, 8)), learner=float(strength))


@worlds.world(run=solve_sequence, strengths=(1.0, 1.5, 1.8))
def nearly_indefinite_systems(rng: Rng, strength: float) -> Instance:
    """Shifts between −.3 and 0, where the least eigenvalue is above .09: bounds by eigenvalues."""
    return counted(shifted(rng, rng.uniform(-0.3, 0, 8)), learner=float(strength))


@worlds.world(run=solve_sequence, strengths=(1.0, 1.5, 1.8))
def steps_of_ssor_cg(rng: Rng, strength: float) -> Instance:
    """The same by SSOR-CG, cold."""
    systems = shifted(rng, rng.uniform(-0.3, 1, 8))
    return counted(systems, learner=float(strength), solver="ssor-cg")


@worlds.world(run=solve_sequence, strengths=(1, 1e3, 1e6, 1e8))
def warm_ssor_cg_of_uneven_sides(rng: Rng, strength: float) -> Instance:
    """Warm starts, right-hand sides that alternate between 1 and the strength."""
    systems = shifted(rng, rng.uniform(0.1, 1, 10), strength ** (np.arange(10) % 2))
    return counted(systems, learner=1.2, solver="ssor-cg", warm_start=True)


@worlds.world(run=solve_sequence, strengths=(0.5, -0.3))
def the_same_system_again(rng: Rng, strength: float) -> Instance:
    """Ten times the same system, shifted by the strength, warm: from the second on it is solved at the start."""
    return counted(shifted(rng, strength) * 10, learner=1.5, warm_start=True)


@worlds.world(run=solve_sequence, strengths=(1, 4))
def unknowns_in_bad_units(rng: Rng, strength: float) -> Instance:
    """DAD with D between 10^±s, s the strength, and right-hand sides of any size."""
    D = sp.diags_array(10.0 ** rng.uniform(-strength, strength, SIZE * SIZE))
    units = 10.0 ** rng.uniform(-180, 100, 4)
    systems = [
        (sp.csr_array(D @ A @ D), b) for A, b in shifted(rng, rng.uniform(-0.2, 1, 4), units)
    ]
    return _judged_by_counts(counted(systems, learner=1.3, cap=20_000))


def _judged_by_counts(instance: Instance) -> Instance:
    """True if what was taken was within the bounds: dense powers in such units are rounding."""

    def truths(run: RelaxRun) -> Truths:
        return {
            "iteration-bound": bool(((run.iterations <= run.bounds) | np.isnan(run.bounds)).all())
        }

    return Instance(instance.arguments, truths)


def whole(rng: Rng, systems: Systems, **options: Any) -> Instance:
    """A learner through the front of the house, all counts audited."""
    arguments = {
        "systems": systems,
        "omegas": GRID[1:5],
        "learner": "tsallis",
        "warm_start": False,
        "audit": 1.0,
        "replays": REPLAYS,
        "rng": int(rng.integers(1 << 31)),
        **options,
    }

    def truths(run: RelaxRun) -> Truths:
        if len(run.audited) < len(run.iterations):
            return {"regret": bool(run.iterations.sum() <= stated(run, "regret"))}
        costs = np.stack([run.audited[i] for i in range(len(run.iterations))])
        paid = tsallis(costs, rng)
        bound = stated(run, "regret")
        return {"regret": below(paid, float(costs.sum(axis=0).min()), bound)}

    return Instance(arguments, truths)


@worlds.world(run=solve_sequence)
def ordinary(rng: Rng, strength: float) -> Instance:
    """Shifts between .05 and .55, 80 systems, three ω, all of it through the door."""
    return whole(rng, shifted(rng, rng.uniform(0.05, 0.55, 80)), omegas=(1.0, 1.3, 1.9))


@worlds.world(run=solve_sequence)
def a_cap_that_is_just_enough(rng: Rng, strength: float) -> Instance:
    """Nothing comes after the cap, which is what the slowest ω takes on the worst of 30 systems."""
    systems = shifted(rng, rng.uniform(0.05, 0.55, 30))
    grid = (1.0, 1.3, 1.9)
    slowest = max(
        sor_count(np.asarray(A.toarray()), b, w, TOL, 10_000) for A, b in systems for w in grid
    )
    return whole(rng, systems, omegas=grid, fallback="none", cap=slowest)


@worlds.world(run=solve_sequence, breaks=t.OBLIVIOUS)
def said_to_be_adaptive(rng: Rng, strength: float) -> Instance:
    """The caller says that systems depend on the choices."""
    return whole(rng, shifted(rng, rng.uniform(0.05, 0.55, 15)), adaptive=True)


def _against_the_last(rng: Rng, share: float, T: int = 30) -> Iterator[Any]:
    """A system in b's own units; with the strength's probability it is hard if the last solve was quick."""
    last = None
    for _ in range(T):
        hard = last is not None and rng.random() < share
        A, b = shifted(rng, -0.3 if hard else 1.0)[0]
        last = yield A, b


@worlds.world(run=solve_sequence, breaks=t.OBLIVIOUS, strengths=(1.0, 0.4, 0.1), noticeable=False)
def a_model_that_answers(rng: Rng, strength: float) -> Instance:
    """A generator that gets solutions back and makes harder systems of them; nobody says so."""
    instance = whole(rng, [])
    arguments = {**instance.arguments, "systems": _against_the_last(rng, strength), "audit": 0.0}

    def truths(run: RelaxRun) -> Truths:
        return {"regret": bool(run.iterations.sum() <= stated(run, "regret"))}

    return Instance(arguments, truths)


@worlds.world(run=solve_sequence, breaks=t.COSTS, strengths=(2.0, 0.5), rising=True)
def nothing_solves_them(rng: Rng, strength: float) -> Instance:
    """SSOR-CG on indefinite systems, shifted by minus the strength, and nothing after it."""
    systems = shifted(rng, np.full(10, -strength))
    return whole(rng, systems, solver="ssor-cg", fallback="none", cap=40)


@worlds.world(run=solve_sequence, breaks=t.COSTS, strengths=(8, 15), rising=False)
def a_cap_below_the_counts(rng: Rng, strength: float) -> Instance:
    """The cap is the strength, and nothing comes after it."""
    return whole(rng, shifted(rng, np.full(10, 0.3)), fallback="none", cap=int(strength))


@worlds.world(run=solve_sequence, breaks=t.RANGE_KNOWN, strengths=(5, 12), rising=False)
def scale_below_what_is_drawn(rng: Rng, strength: float) -> Instance:
    """A scale of the rate below the counts, in one run without an audit."""
    systems = shifted(rng, np.full(30, 0.1))

    def truths(run: RelaxRun) -> Truths:
        return {"regret-worst-case": None}

    arguments = {**whole(rng, systems).arguments, "audit": 0.0, "rate": f"fixed:{strength:g}"}
    return Instance(arguments, truths)


# Matrices that are not what bounds on counts are for

SHARES = (3.0, 0.1, 1e-6, 1e-12)


def _bent(rng: Rng, which: Any, T: int, change: Any, **options: Any) -> Instance:
    systems = shifted(rng, rng.uniform(0.5, 1, T))
    for i in which:
        systems[i] = (sp.csr_array(systems[i][0] + change), systems[i][1])
    return counted(systems, cap=400, **options)


@worlds.world(run=solve_sequence, breaks=t.SYMMETRIC, strengths=SHARES)
def advection_sets_in(rng: Rng, strength: float) -> Instance:
    """From the second of eight systems on, a skew part of the strength."""
    return _bent(rng, range(1, 8), 8, strength * SKEW)


@worlds.world(run=solve_sequence, breaks=t.SYMMETRIC, strengths=(SHARES[0], SHARES[-1]))
def one_skew_system_of_twenty(rng: Rng, strength: float) -> Instance:
    """Only the seventh of twenty systems has a skew part."""
    return _bent(rng, [6], 20, strength * SKEW)


@worlds.world(run=solve_sequence, breaks=t.SYMMETRIC)
def rows_of_the_boundary(rng: Rng, strength: float) -> Instance:
    """Rows of a boundary set to those of the identity, the columns left as they are."""
    matrix = (BASE + 0.5 * EYE).tolil()
    for i in range(SIZE):
        matrix[i, :] = 0
        matrix[i, i] = 1
    b = rng.standard_normal(SIZE * SIZE)
    return counted([(sp.csr_array(matrix), b)], cap=2000)


@worlds.world(run=solve_sequence, breaks=t.SYMMETRIC, strengths=SHARES, refuses=(ValueError,))
def skew_systems_for_ssor_cg(rng: Rng, strength: float) -> Instance:
    """A skew part in the seventh of twelve systems, by SSOR-CG: refused before it is solved."""
    return _bent(rng, [6], 12, strength * SKEW, solver="ssor-cg")


@worlds.world(run=solve_sequence, breaks=t.POSITIVE_DEFINITE, strengths=(2.0, 0.5, 0.45))
def half_of_them_indefinite(rng: Rng, strength: float) -> Instance:
    """Every other system is shifted by minus the strength; the least eigenvalue is .396."""
    systems = shifted(rng, np.where(np.arange(8) % 2, -strength, 1.0))
    return counted(systems, cap=300)


@worlds.world(run=solve_sequence, breaks=t.POSITIVE_DEFINITE, strengths=(2.0, 0.42))
def one_indefinite_of_twenty(rng: Rng, strength: float) -> Instance:
    """Only the twelfth of twenty systems is indefinite, by SSOR-CG."""
    shifts = np.where(np.arange(20) == 11, -strength, 1.0)
    return counted(shifted(rng, shifts), cap=300, solver="ssor-cg")


@worlds.world(run=solve_sequence, breaks=t.POSITIVE_DEFINITE, strengths=(3.0, 1.0))
def large_and_indefinite(rng: Rng, strength: float) -> Instance:
    """484 unknowns, shifted by minus the strength: too many for eigenvalues, CG or the solution tells."""
    A = sp.csr_array(stencil(22) - strength * sp.eye_array(484))
    return counted([(A, rng.standard_normal(484)) for _ in range(3)], cap=60)


@worlds.world(
    run=solve_sequence,
    breaks=t.TOL_REACHABLE,
    strengths=(1e-16, 1e-15),
    broken_from=1e-16,
    rising=False,
)
def tolerance_below_rounding(rng: Rng, strength: float) -> Instance:
    """tol is the strength."""
    systems = shifted(rng, rng.uniform(-0.2, 0.2, 6))
    return _judged_by_counts(counted(systems, tol=strength, cap=600))


@worlds.world(
    run=solve_sequence,
    breaks=t.TOL_REACHABLE,
    strengths=(1e-16, 1e-15),
    broken_from=1e-16,
    rising=False,
)
def tolerance_of_cg_below_rounding(rng: Rng, strength: float) -> Instance:
    """tol is the strength, by SSOR-CG."""
    systems = shifted(rng, rng.uniform(-0.2, 0.2, 6))
    return _judged_by_counts(counted(systems, tol=strength, cap=300, solver="ssor-cg"))


# Mutants


def _bounds_over(divisor: float) -> Callable[[Any], Any]:
    def change(replays: Any) -> Any:
        def shrunk(*given: Any) -> None:
            replays(*given)
            given[-1][:] /= divisor

        return shrunk

    return change


def _paid_half(replays: Any) -> Any:
    def halved(*given: Any) -> None:
        replays(*given)
        floor = given[0].min(axis=1).sum()
        given[-2][:] = floor + (given[-2] - floor) / 10

    return halved


def _without_max(exponent: Any) -> Any:
    def changed(omega: float, gamma: float, Gamma: float) -> float:
        half = 1 / omega - 0.5
        return 2 * half / max((half * half + Gamma - 0.25) / gamma + 1 / omega, 1e-9)

    return changed


worlds.mutant(
    "regret",
    "the sum halved",
    target="whp.bandits.tsallis_inf:replays",
    change=_bounds_over(2),
    world=one_fast_omega,
)
worlds.mutant(
    "regret-per-bin",
    "the sum over 3",
    target="whp.bandits.tsallis_inf:replays",
    change=_bounds_over(3),
    world=a_best_omega_in_each_bin,
)
worlds.mutant(
    "regret-per-system",
    "the sum over 8; the true one is three times what is lost",
    target=f"{HERE}.chebyshev:replays",
    change=_bounds_over(8),
    world=context_says_all,
)
worlds.mutant(
    "no-worse-than-fixed",
    "a tenth of what exploring costs",
    target=f"{HERE}.chebyshev:replays",
    change=_paid_half,
    world=context_says_nothing,
    caught_by="false holds",
)
worlds.mutant(
    "regret-worst-case",
    "the bound over 10; the true one is seven times what is lost",
    target=f"{HERE}.theorems:worst_case_regret",
    change=lambda bound: lambda *given: bound(*given) / 10,
    world=one_fast_omega,
)
worlds.mutant(
    "iteration-bound",
    "max(s, 0) left out",
    target=f"{HERE}.bounds:exponent",
    change=_without_max,
    world=dominant_systems,
    strength=1.95,
)
