"""What others do: save to a directory every so many steps, at once or in the background. Baselines for measurements."""

from __future__ import annotations

import shutil
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.distributed.checkpoint.state_dict_saver import async_save, save

from whp.validate import as_choice

__all__ = ["DiskSaver"]

HOW = ("torch.save", "dcp.save", "async_save", "stager")


class DiskSaver:
    """Saves a state into a directory under a name that appears only when it is whole.

    Parameters
    ----------
    how : {"torch.save", "dcp.save", "async_save", "stager"}
        The last is ``async_save`` with torch's own stager in the background.
    directory : Path
    state : callable
        Gives the state.
    """

    def __init__(self, how: str, directory: Path, state: Callable[[], dict[str, Any]]) -> None:
        self.how, self.directory, self.state = as_choice(how, "how", HOW), directory, state
        options = StagingOptions(False, True, True, False)  # shared memory, in the background
        self.stager = DefaultStager(options) if how == "stager" else None
        self.pending: tuple[Any, Path] | None = None

    def start(self, step: int) -> float:
        """Save, or begin to; the seconds for which the caller was held up."""
        began = time.perf_counter()
        self.finish()
        draft = self.directory / f"{step:08d}.incomplete"
        draft.mkdir(parents=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if self.how == "torch.save":
                torch.save(self.state(), draft / "state.pt")
                self._publish(draft)
            elif self.how == "dcp.save":
                save(self.state(), checkpoint_id=draft)
                self._publish(draft)
            elif self.stager is None:
                self.pending = (async_save(self.state(), checkpoint_id=draft), draft)
            else:
                self.pending = (
                    async_save(self.state(), checkpoint_id=draft, async_stager=self.stager),
                    draft,
                )
        return time.perf_counter() - began

    def fence(self) -> float:
        """Wait until the state may change; the seconds it took."""
        began = time.perf_counter()
        if self.pending is not None and hasattr(self.pending[0], "staging_completion"):
            self.pending[0].staging_completion.result()
        return time.perf_counter() - began

    def finish(self) -> None:
        """Wait until what was begun is whole."""
        if self.pending is not None:
            future, draft = self.pending
            getattr(future, "upload_completion", future).result()
            self.pending = None
            self._publish(draft)

    def _publish(self, draft: Path) -> None:
        for old in self.directory.glob("[0-9]*"):
            if old != draft:
                shutil.rmtree(old)
        draft.rename(draft.with_suffix(""))

    def newest(self) -> Path | None:
        """The newest whole one."""
        return max((p for p in self.directory.glob("[0-9]*") if not p.suffix), default=None)

    def close(self) -> None:
        """Let go."""
        self.finish()
        if self.stager is not None:
            self.stager.close()
