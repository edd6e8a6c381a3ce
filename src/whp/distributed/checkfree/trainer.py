"""What processes and simulator have in common: arguments, what to do about a loss, and the record of it."""

from __future__ import annotations

import copy
import math
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from warnings import warn

import torch
from torch import Tensor, nn

from whp.distributed.checkfree.compute import Ends, Setting, from_bytes
from whp.distributed.checkfree.recovery import (
    FALLBACKS,
    MODES,
    RULES,
    SMALL,
    Recovery,
    Transfer,
    UnrecoverableStageError,
    copies,
    neighbour_weights,
    plan,
    random_plan,
    same_shapes,
    state_difference,
)
from whp.validate import as_choice, as_int, as_real

__all__ = ["StepResult", "Trainer", "adam"]

Part = nn.Module | Callable[[], nn.Module]
Batch = tuple[Tensor, Tensor]


def adam(parameters: Any, lr: float) -> torch.optim.Optimizer:
    """Adam as the paper uses it."""
    return torch.optim.Adam(parameters, lr, betas=(0.9, 0.999))


@dataclass(frozen=True)
class StepResult:
    """What one call of ``step`` did.

    Attributes
    ----------
    iteration : int
        Number of the iteration that was committed.
    loss : float
        Of the batch.
    grad_norms : tuple of float
        2-norms of the stages' gradients after clipping.
    recoveries : tuple of Recovery
        Stages lost and regained on the way.
    """

    iteration: int
    loss: float
    grad_norms: tuple[float, ...]
    recoveries: tuple[Recovery, ...]


class Vault:
    """The last saved state of all stages, in memory or on disk."""

    def __init__(self, directory: Path | None) -> None:
        self.directory = directory
        self.iteration = -1
        self._kept: dict[int, bytes] = {}

    def save(self, iteration: int, states: Mapping[int, bytes]) -> None:
        """Keep these, whole or not at all."""
        if self.directory is None:
            self._kept = dict(states)
        else:
            for rank, state in states.items():
                (self.directory / f"stage-{rank}-{iteration}.pt").write_bytes(state)
            for old in self.directory.glob(f"stage-*-{self.iteration}.pt"):
                old.unlink()
        self.iteration = iteration

    def read(self, rank: int) -> bytes:
        """State of one stage."""
        if self.directory is None:
            return self._kept[rank]
        return (self.directory / f"stage-{rank}-{self.iteration}.pt").read_bytes()


class Trainer(ABC):
    """A pipeline of alike stages that may lose some of them; stages are numbered from 0.

    Parameters
    ----------
    embed, head : Module or callable
        What is before and after the stages, or what builds it. If they share a parameter, both are kept by stage 0.
    stages : sequence of Module or callable
        At least 3, each x -> x; their states must have the same names and shapes, unless no stage is ever rebuilt from others.
    loss_fn : callable
        Mean loss of (head's output, targets).
    optimizer : callable
        From parameters and learning rate to an optimizer; one for every stage, the embedding and the head.
    lr : float
    scheduler : callable, optional
        From the number of an iteration to a factor of the learning rate.
    microbatches : int
        Parts of a batch.
    clip : float or None
        Largest gradient norm, of each stage on its own.
    mode : {"checkfree+", "checkfree", "redundant", "checkpoint", "none"}
        Neighbours stand in, for the first and last stages too, or not for those; every stage keeps a copy of its successor; every
        stage goes back to the last checkpoint; a loss ends training.
    rule : {"grad", "uniform", "copy", "zero", "random"}
        How a lost stage is made; see :func:`whp.distributed.checkfree.recover`. A twin is copied unless the rule is random.
    lr_boost : float
        Factor of a lost stage's learning rate from then on.
    lr_boost_compound : bool
        Whether a second loss multiplies it again.
    moments : {"reset", "average"}
        The optimizer's state of a rebuilt stage.
    replicas : {"full", "weights"}
        Whether copies of embedding and head, in CheckFree+, come with the optimizer's state.
    fallback : {"raise", "random", "snapshot", "checkpoint"}
        When neighbours are lost together: raise, start the stages at random, or go back to the last state that was kept in memory
        or on disk.
    checkpoint_every : int
        Iterations between such states.
    checkpoint_dir : path, optional
        Where checkpoints go; a temporary directory by default.
    seed : int
    audit : bool
        Compare every recovery with the formula and every survivor with what it was.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what is accepted; the message names it.
    """

    def __init__(
        self,
        embed: Part,
        stages: Sequence[Part],
        head: Part,
        loss_fn: Callable[[Tensor, Tensor], Tensor],
        *,
        optimizer: Callable[[Any, float], torch.optim.Optimizer] = adam,
        lr: float = 3e-4,
        scheduler: Callable[[int], float] | None = None,
        microbatches: int = 4,
        clip: float | None = 1.0,
        mode: Literal["checkfree", "checkfree+", "redundant", "checkpoint", "none"] = "checkfree+",
        rule: Literal["grad", "uniform", "copy", "zero", "random"] = "grad",
        lr_boost: float = 1.1,
        lr_boost_compound: bool = False,
        moments: Literal["reset", "average"] = "reset",
        replicas: Literal["full", "weights"] = "full",
        fallback: Literal["raise", "random", "snapshot", "checkpoint"] = "raise",
        checkpoint_every: int = 100,
        checkpoint_dir: str | Path | None = None,
        seed: int = 0,
        audit: bool = False,
    ) -> None:
        as_choice(mode, "mode", MODES)
        as_choice(rule, "rule", RULES)
        as_choice(moments, "moments", ("reset", "average"))
        as_choice(replicas, "replicas", ("full", "weights"))
        self.fallback = as_choice(fallback, "fallback", FALLBACKS)
        self.checkpoint_every = as_int(checkpoint_every, "checkpoint_every", low=1)
        least = 4 if mode == "checkfree+" else 3
        if isinstance(stages, nn.Module) or callable(stages) or len(stages) < least:
            count = "one module" if not isinstance(stages, Sequence) else len(stages)
            raise ValueError(
                f"stages must be a list of at least {least} modules for mode={mode!r}, got {count}"
            )
        microbatches = as_int(microbatches, "microbatches", low=1)
        if mode == "checkfree+" and microbatches % 2:
            warn(
                f"microbatches={microbatches} is odd: the swapped order gets fewer than the normal one",
                stacklevel=3,
            )
        seed = as_int(seed, "seed", low=0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            ends = [_built(embed, "embed"), _built(head, "head")]
            blocks = [_built(s, f"stages[{i}]") for i, s in enumerate(stages)]
        shared = {id(p) for p in ends[0].parameters()} & {id(p) for p in ends[1].parameters()}
        first, last = copy.deepcopy(tuple(ends))  # together, so that what they share stays shared
        self.setting = Setting(
            len(blocks),
            loss_fn,
            optimizer,
            as_real(lr, "lr", low=0, high=1e6, open_ends=True),
            scheduler,
            microbatches,
            None if clip is None else as_real(clip, "clip", low=0, high=1e12, open_ends=True),
            mode,
            rule,
            as_real(lr_boost, "lr_boost", low=0, high=1e6, open_ends=True),
            lr_boost_compound,
            moments,
            "full" if mode == "redundant" else replicas,
            seed,
            bool(shared),
        )
        if mode.startswith("checkfree") and rule != "random":
            for i in range(1, len(blocks) - 1):
                same_shapes(blocks[i - 1].state_dict(), blocks[i + 1].state_dict(), i)
                same_shapes(blocks[i - 1].state_dict(), blocks[i].state_dict(), i)
        self._first = first
        self._modules: list[dict[str, nn.Module]] = [
            {str(i): copy.deepcopy(b)} for i, b in enumerate(blocks)
        ]
        if shared:
            self._modules[0]["embed"] = Ends(first, last)
        else:
            self._modules[0]["embed"] = first
            self._modules[-1]["head"] = last
        self.iteration = 0
        self.recoveries: list[Recovery] = []
        self.audit = audit
        self._failures: dict[int, int] = {}
        self._lost: set[int] = set()
        self._vault: Vault | None = None
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        if mode == "checkpoint" or fallback in ("snapshot", "checkpoint"):
            directory = None
            if mode == "checkpoint" or fallback == "checkpoint":
                if checkpoint_dir is None:
                    self._temporary = tempfile.TemporaryDirectory(prefix="whp-checkfree-")
                    checkpoint_dir = self._temporary.name
                directory = Path(checkpoint_dir)
                directory.mkdir(parents=True, exist_ok=True)
            self._vault = Vault(directory)

    # What a trainer does, where processes and simulator differ

    @abstractmethod
    def _states(self, ranks: Collection[int] | None = None) -> dict[int, bytes]: ...

    @abstractmethod
    def evaluate(self, batches: Iterable[Batch]) -> float:
        """Mean loss of batches, in the normal order and without dropout."""

    @abstractmethod
    def step(self, batch: Batch) -> StepResult:
        """Train on one batch; stages lost meanwhile are regained, and the batch is repeated."""

    @abstractmethod
    def kill(self, stage: int) -> None:
        """Lose a stage now."""

    # What they share

    def state_dict(self) -> dict[str, Tensor]:
        """All weights: ``embed.…``, ``stages.0.…`` to the last, ``head.…``."""
        found: dict[str, Tensor] = {}
        for state in self._states().values():
            for name, unit in from_bytes(state)["units"].items():
                tied = self.setting.tied and name == "embed"
                prefix = "" if tied else f"stages.{name}." if name.isdigit() else f"{name}."
                found |= {prefix + k: v for k, v in unit["weights"].items()}
        return found

    def close(self) -> None:
        """Let go of everything."""
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _split(self, batch: Batch) -> tuple[list[Tensor], list[Tensor], list[float]]:
        x, y = _checked(batch)
        m = self.setting.microbatches
        if len(x) < m:
            raise ValueError(f"batch must have a row for each of {m} microbatches, got {len(x)}")
        xs, ys = list(x.tensor_split(m)), list(y.tensor_split(m))
        return xs, ys, [len(part) / len(x) for part in xs]

    def _save_if_due(self) -> None:
        v = self._vault
        if (
            v is not None
            and v.iteration != self.iteration
            and (self.iteration % self.checkpoint_every == 0 or v.iteration < 0)
        ):
            states = self._states()
            if v.iteration != self.iteration:
                v.save(self.iteration, states)

    def _decide(self, lost: Collection[int]) -> tuple[str, list[Transfer], str]:
        """What to do about these losses: how, what to send, and why it is no ordinary recovery."""
        how = self.setting
        if how.mode == "checkpoint":
            return "rolled back", self._all_copies(), ""
        try:
            found = plan(lost, how.stages, how.mode, how.rule, how.tied)
        except UnrecoverableStageError as error:
            reason = str(error)
            if self.fallback == "raise" or how.mode == "none":
                raise
            if self.fallback == "random":
                return "random", random_plan(lost, how.stages, how.mode, how.tied), reason
            return "rolled back", self._all_copies(), reason
        name = (
            "restored"
            if how.mode == "redundant"
            else "random"
            if how.rule == "random"
            else "rebuilt"
        )
        return name, found, ""

    def _all_copies(self) -> list[Transfer]:
        kept = copies(self.setting.stages, self.setting.mode, self.setting.tied)
        return [Transfer(name, keeper, (owner,), "copy") for name, (owner, keeper) in kept.items()]

    def _inspect(
        self,
        transfers: Sequence[Transfer],
        lost: Collection[int],
        before: Mapping[int, bytes],
        after: Mapping[int, bytes],
    ) -> dict[str, Any]:
        """Rebuilt stages against the formula, computed again in double precision, and survivors against what they were."""
        old = {r: from_bytes(b) for r, b in before.items()}
        new = {r: from_bytes(b) for r, b in after.items()}
        difference, spread = 0.0, 0.0
        for t in transfers:
            if t.how != "rebuild" or not t.sources or self.setting.rule in ("zero", "random"):
                continue
            near = [old[s]["units"][str(s)] for s in t.sources]
            made = new[t.to]["units"][t.unit]["weights"]
            a, b = 1.0, 0.0
            if len(near) > 1:
                a, b = neighbour_weights(near[0]["norm"], near[1]["norm"], self.setting.rule, SMALL)
                spread = max(spread, state_difference(near[0]["weights"], near[1]["weights"]))
            else:
                spread = math.inf
            other = near[-1]["weights"]
            wanted = {
                k: a * v.double() + b * other[k].double() if v.is_floating_point() else v
                for k, v in near[0]["weights"].items()
            }
            difference = max(difference, state_difference(made, wanted))
        same = [r for r in old if r not in lost]
        changed = sum(not _same(old[r], new[r]) for r in same)
        return {
            "difference": difference,
            "spread": spread,
            "changed": changed,
            "compared": len(same),
        }

    def _note(
        self,
        how: str,
        at: int,
        transfers: Sequence[Transfer],
        lost: Collection[int],
        norms: Mapping[int, float],
        **more: Any,
    ) -> Recovery:
        rebuilt = [t for t in transfers if t.how == "rebuild" and t.unit.isdigit()]
        found = Recovery(
            at,
            tuple(sorted(lost)),
            how,
            self.iteration,
            tuple(t.sources for t in rebuilt),
            tuple(tuple(norms.get(s, math.nan) for s in t.sources) for t in rebuilt),
            **more,
        )
        self.recoveries.append(found)
        return found


def _built(part: Part, name: str) -> nn.Module:
    module = part if isinstance(part, nn.Module) else part() if callable(part) else None
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"{name} must be a torch module or a function that builds one, got {type(part).__name__}"
        )
    return module


def _checked(batch: Any) -> Batch:
    if not (
        isinstance(batch, tuple | list)
        and len(batch) == 2
        and all(isinstance(t, Tensor) for t in batch)
    ):
        raise TypeError(
            f"batch must be a pair of tensors, inputs and targets, got {type(batch).__name__}"
        )
    x, y = batch
    if not len(x) or len(x) != len(y):
        raise ValueError(
            f"batch must have as many targets as inputs, at least one, got {len(x)} and {len(y)}"
        )
    return x, y


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and torch.equal(a, b)
    if isinstance(a, Mapping):
        return set(a) == set(b) and all(_same(v, b[k]) for k, v in a.items())
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    return a == b
