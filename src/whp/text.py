"""Text of users and their files, made safe to show."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

__all__ = ["nearest", "visible"]

# Control characters, those that turn the direction of writing or have no width, lone surrogates, and what XML forbids. The
# joiners U+200C and U+200D are left: Persian and emoji need them.
_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff"
    "\ufff9-\ufffb\ufffe\uffff\ud800-\udfff\U000e0000-\U000e007f]"
)


def visible(text: str, keep: str = "\n\t") -> str:
    r"""`text` with characters that a reader cannot see shown as escapes.

    A terminal would obey them (``\x1b[2J`` clears the screen), a browser would turn the line around, an XML parser would stop.

    Parameters
    ----------
    text : str
        From a file, an option or a name.
    keep : str
        Characters to leave as they are; by default line breaks and tabs.

    Examples
    --------
    >>> print(visible("price\x1b[31m"))
    price\x1b[31m
    """
    return _HIDDEN.sub(
        lambda found: (
            found[0] if found[0] in keep else found[0].encode("unicode_escape").decode("ascii")
        ),
        text,
    )


def nearest(name: str, names: Iterable[str]) -> str:
    """``"; did you mean 'Price'?"`` where one of `names` is close to `name`, else nothing."""
    folded: dict[str, str] = {}
    for known in names:
        folded.setdefault(known.casefold(), known)
    close = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
    if not close:
        close = [f for f in folded if name and name.casefold() in f][:1]
    return f"; did you mean {folded[close[0]]!r}?" if close else ""
