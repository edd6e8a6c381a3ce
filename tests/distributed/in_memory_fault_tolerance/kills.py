"""Kills of real processes, many times: ``python kills.py [times]`` prints what became of each kind.

*recovered* means that the launcher ended with 0 and the weights are bit for bit those of a run without failures; *error* that it
ended with the exit code that such a failure has. The last three columns must be 0.
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from whp.distributed._in_memory_fault_tolerance import client

SCRIPT = """
import hashlib, os, sys, time
import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset
from whp.distributed import ResumableLoader, SnapshotGuard

folder, out, steps, bug = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
dist.init_process_group("gloo")
rank, size = dist.get_rank(), dist.get_world_size()
torch.manual_seed(0)
X = torch.randn(96, 8)
rows = TensorDataset(X, X.sum(1, keepdim=True))
model = nn.Sequential(nn.Linear(8, 64), nn.Dropout(0.2), nn.Linear(64, 1))
optimizer = torch.optim.AdamW(model.parameters())
data = ResumableLoader(DataLoader(rows, batch_size=4, sampler=DistributedSampler(rows)))
torch.manual_seed(1 + rank)
state = {"model": model, "optimizer": optimizer, "data": data}
with SnapshotGuard(state, dist.group.WORLD, every=2, smp_dir=folder) as guard:
    step = guard.restore()
    while step < steps:
        for x, y in data:
            if step >= steps:
                break
            loss = (model(x) - y).square().mean()
            optimizer.zero_grad()
            loss.backward()
            for p in model.parameters():
                dist.all_reduce(p.grad)
                p.grad /= size
            guard.pre_step()
            optimizer.step()
            guard.post_step(step)
            time.sleep(0.02)
            if step == bug:
                raise ValueError("a bug of the user")
            step += 1
    weights = b"".join(t.detach().numpy().tobytes() for t in model.state_dict().values())
    if rank == 0:
        with open(out, "w") as file:
            file.write(hashlib.sha256(weights).hexdigest())
    dist.barrier()
dist.destroy_process_group()
"""


class Scene:
    """A launch in a directory of its own, in memory."""

    def __init__(self, ranks=3, parity=1, steps=100, bug=-1):
        self.mounted = False
        self.folder = Path(tempfile.mkdtemp(prefix="kills", dir="/dev/shm"))
        self.work = Path(tempfile.mkdtemp(prefix="kills"))
        self.script, self.out = self.work / "train.py", self.work / "out"
        self.script.write_text(SCRIPT)
        self.ranks, self.parity, self.steps, self.bug = ranks, parity, steps, bug
        self.process = None

    def launch(self, run="r", folder=None):
        command = [sys.executable, "-m", "whp", "guard", "run", "--nproc", str(self.ranks)]
        command += [
            "--parity",
            str(self.parity),
            "--run",
            run,
            "--smp-dir",
            str(folder or self.folder),
        ]
        script = [str(self.script), str(folder or self.folder), str(self.out)]
        words = [script[0], "--", *script[1:], str(self.steps), str(self.bug)]
        log = (self.work / "log").open("ab")
        return subprocess.Popen([*command, *words], stdout=log, stderr=log, start_new_session=True)

    def begin(self):
        self.process = self.launch()
        self.until(random.uniform(8, 30))

    def asked(self):
        told = []
        for found in client.keepers(self.folder):
            with contextlib.suppress(OSError, EOFError, RuntimeError):
                smp = client.SMP(found, role="control")
                told.append((found, smp.query()))
                smp.close()
        return sorted(told, key=lambda t: t[0].member)

    def until(self, step, seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            if max((t["mark"]["step"] for _, t in self.asked()), default=-1) >= step:
                return
            time.sleep(0.01)

    def rank(self, member=None):
        told = self.asked()
        pids = [
            t["trainer_pid"] for f, t in told if t["trainer_pid"] and member in (None, f.member)
        ]
        return random.choice(pids) if pids else 0

    def keeper(self, member=None):
        pids = [f.pid for f, _ in self.asked() if member in (None, f.member)]
        return random.choice(pids) if pids else 0

    def lose(self, pid):
        strike(pid, signal.SIGKILL)
        while client.alive(pid):
            time.sleep(0.001)
        member = {f.member for f, _ in self.asked()}
        for path in self.folder.glob("whp-*"):
            parts = path.name.split(".")[0].split("-")
            if (len(parts) > 3 and parts[3] == str(pid)) or (
                path.suffix and int(parts[2]) not in member
            ):
                path.unlink(missing_ok=True)

    def judge(self, seconds=90):
        """(outcome, left): how it ended, and whether anything is left behind."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            outcome = "hung"
        else:
            good = self.out.exists() and self.out.read_text() == REFERENCE.get(self.ranks)
            outcome = ("recovered" if good else "wrong") if code == 0 else f"exit {code}"
        end = time.monotonic() + 5  # the server that forks ranks ends a moment after the launcher
        while time.monotonic() < end and self.left():
            time.sleep(0.05)
        return outcome, self.left()

    def left(self):
        running = client.processes(self.folder)
        return sorted(
            {p.name for p in self.folder.glob("whp-*")} | {f"pid {p.pid}" for p in running}
        )

    def clean(self):
        for found in client.processes(self.folder):
            strike(found.pid, signal.SIGKILL)
        for folder in (self.folder, self.work):
            subprocess.run(["rm", "-r", str(folder)])


def strike(pid, number):
    if pid > 1:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


REFERENCE = {}


def plain(s):
    s.begin()


def kill_rank(s):
    s.begin()
    strike(s.rank(), signal.SIGKILL)


def kill_keeper(s):
    s.begin()
    strike(s.keeper(), signal.SIGKILL)


def kill_node(s):
    s.begin()
    member = random.randrange(s.ranks)
    pid, rank = s.keeper(member), s.rank(member)
    strike(rank, signal.SIGKILL)
    s.lose(pid)


def kill_twice(s):
    kill_rank(s)
    s.until(50)
    strike(s.rank(), signal.SIGKILL)


def stop_rank(s):
    s.begin()
    pid = s.rank()
    strike(pid, signal.SIGSTOP)
    time.sleep(3)
    strike(pid, signal.SIGCONT)


def stop_keeper(s):
    s.begin()
    pid = s.keeper()
    strike(pid, signal.SIGSTOP)
    time.sleep(3)
    strike(pid, signal.SIGCONT)


def stop_keeper_kill_rank(s):
    s.begin()
    pid = s.keeper()
    strike(pid, signal.SIGSTOP)
    time.sleep(1)
    strike(pid, signal.SIGCONT)
    strike(s.rank(), signal.SIGKILL)


def all_keepers(s):
    s.begin()
    for found, _ in s.asked():
        strike(found.pid, signal.SIGKILL)


def all_keepers_and_a_rank(s):
    s.begin()
    told = s.asked()
    for found, _ in told:
        strike(found.pid, signal.SIGKILL)
    strike(told[0][1]["trainer_pid"], signal.SIGKILL)


def all_nodes(s):
    s.begin()
    told = s.asked()
    strike(told[0][1]["trainer_pid"], signal.SIGKILL)
    for found, _ in told:
        strike(found.pid, signal.SIGKILL)
    for path in s.folder.glob("whp-*"):
        path.unlink(missing_ok=True)


def junk_file(s):
    s.begin()
    random.choice(list(s.folder.glob("whp-*.json"))).write_text("junk")
    strike(s.rank(), signal.SIGKILL)


def flipped_byte(s):
    s.begin()
    pid = s.rank(0)
    path = random.choice(list(s.folder.glob("whp-r-1-*-[ab]*")))
    strike(pid, signal.SIGKILL)
    with path.open("r+b") as file:
        byte = file.read(1)[0]
        file.seek(0)
        file.write(bytes([byte ^ 1]))


def same_run_twice(s):
    s.begin()
    other = s.launch()
    assert other.wait(60) not in (0, None)
    strike(s.rank(), signal.SIGKILL)


def launcher_struck(number):
    def scene(s):
        s.begin()
        strike(s.process.pid, number)
        s.process.wait(30)
        s.process = s.launch()

    scene.__name__ = f"launcher gets {signal.Signals(number).name}, then the same run again"
    return scene


def bug(s):
    s.bug = 21  # a step without a snapshot, so that it comes again
    s.process = s.launch()


def memory_too_small(s):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(s.folder)], check=True)
    s.process = s.launch()
    s.mounted = True


KINDS = [
    ("rank", kill_rank, "recovered", 10),
    ("rank, twice", kill_twice, "recovered", 5),
    ("keeper", kill_keeper, "recovered", 5),
    ("rank and keeper, memory unlinked", kill_node, "recovered", 8),
    ("SIGSTOP of a rank, 3 s", stop_rank, "recovered", 2),
    ("SIGSTOP of a keeper, 3 s", stop_keeper, "recovered", 2),
    ("keeper stopped for 1 s, then a rank", stop_keeper_kill_rank, "recovered", 2),
    ("all keepers", all_keepers, "recovered", 2),
    ("all keepers and a rank", all_keepers_and_a_rank, "exit 4", 3),
    ("all keepers and a rank, memory unlinked", all_nodes, "exit 4", 3),
    ("junk in a keeper's file, and a rank", junk_file, "recovered", 3),
    ("a flipped byte, and a rank", flipped_byte, "recovered", 2),
    ("the same run launched twice, and a rank", same_run_twice, "recovered", 2),
    *((f.__name__, f, "recovered", 1) for f in map(launcher_struck, (2, 15, 9))),
    ("a bug at one step of every run", bug, "exit 7", 2),
    ("memory of 64 kB", memory_too_small, "exit 7", 1),
]


def main():
    times = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    only = sys.argv[2] if len(sys.argv) > 2 else ""
    calm = Scene()
    plain(calm)
    calm.process.wait(90)
    REFERENCE[calm.ranks] = calm.out.read_text()
    calm.clean()
    total = 0
    for name, scene, wanted, count in KINDS:
        if only not in name:
            continue
        row = dict.fromkeys(("recovered", "error", "wrong", "hung", "left"), 0)
        for _ in range(max(1, round(count * times))):
            s = Scene()
            try:
                scene(s)
                outcome, left = s.judge()
                kind = "error" if outcome == wanted != "recovered" else outcome
                if kind.startswith("exit") or (kind == "recovered" != wanted):
                    kind = "wrong"
                row[kind] += 1
                row["left"] += bool(left) and outcome != "hung" and not outcome.startswith("exit")
                total += 1
                if kind in ("wrong", "hung") or left:
                    print(
                        name, outcome, left, (s.work / "log").read_text()[-1500:], file=sys.stderr
                    )
            finally:
                if s.mounted:
                    subprocess.run(["umount", "-l", str(s.folder)])
                s.clean()
        print(json.dumps({"what": name, **row}), flush=True)
    print(total, "runs")


if __name__ == "__main__":
    main()
