from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from whp.privacy import plan_release
from whp.privacy._dp_continual_release.accuracy import ROUNDING
from whp.privacy._dp_continual_release.counters import NEAR, counter
from whp.privacy._dp_continual_release.noise import OsEntropy


def bits(T, d, seed=0):
    return np.random.default_rng(seed).integers(0, 2, (T, d)).astype(np.uint8)


@pytest.mark.parametrize("strategy", ["tree", "sqrt", "naive"])
def test_without_noise_counts_are_exact(strategy):
    for T in (*range(1, 40), 63, 64, 65, 127, 128, 200, 300):
        plan = replace(plan_release("counts", T, 2, rho=0.5, strategy=strategy), scale=Fraction(0))
        X = bits(T, 2, T)
        wanted = np.cumsum(X, axis=0)
        np.testing.assert_allclose(counter(plan, OsEntropy(), 2).advance(X), wanted, atol=1e-6)
        stepped = counter(plan, OsEntropy(), 2)
        np.testing.assert_allclose(
            np.concatenate([stepped.advance(x[None]) for x in X]), wanted, atol=1e-6
        )


@pytest.mark.parametrize("at_once", [1, 33, 5000])
def test_rounding_of_transforms_is_within_what_the_bound_allows(at_once):
    T = 5000
    plan = plan_release("counts", T, 2, rho=0.5, strategy="sqrt")
    made = counter(replace(plan, scale=Fraction(0)), OsEntropy(), 2)
    X = bits(T, 2)
    answers = np.concatenate([made.advance(X[i : i + at_once]) for i in range(0, T, at_once)])
    assert np.abs(answers - np.cumsum(X, axis=0)).max() < T * ROUNDING


def test_steps_fold_what_blocks_transform():
    """Single records after a block, over several foldings and a growth of the room."""
    T = 5 * NEAR + 7
    plan = plan_release("counts", 1000, 3, rho=0.5, strategy="sqrt")
    made = counter(replace(plan, scale=Fraction(0)), OsEntropy(), 3)
    X = bits(T, 3)
    answers = [made.advance(X[:50])]
    answers += [made.advance(x[None]) for x in X[50 : 3 * NEAR + 5]]
    answers += [made.advance(X[3 * NEAR + 5 : 3 * NEAR + 60])]
    answers += [made.advance(x[None]) for x in X[3 * NEAR + 60 :]]
    np.testing.assert_allclose(np.concatenate(answers), np.cumsum(X, axis=0), atol=1e-6)
