"""The autoencoder as a torch module."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from whp.validate import as_choice, as_int

__all__ = ["GBASparseAutoencoder"]


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
        Of the directions, which are random and never data: mixtures are fixed points. They are drawn
        where the generator lives, so that one on the processor gives the same on every device.
    device : torch.device or str, optional
        Where the parameters live.
    dtype : torch.dtype, optional
        Of the parameters, by default torch's.
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
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        d, n_neurons = as_int(d, "d", low=1), as_int(n_neurons, "n_neurons", low=1)
        self.activation = as_choice(activation, "activation", ("jumprelu", "relu"))
        self.k = None if k is None else as_int(k, "k", low=1, high=n_neurons)
        place = device if generator is None else generator.device
        kind = {"device": device, "dtype": dtype}
        W = torch.randn(n_neurons, d, generator=generator, device=place, dtype=dtype).to(device)
        self.W = nn.Parameter(W / W.norm(dim=1, keepdim=True))
        self.a = nn.Parameter(torch.ones(n_neurons, **kind))
        self.c = nn.Parameter(torch.zeros(d, **kind))
        if train_bias:
            self.b = nn.Parameter(torch.zeros(n_neurons, **kind))
        else:
            self.register_buffer("b", torch.zeros(n_neurons, **kind))

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
