"""Scripts and keepers of memory for tests: importable in their processes."""

import json

import numpy as np

from whp.distributed._in_memory_fault_tolerance.launch import _run_script
from whp.distributed.processes import Died

TEXT = (
    "In the beginning God created the heaven and the earth. And the earth was without form, and void; "
    * 20
)


def random_shards(fleet, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, fleet.length, dtype=np.uint8) for _ in range(fleet.code.n)]


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
