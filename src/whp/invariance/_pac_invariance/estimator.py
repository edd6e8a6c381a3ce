"""The method for scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted, check_random_state, validate_data

from whp.certificate import Certificate
from whp.invariance._pac_invariance.front_door import pac_invariance
from whp.invariance._pac_invariance.result import InvarianceResult
from whp.invariance._pac_invariance.search import MOST, number
from whp.validate import same_order

__all__ = ["InvariantRegressor"]


class InvariantRegressor(RegressorMixin, BaseEstimator):
    """Linear regression whose loss in a new environment, against that environment's own best, is bounded.

    Parameters
    ----------
    eps : float, optional
        Largest residual of an environment that a subset may have.
    metric : {"excess", "excess_residual", "gradient"}
        Residual of an environment.
    subsets : {"all", "forward"} or sequence of sequences
        As in :func:`pac_invariance`; where "all" are more than 8,000 it is "forward".
    max_size : int, optional
        Largest subset.
    delta : float
        Failure probability of each certificate.
    center : bool
        Whether each environment has its own intercept.
    test_env : float or sequence, optional
        Environments held out to measure.
    min_rows : int, optional
        Leave smaller environments out.
    random_state : int, RandomState or None
        Source of randomness of the split.

    Attributes
    ----------
    coef_ : ndarray, shape (p,)
        Zero for columns that were not chosen.
    intercept_ : float
        Mean of the environments' constants.
    result_ : InvarianceResult
    """

    result_: InvarianceResult

    def __init__(
        self,
        eps=None,
        metric: Any = "excess",
        subsets: Any = "all",
        max_size=None,
        delta=0.05,
        center=True,
        test_env=None,
        min_rows=None,
        random_state=None,
    ):  # parameters are checked by fit, as scikit-learn wants it
        self.eps = eps
        self.metric = metric
        self.subsets = subsets
        self.max_size = max_size
        self.delta = delta
        self.center = center
        self.test_env = test_env
        self.min_rows = min_rows
        self.random_state = random_state

    def fit(self, X: Any, y: Any, env: Any = None, blocks: Any = None) -> InvariantRegressor:
        """Fit to X (n, p) and y (n,), with a label of its environment, and of its block, for each row.

        Without `env` the rows are dealt into folds, and the certificates are void.
        """
        tables = {"X": X, "y": y, "env": env, "blocks": blocks}
        same_order(**{k: v for k, v in tables.items() if v is not None})
        X, y = validate_data(self, X, y, y_numeric=True, dtype=np.float64)
        p = X.shape[1]
        needed = 3 + (not self.center)
        if len(X) < needed:
            raise ValueError(f"n_samples={len(X)}, and one environment needs {needed} rows")
        max_size = self.max_size
        if env is None and max_size is None:  # as many columns as the rows are enough for
            max_size = min(p, len(X) - 2 - (not self.center))
        every = isinstance(self.subsets, str) and self.subsets == "all"
        forward = every and number(p, p if max_size is None else max_size) > MOST
        state: Any = self.random_state
        if isinstance(state, np.random.RandomState):  # its bits, drawn from by numpy itself
            state = np.random.Generator(state._bit_generator)
        else:
            state = int(check_random_state(state).randint(1 << 31))
        names = getattr(self, "feature_names_in_", None)
        self.result_ = pac_invariance(
            X if names is None else pd.DataFrame(X, columns=names),
            y.astype(np.float64),
            env,
            eps=self.eps,
            metric=self.metric,
            subsets="forward" if forward else self.subsets,
            max_size=max_size,
            delta=self.delta,
            center=self.center,
            test_env=self.test_env,
            blocks=blocks,
            min_rows=self.min_rows,
            rng=state,
        )
        self.coef_ = np.zeros(p)
        self.coef_[list(self.result_.support)] = self.result_.coef
        self.intercept_ = self.result_.intercept
        return self

    @property
    def certificates_(self) -> tuple[Certificate, ...]:
        """Of the fit."""
        check_is_fitted(self)
        return self.result_.certificates

    def predict(self, X: Any) -> np.ndarray:
        """Predicted targets of X."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        return X @ self.coef_ + self.intercept_
