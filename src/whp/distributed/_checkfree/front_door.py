"""The front door: a small character model, trained by stage processes that are killed on the way."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pandas as pd

from whp.certificate import Certificate
from whp.distributed._checkfree.failures import draw_failures, read_failures
from whp.distributed._checkfree.recovery import Recovery
from whp.distributed._checkfree.theorems import Windows, capped, progress
from whp.distributed.timeline import Event, draw_timeline
from whp.door import Above, AtLeast, Between, Fraction, front_door
from whp.io import Data
from whp.progress import track
from whp.provenance import plain_generator, register
from whp.result import PALETTE, Result
from whp.validate import private_stream

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["CheckFreeResult", "checkfree"]

PROBES = 64  # windows that are sent at once


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
        ``recovered-weights``, ``ends-restored``, ``others-untouched``, ``each-iteration-once``,
        ``jumps-below-progress``.
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

    def draw(self, ax: Axes) -> None:
        """Loss over iterations, with every kill marked."""
        ax.plot(self.losses, color=PALETTE["quiet"], linewidth=0.8, alpha=0.6, label="batch")
        ax.plot(self.evaluated, self.heldout, color=PALETTE["ours"], label="held out")
        for i, (at, stages) in enumerate(
            zip(self.recoveries["step"], self.recoveries["stages"], strict=True)
        ):
            label = "killed" if i == 0 else None
            ax.axvline(at, color=PALETTE["truth"], linewidth=0.8, alpha=0.7, label=label)
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
        # Kills are spread over the picture: a solid legend hides the lines that run behind it.
        ax.legend(framealpha=0.95, edgecolor="none")

    def plot_timeline(self, ax: Axes) -> Axes:
        """What every stage's process did over time."""
        rows = sorted({e.who for e in self.events}, key=lambda name: int(name.split()[-1]))
        return draw_timeline(self.events, ax, rows)


@front_door
def checkfree(
    text: Annotated[str, Data("text")],
    *,
    stages: Annotated[int, Between(3, 64)] = 6,
    dim: Annotated[int, Between(1, 1 << 14)] = 64,
    heads: Annotated[int, AtLeast(1)] = 4,
    context: Annotated[int, AtLeast(1)] = 48,
    batch: Annotated[int, AtLeast(1)] = 16,
    microbatches: Annotated[int, AtLeast(1)] = 2,
    steps: Annotated[int, AtLeast(1)] = 400,
    lr: Annotated[float, Above(0)] = 1e-3,
    fail_rate: Annotated[float, Between(0, 1)] = 0.006,
    fail: str | None = None,
    mode: Literal["checkfree", "checkfree+", "redundant", "checkpoint", "none"] = "checkfree+",
    rule: Literal["grad", "uniform", "copy", "zero", "random"] = "grad",
    lr_boost: Annotated[float, Above(0)] = 1.1,
    moments: Literal["reset", "average"] = "reset",
    replicas: Literal["full", "weights"] = "full",
    fallback: Literal["raise", "random", "snapshot", "checkpoint"] = "snapshot",
    checkpoint_every: Annotated[int, AtLeast(1)] = 100,
    evaluate_every: Annotated[int, AtLeast(1)] = 25,
    spares: Annotated[int, Between(0, 64)] = 1,
    timeout: Annotated[float, Between(0.1, 3600)] = 10.0,
    test: Annotated[float, Fraction()] = 0.1,
    probes: Annotated[int, AtLeast(1)] = 256,
    share: Annotated[float, Fraction()] = 0.5,
    delta: Annotated[float, Fraction()] = 0.05,
    rng: np.random.Generator | int | None = None,
) -> CheckFreeResult:
    """Train a character model in a pipeline of processes, kill some with SIGKILL on the way, and go on.

    For a model of one's own take :class:`whp.distributed.PipelineTrainer`.

    Parameters
    ----------
    text : str
        What to learn; the last part is held out.
    stages : int
        Processes, each with one block of attention and SwiGLU; at least 4 for mode checkfree+.
    dim, heads : int
        Width of the model, and attention heads of a block.
    context, batch, microbatches : int
        Characters in a window, windows in a batch, and parts a batch is cut into.
    steps : int
        Iterations of training.
    lr : float
        Learning rate of Adam.
    fail_rate : float
        Probability that a stage is killed, for each recoverable stage and iteration.
    fail : str, optional
        Kills to make instead, as ``"2@150,0@300"``: stage 2 at the start of iteration 150, stage 0 at
        that of 300.
    mode : {"checkfree+", "checkfree", "redundant", "checkpoint", "none"}
        Neighbours stand in, also for the first and last stage, or only for the others; every stage
        computes its successor too; all go back to a checkpoint; a loss ends training.
    rule : {"grad", "uniform", "copy", "zero", "random"}
        How a lost stage is made: average of the neighbours by gradient norm, or equal; copy of the
        one before; that as the identity; fresh weights.
    lr_boost : float
        Factor of a regained stage's learning rate.
    moments : {"reset", "average"}
        The optimizer's state of a regained stage: none, or the average of its neighbours'.
    replicas : {"full", "weights"}
        What is copied of embedding and head: the optimizer's state too, or weights alone.
    fallback : {"snapshot", "raise", "random", "checkpoint"}
        What to do when a stage is lost together with those it would be rebuilt from.
    checkpoint_every : int
        Iterations between checkpoints or snapshots.
    evaluate_every : int
        Iterations between held-out losses; they are taken before and after each kill as well.
    spares : int
        Processes that wait for one to die.
    timeout : float
        Seconds without a sign of life after which a stage counts as dead.
    test : float
        Share of the text that is held out.
    probes : int
        Windows of the held-out text on which jumps and progress are measured.
    share : float
        Share of what training gains between failures that failures may take: the demand that
        ``jumps-below-progress`` is judged by.
    delta : float
        Failure probability of the interval over windows.
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
    if mode == "checkfree+" and stages < 4:
        raise ValueError(f"stages must be at least 4 for mode='checkfree+', got {stages}")
    if dim % heads:
        raise ValueError(f"dim must be a multiple of heads, got {dim} and {heads}")
    if microbatches > batch:
        raise ValueError(f"microbatches must be at most batch={batch}, got {microbatches}")
    train, heldout = _cut(text, test, context)
    generator = private_stream(rng)
    if fail is None:
        failures = (
            {} if mode == "none" else draw_failures(fail_rate, stages, steps, mode, generator, rule)
        )
    else:
        failures = read_failures(fail, stages, steps)
    seed, windows_seed = (int(generator.integers(2**31)) for _ in range(2))

    import torch

    from whp.distributed import char_lm
    from whp.distributed._checkfree.pipeline import PipelineTrainer

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
    held = char_lm.windows(probe, probes, context, windows_seed, 0)
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
        timeout=timeout,
        seed=seed,
        audit=True,
    ) as trainer:
        run = _train(
            trainer,
            failures,
            steps,
            evaluate_every,
            _Probes(list(zip(*(t.split(PROBES) for t in held), strict=True)), math.log(len(vocab))),
            lambda t: char_lm.windows(tokens, batch, context, seed, t),
        )
        weights = trainer.state_dict()
        certificates = trainer.certificates()
    windows = run.windows(len(trainer.recoveries))
    if plain_generator(rng):
        register(windows, "start", "end", "jumps")
    return CheckFreeResult(
        losses=np.array(run.losses),
        evaluated=np.array([at for at, _ in run.evaluated]),
        heldout=np.array([h.mean() for _, h in run.evaluated]),
        recoveries=recovery_table(trainer.recoveries, run.jumps, run.when),
        events=tuple(trainer.events_),
        weights=weights,
        vocabulary=vocab,
        mode=mode,
        seconds=time.monotonic() - start,
        certificates=(*certificates, progress(windows, share=share, delta=delta)),
    )


def _cut(text: Any, share: float, context: int) -> tuple[str, str]:
    if not isinstance(text, str):
        raise TypeError(f"text must be a string, got {type(text).__name__}")
    end = round(len(text) * (1 - share))
    if min(end, len(text) - end) <= context:
        raise ValueError(
            f"text must have more than context={context} characters in either part, got {end} to "
            f"learn, {len(text) - end} held out"
        )
    return text[:end], text[end:]


@dataclass(frozen=True)
class _Probes:
    """Held-out windows, in batches."""

    batches: list[Any]
    uniform: float

    def losses(self, trainer: Any) -> np.ndarray:
        """Loss of each window."""
        return np.array(trainer.losses(self.batches, rows=True))


@dataclass
class _Run:
    """What was seen of a run."""

    probes: _Probes
    losses: list[float] = field(default_factory=list)
    evaluated: list[tuple[int, np.ndarray]] = field(default_factory=list)
    jumps: dict[int, float] = field(default_factory=dict)
    around: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    when: list[int] = field(default_factory=list)

    def look(self, trainer: Any, at: int) -> np.ndarray:
        """Held-out losses now."""
        self.evaluated.append((at, self.probes.losses(trainer)))
        return self.evaluated[-1][1]

    def windows(self, recoveries: int) -> Windows:
        """What the theorem wants to know."""
        first, last = self.evaluated[0][1], self.evaluated[-1][1]
        cap = 1.5 * self.probes.uniform
        jumps = [capped(after, cap) - capped(before, cap) for before, after in self.around]
        return Windows(
            capped(first, cap),
            capped(last, cap),
            np.array(jumps).reshape(len(jumps), len(first)),
            self.probes.uniform,
            recoveries,
        )


def _train(
    trainer: Any,
    failures: Mapping[int, Iterable[int]],
    steps: int,
    every: int,
    probes: _Probes,
    batch_of: Any,
) -> _Run:
    run = _Run(probes)
    with contextlib.suppress(KeyboardInterrupt):  # what there is so far is the result
        for t in track(range(steps), "training"):
            struck = tuple(failures.get(t, ()))
            if t % every == 0 or struck:
                run.look(trainer, t)
            if struck:
                before, known = run.evaluated[-1][1], len(trainer.recoveries)
                for stage in struck:
                    trainer.kill(stage)
                after = run.look(trainer, t)
                run.around.append((before, after))
                # Of that recovery, and not of one that nobody asked for.
                if len(trainer.recoveries) == known + 1:
                    run.jumps[known] = float(after.mean() - before.mean())
            out = trainer.step(batch_of(t))
            run.when += [t] * (len(trainer.recoveries) - len(run.when))
            run.losses.append(out.loss)
    run.look(trainer, len(run.losses))
    return run


def recovery_table(
    recoveries: Iterable[Recovery], jumps: Mapping[int, float], when: Iterable[int]
) -> pd.DataFrame:
    """A row a recovery, with the step of the run at which it happened and the jump of the held-out loss, if it was measured."""
    steps = iter(when)
    rows = [
        (
            next(steps, -1),
            r.iteration,
            " ".join(map(str, r.stages)),
            r.how,
            "; ".join(" ".join(map(str, s)) for s in r.sources),
            r.resumed,
            jumps.get(i, float("nan")),
            r.detection,
            r.seconds,
            r.reason,
        )
        for i, r in enumerate(recoveries)
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
