"""What is run: training on wrong labels and under attack, and bounds where the truth is known."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import softmax

from whp.datasets import images
from whp.experiment.study import Scale, Study
from whp.losses import comp_sum_losses, conditional_regret, robust_error_bound, transform
from whp.losses._comp_sum_losses.rows import FLOOR, Rows, risk_limit
from whp.peers.adversarial import madry, trades

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["RADIUS", "flipped", "halves_of_digits", "noisy_digits", "study", "train"]

Row = dict[str, Any]
DIALS = (0.0, 0.5, 1.0, 1.5, 1.7, 2.0)
NOISE = (0.0, 0.2, 0.4)
# Six values of each method's parameter: ν, λ, and the radius of training over that of the attack.
SIX = {
    "trades": (0.5, 1.0, 2.0, 4.0, 6.0, 10.0),
    "ours": (0.03, 0.1, 0.2, 0.3, 0.5, 1.0),
    "pgd": (0.25, 0.5, 0.75, 1.0, 1.5, 2.0),
}
VARIANTS = ((0.5, 1.0), (1.5, 1.0), (1.0, 0.5), (1.0, 2.0))  # τ and ρ at ν = 0.3
RADIUS = 0.1
SEEDS = {"quick": 2, "standard": 10, "full": 20}

study = Study("comp-sum-losses")


def train(
    X: Tensor,
    y: Tensor,
    loss: Callable[[nn.Module, Tensor, Tensor], Tensor],
    *,
    epochs: int,
    seed: int,
    data: str,
) -> nn.Module:
    """Adam at 3e-3 (1e-3 for 28 × 28 pixels) in batches of 128, the same for every loss."""
    import torch
    from torch import nn

    torch.manual_seed(seed)
    width = 128
    inputs = X.shape[1]
    model = nn.Sequential(
        nn.Linear(inputs, width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, 10),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3 if data == "digits" else 1e-3)
    model.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(y)).split(128):
            optimizer.zero_grad()
            loss(model, X[rows], y[rows]).backward()
            optimizer.step()
    return model.eval()


def flipped(y: Tensor, noise: float, rng: np.random.Generator, classes: int = 10) -> Tensor:
    """Labels of which a share is replaced by others, drawn uniformly."""
    import torch

    hit = rng.random(len(y)) < noise
    other = (y.numpy() + rng.integers(1, classes, len(y))) % classes
    return torch.from_numpy(np.where(hit, other, y.numpy()))


def error(model: nn.Module, X: Tensor, y: Tensor) -> float:
    import torch

    with torch.no_grad():
        return float((model(X).argmax(dim=1) != y).double().mean())


@study.experiment(
    seeds=SEEDS,
    data="digits",
    epochs=60,
    noise=NOISE,
    tau=DIALS,
    quick={"data": "digits", "epochs": 20, "noise": 0.2, "tau": (1.0, 1.7, 2.0)},
)
def noise(config: dict[str, Any], rng: np.random.Generator) -> Row:
    """Train on flipped labels; error on clean ones, and the bound from flipped labels of test rows."""
    return _noise(config)


@study.experiment(
    seeds={"standard": 10, "full": 20},
    epochs=20,
    noise=0.2,
    tau=(1.0, 1.7),
    full={"epochs": 20, "noise": 0.2, "tau": DIALS},
)
def noise_on_mnist(config: dict[str, Any], rng: np.random.Generator) -> Row:
    """The same on MNIST, a fifth of the labels flipped."""
    return _noise({**config, "data": "mnist"})


def _noise(config: dict[str, Any]) -> Row:
    import torch

    from whp.datasets.image_tasks import split_set
    from whp.losses import CompSumLoss

    seed, tau, noise = config["seed"], config["tau"], config["noise"]
    X, y, T, clean = split_set(config["data"], seed)
    flips = np.random.default_rng([seed, 1])  # the same for every dial
    noisy, observed = flipped(y, noise, flips), flipped(clean, noise, flips)
    criterion = CompSumLoss(tau)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # τ = 2 starts with dead examples: that is what is studied
        model = train(
            X,
            noisy,
            lambda m, x, t: criterion(m(x), t),
            epochs=config["epochs"],
            seed=seed,
            data=config["data"],
        )
    with torch.no_grad():
        z = model(T).double().numpy()
    found = comp_sum_losses(z, observed.numpy(), noise=noise, y_clean=clean.numpy(), tau=tau)
    consistency = found.certificates[0]
    row = {
        "clean_error": error(model, T, clean),
        "bound": found.bound,
        "elementary": found.elementary,
        "excess": float(consistency.measured.value) if consistency.measured else float("nan"),
        "verdict_h-consistency": str(consistency.verdict),
        "tightness_h-consistency": consistency.tightness,
    }
    if 1 < tau < 2:
        row["sharp"] = comp_sum_losses(
            z, observed.numpy(), noise=noise, tau=tau, transform="sharp"
        ).bound
    return row


@lru_cache(maxsize=1)
def _centroids() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Digits, their distances to class means, and distances on the first 40 pixels."""
    X, y = images.digits()
    X = X.astype(np.float64)
    centres = np.stack([X[y == c].mean(axis=0) for c in range(10)])
    far = ((X[:, None] - centres) ** 2).sum(axis=2)
    part = ((X[:, None, :40] - centres[:, :40]) ** 2).sum(axis=2)
    return X, far, part


@study.experiment(seeds=SEEDS, instances=100, quick={"instances": 20})
def truth(config: dict[str, Any], rng: np.random.Generator) -> list[Row]:
    """Labels drawn from known probabilities: how often a limit is below the truth, and how tight the bounds are."""
    _, far, part = _centroids()
    P, z = softmax(-0.5 * far, axis=1), -0.8 * part
    rows = []
    for tau in (0.5, 1.0, 1.5, 1.7, 2.0):
        whole = Rows(z, np.zeros(len(z), int), P)
        risk = float(whole.losses(tau, FLOOR).mean())
        excess = P.max(axis=1) - P[np.arange(len(P)), whole.predicted]
        missed = broken = 0
        for _ in range(config["instances"]):
            chosen = rng.integers(0, len(z), 2000)
            labels = (
                (P[chosen].cumsum(axis=1) < rng.random((len(chosen), 1))).sum(axis=1).clip(max=9)
            )
            drawn = Rows(z[chosen], labels)
            known = Rows(z[chosen], labels, P[chosen])
            missed += risk_limit(drawn.losses(tau, FLOOR), drawn.largest(tau, FLOOR), 0.05) < risk
            broken += known.bounds(tau, 0.05, "paper")["bound"] < excess.mean()
        values = whole.bounds(tau, 0.05, "paper")
        rows.append(
            {
                "dial": tau,
                "missed": int(missed),
                "broken": int(broken),
                "bound": values["bound"],
                "elementary": values["elementary"],
                "excess": float(excess.mean()),
            }
        )
    return rows


@study.experiment(seeds={"quick": 2, "standard": 4, "full": 10}, draws=250, quick={"draws": 20})
def regret(config: dict[str, Any], rng: np.random.Generator) -> list[Row]:
    """Exact regrets of random distributions over what the transformation promises."""
    rows = []
    for n in (2, 3, 5, 10):
        for tau in (0.0, 0.5, 1.0, 1.2, 1.5, 1.8):
            least = sharpest = np.inf
            for i in range(config["draws"]):
                P = (
                    _near_worst(n, rng)
                    if i % 2
                    else rng.dirichlet(np.full(n, rng.choice([0.3, 1.0, 3.0])))
                )
                below = np.flatnonzero(P.max() - P > 1e-3)
                k = int(rng.choice(below)) if len(below) else int(P.argmin())
                t = float(P.max() - P[k])
                if t < 0.02:
                    continue
                found = conditional_regret(P, k, tau)
                least = min(least, found / float(transform(t, tau, n)))
                if 1 < tau < 2 and n > 2 and i % 10 == 1:
                    sharpest = min(sharpest, found / float(transform(t, tau, n, "sharp")))
            rows.append(
                {
                    "classes": n,
                    "dial": tau,
                    "least": least,
                    "sharpest": sharpest if np.isfinite(sharpest) else None,
                }
            )
    return rows


def _near_worst(n: int, rng: np.random.Generator) -> np.ndarray:
    """Two classes that matter and the rest alike, the second of which may be predicted."""
    w = 1.0 if rng.random() < 0.3 else rng.uniform(0.1, 1)
    t = rng.uniform(0, w)
    rest = np.full(n - 2, (1 - w) / max(n - 2, 1)) if n > 2 else np.empty(0)
    P = np.r_[(w + t) / 2, (w - t) / 2, rest]
    return P / P.sum()


def _loss(config: dict[str, Any], steps: int) -> Callable[[Any, Tensor, Tensor], Tensor]:
    """The loss of a training step."""
    from torch.nn import functional

    from whp.losses import AdvCompSumLoss

    method, value = config["method"], config["parameter"]
    if method == "standard":
        return lambda m, x, y: functional.cross_entropy(m(x), y)
    if method == "ours":
        return AdvCompSumLoss(RADIUS, tau=config["tau"], rho=config["rho"], nu=value, steps=steps)
    if method == "pgd":
        return lambda m, x, y: madry(m, x, y, radius=RADIUS * value, steps=steps)
    return lambda m, x, y: trades(m, x, y, radius=RADIUS, steps=steps, weight=value)


def _methods(scale: Scale) -> Iterator[Row]:
    plain = {"tau": 1.0, "rho": 1.0}
    yield {"method": "standard", "parameter": 0.0} | plain
    for method, values in SIX.items():
        for value in values[1::3] if scale == "quick" else values:
            yield {"method": method, "parameter": value} | plain
    if scale != "quick":
        for tau, rho in VARIANTS:
            yield {"method": "ours", "parameter": 0.3, "tau": tau, "rho": rho}


@study.experiment(
    seeds={"quick": 2, "standard": 5, "full": 10},
    grid=_methods,
    data="digits",
    epochs=40,
    quick={"data": "digits", "epochs": 5},
)
def attack(config: dict[str, Any], rng: np.random.Generator) -> Row:
    """Train against attacks within 0.1; accuracy on clean and on attacked test rows, 40 steps, 2 restarts."""
    return _attack(config)


@study.experiment(
    seeds={"standard": 3, "full": 10},
    grid=[
        {"method": m, "parameter": v, "tau": 1.0, "rho": 1.0}
        for m, v in (("ours", 0.3), ("trades", 6.0), ("pgd", 1.0))
    ],
    epochs=6,
)
def attack_on_mnist(config: dict[str, Any], rng: np.random.Generator) -> Row:
    """The same on MNIST, one value of each parameter."""
    return _attack({**config, "data": "mnist"})


def _attack(config: dict[str, Any]) -> Row:
    from whp.datasets.image_tasks import split_set
    from whp.losses._comp_sum_losses.network import Network

    seed, data = config["seed"], config["data"]
    X, y, T, labels = split_set(data, seed)
    model = train(X, y, _loss(config, 5), epochs=config["epochs"], seed=seed, data=data)
    at = Network(model, T.numpy(), labels.numpy(), RADIUS, "linf", (0.0, 1.0), seed)
    clean, robust = 1 - error(model, T, labels), float((at.attacked(40, 2) > 0).mean())
    return {"clean": clean, "robust": robust, "both": (clean + robust) / 2}


@study.experiment(seeds=SEEDS)
def robust(config: dict[str, Any], rng: np.random.Generator) -> list[Row]:
    """Bounds of the robust error against the exact one (linear), and against an attack (a small network)."""
    from torch.nn import functional

    from whp.datasets.image_tasks import split_set

    X, y, T, labels = (t.numpy() for t in split_set("digits", config["seed"]))
    centres = np.stack([X[y == c].mean(axis=0) for c in range(10)]).astype(np.float64)
    rows = []
    network = train(
        *split_set("digits", config["seed"])[:2],
        lambda m, x, t: functional.cross_entropy(m(x), t),
        epochs=10,
        seed=config["seed"],
        data="digits",
    )
    for name, model in (("linear", (2 * centres, -(centres**2).sum(axis=1))), ("network", network)):
        for radius in (0.01, 0.05):
            found = robust_error_bound(
                model, T, labels, radius, rho=0.3 if name == "linear" else 1.0, rng=rng
            )
            verdicts = {f"verdict_{c.name}": str(c.verdict) for c in found.certificates}
            rows.append(
                {
                    "model": name,
                    "radius": radius,
                    "attacked": found.attacked,
                    "bound": found.bound,
                    "above": found.bound - found.attacked,
                    "smooth": found.smooth,
                    "counted": found.counted,
                    "rows_to_come": found.rows_to_come,
                    **verdicts,
                }
            )
    return rows


def noisy_digits(tau: float, seed: int = 0, noise: float = 0.2) -> dict[str, Any]:
    """Logits of test digits from a network trained on flipped labels, with flipped and with clean labels."""
    from whp.datasets.image_tasks import split_set
    from whp.losses import CompSumLoss

    X, y, T, clean = split_set("digits", seed)
    flips = np.random.default_rng([seed, 1])
    learnt, observed = flipped(y, noise, flips), flipped(clean, noise, flips)
    criterion = CompSumLoss(tau)
    z = _alone(X, learnt, T, lambda m, x, t: criterion(m(x), t), seed)
    return {"logits": z, "y": observed.numpy(), "y_clean": clean.numpy()}


def halves_of_digits(seed: int = 0, noise: float = 0.2) -> dict[str, Any]:
    """Logits of one half of the digits from a network that learnt the other, whose labels are right."""
    import torch
    from torch.nn import functional

    X, y = (torch.from_numpy(v) for v in images.digits())
    order = torch.from_numpy(np.random.default_rng([seed, 2]).permutation(len(y)))
    learn, judge = order[: len(y) // 2], order[len(y) // 2 :]
    z = _alone(
        X[learn], y[learn], X[judge], lambda m, x, t: functional.cross_entropy(m(x), t), seed
    )
    clean = y[judge]
    observed = flipped(clean, noise, np.random.default_rng([seed, 1]))
    return {"logits": z, "y": observed.numpy(), "y_clean": clean.numpy()}


def _alone(X: Tensor, y: Tensor, T: Tensor, loss: Any, seed: int) -> np.ndarray:
    """Logits of T from a network trained on digits, without a trace in torch's own state."""
    import torch

    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    torch.set_num_threads(1)  # so small a network is slower with two
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # τ = 2 starts with dead examples
            model = train(X, y, loss, epochs=60, seed=seed, data="digits")
        with torch.no_grad():
            return model(T).double().numpy()
    finally:
        torch.set_num_threads(threads)
        torch.random.set_rng_state(before)
