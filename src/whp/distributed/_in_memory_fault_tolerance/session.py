"""A run as one of its ranks knows it: name, ranks, code, keeper, and which versions there are."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from whp.distributed._in_memory_fault_tolerance.client import SMP
from whp.distributed._in_memory_fault_tolerance.codes import ErasureGroup
from whp.distributed._in_memory_fault_tolerance.collectives import Group
from whp.distributed._in_memory_fault_tolerance.stats import Stats

__all__ = ["Session"]


@dataclass(eq=False)
class Session:
    """What a guard and its recovery share.

    Parameters
    ----------
    run : str
        Name of the run.
    ranks : Group
        Who trains.
    code : ErasureGroup
        How shards are protected.
    directory : Path
        A memory file system.
    host : str
        Address on which keepers listen to each other.
    linger : float
        Seconds after which a keeper that no trainer comes back to ends.
    verify, sharded : bool
        Check checksums before a version is restored; each rank has a state of its own.
    persist : dict, optional
        Directory and period of the slow tier.
    about : dict
        Script and arguments of this process.
    keepers : list of int
        Process numbers of all members' keepers, as last agreed.
    next_version, committed, flying : int
        Number of the next version, and of those that are committed and under way (0: none).
    """

    run: str
    ranks: Group
    code: ErasureGroup
    directory: Path
    host: str
    linger: float
    verify: bool
    sharded: bool
    persist: dict[str, Any] | None
    about: dict[str, Any]
    stats: Stats
    smp: SMP | None = None
    token: str = ""
    keepers: list[int] = field(default_factory=list)
    next_version: int = 1
    committed: int = 0
    flying: int = 0

    @property
    def rank(self) -> int:
        """Number of this rank."""
        return self.ranks.rank

    @property
    def n(self) -> int:
        """Number of ranks."""
        return self.ranks.size

    @property
    def keeper(self) -> SMP:
        """The connection to this member's keeper."""
        assert self.smp is not None
        return self.smp
