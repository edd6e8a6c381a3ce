"""Training under attack: adversarial training (Madry et al. 2018) and TRADES (Zhang et al. 2019).

Written after the papers; their code is in no package. Both take the attack of
:class:`whp.losses.AdvCompSumLoss`, so that only the losses differ. Packages that offer whole attacks
(torchattacks, foolbox, the adversarial robustness toolbox) train by loops of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from whp.experiment.benchmark import Peer

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["GENERALISED", "MADRY", "TORCH", "TRADES", "madry", "trades"]

BOX = (0.0, 1.0)


def madry(model: nn.Module, x: Tensor, y: Tensor, *, radius: float, steps: int) -> Tensor:
    """Cross-entropy at the end of an attack on it."""
    from torch.nn import functional

    far = _ascend(
        model, x, lambda z: functional.cross_entropy(z, y, reduction="sum"), radius, steps
    )
    return functional.cross_entropy(model(far), y)


def trades(
    model: nn.Module, x: Tensor, y: Tensor, *, radius: float, steps: int, weight: float
) -> Tensor:
    """Cross-entropy plus `weight` times the divergence of the outputs at the end of an attack on that."""
    import torch
    from torch.nn import functional

    with torch.no_grad():
        p = functional.softmax(model(x), dim=1)

    def divergence(z: Tensor) -> Tensor:
        return functional.kl_div(functional.log_softmax(z, dim=1), p, reduction="sum")

    far = _ascend(model, x, divergence, radius, steps)
    z = model(x)
    pull = functional.kl_div(
        functional.log_softmax(model(far), dim=1),
        functional.softmax(z, dim=1),
        reduction="batchmean",
    )
    return functional.cross_entropy(z, y) + weight * pull


def _ascend(model: nn.Module, x: Tensor, gain: Any, radius: float, steps: int) -> Tensor:
    from whp.losses._comp_sum_losses.adversarial import ascend

    return ascend(
        model, x, gain, radius=radius, norm="linf", steps=steps, step_size=radius / 4, box=BOX
    )


def _torch(z: Tensor, y: Tensor) -> Tensor:
    from torch.nn import functional

    return functional.cross_entropy(z, y)


def _generalised(z: Tensor, y: Tensor) -> Tensor:
    """(1 − p^q)/q, as it is usually written."""
    from torch.nn import functional

    p = functional.softmax(z, dim=1).gather(1, y[:, None])[:, 0]
    return ((1 - p**0.7) / 0.7).mean()


TORCH = Peer("torch cross_entropy", _torch, "torch")
GENERALISED = Peer("generalised cross-entropy", _generalised, "torch")
TRADES = Peer(
    "TRADES",
    lambda model, x, y: trades(model, x, y, radius=0.1, steps=10, weight=6.0),
    "torch",
    note="Written here after the paper, with the same attack.",
)
MADRY = Peer(
    "adversarial training",
    lambda model, x, y: madry(model, x, y, radius=0.1, steps=10),
    "torch",
    note="Written here after the paper, with the same attack.",
)
