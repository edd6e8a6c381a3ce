"""A page that shows what excites each neuron."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from whp.io import write
from whp.validate import as_int

if TYPE_CHECKING:
    from whp.interpretability.sae_gba.features import SparseFeatures

__all__ = ["page"]

STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "section{border-top:1px solid #ddd;padding:.6rem 0}h2{font-size:1rem;margin:0}small{color:#666}"
    "ol{margin:.3rem 0;padding-left:1.6rem}mark{border-radius:.2rem;padding:0 .2rem}"
    "@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}small{color:#999}mark{color:#111}section{border-color:#333}}"
)


def page(
    features: SparseFeatures, path: Path, texts: Sequence[str], neurons: Sequence[int] | None
) -> None:
    """Write the page; all text is escaped."""
    most = int(features.examples.max())
    if len(texts) <= most:
        raise ValueError(
            f"texts must have an entry for every row of the activations, got {len(texts)}, row {most} is needed"
        )
    if neurons is None:
        order = (
            features.consistency if np.isfinite(features.consistency).any() else features.frequency
        )
        live = np.flatnonzero(features.frequency > 0)
        neurons = live[np.argsort(-order[live], kind="stable")][:100].tolist()
    chosen = [as_int(m, "neurons", low=0, high=features.n_neurons - 1) for m in list(neurons or ())]
    body = "".join(_neuron(features, m, texts) for m in chosen)
    told = "".join(
        f"<li>{html.escape(c.name)}: <b>{c.verdict}</b>, {html.escape(c.claim)}</li>"
        for c in features.certificates
    )
    write(
        path,
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{features.n_neurons} features</title><style>{STYLE}</style><h1>{len(chosen)} of {features.n_neurons} features</h1>"
        f"<p>{html.escape(str(features.fvu))} of the variance is unexplained, {features.active:.1f} neurons fire on a row.</p>"
        f"<ul>{told}</ul>{body}</html>",
    )


def _neuron(features: SparseFeatures, m: int, texts: Sequence[str]) -> str:
    examples = features.top_examples(m)
    top = max(float(examples["code"].max()), 1e-30) if len(examples) else 1.0
    items = "".join(
        f'<li><mark style="background:rgba(255,190,60,{0.15 + 0.85 * code / top:.2f})">{html.escape(str(texts[row]))}</mark> '
        f"<small>{code:.3f}</small></li>"
        for row, code in zip(examples["row"], examples["code"], strict=True)
    )
    again = features.consistency[m]
    told = f", cosine {again:.2f} to another seed" if np.isfinite(again) else ""
    return (
        f'<section id="n{m}"><h2>Feature {m}</h2><small>fires on {features.frequency[m]:.3%} of new rows, target '
        f"{features.target[m]:.3%}{told}</small><ol>{items or '<li>nothing</li>'}</ol></section>"
    )
