"""The small networks that studies of image data train."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from whp.continual.backbones import cnn, mlp

__all__ = ["backbone", "cnn", "lenet", "mlp", "res8"]


def lenet(outputs: int = 10) -> nn.Sequential:
    """LeNet-5 with max pooling and ReLU, for 28 × 28 pixels."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)),
        nn.Conv2d(1, 6, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, outputs),
    )


class _Block(nn.Module):
    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, 1),
            nn.GroupNorm(4, after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, 1, 1),
            nn.GroupNorm(4, after),
        )
        self.skip = (
            nn.Identity() if (before, stride) == (after, 1) else nn.Conv2d(before, after, 1, stride)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.skip(x))


def res8(side: int = 28, outputs: int = 10) -> nn.Sequential:
    """Three residual blocks of 16, 32 and 64 channels with group norm."""
    return nn.Sequential(
        nn.Unflatten(1, (1, side, side)),
        nn.Conv2d(1, 16, 3, 1, 1),
        nn.GroupNorm(4, 16),
        nn.ReLU(),
        _Block(16, 16, 1),
        _Block(16, 32, 2),
        _Block(32, 64, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, outputs),
    )


def backbone(name: str, data: str, seed: int) -> nn.Sequential:
    """A fresh network by name, its weights drawn from `seed`."""
    side = 8 if data == "digits" else 28
    torch.manual_seed(seed)
    match name:
        case "mlp":
            return mlp(100, 64) if side == 8 else mlp()
        case "cnn":
            return cnn((1, side, side))
        case "lenet":
            return lenet()
        case "res8":
            return res8(side)
    raise ValueError(f"backbone must be 'mlp', 'cnn', 'lenet' or 'res8', got {name!r}")
