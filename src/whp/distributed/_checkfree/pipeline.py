"""A pipeline of processes that may be killed, one a stage: the coordinator, which watches and replaces them."""

from __future__ import annotations

import contextlib
import copy
import importlib
import math
import threading
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from whp.distributed._checkfree.compute import (
    Mark,
    device_of,
    draws_of_its_own,
    from_bytes,
    to_bytes,
)
from whp.distributed._checkfree.recovery import Transfer, UnrecoverableStageError, copies
from whp.distributed._checkfree.stage import serve
from whp.distributed._checkfree.trainer import Batch, StepResult, Trainer, _checked
from whp.distributed.processes import Crew, Died, Worker, quiet_store
from whp.distributed.timeline import Event
from whp.validate import as_int, as_real

__all__ = ["PipelineTrainer"]

Order = tuple[str, Any]
TURNS = 200  # attempts at one recovery, when processes die meanwhile
RETRIES = 10  # of one iteration: what kills a stage every time is the iteration itself
START = 120.0  # seconds that a process may take to import torch on a busy machine
GRACE = 1.0  # seconds for answers, once somebody has met a broken connection


class _Lost(Exception):
    """Somebody died or met a broken connection; nothing that was asked is known to be done."""


class _Raised(RuntimeError):
    """The user's code raised in a stage: its process lives, and the batch is forgotten."""


class PipelineTrainer(Trainer):
    """Train a model of alike stages in a pipeline of processes that may be killed at any moment.

    Parameters
    ----------
    *model, **training
        Embedding, stages, head and loss, and everything else that
        :class:`whp.distributed._checkfree.trainer.Trainer` takes.
    spares : int
        Processes that wait, warm, to take a dead one's place; with none, one is started then.
    timeout : float
        Seconds after which a stage that gives no sign of life counts as dead, is killed and is
        replaced: a stopped process, or a machine that is gone. It is also the longest that stages
        wait for each other, so that a stage's work on one batch must take less.
    backend : {"gloo"}
        What carries activations.

    Attributes
    ----------
    events_ : list of Event
        What every process did, for :func:`whp.distributed.timeline.draw_timeline`.
    recoveries : list of Recovery
        Every loss, and how it was met.
    iteration : int
        The next.

    Raises
    ------
    RuntimeError
        From ``step`` or ``evaluate``, if the model, the loss or the optimizer raised in a stage; the
        message has its traceback. The batch is forgotten, and training can go on with another.

    Examples
    --------
    ::

        with PipelineTrainer(embed, stages, head, loss_fn, lr=1e-3, mode="checkfree+") as trainer:
            for batch in batches:
                loss = trainer.step(batch).loss
    """

    def __init__(
        self,
        *model: Any,
        spares: int = 1,
        timeout: float = 10.0,
        backend: str = "gloo",
        **training: Any,
    ) -> None:
        if backend != "gloo":
            raise ValueError(f"backend must be 'gloo', got {backend!r}")
        self.spares = as_int(spares, "spares", low=0, high=64)
        self.timeout = as_real(timeout, "timeout", low=0.1, high=3600)
        super().__init__(*model, **training)
        self._dumps = _pickler()
        self._payload = self._dumps(self.setting)
        self._crew = Crew()
        self._store: Any = None
        self._generation = 0
        self._number = 0
        self._ranks: list[Worker] = []
        self._pool: list[Worker] = []
        self._warm: set[Worker] = set()
        self._broken = False
        self._rolling = False  # some stages have gone back, perhaps not all
        self._status: dict[int, tuple[int, bool]] = {}
        self._died: dict[int, float] = {}  # when it was killed, or its death noticed
        self._noticed: dict[int, float] = {}
        self._shapes: dict[tuple[Any, ...], tuple[tuple[int, ...], torch.dtype]] = {}
        self._marks: dict[int, dict[str, Mark]] = {}  # of the last commit that all reported
        self._marked_at = 0
        self._heard: dict[Worker, float] = {}
        self._began = time.monotonic()
        self._closed = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()
        self.events_: list[Event] = []
        try:
            self._ranks = [self._start() for _ in range(self.setting.stages)]
            self._pool = [self._start() for _ in range(self.spares)]
            self._await_warm(self._ranks)
            self._ask({r: ("become", self._place(r)) for r in range(self.setting.stages)})
            self._join({})
            self._reported(self._ask_all("marks", False))
            self._save_if_due()
        except _Lost:
            self.close()
            raise RuntimeError(
                "stage processes did not start: a script must do this behind `if __name__ == '__main__':`, and be a file"
            ) from None
        except BaseException:
            self.close()
            raise
        self._since = dict.fromkeys(range(self.setting.stages), 0.0)

    # What a caller does

    @property
    def pids(self) -> tuple[int, ...]:
        """Process of each stage."""
        return tuple(w.pid for w in self._ranks)

    def kill(self, stage: int) -> None:
        """SIGKILL the process of a stage."""
        worker = self._ranks[as_int(stage, "stage", low=0, high=self.setting.stages - 1)]
        self._died.setdefault(stage, self._now())
        worker.kill()
        worker.process.join()

    def step(self, batch: Batch) -> StepResult:
        """Train on one batch; stages lost meanwhile are regained, and the batch is repeated."""
        xs, ys, shares = self._split(batch)
        shapes, kind = self._messages(xs)
        before = len(self.recoveries)
        self._check_alive()
        if self._broken or self._lost:
            self._heal()
        self._save_if_due()
        for _ in range(RETRIES):
            aim = self.iteration
            try:
                answers = self._ask(self._data("step", xs, ys, shapes, kind, shares))
                _, loss, norms, _ = answers[self.setting.head]
                self._advance(aim + 1)
                self._norms = list(norms[: self.setting.stages])
                self._reported({r: a[3] for r, a in answers.items()})
            except _Lost:
                loss, norms = self._heal()
            except _Raised:
                self._heal()
                raise
            if self.iteration == aim + 1:
                made = tuple(self.recoveries[before:])
                return StepResult(aim, loss, tuple(norms[: self.setting.stages]), made)
        raise RuntimeError(
            f"iteration {self.iteration} lost a stage {RETRIES} times in a row: what it does may kill it "
            "(too little memory?)"
        )

    def evaluate(self, batches: Iterable[Batch]) -> float:
        """Mean loss of batches, in the normal order and without dropout."""
        return fmean(self.losses(batches))

    def losses(self, batches: Iterable[Batch], *, rows: bool = False) -> list[float]:
        """Loss of each batch, or of each of its rows, in the normal order and without dropout."""
        held = [_checked(b) for b in batches]
        if not held:
            raise ValueError("batches must hold at least one batch, got none")
        shapes, kind = self._messages([x for x, _ in held])
        xs, ys = ([pair[i] for pair in held] for i in range(2))
        orders = self._data("evaluate", xs, ys, shapes, kind, rows)
        return self._surely(lambda: self._ask(orders))[self.setting.head]

    def marks(self) -> dict[int, dict[str, Mark]]:
        """Of each stage's units: when they began, updates since then, and with audit their digests."""
        return self._surely(lambda: self._ask_all("marks", self.audit))

    def close(self) -> None:
        """End all processes."""
        if hasattr(self, "_closed"):
            self._closed.set()
        self._crew.close()
        for rank, since in getattr(self, "_since", {}).items():
            self.events_.append(Event(f"stage {rank}", "work", since, self._now()))
        self._since = {}
        super().close()

    # Orders and answers

    def _now(self) -> float:
        return time.monotonic() - self._began

    def _start(self) -> Worker:
        return self._crew.start(
            serve, self._payload, self.timeout, name=f"stage-{len(self._crew.workers)}"
        )

    def _place(self, rank: int) -> bytes:
        kept = {
            name: self._modules[owner][name]
            for name, (owner, keeper) in copies(
                self.setting.stages, self.setting.mode, self.setting.tied
            ).items()
            if keeper == rank
        }
        return self._dumps((rank, self._modules[rank], kept))

    def _messages(self, xs: list[Tensor]) -> tuple[list[tuple[int, ...]], torch.dtype]:
        """Shapes of what stages send each other for these inputs, and of what kind the numbers are."""
        found = [self._message(x) for x in xs]
        return [shape for shape, _ in found], found[0][1]

    def _message(self, x: Tensor) -> tuple[tuple[int, ...], torch.dtype]:
        key = (*x.shape[1:], x.dtype)
        if key not in self._shapes:
            probe = copy.deepcopy(
                self._first
            ).eval()  # one row tells a layer of running means nothing
            device = device_of(probe)
            with torch.no_grad(), draws_of_its_own(device):
                out = probe(x[:1].to(device))
            self._shapes[key] = (tuple(out.shape[1:]), out.dtype)
        shape, kind = self._shapes[key]
        return (len(x), *shape), kind

    def _data(self, kind: str, xs: list[Tensor], ys: list[Tensor], *more: Any) -> dict[int, Order]:
        """Orders to work on a batch: inputs go to the embedding, targets to the head, shapes to all."""
        x, y = (to_bytes([t.detach().cpu().clone() for t in ts]) for ts in (xs, ys))
        head = self.setting.head
        return {
            r: (kind, (x if r == 0 else None, y if r == head else None, *more))
            for r in range(self.setting.stages)
        }

    def _states(self, ranks: Collection[int] | None = None) -> dict[int, bytes]:
        chosen = list(range(self.setting.stages) if ranks is None else ranks)
        ask = lambda: self._ask(dict.fromkeys(chosen, ("state", None)))  # noqa: E731
        return self._surely(ask) if ranks is None else ask()

    def _weights(self, ranks: Collection[int]) -> dict[int, dict[str, Tensor]]:
        told = self._ask(dict.fromkeys(ranks, ("weights", None))) if ranks else {}
        return {r: from_bytes(data) for r, data in told.items()}

    def _surely(self, ask: Callable[[], Any]) -> Any:
        for _ in range(RETRIES):
            self._check_alive()
            if self._broken or self._lost:
                self._heal()
            try:
                return ask()
            except _Lost:
                continue
            except _Raised:
                self._heal()
                raise
        raise RuntimeError(f"stages were lost {RETRIES} times in a row while they were asked")

    def _ask_all(self, kind: str, body: Any) -> dict[int, Any]:
        return self._ask(dict.fromkeys(range(self.setting.stages), (kind, body)))

    def _advance(self, iteration: int) -> None:
        """All stages have committed what is before `iteration`."""
        self.committed += range(self.iteration, iteration)
        self.iteration = iteration

    def _reported(self, marks: dict[int, dict[str, Mark]]) -> None:
        self._marks, self._marked_at = marks, self.iteration

    def _post(self, worker: Worker, message: Any) -> None:
        """Send; a stopped process may not read, which the watch knows."""
        self._crew.busy = (worker, time.monotonic())
        try:
            worker.send(message)
        finally:
            self._crew.busy = None

    def _watch(self) -> None:
        """Kill a process that was stopped in the middle of a message, on which the caller waits."""
        while not self._closed.wait(self.timeout / 5):
            busy = self._crew.busy
            if busy is not None:
                worker, since = busy
                silent = time.monotonic() - since
                if silent > self.timeout and (_stopped(worker.pid) or silent > 30 * self.timeout):
                    self._silent(worker, since - self._began)
                    worker.kill()

    def _silent(self, worker: Worker, since: float) -> None:
        """Its death is reckoned from its last sign of life."""
        if (rank := self._rank_of(worker)) is not None:
            self._died.setdefault(rank, since)

    def _ask(self, orders: dict[int, Order]) -> dict[int, Any]:
        """Send orders and wait for all answers.

        Raises
        ------
        _Lost
            If somebody died, gave no sign of life or met a broken connection; once all others have
            answered.
        _Raised
            If the user's code raised somewhere; once all others have answered.
        """
        try:
            return self._asked(orders)
        except (_Lost, _Raised):
            raise
        except BaseException:  # Ctrl-C: answers that come later belong to no question
            self._broken = True
            raise

    def _asked(self, orders: dict[int, Order]) -> dict[int, Any]:
        self._number += 1
        waiting = {self._ranks[rank]: rank for rank in orders}
        for rank, (kind, body) in orders.items():
            self._post(self._ranks[rank], (self._number, kind, body))
        answers: dict[int, Any] = {}
        raised: dict[int, str] = {}
        failed: float | None = None
        for worker in [w for w in waiting if w.reported or w not in self._crew.workers]:
            self._bury(waiting.pop(worker))
            failed = self._now()
        began = self._now()
        self._heard = dict.fromkeys(waiting, began)
        poll = min(0.1, self.timeout / 10)
        while waiting:
            before = self._now()
            for worker, message in self._crew.wait(poll):
                rank = self._rank_of(worker)
                if isinstance(message, Died):
                    waiting.pop(worker, None)
                    if rank is None:
                        self._drop_spare(worker)
                    else:
                        self._bury(rank)
                        if rank in orders and rank not in answers:
                            failed = failed or self._now()
                    continue
                self._heard[worker] = self._now()
                number, verdict, value, iteration, pending = message
                if number == 0:
                    self._warm.add(worker)
                if rank is None or number != self._number:
                    continue
                self._status[rank] = (iteration, pending)
                waiting.pop(worker, None)
                if verdict == "raised":
                    raised[rank] = value
                elif verdict == "broken":
                    failed = failed or self._now()
                else:
                    answers[rank] = value
            if failed or raised:
                self._broken = True
                self._store = None  # wakes those who wait in it
            self._bury_silent(waiting, before, began, failed)
        if raised:
            rank = min(raised)
            raise _Raised(f"stage {rank} raised:\n{raised[rank]}")
        if failed:
            self._broken = True
            raise _Lost
        return answers

    def _bury_silent(
        self, waiting: dict[Worker, int], before: float, began: float, failed: float | None
    ) -> None:
        """Kill those of whom nothing was heard for too long."""
        now = self._now()
        if now - before > 2 + self.timeout / 2:  # this very process was stopped: it heard nobody
            self._heard = dict.fromkeys(self._heard, now)
            return
        for worker in list(waiting):
            since = self._heard.get(worker, now)
            # One that beats but does not answer hangs, if those who wait for it have given up.
            hangs = failed and now > max(began + self.timeout, failed + GRACE)
            if now - since > self.timeout or hangs:
                self._silent(worker, began if hangs else since)
                worker.kill()

    def _rank_of(self, worker: Worker) -> int | None:
        return self._ranks.index(worker) if worker in self._ranks else None

    def _check_alive(self) -> None:
        if not self._crew.workers:
            raise RuntimeError("the trainer is closed")
        for rank, worker in enumerate(self._ranks):
            if not worker.alive:
                self._bury(rank)

    def _bury(self, rank: int) -> None:
        now = self._now()
        self._lost.add(rank)
        self._died.setdefault(rank, now)
        self._noticed.setdefault(rank, now)

    def _drop_spare(self, worker: Worker) -> None:
        if worker in self._pool:
            self._pool.remove(worker)
        self._warm.discard(worker)
        self._crew.dismiss(worker)

    def _await_warm(self, workers: Iterable[Worker]) -> None:
        for worker in workers:
            end = self._now() + START + self.timeout
            while worker not in self._warm and worker.alive:
                if self._now() > end:
                    worker.kill()
                for told, message in self._crew.wait(1.0):
                    if isinstance(message, Died):
                        if (rank := self._rank_of(told)) is None:
                            self._drop_spare(told)
                        else:
                            self._bury(rank)
                    elif message[0] == 0:
                        self._warm.add(told)

    # Recovery

    def _join(self, commits: dict[int, bool]) -> None:
        """Form the next generation. It has a store of its own: closing that wakes those who wait for one that died meanwhile."""
        self._generation += 1
        self._store = quiet_store()
        place = (self._generation, self._store.port)
        self._ask(
            {r: ("join", (*place, commits.get(r, False))) for r in range(self.setting.stages)}
        )

    def _heal(self) -> tuple[float, list[float]]:
        """Bring all stages to one iteration with somebody on every rank; returns loss and norms of the last batch.

        May take several turns, if more die meanwhile. A stage counts as lost until the turn that regains it is complete: only
        weights from before the failure are used.
        """
        for _ in range(TURNS):
            with contextlib.suppress(_Lost):
                told = self._turn()
                self._broken = False
                return told
        raise RuntimeError(f"stages {sorted(self._lost)} could not be replaced in {TURNS} attempts")

    def _turn(self) -> tuple[float, list[float]]:
        self._check_alive()
        stages = self.setting.stages
        # Where they are now: what was asked before may have been answered when nobody listened.
        self._ask({r: ("status", None) for r in range(stages) if r not in self._lost})
        lost = set(self._lost)
        survivors = [r for r in range(stages) if r not in lost]
        how, transfers, reason = self._decide(lost) if lost else ("", [], "")
        if self._rolling:
            how, transfers = "rolled back", self._all_copies()
        if not survivors and how != "rolled back":
            raise UnrecoverableStageError("all stages were lost together")
        top = max((self._status[r][0] for r in survivors), default=self.iteration)
        commits = {r: self._status[r] == (top - 1, True) for r in survivors}
        for rank in lost:
            if self._ranks[rank].reported or not self._ranks[rank].alive:
                self._replace(rank)
        if lost:
            self._ask({r: ("become", self._place(r)) for r in lost})
        self._join(commits)
        told = self._ask(dict.fromkeys(survivors, ("last", None))).values() if survivors else ()
        last, loss, known = max(told, key=lambda v: v[0], default=(-1, math.nan, []))
        if last == top - 1 and top > self.iteration:  # agreed on, and the answers never came
            self._norms = list(known[:stages])
        at, rolled = top, how == "rolled back"
        audited = self.audit and bool(lost) and not rolled
        averages = self._averages(transfers) if audited else []
        before = self._weights({s for t in averages for s in t.sources})
        # Counted once this turn is complete: more may die meanwhile, and these are lost once.
        failures = self._failures | {rank: self._failures.get(rank, 0) + 1 for rank in lost}
        if rolled:
            assert self._vault is not None
            states = {r: self._vault.read(r) for r in range(stages)}
            self._rolling = True
            self._ask({r: ("load", states[r]) for r in range(stages)})
            top, self._norms = self._vault.iteration, list(self._vault.norms)
        if transfers or rolled:
            order = ("rebuild", (top, transfers, failures))
            self._ask(dict.fromkeys(range(stages), order))
        marks = self._ask_all("marks", audited)
        seen: dict[str, Any] = {}
        if audited:
            was: dict[str, tuple[str, ...]] = {}
            for rank in lost if self._marked_at == top else ():
                was |= {name: m.committed for name, m in self._marks[rank].items()}
            after = self._weights([t.to for t in averages])
            seen = self._inspect(transfers, lost, before, after, was, marks)
        for rank in lost:
            self._count_lost(self._marks[rank], self._marked_at)
        if rolled:
            self.iteration = top
        else:
            self._advance(top)
        self._reported(marks)
        if lost:
            self._tell(how, at, transfers, lost, reason=reason, **seen)
            if not rolled:
                self._regained(transfers)
        self._lost -= lost
        self._failures = failures
        self._rolling = False
        self._pool += [self._start() for _ in range(self.spares - len(self._pool))]
        return loss, known

    def _replace(self, rank: int) -> None:
        """Give a dead stage's place to a spare, or to a process started now."""
        dead = self._ranks[rank]
        self._warm.discard(dead)
        if dead in self._crew.workers:
            self._crew.dismiss(dead)
        if not self._pool:
            self._pool.append(self._start())
        warm = [w for w in self._pool if w in self._warm]
        self._ranks[rank] = (warm or self._pool)[0]
        self._pool.remove(self._ranks[rank])
        self._await_warm([self._ranks[rank]])

    def _tell(
        self, how: str, at: int, transfers: list[Transfer], lost: set[int], **more: Any
    ) -> None:
        """Record a recovery that is complete."""
        now = self._now()
        died = min(self._died[r] for r in lost)
        noticed = min(self._noticed[r] for r in lost)
        for rank in lost:
            name, then = f"stage {rank}", self._died.pop(rank)
            self._noticed.pop(rank)
            self.events_ += [
                Event(name, "work", self._since[rank], then),
                Event(name, "kill", then, then, f"iteration {at}"),
                Event(name, "recovery", then, now, how),
            ]
            self._since[rank] = now
        waits = [
            Event(f"stage {r}", "waiting", noticed, now)
            for r in range(self.setting.stages)
            if r not in lost
        ]
        self.events_ += waits
        self._note(
            how, at, transfers, lost, detection=max(noticed - died, 0.0), seconds=now - died, **more
        )


def _stopped(pid: int) -> bool:
    """Whether a process is stopped; not known where there is no /proc."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rsplit(")", 1)[1].split()[0] in "Tt"


def _pickler() -> Callable[[Any], bytes]:
    """Pickles what a notebook defines, too; joblib brings it along, or asks for it."""
    try:
        return importlib.import_module("cloudpickle").dumps
    except ImportError:
        return importlib.import_module("joblib.externals.cloudpickle").dumps
