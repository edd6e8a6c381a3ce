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

from whp.optim._target_surrogates.data import check_scale
from whp.optim._target_surrogates.front_door import checked, majorised
from whp.optim._target_surrogates.linear import Settings, fit_linear
from whp.optim._target_surrogates.losses import LOSSES
from whp.validate import as_choice, as_int, as_real, same_order

__all__ = ["SSOClassifier", "SSORegressor"]


class _Linear(BaseEstimator):
    """Shared by both; parameters are checked by fit."""

    def __init__(
        self,
        loss="auto",
        *,
        batch_size=None,
        projection="full",
        batches="independent",
        solver="direct",
        eta="auto",
        rule="auto",
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
        self.batches = batches
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

    def _settings(self, name: str, columns: int, once: bool) -> Settings:
        eta = self.eta
        if eta != "auto":
            eta = as_real(eta, "eta", low=0, high=1e12, open_ends=True)
        size = None if self.batch_size is None else as_int(self.batch_size, "batch_size", low=1)
        solver = as_choice(self.solver, "solver", ("direct", "cg"))
        settings = checked(
            LOSSES[name],
            m=None if self.m is None else as_int(self.m, "m", low=1),
            inner=as_choice(self.inner, "inner", ("exact", "gd", "armijo")),  # type: ignore[arg-type]
            eta=eta,
            rule=as_choice(  # type: ignore[arg-type]
                self.rule, "rule", ("auto", "sgd", "sls", "adagrad", "adagrad-diag", "newton")
            ),
            schedule=as_choice(self.schedule, "schedule", ("constant", "sqrt", "exponential")),  # type: ignore[arg-type]
            projection=as_choice(self.projection, "projection", ("full", "batch")),  # type: ignore[arg-type]
            batch_size=size,
            batches=as_choice(self.batches, "batches", ("independent", "passes")),  # type: ignore[arg-type]
            max_iter=1 if once else as_int(self.max_iter, "max_iter", low=1),
            tol=as_real(self.tol, "tol", low=0, high=1e9),
            alpha=as_real(self.alpha, "alpha", low=0, high=1e12),
            solver="cg" if columns > 5000 else solver,  # type: ignore[arg-type]
        )
        if not once:
            return settings
        if settings.schedule != "constant" or settings.rule in ("adagrad", "adagrad-diag"):
            raise ValueError(
                "schedule must be 'constant' and rule not adagrad for partial_fit: steps of one call "
                "know nothing of those before"
            )
        whole = {"batch_size": None, "projection": "full", "batches": "independent"}
        return Settings(**{**vars(settings), **whole})

    def _design(self, X: Any) -> Any:
        if issparse(X):
            X = X.tocsr().astype(np.float64)
            return hstack([X, np.ones((X.shape[0], 1))], format="csr") if self.fit_intercept else X
        if self.fit_intercept:
            return np.column_stack([X, np.ones(len(X))])
        return np.asarray(X, dtype=np.float64)

    def _run(self, X: Any, y: np.ndarray, name: str, outputs: int, again: bool | None) -> None:
        """`again`: whether to go on with one step; None fits from the start."""
        check_scale(X.data if issparse(X) else X, "X")
        A = self._design(X)
        settings = self._settings(name, A.shape[1], again is not None)
        theta = self._theta if again else None
        if theta is not None and len(theta) != A.shape[1]:
            raise ValueError("fit_intercept must stay as it was at the first call of partial_fit")
        if theta is None:
            theta = np.zeros(A.shape[1] if outputs == 1 else (A.shape[1], outputs))
        random = np.random.default_rng(check_random_state(self.random_state).randint(2**31 - 1))
        free = np.zeros(A.shape[1], dtype=bool)
        free[-1] = bool(self.fit_intercept)
        loss = LOSSES[name]
        self._theta, history = fit_linear(A, y, loss, settings, theta, random, free=free)
        # Of one call: batches of partial_fit are asked about each for itself.
        self.certificate_ = majorised(history, loss, y, False)[0]
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
    batch_size, projection, batches, eta, rule, schedule, m, inner, max_iter, tol, alpha
        As for :func:`whp.optim.target_surrogates`.
    solver : {"direct", "cg"}
        One factorisation, or conjugate gradients (beyond 5,000 features always).
    fit_intercept : bool
        Whether to add an intercept, which is never penalised.
    random_state : int, RandomState or None
        Source of randomness of the batches.

    Attributes
    ----------
    coef_ : ndarray, shape (d,)
    intercept_ : float
    n_iter_, n_oracle_ : int
    history_ : DataFrame
        A row a step of the last call.
    certificate_ : Certificate
        ``majorisation`` of the last call.
    """

    def fit(self, X: Any, y: Any) -> SSORegressor:
        """Fit on X (n, d) and numbers y (n,)."""
        same_order(X=X, y=y)
        X, y = validate_data(self, X, y, dtype=np.float64, accept_sparse="csr", y_numeric=True)
        self._fit(X, np.asarray(y, dtype=np.float64), None)
        return self

    def partial_fit(self, X: Any, y: Any) -> SSORegressor:
        """One step on a batch, from where the last one ended."""
        again = hasattr(self, "_theta")
        same_order(X=X, y=y)
        X, y = validate_data(
            self, X, y, dtype=np.float64, accept_sparse="csr", y_numeric=True, reset=not again
        )
        self._fit(X, np.asarray(y, dtype=np.float64), again)
        return self

    def _fit(self, X: Any, y: np.ndarray, again: bool | None) -> None:
        choices = ("auto", "squared", "huber", "poisson")
        name = as_choice(self.loss, "loss", choices)
        name = "squared" if name == "auto" else name
        check_scale(y, "y")
        if name == "poisson" and (y < 0).any():
            raise ValueError("y must be at least 0 for loss='poisson'")
        self._run(X, y, name, 1, again)
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
    batch_size, projection, batches, eta, rule, schedule, m, inner, max_iter, tol, alpha
        As for :func:`whp.optim.target_surrogates`.
    solver : {"direct", "cg"}
        One factorisation, or conjugate gradients (beyond 5,000 features always).
    fit_intercept : bool
        Whether to add an intercept, which is never penalised.
    random_state : int, RandomState or None
        Source of randomness of the batches.

    Attributes
    ----------
    classes_ : ndarray
    coef_ : ndarray, shape (1, d) or (C, d)
    intercept_ : ndarray
    n_iter_, n_oracle_ : int
    history_ : DataFrame
        A row a step of the last call.
    certificate_ : Certificate
        ``majorisation`` of the last call.
    """

    def fit(self, X: Any, y: Any) -> SSOClassifier:
        """Fit on X (n, d) and labels y (n,)."""
        same_order(X=X, y=y)
        X, y = validate_data(self, X, y, dtype=np.float64, accept_sparse="csr")
        check_classification_targets(y)
        self._fit(X, y, np.unique(y), None)
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> SSOClassifier:
        """One step on a batch; the first call needs all `classes`."""
        again = hasattr(self, "_theta")
        same_order(X=X, y=y)
        X, y = validate_data(self, X, y, dtype=np.float64, accept_sparse="csr", reset=not again)
        if not again and classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit")
        every = self.classes_ if classes is None else np.unique(classes)
        if again and not np.array_equal(every, self.classes_):
            raise ValueError(
                f"classes must stay as at the first call, {self.classes_.tolist()}, got "
                f"{every.tolist()}"
            )
        if not np.isin(y, every).all():
            raise ValueError(f"y must hold classes among {every.tolist()}")
        self._fit(X, y, every, again)
        return self

    def _fit(self, X: Any, y: Any, classes: np.ndarray, again: bool | None) -> None:
        as_choice(self.loss, "loss", ("auto", "logistic", "softmax"))
        C = len(classes)
        if C < 2:
            raise ValueError("y must hold at least two classes, got one class")
        if self.loss == "logistic" and C > 2:
            raise ValueError(f"y must hold two classes for loss='logistic', got {C}")
        codes = np.searchsorted(classes, y)
        if C == 2:
            self._run(X, codes.astype(np.float64), "logistic", 1, again)
        else:
            self._run(X, codes, "softmax", C, again)
        self.classes_ = classes  # as late as the rest, so that a call that fails changes nothing

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
