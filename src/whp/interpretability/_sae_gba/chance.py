"""How many directions come back that were never learnt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from whp.interpretability._sae_gba.formulas import cap_chance, nearest, unit_rows

__all__ = ["Chance", "matched_chance"]

DRAWS = 8
POOL = 8192
ASKED, AGAINST = 256, 2048
NEAR = 5


@dataclass(frozen=True)
class Chance:
    """Share of directions with another one within the cosine, where neither was learnt.

    Parameters
    ----------
    gaussian : float
        Both drawn with the covariance of the activations.
    rows : float
        Both rows of the activations.
    cap : float
        Both uniform on the sphere.
    """

    gaussian: float
    rows: float
    cap: float

    @property
    def largest(self) -> float:
        """The one to beat."""
        return max(self.gaussian, self.rows, self.cap)


def matched_chance(
    X: np.ndarray,
    mine: np.ndarray,
    theirs: np.ndarray,
    threshold: float,
    rng: np.random.Generator,
    draws: int = DRAWS,
) -> Chance:
    """Chance of directions that see as much variance as those of two dictionaries.

    Which neurons fire depends on how much of the activations' variance their directions see. So each
    live direction is matched by a drawn one that sees about as much: chance is that of the live ones.

    Parameters
    ----------
    X : ndarray, shape (n, d)
        Activations.
    mine, theirs : ndarray, shape (m, d)
        Live directions of both dictionaries.
    threshold : float
        Cosine.
    rng : Generator
        Of the directions.
    draws : int
        How many times both are drawn.
    """
    if not len(mine) or not len(theirs):
        return Chance(0.0, 0.0, 0.0)
    centred = X.astype(np.float64) - X.mean(axis=0)
    S = centred.T @ centred / max(len(X) - 1, 1)
    values, vectors = np.linalg.eigh(S)
    root = vectors * np.sqrt(np.maximum(values, 0))
    lengths = np.linalg.norm(centred, axis=1)
    pools = {
        "gaussian": unit_rows(rng.standard_normal((POOL, X.shape[1])) @ root.T),
        "rows": unit_rows(centred[lengths > 0]),
    }
    seen = [np.einsum("md,md->m", W @ S, W) for W in (unit_rows(mine), unit_rows(theirs))]
    shares = {
        name: _share(W, np.einsum("md,md->m", W @ S, W), seen, threshold, rng, draws)
        for name, W in pools.items()
    }
    return Chance(**shares, cap=cap_chance(X.shape[1], threshold, len(theirs))[1])


def _share(
    pool: np.ndarray,
    sees: np.ndarray,
    wanted: list[np.ndarray],
    threshold: float,
    rng: np.random.Generator,
    draws: int,
) -> float:
    """Mean share, over `draws`, of matched directions with one of the other half within the cosine."""
    if len(pool) < 4:
        return 0.0
    shares = []
    m = min(len(wanted[1]), AGAINST, len(pool) // 2)
    for _ in range(draws):
        halves = np.array_split(rng.permutation(len(pool)), 2)
        a = _matched(pool, sees, halves[0], _some(wanted[0], min(ASKED, len(pool) // 2), rng), rng)
        b = _matched(pool, sees, halves[1], _some(wanted[1], m, rng), rng)
        shares.append(float((nearest(a, b) > threshold).mean()))
    share = float(np.mean(shares))
    # Among fewer than there are, fewer come near; were they independent, this is how many more would.
    return float(1 - (1 - share) ** (len(wanted[1]) / m))


def _some(values: np.ndarray, m: int, rng: np.random.Generator) -> np.ndarray:
    return values if len(values) <= m else rng.choice(values, m, replace=False)


def _matched(
    pool: np.ndarray,
    sees: np.ndarray,
    half: np.ndarray,
    wanted: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """For each wanted variance one of the few directions of a half of the pool that see about as much."""
    order = half[np.argsort(sees[half])]
    at = np.searchsorted(sees[order], wanted) + rng.integers(-NEAR, NEAR + 1, len(wanted))
    return pool[order[np.clip(at, 0, len(order) - 1)]]
