"""The front door: activations in, a dictionary of features with their frequencies out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from whp.certificate import Certificate
from whp.interpretability.sae_gba import guarantee
from whp.interpretability.sae_gba.report import NeuronCard, page
from whp.interpretability.sae_gba.rows import Rows, open_rows
from whp.interpretability.sae_gba.theory import bias_adaptation, cap_chance, nearest, targets
from whp.intervals import Estimate, exact
from whp.io import Data
from whp.result import Result
from whp.validate import as_choice, as_fraction, as_int, as_matrix, as_real

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["SparseFeatures", "sae_gba"]

HELD_OUT = 0.1
MOST_HELD_OUT = 50_000
SCANNED = 200_000
TOP = 10


@dataclass(frozen=True, eq=False)
class SparseFeatures(Result):
    """A dictionary of features.

    Attributes
    ----------
    decoder : ndarray, shape (M, d)
        Unit rows.
    scale, bias : ndarray, shape (M,)
        Factor of each code, and bias of each neuron.
    center, mean : ndarray, shape (d,)
        The trained centre, in scaled units, and the mean of the activations.
    input_scale : float
        What centred activations are divided by.
    target, group, frequency, consistency : ndarray, shape (M,)
        Target frequency and group; frequency on held-out rows; largest cosine to a neuron of another seed (NaN with one).
    fvu, active, alive : float
        Unexplained share of the variance of held-out rows, mean active neurons a row, and share of neurons that fire at all.
    examples, strength : ndarray, shape (M, 10)
        Rows of the activations that excite each neuron most, −1 where there are fewer, and its codes there.
    history : DataFrame
        ``step``, ``loss``, ``active`` during training.
    certificates : tuple of Certificate
        ``recovery``, ``frequency``, ``consistency`` and ``unique-code``.
    """

    method: str
    n_neurons: int
    fvu: Estimate
    active: float
    alive: float
    decoder: np.ndarray
    scale: np.ndarray
    bias: np.ndarray
    center: np.ndarray
    mean: np.ndarray
    input_scale: float
    target: np.ndarray
    group: np.ndarray
    frequency: np.ndarray
    consistency: np.ndarray
    examples: np.ndarray = field(repr=False)
    strength: np.ndarray = field(repr=False)
    history: pd.DataFrame = field(repr=False)
    activation: str = "jumprelu"
    k: int | None = None
    certificates: tuple[Certificate, ...] = ()

    def _dense(self, X: np.ndarray) -> np.ndarray:
        x = ((np.asarray(X, dtype=np.float32) - self.mean) / self.input_scale).astype(np.float32)
        u = (x - self.center) @ self.decoder.T
        if self.k is not None:
            kept = np.argpartition(u, -self.k, axis=1)[:, -self.k :]
            z = np.zeros_like(u)
            np.put_along_axis(z, kept, np.maximum(np.take_along_axis(u, kept, 1), 0), 1)
            return z
        y = u + self.bias
        return np.where(y > 0, u, 0) if self.activation == "jumprelu" else np.maximum(y, 0)

    def encode(self, X: Any) -> csr_array:
        """Codes of activations (n, d), sparse (n, M)."""
        A = as_matrix(X, "X", dtype=np.float32)
        if A.shape[1] != self.decoder.shape[1]:
            raise ValueError(f"X must have {self.decoder.shape[1]} columns, got {A.shape[1]}")
        from scipy.sparse import vstack

        return csr_array(
            vstack([csr_array(self._dense(A[i : i + 2048])) for i in range(0, len(A), 2048)])
        )

    def decode(self, Z: Any) -> np.ndarray:
        """Activations (n, d) of codes (n, M)."""
        return (
            Z @ (self.scale[:, None] * self.decoder) + self.center
        ) * self.input_scale + self.mean

    def top_examples(self, m: int, n: int = TOP) -> pd.DataFrame:
        """Rows that excite neuron `m` most, with its codes: ``row``, ``code``."""
        m, n = as_int(m, "m", low=0, high=len(self.decoder) - 1), as_int(n, "n", low=1, high=TOP)
        kept = self.examples[m, :n] >= 0
        return pd.DataFrame({"row": self.examples[m, :n][kept], "code": self.strength[m, :n][kept]})

    def neurons(self) -> pd.DataFrame:
        """A row a neuron: group, target, frequency, consistency, bias, scale, and its strongest row."""
        return pd.DataFrame(
            {
                "group": self.group,
                "target": self.target,
                "frequency": self.frequency,
                "consistency": self.consistency,
                "bias": self.bias,
                "scale": self.scale,
                "strongest_row": self.examples[:, 0],
            }
        )

    def summary(self) -> dict[str, bool | int | float | str | None]:
        """How much is explained by how few."""
        found = self.consistency[np.isfinite(self.consistency)]
        return {
            "method": self.method,
            "neurons": self.n_neurons,
            "unexplained_variance": str(self.fvu),
            "active_neurons_a_row": self.active,
            "neurons_alive": self.alive,
            "cosine_to_another_seed": f"median {np.median(found):.3f}"
            if len(found)
            else "one seed",
        }

    def artifacts(self) -> dict[str, Any]:
        """Weights, and a table of neurons."""
        return {
            "features.safetensors": self.save,
            "neurons.csv": self.neurons(),
            "history.csv": self.history,
        }

    def report(
        self, path: str | Path, texts: Sequence[str], neurons: Sequence[int] | None = None
    ) -> None:
        """Write an HTML page: for each neuron its frequency, and what excites it most, marked by strength.

        Parameters
        ----------
        path : path or str
        texts : sequence of str
            A text for each row of the activations.
        neurons : sequence of int, optional
            Which; by default the hundred that come back best under another seed, or fire most.
        """
        most = int(self.examples.max())
        if len(texts) <= most:
            raise ValueError(
                f"texts must have an entry for every row of the activations, got {len(texts)}, row "
                f"{most} is needed"
            )
        if neurons is None:
            known = np.isfinite(self.consistency).any()
            order = self.consistency if known else self.frequency
            live = np.flatnonzero(self.frequency > 0)
            neurons = live[np.argsort(-order[live], kind="stable")][:100].tolist()
        chosen = [as_int(m, "neurons", low=0, high=self.n_neurons - 1) for m in list(neurons or ())]
        page(
            Path(path),
            f"{len(chosen)} of {self.n_neurons} features",
            f"{self.fvu} of the variance is unexplained, {self.active:.1f} neurons fire on a row.",
            self.certificates,
            [self._card(m, texts) for m in chosen],
        )

    def _card(self, m: int, texts: Sequence[str]) -> NeuronCard:
        examples = self.top_examples(m)
        rows = zip(examples["row"].tolist(), examples["code"].tolist(), strict=True)
        return NeuronCard(
            m,
            float(self.frequency[m]),
            float(self.target[m]),
            float(self.consistency[m]),
            [(str(texts[row]), code) for row, code in rows],
        )

    def save(self, path: str | Path) -> None:
        """Write the weights as safetensors, settings in its header as JSON."""
        from safetensors.numpy import save_file

        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in ARRAYS}
        settings = {
            "method": self.method,
            "activation": self.activation,
            "k": self.k,
            "input_scale": self.input_scale,
            "fvu": self.fvu.value,
            "active": self.active,
            "alive": self.alive,
        }
        save_file(arrays, path, metadata={"whp": json.dumps(settings)})

    @classmethod
    def load(cls, path: str | Path) -> SparseFeatures:
        """What :meth:`save` wrote, without certificates.

        Raises
        ------
        ValueError
            If the file is not one of ours.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "np") as file:
                settings = json.loads((file.metadata() or {})["whp"])
                arrays = {name: file.get_tensor(name) for name in ARRAYS}
            fvu = float(settings["fvu"])
            made = cls(
                method=str(settings["method"]),
                n_neurons=len(arrays["decoder"]),
                fvu=exact(fvu),
                active=float(settings["active"]),
                alive=float(settings["alive"]),
                input_scale=float(settings["input_scale"]),
                activation=as_choice(
                    str(settings["activation"]), "activation", ("jumprelu", "relu")
                ),
                k=None if settings["k"] is None else int(settings["k"]),
                history=pd.DataFrame(),
                **arrays,
            )
            M, d = made.decoder.shape
            wanted = dict.fromkeys(
                ("scale", "bias", "target", "group", "frequency", "consistency"), (M,)
            )
            wanted |= {"center": (d,), "mean": (d,), "examples": (M, TOP), "strength": (M, TOP)}
            if any(arrays[n].shape != s for n, s in wanted.items()):
                raise ValueError("its shapes do not fit each other")
        except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
            raise ValueError(f"{path} holds no features of ours: {error}") from error
        return made

    def plot(self, ax: Axes | None = None) -> Axes:
        """Frequency of every neuron on held-out rows against its target."""
        if ax is None:
            import matplotlib.pyplot as plt

            ax = plt.subplots()[1]
        order = np.argsort(self.group, kind="stable")
        shown = np.maximum(self.frequency[order], 3e-6)
        ax.plot(
            np.arange(len(order)),
            shown,
            ".",
            markersize=2,
            color="tab:blue",
            label="on held-out rows",
        )
        if self.method in ("gba", "ba"):
            ax.plot(np.arange(len(order)), self.target[order], color="tab:orange", label="target")
        ax.set(yscale="log", xlabel="neurons, by group", ylabel="share of rows on which it fires")
        ax.legend(frameon=False)
        return ax


ARRAYS = (
    "decoder",
    "scale",
    "bias",
    "center",
    "mean",
    "target",
    "group",
    "frequency",
    "consistency",
    "examples",
    "strength",
)


def sae_gba(
    activations: Annotated[Any, Data("activations")],
    n_neurons: int | None = None,
    *,
    groups: Annotated[Any, Data("labels")] = None,
    truth: Annotated[Any, Data("matrix")] = None,
    codes: Annotated[Any, Data("matrix")] = None,
    method: Literal["gba", "ba", "topk", "l1"] = "gba",
    n_groups: int = 10,
    high: float = 0.5,
    low: float = 1e-3,
    activation: Literal["jumprelu", "relu"] = "jumprelu",
    steps: int = 5000,
    batch_size: int = 512,
    lr: float = 1e-3,
    adapt_every: int | None = None,
    gamma_up: float = 0.01,
    gamma_down: float = 0.01,
    dead_below: float = 1e-6,
    k: int = 32,
    l1: float = 0.03,
    n_seeds: int = 2,
    similarity: float = 0.7,
    preprocess: bool = True,
    delta: float = 0.05,
    rng: np.random.Generator | int | None = None,
) -> SparseFeatures:
    """Find the features that activations are made of, by a sparse autoencoder whose neurons fire at prescribed frequencies.

    Parameters
    ----------
    activations : array-like (N, d), memory map, or path of npy or safetensors
        A file is read piece by piece and may be larger than memory. Half precision is computed in float32.
    n_neurons : int, optional
        Width M of the dictionary, by default 4 d.
    groups : array-like, shape (N,), optional
        What belongs together, e.g. the text of each token: whole groups are then held out.
    truth, codes : array-like, optional
        True features (n, d) and coefficients (N, n), for simulated activations.
    method : {"gba", "ba", "topk", "l1"}
        Grouped bias adaptation; the theorem's own algorithm with the one target `high`; or the baselines: the k largest, an ℓ1
        penalty.
    n_groups : int
        Groups of neurons; stable from 10 on.
    high, low : float
        Target frequencies of the first and the last group; even on a logarithmic scale in between.
    activation : {"jumprelu", "relu"}
        JumpReLU lets through what passes the threshold unshrunk.
    steps, batch_size : int
        Of Adam.
    lr : float
        Of Adam.
    adapt_every : int, optional
        Steps between adaptations; by default so that there are some 400, and that `low` can be seen at all.
    gamma_up, gamma_down : float
        How far a bias moves at a time.
    dead_below : float
        Frequency below which a neuron counts as dead.
    k : int
        Active neurons, for ``"topk"``.
    l1 : float
        Penalty, for ``"l1"``.
    n_seeds : int
        Runs from other random directions; the first one is returned, the others say which of its features come back.
    similarity : float
        Cosine above which a feature counts as come back.
    preprocess : bool
        Centre and scale to mean length 1, which the biases' range [−1, 0] assumes.
    delta : float
        Failure probability of each certificate.
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
    """
    rows = open_rows(activations)
    N, d = rows.shape
    as_choice(method, "method", ("gba", "ba", "topk", "l1"))
    as_choice(activation, "activation", ("jumprelu", "relu"))
    M = 4 * d if n_neurons is None else as_int(n_neurons, "n_neurons", low=2)
    n_groups = as_int(n_groups, "n_groups", low=1)
    if n_groups > M:
        raise ValueError(f"n_groups must not exceed n_neurons = {M}, got {n_groups}")
    high, low = as_fraction(high, "high"), as_fraction(low, "low")
    if low >= high:
        raise ValueError(f"low must be below high, got {low:g} and {high:g}")
    steps, batch_size = as_int(steps, "steps", low=1), as_int(batch_size, "batch_size", low=1)
    lr = as_real(lr, "lr", low=0, high=10, open_ends=True)
    k, l1 = as_int(k, "k", low=1), as_real(l1, "l1", low=0, high=1e6)
    if method == "topk" and k > M:
        raise ValueError(f"k must not exceed n_neurons = {M}, got {k}")
    n_seeds, delta = as_int(n_seeds, "n_seeds", low=1), as_fraction(delta, "delta")
    similarity = as_fraction(similarity, "similarity")
    if not isinstance(preprocess, bool | np.bool_):
        raise TypeError(f"preprocess must be True or False, got {preprocess!r}")
    if N < 4:
        raise ValueError(f"activations must have at least 4 rows, got {N}")
    if 10 * batch_size > N:
        import warnings

        warnings.warn(
            f"{N} rows are few for batches of {batch_size}: each row is seen in almost every epoch",
            stacklevel=2,
        )
    every = _adapt_every(adapt_every, steps, batch_size, low, method)
    V = None if truth is None else as_matrix(truth, "truth", dtype=np.float64)
    if V is not None and V.shape[1] != d:
        raise ValueError(f"truth must have {d} columns as activations have, got {V.shape[1]}")
    H = None if codes is None else as_matrix(codes, "codes", dtype=np.float64)
    if H is not None and (V is None or H.shape != (N, len(V))):
        raise ValueError(
            f"codes must have a row for each of {N} activations and a column for each row of truth, got {H.shape}"
        )
    rng = np.random.default_rng(rng)
    inside, outside = _split(rows, groups, rng)
    mean, scale = _statistics(rows, inside, rng) if preprocess else (np.zeros(d, np.float32), 1.0)
    target, group = targets(M, 1 if method == "ba" else n_groups, high, low)
    runs = []
    for s in range(n_seeds):
        seed = int(rng.integers(2**31))
        if method == "ba":
            A = rows.take(np.sort(rng.choice(inside, min(len(inside), SCANNED), replace=False)))
            W, theta = bias_adaptation((A - mean) / scale, M, high, rng=seed)
            runs.append(
                (
                    W,
                    np.ones(M, np.float32),
                    np.minimum(-theta, 0),
                    np.zeros(d, np.float32),
                    np.empty((0, 3)),
                )
            )
        else:
            settings = {
                "activation": activation,
                "steps": steps,
                "batch_size": batch_size,
                "lr": lr,
                "adapt_every": every,
                "gamma_up": gamma_up,
                "gamma_down": gamma_down,
                "dead_below": dead_below,
                "k": k,
                "l1": l1,
            }
            runs.append(
                _trained(
                    rows,
                    inside,
                    mean,
                    scale,
                    M,
                    method,
                    target,
                    group,
                    settings,
                    seed,
                    f"seed {s + 1} of {n_seeds}",
                )
            )
    W, a, b, c, history = runs[0]
    draft = SparseFeatures(
        method=method,
        n_neurons=M,
        fvu=exact(1.0),
        active=0.0,
        alive=0.0,
        decoder=W,
        scale=a,
        bias=b,
        center=c,
        mean=mean,
        input_scale=scale,
        target=target,
        group=group,
        frequency=np.zeros(M),
        consistency=np.full(M, np.nan),
        examples=np.full((M, TOP), -1, np.int64),
        strength=np.zeros((M, TOP), np.float32),
        history=pd.DataFrame(history, columns=["step", "loss", "active"]),
        activation="relu" if method == "l1" else activation,
        k=k if method == "topk" else None,
    )
    return _certified(
        draft, rows, outside, runs, V, H, groups is not None, similarity, delta, high, rng
    )


def _adapt_every(given: Any, steps: int, batch_size: int, low: float, method: str) -> int:
    if given is None:
        # Biases move by a hundredth at a time: they need some hundred moves, each seeing the rarest target at least once.
        return max(min(max(steps // 400, 1), 50), int(np.ceil(1 / (low * batch_size) - 1e-9)))
    every = as_int(given, "adapt_every", low=1)
    if method == "gba" and low * every * batch_size < 1 - 1e-9:
        raise ValueError(
            f"low={low:g} needs at least {int(np.ceil(1 / low - 1e-9))} samples per adaptation, adapt_every × batch_size is "
            f"{every * batch_size}"
        )
    return every


def _split(rows: Rows, groups: Any, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on and rows held out: a tenth, whole groups or, from a file, whole pieces."""
    N = len(rows)
    if groups is not None:
        labels = np.asarray(groups)
        if labels.shape != (N,):
            raise ValueError(f"groups must have {N} entries, one a row, got shape {labels.shape}")
        number = np.unique(labels, return_inverse=True)[1]
    else:
        number = np.arange(N) if rows.array is not None else np.arange(N) // 128
    kinds = int(number.max()) + 1
    if kinds < 2:
        raise ValueError("groups must have at least two different values")
    held = np.zeros(kinds, dtype=bool)
    order = rng.permutation(kinds)
    sizes = np.bincount(number)[order].cumsum()
    most = min(HELD_OUT * N, MOST_HELD_OUT)
    held[order[: min(max(1, int(np.searchsorted(sizes, most)) + 1), kinds - 1)]] = True
    return np.flatnonzero(~held[number]), np.flatnonzero(held[number])


def _statistics(
    rows: Rows, inside: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """Mean, and mean distance from it, of at most 200,000 training rows."""
    some = inside if len(inside) <= SCANNED else np.sort(rng.choice(inside, SCANNED, replace=False))
    total = np.zeros(rows.shape[1])
    for part in np.array_split(some, max(1, len(some) // 8192)):
        total += rows.take(part).sum(axis=0, dtype=np.float64)
    mean = total / len(some)
    lengths = 0.0
    for part in np.array_split(some, max(1, len(some) // 8192)):
        lengths += float(np.linalg.norm(rows.take(part) - mean, axis=1).sum())
    scale = lengths / len(some)
    if not np.isfinite(scale) or scale <= 0:
        raise ValueError("activations must be finite and differ from row to row")
    return mean.astype(np.float32), scale


def _trained(
    rows: Rows,
    inside: np.ndarray,
    mean: np.ndarray,
    scale: float,
    M: int,
    method: str,
    target: np.ndarray,
    group: np.ndarray,
    s: dict[str, Any],
    seed: int,
    description: str,
) -> tuple[np.ndarray, ...]:
    import torch

    from whp.interpretability.sae_gba.network import BiasAdapter, GBASparseAutoencoder, train

    generator = torch.Generator().manual_seed(seed)
    model = GBASparseAutoencoder(
        rows.shape[1],
        M,
        activation="relu" if method == "l1" else s["activation"],
        k=s["k"] if method == "topk" else None,
        train_bias=method == "l1",
        generator=generator,
    )
    adapter = None
    if method == "gba":
        adapter = BiasAdapter(
            model,
            target,
            group,
            gamma_up=s["gamma_up"],
            gamma_down=s["gamma_down"],
            dead_below=s["dead_below"],
        )
    batches = (
        ((b - mean) / scale).astype(np.float32)
        for b in rows.batches(inside, s["batch_size"], np.random.default_rng(seed))
    )
    history = train(
        model,
        batches,
        steps=s["steps"],
        lr=s["lr"],
        adapter=adapter,
        adapt_every=s["adapt_every"],
        l1=s["l1"] if method == "l1" else 0.0,
        description=description,
    )
    with torch.no_grad():
        return (
            model.directions().numpy().copy(),
            model.a.numpy().copy(),
            model.b.numpy().copy(),
            model.c.numpy().copy(),
            history,
        )


def _certified(
    draft: SparseFeatures,
    rows: Rows,
    outside: np.ndarray,
    runs: list[Any],
    V: Any,
    H: Any,
    grouped: bool,
    similarity: float,
    delta: float,
    p: float,
    rng: np.random.Generator,
) -> SparseFeatures:
    from dataclasses import replace

    M = draft.n_neurons
    fired, active, errors, spread = np.zeros(M, np.int64), [], [], []
    best, at = np.zeros((M, TOP), np.float32), np.full((M, TOP), -1, np.int64)
    for part in np.array_split(outside, max(1, len(outside) // 2048)):
        A = rows.take(part)
        z = draft._dense(A)
        fired += (z > 0).sum(axis=0)
        active.append((z > 0).sum(axis=1))
        errors.append(np.square(draft.decode(z) - A).sum(axis=1))
        spread.append(np.square(A - draft.mean).sum(axis=1))
        best, at = _strongest(best, at, z, part)
    error, total, counts = (np.concatenate(v) for v in (errors, spread, active))
    similar = (
        np.array([nearest(draft.decoder, other[0]) for other in runs[1:]])
        if len(runs) > 1
        else None
    )
    live = fired > 0
    sample = rows.take(outside[: min(len(outside), 5000)])
    chance = guarantee.matched_chance(sample, M, similarity, rng) if similar is not None else 0.0
    cap = cap_chance(draft.decoder.shape[1], similarity, M)[1]
    certificates = [
        guarantee.recovery(draft.decoder, V, H, p=p, threshold=0.9, rng=rng),
        guarantee.consistency(similar, live, similarity, chance, cap, len(runs), delta),
        guarantee.unique_code(counts, guarantee.coherence(draft.decoder, live), delta),
    ]
    if draft.method in ("gba", "ba"):
        certificates.insert(
            1,
            guarantee.frequency(
                fired, len(outside), draft.target, delta, True if grouped else None
            ),
        )
    ratio = float(error.sum() / total.sum())
    # delta method for a ratio of means
    width = 1.96 * float(np.std(error - ratio * total)) / np.sqrt(len(error)) / float(total.mean())
    return replace(
        draft,
        fvu=Estimate(
            ratio, max(0.0, ratio - width), ratio + width, 0.95, len(error), "delta method"
        ),
        active=float(counts.mean()),
        alive=float(live.mean()),
        frequency=fired / len(outside),
        consistency=np.full(M, np.nan) if similar is None else similar.mean(axis=0),
        examples=at,
        strength=best,
        certificates=tuple(certificates),
    )


def _strongest(
    best: np.ndarray, at: np.ndarray, z: np.ndarray, part: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Keep the ten largest codes of each neuron and the rows they belong to."""
    few = min(TOP, len(z))
    rows = np.argpartition(z, len(z) - few, axis=0)[len(z) - few :].T
    values = np.concatenate([best, np.take_along_axis(z.T, rows, axis=1)], axis=1)
    places = np.concatenate(
        [at, np.where(np.take_along_axis(z.T, rows, axis=1) > 0, part[rows], -1)], axis=1
    )
    order = np.argsort(-values, axis=1, kind="stable")[:, :TOP]
    return np.take_along_axis(values, order, 1), np.take_along_axis(places, order, 1)
