import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import ranks
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from whp.certificate import Verdict
from whp.distributed import (
    ErasureGroup,
    RunInUseError,
    SnapshotGuard,
    StateMismatchError,
    UnrecoverableError,
    in_memory_fault_tolerance,
    loss_probability,
    optimal_interval,
    survival_probability,
)
from whp.distributed._in_memory_fault_tolerance import client
from whp.distributed._in_memory_fault_tolerance.fleet import Fleet
from whp.distributed._in_memory_fault_tolerance.launch import (
    _run_script,
    end_keepers,
    launch,
    status,
)
from whp.distributed._in_memory_fault_tolerance.memory import room_for
from whp.distributed._in_memory_fault_tolerance.objects import collect
from whp.distributed._in_memory_fault_tolerance.recovery import agree
from whp.distributed._in_memory_fault_tolerance.shards import (
    compare,
    flatten,
    from_plain,
    to_plain,
    unflatten,
)
from whp.distributed._in_memory_fault_tolerance.survival import every_steps, overhead
from whp.distributed._in_memory_fault_tolerance.wire import (
    HEADER,
    MAGIC,
    Channel,
    Kind,
    WireError,
    connect,
)
from whp.distributed.processes import Crew, Died, run_ranks

TEXT = (
    "In the beginning God created the heaven and the earth. And the earth was without form, and void; "
    * 20
)


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


def random_shards(fleet, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, fleet.length, dtype=np.uint8) for _ in range(fleet.code.n)]


# Survival and intervals


@pytest.mark.parametrize(
    ("n", "m", "p", "groups", "expected"),
    [
        (4, 1, 0.01, 1, 0.99940797),
        (4, 2, 0.01, 1, 0.99999603),
        (8, 1, 0.01, 1, 0.99730992),
        (8, 2, 0.01, 1, 0.99994607),
        (6, 2, 0.05, 1, 0.99777016),
        (8, 1, 0.01, 16, 0.95781633),
        (8, 2, 0.01, 16, 0.99913742),
    ],
)
def test_6_survival_numbers(n, m, p, groups, expected):
    assert survival_probability(n, m, p, groups=groups) == pytest.approx(expected, abs=1e-8)


def test_6_intervals():
    assert optimal_interval(0.04, 1 / 3600) == pytest.approx(16.9705627, abs=1e-7)
    assert optimal_interval(60, 1 / 3600) == pytest.approx(657.2670690, abs=1e-7)
    times = np.linspace(1, 60, 5901)
    best = times[np.argmin([overhead(t, 0.04, 1 / 3600) for t in times])]
    assert best == pytest.approx(optimal_interval(0.04, 1 / 3600), abs=0.02)
    assert every_steps(0.04, 0.0, 0.3, 1 / 3600) == 57
    assert (
        every_steps(0.0001, 5.0, 0.3, 1.0) == 17
    )  # never before the previous version is committed


def test_correlation_destroys_survival():
    lost = [1 - survival_probability(8, 1, 0.01, rho=rho) for rho in (0, 0.01, 0.1, 0.5)]
    assert lost[0] == pytest.approx(1 - 0.99730992, abs=1e-8)
    assert lost[1] > 1.5 * lost[0]
    assert lost[2] > 3 * lost[0]
    assert survival_probability(8, 1, 0.01, rho=1) == pytest.approx(0.99)
    assert survival_probability(8, 1, 0.01, rho=1e-9) == pytest.approx(0.99730992, abs=1e-6)
    assert survival_probability(8, 1, 0.01, scheme="disk") == pytest.approx(0.99**8)
    assert survival_probability(8, 1, 0.01, scheme="pairs") == pytest.approx((1 - 1e-4) ** 4)
    assert loss_probability(0.1, 2.0) == pytest.approx(1 - np.exp(-0.2))
    assert loss_probability(0.1, 2.0, shape=2) == pytest.approx(1 - np.exp(-0.04))
    for wrong in ({"p": 1.5}, {"m": 8}, {"rho": -1}, {"scheme": "tape"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            survival_probability(**{"n": 8, "m": 1, "p": 0.01} | wrong)


# State as bytes

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.tuples(
        st.sampled_from(
            [
                torch.float32,
                torch.float64,
                torch.bfloat16,
                torch.int64,
                torch.uint8,
                torch.bool,
                torch.complex64,
            ]
        ),
        st.lists(st.integers(0, 4), max_size=3),
        st.integers(0, 99),
    ).map(
        lambda a: (torch.randn(a[1], generator=torch.Generator().manual_seed(a[2])) * 9).to(a[0])
    ),
)
STATES = st.dictionaries(
    st.text(max_size=4),
    st.recursive(
        LEAVES,
        lambda s: st.one_of(
            st.lists(s, max_size=3),
            st.tuples(s, s),
            st.dictionaries(st.one_of(st.text(max_size=3), st.integers()), s, max_size=3),
        ),
        max_leaves=8,
    ),
    min_size=1,
    max_size=4,
)


def same(a, b):
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, dict):
        return type(a) is type(b) and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@settings(max_examples=100, deadline=None)
@given(STATES, st.integers(1, 5))
def test_any_state_comes_back(state, shards):
    flat = flatten(state)
    plain = json.loads(json.dumps([flat.manifest, flat.plain]))
    size = -(-flat.size // shards)
    parts = []
    for r in range(shards):
        part = np.full(size, 255, dtype=np.uint8)
        flat.copy_range(r * size, part)
        flat.clear_gaps(r * size, part)
        parts.append(part)
    stream = np.concatenate(parts)
    assert np.array_equal(stream[: flat.size], flat.stream())
    assert not stream[flat.size :].any()
    found = unflatten(stream[: flat.size], *plain)
    assert found.keys() == state.keys()
    assert all(same(state[k], found[k]) for k in state)
    assert all(offset % 64 == 0 for _, _, _, offset, *shared in flat.manifest if not shared)
    assert flatten(found).fingerprint == flat.fingerprint


def test_tied_and_strided_tensors_keep_their_ties():
    whole = torch.arange(12.0).view(3, 4)
    state = {
        "a": whole,
        "b": whole[1:],
        "c": whole.T,
        "d": torch.arange(6.0).view(2, 3).T,
        "e": torch.zeros(4),
    }
    flat = flatten(state)
    assert flat.size == 64 * 3, "one storage of 48 bytes, one of 24, one of 16"
    found = unflatten(flat.stream(), flat.manifest, flat.plain)
    assert all(torch.equal(found[k], state[k]) for k in state)
    found["a"][1, 1] = -5
    assert found["b"][0, 1] == found["c"][1, 1] == -5
    assert found["e"].untyped_storage().nbytes() == 16


def test_plain_data_of_every_kind():
    value = {
        "x": np.arange(3),
        "y": np.float32(2.5),
        "z": OrderedDict(b=1, a=(1, [2, None])),
        3: b"\0\1",
        (1, 2): float("inf"),
        "%": "tag",
    }
    found = from_plain(json.loads(json.dumps(to_plain(value, "value"))))
    np.testing.assert_array_equal(found.pop("x"), value.pop("x"))
    assert found == value
    assert list(found["z"]) == ["b", "a"]
    assert found["y"].dtype == np.float32


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            lambda: None,
            r"state\.x must be a tensor or plain data .* got builtins\.function.*\(getter, setter\)",
        ),
        ({1, 2}, "got builtins.set"),
        (torch.eye(2).to_sparse(), "must be a dense tensor"),
        (torch.empty(2, device="meta"), "meta device"),
        (np.array([object()]), "array of object"),
        (Verdict.HOLDS, "got whp.certificate.Verdict"),
    ],
)
def test_what_is_neither_tensor_nor_plain_is_refused(value, message):
    with pytest.raises(TypeError, match=message):
        flatten({"state": {"x": value}})


def test_another_state_is_refused_by_name():
    one = flatten(
        {
            "m": {"a": torch.zeros(2), "b": torch.zeros(3), "c": torch.zeros(1)},
            "o": {"state": torch.zeros(1)},
        }
    )
    two = flatten(
        {"m": {"a": torch.zeros(4), "b": torch.zeros(3).double(), "d": torch.zeros(1)}, "o": {}}
    )
    with pytest.raises(
        StateMismatchError,
        match=r"m\.a is float32 \(2,\) saved and float32 \(4,\) present; m\.b .*; m\.c .* 1 more",
    ):
        compare(one.manifest, two.manifest, ("o.",))
    compare(one.manifest, one.manifest)


# Words between processes


def test_nothing_is_believed_without_the_token(memory):
    with Fleet(2, 1, directory=memory) as fleet:
        place = fleet.members[0].found
        with pytest.raises(WireError, match="token"):
            connect((place.host, place.port), "0" * 32, role="peer")
        for first in (
            HEADER.pack(MAGIC, Kind.QUERY, 2, 0) + b"{}",
            HEADER.pack(MAGIC, Kind.HELLO, 1 << 20, 0),
            HEADER.pack(MAGIC, Kind.HELLO, 2, 1 << 40) + b"{}",
            HEADER.pack(b"evil", Kind.HELLO, 2, 0) + b"{}",
            b"\x80\x04\x95" + bytes(60),
        ):
            with socket.create_connection((place.host, place.port), timeout=5) as sock:
                sock.sendall(first)
                sock.settimeout(5)
                with contextlib.suppress(ConnectionResetError):
                    assert sock.recv(100) == b""
        stranger = connect((place.host, place.port), place.token, role="peer", member=1)
        with pytest.raises(WireError, match="DROP is for the trainer"):
            stranger.ask(Kind.DROP, {"keep": 0, "floor": 9})
        with pytest.raises(WireError, match="does not hold version 7"):
            stranger.ask(Kind.FETCH, {"version": 7, "what": "d", "index": 0, "at": 0, "size": 4})
        stranger.close()
        assert oct((memory / f"whp-{fleet.run}-0.json").stat().st_mode)[-3:] == "600"
        assert place.host == "127.0.0.1"
        fleet.save(random_shards(fleet))


def test_messages_arrive_as_they_were_sent():
    left, right = (Channel(s) for s in socket.socketpair())
    payload = np.arange(100_000, dtype=np.uint8)
    sender = threading.Thread(
        target=lambda: (left.send(Kind.BLOCK, {"a": [1, "ü"]}, payload), left.send(Kind.OK))
    )
    sender.start()
    kind, said, carried = right.receive()
    assert (kind, said) == (Kind.BLOCK, {"a": [1, "ü"]})
    np.testing.assert_array_equal(np.frombuffer(carried, np.uint8), payload)
    assert right.receive()[:2] == (Kind.OK, {})
    sender.join()
    left.close()
    with pytest.raises(EOFError):
        right.receive()
    right.close()


# Keepers


@pytest.mark.parametrize(("n", "m", "codec"), [(4, 1, "auto"), (3, 1, "replica"), (1, 0, "auto")])
def test_4_every_loss_that_the_code_survives_is_rebuilt(memory, n, m, codec):
    assert_all_patterns(n, m, codec, memory, length=6400 * (n - m))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "m", "codec"), [(6, 2, "auto"), (5, 3, "auto"), (6, 4, "auto"), (5, 2, "replica")]
)
def test_4_every_loss_of_larger_groups(memory, n, m, codec):
    assert_all_patterns(n, m, codec, memory, length=64 * 300 * (n - m))


def assert_all_patterns(n, m, codec, memory, length):
    with Fleet(n, m, codec, length=length, directory=memory) as fleet:
        for u in range(m + 1):
            for lost in itertools.combinations(range(n), u):
                shards = random_shards(fleet, seed=fleet.version)
                version = fleet.save(shards)
                fleet.lose(lost)
                found = fleet.recover()
                assert (found.version, sorted(found.lost)) == (version, list(lost))
                np.testing.assert_array_equal(shards, fleet.shards(version))
        if m + 1 < n:
            fleet.save(random_shards(fleet))
            fleet.lose(range(m + 1))
            with pytest.raises(UnrecoverableError, match="lost"):
                fleet.recover()


def test_7_a_version_that_is_not_encoded_never_happened(memory):
    with Fleet(4, 1, length=64 * 300, directory=memory) as fleet:
        first = random_shards(fleet, 1)
        kept = fleet.save(first)
        fleet.members[2].hold(True)
        fleet.begin(random_shards(fleet, 2))
        time.sleep(0.1)
        states = [
            h["state"]
            for smp in fleet.members
            for h in smp.query()["held"]
            if h["version"] == kept + 1
        ]
        assert states[:2] + states[3:] == ["copied"] * 3, (
            "one that waits keeps the others from being encoded"
        )
        fleet.lose([0])
        found = fleet.recover()
        assert (found.version, list(found.lost)) == (kept, [0])
        np.testing.assert_array_equal(first, fleet.shards(kept))
        fleet.members[2].hold(False)
        again = random_shards(fleet, 3)
        version = fleet.save(again)
        assert version == kept + 2, "a number is never used again"
        np.testing.assert_array_equal(again, fleet.shards(version))


def test_a_half_written_buffer_is_forgotten_with_its_writer(memory):
    with Fleet(2, 1, length=640, directory=memory) as fleet:
        first = random_shards(fleet)
        fleet.save(first)
        fleet.members[0].begin(2, 640)[:100] = 7
        fleet.members[0].close()
        fleet.members[0] = client.SMP(fleet.members[0].found)
        told = fleet.members[0].query()
        assert [(h["version"], h["state"]) for h in told["held"]] == [(1, "committed")]
        assert told["floor"] == 2
        found = fleet.recover()
        assert (found.version, found.lost) == (1, {})
        np.testing.assert_array_equal(first, fleet.shards(1))


def test_a_commit_that_got_lost_half_way_is_found_out(memory):
    code = ErasureGroup(3, 1)

    def told(*held):
        return {
            "n": 3,
            "floor": 4,
            "held": [{"version": v, "state": s, "bad": []} for v, s in held],
        }

    mixed = [
        told((5, "committed")),
        told((4, "committed"), (5, "encoded")),
        told((4, "committed"), (5, "encoded")),
    ]
    assert agree(code, mixed).version == 5
    late = [
        told((4, "committed"), (5, "copied")),
        told((4, "committed"), (5, "encoded")),
        told((4, "committed"), (5, "dirty")),
    ]
    assert agree(code, late).version == 4
    gone = [told(), told((4, "committed"), (5, "encoded")), told((4, "committed"), (5, "encoded"))]
    assert (agree(code, gone).version, list(agree(code, gone).lost)) == (5, [0])
    assert agree(code, [told(), told(), told((4, "committed"))]).version == 0
    assert "survives 1" in agree(code, [told(), told(), told((4, "committed"))]).why
    assert agree(code, [told()] * 3).why == ""
    with pytest.raises(ValueError, match="copies in memory are of 3 ranks and this group has 2"):
        agree(ErasureGroup(2, 1), mixed[:2])


def test_a_damaged_byte_counts_as_a_lost_block(memory):
    with Fleet(4, 1, length=64 * 300, directory=memory) as fleet:
        shards = random_shards(fleet)
        fleet.save(shards)
        fleet.corrupt(1, 5)
        found = fleet.recover()
        assert found.lost == {1: [["d", 0]]}
        np.testing.assert_array_equal(shards, fleet.shards(1))
        fleet.corrupt(3, fleet.length + 9)
        assert fleet.recover().lost == {3: [["p", 0]]}
        fleet.corrupt(1, 5)
        fleet.lose([2])
        with pytest.raises(UnrecoverableError, match="survives 1"):
            fleet.recover()


def test_the_coordinator_may_die(memory):
    with Fleet(3, 1, length=640, directory=memory) as fleet:
        fleet.save(random_shards(fleet, 1))
        fleet.lose([0])
        fleet.recover()
        shards = random_shards(fleet, 2)
        np.testing.assert_array_equal(fleet.shards(fleet.save(shards)), shards)


def test_buffers_that_do_not_fit_are_refused(monkeypatch, tmp_path):
    class Full:
        f_bavail, f_frsize = 64, 1 << 20

    monkeypatch.setattr(os, "statvfs", lambda _: Full)
    with pytest.raises(
        MemoryError, match="has 64 MB free, 2 buffers of 151 MB needed; set smp_dir="
    ):
        room_for(tmp_path, 2, 151 << 20)
    room_for(tmp_path, 2, 30 << 20)


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


# The guard of one process

LOOP = """
import hashlib, json, os, signal, sys
import numpy as np, random, torch
from whp.distributed import SnapshotGuard

how = json.loads(sys.argv[1])
torch.manual_seed(0); np.random.seed(0); random.seed(0)
model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.BatchNorm1d(16), torch.nn.Dropout(0.2), torch.nn.Linear(16, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
schedule = torch.optim.lr_scheduler.StepLR(optimizer, 7)
seen = {"batches": 0}
state = {"model": model, "optimizer": optimizer, "schedule": schedule, "seen": (lambda: dict(seen), seen.update)}
guard = SnapshotGuard(state, every=how.get("every", 2), smp_dir=how["dir"], linger=30, mode=how.get("mode", "overlap"),
                      persist_dir=how.get("disk"), persist_every=1 if how.get("disk") else None)
first = guard.restore(how.get("source", "auto"))
with open(how["log"], "a") as log:
    r = guard.report_
    print(json.dumps({"source": r.source, "step": r.step, "good": r.digest_ok, "first": first}), file=log, flush=True)
for step in range(first, how["steps"]):
    x = torch.randn(4, 8) + random.random() + np.random.random()
    loss = model(x.float()).square().mean()
    optimizer.zero_grad(); loss.backward()
    if how.get("kill") == ["backward", step]: os.kill(os.getpid(), signal.SIGKILL)
    guard.pre_step(); optimizer.step(); schedule.step()
    seen["batches"] += 1
    guard.post_step(step)
    if how.get("kill") == ["step", step]: os.kill(os.getpid(), signal.SIGKILL)
    if how.get("raise") == step: raise RuntimeError("as planned")
whole = hashlib.sha256(b"".join(t.numpy().tobytes() for t in model.state_dict().values())).hexdigest()
with open(how["log"], "a") as log:
    print(json.dumps({"end": whole, "batches": seen["batches"], "loss": loss.item(), "stats": guard.stats_.summary()}), file=log)
guard.close()
"""


class Loop:
    """Runs the script above in processes that are forked from one that has torch."""

    def __init__(self, memory, tmp_path, crew):
        self.script, self.log, self.memory, self.crew = (
            tmp_path / "loop.py",
            tmp_path / "log",
            memory,
            crew,
        )
        self.script.write_text(LOOP)

    def start(self, run, **how):
        how = {"dir": str(self.memory), "log": str(self.log), "steps": 20} | how
        environment = {"WHP_GUARD_RUN": run}
        return self.crew.start(
            _run_script, str(self.script), [json.dumps(how)], environment, name=run
        )

    def finish(self, worker):
        """Exit code, or what it said in the end."""
        while True:
            for other, message in self.crew.wait(10):
                if other is worker:
                    worker.send("end")
                    worker.process.join(5)
                    self.crew.dismiss(worker)
                    return message.exitcode if isinstance(message, Died) else message[0]

    def run(self, run, **how):
        return self.finish(self.start(run, **how))

    def lines(self):
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@pytest.fixture
def loop(memory, tmp_path):
    with Crew() as crew:
        yield Loop(memory, tmp_path, crew)


@pytest.mark.parametrize("mode", ["overlap", "sync"])
def test_a_killed_trainer_goes_on_as_if_nothing_had_been(loop, memory, mode):
    assert loop.run("calm", mode=mode) == 0
    assert loop.run("shot", mode=mode, kill=["step", 7]) == -signal.SIGKILL
    assert sorted(p.suffix for p in memory.iterdir() if p.suffix) == [".json", ".sock"]
    left = sorted(p.name.split("-")[-1] for p in memory.iterdir() if not p.suffix)
    assert left == ["a1", "b1", "mark"], (
        "exactly the two buffers remain, and what outlives the trainer"
    )
    assert loop.run("shot", mode=mode, kill=["backward", 13]) == -signal.SIGKILL
    assert loop.run("shot", mode=mode) == 0
    start, calm, *again, end = loop.lines()
    assert start["source"] == "fresh"
    assert [a["source"] for a in again] == ["fresh", "smp", "smp"]
    assert all(a["good"] for a in again)
    assert 4 <= again[1]["step"] <= 7
    assert 9 <= again[2]["step"] <= 12
    assert end["end"] == calm["end"]
    assert end["batches"] == calm["batches"] == 20
    assert end["stats"]["torn"] == end["stats"]["unfenced"] == 0


def test_an_exception_keeps_the_memory_and_a_good_end_does_not(loop, memory):
    assert loop.run("raised", **{"raise": 6}) == 1
    assert any(memory.iterdir())
    assert loop.run("raised") == 0
    assert loop.lines()[1]["source"] == "smp"


def test_the_slow_tier_is_published_whole_and_restores(loop, tmp_path):
    disk = tmp_path / "disk"
    assert loop.run("calm") == 0
    assert loop.run("disk", disk=str(disk), kill=["step", 9]) == -signal.SIGKILL
    deadline = time.monotonic() + 5
    published = []
    while time.monotonic() < deadline and not published:
        published = [p for p in (disk / "disk").glob("version-*") if p.suffix != ".incomplete"]
    assert end_keepers("disk", loop.memory) == 1
    published = [p for p in (disk / "disk").glob("version-*") if p.suffix != ".incomplete"]
    assert 1 <= len(published) <= 2
    assert loop.run("disk", disk=str(disk)) == 0
    calm, restored, end = (loop.lines()[i] for i in (1, 3, 4))
    assert restored["source"] == "persist"
    assert restored["good"]
    assert end["end"] == calm["end"]
    newest = max(p for p in (disk / "disk").glob("version-*") if p.suffix != ".incomplete")
    with (newest / "member-0.bin").open("r+b") as file:
        file.write(b"\xff\x00\xff")
    assert loop.run("disk", disk=str(disk)) == 1, "a damaged part is refused"
    end_keepers("disk", loop.memory)


def test_3_a_few_kills_at_random_moments(loop):
    assert_survives_kills(loop, kills=3, steps=150)


@pytest.mark.slow
def test_3_fifty_kills_at_random_moments(loop):
    assert_survives_kills(loop, kills=55, steps=3000)


def assert_survives_kills(loop, kills, steps):
    rng = np.random.default_rng(0)
    assert loop.run("calm", steps=steps, every=1) == 0
    done = 0
    for _ in range(kills):
        worker = loop.start("shot", steps=steps, every=1)
        before = len(loop.lines())
        while len(loop.lines()) == before and worker.alive:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.12))
        worker.kill()
        done += loop.finish(worker) == -signal.SIGKILL
    assert loop.run("shot", steps=steps, every=1) == 0
    lines = loop.lines()
    restored = lines[2:-1]
    assert done == kills
    assert all(r["good"] for r in restored if "good" in r)
    steps_restored = [r["step"] for r in restored]
    assert steps_restored == sorted(steps_restored), "a commit is never taken back"
    assert steps_restored[-1] > 0
    assert lines[-1]["end"] == lines[1]["end"]


def trained(guard, model, optimizer, steps, fence=True):
    for step in range(guard.restore(), steps):
        model(torch.randn(16, model[0].in_features)).square().mean().backward()
        if fence:
            guard.pre_step()
        optimizer.step()
        guard.post_step(step)


def small(width=8):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(width, width), torch.nn.Linear(width, 1))
    return model, torch.optim.AdamW(model.parameters())


def test_the_guard_costs_and_reports(memory):
    model, optimizer = small()
    with SnapshotGuard(
        {"model": model, "optimizer": optimizer}, smp_dir=memory, run="one"
    ) as guard:
        trained(guard, model, optimizer, 12)
        assert guard.report_.source == "fresh"
        assert guard.stats_.versions >= 1
        assert guard.stats_.longest_period > 1, (
            "Young's interval for an hour between failures is long"
        )
        assert guard.stats_.state_bytes == flatten(collect(guard.state)).size
        with pytest.raises(RunInUseError, match=f"process {os.getpid()} trains under run one"):
            client.SMP(guard.smp.found)


def test_a_keeper_that_dies_is_replaced_while_training_goes_on(memory):
    model, optimizer = small()
    with SnapshotGuard(
        {"model": model, "optimizer": optimizer}, every=1, smp_dir=memory, run="heals"
    ) as guard:
        trained(guard, model, optimizer, 3)
        first = guard.smp.found.pid
        os.kill(first, signal.SIGKILL)
        while client.alive(first):
            time.sleep(0.01)
        for step in range(3, 9):
            guard.pre_step()
            guard.post_step(step)
            time.sleep(0.02)
        assert guard.stats_.keepers_lost == 1
        assert guard.smp.found.pid != first
        guard._fence()
        held = guard.smp.query()["held"]
        assert max(h["step"] for h in held if h["state"] == "committed") >= 6


def test_a_missing_fence_is_found_out(memory):
    model, optimizer = small(1500)
    with SnapshotGuard(
        {"model": model, "optimizer": optimizer}, every=1, smp_dir=memory, run="torn"
    ) as guard:
        started = guard._begin

        def begin(step, flat):
            slow = flat.copy_range
            flat.copy_range = lambda *a, **k: (
                slow(*a, **k),
                time.sleep(0.3 if k.get("skip") is not None else 0),
            )
            started(step, flat)

        def unfenced():
            trained(guard, model, optimizer, 4, fence=False)
            guard._fence()

        guard._begin = begin
        with pytest.warns(UserWarning, match="Call pre_step"):
            unfenced()
        assert guard.stats_.unfenced >= 3
        assert guard.stats_.torn >= 1
        seen = {"torn": guard.stats_.torn, "unfenced": guard.stats_.unfenced}
    assert seen["torn"]


def test_another_model_is_refused(memory):
    model, optimizer = small()
    guard = SnapshotGuard(
        {"model": model, "optimizer": optimizer}, every=1, smp_dir=memory, run="mine"
    )
    trained(guard, model, optimizer, 4)
    guard.close(keep=True)
    other = torch.nn.Linear(3, 1)
    wrong = SnapshotGuard({"model": other}, smp_dir=memory, run="mine")
    with pytest.raises(StateMismatchError, match=r"model\.0\.bias is saved and not present"):
        wrong.restore()
    assert wrong.restore("fresh") == 0
    wrong.close()


def test_shapes_may_change_between_snapshots(memory):
    values = {"x": torch.arange(4.0)}
    state = {"x": (lambda: values["x"], lambda x: values.update(x=x))}
    guard = SnapshotGuard(state, every=1, smp_dir=memory, run="grows")
    guard.restore()
    for step in range(6):
        guard.pre_step()
        values["x"] = torch.arange(float(1000 * (step + 1)))
        guard.post_step(step)
        guard._fence()
        time.sleep(0.02)
    guard.close(keep=True)
    values["x"] = torch.zeros(6000)
    again = SnapshotGuard(state, smp_dir=memory, run="grows")
    assert again.restore() == 6
    assert torch.equal(values["x"], torch.arange(6000.0))
    again.close()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"state": {}}, TypeError, "state must be a mapping"),
        ({"state": {"x": 3}}, TypeError, r"state\['x'\] must be a tensor, have state_dict"),
        ({"state": {3: torch.zeros(1)}}, TypeError, "names as keys"),
        ({"parity": 1}, ValueError, "parity must be less than the number of ranks, got 1 and 1"),
        ({"parity": -1}, ValueError, "parity must be at least 0"),
        ({"every": 0}, ValueError, "every must be at least 1"),
        ({"mode": "later"}, ValueError, "mode must be one of"),
        ({"codec": "xor"}, ValueError, "codec must be one of"),
        ({"smp_dir": "/nowhere"}, ValueError, "smp_dir must be a directory"),
        ({"persist_dir": "/tmp"}, ValueError, "given together"),
        ({"nodes": ["a", "b"]}, ValueError, "nodes must name the host of each of 1 ranks"),
        ({"nodes": "all"}, ValueError, "nodes must be 'auto'"),
        ({"run": "../x"}, ValueError, "run must be made of letters"),
        ({"failure_rate": 0}, ValueError, "failure_rate"),
    ],
)
def test_guards_that_cannot_be(change, error, message):
    options = {"state": {"x": torch.zeros(1)}} | change
    with pytest.raises((error, TypeError) if "state" in change else error) as raised:
        SnapshotGuard(**options)
    assert __import__("re").search(message, str(raised.value)) or "ype-check" in str(raised.value)
    guard = SnapshotGuard({"x": torch.zeros(1)}, run="idle")
    with pytest.raises(RuntimeError, match="restore\\(\\) must be called"):
        guard.post_step(0)
    guard.close()


def test_8_nothing_is_left_after_a_normal_exit(memory):
    code = (
        "import torch; from whp.distributed import SnapshotGuard\n"
        f"g = SnapshotGuard({{'x': torch.ones(5)}}, every=1, smp_dir={str(memory)!r}, run='leaves')\n"
        "g.restore(); [ (g.pre_step(), g.post_step(s)) for s in range(3) ]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# Several ranks


def test_ranks_and_nodes_are_killed_and_come_back(memory):
    found = in_memory_fault_tolerance(
        TEXT,
        ranks=3,
        steps=18,
        kills=[(6, 1)],
        node_kills=[(12, 2)],
        every=2,
        dim=16,
        layers=1,
        batch=6,
        context=16,
        smp_dir=memory,
        budget=1.0,
        rng=0,
    )
    assert found.finished
    assert list(found.failures["source"]) == ["smp", "erasure"]
    assert list(found.failures["members_lost"]) == ["", "2"]
    verdicts = {c.name: c.verdict for c in found.certificates}
    assert verdicts["same-as-undisturbed"] == Verdict.HOLDS
    assert verdicts["bit-exact-recovery"] == Verdict.HOLDS
    assert verdicts["newest-common-version"] == Verdict.HOLDS
    assert len(found.losses) == 18
    assert np.isfinite(found.losses).all()
    kinds = {e.what for e in found.events}
    assert kinds >= {"work", "kill", "recovery"}
    from matplotlib.figure import Figure

    found.plot(Figure().subplots())
    assert found.summary()["restores"] == 2
    assert set(found.artifacts()) == {"arrays.npz", "failures.csv", "model.safetensors"}


def test_more_losses_than_parity_end_with_a_clear_word(memory):
    found = in_memory_fault_tolerance(
        TEXT,
        ranks=3,
        steps=16,
        kills=0,
        node_kills=[(8, 0), (8, 1)],
        every=2,
        dim=16,
        layers=1,
        batch=6,
        context=16,
        smp_dir=memory,
        rng=0,
    )
    assert not found.finished
    assert "UnrecoverableError" in found.fault
    assert "survives 1" in found.fault
    verdicts = {c.name: c for c in found.certificates}
    assert verdicts["bit-exact-recovery"].verdict == Verdict.VOID
    assert "2 at once, and the code survives 1" in verdicts["bit-exact-recovery"].explain()
    assert verdicts["same-as-undisturbed"].verdict == Verdict.UNMEASURED


@pytest.mark.slow
def test_survivors_hand_over_what_they_have(memory):
    found = in_memory_fault_tolerance(
        TEXT,
        ranks=4,
        steps=60,
        kills=3,
        node_kills=1,
        every=10,
        dropout=0.0,
        replica=True,
        dim=16,
        layers=1,
        batch=8,
        context=16,
        smp_dir=memory,
        rng=1,
    )
    assert found.finished
    assert set(found.failures["source"]) <= {"replica", "smp", "erasure"}
    assert "replica" in set(found.failures["source"])
    assert found.failures.loc[found.failures["source"] == "replica", "steps_lost"].max() <= 1
    assert {c.name: c.verdict for c in found.certificates}["same-as-undisturbed"] == Verdict.HOLDS


@pytest.mark.slow
@pytest.mark.parametrize(("parity", "codec"), [(2, "auto"), (1, "replica"), (3, "auto")])
def test_other_codes_in_training(memory, parity, codec):
    found = in_memory_fault_tolerance(
        TEXT,
        ranks=4,
        parity=parity,
        codec=codec,
        steps=24,
        kills=0,
        node_kills=[(12, r) for r in range(parity)],
        every=2,
        dim=32,
        layers=1,
        batch=8,
        context=16,
        smp_dir=memory,
        rng=0,
    )
    assert found.finished
    assert list(found.failures["source"]) == ["erasure"]
    assert {c.name: c.verdict for c in found.certificates}["same-as-undisturbed"] == Verdict.HOLDS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": "short"}, "text must be longer"),
        ({"ranks": 0}, "ranks must be"),
        ({"parity": 4}, "parity must be less than ranks"),
        ({"steps": 1}, "steps"),
        ({"batch": 7}, "batch must be a multiple of ranks"),
        ({"dim": 20}, "dim must be a multiple of 16"),
        ({"kills": [(500, 0)]}, "kills must have steps in 0..118"),
        ({"kills": [(5, 9)]}, "ranks in 0..3"),
        ({"kills": -1}, "kills must be"),
        ({"nodes": ["a"]}, "nodes must name"),
        ({"every": 0}, "every"),
        ({"smp_dir": "/nowhere"}, "smp_dir"),
        ({"budget": 2}, "budget"),
    ],
)
def test_the_front_door_refuses(change, message):
    with pytest.raises(ValueError, match=message):
        in_memory_fault_tolerance(**{"text": TEXT} | change)


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


def test_the_command_line(memory, capsys):
    from whp.distributed._in_memory_fault_tolerance.command import guard

    def say(*words):
        assert guard([*words, "--smp-dir", str(memory)], result_action="return_value") == 0
        return capsys.readouterr().out

    assert "no keepers" in say("status")
    with Fleet(2, 1, length=640, directory=memory) as fleet:
        fleet.save(random_shards(fleet))
        rows = json.loads(say("status", fleet.run, "--json"))
        assert [(r["member"], r["state"], r["step"]) for r in rows] == [
            (0, "committed", 1),
            (1, "committed", 1),
        ]
        assert "committed" in say("status")
        assert "0 files of dead keepers removed, 0 keepers ended" in say("clean")
        assert "2 keepers ended" in say("clean", "--run", fleet.run)
    assert "coding, 4 data + 2 parity" in say("bench", "--mb", "2", "--steps", "2")


@pytest.mark.parametrize("lose", [False, True])
def test_ranks_may_have_states_of_their_own(memory, lose):
    found = run_ranks(ranks.own_shards, 3, str(memory), lose)
    assert len({start for start, _, _ in found}) == 1
    assert found[0][0] >= 4
    assert all(good for _, good, _ in found)
    assert {source for _, _, source in found} == ({"erasure"} if lose else {"smp"})
    assert not list(memory.glob("*ownshards*"))


@pytest.mark.slow
def test_impatient_interruption_leaves_nothing(memory, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text(TEXT)
    command = [
        sys.executable,
        "-c",
        "from whp.cli import main; main()",
        "run",
        "in-memory-fault-tolerance",
        str(text),
    ]
    command += [
        "--ranks",
        "2",
        "--steps",
        "100000",
        "--kills",
        "0",
        "--node-kills",
        "0",
        "--smp-dir",
        str(memory),
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    end = time.monotonic() + 30
    while len(list(memory.glob("*.sock"))) < 2 and time.monotonic() < end:
        time.sleep(0.02)
    time.sleep(0.5)
    for _ in range(2):
        os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=20)
    assert process.returncode == 130, told
    assert told.strip() == "whp: interrupted; what had finished is kept"
    assert not list(memory.iterdir())
