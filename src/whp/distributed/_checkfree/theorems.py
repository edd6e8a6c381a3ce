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
from whp.validate import as_floats, as_fraction, as_int, as_real

if TYPE_CHECKING:
    from whp.distributed._checkfree.recovery import Recovery

__all__ = [
    "ALIKE",
    "ALL_JUMPS",
    "ALL_RECOVERIES",
    "ANY_MOMENT",
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
    "LONGEST",
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
STRETCHES = 10  # of a log of failures, compared with each other

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
    claim="every weight of a rebuilt stage is (ω₋W₋ + ω₊W₊)/(ω₋ + ω₊) of its neighbours, or the weight "
    "that is copied (a twin's, or with rule='copy' that of the stage before), up to the rounding of one "
    "such sum",
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
    conditions=(STEP, SMOOTH, PLAIN, JUMPS_ADD_UP, FLOOR, NOISE, INDEPENDENT_RUNS),
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
LONGEST = Condition(
    "longest-known",
    "no recovery can take longer than the longest that was stated, which was known before the log",
    remedy="give the timeout and the time that a new process may take to start, not the longest seen.",
)
ANY_MOMENT = Condition(
    "any-moment",
    "failures strike at any moment of an iteration alike, so that half of it is lost on average",
    remedy="where stages die late in an iteration, as for want of memory, add up to half an iteration "
    "to each of the seconds.",
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
    conditions=(INDEPENDENT_FAILURES, ALL_RECOVERIES, ALIKE, LONGEST, ANY_MOMENT, REACHED, RATIO),
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
    # A claim on every rebuilt stage is measured by all of them, or not at all.
    missed = sum(any(r.sources) and r.difference is None for r in recoveries if r.how == "rebuilt")
    strange = [r for r in recoveries if r.reason or r.how in ("random", "rolled back")]
    # The rule may have been another when a stage was lost.
    odd = [a for a in (r.rule or rule for r in recoveries) if a in ("zero", "random")]
    if odd:
        answer = NEIGHBOURS.check(False, f"rule={odd[0]!r} makes no average")
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
        measured=exact(max(float(r.difference or 0.0) for r in checked))
        if checked and not missed
        else None,
        answers=(answer,),
        inputs={"recoveries": len(recoveries), "checked": len(checked), "not checked": missed},
    )


def ends_restored(recoveries: Sequence[Recovery], *, mode: str = "checkfree+") -> Certificate:
    """Whether what was restored from copies is what was lost."""
    checked = [r for r in recoveries if r.ends_changed is not None]
    compared = sum(r.ends_compared or 0 for r in checked)
    restored = sum(r.ends for r in recoveries)
    lost = [r for r in recoveries if r.reason or r.how in ("random", "rolled back")]
    evidence = f"mode={mode!r}, {len(lost)} recoveries otherwise than from neighbours and copies"
    return ENDS_RESTORED(
        bound=0.0,
        confidence=1.0,
        trivial=float(compared) if checked else math.inf,
        # All of them: what a stage last committed is not known if it died before it could tell.
        measured=exact(float(sum(r.ends_changed or 0 for r in checked)))
        if checked and compared >= restored
        else None,
        answers=(COPY_LEFT.check(not lost, evidence),),
        inputs={"recoveries": len(recoveries), "restored": restored, "compared": compared},
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
        measured=exact(float(sum(r.changed or 0 for r in checked)))
        if checked and len(checked) == len(recoveries)
        else None,
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
    share = as_fraction(share, "share")
    if w.end.shape != w.start.shape or w.jumps.shape[1:] != w.start.shape:
        raise ValueError(
            f"windows must have a loss at the start, at the end and around each failure, got shapes "
            f"{w.start.shape}, {w.end.shape} and {w.jumps.shape}"
        )
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
    first : float, optional
        h(θ₀), if there was a jump before the first gradient.
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
    first: float | None = None

    @property
    def start(self) -> float:
        """h(θ₀)."""
        return float(self.before[0]) if self.first is None else self.first

    @property
    def scale(self) -> float:
        """The largest value of h."""
        return float(np.abs([self.start, *self.before, *self.after]).max())


def _looked(condition: Condition, seen: tuple[bool, str] | None, why: str) -> Answer:
    return condition.unchecked(why) if seen is None else condition.check(*seen)


def _step(slowest: float, fastest: float, steepest: float, L: float | None) -> Answer:
    if not 0 <= slowest <= fastest < math.inf:
        return STEP.check(False, f"learning rates from {slowest:.4g} to {fastest:.4g}")
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


def _adds_up(path: Path) -> tuple[bool, str]:
    """Whether the jumps are all that moved h between steps, to the rounding of its values."""
    total, T = float(path.jumps.sum()), len(path.squares)
    moved = float(path.before[0]) - path.start
    moved += float((path.before[1:] - path.after[:-1]).sum())
    slack = 4 * path.rounding * path.scale * (T + 1)
    near = bool(abs(moved - total) <= slack < math.inf) and len(path.jumps) == path.recoveries
    told = f"{len(path.jumps)} jumps of {path.recoveries} recoveries, sum {total:.6g}; h itself "
    return near, f"{told}was moved by {moved:.6g}"


def _floor(least: float, floor: float, room: float) -> Answer:
    if not least >= floor - room:
        return FLOOR.check(False, f"{least:.6g} was seen, below {floor:.6g}")
    return FLOOR.unchecked(f"the least h seen was {least:.4g}")


def descent_bound(room: float, jumps: float, rate: float, steps: int) -> float:
    """2(h(θ₀) − h_inf + ΣJ)/(γT); nothing is promised of a rate of 0."""
    if not rate > 0:
        return math.inf
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
    if smoothness is not None:
        smoothness = as_real(smoothness, "smoothness", low=0, open_ends=True)
    T = len(path.squares)
    if not T:
        raise ValueError("a path must have at least one step")
    total = float(path.jumps.sum())
    seen = [path.start, *path.before, *path.after, *path.squares, total]
    finite = bool(np.isfinite(seen).all())
    unit = path.rounding * path.scale
    room = path.start - floor
    radius = 0.0  # of the sum of all differences of h
    if path.slowest > 0:
        radius = 2 * unit * (T + 2) / (path.slowest * T)
    L = smoothness
    if L is None:
        L = 1 / path.fastest if path.fastest > 0 else math.inf
    gaps = float((path.before - floor).mean())
    mean = float(path.squares.mean()) if finite else math.inf
    return DESCENT(
        bound=descent_bound(room, total, path.slowest, T) + radius if finite else math.inf,
        confidence=1.0,
        trivial=2 * L * max(gaps, 0.0) + 2 * L * unit if finite else math.inf,
        measured=exact(mean, 8 * EPS * mean) if finite else exact(math.inf),
        answers=(
            _step(path.slowest, path.fastest, path.steepest, smoothness),
            _smooth(path.steepest, smoothness),
            _looked(PLAIN, path.plain, "nobody looked at the optimizer"),
            _looked(OBJECTIVE, path.objective, "nobody looked at rows and losses"),
            JUMPS_ADD_UP.check(*_adds_up(path)),
            _floor(float(min(path.start, path.before.min(), path.after.min())), floor, unit),
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
    smoothness = as_real(smoothness, "smoothness", low=0, open_ends=True)
    variance = as_real(variance, "variance", low=0)
    if not paths or not all(len(p.squares) for p in paths):
        raise ValueError("paths must hold at least one run of at least one step")
    first = paths[0]
    T, slow = len(first.squares), min(p.slowest for p in paths)
    fast, steep = max(p.fastest for p in paths), max(p.steepest for p in paths)
    room = first.start - floor
    # A rate of 0 promises nothing, and what is measured divides by it.
    weight = 2 / (slow * T) if slow > 0 else math.nan
    values = np.array([p.squares.mean() - weight * p.jumps.sum() for p in paths])
    measured = None
    if between is not None and slow > 0:
        if not (between[0] <= values.min() and values.max() <= between[1]):
            raise ValueError(
                f"between must hold all runs, from {values.min():.6g} to {values.max():.6g}, "
                f"got {between}"
            )
        measured = betting(values, delta, low=between[0], high=between[1], boldness=BOLDNESS)
    gaps = float(np.mean([(p.before - floor).mean() for p in paths]))
    lowest = min(float(min(p.start, p.before.min(), p.after.min())) for p in paths)
    unit = max(p.rounding * p.scale for p in paths)
    one = all(len(p.squares) == T and p.start == first.start for p in paths)
    sums = [_adds_up(p) for p in paths]
    plain = None
    if all(p.plain is not None for p in paths):
        broken = [p.plain for p in paths if p.plain is not None and not p.plain[0]]
        plain = broken[0] if broken else first.plain
    jumps = float(np.mean([p.jumps.sum() for p in paths]))
    # A demand on the jumps: what is promised is worth something if it beats L-smoothness alone.
    trivial = 2 * smoothness * gaps - (weight * jumps if slow > 0 else 0.0)
    bound = math.inf
    if slow > 0:
        bound = descent_bound(room, 0.0, slow, T) + noise_floor(slow, fast, smoothness, variance)
        bound += weight * unit
    return DESCENT_ON_AVERAGE(
        bound=bound,
        confidence=1.0,
        trivial=trivial,
        measured=measured,
        answers=(
            _step(slow, fast, steep, smoothness),
            _smooth(steep, smoothness),
            _looked(PLAIN, plain, "nobody looked at the optimizer"),
            JUMPS_ADD_UP.check(*next((s for s in sums if not s[0]), sums[0])),
            _floor(lowest, floor, unit),
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
        Which iterations of a log saw a failure: one entry an iteration, true or false, or 1 or 0.
    seconds : array-like of float
        Time of each of their recoveries, in order.
    longest : float
        What no recovery can exceed: the timeout, and the start of a process. Known before: the
        longest of `seconds` is no such number.
    iteration_seconds : float
        t_it.
    redundancy : float
        Iteration time of redundant computation over plain, ρ.
    reached : tuple of int
        Runs with CheckFree that reached the target, and all of them.
    delta : float
        Failure probability of all three intervals together.

    Returns
    -------
    Certificate

    Raises
    ------
    TypeError, ValueError
        If an argument is not what is accepted; the message names it.
    """
    if not isinstance(ratio, Estimate):
        raise TypeError(
            f"ratio must be an Estimate, with its interval over pairs of runs, got {type(ratio).__name__}"
        )
    if not ratio.value > 0:
        raise ValueError(f"ratio must be positive, got {ratio.value:g}")
    delta = as_fraction(delta, "delta")
    log = as_log(failed)
    times = _row(seconds, "seconds")
    t = as_real(iteration_seconds, "iteration_seconds", low=0, open_ends=True)
    top = as_real(longest, "longest", low=0, open_ends=True)
    rho = as_real(redundancy, "redundancy", low=1)
    there, runs = as_int(reached[0], "reached", low=0), as_int(reached[1], "reached", low=1)
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
            (ratio.value, max(ratio.low, 0.0), ratio.high),
            (P.value, P.low, P.high),
            ends,
            strict=True,
        )
    )
    measured = Estimate.between(
        low, high, value=value, level=1 - delta, method="Bonferroni of three"
    )
    alike = exchangeable(times)
    largest = times.max(initial=0.0)
    return FASTER(
        bound=rho,
        confidence=1.0,
        trivial=time_factor(max(ratio.high, 1.0), 1.0, top, t),
        measured=measured,
        answers=(
            _independent(log),
            ALL_RECOVERIES.check(
                all_there,
                f"{len(times)} times of {int(log.sum())} failures, longest "
                f"{largest:.3g} of {top:.3g} s",
            ),
            ALIKE.tested(alike.p, 0.01, alike.sees)
            if times.size >= 20 and inside
            else ALIKE.unchecked("fewer than 20 recoveries, or not all of their times"),
            # A bound that the log itself has chosen is one that the next recovery exceeds.
            LONGEST.check(False, f"{top:.6g} s is the longest of these very times")
            if times.size and largest == top
            else LONGEST.unchecked(f"{top:.3g} s is the caller's; {largest:.3g} s were seen"),
            ANY_MOMENT.unchecked("a log of iterations does not show when in one a stage was lost"),
            REACHED.check(there == runs, f"{there} of {runs} runs"),
            RATIO.unchecked(f"{ratio.method} of {ratio.n} pairs"),
        ),
        inputs={"P": P.value, "t_it": t, "mean t_rec": ends[0], "ρ": rho, "ratio": ratio.value},
    )


def _row(value: Any, argument: str) -> np.ndarray:
    array = as_floats(value, argument)
    if array.ndim != 1:
        raise ValueError(
            f"{argument} must be one-dimensional, an entry an iteration or a recovery (any stage "
            f"counts: table.any(axis=1)), got shape {array.shape}"
        )
    return array


def as_log(failed: Any) -> np.ndarray:
    """Whether each iteration saw a failure; numbers of iterations and counts are refused."""
    # A table of stages has a rate of its own for each entry, far below that of iterations.
    log = _row(failed, "failed")
    if not log.size:
        raise ValueError("failed must hold at least one iteration")
    if wrong := log[~np.isin(log, (0.0, 1.0))].tolist():
        raise ValueError(
            "failed must say of each iteration whether it saw a failure, true or false, 1 or 0, "
            f"got {wrong[0]:g}"
        )
    return log == 1


def _independent(log: np.ndarray) -> Answer:
    """By two tests at half the level each: of neighbours, and of stretches of the log."""
    ones = int(log.sum())
    if min(ones, log.size - ones) < 10:
        return INDEPENDENT_FAILURES.unchecked(
            "fewer than ten iterations with, or without, a failure"
        )
    p = min(1.0, 2 * min(runs_test(log), stretches_test(log)))
    share = ones / log.size
    apart = 2.5 * math.sqrt(2 * STRETCHES / log.size * share * (1 - share))
    return INDEPENDENT_FAILURES.tested(
        p, 0.01, f"{_following(log)}; a tenth of the log failing {apart:.2g} more often or less"
    )


def _following(log: np.ndarray) -> str:
    """What the test of neighbours sees: from which share on failures that follow one show."""
    ones, n = int(log.sum()), log.size
    share = ones / n
    # Runs of failures are hypergeometric; with a share f of followers there are (1 - f) of them.
    spread = math.sqrt(ones * (n - ones + 1) / n * (1 - (n - ones + 1) / n) * (n - ones) / (n - 1))
    least = share + (2.8 + 1.3) * max(spread, 0.5) / ones
    if least >= 1:
        return "no dependence of one iteration on the one before"
    return f"an iteration after a failure failing with probability {least:.2g}, not {share:.2g}"


def stretches_test(log: np.ndarray) -> float:
    """p-value of how far tenths of the log differ in failures, given how many there are.

    Among all orders the counts of tenths are multivariate hypergeometric.
    """
    ones = int(log.sum())
    edges = np.linspace(0, log.size, STRETCHES + 1).astype(int)
    sizes = np.diff(edges)
    counts = np.add.reduceat(log.astype(int), edges[:-1])
    drawn = np.random.default_rng(0).multivariate_hypergeometric(
        sizes, ones, size=9999, method="marginals"
    )
    seen = (counts**2 / sizes).sum()
    return float((1 + ((drawn**2 / sizes).sum(axis=1) >= seen * (1 - 1e-12)).sum()) / 10000)


def runs_test(log: np.ndarray) -> float:
    """Two-sided p-value of the number of runs of failures, given how many failures there are.

    Exact: all orders being alike, r runs are r of the n₀ + 1 places between and beside the other
    iterations, and their number is hypergeometric. The normal law is far off where failures are rare.
    """
    from scipy.stats import hypergeom

    ones = int(log.sum())
    if not 0 < ones < log.size:
        return 1.0
    runs = int(log[0]) + int((log[1:] & ~log[:-1]).sum())
    law = hypergeom(log.size, log.size - ones + 1, ones)
    return float(min(1.0, 2 * min(law.cdf(runs), law.sf(runs - 1))))
