"""A log that grows, real processes that are killed, and states that must not be continued twice."""

import errno
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
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
    with pytest.raises(ValueError, match="measure"):
        release_stream(Log(log), rho=0.5, measure=True, **given)
    for other, named in (
        ({"categories": "UA,AA"}, "categories"),
        ({"beta": 0.1}, "beta"),
        ({"delta": 1e-9}, "delta"),
        ({"on_unknown": "other"}, "columns"),
    ):
        with pytest.raises(ValueError, match=f"written with another {named}"):
            release_stream(Log(log), **{"rho": 0.5, **given, **other})


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 not a zip", b"\x80\x04\x95pickle"])
def test_a_damaged_state_is_named(damage, tmp_path):
    path = tmp_path / "state"
    kept = StateFile(path)
    mechanism = ContinualCounter(2, T=10, rho=0.5)
    kept.save(mechanism, mechanism.run(np.ones((3, 2))))
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
    with pytest.raises(ValueError, match="categories must list"):
        release_stream(Log(path), column="a", rho=0.5, follow=True)


GIVEN = {"column": "carrier", "categories": "AA,UA", "query": "counts", "rho": 1e5}


def conditions(result):
    return {a.name: str(a.status) for a in result.certificates[0].conditions}


def append(path, *labels):
    with path.open("a") as file:
        file.writelines(f"0,{label}\n" for label in labels)


@pytest.mark.parametrize("strategy", ["auto", "tree", "naive"])
def test_a_log_that_ended_with_an_epoch_keeps_its_total(strategy, tmp_path):
    """The default: no T, epochs from 1,024 records."""
    path = tmp_path / "log.csv"
    path.write_text("time,carrier\n" + "0,AA\n" * 1024)
    given = {**GIVEN, "strategy": strategy, "state": tmp_path / "state"}
    release_stream(Log(path), **given)
    append(path, *["AA"] * 476)
    grown = release_stream(Log(path), **given)
    assert abs(grown.answers[-1, 0] - 1500) <= grown.bound
    assert grown.bound < 20
    assert grown.summary()["records"] == 1500


def test_records_are_counted_once_whatever_the_lines(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text('time,carrier\n0,AA\n\n"a\nb",UA\n\n\n1,AA\n')
    given = {**GIVEN, "T": 50, "state": tmp_path / "state"}
    assert len(release_stream(Log(path), **given).answers) == 3
    again = release_stream(Log(path), **given)
    assert again.answers.round().tolist()[-1] == [2, 1]
    append(path, "UA")
    assert release_stream(Log(path), **given).answers[-1].round().tolist() == [2, 2]


def test_what_made_the_first_part_void_stays_so(log, tmp_path):
    given = {**GIVEN, "T": 200}
    seeded = release_stream(Log(log), insecure_seed=1, state=tmp_path / "a", **given)
    assert conditions(seeded)["fresh-noise"] == "violated"
    named = {**given, "categories": "from-data", "state": tmp_path / "b"}
    assert conditions(release_stream(Log(log), **named))["public-plan"] == "violated"
    append(log, "AA", "UA")
    for _ in range(2):  # and once more
        after = release_stream(Log(log), state=tmp_path / "a", **given)
        assert conditions(after)["fresh-noise"] == "violated"
        assert str(after.certificates[0].verdict) == "void"
        after = release_stream(Log(log), state=tmp_path / "b", **given)
        assert conditions(after)["public-plan"] == "violated"


def test_noise_out_of_a_state_is_unchecked_and_says_why(log, tmp_path):
    given = {**GIVEN, "T": 200, "state": tmp_path / "s"}
    assert conditions(release_stream(Log(log), **given))["fresh-noise"] == "by construction"
    again = release_stream(Log(log), **given)
    assert conditions(again)["fresh-noise"] == "unchecked"
    assert "unchecked" in again.certificates[0].headline


def test_a_state_without_its_ledger_is_refused(log, tmp_path):
    given = {**GIVEN, "T": 200, "state": tmp_path / "s"}
    release_stream(Log(log), **given)
    shutil.copy(tmp_path / "s", tmp_path / "copy")
    with pytest.raises(ValueError, match="missing, and without it no state can be continued"):
        release_stream(Log(log), **{**given, "state": tmp_path / "copy"})
    ledger = (tmp_path / "s.ledger").read_text()
    (tmp_path / "s.ledger").unlink()
    with pytest.raises(ValueError, match="missing"):
        release_stream(Log(log), **given)
    older = {**json.loads(ledger), "t": 10, "digest": "0" * 64}
    (tmp_path / "s.ledger").write_text(json.dumps(older))
    with pytest.raises(ValueError, match="not the state that"):
        release_stream(Log(log), **given)
    (tmp_path / "s.ledger").write_text(ledger)
    (tmp_path / "s").unlink()
    with pytest.raises(RuntimeError, match="50 records were answered"):
        release_stream(Log(log), **given)


def test_a_crash_between_ledger_and_state_loses_nothing(tmp_path, monkeypatch):
    kept = StateFile(tmp_path / "s")
    mechanism = ContinualCounter(2, T=10, rho=0.5)
    kept.save(mechanism, mechanism.run(np.ones((3, 2))))
    answers = mechanism.run(np.ones((2, 2)))
    replaced = os.replace

    def stop(source, target):
        if target == kept.path:
            raise KeyboardInterrupt
        replaced(source, target)

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        kept.save(mechanism, answers)
    monkeypatch.setattr(os, "replace", replaced)
    fresh = ContinualCounter(2, T=10, rho=0.5)
    again, _ = kept.load(fresh)
    np.testing.assert_array_equal(again, answers)
    assert fresh.t == 5


def test_a_crash_before_the_ledger_leaves_what_was(tmp_path, monkeypatch):
    kept = StateFile(tmp_path / "s")
    mechanism = ContinualCounter(2, T=10, rho=0.5)
    mechanism.run(np.ones((3, 2)))

    def stop(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        kept.save(mechanism, np.zeros(0))
    assert not kept.exists(), "nothing has left"


def test_a_state_is_not_written_over_another_one(tmp_path):
    """Two objects of one path, as two processes have them."""

    def made():
        return ContinualCounter(2, T=10, rho=0.5)

    path, first, other = tmp_path / "s", made(), made()
    kept = StateFile(path)
    kept.save(first, first.run(np.ones((3, 2))))
    answers = other.run(np.ones((2, 2)))
    with pytest.raises(RuntimeError, match="written by someone else"):
        StateFile(path).save(other, answers)
    with pytest.raises(RuntimeError, match="another stream"):
        kept.save(other, answers)
    later = made()
    twin = StateFile(path)
    twin.load(later)
    twin.save(later, later.run(np.ones((2, 2))))
    with pytest.raises(RuntimeError, match="written by someone else"):
        kept.save(first, np.zeros(0))
    twin.save(later, later.run(np.ones((2, 2))))
    with twin.locked(), pytest.raises(RuntimeError, match="another process"):
        StateFile(path).save(later, np.zeros(0))
    twin.ledger.unlink()
    with pytest.raises(RuntimeError, match="is gone"):
        twin.save(later, later.run(np.ones((1, 2))))


def test_an_interrupted_save_is_taken_up_by_the_same_process(log, tmp_path, monkeypatch):
    given = {**GIVEN, "T": 200, "state": tmp_path / "s"}
    release_stream(Log(log), **given)
    append(log, "AA")

    def stop(self, ending, data):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(StateFile, "_write", stop)
        with pytest.raises(KeyboardInterrupt):
            release_stream(Log(log), **given)
    assert release_stream(Log(log), **given).summary()["records"] == 51


def test_half_a_line_is_left_to_the_next_run(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("time,carrier\n0,AA\n1,U")
    given = {**GIVEN, "T": 50, "state": tmp_path / "s"}
    assert release_stream(Log(path), **given).summary()["records"] == 1
    with path.open("a") as file:
        file.write("A\n")
    assert release_stream(Log(path), **given).answers[-1].round().tolist() == [1, 1]


def test_files_of_others_are_neither_trusted_nor_overwritten(tmp_path):
    kept = StateFile(tmp_path / "s")
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "s.new").symlink_to(victim)
    (tmp_path / "s.ledger.new").write_text("")
    (tmp_path / "s.ledger.new").chmod(0o666)
    mechanism = ContinualCounter(2, T=10, rho=0.5)
    old = os.umask(0)
    try:
        with kept.locked():
            kept.save(mechanism, mechanism.run(np.ones((3, 2))))
    finally:
        os.umask(old)
    assert victim.read_text() == "mine"
    assert not kept.path.is_symlink()
    for name in ("s", "s.ledger", "s.lock"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    moved = tmp_path / "moved"
    kept.path.rename(moved)
    kept.path.symlink_to(moved)
    with pytest.raises(ValueError, match="not a state"):
        kept.load(ContinualCounter(2, T=10, rho=0.5))


def test_every_flipped_byte_of_a_state_is_noticed(tmp_path):
    kept = StateFile(tmp_path / "s")
    mechanism = ContinualCounter(2, T=10, rho=0.5)
    kept.save(mechanism, mechanism.run(np.ones((3, 2))))
    data = kept.path.read_bytes()
    for at in range(0, len(data), 97):
        kept.path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(ValueError, match="s: "):
            kept.load(ContinualCounter(2, T=10, rho=0.5))


def test_a_rotated_or_truncated_log_is_noticed(log, tmp_path):
    given = {**GIVEN, "T": 500, "state": tmp_path / "s"}
    release_stream(Log(log), **given)
    text = log.read_text()
    log.write_text("time,carrier\n9,UA\n" + "9,UA\n" * 100)
    with pytest.raises(ValueError, match="it was written anew since it was answered"):
        release_stream(Log(log), **given)
    log.rename(tmp_path / "log.1")
    log.write_text("time,carrier\n8,UA\n" + "9,UA\n" * 30)
    with pytest.raises(ValueError, match="another file took its place"):
        release_stream(Log(log), **given)
    log.write_text(text[: len(text) - 30])
    with pytest.raises(ValueError, match="no longer there"):
        release_stream(Log(log), **given)
    log.write_text(text.replace("5,AA", "5,UA"))  # all records are as long as they were
    log.write_text("time,carrier\n8,UA\n" + "9,UA\n" * 30)
    on = release_stream(Log(log), rotated="continue", **given)
    assert len(on.answers) == 50 + 31, "all records of the new file come next"
    append(log, "AA")
    assert release_stream(Log(log), rotated="continue", **given).summary()["records"] == 82


def test_a_log_that_was_copied_goes_on(log, tmp_path):
    given = {**GIVEN, "T": 500, "state": tmp_path / "s"}
    release_stream(Log(log), **given)
    text = log.read_text()
    log.unlink()
    log.write_text(text + "9,UA\n")
    assert release_stream(Log(log), **given).summary()["records"] == 51


def test_followers_are_told_of_rotation(log):
    process = follow(log)
    lines(process, 50)
    log.rename(log.with_name("log.1"))
    log.write_text("time,carrier\n" + "9,UA\n" * 400)
    _, err = process.communicate(timeout=30)
    assert process.returncode != 0
    assert "another file took its place" in err


@pytest.mark.parametrize(
    "path", ["no/s", "file/s", "x" * 300, "folder/s", "new/s", ".", "a\0b"], ids=lambda p: p[:9]
)
def test_a_state_that_cannot_be_is_named(path, log, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder" / "s.lock").mkdir(parents=True)
    (tmp_path / "new" / "s.new").mkdir(parents=True)
    state = Path(path if path == "." else f"{tmp_path}/{path}")
    with pytest.raises(ValueError, match="state must be"):
        release_stream(Log(log), **GIVEN, T=100, state=state)


def test_a_full_disk_is_no_wrong_path(log, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(OSError, match="No space"), StateFile(tmp_path / "s").locked():
        pass


def test_a_pipe_is_no_ledger(log, tmp_path):
    os.mkfifo(tmp_path / "s.ledger")
    with pytest.raises(ValueError, match="damaged"):
        release_stream(Log(log), **GIVEN, T=100, state=tmp_path / "s")


@pytest.mark.parametrize("at", ["answer", "save"])
def test_no_answer_is_lost_to_a_stop_between_blocks(at, tmp_path, monkeypatch):
    """Nothing leaves before all blocks are answered, so that a run that was stopped is done again, whole."""
    path = tmp_path / "log.csv"
    path.write_text("carrier\n" + "AA\nUA\n" * 10)
    given = {**GIVEN, "T": 20_000, "state": tmp_path / "s"}
    first = release_stream(Log(path), **given).answers
    with path.open("a") as file:
        file.write("AA\n" * 9000)
    taken = []

    def stop(self, *arguments):
        taken.append(1)
        if len(taken) == (1 if at == "save" else 3):
            raise KeyboardInterrupt
        return whole(self, *arguments)

    owner, name = (StateFile, "save") if at == "save" else (ContinualCounter, "_answered")
    whole = getattr(owner, name)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, stop)
        with pytest.raises(KeyboardInterrupt):
            release_stream(Log(path), **given)
    made = release_stream(Log(path), **given)
    assert (made.first, len(made.answers)) == (1, 9020)
    np.testing.assert_array_equal(made.answers[:20], first)
    again = release_stream(Log(path), **given)
    np.testing.assert_array_equal(again.answers, made.answers)
