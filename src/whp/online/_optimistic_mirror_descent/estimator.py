"""The method as scikit-learn estimators, which also learn from dictionaries, one at a time, as river does."""

from __future__ import annotations

import copy
import warnings
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from scipy.special import expit, log_expit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from whp.certificate import Certificate
from whp.online._optimistic_mirror_descent import theorems as th
from whp.online._optimistic_mirror_descent.hindsight import known_of
from whp.online._optimistic_mirror_descent.learner import OptimisticMirrorDescent
from whp.online._optimistic_mirror_descent.losses import Linear, normalized_rows
from whp.online._optimistic_mirror_descent.passes import learn_stream, make_learner
from whp.online.river import LearnsOneByOne
from whp.validate import as_int, as_real, as_vector, same_order

__all__ = ["OptimisticClassifier", "OptimisticRegressor"]


def _refuse_masks(**arrays: Any) -> None:
    """scikit-learn takes what is masked as if it were not."""
    for name, value in arrays.items():
        if np.ma.isMaskedArray(value) and np.ma.getmaskarray(value).any():
            raise ValueError(f"{name} must have no masked entries; fill them or drop their rows")


class _Online(LearnsOneByOne, BaseEstimator):
    """What both have in common: rows in, normalised on the way; one learner a class."""

    _loss: str

    radius: float
    batch_size: int
    curvature: str
    l2: float
    dynamic: bool
    horizon: int | None

    def _bound(self) -> float:
        return 1.0

    def _start(self, count: int, features: int, horizon: int | None) -> None:
        """`count` fresh learners."""
        radius = as_real(self.radius, "radius", low=0, open_ends=True)
        self._family = Linear(self._loss, 1.0, radius, self._bound(), as_real(self.l2, "l2", low=0))
        self._batch = as_int(self.batch_size, "batch_size", low=1)
        given = self.horizon if self.horizon is not None else horizon
        self.learners_ = [
            make_learner(
                self._family,
                features + 1,
                curvature=self.curvature,
                dynamic=self.dynamic,
                horizon=given,
            )
            for _ in range(count)
        ]
        self._names: tuple[Any, ...] = tuple(getattr(self, "feature_names_in_", range(features)))
        self._place = {name: i for i, name in enumerate(self._names)}
        self._pending: list[tuple[Mapping[Any, float], Any]] = []
        self._settings = self.get_params()
        self._in_one_pass, self._warned = -1, False

    def __copy__(self) -> _Online:
        """Shares no learner with this one."""
        return copy.deepcopy(self)

    @contextmanager
    def _or_as_before(self) -> Iterator[None]:
        """What is refused costs nothing that was learnt, and begins nothing."""
        before = self.__dict__.copy()
        try:
            yield
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    def _rows(self, X: Any, y: Any, **options: Any) -> tuple[np.ndarray, np.ndarray]:
        """Rows and targets, checked."""
        same_order(X=X, y=y)
        _refuse_masks(X=X, y=y)
        return validate_data(self, X, y, dtype=np.float64, order="C", **options)

    def _rounds_of(self, X: np.ndarray) -> int:
        return -(-len(X) // as_int(self.batch_size, "batch_size", low=1))

    def _weights(self) -> np.ndarray:
        """Bias first; one row a learner."""
        check_is_fitted(self, "learners_")
        return np.stack([learner.x for learner in self.learners_])

    def _learn(self, X: np.ndarray, targets: np.ndarray) -> None:
        now = self.get_params()
        if changed := [k for k, v in self._settings.items() if now[k] != v]:
            raise ValueError(
                f"{changed[0]} must stay {self._settings[changed[0]]!r}, with which learning began, "
                f"got {now[changed[0]]!r}; fit starts anew"
            )
        for learner, target in zip(self.learners_, targets, strict=True):
            learn_stream(learner, self._family, X, target, normalize=True, batch=self._batch)

    def _scores(self, X: Any) -> np.ndarray:
        check_is_fitted(self, "learners_")
        _refuse_masks(X=X)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        W = self._weights()
        return normalized_rows(X) @ W.T

    @property
    def certificates_(self) -> tuple[Certificate, ...]:
        """One bound on regret a learner, that is a class where there are more than two."""
        check_is_fitted(self, "learners_")
        known = known_of(self._family)
        ours = type(self) in (OptimisticClassifier, OptimisticRegressor)
        if not (ours and all(learner._streamed == learner.rounds for learner in self.learners_)):
            known = {}  # gradients from elsewhere may be of anything
        elif self._in_one_pass != self.learners_[0].rounds:  # a copy may share them
            known[th.AT_THE_POINT_PLAYED.name] = th.AT_THE_POINT_PLAYED.unchecked(
                "whether each row was predicted when all before it had been learnt is not known"
            )
        return tuple(
            learner._of_the_run(None, None, (), known)
            if isinstance(learner, OptimisticMirrorDescent)
            else learner._of_the_run(0.0, None, None, (), known)
            for learner in self.learners_
        )

    def _row(self, x: Mapping[Any, float], *, grow: bool) -> np.ndarray:
        """The values of a dictionary in the learner's order; unknown names are appended, or count nothing."""
        if len(x) == len(self._names) and tuple(x) == self._names:
            row = np.array([list(x.values())], dtype=np.float64)
        else:
            if grow and (new := [name for name in x if name not in self._place]):
                if self.dynamic:
                    raise ValueError(f"x must keep its features with dynamic=True, got new {new}")
                self._names = (*self._names, *new)
                self._place = {name: i for i, name in enumerate(self._names)}
                for learner in self.learners_:
                    assert isinstance(learner, OptimisticMirrorDescent)
                    learner.grow(len(self._names) + 1)
                self.n_features_in_ = len(self._names)
                if hasattr(self, "feature_names_in_"):
                    self.feature_names_in_ = np.array(self._names, dtype=object)
            row = np.zeros((1, len(self._names)))
            for name, value in x.items():
                if (place := self._place.get(name)) is not None:
                    row[0, place] = value
        return row

    def _learn_one(self, x: Any, y: Any) -> None:
        if not isinstance(x, Mapping):
            raise TypeError(f"x must be a dictionary of features, got {type(x).__name__}")
        for name, value in x.items():
            if isinstance(value, str) or not np.isfinite(value):
                raise ValueError(f"x[{name!r}] must be a finite number, got {value!r}")
        if not hasattr(self, "learners_"):
            with self._or_as_before():
                self._begin(x)
                self._targets(np.array([y]))
        else:
            self._targets(np.array([y]))  # refused now, not with the batch
        self._in_one_pass = -1
        if self._batch == 1:
            self._learn(self._row(x, grow=True), self._targets(np.array([y])))
            return
        self._pending.append((dict(x), y))
        if len(self._pending) == self._batch:
            for row, _ in self._pending:
                self._row(row, grow=True)
            rows = np.concatenate([self._row(row, grow=False) for row, _ in self._pending])
            targets = self._targets(np.array([y for _, y in self._pending]))
            waiting, self._pending = self._pending[:-1], []
            try:
                self._learn(rows, targets)
            except ValueError:
                self._pending = waiting  # a bad row costs no others
                raise

    def _begin(self, x: Mapping[Any, float]) -> None:
        """Start from a first dictionary."""
        self._start(1, len(x), None)
        self._names = tuple(x)
        self._place = {name: i for i, name in enumerate(self._names)}
        self.n_features_in_ = len(x)

    @abstractmethod
    def _targets(self, y: np.ndarray) -> np.ndarray: ...

    def _scores_one(self, x: Mapping[Any, float]) -> np.ndarray:
        row = self._row(x, grow=False)
        if not np.isfinite(row).all():
            raise ValueError("x must hold finite numbers, got NaN or infinity")
        return self._weights() @ normalized_rows(row)[0]


class OptimisticClassifier(ClassifierMixin, _Online):
    """Online logistic regression without a learning rate, its regret certified.

    Rows get a 1 appended and are divided by their norm, so that features may come unscaled, late, or new.

    Parameters
    ----------
    radius : float
        Of the ball that the weights stay in.
    batch_size : int
        Rows a step.
    curvature, l2, dynamic
        As in :func:`optimistic_mirror_descent`.
    horizon : int, optional
        Rounds to come, needed for `dynamic` with `partial_fit`.

    Attributes
    ----------
    classes_ : ndarray
    coef_ : ndarray, shape (1, d) or (K, d)
        For normalised rows.
    intercept_ : ndarray, shape (1,) or (K,)
    certificates_ : tuple of Certificate
        One a learner.
    """

    _loss = "logistic"
    _river = "Classifier"
    _multiclass = False  # river asks

    def __init__(
        self, radius=5.0, *, batch_size=1, curvature="auto", l2=0.0, dynamic=False, horizon=None
    ):
        self.radius = radius
        self.batch_size = batch_size
        self.curvature = curvature
        self.l2 = l2
        self.dynamic = dynamic
        self.horizon = horizon

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        # The exp-concave steps of the logistic loss are too short to get far on a small table.
        tags.classifier_tags.poor_score = self.curvature == "exp_concave"
        return tags

    def fit(self, X: Any, y: Any) -> OptimisticClassifier:
        """One pass over X (n, d) with labels y (n,), from scratch."""
        with self._or_as_before():
            X, y = self._rows(X, y)
            check_classification_targets(y)
            self._declare(np.unique(y), X.shape[1], self._rounds_of(X))
            self._learn(X, self._targets(y))
            self._in_one_pass = self.learners_[0].rounds
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> OptimisticClassifier:
        """Go on with more rows. The first call needs all `classes`."""
        first = not hasattr(self, "learners_")
        if first and classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        with self._or_as_before():
            X, y = self._rows(X, y, reset=first)
            if first:
                self._declare(np.unique(classes), X.shape[1], None)
            elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
                raise ValueError(
                    f"classes must be those of the first call, {self.classes_.tolist()}"
                )
            targets = self._targets(y)
            self._in_one_pass = -1
            self._learn(X, targets)
        return self

    def _declare(self, classes: np.ndarray, features: int, horizon: int | None) -> None:
        if len(classes) < 2:
            raise ValueError(f"y must have at least two classes, got one class: {classes.tolist()}")
        self.classes_ = classes
        self._start(1 if len(classes) == 2 else len(classes), features, horizon)

    def _targets(self, y: np.ndarray) -> np.ndarray:
        places = np.searchsorted(self.classes_, y).clip(0, len(self.classes_) - 1)
        if (wrong := self.classes_[places] != y).any():
            raise ValueError(
                f"y must hold the classes {self.classes_.tolist()}, got {y[wrong][0]!r}"
            )
        if len(self.classes_) == 2:
            return np.where(places == 1, 1.0, -1.0)[None]
        return np.where(places == np.arange(len(self.classes_))[:, None], 1.0, -1.0)

    @property
    def coef_(self) -> np.ndarray:
        """Weights of the features."""
        return self._weights()[:, 1:]

    @property
    def intercept_(self) -> np.ndarray:
        """Weights of the bias."""
        return self._weights()[:, 0]

    def decision_function(self, X: Any) -> np.ndarray:
        """Scores (n,) of the second of two classes, or (n, K)."""
        scores = self._scores(X)
        return scores[:, 0] if len(self.classes_) == 2 else scores

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities (n, K); those of more than two classes are one-against-rest, made to sum to one."""
        return self._probabilities(self._scores(X))

    def _probabilities(self, scores: np.ndarray) -> np.ndarray:
        if len(self.classes_) == 2:
            return np.column_stack([expit(-scores[:, 0]), expit(scores[:, 0])])
        return softmax(log_expit(scores), axis=1)  # all may be too small for numbers

    def predict(self, X: Any) -> np.ndarray:
        """Labels (n,)."""
        scores = self.decision_function(X)
        return self.classes_[
            (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)
        ]

    def _begin(self, x: Mapping[Any, float]) -> None:
        self.classes_ = np.array([False, True])
        super()._begin(x)

    def learn_one(self, x: Any, y: Any) -> None:
        """Learn from one dictionary. Labels are bool or 0/1, or those declared by `partial_fit`."""
        self._learn_one(x, y)

    def predict_proba_one(self, x: Mapping[Any, float]) -> dict[Any, float]:
        """Probability of each class."""
        if not hasattr(self, "learners_"):
            return {False: 0.5, True: 0.5}
        p = self._probabilities(self._scores_one(x)[None])[0]
        return dict(zip(self.classes_.tolist(), p.tolist(), strict=True))

    def predict_one(self, x: Mapping[Any, float]) -> Any:
        """The likelier class."""
        p = self.predict_proba_one(x)
        return max(p, key=p.__getitem__)


class OptimisticRegressor(RegressorMixin, _Online):
    """Online least squares without a learning rate, its regret certified.

    Predictions are bounded by `radius`, as rows are normalised: scale the targets, or raise it.

    Parameters
    ----------
    radius, batch_size, curvature, l2, dynamic, horizon
        As in :class:`OptimisticClassifier`.
    target_bound : float, optional
        Largest |y|; needed for ``curvature="exp_concave"`` and for `dynamic`, whose constants contain it.

    Attributes
    ----------
    coef_ : ndarray, shape (d,)
        For normalised rows.
    intercept_ : float
    certificates_ : tuple of Certificate
    """

    _loss = "squared"
    _river = "Regressor"

    def __init__(
        self,
        radius=5.0,
        *,
        batch_size=1,
        curvature="auto",
        l2=0.0,
        dynamic=False,
        horizon=None,
        target_bound=None,
    ):
        self.radius = radius
        self.batch_size = batch_size
        self.curvature = curvature
        self.l2 = l2
        self.dynamic = dynamic
        self.horizon = horizon
        self.target_bound = target_bound

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = (
            True  # predictions end at the radius, and it sees each row once
        )
        return tags

    def _bound(self) -> float:
        if self.target_bound is None:
            if self.dynamic or self.curvature == "exp_concave":
                raise ValueError(
                    "target_bound must be given for dynamic=True and curvature='exp_concave', got None"
                )
            return 1.0  # no constant of the rules that are left contains it
        return as_real(self.target_bound, "target_bound", low=0, open_ends=True)

    def fit(self, X: Any, y: Any) -> OptimisticRegressor:
        """One pass over X (n, d) with targets y (n,), from scratch."""
        with self._or_as_before():
            X, y = self._rows(X, y, y_numeric=True)
            self._start(1, X.shape[1], self._rounds_of(X))
            self._learn(X, self._targets(y))
            self._in_one_pass = self.learners_[0].rounds
        return self

    def partial_fit(self, X: Any, y: Any) -> OptimisticRegressor:
        """Go on with more rows."""
        first = not hasattr(self, "learners_")
        with self._or_as_before():
            X, y = self._rows(X, y, reset=first, y_numeric=True)
            if first:
                self._start(1, X.shape[1], None)
            targets = self._targets(y)
            self._in_one_pass = -1
            self._learn(X, targets)
        return self

    def _targets(self, y: np.ndarray) -> np.ndarray:
        target = as_vector(y, "y", dtype=np.float64)
        if np.abs(target).max(initial=0.0) > self._family.R and not self._warned:
            self._warned = True
            warnings.warn(
                f"y reaches {np.abs(target).max():g}, but predictions end at radius = "
                f"{self._family.R:g}, and the best fixed predictor's as well: scale the targets "
                "(sklearn.compose.TransformedTargetRegressor), or raise radius",
                stacklevel=3,
            )
        if self.target_bound is not None and np.abs(target).max() > self.target_bound:
            raise ValueError(
                f"y must be at most target_bound = {self.target_bound:g} in size, got {np.abs(target).max():g}"
            )
        return target[None]

    @property
    def coef_(self) -> np.ndarray:
        """Weights of the features."""
        return self._weights()[0, 1:]

    @property
    def intercept_(self) -> float:
        """Weight of the bias."""
        return float(self._weights()[0, 0])

    def predict(self, X: Any) -> np.ndarray:
        """Predictions (n,)."""
        return self._scores(X)[:, 0]

    def learn_one(self, x: Any, y: float) -> None:
        """Learn from one dictionary."""
        self._learn_one(x, y)

    def predict_one(self, x: Mapping[Any, float]) -> float:
        """Prediction for one dictionary."""
        return float(self._scores_one(x)[0]) if hasattr(self, "learners_") else 0.0
