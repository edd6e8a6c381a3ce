import numpy as np
import pytest
import scipy.linalg as sl

from whp.linalg import fwht


def test_fwht_by_hand():
    np.testing.assert_array_equal(fwht([1, 2, 3, 4]), [10, -2, -4, 0])


@pytest.mark.parametrize("length", [1, 2, 4, 8, 64, 512, 1024])
@pytest.mark.parametrize("width", [1, 3, 70])
def test_fwht_is_the_hadamard_matrix(length, width):
    x = np.random.default_rng(length).standard_normal((length, width))
    np.testing.assert_allclose(fwht(x), sl.hadamard(length) @ x, atol=1e-11)


@pytest.mark.parametrize("log", [13, 16, 17])
def test_fwht_twice_multiplies_by_the_length(log):
    x = np.random.default_rng(0).standard_normal((1 << log, 3))
    np.testing.assert_allclose(fwht(fwht(x)) / (1 << log), x, atol=1e-12)


def test_fwht_along_any_axis_and_in_place():
    x = np.random.default_rng(0).standard_normal((3, 16, 5))
    expected = np.einsum("ij,ajb->aib", sl.hadamard(16), x)
    np.testing.assert_allclose(fwht(x, axis=1), expected, atol=1e-12)
    np.testing.assert_allclose(fwht(x, axis=-2), expected, atol=1e-12)
    assert fwht(x, axis=1, overwrite=True) is x
    np.testing.assert_allclose(x, expected, atol=1e-12)


def test_fwht_types():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4096, 4))
    single = fwht(x.astype(np.float32))
    assert single.dtype == np.float32
    full = fwht(x)
    assert np.linalg.norm(single - full) <= 1e-5 * np.linalg.norm(full)
    np.testing.assert_allclose(fwht(x + 2j * x), full + 2j * full)
    assert fwht(np.arange(8)).dtype == np.float64


@pytest.mark.parametrize("length", [0, 3, 6, 100])
def test_fwht_refuses_other_lengths(length):
    with pytest.raises(ValueError, match="power of two"):
        fwht(np.zeros(length))


def test_fwht_refuses_what_is_no_number():
    with pytest.raises(TypeError, match="a must hold numbers"):
        fwht(["a", "b"])
    with pytest.raises(ValueError, match="dimension"):
        fwht(1.0)
