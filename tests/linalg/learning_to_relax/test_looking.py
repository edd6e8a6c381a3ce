import numpy as np
import pytest
import scipy.sparse as sp

from whp.certificate import Status, Verdict
from whp.datasets.linear_systems import stencil
from whp.linalg import solve_sequence

A = stencil(10)
EYE = sp.eye_array(100)
SKEW = sp.diags_array([1.0, -1.0], offsets=[-1, 1], shape=(100, 100))


def counted(systems, **options):
    options = {"learner": 1.5, "warm_start": False, "cap": 2000, **options}
    return solve_sequence(systems, **options).certificates[-1]


def right(k=0):
    return np.random.default_rng(k).standard_normal(100)


@pytest.mark.parametrize("share", [1e-12, 1e-6, 0.1, 3.0])
def test_one_system_that_is_not_symmetric_voids_all(share):
    systems = [(sp.csr_array(A + EYE), right(k)) for k in range(8)]
    systems[6] = (sp.csr_array(A + EYE + share * SKEW), right(6))
    made = counted(systems)
    assert made.verdict is Verdict.VOID
    assert "system 7: A is not symmetric (entry" in made.explain()


def test_rows_of_a_boundary_set_to_identity_are_seen():
    matrix = (A + EYE).tolil()
    for i in range(10):
        matrix[i, :] = 0
        matrix[i, i] = 1
    assert counted([(sp.csr_array(matrix), right())]).verdict is Verdict.VOID


@pytest.mark.parametrize("shift", [-0.165, -0.2, -0.5, -2.0])
def test_one_indefinite_system_voids_all_converged_or_not(shift):
    systems = [(sp.csr_array(A + EYE), right(k)) for k in range(8)]
    systems[1] = (sp.csr_array(A + shift * EYE), right(1))
    for solver in ("sor", "ssor-cg"):
        made = counted(systems, cap=300, solver=solver)
        assert made.verdict is Verdict.VOID
        assert "system 2: the least eigenvalue" in made.explain()


def test_a_large_indefinite_system_betrays_itself():
    large = sp.csr_array(stencil(22) - 3 * sp.eye_array(484))
    b = np.random.default_rng(0).standard_normal(484)
    made = counted([(large, b)], cap=50)
    assert made.verdict is Verdict.VOID
    assert "system 1" in made.explain()
    fine = counted([(stencil(22), b)])
    assert fine.verdict is Verdict.UNMEASURED
    assert fine.conditions[1].status is Status.UNCHECKED
    assert "484 unknowns" in fine.conditions[1].evidence


@pytest.mark.parametrize("tol", [1e-16, 1e-15])
def test_a_tolerance_below_rounding_voids(tol):
    made = counted([(sp.csr_array(A), right(k)) for k in range(5)], tol=tol, cap=500)
    assert made.verdict is Verdict.VOID
    assert [c.name for c in made.conditions if c.status is Status.VIOLATED] == ["tol-reachable"]


def test_warm_starts_of_ssor_cg_are_in_the_bound():
    systems = [(sp.csr_array(A + 0.5 * EYE), right(k) * 10.0 ** (8 * (k % 2))) for k in range(40)]
    made = counted(systems, solver="ssor-cg", learner=1.2, warm_start=True)
    assert made.verdict is Verdict.HOLDS
    cold = counted(systems, solver="ssor-cg", learner=1.2)
    assert cold.verdict is Verdict.HOLDS
    assert made.inputs["largest bound"] == cold.inputs["largest bound"]


def test_solves_that_were_given_up_below_their_bound_leave_it_open():
    made = counted([(sp.csr_array(A), right())], cap=20, learner=1.0)
    assert made.verdict is Verdict.VACUOUS  # no bound is below the cap
    mixed = [(sp.csr_array(A + 3 * EYE), right()), (sp.csr_array(A), right())]
    assert counted(mixed, cap=60, learner=1.0).verdict is Verdict.INCONCLUSIVE


def test_bounds_are_given_a_system_each():
    run = solve_sequence([(sp.csr_array(A + c * EYE), right()) for c in (0.1, 2.0)], learner=1.5)
    assert run.bounds[0] > run.bounds[1] >= run.iterations[1]


def test_matrices_in_bad_units_are_decided():
    rng = np.random.default_rng(0)
    D = sp.diags_array(10.0 ** rng.uniform(-4, 4, 100))
    made = counted([(sp.csr_array(D @ A @ D), right())], learner=1.0)
    assert made.verdict not in (Verdict.VOID, Verdict.FAILS)
    assert made.conditions[1].status is Status.MET
