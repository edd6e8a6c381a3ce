"""What this process made itself: the ground of every condition that holds *by construction*.

A condition may be answered *by construction* only for an object whose exact class is the library's
and that this very process drew. Attributes cannot show that, since a user's class can have them
all; so constructors that draw register the object here, by identity. A copy, an unpickled or loaded
object, a subclass, the child of a fork, or an object with a replaced method is not registered.
"""

from __future__ import annotations

import hashlib
import os
import weakref
from functools import cache
from typing import Any

import numpy as np

__all__ = ["forget", "made_here", "plain_generator", "register"]

_made: dict[int, tuple[weakref.ref[Any], int, dict[str, Any], dict[str, bytes]]] = {}


def plain_generator(rng: Any) -> bool:
    """Whether draws from `rng` are numpy's own: a seed, None, or a Generator over one of its bit generators."""
    if rng is None or isinstance(rng, int | np.integer):
        return True
    bits = getattr(rng, "bit_generator", None)
    own = getattr(np.random, type(bits).__name__, None) is type(bits)
    return type(rng) is np.random.Generator and own


def register(made: Any, *frozen: str) -> None:
    """Note that this process drew `made`.

    Parameters
    ----------
    made : object
        Must be weakly referable.
    frozen : str
        Attributes that must remain what they are, such as the rows of a sketch: the very same
        objects, and arrays (also in tuples) with the same entries. Arrays are made read-only.
    """
    key = id(made)
    values = {name: getattr(made, name) for name in frozen}
    for value in values.values():
        for array in _arrays(value):
            array.setflags(write=False)
    _made[key] = (
        weakref.ref(made, lambda _: _made.pop(key, None)),
        os.getpid(),
        values,
        {
            name: _digest(value)
            for name, value in values.items()
            if isinstance(value, tuple | list) or _arrays(value)  # others have no entries to change
        },
    )


def forget(made: Any) -> None:
    """Take the mark off, because a caller's state was put into `made`."""
    _made.pop(id(made), None)


def made_here(made: Any, *classes: type) -> bool:
    """Whether `made` is exactly of one of `classes`, was drawn by this process and is unaltered."""
    entry = _made.get(id(made))
    if entry is None or type(made) not in classes:
        return False
    reference, pid, frozen, digests = entry
    if reference() is not made or pid != os.getpid():
        return False
    for name, value in frozen.items():
        if getattr(made, name, None) is not value:
            return False
    if any(_digest(frozen[name]) != digest for name, digest in digests.items()):
        return False
    return _methods(type(made)).isdisjoint(getattr(made, "__dict__", ()))


@cache  # asked at every record of a stream
def _methods(made: type) -> frozenset[str]:
    """Names that an instance must not have of its own."""
    return frozenset(name for name in dir(made) if callable(getattr(made, name, None)))


def _arrays(value: Any) -> list[np.ndarray]:
    if isinstance(value, tuple | list):
        return [array for part in value for array in _arrays(part)]
    if hasattr(value, "columns") and hasattr(value, "to_numpy"):  # a table: names and columns
        return [np.asarray(value.columns, str), *(np.asarray(value[c]) for c in value.columns)]
    return [value] if isinstance(value, np.ndarray) else []


def _digest(value: Any) -> bytes:
    """Of the entries of all arrays in `value`: a read-only flag can be taken off again."""
    digest = hashlib.blake2b(digest_size=16)
    for array in _arrays(value):
        digest.update(np.ascontiguousarray(array).data)
    return digest.digest()
