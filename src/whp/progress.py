"""A progress bar for whatever takes longer than two seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator, Iterable
from typing import TypeVar

__all__ = ["track"]

T = TypeVar("T")
PATIENCE = 2.0


def track(
    iterable: Iterable[T], description: str, total: int | None = None
) -> Generator[T, None, None]:
    """Iterate, with a bar on the error stream after two seconds if that is a terminal.

    Parameters
    ----------
    iterable : iterable
        What to go through.
    description : str
        What is being done, for the bar.
    total : int, optional
        Its length where it has none.
    """
    if not sys.stderr.isatty():
        yield from iterable
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    if total is None and hasattr(iterable, "__len__"):
        total = len(iterable)  # type: ignore[arg-type]
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    task = progress.add_task(description, total=total)
    start = time.monotonic()
    try:
        for item in iterable:
            yield item
            progress.advance(task)
            if time.monotonic() - start > PATIENCE:
                progress.start()
    finally:
        progress.stop()
