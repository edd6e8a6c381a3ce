import numpy as np
import pytest

from whp.interpretability._sae_gba.chance import Chance, matched_chance
from whp.interpretability._sae_gba.formulas import nearest, unit_rows

SPREAD = np.sqrt(1 / np.arange(1, 33))


def drawn(rng, m=128):
    return unit_rows(rng.normal(size=(m, 32)) * SPREAD)


@pytest.mark.parametrize("kept", [1.0, 0.5, 0.2])
def test_chance_is_that_of_live_directions(kept):
    """Where those that see most variance are live, more come back by chance: three times, at a fifth."""
    rng = np.random.default_rng(0)
    seen = []
    for _ in range(30):
        both = [drawn(rng) for _ in range(2)]
        live = [W[np.argsort(-np.square(W * SPREAD).sum(axis=1))[: int(128 * kept)]] for W in both]
        seen.append(float((nearest(*live) > 0.7).mean()))
    X = rng.normal(size=(2000, 32)) * SPREAD
    chance = matched_chance(X, *live, 0.7, rng)
    assert chance.gaussian == pytest.approx(np.mean(seen), abs=0.08)
    assert chance.rows == pytest.approx(np.mean(seen), abs=0.12)
    assert chance.cap < 0.01


def test_heavy_rows_come_back_more_often():
    rng = np.random.default_rng(0)
    X = rng.standard_t(2.5, size=(2000, 32)) * SPREAD
    W = unit_rows(X[:128])
    chance = matched_chance(X, W, W, 0.7, rng)
    assert chance.largest == max(chance.gaussian, chance.rows, chance.cap)
    assert chance.largest >= chance.gaussian


def test_nothing_live_and_few_rows():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3, 4))
    assert matched_chance(X, X[:0], X, 0.7, rng) == Chance(0, 0, 0)
    assert 0 <= matched_chance(X, X, X, 0.7, rng).largest <= 1


def test_many_neurons_are_thinned_out_and_made_up_for():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 8))
    W = unit_rows(rng.normal(size=(3000, 8)))
    few, many = (matched_chance(X, W[:200], W[:m], 0.9, rng).gaussian for m in (2000, 3000))
    assert many > few
