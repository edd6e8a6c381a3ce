"""A certificate's own error rate, measured where the truth is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import binom

from whp.certificate import Certificate, Verdict
from whp.intervals import Estimate, proportion

Instance = Callable[[np.random.Generator], Certificate | Sequence[Certificate]]


def verdicts(instance: Instance, n: int = 300, seed: int = 0) -> dict[str, Counter[Verdict]]:
    """How often each certificate came to each verdict over `n` seeded instances."""
    counts: dict[str, Counter[Verdict]] = {}
    for rng in np.random.default_rng(seed).spawn(n):
        made = instance(rng)
        for certificate in (made,) if isinstance(made, Certificate) else made:
            counts.setdefault(certificate.name, Counter())[certificate.verdict] += 1
    return counts


def error_rate(instance: Instance, n: int = 300, seed: int = 0) -> dict[str, Estimate]:
    """Rate of broken bounds, by certificate name, with its Clopper-Pearson interval."""
    return {
        name: proportion(c[Verdict.FAILS], c.total())
        for name, c in verdicts(instance, n, seed).items()
    }


def assert_error_rate(
    instance: Instance, delta: float, n: int = 300, seed: int = 0, name: str | None = None
) -> None:
    """The bound breaks at most a fraction `delta`, and every instance really tested it.

    A true rate of `delta` passes with probability 0.999; three times `delta` = 0.05 is caught at n = 300 with 0.997.
    """
    for certificate, counts in verdicts(instance, n, seed).items():
        if name is not None and certificate != name:
            continue
        untested = counts[Verdict.VOID] + counts[Verdict.UNMEASURED]
        assert untested == 0, (
            f"{certificate}: {untested} of {n} instances tested nothing: {dict(counts)}"
        )
        assert counts[Verdict.FAILS] <= binom.ppf(0.999, n, delta), (
            f"{certificate}: {dict(counts)} at delta {delta}"
        )
