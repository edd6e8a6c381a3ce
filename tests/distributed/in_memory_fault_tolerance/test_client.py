import os
import signal
import time
from pathlib import Path

from keepers import random_shards

from whp.distributed._in_memory_fault_tolerance import client
from whp.distributed._in_memory_fault_tolerance.fleet import Fleet
from whp.distributed._in_memory_fault_tolerance.launch import status


def test_a_keeper_outlives_signals_and_ends_without_a_trainer(memory):
    found = client.start("lonely", 0, memory, "t", linger=0.4)
    for harmless in (signal.SIGINT, signal.SIGHUP):
        os.kill(found.pid, harmless)
    time.sleep(0.1)
    assert client.alive(found.pid)
    assert os.getsid(found.pid) == found.pid
    maps = Path(f"/proc/{found.pid}/maps").read_text()
    assert "libtorch" not in maps
    deadline = time.monotonic() + 3
    while client.alive(found.pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not client.alive(found.pid)


def test_clean_removes_what_the_dead_left_and_nothing_else(memory):
    with Fleet(2, 1, length=640, directory=memory) as fleet:
        fleet.save(random_shards(fleet))
        os.kill(fleet.members[0].found.pid, signal.SIGKILL)
        while client.alive(fleet.members[0].found.pid):
            time.sleep(0.01)
        (memory / "other").touch()
        gone = client.clean(memory)
        assert {p.name.split("-")[2].split(".")[0] for p in gone} == {"0"}
        assert len(gone) == 5, "two buffers, a page of numbers, a file and a socket"
        assert fleet.members[1].query()["held"]
        (memory / "other").unlink()
        rows = status(fleet.run, memory)
        assert [(r["member"], r["state"], r["trainer"]) for r in rows] == [(1, "committed", True)]
        fleet.members[0].close()
