"""A table cut into environments: rows checked, second moments of each, residuals of heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from whp.validate import as_frame, as_matrix, as_vector, column_names

__all__ = ["Environments", "Metric", "Rows", "cut", "groups", "read"]

Metric = Literal["excess", "excess_residual", "gradient"]
OFFSET32 = 1e4  # standard deviations from zero at which float32 columns have lost their digits
CONSTANT = 1e-13  # spread relative to the largest entry that is rounding
JITTER = 1e-14
NOISELESS = 1e-12  # share of the variance that is left where only rounding is


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of a table, as they were given.

    Attributes
    ----------
    X, y : ndarray, shape (n, p) and (n,)
    names : tuple of str
        Of the columns.
    """

    X: np.ndarray
    y: np.ndarray
    names: tuple[str, ...]


def read(X: Any, y: Any) -> Rows:
    """Finite numbers, with the column named where some are not."""
    X = as_frame(X)
    names = column_names(X)
    if hasattr(X, "isna"):
        missing = X.isna().sum()
        for name, count in zip(missing.index, missing.to_numpy(), strict=True):
            if count:
                raise ValueError(
                    f"X: column {str(name)!r} has {int(count):,} missing values; fill or drop them"
                )
    array = as_matrix(X, "X")
    names = tuple(f"x{j}" for j in range(array.shape[1])) if names is None else names
    if len(set(names)) < len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise ValueError(f"X: column {twice!r} is there {names.count(twice)} times; rename one")
    target = as_vector(y, "y", size=len(array))
    _warn_about_float32(array, names)
    _warn_about_float32(target[:, None], ("y",))
    return Rows(array.astype(np.float64), target.astype(np.float64), names)


def _warn_about_float32(array: np.ndarray, names: Sequence[str]) -> None:
    if array.dtype != np.float32:
        return
    import warnings

    wide = array.astype(np.float64)
    off = np.abs(wide.mean(axis=0)) > OFFSET32 * np.maximum(wide.std(axis=0), 1e-300)
    if off.any():
        warnings.warn(
            f"column {names[int(off.argmax())]!r} is float32 and far from zero: its digits are lost "
            "before it gets here; subtract a constant in float64",
            stacklevel=5,
        )


def groups(value: Any, argument: str, rows: int) -> tuple[np.ndarray, list[Any], int]:
    """Codes of labels, the labels in sorted order, and how many empty levels a categorical has.

    Raises
    ------
    ValueError
        If there is not one label a row, or one is missing.
    """
    import pandas as pd

    if np.ma.isMaskedArray(value) and np.ma.getmaskarray(value).any():
        raise ValueError(f"{argument} has masked labels; name them or drop their rows")
    made = value if isinstance(value, pd.Series | pd.Categorical | pd.Index) else None
    if made is None:
        array = np.asarray(value)
        if array.ndim != 1:
            raise ValueError(f"{argument} must have one label a row, got shape {array.shape}")
        if isinstance(value, list | tuple) and array.dtype.kind == "U":
            array = np.array(value, dtype=object)  # NaN among texts is no text
        made = pd.Series(array)
    if len(made) != rows:
        raise ValueError(f"{argument} must have one label a row, {rows:,}, got {len(made):,}")
    levels: Any = made.dtype
    empty = 0
    plain = pd.Series(made).reset_index(drop=True)
    none = plain.isna() | plain.isin([""])
    if none.any():
        raise ValueError(
            f"{argument} has {int(none.sum()):,} missing labels; name them or drop their rows"
        )
    ordered = False
    if isinstance(levels, pd.CategoricalDtype):
        empty, ordered = len(levels.categories), bool(levels.ordered)
        if not ordered:
            plain = plain.astype(levels.categories.dtype)
    try:
        if ordered:  # levels have an order of their own
            used, codes = np.unique(plain.cat.codes, return_inverse=True)
            unique = levels.categories[used]
        else:
            codes, unique = pd.factorize(plain, sort=True)
    except TypeError:
        codes, unique = pd.factorize(plain.astype(str), sort=True)
    labels = [v.item() if isinstance(v, np.generic) else v for v in unique]
    return codes.astype(np.int64), labels, max(0, empty - len(labels))


@dataclass(frozen=True, eq=False)
class Environments:
    """Second moments of environments, in columns of order one.

    Attributes
    ----------
    labels : list
    sizes : ndarray of int, shape (m,)
        Rows.
    A, b, variance : ndarray, shape (m, q, q), (m, q), (m,)
        Mean products of columns with columns and with the target, and the target's variance; about
        the environment's means, or with a last column of ones about constants of the whole table.
    mean_x, mean_y : ndarray, shape (m, p) and (m,)
        Of the scaled columns.
    shift, scale : ndarray, shape (p,)
        A scaled column is (x − shift) / scale.
    shift_y, scale_y : float
    block : ndarray of int, shape (m,)
        Environments of one block are one draw.
    center : bool
    """

    labels: list[Any]
    sizes: np.ndarray
    A: np.ndarray
    b: np.ndarray
    variance: np.ndarray
    mean_x: np.ndarray
    mean_y: np.ndarray
    shift: np.ndarray
    scale: np.ndarray
    shift_y: float
    scale_y: float
    block: np.ndarray
    center: bool

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, kept: np.ndarray) -> Environments:
        """Some of the environments."""
        where = np.flatnonzero(kept)
        parts = ("sizes", "A", "b", "variance", "mean_x", "mean_y", "block")
        return replace(
            self,
            labels=[self.labels[i] for i in where],
            **{name: getattr(self, name)[where] for name in parts},
        )

    @property
    def draws(self) -> int:
        """Number of blocks: of independent draws."""
        return len(np.unique(self.block))

    def of_blocks(self, values: np.ndarray) -> np.ndarray:
        """The largest value of each block, along the last axis."""
        order = np.argsort(self.block, kind="stable")
        starts = np.flatnonzero(np.diff(self.block[order], prepend=-1))
        return np.maximum.reduceat(values[..., order], starts, axis=-1)

    def columns(self, subsets: np.ndarray) -> np.ndarray:
        """Subsets with the column of ones, where there is one."""
        if self.center:
            return subsets
        ones = np.full((len(subsets), 1), self.A.shape[1] - 1)
        return np.hstack([subsets, ones])

    def problem(
        self, subsets: np.ndarray, metric: Metric
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """M and z of the residuals ‖M w − z‖ of subsets (B, s), and the smallest pivot of each.

        A pivot is the share of a column's variance that the columns before it leave in an environment.
        """
        S = self.columns(subsets)
        A = self.A[:, S[:, :, None], S[:, None, :]].swapaxes(0, 1)
        b = self.b[:, S].swapaxes(0, 1)
        if metric == "gradient":
            units = np.append(self.scale, 1.0)[S][:, None, :] * self.scale_y
            M, z = units[..., None] * A, units * b
            if not self.center:  # about zero, not about the shift
                shift = self.shift[subsets][:, None, :]
                M[..., :-1, :] += shift[..., None] * M[..., -1:, :]
                z[..., :-1] += shift * z[..., -1:]
            return M, z, np.ones(len(S))
        size = np.sqrt(np.einsum("bmii->bmi", A))
        C = A / (size[..., :, None] * size[..., None, :])
        root = _root(C)
        pivots = np.einsum("bmii->bmi", root).min(axis=(1, 2)) ** 2
        unit = np.sqrt(self.variance)[None, :, None]
        z = np.linalg.solve(root, (b / size / unit)[..., None])[..., 0]
        M = root.swapaxes(2, 3) * size[..., None, :] / unit[..., None]
        if metric == "excess_residual":
            left = self.total - (z**2).sum(axis=2)
            pivots = np.where(left.min(axis=1) <= NOISELESS, 0.0, pivots)
            left = np.sqrt(np.maximum(left, NOISELESS))[..., None]
            M, z = M / left[..., None], z / left
        return M, z, pivots

    @property
    def total(self) -> np.ndarray:
        """Mean square of the target, about its own mean or that of the table, as a share of its variance."""
        return np.ones(len(self)) + (not self.center) * self.mean_y**2 / self.variance

    def standard_gradient(self, subset: np.ndarray, w: np.ndarray) -> np.ndarray:
        """Length of each environment's normal equations, in its own deviations of columns and target."""
        return np.linalg.norm(self.equations(subset, w), axis=1)

    def equations(self, subset: np.ndarray, w: np.ndarray) -> np.ndarray:
        """A w − b of each environment, about its own means, in its own deviations of columns and target.

        With ``center=False`` the last is the mean residual.
        """
        S = self.columns(subset[None])[0]
        A, b = self.A[:, S[:, None], S], self.b[:, S]
        off, square = A @ w - b, np.einsum("mii->mi", A).copy()
        if not self.center:
            means = self.mean_x[:, subset]
            off[:, :-1] -= means * off[:, -1:]
            square[:, :-1] -= means**2
        with np.errstate(divide="ignore", invalid="ignore"):  # means so far away are not well-posed
            return off / np.sqrt(square) / np.sqrt(self.variance)[:, None]

    def condition(self, subset: np.ndarray) -> np.ndarray:
        """Condition number of each environment's moments, columns scaled to size one."""
        S = self.columns(subset[None])[0]
        A = self.A[:, S[:, None], S]
        size = np.sqrt(np.einsum("mii->mi", A))
        values = np.linalg.eigvalsh(A / (size[:, :, None] * size[:, None, :]))
        return values[:, -1] / np.maximum(values[:, 0], 1e-300)

    def zero(self, size: int) -> np.ndarray:
        """The head that says nothing: the environment's mean, or one mean for all."""
        w = np.zeros(size + (not self.center))
        if not self.center:
            w[-1] = self.mean_y.mean()
        return w


def _root(C: np.ndarray) -> np.ndarray:
    """Cholesky factors of correlation matrices, of singular ones too."""
    eye = np.eye(C.shape[-1])
    for jitter in (JITTER, 1e-12, 1e-9):
        try:
            return np.linalg.cholesky(C + jitter * eye)
        except np.linalg.LinAlgError:
            continue
    raise ValueError("X has columns whose second moments are not finite; rescale them")


def cut(
    rows: Rows, codes: np.ndarray, labels: list[Any], block: np.ndarray, center: bool
) -> Environments:
    """Moments of every environment, means first and products of what is left then.

    Raises
    ------
    ValueError
        If a column or the target is constant in an environment.
    """
    order = np.argsort(codes, kind="stable")
    sizes = np.bincount(codes, minlength=len(labels))
    starts = np.cumsum(sizes) - sizes
    X, y = rows.X[order], rows.y[order]
    for j, name in enumerate(rows.names):
        _refuse_constant(X[:, j], starts, labels, f"column {name!r}")
    _refuse_constant(y, starts, labels, "y")
    X, shift, scale, mean_x = _centred(X, starts, sizes)
    Y, shift_y, scale_y, mean_y = _centred(y[:, None], starts, sizes)
    y = Y[:, 0]
    m, p = len(labels), X.shape[1]
    A, b, variance = np.empty((m, p, p)), np.empty((m, p)), np.empty(m)
    for e, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        part, target = X[start : start + size], y[start : start + size]
        A[e], b[e], variance[e] = (
            part.T @ part / size,
            part.T @ target / size,
            target @ target / size,
        )
    if not center:
        one = mean_y[:, 0]
        A = np.concatenate([A + mean_x[:, :, None] * mean_x[:, None], mean_x[:, None, :]], axis=1)
        last = np.concatenate([mean_x, np.ones((m, 1))], axis=1)
        A = np.concatenate([A, last[:, :, None]], axis=2)
        b = np.concatenate([b + mean_x * one[:, None], one[:, None]], axis=1)
    return Environments(
        labels,
        sizes,
        A,
        b,
        variance,
        mean_x,
        mean_y[:, 0],
        shift,
        scale,
        float(shift_y[0]),
        float(scale_y[0]),
        block,
        center,
    )


def _centred(
    X: np.ndarray, starts: np.ndarray, sizes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Columns about the means of their environments, in units of their own; shift, scale, means."""
    means = np.add.reduceat(X, starts, axis=0) / sizes[:, None]
    X = X - np.repeat(means, sizes, axis=0)  # not by way of a common shift: it swamps small ones
    more = np.add.reduceat(X, starts, axis=0) / sizes[:, None]
    X -= np.repeat(more, sizes, axis=0)
    top = np.abs(X).max(axis=0)
    X /= top
    unit = np.sqrt(np.einsum("ij,ij->j", X, X) / len(X))
    shift, scale = means.mean(axis=0), top * unit
    return X / unit, shift, scale, (means - shift + more) / scale


def _refuse_constant(values: np.ndarray, starts: np.ndarray, labels: list[Any], what: str) -> None:
    low, high = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
    same = high - low <= CONSTANT * np.maximum(np.abs(low), np.abs(high))
    if same.any():
        raise ValueError(
            f"{what} is constant in environment {labels[int(same.argmax())]!r}"
            + (f" and {int(same.sum()) - 1:,} others" if same.sum() > 1 else "")
            + "; leave it out, or drop that environment"
        )
