"""The keeper of memory: a process of its own that holds a member's copies and parity, and survives the trainer.

``python -m whp.distributed._in_memory_fault_tolerance.keeper`` is started detached, with numpy alone. It serves its
trainer over a Unix socket and the other keepers over TCP. A buffer goes EMPTY → DIRTY(v) → COPIED(v) → ENCODED(v) → COMMITTED(v); a
version is committed when the lowest live keeper has heard ENCODED from all. At every instant all live keepers hold a common version
that is at least ENCODED, so recovery takes the newest such: a COMMIT that got lost half-way does no harm.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from whp.distributed._in_memory_fault_tolerance import persistence, rebuilding
from whp.distributed._in_memory_fault_tolerance.codes import ErasureGroup
from whp.distributed._in_memory_fault_tolerance.holding import Holding
from whp.distributed._in_memory_fault_tolerance.memory import Slot, State, room_for
from whp.distributed._in_memory_fault_tolerance.wire import Channel, Kind, WireError, greeted

__all__ = ["Keeper", "main"]

CHUNK = 1 << 20
PATIENCE = 60.0
LOCAL_ONLY = {
    Kind.ALLOC,
    Kind.BEGIN,
    Kind.COPIED,
    Kind.PEERS,
    Kind.REBUILD,
    Kind.DROP,
    Kind.HOLD,
    Kind.BYE,
}


def stand_back() -> None:
    """Let the trainer go before this thread, which encodes; questions of the trainer are answered at once."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 5)


class Keeper(Holding):
    """One member's memory and its answers to messages.

    Parameters
    ----------
    run, member, directory, token
        Which run and member, where its files go, and the run's secret.
    linger : float
        Seconds without a trainer after which it unlinks its memory and ends.
    replaces : bool
        A keeper of this member had versions and died: what it held is lost until a version is committed again.
    about : dict
        What its trainer said of itself: script and arguments.
    """

    def __init__(
        self,
        run: str,
        member: int,
        directory: Path,
        token: str,
        linger: float = 3600.0,
        *,
        replaces: bool = False,
        about: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(run, member, directory, token)
        self.linger, self.replaces, self.about = linger, replaces, about or {}
        self.encoded: dict[int, set[int]] = {}
        self.held = False
        self.trainer: Channel | None = None
        self.trainer_pid = 0
        self.last_seen = time.monotonic()
        self.timings: dict[str, float] = {}
        self.begun_at: dict[int, int] = {}
        self.port = 0
        self._said = b""

    # A version's way

    def _advance(self, slot: Slot) -> None:
        """COPIED becomes ENCODED when all blocks and all headers are there."""
        if (
            slot.state is not State.COPIED
            or len(slot.heads) < self.group.n
            or slot.arrived < self._expected(slot)
        ):
            return
        slot.seal()
        slot.state = State.ENCODED
        version = slot.version
        self.timings["encoded"] = time.time()
        self.changed.notify_all()
        threading.Thread(target=self._tell_encoded, args=(version,), daemon=True).start()

    def _tell_encoded(self, version: int) -> None:
        for coordinator in range(self.group.n):  # the lowest that lives
            if coordinator == self.member:
                self.on_encoded({"version": version, "member": self.member})
                return
            if self.tell(coordinator, Kind.ENCODED, {"version": version, "member": self.member}):
                return

    def on_alloc(self, said: dict[str, Any]) -> dict[str, Any]:
        """Both buffers, before the first snapshot needs them."""
        with self.changed:
            self.group = ErasureGroup(said["n"], said["m"], said["codec"])
            self.persist = said.get("persist") or {}
            size = said["length"] + self.group.m * self.group.block_length(said["length"])
            empty = [s for s in self.slots if s.state is State.EMPTY and s.length != said["length"]]
            if size:
                room_for(self.directory, len(empty), size)
                for slot in empty:
                    slot.fit(said["length"], self.group)
            files = [
                [str(slot.path), len(slot.bytes)] for slot in self.slots if slot.path is not None
            ]
        if (
            self.group.m > 1 and said["length"] and self.group.codec != "replica"
        ):  # load compiled code before it is needed
            words = np.zeros(
                min(CHUNK, self.group.block_length(said["length"])) // 8, dtype=np.uint64
            )
            threading.Thread(
                target=self.group.add, args=(words, words.copy(), 3), daemon=True
            ).start()
        return {"files": files}

    def on_begin(self, said: dict[str, Any]) -> dict[str, Any]:
        """The buffer that is not committed is written from now on."""
        with self.changed:
            version = said["version"]
            if version <= self.floor:
                raise WireError(f"version {version} is older than {self.floor}")
            slot = next((s for s in self.slots if s.state is State.EMPTY), None)
            if slot is None:
                raise WireError("both buffers are in use: commit or drop a version first")
            if slot.length != said["length"]:
                slot.clear()
                room_for(
                    self.directory,
                    1,
                    said["length"] + self.group.m * self.group.block_length(said["length"]),
                )
            slot.fit(said["length"], self.group)
            slot.begin(version)
            self.mark["begun"] += 1
            self.begun_at = {version: time.monotonic_ns()}
            self.changed.notify_all()
            return {"path": str(slot.path), "size": len(slot.bytes)}

    def on_copied(self, said: dict[str, Any]) -> dict[str, Any]:
        """The trainer has written; encode it while it trains on."""
        with self.changed:
            slot = self.slot_of(said["version"])
            if slot is None or slot.state is not State.DIRTY:
                raise WireError(f"version {said['version']} is not being written")
            slot.heads[self.member] = said["header"]
            slot.state = State.COPIED
            self.timings["copied"] = time.time()
            self.changed.notify_all()
        threading.Thread(target=self._spread, args=(slot, said["version"]), daemon=True).start()
        return {}

    def _spread(self, slot: Slot, version: int) -> None:
        """Send each block to the members that keep parity of its stripe, and the header to all."""
        stand_back()
        with self.changed:
            self.changed.wait_for(lambda: not self.held or self.floor >= version)
            if slot.version != version:
                return
            head = {"version": version, "member": self.member, "header": slot.heads[self.member]}
        good = self.shout(Kind.HEAD, head)
        for j, stripe in enumerate(
            [self.member] if self.group.codec == "replica" else self.group.data_stripes(self.member)
        ):
            for row in range(self.group.m):
                to = (stripe + row + (self.group.codec == "replica")) % self.group.n
                for start in range(0, slot.block, CHUNK):
                    if not good or slot.version != version:
                        break
                    block = slot.data[
                        j * slot.block + start : j * slot.block + min(start + CHUNK, slot.block)
                    ]
                    said = {
                        "version": version,
                        "stripe": stripe,
                        "row": row,
                        "at": start,
                        "member": self.member,
                    }
                    good = self.tell(to, Kind.BLOCK, said, block)
        with self.changed:
            if not good and slot.version == version and not slot.state.whole:
                slot.clear()
                self.floor = max(self.floor, version)
            elif slot.version == version:
                self._advance(slot)
            self.changed.notify_all()

    def _awaited(self, version: int) -> Slot | None:
        """The buffer of a version that others may have begun before our trainer did."""
        with self.changed:
            self.changed.wait_for(
                lambda: self.slot_of(version) is not None or self.floor >= version, PATIENCE
            )
            return self.slot_of(version)

    def on_block(self, said: dict[str, Any], block: memoryview) -> None:
        """Add a piece of another member's block to our parity."""
        slot = self._awaited(said["version"])
        if slot is None:
            return
        row, start = said["row"], said["at"]
        factor = 1
        if self.group.codec != "replica":
            factor = int(
                self.group.matrix[row, self.group.data_nodes(said["stripe"]).index(said["member"])]
            )
        with slot.rows[row]:
            if slot.version != said["version"]:
                return
            to = slot.parity(row)[start : start + len(block)]
            words = np.frombuffer(block, dtype=np.uint8)
            if len(to) % 8 == 0:
                self.group.add(to.view(np.uint64), words.view(np.uint64), factor)
            else:
                self.group.add(
                    to, words, factor
                )  # only whole copies have such lengths, and their factor is 1
        with self.changed:
            if slot.version == said["version"]:
                slot.arrived += len(block)
                self._advance(slot)

    def on_head(self, said: dict[str, Any]) -> None:
        """Another member's header."""
        slot = self._awaited(said["version"])
        with self.changed:
            if slot is not None and slot.version == said["version"]:
                slot.heads[said["member"]] = said["header"]
                self._advance(slot)

    def on_encoded(self, said: dict[str, Any]) -> None:
        """As the coordinator: commit when all have said so."""
        with self.changed:
            have = self.encoded.setdefault(said["version"], set())
            have.add(said["member"])
            if len(have) < self.group.n:
                return
            self.encoded = {v: s for v, s in self.encoded.items() if v > said["version"]}
        self.on_commit(said)
        self.shout(Kind.COMMIT, {"version": said["version"]})

    def on_commit(self, said: dict[str, Any]) -> dict[str, Any]:
        """All hold the version: the older buffer may be written again."""
        version = said["version"]
        with self.changed:
            slot = self.slot_of(version)
            if slot is None or slot.state is not State.ENCODED:
                return {}
            slot.state = State.COMMITTED
            self.timings["committed"] = time.time()
            self.floor = max(self.floor, version)
            self.replaces = False
            self.mark["committed"] += 1
            if version in self.begun_at:
                lag = time.monotonic_ns() - self.begun_at.pop(version)
                self.mark["longest_lag"] = max(self.mark["longest_lag"], lag)
            for other in self.slots:
                if other is not slot and other.version < version:
                    other.clear()
            self.changed.notify_all()
        every = self.persist.get("every")
        if every and version % every == 0:
            threading.Thread(target=persistence.write, args=(self, version), daemon=True).start()
        return {}

    def on_drop(self, said: dict[str, Any]) -> dict[str, Any]:
        """Keep one version (0: none), as committed, and forget the others and all up to `floor`; with ``fresh`` the past too."""
        with self.changed:
            self.floor = max(self.floor, said["floor"])
            if said.get("fresh"):
                self.replaces = False
                self.mark.clear()
            for slot in self.slots:
                if slot.version != said["keep"] or not slot.state.whole:
                    slot.clear()
                else:
                    slot.state = State.COMMITTED
            self.encoded.clear()
            self.changed.notify_all()
        return {}

    # What others want to know

    def on_query(self, said: dict[str, Any]) -> dict[str, Any]:
        """Versions, states, and with ``verify`` the blocks that are damaged."""
        held = []
        for slot in self.slots:
            if slot.state is State.EMPTY:
                continue
            bad = (
                slot.damaged(self.member, self.parts)
                if said.get("verify") and slot.state.whole
                else []
            )
            step = slot.heads.get(self.member, {}).get("step", -1)
            held.append(
                {
                    "version": slot.version,
                    "state": str(slot.state),
                    "bad": bad,
                    "step": step,
                    "path": str(slot.path),
                    "size": len(slot.bytes),
                    "length": slot.length,
                }
            )
        return {
            "held": held,
            "floor": self.floor,
            "pid": os.getpid(),
            "member": self.member,
            "n": self.group.n,
            "m": self.group.m,
            "port": self.port,
            "trainer": self.trainer is not None,
            "allocated": sum(len(slot.bytes) for slot in self.slots),
            "trainer_pid": self.trainer_pid,
            "replaces": self.replaces,
            "about": self.about,
            "mark": {"path": str(self.mark.path), **self.mark.all()},
            "timings": self.timings,
            "disk_fault": self.disk_fault,
        }

    def on_fetch(self, said: dict[str, Any]) -> np.ndarray:
        """A piece of a block of data ("d") or parity ("p")."""
        with self.changed:
            slot = self.slot_of(said["version"])
            if slot is None or not slot.state.whole:
                raise WireError(f"member {self.member} does not hold version {said['version']}")
            size = slot.length // self.parts
            whole = (
                slot.data[said["index"] * size : (said["index"] + 1) * size]
                if said["what"] == "d"
                else slot.parity(said["index"])
            )
        return whole[said["at"] : said["at"] + said["size"]].copy()

    def on_heads(self, said: dict[str, Any]) -> dict[str, Any]:
        """All members' headers of a version."""
        slot = self.slot_of(said["version"])
        if slot is None:
            raise WireError(f"member {self.member} does not hold version {said['version']}")
        return {"heads": {str(member): head for member, head in slot.heads.items()}}

    def on_hold(self, said: dict[str, Any]) -> dict[str, Any]:
        """Stop before encoding, or go on."""
        with self.changed:
            self.held = bool(said["on"])
            self.changed.notify_all()
        return {}

    def on_rebuild(self, said: dict[str, Any]) -> dict[str, Any]:
        """Make the lost blocks of this member anew."""
        made = rebuilding.rebuild(
            self, said["version"], {int(i): lost for i, lost in said["lost"].items()}
        )
        self.replaces = False
        return made

    def on_persisted(self, said: dict[str, Any]) -> None:
        """A member's part is on disk; with all parts the version is published."""
        persistence.publish(self, said["version"], said["member"])

    # Serving

    def serve(self, sock: socket.socket, local: bool) -> None:
        """Answer one connection until it ends."""
        if not local:
            stand_back()
        channel = Channel(sock)
        trainer = False
        try:
            who = greeted(channel, self.token)
            if who is None:
                return
            trainer = local and who.get("role") == "trainer"
            if trainer and not self._admit(channel, int(who.get("pid", 0))):
                why = f"process {self.trainer_pid} trains under run {self.run}"
                channel.send(Kind.REFUSED, {"why": why, "pid": self.trainer_pid})
                return
            channel.send(Kind.OK)
            buffer = bytearray(CHUNK)
            while True:
                kind, said, payload = channel.receive(buffer)
                self._answer(channel, kind, said, payload, local)
        except (EOFError, OSError):
            pass
        except Exception:
            traceback.print_exc()
        finally:
            channel.close()
            if trainer:
                self._trainer_left(channel)

    def _admit(self, channel: Channel, pid: int) -> bool:
        with self.changed:  # a killed trainer's connection ends a moment before its successor comes
            if not self.changed.wait_for(lambda: self.trainer is None, 2.0):
                return False
            self.trainer, self.trainer_pid = channel, pid
            return True

    def _trainer_left(self, channel: Channel) -> None:
        with self.changed:
            if self.trainer is channel:
                self.trainer, self.trainer_pid = None, 0
                self.last_seen = time.monotonic()
                for begun in self.begun_at.values():  # it has taken so long at least
                    open_lag = time.monotonic_ns() - begun
                    self.mark["longest_lag"] = max(self.mark["longest_lag"], open_lag)
                for slot in self.slots:
                    if slot.state is State.DIRTY:  # what was half written never happened
                        self.floor = max(self.floor, slot.version)
                        slot.clear()
                self.changed.notify_all()

    def _answer(
        self, channel: Channel, kind: Kind, said: dict[str, Any], payload: memoryview, local: bool
    ) -> None:
        silent: dict[Kind, Callable[[], None]] = {
            Kind.BLOCK: lambda: self.on_block(said, payload),
            Kind.HEAD: lambda: self.on_head(said),
            Kind.ENCODED: lambda: self.on_encoded(said),
            Kind.PERSISTED: lambda: self.on_persisted(said),
        }
        if kind in silent:
            silent[kind]()
            return
        if kind is Kind.COMMIT and not local:
            self.on_commit(said)
            return
        try:
            if kind in LOCAL_ONLY and not local:
                raise WireError(f"{kind.name} is for the trainer of this member")
            if kind is Kind.FETCH:
                channel.send(Kind.OK, {}, self.on_fetch(said))
                return
            if kind is Kind.BYE:
                self.unlink()
                channel.send(Kind.OK)
                os._exit(0)
            answers: dict[Kind, Callable[[dict[str, Any]], dict[str, Any]]] = {
                Kind.ALLOC: self.on_alloc,
                Kind.BEGIN: self.on_begin,
                Kind.COPIED: self.on_copied,
                Kind.COMMIT: self.on_commit,
                Kind.QUERY: self.on_query,
                Kind.HEADS: self.on_heads,
                Kind.PEERS: self.on_peers,
                Kind.DROP: self.on_drop,
                Kind.HOLD: self.on_hold,
                Kind.REBUILD: self.on_rebuild,
            }
            if kind not in answers:
                raise WireError(f"{kind.name} is not a question")
            channel.send(Kind.OK, answers[kind](said))
        except MemoryError as error:
            channel.send(Kind.REFUSED, {"why": str(error), "error": "MemoryError"})
        except (ValueError, KeyError, TypeError, OSError, EOFError) as error:
            channel.send(Kind.REFUSED, {"why": str(error) or repr(error)})

    # Life and death

    @property
    def info_path(self) -> Path:
        """Where it says who it is, readable by its user alone."""
        return Path(f"{self.stem}.json")

    @property
    def socket_path(self) -> Path:
        """Where its trainer finds it."""
        return Path(f"{self.stem}.sock")

    def unlink(self) -> None:
        """Leave nothing behind."""
        for slot in self.slots:
            slot.free()
        self.mark.unlink()
        if self._is_ours():
            self.info_path.unlink(missing_ok=True)
            self.socket_path.unlink(missing_ok=True)

    def _is_ours(self) -> bool:
        """Whether the file that says who keeps this member names this process, or nobody."""
        try:
            return json.loads(self.info_path.read_text())["pid"] == os.getpid()
        except FileNotFoundError:
            return True
        except (OSError, ValueError, KeyError, TypeError):
            return True  # damaged: nobody else has written it

    def _say(self, host: str) -> None:
        """Write who we are."""
        told = {
            "pid": os.getpid(),
            "port": self.port,
            "host": host,
            "token": self.token,
            "run": self.run,
            "member": self.member,
            "about": self.about,
        }
        draft = Path(f"{self.info_path}.{os.getpid()}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.write(descriptor, json.dumps(told).encode())
        os.close(descriptor)
        draft.rename(self.info_path)
        self._said = self.info_path.read_bytes()

    def _heal(self, host: str) -> None:
        """Write the file anew where it was damaged or removed: a keeper that nobody finds would be left behind."""
        try:
            if self.info_path.read_bytes() == self._said:
                return
        except OSError:
            pass
        if self._is_ours():
            self._say(host)

    def listen(self, host: str) -> None:
        """Open both sockets, say so, and serve until told to end."""
        outer = socket.create_server((host, 0), backlog=64)
        self.port = outer.getsockname()[1]
        inner = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        inner.bind(str(self.socket_path))
        os.chmod(self.socket_path, 0o600)
        inner.listen(16)
        self._say(host)
        for server, local in ((outer, False), (inner, True)):
            threading.Thread(target=self._accept, args=(server, local), daemon=True).start()
        while self.trainer is not None or time.monotonic() - self.last_seen < self.linger:
            time.sleep(min(1.0, self.linger / 4))
            self._heal(host)
        self.unlink()
        os._exit(0)

    def _accept(self, server: socket.socket, local: bool) -> None:
        while True:
            sock, _ = server.accept()
            threading.Thread(target=self.serve, args=(sock, local), daemon=True).start()


def main() -> None:
    """Keep a member's memory until told to end."""
    parser = argparse.ArgumentParser(
        prog="python -m whp.distributed._in_memory_fault_tolerance.keeper", description=main.__doc__
    )
    parser.add_argument("--run", required=True)
    parser.add_argument("--member", type=int, required=True)
    parser.add_argument("--directory", type=Path, default=Path("/dev/shm"))
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--linger", type=float, default=3600.0)
    parser.add_argument("--replaces", action="store_true")
    chosen = parser.parse_args()
    token = os.environ.get("WHP_GUARD_TOKEN")
    if not token:
        parser.error("WHP_GUARD_TOKEN must hold the run's token")
    keeper = Keeper(
        chosen.run,
        chosen.member,
        chosen.directory,
        token,
        chosen.linger,
        replaces=chosen.replaces,
        about=json.loads(os.environ.get("WHP_GUARD_ABOUT") or "{}"),
    )
    for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(ignored, signal.SIG_IGN)

    def end(*_: object) -> None:
        keeper.unlink()
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    keeper.listen(chosen.host)


if __name__ == "__main__":
    sys.exit(main())
