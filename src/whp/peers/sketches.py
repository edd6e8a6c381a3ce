"""Sketches that have no error bars: one sign a column, and rows drawn."""

from __future__ import annotations

import numpy as np
import scipy.linalg as sl
from scipy.sparse import csr_array

from whp.experiment.benchmark import Peer
from whp.linalg import Sketch

__all__ = [
    "ABSENT",
    "CLARKSON_WOODRUFF",
    "GAUSSIAN_PROJECTION",
    "GELSY",
    "HADAMARD",
    "LSTSQ",
    "NORMAL_EQUATIONS",
    "CountSketch",
    "RowSampling",
]


class CountSketch(Sketch):
    """One random sign a column: the sparse sketch (Clarkson & Woodruff 2013)."""

    family = "countsketch"

    def __init__(self, n: int, m: int, rng: np.random.Generator | int | None = None) -> None:
        super().__init__(n, m)
        rng = np.random.default_rng(rng)
        rows, signs = rng.integers(m, size=n), rng.choice(np.array([-1.0, 1.0]), n)
        self.matrix = csr_array((signs, (rows, np.arange(n))), shape=(m, n))

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        return self.matrix @ X

    def _rmatmat(self, Y: np.ndarray) -> np.ndarray:
        return self.matrix.T @ Y


class RowSampling(Sketch):
    """Rows drawn with the given probabilities, uniform by default, and weighted to be unbiased."""

    family = "row sampling"

    def __init__(
        self,
        n: int,
        m: int,
        rng: np.random.Generator | int | None = None,
        probabilities: np.ndarray | None = None,
    ) -> None:
        super().__init__(n, m)
        p = np.full(n, 1 / n) if probabilities is None else probabilities / probabilities.sum()
        self.rows = np.random.default_rng(rng).choice(n, m, p=p)
        self.weights = 1 / np.sqrt(m * p[self.rows])

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        return X[self.rows] * self.weights[:, None]

    def _rmatmat(self, Y: np.ndarray) -> np.ndarray:
        out = np.zeros((self.shape[1], Y.shape[1]))
        np.add.at(out, self.rows, Y * self.weights[:, None])
        return out


def lstsq(A: np.ndarray, b: np.ndarray, rows: int) -> np.ndarray:
    """Exact, by singular values; `rows` is not looked at, here and in the other exact solvers."""
    return np.linalg.lstsq(A, b)[0]


def gelsy(A: np.ndarray, b: np.ndarray, rows: int) -> np.ndarray:
    """Exact, by QR with pivots."""
    return sl.lstsq(A, b, lapack_driver="gelsy", check_finite=False)[0]


def normal_equations(A: np.ndarray, b: np.ndarray, rows: int) -> np.ndarray:
    """Exact but for the squared condition number."""
    return sl.cho_solve(sl.cho_factor(A.T @ A, check_finite=False), A.T @ b, check_finite=False)


def clarkson_woodruff(A: np.ndarray, b: np.ndarray, rows: int) -> np.ndarray:
    """A CountSketch of `rows` rows, then QR."""
    both = sl.clarkson_woodruff_transform(np.column_stack([A, b]), rows, seed=0)
    return sl.lstsq(both[:, :-1], both[:, -1], lapack_driver="gelsy", check_finite=False)[0]


def gaussian_projection(A: np.ndarray, b: np.ndarray, rows: int) -> np.ndarray:
    """A Gaussian sketch of `rows` rows, then QR."""
    from sklearn.random_projection import GaussianRandomProjection

    project = GaussianRandomProjection(rows, random_state=0)
    both = project.fit_transform(np.column_stack([A, b]).T).T
    return sl.lstsq(both[:, :-1], both[:, -1], lapack_driver="gelsy", check_finite=False)[0]


def hadamard(X: np.ndarray) -> np.ndarray:
    """Walsh-Hadamard transform of the columns."""
    import torch
    from hadamard_transform import hadamard_transform

    return hadamard_transform(torch.from_numpy(X.T)).T.numpy()


LSTSQ = Peer("numpy.linalg.lstsq", lstsq)
GELSY = Peer("scipy.linalg.lstsq gelsy", gelsy)
NORMAL_EQUATIONS = Peer("normal equations", normal_equations)
CLARKSON_WOODRUFF = Peer("scipy clarkson_woodruff_transform", clarkson_woodruff)
GAUSSIAN_PROJECTION = Peer("sklearn GaussianRandomProjection", gaussian_projection)
HADAMARD = Peer("hadamard-transform (PyTorch)", hadamard, needs="hadamard-transform==0.2.0")
ABSENT = (
    Peer("ristretto", None, "ristretto==0.1.2", "does not build on Python 3.11"),
    Peer("pylspack", None, note="is not on PyPI"),
    Peer("fast-hadamard-transform", None, note="needs CUDA"),
)
