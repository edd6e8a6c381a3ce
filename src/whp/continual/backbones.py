"""Two small networks, for those who bring none."""

from __future__ import annotations

from torch import nn

__all__ = ["cnn", "mlp"]


def mlp(width: int = 400, inputs: int = 784, outputs: int = 10) -> nn.Sequential:
    """Two hidden layers of `width` ReLU units."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(inputs, width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, outputs),
    )


def cnn(shape: tuple[int, int, int] = (1, 28, 28), outputs: int = 10) -> nn.Sequential:
    """Two convolutions of stride 2 and one hidden layer; takes images or their pixels in a row. No batch norm: it mixes tasks."""
    channels, height, width = shape
    last = 32 * ((height + 3) // 4) * ((width + 3) // 4)
    return nn.Sequential(
        nn.Flatten(),
        nn.Unflatten(1, shape),
        nn.Conv2d(channels, 16, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, 2, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(last, 128),
        nn.ReLU(),
        nn.Linear(128, outputs),
    )
