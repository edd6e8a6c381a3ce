"""Recovery against torchrun with a distributed checkpoint, and the pipeline against one process."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from whp.distributed import PipelineTrainer, Simulator
from whp.distributed.char_lm import Block, Embed, Head, cross_entropy, windows
from whp.experiment.benchmark import Case

VOCAB, CONTEXT = 80, 48
TOKENS = torch.randint(VOCAB, (100_000,), generator=torch.Generator().manual_seed(0))

RESTARTED = """
import os, sys, time
from pathlib import Path
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from whp.distributed import PipelineTrainer, Simulator
from whp.distributed.char_lm import Block, Embed, Head

folder, dim = Path(sys.argv[1]), int(sys.argv[2])
torch.set_num_threads(1)
rank, attempt = int(os.environ["RANK"]), os.environ["TORCHELASTIC_RESTART_COUNT"]
store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
own = dist.PrefixStore("attempt-" + attempt, store)  # with addresses of the attempt before, ranks wait for the dead
dist.init_process_group("gloo", store=own, rank=rank, world_size=int(os.environ["WORLD_SIZE"]))
torch.manual_seed(0)
block = Block(dim, 4, 5 * dim // 2)
optimizer = torch.optim.Adam(block.parameters(), 1e-3)
block(torch.randn(8, 48, dim)).square().mean().backward()
optimizer.step()
state = {f"stage{rank}": block.state_dict(), f"moments{rank}": optimizer.state_dict()["state"]}
if (folder / "saved" / ".metadata").exists():
    dcp.load(state, checkpoint_id=folder / "saved")
else:
    dcp.save(state, checkpoint_id=folder / "saved")
(folder / f"pid-{rank}.new").write_text(str(os.getpid()))
(folder / f"pid-{rank}.new").rename(folder / f"pid-{rank}")
dist.barrier()
if rank == 0:
    (folder / f"ready-{attempt}").write_text("")
while True:
    time.sleep(0.05)
    dist.barrier()
"""


def model(dim: int, stages: int) -> tuple[Any, ...]:
    torch.manual_seed(0)
    blocks = [Block(dim, 4, 5 * dim // 2) for _ in range(stages)]
    return Embed(VOCAB, dim, CONTEXT), blocks, Head(dim, VOCAB), cross_entropy


def trainer(dim: int, stages: int, **options: Any) -> PipelineTrainer:
    tr = PipelineTrainer(*model(dim, stages), lr=1e-3, **options)
    atexit.register(tr.close)
    for t in range(3):
        tr.step(windows(TOKENS, 16, CONTEXT, 0, t))
    return tr


class Restarted:
    """Six processes under torchrun; killing one restarts all, which load their state again."""

    def __init__(self, dim: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="whp-bench-"))
        (self.folder / "worker.py").write_text(RESTARTED)
        options = [
            "--nproc-per-node=6",
            "--max-restarts=1000",
            "--standalone",
            "--monitor-interval=0.1",
        ]
        script = [str(self.folder / "worker.py"), str(self.folder), str(dim)]
        command = [sys.executable, "-m", "torch.distributed.run", *options, *script]
        self.seen: set[Path] = set()
        self.process = subprocess.Popen(
            command,
            env={**os.environ, "GLOO_SOCKET_IFNAME": "lo"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        atexit.register(self.process.terminate)
        self.wait()

    def wait(self) -> None:
        end = time.monotonic() + 120
        while not (
            found := set(self.folder.glob("ready-*")) - self.seen
        ):  # an attempt to come back may fail itself
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError("torchrun did not come back")
            time.sleep(0.005)
        self.seen |= found

    def __call__(self, _: Any) -> None:
        os.kill(int((self.folder / "pid-3").read_text()), signal.SIGKILL)
        self.wait()


def lost_and_regained() -> dict[str, Any]:
    return {"trainer": trainer(64, 6, spares=2), "restarted": Restarted(64)}


def regain(data: dict[str, Any]) -> float:
    tr = data["trainer"]
    tr.kill(3)
    return tr.evaluate([windows(TOKENS, 1, CONTEXT, 0, 0)])


def two_lengths() -> dict[str, Any]:
    return {"trainer": trainer(64, 12, spares=2), "short": trainer(64, 4, spares=2)}


def regain_short(data: dict[str, Any]) -> float:
    return regain({"trainer": data["short"]})


def steady(dim: int, rows: int) -> Any:
    def setup() -> dict[str, Any]:
        torch.set_num_threads(1)
        batch = windows(TOKENS, rows, CONTEXT, 0, 0)
        sim = Simulator(*model(dim, 6), lr=1e-3)
        sim.step(batch)
        pipelines = {
            "+": trainer(dim, 6, spares=0),
            "": trainer(dim, 6, spares=0, mode="checkfree"),
            "redundant": trainer(dim, 6, spares=0, mode="redundant"),
        }
        return {"batch": batch, "sim": sim, **pipelines}

    return setup


def stepping(name: str) -> Any:
    def work(data: dict[str, Any]) -> Any:
        return [data[name].step(data["batch"]).loss for _ in range(5)]

    return work


PEERS = {
    "one process, one thread": stepping("sim"),
    "no swaps": stepping(""),
    "redundant": stepping("redundant"),
}
CASES = [
    Case(
        name="six stages of width 64, one killed with SIGKILL, until training can go on",
        setup=lost_and_regained,
        ours=regain,
        peers={"torchrun --max-restarts, dcp.load": lambda data: data["restarted"](data)},
        repeats=5,
        target="≤ 1/20 of torchrun and dcp.load",
        note="torchrun restarts all processes, which import torch and load their stage and its moments from disk. torchft heals "
        "a group from another with the same weights; a stage without a replica has none.",
    ),
    Case(
        name="the same with twelve stages",
        setup=two_lengths,
        ours=regain,
        peers={"with four stages": regain_short},
        repeats=5,
        target="no more than processes to wake: weights of two stages move, whatever their number",
    ),
    Case(
        name="5 iterations, width 256, 32 windows of 48, six processes on two cores",
        setup=steady(256, 32),
        ours=stepping("+"),
        peers=PEERS,
        repeats=3,
        target="≤ 1.43 × one process",
        note="Odd microbatches run the first two and last two stages in swapped order.",
    ),
    Case(
        name="5 iterations, width 64, 16 windows of 48",
        setup=steady(64, 16),
        ours=stepping("+"),
        peers=PEERS,
        repeats=3,
        note="Small stages are bound by messages.",
    ),
]
