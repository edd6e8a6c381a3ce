"""The objects whose state is kept: taking it, putting it back, and what of it a forward pass changes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from whp.distributed._in_memory_fault_tolerance.errors import StateMismatchError
from whp.distributed._in_memory_fault_tolerance.shards import Flat, compare, flatten, unflatten

__all__ = ["apply", "changing", "checked", "collect", "load", "schedules", "shape_of"]

RUNNING = ("running_mean", "running_var", "num_batches_tracked")  # as torch's norms name them


def checked(state: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping, if all of it can be kept.

    Raises
    ------
    TypeError
        If something has no state that could be taken; the message names it.
    """
    if not isinstance(state, Mapping) or not state:
        raise TypeError("state must be a mapping of names to what is to be saved, and not empty")
    for name, thing in state.items():
        if not isinstance(name, str):
            raise TypeError(f"state must have names as keys, got {name!r}")
        pair = isinstance(thing, tuple) and len(thing) == 2 and all(callable(f) for f in thing)
        if not (
            pair
            or isinstance(thing, Tensor)
            or (hasattr(thing, "state_dict") and hasattr(thing, "load_state_dict"))
        ):
            raise TypeError(
                f"state[{name!r}] must be a tensor, have state_dict and load_state_dict, or be a (getter, setter) pair, "
                f"got {type(thing).__name__}"
            )
    return dict(state)


def collect(objects: Mapping[str, Any]) -> dict[str, Any]:
    """Their state, as nested dicts."""
    found: dict[str, Any] = {}
    for name, thing in objects.items():
        if isinstance(thing, Tensor):
            found[name] = thing
        elif isinstance(thing, tuple):
            found[name] = thing[0]()
        else:
            found[name] = thing.state_dict()
    return found


def apply(objects: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Put a state back."""
    for name, thing in objects.items():
        if isinstance(thing, Tensor):
            with torch.no_grad():
                thing.copy_(state[name])
        elif isinstance(thing, tuple):
            thing[1](state[name])
        else:
            thing.load_state_dict(state[name])


def changing(objects: Mapping[str, Any], flat: Flat) -> set[int]:
    """Storages that a forward pass writes, so that they cannot be copied while one runs.

    Buffers of modules, and of state dicts that come without their module, running statistics by their names.
    """
    modules = [thing for thing in objects.values() if isinstance(thing, nn.Module)]
    known = {
        b.untyped_storage().data_ptr()
        for module in modules
        for b in module.buffers()
        if b.layout is torch.strided
    }
    return known | {
        e.tensor.untyped_storage().data_ptr()
        for e in flat.extents
        if e.name.rpartition(".")[2] in RUNNING
    }


def schedules(objects: Mapping[str, Any]) -> tuple[int, ...]:
    """How often each scheduler of learning rates was stepped."""
    return tuple(
        getattr(thing, "last_epoch", -1)  # one that only chains others counts no steps itself
        for thing in objects.values()
        if isinstance(thing, torch.optim.lr_scheduler.LRScheduler)
    )


def shape_of(objects: Mapping[str, Any]) -> str:
    """Digest of names, types and shapes of what is there from the beginning; optimizers make their state later."""
    fixed = {
        name: thing.state_dict() if isinstance(thing, nn.Module) else thing
        for name, thing in objects.items()
        if isinstance(thing, nn.Module | Tensor)
    }
    entries = [[e[0], e[1], e[2]] for e in flatten(fixed).manifest] if fixed else []
    return hashlib.sha256(json.dumps([sorted(objects), sorted(entries)]).encode()).hexdigest()[:8]


def load(objects: Mapping[str, Any], stream: np.ndarray, head: Mapping[str, Any]) -> bool:
    """Fill the objects, and whether they then have the bytes of the stream.

    Raises
    ------
    StateMismatchError
        If the stream is of other objects; nothing is filled then.
    """
    lazy = tuple(
        f"{name}.state." for name, thing in objects.items() if hasattr(thing, "param_groups")
    )
    compare(head["manifest"], flatten(collect(objects)).manifest, lazy)
    if new := sorted(set(objects) - set(head["plain"])):
        raise StateMismatchError(
            f"the saved state is another's: {', '.join(new[:3])} present and not saved"
        )
    state = unflatten(stream, head["manifest"], head["plain"])
    # Before it is handed out: objects keep what they are given, and some take it apart (CyclicLR).
    expected = flatten(state)
    plain, one = _settled(expected.plain), expected.stream()
    apply(objects, state)
    loaded = flatten(collect(objects))
    if plain != _settled(loaded.plain):
        return False
    if expected.fingerprint == loaded.fingerprint:
        return bool(np.array_equal(one, loaded.stream()))
    wanted, found = ({e[0]: e for e in flat.manifest} for flat in (expected, loaded))
    two = loaded.stream()
    return wanted.keys() == found.keys() and all(
        torch.equal(_bits(one, wanted[name]), _bits(two, found[name])) for name in wanted
    )


def _settled(plain: Any) -> str:
    """Plain data as a text that is the same for what is equal: lists and tuples, orders of keys, 1 and 1.0."""

    def plainer(value: Any) -> Any:
        if isinstance(value, list):
            return [plainer(v) for v in value]
        if type(value) is int and abs(value) < 1 << 53:
            return float(value)
        if not isinstance(value, dict):
            return value
        kind = value.get("%")
        if kind == "tensor":  # compared as bytes
            return "tensor"
        if kind == "tuple":
            return plainer(value["is"])
        if kind in ("dict", "ordered"):
            pairs = [(json.dumps(plainer(k)), plainer(v)) for k, v in value["is"]]
            return dict(sorted(pairs))
        return {json.dumps(k): plainer(v) for k, v in value.items()}

    return json.dumps(plainer(plain), sort_keys=True)


def _bits(stream: np.ndarray, entry: list[Any]) -> Tensor:
    tensor: Tensor = unflatten(stream, [entry], {"it": {"%": "tensor", "at": 0}})["it"]
    return tensor.contiguous().view(-1).view(torch.uint8) if tensor.numel() else tensor
