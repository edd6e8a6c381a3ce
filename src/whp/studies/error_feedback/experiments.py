"""What is run: steps of theory and of a grid, heterogeneity, noise, rare words, and a slow link."""

from __future__ import annotations

from typing import Any

import numpy as np

from whp.distributed import NaturalDeterministic, TopK, ef21
from whp.distributed._error_feedback.model import LinearModel, in_groups
from whp.distributed._error_feedback.stepsizes import (
    Smoothness,
    cloned,
    constants,
    noisy,
    optimal_weights,
    stepsize,
)
from whp.experiment.study import Study
from whp.peers.gradients import HOOKS, step_times, train_for

__all__ = ["TARGET", "biopsies", "books", "link", "steps_until", "study"]

Rows = list[dict[str, Any]]
TARGET = 0.1  # of ‖∇f‖², which is 1.97 at the start

study = Study("error-feedback")


def biopsies() -> tuple[LinearModel, Smoothness]:
    """Breast cancer at 20 clients, logistic loss with a penalty that is not convex."""
    from whp.datasets.tables import breast_cancer_clients

    model = LinearModel(in_groups(*breast_cancer_clients()), "logistic", 1e-3)
    return model, model.smoothness


def steps_until(grad_norm2: np.ndarray, target: float) -> float:
    """The first step at which ‖∇f‖² is below `target`; infinity if it never is."""
    below = np.flatnonzero(grad_norm2 < target)
    return float(below[0]) if len(below) else float("inf")


@study.experiment(seeds=1, variant=("qm", "am", "W"), T=400)
def theory(config: dict[str, Any], rng: np.random.Generator) -> Rows:
    """Steps to the target with the steps of theory, old, new, and with weighted clients."""
    model, known = biopsies()
    W = config["variant"] == "W"
    made = model.solve(
        known,
        T=config["T"],
        step="am" if W else config["variant"],
        method="EF21-W" if W else "EF21",
    )
    row: dict[str, Any] = {
        "gamma": made.step,
        "steps": steps_until(made.history["grad_norm2"], TARGET),
    }
    for c in made.certificates:
        row |= {f"verdict_{c.name}": str(c.verdict)}
    row["tightness_mean-gradient"] = made.certificates[0].tightness
    return [row]


@study.experiment(seeds=1, variant=("EF21", "EF14", "DCGD", "GD"), T=400)
def best(config: dict[str, Any], rng: np.random.Generator) -> Rows:
    """Steps and bytes to the target for multiples 1, 2, .., 2^12 of the theory's step, old and new."""
    model, known = biopsies()
    name, rows = config["variant"], []
    for start in ("am",) if name == "GD" else ("qm", "am"):
        base = (
            stepsize("am", known, 1.0 if name == "GD" else 1 / 31)
            if start == "am"
            else stepsize("qm", known, 1 / 31)
        )
        for power in range(13):
            made = model.solve(known, T=config["T"], step=base * 2**power, method=name, tol=TARGET)
            if not made.success:
                break
            h = made.history
            steps = steps_until(h["grad_norm2"], TARGET)
            sent = float(h["bytes_up"][-1]) if np.isfinite(steps) else float("inf")
            rows.append({"start": start, "power": power, "steps": steps, "bytes": sent})
    return rows


@study.experiment(seeds=1, T=400)
def identity(config: dict[str, Any], rng: np.random.Generator) -> Rows:
    """How far EF21 and EF21-W are apart, with a homogeneous compressor and without."""
    model, known = biopsies()
    rows: list[dict[str, Any]] = []
    for name, compressor in (("topk", TopK(1)), ("natural", NaturalDeterministic())):
        paths: list[list[np.ndarray]] = []
        for method in ("EF21", "EF21-W"):
            kept: list[np.ndarray] = []
            model.solve(
                known,
                compressor=compressor,
                T=config["T"],
                method=method,
                callback=lambda t, x, kept=kept: kept.append(x.copy()),
            )
            paths.append(kept)
        rows.append(
            {
                "compressor": name,
                "difference": float(np.abs(np.array(paths[0]) - np.array(paths[1])).max()),
            }
        )
    return rows


@study.experiment(seeds=1)
def clones(config: dict[str, Any], rng: np.random.Generator) -> Rows:
    """L_QM of the cloned clients of L = (1, 1, 1, 100)."""
    L = cloned([1.0, 1, 1, 100])
    return [
        {"clients": len(L), "qm": float(np.sqrt((L**2).mean())), "limit": float(np.sqrt(2) * 25.75)}
    ]


def books(q: int, least: int) -> LinearModel:
    """Verses by book: which words they hold, and whether they say LORD.

    Words are those of at most q books and at least `least` verses. A book that holds none of the words is no client.
    """
    import re

    import scipy.sparse

    from whp.datasets.activations import verses

    rows, columns, labels, target = [], [], [], []
    words: dict[str, int] = {}
    for i, (citation, text) in enumerate(verses()):
        labels.append(citation.rsplit(" ", 1)[0])
        spoken = set(re.findall(r"[a-z]+", text.lower()))
        target.append(1.0 if "lord" in spoken else -1.0)
        for word in sorted(spoken - {"lord"}):
            j = words.setdefault(word, len(words))
            rows.append(i)
            columns.append(j)
    book = np.unique(labels, return_inverse=True)[1]
    A = scipy.sparse.csr_array(
        (np.ones(len(rows)), (rows, columns)), shape=(len(labels), len(words))
    )
    owners = scipy.sparse.csr_array((np.ones(len(book)), (book, np.arange(len(book)))))
    seen = np.asarray(((owners @ A) > 0).sum(axis=0)).reshape(-1)
    kept = np.flatnonzero((seen <= q) & (np.asarray(A.sum(axis=0)).reshape(-1) >= least))
    A, t = A[:, kept].tocsr(), np.array(target)
    groups = [(A[book == g], t[book == g]) for g in range(book.max() + 1)]
    return LinearModel([(B, s) for B, s in groups if B.nnz], "logistic", 1e-3, own=True)


@study.experiment(
    seeds=1,
    grid=(
        {"books": 2, "least": 3},
        {"books": 5, "least": 3},
        {"books": 66, "least": 3},
        {"books": 0, "least": 0},
    ),
)
def rare(config: dict[str, Any], rng: np.random.Generator) -> Rows:
    """The step for rare features over the new one, with three choices of weights."""
    if config["books"] == 0:
        known = Smoothness(6.25, np.array([1.0] * 7 + [50]))
        supports = np.kron(np.eye(8), np.ones((1, 4))).astype(bool)
    else:
        model = books(config["books"], config["least"])
        known, supports = model.smoothness, model.supports
    n, d = supports.shape
    w = known.clients / known.clients.sum()
    am = stepsize("am", known, 1 / d)
    rows = []
    choices = (
        ("uniform", np.full(n, 1 / n)),
        ("smoothness", w),
        ("optimal", optimal_weights(supports, known.clients)),
    )
    for name, weights in choices:
        share = float((weights @ supports).max())
        D = share * float((known.clients**2 / (n**2 * weights)).sum())
        rows.append(
            {
                "weights": name,
                "gain": stepsize("rf", known, 1 / d, supports=supports, weights=weights, k=1) / am,
                "shrink": float(np.sqrt(D)) / known.am,
                "c/n": share,
                "r": int(supports.sum(axis=1).max()),
                "d": d,
                "xi ratio": constants(1 / d).xi / constants(1 / supports.sum(axis=1).max()).xi,
            }
        )
    return rows


@study.experiment(
    seeds={"quick": 2, "standard": 10, "full": 30},
    spread=(0.0, 0.5, 1.0, 2.0),
    clients=200,
    quick={"clients": 50},
)
def heterogeneity(config: dict[str, Any], rng: np.random.Generator) -> Rows:
    """Quadratics in ten dimensions with L_i = exp(s z_i): steps until ‖∇f‖² is a hundredth of the first."""
    n, d = config["clients"], 10
    L = np.exp(config["spread"] * rng.normal(size=n))
    B = rng.normal(size=(n, d, d))
    A = B @ B.transpose(0, 2, 1)
    A *= (L / np.linalg.eigvalsh(A)[:, -1])[:, None, None]
    b = rng.normal(size=(n, d))
    known = Smoothness(float(np.linalg.eigvalsh(A.mean(axis=0))[-1]), L)
    f_inf = float((0.5 * ((A @ b[:, :, None])[:, :, 0] * b).sum(axis=1)).mean()) - _reduction(A, b)
    rows = []
    for step in ("qm", "am"):
        made = ef21(
            [lambda x, i=i: A[i] @ (x - b[i]) for i in range(n)],
            np.full(d, 3.0),
            smoothness=L,
            L=known.L,
            step=step,
            T=3000,
            f=[lambda x, i=i: 0.5 * (x - b[i]) @ A[i] @ (x - b[i]) for i in range(n)],
            f_inf=f_inf - 1e-9,
            tol=1e-2 * float(((A @ (3.0 - b)[:, :, None])[:, :, 0].mean(axis=0) ** 2).sum()),
        )
        row = {
            "step": step,
            "gamma": made.step,
            "steps": float(made.nit),
            "variance": known.variance,
        }
        row |= {f"verdict_{c.name}": str(c.verdict) for c in made.certificates}
        row["tightness_mean-gradient"] = made.certificates[0].tightness
        rows.append(row)
    return rows


def _reduction(A: np.ndarray, b: np.ndarray) -> float:
    """½ of bᵀAb-mean less the minimum of the average quadratic."""
    H, v = A.mean(axis=0), (A @ b[:, :, None])[:, :, 0].mean(axis=0)
    return 0.5 * float(v @ np.linalg.solve(H, v))


@study.experiment(seeds={"quick": 2, "standard": 20, "full": 100}, variant=("EF21-PP", "EF21-SGD"))
def noise(config: dict[str, Any], rng: np.random.Generator) -> Rows:
    """Steps to the target with half of the clients taking part, or batches of eight."""
    model, known = biopsies()
    rows = []
    for name, centre in (("qm", known.qm), ("am", known.am)):
        if config["variant"] == "EF21-PP":
            gamma = 1 / (known.L + centre * constants(0.5 / 31).xi)
            options: dict[str, Any] = {"participation": 0.5}
        else:
            _, B, _, theta = noisy(1 / 31)
            gamma = 1 / (known.L + centre * np.sqrt(B / theta))
            options = {
                "noisy_grads": [model.noisy(i, 8) for i in range(20)],
                "variance": [model.variance(i, 8) for i in range(20)],
            }
        made = model.solve(
            known,
            T=1500,
            step=gamma,
            method=config["variant"],
            tol=TARGET,
            rng=rng.spawn(1)[0],
            **options,
        )
        rows.append({"step": name, "gamma": gamma, "steps": float(made.nit)})
    return rows


@study.experiment(seeds={"quick": 2, "standard": 3, "full": 10}, d=10_000_000, quick={"d": 200_000})
def link(config: dict[str, Any], rng: np.random.Generator) -> Rows:
    """Milliseconds of a backward pass, over a link of 200 Mbit/s and on loopback."""
    from whp.distributed.links import shaped_link, why_not
    from whp.distributed.processes import run_ranks

    if reason := why_not():
        return [{"skipped": reason}]
    rows = []
    hooks = ("dense", "fp16", "EF21") if config["d"] < 5_000_000 else HOOKS
    with shaped_link(200) as link:
        places: dict[str, dict[str, Any]] = {
            "200 Mbit/s": {"namespaces": link.namespaces, "host": link.host},
            "loopback": {},
        }
        for bound, place in places.items():
            for hook in hooks:
                times = run_ranks(step_times, 2, hook, config["d"], 6, **place)
                rows.append(
                    {
                        "variant": hook,
                        "ms": 1000 * float(np.median(np.max(times, axis=0)[3:])),
                        "bound": bound,
                    }
                )
    return rows


@study.experiment(
    seeds={"quick": 2, "standard": 3, "full": 10},
    variant=HOOKS,
    budget=6.0,
    quick={"variant": ("dense", "PowerSGD 1", "PowerSGD 4", "EF21"), "budget": 0.7},
)
def training(config: dict[str, Any], rng: np.random.Generator) -> Rows:
    """The best of three rates for each hook, at equal wall time over 200 Mbit/s."""
    from whp.distributed.links import shaped_link, why_not
    from whp.distributed.processes import run_ranks

    if reason := why_not():
        return [{"skipped": reason}]
    with shaped_link(200) as link:
        place = {"namespaces": link.namespaces, "host": link.host}
        tried = []
        for lr in (0.1,) if config["budget"] < 1 else (0.02, 0.1, 0.5):
            made = run_ranks(
                train_for, 2, config["variant"], lr, config["budget"], config["seed"], **place
            )
            tried.append(made[0] | {"lr": lr})
    return [min(tried, key=lambda r: r["loss"])]
