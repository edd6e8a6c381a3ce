import copy
import math
import pickle

import numpy as np
import pytest
import scipy.linalg as sl
import scipy.sparse as sp

from whp.linalg import (
    SRHT,
    BlockSRHT,
    GaussianSketch,
    PooledHadamard,
    SubsampledCirculant,
    TensorSRHT,
    fwht,
)
from whp.provenance import made_here

MAPS = {
    "srht": lambda n, m, rng: SRHT(n, m, rng),
    "srht with replacement": lambda n, m, rng: SRHT(n, m, rng, replace=True),
    "pooled": PooledHadamard,
    "circulant": SubsampledCirculant,
    "gaussian": GaussianSketch,
    "blocks": lambda n, m, rng: BlockSRHT(n, m, 64, rng),
    "tensor": lambda n, m, rng: TensorSRHT(n // 6, 6, m, rng),
}


@pytest.mark.parametrize("make", MAPS.values(), ids=MAPS)
def test_adjoint_linearity_and_types(make):
    S = make(90, 24, 0)
    dense = S @ np.eye(90)
    np.testing.assert_allclose(S.T @ np.eye(24), dense.T, atol=1e-13)
    x = np.random.default_rng(1).standard_normal((90, 3))
    np.testing.assert_allclose(S @ x, dense @ x, atol=1e-12)
    np.testing.assert_allclose(S @ x[:, 0], dense @ x[:, 0], atol=1e-12)
    np.testing.assert_allclose(S @ sp.csc_array(x), dense @ x, atol=1e-12)
    single = S @ x.astype(np.float32)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, dense @ x, atol=1e-4)
    np.testing.assert_array_equal(dense, make(90, 24, 0) @ np.eye(90))


@pytest.mark.parametrize("make", MAPS.values(), ids=MAPS)
def test_isotropic(make):
    draws, m = 200, 24
    gram = (
        sum(
            (s := make(90, m, rng) @ np.eye(90)).T @ s
            for rng in np.random.default_rng(0).spawn(draws)
        )
        / draws
    )
    # entries have variance at most 3/(m draws) for dense sketches; eight standard deviations over 8,100 of them
    assert np.abs(gram - np.eye(90)).max() < 8 * math.sqrt(3 / (m * draws))


def test_sampled_transform_equals_the_whole_one():
    n, m = 3000, 700
    S = SRHT(n, m, 3)
    x = np.random.default_rng(0).standard_normal((n, 130))
    padded = np.zeros((S.padded, 130))
    padded[:n] = (x * S.signs[:, None])[S.order]
    np.testing.assert_allclose(S @ x, fwht(padded)[S.rows] / math.sqrt(m), atol=1e-11)


def test_pooling_by_hand():
    S = PooledHadamard(13, 5, 0)
    H = sl.hadamard(16) / 4
    pool = np.zeros((5, 16))
    for i, start in enumerate(S.starts):
        pool[i, start : [*S.starts, 16][i + 1]] = 1
    expected = pool @ np.diag(S.weights) @ H[S.order][:, :13] @ np.diag(S.signs)
    np.testing.assert_allclose(S @ np.eye(13), expected, atol=1e-12)
    assert set(np.diff([*S.starts, 16])) == {3, 4}


def test_pooling_distortion_vanishes_with_block_size():
    A = np.linalg.qr(np.random.default_rng(0).standard_normal((4096, 4)))[0]
    small, large = (PooledHadamard(4096, m, 0).distortion(A) for m in (256, 8))
    assert large < 0.5 < small


def test_circulant_by_hand():
    S = SubsampledCirculant(11, 6, 0)
    permuted = sl.circulant(S.generator) @ np.eye(11)[S.order]
    expected = (permuted * S.signs)[S.rows] / math.sqrt(6)
    np.testing.assert_allclose(S @ np.eye(11), expected, atol=1e-12)


def test_tensor_sketch_of_a_kronecker_product():
    rng = np.random.default_rng(0)
    A1, A2 = rng.standard_normal((13, 3)), rng.standard_normal((9, 2))
    S = TensorSRHT(13, 9, 40, 1)
    np.testing.assert_allclose(S.kron(A1, A2), S @ np.kron(A1, A2), atol=1e-11)


def test_without_signs_the_sketch_is_rank_deficient():
    A = sl.hadamard(256)[:, :4].astype(float)
    ranks = {True: [], False: []}
    for rng in np.random.default_rng(0).spawn(200):
        for signed in ranks:
            S = SRHT(256, 64, rng, signs=None if signed else np.ones(256))
            ranks[signed].append(np.linalg.matrix_rank(S @ A) < 4)
    assert np.mean(ranks[False]) > 0.97
    assert not any(ranks[True])


@pytest.mark.parametrize(
    "arguments", [{"rows": np.array([0, 9])}, {"signs": np.zeros(8)}, {"rows": np.array([1])}]
)
def test_srht_refuses(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        SRHT(8, 2, 0, **arguments)


@pytest.mark.parametrize("make", MAPS.values(), ids=MAPS)
def test_only_what_was_drawn_here_counts_as_such(make):
    S = make(90, 24, 0)
    assert made_here(S, type(S))
    assert not made_here(copy.copy(S), type(S))
    # Its own bytes: what travelled was not drawn by this process.
    assert not made_here(pickle.loads(pickle.dumps(S)), type(S))
    S.shape = (24, 91)
    assert not made_here(S, type(S))


def test_signs_or_rows_by_hand_are_not_drawn_here():
    assert made_here(SRHT(8, 4, 0), SRHT)
    assert not made_here(SRHT(8, 4, 0, signs=np.ones(8)), SRHT)
    assert not made_here(SRHT(8, 4, 0, rows=np.arange(4)), SRHT)
    with pytest.raises(ValueError, match="read-only"):
        SRHT(8, 4, 0).signs[0] = 1.0


@pytest.mark.parametrize("make", [SRHT, PooledHadamard, SubsampledCirculant])
def test_signs_are_not_those_of_data_from_the_same_seed(make):
    first = np.random.default_rng(7).choice(np.array([-1.0, 1.0]), 1000)
    assert abs(make(1000, 50, 7).signs @ first) < 200


def test_repeats_count_the_same_rows_of_the_sketch():
    X = np.random.default_rng(0).standard_normal((64, 3))
    for S in (
        SRHT(64, 64, 0, replace=True),
        SubsampledCirculant(64, 64, 0, replace=True),
        TensorSRHT(8, 8, 64, 0),
        BlockSRHT(128, 128, 64, 0, replace=True),
    ):
        SX = S @ np.resize(X, (S.shape[1], 3))
        same = np.abs(SX[:, None] - SX[None]).max(axis=2) < 1e-12
        if isinstance(S, BlockSRHT):  # of the same data: rows are told apart by their blocks
            same &= np.equal.outer(np.arange(128) < 64, np.arange(128) < 64)
        np.testing.assert_array_equal(S.repeats, same.sum(axis=1))
    assert (SRHT(64, 64, 0).repeats == 1).all()
