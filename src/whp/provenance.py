"""What this process made itself: the ground of every condition that holds *by construction*.

A condition may be answered *by construction* only for an object whose exact class is the library's
and that this very process drew. Attributes cannot show that, since a user's class can have them
all; so constructors that draw register the object here, by identity. A copy, an unpickled or loaded
object, a subclass, the child of a fork, or an object with a replaced method is not registered.
"""

from __future__ import annotations

import os
import weakref
from typing import Any

__all__ = ["forget", "made_here", "register"]

_made: dict[int, tuple[weakref.ref[Any], int, dict[str, Any]]] = {}


def register(made: Any, *frozen: str) -> None:
    """Note that this process drew `made`.

    Parameters
    ----------
    made : object
        Must be weakly referable.
    frozen : str
        Attributes that must remain the very same objects (arrays are made read-only), such as the
        rows of a sketch.
    """
    key = id(made)
    for name in frozen:
        value = getattr(made, name)
        if hasattr(value, "setflags"):
            value.setflags(write=False)
    _made[key] = (
        weakref.ref(made, lambda _: _made.pop(key, None)),
        os.getpid(),
        {name: getattr(made, name) for name in frozen},
    )


def forget(made: Any) -> None:
    """Take the mark off, because a caller's state was put into `made`."""
    _made.pop(id(made), None)


def made_here(made: Any, *classes: type) -> bool:
    """Whether `made` is exactly of one of `classes`, was drawn by this process and is unaltered."""
    entry = _made.get(id(made))
    if entry is None or type(made) not in classes:
        return False
    reference, pid, frozen = entry
    if reference() is not made or pid != os.getpid():
        return False
    if any(getattr(made, name, None) is not value for name, value in frozen.items()):
        return False
    own = getattr(made, "__dict__", {})
    return not any(callable(getattr(type(made), name, None)) for name in own)
