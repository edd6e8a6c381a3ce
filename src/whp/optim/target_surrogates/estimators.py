"""The method as scikit-learn estimators."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import hstack, issparse
from scipy.special import expit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from whp.optim.target_surrogates.guarantee import majorisation
from whp.optim.target_surrogates.linear import Settings, fit_linear
from whp.optim.target_surrogates.losses import LOSSES
from whp.optim.target_surrogates.surrogates import settings_of
from whp.validate import as_choice

__all__ = ["SSOClassifier", "SSORegressor"]


class _Linear(BaseEstimator):
    """Shared by both; parameters are checked by fit."""

    def __init__(
        self,
        loss="auto",
        *,
        batch_size=None,
        projection="full",
        solver="direct",
        eta="auto",
        rule="sgd",
        schedule="constant",
        m=None,
        inner="exact",
        max_iter=100,
        tol=1e-6,
        fit_intercept=True,
        alpha=0.0,
        random_state=None,
    ):
        self.loss = loss
        self.batch_size = batch_size
        self.projection = projection
        self.solver = solver
        self.eta = eta
        self.rule = rule
        self.schedule = schedule
        self.m = m
        self.inner = inner
        self.max_iter = max_iter
        self.tol = tol
        self.fit_intercept = fit_intercept
        self.alpha = alpha
        self.random_state = random_state

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _settings(self, **changes: Any) -> Settings:
        given = {
            "m": self.m,
            "inner": self.inner,
            "eta": self.eta,
            "rule": self.rule,
            "schedule": self.schedule,
            "projection": self.projection,
            "batch_size": self.batch_size,
            "max_iter": self.max_iter,
            "tol": self.tol,
            "alpha": self.alpha,
            "solver": self.solver,
        }
        return settings_of(**(given | changes))

    def _design(self, X: Any) -> Any:
        if issparse(X):
            X = X.tocsr().astype(np.float64)
            return hstack([X, np.ones((X.shape[0], 1))], format="csr") if self.fit_intercept else X
        return (
            np.column_stack([X, np.ones(len(X))])
            if self.fit_intercept
            else np.asarray(X, dtype=np.float64)
        )

    def _run(
        self, X: Any, y: np.ndarray, name: str, outputs: int, settings: Settings, theta: Any = None
    ) -> None:
        A = self._design(X)
        if theta is None:
            theta = np.zeros(A.shape[1] if outputs == 1 else (A.shape[1], outputs))
        random = np.random.default_rng(check_random_state(self.random_state).randint(2**31 - 1))
        if settings.solver == "direct" and A.shape[1] > 5000:
            settings = self._settings(solver="cg", max_iter=settings.max_iter)
        loss = LOSSES[name]
        self._theta, history = fit_linear(
            A, y, loss, settings, theta, random, free_last=bool(self.fit_intercept)
        )
        last = loss.value(A @ self._theta, y)
        whole = settings.batch_size is None or settings.batch_size >= A.shape[0]
        self.certificate_ = majorisation(history, last, loss.smoothness, whole)
        self.history_ = history.to_frame()
        self.n_iter_ = self.n_oracle_ = history.n_oracle
        self.loss_ = name
        rows = self._theta.T if self._theta.ndim == 2 else self._theta[None]
        self.coef_ = rows[:, :-1] if self.fit_intercept else rows
        self.intercept_ = rows[:, -1] if self.fit_intercept else np.zeros(len(rows))

    def _outputs(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64, accept_sparse="csr")
        return X @ self.coef_.T + self.intercept_


class SSORegressor(RegressorMixin, _Linear):
    """Linear regression by target-based surrogates.

    Parameters
    ----------
    loss : {"auto", "squared", "huber", "poisson"}
        Squared by default; poisson has a logarithmic link.
    batch_size, projection, eta, rule, schedule, m, inner, max_iter, tol, alpha
        As for :func:`whp.optim.target_surrogates`.
    solver : {"direct", "cg"}
        One factorisation, or conjugate gradients (beyond 5,000 features always).
    fit_intercept : bool
    random_state : int, RandomState or None

    Attributes
    ----------
    coef_ : ndarray, shape (d,)
    intercept_ : float
    n_iter_, n_oracle_ : int
    history_ : DataFrame
    certificate_ : Certificate
    """

    def fit(self, X: Any, y: Any) -> SSORegressor:
        """Fit on X (n, d) and numbers y (n,)."""
        X, y = validate_data(self, X, y, dtype=np.float64, accept_sparse="csr", y_numeric=True)
        self._fit(X, np.asarray(y, dtype=np.float64), self._settings())
        return self

    def partial_fit(self, X: Any, y: Any) -> SSORegressor:
        """One step on a batch, from where the last one ended."""
        again = hasattr(self, "_theta")
        X, y = validate_data(
            self, X, y, dtype=np.float64, accept_sparse="csr", y_numeric=True, reset=not again
        )
        self._fit(
            X,
            np.asarray(y, dtype=np.float64),
            self._settings(max_iter=1, batch_size=None),
            self._theta if again else None,
        )
        return self

    def _fit(self, X: Any, y: np.ndarray, settings: Settings, theta: Any = None) -> None:
        name = (
            "squared"
            if self.loss == "auto"
            else as_choice(self.loss, "loss", ("squared", "huber", "poisson"))
        )
        if name == "poisson" and (y < 0).any():
            raise ValueError("y must be at least 0 for loss='poisson'")
        self._run(X, y, name, 1, settings, theta)
        self.coef_, self.intercept_ = self.coef_[0], float(np.ravel(self.intercept_)[0])

    def predict(self, X: Any) -> np.ndarray:
        """Means of the targets."""
        z = self._outputs(X)
        return np.exp(z) if self.loss_ == "poisson" else z


class SSOClassifier(ClassifierMixin, _Linear):
    """Logistic regression by target-based surrogates.

    Parameters
    ----------
    loss : {"auto", "logistic", "softmax"}
        Logistic for two classes, softmax for more.
    batch_size, projection, eta, rule, schedule, m, inner, max_iter, tol, alpha
        As for :func:`whp.optim.target_surrogates`.
    solver : {"direct", "cg"}
        One factorisation, or conjugate gradients (beyond 5,000 features always).
    fit_intercept : bool
    random_state : int, RandomState or None

    Attributes
    ----------
    classes_ : ndarray
    coef_ : ndarray, shape (1, d) or (C, d)
    intercept_ : ndarray
    n_iter_, n_oracle_ : int
    history_ : DataFrame
    certificate_ : Certificate
    """

    def fit(self, X: Any, y: Any) -> SSOClassifier:
        """Fit on X (n, d) and labels y (n,)."""
        X, y = validate_data(self, X, y, dtype=np.float64, accept_sparse="csr")
        check_classification_targets(y)
        self.classes_ = np.unique(y)
        self._fit(X, y, self._settings())
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> SSOClassifier:
        """One step on a batch; the first call needs all `classes`."""
        again = hasattr(self, "_theta")
        X, y = validate_data(self, X, y, dtype=np.float64, accept_sparse="csr", reset=not again)
        if not again:
            if classes is None:
                raise ValueError("classes must be passed on the first call to partial_fit")
            self.classes_ = np.unique(classes)
        if not np.isin(y, self.classes_).all():
            raise ValueError(f"y must hold classes among {self.classes_.tolist()}")
        self._fit(X, y, self._settings(max_iter=1, batch_size=None), self._theta if again else None)
        return self

    def _fit(self, X: Any, y: Any, settings: Settings, theta: Any = None) -> None:
        as_choice(self.loss, "loss", ("auto", "logistic", "softmax"))
        C = len(self.classes_)
        if C < 2:
            raise ValueError("y must hold at least two classes, got one class")
        if self.loss == "logistic" and C > 2:
            raise ValueError(f"y must hold two classes for loss='logistic', got {C}")
        codes = np.searchsorted(self.classes_, y)
        if C == 2:
            self._run(X, codes.astype(np.float64), "logistic", 1, settings, theta)
        else:
            self._run(X, codes, "softmax", C, settings, theta)

    def decision_function(self, X: Any) -> np.ndarray:
        """Logits: (n,) for two classes, else (n, C)."""
        z = self._outputs(X)
        return z[:, 0] if len(self.classes_) == 2 else z

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of the classes."""
        z = self.decision_function(X)
        if z.ndim == 1:
            return np.column_stack([expit(-z), expit(z)])
        return softmax(z, axis=1)

    def predict(self, X: Any) -> np.ndarray:
        """Most probable classes."""
        z = self.decision_function(X)
        return self.classes_[(z > 0).astype(int) if z.ndim == 1 else z.argmax(axis=1)]
