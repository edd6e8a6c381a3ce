import math
import os
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import chisquare

from whp.privacy import Noise, discrete_gaussian, discrete_laplace
from whp.privacy._dp_continual_release.accuracy import root_above
from whp.privacy._dp_continual_release.noise import OsEntropy, SeededEntropy


def test_a_discrete_gaussian_has_its_law():
    x = discrete_gaussian(2.0, 1_000_000, SeededEntropy(1))
    k = np.arange(-12, 13)
    p = np.exp(-(k**2) / 8)
    p /= np.exp(-(np.arange(-60, 61) ** 2) / 8).sum()
    counts = np.array([(x == v).sum() for v in k])
    inside = np.abs(k) <= 8
    assert (
        chisquare(counts[inside], p[inside] / p[inside].sum() * counts[inside].sum()).pvalue > 1e-3
    )
    assert x.var() == pytest.approx(4, abs=0.03)


@pytest.mark.parametrize("sigma", [0.4, 1.3, 71.65, 3000.5, 1e8])
def test_variances_of_all_sizes(sigma):
    x = discrete_gaussian(sigma, 100_000, SeededEntropy(2)).astype(float)
    scale = float(Noise("gaussian", sigma, OsEntropy()).scale)
    assert sigma <= scale <= sigma * (1 + 5e-5) + 1e-12
    k = np.arange(-40, 41)
    p = np.exp(-(k**2) / (2 * scale**2))
    wanted = (k**2 * p).sum() / p.sum() if scale < 2 else scale**2
    assert x.var() == pytest.approx(wanted, rel=0.03)
    assert abs(x.mean()) < 5 * x.std() / math.sqrt(1e5)


def test_discrete_laplace_has_its_law():
    x = discrete_laplace(10.0, 400_000, SeededEntropy(3))
    q = math.exp(-0.1)
    k = np.arange(-60, 61)
    counts = np.array([(x == v).sum() for v in k])
    p = (1 - q) / (1 + q) * q ** np.abs(k)
    assert chisquare(counts, p / p.sum() * counts.sum()).pvalue > 1e-3
    assert discrete_laplace(Fraction(7, 3), 200_000, SeededEntropy(4)).var() == pytest.approx(
        10.72, rel=0.03
    )


def test_no_float_is_drawn():
    assert discrete_gaussian(3.0, 10).dtype == np.int64
    assert isinstance(Noise("gaussian", 2.5, OsEntropy()).scale, Fraction)
    value = Fraction(5, 7)
    assert value <= root_above(value) ** 2 <= value * (1 + Fraction(1, 2**38))
    with pytest.raises(ValueError, match="scale"):
        discrete_gaussian(-1.0, 3)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_children_of_a_fork_draw_noise_of_their_own():
    noise = Noise("gaussian", 1000.0, OsEntropy())
    noise.draw(1)  # bits are fetched ahead
    told = []
    for _ in range(2):
        read, write = os.pipe()
        if os.fork() == 0:
            os.write(write, noise.draw(8).tobytes())
            os._exit(0)
        os.wait()
        told.append(os.read(read, 64))
        os.close(read)
        os.close(write)
    assert len(told[0]) == 64
    assert told[0] != told[1]
    assert noise.draw(8).tobytes() not in told
