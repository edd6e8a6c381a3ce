"""Three thousand hostile arguments at the front doors: only named errors, no crash, no hang."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from whp.catalogue import CATALOGUE

HERE = Path(__file__).parent
PROCESSES = ("checkfree", "in-memory-fault-tolerance")  # each call starts several; fewer of them
BUILT = [m.slug for m in CATALOGUE if m.status == "built"]


@pytest.mark.slow
@pytest.mark.parametrize("slug", BUILT)
def test_hostile_arguments(slug):
    n = 10 if slug in PROCESSES else 200
    done = subprocess.run(
        [sys.executable, str(HERE / "fuzz_door.py"), slug, str(n)],
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    counts = json.loads(done.stdout.splitlines()[-1])
    assert not counts["bad"], "\n".join(counts["bad"][:5])
    assert counts["refused"] > n / 4
