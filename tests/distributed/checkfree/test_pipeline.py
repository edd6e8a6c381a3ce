import copy
import itertools
import math
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
import torch
from guarantee import assert_error_rate
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from whp.certificate import Verdict
from whp.distributed.char_lm import Block, Embed, Head, cross_entropy, encode, vocabulary, windows
from whp.distributed import (
    UnrecoverableStageError,
    checkfree,
    expected_executed,
    expected_time,
    recover,
)
from whp.distributed._checkfree import pipeline
from whp.distributed._checkfree.pipeline import PipelineTrainer
from whp.distributed._checkfree.recovery import Recovery, copies, neighbour_weights, plan, twin
from whp.distributed._checkfree.routes import route, schedule, timeline
from whp.distributed._checkfree.simulator import Simulator
from whp.distributed._checkfree.failures import draw_failures, read_failures
from whp.intervals import Estimate, exact, mean

TEXT = (
    "In the beginning God created the heaven and the earth. And the earth was without form, and void. "
    * 20
)
VOCAB = vocabulary(TEXT)
TOKENS = encode(TEXT, VOCAB)
D = 8


def parts(stages=6, seed=0):
    torch.manual_seed(seed)
    return Embed(len(VOCAB), D, 6), [Block(D, 2, 8) for _ in range(stages)], Head(D, len(VOCAB))


def batch(t, rows=8):
    return windows(TOKENS, rows, 6, 0, t)


def make(kind, model=None, **options):
    options = {"lr": 1e-2, "microbatches": 4} | options
    return kind(*(model or parts()), cross_entropy, **options)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rsplit(")", 1)[1].split()[0] != "Z"


def same(a, b, names=None):
    return [k for k in (names or a) if not torch.equal(a[k], b[k])]


# Recovery


def sd(*values):
    return {"w": torch.tensor(values)}


def test_1_recover_by_hand():
    assert recover(sd(1.0, 2.0), sd(3.0, 6.0), 1, 3)["w"].tolist() == [2.5, 5.0]
    assert recover(sd(1.0, 2.0), sd(3.0, 6.0), 0, 0)["w"].tolist() == [2.0, 4.0]
    a, b = neighbour_weights(0.25, 0.75, "grad", 1e-4)
    assert (a, b) == pytest.approx((0.2501 / 1.0002, 0.7501 / 1.0002), abs=1e-15)
    assert recover(sd(1.0), sd(3.0), 0.25, 0.75, eps=1e-4)["w"].item() == pytest.approx(
        a + 3 * b, abs=1e-6
    )
    assert recover(sd(1.0), sd(3.0), 1, 9, "uniform")["w"].item() == 2
    assert recover(sd(1.0), sd(3.0), 1, 9, "copy")["w"].item() == 1
    assert recover(sd(1.0), None, 1, 9)["w"].item() == 1


def test_recover_copies_whole_numbers_and_never_shares():
    a, b = {"w": torch.ones(2), "n": torch.tensor(3)}, {"w": torch.zeros(2), "n": torch.tensor(8)}
    found = recover(a, b, 1, 1)
    assert found["n"] == 3
    found["w"].fill_(7)
    found["n"].fill_(7)
    assert a["w"].tolist() == [1, 1]
    assert a["n"] == 3


def test_zero_makes_a_residual_stage_the_identity():
    block = Block(D, 2, 8)
    block.load_state_dict(recover(block.state_dict(), block.state_dict(), 1, 1, "zero"))
    x = torch.randn(2, 6, D)
    assert torch.equal(block(x), x)
    with pytest.raises(ValueError, match="output projections"):
        recover(sd(1.0), sd(1.0), 1, 1, "zero")


def test_useless_norms_count_equally_and_are_told():
    for bad in (math.nan, math.inf, -1.0):
        with pytest.warns(UserWarning, match="neighbours count equally"):
            assert recover(sd(1.0), sd(3.0), bad, 1.0)["w"].item() == 2


def test_different_shapes_are_named():
    other = {"w": torch.ones(2, 3)}
    with pytest.raises(
        ValueError,
        match=r"stage 3 cannot be rebuilt from stages 2 and 4: 'w' is \(2,\) vs \(2, 3\)",
    ):
        recover(sd(1.0, 2.0), other, stage=3)
    with pytest.raises(ValueError, match="only one of them has 'v'"):
        recover(sd(1.0), {"w": torch.ones(1), "v": torch.ones(1)})
    model = parts()
    model[1][3] = Block(D, 2, 16)
    with pytest.raises(
        ValueError,
        match=r"stage 2 cannot be rebuilt from stages 1 and 3: 'gate.weight' is \(16, 8\)",
    ):
        make(Simulator, model)
    assert make(Simulator, model, mode="none").step(batch(0)).iteration == 0


@settings(max_examples=100, deadline=None)
@given(
    st.floats(0, 1e6),
    st.floats(0, 1e6),
    st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=5),
)
def test_recovery_stays_between_its_neighbours(a, b, values):
    x = torch.tensor(values)
    y = x.flip(0) + 1
    found = recover({"w": x}, {"w": y}, a, b)["w"]
    low, high = torch.minimum(x, y), torch.maximum(x, y)
    assert (found >= low - 1e-4).all()
    assert (found <= high + 1e-4).all()


def test_who_stands_in_for_whom():
    assert [twin(i, 6) for i in range(6)] == [1, 0, None, None, 5, 4]
    assert [(t.unit, t.sources, t.how) for t in plan([2, 4], 6, "checkfree", "grad")] == [
        ("2", (1, 3), "rebuild"),
        ("4", (3, 5), "rebuild"),
    ]
    assert [(t.unit, t.to, t.sources, t.how) for t in plan([0], 6, "checkfree+", "grad")] == [
        ("0", 0, (1,), "rebuild"),
        ("embed", 0, (1,), "restore"),
    ]
    assert [(t.unit, t.how) for t in plan([1], 6, "checkfree+", "grad")] == [
        ("1", "rebuild"),
        ("embed", "copy"),
    ]
    assert len(plan([2, 3], 6, "checkfree", "random")) == 2
    assert set(copies(6, "redundant", False)) == {*map(str, range(6)), "embed", "head"}
    for lost, mode in (
        ([2, 3], "checkfree"),
        ([0, 1], "checkfree+"),
        ([4, 5], "checkfree+"),
        ([2, 3], "redundant"),
        ([0], "checkfree"),
        ([5], "checkfree"),
        ([2], "none"),
    ):
        with pytest.raises(UnrecoverableStageError):
            plan(lost, 6, mode, "grad")


# Routes


@pytest.mark.parametrize("stages", [4, 5, 6, 9])
def test_routes_pass_every_stage_once_and_no_message_twice(stages):
    for m in range(2):
        way = [op.rank for op in route(m, stages, True, stages - 1)][1:-1]
        assert sorted(way) == list(range(stages))
        hops = [
            (op.before, op.rank)
            for op in route(m, stages, True, stages - 1)
            if op.before not in (None, op.rank)
        ]
        assert len(hops) == len(set(hops))
    middle = list(range(2, stages - 2))
    assert way == [1, 0, *middle, stages - 1, stages - 2]


@settings(max_examples=60, deadline=None)
@given(st.integers(4, 9), st.integers(1, 9), st.booleans())
def test_orders_of_all_ranks_cannot_block(stages, microbatches, swap):
    """Each rank works through its list; somebody can always go on, forward and backward."""
    for head in (stages - 1, 0):
        ways = [route(m, stages, swap, head) for m in range(microbatches)]
        orders = [list(ops) for ops in schedule(microbatches, stages, swap, head)]
        assert (
            sum(map(len, orders))
            == microbatches * (stages + 2)
            == len(timeline(microbatches, stages, swap, head))
        )
        for backward in (False, True):
            left = [ops[::-1] if backward else list(ops) for ops in orders]
            todo = [w[::-1] if backward else list(w) for w in ways]
            while any(left):
                free = [ops for ops in left if ops and todo[ops[0].microbatch][0] == ops[0]]
                assert free
                for ops in free:
                    todo[ops.pop(0).microbatch].pop(0)


# Simulator


def reference(model, steps, swap, clip=1.0, microbatches=4):
    """Plain autograd over the whole model; every unit is clipped and stepped by itself."""
    embed, blocks, head = copy.deepcopy(model)
    units = [embed, *blocks, head]
    optimizers = [torch.optim.Adam(u.parameters(), 1e-2) for u in units]
    losses = []
    for t in range(steps):
        x, y = batch(t)
        total = 0.0
        for m, (a, b) in enumerate(
            zip(x.tensor_split(microbatches), y.tensor_split(microbatches), strict=True)
        ):
            h = embed(a)
            order = list(range(len(blocks)))
            if swap and m % 2:
                order = [1, 0, *order[2:-2], len(blocks) - 1, len(blocks) - 2]
            for i in order:
                h = blocks[i](h)
            total = total + cross_entropy(head(h), b) / microbatches
        for o in optimizers:
            o.zero_grad()
        total.backward()
        for u, o in zip(units, optimizers, strict=True):
            nn.utils.clip_grad_norm_(u.parameters(), clip)
            o.step()
        losses.append(float(total.detach()))
    weights = {f"embed.{k}": v for k, v in embed.state_dict().items()}
    for i, b in enumerate(blocks):
        weights |= {f"stages.{i}.{k}": v for k, v in b.state_dict().items()}
    return losses, weights | {f"head.{k}": v for k, v in head.state_dict().items()}


@pytest.mark.parametrize("mode", ["none", "checkfree+"])
def test_3_simulator_is_plain_autograd(mode):
    model = parts()
    sim = make(Simulator, model, mode=mode)
    losses, weights = reference(model, 20, mode == "checkfree+")
    assert [sim.step(batch(t)).loss for t in range(20)] == pytest.approx(losses, abs=1e-5)
    ours = sim.state_dict()
    assert set(ours) == set(weights)
    assert max(float((ours[k] - weights[k]).abs().max()) for k in weights) < 1e-4


@pytest.mark.parametrize("rule", ["grad", "uniform", "copy"])
@pytest.mark.parametrize("stage", range(6))
def test_2_equal_stages_are_a_fixed_point(rule, stage):
    embed, blocks, head = parts()
    sim = make(Simulator, (embed, [copy.deepcopy(blocks[0]) for _ in range(6)], head), rule=rule)
    held = [batch(100)]
    before = sim.evaluate(held)
    sim.kill(stage)
    assert sim.evaluate(held) == pytest.approx(before, abs=1e-6)


def test_2_random_and_zero_are_none():
    for rule in ("random", "zero"):
        embed, blocks, head = parts()
        sim = make(
            Simulator, (embed, [copy.deepcopy(blocks[0]) for _ in range(6)], head), rule=rule
        )
        before = sim.evaluate([batch(100)])
        sim.kill(2)
        assert abs(sim.evaluate([batch(100)]) - before) > 1e-6


def test_learning_rates_are_boosted_once_or_again():
    for compound, wanted in ((False, 1.1), (True, 1.21)):
        sim = make(Simulator, lr_boost_compound=compound, scheduler=lambda t: 0.5**t)
        for t in range(4):
            if t in (1, 2):
                sim.kill(2)
            sim.step(batch(t))
        unit, other = sim._sites[2].units["2"], sim._sites[3].units["3"]
        assert unit.optimizer.param_groups[0]["lr"] == pytest.approx(1e-2 * wanted * 0.5**3)
        assert other.optimizer.param_groups[0]["lr"] == pytest.approx(1e-2 * 0.5**3)


def test_moments_start_again_or_are_averaged():
    found = {}
    for moments in ("reset", "average"):
        sim = make(Simulator, moments=moments)
        for t in range(5):
            sim.step(batch(t))
        sim.kill(2)
        sim.evaluate([batch(9)])
        found[moments] = sim._sites[2].units["2"].optimizer.state_dict()["state"]
    assert found["reset"] == {}
    assert float(found["average"][0]["exp_avg_sq"].sum()) > 0


def test_checkpoints_roll_back_and_redundancy_changes_nothing(tmp_path):
    sim = make(Simulator, mode="checkpoint", checkpoint_every=3, checkpoint_dir=tmp_path)
    seen = []
    for t in range(6):
        if t == 5:
            sim.kill(0)
        out = sim.step(batch(t))
        seen.append(out.iteration)
    assert seen == [0, 1, 2, 3, 4, 3]
    assert out.recoveries[0].how == "rolled back"
    assert len(list(tmp_path.iterdir())) == 6
    plain, copied = make(Simulator, mode="none"), make(Simulator, mode="redundant")
    for t in range(4):
        if t == 2:
            copied.kill(0)
        assert plain.step(batch(t)).loss == copied.step(batch(t)).loss
    assert not same(plain.state_dict(), copied.state_dict())


def test_a_loss_before_the_first_step():
    sim = make(Simulator, mode="checkpoint")
    sim.kill(0)
    assert sim.step(batch(0)).iteration == 0
    with make(PipelineTrainer, mode="checkpoint") as tr:
        tr.kill(0)
        assert tr.step(batch(0)).iteration == 0
        assert not same(tr.state_dict(), sim.state_dict())


def test_fallbacks():
    sim = make(Simulator)
    sim.kill(2)
    sim.kill(3)
    with pytest.raises(UnrecoverableStageError, match="lost together"):
        sim.step(batch(0))
    for fallback, how in (("random", "random"), ("snapshot", "rolled back")):
        sim = make(Simulator, fallback=fallback, checkpoint_every=2)
        for t in range(3):
            sim.step(batch(t))
        sim.kill(0)
        sim.kill(1)
        found = sim.step(batch(3)).recoveries[0]
        assert found.how == how
        assert "lost together" in found.reason


def test_dropout_is_drawn_by_place_and_time():
    def model():
        torch.manual_seed(0)
        blocks = [nn.Sequential(nn.Linear(D, D), nn.Dropout(0.5)) for _ in range(4)]
        return Embed(len(VOCAB), D, 6), blocks, Head(D, len(VOCAB))

    losses = []
    for noise in (0, 1):
        sim = make(Simulator, model())
        torch.manual_seed(noise)
        losses.append([sim.step(batch(t)).loss for t in range(3)])
    assert losses[0] == losses[1]
    with make(PipelineTrainer, model(), spares=0) as tr:
        assert [tr.step(batch(t)).loss for t in range(3)] == losses[0]


def test_jump_leaves_no_trace_and_omission_is_zero_for_equals():
    sim = make(Simulator, mode="checkfree")
    for t in range(5):
        sim.step(batch(t))
    before = sim.state_dict()
    for rule in ("grad", "copy", "uniform", "zero", "random", "skip"):
        assert math.isfinite(sim.jump(2, [batch(50)], rule))
    assert not same(before, sim.state_dict())
    assert all(v > 0 for v in sim.omission(2, batch(50)[0]))
    embed, blocks, head = parts()
    equal = make(Simulator, (embed, [copy.deepcopy(blocks[0]) for _ in range(6)], head))
    assert equal.omission(2, batch(0)[0]) == pytest.approx((0, 0), abs=1e-9)


# Processes


def test_3_8_processes_and_simulator_agree_and_survive_kills():
    kills = {3: [3], 5: [0], 6: [5, 2], 8: [1], 9: [4]}
    sim = make(Simulator, audit=True)
    with make(PipelineTrainer, audit=True) as tr:
        first = tr.pids
        for t in range(12):
            for stage in kills.get(t, []):
                tr.kill(stage)
                sim.kill(stage)
            ours, theirs = tr.step(batch(t)), sim.step(batch(t))
            assert ours.loss == pytest.approx(theirs.loss, abs=1e-5)
            assert ours.grad_norms == pytest.approx(theirs.grad_norms, abs=1e-5)
            assert ours.iteration == t
        assert not same(tr.state_dict(), sim.state_dict())
        assert tr.evaluate([batch(99)]) == sim.evaluate([batch(99)])
        assert len(tr.recoveries) == len(sim.recoveries) == 5
        for r in tr.recoveries:
            assert r.difference < 1e-6
            assert r.changed == 0
            assert r.seconds < 5
        pids = set(tr.pids) | set(first)
    assert not any(map(alive, pids))
    assert sum(e.what == "kill" for e in tr.events_) == 6
    with pytest.raises(RuntimeError, match="closed"):
        tr.step(batch(0))


def test_a_spare_that_dies_is_replaced():
    with make(PipelineTrainer, spares=1) as tr:
        tr.step(batch(0))
        tr._pool[0].kill()
        tr.kill(2)
        assert tr.step(batch(1)).recoveries[0].stages == (2,)
        tr.kill(3)
        assert tr.step(batch(2)).recoveries[0].stages == (3,)
        assert len(tr._crew.workers) == 7


@pytest.mark.parametrize("mode", ["redundant", "checkpoint", "checkfree"])
def test_8_the_other_modes_agree_too(mode):
    sim, kills = make(Simulator, mode=mode, checkpoint_every=2), {3: [2], 4: [4]}
    with make(PipelineTrainer, mode=mode, checkpoint_every=2) as tr:
        for t in range(6):
            for stage in kills.get(t, []):
                tr.kill(stage)
                sim.kill(stage)
            ours, theirs = tr.step(batch(t)), sim.step(batch(t))
            assert (ours.loss, ours.iteration) == (theirs.loss, theirs.iteration)
        assert not same(tr.state_dict(), sim.state_dict())


def test_4_survivors_keep_every_bit():
    with make(PipelineTrainer) as tr:
        iterations = [tr.step(batch(t)).iteration for t in range(10)]
        before = tr.state_dict()
        omega = {i: tr.step(batch(10)).grad_norms[i] for i in (0,)}
        before = tr.state_dict()
        norms = tr.step(batch(11)).grad_norms
        before = tr.state_dict()
        tr.kill(3)
        after = tr.state_dict()
        iterations += [10, 11]
        iterations += [tr.step(batch(t)).iteration for t in range(12, 14)]
    assert omega[0] > 0
    assert all(k.startswith("stages.3.") for k in same(before, after))
    wanted = recover(
        {k[9:]: v for k, v in before.items() if k.startswith("stages.2.")},
        {k[9:]: v for k, v in before.items() if k.startswith("stages.4.")},
        norms[2],
        norms[4],
        eps=1e-4,
    )
    assert max(float((after[f"stages.3.{k}"] - v).abs().max()) for k, v in wanted.items()) <= 1e-6
    assert iterations == list(range(14))


@pytest.mark.parametrize("replicas", ["full", "weights"])
def test_5_the_first_stage_and_the_embedding(replicas):
    sim = make(Simulator, replicas=replicas)
    undisturbed = make(Simulator)
    with make(PipelineTrainer, replicas=replicas) as tr:
        for t in range(6):
            tr.step(batch(t))
            sim.step(batch(t))
            undisturbed.step(batch(t))
        before = tr.state_dict()
        tr.kill(0)
        sim.kill(0)
        after = tr.state_dict()
        ends = [k for k in before if not k.startswith("stages.0.")]
        assert not same(before, after, ends)
        assert not same(
            {k: after["stages.0." + k] for k in Block(D, 2, 8).state_dict()},
            {k: after["stages.1." + k] for k in Block(D, 2, 8).state_dict()},
        )
        tr.step(batch(6))
        sim.step(batch(6))
        assert not same(tr.state_dict(), sim.state_dict())
        moments = sim._sites[0].units["embed"].optimizer.state_dict()["state"][0]["step"]
        assert moments == (7 if replicas == "full" else 1)


def test_5_plain_checkfree_cannot_regain_the_ends():
    with make(PipelineTrainer, mode="checkfree") as tr:
        tr.step(batch(0))
        tr.kill(0)
        with pytest.raises(UnrecoverableStageError, match="checkfree\\+"):
            tr.step(batch(1))


def test_tied_ends_have_one_owner_and_one_copy():
    embed, blocks, head = parts()
    head.logits.weight = embed.token
    sim = make(Simulator, (embed, blocks, head))
    with make(PipelineTrainer, (embed, blocks, head)) as tr:
        for t in range(4):
            if t == 2:
                tr.kill(0)
                sim.kill(0)
            assert tr.step(batch(t)).loss == sim.step(batch(t)).loss
        state = tr.state_dict()
    assert torch.equal(state["embed.token"], state["head.logits.weight"])
    assert not torch.equal(state["embed.token"], embed.token)


DIES = """
import multiprocessing, os

def factor(t):
    if t == 3 and multiprocessing.current_process().name == WHO:
        os.kill(os.getpid(), 9)
    return 1.0
"""


@pytest.mark.parametrize("who", [0, 2, 5])
def test_a_stage_that_dies_between_agreement_and_update(who):
    """The others have agreed on iteration 3, so it counts; the lost stage joins at iteration 4."""
    space = {"__name__": "made_in_a_test", "WHO": f"stage-{who}"}
    exec(DIES, space)  # pickled by value, as functions of a notebook are
    sim = make(Simulator)
    with make(PipelineTrainer, scheduler=space["factor"]) as tr:
        for t in range(6):
            ours, theirs = tr.step(batch(t)), sim.step(batch(t))
            assert ours.iteration == theirs.iteration == t
            assert ours.loss == theirs.loss
            if t == 3:
                assert len(ours.recoveries) == 1
                sim.kill(who)
        assert not same(tr.state_dict(), sim.state_dict())


def test_errors_of_the_model_are_told_and_nothing_is_left():
    tr = make(PipelineTrainer)
    pids = tr.pids
    with pytest.raises(RuntimeError, match=r"stage \d raised"):
        tr.step((batch(0)[0], torch.full((8, 6), 10_000)))
    assert not any(map(alive, pids))


def test_a_stage_that_hangs_counts_as_dead():
    with make(PipelineTrainer, timeout=0.5) as tr:
        tr.step(batch(0))
        os.kill(tr.pids[2], signal.SIGSTOP)
        assert tr.step(batch(1)).recoveries[0].stages == (2,)


@pytest.mark.slow
def test_no_process_outlives_its_coordinator():
    script = textwrap.dedent("""
        import torch
        from whp.distributed.char_lm import Block, Embed, Head, cross_entropy
        from whp.distributed._checkfree.pipeline import PipelineTrainer
        if __name__ == "__main__":
            tr = PipelineTrainer(Embed(5, 8, 6), [Block(8, 2, 8) for _ in range(4)], Head(8, 5), cross_entropy)
            print(*tr.pids, flush=True)
            input()
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    pids = [int(p) for p in process.stdout.readline().split()]
    assert len(pids) == 4
    assert all(map(alive, pids))
    process.kill()
    process.communicate()
    end = time.monotonic() + 5
    while any(map(alive, pids)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(map(alive, pids))


@pytest.mark.slow
def test_fifty_kills_at_random_moments():
    rng = np.random.default_rng(0)
    enough = threading.Event()
    killed = []
    with make(PipelineTrainer, fallback="snapshot", checkpoint_every=20, spares=2, timeout=3) as tr:
        pids = set(tr.pids)

        def strike():
            while len(killed) < 55:
                time.sleep(rng.exponential(0.7))
                pid = tr.pids[rng.integers(6)]
                if pid not in killed:
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
            enough.set()

        thread = threading.Thread(target=strike, daemon=True)
        thread.start()
        t, done = 0, []
        while not enough.is_set():
            done.append(tr.step(batch(t)))
            pids |= set(tr.pids)
            t += 1
        thread.join()
        last = [tr.step(batch(t + i)) for i in range(5)]
        pids |= set(tr.pids)
    assert len(killed) == 55
    assert all(math.isfinite(o.loss) for o in (*done, *last))
    assert (
        sum(len(r.stages) for r in tr.recoveries) > 25
    )  # several kills within one recovery are one loss
    for before, after in itertools.pairwise(done):
        back = any(r.how == "rolled back" for r in after.recoveries)
        assert back or after.iteration == before.iteration + 1
    assert np.median([r.seconds for r in tr.recoveries]) < 1.5
    assert not any(map(alive, pids))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"mode": "best"}, "mode"),
        ({"rule": "mean"}, "rule"),
        ({"moments": "keep"}, "moments"),
        ({"replicas": "none"}, "replicas"),
        ({"fallback": "hope"}, "fallback"),
        ({"lr": 0}, "lr"),
        ({"lr_boost": 0}, "lr_boost"),
        ({"microbatches": 0}, "microbatches"),
        ({"clip": -1}, "clip"),
        ({"checkpoint_every": 0}, "checkpoint_every"),
        ({"backend": "nccl"}, "backend"),
        ({"spares": -1}, "spares"),
        ({"timeout": 0}, "timeout"),
        ({"model": parts(3)}, "at least 4"),
        ({"model": parts(2), "mode": "checkfree"}, "at least 3"),
        ({"model": (parts()[0], [lambda: 3] * 4, parts()[2])}, r"stages\[0\]"),
    ],
)
def test_bad_arguments_are_named_and_nothing_is_started(change, named, monkeypatch):
    monkeypatch.setattr(pipeline.Crew, "start", lambda *_, **__: pytest.fail("started"))
    with pytest.raises((ValueError, TypeError), match=named):
        make(PipelineTrainer, **change)


def test_odd_microbatches_are_told_and_bad_batches_named():
    with pytest.warns(UserWarning, match="odd"):
        sim = make(Simulator, microbatches=3)
    assert math.isfinite(sim.step(batch(0)).loss)
    wrong = {"microbatches": batch(0, rows=2), "targets": (batch(0)[0], batch(0)[1][:3])}
    for named, bad in wrong.items():
        with pytest.raises((TypeError, ValueError), match=named):
            sim.step(bad)
    with pytest.raises(ValueError, match="batches"):
        sim.evaluate([])
    factories = (lambda: parts()[0], [lambda: Block(D, 2, 8)] * 4, lambda: parts()[2])
    one, two = make(Simulator, factories), make(Simulator, factories)
    assert not same(one.state_dict(), two.state_dict())


# Cost


@pytest.mark.parametrize(
    ("P", "K", "value"),
    [(0.02, 50, 87.2986350), (0.012, 100, 195.3585338), (0.024, 100, 431.2743619)],
)
def test_6_expected_executed_iterations(P, K, value):
    assert expected_executed(P, K) == pytest.approx(value, abs=5e-8 * value)
    rng = np.random.default_rng(0)
    total = 0
    for _ in range(10_000):
        # runs of successes between failures are geometric; those shorter than K are thrown away
        while (run := rng.geometric(P) - 1) < K:
            total += run + 1
        total += K
    assert total / 10_000 == pytest.approx(value, rel=0.03)


def test_limits_of_the_cost_model():
    assert expected_executed(0, 50) == 50
    assert expected_executed(1e-12, 50) == pytest.approx(50)
    assert expected_executed(1, 50) == math.inf
    assert expected_executed(0.9, 5000) == math.inf
    found = expected_time(
        0.1, 10_000, 14_500, iteration_seconds=91.32, recovery_seconds=30, checkpoint_every=100
    )
    assert found.best == "checkfree"
    assert found.threshold == pytest.approx(1.654 / (1 + 3 / 91.32), rel=1e-3)
    assert found.redundant / 3600 == pytest.approx(419.6, rel=1e-3)
    assert found.checkfree < found.redundant < found.checkpoint
    assert (
        expected_time(0.1, 10_000, 22_000, iteration_seconds=91.32, recovery_seconds=30).best
        == "redundant"
    )
    for named, value in {"failure": 2, "iterations": 0, "iteration_seconds": 0}.items():
        change = {named: value}
        with pytest.raises(ValueError, match=named):
            expected_time(
                **(
                    {
                        "failure": 0.1,
                        "iterations": 1,
                        "checkfree_iterations": 1,
                        "iteration_seconds": 1,
                    }
                    | change
                )
            )


# Certificates


def quadratic(rng, noise=0.0, jumps=5, T=200, size=1.0):
    """Gradient descent on ½ Σ aᵢxᵢ², thrown off its way now and then."""
    a = rng.uniform(0.1, 1.0, 10)
    x, gamma = rng.normal(size=10) * 3, 0.8 / a.max()
    at = set(rng.choice(np.arange(1, T), jumps, replace=False).tolist())
    h = lambda x: 0.5 * float(a @ x**2)  # noqa: E731
    start, squares, J, gaps = h(x), [], [], []
    for t in range(T):
        if t in at:
            before = h(x)
            x = x + size * rng.normal(size=10)
            J.append(h(x) - before)
        squares.append(float(((a * x) ** 2).sum()))
        gaps.append(h(x))
        x = x - gamma * (a * x + noise / math.sqrt(10) * rng.normal(size=10))
    known = {
        "steps": T,
        "lr": gamma,
        "smoothness": float(a.max()),
        "start": start,
        "floor": 0.0,
        "variance": noise**2,
    }
    return known, float(np.mean(squares)), J, gaps


def test_7_descent_with_jumps():
    known, measured, J, gaps = quadratic(np.random.default_rng(0), size=6.0)
    assert g.descent(exact(measured), **known, jumps=J, gaps=gaps).verdict == Verdict.HOLDS
    assert g.descent(exact(measured), **known, jumps=()).verdict == Verdict.FAILS
    assert g.descent(exact(measured), **(known | {"lr": 3.0}), jumps=J).verdict == Verdict.VOID
    assert g.descent(exact(measured), **known, jumps=[math.inf]).verdict == Verdict.VOID
    assert g.descent(None, **known, jumps=J, optimizer="adam").verdict == Verdict.VOID
    assert (
        g.descent(exact(measured), **(known | {"steps": 1}), jumps=J, gaps=gaps).verdict
        == Verdict.VACUOUS
    )
    assert g.descent(None, **known, jumps=J).verdict == Verdict.UNMEASURED


def test_descent_error_rate():
    """Bound on an expectation: twelve runs on one quadratic, whose jumps are averaged too."""

    def instance(rng):
        seed = int(rng.integers(2**31))
        runs = [quadratic_runs(seed, child) for child in rng.spawn(12)]
        known = runs[0][0]
        return g.descent(
            mean([r[1] for r in runs]),
            **known,
            jumps=np.mean([r[2] for r in runs], axis=0),
            gaps=np.mean([r[3] for r in runs], axis=0),
        )

    assert_error_rate(instance, 0.05, n=300)


def quadratic_runs(seed, rng):
    fixed = np.random.default_rng(seed)
    a, x = fixed.uniform(0.1, 1.0, 10), fixed.normal(size=10) * 3
    gamma, T, noise = 0.5 / a.max(), 60, 0.3
    start, squares, J, gaps = 0.5 * float(a @ x**2), [], [], []
    for t in range(T):
        if t in (10, 20, 30, 40, 50):
            before = 0.5 * float(a @ x**2)
            x = x + 2 * rng.normal(size=10)
            J.append(0.5 * float(a @ x**2) - before)
        squares.append(float(((a * x) ** 2).sum()))
        gaps.append(0.5 * float(a @ x**2))
        x = x - gamma * (a * x + noise / math.sqrt(10) * rng.normal(size=10))
    known = {
        "steps": T,
        "lr": gamma,
        "smoothness": float(a.max()),
        "start": start,
        "floor": 0.0,
        "variance": noise**2,
    }
    return known, float(np.mean(squares)), J, gaps


def recovered(**changes):
    good = {
        "iteration": 3,
        "stages": (2,),
        "how": "rebuilt",
        "resumed": 3,
        "sources": ((1, 3),),
        "difference": 1e-8,
        "spread": 0.3,
        "changed": 0,
        "compared": 5,
    }
    return Recovery(**(good | changes))


def test_certificates_of_recoveries_can_come_out_every_way():
    assert g.rebuilt([recovered()]).verdict == Verdict.HOLDS
    assert g.rebuilt([recovered(difference=1e-3)]).verdict == Verdict.FAILS
    assert (
        g.rebuilt([recovered(reason="stages 2 and 3 were lost together", difference=None)]).verdict
        == Verdict.VOID
    )
    assert g.rebuilt([recovered(spread=0.0)]).verdict == Verdict.VACUOUS
    assert g.rebuilt([]).verdict == Verdict.UNMEASURED
    assert g.rebuilt([recovered()], mode="checkpoint").verdict == Verdict.VOID
    assert g.untouched([recovered()]).verdict == Verdict.HOLDS
    assert g.untouched([recovered(changed=1)]).verdict == Verdict.FAILS
    assert g.untouched([recovered(how="rolled back")]).verdict == Verdict.VOID
    assert g.untouched([recovered(compared=0)]).verdict == Verdict.VACUOUS
    assert g.untouched([]).verdict == Verdict.UNMEASURED
    assert g.each_once(range(5)).verdict == Verdict.HOLDS
    assert g.each_once([0, 1, 1, 2]).verdict == Verdict.FAILS
    assert g.each_once([]).verdict == Verdict.VACUOUS
    assert g.each_once([0, 1, 0], [recovered(how="rolled back")]).verdict == Verdict.VOID
    assert g.progress([4.0, 3.0, 2.0], [0.2]).verdict == Verdict.HOLDS
    assert g.progress([2.0, 2.5], [0.7]).verdict == Verdict.FAILS
    assert g.progress([2.0, math.nan], [0.7]).verdict == Verdict.VOID
    assert g.progress([2.0, 1.0], []).verdict == Verdict.VACUOUS
    with pytest.raises(ValueError, match="losses"):
        g.progress([1.0], [])


def test_beats_redundancy_can_come_out_every_way():
    times = {"iteration_seconds": 91.32, "recovery_seconds": 30.0, "redundancy": 1.654}
    assert g.beats_redundancy(Estimate(1.45, 1.4, 1.5), 0.05, **times).verdict == Verdict.HOLDS
    assert g.beats_redundancy(Estimate(2.2, 2.1, 2.3), 0.16, **times).verdict == Verdict.FAILS
    assert (
        g.beats_redundancy(Estimate(1.6, 1.5, 1.7), 0.05, **times).verdict == Verdict.INCONCLUSIVE
    )
    assert g.beats_redundancy(None, 0.05, **times).verdict == Verdict.UNMEASURED
    assert g.beats_redundancy(None, 0.05, **times, reached=False).verdict == Verdict.VOID
    assert (
        g.beats_redundancy(None, 0.05, **(times | {"redundancy": math.inf})).verdict
        == Verdict.VACUOUS
    )


def test_rebuilt_stages_never_break_the_formula():
    """Random weights and norms; every recovery is audited."""
    rules = ("grad", "uniform", "copy")
    sims = {
        rule: make(Simulator, parts(4), mode="checkfree", audit=True, rule=rule) for rule in rules
    }

    def instance(rng):
        sim = sims[str(rng.choice(rules))]
        sim.recoveries.clear()
        for unit in (u for s in sim._sites for u in s.units.values()):
            unit.norm = float(rng.exponential())
            for p in unit.parameters:
                p.data.normal_()
        sim.kill(int(rng.integers(1, 3)))
        sim._heal()
        return g.rebuilt(sim.recoveries), g.untouched(sim.recoveries)

    assert_error_rate(instance, 0.001, n=300)


# The front door


SMALL = {
    "dim": 8,
    "heads": 2,
    "context": 6,
    "batch": 4,
    "stages": 4,
    "steps": 6,
    "evaluate_every": 3,
    "rng": 0,
}


def test_checkfree_on_a_text(tmp_path):
    from matplotlib.figure import Figure
    from safetensors.torch import load_file

    found = checkfree(TEXT, **SMALL, fail="2@3, 0@4")
    assert [c.name for c in found.certificates] == [
        "recovered-weights",
        "others-untouched",
        "each-iteration-once",
        "jumps-below-progress",
    ]
    assert [c.verdict for c in found.certificates[:3]] == [Verdict.HOLDS] * 3
    assert found.losses.shape == (6,)
    assert list(found.recoveries["step"]) == [3, 4]
    assert list(found.recoveries["stages"]) == ["2", "0"]
    assert np.isfinite(found.recoveries["jump"]).all()
    assert found.summary()["stages_killed"] == 2
    axes = Figure().subplots(1, 2)
    found.plot(axes[0])
    found.plot_timeline(axes[1])
    saved = found.artifacts()
    saved["model.safetensors"](tmp_path / "model.safetensors")
    assert set(load_file(tmp_path / "model.safetensors")) == set(found.weights)


@pytest.fixture
def quick(monkeypatch):
    """The simulator in the place of processes."""

    class Quick(Simulator):
        def __init__(self, *model, spares=1, **training):
            super().__init__(*model, **training)
            self.events_ = []

    monkeypatch.setattr(pipeline, "PipelineTrainer", Quick)


def test_runs_that_go_back_say_so(quick):
    back = checkfree(TEXT, **SMALL, fail="2@3,3@3", checkpoint_every=2)
    assert [c.verdict for c in back.certificates[:3]] == [Verdict.VOID] * 3
    with pytest.raises(UnrecoverableStageError):
        checkfree(TEXT, **SMALL, fail="2@3,3@3", fallback="raise")
    with pytest.raises(UnrecoverableStageError, match="first stage"):
        checkfree(TEXT, **SMALL, fail="0@3", fallback="raise", mode="checkfree")
    assert checkfree(TEXT, **SMALL, mode="none").certificates[0].verdict == Verdict.UNMEASURED
    one, two = (checkfree(TEXT, **SMALL, fail_rate=0.2) for _ in range(2))
    np.testing.assert_array_equal(one.losses, two.losses)
    assert len(one.recoveries) > 0


def test_failures_are_read_and_drawn():
    assert read_failures("2@150, 0@3,1@150", 6, 200) == {3: (0,), 150: (1, 2)}
    assert read_failures("", 6, 200) == {}
    for text in ("2", "2@", "6@1", "1@200", "a@b", "1@2;3@4", "-1@3"):
        with pytest.raises(ValueError, match="fail must"):
            read_failures(text, 6, 200)
    rng = np.random.default_rng(0)
    for mode in ("checkfree", "checkfree+", "redundant"):
        drawn = draw_failures(0.3, 6, 2000, mode, rng)
        for lost in drawn.values():
            plan(lost, 6, "checkfree" if mode == "checkfree" else mode, "grad")
            assert mode == "checkfree+" or not {0, 5} & set(lost)
    rate = (
        sum(len(v) for v in draw_failures(0.01, 6, 20_000, "checkfree", rng).values()) / 20_000 / 4
    )
    assert rate == pytest.approx(0.01, rel=0.15)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"text": 3}, "text"),
        ({"text": "too short"}, "text"),
        ({"stages": 3}, "stages"),
        ({"dim": 9}, "dim"),
        ({"heads": 0}, "heads"),
        ({"context": 0}, "context"),
        ({"batch": 1}, "microbatches"),
        ({"steps": 0}, "steps"),
        ({"fail_rate": 2}, "fail_rate"),
        ({"fail": "9@1"}, "fail"),
        ({"fail": 3}, "fail"),
        ({"mode": "best"}, "mode"),
        ({"rule": "best"}, "rule"),
        ({"test": 0}, "test"),
        ({"evaluate_every": 0}, "evaluate_every"),
        ({"lr": -1}, "lr"),
        ({"spares": -1}, "spares"),
        ({"checkpoint_every": 0}, "checkpoint_every"),
    ],
)
def test_bad_input_is_named_before_anything_is_started(change, named, monkeypatch):
    monkeypatch.setattr(pipeline.Crew, "start", lambda *_, **__: pytest.fail("started"))
    with pytest.raises((ValueError, TypeError), match=named):
        checkfree(**({"text": TEXT} | SMALL | change))


@settings(max_examples=80, deadline=None)
@given(
    st.text(max_size=60),
    st.integers(-1, 8),
    st.integers(-1, 5),
    st.one_of(st.none(), st.text("0123456789@, ", max_size=8)),
    st.one_of(st.floats(-1, 2), st.just(math.nan)),
    st.sampled_from(["checkfree", "checkfree+", "checkpoint", "redundant", "none"]),
)
def test_anything_is_trained_or_refused_by_name(text, stages, batch_size, fail, rate, mode):
    class Quick(Simulator):
        def __init__(self, *model, spares=1, **training):
            super().__init__(*model, **training)
            self.events_ = []

    given_ = SMALL | {
        "stages": stages,
        "batch": batch_size,
        "context": 2,
        "steps": 2,
        "fail": fail,
        "fail_rate": rate,
    }
    kept, told = pipeline.PipelineTrainer, ""
    pipeline.PipelineTrainer = Quick
    try:
        checkfree(text, **given_, mode=mode)
    except (ValueError, TypeError, UnrecoverableStageError) as error:
        told = str(error)
    finally:
        pipeline.PipelineTrainer = kept
    assert not told or told.startswith(
        (
            "text ",
            "stages ",
            "batch ",
            "microbatches ",
            "fail ",
            "fail_rate ",
            "mode ",
            "stage",
            "the ",
        )
    )
