"""What :func:`sae_gba` returns."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from whp.certificate import Certificate
from whp.interpretability._sae_gba.report import NeuronCard, page
from whp.interpretability._sae_gba.training import STEPS, replace_file
from whp.intervals import Estimate
from whp.result import PALETTE, Result
from whp.validate import as_choice, as_int, as_matrix, as_sequence

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["SparseFeatures"]

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
    examples, strength : ndarray, shape (M, examples)
        Held-out rows that excite each neuron most, −1 where there are fewer, and its codes there.
    history : DataFrame
        ``step``, ``loss``, ``active`` during training.
    certificates : tuple of Certificate
        ``recovery`` (with `truth`), ``frequency`` (of methods with targets), ``came-back``, ``consistency`` and
        ``unique-code``.
    rows : tuple of int
        Rows that trained it, rows held out, and rows counted by the certificates.
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
    rows: tuple[int, int, int] = (0, 0, 0)
    figure_size: ClassVar[tuple[float, float]] = (6.4, 4.0)

    def _dense(self, X: np.ndarray) -> np.ndarray:
        # Rounded first, as the rows were that trained it and that certificates count: far from zero a
        # row of doubles is another one in float32.
        single = np.asarray(X, dtype=np.float32).astype(np.float64)
        x = ((single - self.mean) / self.input_scale).astype(np.float32)
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
        A = as_matrix(X, "X")
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

    def top_examples(self, m: int, n: int | None = None) -> pd.DataFrame:
        """Held-out rows that excite neuron `m` most, with its codes: ``row``, ``code``; as many as `examples` kept."""
        kept_rows = self.examples.shape[1]
        m = as_int(m, "m", low=0, high=len(self.decoder) - 1)
        n = kept_rows if n is None else as_int(n, "n", low=1, high=kept_rows)
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
        self, path: str | Path, texts: Iterable[str], neurons: Sequence[int] | None = None
    ) -> None:
        """Write an HTML page: for each neuron its frequency, and what excites it most, marked by strength.

        Parameters
        ----------
        path : path or str
        texts : sequence of str
            A text for each row of the activations, in their order, whatever index it has.
        neurons : sequence of int, optional
            Which; by default the hundred that come back best under another seed, or fire most.
        """
        every = as_sequence(texts, "texts")
        if len(every) != sum(self.rows[:2]):
            raise ValueError(
                f"texts must have an entry for each of {sum(self.rows[:2])} rows of the activations, "
                f"got {len(every)}"
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
            [self._card(m, every) for m in chosen],
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
        arrays = {name: getattr(self, name) for name in ARRAYS}
        arrays["history"] = self.history.reindex(columns=list(STEPS)).to_numpy(np.float64)
        settings = {
            "method": self.method,
            "activation": self.activation,
            "k": self.k,
            "input_scale": self.input_scale,
            "fvu": [self.fvu.value, self.fvu.low, self.fvu.high, self.fvu.level, self.fvu.n],
            "rows": list(self.rows),
            "active": self.active,
            "alive": self.alive,
        }
        replace_file(Path(path), arrays, settings)

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
                kept_steps = "history" in file.keys()  # noqa: SIM118
                steps = file.get_tensor("history") if kept_steps else np.empty((0, len(STEPS)))
            *ends, n = settings["fvu"]
            value, low, high, level = (float(v) for v in ends)
            made = cls(
                method=str(settings["method"]),
                n_neurons=len(arrays["decoder"]),
                fvu=Estimate(value, low, high, level, int(n), "delta method"),
                active=float(settings["active"]),
                alive=float(settings["alive"]),
                input_scale=float(settings["input_scale"]),
                activation=as_choice(
                    str(settings["activation"]), "activation", ("jumprelu", "relu")
                ),
                k=None if settings["k"] is None else int(settings["k"]),
                history=pd.DataFrame(steps, columns=list(STEPS)),
                rows=tuple(int(v) for v in settings["rows"]),  # type: ignore[arg-type]
                **arrays,
            )
            M, d = made.decoder.shape
            wanted = dict.fromkeys(
                ("scale", "bias", "target", "group", "frequency", "consistency"), (M,)
            )
            kept = made.examples.shape[-1]
            wanted |= {"center": (d,), "mean": (d,), "examples": (M, kept), "strength": (M, kept)}
            if any(arrays[n].shape != s for n, s in wanted.items()):
                raise ValueError("its shapes do not fit each other")
            numbers = [a for name, a in arrays.items() if name not in ("consistency", "target")]
            if not all(np.isfinite(a).all() for a in numbers) or not made.input_scale > 0:
                raise ValueError("it holds numbers that are not finite")
        except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
            raise ValueError(f"{path} holds no features of ours: {error}") from error
        return made

    def draw(self, ax: Axes) -> None:
        """Frequency of every neuron on held-out rows against its target."""
        order = np.argsort(self.group, kind="stable")
        places = np.arange(len(order))
        never = self.frequency[order] == 0
        least = 0.5 / max(self.rows[1], 1)
        shown = np.where(never, least, self.frequency[order])
        style = {"linestyle": "none", "markersize": 2}
        ax.plot(
            places[~never],
            shown[~never],
            marker=".",
            color=PALETTE["ours"],
            label="on held-out rows",
            **style,
        )
        if never.any():
            ax.plot(
                places[never],
                shown[never],
                marker="v",
                color=PALETTE["quiet"],
                label="never",
                **style,
            )
        if self.method in ("gba", "ba"):
            ax.plot(places, self.target[order], color=PALETTE["other"], label="target")
        ax.set(yscale="log", xlabel="neurons, by group", ylabel="share of rows on which it fires")
        ax.legend(frameon=False)
