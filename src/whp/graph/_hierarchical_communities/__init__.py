"""Nested communities of a graph, bottom-up, and which branches of the tree are real.

Problem: flat methods (Leiden, Louvain) return one partition, recursive bisection fails when the top
split is weak or not binary, and no dendrogram says which of its branches the graph supports.

Idea: find the smallest communities by the eigenvectors of the Bethe-Hessian, polish them by one
likelihood pass, and merge them by average linkage on edge densities, which can never invert. Edges
held out from all of this test every branch afterwards: given the training graph, a pair without a
training edge carries a test edge independently, so exact binomial intervals hold for all branches at
once. Bottom-up needs no more signal than any algorithm does at every depth of the tree (Theorem 3),
top-down more.

Cost: O(K · edges · Lanczos steps) for K communities, O(K²) for the tree, O(edges^1.5) for the count of
triangles, no dense n×n array.

What is proven: exact recovery at depth q iff the Chernoff-Hellinger divergence I_q exceeds 1 (Theorem
3); whp the whole tree as soon as the first step is almost exact (Theorem 1). Derived here: the
refinement pass, the held-out test of branches, the lemma that linkage is right when densities are
within half of the smallest gap, and the number of wrong nodes expected at finite n.

References
----------
M. Dreveton, D. Kuroda, M. Grossglauser, P. Thiran. When Does Bottom-up Beat Top-down in Hierarchical
Community Detection? JASA 2026. arXiv:2306.00833.
E. Abbe, C. Sandon. Community detection in general stochastic block models. FOCS 2015.
A. Saade, F. Krzakala, L. Zdeborová. Spectral clustering of graphs with the Bethe Hessian. NeurIPS 2014.
"""

from whp.graph._hierarchical_communities.estimator import HierarchicalCommunityClustering
from whp.graph._hierarchical_communities.front_door import hierarchical_communities
from whp.graph._hierarchical_communities.linkage import average_linkage
from whp.graph._hierarchical_communities.result import HierarchicalCommunitiesResult
from whp.graph._hierarchical_communities.support import density_from_rate, held_out_rate
from whp.graph._hierarchical_communities.theorems import linkage_lemma
from whp.graph._hierarchical_communities.threshold import (
    btsbm_threshold,
    btsbm_top_down_threshold,
    chernoff_hellinger,
)
from whp.graph._hierarchical_communities.tree import Tree

HierarchicalCommunities = HierarchicalCommunitiesResult  # its older name

__all__ = [
    "HierarchicalCommunities",
    "HierarchicalCommunitiesResult",
    "HierarchicalCommunityClustering",
    "Tree",
    "average_linkage",
    "btsbm_threshold",
    "btsbm_top_down_threshold",
    "chernoff_hellinger",
    "density_from_rate",
    "held_out_rate",
    "hierarchical_communities",
    "linkage_lemma",
]
