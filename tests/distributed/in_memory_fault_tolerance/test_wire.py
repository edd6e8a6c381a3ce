import contextlib
import socket
import threading

import numpy as np
import pytest
from keepers import random_shards

from whp.distributed._in_memory_fault_tolerance.fleet import Fleet
from whp.distributed._in_memory_fault_tolerance.wire import (
    HEADER,
    MAGIC,
    Channel,
    Kind,
    WireError,
    connect,
)


def test_nothing_is_believed_without_the_token(memory):
    with Fleet(2, 1, directory=memory) as fleet:
        place = fleet.members[0].found
        with pytest.raises(WireError, match="token"):
            connect((place.host, place.port), "0" * 32, role="peer")
        for first in (
            HEADER.pack(MAGIC, Kind.QUERY, 2, 0) + b"{}",
            HEADER.pack(MAGIC, Kind.HELLO, 1 << 20, 0),
            HEADER.pack(MAGIC, Kind.HELLO, 2, 1 << 40) + b"{}",
            HEADER.pack(b"evil", Kind.HELLO, 2, 0) + b"{}",
            b"\x80\x04\x95" + bytes(60),
        ):
            with socket.create_connection((place.host, place.port), timeout=5) as sock:
                sock.sendall(first)
                sock.settimeout(5)
                with contextlib.suppress(ConnectionResetError):
                    assert sock.recv(100) == b""
        stranger = connect((place.host, place.port), place.token, role="peer", member=1)
        with pytest.raises(WireError, match="DROP is for the trainer"):
            stranger.ask(Kind.DROP, {"keep": 0, "floor": 9})
        with pytest.raises(WireError, match="does not hold version 7"):
            stranger.ask(Kind.FETCH, {"version": 7, "what": "d", "index": 0, "at": 0, "size": 4})
        stranger.close()
        assert oct((memory / f"whp-{fleet.run}-0.json").stat().st_mode)[-3:] == "600"
        assert place.host == "127.0.0.1"
        fleet.save(random_shards(fleet))


def test_messages_arrive_as_they_were_sent():
    left, right = (Channel(s) for s in socket.socketpair())
    payload = np.arange(100_000, dtype=np.uint8)
    sender = threading.Thread(
        target=lambda: (left.send(Kind.BLOCK, {"a": [1, "ü"]}, payload), left.send(Kind.OK))
    )
    sender.start()
    kind, said, carried = right.receive()
    assert (kind, said) == (Kind.BLOCK, {"a": [1, "ü"]})
    np.testing.assert_array_equal(np.frombuffer(carried, np.uint8), payload)
    assert right.receive()[:2] == (Kind.OK, {})
    sender.join()
    left.close()
    with pytest.raises(EOFError):
        right.receive()
    right.close()
