"""Functions that are causal, and ways in which they are not."""

import numpy as np
import pytest

from whp.qft import Field, causality, composite, self_energy, split_of, vertex_of
from whp.qft._finite_time_path.causality import boxes, by_cutoffs, residual

VACUUM, Z0 = Field(), 0.5 + 0.5j


def green(q):
    return 1 / (q * q - 1)


def loop(q, **options):
    return self_energy(q, 0, VACUUM, **options)


def test_residuals_of_the_finite_part_grow():
    off = [residual(loop, Z0, L).off for L in (10, 100, 1000, 1e4)]
    assert off == pytest.approx([0.0043928, 0.0114618, 0.0187126, 0.0259972], abs=1e-7)


def test_residuals_below_four_dimensions_fall():
    bare = lambda q: loop(q, kappa=0.3, scheme="bare")  # noqa: E731
    made = [residual(bare, Z0, L) for L in (10, 100, 1000)]
    assert [r.off for r in made] == pytest.approx([0.0041959, 0.00104229, 0.00026149], abs=5e-8)
    assert all(r.off <= r.bound for r in made)


def test_residuals_of_the_product():
    made = [residual(lambda q: green(q) * loop(q), Z0, L).off for L in (10, 100, 1000)]
    assert made == pytest.approx([1.522e-5, 1.570e-7, 1.581e-9], rel=1e-3)


@pytest.mark.parametrize(
    ("F", "effects"),
    [
        (
            lambda x: self_energy(x, 0, VACUUM, "F"),
            [0.00162338, 0.00298103, 0.00450655, 0.00607793],
        ),
        (
            lambda x: self_energy(x, 0, VACUUM, "F", kappa=0.3, scheme="bare"),
            [0.00092174, 0.00021988, 0.00005500, 0.00001381],
        ),
        (
            lambda x: self_energy(x, 0, VACUUM, "F") * green(x),
            [8.62e-6, 1.59e-7, 2.41e-9, 3.26e-11],
        ),
    ],
    ids=["loop", "below four", "product"],
)
def test_what_cutoffs_do_to_feynman_functions(F, effects):
    made = by_cutoffs(F, Z0, 10.0 ** np.arange(1, 5))
    assert made == pytest.approx(effects, rel=3e-3)


def test_splitting():
    def sigma(x, **options):
        return self_energy(x, 0, VACUUM, "F", **options)

    assert split_of(sigma, kappa=0.0).verdict == "fails"
    assert split_of(lambda x: sigma(x, kappa=0.3, scheme="bare"), kappa=0.3).verdict == "holds"
    assert split_of(lambda x: sigma(x, kappa=0.005), kappa=0.005).verdict in ("vacuous", "fails")
    assert split_of(lambda x: sigma(x) * green(x), kappa=0.0).verdict == "holds"


@pytest.mark.parametrize("e", [0.2, 0.02, 0.002])
def test_the_wrong_sign_of_ie_is_seen_by_the_boxes(e):
    F = lambda q: 1 / ((q - 1j * e) ** 2 - 1)  # noqa: E731
    assert boxes(F) == pytest.approx(1.0)
    assert causality(F).verdict == "void"


def test_a_wrong_side_below_every_box_fails():
    made = causality(lambda q: 1 / ((q - 2e-4j) ** 2 - 1))
    assert made.verdict == "fails"
    assert made.measured.value > 0.8


@pytest.mark.parametrize(
    "F",
    [
        lambda q: 1 / (q - (1 + 2j)) ** 2,
        lambda q: 1 / ((q - (1 + 2j)) * (q - (-2 + 1j))),
        lambda q: np.conj(1 / (np.asarray(q) ** 2 - 1.1)),
    ],
    ids=["double pole", "opposite residues", "advanced"],
)
def test_singularities_in_the_boxes_are_void(F):
    assert causality(F).verdict == "void"


@pytest.mark.parametrize("at", [12 + 1j, 1 + 6j])
def test_poles_beyond_the_boxes_fail(at):
    assert causality(lambda q: 1 / (q - at) ** 1 / (q + 1j)).verdict == "fails"


def test_what_is_causal_holds():
    made = causality(green)
    assert made.verdict == "holds"
    assert "unchecked" in made.headline


@pytest.mark.parametrize(
    ("advance", "verdict"), [(0.1, "void"), (1e-2, "void"), (1e-3, "void"), (-0.1, "holds")]
)
def test_advances_and_delays(advance, verdict):
    assert causality(lambda q: np.exp(-1j * advance * q) * green(q)).verdict == verdict


def test_a_pure_delay_does_not_vanish():
    made = causality(lambda q: np.exp(1j * q))
    assert made.verdict == "void"


def test_the_loop_is_not_causal_by_itself():
    made = causality(loop, kappa=0.0)
    assert made.verdict == "void"
    assert "multiply by a propagator" in made.advice


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e6])
def test_units_change_no_verdict(unit):
    made = causality(lambda q: unit**2 / (q * q - unit**2), mass=unit)
    assert made.verdict == "holds"


def test_functions_of_real_energies_are_refused():
    import math

    with pytest.raises(TypeError, match="complex energies"):
        causality(lambda q: math.sin(q[0]) + 0 * q)
    with pytest.raises(TypeError, match="one number an energy"):
        causality(lambda q: 1.0)


def test_subtracting_first_breaks_the_vertex():
    t = np.linspace(0.5, 8, 30)
    right = composite(t, 0, VACUUM)
    assert vertex_of(right, t, 0, VACUUM).verdict == "holds"
    made = vertex_of(right + 0.06 * np.sin(t), t, 0, VACUUM)
    assert made.verdict == "fails"
    assert "scheme" in made.inputs["they differ by"]
    assert vertex_of(composite(t, 0, VACUUM, scheme="onshell"), t, 0, VACUUM).verdict == "fails"
    assert vertex_of(right * (1 + 1e-4), t, 0, VACUUM).verdict == "fails"


def test_numbers_that_would_widen_a_promise_are_refused():
    t = np.array([1.0, 2.0])
    with pytest.raises(ValueError, match="error must be"):
        vertex_of(t, t, 0, VACUUM, error=-1.0)
    with pytest.raises(ValueError, match="times must be"):
        vertex_of(t, -t, 0, VACUUM)
    for kappa in (-1.0, 0.5):
        with pytest.raises(ValueError, match="kappa"):
            split_of(green, kappa=kappa)
    with pytest.raises(ValueError, match="z0"):
        causality(green, z0=0.5 - 0.5j)
    with pytest.raises(ValueError, match="F must be finite"):
        causality(lambda q: np.full(q.shape, np.nan))
