"""The method as a scikit-learn regressor."""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from whp.invariance._causal_minimax.front_door import causal_minimax
from whp.invariance._causal_minimax.graph import names_of
from whp.invariance._causal_minimax.result import MinimaxResult
from whp.validate import same_order

__all__ = ["CausalMinimaxRegressor"]

ENV = "\0env"


class CausalMinimaxRegressor(RegressorMixin, BaseEstimator):
    """Regression with the smallest worst case over changes of the mutable mechanisms.

    Without a graph every column is a cause of the target and none is mutable: plain regression, whose
    certificate is void.

    Parameters
    ----------
    graph : networkx.DiGraph, optional
        Over the names of the columns (x0, x1, … where they have none) and `target_name`.
    mutable : str or sequence of str
        Columns whose mechanism may change.
    target_name : str
        What the target is called in the graph.
    method, bins, delta, max_classes
        As in :func:`causal_minimax`.
    random_state : int, RandomState or None
        Source of the split.

    Attributes
    ----------
    result_ : MinimaxResult
        Subset, worst case and certificates.

    Examples
    --------
    >>> X = np.random.default_rng(0).standard_normal((200, 2))
    >>> model = CausalMinimaxRegressor(random_state=0).fit(X, X[:, 0])
    >>> model.result_.certificates[0].verdict.value
    'void'
    """

    def __init__(  # parameters are checked by fit, as scikit-learn wants it
        self,
        graph=None,
        mutable=(),
        *,
        target_name="y",
        method="auto",
        bins=None,
        delta=0.05,
        max_classes=4096,
        random_state=None,
    ):
        self.graph = graph
        self.mutable = mutable
        self.target_name = target_name
        self.method = method
        self.bins = bins
        self.delta = delta
        self.max_classes = max_classes
        self.random_state = random_state

    def fit(self, X: Any, y: Any, env: Any = None) -> CausalMinimaxRegressor:
        """Fit to features X (n, d) and targets y (n,); `env` names the environment of each row."""
        same_order(X=X, y=y, env=env)
        X, y = validate_data(self, X, y, y_numeric=True, dtype=np.float64, ensure_min_samples=4)
        names = self._names()
        if self.target_name in names:
            raise ValueError(
                f"X has a column {self.target_name!r}, which is the name of the target; give another target_name="
            )
        graph = self.graph
        if graph is None:
            graph = nx.DiGraph([(name, self.target_name) for name in names])
        table = pd.DataFrame(X, columns=names)
        if env is not None:
            if pd.isna(np.asarray(env)).any():
                raise ValueError(
                    "env has missing values; a missing value can be an environment: fill it"
                )
            table[ENV] = np.asarray(env)
        table = table.assign(**{self.target_name: np.asarray(y, float)})
        method: Any = self.method
        if self.graph is None and method == "auto" and self.bins is None:
            method = "regression"
        # A constant target has no scale; its mean is the answer, and nothing is promised.
        self.constant_ = float(y[0]) if np.ptp(y) == 0 else None
        self.result_: MinimaxResult | None = None
        if self.constant_ is None:
            self.result_ = causal_minimax(
                table,
                graph,
                target=self.target_name,
                mutable=names_of(self.mutable),
                env=None if env is None else ENV,
                method=method,
                bins=self.bins,
                delta=self.delta,
                max_classes=self.max_classes,
                rng=int(check_random_state(self.random_state).randint(1 << 31)),
            )
        return self

    def _names(self) -> list[str]:
        named = getattr(self, "feature_names_in_", None)
        return (
            [f"x{j}" for j in range(self.n_features_in_)]
            if named is None
            else list(map(str, named))
        )

    def predict(self, X: Any) -> np.ndarray:
        """Predictions of X."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        if self.result_ is None:
            return np.full(len(X), self.constant_)
        return self.result_.predict(pd.DataFrame(X, columns=self._names()))
