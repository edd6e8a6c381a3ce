"""The built-in example, and replay on real digits with views and without."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from whp.continual import view_batch
from whp.experiment.study import Showcase
from whp.studies.view_batch.claims import draw_rest
from whp.studies.view_batch.experiments import example

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["example", "showcase"]


def showcase() -> Showcase:
    """Replay on MNIST with four views beside the ordinary loader, and when samples come back."""
    import torch

    from whp.datasets import images

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    X, y = images.mnist()
    rows = np.arange(len(y)) % 2 == 0  # half of the digits, for the time it takes
    found = view_batch(
        X[rows].reshape(-1, 28, 28), y[rows], y[rows] // 2, epochs=8, window=10, rng=0
    )
    torch.set_num_threads(threads)

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        found.plot(left)
        draw_rest(pd.DataFrame(), right)

    return Showcase(
        data=f"{rows.sum():,} digits of MNIST in 5 tasks, replay of 200",
        quantity="forgetting, at equal images and weights",
        ours=f"{found.forgetting.value:.3f}",
        baseline=f"{found.baseline['forgetting'].value:.3f}",
        baseline_name="ordinary loader",
        certificates=found.certificates,
        draw=draw,
        caption="Left: accuracy of each task as others follow, with views and (dashed) without, of one "
        "run, which says nothing about others. Right: a full shuffle brings some samples back at once; "
        "shuffled in windows, every sample rests.",
        code="view_batch(X, y, task, views=4, window=10)",
    )
