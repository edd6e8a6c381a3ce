"""Ours against named peers: the same work, interleaved in one run, each figure a ratio with its interval."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

from whp.experiment.threads import pinned
from whp.intervals import Estimate, mean, ratio

__all__ = [
    "TORCHVISION_ON_CPU",
    "Case",
    "Comparison",
    "Foreign",
    "Peer",
    "Target",
    "compare",
    "document",
    "markdown",
]

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
class Peer:
    """Who else does the work.

    Parameters
    ----------
    name : str
        Name and what of it is called, e.g. ``"river ARFClassifier"``.
    call : callable, Foreign or None
        Does the work; None if it cannot be installed, with the reason in `note`.
    needs : str
        Its pin, e.g. ``"river==0.26.1"``.
    note : str
        What a reader should know: where the work is not quite the same, or why it cannot be installed.

    Raises
    ------
    ValueError
        If there is neither a call nor a reason.
    """

    name: str
    call: Callable[..., Any] | Foreign | None
    needs: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        if self.call is None and not self.note:
            raise ValueError(f"peer {self.name} cannot be called; say why in its note")

    def on(self, arguments: Callable[[Any], Sequence[Any]]) -> Peer:
        """The peer as a case calls it: `arguments` takes from the case's data what the peer is called with."""
        call = self.call
        if call is None or isinstance(call, Foreign):
            return self
        return replace(self, call=lambda data: call(*arguments(data)))


@dataclass(frozen=True)
class Target:
    """What was aimed at, before it was measured.

    Parameters
    ----------
    peer : str
        Name of a peer of the case; empty for a target in seconds.
    ratio : float
        Time of ours over the peer's, at most.
    seconds : float
        Time of ours, at most.

    Raises
    ------
    ValueError
        If it is not either a peer with a ratio or a number of seconds.
    """

    peer: str = ""
    ratio: float | int | None = None
    seconds: float | int | None = None

    def __post_init__(self) -> None:
        if (self.ratio is None) == (self.seconds is None) or bool(self.peer) == (
            self.ratio is None
        ):
            raise ValueError("a target is a peer with a ratio, or seconds")

    def __str__(self) -> str:
        if self.ratio is None:
            return f"≤ {self.seconds:g} s"
        return f"≤ {self.ratio:g} × {self.peer}"

    def judge(self, comparison: Comparison) -> str:
        """``met``, ``missed``, ``undecided``, or ``not run``; interval and all."""
        if self.ratio is None:
            bound, measured = self.seconds, comparison.ours
        elif self.peer in comparison.peers:
            bound, measured = self.ratio, comparison.peers[self.peer][1]
        else:
            return "not run"
        assert bound is not None
        if measured.high <= bound:
            return "met"
        return "missed" if measured.low > bound else "undecided"


Peers = Mapping[str, Callable[[Any], Any] | Foreign] | Sequence[Peer]


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
    peers : sequence of Peer, or mapping of str to callable or Foreign
        Who else does it. A peer that cannot be imported is reported with the reason.
    repeats : int
        Rounds counted after one warm-up; each round runs everybody once, each time in another order, and there are at
        least as many as participants, so that everybody takes every place.
    target : str, Target or sequence of Target
        What was aimed at; a string is shown and not judged.
    note : str
        What a reader should know, above all where the work is not quite the same.
    threads : int
        How many threads everybody may use.
    """

    name: str
    setup: Callable[[], Any]
    ours: Callable[[Any], Any]
    peers: Peers = ()
    repeats: int = 5
    target: str | Target | Sequence[Target] = ""
    note: str = ""
    threads: int = 1

    @property
    def all_peers(self) -> tuple[Peer, ...]:
        """The peers in one form."""
        if isinstance(self.peers, Mapping):
            return tuple(Peer(name, call) for name, call in self.peers.items())
        return tuple(self.peers)

    @property
    def targets(self) -> tuple[Target, ...]:
        """Those that are judged."""
        if isinstance(self.target, str):
            return ()
        return (self.target,) if isinstance(self.target, Target) else tuple(self.target)


@dataclass(frozen=True)
class Comparison:
    """What came out of a case.

    Parameters
    ----------
    case : Case
        The work.
    seconds : float
        Median of ours.
    ours : Estimate
        Mean of ours with its interval.
    peers : dict
        For each peer its median seconds and the ratio of ours to it.
    absent : dict
        Peers that were not run, with the reason.
    """

    case: Case
    seconds: float
    ours: Estimate
    peers: dict[str, tuple[float, Estimate]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    @property
    def verdicts(self) -> dict[str, str]:
        """Faster, slower, even or undecided against each peer."""
        return {name: against(estimate) for name, (_, estimate) in self.peers.items()}

    @property
    def judged(self) -> dict[str, str]:
        """What became of each target."""
        return {str(target): target.judge(self) for target in self.case.targets}


EVEN = (0.7, 1.4)


def against(estimate: Estimate) -> str:
    """What a ratio of times says; *even* only if its whole interval lies close to one."""
    if estimate.high < 1:
        return "faster"
    if estimate.low > 1:
        return "slower"
    return "even" if EVEN[0] <= estimate.low and estimate.high <= EVEN[1] else "undecided"


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
    with pinned(case.threads), contextlib.ExitStack() as stack:
        return _compared(case, directory, stack)


def _compared(case: Case, directory: Path, stack: contextlib.ExitStack) -> Comparison:
    data = case.setup()
    runners: dict[str, Callable[[], float]] = {"": _timed(case.ours, data)}
    absent: dict[str, str] = {}
    for peer in case.all_peers:
        if peer.call is None:
            absent[peer.name] = peer.note
            continue
        try:
            if isinstance(peer.call, Foreign):
                once, stop = _foreign(peer.call, data, directory)
                stack.callback(stop)
            else:
                once = _timed(peer.call, data)
            once()
            runners[peer.name] = once
        except (ImportError, subprocess.CalledProcessError, RuntimeError, OSError) as error:
            absent[peer.name] = str(error).splitlines()[0]
    runners[""]()
    times: dict[str, list[float]] = {name: [] for name in runners}
    for turn in range(max(case.repeats, len(runners), 2)):
        for name in order(list(runners), turn):
            times[name].append(runners[name]())
    ours = times.pop("")
    return Comparison(
        case,
        median(ours),
        mean(ours),
        {name: (median(theirs), ratio(ours, theirs)) for name, theirs in times.items()},
        absent,
    )


def order(names: Sequence[str], turn: int) -> list[str]:
    """Who runs when in a round: rotated each round, and turned round after every full rotation.

    In any len(names) rounds from the first everybody takes every place; neighbours change sides after that.
    """
    count = len(names)
    rounds, shift = divmod(turn, count)
    turned = list(names) if rounds % 2 == 0 else list(reversed(names))
    return turned[shift:] + turned[:shift]


def machine() -> str:
    """Processor, cores, and versions of what computes, on one line."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        model = names[0] if names else model
    packages = []
    for name in ("whp", "numpy", "scipy", "numba", "torch"):
        with contextlib.suppress(PackageNotFoundError):
            packages.append(f"{name} {version(name)}")
    return f"{model}, {os.cpu_count()} cores; Python {platform.python_version()}, {', '.join(packages)}"


def document(sections: dict[str, str], earlier: str = "") -> str:
    """``BENCHMARKS.md``: new sections in place of those of the same methods, the others kept.

    Parameters
    ----------
    sections : dict
        By slug, as of :func:`markdown`.
    earlier : str
        The document so far.
    """
    kept = {s.partition("\n")[0]: f"## {s}".strip() + "\n" for s in earlier.split("\n## ")[1:]}
    made = dict(sorted({**kept, **sections}.items()))
    text = "\n".join(made.values())
    verdicts = Counter(re.findall(r"\| (faster|even|undecided|slower) \|$", text, re.MULTILINE))
    judged = Counter(re.findall(r"target [^*]*: \*\*(met|missed|undecided|not run)\*\*", text))
    counts = ", ".join(f"{verdicts[k]} {k}" for k in ("faster", "even", "undecided", "slower"))
    goals = ", ".join(
        f"{judged[k]} {k}" for k in ("met", "missed", "undecided", "not run") if judged[k]
    )
    absent = len(re.findall(r"\| not run: ", text))
    return f"""# Benchmarks

Generated by `whp bench --out BENCHMARKS.md`; not edited by hand. Ours and every peer do the same work in turn in one run after a
warm-up, in an order that rotates, with one thread each unless a case says otherwise. A ratio under 1 means that we are faster.
Ratios carry 95 % intervals over the rounds: *faster* and *slower* where the interval excludes 1, *even* where it contains 1 and
lies within {EVEN[0]}-{EVEN[1]}, else *undecided*. Times are medians and belong to the machine.

**{verdicts.total()} comparisons: {counts}; {absent} peers could not be run. Targets: {goals or "none stated"}.**

{text}"""


def markdown(slug: str, comparisons: Sequence[Comparison]) -> str:
    """One section of ``BENCHMARKS.md``."""
    lines = [
        f"## {slug}",
        "",
        f"{machine()}; {datetime.now(UTC):%Y-%m-%d}.",
        "",
        "| work | ours | peer | peer's time | ours / peer (95 %) | |",
        "|---|---|---|---|---|---|",
    ]
    for c in comparisons:
        first = f"| {c.case.name} | {_time(c.seconds)} |"
        for name, (seconds, e) in c.peers.items():
            interval = f"{e.value:.3g} [{e.low:.3g}, {e.high:.3g}]"
            lines.append(f"{first} {name} | {_time(seconds)} | {interval} | {against(e)} |")
        lines += [f"{first} {name} | not run: {why} | | |" for name, why in c.absent.items()]
        if not c.peers and not c.absent:
            lines.append(f"{first} no peer | | | |")
    notes = [n for c in comparisons if (n := _note(c))]
    return "\n".join([*lines, "", *notes]).strip() + "\n"


def _note(c: Comparison) -> str:
    parts = [f"target {target}: **{verdict}**." for target, verdict in c.judged.items()]
    if isinstance(c.case.target, str) and c.case.target:
        parts.append(f"aimed at {c.case.target}, not judged.")
    if c.case.threads > 1:
        parts.append(f"{c.case.threads} threads.")
    parts += [f"{p.name}: {p.note}" for p in c.case.all_peers if p.note and p.call is not None]
    text = " ".join(filter(None, (*parts, c.case.note)))
    return text and f"- {c.case.name}: {text}"


def _time(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"
