"""What is run: rates of regret, many actions, estimates far below zero, delays of New York's flights."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from whp.datasets.tables import flights
from whp.experiment.study import Study
from whp.rl import AdversarialPolicyOptimizer, LinearQModel, log_barrier
from whp.rl._adversarial_linear_mdp import passes

__all__ = ["AIRPORTS", "METHODS", "airports", "latest_delays", "routes", "study"]

Row = dict[str, Any]
study = Study("adversarial-linear-mdp")
METHODS = ("log-barrier", "magnitude-reduced", "hedge")
AIRPORTS = ("EWR", "JFK", "LGA")
CARRIERS = {"EWR": ("UA", "EV", "B6"), "JFK": ("B6", "DL", "AA"), "LGA": ("DL", "US", "MQ")}
GRID = {  # five settings of every learner
    "log-barrier": (0.03, 0.1, 0.3, 1.0, 3.0),
    "magnitude-reduced": (0.03, 0.1, 0.3, 1.0, 3.0),
    "greedy": (0.0, 0.1, 0.2, 0.3, 0.5),  # loss of what was never tried
    "epsilon-greedy": (0.01, 0.02, 0.05, 0.1, 0.2),
    "UCBVI": (0.01, 0.03, 0.1, 0.3, 1.0),
}


def circle(A: int, d: int, rng: np.random.Generator) -> np.ndarray:
    """Features (1, v)/√2, v on the sphere."""
    v = rng.normal(size=(A, d - 1))
    return np.column_stack([np.ones(A), v / np.linalg.norm(v, axis=1, keepdims=True)]) / np.sqrt(2)


def turning(K: int, d: int, rng: np.random.Generator) -> np.ndarray:
    """Coefficients of losses: a small part that stays, a large one that turns every five episodes."""
    a = min(0.5, 25 / np.sqrt(K))
    u, w = np.linalg.qr(rng.normal(size=(d - 1, 2)))[0].T
    signs = np.where(np.arange(K) // 5 % 2, 1.0, -1.0)[:, None]
    return np.column_stack([np.ones(K), a * u + (0.9 - a) * signs * w]) / np.sqrt(2)


def regret(phi: np.ndarray, theta: np.ndarray, method: Any, seed: int) -> float:
    """Of one replay, at the rates of the prototype."""
    K, A, d = len(theta), len(phi), phi.shape[1]
    if method == "hedge":
        eta = np.log(A) ** (2 / 3) * d ** (-1 / 3) * K ** (-2 / 3)
        options: dict[str, Any] = {"eta": eta, "gamma": 2 * eta, "beta": np.sqrt(eta)}
    else:
        top = A * np.log(K) if method == "log-barrier" else np.log(A)
        eta = np.sqrt(top / (d * K))
        options = {"eta": eta, "gamma": eta**2, "beta": eta / 2}
    made = AdversarialPolicyOptimizer(
        LinearQModel(phi[None, None]), method=method, n_episodes=K, random_state=seed, **options
    )
    losses = theta @ phi.T
    made.run(losses[:, None, None])
    return float(made.history_["expected_loss"].iloc[-1] - losses.sum(axis=0).min())


@study.experiment(
    seeds={"quick": 2, "standard": 8, "full": 20},
    K=(2000, 8000, 32000),
    method=METHODS,
    quick={"K": (500, 2000, 8000)},
    full={"K": (10_000, 100_000, 1_000_000, 10_000_000)},
)
def rates(config: dict[str, Any], rng: np.random.Generator) -> Row:
    """Regret of four arms on a sphere, as the episodes grow."""
    phi = circle(4, 4, rng)
    theta = turning(config["K"], 4, rng)
    made = regret(phi, theta, config["method"], int(rng.integers(1 << 31)))
    return {"regret": max(made, 1.0)}


@study.experiment(
    seeds={"quick": 2, "standard": 8, "full": 20},
    A=(4, 32, 128),
    method=METHODS[:2],
    K=2000,
    quick={"A": (4, 32)},
)
def many_arms(config: dict[str, Any], rng: np.random.Generator) -> Row:
    """The same with many arms."""
    phi, theta = circle(config["A"], 4, rng), turning(config["K"], 4, rng)
    return {"regret": regret(phi, theta, config["method"], int(rng.integers(1 << 31)))}


@study.experiment(seeds={"quick": 5, "standard": 40, "full": 200}, d=4, gamma=1e-3)
def magnitude(config: dict[str, Any], rng: np.random.Generator) -> Row:
    """The least estimate over all arms and data on badly conditioned features, over −1/√γ."""
    d, gamma = config["d"], config["gamma"]
    phi = circle(8, d, rng) * np.geomspace(1, 0.05, d)
    pi = rng.dirichlet(np.full(8, 0.1))
    second = np.einsum("a,ai,aj->ij", pi, phi, phi)
    inverse = np.linalg.inv(second + gamma * np.eye(d))
    G = phi @ inverse @ phi.T
    mean = np.minimum(G, 0) @ pi
    reduced = G - np.minimum(G, 0) + mean[:, None]
    return {
        "plain": -float(G.min()) * np.sqrt(gamma),
        "reduced": -float(reduced.min()) * np.sqrt(gamma),
        "means_off": float(np.abs(G @ pi - reduced @ pi).max()),
    }


@study.experiment(seeds={"quick": 2, "standard": 20, "full": 100}, draws=1000)
def lemma(config: dict[str, Any], rng: np.random.Generator) -> Row:
    """The largest gain of a step over its bound, for losses of any size: log-barrier and hedge."""
    top, other = 0.0, 0.0
    for _ in range(config["draws"]):
        A = int(rng.integers(2, 6))
        q = rng.dirichlet(np.full(A, 0.3)) + 1e-4
        q /= q.sum()
        loss = rng.normal(size=A) * 10 ** rng.uniform(-2, 4)
        eta = 10 ** rng.uniform(-4, 1)
        p = log_barrier(1 / q / eta + loss, eta)  # the leader after q with this loss more
        gain = (q - p) @ loss - (p / q - 1 - np.log(p / q)).sum() / eta
        top = max(top, gain / (eta / 2 * (q @ loss**2)))
        p = q * np.exp(-eta * (loss - loss.min()))
        p /= p.sum()
        with np.errstate(divide="ignore", invalid="ignore"):
            kl = np.where(p > 0, p * np.log(p / q), 0).sum()
        gain = (q - p) @ loss - kl / eta
        other = max(other, gain / (eta * (q @ loss**2)))
    return {"log_barrier": float(top), "hedge": float(other)}


@study.experiment(seeds={"quick": 2, "standard": 10, "full": 40}, n=(2000, 20000), d=4, gamma=0.01)
def covariance(config: dict[str, Any], rng: np.random.Generator) -> Row:
    """Spectral error of the inverse covariance from n draws, plugged in and by resampling."""
    d, gamma, n = config["d"], config["gamma"], config["n"]
    phi = circle(6, d, rng)
    pi = rng.dirichlet(np.ones(6))
    exact = np.einsum("a,ai,aj->ij", pi, phi, phi) + gamma * np.eye(d)
    rows = phi[rng.choice(6, size=n, p=pi)]
    half = np.linalg.cholesky(exact)
    plugged = np.linalg.inv(rows.T @ rows / n + gamma * np.eye(d))
    terms = int(np.ceil(2 / gamma * np.log(1 / (0.5 * gamma))))
    resampled = np.empty((d, d))
    passes.resampled(rows, gamma, max(1, n // terms), terms, resampled)

    def off(inverse: np.ndarray) -> float:
        return float(np.linalg.norm(half.T @ inverse @ half - np.eye(d), 2))

    return {"plugin": off(plugged), "resampling": off(resampled)}


@cache
def latest_delays() -> np.ndarray:
    """For each departure of 2013 in turn, the delay of the latest flight of each airport: (K, 3) of [0, 1].

    Minutes from −15 to 60; before the first departure it is 0.
    """
    table = flights().dropna(subset=["dep_time"])
    table = table.sort_values(["month", "day", "dep_time", "sched_dep_time"], kind="stable")
    delay = np.clip((table["dep_delay"].to_numpy(float) + 15) / 75, 0, 1)
    made = np.empty((len(table), len(AIRPORTS)))
    origin = table["origin"].to_numpy()
    for i, airport in enumerate(AIRPORTS):
        last = np.where(origin == airport, np.arange(len(table)), -1)
        last = np.maximum.accumulate(last)
        made[:, i] = np.where(last >= 0, delay[np.maximum(last, 0)], 0.2)
    return made


@cache
def airports() -> tuple[np.ndarray, np.ndarray]:
    """Losses (K, 2, 3, 3) of three-hour slots, and their months: an airport, then a carrier.

    The mean delay of a carrier's flights in the slot, −15 to 60 minutes on [0, 1]; where it has none,
    its last one, before the first .2.
    """
    table = flights().dropna(subset=["dep_delay"])
    slot = table["hour"] // 3
    groups = table.groupby([table["month"], table["day"], slot, table["origin"], table["carrier"]])
    means = groups["dep_delay"].mean().unstack(["origin", "carrier"]).sort_index()
    losses = np.zeros((len(means), 2, 3, 3))
    for x, airport in enumerate(AIRPORTS):
        for a, carrier in enumerate(CARRIERS[airport]):
            column = np.clip((means[(airport, carrier)].ffill() + 15) / 75, 0, 1).fillna(0.2)
            losses[:, 1, x, a] = column
    return losses, means.index.get_level_values(0).to_numpy()


def routes() -> LinearQModel:
    """The airport that was chosen is reached nine times in ten."""
    P = np.zeros((1, 3, 3, 3))
    P[0] = 0.05 + 0.85 * np.eye(3)
    return LinearQModel.from_tabular(P, [1.0, 0.0, 0.0])


def changed(losses: np.ndarray) -> np.ndarray:
    """United at Newark a quarter better in the first quarter of the year, and a fifth worse after it."""
    made = losses.copy()
    quarter = len(made) // 4
    made[:quarter, 1, 0, 0] -= 0.25
    made[quarter:, 1, 0, 0] += 0.2
    return np.clip(made, 0, 1)


def averaging(
    losses: np.ndarray, learner: str, setting: float, rng: np.random.Generator
) -> np.ndarray:
    """Expected loss of each episode of a learner that averages what it saw."""
    model = routes()
    K, H, X, A = losses.shape
    n, total = np.zeros((2, H, X, A))
    made = np.empty(K)
    for k in range(K):
        empty = setting if learner == "greedy" else 0.2
        mean = np.where(n > 0, total / np.maximum(n, 1), empty)
        if learner == "UCBVI":
            mean = mean - setting * np.sqrt(np.log(K) / np.maximum(n, 1))
        pi = np.zeros((H, X, A))
        after = np.zeros(X)
        for h in reversed(range(H)):
            Q = mean[h] + (model.P[h] @ after if h < H - 1 else 0.0)
            pi[h, np.arange(X), Q.argmin(axis=-1)] = 1.0
            after = Q.min(axis=-1)
        if learner == "epsilon-greedy":
            pi = (1 - setting) * pi + setting / A
        made[k] = model.value(pi, losses[k])
        x = 0
        for h in range(H):
            a = int(rng.choice(A, p=pi[h, x]))
            n[h, x, a] += 1
            total[h, x, a] += losses[k, h, x, a]
            x = int(rng.choice(X, p=model.P[h, x, a])) if h < H - 1 else x
    return made


def ours(losses: np.ndarray, method: Any, eta: float, rng: np.random.Generator) -> np.ndarray:
    """Expected loss of each episode of ours, without a bonus: every state is visited anyway."""
    model = routes()
    made = AdversarialPolicyOptimizer(
        model,
        method=method,
        n_episodes=len(losses),
        eta=eta,
        gamma=2e-3,
        bonus=None,
        random_state=rng,
    )
    found = np.empty(len(losses))
    for k, table in enumerate(losses):
        pi = np.stack([made.policy_(h) for h in range(2)])
        found[k] = model.value(pi, table)
        path, taken = np.zeros(2, dtype=np.int64), np.zeros(2, dtype=np.int64)
        passes.walk(model.P, model.init, pi, rng, path, taken)
        made.update(path, taken, table[np.arange(2), path, taken])
    return found


@study.experiment(
    seeds={"quick": 1, "standard": 8, "full": 20},
    learner=tuple(GRID),
    losses=("as they were", "changed"),
    quick={"learner": ("log-barrier", "greedy")},
)
def delays(config: dict[str, Any], rng: np.random.Generator) -> Row:
    """Regret from April on, at the setting that was best until March, to the policy best from April on."""
    table, months = airports()
    if config["losses"] == "changed":
        table = changed(table)
    early = months <= 3
    model = routes()
    learner = config["learner"]

    def lost(losses: np.ndarray, setting: float) -> np.ndarray:
        if learner in METHODS:
            return ours(losses, learner, setting, rng)
        return averaging(losses, learner, setting, rng)

    best = min(GRID[learner], key=lambda s: lost(table[early], s).sum())
    after = lost(table, best)[~early].sum()
    fixed = model.value(model.best_fixed(table[~early].sum(axis=0)), table[~early]).sum()
    uniform = model.value(np.full((2, 3, 3), 1 / 3), table[~early]).sum()
    return {
        "regret": float(after - fixed),
        "uniform": float(uniform - fixed),
        "setting": best,
        "share_of_uniform": float((after - fixed) / (uniform - fixed)),
    }


@study.experiment(
    seeds={"quick": 2, "standard": 20, "full": 100},
    problem=("a long chain", "flights"),
    bonus=("none", "dilated"),
)
def bonus(config: dict[str, Any], rng: np.random.Generator) -> Row:
    """What the bonus costs where every state is visited anyway, and what it brings on a chain with one good end."""
    if config["problem"] == "flights":
        losses, model, eta = airports()[0], routes(), 0.3
    else:
        H = 6  # staying on the chain costs a little, its end pays
        P = np.zeros((H - 1, 2, 2, 2))
        P[:, 0, 0, 0] = P[:, 0, 1, 1] = P[:, 1, :, 1] = 1
        model = LinearQModel.from_tabular(P, [1.0, 0.0])
        losses = np.full((3000, H, 2, 2), 0.5)
        losses[:, :, 0, 0] = 0.55
        losses[:, -1, 0, 0] = 0.0
        eta = 0.1
    made = AdversarialPolicyOptimizer(
        model,
        method="log-barrier",
        n_episodes=len(losses),
        eta=eta,
        gamma=2e-3,
        random_state=rng,
        bonus=None if config["bonus"] == "none" else "dilated",
        beta=None if config["bonus"] == "none" else 0.1 * eta,
    )
    made.run(losses)
    fixed = model.value(model.best_fixed(losses.sum(axis=0)), losses).sum()
    return {"regret": float(made.history_["expected_loss"].iloc[-1] - fixed)}
