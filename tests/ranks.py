"""What ranks do in tests: importable in their processes."""

import hashlib
import io

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from whp.distributed import BlockTopK, EF21State, ef21_hook


def net():
    torch.manual_seed(0)
    layers = [
        torch.nn.Linear(64, 64),
        torch.nn.Tanh(),
        torch.nn.Linear(64, 64),
        torch.nn.Tanh(),
        torch.nn.Linear(64, 10),
    ]
    return torch.nn.Sequential(*layers)


def train(rank, compressor, steps, options):
    """Full-batch descent on rows that differ by rank; digest, parameters, report and losses."""
    module = net()
    ddp = DistributedDataParallel(module, bucket_cap_mb=0.02)
    settings = {"resync_every": 50, "check_every": 10} | options.get("state", {})
    state = None
    if compressor is not None:
        state = EF21State(module, compressor=compressor, **settings)
        ddp.register_comm_hook(state, ef21_hook)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    draw = torch.Generator().manual_seed(rank)
    X, y = torch.randn(256, 64, generator=draw), torch.randint(0, 10, (256,), generator=draw)
    losses = []
    for t in range(steps):
        if options.get("restart_at") == t:
            stored = io.BytesIO()
            torch.save(state.state_dict(), stored)
            stored.seek(0)
            ddp = DistributedDataParallel(module, bucket_cap_mb=0.02)
            state = EF21State(module, compressor=compressor, **settings)
            state.load_state_dict(torch.load(stored, weights_only=True))
            ddp.register_comm_hook(state, ef21_hook)
        scale = options.get("scale", 1.0)
        if scale != 1.0:
            state.loss_scale = scale * (1 + t % 3)
        optimizer.zero_grad()
        accumulate = options.get("accumulate", 1)
        for part in range(accumulate):
            rows = slice(part * 256 // accumulate, (part + 1) * 256 // accumulate)
            if part < accumulate - 1:
                with ddp.no_sync():
                    (
                        torch.nn.functional.cross_entropy(ddp(X[rows]), y[rows]) / accumulate
                    ).backward()
            else:
                loss = torch.nn.functional.cross_entropy(ddp(X[rows]), y[rows]) / accumulate
                if options.get("nan_at") == t and rank == 1:
                    loss = loss * float("nan")
                (loss * (state.loss_scale if state else 1.0)).backward()
        if scale != 1.0:
            for p in module.parameters():
                p.grad /= state.loss_scale
        losses.append(float(loss.detach()))
        optimizer.step()
    parameters = torch.cat([p.detach().flatten() for p in module.parameters()])
    digest = hashlib.sha256(parameters.numpy().tobytes()).hexdigest()
    return {
        "digest": digest,
        "parameters": parameters,
        "report": state.report() if state else None,
        "losses": losses,
    }


def wrong_loads(rank):
    """Messages of loading what does not fit."""
    module = net()
    state = EF21State(module, compressor=BlockTopK(0.01))
    saved = state.state_dict()
    found = []
    for change in (
        {"world_size": 4},
        {"rank": 7},
        {"compressor": "TopK(k=3)"},
        {"average": {"0.weight": torch.zeros(3)}},
    ):
        try:
            state.load_state_dict(saved | change)
        except ValueError as error:
            found.append(str(error))
    state.load_state_dict(saved | {"world_size": 4}, reset=True)
    dist.barrier()
    return found


def opposite(rank, load=None):
    """Steps of ranks whose gradients cancel in the end; at the last, rank 1 may load another one."""
    torch.manual_seed(0)
    module = torch.nn.Linear(64, 32, bias=False)
    ddp = DistributedDataParallel(module)
    state = EF21State(module, compressor=BlockTopK(0.1), dense_below=10, resync_every=199)
    ddp.register_comm_hook(state, ef21_hook)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    # the best weights are the mean of the targets, where each rank's gradient is far from 0
    target = torch.randn(64, 32, generator=torch.Generator().manual_seed(rank))
    saved = {}
    for t in range(200):
        if t in (10, 199):
            saved[t] = state.state_dict()
        if load is not None and t == 199:
            state.load_state_dict(saved[load if rank == 1 else t])
        optimizer.zero_grad()
        (1000 * (ddp(torch.eye(64)) - target).square().mean()).backward()
        optimizer.step()
    return state.certificates, float(module.weight.grad.norm())


def settings_differ(rank, name):
    """One step of ranks whose states differ in one setting."""
    module = torch.nn.Linear(64, 32)
    settings = {"compressor": BlockTopK(0.1), "dense_below": 40, "resync_every": 3}
    others = {"compressor": BlockTopK(0.2), "dense_below": 4000, "resync_every": 4}
    settings[name] = (settings, others)[rank][name]
    ddp = DistributedDataParallel(module)
    ddp.register_comm_hook(EF21State(module, **settings), ef21_hook)
    ddp(torch.ones(8, 64)).square().mean().backward()


def refuse(rank):
    """Raise on one rank."""
    if rank == 1:
        raise ValueError("no")


def stop(rank):
    """Die on one rank."""
    import os
    import signal

    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    dist.barrier()


def reduce_time(rank, n):
    import time

    x = torch.randn(n)
    dist.all_reduce(x)
    dist.barrier()
    start = time.perf_counter()
    dist.all_reduce(x)
    return time.perf_counter() - start


def echo(pipe):
    """Send back what comes."""
    while True:
        pipe.send(pipe.recv())


def own_shards(rank, place, lose):
    """Ranks whose state differs, in size too; one keeper may be killed with its memory; what comes back."""
    import os
    import signal
    import time
    from pathlib import Path

    from whp.distributed import SnapshotGuard

    weights = torch.arange(1000 + 300 * rank, dtype=torch.float32) + rank
    options = {"parity": 1, "every": 1, "sharded": True, "run": "ownshards", "smp_dir": place}
    guard = SnapshotGuard({"weights": weights}, dist.group.WORLD, **options)
    guard.restore()
    kept = []
    for step in range(6):
        guard.pre_step()
        weights.add_(1.0)
        kept.append(weights.clone())
        guard.post_step(step)
        time.sleep(0.15)
    guard.abandon()
    dist.barrier()
    if lose and rank == 0:
        pid = guard.keepers[1]
        os.kill(pid, signal.SIGKILL)
        for file in Path(place).glob(f"*ownshards-1-{pid}-*"):
            file.unlink()
    dist.barrier()
    weights.zero_()
    again = SnapshotGuard({"weights": weights}, dist.group.WORLD, **options)
    start = again.restore()
    good = bool((weights == kept[start - 1]).all())
    source = again.report_.source
    dist.barrier()
    again.close()
    return start, good, source


def other_kind(rank, place, sharded):
    """A run whose ranks have states of their own, or one state, is taken up as the other; the error."""
    import time

    from whp.distributed import SnapshotGuard

    weights = torch.full((1000,), float(rank if sharded else 0))
    options = {"every": 1, "run": "otherkind", "smp_dir": place, "verbose": False}
    guard = SnapshotGuard({"w": weights}, dist.group.WORLD, sharded=sharded, **options)
    guard.restore()
    for step in range(3):
        guard.pre_step()
        guard.post_step(step)
        time.sleep(0.1)
    guard.abandon()
    dist.barrier()
    again = SnapshotGuard({"w": weights}, dist.group.WORLD, sharded=not sharded, **options)
    try:
        told = f"began at {again.restore()}"
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
    dist.barrier()
    again.close()
    return told


def bucket_layouts(rank):
    """Layout of the buckets in each step, and how far the hook's average is from that of the shifts, relatively."""
    module = net()
    ddp = DistributedDataParallel(module, bucket_cap_mb=0.02)
    state = EF21State(module, compressor=BlockTopK(0.01))
    names = {id(p): name for name, p in module.named_parameters()}
    layouts = []

    def hook(state, bucket):
        layouts[-1].append([names[id(p)] for p in bucket.parameters()])
        return ef21_hook(state, bucket)

    ddp.register_comm_hook(state, hook)
    draw = torch.Generator().manual_seed(rank)
    for _ in range(4):
        layouts.append([])
        module.zero_grad()
        ddp(torch.randn(32, 64, generator=draw)).square().mean().backward()
    saved = state.state_dict()
    off = 0.0
    for name, local in saved["local"].items():
        mean = local.clone()
        dist.all_reduce(mean)
        mean /= 2
        off = max(off, float((mean - saved["average"][name]).norm() / mean.norm()))
    return layouts, off
