"""What is run: stalls of snapshots and of peers, kills of ranks and of keepers, survival by Poisson clocks, useful work."""

from __future__ import annotations

import itertools
import math
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from whp.distributed._in_memory_fault_tolerance.survival import (
    draws_survived,
    optimal_interval,
    survival_probability,
)
from whp.experiment.study import Scale, Study

__all__ = ["GROUPS", "PEERS", "SURVIVAL", "study", "text_of"]

PEERS = ("torch.save", "dcp.save", "async_save", "stager")
GROUPS = ((4, 1), (6, 2), (5, 3))
SURVIVAL = ((4, 1, 0.01), (4, 2, 0.01), (8, 1, 0.01), (8, 2, 0.01), (6, 2, 0.05))
Config = Mapping[str, Any]
study = Study("in-memory-fault-tolerance")


def _groups(scale: Scale) -> list[dict[str, Any]]:
    kb = 16 if scale == "quick" else 128
    return [{"n": n, "m": m, "kb": kb} for n, m in (GROUPS[:1] if scale == "quick" else GROUPS)]


def _laws(scale: Scale) -> list[dict[str, Any]]:
    draws = 20_000 if scale == "quick" else 100_000
    return [{"n": n, "m": m, "p": p, "draws": draws} for n, m, p in SURVIVAL]


def text_of(verses: int = 3000) -> str:
    """Verses of the King James Bible."""
    from whp.datasets.activations import verses as bible

    return "\n".join(text for _, text in bible()[:verses])


@study.experiment(
    seeds={"quick": 2, "standard": 5, "full": 10}, mb=300, quick={"mb": 12}, full={"mb": 3000}
)
def stall(config: Config, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Seconds that a save holds up training, and until there is something to restore; medians over saves, one thread."""
    from whp.distributed._in_memory_fault_tolerance.measure import guarded, job
    from whp.peers.checkpoints import DiskSaver

    work = job(config["mb"])
    saves = 5
    ours = guarded(work, 2 * saves)
    timed = {k: ours[k] for k in ("stall", "plain", "step")}
    rows = [{"method": "ours", "total": ours["lag"], **timed}]
    for how in PEERS:
        place = Path(tempfile.mkdtemp(prefix="whpstudy"))
        try:
            saver = DiskSaver(
                how, place, lambda: {k: v.state_dict() for k, v in work.state.items()}
            )
            stalls, totals = [], []
            for step in range(saves):
                start = time.perf_counter()
                stall = saver.start(step)
                work.gradients()
                stall += saver.fence()
                work.optimizer.step()
                saver.finish()
                stalls.append(stall)
                totals.append(time.perf_counter() - start)
            saver.close()
        finally:
            shutil.rmtree(place)
        middle = {"stall": float(np.median(stalls[1:])), "total": float(np.median(totals[1:]))}
        rows.append({"method": how, **middle})
    return [row | {"interval": optimal_interval(row["stall"], 1 / 3600)} for row in rows]


@study.experiment(
    seeds={"quick": 2, "standard": 5, "full": 10},
    ranks=3,
    kills=10,
    node_kills=5,
    steps=180,
    quick={"ranks": 2, "kills": 1, "node_kills": 1, "steps": 24},
)
def kills(config: Config, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Real kills of ranks and of keepers at random moments; a row a failure, and whether the run was as without."""
    from whp.distributed import in_memory_fault_tolerance

    found = in_memory_fault_tolerance(
        text_of(),
        ranks=config["ranks"],
        steps=config["steps"],
        kills=config["kills"],
        node_kills=config["node_kills"],
        every=2,
        dim=32,
        batch=12,
        context=32,
        rng=rng,
    )
    same = next(c for c in found.certificates if c.name == "same-as-undisturbed")
    rows: list[dict[str, Any]] = [
        {
            "back": bool(f.digest_ok and f.restored_step >= 0),
            "source": str(f.source),
            "lost": int(f.steps_lost),
            "back_in": float(f.seconds),
        }
        for f in found.failures.itertuples()
    ]
    struck, restored = len(rows), sum(row["back"] for row in rows)
    rows.append(
        {
            "finished": found.finished,
            "same": str(same.verdict) == "holds",
            "struck": struck,
            "restored": restored,
        }
    )
    return rows


@study.experiment(seeds=2, grid=_groups)
def nodes(config: Config, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Every set of at most m keepers killed, their memory unlinked; then one too many."""
    from whp.distributed._in_memory_fault_tolerance.errors import UnrecoverableError
    from whp.distributed._in_memory_fault_tolerance.fleet import Fleet

    n, m = config["n"], config["m"]
    length = -(-config["kb"] * 1024 // (64 * (n - m))) * 64 * (n - m)
    rows = []
    with Fleet(n, m, length=length) as fleet:
        for u in range(1, m + 1):
            for lost in itertools.combinations(range(n), u):
                shards = [rng.integers(0, 256, length, dtype=np.uint8) for _ in range(n)]
                version = fleet.save(shards)
                fleet.lose(lost)
                fleet.recover()
                good = all(
                    np.array_equal(a, b) for a, b in zip(shards, fleet.shards(version), strict=True)
                )
                rows.append({"lost": u, "rebuilt": good})
        fleet.save([rng.integers(0, 256, length, dtype=np.uint8) for _ in range(n)])
        fleet.lose(range(m + 1))
        try:
            fleet.recover()
            rows.append({"lost": m + 1, "refused": False})
        except UnrecoverableError:
            rows.append({"lost": m + 1, "refused": True})
    return rows


@study.experiment(seeds={"quick": 2, "standard": 5, "full": 20}, grid=_laws)
def survival(config: Config, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Groups whose members fail by Poisson clocks, beside the formula."""
    n, m, p, draws = (config[k] for k in ("n", "m", "p", "draws"))
    survived, total = draws_survived(n, m, p, draws, int(rng.integers(2**31)))
    expected = survival_probability(n, m, p)
    spread = math.sqrt(expected * (1 - expected) / total)
    return [
        {
            "survived": survived / total,
            "expected": expected,
            "z": (survived / total - expected) / spread,
            "off": abs(survived / total - expected) / spread,
        }
    ]


@study.experiment(
    seeds={"standard": 2, "full": 10},
    steps=1500,
    every=20,
    kills=1,
    full={"steps": 8000, "every": 20, "kills": 1},
)
def rate(config: Config, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Useful iterations a second: without failures and guard, and with both."""
    from whp.distributed import in_memory_fault_tolerance

    text, seed = text_of(), int(rng.integers(2**31))
    shared: dict[str, Any] = {
        "steps": config["steps"],
        "reference": False,
        "every": config["every"],
        "rng": seed,
    }
    steady = in_memory_fault_tolerance(
        text, kills=0, node_kills=0, **(shared | {"every": config["steps"]})
    )
    ours = in_memory_fault_tolerance(text, kills=config["kills"], node_kills=0, **shared)
    return [
        {
            "method": "none, no failure",
            "useful": config["steps"] / steady.seconds,
            "time": steady.seconds,
        },
        {"method": "ours", "useful": config["steps"] / ours.seconds, "time": ours.seconds},
    ]
