import os
import signal
import tempfile
from pathlib import Path

import pytest
from keepers import Loop

from whp.distributed._in_memory_fault_tolerance import client
from whp.distributed.processes import Crew


@pytest.fixture
def memory(tmp_path_factory):
    """A directory in memory that must be empty in the end, and no keeper of it alive."""
    place = Path(tempfile.mkdtemp(prefix="t", dir="/dev/shm"))
    yield place
    left = [found for found in client.keepers(place) if client.alive(found.pid)]
    names = sorted(p.name for p in place.iterdir())
    for found in left:
        os.kill(found.pid, signal.SIGKILL)
    for path in place.iterdir():
        path.unlink()
    place.rmdir()
    assert not left, "a keeper was left"
    assert not names, "files were left"


@pytest.fixture
def loop(memory, tmp_path):
    with Crew() as crew:
        yield Loop(memory, tmp_path, crew)
