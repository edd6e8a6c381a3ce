"""A pipeline of processes that may be killed, one a stage: the coordinator, which watches and replaces them."""

from __future__ import annotations

import contextlib
import importlib
import math
import time
from collections.abc import Callable, Collection, Iterable
from typing import Any

import torch
from torch import Tensor

from whp.distributed.checkfree.compute import to_bytes
from whp.distributed.checkfree.recovery import Transfer, UnrecoverableStageError, copies
from whp.distributed.checkfree.stage import serve
from whp.distributed.checkfree.trainer import Batch, StepResult, Trainer, _checked
from whp.distributed.processes import Crew, Died, Worker, quiet_store
from whp.distributed.timeline import Event
from whp.validate import as_int, as_real

__all__ = ["PipelineTrainer"]

Order = tuple[str, Any]
TURNS = 200  # attempts at one recovery, when processes die meanwhile


class _Lost(Exception):
    """Somebody died or met a broken connection; nothing that was asked is known to be done."""


class PipelineTrainer(Trainer):
    """Train a model of alike stages in a pipeline of processes that may be killed at any moment.

    Parameters
    ----------
    *model, **training
        Embedding, stages, head and loss, and everything else that :class:`whp.distributed.checkfree.trainer.Trainer` takes.
    spares : int
        Processes that wait, warm, to take a dead one's place; with none, one is started then.
    timeout : float
        Seconds after which a peer that does not answer counts as dead.
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
        self._shapes: dict[tuple[int, ...], tuple[int, ...]] = {}
        self._began = time.monotonic()
        self.events_: list[Event] = []
        try:
            self._ranks = [self._start() for _ in range(self.setting.stages)]
            self._pool = [self._start() for _ in range(self.spares)]
            self._await_warm(self._ranks)
            self._ask({r: ("become", self._place(r)) for r in range(self.setting.stages)})
            self._join({})
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
        shapes = [self._shape(x) for x in xs]
        before = len(self.recoveries)
        self._check_alive()
        if self._broken or self._lost:
            self._heal()
        self._save_if_due()
        while True:
            aim = self.iteration
            try:
                _, loss, norms = self._ask(self._data("step", xs, ys, shapes, shares))[
                    self.setting.head
                ]
                self.iteration = aim + 1
            except _Lost:
                loss, norms = self._heal()
            if self.iteration == aim + 1:
                return StepResult(
                    aim, loss, tuple(norms[: self.setting.stages]), tuple(self.recoveries[before:])
                )

    def evaluate(self, batches: Iterable[Batch]) -> float:
        """Mean loss of batches, in the normal order and without dropout."""
        held = [_checked(b) for b in batches]
        if not held:
            raise ValueError("batches must hold at least one batch, got none")
        xs, ys = [x for x, _ in held], [y for _, y in held]
        shapes = [self._shape(x) for x in xs]
        losses = self._surely(lambda: self._ask(self._data("evaluate", xs, ys, shapes)))[
            self.setting.head
        ]
        return sum(losses) / len(losses)

    def close(self) -> None:
        """End all processes."""
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

    def _shape(self, x: Tensor) -> tuple[int, ...]:
        key = tuple(x.shape[1:])
        if key not in self._shapes:
            with torch.no_grad():
                self._shapes[key] = tuple(self._first(x[:1]).shape[1:])
        return (len(x), *self._shapes[key])

    def _data(self, kind: str, xs: list[Tensor], ys: list[Tensor], *more: Any) -> dict[int, Order]:
        """Orders to work on a batch: inputs go to the embedding, targets to the head, shapes to all."""
        x, y = to_bytes([t.clone() for t in xs]), to_bytes([t.clone() for t in ys])
        head = self.setting.head
        return {
            r: (kind, (x if r == 0 else None, y if r == head else None, *more))
            for r in range(self.setting.stages)
        }

    def _states(self, ranks: Collection[int] | None = None) -> dict[int, bytes]:
        chosen = list(range(self.setting.stages) if ranks is None else ranks)
        ask = lambda: self._ask(dict.fromkeys(chosen, ("state", None)))  # noqa: E731
        return self._surely(ask) if ranks is None else ask()

    def _surely(self, ask: Callable[[], Any]) -> Any:
        while True:
            self._check_alive()
            if self._broken or self._lost:
                self._heal()
            with contextlib.suppress(_Lost):
                return ask()

    def _ask(self, orders: dict[int, Order]) -> dict[int, Any]:
        """Send orders and wait for all answers; a death or a broken connection is told as a loss, once all have answered."""
        self._number += 1
        waiting = {}
        for rank, (kind, body) in orders.items():
            worker = self._ranks[rank]
            waiting[worker] = rank
            worker.send((self._number, kind, body))
        answers: dict[int, Any] = {}
        failed: float | None = None
        for worker in [w for w in waiting if w.reported or w not in self._crew.workers]:
            self._bury(waiting.pop(worker))
            failed = self._now()
        while waiting:
            for worker, message in self._crew.wait(0.1 if failed else 1.0):
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
                number, verdict, value, iteration, pending = message
                if number == 0:
                    self._warm.add(worker)
                if rank is None or number != self._number:
                    continue
                self._status[rank] = (iteration, pending)
                waiting.pop(worker, None)
                if verdict == "raised":
                    self.close()
                    raise RuntimeError(f"stage {rank} raised:\n{value}")
                if verdict == "broken":
                    self._broken, failed = True, failed or self._now()
                else:
                    answers[rank] = value
            if failed:
                self._store = None
            if failed and self._now() - failed > self.timeout + 2:
                for worker in list(waiting):
                    worker.kill()  # it hangs
        if failed:
            self._broken = True
            raise _Lost
        return answers

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
            while worker not in self._warm and worker.alive:
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
        lost, stages = set(self._lost), self.setting.stages
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
        _, loss, known = max(told, key=lambda v: v[0], default=(-1, math.nan, []))
        at, rolled = top, how == "rolled back"
        before = self._states(survivors) if self.audit and lost and not rolled else {}
        for rank in lost:
            self._failures[rank] = self._failures.get(rank, 0) + 1
        if rolled:
            assert self._vault is not None
            self._rolling = True
            self._ask({r: ("load", self._vault.read(r)) for r in range(stages)})
            top = self._vault.iteration
        if transfers or rolled:
            order = ("rebuild", (top, transfers, self._failures))
            self._ask(dict.fromkeys(range(stages), order))
        seen = self._inspect(transfers, lost, before, self._states(range(stages))) if before else {}
        self.iteration = top
        if lost:
            self._tell(
                how, at, transfers, lost, dict(enumerate(known[:stages])), reason=reason, **seen
            )
        self._lost -= lost
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
        self,
        how: str,
        at: int,
        transfers: list[Transfer],
        lost: set[int],
        norms: dict[int, float],
        **more: Any,
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
            how,
            at,
            transfers,
            lost,
            norms,
            detection=max(noticed - died, 0.0),
            seconds=now - died,
            **more,
        )


def _pickler() -> Callable[[Any], bytes]:
    """Pickles what a notebook defines, too; joblib brings it along, or asks for it."""
    try:
        return importlib.import_module("cloudpickle").dumps
    except ImportError:
        return importlib.import_module("joblib.externals.cloudpickle").dumps
