import numpy as np
import pytest
from continual_streams import dipping
from guarantee import assert_error_rate

from whp.certificate import Verdict
from whp.continual._stability_gap import theorems as t
from whp.continual._stability_gap.bands import band
from whp.continual._stability_gap.limits import Limits
from whp.continual._stability_gap.metrics import Curves
from whp.continual._stability_gap.outcomes import Outcomes


def audited(correct, chosen, moments, delta=0.05):
    T, N = correct.shape
    n, moments = len(chosen), list(moments)
    seen = correct[moments][:, chosen].mean(axis=1)
    low, high = band(seen, n, delta / T, N, "set")
    whole = correct[moments].mean(axis=1)
    looks = [(*map(float, row), n, N) for row in zip(seen, low, high, whole, strict=True)]
    return t.band_audit(looks, delta=delta, cells=T)


def test_6_error_rate_of_the_band():
    def instance(rng):
        correct, _ = dipping(rng, 100)
        return audited(correct, rng.permutation(400)[:100], range(60))

    assert_error_rate(instance, 0.05, n=200)


def test_6_the_easiest_rows_are_found_out():
    correct, hardness = dipping(np.random.default_rng(0), 100)
    chosen = np.argsort(hardness)[:100]
    assert audited(correct, chosen, (19, 20, 21)).verdict == Verdict.FAILS


def test_an_audit_that_could_not_fail_is_vacuous():
    """Of 400 rows 399 were looked at: the one that is left cannot leave the band."""
    correct, _ = dipping(np.random.default_rng(0), 100)
    assert audited(correct, np.arange(1, 400), (19,)).verdict is Verdict.VACUOUS
    assert t.band_audit([], delta=0.05, cells=60).verdict is Verdict.VACUOUS


def test_6_error_rate_of_the_hidden_drop():
    """The demand is the truth itself: it must not fail, and not hold, more often than delta."""

    def instance(rng):
        N, T = 2000, 30
        hardness = rng.random(N)
        level = 0.8 - 0.2 * np.exp(-(((np.arange(T) - 20) / 3) ** 2))
        correct = hardness[None] + 0.1 * rng.normal(size=(T, N)) < level[:, None]
        true = correct.mean(axis=1)
        gap = (true[-1] - true[15:].min()) / 2  # two tasks, the second at rest
        chosen = rng.permutation(N)[:150]
        outcomes = Outcomes.of([correct[:, chosen], np.ones((15, 150), dtype=bool)])
        accuracy = np.full((2, T), np.nan)
        accuracy[0], accuracy[1, 15:] = outcomes.accuracy(0), 1.0
        curves = Curves(accuracy, np.arange(1, T + 1), np.array([14, T - 1]))
        limits = Limits(curves, (150, 150), (N, N), "set", 0.05, True, outcomes)
        measured, trivial = limits.hidden()
        theorem = t.HIDDEN_DROP.variant(conditions=())
        return t.hidden_drop(
            theorem, measured, float(gap), trivial=trivial, delta=0.05, answers=(), inputs={}
        )

    assert_error_rate(instance, 0.05, n=150)


def test_the_confidence_is_that_of_the_interval():
    curves = Curves(np.full((2, 4), [[0.9], [0.9]]), np.arange(1, 5), np.array([1, 3]))
    measured, trivial = Limits(curves, (100, 100), None, "population", 0.1, True).hidden()
    made = t.hidden_drop(
        t.HIDDEN_DROP.variant(conditions=()),
        measured,
        0.3,
        trivial=trivial,
        delta=0.1,
        answers=(),
        inputs={},
    )
    assert made.sure == pytest.approx(0.9)
