from dataclasses import dataclass

import numpy as np
import pytest

from whp.certificate import Certificate, Relation
from whp.intervals import exact
from whp.result import Result


@dataclass(frozen=True, eq=False)
class Toy(Result):
    name: str
    value: float
    array: np.ndarray
    certificates: tuple[Certificate, ...]

    def draw(self, ax):
        ax.plot(self.array)


CERTIFICATE = Certificate("c", "claim", "source", Relation.AT_MOST, 1.0, 1.0, exact(0.5), 2.0)


def toy(name="toy"):
    return Toy(name, 0.5, np.arange(3.0), (CERTIFICATE,))


def test_it_draws_on_given_axes_and_on_its_own():
    import matplotlib.pyplot as plt

    ax = plt.subplots()[1]
    assert toy().plot(ax) is ax
    assert len(toy().plot().lines) == 1
    plt.close("all")
    with pytest.raises(TypeError, match="no picture"):
        Result.draw(toy(), ax)


def test_a_notebook_shows_picture_summary_and_certificates():
    shown = toy("<script>alert(1)</script>\x1b[31m")._repr_html_()
    assert "<svg" in shown
    assert "holds" in shown
    assert "<script>alert" not in shown
    assert "\x1b" not in shown


def test_a_summary_is_text_not_markup():
    from rich.console import Console

    with Console(record=True, width=80, file=open("/dev/null", "w")) as console:
        console.print(toy("[/] [red]x"))
    assert "[/] [red]x" in console.export_text()
