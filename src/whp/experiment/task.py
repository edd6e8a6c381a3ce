"""One task: a function by name, its configuration, and how it is carried out in whatever process."""

from __future__ import annotations

import json
import numbers
import time
import traceback
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from importlib import import_module
from typing import Any

import numpy as np

from whp.experiment.threads import pinned

__all__ = ["Rows", "Task", "execute"]

Rows = list[dict[str, Any]]
RESERVED = ("error", "seconds_trial", "trial")


@dataclass(frozen=True)
class Task:
    """A call ``entry(config, rng)`` whose rows are worth keeping.

    Parameters
    ----------
    entry : str
        ``"module:qualified_name"`` of a function that takes the configuration and a generator and returns a row or a list
        of rows, dictionaries of scalars. The same configuration must give the same rows on any machine.
    config : dict
        Flat, of JSON scalars, with an integer ``"seed"``. The generator is seeded by the configuration alone.
    source : str
        Fingerprint of the code, e.g. from :func:`whp.experiment.source.fingerprint`: cached rows of other code are not used.
    threads : int
        How many threads each library may use.

    Raises
    ------
    ValueError
        If the entry has no module, or the configuration is not flat or has no seed.
    """

    entry: str
    config: dict[str, Any]
    source: str
    threads: int = 1

    def __post_init__(self) -> None:
        if ":" not in self.entry:
            raise ValueError(f"entry must be 'module:function', got {self.entry!r}")
        flat = all(isinstance(v, str | int | float | None) for v in self.config.values())
        seed = self.config.get("seed")
        if not flat or not isinstance(seed, int) or isinstance(seed, bool):
            raise ValueError(
                "a trial must be a flat dictionary of JSON scalars with an integer seed, "
                f"got {self.config!r}"
            )

    @property
    def identity(self) -> dict[str, Any]:
        """What its rows depend on."""
        return {
            "entry": self.entry,
            "source": self.source,
            "threads": self.threads,
            "config": self.config,
        }


def execute(task: Task) -> Rows:
    """The rows of a task, or one row that says how it failed.

    Each row has the configuration, ``seconds_trial`` (of the whole call) and ``error`` (empty, or the traceback).
    """
    config = task.config
    # The same generator on every machine: seeded by the configuration alone.
    key = json.dumps(config, sort_keys=True)
    rng = np.random.default_rng([int(config["seed"]), zlib.crc32(key.encode())])
    start = time.perf_counter()
    try:
        module, _, name = task.entry.partition(":")
        function: Any = reduce(getattr, name.split("."), import_module(module))
        with pinned(task.threads):
            start = time.perf_counter()
            rows = _checked(task.entry, function(dict(config), rng))
        error = ""
    except Exception:
        rows, error = [{}], traceback.format_exc()
    seconds = time.perf_counter() - start
    return [{**config, **row, "seconds_trial": seconds, "error": error} for row in rows]


def failure(task: Task, error: str) -> Rows:
    """The row of a task that could not even say how it failed."""
    return [{**task.config, "seconds_trial": 0.0, "error": error}]


def _checked(entry: str, returned: Any) -> Rows:
    rows = [returned] if isinstance(returned, Mapping) else list(returned)
    rows = rows or [{}]  # a trial that measured nothing is still a trial
    if taken := {name for row in rows for name in row if name in RESERVED}:
        raise ValueError(
            f"{entry}: the runner's own columns cannot be measured: {', '.join(sorted(taken))}"
        )
    return [plain(row) for row in rows]


def plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with Python's own scalars in it, which JSON gives back exactly.

    Raises
    ------
    TypeError
        If a value is not a number, a truth value, a string or None.
    """
    return {str(name): _scalar(name, value) for name, value in row.items()}


def _scalar(name: str, value: Any) -> Any:
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, str):
        return str(value)
    if value is None:
        return None
    raise TypeError(f"column {name!r} must hold a number, text or None, got {type(value).__name__}")
