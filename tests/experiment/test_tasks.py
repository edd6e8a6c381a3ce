"""Tasks on the runner, whatever they are: what the worlds use."""

import os
import sys

import numpy as np
import pytest

from whp.experiment.runner import run_tasks
from whp.experiment.task import Task, execute
from whp.experiment.threads import pinned

MODULE = """
import os, signal
import numpy as np

class Kind:
    @staticmethod
    def make(config, rng):
        return {"x": float(rng.normal()), "nan": float("nan"), "k": config["k"]}

def empty(config, rng):
    return []

def odd(config, rng):
    return {"x": [1, 2]}

def dies(config, rng):
    os.kill(os.getpid(), signal.SIGKILL)

def threads(config, rng):
    import numba, torch
    from threadpoolctl import threadpool_info
    blas = [p["num_threads"] for p in threadpool_info() if p["user_api"] == "blas"]
    return {"torch": torch.get_num_threads(), "blas": max(blas), "env": os.environ["OMP_NUM_THREADS"]}
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "toy_tasks.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    yield "toy_tasks"
    sys.modules.pop("toy_tasks", None)


def task(module, name, seed=0, **settings):
    config = settings.pop("config", {})
    return Task(f"{module}:{name}", {"seed": seed, **config}, "source", **settings)


def test_rows_come_in_the_order_of_the_tasks_and_from_the_cache(module, tmp_path):
    tasks = [task(module, "Kind.make", seed, config={"k": "a"}) for seed in range(5)]
    seen = []
    first = run_tasks(tasks, jobs=2, cache=tmp_path / "c", on_result=lambda *a: seen.append(a))
    assert [rows[0]["seed"] for rows in first] == list(range(5))
    assert [a[0] for a in seen] == [1, 2, 3, 4, 5]
    again = run_tasks(tasks, jobs=2, cache=tmp_path / "c")
    assert repr(first) == repr(again)
    assert np.isnan(first[0][0]["nan"])
    assert len({rows[0]["x"] for rows in first}) == 5


def test_workers_never_run_code_older_than_its_fingerprint(module, tmp_path):
    """A module edited between two runs of one process, as in a notebook."""
    old = Task(f"{module}:Kind.make", {"seed": 0, "k": "a"}, "old")
    run_tasks([old], jobs=2, cache=tmp_path / "c")
    path = tmp_path / "toy_tasks.py"
    path.write_text(MODULE.replace('"k": config["k"]', '"k": "newer code"'))
    ((row,),) = run_tasks([Task(old.entry, old.config, "new")], jobs=2, cache=tmp_path / "c")
    assert row["k"] == "newer code"


def test_the_generator_depends_on_the_configuration_alone(module):
    config = {"k": "a"}
    rows = [
        execute(Task(f"{module}:Kind.make", {"seed": s, **c}, source, threads))[0]["x"]
        for s, c, source, threads in (
            (0, config, "one", 1),
            (0, config, "two", 2),
            (1, config, "one", 1),
            (0, {"k": "b"}, "one", 1),
        )
    ]
    assert rows[0] == rows[1]
    assert len(set(rows)) == 3


def test_other_code_and_other_threads_are_other_trials(module, tmp_path):
    def fresh(**settings):
        seen = []
        made = Task(f"{module}:Kind.make", {"seed": 0, "k": "a"}, **{"source": "s", **settings})
        run_tasks([made], jobs=1, cache=tmp_path, on_result=lambda *a: seen.append(not a[3]))
        return seen == [True]

    assert fresh()
    assert not fresh()
    assert fresh(source="t")
    assert fresh(threads=2)


@pytest.mark.parametrize(
    ("name", "reason"), [("odd", "column 'x'"), ("none", "has no attribute 'none'")]
)
def test_what_is_no_result_is_a_failure(module, name, reason):
    (row,) = execute(task(module, name))
    assert reason in row["error"]
    assert row["seed"] == 0


def test_a_task_that_measures_nothing_is_still_counted(module, tmp_path):
    (rows,) = run_tasks([task(module, "empty")], jobs=1, cache=tmp_path)
    assert [(row["seed"], row["error"]) for row in rows] == [(0, "")]
    assert list(rows[0]) == ["seed", "seconds_trial", "error"]


def test_a_task_whose_worker_always_dies_is_one_failure_and_costs_no_other(module, tmp_path):
    tasks = [task(module, "dies"), task(module, "Kind.make", 1, config={"k": "a"})]
    died, good = run_tasks(tasks, jobs=1, cache=tmp_path / "c")
    assert "the worker died each time" in died[0]["error"]
    assert good[0]["error"] == ""
    assert len(list((tmp_path / "c").rglob("*.json"))) == 1, "a failure is not kept"


def test_the_runner_pins_threads(module):
    pytest.importorskip("torch")
    (row,) = execute(task(module, "threads", threads=2))
    assert (row["torch"], row["blas"], row["env"]) == (2, 2, "2"), row["error"]
    (row,) = execute(task(module, "threads", threads=1))
    assert (row["torch"], row["blas"], row["env"]) == (1, 1, "1")


def test_thread_settings_are_put_back(monkeypatch):
    torch, numba = pytest.importorskip("torch"), pytest.importorskip("numba")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    before = torch.get_num_threads(), numba.get_num_threads()
    with pytest.raises(KeyError), pinned(2):
        raise KeyError
    with pinned(2):
        assert (os.environ["MKL_NUM_THREADS"], torch.get_num_threads()) == ("2", 2)
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in os.environ
    assert (torch.get_num_threads(), numba.get_num_threads()) == before
    with pytest.raises(ValueError, match="at least 1"), pinned(0):
        pass


def test_a_task_needs_a_function_and_a_seed():
    with pytest.raises(ValueError, match="module:function"):
        Task("toy", {"seed": 0}, "")
    for config in ({}, {"seed": True}, {"seed": "1"}, {"seed": 0, "x": [1]}):
        with pytest.raises(ValueError, match="trial must be"):
            Task("toy:run", config, "")
