"""Ways to exchange gradients, ours and those of torch, as a rank runs them.

Imported quickly, as each rank is a process of its own.
"""

from __future__ import annotations

import time
from typing import Any

__all__ = ["HOOKS", "register", "step_times", "train_for"]

HOOKS = ("dense", "fp16", "PowerSGD 1", "PowerSGD 4", "EF21")


def register(hook: str, ddp: Any, module: Any) -> Any:
    """Register a communication hook by its name here; returns EF21's state."""
    from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook

    from whp.distributed import EF21State, ef21_hook

    if hook == "fp16":
        ddp.register_comm_hook(None, default_hooks.fp16_compress_hook)
    elif hook.startswith("PowerSGD"):
        state = powerSGD_hook.PowerSGDState(
            None, matrix_approximation_rank=int(hook.split()[1]), start_powerSGD_iter=2
        )
        ddp.register_comm_hook(state, powerSGD_hook.powerSGD_hook)
    elif hook == "EF21":
        own = EF21State(module)
        ddp.register_comm_hook(own, ef21_hook)
        return own
    return None


def step_times(rank: int, hook: str, d: int, steps: int) -> list[float]:
    """Seconds of each backward pass of one layer of d weights, in a group of ranks."""
    import torch
    import torch.distributed as dist

    class Layer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(d // 1000, 1000))

        def forward(self, x: Any) -> Any:
            return (self.weight * x).sum()

    module = Layer()
    ddp = torch.nn.parallel.DistributedDataParallel(module, bucket_cap_mb=1000)
    register(hook, ddp, module)
    x = torch.randn(d // 1000, 1000, generator=torch.Generator().manual_seed(rank))
    seconds = []
    for _ in range(steps):
        module.weight.grad = None
        dist.barrier()
        start = time.perf_counter()
        ddp(x).backward()
        seconds.append(time.perf_counter() - start)
    return seconds


def train_for(rank: int, hook: str, lr: float, budget: float, seed: int) -> dict[str, float]:
    """Train 1.9 million weights on the digits 0–4 or 5–9 for `budget` seconds; loss on all digits."""
    import torch
    import torch.distributed as dist
    from torch.nn.functional import cross_entropy

    from whp.datasets import images

    X, y = (torch.from_numpy(a) for a in images.mnist())
    X, y = X.float().reshape(len(y), -1), y.long()
    own = torch.nonzero((y >= 5) == bool(rank)).reshape(-1)
    torch.manual_seed(seed)
    module = torch.nn.Sequential(
        torch.nn.Linear(784, 1024),
        torch.nn.ReLU(),
        torch.nn.Linear(1024, 1024),
        torch.nn.ReLU(),
        torch.nn.Linear(1024, 10),
    )
    # one bucket: PowerSGD's chained messages cross each other on gloo with two
    dist._DEFAULT_FIRST_BUCKET_BYTES = 1 << 30  # pyright: ignore[reportPrivateImportUsage]
    ddp = torch.nn.parallel.DistributedDataParallel(module, bucket_cap_mb=1000)
    register(hook, ddp, module)
    optimizer = torch.optim.SGD(module.parameters(), lr=lr)
    draw = torch.Generator().manual_seed(1000 * seed + rank)
    dist.barrier()
    start, steps, go = time.perf_counter(), 0, torch.ones(1)
    while go.item():
        rows = own[torch.randint(len(own), (64,), generator=draw)]
        optimizer.zero_grad()
        cross_entropy(ddp(X[rows]), y[rows]).backward()
        optimizer.step()
        steps += 1
        go.fill_(float(time.perf_counter() - start < budget))
        dist.broadcast(go, 0)
    with torch.no_grad():
        loss = float(cross_entropy(module(X), y))
    return {"loss": loss if loss < 1e3 else 1e3, "steps": float(steps)}
