"""The compiled loops: projections, one round of each rule, and whole streams of generalised linear losses.

A learner's running numbers live in two arrays: `s`, indexed by the names below, and the rows of `W`. Sums that grow with the
stream are compensated (Kahan), so that a bound after 10⁷ rounds has the digits of one after ten.
"""

from __future__ import annotations

import math

import numpy as np

from whp.kernel import compiled

__all__ = [
    "advance",
    "advance_metric",
    "advance_pool",
    "ball_quadratic",
    "distance",
    "learn",
    "learn_pool",
    "length",
    "measure",
    "outside",
    "project",
]

# Squares between these have all their digits.
TINY, HUGE = 1e-290, 1e300
# entries of s
T, V, V_LOW, STAB, STAB_LOW, GX, GX_LOW, GNORM, GMAX, ETA, XX, GX2, OUTSIDE, HINTED = range(14)
SCALARS = 14
# rows of W
# Sums of points are taken from the first one, ANCHOR: far from zero those of the points themselves
# would cancel, and what is left of a regret be their rounding.
X, XHAT, HINT, GSUM, GSUM_LOW, XSUM, ANCHOR = range(7)
VECTORS = 7
# entries of p, the settings
DIAMETER, OFFSET, SCALE_FREE, LAMBDA, BETA = range(5)
CONVEX, STRONGLY_CONVEX, EXP_CONCAVE = range(3)
LOGISTIC, SQUARED, LINEAR = range(3)


@compiled
def add(s, i, value):
    """s[i] += value, what is lost in rounding kept in s[i + 1]."""
    y = value - s[i + 1]
    total = s[i] + y
    s[i + 1] = (total - s[i]) - y
    s[i] = total


@compiled
def distance(z, low):
    """Of two points, also where squares over- or underflow."""
    square, largest = 0.0, 0.0
    for i in range(len(z)):
        largest = max(largest, abs(z[i] - low[i]))
    if largest == 0.0:
        return 0.0
    for i in range(len(z)):
        square += ((z[i] - low[i]) / largest) ** 2
    return largest * math.sqrt(square)


@compiled
def length(z):
    """Euclidean norm, also where squares over- or underflow."""
    return distance(z, np.zeros(len(z)))


@compiled
def project_simplex(z, total):
    """Onto the simplex, by sorting (Held, Wolfe & Crowder 1974)."""
    top = z.max()
    for i in range(len(z)):
        z[i] -= top  # a shift changes nothing, and far from the set sums would lose `total`
    order = np.sort(z)[::-1]
    running, threshold = 0.0, 0.0
    for i in range(len(z)):
        running += order[i]
        if order[i] - (running - total) / (i + 1) > 0:
            threshold = (running - total) / (i + 1)
    for i in range(len(z)):
        z[i] = max(z[i] - threshold, 0.0)


@compiled
def project(code, low, high, size, z):
    """Move z to the nearest point of the set."""
    if code == 0:
        far = 0.0
        for i in range(len(z)):
            far += (z[i] - low[i]) ** 2
        away = math.sqrt(far) if TINY < far < HUGE else distance(z, low)
        if away > size:
            shrink = size / away
            for i in range(len(z)):
                z[i] = low[i] + shrink * (z[i] - low[i])
    elif code == 1:
        for i in range(len(z)):
            z[i] = min(max(z[i], low[i]), high[i])
    elif code == 2:
        project_simplex(z, size)
    else:
        total = 0.0
        for i in range(len(z)):
            total += abs(z[i])
        if total > size:
            signs = np.sign(z)
            for i in range(len(z)):
                z[i] = abs(z[i])
            project_simplex(z, size)
            for i in range(len(z)):
                z[i] *= signs[i]


@compiled
def outside(code, low, high, size, x):
    """How far x lies outside the set, zero inside: in norm for a ball, else the largest breach of a bound."""
    far, total = 0.0, 0.0
    if code == 0:
        for i in range(len(x)):
            far += (x[i] - low[i]) ** 2
        away = math.sqrt(far) if TINY < far < HUGE else distance(x, low)
        return max(0.0, away - size)
    for i in range(len(x)):
        if code == 1:
            far = max(far, low[i] - x[i], x[i] - high[i])
        elif code == 2:
            far = max(far, -x[i])
            total += x[i]
        else:
            total += abs(x[i])
    if code == 2:
        far = max(far, abs(total - size))
    elif code > 2:
        far = max(far, total - size)
    return far


@compiled
def ball_quadratic(Q, b, radius):
    """argmin ½yᵀQy − bᵀy over ‖y‖ ≤ radius: the multiplier by Newton's method on 1/‖y(μ)‖, which is nearly linear."""
    values, vectors = np.linalg.eigh(Q)
    w = vectors.T @ b
    floor = 1e-14 * max(values[-1], 1e-300)
    values = np.maximum(values, 0.0)
    least, most = 0.0, math.sqrt((w * w).sum()) / radius
    if most == 0.0:
        return np.zeros(len(b))
    # At μ = 0 the slope along the kernel would divide by zero; there the minimiser lies on the sphere unless w is nil too.
    plain = 0.0
    for i in range(len(w)):
        if values[i] > floor:
            plain += (w[i] / values[i]) ** 2
        elif abs(w[i]) > 1e-14 * most * radius:
            plain = np.inf
    if plain <= radius * radius:
        y = np.zeros(len(w))
        for i in range(len(w)):
            if values[i] > floor:
                y[i] = w[i] / values[i]
        return vectors @ y
    mu = 0.0 if math.isfinite(plain) and values[0] > floor else most * 1e-8
    for _ in range(100):
        size2, slope = 0.0, 0.0
        for i in range(len(w)):
            part = w[i] / (values[i] + mu)
            size2 += part * part
            slope += part * part / (values[i] + mu)
        size = math.sqrt(size2)
        if abs(size - radius) <= 1e-13 * radius:
            break
        if size > radius:
            least = mu
        else:
            most = mu
        mu += (size / radius - 1) * size2 / slope
        if not least < mu < most:
            mu = 0.5 * (least + most)
    y = vectors @ (w / (values + mu))
    size = math.sqrt((y * y).sum())
    return y * (radius / size) if size > radius else y


@compiled
def measure(rule, p, s, W, g):
    """Take gradient g of the point W[X] into the running sums; returns η of the real and of the optimistic step, or −1.

    Nothing is changed if g is not finite.
    """
    d = len(g)
    v, norm2, gx, xx = 0.0, 0.0, 0.0, 0.0
    for i in range(d):
        v += (g[i] - W[HINT, i]) ** 2
        norm2 += g[i] * g[i]
        moved = W[X, i] - W[ANCHOR, i]
        gx += g[i] * moved
        xx += moved * moved
    if not (math.isfinite(norm2) and math.isfinite(s[V] + v)):
        return -1.0, -1.0
    norm = math.sqrt(norm2) if norm2 > TINY else length(g)
    s[T] += 1
    t = s[T]
    if rule == CONVEX:
        known = p[OFFSET] + s[V]
        if known > 0:
            eta = p[DIAMETER] / math.sqrt(known)
            cost = eta * v
            if p[SCALE_FREE] > 0:
                cost = min(cost, p[DIAMETER] * math.sqrt(v))
        elif v > TINY:
            eta = p[DIAMETER] / math.sqrt(v)
            cost = p[DIAMETER] * math.sqrt(v)
        else:
            # No step can be made of a square that vanished; what the round may cost is still known.
            v, eta, cost = 0.0, 0.0, p[DIAMETER] * norm
    else:
        eta = 2 / (p[LAMBDA] * t)
        cost = (1 / t + 1 / (t * t)) * v
    add(s, STAB, cost)
    add(s, V, v)
    add(s, GX, gx)
    s[GNORM] += norm
    s[GMAX] = max(s[GMAX], norm)
    s[ETA] = eta
    s[XX] += xx
    for i in range(d):
        y = g[i] - W[GSUM_LOW, i]
        total = W[GSUM, i] + y
        W[GSUM_LOW, i] = (total - W[GSUM, i]) - y
        W[GSUM, i] = total
        W[XSUM, i] += W[X, i] - W[ANCHOR, i]
    if rule == CONVEX:
        known = p[OFFSET] + s[V]
        return eta, (p[DIAMETER] / math.sqrt(known) if known > 0 else 0.0)
    return eta, 2 / (p[LAMBDA] * (t + 1))


@compiled
def advance(rule, p, code, low, high, size, s, W, g, hint):
    """One round: the real step from x̂ with η_t, the optimistic one with η_{t+1}. Whether g was finite."""
    eta, following = measure(rule, p, s, W, g)
    if eta < 0:
        return False
    for i in range(len(g)):
        W[XHAT, i] -= eta * g[i]
    project(code, low, high, size, W[XHAT])
    for i in range(len(g)):
        # Without a step there is no use of a hint, and what follows is measured against none.
        W[HINT, i] = hint[i] if following > 0 else 0.0
        W[X, i] = W[XHAT, i] - following * hint[i]
    project(code, low, high, size, W[X])
    s[OUTSIDE] = max(s[OUTSIDE], outside(code, low, high, size, W[X]))
    return True


@compiled
def measure_metric(p, s, W, M, g):
    """The running sums of the exp-concave rule; M holds H_t, its inverse, Σ d dᵀ and, in its last slice, Σ g⟨g, x − x_1⟩."""
    d = len(g)
    difference = g - W[HINT]
    norm2, v = (g * g).sum(), (difference * difference).sum()
    if not (math.isfinite(norm2) and math.isfinite(s[V] + v)):
        return False
    norm = math.sqrt(norm2) if norm2 > TINY else length(g)
    s[T] += 1
    gx = (g * (W[X] - W[ANCHOR])).sum()
    add(s, STAB, 2 * (difference * (M[1] @ difference)).sum())
    add(s, V, v)
    add(s, GX, gx)
    s[GX2] += gx * gx
    s[GNORM] += norm
    s[GMAX] = max(s[GMAX], norm)
    for i in range(d):
        y = g[i] - W[GSUM_LOW, i]
        total = W[GSUM, i] + y
        W[GSUM_LOW, i] = (total - W[GSUM, i]) - y
        W[GSUM, i] = total
        M[3, 0, i] += g[i] * gx
        for j in range(d):
            M[2, i, j] += difference[i] * difference[j]
    return True


@compiled
def grow_metric(p, s, M, g):
    """H_{t+1} = H_t + (β/2) g gᵀ, and its inverse by Sherman and Morrison, refreshed every 1,000 rounds."""
    d = len(g)
    u = M[1] @ g
    half = p[BETA] / 2
    share = half / (1 + half * (g * u).sum())
    for i in range(d):
        for j in range(d):
            M[0, i, j] += half * g[i] * g[j]
            M[1, i, j] -= share * u[i] * u[j]
    if s[T] % 1000 == 0:
        M[1] = np.linalg.inv(M[0])


@compiled
def project_ball_metric(H, low, size, z):
    y = z - low
    if (y * y).sum() <= size * size:
        return z
    return low + ball_quadratic(H, H @ y, size)


@compiled
def advance_metric(p, low, size, s, W, M, g, hint):
    """One round of the exp-concave rule on a ball. Whether g was finite."""
    if not measure_metric(p, s, W, M, g):
        return False
    W[XHAT] = project_ball_metric(M[0], low, size, W[XHAT] - M[1] @ g)
    grow_metric(p, s, M, g)
    W[HINT] = hint
    W[X] = project_ball_metric(M[0], low, size, W[XHAT] - M[1] @ hint)
    s[OUTSIDE] = max(s[OUTSIDE], outside(0, low, low, size, W[X]))
    return True


# The pool of the dynamic version: rows of `P` are x_{t,i}, x̂_{t,i} and x_{t−1,i}; of `Q`, per base learner, its η, Λ, S,
# c and p; `s` has in STAB the sum D²Σε_t v_t, in GX2 the Σ_t Σ_j p c, in ETA the ε in force, in XX that of the last round.
POOL_ETA, POOL_LOSS, POOL_MOVED, POOL_C, POOL_P = range(5)


@compiled
def advance_pool(p, smoothness, code, low, high, size, s, W, P, Q, g):
    """One round of the meta-learner and all its base learners. Whether g was finite.

    `p[OFFSET]` holds 4G². The regulariser of the weights only ever grows, by halving ε.
    """
    count, d = P.shape[1], P.shape[2]
    v, norm2, gx = 0.0, 0.0, 0.0
    for k in range(d):
        v += (g[k] - W[HINT, k]) ** 2
        norm2 += g[k] * g[k]
        gx += g[k] * (W[X, k] - W[ANCHOR, k])
    if not (math.isfinite(norm2) and math.isfinite(s[V] + v)):
        return False
    norm = math.sqrt(norm2) if norm2 > TINY else length(g)
    s[T] += 1
    add(s, V, v)
    add(s, GX, gx)
    add(s, STAB, p[DIAMETER] ** 2 * s[ETA] * v)
    s[GNORM] += norm
    s[GMAX] = max(s[GMAX], norm)
    s[XX] = s[ETA]
    for k in range(d):
        y = g[k] - W[GSUM_LOW, k]
        total = W[GSUM, k] + y
        W[GSUM_LOW, k] = (total - W[GSUM, k]) - y
        W[GSUM, k] = total
        W[HINT, k] = g[k]
    limit = (
        math.sqrt((math.log(count) + 1) / (p[DIAMETER] ** 2 * (p[OFFSET] + s[V])))
        if p[OFFSET] + s[V] > 0
        else np.inf
    )
    best = np.inf
    hoped = np.empty(count)
    for i in range(count):
        inner = 0.0
        for k in range(d):
            inner += g[k] * (P[0, i, k] - W[ANCHOR, k])
        Q[POOL_LOSS, i] += inner + smoothness * Q[POOL_C, i]
        s[GX2] += Q[POOL_P, i] * Q[POOL_C, i]
        Q[POOL_MOVED, i] += Q[POOL_C, i]
        for k in range(d):
            P[2, i, k] = P[0, i, k]
            P[1, i, k] -= Q[POOL_ETA, i] * g[k]
        project(code, low, high, size, P[1, i])
        for k in range(d):
            P[0, i, k] = P[1, i, k] - Q[POOL_ETA, i] * g[k]
        project(code, low, high, size, P[0, i])
        moved, inner = 0.0, 0.0
        for k in range(d):
            moved += (P[0, i, k] - P[2, i, k]) ** 2
            inner += g[k] * (P[0, i, k] - W[ANCHOR, k])
        Q[POOL_C, i] = moved
        hoped[i] = Q[POOL_LOSS, i] + inner + smoothness * moved
        best = min(best, hoped[i])
    while s[ETA] > limit:
        s[ETA] /= 2
    total = 0.0
    for i in range(count):
        Q[POOL_P, i] = math.exp(-s[ETA] * (hoped[i] - best))
        total += Q[POOL_P, i]
    for k in range(d):
        W[X, k] = 0.0
    for i in range(count):
        Q[POOL_P, i] /= total
        for k in range(d):
            W[X, k] += Q[POOL_P, i] * P[0, i, k]
    s[OUTSIDE] = max(s[OUTSIDE], outside(code, low, high, size, W[X]))
    return True


@compiled
def slope(loss, z, target):
    """Loss and derivative at the prediction z."""
    if loss == LOGISTIC:
        margin = target * z
        small = math.exp(-abs(margin))
        value = math.log1p(small) + max(-margin, 0.0)
        return value, -target * (small if margin > 0 else 1.0) / (1 + small)
    if loss == SQUARED:
        return 0.5 * (z - target) ** 2, z - target
    return target * z, target


@compiled
def gradient(loss, l2, normalize, rows, targets, start, stop, x, g):
    """Mean gradient of rows[start:stop] at x into g; returns their mean loss. Normalised rows begin with the bias."""
    d = len(x)
    value, weight = 0.0, 1.0 / (stop - start)
    for k in range(d):
        g[k] = 0.0
    for i in range(start, stop):
        if normalize:
            z, norm = x[0], 1.0
            for k in range(d - 1):
                z += rows[i, k] * x[k + 1]
                norm += rows[i, k] * rows[i, k]
            unit = 1.0
            if norm > HUGE:  # the row in units of its largest entry
                for k in range(d - 1):
                    unit = max(unit, abs(rows[i, k]))
                z, norm = x[0] / unit, 1.0 / unit / unit
                for k in range(d - 1):
                    z += rows[i, k] / unit * x[k + 1]
                    norm += (rows[i, k] / unit) ** 2
            norm = 1.0 / math.sqrt(norm)
            part, c = slope(loss, z * norm, targets[i])
            c *= norm * weight / unit
            g[0] += c
            for k in range(d - 1):
                g[k + 1] += c * rows[i, k]
        else:
            z = 0.0
            for k in range(d):
                z += rows[i, k] * x[k]
            part, c = slope(loss, z, targets[i])
            c *= weight
            for k in range(d):
                g[k] += c * rows[i, k]
        value += weight * part
    if l2 > 0:
        size = 0.0
        for k in range(d):
            g[k] += l2 * x[k]
            size += x[k] * x[k]
        value += 0.5 * l2 * size
    return value


@compiled
def keep(k, value, g, W, losses, variation, points):
    """Write round k down where the arrays have room; before the round is played."""
    if len(losses):
        losses[k] = value
        v = 0.0
        for i in range(len(g)):
            v += (g[i] - W[HINT, i]) ** 2
        variation[k] = v
    if len(points):
        points[k] = W[X]


@compiled
def learn(
    rule,
    p,
    low,
    size,
    s,
    W,
    M,
    loss,
    l2,
    normalize,
    batch,
    rows,
    targets,
    losses,
    variation,
    points,
):
    """A whole stream on a ball, one gradient a batch. Arrays of no rows at the end are not filled.

    Returns −1, or the first row of the batch whose gradient was not finite and where it stopped.
    """
    g = np.empty(W.shape[1])
    nothing = np.empty(0)
    k = 0
    for start in range(0, len(rows), batch):
        stop = min(start + batch, len(rows))
        value = gradient(loss, l2, normalize, rows, targets, start, stop, W[X], g)
        keep(k, value, g, W, losses, variation, points)
        if rule == EXP_CONCAVE:
            fine = advance_metric(p, low, size, s, W, M, g, g)
        else:
            fine = advance(rule, p, 0, low, nothing, size, s, W, g, g)
        if not fine:
            return start
        k += 1  # noqa: SIM113
    return -1


@compiled
def learn_pool(
    p,
    smoothness,
    low,
    size,
    s,
    W,
    P,
    Q,
    loss,
    l2,
    normalize,
    batch,
    rows,
    targets,
    losses,
    variation,
    points,
):
    """The same with the pool of the dynamic version."""
    g = np.empty(W.shape[1])
    nothing = np.empty(0)
    k = 0
    for start in range(0, len(rows), batch):
        stop = min(start + batch, len(rows))
        value = gradient(loss, l2, normalize, rows, targets, start, stop, W[X], g)
        keep(k, value, g, W, losses, variation, points)
        if not advance_pool(p, smoothness, 0, low, nothing, size, s, W, P, Q, g):
            return start
        k += 1  # noqa: SIM113
    return -1
