"""Runs the trials of a study: cached, as they finish, on one machine or on many.

The scheduler is joblib's: ``loky`` here, Dask or Ray through their joblib backends. Results travel back to the process
that asked and are cached there the moment they arrive, so workers need neither a shared disk nor the cache.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
import time
import traceback
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import joblib
import numpy as np
import pandas as pd
import platformdirs

from whp.experiment.source import fingerprint
from whp.experiment.study import Scale

__all__ = ["Backend", "StudyInterrupted", "cache_directory", "run_study"]

Backend = Literal["loky", "dask", "ray"]
Rows = list[dict[str, Any]]
RESERVED = ("error", "seconds_trial", "trial")
RETRIES = 2
WAVE = 4  # trials a worker in one wave of Ray


class StudyInterrupted(KeyboardInterrupt):
    """Raised on Ctrl-C once the workers are gone; all that had finished is in the cache."""


def cache_directory() -> Path:
    """Where finished trials are kept: ``$WHP_CACHE``, else the user's cache directory."""
    return Path(os.environ.get("WHP_CACHE") or platformdirs.user_cache_dir("whp"))


def execute(module: str, config: dict[str, Any]) -> Rows:
    """One trial in whatever process: its rows, or one row that says how it failed."""
    # The same generator on every machine: seeded by the configuration alone.
    rng = np.random.default_rng([int(config["seed"]), zlib.crc32(_key(config).encode())])
    start = time.perf_counter()
    try:
        rows = import_module(module).run(dict(config), rng)
        if taken := {name for row in rows for name in row if name in RESERVED}:
            raise ValueError(
                f"{module}: the runner's own columns cannot be measured: {', '.join(sorted(taken))}"
            )
        error = ""
    except Exception:
        rows, error = [{}], traceback.format_exc()
    seconds = time.perf_counter() - start
    return [{**config, **row, "seconds_trial": seconds, "error": error} for row in rows]


def _key(config: dict[str, Any]) -> str:
    return json.dumps(config, sort_keys=True)


def _remember(module: str, source: str, key: str, rows: Rows) -> Rows:
    """Cached with `rows` ignored: called with rows it stores them under the other arguments, later it returns them."""
    return rows


def run_study(
    study: ModuleType,
    scale: Scale = "quick",
    *,
    backend: Backend = "loky",
    address: str | None = None,
    jobs: int = -1,
    cache: Path | None = None,
    on_result: Callable[[int, int, Rows, bool], None] | None = None,
) -> pd.DataFrame:
    """Records of all trials, those already in the cache without running them again.

    Parameters
    ----------
    study : module
        A module of :mod:`whp.studies`, or any importable module like one.
    scale : {"quick", "standard", "full"}
        Which of its trials.
    backend : {"loky", "dask", "ray"}
        Processes on this machine, a Dask cluster or a Ray cluster.
    address : str, optional
        Of the Dask scheduler or Ray head; None starts one on this machine.
    jobs : int
        Processes for ``"loky"``; -1 is one a core.
    cache : Path, optional
        Default :func:`cache_directory`.
    on_result : callable, optional
        Called with (finished, total, rows, cached) after each trial.

    Returns
    -------
    DataFrame
        One row a result in the order of the trials: configuration, measurements, ``trial``, ``seconds_trial``, ``error``.
        A trial that raised is one row with its traceback in ``error``. It is not cached.

    Raises
    ------
    ValueError
        If a trial is not a flat dictionary of JSON scalars with a seed.
    StudyInterrupted
        On Ctrl-C, after the workers have been stopped.
    """
    module = study.__name__
    configs = _checked(list(study.trials(scale)))
    source = fingerprint(module)
    memory = joblib.Memory(cache or cache_directory(), verbose=0)
    remember = memory.cache(_remember, ignore=["rows"])
    done: dict[int, Rows] = {}

    def finish(index: int, rows: Rows, cached: bool) -> None:
        done[index] = rows
        if on_result is not None:
            on_result(len(done), len(configs), rows, cached)

    for index, config in enumerate(configs):
        if remember.check_call_in_cache(module, source, _key(config), []):
            finish(index, remember(module, source, _key(config), []), True)
    for attempt in range(RETRIES + 1):
        todo = [i for i in range(len(configs)) if i not in done]
        if not todo:
            break
        try:
            with _workers(backend, address, jobs) as compute:
                calls = (joblib.delayed(_indexed)(i, module, configs[i]) for i in todo)
                for index, rows in compute(calls):
                    if not any(row["error"] for row in rows):
                        remember(module, source, _key(configs[index]), rows)
                    finish(index, rows, False)
        except joblib.externals.loky.process_executor.TerminatedWorkerError:
            # A worker died, by the system's out-of-memory killer most often: what finished is kept, the rest goes again.
            if attempt == RETRIES:
                raise
    records = [{**row, "trial": index} for index in range(len(configs)) for row in done[index]]
    return pd.DataFrame.from_records(records)


def _indexed(index: int, module: str, config: dict[str, Any]) -> tuple[int, Rows]:
    return index, execute(module, config)


def _end_with(parent: int) -> None:
    """Make this worker end when its parent does: loky's would wait five minutes for work from a process that was killed."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _checked(configs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    for config in configs:
        plain = all(isinstance(v, (str, int, float, bool, type(None))) for v in config.values())
        if not plain or not isinstance(config.get("seed"), int):
            raise ValueError(
                f"a trial must be a flat dictionary of JSON scalars with an integer seed, got {config!r}"
            )
    keys = [_key(c) for c in configs]
    if len(set(keys)) < len(keys):
        raise ValueError("two trials have the same configuration; give them different seeds")
    return list(configs)


def _waves(
    parallel: joblib.Parallel, calls: Iterable[Any], size: int
) -> Iterator[tuple[int, Rows]]:
    """Ray's joblib backend cannot return results as they finish; in waves at most one wave is lost."""
    todo = iter(calls)
    while wave := list(islice(todo, size)):
        yield from parallel(wave)


@contextlib.contextmanager
def _workers(
    backend: Backend, address: str | None, jobs: int
) -> Iterator[Callable[[Iterable[Any]], Iterable[tuple[int, Rows]]]]:
    """Delayed calls to their results as they finish, on processes that are gone afterwards, however it ends."""
    with contextlib.ExitStack() as stack:
        settings: dict[str, Any] = {
            "n_jobs": jobs,
            "inner_max_num_threads": 1,
            "initializer": _end_with,
            "initargs": (os.getpid(),),
        }
        if backend == "dask":
            from distributed import Client

            client = stack.enter_context(
                Client(address) if address else Client(processes=True, dashboard_address=None)
            )
            settings = {"client": client}
        elif backend == "ray":
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            import ray
            from ray.util.joblib import register_ray

            if not ray.is_initialized():
                ray.init(
                    address=address,
                    logging_level=logging.ERROR,
                    include_dashboard=False,
                    log_to_driver=False,
                )
                stack.callback(ray.shutdown)
            register_ray()
            settings = {"n_jobs": jobs if jobs > 0 else int(ray.cluster_resources()["CPU"])}
        try:
            with joblib.parallel_config(backend, **settings):
                if backend == "ray":
                    pool = stack.enter_context(
                        joblib.Parallel(batch_size=1)
                    )  # keeps its workers from wave to wave
                    yield lambda calls: _waves(pool, calls, WAVE * settings["n_jobs"])
                else:
                    # One trial a message: a result is cached when it is done, not when its batch is.
                    yield joblib.Parallel(
                        return_as="generator_unordered", batch_size=1, pre_dispatch="2*n_jobs"
                    )
        except KeyboardInterrupt:
            if backend == "loky":
                joblib.externals.loky.get_reusable_executor().shutdown(wait=True, kill_workers=True)
            raise StudyInterrupted from None
