import os
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
import ranks
import torch

from whp.certificate import Status, Verdict
from whp.distributed import RunInUseError, SnapshotGuard, StateMismatchError, UnrecoverableError
from whp.distributed._in_memory_fault_tolerance import client
from whp.distributed._in_memory_fault_tolerance.launch import end_keepers
from whp.distributed._in_memory_fault_tolerance.objects import collect
from whp.distributed._in_memory_fault_tolerance.shards import flatten
from whp.distributed.processes import run_ranks


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
    assert loop.run("disk", disk=str(disk)) == 0
    assert loop.lines()[-2]["step"] < 19, "the version before is taken where the newest is damaged"
    for part in (disk / "disk").glob("version-*/member-0.bin"):
        with part.open("r+b") as file:
            file.truncate(8)
    assert loop.run("disk", disk=str(disk)) == 1, "damaged parts are refused"
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


@pytest.mark.parametrize("lose", [False, True])
def test_ranks_may_have_states_of_their_own(memory, lose):
    found = run_ranks(ranks.own_shards, 3, str(memory), lose)
    assert len({start for start, _, _ in found}) == 1
    assert found[0][0] >= 4
    assert all(good for _, good, _ in found)
    assert {source for _, _, source in found} == ({"erasure"} if lose else {"smp"})
    assert not list(memory.glob("*ownshards*"))


def kept(run, memory, values, steps=3, **options):
    guard = SnapshotGuard({"x": values}, every=1, smp_dir=memory, run=run, **options)
    guard.restore()
    for step in range(steps):
        guard.pre_step()
        values.fill_(step + 1.0)
        guard.post_step(step)
        guard._fence()
        time.sleep(0.02)
    return guard


def test_an_ordinary_restore_holds(memory, capfd):
    values = torch.zeros(1000)
    kept("holds", memory, values).abandon()
    again = SnapshotGuard({"x": values}, every=1, smp_dir=memory, run="holds")
    start = again.restore()
    assert start >= 2
    assert bool((values == start).all())
    found = {c.name: c for c in again.certificates(steps=100)}
    assert found["bit-exact-recovery"].headline == "holds, given 1 unchecked, 1 not refuted"
    assert again.report_.steps_lost == 3 - start
    told = capfd.readouterr().err
    assert "begins at step 0: nothing is held under run holds" in told
    assert f"run holds goes on at step {start}, from memory" in told
    again.close()


@pytest.mark.filterwarnings("ignore:the snapshot of step")
def test_writes_behind_autograd_are_noticed_and_not_forgotten(memory):
    values = [torch.zeros(1 << 20) for _ in range(6)]
    state = {f"t{i}": v for i, v in enumerate(values)}
    guard = SnapshotGuard(state, every=1, smp_dir=memory, run="clipped", verbose=False)
    guard.restore()
    for step in range(2):
        guard.pre_step()
        for v in values:
            v.fill_(step + 1.0)
        guard.post_step(step)
        for v in reversed(values):
            v.data.clamp_(-0.01, 0.01)
    guard.abandon()
    again = SnapshotGuard(state, every=1, smp_dir=memory, run="clipped", verbose=False)
    start = again.restore()
    torn = again.stats_.torn
    assert torn >= 1, "the keeper remembers for the process that died"
    if start == 0:
        assert f"{2} snapshots were begun under run clipped and none was kept" in again.report_.said
    exact = again.certificates()[0]
    assert exact.verdict is Verdict.VOID
    again.close()


def test_a_living_process_keeps_its_memory(memory):
    values = torch.zeros(100)
    first = kept("mine2", memory, values)
    second = SnapshotGuard({"x": torch.zeros(100)}, smp_dir=memory, run="mine2", verbose=False)
    with pytest.raises(RunInUseError, match=f"process {os.getpid()} trains under run mine2"):
        second.restore()
    assert first.smp.query()["held"], "nothing was taken over or removed"
    second.close()
    first.close()


def test_what_keepers_lost_is_said_until_somebody_begins_anew(memory):
    values = torch.zeros(100)
    guard = kept("lost", memory, values, verbose=False)
    pid = guard.smp.found.pid
    guard.abandon()
    os.kill(pid, signal.SIGKILL)
    while client.alive(pid):
        time.sleep(0.01)
    for _ in range(2):  # the second time the new keeper says so
        again = SnapshotGuard({"x": values}, smp_dir=memory, run="lost", verbose=False)
        with pytest.raises(UnrecoverableError, match="keepers of members 0 of run lost died"):
            again.restore()
        again.abandon()
    fresh = SnapshotGuard({"x": values}, smp_dir=memory, run="lost", verbose=False)
    assert fresh.restore("fresh") == 0
    fresh.close()


def test_other_arguments_under_one_name_are_said(memory, monkeypatch):
    values = torch.zeros(100)
    monkeypatch.setattr(sys, "argv", ["train.py", "--lr", "0.001"])
    kept("named", memory, values, verbose=False).abandon()
    monkeypatch.setattr(sys, "argv", ["train.py", "--lr", "0.1"])
    again = SnapshotGuard({"x": values}, smp_dir=memory, run="named", verbose=False)
    again.restore()
    assert (
        "made with the arguments '--lr 0.001' and this process has '--lr 0.1'" in again.report_.said
    )
    again.close()


def test_the_name_of_a_run_holds_script_arguments_and_shapes(monkeypatch):
    def name(words=("train.py",), width=3):
        monkeypatch.setattr(sys, "argv", list(words))
        guard = SnapshotGuard({"model": torch.nn.Linear(width, 1)})
        guard.close()
        return guard.run

    names = [name(), name(("train.py", "--lr", "1")), name(("other.py",)), name(width=4)]
    assert len(set(names)) == 4
    assert name() == names[0]


def test_a_damaged_file_of_a_keeper_heals(memory):
    guard = kept("heals2", memory, torch.zeros(10), verbose=False)
    path = memory / "whp-heals2-0.json"
    path.write_text("junk")
    assert [k.pid for k in client.keepers(memory)] == [guard.smp.found.pid], "it is seen meanwhile"
    assert client.present("heals2", 0, memory).pid == guard.smp.found.pid
    guard.close()


def test_a_state_that_does_not_fit_is_refused_before_the_first_step(memory, monkeypatch):
    class Full:
        f_bavail, f_frsize = 1, 1 << 20

    guard = SnapshotGuard({"x": torch.zeros(1 << 20)}, smp_dir=memory, run="full", verbose=False)
    monkeypatch.setattr(os, "statvfs", lambda _: Full)
    with pytest.raises(MemoryError, match="has 1 MB free, 2 buffers of 4 MB needed"):
        guard.restore()
    guard.close()


@pytest.mark.parametrize("numbers", [[0, 1, 2, 0], [0, 1, 1]])
def test_steps_that_do_not_grow_are_refused(memory, numbers):
    values = torch.zeros(10)
    with SnapshotGuard({"x": values}, every=3, smp_dir=memory, run="grow") as guard:
        guard.restore()
        for number in numbers[:-1]:
            guard.pre_step()
            guard.post_step(number)
        with pytest.raises(ValueError, match="number the steps of all epochs"):
            guard.post_step(numbers[-1])


def test_a_loop_that_begins_at_0_whatever_was_restored_is_refused(memory):
    values = torch.zeros(1000)
    kept("zero", memory, values).abandon()
    with SnapshotGuard({"x": values}, every=1, smp_dir=memory, run="zero") as again:
        assert again.restore() > 0
        with pytest.raises(ValueError, match="from what restore"):
            again.post_step(0)
        again.post_step(again.report_.step + 1)


class Forgetful:
    """Takes its tensor back and not its count."""

    def __init__(self):
        self.x, self.updates = torch.zeros(100), 0

    def state_dict(self):
        return {"x": self.x, "updates": self.updates}

    def load_state_dict(self, state):
        self.x = state["x"]


def test_plain_data_that_is_not_taken_back_is_no_exact_recovery(memory):
    thing = Forgetful()
    guard = SnapshotGuard({"it": thing}, every=1, mode="sync", smp_dir=memory, run="forgets")
    guard.restore()
    for step in range(4):
        thing.updates += 1
        guard.post_step(step)
        time.sleep(0.05)
    guard.abandon()
    with SnapshotGuard({"it": Forgetful()}, every=1, smp_dir=memory, run="forgets") as again:
        assert again.restore() > 0
        assert not again.report_.digest_ok
        assert again.certificates()[0].verdict is Verdict.FAILS


def test_a_run_that_begins_anew_is_not_taken_for_the_older_one_on_disk(memory, tmp_path):
    values = torch.zeros(100)
    options = {"every": 1, "mode": "sync", "smp_dir": memory, "run": "anew"}
    options |= {"persist_dir": tmp_path, "persist_every": 1}

    def trained(source, steps, first):
        with SnapshotGuard({"x": values}, **options) as guard:
            start = guard.restore(source)
            came = float(values[0])
            for step in range(start, start + steps):
                values.fill_(first + step)
                guard.post_step(step)
                time.sleep(0.05)
            return start, came, guard

    trained("auto", 8, 100.0)
    _, _, anew = trained("fresh", 4, 500.0)
    assert "set aside in" in anew.report_.said
    assert list(tmp_path.glob("anew/before-0001/version-*"))
    start, came, last = trained("auto", 1, 900.0)
    assert 500 <= came == 500 + start - 1
    answer = next(a for a in last.certificates()[0].conditions if a.name == "few-lost")
    assert answer.status is Status.UNCHECKED, "memory was lost, nobody knows how much"


@pytest.mark.parametrize("where", ["inside", "after", "head"])
def test_a_scheduler_that_is_stepped_after_the_copy_is_told(memory, where):
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    state = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
    with (
        warnings.catch_warnings(record=True) as heard,
        SnapshotGuard(state, every=2, mode="sync", smp_dir=memory, run="late") as guard,
    ):
        warnings.simplefilter("always")
        for step in range(guard.restore(), 4):
            if where == "head":
                scheduler.step()
            guard.pre_step()
            optimizer.step()
            if where == "inside":
                scheduler.step()
            guard.post_step(step)
            if where == "after":
                scheduler.step()
    told = [w for w in heard if "one step behind" in str(w.message)]
    assert len(told) == (where == "after")


def test_a_step_that_was_half_done_is_no_live_state(memory):
    weights = torch.zeros(100)
    guard = kept("halfway", memory, weights, verbose=False)
    guard.pre_step()
    weights.fill_(4.0)  # the optimizer has written, and the end of the step was not seen
    start = guard.restore(live=True)
    assert (start, guard.report_.source) == (3, "smp")
    assert bool((weights == 3).all())
    assert guard.restore(live=True) == 3
    guard.close()


def test_a_restore_that_is_refused_leaves_nothing_of_the_one_before(memory):
    guard = kept("refused", memory, torch.zeros(100), verbose=False)
    assert guard.restore() == 3
    assert guard.certificates()[0].verdict is Verdict.HOLDS
    os.kill(guard.smp.found.pid, signal.SIGKILL)
    while client.alive(guard.smp.found.pid):
        time.sleep(0.01)
    with pytest.raises(UnrecoverableError):
        guard.restore()
    assert guard.certificates()[0].verdict is Verdict.UNMEASURED
    guard.close()


def test_a_fault_of_one_restore_is_not_forgotten_with_the_next(memory):
    bad = [True]
    weights = torch.zeros(4)
    number = [0]
    pair = (lambda: number[0], lambda told: number.__setitem__(0, told + bad[0]))
    options = {"every": 1, "smp_dir": memory, "verbose": False}
    guard = SnapshotGuard({"w": weights, "n": pair}, run="twice", **options)
    guard.restore()
    guard.pre_step()
    guard.post_step(0)
    guard._fence()
    time.sleep(0.05)
    guard.restore()
    assert guard.certificates()[0].verdict is Verdict.FAILS
    bad[0] = False
    guard.restore()
    assert guard.report_.digest_ok
    assert guard.certificates()[0].verdict is Verdict.FAILS
    guard.close()


@pytest.mark.parametrize(("every", "stride"), [((30, 3), 1), ((8, 8), 4)])
def test_lost_work_is_held_against_how_it_was_saved(memory, every, stride):
    weights, state = torch.zeros(100), {}
    state["w"] = weights

    def walked(guard, first, count):
        for i in range(first, first + count):
            guard.pre_step()
            weights.fill_(i + 1.0)
            time.sleep(0.002)
            guard.post_step(stride * (i + 1) - 1)

    options = {"smp_dir": memory, "run": "paced", "verbose": False}
    guard = SnapshotGuard(state, every=every[0], **options)
    guard.restore()
    walked(guard, 0, 29)
    guard.abandon()
    guard = SnapshotGuard(state, every=every[1], **options)
    walked(guard, guard.restore() // stride, 8)
    assert guard.stats_.longest_period == every[0]
    assert guard.stats_.longest_stride == stride
    rollback = guard.certificates(steps=10_000)[1]
    assert rollback.verdict is Verdict.HOLDS
    assert rollback.bound >= every[0] + stride - 1
    guard.close()


@pytest.mark.parametrize("mode", ["overlap", "sync"])
def test_the_first_snapshot_is_not_among_the_stalls(memory, mode):
    values = torch.zeros(1 << 16)
    guard = kept("first", memory, values, steps=6, mode=mode, verbose=False)
    assert (guard.stats_.begun, len(guard.stats_.stalls_ms)) == (6, 5)
    assert guard.stats_.watched_ms > sum(guard.stats_.stalls_ms)
    guard.close()


def test_a_fork_does_not_end_its_parents_keeper(memory):
    guard = kept("forked", memory, torch.zeros(10), verbose=False)
    child = os.fork()
    if not child:
        guard.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert guard.smp.query()["held"]
    guard.close()


def test_what_is_new_in_the_state_is_refused_before_anything_is_filled(memory):
    weights = torch.zeros(10)
    kept("grown", memory, weights, verbose=False).abandon()
    other = torch.full((10,), 7.0)
    state = {"x": other, "epoch": (lambda: 0, lambda told: None)}
    guard = SnapshotGuard(state, smp_dir=memory, run="grown", verbose=False)
    with pytest.raises(StateMismatchError, match="epoch present and not saved"):
        guard.restore()
    assert bool((other == 7).all())
    guard.close()


@pytest.mark.parametrize("damage", ["a digit", "half a header", "no data"])
def test_a_damaged_version_on_disk_is_passed_over_and_its_number_not_used_again(
    memory, tmp_path, damage
):
    weights, rate = torch.zeros(10), [0.125]
    pair = (lambda: rate[0], lambda told: rate.__setitem__(0, told))
    options = {"every": 1, "smp_dir": memory, "verbose": False, "run": "digits"}
    options |= {"persist_dir": tmp_path, "persist_every": 1}

    def written(guard, first):
        for step in range(first, first + 2):
            guard.pre_step()
            weights.fill_(step + 1.0)
            guard.post_step(step)
            deadline = time.monotonic() + 5
            while not any((tmp_path / "digits").glob(f"version-{step + 1:08d}")):
                time.sleep(0.01)
                assert time.monotonic() < deadline, "a version is not written"

    guard = SnapshotGuard({"w": weights, "lr": pair}, **options)
    guard.restore()
    written(guard, 0)
    guard.close()
    folder = tmp_path / "digits" / "version-00000002"
    head = (folder / "member-0.json").read_text()
    if damage == "a digit":
        (folder / "member-0.json").write_text(head.replace("0.125", "0.925"))
    elif damage == "half a header":
        (folder / "member-0.json").write_text(head[: len(head) // 2])
    else:
        (folder / "member-0.bin").unlink()
    guard = SnapshotGuard({"w": weights, "lr": pair}, **options)
    assert guard.restore() == 1
    assert "Passed over" in guard.report_.said
    assert rate == [0.125]
    written(guard, 2)  # as versions 3 and 4: number 2 is taken
    guard.close()


@pytest.mark.filterwarnings("error:the snapshot of step")
def test_running_statistics_of_a_state_dict_alone_are_copied_at_once(memory):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 2048), torch.nn.BatchNorm1d(2048))
    pair = (lambda: model.state_dict(), model.load_state_dict)
    guard = SnapshotGuard({"m": pair}, every=1, smp_dir=memory, run="norms", verbose=False)
    for step in range(guard.restore(), 10):
        model(torch.randn(16, 8))
        guard.pre_step()
        guard.post_step(step)
    assert guard.stats_.torn == 0
    guard.close()


def cyclic(optimizer):
    return torch.optim.lr_scheduler.CyclicLR(optimizer, 0.01, 0.1, step_size_up=3)


def chained(optimizer):
    return torch.optim.lr_scheduler.ChainedScheduler(
        [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)], optimizer
    )


@pytest.mark.parametrize("schedule", [cyclic, chained])
def test_schedulers_that_take_their_state_apart_are_restored(memory, schedule):
    def parts():
        model, _ = small()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        scheduler = schedule(optimizer)
        return {"model": model, "optimizer": optimizer, "scheduler": scheduler}

    options = {"every": 1, "smp_dir": memory, "run": "cycles", "verbose": False}
    state = parts()
    guard = SnapshotGuard(state, **options)
    for step in range(guard.restore(), 3):
        state["model"](torch.randn(4, 8)).sum().backward()
        guard.pre_step()
        state["optimizer"].step()
        state["scheduler"].step()
        guard.post_step(step)
    guard._fence()
    time.sleep(0.05)
    guard.abandon()
    guard = SnapshotGuard(parts(), **options)
    assert guard.restore() == 3
    assert guard.certificates()[0].verdict is Verdict.HOLDS
    guard.close()


@pytest.mark.parametrize("sharded", [True, False])
def test_a_state_of_each_rank_is_not_taken_for_one_of_all(memory, sharded):
    found = run_ranks(ranks.other_kind, 2, str(memory), sharded)
    assert all("StateMismatchError" in told for told in found)
    assert all(f"give sharded={sharded}" in told for told in found)


def test_a_disk_that_takes_nothing_is_told_once_and_nothing_is_left(memory, tmp_path):
    weights = torch.zeros(10)
    options = {"every": 1, "smp_dir": memory, "verbose": False, "run": "full"}
    guard = SnapshotGuard({"w": weights}, persist_dir=tmp_path, persist_every=1, **options)
    guard.restore()
    (tmp_path / "full").write_text("stands where the folder would")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for step in range(6):
            guard.pre_step()
            guard.post_step(step)
            time.sleep(0.05)
    assert len(told) == 1
    assert "could not be written" in str(told[0].message)
    assert guard.stats_.versions >= 4, "memory is kept all the same"
    guard.close()
