import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("count", [300, pytest.param(5000, marks=pytest.mark.slow)])
def test_damaged_files_are_read_or_refused_by_name(count):
    script = Path(__file__).with_name("hostile.py")
    done = subprocess.run(
        [sys.executable, script, str(count)], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["bad"] == []
    assert seen["read"] > count / 10
    assert seen["refused"] > count
