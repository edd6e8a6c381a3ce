"""The autoencoder as a torch module, the adaptation of its biases, and the training loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from whp.progress import track
from whp.validate import as_choice, as_int, as_real

__all__ = ["BiasAdapter", "GBASparseAutoencoder", "train"]

REVIVE_AFTER = 3


class GBASparseAutoencoder(nn.Module):
    """Tied autoencoder with unit directions: u = Ŵ(x − c), y = u + b, code u where y > 0, x̂ = c + Σ a z ŵ.

    Biases are buffers: no gradient moves them, :class:`BiasAdapter` does. With ``"jumprelu"`` they do not shrink what they let
    through.

    Parameters
    ----------
    d, n_neurons : int
    activation : {"jumprelu", "relu"}
    k : int, optional
        Keep the k largest u instead (a TopK autoencoder).
    train_bias : bool
        Let the gradient move the biases (for an ℓ1 penalty).
    generator : torch.Generator, optional
        Of the directions, which are random and never data: mixtures are fixed points.
    """

    def __init__(
        self,
        d: int,
        n_neurons: int,
        *,
        activation: Literal["jumprelu", "relu"] = "jumprelu",
        k: int | None = None,
        train_bias: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        d, n_neurons = as_int(d, "d", low=1), as_int(n_neurons, "n_neurons", low=1)
        self.activation = as_choice(activation, "activation", ("jumprelu", "relu"))
        self.k = None if k is None else as_int(k, "k", low=1, high=n_neurons)
        W = torch.randn(n_neurons, d, generator=generator)
        self.W = nn.Parameter(W / W.norm(dim=1, keepdim=True))
        self.a = nn.Parameter(torch.ones(n_neurons))
        self.c = nn.Parameter(torch.zeros(d))
        if train_bias:
            self.b = nn.Parameter(torch.zeros(n_neurons))
        else:
            self.register_buffer("b", torch.zeros(n_neurons))

    def directions(self) -> Tensor:
        """Unit rows, (n_neurons, d)."""
        return self.W / self.W.norm(dim=1, keepdim=True)

    def codes(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Codes and pre-activations of projections u."""
        if self.k is not None:
            top = u.topk(self.k, dim=1)
            return torch.zeros_like(u).scatter(1, top.indices, top.values.clamp(min=0)), u
        y = u + self.b
        return (u * (y > 0) if self.activation == "jumprelu" else y.clamp(min=0)), y

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruction, codes and pre-activations of a batch (n, d)."""
        W = self.directions()
        z, y = self.codes((x - self.c) @ W.T)
        return torch.addmm(self.c, z * self.a, W), z, y


class BiasAdapter:
    """Moves biases until neurons fire as often as their groups should; for any encoder with a bias.

    A neuron that fires more often than its target is lowered by gamma_down times its largest pre-activation; one that never fires
    is raised by gamma_up times the mean of its group's; others stay. A target is a ceiling, not a set point.

    Parameters
    ----------
    bias : Tensor or GBASparseAutoencoder
        What is moved, in place, shape (M,); kept in [−1, 0].
    target : array-like, shape (M,)
        Frequencies.
    group : array-like of int, shape (M,)
    gamma_up, gamma_down : float
    dead_below : float
        Frequency below which a neuron counts as dead.

    References
    ----------
    Chen et al. 2026, the algorithm of grouped bias adaptation.
    """

    def __init__(
        self,
        bias: Tensor | GBASparseAutoencoder,
        target: Any,
        group: Any,
        *,
        gamma_up: float = 0.01,
        gamma_down: float = 0.01,
        dead_below: float = 1e-6,
    ) -> None:
        self.bias = bias.b if isinstance(bias, GBASparseAutoencoder) else bias
        self.target = torch.as_tensor(np.asarray(target), dtype=self.bias.dtype)
        self.group = torch.as_tensor(np.asarray(group), dtype=torch.int64)
        if self.target.shape != self.bias.shape or self.group.shape != self.bias.shape:
            raise ValueError(
                f"target and group must have {len(self.bias)} entries, one a neuron, got {len(self.target)} and {len(self.group)}"
            )
        self.up, self.down = (
            as_real(gamma_up, "gamma_up", low=0, high=1),
            as_real(gamma_down, "gamma_down", low=0, high=1),
        )
        self.dead_below = as_real(dead_below, "dead_below", low=0, high=1)
        self.silent = torch.zeros(int(self.group.max()) + 1, dtype=torch.int64)
        self.revived = 0
        self._empty()

    def _empty(self) -> None:
        self.seen = 0
        self.fired = torch.zeros(len(self.bias), dtype=torch.int64)
        self.most = torch.full((len(self.bias),), -torch.inf)

    @torch.no_grad()
    def observe(self, preactivations: Tensor) -> None:
        """Count a batch (n, M) of pre-activations, biases included."""
        self.seen += len(preactivations)
        self.fired += (preactivations > 0).sum(dim=0)
        torch.maximum(self.most, preactivations.amax(dim=0), out=self.most)

    @torch.no_grad()
    def step(self) -> None:
        """Move the biases by what was observed, and forget it."""
        if not self.seen:
            raise RuntimeError("observe(preactivations) was not called since the last step")
        rate = self.fired / self.seen
        reach = self.most.clamp(min=0)
        live = (self.most > 0).to(reach.dtype)
        groups = len(self.silent)
        alive = torch.zeros(groups).index_add(0, self.group, live)
        mean = torch.zeros(groups).index_add(0, self.group, reach) / alive.clamp(min=1)
        # A group in which nothing fires would stay so for ever: after three rounds it is raised as the others are.
        self.silent = torch.where(alive > 0, 0, self.silent + 1)
        lost = self.silent > REVIVE_AFTER
        self.revived += int(lost.sum())
        mean = torch.where(lost, reach.sum() / live.sum().clamp(min=1), mean)
        lowered = (self.bias - self.down * reach).clamp(min=-1)
        raised = (self.bias + self.up * mean[self.group]).clamp(max=0)
        moved = torch.where(
            rate > self.target, lowered, torch.where(rate < self.dead_below, raised, self.bias)
        )
        self.bias.copy_(moved)
        self._empty()


def train(
    model: GBASparseAutoencoder,
    batches: Iterator[np.ndarray],
    *,
    steps: int,
    lr: float,
    adapter: BiasAdapter | None,
    adapt_every: int,
    l1: float,
    description: str,
) -> np.ndarray:
    """Adam on half the squared error (plus an ℓ1 penalty); rows of (step, loss, mean active neurons), a hundred or so."""
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    kept = max(1, steps // 100)
    history = []
    for step in track(range(steps), description):
        x = torch.from_numpy(np.ascontiguousarray(next(batches)))
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
    return np.array(history)
