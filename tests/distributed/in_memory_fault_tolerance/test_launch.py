import os

import pytest

from whp.distributed import RunInUseError
from whp.distributed._in_memory_fault_tolerance import client
from whp.distributed._in_memory_fault_tolerance.launch import (
    REPEATED,
    UNRECOVERABLE,
    _Failed,
    _place,
    _repeated,
    end_keepers,
    launch,
)

SCRIPT = """
import os, signal, sys, torch, torch.distributed as dist
from whp.distributed import SnapshotGuard

dist.init_process_group("gloo")
rank, attempt = dist.get_rank(), int(os.environ["TORCHELASTIC_RESTART_COUNT"])
torch.manual_seed(0)
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.AdamW(model.parameters())
with SnapshotGuard({"model": model, "optimizer": optimizer}, dist.group.WORLD, every=2, smp_dir=sys.argv[1]) as guard:
    first = guard.restore()
    if rank == 0:
        with open(sys.argv[2], "a") as log:
            print(attempt, first, guard.report_.source, guard.report_.digest_ok, guard.code.m, file=log)
    for step in range(first, 40):
        model(torch.ones(2, 4)).square().mean().backward()
        for p in model.parameters():
            dist.all_reduce(p.grad)
        guard.pre_step()
        optimizer.step()
        guard.post_step(step)
        if (attempt, step, rank) == (0, 13, 2):
            os.kill(os.getpid(), signal.SIGKILL)
        if (attempt, step, rank) == (1, 23, 1):
            os.kill(guard.smp.found.pid, signal.SIGKILL)
            raise OSError("as planned")
        if (attempt, step, rank) == (2, 30, 0):
            os.kill(guard.smp.found.pid, signal.SIGKILL)
    if attempt == 2:
        assert guard.stats_.keepers_lost == 1
        guard._fence()
        dist.barrier()
        held = guard.smp.query()["held"]
        assert max(h["step"] for h in held if h["state"] in ("encoded", "committed")) >= 34, held
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_a_script_is_started_again_until_it_ends(memory, tmp_path):
    script, log, said = tmp_path / "train.py", tmp_path / "log", []
    script.write_text(SCRIPT)
    done = launch(
        script, [str(memory), str(log)], nproc=3, parity=1, smp_dir=memory, say=said.append
    )
    assert (done.exit_code, done.restarts) == (0, 2)
    rows = [line.split() for line in log.read_text().splitlines()]
    assert [r[2] for r in rows] == ["fresh", "smp", "erasure"]
    assert [r[3] for r in rows] == ["True"] * 3
    assert 8 < int(rows[1][1]) <= 14 < int(rows[2][1]) <= 24
    assert sum("all ranks start again" in line for line in said) == 2
    with pytest.raises(ValueError, match="script must be a file"):
        launch(tmp_path / "none.py")
    with pytest.raises(ValueError, match="parity must be less than nproc"):
        launch(script, nproc=2, parity=2)


def failing(tmp_path, line):
    script = tmp_path / "train.py"
    script.write_text(
        f"""
import os, sys, torch
from whp.distributed import SnapshotGuard

values = torch.zeros(100)
with SnapshotGuard({{"x": values}}, every=1, smp_dir=sys.argv[1], verbose=False) as guard:
    for step in range(guard.restore(), 12):
        guard.pre_step()
        values.fill_(step + 1.0)
        guard.post_step(step)
        guard._fence()
        {line}
"""
    )
    return script


def launched(script, memory):
    said = []
    done = launch(script, [str(memory)], smp_dir=memory, say=said.append, max_restarts=8)
    return done, said


def test_a_bug_stops_the_launcher_at_its_second_time(memory, tmp_path):
    script = failing(tmp_path, "if step >= 7: raise KeyError('a bug')")
    done, said = launched(script, memory)
    assert (done.exit_code, done.restarts) == (REPEATED, 1)
    assert "failed twice at the same place: KeyError at" in done.why
    assert "take it up with run=" in said[-1]
    end_keepers(done.run, memory)


def test_a_bug_before_anything_is_held_leaves_nothing(memory, tmp_path):
    script = tmp_path / "soon.py"
    script.write_text("raise ValueError('at once')")
    done, said = launched(script, memory)
    assert done.exit_code == REPEATED
    assert said[-1].endswith("nothing was held")
    assert not list(memory.iterdir())


def test_what_cannot_be_recovered_stops_the_launcher(memory, tmp_path):
    line = (
        "time = __import__('time'); time.sleep(.05)\n        if step == 5:\n"
        "            os.kill(guard.smp.found.pid, 9)\n            os.kill(os.getpid(), 9)"
    )
    done, _ = launched(failing(tmp_path, line), memory)
    assert done.exit_code == UNRECOVERABLE
    assert "UnrecoverableError" in done.why
    end_keepers(done.run, memory)
    assert not list(memory.iterdir())


def test_one_launch_a_run(memory, tmp_path):
    script = failing(tmp_path, "")
    with client.alone(f"launch-{memory}-busy", 1.0) as holder:
        assert holder == 0
        with pytest.raises(RunInUseError, match=f"process {os.getpid()} has launched run busy"):
            launch(script, [str(memory)], run="busy", smp_dir=memory, say=lambda _: None)
    assert not list(memory.iterdir())


@pytest.mark.parametrize(
    ("error", "own"),
    [
        (ValueError("x"), True),
        (ConnectionResetError("x"), False),
        (RuntimeError("Connection closed by peer [127.0.0.1]"), False),
        (RuntimeError("shape mismatch"), True),
    ],
)
def test_the_cause_is_told_from_its_echo(error, own):
    with pytest.raises(type(error)) as raised:
        raise error
    assert bool(_place(raised.value)) == own


def test_strokes_from_outside_are_borne_twice():
    own = _Failed(1, "", frozenset({"KeyError at a:1"}), step=4)
    far = _Failed(1, "", frozenset({"KeyError at a:1"}), step=50)
    other = _Failed(1, "", frozenset({"KeyError at a:2"}), step=4)
    struck = _Failed(-9, "", frozenset(), frozenset({"exit code -9 of rank 0"}), 4)
    assert not _repeated([own])
    assert not _repeated([own, other])
    assert not _repeated([own, far])
    assert "twice" in _repeated([other, own, own])
    assert not _repeated([struck, struck])
    assert "three times" in _repeated([struck] * 3)
