"""How a lost stage is made from those that are left: who can stand in for whom, and with what weights."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from whp.validate import as_choice, as_real

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "FALLBACKS",
    "MODES",
    "RULES",
    "Recovery",
    "Transfer",
    "UnrecoverableStageError",
    "averaged",
    "copied",
    "copies",
    "neighbour_weights",
    "plan",
    "random_plan",
    "recover",
    "same_shapes",
    "sources",
    "twin",
]

Mode = Literal["checkfree", "checkfree+", "redundant", "checkpoint", "none"]
Rule = Literal["grad", "uniform", "copy", "zero", "random"]
MODES = ("checkfree", "checkfree+", "redundant", "checkpoint", "none")
RULES = ("grad", "uniform", "copy", "zero", "random")
FALLBACKS = ("raise", "random", "snapshot", "checkpoint")
OUTPUTS = ("out", "down", "out_proj", "o_proj", "down_proj", "c_proj", "wo", "w2", "fc2", "linear2")
SMALL = 1e-4  # added to both norms, as the authors' code does


class UnrecoverableStageError(RuntimeError):
    """A stage was lost together with those it would have been rebuilt from."""


def neighbour_weights(
    w_prev: float, w_next: float, rule: str, eps: float = 0.0
) -> tuple[float, float]:
    """Normalised weights of the two neighbours: equal unless the rule is ``"grad"`` and both norms are usable."""
    if rule == "copy" or rule == "zero":
        return 1.0, 0.0
    if rule == "uniform":
        return 0.5, 0.5
    if not (math.isfinite(w_prev) and math.isfinite(w_next)) or w_prev < 0 or w_next < 0:
        warnings.warn(
            f"gradient norms {w_prev} and {w_next} are no weights: neighbours count equally",
            stacklevel=3,
        )
        return 0.5, 0.5
    before, after = w_prev + eps, w_next + eps
    if not (larger := max(before, after)) > 0:
        return 0.5, 0.5
    before, after = before / larger, after / larger  # a sum of large norms is infinite
    return before / (before + after), after / (before + after)


def recover(
    prev_sd: Mapping[str, Tensor],
    next_sd: Mapping[str, Tensor] | None,
    w_prev: float = 1.0,
    w_next: float = 1.0,
    rule: Literal["grad", "uniform", "copy", "zero"] = "grad",
    *,
    eps: float = 0.0,
    outputs: Collection[str] = OUTPUTS,
    stage: int | None = None,
) -> dict[str, Tensor]:
    """State of a lost stage from the states of its neighbours (line 4 of Algorithm 1, with its misprint mended).

    Parameters
    ----------
    prev_sd : mapping of str to Tensor
        State of the stage before.
    next_sd : mapping of str to Tensor or None
        State of the stage after; None copies the one before, as twins do.
    w_prev, w_next : float
        Norms of their last gradients. Both 0, or one not finite: they count equally.
    rule : {"grad", "uniform", "copy", "zero"}
        Average by gradient norms; equal average; copy of the one before; that copy with its output projections zeroed, which makes
        a residual stage the identity.
    eps : float
        Added to both norms.
    outputs : collection of str
        Names of the layers whose weights ``"zero"`` zeroes.
    stage : int, optional
        Number of the lost stage, for messages.

    Returns
    -------
    dict of str to Tensor
        Real and complex tensors averaged, others and extra state copied from the stage before.

    Raises
    ------
    ValueError
        If the neighbours' states do not match, or ``"zero"`` finds no output projection.
    """
    as_choice(rule, "rule", ("grad", "uniform", "copy", "zero"))
    if next_sd is not None:
        same_shapes(prev_sd, next_sd, stage)
    added = as_real(eps, "eps", low=0)
    a, b = neighbour_weights(float(w_prev), float(w_next), rule, added)
    found = {k: copied(v) for k, v in prev_sd.items()}
    if next_sd is not None and b != 0:
        found |= {k: _mixed(a, v, b, next_sd[k]) for k, v in prev_sd.items() if averaged(v)}
    if rule == "zero":
        last = [k for k in found if len(parts := k.split(".")) > 1 and parts[-2] in outputs]
        if not last:
            raise ValueError(
                f"rule 'zero' needs output projections named {', '.join(outputs)}, got {', '.join(found)}"
            )
        for k in last:
            found[k].zero_()
    return found


def averaged(value: Any) -> bool:
    """Whether it has a mean: counters, masks and a module's extra state have none."""
    import torch

    return isinstance(value, torch.Tensor) and (value.is_floating_point() or value.is_complex())


def copied(value: Any) -> Any:
    """A tensor's clone, or a copy of a module's extra state."""
    import torch

    return value.clone() if isinstance(value, torch.Tensor) else copy.deepcopy(value)


def _mixed(a: float, v: Tensor, b: float, w: Tensor) -> Tensor:
    """a v + b w on v's device and of its kind; half precision is widened meanwhile."""
    import torch

    wide = torch.promote_types(v.dtype, torch.float32)
    return (a * v.to(wide) + b * w.to(v.device, wide)).to(v.dtype)


def same_shapes(
    prev_sd: Mapping[str, Tensor], next_sd: Mapping[str, Tensor], stage: int | None = None
) -> None:
    """Refuse, by name, neighbours whose states cannot be averaged.

    Raises
    ------
    ValueError
        With the first tensor that differs.
    """
    who = "a stage cannot be rebuilt from its neighbours"
    if stage is not None:
        who = f"stage {stage} cannot be rebuilt from stages {stage - 1} and {stage + 1}"
    if odd := set(prev_sd) ^ set(next_sd):
        raise ValueError(f"{who}: only one of them has {sorted(odd)[0]!r}")
    for k, v in prev_sd.items():
        here, there = (getattr(s, "shape", ()) for s in (v, next_sd[k]))
        if here != there:
            raise ValueError(f"{who}: {k!r} is {tuple(here)} vs {tuple(there)}")


def twin(stage: int, stages: int) -> int | None:
    """The stage that swaps places with this one in CheckFree+; None for inner stages."""
    return {0: 1, 1: 0, stages - 1: stages - 2, stages - 2: stages - 1}.get(stage)


def sources(stage: int, stages: int, mode: str, rule: str) -> tuple[int, ...]:
    """Stages that a lost one is rebuilt from: two neighbours, or one to copy, or none to start at random.

    Raises
    ------
    UnrecoverableStageError
        If the mode has nobody to stand in for it.
    """
    if mode == "none":
        raise UnrecoverableStageError(f"stage {stage} was lost, and mode='none' recovers nothing")
    if mode == "redundant":
        return ((stage - 1) % stages,)
    if mode == "checkfree" and stage in (0, stages - 1):
        end = "first" if stage == 0 else "last"
        raise UnrecoverableStageError(
            f"the {end} stage, {stage}, has one neighbour only and holds the model's end: use mode='checkfree+'"
        )
    if rule == "random":
        return ()
    other = twin(stage, stages) if mode == "checkfree+" else None
    if other is not None:
        return (other,)
    return (stage - 1,) if rule in ("copy", "zero") else (stage - 1, stage + 1)


def copies(stages: int, mode: str, tied: bool) -> dict[str, tuple[int, int]]:
    """Units of which another stage keeps a copy: name to (owner, keeper)."""
    kept: dict[str, tuple[int, int]] = {}
    if mode == "checkfree+":
        kept = {"embed": (0, 1), "head": (stages - 1, stages - 2)}
    elif mode == "redundant":
        kept = {str(i): (i, (i - 1) % stages) for i in range(stages)}
        kept |= {"embed": (0, stages - 1), "head": (stages - 1, stages - 2)}
    if tied:
        kept.pop("head", None)
    return kept


@dataclass(frozen=True)
class Transfer:
    """State that goes to `to`: from `sources` into its unit, exactly if from a copy; or from the owner into its copy."""

    unit: str
    to: int
    sources: tuple[int, ...]
    how: Literal["rebuild", "restore", "copy"]


@dataclass(frozen=True)
class Recovery:
    """What happened when stages were lost.

    Attributes
    ----------
    iteration : int
        The one that was repeated.
    stages : tuple of int
        Those that were lost together.
    how : str
        ``"rebuilt"``, ``"restored"`` exactly from copies, ``"random"`` or ``"rolled back"``.
    resumed : int
        Where training went on.
    sources : tuple of tuple of int
        For each lost stage, those that it was rebuilt from.
    norms : tuple of tuple of float
        Norms of their last gradients.
    detection, seconds : float
        From death to its notice, and to a pipeline that is ready again; 0 where nothing died.
    difference, spread : float or None
        With audit: largest difference of a rebuilt weight from the formula, and of its two sources
        from each other, in units of rounding: of the larger source's last digit.
    changed, compared : int or None
        With audit: surviving stages that changed by a bit since their last commit, of how many.
    ends_changed, ends_compared : int or None
        With audit: units restored from copies (embedding, head, redundant stages) that are not what
        their lost owner last committed, bit for bit, of how many.
    rule : str
        By which stages were rebuilt.
    ends : int
        Units restored from copies, compared or not.
    reason : str
        Why it could not be rebuilt from neighbours.
    """

    iteration: int
    stages: tuple[int, ...]
    how: str
    resumed: int
    sources: tuple[tuple[int, ...], ...] = ()
    norms: tuple[tuple[float, ...], ...] = ()
    detection: float = 0.0
    seconds: float = 0.0
    difference: float | None = None
    spread: float | None = None
    changed: int | None = None
    compared: int | None = None
    reason: str = ""
    ends_changed: int | None = None
    ends_compared: int | None = None
    rule: str = ""
    ends: int = 0


def plan(
    lost: Collection[int], stages: int, mode: str, rule: str, tied: bool = False
) -> list[Transfer]:
    """What is sent to whom after these stages were lost together.

    Neighbours must be older than the failure: one that was lost too cannot help.

    Raises
    ------
    UnrecoverableStageError
        If some stage cannot be rebuilt.
    """
    kept = copies(stages, mode, tied)
    found = []
    for stage in sorted(lost):
        from_whom = sources(stage, stages, mode, rule)
        if gone := [s for s in from_whom if s in lost]:
            raise UnrecoverableStageError(
                f"stages {gone[0]} and {stage} were lost together, and {stage} would be rebuilt from {gone[0]}"
            )
        found.append(
            Transfer(str(stage), stage, from_whom, "restore" if mode == "redundant" else "rebuild")
        )
    for name, (owner, keeper) in kept.items():
        if owner in lost and not name.isdigit():
            if keeper in lost:
                raise UnrecoverableStageError(
                    f"stages {keeper} and {owner} were lost together, and with them the {name}"
                )
            found.append(Transfer(name, owner, (keeper,), "restore"))
    found += [
        Transfer(name, keeper, (owner,), "copy")
        for name, (owner, keeper) in kept.items()
        if keeper in lost
    ]
    return found


def random_plan(
    lost: Collection[int], stages: int, mode: str, tied: bool = False
) -> list[Transfer]:
    """Every lost stage starts at random; embedding and head too, where no copy is left."""
    kept = copies(stages, mode, tied)
    found = [Transfer(str(stage), stage, (), "rebuild") for stage in sorted(lost)]
    for name, owner in {"embed": 0, "head": stages - 1}.items():
        if owner in lost and not (tied and name == "head"):
            keeper = kept.get(name, (owner, owner))[1]
            found.append(
                Transfer(
                    name,
                    owner,
                    () if keeper in lost else (keeper,),
                    "rebuild" if keeper in lost else "restore",
                )
            )
    found += [
        Transfer(name, keeper, (owner,), "copy")
        for name, (owner, keeper) in kept.items()
        if {owner, keeper} & set(lost)
    ]
    return found
