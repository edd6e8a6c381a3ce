import os
from collections import Counter
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """The toy study with a cache and a trace of its own; workers inherit both."""
    (tmp_path / "trace").mkdir()
    monkeypatch.setenv("TOY_TRACE", str(tmp_path / "trace"))
    monkeypatch.setenv("WHP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(HERE), prepend=os.pathsep)
    monkeypatch.syspath_prepend(str(HERE))
    import toy_study

    return toy_study


@pytest.fixture
def runs(tmp_path):
    """How often each seed of the toy study really ran."""

    def count() -> Counter:
        names = [p.name for p in (tmp_path / "trace").iterdir()]
        return Counter(n.split("-")[0] for n in names if n != "kill-once")

    return count
