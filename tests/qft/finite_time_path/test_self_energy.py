"""The self-energy against closed values, other representations and its own error bars."""

import math

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whp.qft import Field, self_energy
from whp.qft._finite_time_path.reference import dispersion
from whp.qft._finite_time_path.self_energy import vacuum

VACUUM, BOSE = Field(), Field(distribution=1.0)


def at(s):
    """An energy and a momentum with this invariant."""
    p = 0.0 if s >= 0 else 1.0
    return math.sqrt(s + p * p), p


@pytest.mark.parametrize(
    ("s", "value"),
    [
        (-1, 4.8141717059e-4),
        (0, 0),
        (1, -5.8956465034e-4),
        (3, -2.5039010928e-3),
        (4, -6.3325739776e-3),
        (5, -4.9697757480e-3 - 4.4485158964e-3j),
        (9, -1.7899132122e-3 - 7.4141931606e-3j),
        (100, 7.8911163356e-3 - 9.7462100154e-3j),
    ],
)
def test_the_vacuum_after_minimal_subtraction(s, value):
    energy, p = at(s)
    assert self_energy(energy, p, VACUUM) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize(
    ("s", "value"),
    [
        (-1, -0.0382136064),
        (0, -0.0387982321),
        (3, -0.0420315841),
        (4, -0.0484977901),
        (5, -0.0446305441 - 0.0065740697j),
    ],
)
def test_the_bare_vacuum_below_four_dimensions(s, value):
    energy, p = at(s)
    made = self_energy(energy, p, VACUUM, kappa=0.1, scheme="bare")
    assert made == pytest.approx(value, abs=1e-10)


def hypergeometric(q, p, kappa):
    """Γ(κ)₂F₁(κ, 1; 3/2; s/4)(4π)^κ without its pole, above the cut, 40 digits."""
    with mp.workdps(40):
        z = (mp.mpc(q) ** 2 - mp.mpf(p) ** 2) / 4
        z = mp.mpc(z.real, mp.mpf(10) ** -60) if q.imag == 0 else z
        k = mp.mpf(kappa)
        made = (4 * mp.pi) ** k * mp.gamma(k) * mp.hyp2f1(k, 1, mp.mpf(3) / 2, z)
        return complex(made - 1 / k + mp.euler - mp.log(4 * mp.pi))


@settings(max_examples=40, deadline=None)
@given(
    st.floats(1e-3, 1e4),
    st.sampled_from([0.0, 1e-4, 0.3, 2.0]),
    st.sampled_from([0.0, 0.3, 2.9]),
    st.sampled_from([1e-4, 0.05, 0.3, 0.49]),
)
def test_error_bars_hold_against_the_hypergeometric_function(E, eta, p, kappa):
    q = complex(E, eta)
    made = vacuum(np.array([q]), p, kappa, 0.0)
    assert abs(made.value[0] - hypergeometric(q, p, kappa)) <= made.error[0] + 1e-15


@pytest.mark.parametrize("away", [0, 1e-12, -1e-12, 1e-9, -1e-9, 1e-5])
@pytest.mark.parametrize("kappa", [0.05, 0.3, 0.45])
def test_error_bars_hold_next_to_the_threshold(away, kappa):
    q = complex(2 * (1 + away))
    made = vacuum(np.array([q]), 0.0, kappa, 0.0)
    assert abs(made.value[0] - hypergeometric(q, 0.0, kappa)) <= made.error[0]


def test_large_energies_keep_their_digits():
    for E in (1e4, 1e6, 1e8):
        with mp.workdps(60):
            beta = mp.sqrt(1 - 4 / mp.mpf(E) ** 2)
            exact = complex(2 - beta * (mp.log((1 + beta) / (1 - beta)) - mp.pi * 1j))
        made = vacuum(np.array([complex(E)]), 0.0, 0.0, 0.0).value[0]
        assert made == pytest.approx(exact, rel=1e-14)


def test_small_kappa_goes_over_into_four_dimensions():
    made = [self_energy(math.sqrt(3), 0, VACUUM, kappa=k) for k in (1e-3, 1e-6, 1e-9)]
    limit = self_energy(math.sqrt(3), 0, VACUUM)
    assert np.abs(np.array(made) - limit).tolist() == sorted(np.abs(np.array(made) - limit))[::-1]
    assert made[-1] == pytest.approx(limit, abs=1e-10)
    assert self_energy(math.sqrt(3), 0, VACUUM, kappa=1e-4) == pytest.approx(-2.505385e-3, abs=1e-9)


def test_the_medium_at_rest():
    made = self_energy([0, 1, 1.9, 3], 0, BOSE, part="medium")
    value = [-2.34514483899e-3, -2.64935163025e-3, -4.80970532695e-3, -6.89760963e-4]
    assert made.real == pytest.approx(value, abs=1e-12)
    assert made.imag[3] == pytest.approx(-0.00425896340, abs=1e-10)
    assert self_energy(3.0, 0, BOSE, "K") == pytest.approx(-0.02579280579j, abs=1e-10)


def test_the_medium_in_motion():
    assert self_energy(0.5, 1, BOSE).imag == pytest.approx(-0.0040537432252, abs=1e-12)
    assert self_energy(3, 1, BOSE).imag == pytest.approx(-0.0112507577721, abs=1e-12)
    made = self_energy(0.5 + 0.3j, 1, BOSE, part="medium")
    assert made == pytest.approx(-0.0030567346 - 0.0019042073j, abs=1e-9)


def test_imaginary_parts_of_bose_modes_in_closed_form():
    T, p = 0.7, 1.3
    hot = Field(distribution=T)
    for E in (0.4, 1.1, 2.6, 7.0):
        s = E * E - p * p
        beta = math.sqrt(1 - 4 / s) if not 0 <= s < 4 else 0
        if s > 4:
            high, low = (E + p * beta) / 2, (E - p * beta) / 2
            log = math.log(math.expm1(-high / T) / math.expm1(-low / T))
            value = -(p * beta + 2 * T * log) / (32 * math.pi * p)
        elif s < 0:
            low = (E + p * beta) / 2
            log = math.log(math.expm1(-low / T) / math.expm1(-(low - E) / T))
            value = -T * log / (16 * math.pi * p)
        else:
            value = 0.0
        assert self_energy(E, p, hot).imag == pytest.approx(value, abs=1e-14)


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(
    "distribution", [1.0, 0.05, lambda w: w**-2.5], ids=["hot", "cold", "power"]
)
def test_the_medium_agrees_with_its_dispersion_integral(p, distribution):
    field = Field(distribution=distribution)
    q = np.array([0.2, 0.5 + 0.3j, 1.9, 3, 3 + 0.05j, -5, 7])
    made = self_energy(q, p, field, part="medium", with_error=True)
    again, unsure = dispersion(q, p, field)
    assert (np.abs(made.value - again) <= made.error + unsure).all()


@pytest.mark.parametrize("p", [0.0, 1e-9, 1e-6, 1e-4, 1e-2, 1.0])
def test_values_on_the_axis_are_the_limit_from_above(p):
    E = np.array([0.5, 1.5, 4.0]) + p
    on, above = self_energy(E, p, BOSE), self_energy(E + 1e-5j, p, BOSE)
    assert np.abs(on - above).max() < 1e-6


def test_symmetries_of_the_components():
    E, kwargs = np.array([0.4, 1.1, 2.7, 5.0]), {"part": "all"}
    R, A, K, F, more, less = (self_energy(E, 0.3, BOSE, c, **kwargs) for c in "RAKF><")
    assert np.conj(R) == pytest.approx(A)
    assert self_energy(-E, 0.3, BOSE) == pytest.approx(np.conj(R))
    assert pytest.approx(F) == (K + R + A) / 2
    assert more + less == pytest.approx(K)
    assert more - less == pytest.approx(R - A)
    assert self_energy(-E, 0.3, BOSE, ">") == pytest.approx(less)


def test_thermal_balance():
    E = np.linspace(0.1, 8, 50)
    for p in (0.0, 0.8):
        R, K = (self_energy(E, p, BOSE, c) for c in "RK")
        assert np.abs(K - 2j * R.imag / np.tanh(E / 2)).max() < 1e-15


def test_schemes_differ_by_a_constant():
    E = np.array([0.3, 1.0, 5.0])
    minimal, shell = (self_energy(E, 0, VACUUM, scheme=s) for s in ("msbar", "onshell"))
    assert (minimal - shell) == pytest.approx(np.full(3, -5.8956465034e-4), abs=1e-12)
    assert shell[1].real == pytest.approx(0, abs=1e-17)


@pytest.mark.parametrize("unit", [1e-9, 1e-3, 1e9])
def test_units_do_not_matter(unit):
    small = Field(unit, 1.3 * unit, 0.8 * unit, 2 * unit)
    E = np.array([0.3, 1.5, 4.0])
    made = self_energy(E * unit, 0.5 * unit, small) / unit**2
    assert made == pytest.approx(self_energy(E, 0.5, Field(1, 1.3, 0.8, 2.0)), rel=1e-10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"p0": np.nan}, "p0 must be finite"),
        ({"p0": 1 - 1j}, "p0 must be real or above"),
        ({"p0": 1 + 1j, "component": "K"}, "p0 must be real for this"),
        ({"p": -1}, "p must be in"),
        ({"kappa": 0.5}, "kappa"),
        ({"kappa": -0.1}, "kappa"),
        ({"scheme": "bare"}, "kappa > 0"),
    ],
)
def test_what_is_out_of_range_is_named(arguments, message):
    given = {"p0": 1.0, "p": 0.0, "field": VACUUM} | arguments
    with pytest.raises(ValueError, match=message):
        self_energy(**given)
