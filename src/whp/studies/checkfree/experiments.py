"""What is run: convergence with failures, jumps, iteration times and kills of real processes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from whp.distributed._checkfree.failures import draw_failures
from whp.experiment.study import Scale, Study

__all__ = ["INNER", "RATES", "STAGES", "study"]

LEARN, HELD = 1_400_000, 100_000
STAGES, DIM, HEADS, CONTEXT, BATCH, LR = 6, 64, 4, 48, 8, 1e-3
INNER = tuple(range(1, STAGES - 1))
ENDS = (0, 1, STAGES - 2, STAGES - 1)
HOW: dict[str, dict[str, Any]] = {
    "none": {"mode": "none"},
    "grad": {"mode": "checkfree", "rule": "grad"},
    "copy": {"mode": "checkfree", "rule": "copy"},
    "uniform": {"mode": "checkfree", "rule": "uniform"},
    "random": {"mode": "checkfree", "rule": "random"},
    "checkpoint": {"mode": "checkpoint", "checkpoint_every": 100},
    "swaps": {"mode": "checkfree+"},
    "plus": {"mode": "checkfree+", "rule": "grad"},
}
RATES = (0.003, 0.006, 0.012)  # a stage and an iteration
OFTEN = 0.1  # as many failures on a short way
STEPS = {"quick": 30, "standard": 800, "full": 3000}
Config = Mapping[str, Any]
Rows = list[dict[str, Any]]
study = Study("checkfree")


def _rules(scale: Scale) -> Rows:
    rate = OFTEN if scale == "quick" else RATES[1]
    order = ("none", "grad", "copy", "uniform", "random", "checkpoint", "swaps")
    return [
        {"how": how, "rate": 0.0 if how in ("none", "swaps") else rate, "steps": STEPS[scale]}
        for how in order
    ]


def _rates(scale: Scale) -> Rows:
    """What is not among the rules already."""
    levels = (RATES[1],) if scale == "quick" else RATES
    return [
        {
            "how": how,
            "rate": level * (OFTEN / RATES[1] if scale == "quick" else 1),
            "steps": STEPS[scale],
        }
        for level in levels
        for how in ("grad", "plus")
        if not (how == "grad" and level == RATES[1])
    ]


@cache
def _text() -> tuple[Any, Any, int]:
    from whp.datasets.activations import verses
    from whp.distributed.char_lm import encode, vocabulary

    text = "\n".join(v for _, v in verses())[: LEARN + HELD]
    vocab = vocabulary(text)
    tokens = encode(text, vocab)
    return tokens[:LEARN], tokens[LEARN:], len(vocab)


def _model(seed: int, dim: int = DIM) -> tuple[Any, ...]:
    import torch

    from whp.distributed.char_lm import Block, Embed, Head, cross_entropy

    size = _text()[2]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        blocks = [Block(dim, HEADS, 5 * dim // 2) for _ in range(STAGES)]
        return Embed(size, dim, CONTEXT), blocks, Head(dim, size), cross_entropy


def _batch(seed: int, step: int, rows: int = BATCH) -> Any:
    from whp.distributed.char_lm import windows

    return windows(_text()[0], rows, CONTEXT, seed, step)


@cache
def _held() -> list[Any]:
    from whp.distributed.char_lm import windows

    return [windows(_text()[1], 64, CONTEXT, 7, i) for i in range(4)]


@study.experiment(seeds={"quick": 2, "standard": 4, "full": 10}, grid=_rules)
def rules(config: Config, rng: np.random.Generator) -> Rows:
    """Train with failures, the same for all rules of a seed; held-out loss along the way."""
    from whp.distributed import Simulator

    seed, steps, how = config["seed"], config["steps"], HOW[config["how"]]
    mode = how["mode"]
    drawn = np.random.default_rng([seed, round(1e6 * config["rate"])])
    failures = draw_failures(
        config["rate"], STAGES, steps, "checkfree+" if mode == "checkfree+" else "checkfree", drawn
    )
    sim = Simulator(*_model(seed), lr=LR, microbatches=2, seed=seed, **how)
    rows: Rows = []
    every, held = max(1, steps // (5 if steps < 100 else 20)), _held()[: 1 if steps < 100 else 4]
    lost = 0
    for t in range(steps):
        for stage in failures.get(t, ()):
            sim.kill(stage)
            lost += 1
        sim.step(_batch(seed, t))
        if (t + 1) % every == 0:
            rows.append({"step": t + 1, "heldout": sim.evaluate(_held()[:1])})
    last = {
        "loss": sim.evaluate(held),
        "failures": lost,
        "events": len(failures),
        "useful": sim.iteration,
    }
    if config["how"] == "swaps":
        for stage in ENDS:
            for rule in ("grad", "random"):
                rows += [{"stage": stage, "rule": rule, "jump": sim.jump(stage, held, rule)}]
        weights = sim.state_dict()
        rows.append({"twins": _distance(weights, 0, 1), "strangers": _distance(weights, 0, 3)})
    return [*rows, last]


@study.experiment(seeds={"quick": 2, "standard": 2, "full": 10}, grid=_rates)
def rates(config: Config, rng: np.random.Generator) -> Rows:
    """The same at other rates of failures."""
    return rules(config, rng)


def _distance(weights: dict[str, Any], a: int, b: int) -> float:
    import torch

    one, two = (
        torch.cat([v.flatten() for k, v in weights.items() if k.startswith(f"stages.{i}.")])
        for i in (a, b)
    )
    return float((one - two).norm() / (one.norm() * two.norm()).sqrt())


@study.experiment(
    seeds={"quick": 2, "standard": 3, "full": 10},
    steps=700,
    later=50,
    quick={"steps": 10, "later": 2},
)
def jumps(config: Config, rng: np.random.Generator) -> Rows:
    """Each inner stage replaced by each rule: loss at once, and some iterations later."""
    import copy

    from whp.distributed import Simulator

    seed = config["seed"]
    sim = Simulator(*_model(seed), lr=LR, microbatches=2, mode="checkfree", seed=seed)
    for t in range(config["steps"]):
        sim.step(_batch(seed, t))
    rows: Rows = []
    held = _held()[: 1 if config["steps"] < 100 else 4]
    before = sim.evaluate(held)

    def later(rule: str | None, stage: int = 1) -> float:
        other = copy.deepcopy(sim)
        if rule is not None:
            other.replace_rule(rule)
            other.kill(stage)
        for t in range(config["later"]):
            other.step(_batch(seed, config["steps"] + t))
        return other.evaluate(held)

    undisturbed = later(None)
    for stage in INNER[:2] if config["steps"] < 100 else INNER:
        functions, weights = sim.omission(stage, _held()[0][0])
        rows.append({"stage": stage, "err_fun": functions, "err_weight": weights})
        for rule in ("grad", "uniform", "copy", "random", "skip"):
            row = {
                "stage": stage,
                "rule": rule,
                "jump": sim.jump(stage, held, rule, before),
                "before": before,
            }
            if rule in ("grad", "copy", "random") and stage in INNER[::2]:
                row["later"] = later(rule, stage) - undisturbed  # of the same batches
            rows.append(row)
    return rows


@study.experiment(seeds=2, dim=DIM, steps=60, quick={"dim": DIM, "steps": 5})
def times(config: Config, rng: np.random.Generator) -> Rows:
    """Seconds an iteration of real processes takes in each mode."""
    from whp.distributed import PipelineTrainer

    rows = []
    for mode in ("checkfree", "checkfree+", "redundant", "checkpoint")[
        : 3 if config["steps"] < 10 else 4
    ]:
        with PipelineTrainer(
            *_model(0, config["dim"]),
            lr=LR,
            microbatches=2,
            mode=mode,
            spares=0,
            checkpoint_every=50,
        ) as tr:
            for t in range(3):
                tr.step(_batch(0, t))
            seconds = []
            for t in range(config["steps"]):
                x = _batch(0, t)
                start = time.perf_counter()
                tr.step(x)
                seconds.append(time.perf_counter() - start)
        rows.append(
            {
                "mode": mode,
                "iteration_seconds": float(np.median(seconds)),
                "mean_seconds": float(np.mean(seconds)),
            }
        )
    return rows


KILLS = {
    "quick": [{"kills": 3, "spares": 1}, {"kills": 1, "spares": 0}],
    "standard": [{"kills": 20, "spares": 1}, {"kills": 5, "spares": 0}],
    "full": [{"kills": 20, "spares": 1}, {"kills": 5, "spares": 0}],
}


@study.experiment(seeds=2, grid=KILLS)
def kills(config: Config, rng: np.random.Generator) -> Rows:
    """SIGKILL stages at random between iterations."""
    from whp.distributed import PipelineTrainer

    rows = []
    with PipelineTrainer(*_model(0), lr=LR, microbatches=2, spares=config["spares"]) as tr:
        t, loss = 0, float("nan")
        for _ in range(config["kills"]):
            for _ in range(int(rng.integers(3, 8))):
                loss = tr.step(_batch(0, t)).loss
                t += 1
            time.sleep(0.5)  # a spare is warm when it is needed
            stage = int(rng.integers(STAGES))
            tr.kill(stage)
            start = time.perf_counter()
            out = tr.step(_batch(0, t))
            t += 1
            (found,) = out.recoveries
            rows.append(
                {
                    "stage": stage,
                    "detection": found.detection,
                    "recovery": found.seconds,
                    "loss": out.loss,
                    "to_next_iteration": time.perf_counter() - start,
                    "in_order": out.iteration == t - 1,
                }
            )
        rows[-1]["survived"] = bool(np.isfinite(loss) and tr.iteration == t)
    return rows
