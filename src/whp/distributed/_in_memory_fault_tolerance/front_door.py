"""The front door: a text in; a character model trained by ranks that were killed, and what their deaths cost."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd

from whp.certificate import Certificate
from whp.distributed._in_memory_fault_tolerance.result import InMemoryResult
from whp.distributed._in_memory_fault_tolerance.stats import Stats
from whp.distributed._in_memory_fault_tolerance.theorems import (
    Pace,
    Watch,
    differences,
    exact_recovery,
    newest_common,
    rollback,
    same_as_undisturbed,
    stall_budget,
    survival,
)
from whp.io import Data
from whp.validate import as_bool, as_choice, as_int, as_real

__all__ = ["in_memory_fault_tolerance"]


def in_memory_fault_tolerance(
    text: Annotated[str, Data("text")],
    *,
    ranks: int = 4,
    parity: int = 1,
    steps: int = 120,
    kills: int | Sequence[Sequence[int]] = 3,
    node_kills: int | Sequence[Sequence[int]] = 1,
    every: int | None = None,
    codec: Literal["auto", "power", "cauchy", "replica"] = "auto",
    mode: Literal["overlap", "sync"] = "overlap",
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

    from whp.distributed._in_memory_fault_tolerance.cluster import train
    from whp.distributed._in_memory_fault_tolerance.codes import ErasureGroup
    from whp.distributed._in_memory_fault_tolerance.rank import Setting
    from whp.distributed.char_lm import encode, vocabulary

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
    replica, reference = as_bool(replica, "replica"), as_bool(reference, "reference")
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
        "verbose": False,
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
    from whp.distributed._in_memory_fault_tolerance.cluster import Kill

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
    period = every or int(stats.get("longest_period", 0)) or 1
    window = max([f.seconds for f in run.failures], default=0.0) + period * step_seconds
    known = Stats(**stats) if stats else Stats()
    watch = Watch(s.guard["mode"], known.torn, known.unfenced, bool(stats))
    certificates: tuple[Certificate, ...] = (
        exact_recovery(run.failures, watch, code.m),
        newest_common(run.failures, code.m),
        rollback(run.failures, Pace.of(known, period), s.steps, code.m),
        stall_budget(known.stalls_ms, known.watched_ms, budget, snapshots=max(0, known.begun - 1)),
        survival(
            None,
            n=s.ranks,
            m=code.m,
            rate=rate / s.ranks,
            window=window,
            hosts=None if simulated else [hosts],
        ),
        _same(run, undisturbed, s),
    )
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
    wrong, compared, before = None, 0, None
    if not run.fault:
        wrong, compared = int(run.mismatches) + (len(run.digests) - 1), int(run.replayed) + 1
    if undisturbed is not None:
        before = differences(run.losses, undisturbed.losses, 0, run.first_kill)
        if wrong is not None:
            late, seen = differences(run.losses, undisturbed.losses, run.first_kill, s.steps)
            wrong += late + int(undisturbed.digests != run.digests)
            compared += seen + 1
    return same_as_undisturbed(wrong, compared, before)
