"""Compiled loops: one way to compile them, the same under a run-time type checker."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from numba import njit

__all__ = ["compiled"]


def compiled(function: Callable[..., Any]) -> Any:
    """Compile with numba, cached on disk and without the GIL.

    What a run-time type checker may have wrapped around the function is taken off first: numba compiles plain functions.
    """
    return njit(cache=True, nogil=True, error_model="numpy")(inspect.unwrap(function))
