"""What every front door returns: a frozen dataclass that can be printed, saved, drawn, shown."""

from __future__ import annotations

import html
import io
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from whp.certificate import Certificate
from whp.text import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.table import Table

__all__ = ["PALETTE", "Result"]

# One palette for results, studies and the page: colour-blind safe, legible on white and on black.
PALETTE = {
    "ours": "#2a7de1",
    "other": "#e07b00",
    "third": "#3d9a50",
    "fourth": "#a05cc9",
    "truth": "#d03a3a",
    "quiet": "#8a8f98",
}


class Result:
    """Base of the front doors' frozen result dataclasses.

    A subclass has a field `certificates`, implements :meth:`draw`, and may override
    :meth:`summary`, :meth:`artifacts` and `__rich__` where the defaults, made from its fields, are
    not what a user wants to read or keep.
    """

    certificates: tuple[Certificate, ...]
    __dataclass_fields__: ClassVar[dict[str, Any]]
    figure_size: ClassVar[tuple[float, float]] = (6.4, 4.0)

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
        values = {k: v for k, v in self._fields().items() if isinstance(v, scalars)}
        return {k: v.item() if isinstance(v, np.generic) else v for k, v in values.items()}

    def artifacts(self) -> Mapping[str, Any]:
        """What to save: file name to object, written by :func:`whp.io.write` by the name's ending."""
        import pandas as pd

        values = self._fields()
        arrays = {k: v for k, v in values.items() if isinstance(v, np.ndarray)}
        tables = {f"{k}.csv": v for k, v in values.items() if isinstance(v, pd.DataFrame)}
        return {**({"arrays.npz": arrays} if arrays else {}), **tables}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the result on `ax`, by default on the axes of a new figure, and return them."""
        if ax is None:
            import matplotlib.pyplot as plt

            ax = plt.subplots(figsize=self.figure_size, layout="constrained")[1]
        self.draw(ax)
        return ax

    def draw(self, ax: Axes) -> None:
        """Draw the result on `ax`; what a subclass implements."""
        raise TypeError(f"{type(self).__name__} has no picture")

    def __rich__(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
        for name, value in self.summary().items():
            table.add_row(name.replace("_", " "), Text(_shown(value)))
        return table

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name.replace('_', ' '))}</th>"
            f"<td>{html.escape(_shown(value))}</td></tr>"
            for name, value in self.summary().items()
        )
        certificates = "".join(c._repr_html_() for c in self.certificates)
        return f"<div class='whp-result'>{self._picture()}<table>{rows}</table>{certificates}</div>"

    def _picture(self) -> str:
        """The picture as inline SVG; nothing where matplotlib is not installed."""
        try:
            from matplotlib.figure import Figure
        except ModuleNotFoundError:
            return ""
        figure = Figure(figsize=self.figure_size, layout="constrained")
        self.plot(figure.subplots())
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
        return text.getvalue()[text.getvalue().index("<svg") :]


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else visible(str(value))
