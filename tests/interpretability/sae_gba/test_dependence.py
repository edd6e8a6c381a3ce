import numpy as np
import pytest

from whp.interpretability._sae_gba.dependence import (
    hashes,
    nearly_repeated,
    neighbouring_pairs,
    neighbours,
    repeated,
)


def test_pairs_are_neighbours_and_share_no_row():
    rng = np.random.default_rng(0)
    inside = np.array([0, 1, 2, 3, 4, 7, 8, 10, 12, 13, 14])
    pairs = neighbouring_pairs(inside, None, 100, rng)
    assert pairs.tolist() == [[0, 1], [2, 3], [7, 8], [12, 13]]
    assert len(neighbouring_pairs(inside, None, 2, rng)) == 2
    groups = np.repeat(np.arange(8), 2)
    assert neighbouring_pairs(inside, groups, 100, rng).tolist() == [
        [1, 2],
        [3, 4],
        [7, 8],
        [13, 14],
    ]
    assert len(neighbouring_pairs(inside, np.zeros(15, int), 100, rng)) == 0
    every = neighbouring_pairs(np.arange(100), None, 1000, rng)
    assert np.unique(every).size == every.size == 100


def test_strangers_are_not_refuted_at_any_level():
    """A p-value below q comes at most so often."""
    rng = np.random.default_rng(0)
    ps = []
    for _ in range(300):
        fires = rng.random((2, 60, 12)) < rng.uniform(0.02, 0.5, 12)
        ps.append(neighbours(*fires, rng, permutations=199).p)
    for q in (0.05, 0.2, 0.5):
        assert np.mean(np.array(ps) <= q) <= q + 3 * np.sqrt(q * (1 - q) / 300)


@pytest.mark.parametrize("copied", [1.0, 0.2])
def test_copies_are_seen(copied):
    rng = np.random.default_rng(1)
    a, b = rng.random((2, 300, 20)) < 0.1
    b = np.where((rng.random(300) < copied)[:, None], a, b)
    assert neighbours(a, b, rng).p < 1e-3


def test_what_is_promised_to_be_seen_is_seen():
    """The share of copies that a test of strangers names is refuted in about nine of ten."""
    rng = np.random.default_rng(2)
    a, b = rng.random((2, 400, 20)) < 0.1
    named = float(neighbours(a, b, rng).sees.split()[0])
    refuted = 0
    for _ in range(30):
        a, b = rng.random((2, 400, 20)) < 0.1
        b = np.where((rng.random(400) < named)[:, None], a, b)
        refuted += neighbours(a, b, rng).p < 1e-3
    assert refuted >= 21


def test_nothing_to_look_at():
    none = np.zeros((50, 4), bool)
    rng = np.random.default_rng(0)
    assert neighbours(none, none, rng).p == 1
    assert neighbours(none[:3], none[:3], rng).sees.startswith("nothing")


def test_equal_rows_are_counted_wherever_they_stand():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 5)).astype(np.float32)
    assert repeated(hashes(x), hashes(rng.normal(size=(900, 5)))) == 0
    assert repeated(hashes(x[:100]), hashes(x[90:])) == pytest.approx(0.1)
    assert repeated(hashes(x[[0, 1, 1, 2]]), hashes(x[:0])) == 0.5
    zero = np.array([[0.0, 1.0], [-0.0, 1.0]], np.float32)
    assert repeated(hashes(zero), hashes(zero[:0])) == 1
    many = hashes(rng.normal(size=(100_000, 2)))
    assert len(np.unique(many)) == len(many)


@pytest.mark.parametrize("d", [1, 2, 3, 30])
def test_rows_of_a_density_are_no_copies(d):
    rng = np.random.default_rng(0)
    for law in (rng.normal, rng.standard_cauchy):
        assert nearly_repeated(law(size=(500, d)), law(size=(3000, d))) <= 0.01


@pytest.mark.parametrize("copies", [1, 3, 8])
@pytest.mark.parametrize("noise", [1e-5, 1e-3])
def test_near_copies_are_counted(copies, noise):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 20)).astype(np.float32)
    others = np.repeat(x, copies, axis=0)
    others = (others + noise * rng.normal(size=others.shape)).astype(np.float32)
    more = rng.normal(size=(1000, 20)).astype(np.float32)
    assert nearly_repeated(x, np.concatenate([others, more])) > 0.95
    assert nearly_repeated(x, np.concatenate([x, more])) == 0  # equal rows are another's business
