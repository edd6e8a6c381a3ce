"""The rule that moves biases until neurons fire as often as they should."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from whp.validate import as_real, as_vector

__all__ = ["BiasAdapter"]

REVIVE_AFTER = 3
COUNTED = ("fired", "most", "silent", "revived")


class BiasAdapter:
    """Moves biases until neurons fire as often as their groups should; for any encoder with a bias.

    A neuron that fires more often than its target is lowered by gamma_down times its largest pre-activation; one that never fires
    is raised by gamma_up times the mean of its group's; others stay. A target is a ceiling, not a set point.

    Parameters
    ----------
    bias : Tensor or GBASparseAutoencoder
        What is moved, in place, shape (M,); kept in [−1, 0]. Of an encoder of your own give the
        parameter itself: where the encoder is moved to, its ``.data`` stays behind. In single or
        double precision; under ``torch.autocast`` it is.
    target : array-like, shape (M,)
        Frequencies, above 0 and at most 1.
    group : array-like of int, shape (M,)
        Numbers from 0 on.
    gamma_up, gamma_down : float
    dead_below : float
        Frequency below which a neuron counts as dead.

    References
    ----------
    Chen et al. 2026, the algorithm of grouped bias adaptation.
    """

    def __init__(
        self,
        bias: Tensor | nn.Module,
        target: Any,
        group: Any,
        *,
        gamma_up: float = 0.01,
        gamma_down: float = 0.01,
        dead_below: float = 1e-6,
    ) -> None:
        k = getattr(bias, "k", None)
        if k is not None:
            raise ValueError(f"bias: a network that keeps the k = {k} largest has none to move")
        # One that is compiled passes attributes on.
        if not isinstance(getattr(bias, "b", bias), Tensor):
            raise TypeError(
                "bias must be a tensor, or a GBASparseAutoencoder as it is or compiled, got a "
                f"{type(bias).__name__}"
            )
        self._holder: Any = bias
        if self.bias.ndim != 1:
            raise ValueError(f"bias must have one axis, got shape {tuple(self.bias.shape)}")
        place, M = self.bias.device, len(self.bias)
        frequencies, groups = as_vector(target, "target"), np.asarray(group)
        if frequencies.shape != (M,) or groups.shape != (M,):
            raise ValueError(
                f"target and group must have {M} entries, one a neuron, got {frequencies.shape} and "
                f"{groups.shape}"
            )
        if not ((frequencies > 0) & (frequencies <= 1)).all():
            raise ValueError("target must lie above 0 and at most at 1: they are frequencies")
        if groups.dtype.kind not in "iu" or groups.min() < 0:
            raise ValueError("group must be whole numbers from 0 on")
        self.target = torch.as_tensor(frequencies, dtype=self.bias.dtype).to(place)
        self.group = torch.as_tensor(groups.astype(np.int64)).to(place)
        self.up = as_real(gamma_up, "gamma_up", low=0, high=1)
        self.down = as_real(gamma_down, "gamma_down", low=0, high=1)
        self.dead_below = as_real(dead_below, "dead_below", low=0, high=1)
        self.silent = torch.zeros(int(groups.max()) + 1, dtype=torch.int64, device=place)
        self.revived = torch.zeros((), dtype=torch.int64, device=place)
        self._empty()

    @property
    def bias(self) -> Tensor:
        """What is moved, where it is now.

        Raises
        ------
        ValueError
            If it is in neither single nor double precision.
        """
        # A network that is moved, converted, or given another state has another buffer from then on.
        bias = getattr(self._holder, "b", self._holder)
        if bias.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"bias is in {bias.dtype}, which rounds its small moves away: keep the network in "
                "float32, and take torch.autocast for its products"
            )
        return bias

    def _follow(self) -> Tensor:
        """The bias, with the counters where it lives."""
        bias = self.bias
        if self.fired.device != bias.device:
            for name in (*COUNTED, "target", "group"):
                setattr(self, name, getattr(self, name).to(bias.device))
        return bias

    def _empty(self) -> None:
        self.seen = 0
        self.fired = torch.zeros_like(self.bias, dtype=torch.int64)
        self.most = torch.full_like(self.bias, -torch.inf)

    @torch.no_grad()
    def observe(self, preactivations: Tensor) -> None:
        """Count a batch (n, M) of pre-activations, biases included; NaN and infinity do not fire.

        More axes in front are rows too.

        Raises
        ------
        ValueError
            If the last axis is not that of the neurons, or there is no other.
        """
        M = len(self._follow())
        if preactivations.ndim < 2 or preactivations.shape[-1] != M:
            raise ValueError(
                f"preactivations must have a row a sample and {M} columns, got shape "
                f"{tuple(preactivations.shape)}"
            )
        preactivations = preactivations.reshape(-1, M)
        if not len(preactivations):
            return
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
        bias = self._follow()
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
        lowered = (bias - self.down * reach).clamp(min=-1)
        raised = (bias + self.up * mean[self.group]).clamp(max=0)
        quiet = torch.where(rate < self.dead_below, raised, bias)
        bias.copy_(torch.where(rate > self.target, lowered, quiet))
        self._empty()

    def state_dict(self) -> dict[str, Tensor]:
        """What was counted since the last step, and how long groups have been silent."""
        counted = {name: getattr(self, name).clone() for name in COUNTED}
        return counted | {"seen": torch.tensor(self.seen)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from what :meth:`state_dict` gave.

        Raises
        ------
        ValueError
            If it is of another number of neurons or groups.
        """
        for name in COUNTED:
            own = getattr(self, name)
            if name not in state or state[name].shape != own.shape:
                raise ValueError(f"state of an adapter: {name} must have shape {tuple(own.shape)}")
            setattr(self, name, state[name].to(own.device, own.dtype).clone())
        self.seen = int(state["seen"])
