"""Time domain: two routes that share no quadrature, and a third by brute force."""

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import y0, y1

from whp.qft import Field, composite, convolve, propagator, self_energy_at, self_energy_time
from whp.qft._finite_time_path.composite import by_frequency, by_time

VACUUM, BOSE = Field(), Field(distribution=1.0)


@pytest.mark.parametrize(
    ("t", "value"), [(0.1, -0.0592477382989), (1, 0.00348470580567), (5, 1.5368609842e-4)]
)
def test_the_self_energy_in_time(t, value):
    assert self_energy_time(t, 0, VACUUM) == pytest.approx(value, abs=1e-12)


def test_the_self_energy_in_time_by_bessel_functions():
    for t in (0.03, 0.4, 2.0, 11.0):
        integral = quad(y0, 0, 2 * t, limit=200, epsabs=1e-13)[0] / 2
        value = -(-np.pi / 2 * y1(2 * t) + np.pi * integral) / (8 * np.pi**2)
        assert self_energy_time(t, 0, VACUUM) == pytest.approx(value, abs=1e-10)
    assert self_energy_time(-1.0, 0, VACUUM) == 0


def test_the_product_in_four_dimensions():
    """Between the shell and the cut a dispersion integral, by another library."""
    shell = -5.8956465034e-4

    def cut(E, t):
        return -math.sqrt(1 - 4 / E**2) / (32 * np.pi) / (E**2 - 1)

    for t in (0.5, 1.0, 3.0):
        moving = quad(cut, 2, np.inf, args=(t,), weight="sin", wvar=t)[0]
        made = composite([t], 0, VACUUM)[0]
        assert made == pytest.approx(2 / np.pi * moving - shell * math.sin(t), abs=3e-9)
        other = composite([t], 0, VACUUM, scheme="onshell")[0]
        assert made - other == pytest.approx(-shell * math.sin(t), abs=1e-12)


def test_the_product_obeys_its_equation_of_motion():
    """(∂² + ω²)(G_R * Σ_R)(t) = −Σ_R(t)."""
    h = 1e-3
    for p in (0.0, 0.7):
        for t in (0.5, 2.0, 6.0):
            a, b, c = composite([t - h, t, t + h], p, VACUUM)
            left = (a - 2 * b + c) / h**2 + (1 + p * p) * b
            assert left == pytest.approx(-self_energy_time(t, p, VACUUM), rel=1e-4, abs=1e-8)


def test_the_bare_product_below_four_dimensions():
    made = composite([1.0], 0, VACUUM, kappa=0.3, scheme="bare")[0]
    assert made == pytest.approx(0.01755744, abs=1e-8)
    # the same in time, where the self-energy can now be integrated: z = u^{1/2κ}
    power = 1 / 0.6

    def integrand(u):
        z = u**power
        return -math.sin(1 - z) * self_energy_time(z, 0, VACUUM, kappa=0.3) * power * z / u

    assert made == pytest.approx(quad(integrand, 0, 1, limit=100)[0], abs=1e-8)


def test_subtracting_the_pole_in_the_product_has_a_limit():
    made = [composite([1.0], 0, VACUUM, kappa=k)[0] for k in (0.1, 0.01, 0.001)]
    limit = composite([1.0], 0, VACUUM)[0]
    assert limit == pytest.approx(5.5097e-4, abs=1e-8)
    off = np.array(made) - limit
    assert off == pytest.approx([8.22e-4, 7.66e-5, 7.61e-6], rel=0.01)


@pytest.mark.parametrize("p", [0.0, 0.5, 2.0])
@pytest.mark.parametrize(
    ("distribution", "tolerance"), [(None, 1e-15), (1.0, 1e-15), (lambda w: w**-2.5, 1e-10)]
)
def test_both_routes_agree(p, distribution, tolerance):
    field = Field(distribution=distribution)
    t = np.array([1e-3, 0.1, 1, 10, 60])
    first, second = by_frequency(t, p, field), by_time(t, p, field)
    assert np.abs(first.value - second.value).max() < tolerance
    assert (np.abs(first.value - second.value) <= first.error + second.error + 1e-17).all()


@pytest.mark.parametrize("kappa", [0.05, 0.3])
@pytest.mark.parametrize("scheme", ["bare", "msbar", "onshell"])
def test_both_routes_agree_below_four_dimensions(kappa, scheme):
    t = np.array([0.01, 1, 20])
    kwargs = {"kappa": kappa, "scheme": scheme}
    first, second = (f(t, 0.4, VACUUM, **kwargs) for f in (by_frequency, by_time))
    assert np.abs(first.value - second.value).max() < 1e-13


@pytest.mark.parametrize("height", [0.5, 0.05])
def test_nothing_comes_before_its_cause(height):
    t = -np.array([1e-3, 1e-2, 0.1, 1, 10])
    for field in (VACUUM, BOSE):
        made = by_frequency(t, 0.3, field, height=height)
        assert np.abs(made.value).max() < 1e-14


def test_propagators_at_finite_time():
    assert propagator(0.5, 0, VACUUM, time=2) == pytest.approx(
        -1.4294234077 - 1.0024359262j, abs=1e-9
    )
    assert propagator(1.0, 0, VACUUM, time=2) == pytest.approx(
        -0.2863750085 - 1.7526604383j, abs=1e-9
    )
    p0, X, w = 0.8, 1.7, math.hypot(0.6, 1)
    closed = 1 - np.exp(2j * p0 * X) * (np.cos(2 * w * X) - 1j * p0 / w * np.sin(2 * w * X))
    assert propagator(p0, 0.6, VACUUM, time=X) == pytest.approx(closed / (p0**2 - w**2))


def test_components_of_propagators():
    E = np.array([0.4, 1.3])
    kwargs = {"time": 2.5}
    R, A, K, F, more, less = (propagator(E, 0.2, BOSE, c, **kwargs) for c in "RAKF><")
    assert pytest.approx(F) == (K + R + A) / 2
    assert more + less == pytest.approx(K)
    assert more - less == pytest.approx(R - A)
    assert propagator(2.0 + 1j, 0, VACUUM) == pytest.approx(1 / ((2 + 1j) ** 2 - 1))
    with pytest.raises(ValueError, match="delta function"):
        propagator(2.0, 0, BOSE, "K")


def test_products_of_propagators():
    state = Field(distribution=lambda w: 0.4 + 0 * w)
    p = math.sqrt(1.2**2 - 1)
    assert convolve("R", "K", 3, 1, p, state) == pytest.approx(1.0516776565j, abs=1e-9)
    for X, value in ((1, 1.2745321529j), (10, 0.5327261444j)):  # a quench of the mass
        made = convolve("R", "K", X, X, 0, state) + convolve("K", "A", X, X, 0, state)
        assert made == pytest.approx(value, abs=1e-9)
    x, y = 2.5, 0.7
    by_hand = quad(lambda z: math.sin(x - z) * math.sin(z - y), y, x)[0]
    assert convolve("R", "R", x, y, 0, state) == pytest.approx(by_hand)
    assert convolve("R", "R", y, x, 0, state) == 0
    with pytest.raises(ValueError, match="RR, AA, RK or KA"):
        convolve("K", "K", 1, 1, 0, state)


def test_the_self_energy_smeared_by_finite_time():
    """The relative times between 2 and 6, by another library."""
    later = self_energy_at(0.7, 0, VACUUM, 3.0) - self_energy_at(0.7, 0, VACUUM, 1.0)
    for part, wave in ((later.real, math.cos), (later.imag, math.sin)):
        value = quad(lambda s, w=wave: w(0.7 * s) * self_energy_time(s, 0, VACUUM), 2, 6)[0]
        assert part == pytest.approx(value, abs=1e-12)


def test_late_times_are_infinite_time():
    E = np.array([0.5, 2.5, 4.0])
    from whp.qft import self_energy

    infinite = self_energy(E, 0.3, BOSE)
    off = [np.abs(self_energy_at(E, 0.3, BOSE, X) - infinite).max() for X in (2, 8, 32)]
    assert off[0] > 2 * off[1] > 4 * off[2]


def test_decays_below_the_threshold_at_early_times():
    assert -self_energy_at(1.5, 0, VACUUM, 1.0).imag > 1e-4
    assert abs(self_energy_at(1.5, 0, VACUUM, 100.0).imag) < 1e-5
