"""Compiled loops of optimistic planning: one backup, and the ways to go through many."""

from __future__ import annotations

from typing import Any

import numpy as np

from whp.kernel import compiled

__all__ = [
    "BERNSTEIN",
    "L1",
    "MVP",
    "attainable",
    "backup",
    "by_context",
    "kindest",
    "pareto",
    "roots",
    "sweep",
]

BERNSTEIN, MVP, L1 = 0, 1, 2
NEARLY = 1e-13  # vectors this close to being dominated are dropped; n_steps times this is rounding


@compiled
def kindest(v: Any, low: Any, high: Any, q: Any) -> float:
    """The largest mean of v of all laws between low and high, shape (G,); `q` is filled with such a law."""
    rest, total = 1.0, 0.0
    used = np.zeros(len(v), np.bool_)
    for j in range(len(v)):
        q[j] = low[j]
        rest -= low[j]
    while rest > 0:
        best = -1
        for j in range(len(v)):
            if not used[j] and high[j] > low[j] and (best < 0 or v[j] > v[best]):
                best = j
        if best < 0:
            break
        used[best] = True
        more = min(rest, high[best] - low[best])
        q[best] += more
        rest -= more
    for j in range(len(v)):
        total += q[j] * v[j]
    return total


@compiled
def backup(
    v: Any, p: Any, possible: Any, n: float, iota: float, size: int, kind: int, q: Any
) -> float:
    """Upper bound on the mean of v under a law that was seen n times, with frequencies p.

    Parameters
    ----------
    v, p : ndarray, shape (G,)
        Values, at most 1, and frequencies.
    possible : ndarray of bool, shape (G,)
        Places where the law may have mass.
    n, iota : float
        Visits at the snapshot, and its logarithm, times the square of the scale of bonuses.
    size : int
        Number of places that the bonus of "mvp" and "l1" counts.
    kind : int
        BERNSTEIN: the largest mean over the box of Maurer and Pontil; MVP, L1: mean plus bonus.
    q : ndarray, shape (G,)
        Filled with the law that attains the maximum, for MVP and L1 with the frequencies.
    """
    G = len(v)
    count, only = 0, -1
    for j in range(G):
        q[j] = 0.0
        if possible[j]:
            count += 1
            only = j
    if count == 1:  # the law is known
        q[only] = 1.0
        return v[only]
    if n == 0:
        best = only
        for j in range(G):
            if possible[j] and v[j] > v[best]:
                best = j
        q[best] = 1.0
        return 1.0
    if kind == BERNSTEIN:
        low, high = np.zeros(G), np.zeros(G)
        for j in range(G):
            if possible[j]:
                wide = 2 * np.sqrt(p[j] * iota / n) + 5 * iota / n
                low[j], high[j] = max(0.0, p[j] - wide), min(1.0, p[j] + wide)
        return kindest(v, low, high, q)
    mean, seen = 0.0, 0
    for j in range(G):
        q[j] = p[j]
        mean += p[j] * v[j]
        seen += p[j] > 0
    if kind == L1:
        return mean + np.sqrt(2 * size * iota / n)
    var = 0.0
    for j in range(G):
        var += p[j] * (v[j] - mean) ** 2
    return mean + max(4 * np.sqrt(seen * var * iota / n), 16 * size * iota / n)


@compiled
def attainable(
    vectors: Any,
    first: Any,
    sizes: Any,
    R: Any,
    p: Any,
    possible: Any,
    n: Any,
    iota: Any,
    size: Any,
    kind: int,
    last: bool,
) -> Any:
    """Optimistic alpha vectors of one action, for every choice of how to go on after each next state.

    Parameters
    ----------
    vectors : ndarray, shape (K, M)
        Those of the next step.
    first, sizes : ndarray of int, shape (G,)
        Where those of each next state begin, and how many there are.
    R : ndarray, shape (M,)
    p, possible : ndarray, shape (M, G)
    n, iota, size : ndarray, shape (M,)
    kind : int
    last : bool
        Nothing follows.

    Returns
    -------
    ndarray, shape (product of sizes, M)
        The choice for the last next state runs fastest.
    """
    M, G = p.shape
    total = 1
    for j in range(G):
        total *= sizes[j]
    made = np.empty((total, M))
    v, q = np.empty(G), np.empty(G)
    chosen = np.zeros(G, np.int64)
    for c in range(total):
        for m in range(M):
            on = 0.0
            if not last:
                for j in range(G):
                    v[j] = vectors[first[j] + chosen[j], m]
                on = backup(v, p[m], possible[m], n[m], iota[m], size[m], kind, q)
            made[c, m] = min(1.0, R[m] + on)
        for j in range(G - 1, -1, -1):
            chosen[j] += 1
            if chosen[j] < sizes[j]:
                break
            chosen[j] = 0
    return made


@compiled
def pareto(vectors: Any, order: Any) -> Any:
    """Places of vectors that no other exceeds everywhere, in the given order of looking at them.

    The order must go from larger sums to smaller, so that none is dropped for one that comes later.
    """
    C, M = vectors.shape
    kept = np.empty(C, np.int64)
    count = 0
    for i in range(C):
        c = order[i]
        beaten = False
        for k in range(count):
            below = True
            for m in range(M):
                if vectors[kept[k], m] < vectors[c, m] - NEARLY:
                    below = False
                    break
            if below:
                beaten = True
                break
        if not beaten:
            kept[count] = c
            count += 1
    return kept[:count]


@compiled
def sweep(
    state: Any,
    child: Any,
    after: Any,
    succ: Any,
    R: Any,
    row: Any,
    phat: Any,
    possible: Any,
    n: Any,
    iota: Any,
    size: Any,
    kind: int,
    weight: Any,
    visits: Any,
    alpha: Any,
    action: Any,
    law: Any,
) -> None:
    """One step of a tree of histories from its end: the best action of each node by the weights there.

    Parameters
    ----------
    state : ndarray of int, shape (N,)
    child : ndarray of int, shape (N, A, G)
        Nodes of the next step; -1 for what earns nothing or does not exist.
    after : ndarray, shape (N', M)
        Alpha vectors of the next step; of no rows after the last step.
    succ : ndarray of int, shape (S, A, G)
    R : ndarray, shape (M, S, A)
    row : ndarray of int, shape (M, S, A)
    phat : ndarray, shape (rows, S)
    possible : ndarray of bool, shape (M, S, A, G)
    n, iota : ndarray, shape (rows,)
    size : ndarray of int, shape (M, S, A)
    kind : int
    weight : ndarray, shape (N, M)
        Of the contexts at each node.
    visits : ndarray, shape (S, A)
        Ties go to what was visited least.
    alpha, action, law : ndarray, shapes (N, M), (N,), (N, A, G, M)
        Filled with alpha vectors, best actions and the laws that attain them.
    """
    N, A, G = child.shape
    M = weight.shape[1]
    v, q, p = np.empty(G), np.empty(G), np.empty(G)
    one = np.empty(M)
    for i in range(N):
        s = state[i]
        best, least = -1.0, 0.0
        for a in range(A):
            total = 0.0
            for m in range(M):
                on = 0.0
                if len(after):
                    r = row[m, s, a]
                    for j in range(G):
                        c = child[i, a, j]
                        v[j] = after[c, m] if c >= 0 else 0.0
                        p[j] = phat[r, succ[s, a, j]] if possible[m, s, a, j] else 0.0
                    on = backup(v, p, possible[m, s, a], n[r], iota[r], size[m, s, a], kind, q)
                    for j in range(G):
                        law[i, a, j, m] = q[j]
                one[m] = min(1.0, R[m, s, a] + on)
                total += weight[i, m] * one[m]
            tie = abs(total - best) <= 1e-12
            if (not tie and total > best) or (tie and visits[s, a] < least):
                best, least = total, visits[s, a]
                action[i] = a
                for m in range(M):
                    alpha[i, m] = one[m]


@compiled
def by_context(
    horizon: int,
    dead: Any,
    succ: Any,
    R: Any,
    row: Any,
    phat: Any,
    possible: Any,
    n: Any,
    iota: Any,
    size: Any,
    kind: int,
) -> Any:
    """Optimistic values of the first step for somebody who knows the context; shape (S, M)."""
    M, S, A = R.shape
    G = succ.shape[2]
    values = np.zeros((S, M))
    v, q, p = np.empty(G), np.empty(G), np.empty(G)
    for t in range(horizon):
        new = np.zeros((S, M))
        for s in range(S):
            if dead[s]:
                continue
            for m in range(M):
                for a in range(A):
                    on = 0.0
                    if t > 0:
                        r = row[m, s, a]
                        for j in range(G):
                            v[j] = values[succ[s, a, j], m]
                            p[j] = phat[r, succ[s, a, j]] if possible[m, s, a, j] else 0.0
                        on = backup(v, p, possible[m, s, a], n[r], iota[r], size[m, s, a], kind, q)
                    new[s, m] = max(new[s, m], min(1.0, R[m, s, a] + on))
        values = new
    return values


@compiled
def roots(
    vectors: Any,
    first: Any,
    digits: Any,
    p: Any,
    possible: Any,
    k: float,
    iota: float,
    size: int,
    kind: int,
    M: int,
) -> Any:
    """Optimistic value of each choice of vectors for the first states.

    Parameters
    ----------
    vectors : ndarray, shape (K, M)
    first : ndarray of int, shape (s,)
        Where those of each first state begin.
    digits : ndarray of int, shape (C, s)
        The choices.
    p, possible : ndarray, shape (M s,)
        By context, then first state.
    """
    C, s = digits.shape
    made = np.empty(C)
    v, q = np.empty(M * s), np.empty(M * s)
    for c in range(C):
        for m in range(M):
            for i in range(s):
                v[m * s + i] = vectors[first[i] + digits[c, i], m]
        made[c] = backup(v, p, possible, k, iota, size, kind, q)
    return made
