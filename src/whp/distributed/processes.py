"""Worker processes that train, may be killed at any moment, and are replaced: starting, watching, joining a group, cleaning up.

Workers are forked from a server that has imported torch once (:mod:`whp.distributed.warm`), so that a new one is ready in a few
hundredths of a second. They die with the process that started them.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch.distributed as dist

__all__ = [
    "Crew",
    "Died",
    "Worker",
    "interrupted_once",
    "join_group",
    "leave_group",
    "quiet_store",
    "run_ranks",
    "undisturbed",
]


@cache
def _server() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["whp.distributed.warm"])
    return context


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Ignore Ctrl-C, which impatience may repeat, while what was started is ended."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def interrupted_once() -> Iterator[None]:
    """The first Ctrl-C interrupts the block, and those after it, which come of impatience, do not.

    Between an interruption and the cleaning up after it lies a moment in which a second one would
    skip that, and :func:`undisturbed` has not begun. Another handler than Python's own is left alone.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    interrupted = False

    def first(*_: object) -> None:
        nonlocal interrupted
        if not interrupted:
            interrupted = True
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class Died:
    """What :meth:`Crew.wait` reports of a worker that ended without having been told to."""

    exitcode: int | None


@dataclass(eq=False)
class Worker:
    """A process and the pipe to it."""

    name: str
    process: BaseProcess = field(repr=False)
    pipe: Connection = field(repr=False)
    reported: bool = field(default=False, repr=False)

    @property
    def pid(self) -> int:
        """Number of the process."""
        assert self.process.pid is not None
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process.is_alive()

    def send(self, message: Any) -> None:
        """Send a message; to one that has just died it is lost, which :meth:`Crew.wait` will tell."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.pipe.send(message)

    def kill(self) -> None:
        """SIGKILL: it gets no chance to say anything."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _main(
    function: Callable[..., None], pipe: Connection, threads: int, arguments: tuple[Any, ...]
) -> None:
    threading.Thread(target=_die_with_parent, daemon=True).start()
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches the whole terminal; the coordinator decides
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # a host name need not resolve
    import torch

    torch.set_num_threads(threads)
    function(pipe, *arguments)


class Crew:
    """Processes that belong together; leaving the ``with`` block ends them all.

    Parameters
    ----------
    threads : int
        Torch's threads in each.
    """

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads
        self.workers: list[Worker] = []
        self.busy: tuple[Worker, float] | None = None  # who is being read, since when

    def start(self, function: Callable[..., None], *arguments: Any, name: str) -> Worker:
        """Start ``function(pipe, *arguments)`` in a process of its own; both must be importable there."""
        ours, theirs = multiprocessing.Pipe()
        process = _server().Process(
            target=_main, args=(function, theirs, self.threads, arguments), name=name
        )
        process.start()
        theirs.close()
        worker = Worker(name, process, ours)
        self.workers.append(worker)
        return worker

    def wait(self, timeout: float | None) -> Iterator[tuple[Worker, Any]]:
        """Messages of workers that come within `timeout` seconds, and :class:`Died`, once, for each that ended."""
        watched: dict[Any, Worker] = {}
        for worker in self.workers:
            if not worker.reported:
                watched[worker.pipe] = worker
                watched[worker.process.sentinel] = worker
        seen = set()
        for ready in wait(list(watched), timeout):
            worker = watched[ready]
            if worker in seen:
                continue
            seen.add(worker)
            try:
                while worker.pipe.poll():
                    self.busy = (worker, time.monotonic())  # a long message may stop half way
                    message = worker.pipe.recv()
                    self.busy = None
                    yield worker, message
            except (EOFError, ConnectionResetError):
                self.busy = None
                worker.process.join(1)
            if not worker.alive and not worker.reported:
                worker.reported = True
                yield worker, Died(worker.process.exitcode)

    def dismiss(self, worker: Worker) -> None:
        """End one and forget it."""
        worker.kill()
        worker.process.join()
        worker.process.close()
        worker.pipe.close()
        self.workers.remove(worker)

    def close(self) -> None:
        """End them all."""
        with undisturbed():
            for worker in self.workers:
                worker.kill()
            for worker in list(self.workers):
                self.dismiss(worker)

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def quiet_store(host: str = "127.0.0.1", port: int = 0) -> dist.TCPStore:  # pyright: ignore[reportPrivateImportUsage]
    """A store in this process, at a free port; it must outlive every worker, so workers do not host one.

    It listens on the address of `host` alone. By itself torch listens on all interfaces, where anyone may set keys.
    """
    import torch.distributed as dist

    listening = socket.create_server((host, port), backlog=512)
    return dist.TCPStore(  # pyright: ignore[reportPrivateImportUsage]
        host,
        listening.getsockname()[1],
        is_master=True,
        wait_for_workers=False,
        timeout=timedelta(seconds=60),
        master_listen_fd=listening.detach(),  # the store closes it
    )


def join_group(
    rank: int,
    size: int,
    generation: int | str,
    port: int,
    *,
    host: str = "127.0.0.1",
    timeout: float = 60.0,
) -> None:
    """Join the gloo group of this generation; keys of a dead generation are never used again."""
    import torch.distributed as dist

    limit = timedelta(seconds=timeout)
    store = dist.TCPStore(host, port, is_master=False, timeout=limit)  # pyright: ignore[reportPrivateImportUsage]
    own = dist.PrefixStore(f"g{generation}", store)  # pyright: ignore[reportPrivateImportUsage]
    # torch names a group by how often this process tried: after a failed attempt ranks would wait under different names
    dist.distributed_c10d._world.group_count = 0
    dist.init_process_group("gloo", store=own, rank=rank, world_size=size, timeout=limit)


def leave_group() -> None:
    """Leave the group, if in one; peers that wait for us get an error at once."""
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


def _rank(
    pipe: Connection,
    function: Callable[..., Any],
    rank: int,
    size: int,
    at: tuple[str, int, str | None],
    arguments: tuple[Any, ...],
) -> None:
    host, port, namespace = at
    try:
        if namespace is not None:
            from whp.distributed.links import enter

            enter(namespace)
        kept = quiet_store(host, port) if namespace is not None and rank == 0 else None
        join_group(rank, size, 0, port, host=host)
        pipe.send((True, function(rank, *arguments)))
        pipe.recv()  # nobody leaves before all are done
        leave_group()
        del kept
    except BaseException:
        pipe.send((False, traceback.format_exc()))


def run_ranks(
    function: Callable[..., Any],
    size: int,
    *arguments: Any,
    namespaces: Sequence[str] | None = None,
    host: str = "127.0.0.1",
) -> list[Any]:
    """Run ``function(rank, *arguments)`` in `size` processes of one gloo group and return what each returned, by rank.

    Parameters
    ----------
    function : callable
        Importable in another process.
    size : int
        Number of ranks.
    *arguments : object
        For the function; picklable.
    namespaces : sequence of str, optional
        Network namespace of each rank; see :func:`whp.distributed.links.shaped_link`.
    host : str
        Address of rank 0.

    Raises
    ------
    RuntimeError
        If a rank raised or died; the message has its traceback.
    """
    store = None if namespaces else quiet_store()
    port = 29_500 if store is None else store.port  # a namespace has all its ports to itself
    results: dict[str, Any] = {}
    with Crew() as crew:
        for rank in range(size):
            place = (host, port, namespaces[rank] if namespaces else None)
            crew.start(_rank, function, rank, size, place, arguments, name=str(rank))
        while len(results) < size:
            for worker, message in crew.wait(None):
                if isinstance(message, Died):
                    raise RuntimeError(f"rank {worker.name} died with exit code {message.exitcode}")
                good, value = message
                if not good:
                    raise RuntimeError(f"rank {worker.name} raised:\n{value}")
                results[worker.name] = value
        for worker in crew.workers:
            worker.send("leave")
        for worker in crew.workers:
            worker.process.join(10)
    return [results[str(rank)] for rank in range(size)]
