"""What every front door returns: a frozen dataclass that can be printed, saved and drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from whp.certificate import Certificate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.table import Table

__all__ = ["Result"]


class Result:
    """Base of the front doors' frozen result dataclasses.

    A subclass has a field `certificates`, implements :meth:`plot`, and may override :meth:`summary`, :meth:`artifacts` and
    `__rich__` where the defaults, made from its fields, are not what a user wants to read or keep.
    """

    certificates: tuple[Certificate, ...]
    __dataclass_fields__: ClassVar[dict[str, Any]]

    def _fields(self) -> dict[str, Any]:
        assert is_dataclass(self)
        return {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if f.repr and f.name != "certificates"
        }

    def summary(self) -> dict[str, bool | int | float | str | None]:
        """The scalars that say how it went, in the order in which a reader wants them."""
        scalars = (bool, int, float, str, np.generic)
        found = {k: v for k, v in self._fields().items() if isinstance(v, scalars)}
        return {k: v.item() if isinstance(v, np.generic) else v for k, v in found.items()}

    def artifacts(self) -> Mapping[str, Any]:
        """What to save: file name to object, written by :func:`whp.io.write` according to the name's ending."""
        import pandas as pd

        values = self._fields()
        arrays = {k: v for k, v in values.items() if isinstance(v, np.ndarray)}
        tables = {f"{k}.csv": v for k, v in values.items() if isinstance(v, pd.DataFrame)}
        return {**({"arrays.npz": arrays} if arrays else {}), **tables}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the result on `ax` (a new figure's if None) and return it."""
        raise TypeError(f"{type(self).__name__} has no picture")

    def __rich__(self) -> Table:
        from rich.table import Table

        table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
        for name, value in self.summary().items():
            table.add_row(
                name.replace("_", " "), f"{value:.6g}" if isinstance(value, float) else str(value)
            )
        return table
