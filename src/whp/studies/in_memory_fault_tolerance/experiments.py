"""Copies of the training state in other processes' memory: stall, recovery from real kills, survival (Wang et al. 2023).

The paper trains on up to 512 GPUs; here ranks are processes of one machine that talk over gloo, nodes are keepers of memory that
are killed with their memory unlinked, and the model is a character model of verses of the King James Bible. Times are this
machine's.
"""

from __future__ import annotations

import itertools
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from whp.distributed._in_memory_fault_tolerance.survival import (
    draws_survived,
    optimal_interval,
    overhead,
    survival_probability,
)
from whp.experiment.measures import pivot
from whp.experiment.study import Claim, Scale, Showcase, select
from whp.intervals import Estimate, exact, mean, proportion, ratio

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["CLAIMS", "FIGURES", "example", "run", "showcase", "trials"]

PEERS = ("torch.save", "dcp.save", "async_save", "stager")
GROUPS = ((4, 1), (6, 2), (5, 3))
SURVIVAL = ((4, 1, 0.01), (4, 2, 0.01), (8, 1, 0.01), (8, 2, 0.01), (6, 2, 0.05))


def trials(scale: Scale) -> Iterable[dict[str, Any]]:
    """Configurations of all experiments."""
    quick = scale == "quick"
    for seed in range({"quick": 2, "standard": 5, "full": 10}[scale]):
        yield {
            "experiment": "stall",
            "mb": {"quick": 12, "standard": 300, "full": 3000}[scale],
            "seed": seed,
        }
    for seed in range({"quick": 2, "standard": 5, "full": 10}[scale]):
        few = {"kills": 1, "node_kills": 1, "steps": 24}
        many = {"kills": 10, "node_kills": 5, "steps": 180}
        yield {
            "experiment": "kills",
            "ranks": 2 if quick else 3,
            **(few if quick else many),
            "seed": seed,
        }
    for seed in range(2):
        for n, m in GROUPS[:1] if quick else GROUPS:
            yield {"experiment": "nodes", "n": n, "m": m, "kb": 16 if quick else 128, "seed": seed}
    for seed in range({"quick": 2, "standard": 5, "full": 20}[scale]):
        for n, m, p in SURVIVAL:
            yield {
                "experiment": "survival",
                "n": n,
                "m": m,
                "p": p,
                "draws": 20_000 if quick else 100_000,
                "seed": seed,
            }
    for seed in range({"quick": 0, "standard": 2, "full": 10}[scale]):
        yield {
            "experiment": "rate",
            "steps": {"standard": 1500}.get(scale, 8000),
            "every": 20,
            "kills": 1,
            "seed": seed,
        }


def run(config: dict[str, Any], rng: np.random.Generator) -> list[dict[str, Any]]:
    """One trial of the experiment that `config` names."""
    experiments = {
        "stall": _stall,
        "kills": _kills,
        "nodes": _nodes,
        "survival": _survival,
        "rate": _rate,
    }
    if config["experiment"] not in experiments:
        raise ValueError(
            f"experiment must be one of {', '.join(experiments)}, got {config['experiment']!r}"
        )
    return experiments[config["experiment"]](config, rng)


def _stall(config: dict[str, Any], rng: np.random.Generator) -> list[dict[str, Any]]:
    """Seconds that a save holds up training, and until there is something to restore; medians over saves, one thread."""
    import torch

    from whp.peers.checkpoints import DiskSaver
    from whp.distributed._in_memory_fault_tolerance.measure import guarded, job

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        work = job(config["mb"])
        saves = 5
        ours = guarded(work, 2 * saves)
        total = ours["stall"] + ours["copy"] + ours["lag"]
        rows = [
            {"method": "ours", "total": total, **{k: ours[k] for k in ("stall", "plain", "step")}}
        ]
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
            rows.append(
                {
                    "method": how,
                    "stall": float(np.median(stalls[1:])),
                    "total": float(np.median(totals[1:])),
                }
            )
    finally:
        torch.set_num_threads(threads)
    return rows


def _text(verses: int = 3000) -> str:
    from whp.datasets.activations import verses as bible

    return "\n".join(text for _, text in bible()[:verses])


def _kills(config: dict[str, Any], rng: np.random.Generator) -> list[dict[str, Any]]:
    """Real kills of ranks and of keepers at random moments; a row a failure, and whether the run was as without."""
    from whp.distributed._in_memory_fault_tolerance.front_door import in_memory_fault_tolerance

    found = in_memory_fault_tolerance(
        _text(),
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
    rows.append({"finished": found.finished, "same": str(same.verdict) == "holds"})
    return rows


def _nodes(config: dict[str, Any], rng: np.random.Generator) -> list[dict[str, Any]]:
    """Every set of at most m keepers killed, their memory unlinked; then one too many."""
    from whp.distributed._in_memory_fault_tolerance.fleet import Fleet
    from whp.distributed._in_memory_fault_tolerance.recovery import UnrecoverableError

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


def _survival(config: dict[str, Any], rng: np.random.Generator) -> list[dict[str, Any]]:
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
        }
    ]


def _rate(config: dict[str, Any], rng: np.random.Generator) -> list[dict[str, Any]]:
    """Useful iterations a second: without failures and guard, and with both."""
    from whp.distributed._in_memory_fault_tolerance.front_door import in_memory_fault_tolerance

    text, seed = _text(), int(rng.integers(2**31))
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


# Claims


def _slower(column: str, peer: str) -> Callable[[pd.DataFrame], Estimate]:
    """How many times a peer's time is ours."""

    def measure(records: pd.DataFrame) -> Estimate:
        table = select(records, "stall").pivot_table(index="seed", columns="method", values=column)
        return ratio(table[peer], table["ours"])

    return measure


def _share(experiment: str, column: str) -> Callable[[pd.DataFrame], Estimate]:
    def measure(records: pd.DataFrame) -> Estimate:
        values = select(records, experiment)[column].dropna().astype(bool)
        return proportion(int(values.sum()), len(values))

    return measure


def _all(experiment: str, column: str) -> Callable[[pd.DataFrame], Estimate]:
    return lambda records: exact(
        float(select(records, experiment)[column].dropna().astype(bool).mean())
    )


def _added(records: pd.DataFrame) -> Estimate:
    part = select(records, "stall", method="ours")
    return mean(part["step"].astype(float) / part["plain"].astype(float) - 1)


def _interval(records: pd.DataFrame) -> Estimate:
    return mean(
        [
            optimal_interval(s, 1 / 3600)
            for s in select(records, "stall", method="ours")["stall"].astype(float)
        ]
    )


def _shorter(records: pd.DataFrame) -> Estimate:
    """How many times more often than with torch.save, both at their best."""
    table = select(records, "stall").pivot_table(index="seed", columns="method", values="stall")
    return ratio(np.sqrt(table["torch.save"]), np.sqrt(table["ours"]))


def _useful(records: pd.DataFrame) -> Estimate:
    table = pivot(select(records, "rate"), "method", "useful", "ours", "none, no failure")
    return ratio(table["ours"], table["none, no failure"])


MACHINE = "Two shared cores and a local disk with a page cache, not a cluster with a file server."
EXTRA = "not in the paper: derived here"

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "C1a",
        "A snapshot holds training up 10 times less than asynchronous checkpointing.",
        "over 14×",
        "stall of async_save / ours",
        ">=",
        10.0,
        _slower("stall", "async_save"),
        note=MACHINE,
    ),
    Claim(
        "C1b",
        "And 10 times less than torch.save.",
        "no number read",
        "stall of torch.save / ours",
        ">=",
        10.0,
        _slower("stall", "torch.save"),
        note=MACHINE,
    ),
    Claim(
        "C1c",
        "It holds up no longer than torch's background stager.",
        "did not exist then",
        "stall of the stager / ours",
        ">=",
        1.0,
        _slower("stall", "stager"),
        note="The stager's copies die with the trainer until they are on disk.",
    ),
    Claim(
        "C2",
        "There is something to restore 5 times sooner than with the best peer.",
        "no number read",
        "seconds, stager / ours",
        ">=",
        5.0,
        _slower("total", "stager"),
        note=MACHINE,
    ),
    Claim(
        "C3a",
        "Killed at random moments, training is restored bit for bit.",
        "recovers in-memory states",
        "share of kills",
        ">=",
        0.94,
        _share("kills", "back"),
    ),
    Claim(
        "C3b",
        "The trained weights are those of a run without failures.",
        EXTRA,
        "share of runs",
        ">=",
        1.0,
        _all("kills", "same"),
    ),
    Claim(
        "C4a",
        "Every set of at most m lost memories is rebuilt bit for bit.",
        "survives them",
        "share of sets",
        ">=",
        1.0,
        _all("nodes", "rebuilt"),
        computed=True,
    ),
    Claim(
        "C4b",
        "One more ends with a clear error.",
        EXTRA,
        "share of groups",
        ">=",
        1.0,
        _all("nodes", "refused"),
    ),
    Claim(
        "C5a",
        "Groups survive as often as the binomial law says.",
        "survival probability of sharding groups",
        "largest deviation, standard errors",
        "<=",
        4.0,
        lambda r: exact(float(select(r, "survival")["z"].abs().max())),
    ),
    Claim(
        "C5b",
        "A correlation of 0.1 within a group triples its losses (n = 8, m = 1, p = 0.01).",
        EXTRA,
        "ratio of losses",
        ">=",
        3.0,
        lambda _: exact(
            (1 - survival_probability(8, 1, 0.01, rho=0.1)) / (1 - survival_probability(8, 1, 0.01))
        ),
        computed=True,
    ),
    Claim(
        "C6a",
        "Snapshots are worth taking every 17 s or more often at one failure an hour.",
        "more frequent saving",
        "Young's interval in s",
        "<=",
        17.0,
        _interval,
        note="A stall of 40 ms gives 17 s; one of 60 s gives 657 s.",
    ),
    Claim(
        "C6b",
        "That is 3 times as often as with torch.save.",
        EXTRA,
        "ratio of intervals",
        ">=",
        3.0,
        _shorter,
        note=MACHINE,
    ),
    Claim(
        "C7a",
        "A snapshot in every step makes it at most 5 % longer.",
        "about 1 %",
        "added share of a step",
        "<=",
        0.05,
        _added,
        note="The copy and its checksum run on the second core while the first trains.",
    ),
    Claim(
        "C7b",
        "With a kill a minute the useful iterations a second are 90 % of those without failures.",
        "no number read",
        "ratio of useful iterations a second",
        ">=",
        0.9,
        _useful,
        note="Not measured at the quick scale. " + MACHINE,
    ),
)


# Figures


def _draw_stall(records: pd.DataFrame, ax: Axes) -> None:
    part = select(records, "stall").groupby("method")[["stall", "total"]].median().astype(float)
    part = part.reindex(
        [m for m in ("ours", "stager", "async_save", "torch.save", "dcp.save") if m in part.index]
    )[::-1]
    rows = np.arange(len(part))
    ax.barh(rows, 1e3 * part["total"], color="#c9cdd2", label="until it can be restored")
    ax.barh(rows, 1e3 * part["stall"], color="#c0392b", height=0.5, label="training waits")
    ax.set_yticks(rows, list(part.index))
    ax.set(xscale="log", xlabel="milliseconds")
    ax.legend(frameon=False, fontsize=8)


def _draw_survival(records: pd.DataFrame, ax: Axes) -> None:
    p = np.logspace(-3, -0.7, 50)
    for m, style in ((1, "-"), (2, "--")):
        for rho, colour in ((0.0, "#4c9f70"), (0.1, "#e9a03b"), (0.5, "#c0392b")):
            lost = [1 - survival_probability(8, m, float(q), rho=rho) for q in p]
            ax.plot(p, lost, style, color=colour, label=f"m = {m}, correlation {rho:g}")
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="probability that a member is lost",
        ylabel="probability that a group of 8 is lost",
    )
    ax.legend(frameon=False, fontsize=7)


def _draw_interval(records: pd.DataFrame, ax: Axes) -> None:
    stalls = select(records, "stall").groupby("method")["stall"].median().astype(float)
    times = np.logspace(0, 4, 200)
    for method, stall in stalls.items():
        ax.plot(
            times,
            [100 * overhead(float(t), float(stall), 1 / 3600, restart=5) for t in times],
            label=str(method),
        )
    ax.set(xscale="log", yscale="log", xlabel="seconds between snapshots", ylabel="time lost, %")
    ax.legend(frameon=False, fontsize=8)


FIGURES = {"stall": _draw_stall, "survival": _draw_survival, "interval": _draw_interval}


# The example and the showcase


def example() -> dict[str, Any]:
    """3,000 verses of the King James Bible; three kills and one lost node."""
    return {"text": _text(), "steps": 80, "rng": 0}


def showcase() -> Showcase:
    """A character model of four ranks through three kills and a lost node, beside what the kills would cost without copies."""
    from whp.distributed._in_memory_fault_tolerance.front_door import in_memory_fault_tolerance

    arguments: dict[str, Any] = example() | {"steps": 44, "batch": 8, "context": 48}
    found = in_memory_fault_tolerance(**arguments)
    again = int(found.failures["last_step"].sum()) + len(found.failures)

    def draw(figure: Figure) -> None:
        figure.set_layout_engine("constrained")
        top, bottom = figure.subplots(2, 1, gridspec_kw={"height_ratios": (2, 1)})
        found.plot(top)
        bottom.plot(found.losses, color="#4878b0")
        bottom.set(xlabel="step", ylabel="loss")

    return Showcase(
        data=f"{len(example()['text']):,} characters of the King James Bible, 4 ranks",
        quantity=f"steps to do again after {len(found.failures)} failures",
        ours=f"{int(found.failures['steps_lost'].sum())}",
        baseline=f"{again}",
        baseline_name="starting again",
        certificates=found.certificates,
        draw=draw,
        caption="What each rank did, and its deaths: restored from keepers of memory, training ends with the weights of a run "
        "without failures, bit for bit.",
        code="in_memory_fault_tolerance(text, ranks=4, parity=1, kills=3, node_kills=1)",
    )
