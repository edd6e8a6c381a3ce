"""What a restore may refuse; without torch, so that the launcher knows them too."""

from __future__ import annotations

__all__ = ["RunInUseError", "StateMismatchError", "UnrecoverableError"]


class UnrecoverableError(RuntimeError):
    """More is lost than the code survives, and there is nothing on disk."""


class RunInUseError(RuntimeError):
    """Another living process holds the memory of this run; the message has its number."""


class StateMismatchError(ValueError):
    """What is held is not of the objects that are to be filled."""
