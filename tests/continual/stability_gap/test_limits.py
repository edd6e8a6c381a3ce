import numpy as np
import pytest
from continual_streams import run_of

from whp.continual import stability_gap
from whp.continual._stability_gap.outcomes import Outcomes


def test_5_a_redrawn_subset_is_biased_and_a_fixed_one_is_not():
    rng = np.random.default_rng(0)
    redrawn = rng.binomial(1000, 0.9, (2000, 500)).min(axis=1).mean() / 1000
    assert redrawn == pytest.approx(0.870127, abs=5e-4)
    right = rng.random(100) < 0.9
    same = [np.tile(right, (6, 1)), np.tile(right, (3, 1))]
    fixed = stability_gap(None, [3, 6], correct=same)
    assert fixed.min_acc.value == right.mean()


def test_paired_limits_are_narrower_than_those_of_the_band():
    correct, ends = run_of(0.3)
    paired = stability_gap(None, ends, correct=correct).certificates[0].measured
    accuracy = np.full((2, 40), np.nan)
    accuracy[0], accuracy[1, 20:] = correct[0].mean(axis=1), 1.0
    alone = stability_gap(accuracy, ends, n=400).certificates[0].measured
    assert paired.value == pytest.approx(alone.value)
    assert paired.high - paired.low < 0.8 * (alone.high - alone.low)


def test_a_long_run_is_quick():
    import time

    rng = np.random.default_rng(0)
    K, steps = 20, 500
    outcomes = Outcomes.of([rng.random((steps * (K - k), 200)) < 0.9 for k in range(K)])
    start = time.process_time()
    result = stability_gap(None, [steps * (k + 1) for k in range(K)], correct=outcomes)
    assert time.process_time() - start < 4
    assert len(result.gaps) == 190
