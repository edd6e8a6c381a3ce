import math

import numpy as np
import pytest
import scipy.sparse as sp

from whp.datasets.linear_systems import digits_graph, heat_equation, stencil
from whp.linalg import System, energy_bound, solve_sequence, sor, ssor_bound, ssor_cg
from whp.linalg._learning_to_relax.bounds import (
    Spectra,
    Spectrum,
    energy_rate,
    exponent,
    gershgorin,
    steps_of_cg,
    sweeps_of_sor,
)

A = stencil(10)
BETA = math.cos(math.pi / 11)


def test_7_energy_bound():
    rates = {1.0: 0.92766610, 1.4: 0.87639801, 1.56: 0.86651014, 1.8: 0.90781153, 1.95: 0.97488077}
    for (omega, q), cap in zip(rates.items(), (272, 155, 143, 211, 801), strict=True):
        assert energy_rate(omega, 1 - BETA, 0.25) == pytest.approx(q, abs=1e-8)
        assert energy_bound(A, omega, gamma=1 - BETA, Gamma=0.25) == cap
        for rng in np.random.default_rng(0).spawn(40):
            assert sor(A, rng.standard_normal(100), omega).iterations <= cap
    # The contraction is one: the energy norm of the sweep's matrix does not exceed q.
    dense = A.toarray()
    root = np.linalg.cholesky(dense).T
    M = np.diag(np.diag(dense)) / 1.8 + np.tril(dense, -1)
    C = root @ (np.eye(100) - np.linalg.solve(M, dense)) @ np.linalg.inv(root)
    assert np.linalg.norm(C, 2) == pytest.approx(0.89406, abs=1e-4)
    steps = heat_equation(25, 5000)
    system, _, _ = next(steps)
    k = (system.diagonal()[0] - 1) / 4
    assert 1 - 4 * k / (1 + 4 * k) == pytest.approx(1 / (1 + 4 * k))


def test_8_axelsson():
    for omega, chi, count in ((1.0, 7.168247, 27.8204), (1.8, 5.654053, 24.4780)):
        assert ssor_bound(A, omega) == pytest.approx((chi, count), abs=1e-4)
        assert ssor_cg(A, np.ones(100), omega).iterations <= count


def test_no_count_exceeds_its_bound():
    for rng in np.random.default_rng(0).spawn(300):
        n = int(rng.integers(2, 12))
        root = rng.standard_normal((n, n)) * (rng.random((n, n)) < 0.5)
        matrix = root @ root.T + np.diag(rng.uniform(0.1, 2, n))
        omega, b = float(rng.uniform(0.2, 1.9)), rng.standard_normal(n)
        found = sor(matrix, b, omega, cap=100_000)
        assert found.iterations <= energy_bound(matrix, omega)
        steps = ssor_cg(matrix, b, omega)
        assert steps.iterations <= math.ceil(ssor_bound(matrix, omega)[1])


def spd(rng, n, spread=0.0):
    root = rng.standard_normal((n, n)) * (rng.random((n, n)) < 0.5)
    units = 10.0 ** rng.uniform(-spread, spread, n)
    return sp.csr_array(units[:, None] * (root @ root.T + np.diag(rng.uniform(0.1, 2, n))) * units)


def test_the_bound_with_max_is_needed():
    # Where ‖D⁻¹L‖ is small, s is negative: without max(s, 0) the rate would be below the truth.
    matrix = sp.csr_array(A + sp.eye_array(100))
    spectrum = Spectra().of(System(matrix)).spectrum
    dense = matrix.toarray()
    root = np.linalg.cholesky(dense).T
    for omega in (1.0, 1.5, 1.8, 1.95):
        M = np.diag(np.diag(dense)) / omega + np.tril(dense, -1)
        C = root @ (np.eye(100) - np.linalg.solve(M, dense)) @ np.linalg.inv(root)
        assert np.linalg.norm(C, 2) <= energy_rate(omega, spectrum.gamma, spectrum.Gamma) + 1e-12


def test_spectra_enclose_the_truth_of_every_matrix():
    for rng in np.random.default_rng(0).spawn(60):
        n, spread = int(rng.integers(2, 12)), float(rng.choice([0.0, 2.0]))
        matrix = spd(rng, n, spread)
        told = Spectra().of(System(matrix))
        assert told.known is not False
        if told.spectrum is None:
            continue
        dense, scale = matrix.toarray(), 1 / np.sqrt(matrix.diagonal())
        scaled = scale[:, None] * dense * scale
        ends = np.linalg.eigvalsh(scaled)
        assert told.spectrum.gamma <= ends[0]
        assert np.linalg.norm(np.tril(scaled, -1), 2) ** 2 <= told.spectrum.Gamma * (1 + 1e-9)
        if spread == 0:
            assert np.linalg.cond(dense) <= told.spectrum.condition * (1 + 1e-6)


def test_shifts_are_moved_and_other_changes_are_not_believed():
    spectra, base = Spectra(), stencil(10)
    first = System(base - 0.1 * sp.eye_array(100))
    spectra.of(first)
    anchor = spectra._anchor
    for c in (-0.15, -0.05, -0.001):
        system = System(sp.csr_array(base + c * sp.eye_array(100)), like=first)
        told = spectra.of(system)
        exact = np.linalg.eigvalsh(system.matrix.toarray())
        assert told.spectrum.gamma == pytest.approx(exact[0] / (4 + c), rel=1e-6)
        assert told.spectrum.condition == pytest.approx(exact[-1] / exact[0], rel=1e-6)
    assert spectra._anchor is anchor
    wrong = System(sp.csr_array(base - 0.2 * sp.eye_array(100)), like=first)
    assert spectra.of(wrong).known is False
    bent = base.tocoo()
    data = np.where(bent.coords[0] == bent.coords[1], 4.0, -1.02)
    moved = System(sp.csr_array(sp.coo_array((data, bent.coords))), like=first)
    least = np.linalg.eigvalsh(moved.matrix.toarray())[0]
    assert spectra.of(moved).spectrum.gamma <= least / 4


def test_within_rounding_of_singular_is_open_and_large_ones_too():
    least = np.linalg.eigvalsh(A.toarray())[0]
    assert Spectra().of(System(A - least * sp.eye_array(100))).known is None
    large = stencil(21)
    told = Spectra().of(System(large))
    assert (told.known, told.spectrum) == (None, None)
    assert "441 unknowns" in told.how
    graph = System(next(iter(digits_graph(1, rng=0)))[0])
    assert Spectra().of(graph).how == "strictly dominant"
    assert gershgorin(System(A)) is None


def test_the_condition_of_ssor_is_below_its_bound():
    for rng in np.random.default_rng(0).spawn(40):
        n = int(rng.integers(2, 12))
        matrix = spd(rng, n)
        spectrum = Spectra().of(System(matrix)).spectrum
        dense, D = matrix.toarray(), np.diag(matrix.diagonal())
        for omega in (0.3, 1.0, 1.5, 1.9):
            half = D / omega + np.tril(dense, -1)
            M = omega / (2 - omega) * half @ np.linalg.inv(D) @ half.T
            ends = np.linalg.eigvals(np.linalg.solve(M, dense)).real
            chi = 1 / exponent(omega, spectrum.gamma, spectrum.Gamma)
            assert ends.max() / ends.min() <= chi * (1 + 1e-9)


def test_steps_of_cg_go_with_the_tolerance():
    matrix = sp.csr_array(A + 0.3 * sp.eye_array(100))
    spectrum = Spectra().of(System(matrix)).spectrum
    for omega in (0.5, 1.0, 1.5, 1.9):
        assert steps_of_cg(spectrum, omega, 1e-16) > steps_of_cg(spectrum, omega, 1e-8)
    assert sweeps_of_sor(Spectrum(1.0, 0.0, 1.0), 1.0, 1e-8) == 1
    assert steps_of_cg(Spectrum(1.0, 0.25, 1.0), 1.0, 0.5) >= 1


def test_bounds_want_symmetric_definite_matrices():
    with pytest.raises(ValueError, match="symmetric, entry 1, 2: -1 and 0"):
        energy_bound([[2.0, -1.0], [0.0, 2.0]], 1.0)
    with pytest.raises(ValueError, match="positive definite"):
        energy_bound([[1.0, 2.0], [2.0, 1.0]], 1.0)
    assert energy_bound(stencil(21), 1.0) > 500


def test_a_large_indefinite_matrix_has_no_energy_bound():
    matrix = (stencil(22) + 0.3 * sp.eye_array(484)).tolil()
    matrix[0, 1] = matrix[1, 0] = -6  # one eigenvalue is near −2, those next to 0 are positive
    with pytest.raises(ValueError, match=r"A must be positive definite, .* has the eigenvalue -"):
        energy_bound(sp.csr_array(matrix), 1.5)
    line = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(450, 450)).tolil()
    line[0, 0] = line[449, 449] = 1
    with pytest.raises(ValueError, match=r"A must be positive definite: .*singular"):
        energy_bound(sp.csr_array(line), 1.5)
    with pytest.raises(ValueError, match="A must be positive definite"):
        ssor_bound(stencil(5) - 0.6 * sp.eye_array(25), 1.2)
    with pytest.raises(ValueError, match="A must be symmetric"):
        ssor_bound(np.array([[2.0, 1.0], [0.0, 2.0]]), 1.2)


@pytest.mark.parametrize("solver", ["sor", "ssor-cg"])
@pytest.mark.parametrize("omega", [1e-300, 1e-160, 1e-9, math.nextafter(2, 0)])
def test_omega_at_the_ends_of_its_range_has_a_bound_or_none(omega, solver):
    systems = [(stencil(3) + sp.eye_array(9), np.ones(9))]
    run = solve_sequence(systems, learner=omega, solver=solver, cap=20)
    assert not run.bounds[0] < 1
    if omega > 1:  # there max(s, 0) = 0 and q² = 1 − (2 − ω)
        assert energy_bound(systems[0][0], omega) >= 2 * math.log(1e8) / (2 - omega)
