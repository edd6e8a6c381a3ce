"""What is run: error of private answers on real and made-up streams, and attacks on mechanisms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from whp.experiment.study import Study
from whp.privacy._dp_continual_release import (
    ContinualArgmax,
    ContinualCounter,
    ContinualMaxSum,
    Mechanism,
    audit_release,
    hard_stream,
    marginals,
    plan_release,
)
from whp.privacy._dp_continual_release.front_door import error_of

__all__ = ["LENGTHS", "RHO", "study"]

RHO = 0.5
LENGTHS = (10_000, 100_000, 1_000_000)
LESS = {"honest": 1, "noise for one level": 3, "half the noise": 2}
AUDITED: dict[str, Any] = {"T": 256, "d": 1, "neighbours": "add-remove", "strategy": "tree"}
SEEDS = {"quick": 3, "standard": 20, "full": 100}
Config = Mapping[str, Any]
study = Study("dp-continual-release")


def _row(mechanism: Mechanism, worst: float) -> dict[str, Any]:
    """Error and certificates but for that of privacy, which the seed makes void by design."""
    certificates = mechanism.certificates(np.full(mechanism.t, worst))
    row: dict[str, Any] = {
        "largest": worst,
        "bound": mechanism.error_bound(),
        "broken": worst > mechanism.error_bound(),
        "spent": mechanism.spent(),
    }
    for c in certificates:
        if c.name != "privacy":
            row |= {f"verdict_{c.name}": str(c.verdict), f"tightness_{c.name}": c.tightness}
    return row


def _largest_error(mechanism: Mechanism, X: Any, size: int) -> tuple[float, Any]:
    """Largest error against the records as they are counted, taken `size` at a time, and the last answer."""
    worst, last = 0.0, None
    sums = np.zeros(mechanism.d, dtype=np.int64)
    for start in range(0, X.shape[0], size):
        rows = mechanism.checked(X[start : start + size])
        answers = mechanism.run(rows)
        counts = sums + np.cumsum(rows, axis=0, dtype=np.int64)
        worst = max(worst, float(error_of(mechanism.query, answers, counts).max()))
        sums, last = counts[-1], answers[-1]
    return worst, last


def _at_once(mechanism: Mechanism, X: Any) -> int:
    """The square root transforms the whole stream at once."""
    return X.shape[0] if mechanism.plan.strategy == "sqrt" else 4096


@lru_cache(maxsize=1)
def _market() -> tuple[csr_array, tuple[str, ...]]:
    from whp.datasets.streams import baskets as load

    return load()


@lru_cache(maxsize=1)
def _departures() -> tuple[np.ndarray, tuple[str, ...]]:
    from whp.datasets.streams import late_departures

    return late_departures()


@study.experiment(seeds=SEEDS, T=LENGTHS, quick={"T": LENGTHS[:2]})
def curve(config: Config, rng: np.random.Generator) -> dict[str, Any]:
    """MaxSum of fair bits by recomputing."""
    T = config["T"]
    X = (rng.random((T, 16)) < 0.5).astype(np.uint8)
    mechanism = ContinualMaxSum(16, T=T, rho=RHO, strategy="recompute", insecure_seed=rng)
    return _row(mechanism, _largest_error(mechanism, X, 4096)[0])


@study.experiment(seeds=SEEDS, query=("maxsum", "sumselect"), variant="recompute")
def baskets(config: Config, rng: np.random.Generator) -> dict[str, Any]:
    """The best-selling of 302 categories after each basket."""
    X, _ = _market()
    kind = ContinualArgmax if config["query"] == "sumselect" else ContinualMaxSum
    strategy, _, cut = config["variant"].partition(", ")
    mechanism = kind(
        X.shape[1],
        T=X.shape[0],
        rho=RHO,
        strategy=strategy,
        max_ones=5 if cut else None,
        insecure_seed=rng,
    )
    worst, last = _largest_error(mechanism, X, _at_once(mechanism, X))
    row = _row(mechanism, worst)
    if cut:  # what cutting does to the truth
        row["final"] = float(abs(last - np.asarray(X.sum(axis=0)).max()))
    return row


@study.experiment(
    seeds={"standard": 2, "full": 2}, query="maxsum", variant=("tree", "sqrt", "sqrt, five ones")
)
def slow_baskets(config: Config, rng: np.random.Generator) -> dict[str, Any]:
    """The same by strategies that take a minute each."""
    return baskets(config, rng)


@study.experiment(seeds=SEEDS, strategy="recompute")
def flights(config: Config, rng: np.random.Generator) -> dict[str, Any]:
    """Late departures by carrier, one category a record."""
    X, _ = _departures()
    mechanism = ContinualMaxSum(
        X.shape[1], T=len(X), rho=RHO, strategy=config["strategy"], max_ones=1, insecure_seed=rng
    )
    return _row(mechanism, _largest_error(mechanism, X, _at_once(mechanism, X))[0])


@study.experiment(seeds={"standard": 10, "full": 50}, strategy=("sqrt", "tree", "naive"))
def counted_flights(config: Config, rng: np.random.Generator) -> dict[str, Any]:
    """The same by noisy counts."""
    return flights(config, rng)


@study.experiment(seeds={"quick": 10, "standard": 300, "full": 1000})
def adaptive(config: Config, rng: np.random.Generator) -> dict[str, Any]:
    """Each record is put into the column that the last answer under-estimated most."""
    T, d = 1000, 3
    mechanism = ContinualCounter(d, T=T, rho=RHO, strategy="tree", insecure_seed=rng)
    truth, worst = np.zeros(d), 0.0
    x = np.ones(d, dtype=np.uint8)
    for _ in range(T):
        answer = mechanism.step(x)
        truth += x
        worst = max(worst, float(np.abs(answer - truth).max()))
        x = np.zeros(d, dtype=np.uint8)
        x[int(np.argmin(answer - truth))] = 1
    return _row(mechanism, worst)


@study.experiment(seeds={"quick": 10, "standard": 1000, "full": 1000})
def coverage(config: Config, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Five mechanisms on three columns of fair bits."""
    T, d = 2000, 3
    X = (rng.random((T, d)) < 0.5).astype(np.uint8)
    pure = {"epsilon": 1.0, "delta": 0}
    kinds = {
        **{s: (s, {"rho": RHO}) for s in ("recompute", "tree", "sqrt")},
        **{f"pure {s}": (s, pure) for s in ("recompute", "tree")},
    }
    rows = []
    for name, (strategy, budget) in kinds.items():
        options: dict[str, Any] = {"strategy": strategy, **budget}
        mechanism = ContinualMaxSum(d, T=T, insecure_seed=rng, **options)
        rows.append({"mechanism": name, **_row(mechanism, _largest_error(mechanism, X, T)[0])})
    return rows


@study.experiment(seeds=SEEDS, n=40, d=20)
def reduction(config: Config, rng: np.random.Generator) -> dict[str, Any]:
    """A secret matrix out of MaxSum answers on the hard stream."""
    n, d = config["n"], config["d"]
    secret = rng.integers(0, 2, (n, d)).astype(np.float64)
    stream = hard_stream(secret)
    counts = np.cumsum(stream, axis=0, dtype=np.int64).max(axis=1)
    answers = ContinualMaxSum(d, T=len(stream), rho=RHO, insecure_seed=rng).run(stream)
    private, plain = marginals(answers, n, d), marginals(counts.astype(np.float64), n, d)
    off = float(np.abs(private - secret.sum(axis=0)).max())
    largest = float(np.abs(answers - counts).max())
    return {
        "largest": largest,
        "marginals": off,
        "beyond_answers": off - largest,
        "marginals_exact": float(np.abs(plain - secret.sum(axis=0)).max()),
    }


def _audited(audit: Any, variant: str) -> dict[str, Any]:
    row: dict[str, Any] = {
        "epsilon_low": audit.epsilon_low,
        "mu_low": audit.mu_low,
        "epsilon": audit.epsilon,
        "mu": audit.mu,
        "true_mu": audit.mu * LESS[variant],
        "of_true_mu": audit.mu_low / (audit.mu * LESS[variant]),
    }
    for c in audit.certificates:
        row[f"caught_{c.name}"] = str(c.verdict) == "fails"
        if variant == "honest":  # the ledger sums up what honest mechanisms come to
            row |= {f"verdict_{c.name}": str(c.verdict), f"tightness_{c.name}": c.tightness}
    return row


@study.experiment(
    seeds={"quick": 1, "standard": 5, "full": 20},
    rho=(0.05, 0.5),
    variant=tuple(LESS),
    runs=20_000,
    adaptive=False,
    quick={"rho": (0.05, 0.5), "variant": tuple(LESS), "runs": 4000, "adaptive": False},
)
def audit(config: Config, rng: np.random.Generator) -> dict[str, Any]:
    """Attack by the plan, many runs side by side."""
    plan = plan_release("counts", rho=config["rho"], **AUDITED)
    less = replace(plan, scale=plan.scale / LESS[config["variant"]])
    made = audit_release(less, n=config["runs"], adaptive=config["adaptive"], rng=rng)
    return _audited(made, config["variant"])


@study.experiment(
    seeds={"quick": 1, "standard": 5, "full": 20}, rho=RHO, variant="honest", runs=4000
)
def adaptive_audit(config: Config, rng: np.random.Generator) -> dict[str, Any]:
    """The same with records chosen after seeing answers."""
    return audit({**config, "adaptive": True}, rng)


@study.experiment(
    seeds={"quick": 5, "standard": 200, "full": 200}, variant=("honest", "half the noise"), runs=400
)
def object_audit(config: Config, rng: np.random.Generator) -> dict[str, Any]:
    """Attack on objects by their own run, 16 records each."""
    plan = plan_release("counts", rho=RHO, **{**AUDITED, "T": 16})
    less = replace(plan, scale=plan.scale / LESS[config["variant"]])
    made = audit_release(lambda: ContinualCounter.from_plan(less), n=config["runs"], rng=rng)
    return _audited(made, config["variant"])
