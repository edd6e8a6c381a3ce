"""Compiled loops over sorted entries: windows, clusters, their gradient, and resampling."""

from __future__ import annotations

import numpy as np

from whp.kernel import compiled

__all__ = [
    "bounds_of",
    "drop_class",
    "ensemble_backward",
    "gradient",
    "interleave",
    "loss",
    "mixed",
    "order_of",
    "packed_loss",
    "piecewise_backward",
    "piecewise_forward",
    "radix_sort",
    "refitted",
    "resampled",
    "temperature_moments",
    "tie_means",
]

CLUSTERS, UNIFORM, EQUAL_WIDTH = 0, 1, 2
LLOYD_STEPS = 25


@compiled
def bounds_of(p, kind, clusters):
    """Where each segment of the sorted `p` begins: k-means clusters, one segment, or bins of [0, 1]; (segments + 1,) int64."""
    n = len(p)
    if kind == UNIFORM:
        return np.array([0, n])
    bounds = np.zeros(clusters + 1, dtype=np.int64)
    bounds[clusters] = n
    if kind == EQUAL_WIDTH:
        for i in range(1, clusters):
            bounds[i] = np.searchsorted(p, i / clusters, side="right")
        return bounds
    prefix = np.zeros(n + 1)
    for i in range(n):
        prefix[i + 1] = prefix[i] + p[i]
    centres = p[0] + (p[n - 1] - p[0]) * (np.arange(clusters) + 0.5) / clusters
    for _ in range(LLOYD_STEPS + 1):
        moved = False
        for i in range(1, clusters):
            cut = np.searchsorted(p, (centres[i - 1] + centres[i]) / 2, side="right")
            if cut != bounds[i]:
                bounds[i] = cut
                moved = True
        if not moved:  # a fixed point: the remaining steps would change nothing
            break
        for i in range(clusters):
            count = bounds[i + 1] - bounds[i]
            if count > 0:  # an empty centre stays where it is
                centres[i] = (prefix[bounds[i + 1]] - prefix[bounds[i]]) / count
    return bounds


@compiled
def tie_means(p, o):
    """Give entries of exactly equal sorted `p` their mean in `o`, in place."""
    n = len(p)
    i = 0
    while i < n:
        j = i + 1
        while j < n and p[j] == p[i]:
            j += 1
        if j - i > 1:
            total = 0.0
            for k in range(i, j):
                total += o[k]
            for k in range(i, j):
                o[k] = total / (j - i)
        i = j


@compiled
def occupied(bounds):
    """Number of segments that hold anything.

    Were empty ones counted with error 0, as the authors' code does, a map could lower the mean by pushing all probabilities to
    0 and 1: with 170 rows of digits the least error is then at a temperature near 0.
    """
    used = 0
    for c in range(len(bounds) - 1):
        used += bounds[c + 1] > bounds[c]
    return used


@compiled
def loss(p, o, window, tolerance, bounds):
    """Mean over the segments that are not empty of the mean excess error of their windows."""
    n = len(p)
    half = window // 2
    prefix = np.empty(n + 1)
    prefix[0] = 0.0
    for i in range(n):
        prefix[i + 1] = prefix[i] + (p[i] - o[i])
    total = 0.0
    used = occupied(bounds)
    for c in range(len(bounds) - 1):
        count = bounds[c + 1] - bounds[c]
        if count == 0:
            continue
        part = 0.0
        for k in range(bounds[c], bounds[c + 1]):
            s = (prefix[min(n, k + half + 1)] - prefix[max(0, k - half)]) / (window + 1)
            excess = abs(s) - tolerance
            if excess > 0:
                part += excess
        total += part / count
    return total / used


@compiled
def gradient(p, o, window, tolerance, bounds):
    """Loss and its derivative by each sorted entry; two window sums, each a difference of prefix sums."""
    n = len(p)
    half = window // 2
    prefix = np.empty(n + 1)
    prefix[0] = 0.0
    for i in range(n):
        prefix[i + 1] = prefix[i] + (p[i] - o[i])
    signs = np.empty(n + 1)
    signs[0] = 0.0
    total = 0.0
    used = occupied(bounds)
    for c in range(len(bounds) - 1):
        count = bounds[c + 1] - bounds[c]
        if count == 0:
            continue
        weight = 1.0 / (used * count)
        for k in range(bounds[c], bounds[c + 1]):
            s = (prefix[min(n, k + half + 1)] - prefix[max(0, k - half)]) / (window + 1)
            excess = abs(s) - tolerance
            g = 0.0
            if excess > 0:
                total += weight * excess
                g = weight * np.sign(s)
            signs[k + 1] = signs[k] + g
    out = np.empty(n)
    for j in range(n):
        out[j] = (signs[min(n, j + half + 1)] - signs[max(0, j - half)]) / (window + 1)
    return total, out


@compiled
def drop_class(p, o, owner, c):
    """Sorted entries whose sample is not labelled `c`: values, outcomes and where they were."""
    kept = np.flatnonzero(owner != c)
    return p[kept], o[kept], kept


@compiled
def radix_sort(keys, spare, places, spare_places):
    """Sort 64-bit keys that are not negative, by five passes over 13 bits, and `places` along with them.

    Several times faster than a comparison sort of 100,000 keys and more. `places` may be empty. A pass in which all keys
    agree is skipped, so the sorted keys may end up in `spare`: they are returned, with their places.
    """
    n = len(keys)
    along = len(places) == n
    counts = np.zeros((5, 8192), dtype=np.int64)
    for i in range(n):
        key = keys[i]
        for d in range(5):
            counts[d, (key >> (13 * d)) & 8191] += 1
    for d in range(5):
        if n == 0 or counts[d, (keys[0] >> (13 * d)) & 8191] == n:
            continue
        total = 0
        for b in range(8192):
            count = counts[d, b]
            counts[d, b] = total
            total += count
        for i in range(n):
            key = keys[i]
            digit = (key >> (13 * d)) & 8191
            at = counts[d, digit]
            counts[d, digit] = at + 1
            spare[at] = key
            if along:
                spare_places[at] = places[i]
        keys, spare = spare, keys
        places, spare_places = spare_places, places
    return keys, places


@compiled
def order_of(p):
    """Sorted probabilities, and where each was; equal ones keep their order."""
    n = len(p)
    bits = np.empty(n, dtype=np.float64)
    places = np.empty(n, dtype=np.int64)
    for i in range(n):
        bits[i] = abs(p[i])  # -0.0 would sort as the largest integer
        places[i] = i
    keys, places = radix_sort(
        bits.view(np.int64), np.empty(n, np.int64), places, np.empty(n, np.int64)
    )
    return keys.view(np.float64), places


@compiled
def interleave(scores, y, keys):
    """Normalise exponentials row by row and pack each probability with its outcome into one sortable integer.

    Positive floats sort like the integers of their bits; the last bit of the mantissa carries the outcome. The search for a
    temperature thus sorts values alone, at a relative error of 2⁻⁵² in p.
    """
    n, classes = scores.shape
    for i in range(n):
        total = 0.0
        for c in range(classes):
            total += scores[i, c]
        for c in range(classes):
            scores[i, c] /= total
    bits = scores.reshape(-1).view(np.int64)
    for j in range(n * classes):
        keys[j] = bits[j] & ~np.int64(1)
    for i in range(n):
        keys[i * classes + y[i]] |= np.int64(1)


@compiled
def packed_loss(keys, spare, window, tolerance, kind, clusters):
    """Pooled loss of packed entries (see :func:`interleave`), which it sorts."""
    n = len(keys)
    nothing = np.empty(0, dtype=np.int64)
    keys, _ = radix_sort(keys, spare, nothing, nothing)
    o = np.empty(n)
    for j in range(n):
        o[j] = float(keys[j] & np.int64(1))
        keys[j] &= ~np.int64(1)
    p = keys.view(np.float64)
    tie_means(p, o)
    return loss(p, o, window, tolerance, bounds_of(p, kind, clusters))


@compiled
def refitted(p, place, labels, window, tolerance, kind, clusters, least):
    """Lower each of `least` to the loss of its labels under these probabilities, where that is smaller.

    p (N,) sorted, place (n, C) where each entry went, labels (B, n). The order and the clusters serve all labels.
    """
    bounds = bounds_of(p, kind, clusters)
    o = np.empty(len(p))
    for b in range(len(labels)):
        o[:] = 0.0
        for i in range(labels.shape[1]):
            o[place[i, labels[b, i]]] = 1.0
        tie_means(p, o)
        least[b] = min(least[b], loss(p, o, window, tolerance, bounds))


@compiled
def resampled(cumulative, uniforms, p, place, groups, windows, bounds, tolerance, starts):
    """Losses under labels drawn from the probabilities themselves.

    cumulative (n, C), uniforms (B, n); p (N,) the sorted entries of all groups one after the other, group g at
    starts[g]:starts[g+1]; place (n, C) where each entry went; bounds (groups, segments + 1). Order, clusters and weights are
    made once, as p does not change.
    """
    draws, n = uniforms.shape
    classes = cumulative.shape[1]
    out = np.zeros(draws)
    o = np.empty(len(p))
    for b in range(draws):
        o[:] = 0.0
        for i in range(n):
            c = 0
            while c < classes - 1 and cumulative[i, c] < uniforms[b, i]:
                c += 1
            o[place[i, c]] = 1.0
        for g in range(groups):
            part, hits = p[starts[g] : starts[g + 1]], o[starts[g] : starts[g + 1]]
            tie_means(part, hits)
            out[b] += loss(part, hits, windows[g], tolerance, bounds[g]) / groups
    return out


@compiled
def temperature_moments(z, y, beta):
    """First and second derivative of the negative log-likelihood of softmax(beta z) by beta, summed over rows."""
    first, second = 0.0, 0.0
    for i in range(len(z)):
        total, mean, square = 0.0, 0.0, 0.0
        for c in range(z.shape[1]):  # z <= 0 with a 0-ish maximum, so nothing overflows
            e = np.exp(beta * z[i, c])
            total += e
            mean += e * z[i, c]
            square += e * z[i, c] * z[i, c]
        mean /= total
        first += mean - z[i, y[i]]
        second += square / total - mean * mean
    return first, second


@compiled
def mixed(weights, parts, out):
    """Normalise each row of each of `parts` (K, n, C) in place, and their weighted sum."""
    for i in range(out.shape[0]):
        out[i] = 0.0
        for k in range(len(weights)):
            total = 0.0
            for c in range(out.shape[1]):
                total += parts[k, i, c]
            for c in range(out.shape[1]):
                parts[k, i, c] /= total
                out[i, c] += weights[k] * parts[k, i, c]


@compiled
def ensemble_backward(u, parts, upstream):
    """For each member Σ upstream·part, and the derivative of that sum by its inverse temperature."""
    members = len(parts)
    scores, by_beta = np.zeros(members), np.zeros(members)
    for i in range(u.shape[0]):
        for k in range(members):
            score, mean, both = 0.0, 0.0, 0.0
            for c in range(u.shape[1]):
                weighted = upstream[i, c] * parts[k, i, c]
                score += weighted
                mean += parts[k, i, c] * u[i, c]
                both += weighted * u[i, c]
            scores[k] += score
            by_beta[k] += both - score * mean
    return scores, by_beta


@compiled
def piecewise_forward(z, edges, slopes):
    """-∫₀^(-z) slope: minus the area under the step function `slopes` over the segments that begin at `edges`."""
    base = np.zeros(len(edges))
    for s in range(1, len(edges)):
        base[s] = base[s - 1] + slopes[s - 1] * (edges[s] - edges[s - 1])
    out = np.empty_like(z)
    for i in range(z.shape[0]):
        for c in range(z.shape[1]):
            x = -z[i, c]
            s = max(0, np.searchsorted(edges, x, side="right") - 1)
            out[i, c] = -(base[s] + slopes[s] * (x - edges[s]))
    return out


@compiled
def piecewise_backward(z, edges, upstream):
    """Derivative by each slope given that by each output of :func:`piecewise_forward`; O(entries + segments)."""
    segments = len(edges)
    whole, partial = np.zeros(segments), np.zeros(segments)
    for i in range(z.shape[0]):
        for c in range(z.shape[1]):
            x = -z[i, c]
            s = max(0, np.searchsorted(edges, x, side="right") - 1)
            whole[s] -= upstream[i, c]
            partial[s] -= upstream[i, c] * (x - edges[s])
    beyond = 0.0
    for s in range(segments - 1, -1, -1):
        if s < segments - 1:
            partial[s] += beyond * (edges[s + 1] - edges[s])
        beyond += whole[s]
    return partial
