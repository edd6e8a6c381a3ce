"""What is run: training with views and without, schedules by themselves, and the noise of batches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from whp.continual import design_effect, recall_schedule, view_batch
from whp.continual._view_batch.forgetting import forgetting_of
from whp.experiment.study import Study

__all__ = ["SIZES", "VARIANTS", "example", "study"]

Row = dict[str, Any]
ORDINARY: dict[str, Any] = {
    "views": 1,
    "strong": False,
    "ssl": False,
    "views_on": "both",
    "windowed": False,
    "batch_size": 32,
    "times": 1,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "ordinary": {},
    "views": {"views": 4},
    "views, strong": {"views": 4, "strong": True},
    "views, strong, tied": {"views": 4, "strong": True, "ssl": True},
    "views, tied": {"views": 4, "ssl": True},
    "ordinary, strong": {"strong": True},
    "two views": {"views": 2},
    "eight views": {"views": 8},
    "views of new": {"views": 4, "views_on": "new"},
    "views of memory": {"views": 4, "views_on": "memory"},
    "views, windowed": {"views": 4, "windowed": True},
    # as many distinct samples a step, in four times the updates; and as many views, in as many epochs
    "small batches": {"batch_size": 8},
    "four times the epochs": {"times": 4},
}
MAIN = tuple(v for v in VARIANTS if v not in ("small batches", "four times the epochs"))
PAIR = ("ordinary", "views")
SIZES = {"ordinary": 1, "two views": 2, "views": 4, "eight views": 8}
OTHERS = ("finetune", "lwf", "ewc")
RATES = (0.02, 0.05, 0.1)
ANGLES = (0.0, 30.0, 60.0)
SEEDS = {"quick": 2, "standard": 5, "full": 20}
FEWER = {"standard": 3, "full": 20}

study = Study("view-batch")


@study.experiment(
    seeds=SEEDS,
    data="mnist",
    strategy="er",
    epochs=8,
    variant=MAIN,
    quick={"data": "digits", "strategy": "er", "epochs": 8, "variant": PAIR},
)
def variants(config: Row, rng: np.random.Generator) -> list[Row]:
    """Five tasks of two digits, replay of 200: views of all kinds, and without."""
    return _train(config)


@study.experiment(seeds=FEWER, data="mnist", strategy="er", epochs=16, variant=tuple(SIZES))
def long(config: Row, rng: np.random.Generator) -> list[Row]:
    """One to eight views, twice as long."""
    return _train(config)


@study.experiment(seeds=FEWER, data="mnist", strategy=OTHERS, epochs=8, variant=PAIR)
def others(config: Row, rng: np.random.Generator) -> list[Row]:
    """Learners without a memory."""
    return _train(config)


@study.experiment(
    seeds=FEWER,
    data="animals",
    strategy="er",
    epochs=8,
    variant=(*PAIR, "views, strong", "views, strong, tied"),
)
def animals(config: Row, rng: np.random.Generator) -> list[Row]:
    """Silhouettes of animals."""
    return _train(config)


@study.experiment(seeds=FEWER, data="rotations", strategy="er", epochs=8, variant=PAIR)
def rotations(config: Row, rng: np.random.Generator) -> list[Row]:
    """Digits turned by 0, 30 and 60 degrees: a task an angle, the same classes in all."""
    return _train(config)


@study.experiment(
    seeds=FEWER,
    data="mnist",
    strategy="er",
    epochs=8,
    variant=("views", "small batches", "four times the epochs"),
)
def baselines(config: Row, rng: np.random.Generator) -> list[Row]:
    """The ordinary loader with as many distinct samples a step, and with as many views of each."""
    return _train(config)


@study.experiment(seeds=FEWER, data="mnist", strategy="er", epochs=8, variant=PAIR)
def rates(config: Row, rng: np.random.Generator) -> list[Row]:
    """Each with the learning rate of a grid that was best on a seed of its own."""
    other = {**config, "seed": config["seed"] + 1000}
    accuracies = [_train({**other, "lr": lr})[0]["acc"] for lr in RATES]
    best = RATES[int(np.argmax(accuracies))]
    return [{**row, "lr": best} for row in _train({**config, "lr": best})]


def _train(config: Row) -> list[Row]:
    """A small convolutional network on tasks of two classes, with a memory of 200 rows where there is one."""
    from whp.continual._view_batch import runs
    from whp.continual._view_batch.views import strong_view, weak_view
    from whp.datasets.image_tasks import by_class, rotated

    seed, data = config["seed"], config["data"]
    how = ORDINARY | VARIANTS[config["variant"]]
    if data == "rotations":
        train, test = rotated("digits", seed, ANGLES)
    else:
        train, test = by_class(data, seed)
    size, views = how["batch_size"], how["views"]
    # a window is a fifth of the cycle
    cycle = recall_schedule(len(train[0][1]), size, views=views, epochs=views).cycle
    setting = runs.Setting(
        strategy=config["strategy"],
        scenario="domain" if data == "rotations" else "class",
        views=views,
        views_on=how["views_on"],
        ssl=how["ssl"],
        ssl_weight=1.0,
        warmup=0.25,
        weak=weak_view,
        strong=strong_view if how["strong"] else None,
        epochs=config["epochs"] * how["times"],
        batch_size=size,
        lr=config.get("lr", 0.05),
        memory=200,
        window=max(1, cycle // 5) if how["windowed"] else None,
    )
    if views == 1 and how["strong"]:
        setting = replace(setting, weak=strong_view)
    side = 28 if data in ("mnist", "animals") else 8
    model = runs.fresh(None, (0, 1, side, side), 10, seed)()
    found = runs.train(setting, (train, test), model, seed)
    A = found.accuracy
    new = [s for stream, s in found.schedules if stream == "new"]
    row: Row = {
        "acc": float(A[-1].mean()),
        "forgetting": forgetting_of(A),
        "own": float(np.mean(np.diag(A)[:-1] - A[-1, :-1])),
        "new_task": float(np.diag(A).mean()),
        "first": float(A[-1, 0]),
        "cycle": new[0].cycle,
        "least_gap": int(min(s.gaps().min(initial=s.total) for s in new)),
        "images": found.new,
    }
    for certificate in new[0].certified(setting.trained):
        row[f"verdict_{certificate.name}"] = str(certificate.verdict)
    rows = [row]
    rows += [  # retention of the first task, by updates since
        {
            "since": int(sum(s.total for s in new[1 : k + 1])),
            "retention": float(A[k, 0]),
            "cycle": new[0].cycle,
            "tested": len(test[0][1]),
        }
        for k in range(1, len(A))
    ]
    return rows


@study.experiment(
    seeds={"quick": 1, "standard": 2, "full": 10},
    runs=8,
    quick={"runs": 1},
    views_are=("weak", "strong"),
)
def certificates(config: Row, rng: np.random.Generator) -> Row:
    """What the front door certifies on digits: several runs, and the noise of gradients."""
    strong = "affine" if config["views_are"] == "strong" else None
    found = view_batch(**example(), strong=strong, seeds=config["runs"], diagnostics=True, window=6)
    row = {f"verdict_{c.name}": str(c.verdict) for c in found.certificates}
    by_name = {c.name: c for c in found.certificates}
    noise = by_name["effective-batch"]
    assert noise.measured is not None
    return row | {
        "ratio": noise.measured.value,
        "predicted": float(noise.inputs["predicted ratio"]),
    }


def example() -> dict[str, Any]:
    """Digits of 8 × 8 pixels in five tasks of two classes."""
    from whp.datasets import images

    X, y = images.digits()
    return {"X": X.reshape(-1, 8, 8), "y": y, "task": y // 2, "rng": 0}


@study.experiment(seeds=SEEDS)
def rest(config: Row, rng: np.random.Generator) -> list[Row]:
    """Gaps of a full and of a windowed shuffle: 800 samples, 8 a step, 40 epochs."""
    rows = []
    kinds: dict[str, dict[str, Any]] = {
        "full": {},
        "window": {"window": 20},
        "fixed": {"shuffle": "fixed"},
    }
    for name, options in kinds.items():
        s = recall_schedule(800, 32, views=4, epochs=40, rng=rng, **options)
        gaps = s.gaps()
        rows.append(
            {
                "shuffle": name,
                "least": int(gaps.min()),
                "deviation": float(gaps.std()),
                "short": float((gaps < 50).mean()),
                "off": s.off(),
            }
        )
    return rows


@study.experiment(
    seeds=SEEDS, views=(2, 4, 8), batches=20_000, quick={"views": (2, 4, 8), "batches": 2000}
)
def price(config: Row, rng: np.random.Generator) -> Row:
    """Variance of the mean of a view batch, over that of an ordinary one, of numbers with known parts."""
    n, B, V, sigma = 800, 32, config["views"], 1.5
    mu = rng.normal(size=n)

    def variance(v: int) -> float:
        chosen = np.argsort(rng.random((config["batches"], n)), axis=1)[:, : B // v]
        return float(
            (mu[chosen].mean(axis=1) + sigma / np.sqrt(B) * rng.normal(size=len(chosen))).var()
        )

    predicted = design_effect(n, B, V, float(mu.var(ddof=1)), sigma**2)
    ratio = predicted[0] / predicted[1]
    measured = variance(V) / variance(1)
    return {"measured": measured, "predicted": ratio, "off": abs(measured / ratio - 1)}
