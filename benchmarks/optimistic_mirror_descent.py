"""One pass over a stream of rows against other online learners."""

from __future__ import annotations

from typing import Any

import numpy as np

from whp.datasets.streams import breast_cancer
from whp.experiment.benchmark import Case
from whp.online import Ball, OptimisticClassifier, OptimisticMirrorDescent


def biopsies(passes: int) -> Any:
    def setup() -> dict[str, Any]:
        X, y = breast_cancer()
        rng = np.random.default_rng(0)
        chosen = np.concatenate([rng.permutation(len(X)) for _ in range(passes)])
        X, y = np.ascontiguousarray(X[chosen]), y[chosen] > 0
        names = [f"x{k}" for k in range(X.shape[1])]
        rows = [dict(zip(names, row, strict=True)) for row in X.tolist()]
        return {"X": X, "y": y, "rows": rows, "labels": y.tolist()}

    return setup


def blocks(**settings: Any) -> Any:
    def work(data: dict[str, Any]) -> Any:
        model = OptimisticClassifier(**settings)
        return model.partial_fit(data["X"], data["y"], classes=[False, True])

    return work


def one_by_one(model: Any, data: dict[str, Any]) -> Any:
    for x, label in zip(data["rows"], data["labels"], strict=True):
        model.learn_one(x, label)
    return model


def river(optimiser: str) -> Any:
    def work(data: dict[str, Any]) -> Any:
        from river import linear_model, optim

        made = {
            "SGD": lambda: optim.SGD(0.01),
            "AdaGrad": lambda: optim.AdaGrad(),
            "FTRL": lambda: optim.FTRLProximal(),
        }
        return one_by_one(linear_model.LogisticRegression(optimizer=made[optimiser]()), data)

    return work


def sklearn_rows(data: dict[str, Any]) -> Any:
    from sklearn.linear_model import SGDClassifier

    model = SGDClassifier(loss="log_loss")
    for i in range(len(data["X"])):
        model.partial_fit(data["X"][i : i + 1], data["y"][i : i + 1], classes=[False, True])
    return model


def sklearn_block(data: dict[str, Any]) -> Any:
    from sklearn.linear_model import SGDClassifier

    return SGDClassifier(loss="log_loss").partial_fit(data["X"], data["y"], classes=[False, True])


def vowpal_wabbit(options: str) -> Any:
    """Its users hand it lines of text: making them is part of the work."""

    def work(data: dict[str, Any]) -> Any:
        from vowpalwabbit import Workspace

        model = Workspace(f"--loss_function logistic --quiet {options}")
        for x, label in zip(data["rows"], data["labels"], strict=True):
            model.learn(f"{1 if label else -1} | " + " ".join(f"{k}:{v:.6g}" for k, v in x.items()))
        model.finish()

    return work


def steps(rule: str) -> Any:
    def work(gradients: np.ndarray) -> Any:
        settings: dict[str, Any] = {"smoothness": 1.0}
        if rule == "exp_concave":
            settings |= {"curvature": "exp_concave", "exp_concavity": 0.1, "gradient_bound": 1.0}
        learner = OptimisticMirrorDescent(Ball(5.0), dim=gradients.shape[1], **settings)
        for g in gradients:
            learner.step(g)

    return work


def numpy_prototype(gradients: np.ndarray) -> Any:
    """The convex rule as one would write it down."""
    hat, x, before, total, D = np.zeros(31), np.zeros(31), np.zeros(31), 0.0, 10.0

    def onto(z: np.ndarray) -> np.ndarray:
        return z * min(1.0, 5.0 / max(float(np.linalg.norm(z)), 1e-300))

    for g in gradients:
        eta = D / np.sqrt(1000 + total)
        total += float((g - before) @ (g - before))
        hat = onto(hat - eta * g)
        x = onto(hat - D / np.sqrt(1000 + total) * g)
        before = g
    return x


def unit_gradients() -> np.ndarray:
    g = np.random.default_rng(0).standard_normal((20_000, 31))
    return g / np.linalg.norm(g, axis=1, keepdims=True)


CASES = [
    Case(
        name="logistic regression, one pass over 56,900 rows of 30 features in a block",
        setup=biopsies(100),
        ours=blocks(),
        peers={
            "sklearn SGDClassifier, block": sklearn_block,
            "river SGD, row by row": river("SGD"),
        },
        repeats=5,
        target="≤ 0.5 µs a row, ≥ 25 × faster than river SGD",
        note="Ours ends with a certificate of its regret.",
    ),
    Case(
        name="the same row by row from dictionaries, 5,690 rows",
        setup=biopsies(10),
        ours=lambda data: one_by_one(OptimisticClassifier(), data),
        peers={
            "river SGD": river("SGD"),
            "river AdaGrad": river("AdaGrad"),
            "river FTRL": river("FTRL"),
            "sklearn SGDClassifier.partial_fit": sklearn_rows,
            "vowpalwabbit, default": vowpal_wabbit(""),
            "vowpalwabbit --ftrl": vowpal_wabbit("--ftrl"),
        },
        repeats=3,
        target="≤ 1.5 × river SGD",
    ),
    Case(
        name="dynamic version, 56,900 rows in a block",
        setup=biopsies(100),
        ours=blocks(dynamic=True, horizon=56_900),
        peers={"own convex rule": blocks()},
        repeats=5,
        target="≤ 8 × the convex rule for a pool of 8",
    ),
    Case(
        name="step() on 20,000 gradients, d = 31",
        setup=unit_gradients,
        ours=steps("convex"),
        peers={"numpy prototype": numpy_prototype, "own exp-concave rule": steps("exp_concave")},
        repeats=5,
        target="≤ 12 µs a step",
    ),
]
