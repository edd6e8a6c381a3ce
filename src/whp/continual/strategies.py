"""Ways not to forget: what a training step adds to the loss on new data, and what it does to the gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from whp.validate import as_int, as_real

__all__ = ["STRATEGIES", "Memory", "Strategy", "make", "quadratic_programme"]

Losses = tuple[Tensor, Tensor | None, float, float]
Criterion = Callable[[Tensor, Tensor, bool], Tensor]


class Strategy:
    """Fine-tuning, and the base of the others.

    An object of one's own needs these methods: ``begin`` before a task, ``losses`` at every step, ``project`` on the gradient,
    ``after_step`` and ``end`` after a task. The step descends a·plasticity + b·stability.

    Attributes
    ----------
    splits : bool
        Whether the gradient of the plasticity loss is wanted by itself.
    """

    splits: bool = False

    def setup(
        self,
        scenario: str,
        batch_size: int,
        criterion: Criterion | None,
        generator: torch.Generator,
        memory_batches: Callable[[Tensor, Tensor], Iterator[tuple[Tensor, Tensor]]] | None = None,
    ) -> None:
        """What the training loop knows and the strategy needs; called once."""
        self.scenario, self.batch_size, self.generator = scenario, batch_size, generator
        self._criterion, self.memory_batches = criterion, memory_batches
        self.classes: list[Tensor] = []

    def begin(self, model: nn.Module, k: int, X: Tensor, y: Tensor) -> None:
        """Before task `k`."""
        self.classes = [*self.classes[:k], torch.unique(y)]

    def data(self, k: int, X: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """What task `k` trains on."""
        return X, y

    def loss(self, z: Tensor, y: Tensor, tasks: Tensor | int, *, memory: bool = False) -> Tensor:
        """Loss of logits; in the task scenario over the classes of each row's task alone."""
        if self.scenario == "task":
            z = z + self.mask(z.shape[1], z.device)[torch.as_tensor(tasks, device=z.device)]
        return (
            functional.cross_entropy(z, y)
            if self._criterion is None
            else self._criterion(z, y, memory)
        )

    def mask(self, width: int, device: torch.device | None = None) -> Tensor:
        """0 for the classes of each task, −∞ elsewhere: (tasks, classes)."""
        mask = torch.full((len(self.classes), width), -torch.inf, device=device)
        for row, classes in zip(mask, self.classes, strict=True):
            row[classes.to(mask.device)] = 0
        return mask

    def losses(self, model: nn.Module, x: Tensor, y: Tensor, k: int) -> Losses:
        """Plasticity loss, stability loss, and their weights a and b."""
        return self.loss(model(x), y, k), None, 1.0, 0.0

    def project(self, model: nn.Module, k: int) -> None:
        """Change the gradients of the parameters before the step."""

    def after_step(self, model: nn.Module, plasticity: list[Tensor] | None) -> None:
        """After the step, with the gradient of the plasticity loss if `splits`."""

    def end(self, model: nn.Module, k: int, X: Tensor, y: Tensor) -> None:
        """After task `k`."""


class Joint(Strategy):
    """Trains on everything so far."""

    def setup(self, *args: Any, **options: Any) -> None:
        super().setup(*args, **options)
        self.seen: list[tuple[Tensor, Tensor]] = []

    def data(self, k: int, X: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        self.seen = [*self.seen[:k], (X, y)]
        return torch.cat([a for a, _ in self.seen]), torch.cat([b for _, b in self.seen])

    def losses(self, model: nn.Module, x: Tensor, y: Tensor, k: int) -> Losses:
        """In the task scenario each row is judged among the classes of the task that has its class."""
        tasks: Tensor | int = k
        if self.scenario == "task":
            tasks = torch.stack([torch.isin(y, c) for c in self.classes]).int().argmax(dim=0)
        return self.loss(model(x), y, tasks), None, 1.0, 0.0


class Memory:
    """Rows kept from old tasks: equal shares of the classes seen (of the tasks, where all tasks have the same classes)."""

    def __init__(self, size: int, generator: torch.Generator) -> None:
        self.size, self.generator = size, generator
        self.parts: list[tuple[Tensor, Tensor, int]] = []

    def add(self, X: Tensor, y: Tensor, k: int) -> None:
        """Keep rows of task `k`, and drop from the others what is then too much."""
        self.parts = [p for p in self.parts if p[2] != k]
        for c in torch.unique(y):
            rows = torch.nonzero(y == c)[:, 0]
            rows = rows[torch.randperm(len(rows), generator=self.generator)]
            self.parts.append((X[rows[: self.size]], y[rows[: self.size]], k))
        share, more = divmod(self.size, len(self.parts))
        self.parts = [
            (a[: share + (i < more)], b[: share + (i < more)], j)
            for i, (a, b, j) in enumerate(self.parts)
        ]

    def rows(self, task: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """X, y and task of what is kept, of one task or of all."""
        kept = [p for p in self.parts if task is None or p[2] == task]
        tasks = torch.cat([torch.full((len(b),), j) for _, b, j in kept])
        return torch.cat([a for a, _, _ in kept]), torch.cat([b for _, b, _ in kept]), tasks

    def __len__(self) -> int:
        return sum(len(b) for _, b, _ in self.parts)


class Replay(Strategy):
    """Experience replay: α times the loss on new data, 1 − α times that on as many rows from memory."""

    def __init__(self, memory: int = 200, alpha: float = 0.3) -> None:
        self.size = as_int(memory, "memory", low=1)
        self.alpha = as_real(alpha, "alpha", low=0, high=1)

    def setup(self, *args: Any, **options: Any) -> None:
        super().setup(*args, **options)
        self.memory = Memory(self.size, self.generator)

    def begin(self, model: nn.Module, k: int, X: Tensor, y: Tensor) -> None:
        super().begin(model, k, X, y)
        if k:
            self.kept = self.memory.rows()
            if self.memory_batches is not None:
                # its rows come with their tasks in a third place; views are made of pixels alone
                self.draws = self.memory_batches(self.kept[0], torch.arange(len(self.kept[1])))

    def losses(self, model: nn.Module, x: Tensor, y: Tensor, k: int) -> Losses:
        if k == 0:
            return self.loss(model(x), y, k), None, 1.0, 0.0
        X, labels, tasks = self.kept
        if self.memory_batches is None:
            rows = torch.randperm(len(labels), generator=self.generator)[: self.batch_size]
            old = X[rows]
        else:
            old, rows = next(self.draws)
        z = model(torch.cat([x, old]))
        new, past = z[: len(x)], z[len(x) :]
        return (
            self.loss(new, y, k),
            self.loss(past, labels[rows], tasks[rows], memory=True),
            self.alpha,
            1 - self.alpha,
        )

    def end(self, model: nn.Module, k: int, X: Tensor, y: Tensor) -> None:
        self.memory.add(X, y, k)


def quadratic_programme(P: np.ndarray, q: np.ndarray, gamma: float) -> np.ndarray:
    """argmin ½ vᵀPv + qᵀv over v ≥ γ, P positive definite: non-negative least squares with its Cholesky factor."""
    from scipy.linalg import solve_triangular
    from scipy.optimize import nnls

    L = np.linalg.cholesky(P)
    u, _ = nnls(L.T, -solve_triangular(L, q + P @ np.full(len(q), gamma), lower=True))
    return u + gamma


class GradientEpisodicMemory(Strategy):
    """GEM: the step may not raise the loss on any old task's memory, to first order. `average` takes them as one (A-GEM)."""

    def __init__(self, memory: int = 200, gamma: float = 0.5, average: bool = False) -> None:
        self.size = as_int(memory, "memory", low=1)
        self.gamma = as_real(gamma, "gamma", low=0, high=1e3)
        self.average = average

    def setup(self, *args: Any, **options: Any) -> None:
        super().setup(*args, **options)
        self.memory = Memory(self.size, self.generator)
        self.change: Tensor | None = None

    def _old_gradients(self, model: nn.Module, k: int) -> Tensor:
        parameters = [p for p in model.parameters() if p.requires_grad]
        found = []
        for i in [None] if self.average else list(range(k)):
            X, y, tasks = self.memory.rows(i)
            grads = torch.autograd.grad(self.loss(model(X), y, tasks), parameters)
            found.append(torch.cat([g.flatten() for g in grads]))
        return torch.stack(found)

    def project(self, model: nn.Module, k: int) -> None:
        self.change = None
        if k == 0:
            return
        parameters = [p for p in model.parameters() if p.requires_grad]
        saved = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        g = torch.cat([s.flatten() for s in saved])
        G = self._old_gradients(model, k)
        against = G @ g
        if not (against < 0).any():
            return
        if self.average:
            change = -against[0] / (G[0] @ G[0]) * G[0]
        else:
            H = G.double()
            # Gradients stay where they are.
            small = (H @ H.T, H @ g.double())
            P, q = (t.cpu().numpy() for t in small)  # numpy solves for few unknowns
            v = quadratic_programme(P + 1e-3 * np.eye(k), q, self.gamma)
            change = (H.T @ torch.from_numpy(v).to(H)).to(g)
        self.change = change
        offset = 0
        for p, s in zip(parameters, saved, strict=True):
            p.grad = s + change[offset : offset + s.numel()].view_as(s)
            offset += s.numel()

    def end(self, model: nn.Module, k: int, X: Tensor, y: Tensor) -> None:
        self.memory.add(X, y, k)


class WithoutForgetting(Strategy):
    """LwF: on new data the old outputs stay as the model before the task had them."""

    def __init__(self, temperature: float = 2.0, strength: float = 1.0) -> None:
        self.temperature = as_real(temperature, "temperature", low=0, high=1e6, open_ends=True)
        self.strength = as_real(strength, "strength", low=0, high=1e9)

    def begin(self, model: nn.Module, k: int, X: Tensor, y: Tensor) -> None:
        super().begin(model, k, X, y)
        if k:
            import copy

            self.teacher = copy.deepcopy(model).requires_grad_(False)

    def losses(self, model: nn.Module, x: Tensor, y: Tensor, k: int) -> Losses:
        z = model(x)
        if k == 0:
            return self.loss(z, y, k), None, 1.0, 0.0
        # Module by module: batch norms that somebody froze stay so in a model that trains.
        for old, new in zip(self.teacher.modules(), model.modules(), strict=True):
            old.training = new.training
        with torch.no_grad():
            told = self.teacher(x)
        T = self.temperature
        if self.scenario == "task":
            heads = self.classes[:k]
        else:
            heads = [torch.unique(torch.cat(self.classes[:k]))]
        stability = sum(
            (
                T**2
                * functional.kl_div(
                    functional.log_softmax(z[:, c] / T, dim=1),
                    functional.log_softmax(told[:, c] / T, dim=1),
                    reduction="batchmean",
                    log_target=True,
                )
                for c in heads
            ),
            torch.zeros(()),
        )
        return self.loss(z, y, k), stability, 1.0, self.strength


class Quadratic(Strategy):
    """Base of those that hold parameters back, each by its weight Ω: ½ Σ Ω (θ − θ*)²."""

    def __init__(self, strength: float, online: bool) -> None:
        self.strength = as_real(strength, "strength", low=0, high=1e12)
        self.online = online

    def setup(self, *args: Any, **options: Any) -> None:
        super().setup(*args, **options)
        self.anchors: list[tuple[list[Tensor], list[Tensor]]] = []  # Ω and θ*

    def losses(self, model: nn.Module, x: Tensor, y: Tensor, k: int) -> Losses:
        plasticity = self.loss(model(x), y, k)
        if not self.anchors:
            return plasticity, None, 1.0, 0.0
        theta = [p for p in model.parameters() if p.requires_grad]
        stability = sum(
            (
                (w * (p - q).square()).sum() / 2
                for omega, star in self.anchors
                for p, w, q in zip(theta, omega, star, strict=True)
            ),
            torch.zeros(()),
        )
        return plasticity, stability, 1.0, self.strength

    def hold(self, model: nn.Module, omega: list[Tensor]) -> None:
        """Anchor the parameters where they are; weights add up, on one anchor if `online`."""
        star = [p.detach().clone() for p in model.parameters() if p.requires_grad]
        if self.online and self.anchors:
            omega = [a + b for a, b in zip(self.anchors[0][0], omega, strict=True)]
            self.anchors = []
        self.anchors.append((omega, star))


class ElasticWeights(Quadratic):
    """EWC: Ω is the diagonal of the Fisher information, from squared gradients of single rows with their true labels."""

    def __init__(self, strength: float = 10.0, online: bool = True, samples: int = 200) -> None:
        super().__init__(strength, online)
        self.samples = as_int(samples, "samples", low=1)

    def end(self, model: nn.Module, k: int, X: Tensor, y: Tensor) -> None:
        from torch.func import functional_call, grad, vmap

        rows = torch.randperm(len(y), generator=self.generator)[: self.samples]
        theta = {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}
        rest = {n: p.detach() for n, p in model.named_parameters() if not p.requires_grad} | dict(
            model.named_buffers()
        )

        def one(theta: dict[str, Tensor], x: Tensor, label: Tensor) -> Tensor:
            z = functional_call(model, theta | rest, (x[None],))
            return functional.cross_entropy(z if mask is None else z + mask, label[None])

        total = [torch.zeros_like(p) for p in theta.values()]
        modes = [(m, m.training) for m in model.modules()]
        model.eval()  # a look at the width of the outputs must not move statistics of batches either
        mask = self.mask(self._width(model, X))[k].to(X.device) if self.scenario == "task" else None
        for part in rows.split(32):
            grads = vmap(grad(one), in_dims=(None, 0, 0))(theta, X[part], y[part])
            total = [t + g.square().sum(dim=0) for t, g in zip(total, grads.values(), strict=True)]
        for module, mode in modes:  # batch norms that somebody froze stay so
            module.training = mode
        self.hold(model, [t / len(rows) for t in total])

    @staticmethod
    def _width(model: nn.Module, X: Tensor) -> int:
        with torch.no_grad():
            return model(X[:1]).shape[1]


class SynapticIntelligence(Quadratic):
    """SI: Ω is what each parameter did for the loss along the way, over how far it went."""

    splits = True

    def __init__(self, strength: float = 1.0, xi: float = 0.1) -> None:
        super().__init__(strength, True)
        self.xi = as_real(xi, "xi", low=0, high=1e6, open_ends=True)

    def begin(self, model: nn.Module, k: int, X: Tensor, y: Tensor) -> None:
        super().begin(model, k, X, y)
        self.start = [p.detach().clone() for p in model.parameters() if p.requires_grad]
        self.before = [p.clone() for p in self.start]
        self.path = [torch.zeros_like(p) for p in self.start]

    def after_step(self, model: nn.Module, plasticity: list[Tensor] | None) -> None:
        assert plasticity is not None
        now = [p.detach() for p in model.parameters() if p.requires_grad]
        for w, g, new, old in zip(self.path, plasticity, now, self.before, strict=True):
            w -= g * (new - old)
            old.copy_(new)

    def end(self, model: nn.Module, k: int, X: Tensor, y: Tensor) -> None:
        now = [p.detach() for p in model.parameters() if p.requires_grad]
        self.hold(
            model,
            [
                2 * w.clamp(min=0) / ((p - s).square() + self.xi)
                for w, p, s in zip(self.path, now, self.start, strict=True)
            ],
        )


STRATEGIES: dict[str, type[Strategy]] = {
    "finetune": Strategy,
    "joint": Joint,
    "er": Replay,
    "gem": GradientEpisodicMemory,
    "lwf": WithoutForgetting,
    "ewc": ElasticWeights,
    "si": SynapticIntelligence,
}


def make(strategy: Any, options: dict[str, Any]) -> Strategy:
    """A strategy by its name and options, ``"agem"`` for GEM with one averaged memory; or the object that was given."""
    if isinstance(strategy, Strategy):
        if options:
            raise TypeError(
                f"strategy was given as an object, which takes no options: {', '.join(options)}"
            )
        return strategy
    if strategy == "agem":
        return GradientEpisodicMemory(average=True, **options)
    if strategy not in STRATEGIES:
        raise ValueError(
            f"strategy must be one of {', '.join([*STRATEGIES, 'agem'])} or a Strategy, got {strategy!r}"
        )
    try:
        return STRATEGIES[strategy](**options)
    except TypeError as error:
        raise TypeError(f"strategy {strategy!r}: {error}") from error
