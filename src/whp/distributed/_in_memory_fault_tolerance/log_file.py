"""A table of failures, one a row, as a :class:`FailureLog`."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from whp.distributed._in_memory_fault_tolerance.failure_log import FailureLog
from whp.io.tables import open_table, unknown

__all__ = ["read_log", "seconds"]

MILLISECONDS = 1e11  # as seconds the year 5138, as milliseconds 1973
COMPACT = re.compile(r"(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])")


def seconds(text: str, what: str) -> float:
    """A moment, an ISO date with or without a time or a number of seconds, in seconds.

    Raises
    ------
    ValueError
        If it is neither, or so large that it counts milliseconds; the message has it.
    """
    try:
        number = float(text)
    except ValueError:
        pass
    else:
        if abs(number) >= MILLISECONDS:
            raise ValueError(
                f"{what} must be in seconds, got {text}, which looks like milliseconds"
            )
        return number
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(
            f"{what} must be a date such as 2025-01-31T12:00 or a number of seconds, got {text!r}"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def read_log(
    path: Path, *, nodes: int, window: float, start: str | None, stop: str | None, groups: int = 1
) -> FailureLog:
    """Columns ``time`` and ``node``, and if they are there ``rack`` and ``group``.

    Parameters
    ----------
    path : Path
        csv, tsv, jsonl or parquet.
    nodes : int
        Members of a group; nodes that never failed are not in the file.
    window : float
        Length of a window in seconds: twice the time from a loss until it is rebuilt, since losses less than that time
        apart may lie on both sides of a border between two windows.
    start, stop : str
        The time that was watched.
    groups : int
        How many groups there are; groups that never failed are not in the file.

    Raises
    ------
    ValueError
        If the time that was watched is not given, a column or a cell is missing, a group has more nodes than `nodes`, or a
        node is in two racks.
    """
    if start is None or stop is None:
        raise ValueError(
            f"{path.name} has failures only; give the time that was watched (--from, --to): survival counts windows without a "
            "failure, too"
        )
    for name, bound in (("--from", start), ("--to", stop)):
        if COMPACT.fullmatch(bound.strip()):
            day = f"{bound[:4]}-{bound[4:6]}-{bound[6:]}"
            raise ValueError(
                f"{name} must not be {bound}, which is a date or as many seconds; write {day}, or {bound}.0 for seconds"
            )
    table = open_table(path)
    names = list(table.names)
    for column in ("time", "node"):
        if column not in names:
            raise ValueError(unknown(column, names))
    wanted = [c for c in ("time", "node", "rack", "group") if c in names]
    loaded = table.load(dict.fromkeys(wanted, "ids"))
    columns = {
        name: ["" if v is None else str(v).strip() for v in loaded[name].strings()]
        for name in wanted
    }
    for name in ("time", "node", "group"):
        if "" in columns.get(name, ()):
            raise ValueError(f"{path.name}: {name} is missing in row {columns[name].index('') + 1}")
    times = [seconds(t, f"{path.name}: time in row {i + 1}") for i, t in enumerate(columns["time"])]
    of = columns.get("group") or [""] * len(times)
    # A node is one of its group: "rank0" of two groups are two nodes.
    named = [f"{group}\0{node}" for group, node in zip(of, columns["node"], strict=True)]
    members: dict[str, list[str]] = {}
    for name, group in zip(named, of, strict=True):
        known = members.setdefault(group, [])
        if name not in known:
            known.append(name)
    most = max((len(known) for known in members.values()), default=0)
    if most > nodes:
        raise ValueError(
            f"nodes must be as many as a group has, got {nodes}, and {path.name} has {most} nodes in one group; a column "
            "`group` tells groups apart"
        )
    if len(members) > groups:
        raise ValueError(f"groups must be {len(members)} at least, got {groups}")
    full = [
        [*known, *(f"\0\0{g}.{i}" for i in range(nodes - len(known)))]
        for g, known in enumerate(members.values())
    ]
    full += [[f"\0\0{g}.{i}" for i in range(nodes)] for g in range(len(full), groups)]
    racks = columns.get("rack")
    in_rack: dict[str, str] = {}
    for name, rack in zip(named, racks or [], strict=False):
        if rack and in_rack.setdefault(name, rack) != rack:
            shown = name.partition("\0")[2]
            raise ValueError(
                f"{path.name}: node {shown} is in racks {in_rack[name]} and {rack}; one of them decides with whom it goes"
            )
    return FailureLog.from_events(
        list(np.asarray(times, float)),
        named,
        full,
        window=window,
        start=seconds(start, "--from"),
        stop=seconds(stop, "--to"),
        racks=in_rack,
    )
