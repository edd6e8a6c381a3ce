"""The method for scikit-learn: a regressor, and a sampler of weighted rows for other estimators."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any, get_args

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import (
    _check_sample_weight,
    check_is_fitted,
    check_random_state,
    validate_data,
)

from whp.linalg._lp_sensitivity_sampling.basis import as_power, whiten
from whp.linalg._lp_sensitivity_sampling.coreset import LpCoreset
from whp.linalg._lp_sensitivity_sampling.front_door import Scores, lp_sensitivity_sampling
from whp.linalg._lp_sensitivity_sampling.solvers import as_quantile, solve
from whp.validate import as_choice, as_fraction, as_int, same_order

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
        Rows of X, gap and certificates, None if all rows were used. Weights of the rows are in
        `xi`, the cost and what is certified.
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
        same_order(X=X, y=y, sample_weight=sample_weight)
        X, y = validate_data(self, X, y, y_numeric=True, dtype=np.float64)
        y = y.astype(np.float64)
        p = as_power(self.p)
        level = None if self.quantile is None else as_fraction(self.quantile, "quantile")
        level = as_quantile(level, p)
        _check_choices(self.rows, self.scores)
        A = np.column_stack([X, np.ones(len(X))]) if self.fit_intercept else X
        seed = int(check_random_state(self.random_state).randint(1 << 31))
        sizes = np.abs(A).max(axis=0)
        kept, weights = np.arange(len(A)), np.ones(len(A))
        # w|r|^p = |w^{1/p} r|^p, and a pinball cost is homogeneous as well.
        if sample_weight is not None:
            weights = _check_sample_weight(
                sample_weight, X, dtype=np.float64, ensure_non_negative=True
            )
            kept = np.flatnonzero(weights)
            sizes = np.abs(A[kept]).max(axis=0)
            root = weights[kept] ** (1 / p)
            with np.errstate(over="ignore"):
                A, y = A[kept] * root[:, None], y[kept] * root
            if not (np.isfinite(A).all() and np.isfinite(y).all()):
                raise ValueError("sample_weight must be smaller: times X or y it exceeds floats")
        n, d = A.shape
        self.result_: LpCoreset | None = None
        if self.rows is not None and d + 1 < self.rows <= n // 2 and A.any():
            found = lp_sensitivity_sampling(
                A,
                y,
                p=p,
                quantile=level,
                rows=self.rows,
                scores=self.scores,
                on_rank="drop",
                rng=seed,
            )
            x, dependent = found.x, bool(found.left_out)
            self.result_ = _of_all_rows(found, kept, weights)
        else:
            basis = whiten(A, on_rank="drop")
            x = basis.coefficients(solve(basis, y, p, None, level)[0].z)
            dependent = len(basis.columns) < d
        assert x is not None
        # Of all solutions the one of least norm, whatever columns the basis took; of columns of one
        # size, so that none is lost for its unit.
        if dependent:
            sizes[sizes == 0] = 1.0
            x = np.linalg.lstsq(A / sizes, A @ x)[0] / sizes
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
        Expected rows, as in :func:`lp_sensitivity_sampling`; all rows are kept where there are not
        twice as many.
    scores : str
        As there.
    random_state : int, RandomState or None
        Source of randomness.

    Attributes
    ----------
    sample_indices_, sample_weight_ : ndarray, shape (m,)
        Rows chosen, and what multiplies their loss.
    result_ : LpCoreset or None
        The certificates; None where all rows were kept because there are few.

    Examples
    --------
    >>> X = np.random.default_rng(0).standard_normal((4000, 2))
    >>> sampler = CoresetSampler(p=2, rows=300, random_state=0)
    >>> Xs, ys, weights = sampler.fit_resample(X, X.sum(axis=1))
    """

    def __init__(self, p=1.0, rows=None, scores: Any = "lewis", random_state=None):
        self.p = p
        self.rows = rows
        self.scores = scores
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> CoresetSampler:
        """Choose rows for [1 | X | y], or [1 | X] without y."""
        X, target = _with_target(self, X, y)
        p = as_power(self.p)
        _check_choices(self.rows, self.scores)
        seed = int(check_random_state(self.random_state).randint(1 << 31))
        A = np.column_stack([np.ones(len(X)), X, *([] if target is None else [target])])
        n, d = A.shape
        self.result_: LpCoreset | None = None
        self.sample_indices_, self.sample_weight_ = np.arange(n), np.ones(n)
        if n >= 2 * d and not (self.rows is not None and not d < self.rows <= n // 2):
            with warnings.catch_warnings():  # that all rows are kept is as promised
                warnings.filterwarnings("ignore", message="epsilon")
                self.result_ = lp_sensitivity_sampling(
                    A, p=p, rows=self.rows, scores=self.scores, on_rank="drop", rng=seed
                )
            self.sample_indices_, self.sample_weight_ = self.result_.index, self.result_.xi
        return self

    def fit_resample(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows of X, entries of y, and their weights."""
        self.fit(X, y)
        kept = self.sample_indices_
        return np.asarray(X)[kept], np.asarray(y)[kept], self.sample_weight_


def _of_all_rows(found: LpCoreset, kept: np.ndarray, weights: np.ndarray) -> LpCoreset:
    """A coreset of rows `kept`, weighted, as one of all rows whose loss its xi multiplies."""
    probabilities, scores = np.zeros(len(weights)), np.zeros(len(weights))
    probabilities[kept], scores[kept] = found.probabilities, found.scores
    index = kept[found.index]
    return replace(
        found,
        index=index,
        xi=found.xi * weights[index],
        probabilities=probabilities,
        scores=scores,
        shape=(len(weights), found.shape[1]),
    )


def _check_choices(rows: Any, scores: Any) -> None:
    """Refuse what the front door would, also where all rows are kept and it is not asked."""
    as_choice(scores, "scores", get_args(Scores))
    if rows is not None:
        as_int(rows, "rows", low=1)


def _with_target(estimator: BaseEstimator, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """X and y as arrays of numbers; y may have several columns."""
    if y is None:
        return validate_data(estimator, X, dtype=np.float64), None
    same_order(X=X, y=y)
    return validate_data(estimator, X, y, dtype=np.float64, multi_output=True, y_numeric=True)
