"""A page that shows what excites each neuron."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from whp.certificate import Certificate
from whp.io import write

__all__ = ["NeuronCard", "page"]

STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "section{border-top:1px solid #ddd;padding:.6rem 0}h2{font-size:1rem;margin:0}small{color:#666}"
    "ol{margin:.3rem 0;padding-left:1.6rem}mark{border-radius:.2rem;padding:0 .2rem}"
    "@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}small{color:#999}mark{color:#111}section{border-color:#333}}"
)


@dataclass(frozen=True)
class NeuronCard:
    """What the page shows of one neuron.

    Parameters
    ----------
    number : int
        Which.
    frequency, target : float
        Share of held-out rows on which it fires, and the share that was aimed at, NaN where none was.
    consistency : float
        Cosine to its counterpart under another seed; NaN where there is none.
    examples : sequence of (str, float)
        Texts that excite it most, with its codes.
    """

    number: int
    frequency: float
    target: float
    consistency: float
    examples: Sequence[tuple[str, float]]


def page(
    path: Path,
    title: str,
    summary: str,
    certificates: Sequence[Certificate],
    cards: Sequence[NeuronCard],
) -> None:
    """Write the page; all text is escaped."""
    verdicts = "".join(
        f"<li>{html.escape(c.name)}: <b>{c.headline}</b>, {html.escape(c.claim)}</li>"
        for c in certificates
    )
    write(
        path,
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style><h1>{html.escape(title)}</h1>"
        f"<p>{html.escape(summary)}</p><ul>{verdicts}</ul>"
        f"{''.join(map(_section, cards))}</html>",
    )


def _section(card: NeuronCard) -> str:
    top = max((code for _, code in card.examples), default=1.0)
    items = "".join(
        f'<li><mark style="background:rgba(255,190,60,{0.15 + 0.85 * code / max(top, 1e-30):.2f})">'
        f"{html.escape(text)}</mark> <small>{code:.3f}</small></li>"
        for text, code in card.examples
    )
    again = card.consistency
    aim = f", target {card.target:.3%}" if np.isfinite(card.target) else ""
    told = f", cosine {again:.2f} to another seed" if np.isfinite(again) else ""
    return (
        f'<section id="n{card.number}"><h2>Feature {card.number}</h2><small>fires on '
        f"{card.frequency:.3%} of held-out rows{aim}{told}</small>"
        f"<ol>{items or '<li>nothing</li>'}</ol></section>"
    )
