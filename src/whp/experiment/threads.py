"""One thread setting for whatever computes: BLAS, OpenMP, numba and torch."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

from threadpoolctl import threadpool_limits

__all__ = ["pinned"]

# NUMBA_NUM_THREADS is not among them: numba refuses a value that changes after its threads started.
VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")


@contextlib.contextmanager
def pinned(threads: int) -> Iterator[None]:
    """Let every library use `threads` threads, and what it used before afterwards.

    Libraries that are loaded are told; those that are loaded inside, and processes that are started inside, read the
    environment. Settings belong to the process: do not pin two things at once in one process.

    Parameters
    ----------
    threads : int
        At least 1. numba cannot use more than it was started with.

    Raises
    ------
    ValueError
        If `threads` is below 1.
    """
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    with contextlib.ExitStack() as stack:
        before = {name: os.environ.get(name) for name in VARIABLES}
        stack.callback(_set_environment, before)
        _set_environment(dict.fromkeys(VARIABLES, str(threads)))
        stack.enter_context(threadpool_limits(threads))
        if (torch := sys.modules.get("torch")) is not None:
            stack.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(threads)
        if (numba := sys.modules.get("numba")) is not None:
            stack.callback(numba.set_num_threads, numba.get_num_threads())
            numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
        yield


def _set_environment(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
