"""One HTML page: the ledger at a glance, then a card a method. Nothing is loaded from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from whp.catalogue import Method
from whp.certificate import Certificate, Verdict
from whp.experiment.findings import Published
from whp.result import PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Card", "page", "svg"]

INK = "#123456"  # stands for the page's text colour in a picture, so that it follows dark mode
ORDER = (
    Verdict.HOLDS,
    Verdict.INCONCLUSIVE,
    Verdict.UNMEASURED,
    Verdict.VACUOUS,
    Verdict.FAILS,
    Verdict.VOID,
)


@dataclass(frozen=True)
class Card:
    """What the page shows of one method.

    Parameters
    ----------
    method : Method
        Its row of the catalogue.
    data, quantity, ours, baseline, baseline_name, caption, code : str
        See :class:`whp.experiment.study.Showcase`; those that are empty are not shown.
    seconds : float
        How long it ran.
    certificates : tuple of Certificate
        Those of the run.
    picture : str
        From :func:`svg`.
    summary : mapping
        Further scalars to show.
    findings : Published, optional
        What its study found.
    error : str
        Why it could not be shown.
    """

    method: Method
    data: str = ""
    quantity: str = ""
    ours: str = ""
    baseline: str = ""
    baseline_name: str = ""
    caption: str = ""
    code: str = ""
    seconds: float = 0.0
    certificates: tuple[Certificate, ...] = ()
    picture: str = ""
    summary: Mapping[str, object] = field(default_factory=dict)
    findings: Published | None = None
    error: str = ""

    @property
    def verdicts(self) -> list[tuple[str, int]]:
        """Verdicts of the certificates with their counts, best first."""
        count = Counter(c.verdict for c in self.certificates)
        return [(str(v), count[v]) for v in ORDER if count[v]]


def svg(
    draw: Callable[[Figure], object], *, salt: str, size: tuple[float, float] = (7.2, 4.2)
) -> str:
    """A picture as inline SVG that takes its text colour from the page.

    Parameters
    ----------
    draw : callable
        Draws on an empty figure.
    salt : str
        Makes the identifiers inside unique on the page.
    size : tuple of float
        Inches.
    """
    import matplotlib
    from cycler import cycler

    settings: dict[Any, Any] = {
        **dict.fromkeys(
            ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK
        ),
        "svg.fonttype": "none",
        "svg.hashsalt": salt,
        "font.family": "sans-serif",
        "font.size": 11,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.facecolor": "none",
        "figure.facecolor": "none",
        "legend.frameon": False,
        "axes.prop_cycle": cycler(color=list(PALETTE.values())),
    }
    with matplotlib.rc_context(settings):
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure

        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure)
        for ax in figure.axes:
            _plain_ticks(ax)
        out = io.StringIO()
        figure.savefig(
            out,
            format="svg",
            metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
        )
    text = out.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r'\1 role="img"', text, count=1)
    prefix = hashlib.sha256(salt.encode()).hexdigest()[:8]
    return re.sub(r'((?:\bid="|xlink:href="#|href="#|url\(#))', rf"\g<1>{prefix}-", text)


def _plain_ticks(ax: Axes) -> None:
    """Ticks of a short logarithmic axis as plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for axis in (ax.xaxis, ax.yaxis):
        low, high = sorted(axis.get_view_interval())
        if axis.get_scale() == "log" and low > 0 and high < 100 * low:
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(
                FuncFormatter(lambda x, _: f"{x:,.0f}" if x >= 1 else f"{x:g}")
            )
            axis.set_minor_formatter(NullFormatter())


def page(cards: Sequence[Card], *, title: str = "whp", lead: str = "") -> str:
    """The page as text. Whatever comes from users' data is escaped; no script or style but the page's own can run."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    def read(name: str) -> str:
        return (files("whp") / "report" / name).read_text(encoding="utf-8")

    script = read("filter.js")
    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters["number"] = lambda x: f"{x:.4g}" if isinstance(x, float) else str(x)
    environment.filters["svg"] = Markup
    return environment.from_string(read("page.html.j2")).render(
        cards=cards,
        title=title,
        lead=lead,
        style=Markup(read("page.css")),
        script=Markup(script),
        hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        verdicts=_total(cards),
        outcomes=Counter(str(f.outcome) for c in cards if c.findings for f in c.findings.findings),
    )


def _total(cards: Sequence[Card]) -> list[tuple[str, int]]:
    count = Counter(c.verdict for card in cards for c in card.certificates)
    return [(str(v), count[v]) for v in ORDER if count[v]]
