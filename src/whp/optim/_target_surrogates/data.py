"""A table and targets as the method wants them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import issparse

from whp.conditions import finite_scale
from whp.validate import as_frame, as_matrix, as_sparse, as_vector, column_names

__all__ = ["as_design", "check_scale", "encode_targets"]


def as_design(X: Any) -> tuple[Any, tuple[str, ...], np.ndarray]:
    """X as a finite float64 matrix, dense or sparse, its columns' names, and which are constant."""
    names = column_names(X)
    if issparse(X):
        A: Any = as_sparse(X, "X").tocsr()
        if A.ndim != 2 or 0 in A.shape:
            raise ValueError(f"X must be 2-dimensional and not empty, got shape {A.shape}")
        if not np.isfinite(A.data).all():
            raise ValueError("X must be finite, got NaN or infinity")
        check_scale(A.data, "X")
        least, most = (np.ravel(end(axis=0).toarray()) for end in (A.min, A.max))
        constant = (least == most) & (most != 0)
        return A, names or tuple(f"x{j}" for j in range(A.shape[1])), constant
    A = as_matrix(X, "X", dtype=np.float64)
    check_scale(A, "X")
    constant = (A[0] == A).all(axis=0) & (A[0] != 0)
    return A, names or tuple(f"x{j}" for j in range(A.shape[1])), constant


def check_scale(array: Any, name: str) -> None:
    """Refuse numbers whose squares would over- or underflow."""
    array = np.asarray(array)
    if array.size and not finite_scale(array)[0]:
        raise ValueError(f"{name} reaches {np.abs(array).max():.3g}; scale it")


def encode_targets(y: Any, n: int, loss: str) -> tuple[np.ndarray, str, np.ndarray | None]:
    """Targets as numbers, the loss's name, and the classes if there are any.

    Text and True/False are classes; whole numbers are numbers, unless the loss says otherwise.
    """
    y = as_frame(y)
    if np.ma.isMaskedArray(y) and np.ma.getmaskarray(y).any():
        raise ValueError("y must have no masked entries; fill them or drop their rows")
    values = np.asarray(y)
    if values.ndim != 1:
        raise ValueError(f"y must be one-dimensional, got shape {values.shape}")
    if len(values) != n:
        raise ValueError(f"y must have {n} entries, one a row, got {len(values)}")
    entries = values.tolist()
    text = values.dtype.kind in "USb" or (
        values.dtype.kind == "O" and any(isinstance(v, str | bool) for v in entries)
    )
    wanted = loss if loss != "auto" else ("softmax" if text else "squared")
    if wanted not in ("logistic", "softmax"):
        numbers = as_vector(y, "y", size=n, dtype=np.float64)
        check_scale(numbers, "y")
        if wanted == "poisson" and (numbers < 0).any():
            raise ValueError("y must be at least 0 for loss='poisson'")
        return numbers, wanted, None
    missing = int(pd.isna(values).sum())
    if missing:
        raise ValueError(
            f"y has {missing:,} missing values of {n:,}; leave these rows out, they are no class"
        )
    if not text and values.dtype.kind not in "iuf":
        values = as_vector(y, "y", size=n, dtype=np.float64)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError("y must be finite, got NaN or infinity")
    kinds = {type(v) for v in entries}
    if text and len(kinds) > 1:
        raise TypeError(f"y must hold labels of one kind, got {sorted(k.__name__ for k in kinds)}")
    text_like = text and values.dtype.kind != "b"
    classes, codes = np.unique(values.astype(str) if text_like else values, return_inverse=True)
    if len(classes) < 2:
        raise ValueError("y must hold at least two classes, got one")
    if wanted == "logistic" and len(classes) > 2:
        raise ValueError(
            f"y must hold two classes for loss='logistic', got {len(classes)}; take 'softmax'"
        )
    name = "logistic" if len(classes) == 2 else "softmax"
    return codes.astype(np.float64 if name == "logistic" else np.int64), name, classes
