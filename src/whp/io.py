"""Files in and out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Data"]

Kind = Literal["matrix", "design", "vector", "labels", "graph", "table", "text"]


@dataclass(frozen=True)
class Data:
    """Marks a parameter that the command line fills from files: ``A: Annotated[ArrayLike, Data("matrix")]``.

    Parameters
    ----------
    kind : {"matrix", "design", "vector", "labels", "graph", "table", "text"}
        What is read; ``"design"`` is a matrix with an intercept and drop-first dummies for text columns.
    column : str, optional
        For a vector or labels out of a table: name of the option that says which column, by default the parameter's name.
    """

    kind: Kind
    column: str | None = None
