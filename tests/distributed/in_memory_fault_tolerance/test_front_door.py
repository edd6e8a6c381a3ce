import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from keepers import TEXT

from whp.certificate import Verdict
from whp.distributed import in_memory_fault_tolerance


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
