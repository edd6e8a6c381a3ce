"""The front door: one matrix, many right-hand sides and shifts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import numpy as np
import scipy.sparse

from whp.door import AtLeast, Between, Fraction, front_door
from whp.io import Data
from whp.linalg._learning_to_relax.result import RelaxRun
from whp.linalg._learning_to_relax.sequence import Options, solved
from whp.linalg._learning_to_relax.system import System
from whp.validate import as_floats, as_real, as_sparse, as_vector

__all__ = ["learning_to_relax"]


@front_door
def learning_to_relax(
    A: Annotated[Any, Data("matrix")],
    b: Annotated[Any, Data("matrix")],
    shifts: Annotated[Any, Data("vector", "shift")] = None,
    *,
    solver: Literal["sor", "ssor-cg"] = "sor",
    learner: str = "auto",
    omegas: tuple[float, ...] | None = None,
    tol: float = 1e-8,
    cap: Annotated[int, AtLeast(1)] = 10_000,
    warm_start: bool = False,
    audit: Annotated[float, Between(0, 1)] = 0.05,
    replays: Annotated[int, AtLeast(20)] = 1000,
    delta: Annotated[float, Fraction()] = 0.05,
    bins: Annotated[int, AtLeast(1)] | None = None,
    rate: str | None = None,
    rng: np.random.Generator | int | None = None,
) -> RelaxRun:
    """Solve (A + cI)x = b for many right-hand sides and shifts, the relaxation ω learnt on the way.

    Parameters
    ----------
    A : scipy.sparse or array_like, shape (n, n)
        The matrix, real, in any ordering.
    b : array_like, shape (T, n)
        A right-hand side a row.
    shifts : array_like, shape (T,), optional
        c for each of them, which is also the context that the learner sees.
    solver : {"sor", "ssor-cg"}
        Successive over-relaxation, or conjugate gradients preconditioned by symmetric SOR.
    learner : str
        "auto", "tsallis", "tsallis-cb", "chebcb", or a number: a fixed ω. By default "chebcb" where there
        are shifts, else "tsallis".
    omegas : tuple of float, optional
        Values of ω to choose from, in (0, 2); 20 from 1 to 1.95 by default. A few hundred systems learn
        among five, not among twenty.
    tol : float
        Of the stopping rule: of the first residual for SOR, of b for SSOR-CG.
    cap : int
        Iterations after which conjugate gradients take over.
    warm_start : bool
        Whether each solve begins at the solution before; worth it where right-hand sides change little.
    audit : float
        Share of the systems on which every ω of the grid is run, to compare with fixed ones. With 1 and
        cold starts the learner is replayed on all counts, and its expected regret certified.
    replays : int
        How often it is.
    delta : float
        Probability with which an interval over replays may be wrong.
    bins : int, optional
        Of the context, for "tsallis-cb"; 5 if not given.
    rate : str, optional
        Of Tsallis-INF: "running", which is the default, or "fixed:" with a number.
    rng : numpy.random.Generator, int or None
        Of the draws.

    Returns
    -------
    RelaxRun
        With all solutions, one a row.

    Raises
    ------
    TypeError, ValueError
        If data do not fit together or an option is out of range; the message names the argument.

    References
    ----------
    Khodak, Chow, Balcan, Talwalkar (ICLR 2024), arXiv 2310.02246.

    Examples
    --------
    >>> A = scipy.sparse.diags_array([-1.0, 2.5, -1.0], offsets=[-1, 0, 1], shape=(50, 50))
    >>> run = learning_to_relax(A, np.ones((30, 50)), rng=0)
    >>> bool(run.converged.all())
    True
    """
    tolerance = as_real(tol, "tol", low=0, high=1, open_ends=True)
    matrix = as_sparse(A, "A")
    moved = None
    if shifts is not None:
        moved = as_vector(shifts, "shifts", dtype=np.float64)
        matrix = _with_diagonal(matrix)
    system = System(matrix if moved is None else _moved(matrix, float(moved.max())))
    rights = np.atleast_2d(as_floats(b, "b"))
    if rights.ndim != 2 or rights.shape[1] != system.n or len(rights) == 0:
        raise ValueError(
            f"b must have shape (T, {system.n}), a right-hand side a row, got {rights.shape}"
        )
    if not np.isfinite(rights).all():
        raise ValueError("b must be finite, got NaN or infinity")
    if moved is not None and len(moved) != len(rights):
        raise ValueError(f"shifts must have {len(rights)} entries, one a row, got {len(moved)}")
    chosen = _learner(learner, moved)
    options = Options(
        solver, tolerance, cap, warm_start, "cg", audit, False, True, replays, delta, bins, rate
    )
    span = None
    if moved is not None and moved.min() < moved.max():
        span = (float(moved.min()), float(moved.max()))
    return solved(
        _systems(system.matrix if moved is None else matrix, rights, moved),
        chosen,
        options,
        omegas=None if omegas is None else np.array(omegas, dtype=np.float64),
        context_range=span,
        rng=rng,
        fixed=True,
        total=len(rights),
    )


def _learner(learner: str, shifts: np.ndarray | None) -> str | float:
    differ = shifts is not None and shifts.min() < shifts.max()
    if learner == "auto":
        return "chebcb" if differ else "tsallis"
    if learner in ("tsallis-cb", "chebcb"):
        if shifts is None:
            raise ValueError(f"shifts must be given for {learner}: they are its context")
        if not differ:
            raise ValueError(f"shifts must differ for {learner}, all are {shifts[0]:g}")
    if learner == "young":
        raise ValueError("learner young must be used with solve_sequence, which takes jacobi")
    try:
        return float(learner)
    except ValueError:
        return learner


def _with_diagonal(matrix: Any) -> Any:
    """The same with an entry, perhaps 0, at every place of the diagonal: a node without neighbours has none."""
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        return matrix  # refused with the words of System
    entries, every = matrix.tocoo(), np.arange(matrix.shape[0])
    rows, columns = (np.concatenate([at, every]) for at in entries.coords)
    data = np.concatenate([entries.data, np.zeros(len(every))])
    return scipy.sparse.csr_array((data, (rows, columns)), shape=matrix.shape)


def _moved(matrix: Any, c: float) -> Any:
    """A + cI, the places of the entries shared."""
    data = matrix.data.copy()
    data[np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr)) == matrix.indices] += c
    return scipy.sparse.csr_array((data, matrix.indices, matrix.indptr), shape=matrix.shape)


def _systems(matrix: Any, rights: np.ndarray, shifts: np.ndarray | None) -> Iterator[Any]:
    """A + cI with its right-hand side and c."""
    if shifts is None:
        yield from ((matrix, right) for right in rights)
        return
    for right, c in zip(rights, shifts.tolist(), strict=True):
        yield _moved(matrix, c), right, c
