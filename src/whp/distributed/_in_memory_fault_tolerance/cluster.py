"""Ranks that are killed on purpose, and what becomes of them: the coordinator of the front door."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from whp.distributed._in_memory_fault_tolerance import client
from whp.distributed._in_memory_fault_tolerance.rank import Setting, rank_main
from whp.distributed._in_memory_fault_tolerance.theorems import Failure, same
from whp.distributed.processes import Crew, Died, Worker, interrupted_once, quiet_store, undisturbed
from whp.distributed.timeline import Event
from whp.progress import track

__all__ = ["Kill", "Run", "lose_keeper", "newest_held", "train"]

PATIENCE = 8.0


@dataclass(frozen=True)
class Kill:
    """A SIGKILL that is planned.

    Parameters
    ----------
    step, rank : int
        When that rank has finished that step,
    node : bool
        its keeper dies as well, and its memory is unlinked,
    delay : float
        so many seconds later.
    """

    step: int
    rank: int
    node: bool = False
    delay: float = 0.0


@dataclass
class Run:
    """What happened."""

    losses: dict[tuple[int, int], float] = field(default_factory=dict)
    mismatches: int = 0
    replayed: int = 0
    events: list[Event] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    reports: list[dict[str, Any]] = field(default_factory=list)
    stats: dict[str, Any] = field(default_factory=dict)
    digests: set[str] = field(default_factory=set)
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    step_seconds: list[float] = field(default_factory=list)
    seconds: float = 0.0
    fault: str = ""
    first_kill: int = 1 << 62

    def curve(self, ranks: int) -> np.ndarray:
        """Mean loss of each step."""
        steps = 1 + max((step for step, _ in self.losses), default=-1)
        return np.array(
            [
                np.mean([self.losses[s, r] for r in range(ranks) if (s, r) in self.losses])
                for s in range(steps)
            ]
        )


def lose_keeper(run: str, member: int, directory: Path) -> None:
    """Kill a keeper and unlink its memory, as the loss of its node would."""
    found = client.find(run, member, directory)
    if found is not None and client.alive(found.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(found.pid, signal.SIGKILL)
        while client.alive(found.pid):
            time.sleep(0.001)
    client.remove(run, member, directory)


def newest_held(run: str, members: int, directory: Path) -> int:
    """The newest version that every living keeper with a whole one holds, asked from outside; 0: none, −1: nobody answered."""
    held: list[set[int]] = []
    answers = 0
    for member in range(members):
        found = client.find(run, member, directory)
        if found is None or not client.alive(found.pid):
            continue
        with contextlib.suppress(OSError, EOFError):
            smp = client.SMP(found, role="control")
            told = smp.query()["held"]
            smp.close()
            answers += 1
            whole = {h["version"] for h in told if h["state"] in ("encoded", "committed")}
            if whole:
                held.append(whole)
    if not answers:
        return -1
    return max(set.intersection(*held), default=0) if held else 0


def _of_all(one: dict[str, Any], other: dict[str, Any], leads: bool) -> dict[str, Any]:
    """Statistics of two ranks: times of the one that leads, what went wrong of both, and the extremes."""
    if not one or not other:
        return one or other
    joint = dict(other if leads else one)
    worst = ("torn", "unfenced", "abandoned", "keepers_lost")
    for name in (*worst, "longest_lag_ms", "longest_period", "longest_stride"):
        joint[name] = max(one[name], other[name])
    steps = [s["shortest_step_ms"] for s in (one, other) if s["shortest_step_ms"]]
    joint["shortest_step_ms"] = min(steps, default=0.0)
    return joint


class _Coordinator:
    def __init__(
        self, crew: Crew, s: Setting, kills: Sequence[Kill], nodes: tuple[str, ...], replica: bool
    ) -> None:
        self.crew, self.s, self.nodes, self.replica = crew, s, nodes, replica
        self.plan = sorted(kills, key=lambda k: (k.step, k.rank))
        self.start = time.time()
        self.run = Run()
        self.workers = [self._fresh(rank) for rank in range(s.ranks)]
        self.generation = 0
        self.last = -1
        self.armed: list[tuple[float, Kill]] = []
        self.bars: dict[int, tuple[float, float]] = {}
        self.progress = track(range(s.steps), "training")

    def _fresh(self, rank: int) -> Worker:
        return self.crew.start(rank_main, self.s, rank, name=str(rank))

    def _join(self) -> None:
        self.run.stats = {}
        for worker in self.workers:
            worker.send(("join", self.generation, self.nodes, self.replica))
        self.generation += 1

    def _bar(self, rank: int, what: str, start: float, end: float, note: str = "") -> None:
        self.run.events.append(
            Event(f"rank {rank}", what, start - self.start, end - self.start, note)
        )

    def _flush(self, rank: int) -> None:
        if rank in self.bars:
            self._bar(rank, "work", *self.bars.pop(rank))

    def _stepped(self, rank: int, began: float, ended: float, step: int, loss: float) -> None:
        run = self.run
        if not run.losses:
            self.start = began  # what it took to start processes is not part of the run
        if (step, rank) in run.losses:
            run.replayed += 1
            run.mismatches += not same(run.losses[step, rank], loss)
        else:
            run.losses[step, rank] = loss
        run.step_seconds.append(ended - began)
        start, end = self.bars.get(rank, (began, began))
        if began - end > 0.5:
            self._flush(rank)
            start = began
        self.bars[rank] = (start, ended)
        for _ in range(self.last, step):  # steps that no rank had done before
            next(self.progress, None)
        self.last = max(self.last, step)
        due = [k for k in self.plan if k.step <= step and k.rank == rank]
        if due and not self.armed:  # kills of one step go together
            together = [k for k in self.plan if k.step == due[0].step]
            self.armed = [(time.time() + k.delay, k) for k in together]
            self.plan = [k for k in self.plan if k not in together]

    def _strike(self) -> list[Kill]:
        """Carry out what is due; the step's kills are one failure."""
        if not self.armed or time.time() < min(at for at, _ in self.armed):
            return []
        struck = [k for _, k in self.armed]
        self.armed = []
        self.run.first_kill = min(self.run.first_kill, self.last + 1)
        options = self.s.guard or {}
        for kill in struck:
            self.workers[kill.rank].kill()
        for kill in struck:
            if kill.node:
                lose_keeper(options["run"], kill.rank, Path(options["smp_dir"]))
            now = time.time()
            self._bar(kill.rank, "kill", now, now, "node" if kill.node else "rank")
        return struck

    def train(self) -> Run:
        """Until all ranks have finished, or nothing can be restored."""
        self._join()
        done: set[int] = set()
        while len(done) < self.s.ranks:
            struck = self._strike()
            if struck:
                if not self._recover(struck):
                    break
                continue
            for worker, message in self.crew.wait(self._timeout()):
                rank = int(worker.name)
                if isinstance(message, Died) or message[0] == "broken":
                    why = message.exitcode if isinstance(message, Died) else message[2:]
                    raise RuntimeError(f"rank {rank} failed although nobody killed it: {why}")
                self._heard(rank, message, done)
        for rank in range(self.s.ranks):
            self._flush(rank)
        self.run.seconds = time.time() - self.start
        for worker in self.workers:
            worker.send(("leave",))
        deadline = time.monotonic() + 10
        for worker in self.workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
        return self.run

    def _timeout(self) -> float | None:
        return max(0.0, min(at for at, _ in self.armed) - time.time()) if self.armed else None

    def _heard(self, rank: int, message: tuple[Any, ...], done: set[int]) -> None:
        if message[0] == "step":
            self._stepped(rank, *message[1:5])
        elif message[0] == "done":
            done.add(rank)
            self.run.digests.add(message[2])
            self.run.stats = _of_all(self.run.stats, message[3], rank == 0)
        elif message[0] == "weights":
            self.run.weights = message[2]
        elif message[0] == "restored" and rank == 0:
            self.run.reports.append(message[2])

    def _recover(self, struck: list[Kill]) -> bool:
        """Wait until everybody is dead or has noticed, replace the dead, and begin the next generation."""
        killed = time.time()
        dead = {k.rank for k in struck}
        noticed: set[int] = set()
        deadline = time.monotonic() + PATIENCE
        while len(dead | noticed) < self.s.ranks or not all(self.workers[r].reported for r in dead):
            if time.monotonic() > deadline:
                for rank in set(range(self.s.ranks)) - dead - noticed:
                    self.workers[rank].kill()
                    dead.add(rank)
                deadline = time.monotonic() + PATIENCE
            for worker, message in self.crew.wait(0.5):
                rank = int(worker.name)
                if isinstance(message, Died):
                    dead.add(rank)
                elif message[0] == "broken":
                    noticed.add(rank)
                else:
                    self._heard(rank, message, set())
        for rank in dead:
            self._flush(rank)
            self.crew.dismiss(self.workers[rank])
            self.workers[rank] = self._fresh(rank)
        last = self.last
        options = self.s.guard or {}
        asked = newest_held(options["run"], self.s.ranks, Path(options["smp_dir"]))
        self._join()
        restored: dict[int, tuple[float, dict[str, Any]]] = {}
        fault = ""
        while len(restored) < self.s.ranks and not fault:
            for worker, message in self.crew.wait(PATIENCE):
                rank = int(worker.name)
                if isinstance(message, Died):
                    raise RuntimeError(
                        f"rank {rank} died while it was restored, exit code {message.exitcode}"
                    )
                if message[0] == "broken":
                    fault = (
                        f"{message[2]}: {message[3]}"
                        if not fault or message[2] == "UnrecoverableError"
                        else fault
                    )
                elif message[0] == "restored":
                    restored[rank] = (message[1], message[2])
                    self._heard(rank, message, set())
                    self._flush(rank)
                    self._bar(rank, "recovery", killed, message[1], message[2].get("source", ""))
                else:
                    self._heard(rank, message, set())
        report = restored[0][1] if 0 in restored and not fault else {}
        self.run.failures.append(
            Failure(
                trainers=tuple(sorted(k.rank for k in struck)),
                members=tuple(sorted(k.rank for k in struck if k.node)),
                last_step=last,
                restored_step=report.get("step", -1),
                recovered=bool(report) and report["source"] != "fresh",
                digest_ok=report.get("digest_ok", False),
                version=report.get("version", 0),
                newest_common=asked,
                source=report.get("source", "none"),
                seconds=max((at for at, _ in restored.values()), default=time.time()) - killed,
            )
        )
        self.run.fault = fault
        return not fault


def train(
    setting: Setting,
    kills: Sequence[Kill] = (),
    *,
    nodes: Sequence[str] = (),
    replica: bool = False,
) -> Run:
    """Train with these kills.

    Parameters
    ----------
    setting : Setting
        Its port is filled in here.
    kills : sequence of Kill
    nodes : sequence of str
        Host of each rank, for the certificate.
    replica : bool
        Let ranks that lost somebody hand their live copy to the newcomer, where all are at one step.
    """
    store = quiet_store()
    with interrupted_once(), Crew() as crew:
        coordinator = _Coordinator(
            crew, replace(setting, port=store.port), kills, tuple(nodes), replica
        )
        try:
            return coordinator.train()
        finally:
            with undisturbed():
                coordinator.progress.close()
                for worker in crew.workers:
                    worker.kill()  # none may start another keeper
                if (options := setting.guard) is not None:
                    for rank in range(setting.ranks):
                        lose_keeper(options["run"], rank, Path(options["smp_dir"]))
