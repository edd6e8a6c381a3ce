"""Solvers of sparse systems: relaxation, conjugate gradients, multigrid and direct ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from whp.experiment.benchmark import Peer

__all__ = [
    "KEPT_MULTIGRID",
    "MULTIGRID",
    "PYAMG_SOR",
    "PYAMG_SOR_WITH_NORMS",
    "SCIPY_CG",
    "SPARSE_LU",
    "conjugate_gradients",
    "multigrid",
    "pyamg_sor",
    "sparse_lu",
]


def pyamg_sor(A: Any, b: np.ndarray, omega: float, sweeps: int, *, norms: bool) -> np.ndarray:
    """Sweeps without a stopping rule; with `norms` the residual is looked at after each, as its users must."""
    from pyamg.relaxation.relaxation import sor
    from scipy.sparse import csr_matrix

    matrix, x = csr_matrix(A), np.zeros(len(b))
    for _ in range(sweeps):
        sor(matrix, x, b, omega, iterations=1)
        if norms and np.linalg.norm(b - matrix @ x) < 1e-15:
            break
    return x


def conjugate_gradients(A: Any, b: np.ndarray, x0: np.ndarray | None) -> np.ndarray:
    """Without a preconditioner, from a warm start."""
    from scipy.sparse.linalg import cg

    return cg(A, b, x0=x0, rtol=1e-8)[0]


def sparse_lu(A: Any, b: np.ndarray, x0: np.ndarray | None) -> np.ndarray:
    """A new factor for every system."""
    from scipy.sparse.linalg import spsolve

    return np.asarray(spsolve(A.tocsc(), b))


def multigrid(A: Any, b: np.ndarray, x0: np.ndarray | None) -> np.ndarray:
    """Ruge and Stüben's, a new hierarchy for every system, as preconditioner of CG."""
    from pyamg import ruge_stuben_solver
    from scipy.sparse import csr_matrix

    return ruge_stuben_solver(csr_matrix(A)).solve(b, x0=x0, tol=1e-8, accel="cg")


def kept_multigrid(systems: list[Any]) -> np.ndarray | None:
    """The hierarchy of the hardest system as preconditioner of all."""
    from pyamg import ruge_stuben_solver
    from scipy.sparse import csr_matrix
    from scipy.sparse.linalg import cg

    hardest = max((A for A, _, _ in systems), key=lambda A: float(A.diagonal().max()))
    kept, x = ruge_stuben_solver(csr_matrix(hardest)).aspreconditioner(), None
    for A, b, _ in systems:
        x, _ = cg(A, b, x0=x, rtol=1e-8, M=kept)
    return x


def _sequence(solve: Any) -> Any:
    def work(systems: list[Any]) -> np.ndarray | None:
        x = None
        for A, b, _ in systems:
            x = solve(A, b, x)
        return x

    return work


PYAMG_SOR = Peer("pyamg, sweeps alone", lambda *a: pyamg_sor(*a, norms=False), needs="pyamg==5.4.1")
PYAMG_SOR_WITH_NORMS = Peer(
    "pyamg with residual norms", lambda *a: pyamg_sor(*a, norms=True), needs="pyamg==5.4.1"
)
SCIPY_CG = Peer("scipy cg, no preconditioner", _sequence(conjugate_gradients))
SPARSE_LU = Peer("scipy spsolve", _sequence(sparse_lu))
MULTIGRID = Peer("pyamg, new hierarchy each", _sequence(multigrid), needs="pyamg==5.4.1")
KEPT_MULTIGRID = Peer(
    "pyamg, hierarchy of the hardest kept",
    kept_multigrid,
    needs="pyamg==5.4.1",
    note="The hierarchy that is kept is that of the system with the largest diffusion.",
)
