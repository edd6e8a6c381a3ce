import math
import sys

import numpy as np
import pytest
from scipy.special import kn

from whp.qft import Field, oscillation, pairs, tadpole, tadpole_decay
from whp.qft._finite_time_path.tadpole import (
    counterterm_residue,
    density,
    vacuum_by_subtraction,
    vacuum_tadpole,
)

VACUUM, BOSE = Field(), Field(distribution=1.0)


def test_density_of_the_medium():
    n = np.arange(1, 40)
    assert density(BOSE) == pytest.approx((kn(1, n) / n).sum() / (2 * np.pi**2), abs=1e-13)
    assert density(BOSE) == pytest.approx(0.0349290817286, abs=1e-12)
    assert density(VACUUM) == 0


def test_the_vacuum_by_two_ways():
    assert vacuum_tadpole(0.1) == pytest.approx(-0.0862182935346, abs=1e-12)
    for kappa in (0.3, 0.1, 0.03):
        assert vacuum_by_subtraction(kappa) == pytest.approx(vacuum_tadpole(kappa), abs=1e-11)


def test_the_counterterm_removes_the_pole():
    assert abs(counterterm_residue(VACUUM)) < 1e-12
    off = counterterm_residue(VACUUM, lambda k: 1.001 * vacuum_tadpole(k) / 2)
    assert off == pytest.approx(0.001, rel=1e-4)


def test_the_oscillation_of_a_gaussian():
    value = [0.0218621578, 0.00175984448, -1.43601940e-5, 6.41143e-6]
    assert oscillation([0, 10, 100, 200], 1.0, VACUUM) == pytest.approx(value, abs=1e-10)


def test_many_times_by_series_are_few_times_by_sums(monkeypatch):
    t = np.array([0.0, 1.0, 30.0])
    plain = oscillation(t, 0.5, VACUUM)
    monkeypatch.setattr(sys.modules["whp.qft._finite_time_path.tadpole"], "MANY", 0)
    assert oscillation(t, 0.5, VACUUM) == pytest.approx(plain, abs=1e-14)


def test_pairs_of_the_initial_state():
    made = pairs([0, 10, 50], lambda w: np.exp(-(w - 1)), VACUUM)
    assert made == pytest.approx([0.0828885039, -6.75991973e-4, -1.52885e-5], abs=1e-10)


def test_the_mean_field_of_a_constant_source():
    t = np.linspace(0, 50, 300)
    made = tadpole(t, BOSE)
    assert made.mean == pytest.approx(-density(BOSE) / 2 * (1 - np.cos(t)), abs=1e-15)
    assert np.abs(made.oscillation[150:]).max() > 0.99 * abs(made.shift)  # undamped
    damped = tadpole(t, BOSE, width=0.2)
    assert np.abs(damped.oscillation[-20:]).max() < 0.01 * abs(made.shift)


@pytest.mark.parametrize("a", [0.3, 1.0, 2.0])
def test_smooth_sources_decay_as_promised(a):
    made = tadpole_decay(a, VACUUM)
    assert made.verdict == "holds"
    assert 1 < made.measured.value / made.bound * 1.02 < 1.0025


@pytest.mark.parametrize("name", ["triangle", "box"])
def test_sources_with_an_edge_fail(name):
    J = {"triangle": lambda p: np.maximum(1 - p, 0), "box": lambda p: (p < 1).astype(float)}[name]
    assert tadpole_decay(J, VACUUM).verdict == "fails"


def test_a_table_and_a_constant_are_void():
    p = np.linspace(0, 6, 200)
    assert tadpole_decay(np.c_[p, np.exp(-(p**2) / 2)], VACUUM).verdict == "void"
    assert tadpole_decay("homogeneous", VACUUM).verdict == "void"
    assert tadpole_decay(9.0, VACUUM).verdict == "void"  # too wide to have spread


def test_the_leading_power():
    t = np.linspace(50, 400, 1600)
    envelope = np.abs(oscillation(t, 1.0, VACUUM))
    peaks = (envelope[1:-1] > envelope[2:]) & (envelope[1:-1] > envelope[:-2])
    slope = np.polyfit(np.log(t[1:-1][peaks]), np.log(envelope[1:-1][peaks]), 1)[0]
    assert slope == pytest.approx(-1.5, abs=0.05)


@pytest.mark.parametrize(
    ("source", "message"),
    [("somewhere", "source must be"), (-1.0, "source"), (lambda p: 1 / (1 + p), "fall off")],
)
def test_sources_that_are_refused(source, message):
    with pytest.raises(ValueError, match=message):
        tadpole([1.0], VACUUM, source=source)


def test_times_before_the_switch_are_refused():
    with pytest.raises(ValueError, match="times must be"):
        tadpole([-1.0], VACUUM)
    assert math.isfinite(tadpole([0.0], VACUUM).mean[0])
