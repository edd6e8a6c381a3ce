"""When each sample comes back: schedules in which several views of few samples fill a batch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Int

from whp.certificate import Answer, Certificate
from whp.continual._view_batch import theorems as th
from whp.kernel import compiled
from whp.result import PALETTE
from whp.validate import as_choice, as_int

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Plan", "Schedule", "Shuffle", "cycle_order", "plan", "recall_schedule"]

Shuffle = Literal["full", "window", "fixed"]


@compiled
def _returns(samples: np.ndarray, at: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """For each visit the steps since the last one of its sample, and its number, from 0."""
    last, seen = np.zeros(n, np.int64), np.zeros(n, np.int64)
    gaps, number = np.empty(len(samples), np.int64), np.empty(len(samples), np.int64)
    for j in range(len(samples)):
        i = samples[j]
        gaps[j], number[j] = at[j] - last[i], seen[i]
        last[i] = at[j]
        seen[i] += 1
    return gaps, number


def sum_of_gaps(n: int, cycle: int) -> int:
    """Of all samples, between two cycles."""
    return n * cycle


@dataclass(frozen=True, eq=False)
class Schedule:
    """Which samples were shown at which step.

    Parameters
    ----------
    n : int
        Samples there are.
    samples, at : ndarray of int, shape (m,)
        The sample of each visit, and its step; steps do not decrease.
    views : int
        Views of a sample at each visit.
    cycle : int
        Steps C in which every sample is meant to come once.
    window : int
        Steps over which a sample's place in the cycle may move; C for a full shuffle.
    total : int
        Steps there were.
    origin : str
        Why nobody knows from this schedule alone what was trained.
    altered : str
        How what was trained is known to differ from what was planned; empty where it does not.
    """

    n: int
    samples: np.ndarray
    at: np.ndarray
    views: int
    cycle: int
    window: int
    total: int
    origin: str = "these are the batches of a plan; what was trained is not in it"
    altered: str = ""

    def __post_init__(self) -> None:
        for name in ("n", "views", "cycle", "window"):
            as_int(getattr(self, name), name, low=1)
        as_int(self.total, "total", low=0)
        for name in ("samples", "at"):
            given = np.asarray(getattr(self, name))
            if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
                raise ValueError(f"{name} must be one row of whole numbers")
            # unsigned steps would never seem to decrease
            object.__setattr__(self, name, given.astype(np.int64))
        samples, at = self.samples, self.at
        if len(samples) != len(at):
            raise ValueError(
                f"samples and at must be equally long, got {len(samples)} and {len(at)}"
            )
        if len(samples) and not (samples.min() >= 0 and samples.max() < self.n):
            raise ValueError(f"samples must be numbers below n = {self.n}")
        if len(at) and not (at[0] >= 0 and at[-1] < self.total and (np.diff(at) >= 0).all()):
            raise ValueError(f"at must be steps below total = {self.total}, in order")

    @property
    def steps(self) -> list[np.ndarray]:
        """The distinct samples of each step."""
        return np.split(self.samples, np.searchsorted(self.at, np.arange(1, self.total)))

    def gaps(self) -> Int[np.ndarray, " m"]:
        """Steps since the sample was last visited, for every visit but each sample's first, in order of time."""
        gaps, number = _returns(self.samples, self.at, self.n)
        return gaps[number > 0]

    def mean_gaps(self) -> np.ndarray:
        """Mean gap between the j-th visits and the next ones, for all j that every sample reached; infinite if none returned."""
        sums = self._sums_of_gaps()
        return np.array([np.inf]) if sums is None else sums / self.n

    def off(self) -> float:
        """Largest difference of a mean gap from the cycle; exactly 0 where sums of whole numbers agree.

        Infinite if a sample was visited less often than there are whole cycles: it is one that did
        not come back, and the cycles that it missed have no mean.
        """
        sums = self._sums_of_gaps()
        if sums is None or len(sums) + 1 < self.total // self.cycle:
            return math.inf
        return float(np.abs(sums - sum_of_gaps(self.n, self.cycle)).max() / self.n)

    def _sums_of_gaps(self) -> np.ndarray | None:
        least = int(np.bincount(self.samples, minlength=self.n).min())
        if least < 2:
            return None
        gaps, number = _returns(self.samples, self.at, self.n)
        sums = np.zeros(int(number.max()) + 1, np.int64)
        np.add.at(sums, number, gaps)
        return sums[1:least]

    def counts(self) -> Int[np.ndarray, " n"]:
        """Images of each sample that were shown."""
        return self.views * np.bincount(self.samples, minlength=self.n)

    @property
    def certificates(self) -> tuple[Certificate, ...]:
        """``minimum-rest``, ``mean-recall`` and ``equal-work``, measured on these steps."""
        if self.altered:
            return self.certified(th.TRAINED.check(False, self.altered))
        return self.certified(th.TRAINED.unchecked(self.origin))

    def certified(self, trained: Answer) -> tuple[Certificate, ...]:
        """The same, by somebody who knows what was trained."""
        inputs = {"samples": self.n, "views": self.views}
        rest = (trained, {**inputs, "visits": len(self.samples)})
        return (
            th.minimum_rest(self.gaps(), self.cycle, self.window, *rest),
            th.mean_recall(self.off(), self.cycle, self.total, *rest),
            th.equal_work(self.counts(), self.cycle, self.total, *rest),
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Histogram of the gaps, with the mean and the promised least."""
        if ax is None:
            import matplotlib.pyplot as plt

            ax = plt.subplots()[1]
        gaps = self.gaps()
        bins = min(60, max(1, int(np.ptp(gaps)) + 1)) if len(gaps) else 1
        ax.hist(gaps, bins=bins, color=PALETTE["ours"], alpha=0.7)
        ax.axvline(self.cycle, color="black", linewidth=1, label=f"cycle: {self.cycle} steps")
        least = th.least_gap(self.cycle, self.window)
        ax.axvline(least, color=PALETTE["truth"], linewidth=1, label="least gap promised")
        ax.set(xlabel="steps until a sample comes back", ylabel="times", xlim=(0, None))
        ax.legend(frameon=False)
        return ax


@dataclass(frozen=True)
class Plan:
    """Sizes of a schedule, checked."""

    n: int
    distinct: int
    views: int
    cycle: int
    window: int
    total: int


def plan(
    n: int,
    batch_size: int,
    views: int,
    epochs: int | None,
    shuffle: str | None = None,
    window: int | None = None,
) -> Plan:
    """Check the sizes and derive the rest; an epoch is n images, and without `epochs` there is no end."""
    n, batch_size = as_int(n, "n", low=1), as_int(batch_size, "batch_size", low=1)
    views = as_int(views, "views", low=1)
    if shuffle is None:
        shuffle = "full" if window is None else "window"
    as_choice(shuffle, "shuffle", ("full", "window", "fixed"))
    if batch_size % views:
        raise ValueError(f"views must divide batch_size, got {views} and {batch_size}")
    distinct = batch_size // views
    cycle = math.ceil(n / distinct)
    if shuffle == "window":
        if window is None:
            raise ValueError(
                "window must be given for shuffle='window': steps over which a sample's place may move"
            )
        window = as_int(window, "window", low=1, high=cycle)
    elif window is not None:
        raise ValueError(f"window must not be given for shuffle={shuffle!r}")
    else:
        window = cycle if shuffle == "full" else 1
    total = 0
    if epochs is not None:
        epochs = as_int(epochs, "epochs", low=1)
        if epochs < views:
            raise ValueError(
                f"epochs={epochs} < views={views}: {1 - epochs / views:.0%} of the samples would never be seen"
            )
        total = math.ceil(epochs * cycle / views)
    return Plan(n, distinct, views, cycle, window, total)


def cycle_order(sizes: Plan, base: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The order of all samples in one cycle: the base order, shuffled inside each segment of `window` steps."""
    if sizes.window >= sizes.cycle:
        return rng.permutation(sizes.n)
    if sizes.window == 1:
        return base
    segment = np.arange(sizes.n) // (sizes.window * sizes.distinct)
    return base[np.argsort(segment + rng.random(sizes.n))]


def recall_schedule(
    n: int,
    batch_size: int = 32,
    *,
    views: int = 4,
    epochs: int = 8,
    shuffle: Shuffle | None = None,
    window: int | None = None,
    rng: np.random.Generator | int | None = None,
) -> Schedule:
    """Plan steps of batch_size/views distinct samples, each shown in `views` views.

    Every sample comes once a cycle of C = ⌈n·views/batch_size⌉ steps; an epoch is n images, so `views` epochs make a cycle. The
    mean gap between visits is exactly C. ``"full"`` shuffles anew every cycle (the paper's): gaps lie in [1, 2C − 1]. ``"window"``
    shuffles inside segments of `window` steps of one base order (ours): every gap lies in [C − window + 1, C + window − 1].
    ``"fixed"`` keeps the steps: every gap is C.

    Parameters
    ----------
    n, batch_size : int
        Samples, and images a step.
    views : int
        Views of each sample, a divisor of batch_size.
    epochs : int
        Of n images each; a multiple of `views`, or the last cycle stays incomplete.
    shuffle : {"full", "window", "fixed"}, optional
        By default full, or in windows if `window` is given.
    window : int, optional
        Steps over which a sample's place may move.
    rng : Generator or int, optional
        Source of randomness.

    Returns
    -------
    Schedule

    Raises
    ------
    TypeError, ValueError
        If an argument is not what is accepted; the message names it.
    """
    sizes = plan(n, batch_size, views, epochs, shuffle, window)
    rng = np.random.default_rng(rng)
    base = rng.permutation(n)
    cycles = math.ceil(sizes.total / sizes.cycle)
    samples = np.concatenate([cycle_order(sizes, base, rng) for _ in range(cycles)])
    at = np.add.outer(sizes.cycle * np.arange(cycles), np.arange(n) // sizes.distinct).ravel()
    end = int(np.searchsorted(at, sizes.total))
    return Schedule(n, samples[:end], at[:end], views, sizes.cycle, sizes.window, sizes.total)
