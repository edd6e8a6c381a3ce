"""The same behind scikit-learn's and river's interfaces."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils.validation import check_is_fitted, validate_data

from whp.certificate import Certificate
from whp.online._groupwise_regret import theorems as th
from whp.online._groupwise_regret.forecaster import Forecaster
from whp.online._groupwise_regret.groups import EVERYONE, members
from whp.online._groupwise_regret.ridge import as_range, range_of
from whp.online.river import LearnsOneByOne
from whp.validate import same_order

__all__ = ["GroupwiseRegressor"]


class GroupwiseRegressor(LearnsOneByOne, RegressorMixin, BaseEstimator):
    """Online least squares with regret on every group.

    Parameters
    ----------
    groups : None, or sequence of int and callables
        Columns of X that hold 0/1 flags, or predicates of X; None: everyone is the only group, unless
        memberships are passed.
    lam : float
        λ of the penalty.
    forecaster : {"ridge", "vaw"}
        As in :func:`groupwise_regret`.
    target_range : (float, float) or None
        Range of the targets. None reads it off the first call to `fit` or `partial_fit`; later
        targets must lie in it.
    fit_intercept : bool
        Append a 1 to each row.

    Attributes
    ----------
    group_report_ : DataFrame
        A row a group, see :class:`GroupwiseRegretResult`.
    certificates_ : tuple of Certificate
        One a group.
    """

    def __init__(
        self, groups=None, *, lam=1.0, forecaster="ridge", target_range=None, fit_intercept=True
    ):
        self.groups = groups
        self.lam = lam
        self.forecaster = forecaster
        self.target_range = target_range
        self.fit_intercept = fit_intercept

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        # It sees each row once, and is penalised in units of the features given.
        tags.regressor_tags.poor_score = True
        return tags

    def fit(self, X: Any, y: Any, memberships: Any = None) -> GroupwiseRegressor:
        """One pass over X (n, d) and y (n,), from scratch.

        Parameters
        ----------
        X, y : array_like, shapes (n, d) and (n,)
            Rows and targets.
        memberships : array_like, shape (n, N), or data frame, optional
            0/1 flags in the place of the constructor's groups; everyone is appended. Not called
            `groups`, which scikit-learn's searches hand to their splitters.
        """
        before = self.__dict__.copy()
        for name in ("state_", "_place"):
            self.__dict__.pop(name, None)
        try:
            return self.partial_fit(X, y, memberships)
        except BaseException:  # what was learnt outlives a bad table
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    def partial_fit(self, X: Any, y: Any, memberships: Any = None) -> GroupwiseRegressor:
        """Go on with more rows; `memberships` as in the first call."""
        first = not hasattr(self, "state_")
        same_order(X=X, y=y, memberships=memberships)
        columns = list(X.columns) if isinstance(X, pd.DataFrame) else []
        X, y = validate_data(self, X, y, reset=first, dtype=np.float64, y_numeric=True, order="C")
        self._learn(X, np.asarray(y, dtype=np.float64), memberships)
        if first and columns:
            self._place = {name: i for i, name in enumerate(columns)}
        return self

    def _learn(self, X: np.ndarray, y: np.ndarray, memberships: Any) -> None:
        first = not hasattr(self, "state_")
        if not first:
            self._check_settings()
        active, names = self._members(X, memberships)
        if not first:
            self._check_names(names)
            span = self.span_
        elif self.target_range is None:
            span = range_of(y, "y")
        else:
            span = as_range(self.target_range, "target_range")
        outside = np.flatnonzero((y < span[0]) | (y > span[1]))
        if len(outside):
            row = int(outside[0])
            raise ValueError(
                f"y must lie in target_range [{span[0]:g}, {span[1]:g}], row {row} has {y[row]:g}"
            )
        if first:
            state = Forecaster(
                X.shape[1] + bool(self.fit_intercept),
                names,
                lam=self.lam,
                forecaster=self.forecaster,
            )
            self._settings = {k: copy(v) for k, v in self.get_params(deep=False).items()}
        else:
            state = self.state_
        state.learn(self._rows(X), (y - span[0]) / (span[1] - span[0]), active, np.zeros(len(X)))
        self.state_, self.span_ = state, span

    def _check_settings(self) -> None:
        """What was learnt has the settings with which it began."""
        for name, began in self._settings.items():
            now = getattr(self, name)
            lists = type(now) is type(began) is list
            if now is not began and not (now == began if lists else np.array_equal(now, began)):
                raise ValueError(
                    f"{name} must stay {began!r}, with which learning began, got {now!r}; "
                    "fit starts anew"
                )

    def _check_names(self, names: tuple[str, ...]) -> None:
        if names != self.state_.names:
            raise ValueError(
                f"memberships must be of the groups of the first call, "
                f"{', '.join(self.state_.names)}"
            )

    def _rows(self, X: np.ndarray) -> np.ndarray:
        return np.column_stack([X, np.ones(len(X))]) if self.fit_intercept else X

    def _members(self, X: np.ndarray, memberships: Any) -> tuple[np.ndarray, tuple[str, ...]]:
        """A block may lie in one group as a whole, so that everyone is always a group of its own."""
        if memberships is not None:
            return members(_named(memberships), X, whole=False)
        flags = {}
        for number, group in enumerate(self.groups or ()):
            if callable(group):
                flags[getattr(group, "__name__", "predicate") + f" {number}"] = group(X)
            elif isinstance(group, (int, np.integer)) and -X.shape[1] <= group < X.shape[1]:
                flags[f"column {group}"] = X[:, group]
            else:
                raise ValueError(
                    f"groups must hold numbers of columns, below {X.shape[1]}, or predicates, got "
                    f"{group!r}"
                )
        return members(flags, X, whole=False)

    def predict(self, X: Any, memberships: Any = None) -> np.ndarray:
        """Predictions (n,); `memberships` as in `fit`."""
        check_is_fitted(self, "state_")
        self._check_settings()
        same_order(X=X, memberships=memberships)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        active, names = self._members(X, memberships)
        self._check_names(names)
        low, high = self.span_
        return low + (high - low) * self.state_.predict(self._rows(X), active)

    def score(self, X: Any, y: Any, sample_weight: Any = None, memberships: Any = None) -> float:
        """R² of :meth:`predict`.

        Searches hand `memberships` on with scikit-learn's metadata routing: ``set_fit_request`` and
        ``set_score_request`` with ``memberships=True``.
        """
        predicted = self.predict(X, memberships)
        return float(r2_score(y, predicted, sample_weight=sample_weight))

    @property
    def group_report_(self) -> pd.DataFrame:
        """A row a group."""
        check_is_fitted(self, "state_")
        return self.state_.report()

    @property
    def certificates_(self) -> tuple[Certificate, ...]:
        """One a group."""
        check_is_fitted(self, "state_")
        source = "given" if self.target_range is not None else "read from the first rows"
        in_time = th.LABELS_IN_TIME.unchecked(
            "losses are of predictions made row by row as labels were learnt; those of `predict` for "
            "rows whose labels came later are not in them"
        )
        return self.state_.certificates(self.span_, source, in_time)

    def learn_one(self, x: Mapping[Any, float], y: float, memberships: Any = None) -> None:
        """Learn from one dictionary; its names are those of the first."""
        if not hasattr(self, "state_"):
            if self.target_range is None:
                raise ValueError("target_range must be given to learn row by row")
            place = {name: i for i, name in enumerate(x)}
            flags = None
            if memberships is not None:
                named = _named(memberships)
                flags = named if hasattr(named, "columns") else np.atleast_2d(named)
            self._learn(_row(x, place), np.array([float(y)]), flags)
            self._place, self.n_features_in_ = place, len(place)
            if all(isinstance(name, str) for name in place):
                self.feature_names_in_ = np.array(list(place), dtype=object)
            elif hasattr(self, "feature_names_in_"):
                del self.feature_names_in_
            return
        self._check_settings()
        row, target = _row(x, self._places(x)), float(y)
        low, high = self.span_
        if not low <= target <= high:
            raise ValueError(f"y must lie in target_range [{low:g}, {high:g}], got {target:g}")
        self.state_.learn(
            self._rows(row),
            np.array([(target - low) / (high - low)]),
            self._flags(row, memberships),
            np.zeros(1),
        )

    def predict_one(self, x: Mapping[Any, float], memberships: Any = None) -> float:
        """Prediction for one dictionary."""
        if not hasattr(self, "state_"):
            return float(as_range(self.target_range or (0, 1), "target_range")[0])
        self._check_settings()
        row, (low, high) = _row(x, self._places(x)), self.span_
        said = self.state_.predict(self._rows(row), self._flags(row, memberships))[0]
        return float(low + (high - low) * said)

    def _flags(self, row: np.ndarray, memberships: Any) -> np.ndarray:
        """Membership of one row in the order of the first call, without the detours of many rows."""
        if memberships is None:
            flags, given = self._members(row, None)
            self._check_names(given)
            return flags
        names, named = self.state_.names, _named(memberships)
        if hasattr(named, "columns"):
            given = {EVERYONE: True} | {str(c): named[c].iloc[0] for c in named.columns}
            if set(given) - {EVERYONE} != set(names) - {EVERYONE}:
                raise ValueError(
                    f"memberships must be of the groups of the first call, {', '.join(names)}"
                )
            flags = np.array([[given[name] for name in names]])
        else:
            flags = np.atleast_2d(named)
            if flags.shape == (1, len(names) - 1) and names[-1] == EVERYONE:
                flags = np.append(flags, [[True]], axis=1)
        if flags.shape != (1, len(names)):
            raise ValueError(
                f"memberships must be flags of one row, of {', '.join(names)}; got shape {flags.shape}"
            )
        if flags.dtype != bool:
            if not ((flags == 0) | (flags == 1)).all():
                raise ValueError("memberships must hold 0/1 only")
            flags = flags.astype(bool)
        return flags

    def _places(self, x: Mapping[Any, float]) -> dict[Any, int]:
        """Column of each feature; after `fit` that of the table, or the numbers of the columns."""
        if not hasattr(self, "_place"):
            d = self.n_features_in_
            names = list(getattr(self, "feature_names_in_", range(d)))
            if not hasattr(self, "feature_names_in_") and set(x) - set(names) and len(x) == d:
                names = list(x)  # fitted without names: the first row names the columns
            self._place = {name: i for i, name in enumerate(names)}
        return self._place


def _row(x: Mapping[Any, float], place: Mapping[Any, int]) -> np.ndarray:
    if not isinstance(x, Mapping):
        raise TypeError(f"x must be a dictionary of features, got {type(x).__name__}")
    if unknown := [name for name in x if name not in place]:
        raise ValueError(f"x must keep its features, got new {unknown}")
    row = np.zeros((1, len(place)))
    for name, value in x.items():
        row[0, place[name]] = value
    if not np.isfinite(row).all():
        raise ValueError("x must be finite, got NaN or infinity")
    return row


def _named(memberships: Any) -> Any:
    """One row by name, a dictionary or a named series, as a table."""
    if isinstance(memberships, pd.Series) and not isinstance(memberships.index, pd.RangeIndex):
        memberships = memberships.to_dict()
    return pd.DataFrame([memberships]) if isinstance(memberships, Mapping) else memberships
