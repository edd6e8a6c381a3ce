"""ChebCB: the cost of each arm as a polynomial of the context, arms drawn by inverse gaps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from whp.kernel import compiled

__all__ = ["Chebyshev"]

# Entries of `sums`: rounds, Σ squared errors of predictions, Σ (c − 1)², least and largest cost,
# contexts outside of their range.
ROUNDS, ERRORS, SQUARES, LEAST, MOST, OUTSIDE = range(6)


@compiled
def _jump(G, h, limits, theta, free, work, right):
    """Solve for the coordinates inside of the box, the others as they are; as far as the box goes."""
    m, n = len(theta), 0
    for j in range(m):  # Cholesky's factor of the free part, and the solve beside it
        if G[j, j] <= 0 or abs(theta[j]) >= limits[j]:
            continue
        s, pivot = h[j], G[j, j]
        for i in range(m):
            s -= G[j, i] * theta[i]
        for b in range(n):
            t = G[j, free[b]]
            for c in range(b):
                t -= work[n, c] * work[b, c]
            work[n, b] = t / work[b, b]
            s -= work[n, b] * right[b]
            pivot -= work[n, b] ** 2
        if pivot > 1e-9 * G[j, j]:  # else it depends on those before, and stays
            work[n, n] = math.sqrt(pivot)
            right[n] = s / work[n, n]
            free[n] = j
            n += 1
    for a in range(n - 1, -1, -1):
        s = right[a]
        for b in range(a + 1, n):
            s -= work[b, a] * right[b]
        right[a] = s / work[a, a]
    share = 1.0  # as far as the box goes
    for a in range(n):
        j = free[a]
        room = limits[j] - theta[j] if right[a] > 0 else limits[j] + theta[j]
        if abs(right[a]) * share > room:
            share = room / abs(right[a])
    for a in range(n):
        j = free[a]
        theta[j] = min(max(theta[j] + share * right[a], -limits[j]), limits[j])


@compiled
def _fit(G, h, limits, theta):
    """Least squares in a box on the Gram matrix, from the last solution: coordinate descent, and jumps where it crawls."""
    m = len(theta)
    free, work, right = np.empty(m, np.int64), np.empty((m, m)), np.empty(m)
    for sweep in range(500):
        moved, size = 0.0, 0.0
        for j in range(m):
            if G[j, j] <= 0:
                continue
            s = h[j]
            for i in range(m):
                s -= G[j, i] * theta[i]
            new = min(max(theta[j] + s / G[j, j], -limits[j]), limits[j])
            moved = max(moved, abs(new - theta[j]))
            size = max(size, abs(new))
            theta[j] = new
        if moved <= 1e-9 * (size + 1e-12):
            return
        if sweep % 3 == 1:
            _jump(G, h, limits, theta, free, work, right)


@compiled
def _features(context, low, high, phi):
    z = min(max(2 * (context - low) / (high - low) - 1, -1.0), 1.0)
    angle = math.acos(z)
    for j in range(len(phi)):
        phi[j] = math.cos(j * angle)


@compiled
def _drawn(p, u):
    run = 0.0
    for i in range(len(p) - 1):
        run += p[i]
        if u < run:
            return i
    return len(p) - 1


@compiled
def scales(sums, span, limits):
    """s and α; the box of the coefficients is written into `limits`."""
    m = len(limits)
    K = max(sums[4], 1.0)
    lipschitz = max(sums[4] - sums[3], 0.0) / span
    N = 2 + 4 * span * lipschitz / K * (1 + math.log(m))
    s = K * N
    limits[0] = 1 / N
    for j in range(1, m):
        limits[j] = 2 * span * lipschitz / (s * j)
    alpha = (math.pi + 2 / math.pi * math.log(2 * m + 1)) * span * lipschitz / (2 * s * (m + 1))
    return s, alpha


@compiled
def weigh(theta, sums, span, phi, limits, p, said):
    """Probabilities of the arms into `p`, their predicted costs over s into `said`; returns η, s and the best arm."""
    d, m = theta.shape
    t = sums[0]
    if t == 0:
        p[:] = 1 / d
        said[:] = 0.0
        return 0.0, 1.0, 0
    s, alpha = scales(sums, span, limits)
    errors = max(sums[1] / (s * s), 1e-300)
    eta = 2 * t * math.sqrt(d * t / (errors + 2 * alpha * alpha * t))
    for i in range(d):
        total = 0.0
        for j in range(m):
            total += theta[i, j] * phi[j]
        said[i] = total
    best = 0
    for i in range(1, d):
        if said[i] < said[best]:
            best = i
    total = 0.0
    for i in range(d):
        if i != best:
            p[i] = 1 / (d + eta * (said[i] - said[best]))
            total += p[i]
    p[best] = 1 - total
    return eta, s, best


@compiled
def learn(G, h, theta, sums, span, phi, arm, cost, limits):
    """Enter the cost of an arm that was drawn, and fit what it changes."""
    d, m = theta.shape
    before = 1.0
    if sums[0] > 0:
        before, _ = scales(sums, span, limits)
        said = 0.0
        for j in range(m):
            said += theta[arm, j] * phi[j]
        sums[1] += (before * said - (cost - 1)) ** 2
    sums[0] += 1
    sums[2] += (cost - 1) ** 2
    grew = cost < sums[3] or cost > sums[4]
    sums[3], sums[4] = min(sums[3], cost), max(sums[4], cost)
    for j in range(m):
        h[arm, j] += (cost - 1) * phi[j]
        for k in range(m):
            G[arm, j, k] += phi[j] * phi[k]
    s, _ = scales(sums, span, limits)
    for i in range(d):
        if grew:
            theta[i] *= before / s
        if grew or i == arm:
            _fit(G[i], h[i] / s, limits, theta[i])


@compiled
def replays(costs, phi, span, uniforms, paid, bounds):
    """Replays of ChebCB on a table of costs: expected costs, and the bound on regret to each system's own best arm.

    It stands beside the kernels that it calls: numba's cache looks at one file alone.
    """
    T, d = costs.shape
    m = phi.shape[1]
    G, h, theta = np.zeros((d, m, m)), np.zeros((d, m)), np.zeros((d, m))
    sums, limits, p, said = np.zeros(6), np.zeros(m), np.zeros(d), np.zeros(d)
    for n in range(len(uniforms)):
        G[:] = 0
        h[:] = 0
        theta[:] = 0
        sums[:] = 0
        sums[3], sums[4] = np.inf, -np.inf
        cost, bound = 0.0, 0.0
        for t in range(T):
            eta, s, best = weigh(theta, sums, span, phi[t], limits, p, said)
            arm, errors = _drawn(p, uniforms[n, t]), 0.0
            for i in range(d):
                cost += p[i] * costs[t, i]
                errors += p[i] * (said[i] - (costs[t, i] - 1) / s) ** 2
            most = costs[t].max() - costs[t].min()
            if eta > 0:
                q = p[best]
                gaps = max(d * (1 + q) - 2, d * q - 2 + 1 / q)
                most = min(most, s * (gaps / eta + eta / 4 * errors))
            bound += most
            learn(G, h, theta, sums, span, phi[t], arm, costs[t, arm], limits)
        paid[n], bounds[n] = cost, bound


class Chebyshev:
    """The learner; memory does not grow with the rounds.

    Constants are those of the authors' code; the prediction errors that set its exploration are summed
    as they are made.

    Parameters
    ----------
    arms : int
        How many.
    low, high : float
        Range of the context.
    degree : int
        Coefficients of each polynomial.
    rng : numpy.random.Generator
        Of the draws.
    """

    def __init__(
        self, arms: int, low: float, high: float, degree: int, rng: np.random.Generator
    ) -> None:
        self.low, self.high, self.degree, self.rng = low, high, degree, rng
        self.G, self.h = np.zeros((arms, degree, degree)), np.zeros((arms, degree))
        self.theta = np.zeros((arms, degree))
        self.sums = np.zeros(6)
        self.sums[LEAST], self.sums[MOST] = np.inf, -np.inf
        self._limits, self._said = np.empty(degree), np.empty(arms)
        self._p = np.empty(arms)
        self._drawn: tuple[int, np.ndarray] | None = None

    def features(self, context: float) -> Float[np.ndarray, " m"]:
        """Chebyshev polynomials of the context, which is clipped to its range."""
        phi = np.empty(self.degree)
        _features(context, self.low, self.high, phi)
        return phi

    def predicted(self, context: float) -> Float[np.ndarray, " d"]:
        """What each arm is expected to cost."""
        s, _ = scales(self.sums, self.high - self.low, self._limits)
        return 1 + s * (self.theta @ self.features(context))

    def ask(self, context: float) -> tuple[int, np.ndarray]:
        """Arm, and the probabilities that it was drawn from."""
        if not self.low <= context <= self.high:
            self.sums[OUTSIDE] += 1
        phi, span = self.features(context), self.high - self.low
        weigh(self.theta, self.sums, span, phi, self._limits, self._p, self._said)
        p = self._p.copy()
        arm = int(_drawn(p, self.rng.random()))
        self._drawn = arm, phi
        return arm, p

    def tell(self, cost: float) -> None:
        """The cost of the arm that was drawn."""
        assert self._drawn is not None
        arm, phi = self._drawn
        span = self.high - self.low
        learn(self.G, self.h, self.theta, self.sums, span, phi, arm, cost, self._limits)
        self._drawn = None

    def state_dict(self) -> dict[str, Any]:
        """All that has been learnt, and the state of the draws."""
        arrays = {name: getattr(self, name).copy() for name in ("G", "h", "theta", "sums")}
        return {**arrays, "rng": self.rng.bit_generator.state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken."""
        arrays = {}
        for name in ("G", "h", "theta", "sums"):
            arrays[name] = np.array(state[name], dtype=np.float64)
            if arrays[name].shape != getattr(self, name).shape:
                wanted = getattr(self, name).shape
                raise ValueError(f"state['cheb'][{name!r}] must have shape {wanted}")
        self.rng.bit_generator.state = state["rng"]
        for name, array in arrays.items():
            setattr(self, name, array)
        self._drawn = None


def features(contexts: np.ndarray, low: float, high: float, degree: int) -> np.ndarray:
    """Chebyshev polynomials of contexts, clipped to their range, a row each."""
    z = np.clip(2 * (contexts - low) / (high - low) - 1, -1, 1)
    return np.cos(np.arange(degree) * np.arccos(z)[:, None])
