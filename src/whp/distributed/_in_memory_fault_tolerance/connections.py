"""A keeper's connections to the others: made when first needed, forgotten when they break."""

from __future__ import annotations

import threading
from typing import Any

from whp.distributed._in_memory_fault_tolerance.codes import ErasureGroup
from whp.distributed._in_memory_fault_tolerance.wire import Channel, Kind, WireError, connect

__all__ = ["Lines"]


class Lines:
    """Connections of one member.

    Parameters
    ----------
    member : int
    token : str
        Of the run.
    """

    def __init__(self, member: int, token: str) -> None:
        self.member, self.token = member, token
        self.changed = threading.Condition()
        self.group = ErasureGroup(1, 0)
        self.peers: dict[int, tuple[str, int]] = {}
        self.lines: dict[int, tuple[Channel, threading.Lock]] = {}

    def tell(self, peer: int, kind: Kind, said: dict[str, Any], payload: Any = b"") -> bool:
        """Send to another keeper; whether the connection stood."""
        try:
            channel, lock = self.line(peer)
            with lock:
                channel.send(kind, said, payload)
        except (OSError, EOFError):
            self.hang_up(peer)
            return False
        return True

    def line(self, peer: int) -> tuple[Channel, threading.Lock]:
        """The connection to another keeper, made when first needed."""
        with self.changed:
            found = self.lines.get(peer)
            address = self.peers.get(peer)
        if found is not None:
            return found
        if address is None:
            raise WireError(f"member {peer} is not known")
        channel = connect(address, self.token, role="peer", member=self.member)
        with self.changed:
            return self.lines.setdefault(peer, (channel, threading.Lock()))

    def hang_up(self, peer: int) -> None:
        """Forget a connection that broke."""
        with self.changed:
            found = self.lines.pop(peer, None)
        if found is not None:
            found[0].close()

    def shout(self, kind: Kind, said: dict[str, Any]) -> bool:
        """Send to all other keepers; whether all connections stood."""
        stood = [self.tell(peer, kind, said) for peer in range(self.group.n) if peer != self.member]
        return all(stood)

    def on_peers(self, said: dict[str, Any]) -> dict[str, Any]:
        """Where the other keepers listen."""
        new = {int(member): (host, port) for member, (host, port) in said["peers"].items()}
        gone = [peer for peer in self.lines if self.peers.get(peer) != new.get(peer)]
        with self.changed:
            self.peers = new
        for peer in gone:
            self.hang_up(peer)
        return {}
