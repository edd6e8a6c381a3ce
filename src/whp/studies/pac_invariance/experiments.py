"""What new environments lose, counted where they can be drawn at will, and on a year of flights."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from whp.certificate import Verdict
from whp.experiment.study import Study
from whp.invariance import InvarianceResult, certify_moments, certify_representation, pac_invariance
from whp.peers import invariance as peers
from whp.studies.pac_invariance.truth import excess, flat, gradient, sem

__all__ = ["COLUMNS", "SUBSETS", "flights", "study"]

study = Study("pac-invariance")
SUBSETS = {"cause": (0,), "causes": (0, 2), "all": (0, 1, 2)}
COLUMNS = {
    "dep_delay": ("dep_delay",),
    "three": ("dep_delay", "air_time", "distance"),
    "four": ("dep_delay", "air_time", "distance", "hour"),
}
PENALTIES = tuple(10.0**k for k in range(6))
ANCHORS = (1.5, 7.0, 50.0)
Rng = np.random.Generator


@cache
def flights() -> tuple[pd.DataFrame, np.ndarray, pd.DataFrame]:
    """Columns, arrival delay, and carrier, month, both."""
    from whp.datasets.tables import flights_by_carrier_and_month

    X, y, where = flights_by_carrier_and_month()
    return X, y.to_numpy(), where


def of(result: InvarianceResult, name: str) -> Any:
    """A certificate by its name."""
    return next(c for c in result.certificates if c.name == name)


@study.experiment(
    seeds={"quick": 4, "standard": 40, "full": 100},
    subset=tuple(SUBSETS),
    runs=10,
    quick={"runs": 5},
)
def rate(config: dict[str, Any], rng: Rng) -> dict[str, Any]:
    """Random models fitted on 40 environments of 200 rows, 1,000 new ones each: how often more than η exceed ε̂."""
    S, above, rates, epsilons, eta = SUBSETS[config["subset"]], 0, [], [], 1.0
    for _ in range(config["runs"]):
        X, y, env = flat(*sem(rng, 40, 200))
        found = pac_invariance(X, y, env, subsets=[S], delta=0.1)
        new, target = sem(rng, 1000, 200)
        share = float((excess(new[..., list(S)], target, found.coef) > found.epsilon).mean())
        eta = found.eta
        above += share > eta
        rates.append(share)
        epsilons.append(found.epsilon)
    return {
        "exceeded": int(above),
        "of": config["runs"],
        "rate": float(np.mean(rates)),
        "epsilon": float(np.mean(epsilons)),
        "eta": eta,
    }


def network(rng: Rng, p: int) -> Any:
    """A random acyclic model of p + 1 variables; environments change the coefficients of two of them."""
    B = np.tril(rng.standard_normal((p + 1, p + 1)), -1) * (rng.random((p + 1, p + 1)) < 2.0 / p)
    sites = rng.choice(np.arange(1, p + 1), 2, replace=False)
    target = int(rng.integers(p // 2, p + 1))

    def draw(source: Rng, K: int, n: int) -> tuple[np.ndarray, np.ndarray]:
        each = np.repeat(B[None], K, axis=0)
        mask = B[sites] != 0
        each[:, sites] += 0.5 * source.standard_normal((K, *mask.shape)) * mask
        reach = np.linalg.inv(np.eye(p + 1) - each)
        rows = np.matmul(source.standard_normal((K, n, p + 1)), reach.swapaxes(1, 2))
        return np.delete(rows, target, axis=2), rows[..., target]

    return draw


@study.experiment(
    seeds={"quick": 4, "standard": 40, "full": 200}, p=(5, 20, 80), quick={"p": (5, 20)}
)
def dimension(config: dict[str, Any], rng: Rng) -> dict[str, Any]:
    """Three columns of p, two sites: the rate of new environments above ε̂."""
    p = config["p"]
    draw = network(rng, p)
    S = sorted(int(j) for j in rng.choice(p, 3, replace=False))
    train, y = draw(rng, 40, 100)
    X, y, env = flat(train[..., S], y)
    found = pac_invariance(X, y, env, subsets=[[0, 1, 2]], delta=0.1)
    new, target = draw(rng, 500, 100)
    share = float((excess(new[..., S], target, found.coef) > found.epsilon).mean())
    return {"rate": share, "log_p": float(np.log(p)), "eta": found.eta, "epsilon": found.epsilon}


@study.experiment(seeds={"quick": 4, "standard": 30, "full": 100}, n=(50, 200, 800), m=40)
def rows(config: dict[str, Any], rng: Rng) -> dict[str, Any]:
    """More rows an environment, both causes."""
    X, y, env = flat(*sem(rng, config["m"], config["n"]))
    found = pac_invariance(X, y, env, subsets=[(0, 2)], delta=0.1)
    return {"epsilon": found.epsilon, "eta": found.eta}


@study.experiment(
    seeds={"quick": 3, "standard": 100, "full": 300},
    columns=tuple(COLUMNS),
    blocks=("none", "month", "carrier"),
    quick={"blocks": ("none", "month")},
)
def real(config: dict[str, Any], rng: Rng) -> dict[str, Any]:
    """Flights: random halves of 132 pairs of carrier and month, of 12 months, of the carriers."""
    X, y, where = flights()
    blocks = None if config["blocks"] == "none" else where[config["blocks"]]
    S = COLUMNS[config["columns"]]
    # All 15 subsets share δ, as they would if the subset had been searched for.
    found = pac_invariance(
        X[list(S)],
        y,
        where["both"],
        subsets=[S],
        delta=0.05 / 15,
        test_env=0.5,
        blocks=blocks,
        rng=int(rng.integers(1 << 32)),
    )
    scenario = of(found, "scenario")
    row: dict[str, Any] = {
        "epsilon": found.epsilon,
        "eta": found.eta,
        "r2": found.r2,
        "rate": scenario.measured.value,
        "verdict": str(scenario.verdict),
        "fails": scenario.verdict is Verdict.FAILS,
        "split": str(of(found, "split").verdict),
    }
    if blocks is None:
        row |= against_least_squares(X[list(S)].to_numpy(), y, where["both"].to_numpy(), found)
    return row


def against_least_squares(
    X: np.ndarray, y: np.ndarray, env: np.ndarray, found: InvarianceResult
) -> dict[str, float]:
    """Worst residual and mean squared error in held-out environments, ours and pooled least squares'."""
    A, b, v = _moments_of_flights(tuple(found.names))
    labels = np.unique(env)
    held = np.isin(labels, found.held_out_residuals.index)
    head = np.linalg.solve(A[~held].mean(axis=0), b[~held].mean(axis=0))

    def scores(w: np.ndarray) -> tuple[float, float]:
        beta = np.linalg.solve(A[held], b[held][..., None])[..., 0]
        off = w - beta
        lost = np.einsum("mi,mij,mj->m", off, A[held], off) / v[held]
        error = np.einsum("i,mij,j->m", w, A[held], w) - 2 * b[held] @ w + v[held]
        return float(np.sqrt(lost.max())), float((error / v[held]).mean())

    (ours, error), (theirs, their_error) = scores(found.coef), scores(head)
    return {
        "worst": ours,
        "worst_least_squares": theirs,
        "squared_error": error,
        "squared_error_least_squares": their_error,
    }


@cache
def _moments_of_flights(columns: tuple[str, ...]) -> peers.Moments:
    X, y, where = flights()
    return peers.moments(X[list(columns)].to_numpy(), y, where["both"].to_numpy())


@study.experiment(seeds={"quick": 4, "standard": 30, "full": 100})
def baselines(config: dict[str, Any], rng: Rng) -> list[dict[str, Any]]:
    """Random models: heads of all three columns by us, by pooled least squares, IRMv1, vREx and anchor regression.

    Penalties are chosen by what we minimise, the largest residual of a fitted environment.
    """
    train, target = sem(rng, 40, 200)
    X, y, env = flat(train, target)
    of_train = peers.moments(X, y, env)
    new, new_y = sem(rng, 500, 200)
    ours = pac_invariance(X, y, env, subsets=[(0, 1, 2)], delta=0.1).coef

    def best(heads: list[np.ndarray]) -> np.ndarray:
        return min(heads, key=lambda w: float(excess(train, target, w).max()))

    heads = {
        "ours": ours,
        "least squares": peers.pooled(of_train),
        "IRMv1": best([peers.irm(of_train, k) for k in PENALTIES]),
        "vREx": best([peers.vrex(of_train, k) for k in PENALTIES]),
        "anchor": best([peers.anchor(X, y, env, k) for k in ANCHORS]),
    }
    made = []
    for name, w in heads.items():
        r = excess(new, new_y, w)
        left = new_y - new @ w
        made.append(
            {
                "method": name,
                "worst": float(excess(train, target, w).max()),
                "new_95": float(np.quantile(r, 0.95)),
                "squared_error": float((left.var(axis=1) / new_y.var(axis=1)).mean()),
            }
        )
    return made


@study.experiment(seeds={"standard": 40, "full": 200}, mixed=(True,))
def indirect(config: dict[str, Any], rng: Rng) -> dict[str, Any]:
    """Two variables seen only through 20 mixtures of them and of noise; the first half of the environments learns two features."""

    def draw(K: int) -> tuple[np.ndarray, np.ndarray]:
        Z, y = sem(rng, K, 100)
        Z = Z[..., [0, 2]]
        noise = 0.1 * rng.standard_normal((K, 100, 20))
        return np.matmul(Z, mixing) + noise, y

    mixing = rng.standard_normal((2, 20))
    seen, y = draw(80)
    flat_rows = seen[:40].reshape(-1, 20)
    basis = np.linalg.svd(flat_rows - flat_rows.mean(axis=0), full_matrices=False)[2][:2].T
    X, target, env = flat(seen[40:] @ basis, y[40:])
    found = certify_representation(X, target, env, learnt_on=[-1], delta=0.1)
    new, new_y = draw(500)
    share = float((excess(new @ basis, new_y, found.coef) > found.epsilon).mean())
    return {"exceeded": int(share > found.eta), "of": 1, "rate": share, "eta": found.eta}


@study.experiment(seeds={"standard": 10, "full": 40}, m=(4000, 20_000), standard={"m": 4000})
def sites(config: dict[str, Any], rng: Rng) -> dict[str, Any]:
    """Exact covariances of 20 columns, one site with two parents: the paper's theorem with its constants, independent of p."""
    p = 20
    B = np.tril(rng.standard_normal((p + 1, p + 1)) * (rng.random((p + 1, p + 1)) < 0.15), -1)
    site = int(rng.integers(p // 2, p))
    B[site] = 0
    parents = rng.choice(site, 2, replace=False)

    def draw(K: int) -> tuple[np.ndarray, np.ndarray]:
        each = np.repeat(B[None], K, axis=0)
        each[:, site, parents] = rng.standard_normal((K, 2))
        reach = np.linalg.inv(np.eye(p + 1) - each)
        Sigma = reach @ reach.swapaxes(1, 2)
        return Sigma[:, :p, :p], Sigma[:, :p, p]

    Sigma, c = draw(config["m"])
    head = np.linalg.solve(Sigma.mean(axis=0), c.mean(axis=0))
    made = certify_moments(Sigma, c, head, sites=(1, 2), held_out=draw(2000))
    assert made.measured is not None
    return {"bound": made.bound, "rate": made.measured.value, "trivial": made.trivial}


@study.experiment(seeds={"standard": 20, "full": 100}, m=(600,))
def uniform(config: dict[str, Any], rng: Rng) -> dict[str, Any]:
    """The theorem of all heads on rows, by the cause alone."""
    X, y, env = flat(*sem(rng, config["m"], 50))
    found = pac_invariance(X, y, env, subsets=[(0,)], delta=0.1)
    made = of(found, "uniform")
    new, target = sem(rng, 2000, 50)
    limit = float(made.inputs["largest gradient"])
    share = float((gradient(new[..., :1], target, found.coef) > limit).mean())
    return {"bound": made.bound, "rate": share, "eta": found.eta}


@study.experiment(seeds={"full": 5}, m=(2000,))
def exhaustive(config: dict[str, Any], rng: Rng) -> dict[str, Any]:
    """All 6,195 subsets of up to four of 20 columns over 2,000 environments, half of them held out."""
    draw = network(rng, 20)
    X, y, env = flat(*draw(rng, config["m"], 60))
    seed = int(rng.integers(1 << 32))
    found = pac_invariance(X, y, env, max_size=4, eps=0.5, test_env=0.5, rng=seed)
    scenario = of(found, "scenario")
    share = None if scenario.measured is None else scenario.measured.value
    return {"verdict": str(scenario.verdict), "eta": found.eta, "rate": share}
