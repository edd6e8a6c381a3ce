"""The front door: a text in; a character model trained by ranks that were killed, and what their deaths cost."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pandas as pd

from whp.certificate import Certificate
from whp.distributed.in_memory_fault_tolerance.guarantee import inmemory_certificate
from whp.distributed.timeline import Event, draw_timeline
from whp.intervals import exact
from whp.io import Data
from whp.result import Result
from whp.undeclared import met, unchecked, undeclared
from whp.validate import as_choice, as_int, as_real

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["InMemoryResult", "in_memory_fault_tolerance"]


@dataclass(frozen=True, eq=False)
class InMemoryResult(Result):
    """A training run through real failures.

    Attributes
    ----------
    losses : ndarray, shape (steps,)
        Mean loss of each step, in nats a character, at its first run.
    finished : bool
        Whether training came to its end; if not, `fault` says why.
    failures : DataFrame
        Of each failure: ranks killed, members lost, where the state came from, steps and seconds lost.
    restores : int
        Restores that succeeded.
    stall_ms, copy_ms, encode_ms : float
        Median milliseconds of a snapshot that the trainer waited, that copying took, and until it was encoded and committed.
    step_ms : float
        Median milliseconds of an iteration.
    overhead : float
        Bytes of parity a byte of state.
    events : tuple of Event
        For the picture.
    weights : dict of str to ndarray
        Of the trained model.
    """

    losses: np.ndarray
    finished: bool
    fault: str
    failures: pd.DataFrame
    restores: int
    replayed_steps: int
    stall_ms: float
    copy_ms: float
    encode_ms: float
    step_ms: float
    state_bytes: int
    overhead: float
    seconds: float
    events: tuple[Event, ...] = field(repr=False)
    weights: dict[str, np.ndarray] = field(repr=False)
    vocab: str = field(repr=False)
    certificates: tuple[Certificate, ...] = ()

    def summary(self) -> dict[str, bool | int | float | str | None]:
        """How it ended, what failures cost and what snapshots did."""
        lost = self.failures["steps_lost"]
        return {
            "finished": self.finished,
            **({"fault": self.fault} if self.fault else {}),
            "final_loss": float(self.losses[-10:].mean()) if len(self.losses) else None,
            "failures": len(self.failures),
            "restores": self.restores,
            "steps_lost": f"{lost.mean():.1f} a failure, {lost.max()} at most"
            if len(lost)
            else "0",
            "recovery_seconds": f"{self.failures['seconds'].median():.2f}" if len(lost) else "",
            "stall_ms": self.stall_ms,
            "copy_ms": self.copy_ms,
            "encode_ms": self.encode_ms,
            "step_ms": self.step_ms,
            "state_bytes": self.state_bytes,
            "parity_overhead": self.overhead,
            "seconds": self.seconds,
        }

    def artifacts(self) -> dict[str, Any]:
        """Losses, failures and weights."""
        from safetensors.numpy import save_file

        return {
            "arrays.npz": {"losses": self.losses},
            "failures.csv": self.failures,
            "model.safetensors": lambda path: save_file(
                {k: np.ascontiguousarray(v) for k, v in self.weights.items()}, path
            ),
        }

    def plot(self, ax: Axes | None = None) -> Axes:
        """What every rank did over time, with its deaths."""
        if ax is None:
            import matplotlib.pyplot as plt

            ax = plt.subplots()[1]
        rows = sorted({e.who for e in self.events}, key=lambda who: int(who.split()[-1]))
        return draw_timeline(self.events, ax, rows)


def in_memory_fault_tolerance(
    text: Annotated[str, Data("text")],
    *,
    ranks: int = 4,
    parity: int = 1,
    steps: int = 120,
    kills: int | Sequence[Sequence[int]] = 3,
    node_kills: int | Sequence[Sequence[int]] = 1,
    every: int | None = None,
    codec: str = "auto",
    mode: str = "overlap",
    replica: bool = False,
    reference: bool = True,
    dim: int = 64,
    layers: int = 2,
    context: int = 64,
    batch: int | None = None,
    lr: float = 3e-3,
    dropout: float = 0.1,
    nodes: Sequence[str] | None = None,
    failure_rate: float | None = None,
    budget: float = 0.05,
    smp_dir: str | Path = "/dev/shm",
    rng: np.random.Generator | int | None = None,
) -> InMemoryResult:
    """Train a small character model on several ranks, kill some of them, and bring each back from the others' memory.

    Ranks are processes that talk over gloo; kills are SIGKILLs. For a loop of one's own take :class:`SnapshotGuard`.

    Parameters
    ----------
    text : str
        What to learn.
    ranks : int
        Processes that train; each has its own keeper of memory, as if it were a node.
    parity : int
        Members whose memory may be lost at once.
    steps : int
        Iterations.
    kills : int or sequence of (step, rank)
        Ranks that are killed: so many at random moments, or these.
    node_kills : int or sequence of (step, rank)
        Ranks that are killed together with their keeper, whose memory is unlinked. Those of one step go together.
    every : int, optional
        Iterations between snapshots; by default Young's optimum.
    codec : {"auto", "power", "cauchy", "replica"}
        Erasure code, or whole copies as a baseline.
    mode : {"overlap", "sync"}
        Copy while training goes on, or at once.
    replica : bool
        Let survivors hand over their live state where it is consistent, which loses no step.
    reference : bool
        Train once more without failures, to compare weights bit for bit.
    dim, layers, context, batch : int
        Of the model, and windows of all ranks together in an iteration, by default four a rank.
    lr, dropout : float
        Of AdamW and of the blocks.
    nodes : sequence of str, optional
        Host of each rank; by default hosts of their own are simulated.
    failure_rate : float
        Failures a second of the whole job. By default one an hour for the survival probability, and for `every` as many as are
        planned here, at 20 iterations a second.
    budget : float
        Share of time that snapshots may block.
    smp_dir : str or Path
        A memory file system.
    rng : Generator or int, optional
        Source of randomness.

    Returns
    -------
    InMemoryResult

    Raises
    ------
    TypeError, ValueError
        If an argument is not what is accepted; the message names it.
    """
    import torch

    from whp.distributed.char_lm import encode, vocabulary
    from whp.distributed.in_memory_fault_tolerance.cluster import train
    from whp.distributed.in_memory_fault_tolerance.codes import ErasureGroup
    from whp.distributed.in_memory_fault_tolerance.rank import Setting

    if not isinstance(text, str):
        raise TypeError(f"text must be a string, got {type(text).__name__}")
    ranks, steps = as_int(ranks, "ranks", low=1, high=64), as_int(steps, "steps", low=2)
    context = as_int(context, "context", low=1)
    batch = 4 * ranks if batch is None else as_int(batch, "batch", low=1)
    dim, layers = as_int(dim, "dim", low=16), as_int(layers, "layers", low=1)
    if len(text) <= context + 1:
        raise ValueError(
            f"text must be longer than one window of {context} + 1 characters, got {len(text)}"
        )
    if batch % ranks:
        raise ValueError(f"batch must be a multiple of ranks, got {batch} and {ranks}")
    if dim % 16:
        raise ValueError(f"dim must be a multiple of 16, got {dim}")
    if as_int(parity, "parity", low=0) >= ranks:
        raise ValueError(f"parity must be less than ranks, got {parity} and {ranks}")
    code = ErasureGroup(ranks, parity, codec)
    as_choice(mode, "mode", ("overlap", "sync"))
    if every is not None:
        as_int(every, "every", low=1)
    if not Path(smp_dir).is_dir():
        raise ValueError(f"smp_dir must be a directory in memory, got {smp_dir}")
    rate = (
        1 / 3600
        if failure_rate is None
        else as_real(failure_rate, "failure_rate", low=0, high=1e6, open_ends=True)
    )
    share = as_real(budget, "budget", low=0, high=1)
    if nodes is not None and len(nodes) != ranks:
        raise ValueError(f"nodes must name the host of each of {ranks} ranks, got {len(nodes)}")
    hosts = tuple(nodes) if nodes is not None else tuple(f"node {i}" for i in range(ranks))
    generator = np.random.default_rng(rng)
    plan = _planned(kills, "kills", False, ranks, steps, generator) + _planned(
        node_kills, "node_kills", True, ranks, steps, generator
    )
    vocab = vocabulary(text)
    options = {
        "run": f"demo{secrets.token_hex(4)}",
        "parity": parity,
        "every": every,
        "codec": codec,
        "mode": mode,
        "smp_dir": str(smp_dir),
        "linger": 120.0,
        "failure_rate": 20 * max(1, len(plan)) / steps if failure_rate is None else rate,
    }
    setting = Setting(
        tokens=encode(text, vocab).to(torch.int64),
        vocab=len(vocab),
        dim=dim,
        layers=layers,
        heads=dim // 16,
        context=context,
        batch=batch,
        lr=as_real(lr, "lr", low=0, high=10),
        dropout=as_real(dropout, "dropout", low=0, high=0.99),
        steps=steps,
        seed=int(generator.integers(2**31)),
        ranks=ranks,
        guard=options,
        port=0,
    )
    run = train(setting, plan, nodes=hosts, replica=replica)
    undisturbed = train(replace(setting, guard=None)) if reference and not run.fault else None
    return _result(run, undisturbed, setting, code, hosts, nodes is None, rate, share, vocab, every)


def _planned(
    given: Any, argument: str, node: bool, ranks: int, steps: int, generator: np.random.Generator
) -> list[Any]:
    from whp.distributed.in_memory_fault_tolerance.cluster import Kill

    if not isinstance(given, Sequence):
        count = as_int(given, argument, low=0, high=max(0, steps // 4))
        # in strata, so that two kills seldom meet; never before a first snapshot can have been committed
        at = 4 + (steps - 6) * (np.arange(count) + generator.random(count)) / max(count, 1)
        pairs = [(int(step), int(generator.integers(ranks))) for step in at]
    else:
        try:
            pairs = [(int(step), int(rank)) for step, rank in given]
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"{argument} must be a number or (step, rank) pairs, got {given!r}"
            ) from error
    for step, rank in pairs:
        if not (0 <= step < steps - 1 and 0 <= rank < ranks):
            raise ValueError(
                f"{argument} must have steps in 0..{steps - 2} and ranks in 0..{ranks - 1}, got ({step}, {rank})"
            )
    return [Kill(step, rank, node, float(0.05 * generator.random())) for step, rank in pairs]


def _result(
    run: Any,
    undisturbed: Any,
    s: Any,
    code: Any,
    hosts: tuple[str, ...],
    simulated: bool,
    rate: float,
    budget: float,
    vocab: str,
    every: int | None,
) -> InMemoryResult:
    stats = run.stats
    step_seconds = float(np.median(run.step_seconds)) if run.step_seconds else 0.0
    middle = {
        k: float(np.median(stats.get(k) or [0.0])) for k in ("stalls_ms", "copies_ms", "lags_ms")
    }
    lag = (max(stats.get("lags_ms") or [0.0]) + max(stats.get("copies_ms") or [0.0])) / 1e3
    period = every or int(stats.get("longest_period", 0)) or 1
    window = max([f.seconds for f in run.failures], default=0.0) + period * step_seconds
    certificates = inmemory_certificate(
        run.failures,
        stats,
        n=s.ranks,
        m=code.m,
        every=period,
        steps=s.steps,
        hosts=[hosts],
        lag=lag,
        step_seconds=step_seconds,
        rate=rate / s.ranks,
        window=window,
        budget=budget,
    )
    certificates += (_same(run, undisturbed, s),)
    rows = [
        {
            "ranks_killed": " ".join(map(str, f.trainers)),
            "members_lost": " ".join(map(str, f.members)),
            "source": f.source,
            "last_step": f.last_step,
            "restored_step": f.restored_step,
            "steps_lost": f.last_step - f.restored_step,
            "seconds": f.seconds,
            "digest_ok": f.digest_ok,
        }
        for f in run.failures
    ]
    columns = [
        "ranks_killed",
        "members_lost",
        "source",
        "last_step",
        "restored_step",
        "steps_lost",
        "seconds",
        "digest_ok",
    ]
    return InMemoryResult(
        losses=run.curve(s.ranks),
        finished=not run.fault,
        fault=run.fault,
        failures=pd.DataFrame(rows, columns=columns),
        restores=sum(f.recovered for f in run.failures),
        replayed_steps=run.replayed // max(1, s.ranks),
        stall_ms=middle["stalls_ms"],
        copy_ms=middle["copies_ms"],
        encode_ms=middle["lags_ms"],
        step_ms=1e3 * step_seconds,
        state_bytes=int(stats.get("state_bytes", 0)),
        overhead=code.overhead,
        seconds=run.seconds,
        events=tuple(run.events),
        weights=run.weights,
        vocab=vocab,
        certificates=certificates,
    )


def _same(run: Any, undisturbed: Any, s: Any) -> Certificate:
    """Whether what was computed again, and in the end the weights, are what they would have been without failures."""
    wrong: int | None = None
    if not run.fault:
        wrong = int(run.mismatches) + (len(run.digests) - 1)
        if undisturbed is not None:
            wrong += int(undisturbed.digests != run.digests)
    known = unchecked(
        "one processor computes the same sum twice", "deterministic kernels on one machine"
    )
    return undeclared(
        "same-as-undisturbed",
        "losses of steps that were run again, and the trained weights, are bit for bit those of a run without failures",
        "derived here: parameters, moments, generators and data position are one consistent version",
        "<=",
        0.0,
        1.0,
        None if wrong is None else exact(float(wrong)),
        assumptions=(
            known
            if undisturbed is not None
            else met("steps that were run again are compared with themselves"),
        ),
        inputs={
            "steps run again": run.replayed // max(1, s.ranks),
            "compared with a run without failures": undisturbed is not None,
        },
        needs="a run that came to its end",
        remedy="something that training depends on is not in the state: a generator, a sampler's position, a scheduler.",
    )
