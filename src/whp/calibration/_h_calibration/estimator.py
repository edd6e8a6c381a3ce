"""The method as a scikit-learn classifier around another one."""

from __future__ import annotations

import warnings
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.utils.validation import check_is_fitted

from whp.calibration._h_calibration.front_door import Fitting, h_calibration
from whp.calibration._h_calibration.maps import HCalibrationMap
from whp.calibration._h_calibration.result import HCalibrationResult
from whp.certificate import Certificate

__all__ = ["HCalibrator"]


class HCalibrator(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):
    """Classifier whose probabilities are recalibrated and certified; its decisions are those of the classifier inside.

    Parameters
    ----------
    estimator : classifier, optional
        With ``decision_function`` of a column a class, ``predict_log_proba`` or ``predict_proba``;
        logistic regression by default.
    cv : "prefit", float, int or splitter
        ``"prefit"``: `estimator` is fitted already, all rows given to :meth:`fit` calibrate it and
        must be new to it. A number in (0, 1): a clone is fitted on the rest and that share of the
        rows calibrates it. A number of folds or a splitter of scikit-learn: a share `certify` of the
        rows is set aside for the certificates; of the others each is scored by a clone that was
        fitted without its fold, those scores fit the map, and a clone fitted on all of them decides.
    mapping, objective, epsilon, delta, blocks, resamples, certify, refit
        As in :func:`h_calibration`.
    window, tolerance, clusters, max_iter
        As in :class:`Fitting`.
    random_state : int, RandomState or None
        Source of randomness.

    Attributes
    ----------
    classes_ : ndarray
    estimator_ : classifier
    calibrator_ : HCalibrationMap
    result_ : HCalibrationResult
    certificates_ : tuple of Certificate
    n_iter_ : int
        Temperatures tried, or evaluations of the error.
    """

    def __init__(  # parameters are checked by fit, as scikit-learn wants it
        self,
        estimator=None,
        *,
        cv: Any = "prefit",
        mapping: Any = "temperature",
        objective: Any = "pooled",
        window=200,
        tolerance=0.0,
        clusters=15,
        epsilon=0.1,
        delta=0.05,
        blocks=None,
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

    def fit(self, X: Any, y: Any, groups: Any = None) -> HCalibrator:
        """Calibrate on rows X with classes y, of which those of one group may depend on each other."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.utils import check_random_state, indexable
        from sklearn.utils.multiclass import check_classification_targets
        from sklearn.utils.validation import column_or_1d

        X, y = indexable(X, y)
        check_classification_targets(y)
        y = column_or_1d(y, warn=True)
        state = check_random_state(self.random_state)
        way = self._way()
        if groups is not None and way != "prefit":
            raise ValueError("groups needs cv='prefit': the other splits here would part a group")
        base = LogisticRegression() if self.estimator is None else self.estimator
        given: dict[str, Any] = {"groups": groups}
        if way == "prefit":
            check_is_fitted(base)
            self.estimator_: Any = base
            given |= {"logits": X, "y": y}
        elif way == "share":
            share = 0.5 if isinstance(self.cv, str) else float(self.cv)
            inside, held, inside_y, held_y = _parted(X, y, share, state)
            self.estimator_ = clone(base).fit(inside, inside_y)
            given |= {"logits": held, "y": held_y}
        else:
            given |= self._folds(base, X, y, state)
        self.classes_ = self.estimator_.classes_
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(self.estimator_, name):
                setattr(self, name, getattr(self.estimator_, name))
        given["y"] = self._places(given["y"])
        if way != "folds":
            given["logits"] = self._logits(self.estimator_, given["logits"])
            self._suspicion(given, prefit=way == "prefit")
        if "y_test" in given:
            given["logits_test"] = self._logits(self.estimator_, given["logits_test"])
            given["y_test"] = self._places(given["y_test"])
        with warnings.catch_warnings():
            if len(given["y"]) < 1000:
                warnings.filterwarnings("ignore", "window is reduced")
            self.result_: HCalibrationResult = h_calibration(
                **given,
                from_probs=False,
                mapping=self.mapping,
                objective=self.objective,
                epsilon=self.epsilon,
                delta=self.delta,
                blocks=self.blocks,
                resamples=self.resamples,
                certify=self.certify if "y_test" not in given else 0.0,
                refit=self.refit,
                fitting=Fitting(self.window, self.tolerance, self.clusters, self.max_iter),
                rng=int(state.randint(1 << 31)),
            )
        self.calibrator_: HCalibrationMap = self.result_.map
        self.n_iter_ = len(self.result_.history)
        self.certificates_: tuple[Certificate, ...] = self.result_.certificates
        return self

    def _way(self) -> str:
        """How rows are shared between classifier and map: prefit, share or folds."""
        cv = self.cv
        if isinstance(cv, str) and cv == "prefit":
            return "share" if self.estimator is None else "prefit"
        splits = hasattr(cv, "split") and not isinstance(cv, str)
        if splits or (isinstance(cv, Integral) and int(cv) >= 2):
            return "folds"
        if isinstance(cv, Real) and not isinstance(cv, Integral) and 0 < float(cv) < 1:
            return "share"
        raise ValueError(
            "cv must be 'prefit', a share in (0, 1), a number of folds from 2 on or a splitter, "
            f"got {cv!r}"
        )

    def _folds(self, base: Any, X: Any, y: np.ndarray, state: Any) -> dict[str, Any]:
        """Scores of rows by clones that did not see them, and rows set aside for the certificates."""
        from sklearn.model_selection import check_cv
        from sklearn.utils import _safe_indexing

        aside: dict[str, Any] = {}
        if self.certify:
            X, held, y, held_y = _parted(X, y, self.certify, state)
            aside = {"logits_test": held, "y_test": held_y}
        self.estimator_ = clone(base).fit(X, y)
        self.classes_ = self.estimator_.classes_
        scores = np.empty((len(y), len(self.classes_)))
        for train, test in check_cv(self.cv, y, classifier=True).split(X, y):
            model = clone(base).fit(_safe_indexing(X, train), y[train])
            if len(model.classes_) < len(self.classes_):
                raise ValueError(
                    f"cv={self.cv!r} leaves a fold without a class; take fewer folds or more rows"
                )
            scores[test] = self._logits(model, _safe_indexing(X, test))
        return {"logits": scores, "y": y, **aside}

    def _places(self, y: np.ndarray) -> np.ndarray:
        place = np.minimum(np.searchsorted(self.classes_, y), len(self.classes_) - 1)
        if (self.classes_[place] != y).any():
            raise ValueError("y holds a class that estimator does not know")
        return place

    def _suspicion(self, given: dict[str, Any], prefit: bool) -> None:
        y = given["y"]
        if prefit and len(y) > 1 and (given["logits"].argmax(axis=1) == y).all():
            warnings.warn(
                "the classifier makes no error on these rows; did they train it?", stacklevel=3
            )

    def _logits(self, inner: Any, X: Any) -> np.ndarray:
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
        return self.calibrator_(self._logits(self.estimator_, X))

    def predict(self, X: Any) -> np.ndarray:
        """Classes, as the classifier inside decides."""
        check_is_fitted(self, "calibrator_")
        return self.classes_[self._logits(self.estimator_, X).argmax(axis=1)]

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import get_tags

        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = (
            self.estimator is None or get_tags(self.estimator).input_tags.sparse
        )
        return tags


def _parted(X: Any, y: np.ndarray, share: float, state: Any) -> Any:
    """Rows, the share of rows that is held back, and the classes of both; stratified if it can be."""
    from sklearn.model_selection import train_test_split
    from sklearn.utils.validation import _num_samples

    counts = np.unique(y, return_counts=True)[1]
    if len(counts) < 2:
        raise ValueError(f"y must hold at least 2 classes, got {len(counts)} class")
    enough = counts.min() >= 2 and min(share, 1 - share) * _num_samples(X) >= len(counts)
    return train_test_split(
        X, y, test_size=share, stratify=y if enough else None, random_state=state.randint(1 << 31)
    )
