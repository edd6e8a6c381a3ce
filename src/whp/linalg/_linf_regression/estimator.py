"""The method as a scikit-learn regressor."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import scipy.linalg as sl
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from whp.linalg._linf_regression.regression import LinfRegression, linf_regression

__all__ = ["SketchedLinearRegression"]


class SketchedLinearRegression(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Linear regression from a short sketch, with error bars on the coefficients.

    Where a sketch would not pay, that is for few rows or columns, the exact solution is computed; for dependent columns, or
    fewer rows than columns, the exact solution of least norm.

    Parameters
    ----------
    fit_intercept : bool
        Centre the data first.
    epsilon, delta, rows, sketch, replace, refine
        As in :func:`linf_regression`; `rows` is ignored where there are not twice as many rows of data.
    random_state : int, RandomState or None
        Source of randomness.

    Attributes
    ----------
    coef_ : ndarray, shape (d,) or (k, d)
    intercept_ : float or ndarray
    result_ : LinfRegression or None
        Error bars and certificates, for the centred data; None after the solution of least norm.
    """

    def __init__(  # parameters are checked by fit, as scikit-learn wants it
        self,
        fit_intercept=True,
        *,
        epsilon=0.5,
        delta=0.05,
        rows=None,
        sketch: Any = "srht",
        replace=False,
        refine=0,
        random_state=None,
    ):
        self.fit_intercept = fit_intercept
        self.epsilon = epsilon
        self.delta = delta
        self.rows = rows
        self.sketch = sketch
        self.replace = replace
        self.refine = refine
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> SketchedLinearRegression:
        """Fit to data X (n, d) and targets y (n,) or (n, k)."""
        from sklearn.utils import check_random_state

        X, y = validate_data(
            self, X, y, multi_output=True, y_numeric=True, dtype=(np.float64, np.float32)
        )
        y = y.astype(X.dtype, copy=False)
        x_mean = (
            X.mean(axis=0, dtype=np.float64).astype(X.dtype)
            if self.fit_intercept
            else np.zeros(X.shape[1], X.dtype)
        )
        y_mean = y.mean(axis=0) if self.fit_intercept else np.zeros(y.shape[1:], X.dtype)
        centred, target = (X - x_mean, y - y_mean) if self.fit_intercept else (X, y)
        n, d = X.shape
        rows = self.rows if self.rows is not None and d < self.rows <= n // 2 else None
        seed = int(check_random_state(self.random_state).randint(1 << 31))
        self.result_: LinfRegression | None = None
        try:
            if n <= d:
                raise np.linalg.LinAlgError
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore", UserWarning
                )  # the fallback to the exact solution is part of the contract
                self.result_ = linf_regression(
                    centred,
                    target,
                    epsilon=self.epsilon,
                    delta=self.delta,
                    rows=rows,
                    sketch=self.sketch,
                    replace=self.replace,
                    refine=self.refine,
                    rng=seed,
                )
            solution = self.result_.x
        except np.linalg.LinAlgError:
            solution = sl.lstsq(centred, target, check_finite=False)[0]
        self.coef_ = solution.T
        self.intercept_ = y_mean - x_mean @ solution
        if y.ndim == 1:
            self.intercept_ = float(self.intercept_)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predicted targets of X."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=(np.float64, np.float32))
        return X @ self.coef_.T + self.intercept_
