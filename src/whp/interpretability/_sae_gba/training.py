"""How a dictionary is trained, and how a training is stopped and gone on with."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from whp.door import Above, AtLeast, Between, check_fields
from whp.progress import track

if TYPE_CHECKING:
    import torch

__all__ = ["Checkpoint", "Run", "Training", "train"]

VERSION = 1
STEPS = ("step", "loss", "active")  # columns of a history


@dataclass(frozen=True)
class Training:
    """How long and how fast a dictionary is trained.

    Parameters
    ----------
    steps : int
        Steps of Adam.
    batch_size : int
        Rows a step.
    lr : float
        Learning rate of Adam.
    adapt_every : int, optional
        Steps between adaptations of the biases; by default so that there are some 400, and that
        `low` can be seen at all.
    gamma_up : float
        By what share of its group's reach a silent neuron's bias is raised at a time.
    gamma_down : float
        By what share of its reach the bias of a neuron above its target is lowered at a time.
    dead_below : float
        Frequency below which a neuron counts as dead.
    """

    steps: Annotated[int, AtLeast(1)] = 5000
    batch_size: Annotated[int, AtLeast(1)] = 512
    lr: Annotated[float, Above(0)] = 1e-3
    adapt_every: Annotated[int, AtLeast(1)] | None = None
    gamma_up: Annotated[float, Between(0, 1)] = 0.01
    gamma_down: Annotated[float, Between(0, 1)] = 0.01
    dead_below: Annotated[float, Between(0, 1)] = 1e-6

    def __post_init__(self) -> None:
        check_fields(self)

    def every(self, low: float, adapted: bool) -> int:
        """Steps between adaptations.

        Raises
        ------
        ValueError
            If between two of them the rarest target could not be seen.
        """
        seen = low * self.batch_size
        if self.adapt_every is None:
            # Biases move by a hundredth at a time: they need some hundred moves, each seeing the
            # rarest target at least once.
            return max(min(max(self.steps // 400, 1), 50), int(np.ceil(1 / seen - 1e-9)))
        if adapted and seen * self.adapt_every < 1 - 1e-9:
            raise ValueError(
                f"low={low:g} needs at least {int(np.ceil(1 / low - 1e-9))} samples per adaptation, "
                f"adapt_every × batch_size is {self.adapt_every * self.batch_size}"
            )
        return self.adapt_every


@dataclass(frozen=True)
class Run:
    """A trained network, as arrays.

    Parameters
    ----------
    W, a, b, c : ndarray
        Unit directions, scales, biases, centre.
    history : ndarray, shape (k, 3)
        Step, loss, mean active neurons.
    """

    W: np.ndarray
    a: np.ndarray
    b: np.ndarray
    c: np.ndarray
    history: np.ndarray


class Checkpoint:
    """A file that holds a training as far as it came; there whole or not at all.

    Parameters
    ----------
    path : Path
        A safetensors file; the one that is there is gone on with.
    settings : mapping
        What must be the same for that, JSON-ready.

    Raises
    ------
    ValueError
        If the file is none of ours, or of other activations or settings.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path, self.settings = path, dict(settings)
        self.arrays: dict[str, np.ndarray] = {}
        self.steps: dict[str, int] = {}
        self.resumed = path.exists()
        if path.is_symlink() or path.is_dir():
            raise ValueError(f"checkpoint: {path} is a link or a directory; give a file of its own")
        if not path.parent.is_dir():
            raise ValueError(f"checkpoint: there is no directory {path.parent}")
        if self.resumed:
            self._load()

    def _load(self) -> None:
        written, self.steps = header(self.path)
        if changed := [k for k, v in self.settings.items() if written.get(k) != v]:
            raise ValueError(
                f"checkpoint: {self.path} is of a training with another {', '.join(changed)}; remove it "
                "or give another file"
            )
        from safetensors.numpy import load_file

        self.arrays = load_file(self.path)
        told = ", ".join(f"run {int(k) + 1} at step {v}" for k, v in sorted(self.steps.items()))
        warnings.warn(f"training goes on from {self.path}: {told or 'nothing yet'}", stacklevel=5)

    def state(self, run: int) -> tuple[int, dict[str, np.ndarray]]:
        """Steps that a run has behind it, and its arrays."""
        prefix = f"{run}."
        mine = {k.removeprefix(prefix): v for k, v in self.arrays.items() if k.startswith(prefix)}
        return self.steps.get(str(run), 0), mine

    def write(self, run: int, step: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep a run's state in the place of its last one."""
        self.arrays |= {f"{run}.{k}": np.array(v, order="C") for k, v in arrays.items()}
        self.steps[str(run)] = step
        told = {"version": VERSION, "settings": self.settings, "steps": self.steps}
        replace_file(self.path, self.arrays, told)


def replace_file(path: Path, arrays: Mapping[str, np.ndarray], told: Mapping[str, Any]) -> None:
    """Write arrays and JSON as safetensors in the place of the file that is there, whole or not at all."""
    from safetensors.numpy import save_file

    if path.is_symlink():
        raise ValueError(f"{path} is a link; give a file of its own")
    stage = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        # It writes memory as it lies: of other orders than C the numbers would be in other places.
        plain = {k: np.asarray(v, order="C") for k, v in arrays.items()}
        save_file(plain, stage, metadata={"whp": json.dumps(told)})
        os.replace(stage, path)
    finally:
        stage.unlink(missing_ok=True)


def header(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """Settings and steps of a checkpoint.

    Raises
    ------
    ValueError
        If it is none.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            told = json.loads((file.metadata() or {})["whp"])
        if told["version"] != VERSION:
            raise ValueError(f"it is of version {told['version']}")
        settings, steps = dict(told["settings"]), {str(k): int(v) for k, v in told["steps"].items()}
    except (OSError, KeyError, TypeError, ValueError, AttributeError, SafetensorError) as error:
        raise ValueError(f"checkpoint: {path} holds no training of ours: {error}") from error
    return settings, steps


def digest(*arrays: np.ndarray) -> str:
    """Of the bytes of arrays."""
    made = hashlib.blake2b(digest_size=16)
    for array in arrays:
        made.update(np.ascontiguousarray(array).data)
    return made.hexdigest()


def settings_of(training: Training) -> dict[str, Any]:
    """Settings as JSON."""
    return asdict(training)


def train(
    model: Any,
    batches: Any,
    training: Training,
    *,
    adapter: Any = None,
    adapt_every: int = 1,
    l1: float = 0.0,
    description: str = "training",
    checkpoint: Checkpoint | None = None,
    run: int = 0,
) -> Run:
    """Adam on half the squared error (plus an ℓ1 penalty).

    Parameters
    ----------
    model : GBASparseAutoencoder
    batches : callable
        From the number of batches to pass over to an iterator of batches, where the model lives.
    training : Training
    adapter : BiasAdapter, optional
    adapt_every : int
        Steps between adaptations.
    l1 : float
        Penalty.
    description : str
        For the progress bar.
    checkpoint : Checkpoint, optional
        Where the state is kept, fifty times in a training.
    run : int
        Number of this training in it.

    Returns
    -------
    Run

    Raises
    ------
    FloatingPointError
        If the loss is not finite.
    """
    import torch

    optimizer = torch.optim.Adam(model.parameters(), lr=training.lr)
    steps = training.steps
    kept = max(1, steps // 100)
    done, state = (0, {}) if checkpoint is None else checkpoint.state(run)
    history: list[tuple[float, float, float]] = []
    if done:
        history = [tuple(row) for row in state["history"].tolist()]
        restore(model, optimizer, adapter, state, done)
    source: Iterator[torch.Tensor] = batches(done)
    for step in track(range(done, steps), description):
        x = next(source)
        reconstruction, z, y = model(x)
        loss = (reconstruction - x).square().sum() / (2 * len(x))
        total = loss + l1 * z.sum() / len(x) if l1 else loss
        if not torch.isfinite(total):
            raise FloatingPointError(
                f"the loss is not finite at step {step + 1}: lower lr, or scale the activations"
            )
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        optimizer.step()
        if adapter is not None:
            adapter.observe(y)
            if (step + 1) % adapt_every == 0:
                adapter.step()
        if step % kept == 0 or step == steps - 1:
            active = float((z.detach() > 0).sum()) / len(x)
            history.append((step + 1, float(loss.detach()), active))
        if checkpoint is not None and ((step + 1) % max(1, steps // 50) == 0 or step == steps - 1):
            checkpoint.write(run, step + 1, kept_state(model, optimizer, adapter, history))
    with torch.no_grad():
        W, a, b, c = (
            t.detach().cpu().numpy() for t in (model.directions(), model.a, model.b, model.c)
        )
    return Run(W.copy(), a.copy(), b.copy(), c.copy(), np.array(history).reshape(-1, 3))


def kept_state(
    model: Any, optimizer: Any, adapter: Any, history: list[tuple[float, float, float]]
) -> dict[str, np.ndarray]:
    """All that the next step depends on."""
    arrays = {"history": np.array(history)}
    for name, value in model.state_dict().items():
        arrays[f"model.{name}"] = value.cpu().numpy()
    for name, value in model.named_parameters():
        for key in ("exp_avg", "exp_avg_sq"):
            arrays[f"adam.{name}.{key}"] = optimizer.state[value][key].cpu().numpy()
    if adapter is not None:
        for name, value in adapter.state_dict().items():
            arrays[f"adapter.{name}"] = value.cpu().numpy()
    return arrays


def restore(
    model: Any, optimizer: Any, adapter: Any, state: dict[str, np.ndarray], done: int
) -> None:
    """Put a state back.

    Raises
    ------
    ValueError
        If it lacks something.
    """
    import torch

    try:
        tensors = {k: torch.from_numpy(np.array(v)) for k, v in state.items()}
        model.load_state_dict({n: tensors[f"model.{n}"] for n in model.state_dict()})
        for name, value in model.named_parameters():
            optimizer.state[value] = {
                "step": torch.tensor(float(done)),
                **{
                    key: tensors[f"adam.{name}.{key}"].to(value.device)
                    for key in ("exp_avg", "exp_avg_sq")
                },
            }
        if adapter is not None:
            names = ("fired", "most", "silent", "revived", "seen")
            adapter.load_state_dict({n: tensors[f"adapter.{n}"] for n in names})
    except (KeyError, RuntimeError) as error:
        raise ValueError(f"checkpoint: it lacks a part of its state: {error}") from error
