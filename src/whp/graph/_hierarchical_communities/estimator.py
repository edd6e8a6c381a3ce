"""The tree of communities as a scikit-learn estimator."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClusterMixin

from whp.graph._hierarchical_communities.front_door import hierarchical_communities
from whp.validate import as_choice, as_int

__all__ = ["HierarchicalCommunityClustering"]


class HierarchicalCommunityClustering(ClusterMixin, BaseEstimator):
    """scikit-learn estimator of :func:`hierarchical_communities` on an adjacency matrix.

    Parameters
    ----------
    n_clusters : int, optional
        Clusters of `labels_`, by the cut of the estimated tree; its leaves if not given.
    depth_cut : int, optional
        Cut at this depth of the tree instead.
    metric : {"precomputed"}
        X is an adjacency matrix.
    weighted : bool
        Use weights.
    random_state : int, RandomState or None
        Source of randomness.

    Attributes
    ----------
    labels_ : (n,) ndarray of int
        Cluster of each node; −1 for a node without edges.
    children_ : (K − 1, 2) ndarray of int
        The two merged at each step.
    distances_ : (K − 1,) ndarray
        Their distance.
    n_leaves_, n_clusters_ : int
        Leaves of the tree and clusters of `labels_`.
    result_ : HierarchicalCommunities
        The whole result, with its certificates.
    """

    def __init__(
        self,
        n_clusters: Any = None,  # checked by fit, as scikit-learn wants it
        depth_cut: Any = None,
        metric: Any = "precomputed",
        weighted: Any = False,
        random_state: Any = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.depth_cut = depth_cut
        self.metric = metric
        self.weighted = weighted
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.pairwise = True
        tags.input_tags.positive_only = True
        tags.input_tags.sparse = True
        return tags

    def fit(self, X: Any, y: Any = None) -> HierarchicalCommunityClustering:
        """Find the tree of the graph with adjacency matrix `X`; `y` is ignored."""
        from sklearn.utils import check_random_state
        from sklearn.utils.validation import validate_data

        as_choice(self.metric, "metric", ("precomputed",))
        X = validate_data(self, X, accept_sparse="csr", ensure_min_samples=2)
        if X.shape[0] != X.shape[1]:
            raise ValueError(f"X must be a square adjacency matrix, got shape {X.shape}")
        if self.n_clusters is not None:
            as_int(self.n_clusters, "n_clusters", low=1, high=X.shape[0])
        if X.min() < 0:
            raise ValueError(
                "Negative values in data: X must be an adjacency matrix with weights >= 0"
            )
        seed = int(check_random_state(self.random_state).randint(1 << 31))
        self.result_ = hierarchical_communities(X, weighted=bool(self.weighted), rng=seed)
        if self.n_clusters is not None and self.n_clusters > self.result_.n_communities:
            self.result_ = hierarchical_communities(
                X, self.n_clusters, weighted=bool(self.weighted), rng=seed
            )
        self.n_leaves_ = self.result_.n_communities
        self.children_ = self.result_.linkage[:, :2].astype(np.int64)
        self.distances_ = self.result_.linkage[:, 2]
        if self.depth_cut is not None:
            self.labels_ = self.result_.cut_depth(self.depth_cut)
        else:
            self.labels_ = self.result_.cut(min(self.n_clusters or self.n_leaves_, self.n_leaves_))
        self.n_clusters_ = int(self.labels_.max()) + 1
        return self
