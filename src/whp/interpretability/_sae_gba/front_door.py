"""The front door: activations in, a dictionary of features with their frequencies out."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd

from whp.certificate import Certificate
from whp.door import AtLeast, Between, Fraction, Range, front_door
from whp.interpretability._sae_gba import theorems as t
from whp.interpretability._sae_gba.chance import Chance, matched_chance
from whp.interpretability._sae_gba.formulas import nearest, targets
from whp.interpretability._sae_gba.power import bias_adaptation
from whp.interpretability._sae_gba.result import SparseFeatures
from whp.interpretability._sae_gba.rows import CHUNK, Rows, open_rows
from whp.interpretability._sae_gba.training import (
    STEPS,
    Checkpoint,
    Run,
    Training,
    digest,
    header,
    settings_of,
    train,
)
from whp.io import Data
from whp.provenance import plain_generator
from whp.scores import as_units
from whp.validate import as_matrix, same_order

__all__ = ["sae_gba"]

Method = Literal["gba", "ba", "topk", "l1"]
DEFAULTS: dict[str, Any] = {
    "n_groups": 10,
    "high": 0.5,
    "low": 1e-3,
    "activation": "jumprelu",
    "k": 32,
    "l1": 0.03,
}
USED: dict[str, tuple[str, ...]] = {
    "gba": ("n_groups", "high", "low", "activation"),
    "ba": ("high",),
    "topk": ("k",),
    "l1": ("l1",),
}
LEAST_HELD_OUT, MOST_HELD_OUT, OUT_OF_REACH, HELD_OUT_ROWS = 0.1, 0.25, 0.5, 50_000
SCANNED = 200_000
LOOKED_AT = 5000
TARGETED = ("gba", "ba")
USUAL = Training()


@front_door
def sae_gba(
    activations: Annotated[Any, Data("activations")],
    n_neurons: Annotated[int, AtLeast(2)] | None = None,
    *,
    groups: Annotated[Any, Data("ids")] = None,
    truth: Annotated[Any, Data("matrix")] = None,
    codes: Annotated[Any, Data("matrix")] = None,
    method: Method = "gba",
    n_groups: Annotated[int, AtLeast(1)] | None = None,
    high: Annotated[float, Fraction()] | None = None,
    low: Annotated[float, Fraction()] | None = None,
    activation: Literal["jumprelu", "relu"] | None = None,
    k: Annotated[int, AtLeast(1)] | None = None,
    l1: Annotated[float, AtLeast(0)] | None = None,
    training: Training = USUAL,
    n_seeds: Annotated[int, AtLeast(1)] = 2,
    similarity: Annotated[float, Fraction()] = 0.7,
    slack: Annotated[float, AtLeast(0)] = 1.0,
    at_least: Annotated[float, Fraction()] = 0.25,
    found: Annotated[float, Fraction()] = 0.9,
    not_unique: Annotated[float, Fraction()] = 0.05,
    held_out: Annotated[float, Range(0.01, 0.9)] | None = None,
    preprocess: bool = True,
    examples: Annotated[int, Between(1, 1000)] = 10,
    delta: Annotated[float, Fraction()] = 0.05,
    checkpoint: str | Path | None = None,
    device: str | None = None,
    rng: np.random.Generator | int | None = None,
) -> SparseFeatures:
    """Find the features that activations are made of, by a sparse autoencoder whose neurons fire at prescribed frequencies.

    Parameters
    ----------
    activations : array-like (N, d), tensor, memory map, or path
        npy and safetensors are read piece by piece and may be larger than memory; npz, parquet and csv
        are read whole. Half precision is computed in float32. A tensor stays on its device.
    n_neurons : int, optional
        Width M of the dictionary, by default 4 d.
    groups : array-like, shape (N,), optional
        What belongs together, e.g. the text of each token: whole groups are then held out, and one row
        of each is counted.
    truth : array-like, shape (n, d), optional
        True features, for simulated activations.
    codes : array-like, shape (N, n), optional
        Coefficients of the true features.
    method : {"gba", "ba", "topk", "l1"}
        Grouped bias adaptation; the theorem's own algorithm with the one target `high`; or the
        baselines: the k largest, an ℓ1 penalty.
    n_groups : int, optional
        Groups of neurons, by default 10, stable from there on; for method gba.
    high : float, optional
        Target frequency of the first group, by default .5; for methods gba and ba.
    low : float, optional
        That of the last group, by default .001, even on a logarithmic scale in between; for method gba.
    activation : {"jumprelu", "relu"}, optional
        JumpReLU, the default, lets through what passes the threshold unshrunk; for method gba.
    k : int, optional
        Active neurons, by default 32; for method topk.
    l1 : float, optional
        Penalty, by default .03; for method l1.
    training : Training
        Steps, batches, learning rate and adaptation.
    n_seeds : int
        Runs from other random directions; the first one is returned, the others say which of its
        features come back.
    similarity : float
        Cosine above which a feature counts as come back.
    slack : float
        By what share of it a target may be exceeded; what frequency decides.
    at_least : float
        Share of live neurons that are to come back; what came-back and consistency decide.
    found : float
        Share of true features that are to be found, at cosine .9; what recovery decides.
    not_unique : float
        Share of rows whose code may not be the only one; what unique-code decides.
    held_out : float, optional
        Share of the rows held out; by default what frequency needs, at most .25, or .1 if that is less
        or out of reach.
    preprocess : bool
        Centre and scale to mean length 1, which the biases' range [−1, 0] assumes.
    examples : int
        Strongest rows of each neuron that are kept.
    delta : float
        Failure probability of each certificate.
    checkpoint : path, optional
        File in which the training is kept as it goes; one that is there is gone on with.
    device : str, optional
        Where the network is trained, e.g. "cuda"; by default where the activations live.
    rng : Generator or int, optional
        Source of randomness.

    Returns
    -------
    SparseFeatures

    Raises
    ------
    TypeError, ValueError
        If an argument is not what is accepted; the message names it.
    FloatingPointError
        If training diverges.

    References
    ----------
    S. Chen, H. Sheen, X. Xiong, T. Wang, Z. Yang. Taming Polysemanticity in LLMs: Provable Feature
    Recovery via Sparse Autoencoders. ICLR 2026. arXiv:2506.14002.
    """
    given = {"n_groups": n_groups, "high": high, "low": low, "activation": activation}
    plan = _plan(method, given | {"k": k, "l1": l1})
    same_order(activations=activations, groups=groups, codes=codes)
    rows = open_rows(activations)
    N, d = rows.shape
    M = 4 * d if n_neurons is None else n_neurons
    if n_groups is None:
        plan = replace(plan, n_groups=min(plan.n_groups, M))
    _check_sizes(plan, M, N, training)
    _refuse_ignored(method, training, checkpoint)
    every = training.every(plan.low, method == "gba")
    model_of_rows = _truth(truth, codes, N, d)
    units = (
        None if groups is None else np.unique(as_units(groups, "groups", N), return_inverse=True)[1]
    )
    place = _device(device, rows)
    root, fresh = _root(rng, checkpoint)
    stream = np.random.default_rng(root)
    share = LEAST_HELD_OUT if held_out is None else held_out
    if held_out is None and method in TARGETED:
        rarest = max(1, M // plan.n_groups)
        needed = t.rows_needed(plan.low, M, slack, delta, rarest)
        needed /= N if units is None else int(units.max()) + 1
        if needed <= OUT_OF_REACH:  # else rows are better spent on training
            share = min(max(needed, LEAST_HELD_OUT), MOST_HELD_OUT)
    inside, outside = _split(rows, units, share, stream)
    own = stream if preprocess else np.random.default_rng(root)
    middle, scale = _statistics(rows, inside, own)
    mean, scale = (middle, scale) if preprocess else (np.zeros(d, np.float32), 1.0)
    counted = (
        np.ones(len(outside), dtype=bool) if units is None else _one_a_group(units[outside], stream)
    )
    target, group = targets(M, plan.n_groups, plan.high, plan.low)
    seeds = stream.integers(2**31, size=n_seeds).tolist()
    store = None
    if checkpoint is not None:
        settings = {
            **vars(plan),
            "training": settings_of(training),
            "neurons": M,
            "seeds": seeds,
            "root": root,
            "activations": [N, d, digest(mean, inside, outside, rows.take(_spread(N))), scale],
            "preprocess": preprocess,
        }
        store = Checkpoint(Path(checkpoint), settings)
    work = _Work(rows, inside, mean, scale, M, plan, training, every, target, group, place, store)
    with _whatever_is_around(place):
        runs = [work.run(s, seed, f"seed {s + 1} of {n_seeds}") for s, seed in enumerate(seeds)]
        return _certified(
            work,
            runs,
            outside,
            counted,
            units,
            model_of_rows,
            centre=(middle - mean) / scale,
            fresh=fresh and (store is None or not store.resumed),
            own=method == "ba" and not preprocess,
            similarity=similarity,
            slack=slack,
            at_least=at_least,
            found=found,
            not_unique=not_unique,
            examples=examples,
            delta=delta,
            rng=stream,
        )


@contextmanager
def _whatever_is_around(place: Any) -> Iterator[None]:
    """Gradients and full precision, also in the block without them in which activations were taken.

    What is certified is what `encode` computes, which knows no autocast.
    """
    import torch

    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in {"cpu", place.type}:
            if torch.amp.is_autocast_available(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


@dataclass(frozen=True)
class _Plan:
    """A method with the options that it has."""

    method: Method
    n_groups: int
    high: float
    low: float
    activation: Literal["jumprelu", "relu"]
    k: int | None
    l1: float


def _plan(method: Method, given: dict[str, Any]) -> _Plan:
    used = USED[method]
    ignored = [name for name, value in given.items() if value is not None and name not in used]
    if ignored:
        raise ValueError(
            f"{ignored[0]} is of no use with method {method!r}, which takes {', '.join(used)}"
        )
    chosen = {n: DEFAULTS[n] if v is None else v for n, v in given.items()}
    if method == "gba" and chosen["low"] >= chosen["high"]:
        raise ValueError(f"low must be below high, got {chosen['low']:g} and {chosen['high']:g}")
    if method == "ba":
        chosen |= {"n_groups": 1, "low": chosen["high"]}
    return _Plan(
        method,
        chosen["n_groups"],
        chosen["high"],
        chosen["low"],
        "relu" if method == "l1" else chosen["activation"],
        chosen["k"] if method == "topk" else None,
        chosen["l1"] if method == "l1" else 0.0,
    )


def _refuse_ignored(method: Method, training: Training, checkpoint: Any) -> None:
    if method == "ba" and checkpoint is not None:
        raise ValueError("checkpoint is of no use with method 'ba', which keeps none")
    ignored = [f.name for f in fields(Training)]
    if method != "ba":
        ignored = [] if method == "gba" else ignored[ignored.index("adapt_every") :]
    changed = [n for n in ignored if getattr(training, n) != getattr(USUAL, n)]
    if changed:
        raise ValueError(f"training: {changed[0]} is of no use with method {method!r}")


def _check_sizes(plan: _Plan, M: int, N: int, training: Training) -> None:
    if plan.method == "gba" and plan.n_groups > M:
        raise ValueError(f"n_groups must not exceed n_neurons = {M}, got {plan.n_groups}")
    if plan.k is not None and plan.k > M:
        raise ValueError(f"k must not exceed n_neurons = {M}, got {plan.k}")
    if N < 4:
        raise ValueError(f"activations must have at least 4 rows, got {N}")
    if 10 * training.batch_size > N and plan.method != "ba":
        warnings.warn(
            f"{N} rows are few for batches of {training.batch_size}: each row is seen in almost every "
            "epoch",
            stacklevel=4,
        )


def _truth(truth: Any, codes: Any, N: int, d: int) -> t.Model | None:
    if truth is None:
        if codes is not None:
            raise ValueError("codes were given without truth, the features that they are of")
        return None
    V = as_matrix(truth, "truth", dtype=np.float64)
    if V.shape[1] != d:
        raise ValueError(f"truth must have {d} columns as activations have, got {V.shape[1]}")
    if codes is None:
        return t.Model(V)
    H = as_matrix(codes, "codes", dtype=np.float64)
    if H.shape != (N, len(V)):
        raise ValueError(
            f"codes must have a row for each of {N} activations and a column for each row of truth, "
            f"got {H.shape}"
        )
    return t.Model(V, H)


def _device(device: str | None, rows: Rows) -> Any:
    import torch

    if device is None:
        return rows.array.device if rows.tensor else torch.device("cpu")
    try:
        place = torch.device(device)
        torch.zeros(1, device=place)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"device {device!r} is not to be had: {str(error).partition(chr(10))[0]}"
        ) from error
    return place


def _root(rng: Any, checkpoint: str | Path | None) -> tuple[int, bool]:
    """The number that all randomness comes from, that of the checkpoint if there is one; and whether it was drawn by numpy."""
    mine = int(np.random.default_rng(rng).integers(2**62))
    if checkpoint is not None and Path(checkpoint).is_file():
        written = header(Path(checkpoint))[0].get("root")
        if rng is not None and written != mine:
            raise ValueError(f"checkpoint: {checkpoint} is of a training with another rng")
        if not isinstance(written, int) or not 0 <= written < 2**62:
            raise ValueError(
                f"checkpoint: {checkpoint} does not say where its randomness comes from"
            )
        return written, False
    return mine, plain_generator(rng)


def _split(
    rows: Rows, units: np.ndarray | None, share: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on and rows held out: whole groups or, from a file, whole pieces."""
    N = len(rows)
    if units is not None:
        number = units
    else:
        size = 1 if rows.array is not None else min(CHUNK, max(1, N // 20))
        number = np.arange(N) // size
    kinds = int(number.max()) + 1
    if kinds < 2:
        raise ValueError("groups must have at least two different values")
    held = np.zeros(kinds, dtype=bool)
    order = rng.permutation(kinds)
    sizes = np.bincount(number)[order].cumsum()
    most = min(share * N, HELD_OUT_ROWS)
    held[order[: min(max(1, int(np.searchsorted(sizes, most)) + 1), kinds - 1)]] = True
    return np.flatnonzero(~held[number]), np.flatnonzero(held[number])


def _spread(N: int) -> np.ndarray:
    """Rows by which activations are known again: neither their mean nor their number is their own."""
    return np.unique(np.linspace(0, N - 1, 1000).astype(np.int64))


def _one_a_group(units: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One row of each group, drawn evenly."""
    order = rng.permutation(len(units))
    kept = np.zeros(len(units), dtype=bool)
    kept[order[np.unique(units[order], return_index=True)[1]]] = True
    return kept


def _statistics(
    rows: Rows, inside: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """Mean, and mean distance from it, of at most 200,000 training rows."""
    some = inside if len(inside) <= SCANNED else np.sort(rng.choice(inside, SCANNED, replace=False))
    parts = np.array_split(some, max(1, len(some) // 8192))
    total = np.zeros(rows.shape[1])
    for part in parts:
        total += rows.take(part).sum(axis=0, dtype=np.float64)
    mean = total / len(some)
    lengths = sum(
        float(np.linalg.norm(rows.take(p).astype(np.float64) - mean, axis=1).sum()) for p in parts
    )
    scale = lengths / len(some)
    if not np.isfinite(scale) or scale <= 0:
        raise ValueError("activations must be finite and differ from row to row")
    return mean.astype(np.float32), scale


@dataclass(frozen=True)
class _Work:
    """What all runs share."""

    rows: Rows
    inside: np.ndarray
    mean: np.ndarray
    scale: float
    M: int
    plan: _Plan
    training: Training
    every: int
    target: np.ndarray
    group: np.ndarray
    device: Any
    store: Checkpoint | None

    def run(self, number: int, seed: int, description: str) -> Run:
        """Train from one seed."""
        if self.plan.method == "ba":
            return self._power(seed)
        import torch

        from whp.interpretability._sae_gba.adapter import BiasAdapter
        from whp.interpretability._sae_gba.measuring import Scaling
        from whp.interpretability._sae_gba.network import GBASparseAutoencoder

        plan, training = self.plan, self.training
        model = GBASparseAutoencoder(
            self.rows.shape[1],
            self.M,
            activation=plan.activation,
            k=plan.k,
            train_bias=plan.method == "l1",
            generator=torch.Generator().manual_seed(seed),
            device=self.device,
            dtype=torch.float32,
        )
        adapter = None
        if plan.method == "gba":
            adapter = BiasAdapter(
                model,
                self.target,
                self.group,
                gamma_up=training.gamma_up,
                gamma_down=training.gamma_down,
                dead_below=training.dead_below,
            )
        scaling = Scaling(self.mean, self.scale)

        def batches(skip: int) -> Any:
            stream = np.random.default_rng(seed)
            size = training.batch_size
            return map(scaling, self.rows.batches(self.inside, size, stream, self.device, skip))

        return train(
            model,
            batches,
            training,
            adapter=adapter,
            adapt_every=self.every,
            l1=plan.l1,
            description=description,
            checkpoint=self.store,
            run=number,
        )

    def _power(self, seed: int) -> Run:
        rng = np.random.default_rng(seed)
        some = self.inside
        if len(some) > SCANNED:
            some = np.sort(rng.choice(some, SCANNED, replace=False))
        A = (self.rows.take(some) - self.mean) / np.float32(self.scale)
        W, theta = bias_adaptation(A, self.M, self.plan.high, rng=rng)
        return Run(
            W,
            np.ones(self.M, np.float32),
            np.minimum(-theta, 0),
            np.zeros(W.shape[1], np.float32),
            np.empty((0, 3)),
        )


def _certified(
    work: _Work,
    runs: list[Run],
    outside: np.ndarray,
    counted: np.ndarray,
    units: np.ndarray | None,
    model: t.Model | None,
    *,
    centre: np.ndarray,
    fresh: bool,
    own: bool,
    similarity: float,
    slack: float,
    at_least: float,
    found: float,
    not_unique: float,
    examples: int,
    delta: float,
    rng: np.random.Generator,
) -> SparseFeatures:
    from whp.interpretability._sae_gba.measuring import Scaling, look_at_rows, measure, network_of

    plan, rows = work.plan, work.rows
    first = runs[0]
    scaling = Scaling(work.mean, work.scale)
    shape = {"activation": plan.activation, "k": plan.k, "device": work.device}
    nets = [network_of(run, **shape) for run in runs]
    together = None if units is None else units[outside]
    seen = measure(
        rows, outside, counted, scaling, nets, examples, rng, centre=centre, groups=together
    )
    test, distance, again = look_at_rows(
        rows, work.inside, outside[counted], units, scaling, nets[0], rng
    )
    answers = (
        t.independence(test, again, int(counted.sum()), units is not None, distance),
        t.HELD_OUT.by_construction("this run held them back")
        if fresh
        else t.HELD_OUT.unchecked("the training, or its randomness, came from elsewhere"),
    )
    mine, *theirs = (run.W[live] for run, live in zip(runs, seen.live, strict=True))
    seeds = (
        t.SEEDS.by_construction("this run drew them")
        if fresh
        else t.SEEDS.unchecked("the training, or its randomness, came from elsewhere")
    )
    some = outside[: min(len(outside), LOOKED_AT)]
    chance = (
        matched_chance(
            (rows.take(some) - work.mean) / work.scale, mine, max(theirs, key=len), similarity, rng
        )  # of runs with unlike numbers of live neurons the most come back to the one with most
        if theirs
        else Chance(0.0, 0.0, 0.0)
    )
    back: dict[str, Any] = {"seeds": seeds, "cosine": similarity, "at_least": at_least}
    if model is not None and model.codes is not None:
        shown = np.sort(rng.choice(len(rows), min(len(rows), LOOKED_AT), replace=False))
        model = t.Model(model.truth, model.codes, rows.take(shown), shown)
    certificates: list[Certificate] = []
    if model is not None or plan.method == "ba":  # of others, unknown features are nobody's claim
        certificates.append(
            t.recovery(first.W, model, p=plan.high, own=own, at_least=found, rng=rng)
        )
    if plan.method in TARGETED:
        certificates.append(
            t.frequency(
                seen.fired_counted,
                int(counted.sum()),
                work.target,
                answers=answers,
                slack=slack,
                delta=delta,
                untrained=float((seen.untrained / work.target).max()),
                grouped=units is not None,
            )
        )
    certificates += [
        t.came_back(mine, theirs, chance, **back),
        t.consistency(mine, theirs, chance, **back, delta=delta),
        t.unique_code(
            seen.active,
            first.W,
            answers=answers,
            at_most=not_unique,
            delta=delta,
            unbiased=seen.unbiased,
        ),
    ]
    nowhere = np.full(work.M, np.nan)
    targeted = plan.method in TARGETED
    return SparseFeatures(
        method=plan.method,
        n_neurons=work.M,
        fvu=seen.fvu,
        active=seen.mean_active,
        alive=float(seen.live[0].mean()),
        decoder=first.W,
        scale=first.a,
        bias=first.b,
        center=first.c,
        mean=work.mean,
        input_scale=work.scale,
        target=work.target if targeted else nowhere,
        group=work.group if targeted else np.zeros(work.M, np.int64),
        frequency=seen.fired / len(outside),
        consistency=_similar(runs, seen.live) if theirs else nowhere,
        examples=seen.examples,
        strength=seen.strength,
        history=pd.DataFrame(first.history, columns=list(STEPS)),
        activation=plan.activation,
        k=plan.k,
        certificates=tuple(certificates),
        rows=(len(work.inside), len(outside), int(counted.sum())),
    )


def _similar(runs: list[Run], live: list[np.ndarray]) -> np.ndarray:
    """Of each neuron the mean, over other runs, of its largest cosine to a live neuron there."""
    pairs = zip(runs[1:], live[1:], strict=True)
    return np.mean([nearest(runs[0].W, run.W[alive]) for run, alive in pairs], axis=0)
