"""Flat communities: spectral clustering, its refinement, and recursive bisection as the baseline."""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import LinearOperator, eigsh

__all__ = [
    "bisect",
    "block_counts",
    "count_communities",
    "refine",
    "spectral_leaves",
    "two_sided_leaves",
]

HALF = 2000  # nodes from which single precision, ample for the tolerance, halves the traffic
TAU = 0.1  # regularisation of the top-down baseline, in mean degrees (the paper's value)
TOLERANCE = 1e-2  # of eigenvalues, relative: counting needs signs, k-means directions
STARTS = 10  # of k-means
DENSE = 64  # nodes up to which all eigenvalues are computed


def _extreme(matrix: Any, k: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The `k` largest eigenvalues, descending, and their vectors; each within a hundredth of itself, so with the right sign."""
    n = matrix.shape[0]
    if n <= max(DENSE, 2 * k):
        dense = matrix @ np.eye(n)
        values, vectors = np.linalg.eigh((dense + dense.T) / 2)
    else:
        values, vectors = eigsh(
            matrix,
            k=k,
            which="LA",
            v0=rng.standard_normal(n).astype(matrix.dtype),
            tol=TOLERANCE,
            ncv=min(n - 1, max(2 * k + 1, 24)),
        )
    order = np.argsort(-values, kind="stable")[:k]
    return values[order], vectors[:, order]


def _negative_bethe_hessian(A: sp.csr_array) -> tuple[sp.csr_array, float]:
    """The Bethe-Hessian with its sign turned, and the branching number: no more than 1, no structure.

    ``-H_r = rA - D - (r^2 - 1)I`` with r^2 = sum d^2 / sum d - 1 for plain edges. With weights
    ``H_ij = [1 + sum_k w_ik^2 / (r^2 - w_ik^2)] - r w_ij / (r^2 - w_ij^2)`` (Saade et al. 2014), r^2
    the branching number of squared weights: nothing depends on their unit. It needs weights below
    r, so the largest are cut down to a quantile where a few rule the graph.
    """
    squares = _tamed(A)
    degree = np.asarray(squares.sum(axis=1)).ravel()
    total = degree.sum()
    rho = float(((degree**2).sum() - (squares.data**2).sum()) / total) if total else 0.0
    r2 = max(rho, 1.0)
    if squares.nnz == 0 or np.ptp(squares.data) == 0:
        negative = np.sqrt(r2) * squares - sp.diags_array(degree + (r2 - 1))
    else:
        off, on = A.copy(), squares.copy()
        on.data = (r2 - 1) * squares.data / (r2 - squares.data)
        off.data = (r2 - 1) * np.sqrt(r2 * squares.data) / (r2 - squares.data)
        negative = off - sp.diags_array(np.asarray(on.sum(axis=1)).ravel() + (r2 - 1))
    negative = sp.csr_array(negative)
    return negative.astype(np.float32) if A.shape[0] > HALF else negative, rho


def _tamed(A: sp.csr_array) -> sp.csr_array:
    """Squared weights of mean 1, none above half of their branching number."""
    squares = A.copy()
    if A.nnz == 0 or np.ptp(A.data) == 0:
        squares.data = np.ones_like(A.data)
        return squares
    plain = (A.data / A.data.max()) ** 2
    for quantile in (1.0, 0.99, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5):
        squares.data = np.minimum(plain, np.quantile(plain, quantile))
        degree = np.asarray(squares.sum(axis=1)).ravel()
        rho = ((degree**2).sum() - (squares.data**2).sum()) / degree.sum()
        if rho > 2 * squares.data.max():
            squares.data /= squares.data.mean()
            return squares
    squares.data = np.ones_like(plain)  # too sparse for weights to tell anything
    return squares


def _cluster(
    vectors: np.ndarray, k: int, rng: np.random.Generator, starts: int = STARTS
) -> np.ndarray:
    """k-means of the rows, scaled to unit length; labels 0..K-1 without gaps."""
    from sklearn.cluster import KMeans

    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 1e-12)
    distinct = len(np.unique(rows.round(12), axis=0))
    if min(k, distinct) == 1:
        return np.zeros(len(rows), dtype=np.int64)
    model = KMeans(min(k, distinct), n_init=starts, random_state=int(rng.integers(1 << 31)))
    return np.unique(model.fit_predict(rows), return_inverse=True)[1].astype(np.int64)


def _spectrum(
    matrix: Any, limit: int, rng: np.random.Generator, start: int = 8
) -> tuple[np.ndarray, np.ndarray]:
    """Largest eigenvalues, down to the first that is not positive or at most `limit`, and vectors."""
    n = matrix.shape[0]
    wanted = min(start, n)
    while True:
        values, vectors = _extreme(matrix, wanted, rng)
        if values[-1] <= 0 or wanted >= min(limit, n):
            return values, vectors
        # Values beyond the last community lie dense and converge slowly: ask for few of them.
        wanted = min(wanted + max(8, wanted // 4), limit, n)


def count_communities(A: sp.csr_array, limit: int, rng: np.random.Generator, near: int = 8) -> int:
    """Number of negative eigenvalues of the Bethe-Hessian, from 1 to `limit`; `near` is a guess."""
    matrix, rho = _negative_bethe_hessian(A)
    if rho <= 1:
        return 1
    values = _spectrum(matrix, limit, rng, near + 2)[0]
    return max(1, min(limit, int((values > 0).sum())))


def spectral_leaves(
    A: sp.csr_array,
    k: int | None,
    leaves: str,
    limit: int,
    rng: np.random.Generator,
    starts: int = STARTS,
) -> tuple[np.ndarray, np.ndarray]:
    """Label of each node and the eigenvalues that were looked at.

    Parameters
    ----------
    A : sparse array
        Symmetric adjacency without diagonal.
    k : int or None
        Number of communities; None counts the negative eigenvalues of the Bethe-Hessian.
    leaves : {"bethe-hessian", "adjacency"}
        Whose eigenvectors are clustered.
    limit : int
        Largest number of communities that is counted.
    rng : Generator
        Start vectors and k-means.
    starts : int
        Of k-means.
    """
    n = A.shape[0]
    matrix, rho = _negative_bethe_hessian(A)
    if k is None and rho <= 1:  # a forest: nothing above the detection threshold
        return np.zeros(n, dtype=np.int64), np.empty(0)
    if k is not None:
        values, vectors = _extreme(matrix, min(k, n), rng)
    else:
        values, vectors = _spectrum(matrix, limit, rng)
        k = max(1, min(limit, int((values > 0).sum())))
    if leaves == "adjacency":
        vectors = _extreme(A, k, rng)[1]
    return _cluster(vectors[:, :k], k, rng, starts), -values


def two_sided_leaves(
    A: sp.csr_array, times: int, limit: int, rng: np.random.Generator, starts: int = STARTS
) -> np.ndarray:
    """Label of each node where communities may avoid themselves or overlap.

    The negative eigenvalues of H_r count communities that are denser inside, those of H_-r the ones
    that are sparser, as the two sides of a bipartite graph (Saade et al. 2014). Where nodes are in
    two communities, their combinations outnumber the vectors that tell anything.

    Parameters
    ----------
    A : sparse array
        Symmetric 0/1 adjacency without diagonal.
    times : int
        Communities for each of the vectors.
    limit : int
        Most vectors of either side, and most communities.
    rng : Generator
        Start vectors and k-means.
    starts : int
        Of k-means.
    """
    matrix, rho = _negative_bethe_hessian(A)
    if rho <= 1:
        return np.zeros(A.shape[0], dtype=np.int64)
    avoiding = (matrix - 2 * np.sqrt(rho) * A).astype(matrix.dtype)
    sides = [_spectrum(side, limit, rng) for side in (matrix, avoiding)]
    vectors = np.hstack([vectors[:, values > 0] for values, vectors in sides])
    return _cluster(vectors, max(1, min(times * vectors.shape[1], limit)), rng, starts)


def block_counts(A: sp.csr_array, labels: np.ndarray, k: int) -> np.ndarray:
    """Edges between and, on the diagonal, within communities; a node with label -1 is left out."""
    inside = labels >= 0
    Z = sp.csr_array(
        (np.ones(inside.sum()), (np.flatnonzero(inside), labels[inside])), shape=(len(labels), k)
    )
    counts = (Z.T @ A @ Z).toarray()
    counts = (counts + counts.T) / 2
    np.fill_diagonal(counts, np.diag(counts) / 2)  # ZᵀAZ counts inside edges twice
    return counts


def refine(A: sp.csr_array, labels: np.ndarray, passes: int) -> np.ndarray:
    """Give every node to the community under which its edges are likeliest, all nodes at once, `passes` times.

    Derived here: the profile likelihood of the stochastic block model, one node at a time. The threshold for exact recovery
    supposes an optimal first step, which plain spectral clustering is not.
    """
    for _ in range(passes):
        k = int(labels.max()) + 1
        sizes = np.bincount(labels, minlength=k).astype(np.float64)
        pairs = np.outer(sizes, sizes)
        np.fill_diagonal(pairs, sizes * (sizes - 1) / 2)
        p = np.clip((block_counts(A, labels, k) + 0.5) / (pairs + 1), 1e-9, 1 - 1e-9)
        Z = sp.csr_array(
            (np.ones(len(labels)), (np.arange(len(labels)), labels)), shape=(len(labels), k)
        )
        score = (A @ Z) @ np.log(p / (1 - p)) + sizes @ np.log1p(-p) - np.log1p(-p)[labels]
        best = score.argmax(axis=1)
        rows = np.arange(len(labels))
        moved = np.where(score[rows, best] > score[rows, labels] + 1e-9, best, labels)
        moved = np.unique(moved, return_inverse=True)[1].astype(np.int64)
        if np.array_equal(moved, labels):
            break
        labels = moved
    return labels


def _halves(A: sp.csr_array, rng: np.random.Generator) -> np.ndarray:
    """Two sides by the two leading eigenvectors of the regularised normalised adjacency, which is never formed."""
    n = A.shape[0]
    degree = np.asarray(A.sum(axis=1)).ravel()
    shift = TAU * degree.mean() / n
    root = 1 / np.sqrt(degree + shift * n)

    def multiply(x: np.ndarray) -> np.ndarray:
        y = root[:, None] * x.reshape(n, -1)
        return root[:, None] * (A @ y + shift * y.sum(axis=0))

    operator = LinearOperator((n, n), matvec=multiply, matmat=multiply, dtype=np.float64)
    return _cluster(_extreme(operator, 2, rng)[1], 2, rng)


def _second(A: sp.csr_array, rng: np.random.Generator) -> float:
    """Second smallest eigenvalue of the Bethe-Hessian: negative if the graph splits; infinite if it is too small to."""
    if A.shape[0] < 4 or A.nnz == 0:
        return np.inf
    matrix, rho = _negative_bethe_hessian(A)
    return -float(_extreme(matrix, 2, rng)[0][1]) if rho > 1 else np.inf


def bisect(
    A: sp.csr_array, k: int | None, limit: int, rng: np.random.Generator
) -> tuple[np.ndarray, list[tuple[int, int, int]]]:
    """The paper's top-down baseline: split while a part's own Bethe-Hessian has two negative eigenvalues, or until `k` parts.

    Returns
    -------
    labels : ndarray
        Part of each node.
    splits : list of (int, int, int)
        Part that was split and the two parts it became, in order; parts are numbered as they appear, the whole graph is 0.
    """
    n = A.shape[0]
    members = {0: np.arange(n)}
    queue = [(_second(A, rng), 0)]
    splits: list[tuple[int, int, int]] = []
    made = 1
    while queue and len(members) < (k or limit):
        value, part = heapq.heappop(queue)
        if k is None and value >= 0:
            break
        nodes = members[part]
        if len(nodes) < 2:
            continue
        sides = (
            _halves(A[nodes][:, nodes], rng)
            if A[nodes][:, nodes].nnz
            else np.arange(len(nodes)) % 2
        )
        if sides.max() == 0:
            continue
        del members[part]
        splits.append((part, made, made + 1))
        for side in (0, 1):
            members[made] = nodes[sides == side]
            sub = A[members[made]][:, members[made]]
            heapq.heappush(queue, (_second(sub, rng), made))
            made += 1
    labels = np.empty(n, dtype=np.int64)
    for part, nodes in members.items():
        labels[nodes] = part
    return labels, splits
