"""The method for scikit-learn: a regressor, and a sampler for any estimator that takes sample weights."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import (
    _check_sample_weight,
    check_array,
    check_is_fitted,
    check_random_state,
    validate_data,
)

from whp.linalg.lp_sensitivity_sampling.basis import as_power, whiten
from whp.linalg.lp_sensitivity_sampling.coreset import LpCoreset, lp_sensitivity_sampling
from whp.linalg.lp_sensitivity_sampling.solvers import as_quantile, solve

__all__ = ["CoresetSampler", "LpRegressor"]


class LpRegressor(RegressorMixin, BaseEstimator):
    """ℓp or quantile regression, solved on a coreset where there are many more rows than it needs.

    Parameters
    ----------
    p : float
        Power; 1 is least absolute deviations.
    quantile : float, optional
        With p = 1, the quantile to regress on.
    rows : int, optional
        Rows of the coreset; all rows are used where there are not twice as many, or if None.
    scores : str
        As in :func:`lp_sensitivity_sampling`.
    fit_intercept : bool
        Add a column of ones.
    random_state : int, RandomState or None
        Source of randomness.

    Attributes
    ----------
    coef_ : ndarray, shape (d,)
    intercept_ : float
    result_ : LpCoreset or None
        Rows, gap and certificates, None if all rows were used.
    """

    def __init__(
        self,
        p=1.0,
        quantile=None,
        rows=None,
        scores: Any = "lewis",
        fit_intercept=True,
        random_state=None,
    ):  # parameters are checked by fit, as scikit-learn wants it
        self.p = p
        self.quantile = quantile
        self.rows = rows
        self.scores = scores
        self.fit_intercept = fit_intercept
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> LpRegressor:
        """Fit to X (n, d) and y (n,); rows count as often as `sample_weight` says."""
        X, y = validate_data(self, X, y, y_numeric=True, dtype=np.float64)
        y = y.astype(np.float64)
        p = as_power(self.p)
        level = as_quantile(self.quantile, p)
        A = np.column_stack([X, np.ones(len(X))]) if self.fit_intercept else X
        seed = int(check_random_state(self.random_state).randint(1 << 31))
        if (
            sample_weight is not None
        ):  # w|r|^p = |w^{1/p} r|^p, and a pinball cost is homogeneous as well
            weights = _check_sample_weight(
                sample_weight, X, dtype=np.float64, ensure_non_negative=True
            )
            keep = weights > 0
            root = weights[keep] ** (1 / p)
            A, y = A[keep] * root[:, None], y[keep] * root
        n, d = A.shape
        self.result_: LpCoreset | None = None
        if self.rows is not None and d + 1 < self.rows <= n // 2 and A.any():
            self.result_ = lp_sensitivity_sampling(
                A,
                y,
                p=p,
                quantile=level,
                rows=self.rows,
                scores=self.scores,
                verify=False,
                on_rank="drop",
                rng=seed,
            )
            x = self.result_.x
        else:
            basis = whiten(A, on_rank="drop")
            x = basis.coefficients(solve(basis, y, p, None, level))
        assert x is not None
        if (
            np.linalg.matrix_rank(A) < d
        ):  # of all solutions the one of least norm, whatever columns the basis took
            x = np.linalg.lstsq(A, A @ x)[0]
        self.coef_ = x[: X.shape[1]]
        self.intercept_ = float(x[-1]) if self.fit_intercept else 0.0
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predicted targets of X."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        return X @ self.coef_ + self.intercept_


class CoresetSampler(BaseEstimator):
    """Weighted rows for any estimator with `sample_weight`.

    Parameters
    ----------
    p : float
        Power of the loss.
    rows : int, optional
        Expected rows, as in :func:`lp_sensitivity_sampling`.
    scores : str
        As there.
    random_state : int, RandomState or None
        Source of randomness.
    """

    def __init__(self, p=1.0, rows=None, scores: Any = "lewis", random_state=None):
        self.p = p
        self.rows = rows
        self.scores = scores
        self.random_state = random_state

    def fit_resample(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows of X, entries of y, and their weights, chosen for [1 | X | y]; `result_` has the certificates."""
        X = check_array(X, dtype=np.float64)
        y = np.asarray(y)
        seed = int(check_random_state(self.random_state).randint(1 << 31))
        self.result_ = lp_sensitivity_sampling(
            np.column_stack([np.ones(len(X)), X, y]),
            p=self.p,
            rows=self.rows,
            scores=self.scores,
            verify=False,
            on_rank="drop",
            rng=seed,
        )
        index = self.result_.index
        return X[index], y[index], self.result_.xi
