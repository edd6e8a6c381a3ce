"""The method as a scikit-learn regressor."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from whp.linalg._linf_regression.front_door import linf_regression
from whp.linalg._linf_regression.solution import LinfRegression
from whp.validate import same_order

__all__ = ["SketchedLinearRegression"]


class SketchedLinearRegression(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Linear regression from a short sketch, with error bars on the coefficients.

    Where a sketch would not pay, that is for few rows or columns, the exact solution is computed;
    for dependent columns, or fewer rows than columns, the exact solution of least norm.

    Parameters
    ----------
    fit_intercept : bool
        Centre the data first.
    epsilon, delta, rows, sketch, replace, refine
        As in :func:`linf_regression`; where there are not twice as many rows of data as `rows`, or
        more columns, it warns and solves exactly.
    random_state : int, RandomState or None
        Source of randomness.

    Attributes
    ----------
    coef_ : ndarray, shape (d,) or (k, d)
    intercept_ : float or ndarray
    result_ : LinfRegression or None
        Error bars and certificates, for the centred data, which it holds until it is pickled; None
        after the solution of least norm.

    Examples
    --------
    >>> X = np.random.default_rng(0).standard_normal((4000, 5))
    >>> model = SketchedLinearRegression(rows=200, random_state=0).fit(X, X.sum(axis=1))
    >>> model.result_.solved
    'sketched'
    """

    def __init__(  # parameters are checked by fit, as scikit-learn wants it
        self,
        fit_intercept=True,
        *,
        epsilon=None,
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

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> SketchedLinearRegression:
        """Fit to data X (n, d) and targets y (n,) or (n, k), rows weighted by `sample_weight`."""
        same_order(X=X, y=y, sample_weight=sample_weight)
        X, y = validate_data(
            self, X, y, multi_output=True, y_numeric=True, dtype=(np.float64, np.float32)
        )
        if sample_weight is not None:
            sample_weight = _check_sample_weight(
                sample_weight, X, dtype=np.float64, ensure_non_negative=True
            )
        x_mean, y_mean = np.zeros(X.shape[1]), np.zeros(y.shape[1:])
        centred, target = X, y
        if self.fit_intercept:
            (centred, x_mean), (target, y_mean) = (_centred(v, sample_weight) for v in (X, y))
        n, d = X.shape
        rows = self.rows
        if rows is not None and not d < rows <= n // 2:
            warnings.warn(
                f"rows = {rows} does not pay for data of shape {(n, d)}; solving exactly. Leave rows "
                "out, or choose it between the columns and half of the rows",
                stacklevel=2,
            )
            rows = None
        seed = int(check_random_state(self.random_state).randint(1 << 31))
        self.result_: LinfRegression | None = None
        try:
            if n <= d:
                raise np.linalg.LinAlgError
            with warnings.catch_warnings():  # falling back to the exact solution is as promised
                warnings.simplefilter("ignore", UserWarning)
                self.result_ = linf_regression(
                    centred,
                    target,
                    epsilon=self.epsilon,
                    delta=self.delta,
                    rows=rows,
                    sketch=self.sketch,
                    replace=self.replace,
                    refine=self.refine,
                    sample_weight=sample_weight,
                    rng=seed,
                )
            if self.fit_intercept:
                weights = np.ones(n) if sample_weight is None else sample_weight
                result = self.result_
                self.result_ = replace(
                    result, statistics=replace(result.statistics, centred=weights / weights.sum())
                )
            solution = self.result_.x
        except np.linalg.LinAlgError:
            if sample_weight is not None:
                root = np.sqrt(sample_weight)
                centred, target = ((v.T * root).T for v in (centred, target))
            solution = np.linalg.lstsq(centred, target)[0]
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


def _centred(values: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Columns, or the vector, less their means, in double precision; and the means.

    A mean that is off by e adds n e² to a sum of squares; the second pass takes out what rounding
    left of it in the first.
    """
    wide = values.astype(np.float64, copy=False)
    mean = np.asarray(np.average(wide, axis=0, weights=weights))
    mean = mean + np.average(wide - mean, axis=0, weights=weights)
    return wide - mean, np.asarray(mean)
