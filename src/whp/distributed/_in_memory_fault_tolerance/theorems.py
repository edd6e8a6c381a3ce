"""What is promised of a run that loses processes and memory, and what each promise rests on."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from whp.certificate import Answer, Certificate, Scalar
from whp.concentration import simultaneous_proportions
from whp.distributed._in_memory_fault_tolerance.failure_log import FailureLog
from whp.distributed._in_memory_fault_tolerance.stats import Stats
from whp.distributed._in_memory_fault_tolerance.survival import largest_loss, least_survival
from whp.intervals import Estimate, exact, proportion
from whp.theorem import AT_LEAST, AT_MOST, POPULATION, THIS_RUN, Condition, Derived, Theorem
from whp.validate import as_fraction, as_real

__all__ = [
    "ALIKE",
    "ALL_COMMITTED",
    "ALL_TIMED",
    "APART",
    "AT_REST",
    "CORRELATED",
    "EXACT",
    "EXTREMES",
    "FENCED",
    "FEW",
    "INDEPENDENT",
    "NEWEST",
    "RATE",
    "REPEATABLE",
    "ROLLBACK",
    "SAME",
    "STALL",
    "SURVIVAL",
    "SURVIVAL_CORRELATED",
    "THEOREMS",
    "WHOLE_STATE",
    "WINDOWS",
    "Failure",
    "Pace",
    "Watch",
    "differences",
    "exact_recovery",
    "newest_common",
    "rollback",
    "rollback_bound",
    "same",
    "same_as_undisturbed",
    "stall_budget",
    "survival",
]

PAPER = "Wang et al. 2023"
SLUG = "in-memory-fault-tolerance"
LOOPBACK = "localhost"
CRY_WOLF = 0.01  # level of the tests of a failure log

FEW = Condition(
    "few-lost",
    "no more members of a group are lost at once than the code survives",
    remedy="raise parity: as many parity rows as members that go together.",
)
FENCED = Condition(
    "fence-called",
    "pre_step() is called before the optimizer's step whenever a copy runs",
    remedy="call guard.pre_step() right before optimizer.step().",
)
AT_REST = Condition(
    "at-rest",
    "nobody writes what is copied between post_step() and the end of the copy",
    remedy="move the write (clipping, an average of weights) between pre_step() and post_step(), or take mode='sync'.",
)
WHOLE_STATE = Condition("whole-state", "`state` holds all that the loop reads")
ALL_COMMITTED = Condition(
    "all-committed",
    "every snapshot that is begun is committed, but those under way at a failure",
    remedy="see why snapshots were torn or given up, and keepers lost.",
)
EXTREMES = Condition(
    "extremes",
    "no commit takes longer and no iteration is shorter than was reckoned with",
    remedy="reckon with the longest lag and the shortest iteration of the run, not with medians.",
)
ALL_TIMED = Condition(
    "all-timed",
    "the stall of every snapshot after the first was timed",
    remedy="train for longer than the first snapshot, and leave stats_ as they are.",
)
APART = Condition(
    "hosts-apart",
    "every member of a group is on a host of its own",
    remedy="spread each group over as many hosts as members.",
)
INDEPENDENT = Condition(
    "independent-losses",
    "members of a group are lost independently of each other within a window",
    remedy="spread groups over racks and power supplies, or reckon with a correlation: rho=.",
)
CORRELATED = Condition(
    "correlation-given",
    "losses of a group within a window are correlated by no more than rho (beta-binomial)",
    remedy="reckon with a larger rho.",
)
RATE = Condition(
    "rate-given",
    "a member is lost within a window with the probability that was reckoned with, or less",
    remedy="reckon with the rate of the log: leave rate= out.",
)
ALIKE = Condition(
    "groups-alike",
    "members of all groups are lost equally often",
    remedy="reckon with the groups that are lost most, by a log of theirs alone: nodes of one age or kind.",
)
WINDOWS = Condition(
    "all-windows",
    "the log holds every window that was watched, those without a failure too, alike over time",
    remedy="give the time that was watched, not the number of failures; where losses come in spells or at certain hours, reckon "
    "with a log of these alone.",
)
REPEATABLE = Condition(
    "repeatable-sums",
    "one processor computes the same sum twice",
    remedy="use deterministic kernels and the same number of threads.",
)

EXACT = Theorem(
    "bit-exact-recovery",
    claim="every failure with at most m lost members and any number of killed trainers restores, bit for bit, the state at "
    "one moment after the end of a step and before the next write",
    quantity="failures that were not restored bit for bit",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived(f"{SLUG}#exact", extends=f"{PAPER}, whose protocol it is"),
    conditions=(FEW, FENCED, AT_REST, WHOLE_STATE),
    needs="a failure to recover from.",
    remedy="a restored block has another checksum than it had when it was copied, or nothing was kept: suspect the memory.",
)
NEWEST = Theorem(
    "newest-common-version",
    claim="what is restored is no older than the newest version that every living keeper held whole before recovery began",
    quantity="versions by which what was restored is older than what keepers answered when they were asked from outside",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived(f"{SLUG}#newest", extends=f"{PAPER}, whose commit rule it is"),
    conditions=(FEW,),
    needs="a failure before which the keepers were asked, and a restore from memory.",
    remedy="an older version was taken: a keeper was asked before it had finished.",
)
ROLLBACK = Theorem(
    "rollback-length",
    claim="a failure costs at most max(every, ⌈lag/τ⌉) + ⌈lag/τ⌉ iterations",
    quantity="most iterations that a failure of this run cost",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived(f"{SLUG}#rollback"),
    conditions=(FEW, ALL_COMMITTED, EXTREMES),
    needs="a failure to recover from.",
    remedy="commits take longer than the interval between snapshots: lengthen every, or give the keepers a core of their own.",
)
STALL = Theorem(
    "stall-budget",
    claim="snapshots after the first, which allocates, block training for no more than the share of the time that was granted",
    quantity="share of the time for which training waited for snapshots",
    relation=AT_MOST,
    scope=THIS_RUN,
    source="a budget of the user's, measured at both ends of every snapshot",
    conditions=(ALL_TIMED,),
    needs="two snapshots after the first.",
    remedy="lengthen every, or let mode='overlap' hide the copy behind longer iterations.",
)
SURVIVAL = Theorem(
    "survival",
    claim="all groups live through an exposure window with probability at least S(n, m, p)^groups, "
    "S = Σ_(j ≤ m) C(n, j) p^j (1 − p)^(n − j)",
    quantity="share of watched windows that all groups lived through",
    relation=AT_LEAST,
    scope=POPULATION,
    source=Derived(f"{SLUG}#survival", extends=f"{PAPER}, survival of sharding groups"),
    conditions=(APART, INDEPENDENT, RATE, ALIKE, WINDOWS),
    needs="a log of failures with the time that was watched; some thousand windows decide.",
    remedy="nodes fail more often, or together, than a group survives: raise parity, or spread groups over racks.",
)
SURVIVAL_CORRELATED = SURVIVAL.variant(
    name="survival-correlated",
    claim="all groups live through an exposure window with at least the beta-binomial probability of m losses or fewer, the "
    "smallest at any correlation up to the one that was given",
    conditions=(APART, CORRELATED, RATE, ALIKE, WINDOWS),
)
SAME = Theorem(
    "same-as-undisturbed",
    claim="losses of steps that were run again, and the trained weights, are bit for bit those of a run without failures",
    quantity="losses and weights that differ",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived(f"{SLUG}#same"),
    conditions=(REPEATABLE,),
    needs="a run that came to its end.",
    remedy="something that training depends on is not in the state: a generator, a sampler's position, a scheduler.",
)
THEOREMS = (EXACT, NEWEST, ROLLBACK, STALL, SURVIVAL, SURVIVAL_CORRELATED, SAME)


@dataclass(frozen=True)
class Failure:
    """One failure of a run and what was got back.

    Parameters
    ----------
    trainers, members : tuple of int
        Ranks that were killed, and ranks whose memory was lost.
    last_step : int
        Newest step that some rank had finished.
    restored_step : int
        Step that was restored; −1 if training began anew.
    recovered : bool
        Whether something was restored.
    digest_ok : bool
        Whether it has the bytes that were copied.
    version : int
        What was restored.
    newest_common : int
        The newest version that every living keeper held whole when it was asked from outside, before recovery began; −1: nobody
        asked.
    source : str
        Where from.
    seconds : float
        From the kill until training went on.
    """

    trainers: tuple[int, ...]
    members: tuple[int, ...]
    last_step: int
    restored_step: int
    recovered: bool
    digest_ok: bool
    version: int = 0
    newest_common: int = -1
    source: str = "smp"
    seconds: float = 0.0


@dataclass(frozen=True)
class Watch:
    """What is known of writes under a copy.

    Parameters
    ----------
    mode : {"overlap", "sync"}
        How copies were taken.
    torn, unfenced : int
        Snapshots that were seen to be written and thrown away, and steps without the fence, of the whole run.
    ours : bool
        Whether an unaltered :class:`SnapshotGuard` of this process watched; numbers from elsewhere are believed, not checked.
    """

    mode: str = "overlap"
    torn: int = 0
    unfenced: int = 0
    ours: bool = False

    @property
    def fenced(self) -> Answer:
        """On the fence."""
        if self.unfenced:
            return FENCED.check(False, f"{self.unfenced} steps without it")
        if not self.ours:
            return FENCED.unchecked("another's counters were handed in")
        return FENCED.check(True, "no step came without it while a copy ran")

    @property
    def at_rest(self) -> Answer:
        """On writes under a copy."""
        if self.torn:
            return AT_REST.check(False, f"{self.torn} snapshots were torn, and thrown away")
        if not self.ours:
            return AT_REST.unchecked("another's counters were handed in")
        if self.mode == "sync":
            return AT_REST.by_construction("copies are taken inside post_step()")
        return AT_REST.tested(
            1.0,
            CRY_WOLF,
            "any write while a copy ran, and of writes between post_step() and the copy those to a whole tensor: a few bytes of "
            "each were looked at, and mode='sync' needs no look",
        )


@dataclass(frozen=True)
class Pace:
    """How often snapshots are begun and how long they take.

    Parameters
    ----------
    every : int
        Iterations between snapshots, at most.
    lag, step : float
        Seconds from the beginning of a snapshot to its commit, and of an iteration, that are reckoned with.
    longest, shortest : float, optional
        Longest lag and shortest iteration on record.
    lost_records : int
        Keepers that died with their record.
    given_up : int
        Snapshots that were torn or given up.
    stride : int
        Largest difference between the numbers of two iterations that follow each other: where batches are numbered and
        gradients are accumulated, as many as one step takes.
    """

    every: int
    lag: float
    step: float
    longest: float | None = None
    shortest: float | None = None
    lost_records: int = 0
    given_up: int = 0
    stride: int = 1

    @classmethod
    def of(cls, stats: Stats, every: int) -> Pace:
        """From the statistics of a guard, which reckon with the extremes."""
        lag = max([stats.longest_lag_ms, *stats.lags_ms]) / 1e3
        step = stats.shortest_step_ms / 1e3
        given_up = stats.torn + stats.abandoned
        period = max(every, stats.longest_period)
        lost, stride = stats.keepers_lost, stats.longest_stride
        return cls(period, lag, step, lag, step or None, lost, given_up, stride)

    @property
    def bound(self) -> float:
        """Iterations that a failure can cost."""
        return rollback_bound(self.every, self.lag, self.step, self.stride)

    @property
    def extremes(self) -> Answer:
        """On the record."""
        reckoned = f"{1e3 * self.lag:.4g} and {1e3 * self.step:.4g} ms are reckoned with"
        if self.longest is None or self.shortest is None:
            return EXTREMES.unchecked(f"there is no record; {reckoned}")
        if self.lag < self.longest or self.step > self.shortest:
            found = f"{1e3 * self.longest:.4g} and {1e3 * self.shortest:.4g} ms occurred"
            return EXTREMES.check(False, f"{found}; {reckoned}")
        if self.lost_records:
            return EXTREMES.unchecked(
                f"the record of {self.lost_records} keepers went with them; {reckoned}"
            )
        return EXTREMES.check(True, f"{reckoned}, which nothing on record goes beyond")


def rollback_bound(every: int, lag: float, step: float, stride: int = 1) -> float:
    """Iterations that can be lost: max(every, ⌈lag/τ⌉) + ⌈lag/τ⌉; infinite while no iteration was timed.

    Where numbers grow by up to `stride`, a snapshot that is due begins up to ``stride - 1`` numbers later, and each iteration
    counts as so many.
    """
    if step <= 0:
        return math.inf
    late = stride * math.ceil(lag / step)
    return float(max(every + stride - 1, late) + late)


def _few(failures: Sequence[Failure], m: int) -> Answer:
    most = max((len(f.members) for f in failures), default=0)
    if most <= m and any(f.source == "persist" for f in failures):
        return FEW.unchecked("the state came from disk; nobody knows how many memories were lost")
    return FEW.check(
        most <= m,
        f"{most} at once, and the code survives {m}",
        remedy=f"parity={most} would have survived this." if most > m else "",
    )


def exact_recovery(failures: Sequence[Failure], watch: Watch, m: int) -> Certificate:
    """Whether every failure was restored bit for bit.

    Parameters
    ----------
    failures : sequence of Failure
        What happened, starts that found nothing although snapshots were begun among them.
    watch : Watch
        What is known of writes under a copy.
    m : int
        Losses that the code survives.
    """
    wrong = sum(not (f.recovered and f.digest_ok) for f in failures)
    return EXACT(
        bound=0.0,
        confidence=1.0,
        trivial=max(1, len(failures)),
        measured=exact(float(wrong)) if failures else None,
        answers=(
            _few(failures, m),
            watch.fenced,
            watch.at_rest,
            WHOLE_STATE.unchecked(
                "schedulers, averages of weights, samplers and generators of their own are kept only if they are given"
            ),
        ),
        inputs={
            "failures": len(failures),
            "lost members": sum(len(f.members) for f in failures),
            "m": m,
        },
    )


def newest_common(failures: Sequence[Failure], m: int) -> Certificate:
    """Whether the newest common version was restored.

    Parameters
    ----------
    failures : sequence of Failure
        Those with ``newest_common`` ≥ 0 that were restored from memory count.
    m : int
        Losses that the code survives.
    """
    asked = [f for f in failures if f.source in ("smp", "erasure") and f.newest_common >= 0]
    behind = max((max(0, f.newest_common - f.version) for f in asked), default=0)
    return NEWEST(
        bound=0.0,
        confidence=1.0,
        trivial=max([1, *(f.newest_common for f in asked)]),
        measured=exact(float(behind)) if asked else None,
        answers=(_few(failures, m),),
        inputs={"restores from memory": len(asked)},
    )


def rollback(failures: Sequence[Failure], pace: Pace, steps: int, m: int) -> Certificate:
    """How much work a failure of this run cost.

    Parameters
    ----------
    failures : sequence of Failure
        What happened.
    pace : Pace
        How often snapshots are begun and how long they take.
    steps : int
        Iterations of the run: a bound no smaller says nothing.
    m : int
        Losses that the code survives.
    """
    # From disk it goes back by the period of the disk, of which nothing is promised.
    lost = [
        f.last_step - f.restored_step
        for f in failures
        if (f.recovered or len(f.members) <= m) and f.source != "persist"
    ]
    return ROLLBACK(
        bound=pace.bound,
        confidence=1.0,
        trivial=float(steps),
        measured=exact(float(max(lost))) if lost else None,
        answers=(
            _few(failures, m),
            ALL_COMMITTED.check(
                pace.given_up == 0, f"{pace.given_up} snapshots were torn or given up"
            ),
            pace.extremes,
        ),
        inputs={
            "every": pace.every,
            "longest lag in s": float(pace.lag),
            "shortest iteration in s": float(pace.step),
            "iterations": steps,
        },
    )


def stall_share(stalls_ms: Sequence[float], watched_ms: float) -> float:
    """Share of a time that was waited."""
    return min(1.0, sum(stalls_ms) / watched_ms)


def stall_budget(
    stalls_ms: Sequence[float],
    watched_ms: float,
    budget: float = 0.05,
    snapshots: int | None = None,
) -> Certificate:
    """Whether snapshots blocked no more than was granted.

    Parameters
    ----------
    stalls_ms : sequence of float
        Milliseconds for which training waited, a snapshot; the first, which allocates, left out.
    watched_ms : float
        Milliseconds of training in which they came.
    budget : float
        Share that is granted.
    snapshots : int, optional
        How many there were after the first; by default as many as were timed.
    """
    timed = len(stalls_ms)
    due = timed if snapshots is None else snapshots
    measured = timed > 1 and watched_ms > 0
    if snapshots is None:
        counted = ALL_TIMED.unchecked(f"{timed} were timed; how many there were was not given")
    else:
        counted = ALL_TIMED.check(timed >= due, f"{timed} of {due}")
    return STALL(
        bound=budget,
        confidence=1.0,
        trivial=1.0,
        measured=exact(stall_share(stalls_ms, watched_ms)) if measured else None,
        answers=(counted,),
        inputs={"snapshots": timed, "seconds": watched_ms / 1e3},
    )


def _apart(hosts: Sequence[Sequence[str]] | None, n: int, m: int, groups: int) -> Answer:
    if hosts is None:
        return APART.unchecked("hosts are simulated: in truth all members were on one machine")
    if isinstance(hosts, str) or any(isinstance(group, str) for group in hosts):
        raise TypeError("hosts must be a list of host names for each group, got names alone")
    sizes = [len(group) for group in hosts]
    if sizes != [n] * groups:
        raise ValueError(f"hosts must name {n} hosts for each of {groups} groups, got {sizes[:4]}")
    for g, group in enumerate(hosts):
        names = _machines(group)
        host, shared = Counter(names).most_common(1)[0]
        if shared > 1:
            cost = (
                f": one host failure costs {shared} > m={m}" if shared > m else ", and fail with it"
            )
            return APART.check(False, f"{shared} members of group {g} share host {host}{cost}")
    return APART.check(True, f"{sum(map(len, hosts))} members, as many hosts a group as members")


def _machines(hosts: Sequence[object]) -> list[str]:
    """Names of machines as DNS reads them: without a user, a port, slots; short where somebody else's is short.

    Raises
    ------
    TypeError, ValueError
        If one is no name.
    """
    names = []
    for host in hosts:
        if not isinstance(host, str | int):
            raise TypeError(f"hosts must be names, got {host!r}")
        name = (str(host).split() or [""])[0].split("@")[-1].casefold()
        if name.count(":") == 1:
            name = name.split(":")[0]
        name = name.split("/")[0].rstrip(".")
        if not name:
            raise ValueError(f"hosts must be names, got {host!r}")
        names.append(LOOPBACK if name in ("127.0.0.1", "::1", "localhost") else name)
    short = {name for name in names if "." not in name}
    return [first if (first := name.split(".")[0]) in short else name for name in names]


def largest_rate(losses: int, chances: int, delta: float) -> float:
    """Upper limit of the probability that a member is lost within a window (Clopper-Pearson, one-sided)."""
    return float(simultaneous_proportions(losses, chances, 2 * delta)[1])


def survival(
    log: FailureLog | None,
    *,
    n: int,
    m: int,
    window: float,
    rate: float | None = None,
    groups: int = 1,
    hosts: Sequence[Sequence[str]] | None = None,
    rho: float = 0.0,
    delta: float = 0.05,
    demand: float | None = None,
) -> Certificate:
    """How surely all groups live through an exposure window.

    Parameters
    ----------
    log : FailureLog, optional
        What was lost in which window. The bound then rests on the upper limit of the rate in it.
    n, m, groups : int
        Members of a group, losses that it survives, number of groups.
    window : float
        Length of a window in seconds: twice the time from a loss until it is rebuilt, since losses less than that time
        apart may lie on both sides of a border between two windows.
    rate : float, optional
        Failures a second of one node, to reckon with; needed without a log.
    hosts : sequence of sequences of str, optional
        Host of each member of each group; None where they are only simulated.
    rho : float
        Correlation of losses within a group and window to reckon with. It does not excuse shared hosts.
    delta : float
        Failure probability, half of it for the rate and half for the measurement.
    demand : float, optional
        Probability of survival that is wanted. It is the bound then, and what the log proves is the measurement.

    Returns
    -------
    Certificate
        Named ``survival``, or ``survival-correlated`` with `rho`.

    Raises
    ------
    ValueError
        If neither `log` nor `rate` is given, or the log is of groups of another size or of other windows.
    TypeError
        If `hosts` is a list of names and not one for each group.
    """
    window = as_real(window, "window", low=0, high=1e12)
    rho, delta = as_real(rho, "rho", low=0, high=1), as_fraction(delta, "delta")
    if demand is not None:
        demand = as_real(demand, "demand", low=0, high=1)
    if log is None and rate is None:
        raise ValueError("rate must be given where there is no log of failures")
    if log is not None and log.n != n:
        raise ValueError(f"log must be of groups of {n} members, got {log.n}")
    if log is not None and log.seconds is not None and not math.isclose(log.seconds, window):
        raise ValueError(f"log must be of windows of {window:g} s, got {log.seconds:g} s")
    planned = None if rate is None else -math.expm1(-float(rate) * float(window))
    theorem = SURVIVAL_CORRELATED if rho else SURVIVAL
    inputs: dict[str, Scalar] = {"n": n, "m": m, "groups": groups, "rho": float(rho)}
    measured, confidence = None, 1.0
    if log is None:
        assert planned is not None
        p = planned
        why = "there is no log of failures"
        how = (CORRELATED if rho else INDEPENDENT).unchecked(why)
        answers = (how, RATE.unchecked(f"{why}; p = {p:.3g} was given"))
        answers += (ALIKE.unchecked(why), WINDOWS.unchecked(why))
    else:
        limit = _largest(log, rho, delta / 2)
        p = limit if planned is None else max(limit, planned)
        confidence = 1 - delta / 2
        alike = _alike(log, m, groups, limit)
        answers = (_together(log, rho, limit), _rated(log, planned, rho), alike, _watched(log))
        inputs |= {"windows": log.windows, "losses": log.losses}
        if demand is not None:
            measured, confidence = _proven(log, p, n, m, groups, rho, delta), 1.0
        elif log.groups == groups:
            measured = _lived(log, m, delta / 2)
    inputs |= {"p": p, "window in s": float(window)}
    return theorem(
        bound=least_survival(n, m, p, groups=groups, rho=rho) if demand is None else demand,
        confidence=confidence,
        trivial=least_survival(n, 0, p, groups=groups, rho=rho),
        measured=measured,
        answers=(_apart(hosts, n, m, groups), *answers),
        inputs=inputs,
    )


def _largest(log: FailureLog, rho: float, delta: float) -> float:
    """Upper limit of the rate.

    Losses of a group that go together are no independent trials; windows of groups are, and how many of them have a loss is
    turned into a rate at the correlation.
    """
    if not rho:
        return largest_rate(log.losses, log.chances, delta)
    return largest_loss(largest_rate(len(log.count), log.cells, delta), log.n, rho)


def _smallest(log: FailureLog, rho: float, delta: float) -> float:
    """Lower limit of the rate: a window of a group has a loss most often without correlation."""
    if not rho:
        return float(simultaneous_proportions(log.losses, log.chances, 2 * delta)[0])
    hit = float(simultaneous_proportions(len(log.count), log.cells, 2 * delta)[0])
    return -math.expm1(math.log1p(-min(hit, 1 - 1e-16)) / log.n)


def _alike(log: FailureLog, m: int, groups: int, limit: float) -> Answer:
    if log.groups > 1:
        test = log.groups_test()
        if test.p < CRY_WOLF or log.groups == groups:
            return ALIKE.tested(test.p, CRY_WOLF, test.sees)
    if log.groups != groups:
        return ALIKE.unchecked(f"the log is of {log.groups} groups and the plan of {groups}")
    if log.n * limit > m:
        return ALIKE.unchecked(
            f"up to {log.n * limit:.3g} members are lost in a mean window: which they are matters"
        )
    return ALIKE.by_construction("there is one group")


def _lived(log: FailureLog, m: int, tail: float) -> Estimate:
    """Share of windows, with an interval whose lower end alone fails with probability `tail`."""
    return proportion(log.windows - log.fatal(m), log.windows, level=1 - tail)


def _proven(
    log: FailureLog, p: float, n: int, m: int, groups: int, rho: float, delta: float
) -> Estimate:
    """Survival at the limits of the rate: it falls as the rate grows."""
    least = _smallest(log, rho, delta / 2)
    rates = (log.losses / log.chances, p, min(least, p))
    middle, low, high = (least_survival(n, m, q, groups=groups, rho=rho) for q in rates)
    return Estimate(
        max(low, min(middle, high)), low, high, 1 - delta, log.chances, "Clopper-Pearson"
    )


def _together(log: FailureLog, rho: float, limit: float) -> Answer:
    test = log.pairs_test() if not rho else log.correlation_test(rho, limit)
    return (CORRELATED if rho else INDEPENDENT).tested(test.p, CRY_WOLF, test.sees)


def _rated(log: FailureLog, planned: float | None, rho: float) -> Answer:
    if planned is None:
        return RATE.by_construction("the log's own rate is reckoned with, at its upper limit")
    least = _smallest(log, rho, CRY_WOLF)
    seen = log.losses / log.chances
    return RATE.check(
        least <= planned,
        f"{seen:.3g} a window in the log, at least {least:.3g}; {planned:.3g} given",
    )


def _watched(log: FailureLog) -> Answer:
    test = log.windows_test()
    return WINDOWS.tested(test.p, CRY_WOLF, test.sees)


Losses = Mapping[tuple[int, int], float]  # by step and rank


def differences(ours: Losses, theirs: Losses, first: int, last: int) -> tuple[int, int]:
    """How many losses of the steps ``first`` to ``last - 1`` differ between two runs, and how many there are."""
    keys = [key for key in ours if first <= key[0] < last]
    return sum(not same(ours[key], theirs.get(key)) for key in keys), len(keys)


def same(one: float, other: float | None) -> bool:
    """Whether two losses are the same number; that of a run that diverged is NaN in both."""
    return one == other or (one != one and other is not None and other != other)


def same_as_undisturbed(
    differing: int | None, compared: int, before: tuple[int, int] | None
) -> Certificate:
    """Whether failures left a trace in what was learnt.

    Parameters
    ----------
    differing : int, optional
        Losses and weights that differ; None if the run did not come to its end.
    compared : int
        How many were compared.
    before : tuple of int, optional
        Of losses before the first failure, in this run and in one without failures: how many differ, and how many there are.
        None if there is no run without failures.
    """
    if before is None:
        known = REPEATABLE.unchecked("there is no run without failures to compare with")
    elif not before[1]:
        known = REPEATABLE.unchecked("no loss came before the first failure")
    else:
        known = REPEATABLE.check(
            before[0] == 0,
            f"{before[0]} of {before[1]} losses before the first failure differ between the two runs",
        )
    return SAME(
        bound=0.0,
        confidence=1.0,
        trivial=max(1, compared),
        measured=None if differing is None else exact(float(differing)),
        answers=(known,),
        inputs={"compared": compared, "with a run without failures": before is not None},
    )
