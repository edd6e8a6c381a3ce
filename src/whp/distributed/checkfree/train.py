"""The front door: a small character model, trained by stage processes that are killed on the way."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pandas as pd

from whp.certificate import Certificate
from whp.distributed.checkfree.guarantee import checkfree_certificates
from whp.distributed.checkfree.recovery import MODES, RULES, Recovery, sources
from whp.distributed.timeline import Event, draw_timeline
from whp.io import Data
from whp.progress import track
from whp.result import Result
from whp.validate import as_choice, as_fraction, as_int, as_real

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["CheckFreeResult", "checkfree", "draw_failures", "read_failures"]

PROBES = 64  # held-out windows on which jumps are measured


@dataclass(frozen=True, eq=False)
class CheckFreeResult(Result):
    """A character model whose stages were killed and regained.

    Attributes
    ----------
    losses : ndarray, shape (steps,)
        Loss of each batch, in nats a character.
    evaluated, heldout : ndarray
        Iterations and held-out loss before them; after each recovery, too.
    recoveries : DataFrame
        A row a loss of stages: iteration, stages, how they were regained, seconds, and jump of the held-out loss.
    events : tuple of Event
        What each process did and when it was killed.
    weights : dict of str to Tensor
        The trained model's.
    vocabulary : str
        Its characters, in the order of its tokens.
    certificates : tuple of Certificate
        ``recovered-weights``, ``others-untouched``, ``each-iteration-once``, ``jumps-below-progress``.
    """

    losses: np.ndarray
    evaluated: np.ndarray
    heldout: np.ndarray
    recoveries: pd.DataFrame
    events: tuple[Event, ...] = field(repr=False)
    weights: Mapping[str, Any] = field(repr=False)
    vocabulary: str
    mode: str
    seconds: float
    certificates: tuple[Certificate, ...] = ()

    def summary(self) -> dict[str, bool | int | float | str | None]:
        """Losses, kills and how long recovery took."""
        kills = self.recoveries
        rows: dict[str, bool | int | float | str | None] = {
            "mode": self.mode,
            "iterations": len(self.losses),
            "heldout_loss_first": float(self.heldout[0]),
            "heldout_loss_last": float(self.heldout[-1]),
            "stages_killed": int(sum(len(s.split()) for s in kills["stages"])),
        }
        if len(kills):
            rows["median_seconds_from_death_to_ready"] = float(kills["seconds"].median())
            rows["mean_jump_of_heldout_loss"] = float(kills["jump"].mean())
        return rows

    def artifacts(self) -> dict[str, Any]:
        """Losses, recoveries, certificates' evidence and the weights."""
        from safetensors.torch import save_file

        state = {
            k: v.contiguous().clone() for k, v in self.weights.items()
        }  # tied weights are saved twice
        events = pd.DataFrame(
            [vars(e) for e in self.events], columns=["who", "what", "start", "end", "note"]
        )
        return {
            "arrays.npz": {
                "losses": self.losses,
                "evaluated": self.evaluated,
                "heldout": self.heldout,
            },
            "recoveries.csv": self.recoveries,
            "events.csv": events,
            "model.safetensors": lambda path: save_file(
                state, path, {"vocabulary": self.vocabulary}
            ),
        }

    def plot(self, ax: Axes | None = None) -> Axes:
        """Loss over iterations, with every kill marked."""
        if ax is None:
            import matplotlib.pyplot as plt

            ax = plt.subplots()[1]
        ax.plot(self.losses, color="0.75", linewidth=0.8, label="batch")
        ax.plot(self.evaluated, self.heldout, color="C0", label="held out")
        for i, (at, stages) in enumerate(
            zip(self.recoveries["step"], self.recoveries["stages"], strict=True)
        ):
            ax.axvline(
                at, color="#c0392b", linewidth=0.8, alpha=0.7, label="killed" if i == 0 else None
            )
            ax.annotate(
                stages,
                (at, 1),
                xycoords=("data", "axes fraction"),
                fontsize=7,
                ha="center",
                va="bottom",
            )
        ax.set(
            xlabel="iteration (above: the stage that was killed)", ylabel="loss, nats a character"
        )
        ax.legend(frameon=False)
        return ax

    def plot_timeline(self, ax: Axes) -> Axes:
        """What every stage's process did over time."""
        rows = sorted({e.who for e in self.events}, key=lambda name: int(name.split()[-1]))
        return draw_timeline(self.events, ax, rows)


def read_failures(text: str, stages: int, steps: int) -> dict[int, tuple[int, ...]]:
    """Iteration to stages that are killed at its start, from ``"2@150,0@300"``.

    Raises
    ------
    ValueError
        If a part is not stage@iteration, or names what is not there.
    """
    found: dict[int, set[int]] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        match = re.fullmatch(r"(\d{1,9})\s*@\s*(\d{1,9})", part, re.ASCII)
        if match is None:
            raise ValueError(f"fail must list stage@iteration, as in '2@150,0@300', got {part!r}")
        stage, at = map(int, match.groups())
        if stage >= stages or at >= steps:
            raise ValueError(
                f"fail must name stages 0..{stages - 1} and iterations 0..{steps - 1}, got {part!r}"
            )
        found.setdefault(at, set()).add(stage)
    return {at: tuple(sorted(who)) for at, who in sorted(found.items())}


def draw_failures(
    rate: float, stages: int, steps: int, mode: str, rng: np.random.Generator, rule: str = "grad"
) -> dict[int, tuple[int, ...]]:
    """Failures that strike each recoverable stage with this probability at every iteration.

    As in the paper's experiments, stages that would be rebuilt from each other are not lost in the same iteration: the later one
    is spared.
    """
    struck = rng.random((steps, stages)) < rate
    if mode != "checkfree+":
        struck[:, [0, -1]] = False  # the same failures for all modes that are compared with it
    found: dict[int, tuple[int, ...]] = {}
    for at in np.flatnonzero(struck.any(axis=1)):
        lost: list[int] = []
        for stage in map(int, np.flatnonzero(struck[at])):
            near = _near(stage, stages, mode, rule)
            if not near & set(lost) and not any(
                stage in _near(s, stages, mode, rule) for s in lost
            ):
                lost.append(stage)
        found[int(at)] = tuple(lost)
    return found


def _near(stage: int, stages: int, mode: str, rule: str) -> set[int]:
    return (
        set(
            sources(
                stage, stages, mode if mode in ("checkfree+", "redundant") else "checkfree", rule
            )
        )
        if mode != "none"
        else set()
    )


def checkfree(
    text: Annotated[str, Data("text")],
    *,
    stages: int = 6,
    dim: int = 64,
    heads: int = 4,
    context: int = 48,
    batch: int = 16,
    microbatches: int = 2,
    steps: int = 400,
    lr: float = 1e-3,
    fail_rate: float = 0.006,
    fail: str | None = None,
    mode: Literal["checkfree", "checkfree+", "redundant", "checkpoint", "none"] = "checkfree+",
    rule: Literal["grad", "uniform", "copy", "zero", "random"] = "grad",
    lr_boost: float = 1.1,
    moments: Literal["reset", "average"] = "reset",
    replicas: Literal["full", "weights"] = "full",
    fallback: Literal["raise", "random", "snapshot", "checkpoint"] = "snapshot",
    checkpoint_every: int = 100,
    evaluate_every: int = 25,
    spares: int = 1,
    test: float = 0.1,
    rng: np.random.Generator | int | None = None,
) -> CheckFreeResult:
    """Train a character model in a pipeline of processes, kill some with SIGKILL on the way, and go on.

    For a model of one's own take :class:`whp.distributed.checkfree.pipeline.PipelineTrainer`.

    Parameters
    ----------
    text : str
        What to learn; the last part is held out.
    stages : int
        Processes, each with one block of attention and SwiGLU.
    dim, heads : int
        Width and attention heads.
    context, batch, microbatches : int
        Characters in a window, windows in a batch, and parts it is cut into.
    steps : int
        Iterations.
    lr : float
        Of Adam.
    fail_rate : float
        Probability that a stage is killed, for each recoverable stage and iteration.
    fail : str, optional
        Kills to make instead, as ``"2@150,0@300"``: stage 2 at the start of iteration 150, stage 0 at that of 300.
    mode : {"checkfree+", "checkfree", "redundant", "checkpoint", "none"}
        Neighbours stand in, also for the first and last stage, or only for the others; every stage computes its successor too;
        all go back to a checkpoint; training ends.
    rule : {"grad", "uniform", "copy", "zero", "random"}
        Average of the neighbours by gradient norm or equal; copy of the one before; that as the identity; fresh weights.
    lr_boost : float
        Factor of a regained stage's learning rate.
    moments : {"reset", "average"}
        Its optimizer's state.
    replicas : {"full", "weights"}
        What is copied of embedding and head.
    fallback : {"snapshot", "raise", "random", "checkpoint"}
        When a stage is lost together with those it would be rebuilt from.
    checkpoint_every : int
        Iterations between checkpoints or snapshots.
    evaluate_every : int
        Iterations between held-out losses; they are taken before and after each kill as well.
    spares : int
        Processes that wait for one to die.
    test : float
        Share of the text that is held out.
    rng : Generator or int, optional
        Source of randomness.

    Returns
    -------
    CheckFreeResult

    Raises
    ------
    TypeError, ValueError
        If an argument is not what is accepted; the message names it.
    UnrecoverableStageError
        If a stage is lost that the mode cannot regain, and ``fallback="raise"`` or ``mode="none"``.
    """
    stages = as_int(stages, "stages", low=4 if mode == "checkfree+" else 3, high=64)
    dim, heads = as_int(dim, "dim", low=1, high=1 << 14), as_int(heads, "heads", low=1)
    if dim % heads:
        raise ValueError(f"dim must be a multiple of heads, got {dim} and {heads}")
    context, batch = as_int(context, "context", low=1), as_int(batch, "batch", low=1)
    microbatches = as_int(microbatches, "microbatches", low=1)
    if microbatches > batch:
        raise ValueError(f"microbatches must be at most batch={batch}, got {microbatches}")
    steps, evaluate_every = (
        as_int(steps, "steps", low=1),
        as_int(evaluate_every, "evaluate_every", low=1),
    )
    as_choice(mode, "mode", MODES)
    as_choice(rule, "rule", RULES)
    share, rate = as_fraction(test, "test"), as_real(fail_rate, "fail_rate", low=0, high=1)
    train, heldout = _cut(text, share, context)
    generator = np.random.default_rng(rng)
    if fail is not None and not isinstance(fail, str):
        raise TypeError(f"fail must be text as '2@150,0@300', got {type(fail).__name__}")
    if fail is None:
        failures = (
            {} if mode == "none" else draw_failures(rate, stages, steps, mode, generator, rule)
        )
    else:
        failures = read_failures(fail, stages, steps)
    seed = int(generator.integers(2**31))

    import torch

    from whp.distributed import char_lm
    from whp.distributed.checkfree.pipeline import PipelineTrainer

    vocab = char_lm.vocabulary(text)
    tokens, probe = char_lm.encode(train, vocab), char_lm.encode(heldout, vocab)
    hidden = max(1, 5 * dim // 2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = (
            char_lm.Embed(len(vocab), dim, context),
            [char_lm.Block(dim, heads, hidden) for _ in range(stages)],
            char_lm.Head(dim, len(vocab)),
        )
    probes = [
        char_lm.windows(probe, min(PROBES, 16), context, seed, i)
        for i in range(max(1, PROBES // 16))
    ]
    start = time.monotonic()
    with PipelineTrainer(
        *model,
        char_lm.cross_entropy,
        lr=lr,
        microbatches=microbatches,
        mode=mode,
        rule=rule,
        lr_boost=lr_boost,
        moments=moments,
        replicas=replicas,
        fallback=fallback,
        checkpoint_every=checkpoint_every,
        spares=spares,
        seed=seed,
        audit=True,
    ) as trainer:
        found = _train(
            trainer,
            failures,
            steps,
            evaluate_every,
            probes,
            lambda t: char_lm.windows(tokens, batch, context, seed, t),
        )
        weights = trainer.state_dict()
    losses, iterations, evaluated, jumps, when = found
    return CheckFreeResult(
        losses=np.array(losses),
        evaluated=np.array([at for at, _ in evaluated]),
        heldout=np.array([h for _, h in evaluated]),
        recoveries=recovery_table(trainer.recoveries, jumps, when),
        events=tuple(trainer.events_),
        weights=weights,
        vocabulary=vocab,
        mode=mode,
        seconds=time.monotonic() - start,
        certificates=checkfree_certificates(
            trainer.recoveries, iterations, [h for _, h in evaluated], jumps, mode=mode
        ),
    )


def _cut(text: Any, share: float, context: int) -> tuple[str, str]:
    if not isinstance(text, str):
        raise TypeError(f"text must be a string, got {type(text).__name__}")
    end = round(len(text) * (1 - share))
    if min(end, len(text) - end) <= context:
        raise ValueError(
            f"text must have more than context={context} characters in either part, got {end} to learn, {len(text) - end} held out"
        )
    return text[:end], text[end:]


def _train(
    trainer: Any,
    failures: Mapping[int, Iterable[int]],
    steps: int,
    every: int,
    probes: Any,
    batch_of: Any,
) -> tuple[list[float], list[int], list[tuple[int, float]], list[float], list[int]]:
    losses: list[float] = []
    when: list[int] = []
    iterations: list[int] = []
    evaluated: list[tuple[int, float]] = []
    jumps: list[float] = []
    with contextlib.suppress(KeyboardInterrupt):  # what there is so far is the result
        for t in track(range(steps), "training"):
            struck = tuple(failures.get(t, ()))
            if t % every == 0 or struck:
                evaluated.append((t, trainer.evaluate(probes)))
            if struck:
                for stage in struck:
                    trainer.kill(stage)
                evaluated.append((t, trainer.evaluate(probes)))
                jumps.append(evaluated[-1][1] - evaluated[-2][1])
            out = trainer.step(batch_of(t))
            when += [t] * (len(trainer.recoveries) - len(when))
            losses.append(out.loss)
            iterations.append(out.iteration)
    evaluated.append((len(losses), trainer.evaluate(probes)))
    return losses, iterations, evaluated, jumps, when


def recovery_table(
    recoveries: Iterable[Recovery], jumps: Iterable[float], when: Iterable[int]
) -> pd.DataFrame:
    """A row a recovery, with the step of the run at which it happened and the jump of the held-out loss."""
    known, steps = iter(jumps), iter(when)
    rows = [
        (
            next(steps, -1),
            r.iteration,
            " ".join(map(str, r.stages)),
            r.how,
            "; ".join(" ".join(map(str, s)) for s in r.sources),
            r.resumed,
            next(known, float("nan")),
            r.detection,
            r.seconds,
            r.reason,
        )
        for r in recoveries
    ]
    columns = [
        "step",
        "iteration",
        "stages",
        "how",
        "sources",
        "resumed",
        "jump",
        "detection",
        "seconds",
        "reason",
    ]
    return pd.DataFrame(rows, columns=columns)
