"""A copy of a shard that is taken while training goes on, and the proof that it is the state of one moment.

Version counters of tensors see what autograd sees: ``p.clamp_()``, and not ``p.data.clamp_()``, numpy views or another process.
So the copy is compared with its source once it is complete. Let byte b be copied at c_b ≤ t and compared at r_b ≥ t, where t is the
moment at which the copy was complete. If all bytes are the same at c_b and at r_b, each had that value at t: the copy is the state
at t (unless a byte was changed and changed back in between). That t is as good as the end of the step is seen by a sample of every
tensor, taken before the copy began.
"""

from __future__ import annotations

import threading
import time

import numpy as np

from whp.distributed._in_memory_fault_tolerance.shards import Flat

__all__ = ["Copy"]


class Copy:
    """A copy of bytes `start` … of a stream into a buffer.

    Parameters
    ----------
    flat : Flat
        Where from.
    start : int
        First byte of the stream.
    into : ndarray of uint8
        Where to.
    changing : set of int
        Storages that a forward pass writes (running statistics): they are copied here and now.

    Attributes
    ----------
    torn : str
        How somebody was seen to write under the copy; empty if nobody was.
    copy_ms, check_ms : float
        Milliseconds of both passes.
    """

    def __init__(
        self, flat: Flat, start: int, into: np.ndarray, changing: set[int] | None = None
    ) -> None:
        self.flat, self.start, self.into = flat, start, into
        now = changing or set()
        self.skip = {
            i for i, e in enumerate(flat.extents) if e.tensor.untyped_storage().data_ptr() in now
        }
        self.versions = [
            (e.tensor, e.tensor._version)
            for i, e in enumerate(flat.extents)
            if i not in self.skip and not e.tensor.is_inference()
        ]
        flat.settle()
        flat.copy_range(start, into, only=self.skip)
        flat.clear_gaps(start, into)
        self.places = flat.places(start, len(into), self.skip)
        self.seen = flat.look(self.places)
        self.torn = ""
        self.copy_ms = self.check_ms = 0.0
        self.over = threading.Event()

    def take(self) -> None:
        """Both passes; may run in another thread while the forward and backward pass run in this one."""
        try:
            began = time.perf_counter()
            self.flat.copy_range(self.start, self.into, skip=self.skip)
            copied = time.perf_counter()
            self.copy_ms = 1e3 * (copied - began)
            self.torn = self._written()
            self.check_ms = 1e3 * (time.perf_counter() - copied)
        finally:
            self.over.set()

    def _written(self) -> str:
        changed = sum(tensor._version != version for tensor, version in self.versions)
        if changed:
            return f"{changed} tensors changed while they were copied"
        for (_, a, b), before in zip(self.places, self.seen, strict=True):
            if self.into[a - self.start : b - self.start].tobytes() != before:
                return "a tensor was written after post_step(), past autograd's version counter"
        if not self.flat.same_range(self.start, self.into, self.skip):
            return "a tensor was written while it was copied, past autograd's version counter"
        return ""
