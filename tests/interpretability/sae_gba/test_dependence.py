import numpy as np
import pytest

from whp.interpretability._sae_gba.dependence import (
    distance_of_relatives,
    hashes,
    in_file_order,
    nearly_repeated,
    neighbouring_pairs,
    neighbours,
    repeated,
    whole_groups,
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


@pytest.mark.parametrize("distance", [2, 3, 7, 60])
def test_pairs_at_a_distance_share_no_row(distance):
    inside = np.flatnonzero(np.random.default_rng(0).random(500) < 0.8)
    pairs = neighbouring_pairs(inside, None, 1000, np.random.default_rng(1), distance)
    assert (pairs[:, 1] - pairs[:, 0] == distance).all()
    assert np.isin(pairs, inside).all()
    assert np.unique(pairs).size == pairs.size > 150


@pytest.mark.parametrize("neurons", [12, 300])
@pytest.mark.parametrize("batch", [8, 37, 500])
def test_relatives_are_looked_for_where_they_are(batch, neurons):
    """Rows of a batch's texts come in turn; each, one time in two, fires as its text does."""
    rng = np.random.default_rng(0)
    own, texts = rng.random((2000, neurons)) < 0.1, rng.random((batch, neurons)) < 0.1
    alike = rng.random(2000) < 0.5
    fires = np.where(alike[:, None], texts[np.arange(2000) % batch], own)
    inside = np.flatnonzero(rng.random(2000) < 0.9)
    places = np.flatnonzero(rng.random(2000) < 0.5)
    assert distance_of_relatives(fires[places], places, 2, rng) % batch == 0
    found, distance = in_file_order(lambda rows: fires[rows], inside, None, rng)
    assert found.p < 1e-3
    assert distance % batch == 0
    cut = np.arange(2000) // 2  # texts in pairs of rows, and each pair a group of its own
    if batch == 8:
        assert in_file_order(lambda rows: fires[rows], inside, cut, rng)[0].p < 0.02


@pytest.mark.parametrize("grouped", [False, True])
def test_strangers_at_any_distance_are_not_refuted_at_any_level(grouped):
    """Rows of a group that fire alike are none of each other's strangers, and do no harm."""
    rng = np.random.default_rng(0)
    ps = []
    for _ in range(300):
        groups = np.sort(rng.integers(0, 100, 300)) if grouped else None
        fires = rng.random((300, 12)) < rng.uniform(0.02, 0.5, 12)
        if grouped:
            fires = np.where((rng.random(300) < 0.7)[:, None], fires[groups], fires)
        held = groups % 10 == 0 if grouped else np.arange(300) % 10 == 0
        test, _ = in_file_order(lambda rows, f=fires: f[rows], np.flatnonzero(~held), groups, rng)
        ps.append(test.p)
    for q in (0.05, 0.2, 0.5):
        assert np.mean(np.array(ps) <= q) <= q + 3 * np.sqrt(q * (1 - q) / 300)


def test_whole_groups_are_known_again_in_any_order():
    rng = np.random.default_rng(0)
    keys = hashes(rng.normal(size=(30, 4)))
    order = np.concatenate([np.arange(30), rng.permutation(10), rng.permutation(10)[:9]])
    groups = np.concatenate([np.arange(30) // 10, np.full(10, 7), np.full(9, 8)])
    kinds, sums = whole_groups(keys[order], groups)
    assert kinds.tolist() == [0, 1, 2, 7, 8]
    assert sums[0] == sums[3]
    assert len(np.unique(sums)) == 4


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
