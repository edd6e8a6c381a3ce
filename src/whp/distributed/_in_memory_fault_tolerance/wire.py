"""Messages between trainers and keepers of memory: a fixed header, JSON for what is said, raw bytes for what is carried.

A connection begins with HELLO and the run's token; nothing else is read from a peer that has not shown it, and nothing that comes
over a socket is ever unpickled. Checksums detect damage; they do not authenticate.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import socket
import struct
from enum import IntEnum
from typing import Any

__all__ = ["Channel", "Kind", "WireError", "connect", "greeted"]

MAGIC = b"whp1"
HEADER = struct.Struct("!4sBIQ")
GREETING_LIMIT = 4096
SAID_LIMIT = 1 << 30


class Kind(IntEnum):
    """What a message is about."""

    HELLO = 1
    OK = 2
    REFUSED = 3
    ALLOC = 4  # lengths and code; both buffers are allocated and touched
    BEGIN = 5  # a version's buffer is being written
    COPIED = 6  # it is written
    BLOCK = 7  # a piece of a block, for a row of a stripe
    HEAD = 8  # a member's header of a version
    ENCODED = 9  # a member has its data and its parity
    COMMIT = 10  # all have
    QUERY = 11  # which versions are held, and what of them is damaged
    FETCH = 12  # a piece of a held block
    HEADS = 13  # all headers of a held version
    PEERS = 14  # where the others listen
    REBUILD = 15  # make lost blocks anew from the others'
    DROP = 16  # forget everything but one version
    HOLD = 17  # stop before encoding, until released
    PERSISTED = 18  # a member's part is on disk
    BYE = 19  # unlink the memory and end


class WireError(ConnectionError):
    """The other side refused, or does not speak this language.

    Parameters
    ----------
    why : str
        Its reason.
    said : dict, optional
        All that it said with it.
    """

    def __init__(self, why: str, said: dict[str, Any] | None = None) -> None:
        super().__init__(why)
        self.said = said or {}


class Channel:
    """A connected socket that sends and receives messages.

    Parameters
    ----------
    sock : socket
        Connected.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, kind: Kind, said: dict[str, Any] | None = None, payload: Any = b"") -> None:
        """One message."""
        text = json.dumps(said or {}).encode()
        carried = (
            memoryview(payload).cast("B") if not isinstance(payload, bytes) else memoryview(payload)
        )
        self.sock.sendall(HEADER.pack(MAGIC, kind, len(text), len(carried)) + text)
        if len(carried):
            self.sock.sendall(carried)

    def _exactly(self, into: memoryview) -> None:
        while len(into):
            got = self.sock.recv_into(into)
            if not got:
                raise EOFError("the other side closed the connection")
            into = into[got:]

    def _header(self) -> tuple[Kind, int, int]:
        head = bytearray(HEADER.size)
        self._exactly(memoryview(head))
        magic, kind, said, carried = HEADER.unpack(head)
        if magic != MAGIC or kind not in Kind.__members__.values():
            raise WireError("the other side does not speak this protocol")
        return Kind(kind), said, carried

    def receive(
        self, buffer: bytearray | None = None, limit: int = SAID_LIMIT
    ) -> tuple[Kind, dict[str, Any], memoryview]:
        """The next message; its payload is in `buffer`, which grows as needed, or in a new one."""
        kind, length, carried = self._header()
        if length > limit or carried > limit:
            raise WireError(f"a message of {length} + {carried} bytes is longer than {limit}")
        text = bytearray(length)
        self._exactly(memoryview(text))
        room = bytearray(carried) if buffer is None else buffer
        if len(room) < carried:
            room.extend(bytes(carried - len(room)))
        payload = memoryview(room)[:carried]
        self._exactly(payload)
        try:
            said = json.loads(text) if length else {}
        except ValueError as error:
            raise WireError(f"not JSON: {error}") from error
        if not isinstance(said, dict):
            raise WireError("a message must be a JSON object")
        return kind, said, payload

    def greeting(self) -> dict[str, Any]:
        """The first message of a stranger: a short HELLO without payload, or an error before more is read."""
        kind, length, carried = self._header()
        if kind is not Kind.HELLO or length > GREETING_LIMIT or carried:
            raise WireError("the first message must be a HELLO")
        text = bytearray(length)
        self._exactly(memoryview(text))
        try:
            said = json.loads(text)
        except ValueError as error:
            raise WireError(f"not JSON: {error}") from error
        return said if isinstance(said, dict) else {}

    def ask(
        self, kind: Kind, said: dict[str, Any] | None = None, payload: Any = b""
    ) -> tuple[dict[str, Any], memoryview]:
        """Send and wait for the answer.

        Raises
        ------
        WireError
            If the other side refused; the message says why.
        """
        self.send(kind, said, payload)
        answer, told, carried = self.receive()
        if answer is not Kind.OK:
            raise WireError(str(told.get("why", "refused")), told)
        return told, carried

    def close(self) -> None:
        """Close the socket."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()


def connect(
    address: str | tuple[str, int], token: str, *, timeout: float | None = 30.0, **who: Any
) -> Channel:
    """A channel to a keeper at a path or (host, port), greeted with the token.

    Raises
    ------
    OSError
        If nobody listens there, or the token is not accepted.
    """
    if isinstance(address, str):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    else:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        address = (address[0], int(address[1]))
    sock.settimeout(timeout)
    try:
        sock.connect(address)
        channel = Channel(sock)
        channel.ask(Kind.HELLO, {"token": token, **who})
    except EOFError as error:
        sock.close()
        raise WireError("the other side closed the connection at the greeting") from error
    except OSError:
        sock.close()
        raise
    return channel


def greeted(channel: Channel, token: str) -> dict[str, Any] | None:
    """What a caller says of itself, to be answered with OK, or None if it has not the token and was told so."""
    said = channel.greeting()
    shown = said.pop("token", None)
    if not isinstance(shown, str) or not hmac.compare_digest(shown.encode(), token.encode()):
        channel.send(Kind.REFUSED, {"why": "the token is not this run's"})
        return None
    return said
