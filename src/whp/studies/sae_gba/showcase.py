"""The built-in example, and the method at work beside TopK."""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from whp.experiment.study import Showcase
from whp.experiment.threads import pinned
from whp.interpretability._sae_gba.front_door import sae_gba
from whp.interpretability._sae_gba.training import Training
from whp.result import PALETTE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["example", "showcase"]


@lru_cache(maxsize=1)
def _some() -> tuple[np.ndarray, list[str], np.ndarray]:
    from whp.datasets.activations import transformer_activations

    return transformer_activations(every=96)


def example() -> dict[str, Any]:
    """A transformer's activations on 324 verses, and a dictionary of 512."""
    A, _, groups = _some()
    return {
        "activations": A,
        "groups": groups,
        "n_neurons": 512,
        "high": 0.1,
        "low": 2e-3,
        "training": Training(steps=600, batch_size=256, lr=2e-3),
        "rng": 0,
    }


def showcase() -> Showcase:
    """Frequencies that were asked for and those that came out, and what one feature answers to."""
    data = example()
    shared = {k: v for k, v in data.items() if k not in ("high", "low")}
    with warnings.catch_warnings(), pinned(1):
        warnings.filterwarnings("ignore", message=".*rows are few")
        ours = sae_gba(**data)
        theirs = sae_gba(**shared, method="topk", k=max(1, round(ours.active)))
    texts = _some()[1]
    live = np.flatnonzero((ours.frequency > 0) & (ours.frequency < 0.05))
    shown = live[np.argsort(-ours.consistency[live], kind="stable")][:3]

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.3))
        ours.draw(left)
        topk = np.sort(theirs.frequency)[::-1]
        places = np.flatnonzero(topk > 0)
        left.plot(places, topk[places], color=PALETTE["third"], label="TopK, by frequency")
        left.legend(frameon=False, fontsize=7)
        right.axis("off")
        y = 0.98
        for m in shown:
            said = f"feature {m}, on {ours.frequency[m]:.1%} of rows"
            right.text(0, y, said, fontsize=8, weight="bold", va="top")
            for row in ours.top_examples(int(m), 4)["row"]:
                y -= 0.065
                right.text(0.02, y, texts[row][:58], fontsize=7, va="top", family="monospace")
            y -= 0.1

    def back(result: Any) -> float:
        return float((result.consistency[result.frequency > 0] > 0.7).mean())

    return Showcase(
        data=f"{len(data['activations']):,} activations of a transformer, 512 neurons",
        quantity=f"unexplained variance at {ours.active:.0f} active neurons (less is better), and share "
        "of features that come back under another seed (more is better)",
        ours=f"{ours.fvu.value:.3f}, {back(ours):.0%} come back",
        baseline=f"{theirs.fvu.value:.3f}, {back(theirs):.0%}",
        baseline_name="TopK",
        certificates=ours.certificates,
        draw=draw,
        caption="Left: each neuron's frequency on held-out rows against the ceiling it was given, and "
        "TopK's, which nobody prescribed. Right: what some features that come back under another seed "
        "answer to, the token in brackets.",
        code='features = sae_gba("acts.npy", n_neurons=512, high=0.1); '
        'features.report("features.html", texts)',
    )
