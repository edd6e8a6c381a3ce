"""What a dictionary does on rows that it was not trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import t as student_t

from whp.conditions import Test
from whp.interpretability._sae_gba.dependence import (
    hashes,
    in_file_order,
    nearly_repeated,
    repeated,
    whole_groups,
)
from whp.interpretability._sae_gba.network import GBASparseAutoencoder
from whp.interpretability._sae_gba.rows import Rows
from whp.interpretability._sae_gba.training import Run
from whp.intervals import Estimate

__all__ = ["HeldOut", "Scaling", "look_at_rows", "measure", "network_of"]

CHUNK = 2048
LOOKED_AT = 200_000  # training rows among which those held out may be there again
UNTRAINED = 2000
NEAR_ROWS, NEAR_OTHERS = 1000, 20_000  # among which near-copies are looked for


@dataclass(frozen=True)
class Scaling:
    """What is subtracted from activations, and what they are divided by.

    Parameters
    ----------
    mean : ndarray, shape (d,)
    scale : float
    """

    mean: np.ndarray
    scale: float

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Scaled activations, where they live."""
        return (x - torch.from_numpy(self.mean).to(x.device)) / self.scale


@dataclass(frozen=True)
class HeldOut:
    """What was seen on held-out rows.

    Parameters
    ----------
    fired : ndarray, shape (M,)
        On how many of them each neuron fires.
    fired_counted : ndarray, shape (M,)
        The same of the rows that are counted.
    active, unbiased : ndarray
        Active neurons of each counted row, and those that would be active without biases.
    mean_active : float
        Active neurons a row.
    fvu : Estimate
        Unexplained share of variance.
    examples, strength : ndarray, shape (M, k)
        Rows with the largest codes, and the codes.
    live : list of ndarray of bool
        For each run which neurons fire.
    untrained : ndarray, shape (M,)
        How often neurons with random directions and no bias fire.
    """

    fired: np.ndarray
    fired_counted: np.ndarray
    active: np.ndarray
    unbiased: np.ndarray
    mean_active: float
    fvu: Estimate
    examples: np.ndarray
    strength: np.ndarray
    live: list[np.ndarray]
    untrained: np.ndarray


def network_of(
    run: Run, *, activation: Any, k: int | None, device: Any = "cpu"
) -> GBASparseAutoencoder:
    """The network of a trained run."""
    M, d = run.W.shape
    model = GBASparseAutoencoder(
        d, M, activation=activation, k=k, device=device, dtype=torch.float32
    )
    with torch.no_grad():
        for name in ("W", "a", "b", "c"):
            getattr(model, name).copy_(torch.from_numpy(getattr(run, name)))
    return model


@torch.no_grad()
def measure(
    rows: Rows,
    outside: np.ndarray,
    counted: np.ndarray,
    scaling: Scaling,
    models: Sequence[GBASparseAutoencoder],
    examples: int,
    rng: np.random.Generator,
    *,
    centre: np.ndarray,
    groups: np.ndarray | None = None,
) -> HeldOut:
    """Run all networks over the rows held out; the first one is the one that is kept.

    Parameters
    ----------
    rows : Rows
    outside : ndarray of int
        Rows held out.
    counted : ndarray of bool, shape of `outside`
        Which of them the certificates count.
    scaling : Scaling
    models : sequence of GBASparseAutoencoder
        All on one device.
    examples : int
        How many of the strongest rows are kept.
    rng : Generator
        Of the random directions.
    centre : ndarray, shape (d,)
        Mean of the training rows, scaled as they were: what variance is measured from.
    groups : ndarray, shape of `outside`, optional
        Which rows belong together.
    """
    model = models[0]
    device = model.W.device
    M, d = model.W.shape
    middle = torch.from_numpy(centre.astype(np.float32)).to(device)
    W0 = torch.from_numpy(rng.standard_normal((M, d)).astype(np.float32)).to(device)
    untrained, seen = torch.zeros(M, device=device), 0
    fired, fired_counted = (torch.zeros(M, dtype=torch.int64, device=device) for _ in range(2))
    live = [torch.zeros(len(m.b), dtype=torch.bool, device=device) for m in models]
    best = torch.zeros((M, 0), device=device)
    at = torch.full((M, 0), -1, dtype=torch.int64, device=device)
    active, unbiased, errors, spread = [], [], [], []
    for start in range(0, len(outside), CHUNK):
        part, mask = outside[start : start + CHUNK], counted[start : start + CHUNK]
        x = scaling(rows.on(part, device))
        on = torch.from_numpy(mask).to(device)
        u = (x - model.c) @ model.directions().T
        z, _ = model.codes(u)
        fires = z > 0
        fired += fires.sum(dim=0)
        fired_counted += fires[on].sum(dim=0)
        active.append(fires.sum(dim=1).cpu().numpy())
        unbiased.append((u > 0).sum(dim=1)[on].cpu().numpy())
        out = torch.addmm(model.c, z * model.a, model.directions())
        errors.append((out - x).double().square().sum(dim=1).cpu().numpy())
        spread.append((x - middle).double().square().sum(dim=1).cpu().numpy())
        best, at = _strongest(best, at, z, torch.from_numpy(part).to(device), examples)
        live[0] |= fires.any(dim=0)
        for other, alive in zip(models[1:], live[1:], strict=True):
            alive |= (other.codes((x - other.c) @ other.directions().T)[0] > 0).any(dim=0)
        if seen < UNTRAINED:
            untrained += (x[on] @ W0.T > 0).sum(dim=0)
            seen += int(mask.sum())
    error, total, counts = (np.concatenate(v) for v in (errors, spread, active))
    few = examples - best.shape[1]
    return HeldOut(
        fired=fired.cpu().numpy(),
        fired_counted=fired_counted.cpu().numpy(),
        active=counts[counted],
        unbiased=np.concatenate(unbiased),
        mean_active=float(counts.mean()),
        fvu=_unexplained(error, total, groups),
        examples=np.pad(at.cpu().numpy(), ((0, 0), (0, few)), constant_values=-1),
        strength=np.pad(best.cpu().numpy(), ((0, 0), (0, few))),
        live=[v.cpu().numpy() for v in live],
        untrained=untrained.cpu().numpy() / max(seen, 1),
    )


def _unexplained(error: np.ndarray, total: np.ndarray, groups: np.ndarray | None) -> Estimate:
    """Ratio of sums with the delta method's interval; where rows belong together, over groups."""
    if not total.sum() > 0:
        raise ValueError("activations must differ from row to row among the rows held out")
    if groups is not None:
        place = np.unique(groups, return_inverse=True)[1]
        error, total = np.bincount(place, error), np.bincount(place, total)
    ratio, n = float(error.sum() / total.sum()), len(error)
    width = math.inf  # one number says nothing of how it varies
    if n > 1:
        off = float(np.std(error - ratio * total, ddof=1)) * math.sqrt(n) / float(total.sum())
        width = float(student_t.ppf(0.975, n - 1)) * off
    return Estimate(ratio, max(0.0, ratio - width), ratio + width, 0.95, n, "delta method")


def _strongest(
    best: torch.Tensor, at: torch.Tensor, z: torch.Tensor, part: torch.Tensor, most: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Keep the largest codes of each neuron and the rows they belong to."""
    values, rows = z.T.topk(min(most, len(z)), dim=1)
    both = torch.cat([best, values], dim=1)
    places = torch.cat([at, torch.where(values > 0, part[rows], -1)], dim=1)
    kept, order = both.sort(dim=1, descending=True, stable=True)
    return kept[:, :most], places.gather(1, order)[:, :most]


def _some(rows: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    return rows if len(rows) <= most else np.sort(rng.choice(rows, most, replace=False))


@torch.no_grad()
def look_at_rows(
    rows: Rows,
    inside: np.ndarray,
    counted: np.ndarray,
    groups: np.ndarray | None,
    scaling: Scaling,
    model: GBASparseAutoencoder,
    rng: np.random.Generator,
) -> tuple[Test, int, float]:
    """Whether relatives in the file agree more than strangers, at which distance, and what share is there again.

    The share is that of the rows that are counted, to the bit or nearly; of groups, with all their rows.
    """
    device = model.W.device

    def fires(chosen: np.ndarray) -> np.ndarray:
        found = np.zeros((len(chosen), len(model.b)), dtype=bool)
        for start in range(0, len(chosen), CHUNK):
            part = np.ascontiguousarray(chosen[start : start + CHUNK])
            x = scaling(rows.on(part, device))
            z, _ = model.codes((x - model.c) @ model.directions().T)
            found[start : start + CHUNK] = (z > 0).cpu().numpy()
        return found

    def keys(chosen: np.ndarray) -> np.ndarray:
        parts = np.array_split(chosen, max(1, len(chosen) // 8192))
        return np.concatenate([hashes(rows.take(p)) for p in parts])

    test, distance = in_file_order(fires, inside, groups, rng)
    if groups is not None:
        # A row may be there again in another text; a whole text is not, unless it was read twice.
        theirs = np.isin(groups, groups[counted])
        mine = np.flatnonzero(theirs)
        some = inside[np.isin(groups[inside], _few_groups(groups[inside], LOOKED_AT, rng))]
        sums = [whole_groups(keys(v), groups[v])[1] for v in (mine, some)]
        return test, distance, repeated(*sums)
    some = _some(inside, LOOKED_AT, rng)
    few, many = _some(counted, NEAR_ROWS, rng), _some(inside, NEAR_OTHERS, rng)
    near = nearly_repeated(rows.take(few), rows.take(many))
    return test, distance, max(repeated(keys(counted), keys(some)), near)


def _few_groups(groups: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """Groups drawn until they have so many rows."""
    kinds, sizes = np.unique(groups, return_counts=True)
    order = rng.permutation(len(kinds))
    return kinds[order[: max(1, int((np.cumsum(sizes[order]) <= most).sum()))]]
