"""The rule that moves biases until neurons fire as often as they should."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from whp.interpretability._sae_gba.network import GBASparseAutoencoder
from whp.validate import as_real

__all__ = ["BiasAdapter"]

REVIVE_AFTER = 3


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
        place = self.bias.device
        self.target = torch.as_tensor(np.asarray(target), dtype=self.bias.dtype).to(place)
        self.group = torch.as_tensor(np.asarray(group), dtype=torch.int64).to(place)
        if self.target.shape != self.bias.shape or self.group.shape != self.bias.shape:
            raise ValueError(
                f"target and group must have {len(self.bias)} entries, one a neuron, got "
                f"{len(self.target)} and {len(self.group)}"
            )
        self.up = as_real(gamma_up, "gamma_up", low=0, high=1)
        self.down = as_real(gamma_down, "gamma_down", low=0, high=1)
        self.dead_below = as_real(dead_below, "dead_below", low=0, high=1)
        groups = int(np.asarray(group).max()) + 1
        self.silent = torch.zeros(groups, dtype=torch.int64, device=place)
        self.revived = torch.zeros((), dtype=torch.int64, device=place)
        self._empty()

    def _empty(self) -> None:
        self.seen = 0
        self.fired = torch.zeros_like(self.bias, dtype=torch.int64)
        self.most = torch.full_like(self.bias, -torch.inf)

    @torch.no_grad()
    def observe(self, preactivations: Tensor) -> None:
        """Count a batch (n, M) of pre-activations, biases included; NaN and infinity do not fire."""
        # One of them in a bad batch would make the biases of a whole group NaN, for good.
        values = torch.where(preactivations.isfinite(), preactivations, -torch.inf)
        self.seen += len(values)
        self.fired += (values > 0).sum(dim=0)
        torch.maximum(self.most, values.amax(dim=0).to(self.most.dtype), out=self.most)

    @torch.no_grad()
    def step(self) -> None:
        """Move the biases by what was observed, and forget it."""
        if not self.seen:
            raise RuntimeError("observe(preactivations) was not called since the last step")
        rate = self.fired / self.seen
        reach = self.most.clamp(min=0)
        live = (self.most > 0).to(reach.dtype)
        none = reach.new_zeros(len(self.silent))
        alive = none.index_add(0, self.group, live)
        mean = none.index_add(0, self.group, reach) / alive.clamp(min=1)
        # A group in which nothing fires would stay so for ever: after three rounds it is raised as
        # the others are.
        self.silent = torch.where(alive > 0, 0, self.silent + 1)
        lost = self.silent > REVIVE_AFTER
        self.revived += lost.sum()
        mean = torch.where(lost, reach.sum() / live.sum().clamp(min=1), mean)
        lowered = (self.bias - self.down * reach).clamp(min=-1)
        raised = (self.bias + self.up * mean[self.group]).clamp(max=0)
        quiet = torch.where(rate < self.dead_below, raised, self.bias)
        self.bias.copy_(torch.where(rate > self.target, lowered, quiet))
        self._empty()

    def state_dict(self) -> dict[str, Tensor]:
        """What was counted since the last step, and how long groups have been silent."""
        names = ("fired", "most", "silent", "revived")
        counted = {name: getattr(self, name).clone() for name in names}
        return counted | {"seen": torch.tensor(self.seen)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from what :meth:`state_dict` gave.

        Raises
        ------
        ValueError
            If it is of another number of neurons or groups.
        """
        for name in ("fired", "most", "silent", "revived"):
            own = getattr(self, name)
            if name not in state or state[name].shape != own.shape:
                raise ValueError(f"state of an adapter: {name} must have shape {tuple(own.shape)}")
            setattr(self, name, state[name].to(own.device, own.dtype).clone())
        self.seen = int(state["seen"])
