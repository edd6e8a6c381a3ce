"""Copies of 302 MB in memory against torch's own ways to save, and erasure codes against zfec and liberasurecode."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from whp.distributed import ErasureGroup, SnapshotGuard
from whp.distributed._in_memory_fault_tolerance.measure import job
from whp.experiment.benchmark import Case, Foreign
from whp.peers.checkpoints import DiskSaver


def work() -> dict[str, Any]:
    torch.set_num_threads(1)
    one = job(300)
    guard = SnapshotGuard(one.state, every=1, run=f"bench{secrets.token_hex(4)}", linger=120)
    guard.restore("fresh")
    data = {"job": one, "guard": guard, "step": 0, "savers": {}}
    for _ in range(3):
        guarded(data)
    return data


def guarded(data: dict[str, Any]) -> None:
    one, guard = data["job"], data["guard"]
    one.gradients()
    guard.pre_step()
    one.optimizer.step()
    guard.post_step(data["step"])
    data["step"] += 1


def saved(how: str, root: str | None = None) -> Callable[[dict[str, Any]], None]:
    """A step with a save of this kind, its fence before the optimizer."""

    def run(data: dict[str, Any]) -> None:
        one = data["job"]
        if how not in data["savers"]:
            place = Path(tempfile.mkdtemp(prefix="whpbench", dir=root))
            data["savers"][how] = DiskSaver(
                how, place, lambda: {k: v.state_dict() for k, v in one.state.items()}
            )
        saver = data["savers"][how]
        one.gradients()
        saver.fence()
        one.optimizer.step()
        saver.start(data["step"])
        data["step"] += 1

    return run


def plain(data: dict[str, Any]) -> None:
    data["job"].step()


def until_held(data: dict[str, Any]) -> None:
    """Copy and commit, alone."""
    guard = data["guard"]
    guard.pre_step()
    guard.post_step(data["step"])
    guard.pre_step()
    guard._fence()
    data["step"] += 1


def until_saved(how: str, root: str | None = None) -> Callable[[dict[str, Any]], None]:
    def run(data: dict[str, Any]) -> None:
        one, place = data["job"], Path(tempfile.mkdtemp(prefix="whpbench", dir=root))
        saver = DiskSaver(how, place, lambda: {k: v.state_dict() for k, v in one.state.items()})
        saver.start(0)
        saver.close()
        shutil.rmtree(place)

    return run


def shards() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    columns = [rng.integers(0, 256, 16 << 20, dtype=np.uint8) for _ in range(4)]
    group = ErasureGroup(6, 2)
    return {"columns": columns, "group": group, "parity": group.parity_of_stripe(columns)}


def encode(data: dict[str, Any]) -> Any:
    return data["group"].parity_of_stripe(data["columns"])


def decode(data: dict[str, Any]) -> Any:
    a, b = data["columns"][2:]
    return data["group"].restore_stripe([None, None, a, b], data["parity"])


def xor(data: dict[str, Any]) -> Any:
    return ErasureGroup(5, 1).parity_of_stripe(data["columns"])


CODE = """
import json, sys, time
import numpy as np
columns = [c.tobytes() for c in np.load(sys.argv[1])["columns"]]
{setup}
for _ in sys.stdin:
    start = time.perf_counter()
    {work}
    print(json.dumps({{"seconds": time.perf_counter() - start}}), flush=True)
"""
ZFEC = "import zfec\nencoder, decoder = zfec.Encoder(4, 6), zfec.Decoder(4, 6)\nparity = encoder.encode(columns, [4, 5])"
ECLIB = "from pyeclib.ec_iface import ECDriver\ndriver = ECDriver(k=4, m=2, ec_type='{kind}')\nwhole = b''.join(columns)"


def foreign(requirement: str, setup: str, statement: str) -> Foreign:
    return Foreign(
        requirements=f"numpy==2.2.6\n{requirement}\n",
        script=CODE.format(setup=setup, work=statement),
        arrays=lambda data: {"columns": np.stack(data["columns"])},
    )


def eclib(kind: str, statement: str = "driver.encode(whole)", more: str = "") -> Foreign:
    return foreign("pyeclib==1.8.0", ECLIB.format(kind=kind) + more, statement)


SAVES = {
    "torch.save": saved("torch.save"),
    "dcp.save": saved("dcp.save"),
    "dcp.async_save": saved("async_save"),
    "dcp.async_save, DefaultStager": saved("stager"),
}

CASES = [
    Case(
        name="a step of 302 MB (6 × Linear 2048, AdamW, one thread) with a copy each time",
        setup=work,
        ours=guarded,
        peers={"the step alone": plain, **SAVES},
        repeats=5,
        target="≤ 1.05 × the step alone",
        note="Every save waits for the one before. Not run: torchsnapshot, unmaintained; dlrover, needs its launcher.",
    ),
    Case(
        name="302 MB until they can be restored",
        setup=work,
        ours=until_held,
        peers={
            "torch.save": until_saved("torch.save"),
            "dcp.save": until_saved("dcp.save"),
            "dcp.async_save": until_saved("async_save"),
            "dcp.async_save, DefaultStager": until_saved("stager"),
            "dcp.async_save, DefaultStager, /dev/shm": until_saved("stager", "/dev/shm"),
        },
        repeats=5,
        target="≤ 1/5 of the best that survives the process",
        note="A file in /dev/shm survives the trainer, as ours does, and no node.",
    ),
    Case(
        name="encode 64 MiB, 4 data and 2 parity",
        setup=shards,
        ours=encode,
        peers={
            "zfec 1.6.0.0": foreign("zfec==1.6.0.0", ZFEC, "encoder.encode(columns, [4, 5])"),
            "pyeclib 1.8.0, isa_l_rs_vand": eclib("isa_l_rs_vand"),
            "pyeclib 1.8.0, isa_l_rs_cauchy": eclib("isa_l_rs_cauchy"),
            "memcpy": lambda data: [column.copy() for column in data["columns"]],
        },
        repeats=5,
        target="≤ 1/5 of zfec and of pyeclib",
    ),
    Case(
        name="decode 2 lost of 64 MiB",
        setup=shards,
        ours=decode,
        peers={
            "zfec 1.6.0.0": foreign(
                "zfec==1.6.0.0", ZFEC, "decoder.decode([*parity, *columns[2:]], [4, 5, 2, 3])"
            ),
            "pyeclib 1.8.0, isa_l_rs_vand": eclib(
                "isa_l_rs_vand", "driver.decode(left)", "\nleft = driver.encode(whole)[2:]"
            ),
        },
        repeats=5,
    ),
    Case(
        name="XOR of 64 MiB, 4 data and 1 parity",
        setup=shards,
        ours=xor,
        peers={"memcpy": lambda data: [column.copy() for column in data["columns"]]},
        repeats=5,
        target="≤ 2.5 × memcpy",
    ),
]
