import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from whp.certificate import Verdict
from whp.datasets.linear_systems import stencil
from whp.linalg import learning_to_relax

MISUSE = [
    ({"A": None}, "A"),
    ({"A": np.ones((2, 3))}, "A must be square"),
    ({"A": np.array([[1.0, 0], [0, 0]])}, "non-positive diagonal entry at row 1"),
    ({"A": np.array([[1.0, np.nan], [0, 1]])}, "A must be finite"),
    ({"b": np.ones((3, 5))}, "b must have shape"),
    ({"b": np.full((3, 2), np.inf)}, "b must be finite"),
    ({"shifts": [1.0]}, "shifts"),
    ({"shifts": [1.0, 1.0, 1.0], "learner": "chebcb"}, "shifts must differ"),
    ({"learner": "chebcb"}, "shifts must be given"),
    ({"learner": "oracle"}, "learner"),
    ({"learner": "2.5"}, "learner"),
    ({"solver": "jacobi"}, "solver"),
    ({"tol": 0.0}, "tol"),
    ({"cap": 0}, "cap"),
    ({"audit": 2.0}, "audit"),
    ({"rate": "quick"}, "rate"),
    ({"rate": "running", "learner": "1.5"}, "rate must go with"),
    ({"bins": 3}, "bins must go with"),
    ({"omegas": (1.0, 1.5), "learner": "1.5"}, "omegas must go with"),
    ({"omegas": (1.0, 2.5)}, "omegas"),
    ({"learner": "young"}, "solve_sequence"),
    ({"A": np.array([[2.0 + 1j, -1], [-1, 2]])}, "A must be real"),
    ({"b": np.ones((3, 2)) + 1j}, "b must be real"),
    ({"b": np.ma.array(np.ones((3, 2)), mask=[[0, 1]] * 3)}, "b must have no masked"),
    ({"solver": "ssor-cg", "A": np.array([[2.0, 1], [0, 2]])}, "symmetric"),
]


@pytest.mark.parametrize(("wrong", "named"), MISUSE, ids=str)
def test_misuse_is_named(wrong, named):
    good = {"A": np.array([[2.0, -1], [-1, 2]]), "b": np.ones((3, 2))}
    with pytest.raises((ValueError, TypeError), match=named):
        learning_to_relax(**{**good, **wrong})


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.lists(st.one_of(st.floats(), st.text(max_size=1), st.none()), max_size=3), max_size=3
    ),
    st.lists(st.lists(st.one_of(st.floats(), st.text(max_size=1)), max_size=3), max_size=3),
    st.one_of(st.none(), st.lists(st.one_of(st.floats(), st.none()), max_size=3)),
)
def test_bad_input_is_refused_by_name(matrix, b, shifts):
    told = ""
    try:
        learning_to_relax(matrix, b, shifts, cap=20)
    except (ValueError, TypeError) as error:
        told = str(error)
    assert not told or told.startswith(("A ", "b ", "shifts ", "system "))


def test_shifts_are_solved_and_certified():
    rng = np.random.default_rng(0)
    A, b, shifts = stencil(6), rng.standard_normal((300, 36)), rng.uniform(0, 2, 300)
    run = learning_to_relax(A, b, shifts, omegas=(1.0, 1.2, 1.4, 1.6), audit=1.0, rng=0)
    assert run.converged.all()
    last = sp.csr_array(A + shifts[-1] * sp.eye_array(36))
    np.testing.assert_allclose(last @ run.solutions[-1], b[-1], atol=1e-5)
    # A file of right-hand sides comes back as a file of solutions, not as the last of them.
    every = run.artifacts()["solutions.npy"]
    np.testing.assert_allclose(every @ A + shifts[:, None] * every, b, atol=1e-5)
    by_name = {c.name: c for c in run.certificates}
    assert set(by_name) == {"regret-per-system", "no-worse-than-fixed", "iteration-bound"}
    assert by_name["iteration-bound"].verdict is Verdict.HOLDS
    shown = run.summary()
    assert shown["omega_1_takes"] > shown["it_takes"]
    assert set(run.artifacts()) == {"solutions.npy", "choices.csv", "counts.csv"}


def test_a_node_without_neighbours_is_solved_where_shifts_make_it_definite():
    graph = sp.csr_array([[1.0, -1, 0], [-1, 1, 0], [0, 0, 0]])
    graph.eliminate_zeros()
    shifts = np.array([0.5, 1.0, 2.0])
    run = learning_to_relax(graph, np.ones((3, 3)), shifts, omegas=(1.0, 1.2), rng=0)
    np.testing.assert_allclose(run.solutions[-1], 0.5, rtol=1e-6)
    with pytest.raises(ValueError, match="system 1: A has a non-positive diagonal entry at row 2"):
        learning_to_relax(graph, np.ones((3, 3)), [0.0, 1.0, 2.0], omegas=(1.0, 1.2), rng=0)
    with pytest.raises(ValueError, match="non-positive diagonal entry at row 2"):
        learning_to_relax(graph, np.ones((3, 3)))


def test_one_run_says_nothing_certain_of_regret():
    b = np.random.default_rng(0).standard_normal((60, 36))
    run = learning_to_relax(stencil(6), b, rng=0)
    regret = run.certificates[0]
    assert regret.verdict is Verdict.VACUOUS
    assert "audit=1" in regret.advice
    assert regret.measured is None


def test_b_without_shifts_and_one_row():
    run = learning_to_relax(stencil(3), np.ones(9), learner="1.2")
    assert [c.name for c in run.certificates] == ["iteration-bound"]
    assert run.converged.all()
