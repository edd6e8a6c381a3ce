"""The method as a scikit-learn classifier around another one."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.utils.validation import check_is_fitted

from whp.calibration._h_calibration.calibration import HCalibration, h_calibration
from whp.calibration._h_calibration.maps import HCalibrationMap
from whp.certificate import Certificate

__all__ = ["HCalibrator"]


class HCalibrator(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):
    """Classifier whose probabilities are recalibrated and certified; its decisions are those of the classifier inside.

    Parameters
    ----------
    estimator : classifier, optional
        With ``decision_function`` of a column a class, ``predict_log_proba`` or ``predict_proba``; logistic regression by
        default.
    cv : "prefit" or float
        ``"prefit"``: `estimator` is fitted already, all rows given to :meth:`fit` calibrate it and must be new to it. A number
        in (0, 1): a clone is fitted on the rest and that share of the rows calibrates it.
    mapping, objective, window, tolerance, clusters, epsilon, delta, blocks, resamples, certify, refit, max_iter
        As in :func:`h_calibration`.
    random_state : int, RandomState or None
        Source of randomness.

    Attributes
    ----------
    classes_ : ndarray
    estimator_ : classifier
    calibrator_ : HCalibrationMap
    result_ : HCalibration
    certificates_ : tuple of Certificate
    n_iter_ : int
        Iterations of the fit, or temperatures tried on the grid.
    """

    def __init__(  # parameters are checked by fit, as scikit-learn wants it
        self,
        estimator=None,
        *,
        cv="prefit",
        mapping: Any = "temperature",
        objective: Any = "pooled",
        window=200,
        tolerance=0.0,
        clusters=15,
        epsilon=0.05,
        delta=0.05,
        blocks=20,
        resamples=199,
        certify=1 / 3,
        refit=False,
        max_iter=300,
        random_state=None,
    ):
        self.estimator = estimator
        self.cv = cv
        self.mapping = mapping
        self.objective = objective
        self.window = window
        self.tolerance = tolerance
        self.clusters = clusters
        self.epsilon = epsilon
        self.delta = delta
        self.blocks = blocks
        self.resamples = resamples
        self.certify = certify
        self.refit = refit
        self.max_iter = max_iter
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> HCalibrator:
        """Calibrate on rows X with classes y."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import train_test_split
        from sklearn.utils import check_random_state, indexable
        from sklearn.utils.multiclass import check_classification_targets
        from sklearn.utils.validation import _num_samples, column_or_1d

        X, y = indexable(X, y)
        check_classification_targets(y)
        y = column_or_1d(y, warn=True)
        state = check_random_state(self.random_state)
        prefit = isinstance(self.cv, str)
        if prefit and self.cv != "prefit":
            raise ValueError(f"cv must be 'prefit' or a share in (0, 1), got {self.cv!r}")
        base = LogisticRegression() if self.estimator is None else self.estimator
        if prefit and self.estimator is not None:
            check_is_fitted(base)
            self.estimator_: Any = base
            held, held_y = X, y
        else:
            share = 0.5 if prefit else float(self.cv)
            if not 0 < share < 1:
                raise ValueError(f"cv must be 'prefit' or a share in (0, 1), got {self.cv!r}")
            counts = np.unique(y, return_counts=True)[1]
            if len(counts) < 2:
                raise ValueError(f"y must hold at least 2 classes, got {len(counts)} class")
            enough = counts.min() >= 2 and min(share, 1 - share) * _num_samples(X) >= len(counts)
            inside, held, inside_y, held_y = train_test_split(
                X,
                y,
                test_size=share,
                stratify=y if enough else None,
                random_state=state.randint(1 << 31),
            )
            self.estimator_ = clone(base).fit(inside, inside_y)
        self.classes_ = self.estimator_.classes_
        if hasattr(self.estimator_, "n_features_in_"):
            self.n_features_in_ = self.estimator_.n_features_in_
        if hasattr(self.estimator_, "feature_names_in_"):
            self.feature_names_in_ = self.estimator_.feature_names_in_
        place = np.minimum(np.searchsorted(self.classes_, held_y), len(self.classes_) - 1)
        if (self.classes_[place] != held_y).any():
            raise ValueError("y holds a class that estimator does not know")
        logits = self._logits(held)
        if (
            prefit
            and len(held_y) > 1
            and (logits.argmax(axis=1) == place).all()
            and self.estimator is not None
        ):
            warnings.warn(
                "the classifier makes no error on these rows; did they train it?", stacklevel=2
            )
        with warnings.catch_warnings():
            if len(held_y) < 1000:
                warnings.filterwarnings("ignore", "window is reduced")
            self.result_: HCalibration = h_calibration(
                logits,
                place,
                from_probs=False,
                mapping=self.mapping,
                objective=self.objective,
                window=self.window,
                tolerance=self.tolerance,
                clusters=self.clusters,
                epsilon=self.epsilon,
                delta=self.delta,
                blocks=self.blocks,
                resamples=self.resamples,
                certify=self.certify,
                refit=self.refit,
                max_iter=self.max_iter,
                rng=int(state.randint(1 << 31)),
            )
        self.calibrator_: HCalibrationMap = self.result_.map
        self.n_iter_ = len(self.result_.history)
        self.certificates_: tuple[Certificate, ...] = self.result_.certificates
        return self

    def _logits(self, X: Any) -> np.ndarray:
        inner = self.estimator_
        if hasattr(inner, "predict_log_proba"):
            with np.errstate(divide="ignore"):
                scores = np.asarray(inner.predict_log_proba(X), dtype=np.float64)
        elif hasattr(inner, "predict_proba"):
            scores = np.log(
                np.maximum(np.asarray(inner.predict_proba(X), dtype=np.float64), 1e-300)
            )
        else:
            scores = np.asarray(inner.decision_function(X), dtype=np.float64)
            if scores.ndim == 1:
                scores = np.column_stack([np.zeros(len(scores)), scores])
        return np.maximum(scores, -1e6)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Recalibrated probabilities, columns in the order of ``classes_``."""
        check_is_fitted(self, "calibrator_")
        return self.calibrator_(self._logits(X))

    def predict(self, X: Any) -> np.ndarray:
        """Classes, as the classifier inside decides."""
        check_is_fitted(self, "calibrator_")
        return self.classes_[self._logits(X).argmax(axis=1)]

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import get_tags

        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = (
            self.estimator is None or get_tags(self.estimator).input_tags.sparse
        )
        return tags
