"""The parts of the method pages that are generated: what is declared is not typed twice."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from whp.catalogue import CATALOGUE
from whp.theorem import Theorem

__all__ = ["refresh", "refreshed", "theorem_block"]

BEGIN, END = "<!-- theorems -->", "<!-- /theorems -->"


def theorem_block(theorems: Sequence[Theorem]) -> str:
    """Markdown list of theorems: claim, what is measured, scope, source, conditions."""
    lines = [BEGIN]
    for t in theorems:
        source = str(t.source)
        if "#" in source:
            source = f"[derived here](#{source.rpartition('#')[2]})"
        conditions = "; ".join(c.statement for c in t.conditions) or "none"
        lines += [
            "",
            f"**`{t.name}`**: {t.claim}.",
            f"Measured: {t.quantity}, promised {t.relation.words} the bound. About {t.scope}. "
            f"Source: {source}.",
            f"Rests on: {conditions}.",
        ]
    return "\n".join([*lines, "", END])


def refreshed(text: str, theorems: Sequence[Theorem]) -> str:
    """The page with its block of theorems made anew.

    Raises
    ------
    ValueError
        If the page has no place for it.
    """
    if BEGIN not in text or END not in text:
        raise ValueError(f"the page needs a block between {BEGIN} and {END}")
    block = theorem_block(theorems)
    return re.sub(f"{BEGIN}.*?{END}", lambda _: block, text, flags=re.DOTALL)


def refresh(root: Path = Path()) -> list[Path]:
    """Write the blocks of all pages of methods with declared theorems; the pages that changed."""
    changed = []
    for method in CATALOGUE:
        page = root / "docs" / "methods" / f"{method.slug}.md"
        if not method.theorems:
            continue
        old = page.read_text(encoding="utf-8")
        new = refreshed(old, method.load_theorems())
        if new != old:
            page.write_text(new, encoding="utf-8")
            changed.append(page)
    return changed
