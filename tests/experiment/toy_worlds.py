"""A method of one theorem, right or wrong at will, for tests of the worlds engine."""

import math

import numpy as np

from whp.certificate import Verdict
from whp.experiment.worlds import Instance, Worlds
from whp.intervals import exact
from whp.theorem import AT_MOST, THIS_RUN, Condition, Theorem

UNSEEN = Condition("unseen", "nobody looked")
WIDE = Condition("wide", "sigma is 1")
BARS = Theorem(
    "bars", "the mean is covered", "error, in bars", AT_MOST, THIS_RUN, "toy", (WIDE, UNSEEN)
)


def multiplier():
    return 2.5758293  # 1 % two-sided


class Run:
    def __init__(self, x, measure, truth):
        self.centre, self.half = x.mean(), multiplier() / math.sqrt(len(x))
        measured = exact(abs(self.centre - truth) / self.half) if measure else None
        answers = (WIDE.check(x.std() < 2, f"{x.std():.2f}"), UNSEEN.unchecked("no data show it"))
        self.certificates = (
            BARS(bound=1.0, confidence=0.99, trivial=10.0, measured=measured, answers=answers),
        )


def run(x, truth, measure=False):
    if len(x) == 0:
        raise ValueError("no data")
    return Run(x, measure, truth)


worlds = Worlds("toy", (BARS,))


def instance(x, truth=0.0):
    return Instance(
        {"x": x, "truth": truth}, lambda r: {"bars": bool(abs(r.centre - truth) <= r.half)}
    )


@worlds.world(run=run)
def honest(rng, strength):
    """Normal rows of known spread."""
    return instance(rng.standard_normal(30))


@worlds.world(run=run, breaks=WIDE, strengths=(1.0, 4.0), broken_from=4.0)
def spread(rng, strength):
    """Rows spread more than the bars suppose."""
    return instance(strength * rng.standard_normal(30))


@worlds.world(run=run, breaks=UNSEEN, noticeable=False)
def shifted(rng, strength):
    """Rows that are off by one, which nobody can see."""
    return instance(1 + rng.standard_normal(30))


@worlds.world(run=run, breaks=WIDE, refuses=(ValueError,))
def empty(rng, strength):
    """No rows at all: refused."""
    return instance(np.zeros(0))


@worlds.world(run=run, expects=Verdict.FAILS)
def demand(rng, strength):
    """The truth that is asked about is another one."""
    return Instance(
        {"x": rng.standard_normal(30), "truth": 3.0, "measure": True}, lambda r: {"bars": False}
    )


worlds.mutant(
    "bars",
    "multiplier halved",
    target="toy_worlds:multiplier",
    change=lambda f: lambda: f() / 2,
    world=honest,
)
