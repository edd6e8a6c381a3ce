"""A log that grows, real processes that are killed, and states that must not be continued twice."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from whp.io import Log
from whp.privacy._dp_continual_release import ContinualCounter, StateFile, release_stream

FLAGS = ("--column", "carrier", "--categories", "AA,UA", "--query", "sumselect", "--epsilon", "1")


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(
        "time,carrier\n" + "".join(f"{i},{'AA' if i % 3 else 'UA'}\n" for i in range(50))
    )
    return path


def follow(path):
    return subprocess.Popen(
        [
            Path(sys.executable).with_name("whp"),
            "run",
            "dp-continual-release",
            str(path),
            *FLAGS,
            "--follow",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def lines(process, until):
    """Answers up to record `until`."""
    found = {}
    while until not in found:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        if "\t" in line:
            t, answer = line.split("\t")
            found[int(t)] = answer.strip()
    return found


def test_a_log_is_followed_over_a_kill_and_a_stop(log):
    process = follow(log)
    first = lines(process, 50)
    with log.open("a") as file:
        file.write("50,AA\n51,U")  # a line counts once it has ended
        file.flush()
        first |= lines(process, 51)
        file.write("A\n")
        file.flush()
        first |= lines(process, 52)
    process.kill()
    process.communicate()
    state = log.with_name("log.csv.whp-state")
    assert stat.S_IMODE(state.stat().st_mode) == 0o600
    shutil.copy(state, log.with_name("backup"))
    with log.open("a") as file:
        file.write("52,AA\n")
    process = follow(log)
    again = lines(process, 53)
    assert set(again) <= {52, 53}
    assert again.get(52, first[52]) == first[52], "what was said before is not said otherwise"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert "privacy" in out
    shutil.copy(log.with_name("backup"), state)
    refused = follow(log)
    _, err = refused.communicate(timeout=60)
    assert refused.returncode != 0
    assert "state at t=52 was already continued to t=53" in err
    assert "Traceback" not in err


def test_a_state_belongs_to_one_process_and_one_setting(log, tmp_path):
    given = {
        "column": "carrier",
        "categories": "AA,UA",
        "query": "counts",
        "T": 100,
        "state": tmp_path / "state",
    }
    first = release_stream(Log(log), rho=0.5, **given)
    assert len(first.answers) == 50
    with log.open("a") as file:
        file.write("50,AA\n51,UA\n")
    second = release_stream(Log(log), rho=0.5, **given)
    assert (second.first, len(second.answers)) == (1, 52), (
        "the answers that were about to leave come again"
    )
    np.testing.assert_array_equal(second.answers[:50], first.answers)
    with pytest.raises(ValueError, match="written with another budget"):
        release_stream(Log(log), rho=0.7, **given)
    kept = StateFile(tmp_path / "state")
    with kept.locked(), pytest.raises(RuntimeError, match="another process"):
        release_stream(Log(log), rho=0.5, **given)
    with pytest.raises(ValueError, match="truth"):
        release_stream(Log(log), rho=0.5, truth="measure", **given)


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 not a zip", b"\x80\x04\x95pickle"])
def test_a_damaged_state_is_named(damage, tmp_path):
    path = tmp_path / "state"
    path.write_bytes(damage)
    with pytest.raises(ValueError, match="not a state of a private stream"):
        StateFile(path).load(ContinualCounter(2, T=10, rho=0.5))


def test_a_damaged_ledger_stops_everything(tmp_path):
    mechanism = ContinualCounter(2, T=10, rho=0.5)
    kept = StateFile(tmp_path / "state")
    kept.save(mechanism, mechanism.run(np.ones((3, 2))))
    kept.ledger.write_text("[1, 2")
    with pytest.raises(ValueError, match="it is damaged"):
        kept.load(ContinualCounter(2, T=10, rho=0.5))


def test_rows_of_a_log_are_checked(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n1,0\n0,1\n")
    assert release_stream(Log(path), query="counts", T=5, rho=0.5).answers.shape == (2, 2)
    path.write_text("a,b\n1,0\n0,2\n")
    with pytest.raises(ValueError, match="record 2 must have 2 columns of zeros and ones") as told:
        release_stream(Log(path), T=5, rho=0.5)
    assert "0,2" not in str(told.value)
    path.write_text("a,b\n1\n")
    with pytest.raises(ValueError, match="record 1"):
        release_stream(Log(path), T=5, rho=0.5)
    path.write_text("a,b\n")
    with pytest.raises(ValueError, match="at least one record"):
        release_stream(Log(path), T=5, rho=0.5)
    path.write_text("a\nx\ny\n")
    with pytest.raises(ValueError, match="column must be one of"):
        release_stream(Log(path), column="z", T=5, rho=0.5)
    with pytest.raises(ValueError, match="categories must be given"):
        release_stream(Log(path), column="a", rho=0.5, follow=True)


def test_a_log_in_batches(tmp_path):
    path = tmp_path / "long.tsv"
    path.write_text("a\tb\n" + "1\t0\n" * 10 + "0\t1")
    log = Log(path)
    assert [len(b) for b in log.batches(size=4)] == [4, 4, 3]
    assert [len(b) for b in log.batches(size=4, skip=9)] == [2]
    assert list(log.batches(skip=11)) == []
    path.write_text("")
    with pytest.raises(ValueError, match="no header"):
        Log(path)


def test_a_log_that_is_cut_short_is_noticed(log):
    watched = Log(log).batches(follow=True)
    assert len(next(watched)) == 50
    os.truncate(log, 20)
    start = time.monotonic()
    with pytest.raises(ValueError, match="cut short"):
        next(watched)
    assert time.monotonic() - start < 5
