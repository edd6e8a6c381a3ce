"""State of a mechanism on disk: there before an answer leaves, and never continued twice.

The state is secret (exact sums and noise) and readable by its owner alone. Beside it a ledger remembers how far the stream was
answered; a state from a backup that is behind the ledger is refused, for its noise would be drawn anew.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from whp.privacy._dp_continual_release.mechanisms import Mechanism

__all__ = ["StateFile"]


class StateFile:
    """Where a mechanism's state is kept.

    Parameters
    ----------
    path : Path
        Of the state; the ledger and the lock lie beside it.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.ledger = self.path.with_name(self.path.name + ".ledger")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the state against other processes.

        Raises
        ------
        RuntimeError
            If another process holds it.
        """
        import fcntl

        handle = os.open(
            self.path.with_name(self.path.name + ".lock"), os.O_CREAT | os.O_RDWR, 0o600
        )
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RuntimeError(
                    f"{self.path}: another process is answering this stream"
                ) from None
            yield
        finally:
            os.close(handle)

    def save(self, mechanism: Mechanism, answers: np.ndarray) -> None:
        """Write state and the answers that are about to leave; both are there whole, or as they were."""
        state = mechanism.state_dict()
        inner = state.pop("inner")
        carried = state.pop("carried")
        header = {"settings": settings(mechanism), **state}
        arrays = {f"inner_{k}": v for k, v in inner.items()}
        stage = self.path.with_name(self.path.name + ".new")
        handle = os.open(stage, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as file:
            np.savez(
                file,
                header=np.array(json.dumps(header)),
                carried=carried,
                answers=answers,
                **arrays,
            )
            file.flush()
            os.fsync(file.fileno())
        os.replace(stage, self.path)
        self._write_ledger(mechanism.identity, mechanism.t)

    def _write_ledger(self, identity: str, t: int) -> None:
        known = self._read_ledger()
        known[identity] = max(t, known.get(identity, 0))
        stage = self.ledger.with_name(self.ledger.name + ".new")
        handle = os.open(stage, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w") as file:
            json.dump(known, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(stage, self.ledger)

    def _read_ledger(self) -> dict[str, int]:
        try:
            return {str(k): int(v) for k, v in json.loads(self.ledger.read_text()).items()}
        except FileNotFoundError:
            return {}
        except (ValueError, AttributeError, TypeError) as error:
            raise ValueError(
                f"{self.ledger}: it is damaged: {error}; without it no state can be continued"
            ) from error

    def load(self, mechanism: Mechanism) -> np.ndarray:
        """Continue a mechanism; the answers that were about to leave when the state was written are returned.

        Raises
        ------
        ValueError
            If the file is damaged or was written with other settings.
        RuntimeError
            If the stream was already answered further than this state.
        """
        try:
            with np.load(self.path, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            header: dict[str, Any] = json.loads(str(arrays.pop("header")))
            answers, carried = arrays.pop("answers"), arrays.pop("carried")
            told = header.pop("settings")
        except (OSError, EOFError, BadZipFile, ValueError, KeyError, AttributeError) as error:
            raise ValueError(f"{self.path}: not a state of a private stream: {error}") from error
        if told != settings(mechanism):
            differ = [k for k, v in settings(mechanism).items() if told.get(k) != v]
            raise ValueError(
                f"{self.path}: it was written with another {', '.join(differ) or 'setting'}"
            )
        answered = self._read_ledger().get(str(header.get("identity")), 0)
        if answered > int(header.get("t", 0)):
            raise RuntimeError(f"state at t={header['t']} was already continued to t={answered}")
        inner = {name.removeprefix("inner_"): a for name, a in arrays.items()}
        mechanism.load_state_dict({**header, "carried": carried, "inner": inner})
        return answers


def settings(mechanism: Mechanism) -> dict[str, Any]:
    """What two runs must agree on to be one stream."""
    plan = mechanism.base
    return {
        "query": plan.query,
        "strategy": plan.strategy,
        "T": plan.T,
        "columns": plan.d,
        "budget": str(plan.budget),
        "max_ones": plan.max_ones,
        "neighbours": plan.neighbours,
        "horizon": mechanism.horizon,
    }
