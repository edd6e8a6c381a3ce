import json
import math
import os
import pickle

import numpy as np
import pandas as pd
import pytest

from whp.experiment.cache import Cache
from whp.experiment.runner import run_study
from whp.experiment.task import plain

IDENTITY = {"entry": "a:b", "source": "x", "threads": 1, "config": {"seed": 0}}
ROWS = [{"x": 1.5, "n": 3, "s": "é", "b": True, "none": None, "error": ""}]


@pytest.fixture
def kept(tmp_path):
    cache = Cache(tmp_path / "c")
    cache.put(IDENTITY, ROWS)
    (path,) = (tmp_path / "c").rglob("*.json")
    return cache, path


def test_every_scalar_comes_back_as_it_was(tmp_path):
    row = {
        "nan": math.nan,
        "inf": math.inf,
        "least": -math.inf,
        "tiny": 5e-324,
        "third": 1 / 3,
        "zero": -0.0,
        "single": np.float32(0.1),
        "count": np.int64(2**62),
        "large": 2**70,
        "flag": np.bool_(True),
        "text": "a\nb",
        "none": None,
    }
    made = plain(row)
    cache = Cache(tmp_path / "c")
    cache.put(IDENTITY, [made])
    (back,) = cache.get(IDENTITY)
    assert list(back) == list(row)
    assert math.isnan(back.pop("nan"))
    made.pop("nan")
    assert {k: (type(v), repr(v)) for k, v in back.items()} == {
        k: (type(v), repr(v)) for k, v in made.items()
    }
    first, second = (pd.DataFrame.from_records([r]) for r in (made, back))
    pd.testing.assert_frame_equal(first, second)
    assert first["flag"].dtype == bool
    assert first["count"].dtype == np.int64


@pytest.mark.parametrize("value", [[1], {"a": 1}, np.zeros(2), object()])
def test_what_is_no_scalar_is_refused(value):
    with pytest.raises(TypeError, match="column 'x'"):
        plain({"x": value})


def test_any_flipped_bit_is_noticed(kept):
    cache, path = kept
    whole = path.read_bytes()
    for place in range(len(whole)):
        for bit in (0, 5):
            flipped = bytearray(whole)
            flipped[place] ^= 1 << bit
            path.write_bytes(bytes(flipped))
            assert cache.get(IDENTITY) is None, place
    path.write_bytes(whole)
    assert cache.get(IDENTITY) == ROWS


def signed(body: bytes) -> bytes:
    import hashlib

    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"not json",
        signed(b"[]"),
        signed(b"not json"),
        signed(json.dumps({"trial": IDENTITY, "rows": []}).encode()),
        signed(json.dumps({"trial": IDENTITY, "rows": [1]}).encode()),
        signed(json.dumps({"trial": {**IDENTITY, "source": "y"}, "rows": ROWS}).encode()),
        signed(b"[" * 100_000),
    ],
)
def test_what_is_not_the_trials_entry_is_no_entry(kept, content):
    cache, path = kept
    path.write_bytes(content)
    assert cache.get(IDENTITY) is None


def test_an_entry_under_another_name_is_no_entry(kept):
    cache, path = kept
    other = {**IDENTITY, "config": {"seed": 1}}
    cache.put(other, ROWS)
    (second,) = set(path.parent.parent.rglob("*.json")) - {path}
    second.write_bytes(path.read_bytes())
    assert cache.get(other) is None


class Bomb:
    def __reduce__(self):
        return os.system, ("touch PWNED",)


def test_a_crafted_entry_executes_nothing(kept, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cache, path = kept
    path.write_bytes(pickle.dumps(Bomb()))
    assert cache.get(IDENTITY) is None
    assert not (tmp_path / "PWNED").exists()


@pytest.mark.parametrize("damage", ["emptied", "removed", "cut", "foreign"])
def test_a_damaged_study_is_computed_again_and_whole(toy, tmp_path, runs, damage):
    first = run_study(toy, "quick", jobs=1)
    entries = sorted((tmp_path / "cache").rglob("*.json"))
    assert len(entries) == 12
    text = entries[0].read_bytes()
    if damage == "removed":
        entries[0].unlink()
    else:
        entries[0].write_bytes(
            {"emptied": b"", "cut": text[: len(text) // 2], "foreign": entries[1].read_bytes()}[
                damage
            ]
        )
    fresh = []
    again = run_study(toy, "quick", jobs=1, on_result=lambda n, t, rows, c: fresh.append(not c))
    assert sum(fresh) == 1
    pd.testing.assert_frame_equal(
        first.drop(columns="seconds_trial"), again.drop(columns="seconds_trial")
    )
    assert entries[0].read_bytes() != b""
    assert sum(runs().values()) == 13


def test_writing_leaves_no_other_file_and_old_leftovers_go(kept):
    _, path = kept
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    leftover, recent = path.parent / ".old.new", path.parent / ".recent.new"
    leftover.touch()
    recent.touch()
    os.utime(leftover, (0, 0))
    Cache(path.parent.parent.parent)
    assert not leftover.exists()
    assert recent.exists(), "another run may be writing it"


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o757])
@pytest.mark.parametrize("inner", [False, True])
def test_a_directory_that_others_can_write_is_refused(tmp_path, mode, inner):
    Cache(tmp_path / "c")
    (tmp_path / "c" / ("trials" if inner else "")).chmod(mode)
    with pytest.raises(ValueError, match="others can write"):
        Cache(tmp_path / "c")


def test_a_shared_directory_may_be_sticky_but_the_entries_are_ours_alone(tmp_path):
    (tmp_path / "c").mkdir()
    (tmp_path / "c").chmod(0o1777)
    cache = Cache(tmp_path / "c")
    assert cache.directory.stat().st_mode & 0o077 == 0
    cache.directory.chmod(0o1777)
    with pytest.raises(ValueError, match="others can write"):
        Cache(tmp_path / "c")


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no owners here")
def test_a_strangers_directory_is_refused(tmp_path, monkeypatch):
    Cache(tmp_path / "c")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(ValueError, match="somebody else"):
        Cache(tmp_path / "c")
