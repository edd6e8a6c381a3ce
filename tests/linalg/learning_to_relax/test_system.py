import numpy as np
import pytest
import scipy.sparse as sp

from whp.datasets.linear_systems import stencil
from whp.linalg import System

A = stencil(10)
SKEW = sp.diags_array([1.0, -1.0], offsets=[-1, 1], shape=(100, 100))


@pytest.mark.parametrize(("share", "symmetric"), [(1e-12, False), (1e-14, True), (1e-3, False)])
def test_an_advection_is_seen_down_to_rounding(share, symmetric):
    for matrix in (A + share * SKEW, (A + share * SKEW).toarray()):
        assert System(matrix).symmetric == symmetric


def test_units_of_the_unknowns_do_not_hide_it():
    units = 10.0 ** np.random.default_rng(0).uniform(-6, 6, 100)
    D = sp.diags_array(units)
    assert System(D @ A @ D).symmetric
    lopsided = A.tolil()
    lopsided[3, 4] = -0.999
    assert not System(D @ sp.csr_array(lopsided) @ D).symmetric


def test_the_entry_is_named_whatever_the_pattern():
    with_one = A.tolil()
    with_one[11, 12] = -3.9
    assert str(System(with_one).skew).startswith("entry 12, 13: -3.9 and -1")
    alone = A.tolil()
    alone[0, 99] = 0.5
    assert str(System(alone).skew).startswith("entry 1, 100: 0.5 and 0")
    dirichlet = A.tolil()
    dirichlet[0, :] = 0
    dirichlet[0, 0] = 1
    assert not System(dirichlet).symmetric


def test_patterns_are_shared_and_not_confused():
    first = System(A)
    second = System(A + sp.eye_array(100), like=first)
    assert second.pattern is first.pattern
    assert System(A.tolil(), like=System(sp.eye_array(100))).pattern is not first.pattern
    third = System(A.toarray().T.copy(), like=first)
    assert third.symmetric


def test_what_is_no_system_is_named():
    for wrong, told in (
        (np.ones((2, 3)), "A must be square"),
        (np.array([[1.0, 0], [0, 0]]), "non-positive diagonal entry at row 1"),
        (np.array([[1.0, np.nan], [0, 1]]), "A must be finite"),
        (sp.csr_array([[1.0 + 1j]]), "A must be real"),
        (sp.csr_array((0, 0)), "A must be square and not empty"),
    ):
        with pytest.raises(ValueError, match=told):
            System(wrong)
