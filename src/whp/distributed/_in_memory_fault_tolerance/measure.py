"""What keeping a copy costs on this machine: stall, copy, coding, beside ``torch.save``."""

from __future__ import annotations

import io
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from whp.distributed._in_memory_fault_tolerance.codes import ErasureGroup
from whp.distributed._in_memory_fault_tolerance.guard import SnapshotGuard
from whp.validate import as_int

__all__ = ["Job", "job", "measure"]


class Job:
    """A stack of linear layers with AdamW of a given size, and one training step of it.

    Parameters
    ----------
    mb : int
        Megabytes of parameters and moments.
    rows : int
        Of a batch; how long a step takes.
    width : int
        Of the layers.
    """

    def __init__(self, mb: int, rows: int = 256, width: int = 0) -> None:
        width = width or (2048 if mb >= 100 else 512)
        layers = max(1, round(mb * 1e6 / (12 * width * (width + 1))))
        torch.manual_seed(0)
        self.model = nn.Sequential(*(nn.Linear(width, width) for _ in range(layers)))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4)
        self.x = torch.randn(rows, width)
        self.state: dict[str, Any] = {"model": self.model, "optimizer": self.optimizer}
        self.step()

    def gradients(self) -> None:
        """Forward and backward."""
        self.optimizer.zero_grad()
        self.model(self.x).square().mean().backward()

    def step(self) -> None:
        """A whole step."""
        self.gradients()
        self.optimizer.step()

    @property
    def size(self) -> int:
        """Bytes of the state."""
        return 12 * sum(p.numel() for p in self.model.parameters())


def job(mb: int, rows: int = 256) -> Job:
    """A :class:`Job`, one step done so that its optimizer has a state."""
    return Job(as_int(mb, "mb", low=1), rows)


def timed(work: Callable[[], Any]) -> float:
    """Seconds of a call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def guarded(
    work: Job, saves: int, *, smp_dir: Path = Path("/dev/shm"), mode: str = "overlap"
) -> dict[str, float]:
    """Train with a snapshot every other step, so that steps with and without one take turns.

    Returns
    -------
    dict
        Median seconds of a ``step`` that a snapshot goes with, of a ``plain`` one, of its ``stall``, of the ``copy`` and of the
        ``lag`` from its beginning to the commit.
    """
    with SnapshotGuard(
        work.state,
        every=2,
        smp_dir=smp_dir,
        mode=mode,
        verbose=False,
        run=f"bench{secrets.token_hex(4)}",
    ) as guard:
        guard.restore("fresh")
        marks = []
        for step in range(2 * saves + 5):
            if step == 5:  # both buffers are mapped
                guard.stats_.stalls_ms.clear()
            work.gradients()
            guard.pre_step()
            work.optimizer.step()
            marks.append(time.perf_counter())
            guard.post_step(step)
        took = np.diff(marks)[5:]
        s = guard.stats_
        return {
            "step": float(np.median(took[1::2])),
            "plain": float(np.median(took[0::2])),
            "stall": s.typical_stall,
            "copy": float(np.median(s.copies_ms)) / 1e3,
            "lag": float(np.median(s.lags_ms or [0.0])) / 1e3,
        }


def coding(group: ErasureGroup, megabytes: int = 64, repeats: int = 3) -> float:
    """Gigabytes of data encoded a second."""
    size = megabytes * (1 << 20) // group.n // (64 * group.k) * 64 * group.k
    rng = np.random.default_rng(0)
    shards = [rng.integers(0, 256, size, dtype=np.uint8) for _ in range(group.n)]
    group.encode(shards)
    return group.n * size / min(timed(lambda: group.encode(shards)) for _ in range(repeats)) / 1e9


def measure(mb: int = 300, steps: int = 12, smp_dir: Path = Path("/dev/shm")) -> dict[str, str]:
    """A table for a reader: what a snapshot of `mb` megabytes costs here."""
    work, steps = job(mb), as_int(steps, "steps", low=2)
    found = guarded(work, steps, smp_dir=smp_dir)
    saved = timed(
        lambda: torch.save({k: v.state_dict() for k, v in work.state.items()}, io.BytesIO())
    )
    rows = {
        "state": f"{work.size / 1e6:.0f} MB",
        "step without": f"{1e3 * found['plain']:.1f} ms",
        "step with a snapshot": f"{1e3 * found['step']:.1f} ms",
        "stall": f"{1e3 * found['stall']:.2f} ms",
        "copy, overlapped": f"{1e3 * found['copy']:.1f} ms, {work.size / found['copy'] / 1e9:.2f} GB/s",
        "until committed": f"{1e3 * found['lag']:.1f} ms",
        "torch.save to memory": f"{1e3 * saved:.0f} ms of stall",
    }
    for m in (1, 2, 3):
        rows[f"coding, 4 data + {m} parity"] = f"{coding(ErasureGroup(4 + m, m)):.2f} GB/s"
    return rows
