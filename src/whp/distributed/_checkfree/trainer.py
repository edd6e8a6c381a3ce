"""What processes and simulator have in common: arguments, what to do about a loss, and the record of it."""

from __future__ import annotations

import copy
import hashlib
import os
import secrets
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from warnings import warn

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from whp.certificate import Certificate
from whp.distributed._checkfree.audit import mixture, rebuilt_differs, spread_of
from whp.distributed._checkfree.compute import Ends, Mark, Setting, from_bytes
from whp.distributed._checkfree.recovery import (
    FALLBACKS,
    MODES,
    RULES,
    Recovery,
    Transfer,
    UnrecoverableStageError,
    copies,
    plan,
    random_plan,
    recover,
    same_shapes,
)
from whp.distributed._checkfree.theorems import each_once, ends_restored, rebuilt, untouched
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
    """The last saved state of all stages, in memory or on disk.

    Parameters
    ----------
    directory : Path or None
        None keeps it in memory.
    temporary : TemporaryDirectory, optional
        That directory, if it is this vault's alone.

    Notes
    -----
    Files have a name of their own a vault: trainers that share a directory, and copies of one, must
    not overwrite or remove what another goes back to.
    """

    def __init__(
        self, directory: Path | None, temporary: tempfile.TemporaryDirectory[str] | None = None
    ) -> None:
        self.directory, self.temporary = directory, temporary
        self.token = secrets.token_hex(4)
        self.iteration = -1
        self.norms: list[float] = []
        self._kept: dict[int, bytes] = {}
        self._digests: dict[int, bytes] = {}

    def _path(self, rank: int, iteration: int) -> Path:
        assert self.directory is not None
        return self.directory / f"stage-{rank}-{iteration}-{self.token}.pt"

    @classmethod
    def temporarily(cls) -> Vault:
        """In a directory that goes when this is closed."""
        made = tempfile.TemporaryDirectory(prefix="whp-checkfree-")
        return cls(Path(made.name), made)

    def close(self) -> None:
        """Remove a temporary directory."""
        if self.temporary is not None:
            self.temporary.cleanup()

    def __getstate__(self) -> dict[str, Any]:
        return {
            "directory": self.directory,
            "temporary": self.temporary is not None,
            "iteration": self.iteration,
            "norms": self.norms,
            "states": {rank: self.read(rank) for rank in self._digests},
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        made = Vault.temporarily() if state["temporary"] else Vault(state["directory"])
        self.__dict__.update(made.__dict__)
        if state["states"]:
            self.save(state["iteration"], state["states"], state["norms"])

    def save(self, iteration: int, states: Mapping[int, bytes], norms: Sequence[float]) -> None:
        """Keep these, whole or not at all: if a disk is full, what was saved before is still there."""
        if self.directory is None:
            self._kept = dict(states)
        else:
            written = []
            try:
                for rank, state in states.items():
                    written.append(self._path(rank, iteration))
                    _write(written[-1], state)
            except BaseException:
                for path in written:
                    path.unlink(missing_ok=True)
                raise
            for rank in self._digests:
                self._path(rank, self.iteration).unlink(missing_ok=True)
        self._digests = {rank: _digest(state) for rank, state in states.items()}
        self.iteration, self.norms = iteration, list(norms)

    def read(self, rank: int) -> bytes:
        """State of one stage.

        Raises
        ------
        UnrecoverableStageError
            If the file is gone, or not what was written.
        """
        if self.directory is None:
            return self._kept[rank]
        path = self._path(rank, self.iteration)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UnrecoverableStageError(f"checkpoint {path} cannot be read: {error}") from error
        if _digest(data) != self._digests[rank]:
            raise UnrecoverableStageError(f"checkpoint {path} is not what was written")
        return data


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all; a link of that name is replaced, not followed."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".whp-", delete=False) as file:
        try:
            file.write(data)
            file.close()
            os.replace(file.name, path)
        except BaseException:
            file.close()
            Path(file.name).unlink(missing_ok=True)
            raise


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


class Trainer(ABC):
    """A pipeline of alike stages that may lose some of them; stages are numbered from 0.

    Parameters
    ----------
    embed, head : Module or callable
        What is before and after the stages, or what builds it. If they share a parameter, both are kept by stage 0.
    stages : sequence of Module or callable
        At least 3, each x -> x, with parameters of its own; their states must have the same names
        and shapes, unless no stage is ever rebuilt from others.
    loss_fn : callable
        Mean loss of (head's output, targets), without parameters of its own. The loss of a batch is
        that of its microbatches, each by its number of rows: where a loss leaves targets out
        (``ignore_index``) or weighs them, that is not the mean over all that count, and one that
        leaves out all targets of a microbatch is NaN. Sum such losses and divide by a fixed number.
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
        How a lost stage is made; see :func:`whp.distributed.recover`. A twin is copied unless the rule is random.
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
        Compare every recovery with the formula, and every survivor and every end that was restored
        with what it was at its last commit; digests of all weights and moments are taken at every
        iteration.

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
        _own_parameters(ends, blocks, loss_fn)
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
            bool(audit),
        )
        if mode.startswith("checkfree") and rule != "random":
            for i in range(1, len(blocks) - 1):
                same_shapes(blocks[i - 1].state_dict(), blocks[i + 1].state_dict(), i)
                same_shapes(blocks[i - 1].state_dict(), blocks[i].state_dict(), i)
        if mode.startswith("checkfree"):
            check_rule(rule, blocks[1])
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
        self.committed: list[int] = []  # numbers of iterations, in order
        self._norms = [0.0] * len(blocks)  # of the stages' last gradients
        self._miscounted = 0  # updates too many or too few, of units that are lost
        self._failures: dict[int, int] = {}
        self._lost: set[int] = set()
        self._vault: Vault | None = None
        if mode == "checkpoint" or fallback == "checkpoint":
            if checkpoint_dir is None:
                self._vault = Vault.temporarily()
            else:
                directory = Path(checkpoint_dir)
                directory.mkdir(parents=True, exist_ok=True)
                self._vault = Vault(directory)
        elif fallback == "snapshot":
            self._vault = Vault(None)

    # What a trainer does, where processes and simulator differ

    @abstractmethod
    def _weights(self, ranks: Collection[int]) -> dict[int, dict[str, Tensor]]: ...

    @abstractmethod
    def _states(self, ranks: Collection[int] | None = None) -> dict[int, bytes]: ...

    @abstractmethod
    def evaluate(self, batches: Iterable[Batch]) -> float:
        """Mean loss of batches, in the normal order and without dropout."""

    @abstractmethod
    def losses(self, batches: Iterable[Batch], *, rows: bool = False) -> list[float]:
        """Loss of each batch, or of each of its rows, in the normal order and without dropout."""

    @abstractmethod
    def step(self, batch: Batch) -> StepResult:
        """Train on one batch; stages lost meanwhile are regained, and the batch is repeated."""

    @abstractmethod
    def kill(self, stage: int) -> None:
        """Lose a stage now."""

    # What they share

    @property
    def audit(self) -> bool:
        """Whether recoveries are measured: set at the start, as digests are taken from then on."""
        return self.setting.audit

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
        if getattr(self, "_vault", None) is not None:
            assert self._vault is not None
            self._vault.close()

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
                v.save(self.iteration, states, self._norms)

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
        before: Mapping[int, Mapping[str, Tensor]],
        after: Mapping[int, Mapping[str, Tensor]],
        was: Mapping[str, tuple[str, ...]],
        marks: Mapping[int, Mapping[str, Mark]],
    ) -> dict[str, Any]:
        """Rebuilt stages against the formula, survivors and restored units against their last commit.

        Parameters
        ----------
        before, after : mapping of int to mapping of str to Tensor
            Weights of the sources before the recovery, and of the rebuilt stages after it.
        was : mapping of str to tuple of str
            Digests of units of the lost stages at their last commit, where they are known.
        marks : mapping of int to mapping of str to Mark
            Of all stages, after the recovery.
        """
        differences, spreads = [], []
        for t in self._averages(transfers):
            near = [before[s] for s in t.sources]
            shares = mixture([self._norms[s] for s in t.sources], self.setting.rule)
            differences.append(rebuilt_differs(after[t.to], near, shares))
            spreads.append(spread_of(near))
        same = [r for r in range(self.setting.stages) if r not in lost]
        changed = sum(any(m.committed != m.now for m in marks[r].values()) for r in same)
        ends = [t for t in transfers if t.how == "restore" and t.unit in was]
        # Copies of weights alone come with fresh moments, by choice.
        parts = 2 if self.setting.replicas == "full" else 1
        wrong = sum(was[t.unit][:parts] != marks[t.to][t.unit].now[:parts] for t in ends)
        return {
            "difference": max(differences, default=None),
            "spread": max(spreads, default=None),
            "changed": changed,
            "compared": len(same),
            "ends_changed": wrong if ends else None,
            "ends_compared": len(ends) if ends else None,
        }

    def _averages(self, transfers: Sequence[Transfer]) -> list[Transfer]:
        """Those that the formula is about."""
        if self.setting.rule in ("zero", "random"):
            return []
        return [t for t in transfers if t.how == "rebuild" and t.sources]

    def _regained(self, transfers: Sequence[Transfer]) -> None:
        """What norms the stages have now, by our own account."""
        kept = list(self._norms)
        for t in transfers:
            if t.how == "rebuild" and t.unit.isdigit():
                rule = self.setting.rule
                if not t.sources:
                    kept[t.to] = 0.0
                    continue
                norms = [self._norms[s] for s in t.sources]
                shares = (1.0,) if len(norms) == 1 else mixture(norms, rule)
                kept[t.to] = sum(a * n for a, n in zip(shares, norms, strict=True))
        self._norms = kept

    def _count_lost(self, marks: Mapping[str, Mark], iteration: int) -> None:
        """Updates that lost units had made too many or too few, as far as they reported."""
        self._miscounted += sum(m.miscounted(iteration) for m in marks.values())

    @abstractmethod
    def marks(self) -> dict[int, dict[str, Mark]]:
        """Of each stage's units: when they began, updates since then, and with audit their digests."""

    def certificates(self) -> tuple[Certificate, ...]:
        """What is promised of recoveries, and what came of it so far.

        Returns
        -------
        tuple of Certificate
            ``recovered-weights``, ``ends-restored``, ``others-untouched``, ``each-iteration-once``;
            the first three are measured with ``audit=True``.
        """
        how = self.setting
        marks = [m for stage in self.marks().values() for m in stage.values()]
        wrong = self._miscounted + sum(m.miscounted(self.iteration) for m in marks)
        expected = sum(self.iteration - m.since for m in marks)
        return (
            rebuilt(self.recoveries, mode=how.mode, rule=how.rule),
            ends_restored(self.recoveries, mode=how.mode),
            untouched(self.recoveries),
            each_once(self.committed, wrong, expected, self.recoveries),
        )

    def _note(
        self, how: str, at: int, transfers: Sequence[Transfer], lost: Collection[int], **more: Any
    ) -> Recovery:
        made = [t for t in transfers if t.how == "rebuild" and t.unit.isdigit()]
        found = Recovery(
            at,
            tuple(sorted(lost)),
            how,
            self.iteration,
            tuple(t.sources for t in made),
            tuple(tuple(self._norms[s] for s in t.sources) for t in made),
            rule=self.setting.rule,
            ends=sum(t.how == "restore" for t in transfers),
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
    if any(is_lazy(v) for v in (*module.parameters(), *module.buffers())):
        raise ValueError(f"{name} has lazy layers: run the model once, so that shapes are known")
    return module


def check_rule(rule: str, block: nn.Module) -> None:
    """Refuse a rule that would raise when a stage is lost, and all weights with it.

    Raises
    ------
    ValueError
        If ``"zero"`` finds no output projection.
    """
    if rule == "zero":
        recover(block.state_dict(), None, rule="zero")


def _own_parameters(ends: list[nn.Module], blocks: list[nn.Module], loss_fn: Any) -> None:
    """Refuse weights that a process of each stage's own would part from each other, or never train."""
    owners: dict[int, str] = {}
    named = {"embed": ends[0]} | {f"stages[{i}]": b for i, b in enumerate(blocks)}
    for name, module in named.items():
        for p in module.parameters():
            if (other := owners.setdefault(id(p), name)) != name:
                raise ValueError(
                    f"{other} and {name} share a parameter, which only embed and head can: build a "
                    "module for each stage"
                )
    for p in ends[1].parameters():
        if (other := owners.get(id(p), "embed")) != "embed":
            raise ValueError(f"{other} and head share a parameter, which only embed and head can")
    if isinstance(loss_fn, nn.Module) and any(p.requires_grad for p in loss_fn.parameters()):
        raise ValueError("loss_fn has parameters, which nothing trains: put them into head")


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
