"""Ours against named peers: the same work, interleaved in one run, each figure a ratio with its interval."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from whp.intervals import Estimate, ratio

__all__ = ["TORCHVISION_ON_CPU", "Case", "Comparison", "Foreign", "compare", "markdown"]

# For scripts of peers that import torchvision: its wheel is built for CUDA, and beside a CPU build of torch it can be imported only
# if its operators are declared first.
TORCHVISION_ON_CPU = """
import importlib.util, pathlib, re
import torch
root = pathlib.Path(importlib.util.find_spec("torchvision").submodule_search_locations[0])
library = torch.library.Library("torchvision", "DEF")
for name in sorted(set(re.findall(r"torchvision::(\\w+)", (root / "_meta_registrations.py").read_text())) | {"nms"}):
    try:
        library.define(f"{name}(Tensor x) -> Tensor")
    except Exception:
        pass
"""


@dataclass(frozen=True)
class Foreign:
    """A peer whose pins conflict with ours: a script run by the Python of a virtual environment of its own.

    Parameters
    ----------
    requirements : str
        Pinned requirements, one a line.
    script : str
        Reads the path of an npz file of inputs from ``sys.argv[1]``; then, for each line on its standard input, does the
        work once and prints ``{"seconds": ...}`` as a line of JSON. Start-up is not counted.
    arrays : callable
        Shared data to the dictionary of arrays that is saved for the script.
    """

    requirements: str
    script: str
    arrays: Callable[[Any], dict[str, Any]]


@dataclass(frozen=True)
class Case:
    """One piece of work.

    Parameters
    ----------
    name : str
        What and how large, e.g. ``"65,536×512"``.
    setup : callable
        Makes the data that all share; not timed.
    ours : callable
        Does the work on the data.
    peers : mapping of str to callable or Foreign
        Who else does it. A peer that cannot be imported is reported with the reason.
    repeats : int
        Rounds counted after one warm-up; each round runs everybody once.
    target : str
        What was aimed at.
    note : str
        What a reader should know, above all where the work is not quite the same.
    """

    name: str
    setup: Callable[[], Any]
    ours: Callable[[Any], Any]
    peers: Mapping[str, Callable[[Any], Any] | Foreign]
    repeats: int = 5
    target: str = ""
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """What came out of a case: median seconds of ours, and for each peer its median seconds and the ratio ours/peer."""

    case: str
    target: str
    note: str
    seconds: float
    peers: dict[str, tuple[float, Estimate]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)


def _timed(work: Callable[[Any], Any], data: Any) -> Callable[[], float]:
    def once() -> float:
        start = time.perf_counter()
        work(data)
        return time.perf_counter() - start

    return once


def _foreign(
    peer: Foreign, data: Any, directory: Path
) -> tuple[Callable[[], float], Callable[[], None]]:
    """Start the peer's own interpreter, making its environment first if it is not there."""
    import hashlib
    import sys

    import numpy as np

    home = directory / hashlib.sha256(peer.requirements.encode()).hexdigest()[:12]
    python = home / "bin" / "python"
    if not (home / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        (home / "requirements.txt").write_text(peer.requirements)
        subprocess.run(
            [str(python), "-m", "pip", "install", "-q", "-r", str(home / "requirements.txt")],
            check=True,
        )
        (home / "complete").touch()
    inputs = home / "inputs.npz"
    np.savez(inputs, **peer.arrays(data))
    process = subprocess.Popen(
        [str(python), "-c", peer.script, str(inputs)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def once() -> float:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("go\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the peer's process ended with exit code {process.wait()}")
        return float(json.loads(line)["seconds"])

    return once, process.kill


def compare(case: Case, directory: Path = Path(".bench-venvs")) -> Comparison:
    """Run a case. `directory` holds the environments of foreign peers."""
    data = case.setup()
    runners: dict[str, Callable[[], float]] = {"": _timed(case.ours, data)}
    absent: dict[str, str] = {}
    stops: list[Callable[[], None]] = []
    for name, peer in case.peers.items():
        try:
            if isinstance(peer, Foreign):
                runners[name], stop = _foreign(peer, data, directory)
                stops.append(stop)
            else:
                runners[name] = _timed(peer, data)
            runners[name]()
        except (ImportError, subprocess.CalledProcessError, RuntimeError, OSError) as error:
            runners.pop(name, None)
            absent[name] = str(error).splitlines()[0]
    runners[""]()
    times: dict[str, list[float]] = {name: [] for name in runners}
    for turn in range(case.repeats):
        order = (
            list(runners) if turn % 2 == 0 else list(reversed(runners))
        )  # nobody always runs on a warm cache
        for name in order:
            times[name].append(runners[name]())
    for stop in stops:
        stop()
    ours = times.pop("")
    return Comparison(
        case.name,
        case.target,
        case.note,
        _median(ours),
        {name: (_median(theirs), ratio(ours, theirs)) for name, theirs in times.items()},
        absent,
    )


def _median(values: list[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def markdown(slug: str, comparisons: list[Comparison]) -> str:
    """One section of ``BENCHMARKS.md``."""
    lines = [
        f"## {slug}",
        "",
        "| work | ours | peer | peer's time | ours / peer (95 %) | |",
        "|---|---|---|---|---|---|",
    ]
    for c in comparisons:
        for name, (seconds, estimate) in c.peers.items():
            faster = "faster" if estimate.high < 1 else "slower" if estimate.low > 1 else "even"
            interval = f"{estimate.value:.3g} [{estimate.low:.3g}, {estimate.high:.3g}]"
            lines.append(
                f"| {c.case} | {_time(c.seconds)} | {name} | {_time(seconds)} | {interval} | {faster} |"
            )
        lines += [
            f"| {c.case} | {_time(c.seconds)} | {name} | not run: {why} | | |"
            for name, why in c.absent.items()
        ]
    notes = [
        f"- {c.case}: " + " ".join(filter(None, (c.target and f"target {c.target}.", c.note)))
        for c in comparisons
    ]
    return "\n".join([*lines, "", *(n for n in notes if not n.endswith(": ")), ""])


def _time(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"
