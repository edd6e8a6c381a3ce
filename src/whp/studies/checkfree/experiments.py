"""Losing stages of a character model on the King James Bible (Blagoev, Ersoy, Chen 2025).

The paper trains LLaMA models of 124M to 1.5B parameters on GPUs; here six small blocks learn characters. Convergence is measured
with the simulator, which gives the same numbers as the processes to the last bit; times with processes that are really killed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from whp.distributed._checkfree.front_door import CheckFreeResult, checkfree, draw_failures
from whp.experiment.claims import rows_where
from whp.experiment.study import Claim, NotTested, Scale, Showcase, select
from whp.intervals import Estimate, bootstrap, exact, mean, paired, proportion, ratio

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["CLAIMS", "FIGURES", "example", "run", "showcase", "trials"]

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


# Trials


def trials(scale: Scale) -> Iterable[dict[str, Any]]:
    """Configurations of all experiments."""
    quick = scale == "quick"
    steps = {"quick": 30, "standard": 800, "full": 3000}[scale]
    seeds = {"quick": 2, "standard": 4, "full": 10}[scale]
    rate = 0.1 if quick else 0.006  # as many failures on a short way
    for seed in range(seeds):
        for how in ("none", "grad", "copy", "uniform", "random", "checkpoint", "swaps"):
            yield {
                "experiment": "rules",
                "how": how,
                "rate": 0.0 if how in ("none", "swaps") else rate,
                "steps": steps,
                "seed": seed,
            }
    for seed in range({"quick": 2, "standard": 3, "full": 10}[scale]):
        yield {
            "experiment": "jumps",
            "steps": 10 if quick else 700,
            "later": 2 if quick else 50,
            "seed": seed,
        }
    for seed in range(2 if scale != "full" else 10):
        for level in RATES:
            for how in ("grad", "plus"):
                if (how == "grad" and level == RATES[1]) or (quick and level != RATES[1]):
                    continue  # that one is among the rules
                yield {
                    "experiment": "rates",
                    "how": how,
                    "rate": level * (0.1 / RATES[1] if quick else 1),
                    "steps": steps,
                    "seed": seed,
                }
    for seed in range(2):
        yield {"experiment": "times", "dim": DIM, "steps": 5 if quick else 60, "seed": seed}
    for seed in range(2):
        yield {"experiment": "kills", "kills": 3 if quick else 20, "spares": 1, "seed": seed}
        yield {"experiment": "kills", "kills": 1 if quick else 5, "spares": 0, "seed": seed}


def run(config: dict[str, Any], rng: np.random.Generator) -> list[dict[str, Any]]:
    """One trial of the experiment that `config` names."""
    experiments = {
        "rules": _converge,
        "rates": _converge,
        "jumps": _jumps,
        "times": _times,
        "kills": _kills,
    }
    if config["experiment"] not in experiments:
        raise ValueError(
            f"experiment must be one of {', '.join(experiments)}, got {config['experiment']!r}"
        )
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return experiments[config["experiment"]](config, rng)
    finally:
        torch.set_num_threads(threads)


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


def _converge(config: dict[str, Any], rng: np.random.Generator) -> list[dict[str, Any]]:
    """Train with failures, the same for all rules of a seed; held-out loss along the way."""
    from whp.distributed._checkfree.simulator import Simulator

    seed, steps, how = config["seed"], config["steps"], HOW[config["how"]]
    mode = how["mode"]
    drawn = np.random.default_rng([seed, round(1e6 * config["rate"])])
    failures = draw_failures(
        config["rate"], STAGES, steps, "checkfree+" if mode == "checkfree+" else "checkfree", drawn
    )
    sim = Simulator(*_model(seed), lr=LR, microbatches=2, seed=seed, **how)
    rows: list[dict[str, Any]] = []
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


def _distance(weights: dict[str, Any], a: int, b: int) -> float:
    import torch

    one, two = (
        torch.cat([v.flatten() for k, v in weights.items() if k.startswith(f"stages.{i}.")])
        for i in (a, b)
    )
    return float((one - two).norm() / (one.norm() * two.norm()).sqrt())


def _jumps(config: dict[str, Any], rng: np.random.Generator) -> list[dict[str, Any]]:
    """Each inner stage replaced by each rule: loss at once, and some iterations later."""
    import copy

    from whp.distributed._checkfree.simulator import Simulator

    seed = config["seed"]
    sim = Simulator(*_model(seed), lr=LR, microbatches=2, mode="checkfree", seed=seed)
    for t in range(config["steps"]):
        sim.step(_batch(seed, t))
    rows: list[dict[str, Any]] = []
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


def _times(config: dict[str, Any], rng: np.random.Generator) -> list[dict[str, Any]]:
    """Seconds an iteration of real processes takes in each mode."""
    from whp.distributed._checkfree.pipeline import PipelineTrainer

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


def _kills(config: dict[str, Any], rng: np.random.Generator) -> list[dict[str, Any]]:
    """SIGKILL stages at random between iterations."""
    from whp.distributed._checkfree.pipeline import PipelineTrainer

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


# Claims


def _losses(records: pd.DataFrame) -> pd.DataFrame:
    part = select(records, "rules").dropna(subset=["loss"])
    return part.pivot_table(index="seed", columns="how", values="loss")


def _less(a: str, *others: str) -> Callable[[pd.DataFrame], Estimate]:
    """Loss of `a` less the largest of others', paired by seed."""

    def measure(records: pd.DataFrame) -> Estimate:
        table = _losses(records)
        return paired(table[a], table[list(others)].max(axis=1))

    return measure


def _in_order(records: pd.DataFrame) -> Estimate:
    table = _losses(records)
    three = table[["grad", "copy", "uniform"]]
    good = (table["none"] < three.min(axis=1)) & (three.max(axis=1) < table["random"])
    good &= table["random"] < table["checkpoint"]
    return proportion(int(good.sum()), len(good))


def _jump(rule: str, than: str, column: str = "jump") -> Callable[[pd.DataFrame], Estimate]:
    """Mean over inner stages, paired by seed."""

    def measure(records: pd.DataFrame) -> Estimate:
        part = select(records, "jumps").dropna(subset=[column])
        table = part.pivot_table(index="seed", columns="rule", values=column)
        return paired(table[rule], table[than])

    return measure


def _twin_jump(records: pd.DataFrame) -> Estimate:
    part = select(records, "rules", how="swaps").dropna(subset=["jump"])
    table = part.pivot_table(index="seed", columns="rule", values="jump")
    return paired(table["grad"], table["random"])


def _twins_alike(records: pd.DataFrame) -> Estimate:
    part = select(records, "rules", how="swaps").dropna(subset=["twins"])
    return paired(part["twins"], part["strangers"])


def _swaps_cost(records: pd.DataFrame) -> Estimate:
    table = _losses(records)
    return paired(table["swaps"], table["none"])


def _curves(records: pd.DataFrame, how: str, rate: float) -> pd.DataFrame:
    part = rows_where(records, {"experiment": ["rules", "rates"], "how": how}).dropna(
        subset=["heldout"]
    )
    return part[np.isclose(part["rate"], rate)]


def _rates(records: pd.DataFrame) -> list[float]:
    part = rows_where(records, {"experiment": ["rules", "rates"]})
    return sorted(part[part["rate"] > 0]["rate"].unique())


def _iterations(records: pd.DataFrame, how: str, rate: float) -> pd.Series:
    """Iterations until the held-out loss that the failure-free run of the seed has after three quarters; over those."""
    base = _curves(records, "none", 0.0)
    found = {}
    for seed, run_ in _curves(records, how, rate).groupby("seed"):
        plain = base[base["seed"] == seed].sort_values("step")
        if plain.empty:
            continue
        at = int(len(plain) * 0.75) - 1
        target, needed = plain["heldout"].iloc[at], plain["step"].iloc[at]
        run_ = run_.sort_values("step")
        there = run_[run_["heldout"] <= target]
        found[seed] = float(
            (there["step"].iloc[0] if len(there) else 1.5 * run_["step"].iloc[-1]) / needed
        )
    return pd.Series(found, dtype=float)


def _seconds(records: pd.DataFrame, mode: str) -> float:
    return float(select(records, "times", mode=mode)["iteration_seconds"].median())


def _time_ratio(how: str, than: str, which: int) -> Callable[[pd.DataFrame], Estimate]:
    """Seconds to the target of CheckFree over those of `than`, at the lowest (0), middle or highest (-1) rate of failures."""

    def measure(records: pd.DataFrame) -> Estimate:
        rates = _rates(records)
        rate = rates[min(which, len(rates) - 1)]
        mode = "checkfree+" if how == "plus" else "checkfree"
        recovery = float(select(records, "kills", spares=1)["recovery"].median())
        hit = rate * (STAGES if how == "plus" else STAGES - 2)
        ours = _iterations(records, how, rate) * (_seconds(records, mode) + hit * recovery)
        if than == "redundant":
            theirs = pd.Series(_seconds(records, "redundant"), index=ours.index)
        else:
            theirs = _iterations(records, "checkpoint", rate) * _seconds(records, "checkpoint")
        both = pd.concat([ours, theirs], axis=1).dropna()
        if len(both) < 2:
            raise NotTested(f"fewer than two seeds ran both at the rate {rate:g}")
        return ratio(both.iloc[:, 0], both.iloc[:, 1])

    return measure


def _redundancy(records: pd.DataFrame) -> Estimate:
    table = select(records, "times").pivot_table(
        index="seed", columns="mode", values="iteration_seconds"
    )
    return mean(table["redundant"] / table["checkfree"])


def _recovery(spares: int) -> Callable[[pd.DataFrame], Estimate]:
    def measure(records: pd.DataFrame) -> Estimate:
        return bootstrap(
            select(records, "kills", spares=spares)["recovery"].to_numpy(float), np.median
        )

    return measure


def _survived(records: pd.DataFrame) -> Estimate:
    part = select(records, "kills")
    good = part["in_order"].astype(bool) & np.isfinite(part["loss"].astype(float))
    return exact(float(good.mean()))


EXTRA = "not in the paper: derived here"
FIG2 = "Fig. 2 (500M, 16 %): random ≫ copy > uniform ≥ grad"
TABLE2 = "Table 2, hours at 5/10/16 %: checkpoint 558/622/634, redundant 419.6, CheckFree 368/406/563, CheckFree+ 355/368/461"
SMALL = "Six blocks of width 64 on characters, 800 iterations; gradient norms of neighbours differ by a few per cent only. "
SEEDS = "Seeds differ in weights, batches and failures, not in the text."
MODEL = (
    "Iterations to the loss that the failure-free run has after three quarters of its way, times seconds of real processes "
    "on two cores; a run that never gets there counts with 1.5 times its length."
)

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "C1a",
        "None < gradient average, copy, equal average < random < checkpoint, in nine of ten seeds.",
        FIG2,
        "share of seeds in that order",
        ">=",
        0.9,
        _in_order,
        note="In none of four seeds: a random block costs no more than the three rules (C1c). "
        + SEEDS,
    ),
    Claim(
        "C1b",
        "Losing stages costs something.",
        FIG2,
        "loss, gradient average less no failures",
        ">=",
        0.0,
        _less("grad", "none"),
        note=SMALL + SEEDS,
    ),
    Claim(
        "C1c",
        "Starting a lost stage at random is worse than each of the three.",
        FIG2,
        "loss, random less the worst of them",
        ">=",
        0.0,
        _less("random", "grad", "copy", "uniform"),
        note="A block that has learnt little in a few hundred iterations is soon replaced. "
        + SMALL
        + SEEDS,
    ),
    Claim(
        "C1d",
        "Going back to a checkpoint is worse still.",
        "Fig. 3",
        "loss, checkpoint less random",
        ">=",
        0.0,
        _less("checkpoint", "random"),
        note="At equal executed iterations, a checkpoint every 100. " + SEEDS,
    ),
    Claim(
        "C1e",
        "Copying is worse than the gradient average.",
        FIG2,
        "loss, copy less gradient average",
        ">=",
        0.0,
        _less("copy", "grad"),
        note=SMALL + SEEDS,
    ),
    Claim(
        "C1f",
        "The equal average is no better than the gradient average.",
        FIG2,
        "loss, equal less gradient average",
        ">=",
        0.0,
        _less("uniform", "grad"),
        note=SMALL + SEEDS,
    ),
    Claim(
        "C2a",
        "At once, averaging hurts less than dropping the stage.",
        EXTRA,
        "jump of the loss, average less skip",
        "<=",
        0.0,
        _jump("grad", "skip"),
        note=SMALL,
    ),
    Claim(
        "C2b",
        "At once, averaging hurts less than starting at random.",
        EXTRA,
        "jump of the loss, average less random",
        "<=",
        0.0,
        _jump("grad", "random"),
        note=SMALL,
    ),
    Claim(
        "C2c",
        "Some iterations later, averaging is still ahead of starting at random.",
        EXTRA,
        "loss 50 iterations later, average less random",
        "<=",
        0.0,
        _jump("grad", "random", "later"),
        note=SMALL,
    ),
    Claim(
        "C3a",
        "Trained with swaps, an end stage is better copied from its twin than started at random.",
        "Sec. 4.3",
        "jump of the loss, twin less random",
        "<=",
        0.0,
        _twin_jump,
        note=SEEDS,
    ),
    Claim(
        "C3b",
        "Because twins have similar weights.",
        "Sec. 4.3",
        "relative distance of weights, twins less strangers",
        "<=",
        0.0,
        _twins_alike,
        note="Twins can agree as functions while their weights do not. " + SEEDS,
    ),
    Claim(
        "C4",
        "Swaps cost a little where nothing fails.",
        "Fig. 4c",
        "loss, with swaps less without",
        ">=",
        0.0,
        _swaps_cost,
        note=SEEDS,
    ),
    Claim(
        "C5a",
        "At the lowest rate CheckFree is over 12 % faster than redundant computation.",
        TABLE2,
        "time to loss, CheckFree over redundant",
        "<=",
        1 / 1.12,
        _time_ratio("grad", "redundant", 0),
        note=MODEL,
    ),
    Claim(
        "C5b",
        "At the lowest rate CheckFree+ is, too.",
        TABLE2,
        "time to loss, CheckFree+ over redundant",
        "<=",
        1 / 1.12,
        _time_ratio("plus", "redundant", 0),
        note=MODEL,
    ),
    Claim(
        "C5c",
        "At the highest rate redundant computation is faster than CheckFree.",
        TABLE2,
        "time to loss, CheckFree over redundant",
        ">=",
        1.0,
        _time_ratio("grad", "redundant", -1),
        note=MODEL,
    ),
    Claim(
        "C5d",
        "At 24 failures in 1000 iterations CheckFree is faster than checkpoints.",
        TABLE2,
        "time to loss, CheckFree over checkpoint",
        "<=",
        1.0,
        _time_ratio("grad", "checkpoint", 1),
        note=MODEL,
    ),
    Claim(
        "C5e",
        "Redundant computation takes 1.65 times as long an iteration.",
        "151.04 s against 91.32 s",
        "iteration time",
        ">=",
        1.65,
        _redundancy,
        note="Small blocks are bound by messages, which redundancy does not double. "
        "Two cores are shared by six processes.",
    ),
    Claim(
        "C7a",
        "All kills are survived: iterations in order, loss finite.",
        EXTRA,
        "share of kills",
        ">=",
        1.0,
        _survived,
    ),
    Claim(
        "C7b",
        "With a warm spare, from death to ready takes 0.3 s.",
        "about 30 s",
        "seconds, median",
        "<=",
        0.3,
        _recovery(1),
    ),
    Claim(
        "C7c",
        "With a process started on demand, 6 s.",
        "about 30 s",
        "seconds, median",
        "<=",
        6.0,
        _recovery(0),
    ),
)


# Figures


def _draw_rules(records: pd.DataFrame, ax: Axes) -> None:
    part = select(records, "rules").dropna(subset=["heldout"])
    for i, how in enumerate(("none", "grad", "uniform", "copy", "random", "checkpoint")):
        curve = part[part["how"] == how].groupby("step")["heldout"].mean()
        ax.plot(
            curve.index,
            curve,
            color=f"C{i}",
            label={"grad": "average by gradient", "none": "no failures"}.get(how, how),
        )
    ax.set(xlabel="iteration", ylabel="held-out loss, nats a character")
    ax.legend(frameon=False)


def _draw_jumps(records: pd.DataFrame, ax: Axes) -> None:
    part = select(records, "jumps").dropna(subset=["jump"])
    rules = ("grad", "uniform", "copy", "skip", "random")
    for i, rule in enumerate(rules):
        by_stage = part[part["rule"] == rule].groupby("stage")["jump"].mean()
        ax.bar(by_stage.index + 0.16 * (i - 2), by_stage, 0.15, label=rule)
    ax.set(
        xlabel="stage that is lost",
        ylabel="jump of the loss",
        xticks=sorted(part["stage"].unique()),
    )
    ax.legend(frameon=False)


FIGURES = {"rules": _draw_rules, "jumps": _draw_jumps}


# The example and the showcase


def example() -> dict[str, Any]:
    """The King James Bible, and six kills."""
    from whp.datasets.activations import verses

    text = "\n".join(v for _, v in verses())
    return {
        "text": text[:400_000],
        "steps": 150,
        "batch": 8,
        "fail": "2@50,0@65,3@80,1@80,5@95,4@110",
        "rng": 0,
    }


def showcase() -> Showcase:
    """Real processes on the Bible, really killed, beside a run that goes back to checkpoints."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    wanted = {
        **example(),
        "steps": 60,
        "batch": 8,
        "evaluate_every": 10,
        "checkpoint_every": 20,
        "lr": 3e-3,
        "fail": "2@26,0@33,3@40,5@47,1@54",
    }
    ours: CheckFreeResult = checkfree(**wanted)
    back: CheckFreeResult = checkfree(**wanted, mode="checkpoint")
    torch.set_num_threads(threads)

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        ours.plot(left)
        left.plot(back.evaluated, back.heldout, color="C1", label="checkpoints, held out")
        left.legend(frameon=False, fontsize=8)
        ours.plot_timeline(right)

    return Showcase(
        data="400,000 characters of the King James Bible, 6 stage processes, 5 of them killed",
        quantity="held-out loss after 60 iterations, nats a character",
        ours=f"{ours.heldout[-1]:.3f}",
        baseline=f"{back.heldout[-1]:.3f}",
        baseline_name="checkpoint every 20 iterations",
        certificates=ours.certificates,
        draw=draw,
        caption="Left: every line is a SIGKILL; the stage is rebuilt from its neighbours and training goes on, where checkpoints "
        f"roll everything back. Right: what processes did. Ready again after {ours.recoveries['seconds'].median():.2f} s (median).",
        code='checkfree(text, fail="2@26,0@33,3@40,5@47,1@54")',
    )
