import math

import numpy as np
import pytest

from whp.distributed import expected_executed, expected_time


@pytest.mark.parametrize(
    ("P", "K", "value"),
    [(0.02, 50, 87.2986350), (0.012, 100, 195.3585338), (0.024, 100, 431.2743619)],
)
def test_expected_executed_iterations(P, K, value):
    assert expected_executed(P, K) == pytest.approx(value, abs=5e-8 * value)
    rng = np.random.default_rng(0)
    total = 0
    for _ in range(10_000):
        # runs of successes between failures are geometric; those shorter than K are thrown away
        while (run := rng.geometric(P) - 1) < K:
            total += run + 1
        total += K
    assert total / 10_000 == pytest.approx(value, rel=0.03)


def test_limits_of_the_cost_model():
    assert expected_executed(0, 50) == 50
    assert expected_executed(1e-12, 50) == pytest.approx(50)
    assert expected_executed(1, 50) == math.inf
    assert expected_executed(0.9, 5000) == math.inf
    with pytest.raises(ValueError, match="checkpoint_every"):
        expected_time(0.1, 100, 120, iteration_seconds=1.0, checkpoint_every=0)
    found = expected_time(
        0.1, 10_000, 14_500, iteration_seconds=91.32, recovery_seconds=30, checkpoint_every=100
    )
    assert found.best == "checkfree"
    assert found.threshold == pytest.approx(1.654 / (1 + 0.1 * (30 / 91.32 + 0.5)), rel=1e-3)
    assert found.redundant / 3600 == pytest.approx(419.6, rel=1e-3)
    assert found.checkfree < found.redundant < found.checkpoint
    assert (
        expected_time(0.1, 10_000, 22_000, iteration_seconds=91.32, recovery_seconds=30).best
        == "redundant"
    )
    for named, value in {"failure": 2, "iterations": 0, "iteration_seconds": 0}.items():
        change = {named: value}
        with pytest.raises(ValueError, match=named):
            expected_time(
                **(
                    {
                        "failure": 0.1,
                        "iterations": 1,
                        "checkfree_iterations": 1,
                        "iteration_seconds": 1,
                    }
                    | change
                )
            )
