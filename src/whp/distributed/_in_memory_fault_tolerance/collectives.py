"""What the ranks of a group tell each other: a little JSON, and shards."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

__all__ = ["Group"]

FIRST = 4096


class Group:
    """The ranks that share a state, or one rank alone.

    Parameters
    ----------
    group : ProcessGroup, optional
        None: one rank.
    """

    def __init__(self, group: Any = None) -> None:
        self.control: Any = None
        self.rank, self.size = 0, 1
        if group is None:
            return
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        if self.rank < 0:
            raise ValueError("group must have this process as a member")
        self.control = group
        if "gloo" not in str(dist.get_backend(group)):  # what is said here is in the host's memory
            self.control = dist.new_group(dist.get_process_group_ranks(group), backend="gloo")

    def _gather(self, mine: torch.Tensor) -> list[torch.Tensor]:
        found = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(found, mine, group=self.control)
        return found

    def tell(self, said: dict[str, Any]) -> list[dict[str, Any]]:
        """What every rank said, by rank."""
        if self.size == 1:
            return [said]
        text = json.dumps(said).encode()
        head = np.zeros(FIRST, dtype=np.uint8)
        head[:8] = np.frombuffer(struct.pack("!Q", len(text)), dtype=np.uint8)
        first = text[: FIRST - 8]
        head[8 : 8 + len(first)] = np.frombuffer(first, dtype=np.uint8)
        heads = [h.numpy() for h in self._gather(torch.from_numpy(head))]
        lengths = [int(struct.unpack("!Q", h[:8].tobytes())[0]) for h in heads]
        if max(lengths) <= FIRST - 8:
            return [json.loads(h[8 : 8 + n].tobytes()) for h, n in zip(heads, lengths, strict=True)]
        body = np.zeros(max(lengths), dtype=np.uint8)
        body[: len(text)] = np.frombuffer(text, dtype=np.uint8)
        bodies = self._gather(torch.from_numpy(body))
        return [json.loads(b.numpy()[:n].tobytes()) for b, n in zip(bodies, lengths, strict=True)]

    def shards(self, mine: np.ndarray) -> np.ndarray:
        """All ranks' shards, one after the other."""
        if self.size == 1:
            return mine
        whole = torch.empty(self.size * len(mine), dtype=torch.uint8)
        parts = list(whole.view(self.size, -1).unbind())
        dist.all_gather(parts, torch.from_numpy(mine), group=self.control)
        return whole.numpy()

    def spread(self, data: np.ndarray, root: int) -> np.ndarray:
        """The root's bytes, in all ranks."""
        if self.size > 1:
            whole = torch.from_numpy(data)
            dist.broadcast(whole, dist.get_global_rank(self.control, root), group=self.control)
        return data
