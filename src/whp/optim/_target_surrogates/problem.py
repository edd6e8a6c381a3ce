"""The surrogate of a linear model z = Xθ, and its minimiser."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, Literal

import numpy as np
from scipy.linalg import cho_factor, cho_solve, cholesky, pinvh, qr, solve_triangular
from scipy.sparse import issparse

__all__ = ["RANK", "LinearProblem", "column_norms", "dependence", "orthonormal"]

RANK = 1e-10  # of the largest singular value, columns of norm 1
ENOUGH = (
    1e-4  # least diagonal entry of the factor with which two rounds of Cholesky QR are accurate
)


def column_norms(X: Any) -> np.ndarray:
    """Norms of the columns, without under- or overflow."""
    if issparse(X):
        top = np.asarray(abs(X).max(axis=0).todense()).ravel()
        safe = np.where(top > 0, top, 1.0)
        return safe * np.sqrt(np.asarray(X.multiply(1 / safe).power(2).sum(axis=0)).ravel())
    top = np.maximum(X.max(axis=0, initial=0.0), -X.min(axis=0, initial=0.0))
    safe = np.where(top > 0, top, 1.0)
    return safe * np.sqrt(np.square(X / safe).sum(axis=0))


def orthonormal(X: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """U with orthonormal columns that span those of X, T with X T = U, and R with X = U R.

    Columns are scaled to norm 1 before, so that units play no part. Two rounds of Cholesky QR, at
    the speed of a matrix product; where columns nearly depend on each other QR and the singular
    values of R, of which those below 1e-10 of the largest are taken for 0.
    """
    scale = column_norms(X)
    scale[scale == 0] = 1.0
    A = X / scale
    n, d = A.shape
    if n >= d:
        try:
            first = cholesky(A.T @ A)
            if np.diag(first).min() > ENOUGH:
                U = solve_triangular(first, A.T, trans="T", lower=False).T
                second = cholesky(U.T @ U)
                U = solve_triangular(second, U.T, trans="T", lower=False).T
                R = second @ first
                return U, solve_triangular(R, np.eye(d)) / scale[:, None], R * scale
        except np.linalg.LinAlgError:
            pass
        Q, R = qr(A, mode="economic")[:2]
        left, s, Vt = np.linalg.svd(R)
        left = Q @ left
    else:
        left, s, Vt = np.linalg.svd(A, full_matrices=False)
    kept = s > RANK * s[0] if s[0] > 0 else np.zeros(len(s), bool)
    R = s[kept, None] * Vt[kept] * scale
    if len(R) == d:
        return left[:, kept], (Vt[kept].T / s[kept]) / scale[:, None], R
    # Of all T the one of least norm, so that coefficients change no more than they must.
    Q, S = qr(R.T, mode="economic")[:2]
    T = Q @ solve_triangular(S, np.eye(len(R)), trans="T") if len(R) else np.zeros((d, 0))
    return left[:, kept], T, R


def dependence(X: np.ndarray) -> tuple[float, float]:
    """How near columns of norm 1 are to dependent: least singular value kept, largest taken for 0.

    Both as shares of the largest one; :func:`orthonormal` keeps those above 1e-10.
    """
    scale = column_norms(X)
    scale[scale == 0] = 1.0
    A = X / scale
    try:
        first = cholesky(A.T @ A)
        A = first if np.diag(first).min() > ENOUGH else A
    except np.linalg.LinAlgError:
        pass
    s = np.linalg.svd(A, compute_uv=False)
    if not len(s) or s[0] == 0:
        return 1.0, 0.0
    s = s / s[0]
    return float(s[s > RANK].min()), float(s[s <= RANK].max(initial=0.0))


class LinearProblem:
    """min ⟨C, Xω⟩ + ‖X(ω − θ)‖²/(2η) + Σ penalty ω²/2 in ω; what does not change is computed once.

    Parameters
    ----------
    X : ndarray or sparse, shape (n, d)
    alpha : float
        Ridge penalty a sample.
    solver : {"direct", "cg"}
    free : ndarray of bool, shape (d,), optional
        Coefficients that are not penalised.
    """

    def __init__(
        self,
        X: Any,
        alpha: float = 0.0,
        solver: Literal["direct", "cg"] = "direct",
        free: np.ndarray | None = None,
    ) -> None:
        self.X, self.n, self.d = X, X.shape[0], X.shape[1]
        self.penalty = np.full(self.d, alpha * self.n)
        if free is not None:
            self.penalty[free] = 0.0
        self.solver = solver
        self.by_basis = solver == "direct" and not issparse(X) and not self.penalty.any()
        self._factors: dict[float, Callable[[np.ndarray], np.ndarray]] = {}

    @cached_property
    def basis(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See :func:`orthonormal`."""
        return orthonormal(self.X)

    @cached_property
    def H(self) -> np.ndarray:
        """XᵀX."""
        H = self.X.T @ self.X
        return H.toarray() if issparse(H) else np.asarray(H)

    @cached_property
    def norm(self) -> float:
        """‖X‖², the largest eigenvalue of XᵀX."""
        if self.by_basis and "H" not in vars(self):
            R = self.basis[2]
            return float(np.linalg.norm(R, 2) ** 2) if R.size else 0.0
        if self.solver == "direct":
            return float(np.linalg.eigvalsh(self.H)[-1])
        if 1 in self.X.shape or not self.scale.any():  # one singular value, or none but 0
            return float(np.square(self.scale).sum())
        from scipy.sparse.linalg import svds

        return float(svds(self.X.astype(np.float64), k=1, return_singular_vectors=False)[0] ** 2)

    @cached_property
    def scale(self) -> np.ndarray:
        """Norms of the columns."""
        return column_norms(self.X)

    def size(self, theta: np.ndarray) -> float:
        """At least ‖|X||θ|‖, which rounding of the outputs goes with."""
        return float(np.linalg.norm(self.scale @ np.abs(theta)))

    def gram(self, v: np.ndarray) -> np.ndarray:
        """XᵀX v."""
        return self.H @ v if self.solver == "direct" else self.X.T @ (self.X @ v)

    def pull(self, theta: np.ndarray) -> np.ndarray:
        """Gradient of the penalty."""
        return (self.penalty * theta.T).T

    def solve(
        self, slope: np.ndarray, theta: np.ndarray, eta: float, C: np.ndarray, rows: Any = None
    ) -> np.ndarray:
        """The minimiser; of all, the one nearest to θ where X lacks rank.

        Parameters
        ----------
        slope : ndarray, shape of theta
            XᵀC.
        theta : ndarray
        eta : float
        C : ndarray, shape (b,) or (b, p)
            Gradient in the outputs, of these rows.
        rows : ndarray of int, optional
            All rows by default.
        """
        if self.by_basis:
            U, T, _ = self.basis
            part = U if rows is None else U[rows]
            return theta - eta * (T @ (part.T @ C))
        return theta - self._factor(eta)(slope + self.pull(theta))

    def _factor(self, eta: float) -> Callable[[np.ndarray], np.ndarray]:
        if eta not in self._factors:
            if len(self._factors) > 8:
                self._factors.clear()
            self._factors[eta] = self._cg(eta) if self.solver == "cg" else self._direct(eta)
        return self._factors[eta]

    def _direct(self, eta: float) -> Callable[[np.ndarray], np.ndarray]:
        A = self.H / eta + np.diag(self.penalty)
        scale = np.sqrt(np.diag(A))
        scale[scale == 0] = 1.0
        A = A / scale / scale[:, None]

        def scaled(inner: Callable[[np.ndarray], np.ndarray], r: np.ndarray) -> np.ndarray:
            return (inner((r.T / scale).T).T / scale).T

        try:
            factor = cho_factor(A)
            if np.diag(factor[0]).min() ** 2 > RANK:
                return lambda r: scaled(lambda v: cho_solve(factor, v), r)
        except np.linalg.LinAlgError:
            pass
        inverse = pinvh(A, rtol=RANK)
        return lambda r: scaled(lambda v: inverse @ v, r)

    def _cg(self, eta: float) -> Callable[[np.ndarray], np.ndarray]:
        from scipy.sparse.linalg import LinearOperator, cg

        def product(v: np.ndarray) -> np.ndarray:
            return self.X.T @ (self.X @ v) / eta + self.penalty * v

        operator = LinearOperator((self.d, self.d), matvec=product, dtype=np.float64)  # type: ignore[call-arg]

        def solve(r: np.ndarray) -> np.ndarray:
            columns = [
                cg(operator, column, rtol=1e-10, maxiter=10 * self.d)[0]
                for column in np.atleast_2d(r.T)
            ]
            return np.stack(columns).T.reshape(r.shape)

        return solve
