"""View batches against the ordinary loader, one-image-at-a-time loaders, and schedules by themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from whp.continual import recall_schedule, strong_view, weak_view
from whp.continual._view_batch import runs
from whp.continual._view_batch.views import in_views
from whp.experiment.benchmark import Case, Target


def task() -> dict[str, Any]:
    from whp.datasets.image_tasks import by_class

    torch.set_num_threads(1)
    train, test = by_class("mnist", 0, tasks=2)
    setting = runs.Setting(
        strategy="er",
        scenario="class",
        views=4,
        views_on="both",
        ssl=False,
        ssl_weight=1.0,
        warmup=0.0,
        weak=weak_view,
        strong=None,
        epochs=4,
        batch_size=32,
        lr=0.05,
        memory=200,
    )
    return {"parts": (train, test), "setting": setting}


def training(**changes: Any) -> Any:
    def work(data: dict[str, Any]) -> Any:
        setting = replace(data["setting"], **changes)
        return runs.train(setting, data["parts"], runs.fresh(None, (0, 1, 28, 28), 10, 0)(), 0)

    return work


class OneByOne(Dataset[Any]):
    """Makes the view of one image at a time, as image pipelines do."""

    def __init__(self, X: Any) -> None:
        self.X = X

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, i: int) -> Any:
        return weak_view(self.X[i : i + 1], None)[0]


def pixels() -> dict[str, Any]:
    torch.set_num_threads(1)
    return {"X": torch.rand(3200, 784)}


def at_once(data: dict[str, Any]) -> Any:
    schedule = recall_schedule(3200, 32, views=4, epochs=4, rng=0)
    return [
        in_views(data["X"][torch.from_numpy(s)], 4, weak_view, strong_view, None)
        for s in schedule.steps
    ]


def loader(workers: int) -> Any:
    def work(data: dict[str, Any]) -> Any:
        return [
            x
            for _ in range(4)
            for x in DataLoader(
                OneByOne(data["X"]), batch_size=32, shuffle=True, num_workers=workers
            )
        ]

    return work


def orders() -> dict[str, Any]:
    recall_schedule(10, 2, views=2, epochs=4).gaps()
    return {}


CASES = [
    Case(
        name="two tasks of 800 digits, replay, 200 updates, four views",
        setup=task,
        ours=training(),
        peers={"one view": training(views=1)},
        repeats=3,
        target=Target("one view", 1.05),
    ),
    Case(
        name="the same with tied views",
        setup=task,
        ours=training(ssl=True),
        peers={"one view": training(views=1)},
        repeats=3,
        target=Target("one view", 1.10),
    ),
    Case(
        name="12,800 views of 28 × 28 in batches of 32",
        setup=pixels,
        ours=at_once,
        peers={"DataLoader, one by one": loader(0), "DataLoader, one by one, 2 workers": loader(2)},
        repeats=3,
        target=Target("DataLoader, one by one, 2 workers", 1 / 3),
        note="timm's RepeatAugSampler needs torchvision, which has no build for a CPU beside this torch.",
    ),
    Case(
        name="schedule of 10⁶ samples, 40 epochs, four views",
        setup=orders,
        ours=lambda _: recall_schedule(1_000_000, 32, views=4, epochs=40, rng=0),
        peers={
            "ten permutations alone": lambda _: [
                np.random.default_rng(0).permutation(1_000_000) for _ in range(10)
            ]
        },
        repeats=3,
        target=Target(seconds=1.0),
    ),
]
