"""The built-in example, and the method at work on an expensive teacher."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from whp.experiment.study import Showcase
from whp.optim import target_surrogates
from whp.studies.target_surrogates.experiments import breast_cancer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["example", "showcase"]


def example() -> dict[str, Any]:
    """Logistic regression on breast cancer with full batches, the surrogate solved exactly."""
    X, y = breast_cancer()
    return {"X": X, "y": np.where(y == 1, "benign", "malignant"), "max_iter": 50, "rng": 0}


class Planner:
    """An expensive teacher: for each state it simulates 192 plans of 25 steps, and returns the first action of the best ones."""

    def __init__(self, seed: int = 0) -> None:
        self.plans = np.clip(
            np.cumsum(np.random.default_rng(seed).normal(size=(192, 25)), axis=1), -2, 2
        )
        self.calls = 0

    def __call__(self, states: np.ndarray) -> np.ndarray:
        self.calls += 1
        angle = np.repeat(states[:, :1], len(self.plans), axis=1)
        speed = np.repeat(states[:, 1:], len(self.plans), axis=1)
        cost = np.zeros_like(angle)
        for t in range(self.plans.shape[1]):
            force = self.plans[:, t]
            wrapped = (angle + np.pi) % (2 * np.pi) - np.pi
            cost += wrapped**2 + 0.1 * speed**2 + 0.001 * force**2
            speed = np.clip(speed + 0.05 * (15 * np.sin(angle) + 3 * force), -8, 8)
            angle = angle + 0.05 * speed
        weight = np.exp(-(cost - cost.min(axis=1, keepdims=True)))
        return (weight * self.plans[:, 0]).sum(axis=1) / weight.sum(axis=1)


def showcase() -> Showcase:
    """A network learns from a planner that simulates 192 futures of every state: loss against calls and against time."""
    import torch
    from torch import nn

    from whp.optim import SSO

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    calls, size = 40, 250
    planner = Planner()
    random = np.random.default_rng(0)
    test = np.column_stack([random.uniform(-np.pi, np.pi, 400), random.uniform(-8, 8, 400)])
    truth = torch.as_tensor(planner(test), dtype=torch.float32)

    def features(states: np.ndarray) -> Any:
        return torch.as_tensor(
            np.column_stack([np.cos(states[:, 0]), np.sin(states[:, 0]), states[:, 1] / 4]),
            dtype=torch.float32,
        )

    seen = features(test)
    curves: dict[str, tuple[list[float], list[float], list[int]]] = {}
    kinds: dict[str, Any] = {
        "target surrogates": lambda p: SSO(p, m=40, inner_lr=3e-3),
        "Adam": lambda p: torch.optim.Adam(p, lr=1e-2),
        "SGD": lambda p: torch.optim.SGD(p, lr=0.3),
        "L-BFGS": lambda p: torch.optim.LBFGS(p, lr=0.5, max_iter=4, max_eval=5),
    }
    for name, make in kinds.items():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Linear(3, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1)
        )
        optimizer, draw_states = make(model.parameters()), np.random.default_rng(1)
        planner.calls, start = 0, time.perf_counter()
        losses, seconds, count = [], [], []
        while planner.calls < calls:
            states = np.column_stack(
                [draw_states.uniform(-np.pi, np.pi, size), draw_states.uniform(-8, 8, size)]
            )
            x = features(states)

            def oracle(z: Any, states: np.ndarray = states) -> tuple[float, Any]:
                off = z - torch.as_tensor(planner(states), dtype=torch.float32)
                return float(off.square().sum()) / 2, off

            oracle.L = 1.0  # type: ignore[attr-defined]

            def closure(
                x: Any = x, oracle: Any = oracle, optimizer: Any = optimizer, model: Any = model
            ) -> Any:
                optimizer.zero_grad()
                z = model(x)[:, 0]
                value, slope = oracle(z.detach())
                z.backward(slope / size)
                return torch.tensor(value / size)

            if name == "target surrogates":
                optimizer.step(lambda model=model, x=x: model(x)[:, 0], oracle)
            elif name == "L-BFGS":
                optimizer.step(closure)
            else:
                closure()
                optimizer.step()
            with torch.no_grad():
                losses.append(float((model(seen)[:, 0] - truth).square().mean()))
            seconds.append(time.perf_counter() - start)
            count.append(planner.calls)
        curves[name] = losses, seconds, count
    torch.set_num_threads(threads)
    X, y = breast_cancer()
    fit = target_surrogates(
        X, y.astype(int), loss="logistic", m=20, inner="gd", max_iter=50, compare=False, rng=0
    )
    others = {n: c[0][-1] for n, c in curves.items() if n != "target surrogates"}
    best = min(others, key=lambda n: others[n] if np.isfinite(others[n]) else np.inf)
    each = 1000 * curves["SGD"][1][-1] / curves["SGD"][2][-1]

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, sharey=True)
        for name, (losses, seconds, count) in curves.items():
            left.plot(count, losses, label=name)
            right.plot(seconds, losses)
        left.set(yscale="log", xlabel="calls of the planner", ylabel="squared error on new states")
        right.set(xlabel="seconds in all")
        left.legend(frameon=False, fontsize=8)

    return Showcase(
        data=f"a planner that simulates 192 futures of each of {size} states, {each:.0f} ms a call",
        quantity=f"error after {calls} calls (certificates: logistic regression)",
        ours=f"{curves['target surrogates'][0][-1]:.3f}",
        baseline=f"{others[best]:.3f}",
        baseline_name=best,
        certificates=fit.certificates,
        draw=draw,
        caption="A network imitates the planner. Left: error by calls; right: by time, inner steps included.",
        code="SSO(model.parameters(), m=40).step(lambda: model(x), oracle)",
    )
