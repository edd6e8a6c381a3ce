"""Text from users' files on its way to a screen or a page."""

from __future__ import annotations

import unicodedata

__all__ = ["visible"]


def visible(text: str) -> str:
    """`text` with control and bidirectional characters shown as escapes, line breaks and tabs kept.

    A name in a file must not move the cursor, change the window's title or reverse a line.
    """
    if text.isprintable():
        return text
    return "".join(
        c
        if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
        else c.encode("unicode_escape").decode()
        for c in text
    )
