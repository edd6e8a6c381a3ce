"""Certificates: what came back, how much work was lost, what the copies cost, and how likely a group lives through its failures."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from whp.certificate import Certificate
from whp.distributed.in_memory_fault_tolerance.survival import survival_probability
from whp.intervals import Estimate, exact, mean, proportion
from whp.undeclared import Assumption, met, unchecked, undeclared, violated

__all__ = ["Failure", "inmemory_certificate", "rollback_bound", "survival"]

PAPER = "Wang et al. 2023"


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
    version, newest_common : int
        What was restored, and the newest that all keepers had.
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
    newest_common: int = 0
    source: str = "smp"
    seconds: float = 0.0


def rollback_bound(every: int, lag: float, step: float) -> int:
    """Steps that can be lost: every + ⌈lag/τ⌉."""
    return every + (math.ceil(lag / step) if step > 0 else 0)


def _fenced(stats: Mapping[str, Any]) -> Assumption:
    statement = "pre_step() is called before every optimizer.step()"
    torn, missing = int(stats.get("torn", 0)), int(stats.get("unfenced", 0))
    if torn or missing:
        told = f"{missing} steps without the fence, {torn} snapshots torn and thrown away"
        return violated(statement, told, "call guard.pre_step() right before optimizer.step()")
    return met(statement, "no tensor changed while it was copied")


def _few(failures: Sequence[Failure], m: int) -> Assumption:
    statement = f"at most m = {m} members of a group are lost at once"
    most = max((len(f.members) for f in failures), default=0)
    if most > m:
        return violated(
            statement, f"{most} were lost together", f"parity={most} would have survived this"
        )
    return met(statement, f"at most {most}")


def _apart(hosts: Sequence[Sequence[str]], m: int) -> Assumption:
    statement = "members of a group are lost independently of each other"
    for g, group in enumerate(hosts):
        host, shared = Counter(group).most_common(1)[0]
        if shared > 1:
            cost = (
                f": one host failure costs {shared} > m={m}" if shared > m else ", and fail with it"
            )
            return violated(
                statement,
                f"{shared} members of group {g} share host {host}{cost}",
                "spread each group over as many hosts as members",
            )
    return unchecked(
        statement, "every member has a host of its own; racks, switches and power are not known"
    )


def inmemory_certificate(
    failures: Sequence[Failure],
    stats: Mapping[str, Any],
    *,
    n: int,
    m: int,
    every: int,
    steps: int,
    hosts: Sequence[Sequence[str]],
    lag: float,
    step_seconds: float,
    rate: float,
    window: float,
    budget: float = 0.05,
    groups: int = 1,
    rho: float = 0.0,
) -> tuple[Certificate, ...]:
    """The method's guarantee on one run.

    Parameters
    ----------
    failures : sequence of Failure
        What happened.
    stats : mapping
        Fields of :class:`Stats`: stalls, torn snapshots, missed fences.
    n, m, groups : int
        Members of a group, losses survived, number of groups.
    every, steps : int
        Iterations between snapshots, and of the run.
    hosts : sequence of sequences of str
        Host of each member of each group.
    lag, step_seconds : float
        Seconds until a version is committed, and of an iteration.
    rate : float
        Failures a second of one node.
    window : float
        Seconds from a loss until it is rebuilt.
    budget : float
        Share of the time between snapshots that they may block.
    rho : float
        Correlation of losses within a group.
    """
    return (
        _exact(failures, stats, m),
        _newest(failures),
        _rollback(failures, every, lag, step_seconds, steps, m),
        _stall(stats, every, step_seconds, budget),
        survival(failures, n, m, rate, window, hosts, groups=groups, rho=rho),
    )


def _exact(failures: Sequence[Failure], stats: Mapping[str, Any], m: int) -> Certificate:
    wrong = sum(not (f.recovered and f.digest_ok) for f in failures)
    return undeclared(
        "bit-exact-recovery",
        f"every failure with at most m = {m} lost members and any trainers restores the bytes that were copied",
        f"derived here for the protocol of {PAPER}: all live keepers always hold a common version, and the code has distance m + 1",
        "<=",
        0.0,
        1.0,
        exact(float(wrong)) if failures else None,
        trivial=float(len(failures)) if failures else None,
        assumptions=(_few(failures, m), _fenced(stats)),
        inputs={
            "failures": len(failures),
            "lost members": sum(len(f.members) for f in failures),
            "m": m,
        },
        needs="a failure to recover from",
        remedy="a restored block has another checksum than it had when it was copied: suspect the memory, or a late write.",
    )


def _newest(failures: Sequence[Failure]) -> Certificate:
    restored = [f for f in failures if f.recovered and f.source in ("smp", "erasure")]
    behind = max((f.newest_common - f.version for f in restored), default=0)
    return undeclared(
        "newest-common-version",
        "what is restored is the newest version that every live keeper holds encoded",
        f"derived here: the commit rule of {PAPER}, with a lost COMMIT resolved by what keepers hold",
        "<=",
        0.0,
        1.0,
        exact(float(behind)) if restored else None,
        inputs={"restores from memory": len(restored)},
        needs="a restore from memory",
        remedy="an older version was taken: a keeper was asked before it had finished.",
    )


def _rollback(
    failures: Sequence[Failure], every: int, lag: float, step: float, steps: int, m: int
) -> Certificate:
    bound = rollback_bound(every, lag, step)
    lost = [f.last_step - f.restored_step for f in failures if f.recovered or len(f.members) <= m]
    return undeclared(
        "rollback-length",
        "a failure costs at most every + ⌈lag/τ⌉ iterations",
        "derived here: a snapshot begins every so many iterations, once the previous is committed",
        "<=",
        float(bound),
        1.0,
        exact(float(max(lost))) if lost else None,
        trivial=float(steps),
        assumptions=(_few(failures, m),),
        inputs={
            "every": every,
            "lag in s": float(lag),
            "iteration in s": float(step),
            "iterations": steps,
        },
        needs="a failure to recover from",
        remedy="commits take longer than was measured: lengthen every, or give the keepers a core of their own.",
    )


def _stall(stats: Mapping[str, Any], every: int, step: float, budget: float) -> Certificate:
    stalls = [s / 1e3 for s in stats.get("stalls_ms", ())]
    measured: Estimate | None = None
    if len(stalls) > 1 and step > 0:
        own = mean(stalls)
        value, low, high = (max(0.0, v) / (every * step) for v in (own.value, own.low, own.high))
        measured = Estimate(value, low, high, own.level, own.n, "t")
    return undeclared(
        "stall-budget",
        f"snapshots block at most {budget:.0%} of the time",
        "a budget, not a theorem: the stall is measured at both ends of a snapshot",
        "<=",
        float(budget),
        0.95,
        measured,
        trivial=1.0,
        inputs={"snapshots": len(stalls), "every": every, "iteration in s": float(step)},
        needs="at least two snapshots after the first, which allocates"
        if measured is None
        else "more snapshots",
        remedy="lengthen every, or let mode='overlap' hide the copy behind longer iterations.",
    )


def survival(
    failures: Sequence[Failure],
    n: int,
    m: int,
    rate: float,
    window: float,
    hosts: Sequence[Sequence[str]],
    *,
    groups: int = 1,
    rho: float = 0.0,
    windows: int | None = None,
) -> Certificate:
    """Whether groups survive their failures as often as the binomial (or beta-binomial) law says.

    Parameters
    ----------
    failures : sequence of Failure
    n, m, rate, window, hosts, groups, rho
        See :func:`inmemory_certificate`.
    windows : int, optional
        Exposure windows that were watched; by default one a failure.
    """
    p = -math.expm1(-float(rate) * float(window))
    bound = survival_probability(n, m, p, groups=groups, rho=rho)
    trivial = survival_probability(n, 0, p, groups=groups, rho=rho)
    watched = len(failures) if windows is None else windows
    fatal = sum(not f.recovered for f in failures)
    model: tuple[Assumption, ...] = (_apart(hosts, m),)
    if rho:
        model = (met("losses within a group are beta-binomial", f"correlation {rho:g} was given"),)
    return undeclared(
        "survival",
        f"all groups live through an exposure window with probability at least Σ_(j ≤ {m}) C({n}, j) p^j (1 − p)^({n} − j), "
        "to the power of their number"
        if not rho
        else f"the same with beta-binomial losses of correlation {rho:g}",
        f"{PAPER}, survival of sharding groups",
        ">=",
        bound,
        0.95,
        proportion(watched - fatal, watched) if watched else None,
        trivial=trivial,
        assumptions=model,
        inputs={
            "n": n,
            "m": m,
            "groups": groups,
            "p": p,
            "rho": float(rho),
            "window in s": float(window),
            "windows": watched,
        },
        needs="exposure windows: some thousand failures decide",
        remedy="nodes fail more often, or together, more than assumed: raise parity, or spread groups over racks."
        if m
        else "parity=0 survives no loss: parity=1.",
    )
