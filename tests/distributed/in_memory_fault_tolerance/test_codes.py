import itertools
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whp.distributed._in_memory_fault_tolerance.codes import (
    ErasureGroup,
    gf_inverse,
    gf_product,
    tables,
)


def pattern(n, m):
    j = np.arange(2 * (n - m))
    return [((17 * i + 31 * j + 7) % 256).astype(np.uint8) for i in range(n)]


def keyed(group, parity):
    """(stripe, row) to bytes, node by node, keys ascending."""
    return [
        {
            key: parity[i][key[1]]
            for key in sorted((s, r) for r, s in enumerate(group.parity_stripes(i)))
        }
        for i in range(group.n)
    ]


def crc(group, parity):
    return zlib.crc32(
        b"".join(row.tobytes() for node in keyed(group, parity) for row in node.values())
    )


def every_loss(group, shards, parity):
    for u in range(group.m + 1):
        for lost in itertools.combinations(range(group.n), u):
            left = [None if i in lost else s for i, s in enumerate(shards)]
            rows = [None if i in lost else p for i, p in enumerate(parity)]
            for a, b in zip(group.decode(left, rows), shards, strict=True):
                np.testing.assert_array_equal(a, b)


def test_1_single_parity():
    group = ErasureGroup(4, 1)
    shards = pattern(4, 1)
    parity = group.encode(shards)
    assert [p[0].tolist() for p in parity] == [[11, 38], [24, 55], [165, 196], [178, 213]]
    assert crc(group, parity) == 0xA4F81633
    every_loss(group, shards, parity)


def test_2_double_parity():
    group = ErasureGroup(6, 2)
    shards = pattern(6, 2)
    parity = group.encode(shards)
    nodes = keyed(group, parity)
    assert {k: v.tolist() for k, v in nodes[0].items()} == {(0, 0): [4, 0], (5, 1): [214, 132]}
    assert {k: v.tolist() for k, v in nodes[3].items()} == {(2, 1): [192, 94], (3, 0): [164, 100]}
    assert crc(group, parity) == 0x9F44E773
    every_loss(group, shards, parity)


def test_3_triple_parity():
    group = ErasureGroup(5, 3)
    shards = pattern(5, 3)
    parity = group.encode(shards)
    found = {k: v.tolist() for k, v in keyed(group, parity)[0].items()}
    assert found == {(0, 0): [113, 51], (3, 2): [242, 72], (4, 1): [151, 181]}
    assert crc(group, parity) == 0x35022A88
    every_loss(group, shards, parity)


def test_4_a_fourth_row_of_powers_is_refused_and_cauchy_decodes():
    with pytest.raises(
        ValueError, match=r"codec='power' survives at most m=3.*columns 0, 10 and 21"
    ):
        ErasureGroup(26, 4, "power")
    product = tables()[0]
    powers = np.ones((4, 22), dtype=np.uint8)
    for r, c in itertools.product(range(4), range(1, 22)):
        powers[r, c] = product[powers[r, c - 1], 1 << r]
    with pytest.raises(ValueError, match="singular"):
        gf_inverse(powers[np.ix_([0, 1, 3], [0, 10, 21])])
    group = ErasureGroup(26, 4)
    assert group.codec == "cauchy"
    rng = np.random.default_rng(0)
    shards = [rng.integers(0, 256, 22 * 8, dtype=np.uint8) for _ in range(26)]
    parity = group.encode(shards)
    columns = [shards[i][:8] for i in range(22)]
    rows = group.parity_of_stripe(columns)
    for _ in range(200):
        lost = set(rng.choice(26, 4, replace=False).tolist())
        found = group.restore_stripe(
            [None if i in lost else c for i, c in enumerate(columns)],
            [None if 22 + r in lost else p for r, p in enumerate(rows)],
        )
        np.testing.assert_array_equal(found, columns)
    for _ in range(10):
        lost = rng.choice(26, 4, replace=False)
        found = group.decode(
            [None if i in lost else s for i, s in enumerate(shards)],
            [None if i in lost else p for i, p in enumerate(parity)],
        )
        for i in lost:
            np.testing.assert_array_equal(found[i], shards[i])


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_power_rows_keep_their_distance(rows):
    """Every square submatrix of the columns that a shard of 14 nodes has is invertible."""
    matrix = ErasureGroup(11 + rows, rows).matrix
    for u in range(1, rows + 1):
        for r in itertools.combinations(range(rows), u):
            for c in itertools.combinations(range(11), u):
                square = matrix[np.ix_(r, c)]
                np.testing.assert_array_equal(gf_product(square, gf_inverse(square)), np.eye(u))


def slow(group, shards):
    """Parity from product tables, a stripe at a time."""
    size = group.block_length(len(shards[0]))
    padded = [
        np.concatenate([s, np.zeros(size * group.k - len(s), np.uint8)]).reshape(group.k, size)
        for s in shards
    ]
    parity = [np.zeros((group.m, size), np.uint8) for _ in shards]
    for s in range(group.n):
        columns = np.stack([padded[i][group.block_of(i, s)] for i in group.data_nodes(s)])
        for r, row in enumerate(gf_product(group.matrix, columns)):
            parity[(s + r) % group.n][r] = row
    return parity


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 9), st.data())
def test_5_codes_agree_and_are_linear(n, data):
    m = data.draw(st.integers(0, n - 1))
    length = data.draw(st.integers(0, 200))
    codec = data.draw(st.sampled_from(["auto", "cauchy", "replica"]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    group, plain = (
        ErasureGroup(n, m, codec, kernel="numba"),
        ErasureGroup(n, m, codec, kernel="numpy"),
    )
    a, b = ([rng.integers(0, 256, length, dtype=np.uint8) for _ in range(n)] for _ in range(2))
    encoded = group.encode(a)
    np.testing.assert_array_equal(encoded, plain.encode(a))
    if codec != "replica":
        np.testing.assert_array_equal(encoded, slow(group, a))
    both = group.encode([x ^ y for x, y in zip(a, b, strict=True)])
    for x, y, z in zip(encoded, group.encode(b), both, strict=True):
        np.testing.assert_array_equal(x ^ y, z)
    assert not np.any(group.encode([np.zeros(length, np.uint8)] * n))
    lost = rng.choice(n, rng.integers(0, m + 1), replace=False)
    for code in (group, plain):
        found = code.decode(
            [None if i in lost else s for i, s in enumerate(a)],
            [None if i in lost else p for i, p in enumerate(encoded)],
        )
        np.testing.assert_array_equal(found, a)


def test_long_blocks_agree():
    rng = np.random.default_rng(0)
    for n, m in ((6, 2), (9, 3), (3, 2), (7, 1)):
        shards = [rng.integers(0, 256, 900_001, dtype=np.uint8) for _ in range(n)]
        encoded = ErasureGroup(n, m, kernel="numba").encode(shards)
        np.testing.assert_array_equal(encoded, ErasureGroup(n, m, kernel="numpy").encode(shards))
        if n < 5:
            every_loss(ErasureGroup(n, m), shards, encoded)


def test_geometry():
    group = ErasureGroup(7, 3)
    for node in range(7):
        assert len(group.data_stripes(node)) == group.k
        for s in range(7):
            assert (node in group.parity_nodes(s)) == (s in group.parity_stripes(node))
            assert (node in group.data_nodes(s)) == (s in group.data_stripes(node))
    assert group.overhead == 0.75
    assert ErasureGroup(7, 3, "replica").overhead == 3


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0, 0), ValueError, "n must be in 1..255"),
        ((4, 4), ValueError, "m must be less than n"),
        ((1, 1), ValueError, "m must be less than n"),
        ((4, -1), ValueError, "m must be at least 0"),
        ((4, 1, "xor"), ValueError, "codec must be one of"),
        ((256, 1), ValueError, "n must be in 1..255"),
    ],
)
def test_groups_that_cannot_be(arguments, error, message):
    with pytest.raises(error, match=message):
        ErasureGroup(*arguments)


def test_shards_that_do_not_fit():
    group = ErasureGroup(3, 1)
    good = [np.zeros(4, np.uint8)] * 3
    with pytest.raises(ValueError, match="one entry for each of 3"):
        group.encode(good[:2])
    with pytest.raises(ValueError, match="equally long"):
        group.encode([*good[:2], np.zeros(5, np.uint8)])
    with pytest.raises(
        TypeError, match=r"shards\[1\] must be bytes or an array of uint8, got float64"
    ):
        group.encode([good[0], np.zeros(4), good[1]])
    with pytest.raises(TypeError, match="must be a sequence"):
        group.encode(3)
    with pytest.raises(ValueError, match="complete"):
        group.encode([good[0], None, good[0]])
    parity = group.encode(good)
    with pytest.raises(ValueError, match="2 of 3 nodes are lost"):
        group.decode([None, None, good[0]], parity)
    with pytest.raises(ValueError, match="parity must hold arrays of shape"):
        group.decode([None, good[0], good[0]], [p[:, :1] for p in parity])
    with pytest.raises(ValueError, match="parity blocks are left"):
        group.decode([None, good[0], good[0]], [None, None, None])
    assert group.encode([b"abcd"] * 3)[0].shape == (1, 2)
