"""What is promised of a pipeline that loses stages, and when."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from whp.certificate import Answer, Certificate
from whp.concentration import betting
from whp.conditions import exchangeable
from whp.intervals import Estimate, exact, proportion
from whp.provenance import made_here
from whp.theorem import AT_MOST, ON_AVERAGE, POPULATION, THIS_RUN, Condition, Derived, Theorem
from whp.validate import as_int, as_real

if TYPE_CHECKING:
    from whp.distributed._checkfree.recovery import Recovery

__all__ = [
    "ALIKE",
    "ALL_JUMPS",
    "ALL_RECOVERIES",
    "COPY_LEFT",
    "DESCENT",
    "DESCENT_ON_AVERAGE",
    "DRAWN_WINDOWS",
    "EACH_ONCE",
    "ENDS_RESTORED",
    "FASTER",
    "FINITE",
    "FLOOR",
    "INDEPENDENT_FAILURES",
    "INDEPENDENT_RUNS",
    "JUMPS_ADD_UP",
    "NEIGHBOURS",
    "NEVER_BACK",
    "NOISE",
    "OBJECTIVE",
    "PLAIN",
    "PROGRESS",
    "RATIO",
    "REACHED",
    "RECOVERED",
    "SMOOTH",
    "STEP",
    "THEOREMS",
    "UNTOUCHED",
    "Path",
    "Windows",
    "beats_redundancy",
    "descent",
    "descent_on_average",
    "each_once",
    "ends_restored",
    "progress",
    "rebuilt",
    "untouched",
]

PAPER = "Blagoev, Ersoy, Chen 2025"
EDGE = 1 + 1e-9  # 1/L times L is not 1 in floating point
DIGITS = 4.0  # two products and a sum, each within half a digit of the larger neighbour, and shares
BOLDNESS = 0.9  # windows differ little where the range of their losses is wide
EPS = float(np.finfo(float).eps)

# Recoveries

NEIGHBOURS = Condition(
    "neighbours-left",
    "every lost stage was rebuilt from its two neighbours, or its twin",
    remedy="fewer failures at once: place neighbouring stages on machines that do not fail together, "
    "and take rule='grad', 'uniform' or 'copy'.",
)
COPY_LEFT = Condition(
    "copy-left",
    "every lost embedding, head or redundant stage had a copy on a stage that was left",
    remedy="mode='checkfree+', and place the first two stages, and the last two, on machines that do "
    "not fail together.",
)
NEVER_BACK = Condition(
    "never-back",
    "training never went back to an earlier state",
    remedy="mode='checkfree+' and fewer failures at once.",
)
RECOVERED = Theorem(
    "recovered-weights",
    claim="every weight of a rebuilt stage is (ω₋W₋ + ω₊W₊)/(ω₋ + ω₊) of its neighbours, or its twin's "
    "weight, up to the rounding of one such sum",
    quantity="largest difference from the formula, in last digits of the larger neighbour",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived(
        "checkfree#recovered-weights",
        extends=f"{PAPER}, Algorithm 1, line 4, whose listing repeats ω₋",
    ),
    conditions=(NEIGHBOURS,),
    needs="a failure, and audit=True.",
    remedy="a stage was rebuilt from other weights than its neighbours had when it was lost; or, where "
    "the bound says nothing, the neighbours are equal and any average would do.",
)
ENDS_RESTORED = Theorem(
    "ends-restored",
    claim="every embedding, head and redundant stage that was lost came back as it was after its last "
    "update, bit for bit, with its optimizer if that was copied",
    quantity="units that differ",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived("checkfree#ends-restored", extends=f"{PAPER}, Section 4.3"),
    conditions=(COPY_LEFT,),
    needs="the loss of a stage that holds an end, and audit=True.",
    remedy="a copy was not kept in step with what it copies.",
)
UNTOUCHED = Theorem(
    "others-untouched",
    claim="no other stage changed by a bit, weights and optimizer, between its last update and the end "
    "of a recovery",
    quantity="stages that changed, summed over recoveries",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived("checkfree#others-untouched", extends=f"{PAPER}, Algorithm 1"),
    conditions=(NEVER_BACK,),
    needs="a failure, and audit=True.",
    remedy="something changed the weights of a stage that was not lost.",
)
EACH_ONCE = Theorem(
    "each-iteration-once",
    claim="every stage made one update an iteration, from when it began or was rebuilt, and iterations "
    "were counted 0, 1, 2, …, whatever died",
    quantity="updates too many or too few, and numbers out of order",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived("checkfree#each-iteration-once"),
    conditions=(NEVER_BACK,),
    needs="",
    remedy="a batch was committed twice, or not at all; or nothing was trained yet.",
)

# Progress

DRAWN_WINDOWS = Condition(
    "drawn-windows",
    "the windows are independent draws from the text that was held out, and none chose anything",
    remedy="draw the windows with a seed of their own from a part that is not trained on.",
)
FINITE = Condition(
    "finite-losses", "all losses are finite", remedy="training diverged: a smaller learning rate."
)
ALL_JUMPS = Condition(
    "all-jumps",
    "the loss was measured before and after each recovery",
    remedy="measure before and after each loss of a stage, in every run of this kind.",
)
PROGRESS = Theorem(
    "jumps-below-progress",
    claim="the jumps of the held-out loss at recoveries took at most the stated share of what training "
    "gained between them, on average over windows of the text that was held out",
    quantity="that share of the gain less what the jumps took, with the sign changed: mean over windows, "
    "in nats, losses capped",
    relation=AT_MOST,
    scope=POPULATION,
    source=Derived("checkfree#jumps-below-progress"),
    conditions=(DRAWN_WINDOWS, FINITE, ALL_JUMPS),
    needs="a failure; or more windows (probes).",
    remedy="failures cost too much of what is gained between them: they are too frequent for this "
    "model, or training has hardly begun; or there is nothing to gain.",
)

# Descent with jumps

STEP = Condition(
    "step-at-most-one-over-l",
    "the largest learning rate, boosts included, is at most 1/L",
    remedy="a smaller learning rate, or lr_boost=1.",
)
SMOOTH = Condition(
    "smooth", "h is L-smooth", remedy="give a larger L: two gradients of this run need it."
)
PLAIN = Condition(
    "plain-steps",
    "every update is θ − γg: nothing clipped, no momentum, no decay",
    remedy="optimizer=torch.optim.SGD, plain, and clip=None; the jumps themselves stand.",
)
OBJECTIVE = Condition(
    "one-objective",
    "h, its jumps and its gradients are of one loss on the same rows at every step",
    remedy="train on one batch, without dropout; for minibatches take descent_on_average.",
)
JUMPS_ADD_UP = Condition(
    "jumps-add-up",
    "every recovery's jump is in the sum",
    remedy="add the jump of each recovery: h after it less h before it.",
)
FLOOR = Condition("floor", "h is never below h_inf", remedy="a lower h_inf.")
NOISE = Condition(
    "noise",
    "gradients are unbiased, with variance at most s² at every step",
    remedy="a larger s²: measure it at several moments of the run.",
)
INDEPENDENT_RUNS = Condition(
    "independent-runs",
    "the runs are independent, of one start, one length and one rate of failures",
    remedy="start every run anew, with a seed of its own.",
)
DESCENT = Theorem(
    "descent-with-jumps",
    claim="the mean squared gradient of the run is at most 2(h(θ₀) − h_inf + ΣJ)/(γT), γ being the "
    "smallest learning rate and J the jumps of h at failures",
    quantity="mean squared gradient over the steps",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived("checkfree#descent-with-jumps"),
    conditions=(STEP, SMOOTH, PLAIN, OBJECTIVE, JUMPS_ADD_UP, FLOOR),
    needs="gradients of the whole loss along the run.",
    remedy="a failure's jump is missing from the sum, or h_inf is too high; or more steps.",
)
DESCENT_ON_AVERAGE = DESCENT.variant(
    name="descent-with-jumps-on-average",
    claim="the mean over runs of the mean squared gradient, less 2/(γT) times the jumps, is at most "
    "2(h(θ₀) − h_inf)/(γT) + γLs²",
    quantity="mean over runs of the mean squared gradient less 2ΣJ/(γT)",
    scope=ON_AVERAGE,
    source=Derived("checkfree#descent-with-jumps-on-average"),
    conditions=(STEP, SMOOTH, PLAIN, FLOOR, NOISE, INDEPENDENT_RUNS),
    needs="independent runs, and the ends between which their numbers must lie (between=).",
)

# Cost

INDEPENDENT_FAILURES = Condition(
    "independent-failures",
    "failures strike each iteration alike, whatever struck before",
    remedy="failures come in clusters: take expected_time for calm and for stormy times apart.",
)
ALL_RECOVERIES = Condition(
    "all-recoveries",
    "the time of every recovery of the log is given, hangs and roll-backs included",
    remedy="give the seconds of each recovery, not a median or a choice.",
)
ALIKE = Condition(
    "recoveries-alike",
    "recoveries take times that do not depend on each other, early ones as late ones",
    remedy="give a log of one kind of times: a week of hangs is a law of its own.",
)
REACHED = Condition(
    "reached",
    "CheckFree reached the target in every run",
    remedy="more iterations, or fewer failures.",
)
RATIO = Condition(
    "ratio-of-iterations",
    "the interval of the ratio of iterations covers it at its level",
    remedy="more pairs of runs.",
)
FASTER = Theorem(
    "beats-redundancy",
    claim="CheckFree takes less time to the target than computing every stage twice: "
    "(N_cf/N_0)(1 + P(t_rec/t_it + 1/2)) is at most ρ",
    quantity="time to the target over that without failures",
    relation=AT_MOST,
    scope=POPULATION,
    source=Derived("checkfree#beats-redundancy", extends=f"{PAPER}, Table 2"),
    conditions=(INDEPENDENT_FAILURES, ALL_RECOVERIES, ALIKE, REACHED, RATIO),
    needs="more recoveries, or more pairs of runs.",
    remedy="compute twice, or keep checkpoints.",
)
THEOREMS = (
    RECOVERED,
    ENDS_RESTORED,
    UNTOUCHED,
    EACH_ONCE,
    PROGRESS,
    DESCENT,
    DESCENT_ON_AVERAGE,
    FASTER,
)


def rebuilt(
    recoveries: Sequence[Recovery], *, mode: str = "checkfree+", rule: str = "grad"
) -> Certificate:
    """Whether rebuilt weights are the formula's; void where a stage could not be rebuilt."""
    checked = [r for r in recoveries if r.difference is not None]
    strange = [r for r in recoveries if r.reason or r.how in ("random", "rolled back")]
    if rule in ("zero", "random") and recoveries:
        answer = NEIGHBOURS.check(False, f"rule={rule!r} makes no average")
    elif strange:
        why = strange[0].reason or f"stages {strange[0].stages} were {strange[0].how}"
        answer = NEIGHBOURS.check(False, why)
    else:
        answer = NEIGHBOURS.check(
            mode != "checkpoint", f"{len(recoveries)} recoveries, mode={mode!r}"
        )
    return RECOVERED(
        bound=DIGITS,
        confidence=1.0,
        trivial=max((float(r.spread or 0.0) for r in checked), default=math.inf),
        measured=exact(max(float(r.difference or 0.0) for r in checked)) if checked else None,
        answers=(answer,),
        inputs={"recoveries": len(recoveries), "checked": len(checked)},
    )


def ends_restored(recoveries: Sequence[Recovery], *, mode: str = "checkfree+") -> Certificate:
    """Whether what was restored from copies is what was lost."""
    checked = [r for r in recoveries if r.ends_changed is not None]
    compared = sum(r.ends_compared or 0 for r in checked)
    lost = [r for r in recoveries if r.reason or r.how in ("random", "rolled back")]
    evidence = f"mode={mode!r}, {len(lost)} recoveries otherwise than from neighbours and copies"
    return ENDS_RESTORED(
        bound=0.0,
        confidence=1.0,
        trivial=float(compared) if checked else math.inf,
        measured=exact(float(sum(r.ends_changed or 0 for r in checked))) if checked else None,
        answers=(COPY_LEFT.check(not lost, evidence),),
        inputs={"recoveries": len(recoveries), "compared": compared},
    )


def _never_back(recoveries: Sequence[Recovery]) -> Answer:
    back = sum(r.how == "rolled back" for r in recoveries)
    return NEVER_BACK.check(not back, f"{back} of {len(recoveries)} recoveries went back")


def untouched(recoveries: Sequence[Recovery]) -> Certificate:
    """Whether the other stages kept every bit since their last commit."""
    checked = [r for r in recoveries if r.changed is not None]
    compared = sum(r.compared or 0 for r in checked)
    return UNTOUCHED(
        bound=0.0,
        confidence=1.0,
        trivial=float(compared) if checked else math.inf,
        measured=exact(float(sum(r.changed or 0 for r in checked))) if checked else None,
        answers=(_never_back(recoveries),),
        inputs={"stages compared": compared},
    )


def each_once(
    numbers: Sequence[int],
    wrong_updates: int,
    expected_updates: int,
    recoveries: Sequence[Recovery] = (),
) -> Certificate:
    """Whether stages made one update an iteration, and the numbers are 0, 1, 2, ….

    Parameters
    ----------
    numbers : sequence of int
        Of the iterations that were committed, in order.
    wrong_updates : int
        Updates that stages made too many or too few, by hooks of their optimizers.
    expected_updates : int
        That there should have been, of all units together.
    recoveries : sequence of Recovery
    """
    done = [int(i) for i in numbers]
    wrong = sum(a != b for a, b in zip(done, range(len(done)), strict=True))
    return EACH_ONCE(
        bound=0.0,
        confidence=1.0,
        trivial=float(expected_updates + len(done)),
        measured=exact(float(wrong + wrong_updates)),
        answers=(_never_back(recoveries),),
        inputs={
            "iterations": len(done),
            "updates of units": expected_updates,
            "updates too many or too few": wrong_updates,
            "numbers out of order": wrong,
        },
    )


@dataclass(frozen=True, eq=False)
class Windows:
    """Held-out losses of windows, at the start, around each recovery and at the end.

    Parameters
    ----------
    start, end : ndarray, shape (n,)
        Loss of each window, in nats a character.
    jumps : ndarray, shape (failures, n)
        After each recovery less before it.
    uniform : float
        Loss of guessing: the logarithm of the number of characters.
    failures : int
        Recoveries that there were.

    Notes
    -----
    Windows that the front door drew are registered (:mod:`whp.provenance`).
    """

    start: np.ndarray
    end: np.ndarray
    jumps: np.ndarray
    uniform: float
    failures: int

    @property
    def cap(self) -> float:
        """Losses above it count as it: half as much again as guessing."""
        return 1.5 * self.uniform


def capped(losses: np.ndarray, cap: float) -> np.ndarray:
    """Losses with those above the cap counted as it; what is not finite stays so."""
    return np.where(np.isfinite(losses), np.minimum(losses, cap), np.nan)


def balance(jumps: np.ndarray, gain: np.ndarray, share: float) -> np.ndarray:
    """Of each window: jumps less `share` of what was gained between them, (1 − s)ΣJ + s(h_T − h_0)."""
    return (1 - share) * jumps - share * gain


def progress(w: Windows, *, share: float = 0.5, delta: float = 0.05) -> Certificate:
    """Whether failures took at most `share` of what training gained between them.

    Parameters
    ----------
    w : Windows
        Losses already capped at `w.cap`, jumps too.
    share : float
        The demand.
    delta : float
        Failure probability of the interval over windows.
    """
    c, count = w.cap, len(w.jumps)
    everything = np.concatenate([np.ravel(a) for a in (w.start, w.end, w.jumps)])
    finite = bool(np.isfinite(everything).all())
    reach = c * ((1 - share) * count + share)
    measured = None
    values = np.zeros(0)
    if finite and count:
        values = balance(w.jumps.sum(axis=0), w.start - w.end, share)
        values = np.clip(values, -reach, reach)
        if reach > 0:
            measured = betting(values, delta, low=-reach, high=reach, boldness=BOLDNESS)
        else:
            measured = exact(0.0)
    return PROGRESS(
        bound=0.0,
        confidence=1.0,
        trivial=reach if count else math.inf,
        measured=measured,
        answers=(
            DRAWN_WINDOWS.by_construction(
                f"{len(w.start)} windows drawn here, from the part held out"
            )
            if made_here(w, Windows)
            else DRAWN_WINDOWS.unchecked("not drawn here"),
            FINITE.check(finite, f"{everything.size} losses and jumps"),
            ALL_JUMPS.check(count == w.failures, f"{count} jumps, {w.failures} recoveries"),
        ),
        inputs={
            "failures": w.failures,
            "windows": len(w.start),
            "share": share,
            "first loss": float(np.mean(w.start)) if finite else math.inf,
            "last loss": float(np.mean(w.end)) if finite else math.inf,
            "sum of mean jumps": float(w.jumps.sum(axis=0).mean()) if finite and count else 0.0,
            "cap": c,
        },
    )


@dataclass(frozen=True, eq=False)
class Path:
    """A run of gradient descent that was thrown off its way now and then, as it was recorded.

    Parameters
    ----------
    before, after : ndarray, shape (T,)
        h where each gradient was taken, and after that step, before any jump.
    squares : ndarray, shape (T,)
        ‖∇h‖² at each step.
    slowest, fastest : float
        Smallest and largest learning rate of any parameter at any step.
    jumps : ndarray, shape (failures,)
        h after each recovery less h before it.
    recoveries : int
        How many there were.
    steepest : float
        Largest ‖g − g'‖/‖θ − θ'‖ of consecutive gradients; 0 if they were not kept.
    plain, objective : tuple of (bool, str), optional
        Whether steps were plain, and of one objective, with the numbers; None if nobody looked.
    rounding : float
        How far a value of h may be off, as a share of the largest.
    """

    before: np.ndarray
    after: np.ndarray
    squares: np.ndarray
    slowest: float
    fastest: float
    jumps: np.ndarray
    recoveries: int
    steepest: float = 0.0
    plain: tuple[bool, str] | None = None
    objective: tuple[bool, str] | None = None
    rounding: float = 8 * EPS

    @property
    def scale(self) -> float:
        """The largest value of h."""
        return float(np.abs(np.concatenate([self.before, self.after])).max(initial=0.0))


def _looked(condition: Condition, seen: tuple[bool, str] | None, why: str) -> Answer:
    return condition.unchecked(why) if seen is None else condition.check(*seen)


def _step(fastest: float, steepest: float, L: float | None) -> Answer:
    known = "L is not known" if L is None else f"γL = {fastest * L:.4g}"
    seen = f"{known}; gradients of the run ask for γL ≥ {fastest * steepest:.4g}"
    if max(steepest, L or 0.0) * fastest > EDGE:
        return STEP.check(False, seen)
    return STEP.unchecked(seen) if L is None else STEP.check(True, seen)


def _smooth(steepest: float, L: float | None) -> Answer:
    if L is not None and steepest > L * (1 + 1e-6):
        return SMOOTH.check(
            False, f"two gradients of the run ask for L ≥ {steepest:.6g}, not {L:.6g}"
        )
    if steepest == 0:
        return SMOOTH.unchecked("gradients were not kept")
    # No test: pairs of the run can refute an L, and prove none.
    return SMOOTH.unchecked(f"pairs of gradients of the run ask for L ≥ {steepest:.4g} only")


def _floor(least: float, floor: float, room: float) -> Answer:
    if not least >= floor - room:
        return FLOOR.check(False, f"{least:.6g} was seen, below {floor:.6g}")
    return FLOOR.unchecked(f"the least h seen was {least:.4g}")


def descent_bound(room: float, jumps: float, rate: float, steps: int) -> float:
    """2(h(θ₀) − h_inf + ΣJ)/(γT)."""
    return 2 * (room + jumps) / (rate * steps)


def noise_floor(slowest: float, fastest: float, L: float, variance: float) -> float:
    """γLs², for rates between `slowest` and `fastest`."""
    return fastest * (fastest / slowest) * L * variance


def descent(path: Path, *, floor: float, smoothness: float | None = None) -> Certificate:
    """Bound on the mean squared gradient of gradient descent whose iterate is replaced now and then.

    Parameters
    ----------
    path : Path
        What was recorded of the run.
    floor : float
        h_inf, a number that h cannot fall below.
    smoothness : float, optional
        L.
    """
    T = len(path.squares)
    if not T:
        raise ValueError("a path must have at least one step")
    total = float(path.jumps.sum())
    finite = bool(np.isfinite([*path.before, *path.after, *path.squares, total]).all())
    unit = path.rounding * path.scale
    room = float(path.before[0]) - floor
    radius = 2 * unit * (T + 2) / (path.slowest * T)  # of the sum of all differences of h
    between = float((path.before[1:] - path.after[:-1]).sum()) if T > 1 else 0.0
    slack = 4 * unit * (T + 1)
    adds = finite and abs(between - total) <= slack and len(path.jumps) == path.recoveries
    L = 1 / path.fastest if smoothness is None else smoothness
    gaps = float((path.before - floor).mean())
    mean = float(path.squares.mean()) if finite else math.inf
    return DESCENT(
        bound=descent_bound(room, total, path.slowest, T) + radius if finite else math.inf,
        confidence=1.0,
        trivial=2 * L * max(gaps, 0.0) + 2 * L * unit if finite else math.inf,
        measured=exact(mean, 8 * EPS * mean) if finite else exact(math.inf),
        answers=(
            _step(path.fastest, path.steepest, smoothness),
            _smooth(path.steepest, smoothness),
            _looked(PLAIN, path.plain, "nobody looked at the optimizer"),
            _looked(OBJECTIVE, path.objective, "nobody looked at rows and losses"),
            JUMPS_ADD_UP.check(
                adds,
                f"{len(path.jumps)} jumps of {path.recoveries} recoveries, sum {total:.6g}; h itself "
                f"was moved by {between:.6g}",
            ),
            _floor(float(min(path.before.min(), path.after.min())), floor, unit),
        ),
        inputs={
            "T": T,
            "smallest rate": path.slowest,
            "largest rate": path.fastest,
            "L": "unknown" if smoothness is None else smoothness,
            "h(θ₀) − h_inf": room,
            "ΣJ": total,
            "failures": len(path.jumps),
        },
    )


def descent_on_average(
    paths: Sequence[Path],
    *,
    floor: float,
    smoothness: float,
    variance: float,
    between: tuple[float, float] | None = None,
    delta: float = 0.05,
) -> Certificate:
    """The same for noisy gradients: a statement on an expectation, decided by several runs.

    Parameters
    ----------
    paths : sequence of Path
        Independent runs from one start; `squares` of the whole gradient, `before` and `after` of
        the whole loss.
    floor, smoothness : float
        h_inf and L.
    variance : float
        s².
    between : tuple of float, optional
        Ends between which each run's mean squared gradient less 2ΣJ/(γT) must lie, known before
        the runs; without them the expectation has no interval that holds at every number of runs.
    delta : float
        Failure probability of the interval.
    """
    first = paths[0]
    T, slow = len(first.squares), min(p.slowest for p in paths)
    fast, steep = max(p.fastest for p in paths), max(p.steepest for p in paths)
    values = np.array([p.squares.mean() - 2 * p.jumps.sum() / (slow * T) for p in paths])
    room = float(first.before[0]) - floor
    measured = None
    if between is not None:
        if not (between[0] <= values.min() and values.max() <= between[1]):
            raise ValueError(
                f"between must hold all runs, from {values.min():.6g} to {values.max():.6g}, "
                f"got {between}"
            )
        measured = betting(values, delta, low=between[0], high=between[1], boldness=BOLDNESS)
    gaps = float(np.mean([(p.before - floor).mean() for p in paths]))
    lowest = min(float(min(p.before.min(), p.after.min())) for p in paths)
    one = all(len(p.squares) == T and p.before[0] == first.before[0] for p in paths)
    plain = None
    if all(p.plain is not None for p in paths):
        broken = [p.plain for p in paths if p.plain is not None and not p.plain[0]]
        plain = broken[0] if broken else first.plain
    jumps = float(np.mean([p.jumps.sum() for p in paths]))
    # A demand on the jumps: what is promised is worth something if it beats L-smoothness alone.
    trivial = 2 * smoothness * gaps - 2 * jumps / (slow * T)
    return DESCENT_ON_AVERAGE(
        bound=descent_bound(room, 0.0, slow, T)
        + noise_floor(slow, fast, smoothness, variance)
        + 16 * EPS * first.scale / (slow * T),
        confidence=1.0,
        trivial=trivial,
        measured=measured,
        answers=(
            _step(fast, steep, smoothness),
            _smooth(steep, smoothness),
            _looked(PLAIN, plain, "nobody looked at the optimizer"),
            _floor(lowest, floor, 8 * EPS * first.scale),
            NOISE.unchecked("s² is the caller's"),
            INDEPENDENT_RUNS.unchecked("numbers cannot show how runs were started")
            if one
            else INDEPENDENT_RUNS.check(False, "runs differ in length or start"),
        ),
        inputs={
            "runs": len(paths),
            "T": T,
            "smallest rate": slow,
            "L": smoothness,
            "h(θ₀) − h_inf": room,
            "s²": float(variance),
            "mean ΣJ": jumps,
        },
    )


def time_factor(ratio: float, failure: float, seconds: float, iteration: float) -> float:
    """(N_cf/N_0)(1 + P(t_rec/t_it + 1/2)): a loss at a uniform time wastes half an iteration."""
    return ratio * (1 + failure * (seconds / iteration + 0.5))


def beats_redundancy(
    ratio: Estimate,
    failed: Any,
    seconds: Any,
    *,
    longest: float,
    iteration_seconds: float,
    redundancy: float,
    reached: tuple[int, int],
    delta: float = 0.05,
) -> Certificate:
    """Whether CheckFree takes less time to a target than computing every stage twice.

    Parameters
    ----------
    ratio : Estimate
        Iterations to the target with CheckFree over those without failures, N_cf/N_0, with its
        interval over pairs of runs, at level 1 − delta/3 or more.
    failed : array-like of bool, shape (iterations,)
        Which iterations of a log saw a failure.
    seconds : array-like of float
        Time of each of their recoveries, in order.
    longest : float
        What no recovery can exceed: the timeout, and the start of a process. Known before.
    iteration_seconds : float
        t_it.
    redundancy : float
        Iteration time of redundant computation over plain, ρ.
    reached : tuple of int
        Runs with CheckFree that reached the target, and all of them.
    delta : float
        Failure probability of all three intervals together.
    """
    log = np.asarray(failed, dtype=bool).ravel()
    times = np.asarray(seconds, dtype=float).ravel()
    t = as_real(iteration_seconds, "iteration_seconds", low=0, open_ends=True)
    top = as_real(longest, "longest", low=0, open_ends=True)
    rho = as_real(redundancy, "redundancy", low=1)
    there, runs = as_int(reached[0], "reached", low=0), as_int(reached[1], "reached", low=1)
    if not log.size:
        raise ValueError("failed must hold at least one iteration")
    if ratio.level < 1 - delta / 3 - 1e-12:
        raise ValueError(f"ratio must have an interval at level {1 - delta / 3:.4g} or more")
    P = proportion(int(log.sum()), log.size, level=1 - delta / 3)
    inside = bool(np.isfinite(times).all() and (times >= 0).all() and (times <= top).all())
    all_there = len(times) == int(log.sum()) and inside
    ends: tuple[float, float, float] = (0.0, 0.0, top)
    if times.size and inside:
        mean = betting(times, delta / 3, low=0.0, high=top, boldness=BOLDNESS)
        ends = (mean.value, mean.low, mean.high)
    value, low, high = (
        time_factor(r, p, s, t)
        for r, p, s in zip(
            (ratio.value, ratio.low, ratio.high), (P.value, P.low, P.high), ends, strict=True
        )
    )
    measured = Estimate.between(
        low, high, value=value, level=1 - delta, method="Bonferroni of three"
    )
    p, alike = runs_test(log), exchangeable(times)
    return FASTER(
        bound=rho,
        confidence=1.0,
        trivial=time_factor(max(ratio.high, 1.0), 1.0, top, t),
        measured=measured,
        answers=(
            INDEPENDENT_FAILURES.tested(
                p, 0.01, "failures that follow each other five times as often as by chance"
            )
            if math.isfinite(p)
            else INDEPENDENT_FAILURES.unchecked("fewer than ten failures"),
            ALL_RECOVERIES.check(
                all_there,
                f"{len(times)} times of {int(log.sum())} failures, longest "
                f"{times.max(initial=0.0):.3g} of {top:.3g} s",
            ),
            ALIKE.tested(alike.p, 0.01, alike.sees)
            if times.size >= 20 and inside
            else ALIKE.unchecked("fewer than 20 recoveries"),
            REACHED.check(there == runs, f"{there} of {runs} runs"),
            RATIO.unchecked(f"{ratio.method} of {ratio.n} pairs"),
        ),
        inputs={"P": P.value, "t_it": t, "mean t_rec": ends[0], "ρ": rho, "ratio": ratio.value},
    )


def runs_test(log: np.ndarray) -> float:
    """Two-sided p-value of the number of runs of like iterations (Wald and Wolfowitz); NaN for few failures."""
    from scipy.stats import norm

    ones = int(log.sum())
    zeros = log.size - ones
    if min(ones, zeros) < 10:
        return math.nan
    n = ones + zeros
    runs = 1 + int((log[1:] != log[:-1]).sum())
    mean = 1 + 2 * ones * zeros / n
    variance = (mean - 1) * (mean - 2) / (n - 1)
    if variance <= 0:
        return math.nan
    return float(2 * norm.sf(abs(runs - mean) / math.sqrt(variance)))
