"""The compiled passes of an episode: policies, occupancies, estimates, bonuses, and a whole replay."""

from __future__ import annotations

import numpy as np

from whp.kernel import compiled
from whp.rl._adversarial_linear_mdp.ftrl import barrier_point, hedge_point

__all__ = [
    "BONUS_MAX",
    "ESTIMATE_MIN",
    "MOVE_MIN",
    "THETA_MAX",
    "advance",
    "estimate",
    "inverse",
    "inverses",
    "occupancies",
    "policies",
    "replay",
    "resampled",
    "walk",
]

# Places in a run's extremes: largest bonus, least of Q̂ − B, least Q̂, largest norm of θ.
BONUS_MAX, MOVE_MIN, ESTIMATE_MIN, THETA_MAX = range(4)
EXACT, PLUGIN, MGR = range(3)


@compiled
def policies(scores: np.ndarray, eta: float, barrier: bool, pi: np.ndarray) -> None:
    """π(·|h, x) from summed estimates, at all steps and states."""
    for h in range(scores.shape[0]):
        for x in range(scores.shape[1]):
            if barrier:
                barrier_point(scores[h, x], eta, pi[h, x])
            else:
                hedge_point(scores[h, x], eta, pi[h, x])


@compiled
def occupancies(P: np.ndarray, init: np.ndarray, pi: np.ndarray, q: np.ndarray) -> None:
    """Probability of each state at each step."""
    H, X, A = pi.shape
    q[:] = 0.0
    for x in range(X):
        q[0, x] = init[x]
    for h in range(H - 1):
        for x in range(X):
            for a in range(A):
                mass = q[h, x] * pi[h, x, a]
                if mass > 0.0:
                    for y in range(X):
                        q[h + 1, y] += mass * P[h, x, a, y]


@compiled
def pick(law: np.ndarray, u: float) -> int:
    """The place in a law that a number from [0, 1) falls on; never one of probability 0."""
    total = 0.0
    last = 0
    for i in range(law.shape[0]):
        if law[i] > 0.0:
            last = i
            total += law[i]
            if u < total:
                return i
    return last


@compiled
def walk(
    P: np.ndarray,
    init: np.ndarray,
    pi: np.ndarray,
    rng: np.random.Generator,
    states: np.ndarray,
    actions: np.ndarray,
) -> None:
    """One episode under π, drawn."""
    H = pi.shape[0]
    states[0] = pick(init, rng.random())
    for h in range(H):
        actions[h] = pick(pi[h, states[h]], rng.random())
        if h < H - 1:
            states[h + 1] = pick(P[h, states[h], actions[h]], rng.random())


@compiled
def inverse(matrix: np.ndarray, out: np.ndarray) -> None:
    """Inverse of a positive definite matrix by its Cholesky factor, the same on every processor."""
    d = matrix.shape[0]
    lower = np.zeros((d, d))
    for i in range(d):
        for j in range(i + 1):
            total = matrix[i, j]
            for k in range(j):
                total -= lower[i, k] * lower[j, k]
            if i == j:
                lower[i, i] = np.sqrt(total)
            else:
                lower[i, j] = total / lower[j, j]
    # Columns of the inverse factor, then its square.
    solved = np.zeros((d, d))
    for c in range(d):
        for i in range(c, d):
            total = 1.0 if i == c else 0.0
            for k in range(c, i):
                total -= lower[i, k] * solved[k, c]
            solved[i, c] = total / lower[i, i]
    for i in range(d):
        for j in range(i + 1):
            total = 0.0
            for k in range(i, d):
                total += solved[k, i] * solved[k, j]
            out[i, j] = total
            out[j, i] = total


@compiled
def resampled(features: np.ndarray, gamma: float, copies: int, terms: int, out: np.ndarray) -> None:
    """Matrix geometric resampling (Neu & Olkhovskaya 2020) of (γI + Σ)⁻¹ with c = 1/2.

    `features` holds `copies` times `terms` independent draws; each copy is c I + c Σ_n Π_{j≤n} (I −
    c(γI + φ_j φ_jᵀ)).
    """
    d = features.shape[1]
    out[:] = 0.0
    c = 0.5
    for m in range(copies):
        product = np.eye(d)
        total = np.eye(d)
        for n in range(terms):
            f = features[m * terms + n]
            along = np.zeros(d)
            for i in range(d):
                for j in range(d):
                    along[i] += product[i, j] * f[j]
            for i in range(d):
                for j in range(d):
                    product[i, j] = (1 - c * gamma) * product[i, j] - c * along[i] * f[j]
                    total[i, j] += product[i, j]
        for i in range(d):
            for j in range(d):
                out[i, j] += c * 0.5 * (total[i, j] + total[j, i]) / copies


@compiled
def inverses(
    phi: np.ndarray,
    P: np.ndarray,
    init: np.ndarray,
    pi: np.ndarray,
    q: np.ndarray,
    gamma: float,
    covariance: int,
    n_sim: int,
    terms: int,
    rng: np.random.Generator,
    out: np.ndarray,
) -> None:
    """Σ† = (γI + E φφᵀ)⁻¹ of each step: summed over occupancies, or from `n_sim` episodes of their own."""
    H, X, A, d = phi.shape
    if covariance == EXACT:
        second = np.empty((d, d))
        for h in range(H):
            second[:] = 0.0
            for x in range(X):
                for a in range(A):
                    mass = q[h, x] * pi[h, x, a]
                    if mass > 0.0:
                        f = phi[h, x, a]
                        for i in range(d):
                            if f[i] != 0.0:
                                for j in range(i + 1):
                                    second[i, j] += mass * f[i] * f[j]
            for i in range(d):
                second[i, i] += gamma
            inverse(second, out[h])
        return
    states = np.empty(H, dtype=np.int64)
    actions = np.empty(H, dtype=np.int64)
    drawn = np.empty((H, n_sim, d))
    for n in range(n_sim):
        walk(P, init, pi, rng, states, actions)
        for h in range(H):
            for i in range(d):
                drawn[h, n, i] = phi[h, states[h], actions[h], i]
    for h in range(H):
        if covariance == PLUGIN:
            second = np.zeros((d, d))
            for n in range(n_sim):
                for i in range(d):
                    for j in range(i + 1):
                        second[i, j] += drawn[h, n, i] * drawn[h, n, j] / n_sim
            for i in range(d):
                second[i, i] += gamma
            inverse(second, out[h])
        else:
            resampled(drawn[h], gamma, n_sim // terms, terms, out[h])


@compiled
def estimate(
    phi: np.ndarray,
    P: np.ndarray,
    pi: np.ndarray,
    q: np.ndarray,
    inv: np.ndarray,
    states: np.ndarray,
    actions: np.ndarray,
    losses: np.ndarray,
    beta: float,
    reduced: bool,
    Q: np.ndarray,
    B: np.ndarray,
    theta: np.ndarray,
) -> None:
    """Q̂, the dilated bonus B and θ̂ = Σ†φL of one episode, into the last three arguments.

    Reduced: Q̂ = zL − H min(z, 0) + m, m = H E_π min(φᵀΣ†φ′, 0), has the mean of zL and is never below
    −H/√γ, since zL − H min(z, 0) ≥ 0.
    """
    H, X, A, d = phi.shape
    togo = 0.0
    side = np.empty(d)
    norms = np.empty((X, A))
    for h in range(H - 1, -1, -1):
        togo += losses[h]
        f = phi[h, states[h], actions[h]]
        for i in range(d):
            side[i] = 0.0
            for j in range(d):
                side[i] += inv[h, i, j] * f[j]
            theta[h, i] = side[i] * togo
        for x in range(X):
            for a in range(A):
                z = 0.0
                norm = 0.0
                for i in range(d):
                    fi = phi[h, x, a, i]
                    if fi != 0.0:
                        z += fi * side[i]
                        along = 0.0
                        for j in range(d):
                            along += inv[h, i, j] * phi[h, x, a, j]
                        norm += fi * along
                norms[x, a] = norm
                Q[h, x, a] = z * togo
                if reduced:
                    Q[h, x, a] -= H * min(z, 0.0)
        if reduced:
            _means(phi[h], pi[h], q[h], inv[h], float(H), Q[h])
        for x in range(X):
            mean = 0.0
            for a in range(A):
                mean += pi[h, x, a] * norms[x, a]
            for a in range(A):
                B[h, x, a] = beta * (norms[x, a] + mean)
        if h < H - 1:
            for x in range(X):
                for a in range(A):
                    after = 0.0
                    for y in range(X):
                        if P[h, x, a, y] > 0.0:
                            expected = 0.0
                            for b in range(A):
                                expected += pi[h + 1, y, b] * B[h + 1, y, b]
                            after += P[h, x, a, y] * expected
                    B[h, x, a] += (1 + 1 / H) * after


@compiled
def _means(
    phi: np.ndarray, pi: np.ndarray, q: np.ndarray, inv: np.ndarray, H: float, Q: np.ndarray
) -> None:
    """Add m(x, a) = H E_{(x′,a′)∼π} min(φ(x,a)ᵀ Σ† φ(x′,a′), 0) to Q."""
    X, A, d = phi.shape
    side = np.empty(d)
    for y in range(X):
        for b in range(A):
            mass = H * q[y] * pi[y, b]
            if mass <= 0.0:
                continue
            for i in range(d):
                side[i] = 0.0
                for j in range(d):
                    side[i] += inv[i, j] * phi[y, b, j]
            for x in range(X):
                for a in range(A):
                    z = 0.0
                    for i in range(d):
                        z += phi[x, a, i] * side[i]
                    if z < 0.0:
                        Q[x, a] += mass * z


@compiled
def advance(
    pi: np.ndarray,
    Q: np.ndarray,
    B: np.ndarray,
    scores: np.ndarray,
    played: np.ndarray,
    squares: np.ndarray,
    worst: np.ndarray,
    extremes: np.ndarray,
) -> None:
    """Add Q̂ − B to the scores, and to the sums that the regret of each state's learner is made of."""
    H, X, A = pi.shape
    for h in range(H):
        for x in range(X):
            high = -np.inf
            for a in range(A):
                move = Q[h, x, a] - B[h, x, a]
                scores[h, x, a] += move
                played[h, x] += pi[h, x, a] * move
                squares[h, x] += pi[h, x, a] * move * move
                high = max(high, move)
                extremes[BONUS_MAX] = max(extremes[BONUS_MAX], B[h, x, a])
                extremes[MOVE_MIN] = min(extremes[MOVE_MIN], move)
                extremes[ESTIMATE_MIN] = min(extremes[ESTIMATE_MIN], Q[h, x, a])
            worst[h, x] += high


@compiled
def value(
    P: np.ndarray,
    init: np.ndarray,
    pi: np.ndarray,
    losses: np.ndarray,
    pinv: np.ndarray,
    extremes: np.ndarray,
) -> float:
    """V^π of one table of losses; the norm of the θ behind each step's Q^π goes into the extremes."""
    H, X, A = pi.shape
    d = pinv.shape[1]
    after = np.zeros(X)
    Q = np.empty(X * A)
    for h in range(H - 1, -1, -1):
        for x in range(X):
            for a in range(A):
                total = losses[h, x, a]
                if h < H - 1:
                    for y in range(X):
                        total += P[h, x, a, y] * after[y]
                Q[x * A + a] = total
        norm = 0.0
        for i in range(d):
            t = 0.0
            for j in range(X * A):
                t += pinv[h, i, j] * Q[j]
            norm += t * t
        extremes[THETA_MAX] = max(extremes[THETA_MAX], np.sqrt(norm))
        for x in range(X):
            after[x] = 0.0
            for a in range(A):
                after[x] += pi[h, x, a] * Q[x * A + a]
    total = 0.0
    for x in range(X):
        total += init[x] * after[x]
    return total


@compiled
def replay(
    phi: np.ndarray,
    P: np.ndarray,
    init: np.ndarray,
    pinv: np.ndarray,
    losses: np.ndarray,
    eta: float,
    beta: float,
    gamma: float,
    barrier: bool,
    reduced: bool,
    covariance: int,
    n_sim: int,
    terms: int,
    rng: np.random.Generator,
    scores: np.ndarray,
    played: np.ndarray,
    squares: np.ndarray,
    worst: np.ndarray,
    extremes: np.ndarray,
    thetas: np.ndarray,
    pi: np.ndarray,
    Q: np.ndarray,
    B: np.ndarray,
    paid: np.ndarray,
    values: np.ndarray,
) -> None:
    """Episodes one after the other against a table (K, H, X, A); state in and out by the arrays."""
    H, X, _A, d = phi.shape
    q = np.empty((H, X))
    inv = np.empty((H, d, d))
    theta = np.empty((H, d))
    states = np.empty(H, dtype=np.int64)
    actions = np.empty(H, dtype=np.int64)
    seen = np.empty(H)
    for k in range(losses.shape[0]):
        policies(scores, eta, barrier, pi)
        occupancies(P, init, pi, q)
        values[k] = value(P, init, pi, losses[k], pinv, extremes)
        walk(P, init, pi, rng, states, actions)
        for h in range(H):
            seen[h] = losses[k, h, states[h], actions[h]]
        paid[k] = seen.sum()
        inverses(phi, P, init, pi, q, gamma, covariance, n_sim, terms, rng, inv)
        estimate(phi, P, pi, q, inv, states, actions, seen, beta, reduced, Q, B, theta)
        thetas += theta
        advance(pi, Q, B, scores, played, squares, worst, extremes)
