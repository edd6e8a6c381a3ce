"""Where the command line prints: consoles that show the text of users as text, on any terminal and into any file."""

from __future__ import annotations

import codecs
import contextlib
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderResult
from rich.markup import escape
from rich.segment import Segment

from whp.text import visible

__all__ = ["STDIN", "complain", "console", "errors", "noted", "plain_streams"]

STDIN = "<standard input>"  # what a lone "-" becomes, which the parser would take for an option
PLAIN = {  # for encodings that lack them; a check mark that became "?" would say that nobody checked
    "✓": "+",
    "✗": "x",
    "→": "->",
    "≤": "<=",
    "≥": ">=",
    "−": "-",
    "–": "-",
    "—": "-",
    "·": "-",
    "…": "...",
    "×": "x",
    "±": "+-",
    "ℓ": "l",
    "√": "sqrt ",
    "∞": "inf",
}


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(PLAIN.get(c, "?") for c in lacking), error.end


codecs.register_error("whp.plain", _replace)


def plain_streams() -> None:
    """Let output and error streams replace what their encoding lacks, instead of stopping."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure: Any = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="whp.plain")


class _Visible:
    """Anything printable, its control characters shown as escapes."""

    def __init__(self, inner: ConsoleRenderable) -> None:
        self.inner = inner

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self.inner, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


class _Hook:
    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Visible(r) for r in renderables]  # type: ignore[misc]


def console(*, stderr: bool = False, markup: bool = True, **options: Any) -> Console:
    """A console; without `markup` brackets in text are brackets, wherever it comes from."""
    made = Console(stderr=stderr, markup=markup, **options)
    made.push_render_hook(_Hook())  # type: ignore[arg-type]
    return made


def errors() -> Console:
    """The console of the error stream."""
    return console(stderr=True)


def complain(message: str) -> None:
    """A sentence on the error stream."""
    errors().print(f"[bold red]whp:[/] {escape(message)}", soft_wrap=True, highlight=False)


@contextlib.contextmanager
def noted() -> Iterator[list[str]]:
    """Print warnings as one line each, without the source that they came from, and collect them."""
    found: list[str] = []

    def show(message: Warning | str, *args: Any, **kwargs: Any) -> None:
        text = " ".join(str(message).split())
        if text not in found:
            found.append(text)
            errors().print(
                f"[bold yellow]whp: note:[/] {escape(text)}", soft_wrap=True, highlight=False
            )

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield found
