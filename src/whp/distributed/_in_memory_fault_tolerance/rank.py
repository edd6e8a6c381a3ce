"""One rank of a data-parallel character model that may be killed at any moment: what the front door runs in each process."""

from __future__ import annotations

import hashlib
import time
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from whp.distributed._in_memory_fault_tolerance.guard import SnapshotGuard
from whp.distributed.char_lm import Block, Embed, Head, cross_entropy, windows
from whp.distributed.processes import join_group, leave_group

__all__ = ["Setting", "digest_of", "model_of", "rank_main"]


@dataclass(frozen=True)
class Setting:
    """What all ranks agree on.

    Parameters
    ----------
    tokens : Tensor
        The text.
    vocab, dim, layers, heads, context, batch : int
        Of the model and of all ranks' batch together.
    lr, dropout : float
    steps, seed, ranks : int
    guard : dict
        Options of :class:`SnapshotGuard`; None trains without.
    port : int
        Of the store.
    """

    tokens: Tensor
    vocab: int
    dim: int
    layers: int
    heads: int
    context: int
    batch: int
    lr: float
    dropout: float
    steps: int
    seed: int
    ranks: int
    guard: dict[str, Any] | None
    port: int


def model_of(s: Setting) -> nn.Module:
    """The model, from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(s.seed)
        blocks = [
            nn.Sequential(Block(s.dim, s.heads, 2 * s.dim), nn.Dropout(s.dropout))
            for _ in range(s.layers)
        ]
        return nn.Sequential(Embed(s.vocab, s.dim, s.context), *blocks, Head(s.dim, s.vocab))


def digest_of(model: nn.Module) -> str:
    """Of the weights' bytes."""
    whole = hashlib.sha256()
    for _, tensor in sorted(model.state_dict().items()):
        whole.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return whole.hexdigest()


def _average(model: nn.Module, ranks: int) -> None:
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([g.view(-1) for g in gradients])
    dist.all_reduce(flat)
    flat /= ranks
    at = 0
    for g in gradients:
        g.copy_(flat[at : at + g.numel()].view_as(g))
        at += g.numel()


def rank_main(pipe: Connection, s: Setting, rank: int) -> None:
    """Train for one generation after the other, as told: ("join", generation) … ("leave",)."""
    model, optimizer, guard = model_of(s), None, None
    optimizer = torch.optim.AdamW(model.parameters(), lr=s.lr)
    position = {"next": 0}
    survived = False
    while True:
        order = pipe.recv()
        if order[0] == "leave":
            return
        try:
            join_group(rank, s.ranks, order[1], s.port)
            first = 0
            if s.guard is not None:
                state = {
                    "model": model,
                    "optimizer": optimizer,
                    "sampler": (lambda: dict(position), lambda told: position.update(told)),
                }
                fresh = SnapshotGuard(state, dist.group.WORLD, nodes=order[2], **s.guard)
                if guard is not None:
                    fresh.live = guard.live
                    fresh.stats_ = guard.stats_
                guard = fresh
                if not survived:
                    torch.manual_seed(s.seed + 1 + rank)  # dropout differs from rank to rank
                first = guard.restore(live=survived and order[3])
                pipe.send(("restored", time.time(), asdict(guard.report_) if guard.report_ else {}))
            else:
                torch.manual_seed(s.seed + 1 + rank)
            survived = True
            _train(pipe, s, rank, model, optimizer, guard, position, first)
            dist.barrier()
            stats = asdict(guard.stats_) if guard is not None else {}
            if rank == 0:
                pipe.send(
                    ("weights", time.time(), {k: v.numpy() for k, v in model.state_dict().items()})
                )
            pipe.send(("done", time.time(), digest_of(model), stats))
            pipe.recv()
            if guard is not None:
                guard.close()
            leave_group()
            return
        except Exception as error:
            pipe.send(("broken", time.time(), type(error).__name__, str(error)[:300]))
        if guard is not None:
            guard.abandon()
        leave_group()  # after the exception is forgotten: its frames hold the group, and its sockets tell the others


def _train(
    pipe: Connection,
    s: Setting,
    rank: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    guard: SnapshotGuard | None,
    position: dict[str, int],
    first: int,
) -> None:
    share = s.batch // s.ranks
    model.train()
    for step in range(first, s.steps):
        began = time.time()
        x, y = windows(s.tokens, s.batch, s.context, s.seed, step)
        mine = slice(rank * share, (rank + 1) * share)
        loss = cross_entropy(model(x[mine]), y[mine])
        optimizer.zero_grad()
        loss.backward()
        _average(model, s.ranks)
        if guard is not None:
            guard.pre_step()
        optimizer.step()
        position["next"] = step + 1
        try:
            if guard is not None:
                guard.post_step(step)
        finally:  # the step is done, even if another rank's death is noticed only here
            pipe.send(("step", began, time.time(), step, float(np.float64(loss.detach()))))
