"""A slow link between processes of one machine: network namespaces joined by a pair of shaped virtual interfaces (Linux, root)."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from whp.validate import as_real

__all__ = ["Link", "enter", "shaped_link", "why_not"]


@dataclass(frozen=True)
class Link:
    """Two ends of a link; `namespaces` and `host` go to :func:`whp.distributed.processes.run_ranks`."""

    namespaces: tuple[str, str]
    host: str
    mbit: float


def why_not() -> str:
    """Why links cannot be shaped here, in a sentence; empty if they can."""
    if missing := [tool for tool in ("ip", "tc") if not shutil.which(tool)]:
        return f"shaping a link needs {' and '.join(missing)} (Debian: iproute2)"
    if os.geteuid() != 0:
        return "shaping a link needs root"
    name = f"whp-probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if made.returncode:
        return f"this machine makes no network namespaces: {made.stderr.strip()}"
    try:
        shaped = subprocess.run(
            [
                "ip",
                "netns",
                "exec",
                name,
                "tc",
                "qdisc",
                "add",
                "dev",
                "lo",
                "root",
                "tbf",
                "rate",
                "1mbit",
                "burst",
                "32kb",
                "latency",
                "50ms",
            ],
            capture_output=True,
            text=True,
        )
    finally:
        _ip("netns", "del", name)
    return f"this machine shapes no traffic: {shaped.stderr.strip()}" if shaped.returncode else ""


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@contextlib.contextmanager
def shaped_link(mbit: float, *, latency_ms: float = 0.0) -> Iterator[Link]:
    """Two network namespaces with a link of `mbit` Mbit/s each way between them, taken away afterwards.

    Parameters
    ----------
    mbit : float
        Rate of each direction, by a token bucket.
    latency_ms : float
        Delay added to each direction.

    Raises
    ------
    OSError
        If links cannot be shaped here; the message says why.
    """
    rate, delay = (
        as_real(mbit, "mbit", low=0.01, high=1e6),
        as_real(latency_ms, "latency_ms", low=0, high=1e5),
    )
    if reason := why_not():
        raise OSError(reason)
    tag = f"whp{os.getpid()}"
    names = (f"{tag}-a", f"{tag}-b")
    try:
        for name in names:
            _ip("netns", "add", name)
        _ip(
            "link",
            "add",
            "eth0",
            "netns",
            names[0],
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            names[1],
        )
        burst = max(32_000, int(rate * 1e6 / 8 / 250))
        for i, name in enumerate(names):
            inside = ("netns", "exec", name)
            _ip("-n", name, "addr", "add", f"10.200.0.{i + 1}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "lo", "up")
            _ip("-n", name, "link", "set", "eth0", "up")
            shape = ["tc", "qdisc", "add", "dev", "eth0"]
            root = ["root"]
            if delay:
                _ip(*inside, *shape, "root", "handle", "1:", "netem", "delay", f"{delay}ms")
                root = ["parent", "1:"]
            _ip(
                *inside,
                *shape,
                *root,
                "tbf",
                "rate",
                f"{rate}mbit",
                "burst",
                str(burst),
                "latency",
                "400ms",
            )
        yield Link(names, "10.200.0.1", rate)
    finally:
        for name in names:  # the interfaces go with them
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def enter(namespace: str) -> None:
    """Move this process, before it has opened a socket, into a network namespace."""
    descriptor = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(
            descriptor, 0x40000000
        ):  # CLONE_NEWNET; os.setns is there from Python 3.12 on
            number = ctypes.get_errno()
            raise OSError(number, f"cannot enter {namespace}: {os.strerror(number)}")
    finally:
        os.close(descriptor)
    os.environ["GLOO_SOCKET_IFNAME"] = "eth0"
