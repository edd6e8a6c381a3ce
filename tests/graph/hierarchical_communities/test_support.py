import math

import numpy as np
import pytest

from whp.datasets.graph_models import block_model, btsbm_densities
from whp.graph import density_from_rate, held_out_rate, hierarchical_communities


def test_densities_and_rates_are_inverse():
    assert held_out_rate(0.3, 0.2) == pytest.approx(0.0789473684)
    assert density_from_rate(held_out_rate(0.3, 0.2), 0.2) == pytest.approx(0.3)
    p = np.linspace(0, 1, 11)
    np.testing.assert_allclose(density_from_rate(held_out_rate(p, 0.4), 0.4), p, atol=1e-15)


def truth_of(result, truth, p):
    """The mean of p over the pairs that each tree node stands for; NaN where there is none."""
    P = p[np.ix_(truth, truth)]
    tree, out = result.tree, np.full(result.tree.nodes, np.nan)
    for node in range(tree.nodes):
        if node < tree.leaves:
            inside = np.flatnonzero(result.labels == node)
            block = P[np.ix_(inside, inside)][np.triu_indices(len(inside), 1)]
        else:
            sides = [
                np.flatnonzero(np.isin(result.labels, np.flatnonzero(tree.below[c])))
                for c in tree.children[node - tree.leaves]
            ]
            block = P[np.ix_(*sides)].ravel()
        out[node] = block.mean() if block.size else np.nan
    return out


@pytest.mark.slow
def test_intervals_of_all_branches_cover_the_truth():
    """Simultaneously, at level 1 − δ, whether or not the leaves are right."""
    p = btsbm_densities(np.array([0.05, 0.12, 0.4]))
    delta, missed = 0.1, 0
    for rng in np.random.default_rng(0).spawn(300):
        A, truth = block_model(p, np.array([20, 25, 30, 35]), rng)
        result = hierarchical_communities(A, 4, holdout=0.3, delta=delta, rng=rng)
        density = truth_of(result, truth, p)
        margin = density[:-1] - density[result.tree.parent[:-1]]
        known = np.isfinite(margin)
        low, high = result.support[known, 1], result.support[known, 2]
        missed += bool(((margin[known] < low - 1e-9) | (margin[known] > high + 1e-9)).any())
    assert missed <= 300 * delta + 3 * math.sqrt(300 * delta * (1 - delta))
