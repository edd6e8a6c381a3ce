"""What is run: convex problems with full and with small batches, a network, and imitation of an expert."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Any

import numpy as np

from whp.datasets import streams
from whp.experiment.study import Study
from whp.optim import target_surrogates
from whp.optim._target_surrogates.expectation import recursion_bound, target_noise
from whp.optim._target_surrogates.linear import Settings, fit_linear
from whp.optim._target_surrogates.losses import LOSSES
from whp.optim._target_surrogates.problem import LinearProblem

__all__ = ["MARKS", "TARGET", "breast_cancer", "expert", "polynomial_diabetes", "study"]

Row = dict[str, Any]
INNER = (1, 5, 20, 100, 0)  # 0 stands for exact
ADAM = (1e-3, 3e-3, 1e-2, 3e-2)
SGD = (0.03, 0.1, 0.3, 1.0)
MARKS = (25, 100, 200)
TARGET = 0.06
NETWORKS = ("sso 5", "sso 20", "sso 20 search", "sso 20 armijo", "adam", "sgd")

study = Study("target-surrogates")


@lru_cache(maxsize=1)
def breast_cancer() -> tuple[np.ndarray, np.ndarray]:
    """Breast cancer, 569 × 31 with a bias column, standardised."""
    X, y = streams.breast_cancer()
    return np.column_stack([X, np.ones(len(X))]), (y + 1) / 2


@lru_cache(maxsize=1)
def polynomial_diabetes() -> tuple[np.ndarray, np.ndarray]:
    """Diabetes with all products of two features, 442 × 66 with a bias column, standardised: condition 3·10⁷."""
    from sklearn.datasets import load_diabetes
    from sklearn.preprocessing import PolynomialFeatures

    X, y = load_diabetes(return_X_y=True)
    X = PolynomialFeatures(2, include_bias=False).fit_transform(X)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    return np.column_stack([X, np.ones(len(X))]), (y - y.mean()) / y.std()


def _inner(m: int) -> dict[str, Any]:
    return {"inner": "exact", "m": None} if m <= 0 else {"inner": "gd", "m": m}


@study.experiment(seeds=1, m=(*INNER, -1))
def cancer(config: dict[str, Any], rng: np.random.Generator) -> Row:
    """Logistic regression with full batches (m = -1 searches η): mean loss after 20, 50 and 200 calls, and the certificates."""
    X, y = breast_cancer()
    search: dict[str, Any] = {"rule": "sls"} if config["m"] == -1 else {"eta": 4.0}
    found = target_surrogates(
        X,
        y.astype(int),
        loss="logistic",
        max_iter=200,
        tol=0.0,
        rng=rng,
        **_inner(config["m"]),
        **search,
    )
    row: dict[str, Any] = {f"after_{c}": float(found.curves["sso"][c]) for c in (20, 50, 200)}
    row |= {
        "sgd_200": float(found.curves["sgd"].iloc[-1]),
        "lbfgs_200": float(found.curves["lbfgs"].iloc[-1]),
    }
    for c in found.certificates:
        row[f"verdict_{c.name}"], row[f"tightness_{c.name}"] = str(c.verdict), c.tightness
    return row


@study.experiment(seeds=1, m=INNER)
def diabetes(config: dict[str, Any], rng: np.random.Generator) -> Row:
    """Badly conditioned least squares with full batches: suboptimality after ten calls."""
    X, y = polynomial_diabetes()
    best = LOSSES["squared"].value(X @ np.linalg.lstsq(X, y, rcond=None)[0], y) / len(y)
    found = target_surrogates(
        X, y, loss="squared", max_iter=10, tol=0.0, rng=rng, **_inner(config["m"])
    )
    return {
        "off": float(found.curves["sso"].iloc[-1]) - best,
        "sgd_off": float(found.curves["sgd"].iloc[-1]) - best,
        "lbfgs_off": float(found.curves["lbfgs"].iloc[-1]) - best,
    }


@study.experiment(seeds={"quick": 2, "standard": 20, "full": 100}, calls=400, quick={"calls": 100})
def minibatch(config: dict[str, Any], rng: np.random.Generator) -> list[Row]:
    """Least squares with batches: the projection over all rows, that over the batch, and SGD of a grid."""
    X, y = polynomial_diabetes()
    n, calls = len(y), config["calls"]
    best = np.linalg.lstsq(X, y, rcond=None)[0]
    floor, z = LOSSES["squared"].value(X @ best, y) / n, X @ best
    problem, rows = LinearProblem(X), []
    start, U = float(z @ z), problem.basis[0]
    for name, settings in (
        ("full", Settings(batch_size=125, schedule="sqrt", max_iter=calls)),
        ("constant", Settings(batch_size=125, max_iter=calls)),
        ("batch", Settings(batch_size=25, projection="batch", eta=1.0, max_iter=calls)),
    ):
        distances: list[float] = []

        def watch(t: int, theta: np.ndarray, after: float, seen: list[float] = distances) -> bool:
            seen.append(float(np.square(X @ theta - z).sum()))
            return False

        theta, _ = fit_linear(
            X, y, LOSSES["squared"], settings, np.zeros(66), rng, problem=problem, stop=watch
        )
        row: dict[str, Any] = {
            "method": name,
            "off": LOSSES["squared"].value(X @ theta, y) / n - floor,
        }
        if name == "constant":
            etas = np.full(calls, 125 / (2 * n))
            bound = recursion_bound(start, etas, target_noise(U, z - y, 125), 1.0, n / 125)
            row |= {f"distance_{t}": distances[t - 1] for t in (10, 50, calls)} | {
                f"bound_{t}": float(bound[t - 1]) for t in (10, 50, calls)
            }
        rows.append(row)
    offs = []
    for rate in 10.0 ** np.arange(-3, 0.6, 0.5):
        for schedule in (
            lambda t: 1.0,
            lambda t: 1 / np.sqrt(t + 1),
            lambda t: (1 / calls) ** (t / calls),
        ):
            random, theta = np.random.default_rng(config["seed"]), np.zeros(66)
            with np.errstate(over="ignore", invalid="ignore"):
                for t in range(calls):
                    chosen = random.choice(n, 125, replace=False)
                    theta = (
                        theta
                        - rate * schedule(t) * (X[chosen].T @ (X[chosen] @ theta - y[chosen])) / 125
                    )
                off = LOSSES["squared"].value(X @ theta, y) / n - floor
            offs.append(off if np.isfinite(off) else np.inf)
    rows.append({"method": "sgd", "off": float(min(offs))})
    return rows


@study.experiment(
    seeds={"quick": 2, "standard": 10, "full": 30},
    method=NETWORKS,
    calls=200,
    quick={"method": ("sso 5", "adam"), "calls": 25},
)
def network(config: dict[str, Any], rng: np.random.Generator) -> Row:
    """MNIST, one hidden layer of 64: cross-entropy of all training rows after so many calls; the best of four rates of each."""
    import torch
    from torch import nn
    from torch.nn import functional

    from whp.datasets.image_tasks import split_set
    from whp.optim import SSO, loss_oracle

    X, y, *_ = split_set("mnist", config["seed"])
    method, calls = config["method"], config["calls"]

    def once(rate: float) -> dict[str, Any]:
        torch.manual_seed(config["seed"])
        model = nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))
        generator = torch.Generator().manual_seed(config["seed"])
        kind, *rest = method.split()
        optimizer: Any = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}.get(kind)
        ours = optimizer is None
        if ours:
            inner = "armijo" if "armijo" in rest else "adam"
            rule = "sls" if "search" in rest else "sgd"
            optimizer = SSO(
                model.parameters(), m=int(rest[0]), inner=inner, inner_lr=rate, rule=rule
            )
        else:
            optimizer = optimizer(model.parameters(), lr=rate)
        out: dict[str, Any] = {"to_target": None}
        spent = 0.0
        for t in range(1, calls + 1):
            rows = torch.randperm(len(y), generator=generator)[:125]
            x, labels = X[rows], y[rows]
            start = time.perf_counter()
            if ours:
                optimizer.step(
                    lambda: model(x),  # noqa: B023
                    loss_oracle(nn.CrossEntropyLoss(reduction="sum"), labels),
                )
            else:
                optimizer.zero_grad()
                functional.cross_entropy(model(x), labels).backward()
                optimizer.step()
            spent += time.perf_counter() - start
            if t in MARKS or t % 5 == 0:
                with torch.no_grad():
                    loss = float(functional.cross_entropy(model(X), y))
                out["last"] = loss
                if t in MARKS:
                    out[f"after_{t}"] = loss
                if loss <= TARGET and out["to_target"] is None:
                    out["to_target"] = t
        return out | {"seconds_a_call": spent / calls, "rate": rate}

    rates = {"adam": ADAM, "sgd": SGD}.get(method.split()[0], (1e-3,))
    return min(
        (once(r) for r in rates),
        key=lambda row: row["last"] if np.isfinite(row["last"]) else np.inf,
    )


def expert(states: np.ndarray) -> np.ndarray:
    """What to do with a pendulum: pump energy while it hangs, balance it when it is up."""
    angle = np.arctan2(states[:, 1], states[:, 0])
    speed = states[:, 2]
    energy = 0.5 * speed**2 + 10 * (np.cos(angle) - 1)
    up = (np.abs(angle) < 0.6) & (np.abs(speed) < 4)
    return np.clip(np.where(up, -(9 * angle + 2.2 * speed), -2 * np.sign(speed * energy)), -2, 2)


@study.experiment(
    seeds={"quick": 2, "standard": 5, "full": 20},
    method=("sso", "adam", "sgd"),
    rounds=50,
    quick={"method": ("sso", "adam"), "rounds": 4},
)
def imitation(config: dict[str, Any], rng: np.random.Generator) -> Row:
    """Rounds of 200 states that the policy visits, each labelled by the expert once; the best of four rates."""
    import gymnasium as gym
    import torch
    from torch import nn

    from whp.optim import SSO, loss_oracle

    def once(rate: float) -> dict[str, Any]:
        torch.manual_seed(config["seed"])
        policy = nn.Sequential(
            nn.Linear(3, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1)
        )
        ours = config["method"] == "sso"
        optimizer: Any = (
            SSO(policy.parameters(), eta=1.0, m=50, inner_lr=rate)
            if ours
            else {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[config["method"]](
                policy.parameters(), lr=rate
            )
        )
        env = gym.make("Pendulum-v1")
        losses, total = [], 0.0
        for r in range(config["rounds"]):
            state, _ = env.reset(seed=10_000 * config["seed"] + r)
            states, total = [], 0.0
            for _ in range(200):
                states.append(state)
                with torch.no_grad():
                    action = (
                        policy(torch.as_tensor(state, dtype=torch.float32)).clamp(-2, 2).numpy()
                    )
                state, reward, *_ = env.step(action)
                total += float(reward)
            x = torch.as_tensor(np.array(states), dtype=torch.float32)
            labels = torch.as_tensor(expert(x.numpy()), dtype=torch.float32)
            losses.append(float((policy(x)[:, 0] - labels).square().mean().detach()) / 2)
            if ours:
                half = nn.MSELoss(reduction="sum")
                optimizer.step(
                    lambda: policy(x)[:, 0],  # noqa: B023
                    loss_oracle(lambda z, t: half(z, t) / 2, labels, L=1.0),  # noqa: B023
                )
            else:
                optimizer.zero_grad()
                ((policy(x)[:, 0] - labels).square().mean() / 2).backward()
                optimizer.step()
        return {
            "online": float(np.mean(losses)),
            "late": float(np.mean(losses[-10:])),
            "final_return": total,
            "rate": rate,
        }

    rates = (
        (0.01,)
        if config["method"] == "sso"
        else (1e-3, 3e-3, 1e-2, 3e-2)
        if config["method"] == "adam"
        else (0.03, 0.1, 0.3, 1.0)
    )
    return min(
        (once(r) for r in rates),
        key=lambda row: row["online"] if np.isfinite(row["online"]) else np.inf,
    )
