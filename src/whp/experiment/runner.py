"""Runs tasks, those of studies and of worlds: cached, as they finish, on one machine or on many.

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
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import joblib
import pandas as pd
import platformdirs
from joblib.externals.loky.process_executor import TerminatedWorkerError

from whp.experiment.cache import Cache
from whp.experiment.study import Loaded, Scale, Study
from whp.experiment.task import Rows, Task, execute, failure

__all__ = [
    "Backend",
    "Rows",
    "StudyInterrupted",
    "Task",
    "cache_directory",
    "execute",
    "run_study",
    "run_tasks",
]

Backend = Literal["loky", "dask", "ray"]
OnResult = Callable[[int, int, Rows, bool], None]
RETRIES = 2
WAVE = 4  # trials a worker in one wave of Ray


class StudyInterrupted(KeyboardInterrupt):
    """Raised on Ctrl-C once the workers are gone; all that had finished is in the cache."""


def cache_directory() -> Path:
    """Where finished trials are kept: ``$WHP_CACHE``, else the user's cache directory."""
    return Path(os.environ.get("WHP_CACHE") or platformdirs.user_cache_dir("whp"))


def run_tasks(
    tasks: Sequence[Task],
    *,
    backend: Backend = "loky",
    address: str | None = None,
    jobs: int = -1,
    cache: Path | None = None,
    on_result: OnResult | None = None,
) -> list[Rows]:
    """Rows of all tasks, those already in the cache without running them again.

    Parameters
    ----------
    tasks : sequence of Task
        No two alike.
    backend : {"loky", "dask", "ray"}
        Processes on this machine, a Dask cluster or a Ray cluster.
    address : str, optional
        Of the Dask scheduler or Ray head; None starts one on this machine.
    jobs : int
        Processes for ``"loky"``; -1 is one a core. Tasks of several threads get fewer.
    cache : Path, optional
        Default :func:`cache_directory`.
    on_result : callable, optional
        Called with (finished, total, rows, cached) after each task.

    Returns
    -------
    list of list of dict
        In the order of the tasks; see :func:`execute`. A task that raised, or whose worker died each time, is one
        row with the reason in ``error``. It is not cached.

    Raises
    ------
    ValueError
        If two tasks are alike, or others can write into the cache directory.
    StudyInterrupted
        On Ctrl-C, after the workers have been stopped.
    """
    if len({json.dumps(t.identity, sort_keys=True) for t in tasks}) < len(tasks):
        raise ValueError("two trials have the same configuration; give them different seeds")
    store = Cache(cache or cache_directory())
    done: dict[int, Rows] = {}

    def finish(index: int, rows: Rows, cached: bool) -> None:
        done[index] = rows
        if on_result is not None:
            on_result(len(done), len(tasks), rows, cached)

    for index, task in enumerate(tasks):
        if (rows := store.get(task.identity)) is not None:
            finish(index, rows, True)

    def keep(index: int, rows: Rows) -> None:
        if not any(row["error"] for row in rows):
            store.put(tasks[index].identity, rows)
        finish(index, rows, False)

    for threads in sorted({task.threads for task in tasks}):
        todo = {i: t for i, t in enumerate(tasks) if t.threads == threads and i not in done}
        _compute(todo, keep, backend, address, jobs, threads)
    return [done[index] for index in range(len(tasks))]


def run_study(
    study: Study | Loaded | ModuleType,
    scale: Scale = "quick",
    *,
    backend: Backend = "loky",
    address: str | None = None,
    jobs: int = -1,
    cache: Path | None = None,
    on_result: OnResult | None = None,
) -> pd.DataFrame:
    """Records of all trials of a study; see :func:`run_tasks` for the other parameters.

    Parameters
    ----------
    study : Study, Loaded or module
        As :func:`whp.experiment.study.load` gives it, or a module with ``trials`` and ``run``.
    scale : {"quick", "standard", "full"}
        Which of its trials.

    Returns
    -------
    DataFrame
        One row a result in the order of the trials: configuration, measurements, ``trial``, ``seconds_trial``, ``error``.
    """
    if isinstance(study, ModuleType):
        study = Loaded(study.__name__)
    results = run_tasks(
        study.tasks(scale),
        backend=backend,
        address=address,
        jobs=jobs,
        cache=cache,
        on_result=on_result,
    )
    records = [{**row, "trial": index} for index, rows in enumerate(results) for row in rows]
    return pd.DataFrame.from_records(records)


def _compute(
    todo: dict[int, Task],
    keep: Callable[[int, Rows], None],
    backend: Backend,
    address: str | None,
    jobs: int,
    threads: int,
) -> None:
    """Hand over results as they finish. When a worker dies the rest goes again, at last one by one."""
    for _ in range(RETRIES):
        if not todo:
            return
        with (
            contextlib.suppress(TerminatedWorkerError),
            _workers(backend, address, jobs, threads) as compute,
        ):
            for index, rows in compute(joblib.delayed(_indexed)(i, t) for i, t in todo.items()):
                todo = {i: t for i, t in todo.items() if i != index}
                keep(index, rows)
    for index, task in todo.items():
        try:
            with _workers(backend, address, 1, threads) as compute:
                for _, rows in compute([joblib.delayed(_indexed)(index, task)]):
                    keep(index, rows)
        except TerminatedWorkerError as error:
            keep(index, failure(task, f"the worker died each time: {error}"))


def _indexed(index: int, task: Task) -> tuple[int, Rows]:
    return index, execute(task)


def _end_with(parent: int) -> None:
    """Make this worker end when its parent does: loky's would wait five minutes for work from a process that was killed."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _end_workers(*, kill: bool) -> None:
    executor = joblib.externals.loky.get_reusable_executor(reuse=True)
    executor.shutdown(wait=True, kill_workers=kill)


def _waves(
    parallel: joblib.Parallel, calls: Iterable[Any], size: int
) -> Iterator[tuple[int, Rows]]:
    """Ray's joblib backend cannot return results as they finish; in waves at most one wave is lost."""
    todo = iter(calls)
    while wave := list(islice(todo, size)):
        yield from parallel(wave)


def _processes(jobs: int, threads: int) -> int:
    """As many as leave each its threads."""
    count = jobs if jobs > 0 else max(1, joblib.cpu_count() + 1 + jobs)
    return max(1, count // threads)


@contextlib.contextmanager
def _workers(
    backend: Backend, address: str | None, jobs: int, threads: int
) -> Iterator[Callable[[Iterable[Any]], Iterable[tuple[int, Rows]]]]:
    """Delayed calls to their results as they finish, on processes that are gone afterwards, however it ends."""
    with contextlib.ExitStack() as stack:
        processes = _processes(jobs, threads)
        settings: dict[str, Any] = {
            "n_jobs": max(
                2, processes
            ),  # joblib would run one job in this process, and die with it
            "inner_max_num_threads": threads,
            "initializer": _end_with,
            "initargs": (os.getpid(),),
        }
        if backend == "dask":
            from distributed import Client

            client = stack.enter_context(
                Client(address)
                if address
                else Client(processes=True, threads_per_worker=1, dashboard_address=None)
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
                        return_as="generator_unordered",
                        batch_size=1,
                        pre_dispatch=1 if processes == 1 and backend == "loky" else "2*n_jobs",
                    )
        except BaseException as error:
            if backend == "loky":
                _end_workers(kill=True)
            if isinstance(error, KeyboardInterrupt):
                raise StudyInterrupted from None
            raise
        else:
            # Workers that stayed would run the modules they once imported under the fingerprint
            # of newer ones.
            if backend == "loky":
                _end_workers(kill=False)
