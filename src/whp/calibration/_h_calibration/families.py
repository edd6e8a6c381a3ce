"""Families of maps with several parameters, and their fit.

A family has `start`, `forward` (parameters to probabilities), `backward` (derivative by the
probabilities to that by the parameters, after forward) and `finish` (parameters to the map).
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from whp.calibration._h_calibration import kernels
from whp.calibration._h_calibration.maps import FAR, HCalibrationMap, softmax
from whp.calibration._h_calibration.objective import Objective
from whp.progress import track

__all__ = ["Ensemble", "Monotone", "Piecewise", "descend"]

FEW = 50_000  # entries of a step; of more, parts with evenly taken rows take turns
POLISH = 15  # steps on all entries after that

Fitted = tuple[HCalibrationMap, np.ndarray]


class Ensemble:
    """Σ ω_k softmax(β_k z) with β = exp(theta[:K]) and ω = softmax(theta[K:])."""

    def __init__(self, z: np.ndarray, beta: float, members: int) -> None:
        self.z = np.ascontiguousarray(z - z.max(axis=1, keepdims=True))
        self.members, self.parts = members, np.empty((0, 0, 0))
        spread = np.linspace(-1, 1, members) if members > 1 else np.zeros(1)
        self.start = np.concatenate([np.log(beta) + spread, np.zeros(members)])

    def _weights(self, theta: np.ndarray) -> np.ndarray:
        return softmax(theta[None, self.members :])[0]

    def forward(self, theta: np.ndarray) -> np.ndarray:
        if self.parts.shape[1:] != self.z.shape:  # kept from one step to the next
            self.parts = np.empty((self.members, *self.z.shape))
        out = np.empty(self.z.shape)
        betas = np.exp(theta[: self.members])
        np.exp(np.multiply(betas[:, None, None], self.z, out=self.parts), out=self.parts)
        kernels.mixed(self._weights(theta), self.parts, out)
        return out

    def backward(self, theta: np.ndarray, upstream: np.ndarray) -> np.ndarray:
        weights = self._weights(theta)
        scores, by_beta = kernels.ensemble_backward(self.z, self.parts, upstream)
        return np.concatenate(
            [
                weights * np.exp(theta[: self.members]) * by_beta,
                weights * (scores - weights @ scores),
            ]
        )

    def finish(self, theta: np.ndarray) -> HCalibrationMap:
        return HCalibrationMap(
            "ensemble", betas=np.exp(theta[: self.members]), weights=self._weights(theta)
        )


def through_softmax(probs: np.ndarray, upstream: np.ndarray) -> np.ndarray:
    """Derivative by the scores given that by their softmax."""
    weighted = upstream * probs
    return weighted - probs * weighted.sum(axis=1, keepdims=True)


class Piecewise:
    """softmax(φ(z)) with φ(z) = −∫₀^(−z) slope and slope exp(theta) on each segment."""

    def __init__(self, z: np.ndarray, beta: float, segments: int) -> None:
        self.z = np.ascontiguousarray(z)
        self.edges = quantile_edges(z, segments)
        self.start = np.full(len(self.edges), np.log(beta))

    def forward(self, theta: np.ndarray) -> np.ndarray:
        self.probs = softmax(kernels.piecewise_forward(self.z, self.edges, np.exp(theta)))
        return self.probs

    def backward(self, theta: np.ndarray, upstream: np.ndarray) -> np.ndarray:
        by_score = through_softmax(self.probs, upstream)
        return np.exp(theta) * kernels.piecewise_backward(self.z, self.edges, by_score)

    def finish(self, theta: np.ndarray) -> HCalibrationMap:
        return HCalibrationMap("piecewise", edges=self.edges, slopes=np.exp(theta))


def quantile_edges(z: np.ndarray, segments: int) -> np.ndarray:
    """Starts of segments that hold equally many entries of −z: the first is 0, equal ones are merged."""
    edges = np.quantile(-z[z > FAR], np.linspace(0, 1, segments + 1)[:-1])
    edges[0] = 0.0
    return np.unique(np.maximum(edges, 0.0))


class Monotone:
    """softmax(φ(z)) whose slope a network 1 → h → h → 1 gives, ELU + 1 keeping it positive, integrated over many segments.

    The network is evaluated at the segments' middles only, and the fitted map keeps the slopes, not the network.
    """

    def __init__(
        self, z: np.ndarray, beta: float, hidden: int, seed: int, segments: int = 128
    ) -> None:
        import torch

        self.z = np.ascontiguousarray(z)
        self.edges = quantile_edges(z, segments)
        z = z[z > FAR]
        far = max(float(-z.min()), float(self.edges[-1]) + 1.0)
        ends = np.append(self.edges[1:], far)
        middle = (self.edges + ends) / 2
        mean, deviation = float(z.mean()), max(float(z.std()), 1e-12)
        self.beta = beta
        self.inputs = torch.tensor((-middle - mean) / deviation, dtype=torch.float64)[:, None]
        generator = torch.Generator().manual_seed(seed)
        self.shapes = [(hidden, 1), (hidden,), (hidden, hidden), (hidden,), (1, hidden), (1,)]
        parts = []
        for shape in self.shapes:
            scale = 0.0 if shape[0] == 1 or len(shape) == 1 else (2 / shape[1]) ** 0.5
            parts.append(
                (torch.randn(shape, generator=generator, dtype=torch.float64) * scale).ravel()
            )
        self.start = torch.cat(parts).numpy()
        self.start[-hidden - 1 : -1] = (
            1e-3  # slope β at first, yet with a gradient into every layer
        )

    def _slopes(self, theta: np.ndarray) -> tuple[Any, Any]:
        import torch
        from torch.nn import functional as F

        flat = torch.tensor(theta, dtype=torch.float64, requires_grad=True)
        parts, at = [], 0
        for shape in self.shapes:
            size = int(np.prod(shape))
            parts.append(flat[at : at + size].reshape(shape))
            at += size
        a, b, c, d, e, f = parts
        hidden = F.relu(F.linear(F.relu(F.linear(self.inputs, a, b)), c, d))
        return flat, self.beta * (F.elu(F.linear(hidden, e, f)) + 1)[:, 0] + 1e-9 * self.beta

    def forward(self, theta: np.ndarray) -> np.ndarray:
        self.flat, self.slopes = self._slopes(theta)
        slopes = self.slopes.detach().numpy()
        self.probs = softmax(kernels.piecewise_forward(self.z, self.edges, slopes))
        return self.probs

    def backward(self, theta: np.ndarray, upstream: np.ndarray) -> np.ndarray:
        import torch

        by_slope = kernels.piecewise_backward(
            self.z, self.edges, through_softmax(self.probs, upstream)
        )
        self.slopes.backward(torch.from_numpy(by_slope))
        return self.flat.grad.numpy()

    def finish(self, theta: np.ndarray) -> HCalibrationMap:
        slopes = self._slopes(theta)[1].detach().numpy()
        return HCalibrationMap("monotone", edges=self.edges, slopes=slopes)


def descend(
    family: Ensemble | Piecewise | Monotone, y: np.ndarray, objective: Objective, max_iter: int
) -> Fitted:
    """Adam (Kingma & Ba 2015) from the family's start, the best iterate kept.

    The error has kinks where order and signs change: L-BFGS-B gets stuck at the first of them. Of
    many entries parts take turns, and a few steps on all of them follow.
    """
    every = -(-family.z.size // FEW)
    if every == 1:
        best, _, history = _adam([family], [y], objective, family.start, max_iter, 0.02)
        return family.finish(best), np.array(history)
    parts = [copy.copy(family) for _ in range(every)]
    for k, part in enumerate(parts):
        part.z = np.ascontiguousarray(family.z[k::every])
    labels = [y[k::every] for k in range(every)]
    last, history = _adam(parts, labels, objective, family.start, max_iter, 0.05)[1:]
    best, _, more = _adam([family], [y], objective, last, POLISH, 0.01)
    if objective(family.forward(family.start), y) < min(more):
        best = family.start
    return family.finish(best), np.array(history + more)


def _adam(
    parts: list[Any],
    labels: list[np.ndarray],
    objective: Objective,
    theta: Any,
    steps: int,
    rate: float,
) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """The best iterate, the last one, and the errors along the way; `parts` take turns."""
    history: list[float] = []
    best, least = theta, np.inf
    first, second = np.zeros_like(theta), np.zeros_like(theta)
    for i in track(range(steps), "fitting the map", steps):
        part = parts[i % len(parts)]
        value, upstream = objective.with_gradient(part.forward(theta), labels[i % len(parts)])
        history.append(value)
        if value < least:
            best, least = theta, value
        slope = part.backward(theta, upstream)
        first = 0.9 * first + 0.1 * slope
        second = 0.999 * second + 0.001 * slope**2
        size = np.sqrt(second / (1 - 0.999 ** (i + 1))) + 1e-12
        now = rate * (1.0 if i < steps / 2 else 0.5 if i < steps * 3 / 4 else 0.25)
        theta = theta - now * first / (1 - 0.9 ** (i + 1)) / size
    return best, theta, history
