import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from whp.experiment.findings import Published, judge
from whp.experiment.runner import execute, run_study
from whp.experiment.task import Task

DRIVER = """
import sys
import toy_study
from whp.experiment.runner import run_study
run_study(toy_study, sys.argv[1], jobs=2, on_result=lambda *a: print("done", a[0], a[2][0]["seed"], flush=True))
"""


def values(records: pd.DataFrame) -> pd.DataFrame:
    return records.drop(columns="seconds_trial")


def descendants(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    direct = [int(c) for c in children.read_text().split()] if children.exists() else []
    return direct + [d for c in direct for d in descendants(c)]


def alive(pids) -> list[int]:
    def running(pid):
        try:
            return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
        except (FileNotFoundError, ProcessLookupError):
            return False

    return [p for p in pids if running(p)]


def gone(pids, seconds=10.0) -> bool:
    end = time.monotonic() + seconds
    while alive(pids) and time.monotonic() < end:
        time.sleep(0.05)
    return not alive(pids)


def start_until(count: int, scale: str) -> tuple[subprocess.Popen, list[int], set[str]]:
    """A study in a process of its own, stopped at the moment when `count` trials are done."""
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, scale],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    finished = set()
    for line in process.stdout:
        finished.add(line.split()[2])
        if len(finished) == count:
            break
    return process, descendants(process.pid), finished


def test_records_are_in_order_cached_and_reproducible(toy, tmp_path, runs):
    seen = []
    first = run_study(
        toy,
        "quick",
        jobs=2,
        on_result=lambda n, total, rows, cached: seen.append((n, total, cached)),
    )
    assert first["trial"].tolist() == [t for t in range(12) for _ in range(2)]
    assert first["seed"].tolist() == first["trial"].tolist()
    assert [s[0] for s in seen] == list(range(1, 13))
    again = run_study(toy, "quick", jobs=2)
    pd.testing.assert_frame_equal(first, again)
    assert set(runs().values()) == {1}


def test_a_killed_study_resumes_and_recomputes_only_what_was_not_finished(toy, tmp_path, runs):
    process, workers, finished = start_until(5, "standard")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert workers
    assert gone(workers), "workers outlived the killed study"
    cached = []
    records = run_study(toy, "standard", jobs=2, on_result=lambda n, t, rows, c: cached.append(c))
    assert sum(cached) >= 5
    assert len(records) == 24
    assert {seed: n for seed, n in runs().items() if seed in finished} == dict.fromkeys(finished, 1)
    pd.testing.assert_series_equal(records["value"], run_study(toy, "standard", jobs=2)["value"])


def test_ctrl_c_leaves_no_process_and_keeps_what_finished(toy, tmp_path):
    process, workers, _ = start_until(4, "standard")
    os.kill(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=20)
    assert process.returncode != 0
    assert "StudyInterrupted" in error
    assert gone(workers)
    cached = []
    run_study(toy, "standard", jobs=2, on_result=lambda n, t, rows, c: cached.append(c))
    assert sum(cached) >= 4


def test_a_trial_that_raises_is_one_recorded_failure(toy, tmp_path, runs):
    records = run_study(toy, "full", jobs=2)
    broken = records[records["error"] != ""]
    assert broken["seed"].tolist() == [5]
    assert "this one is meant to fail" in broken["error"].iloc[0]
    assert "Traceback" in broken["error"].iloc[0]
    assert len(records) == 11 * 2 + 1
    run_study(toy, "full", jobs=2)
    assert runs()["5"] == 2, "a failure is tried again, not cached"
    entry = judge("linf-regression", toy, "full", records)
    assert (entry.trials, entry.failed) == (12, 1)
    entry.write(tmp_path / "f.json")
    assert Published.read((tmp_path / "f.json").read_text()) == entry


def test_a_worker_killed_under_a_trial_does_not_lose_the_study(toy, tmp_path):
    (tmp_path / "trace" / "kill-once").touch()
    records = run_study(toy, "quick", jobs=2)
    assert not (tmp_path / "trace" / "kill-once").exists()
    assert len(records) == 24
    assert (records["error"] == "").all()


def test_dask_cluster_that_loses_a_worker_gives_the_same_records(toy, tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed")
    here = run_study(toy, "standard", jobs=2)
    monkeypatch.setenv("WHP_CACHE", str(tmp_path / "other"))
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    ) as cluster:
        victim = next(iter(cluster.workers.values())).pid

        def kill_after_three(finished, total, rows, cached):
            if finished == 3:
                os.kill(victim, signal.SIGKILL)

        there = run_study(
            toy,
            "standard",
            backend="dask",
            address=cluster.scheduler_address,
            on_result=kill_after_three,
        )
    pd.testing.assert_frame_equal(values(here), values(there))


@pytest.mark.slow
def test_local_ray_gives_the_same_records(toy, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    here = run_study(toy, "quick", jobs=2)
    monkeypatch.setenv("WHP_CACHE", str(tmp_path / "other"))
    there = run_study(toy, "quick", backend="ray")
    pd.testing.assert_frame_equal(values(here), values(there))


@pytest.mark.parametrize(
    "config",
    [{"seed": "a"}, {"seed": 1, "x": [1]}, {"x": 1}],
    ids=["seed is text", "not flat", "no seed"],
)
def test_bad_configurations_are_refused(toy, config, monkeypatch):
    monkeypatch.setattr(toy, "trials", lambda scale: [config])
    with pytest.raises(ValueError, match="trial must be"):
        run_study(toy, "quick")
    monkeypatch.setattr(toy, "trials", lambda scale: [{"seed": 1}, {"seed": 1}])
    with pytest.raises(ValueError, match="same configuration"):
        run_study(toy, "quick")


def test_a_study_cannot_overwrite_the_runners_own_columns(toy, monkeypatch):
    monkeypatch.setattr(toy, "run", lambda config, rng: [{"value": 1.0, "error": 0.5}])
    (row,) = execute(Task("toy_study:run", toy.trials("quick")[0], ""))
    assert "the runner's own columns cannot be measured: error" in row["error"]
