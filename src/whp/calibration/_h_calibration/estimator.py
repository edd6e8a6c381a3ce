"""The method as a scikit-learn classifier around another one."""

from __future__ import annotations

import warnings
from dataclasses import replace
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.utils.validation import check_is_fitted

from whp.calibration._h_calibration.front_door import Fitting, h_calibration
from whp.calibration._h_calibration.maps import HCalibrationMap
from whp.calibration._h_calibration.result import HCalibrationResult
from whp.calibration._h_calibration.rows import REPEATED
from whp.calibration._h_calibration.theorems import INDEPENDENT, ONE_LAW, accuracy_preserved
from whp.certificate import Certificate
from whp.scores import LEAST
from whp.validate import same_order

__all__ = ["HCalibrator"]


class HCalibrator(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):
    """Classifier whose probabilities are recalibrated and certified; its decisions are those of the classifier inside.

    :meth:`predict` is the inner classifier's own. Where that is not the arg-max of its scores (a tuned
    threshold, votes between pairs of classes), ``accuracy-preserved`` fails and counts the rows.

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

    def fit(self, X: Any, y: Any, *, groups: Any = None, **other: Any) -> HCalibrator:
        """Calibrate on rows X with classes y, of which those of one group may depend on each other.

        A fit that is refused or interrupted leaves an earlier one as it was.
        """
        made = type(self)(**self.get_params(deep=False))._fit(X, y, groups, other)
        given = self.get_params(deep=False)
        for name in [k for k in vars(self) if k.endswith("_") and k not in given]:
            delattr(self, name)  # names of columns, say, that the rows of this fit do not have
        self.__dict__ |= {k: v for k, v in vars(made).items() if k not in given}
        return self

    def _fit(self, X: Any, y: Any, groups: Any, other: dict[str, Any]) -> HCalibrator:
        """Do what :meth:`fit` promises on an estimator without a past."""
        if other:
            raise TypeError(
                f"fit takes X, y and groups, not {', '.join(other)}: the certificates count rows, which "
                "have no weights"
            )
        from sklearn.linear_model import LogisticRegression
        from sklearn.utils import check_random_state, indexable
        from sklearn.utils.multiclass import check_classification_targets
        from sklearn.utils.validation import column_or_1d

        same_order(X=X, y=y, groups=groups)
        X, y = indexable(X, y)
        check_classification_targets(y)
        y = column_or_1d(y, warn=True)
        state = check_random_state(self.random_state)
        way = self._way()
        again = _there_again(X) if groups is None else 0.0
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
            decided = self._places(np.asarray(self.estimator_.predict(given["logits"])))
            given["logits"] = self._logits(self.estimator_, given["logits"])
            self._suspicion(given, prefit=way == "prefit")
        else:
            decided = self._places(given.pop("decided"))
        if "y_test" in given:
            theirs = self._places(np.asarray(self.estimator_.predict(given["logits_test"])))
            decided = np.concatenate([decided, theirs])
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
        self.result_ = self._judged(self.result_, given, decided, way == "folds", again)
        self.calibrator_: HCalibrationMap = self.result_.map
        self.n_iter_ = len(self.result_.history)
        self.certificates_: tuple[Certificate, ...] = self.result_.certificates
        return self

    def _judged(
        self,
        result: HCalibrationResult,
        given: dict[str, Any],
        decided: np.ndarray,
        folds: bool,
        again: float,
    ) -> HCalibrationResult:
        """The result with what only the classifier knows: its decisions, whose scores were fitted, repeated rows."""
        parts = [(given["logits"], result.probs)]
        if result.probs_test is not None:
            parts.append((given["logits_test"], result.probs_test))
        before, after = (np.concatenate(part) for part in zip(*parts, strict=True))
        kept = accuracy_preserved(before, after, decided)
        law = ONE_LAW.unchecked(
            "clones in the folds scored the rows of the fit, another classifier those that certify; the "
            "band holds of the latter alone, and rows to come cannot be seen"
        )

        known = {law.name: law} if folds and "y_test" in given else {}
        if again > REPEATED:
            known[INDEPENDENT.name] = INDEPENDENT.check(
                False,
                f"{again:.1%} of the rows of X are there more than once: they are counted twice, or the "
                "classifier has seen what calibrates it",
                remedy="take repeated rows out before fit, or oversample the classifier's rows alone.",
            )

        def mended(certificate: Certificate) -> Certificate:
            if certificate.name == kept.name:
                return kept
            conditions = tuple(known.get(a.name, a) for a in certificate.conditions)
            return replace(certificate, conditions=conditions)

        return replace(result, certificates=tuple(map(mended, result.certificates)))

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
        decided = np.empty(len(y), dtype=self.classes_.dtype)
        splits = list(check_cv(self.cv, y, classifier=True).split(X, y))
        tested = np.concatenate([np.arange(len(y))[test] for _, test in splits])
        if not np.array_equal(np.sort(tested), np.arange(len(y))):
            raise ValueError(
                f"cv={self.cv!r} must part the rows, each into one fold, as KFold does; some rows are in "
                "none or in several"
            )
        for train, test in splits:
            model = clone(base).fit(_safe_indexing(X, train), y[train])
            if len(model.classes_) < len(self.classes_):
                raise ValueError(
                    f"cv={self.cv!r} leaves a fold without a class; take fewer folds or more rows"
                )
            scores[test] = self._logits(model, _safe_indexing(X, test))
            decided[test] = model.predict(_safe_indexing(X, test))
        return {"logits": scores, "y": y, "decided": decided, **aside}

    def _places(self, y: np.ndarray) -> np.ndarray:
        order = np.argsort(self.classes_, kind="stable")  # catboost names classes in any order
        at = np.searchsorted(self.classes_, y, sorter=order)
        place = order[np.minimum(at, len(order) - 1)]
        if (self.classes_[place] != y).any():
            raise ValueError("y holds a class that estimator does not know")
        return place

    def _suspicion(self, given: dict[str, Any], prefit: bool) -> None:
        y = given["y"]
        if prefit and len(y) > 1 and (given["logits"].argmax(axis=1) == y).all():
            warnings.warn(
                "the classifier makes no error on these rows; did they train it?", stacklevel=4
            )

    def _logits(self, inner: Any, X: Any) -> np.ndarray:
        if hasattr(inner, "predict_log_proba"):
            with np.errstate(divide="ignore"):
                scores = np.asarray(inner.predict_log_proba(X), dtype=np.float64)
            # A tree's 0 is no impossibility: it can be recalibrated, and stays below all others.
            absent = np.isneginf(scores)
            least = np.where(absent, np.inf, scores).min(axis=1, keepdims=True)
            scores = np.where(absent, np.minimum(np.log(LEAST), least - 1), scores)
        elif hasattr(inner, "predict_proba"):
            scores = np.log(np.maximum(np.asarray(inner.predict_proba(X), dtype=np.float64), LEAST))
        else:
            scores = np.asarray(inner.decision_function(X), dtype=np.float64)
            if scores.ndim == 1:
                scores = np.column_stack([np.zeros(len(scores)), scores])
            if scores.shape[1] != len(self.classes_) or (
                len(self.classes_) > 2 and _pairwise(inner)
            ):
                raise ValueError(
                    f"estimator must score each of its {len(self.classes_)} classes in a column; its "
                    "decision_function has columns of pairs (set decision_function_shape='ovr')"
                )
        return scores

    def predict_proba(self, X: Any) -> np.ndarray:
        """Recalibrated probabilities, columns in the order of ``classes_``."""
        check_is_fitted(self, "calibrator_")
        return self.calibrator_(self._logits(self.estimator_, X))

    def predict(self, X: Any) -> np.ndarray:
        """Classes, as the classifier inside decides."""
        check_is_fitted(self, "calibrator_")
        return self.estimator_.predict(X)

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import get_tags

        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = (
            self.estimator is None or get_tags(self.estimator).input_tags.sparse
        )
        return tags


def _pairwise(inner: Any) -> bool:
    """Whether columns of the decision function are pairs of classes, also inside a pipeline or a search."""
    inner = getattr(inner, "best_estimator_", inner)
    given = inner.get_params() if hasattr(inner, "get_params") else {}
    return any(
        name.rpartition("__")[2] == "decision_function_shape" and value == "ovo"
        for name, value in given.items()
    )


def _there_again(X: Any) -> float:
    """Share of the different rows of X that are there more than once; 0 where rows may be alike by chance.

    They may not if rows that differ at all nearly always differ in one half of the columns already,
    and two of them seldom agree in the other half: what agrees in both is then the same row.
    """
    if hasattr(X, "toarray"):
        return 0.0
    try:
        frame = (
            X if isinstance(X, pd.DataFrame) else pd.DataFrame(np.asarray(X).reshape(len(X), -1))
        )
        frame = frame.loc[:, (frame.nunique(dropna=False) > 1).to_numpy()]
        if frame.shape[1] < 2:
            return 0.0
        halves = [
            pd.util.hash_pandas_object(frame.iloc[:, k::2], index=False).to_numpy() for k in (0, 1)
        ]
    except (TypeError, ValueError):  # cells that cannot be compared
        return 0.0
    rows, counts = np.unique(np.stack(halves, axis=1), axis=0, return_counts=True)
    for one, other in (rows.T, rows.T[::-1]):
        agree = np.unique(other, return_counts=True)[1] / len(rows)
        if len(np.unique(one)) >= (1 - REPEATED) * len(rows) and (agree**2).sum() <= 0.5:
            return float((counts > 1).mean())
    return 0.0


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
