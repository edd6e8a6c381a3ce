"""Images as tensors, and streams of tasks out of them, as studies of continual learning have them."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from scipy.ndimage import rotate
from torch import Tensor

from whp.datasets import images

__all__ = ["Pairs", "by_class", "image_set", "permuted", "rotated", "split_set"]

Pairs = list[tuple[Tensor, Tensor]]


@lru_cache(maxsize=4)
def image_set(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows of pixels in [0, 1] and classes of ``"digits"``, ``"mnist"`` or ``"animals"``."""
    return {"digits": images.digits, "mnist": images.mnist, "animals": images.animals}[name]()


def split_set(
    name: str, seed: int, train: int | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """X, y to train on and X, y to test on; 400 rows a class to train, 120 for digits of 8 × 8."""
    X, y = image_set(name)
    inside, outside = images.split(y, seed, train or (120 if name == "digits" else 400))
    tensors = torch.from_numpy(X), torch.from_numpy(y)
    return tuple(t[torch.from_numpy(i)] for i in (inside, outside) for t in tensors)  # type: ignore[return-value]


def by_class(
    data: str, seed: int, per_task: int = 2, tasks: int | None = None
) -> tuple[Pairs, Pairs]:
    """Classes (0, 1), (2, 3), ...: rows to train on and rows to test on, a pair a task."""
    X, y, T, labels = split_set(data, seed)
    count = (int(y.max()) + 1) // per_task if tasks is None else tasks
    return tuple(  # type: ignore[return-value]
        [(A[b // per_task == k], b[b // per_task == k]) for k in range(count)]
        for A, b in ((X, y), (T, labels))
    )


@lru_cache(maxsize=8)
def _rotated(data: str, seed: int, angle: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    X, y, T, labels = split_set(data, seed)
    return _turned(X, angle), y, _turned(T, angle), labels


def _turned(X: Tensor, angle: float) -> Tensor:
    if angle == 0:
        return X
    side = round(X.shape[1] ** 0.5)
    images = X.numpy().reshape(-1, side, side)
    turned = rotate(images, angle, axes=(2, 1), reshape=False, order=1)
    return torch.from_numpy(np.clip(turned, 0, 1).astype(np.float32).reshape(len(X), -1))


def rotated(data: str, seed: int, angles: tuple[float, ...]) -> tuple[Pairs, Pairs]:
    """The same images turned by each angle, a task an angle."""
    parts = [_rotated(data, seed, float(a)) for a in angles]
    return [(X, y) for X, y, _, _ in parts], [(T, labels) for _, _, T, labels in parts]


def permuted(data: str, seed: int, tasks: int) -> tuple[Pairs, Pairs]:
    """The same images with their pixels in another order in each task but the first."""
    X, y, T, labels = split_set(data, seed)
    train, test = [], []
    for k in range(tasks):
        order = (
            torch.from_numpy(np.random.default_rng([seed, k]).permutation(X.shape[1]))
            if k
            else slice(None)
        )
        train.append((X[:, order], y))
        test.append((T[:, order], labels))
    return train, test
