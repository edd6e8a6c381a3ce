"""Fitting: an exact search for one temperature, Adam for the maps with more parameters."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from whp.calibration._h_calibration import kernels
from whp.calibration._h_calibration.maps import HCalibrationMap, softmax
from whp.calibration._h_calibration.objective import Objective
from whp.progress import track

__all__ = ["MAPPINGS", "fit_ensemble", "fit_map", "fit_piecewise", "nll_beta"]

MAPPINGS = ("temperature", "ensemble", "piecewise", "monotone", "auto")
LOG_BETA = (-9.0, 3.0)
GRID, GOLDEN = 400, 60
FOLDS = 5

Fitted = tuple[HCalibrationMap, np.ndarray]


def nll_beta(z: np.ndarray, y: np.ndarray) -> float:
    """Inverse temperature of least negative log-likelihood, within exp([-9, 3]); the likelihood is convex in it.

    Newton's method on log beta, kept inside a bracket that shrinks with the sign of the slope.
    """
    low, high = LOG_BETA
    at = 0.0
    for _ in range(60):
        beta = float(np.exp(at))
        first, second = kernels.temperature_moments(z, y, beta)
        if first > 0:
            high = at
        else:
            low = at
        slope, curvature = beta * first, beta * beta * second + beta * first  # by log beta
        step = -slope / curvature if curvature > 0 else np.inf
        proposed = at + step
        if not low < proposed < high:
            proposed = (low + high) / 2
        if abs(proposed - at) < 1e-10:
            at = proposed
            break
        at = proposed
    return float(np.exp(at))


def fit_temperature(z: np.ndarray, y: np.ndarray, objective: Objective) -> Fitted:
    """A grid on log beta around the likelihood's choice, then golden section: the objective has many local minima."""
    start = np.log(nll_beta(z, y))
    grid = np.linspace(start - 3, start + 3, GRID)
    values = objective.over_temperatures(z, y, np.exp(grid))
    best = int(values.argmin())
    low, high = grid[max(0, best - 1)], grid[min(GRID - 1, best + 1)]
    found, least = float(grid[best]), float(values[best])
    ratio = (np.sqrt(5) - 1) / 2

    def error(at: float) -> float:
        nonlocal found, least
        value = float(objective.over_temperatures(z, y, np.exp(np.array([at])))[0])
        if value < least:
            found, least = at, value
        return value

    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = error(left), error(right)
    for _ in range(GOLDEN - 2):
        if high - low < 1e-9:
            break
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = error(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = error(right)
    return HCalibrationMap.temperature(float(np.exp(found))), values


# A family of maps has `start`, `forward` (parameters to probabilities), `backward` (derivative by the probabilities to that by the
# parameters, after forward) and `finish` (parameters to the map).


class Ensemble:
    """Σ ω_k softmax(β_k z) with β = exp(theta[:K]) and ω = softmax(theta[K:])."""

    def __init__(self, z: np.ndarray, beta: float, members: int) -> None:
        self.z, self.members = z, members
        spread = np.linspace(-1, 1, members) if members > 1 else np.zeros(1)
        self.start = np.concatenate([np.log(beta) + spread, np.zeros(members)])

    def _weights(self, theta: np.ndarray) -> np.ndarray:
        return softmax(theta[None, self.members :])[0]

    def forward(self, theta: np.ndarray) -> np.ndarray:
        self.parts = [softmax(np.exp(a) * self.z) for a in theta[: self.members]]
        weights = self._weights(theta)
        out = weights[0] * self.parts[0]
        for weight, part in zip(weights[1:], self.parts[1:], strict=True):
            out += weight * part
        return out

    def backward(self, theta: np.ndarray, upstream: np.ndarray) -> np.ndarray:
        weights = self._weights(theta)
        scores = np.array([np.vdot(upstream, part) for part in self.parts])
        out = np.empty_like(theta)
        out[self.members :] = weights * (scores - weights @ scores)
        for k, part in enumerate(self.parts):
            mean = np.einsum("ij,ij->i", part, self.z)
            weighted = upstream * part
            by_beta = np.vdot(weighted, self.z) - weighted.sum(axis=1) @ mean
            out[k] = weights[k] * np.exp(theta[k]) * by_beta
        return out

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
    edges = np.quantile(-z, np.linspace(0, 1, segments + 1)[:-1])
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


@dataclass
class Adam:
    """Kingma & Ba 2015, with the constants of their paper."""

    size: int

    def __post_init__(self) -> None:
        self.first, self.second, self.count = np.zeros(self.size), np.zeros(self.size), 0

    def step(self, gradient: np.ndarray, rate: float) -> np.ndarray:
        """What to add to the parameters."""
        self.count += 1
        self.first += 0.1 * (gradient - self.first)
        self.second += 0.001 * (gradient * gradient - self.second)
        first = self.first / (1 - 0.9**self.count)
        second = self.second / (1 - 0.999**self.count)
        return -rate * first / (np.sqrt(second) + 1e-12)


def descend(
    family: Ensemble | Piecewise | Monotone, y: np.ndarray, objective: Objective, max_iter: int
) -> Fitted:
    """Full-batch Adam from the family's start; the best iterate is kept."""
    theta, adam = family.start.copy(), Adam(len(family.start))
    best, least, history = theta, np.inf, np.empty(max_iter)
    for i in track(range(max_iter), "fitting the map", max_iter):
        value, upstream = objective.with_gradient(family.forward(theta), y)
        history[i] = value
        if value < least:
            best, least = theta.copy(), value
        rate = 0.02 if i < max_iter / 2 else 0.01 if i < max_iter * 3 / 4 else 0.005
        theta = theta + adam.step(family.backward(theta, upstream), rate)
    return family.finish(best), history


def fit_ensemble(
    z: np.ndarray, y: np.ndarray, objective: Objective, max_iter: int = 300, members: int = 8
) -> Fitted:
    """Mean of `members` temperatures; one member is a temperature fitted by Adam from the likelihood's choice."""
    return descend(Ensemble(z, nll_beta(z, y), members), y, objective, max_iter)


def fit_piecewise(
    z: np.ndarray, y: np.ndarray, objective: Objective, max_iter: int = 300, segments: int = 10
) -> Fitted:
    """Slopes of `segments` segments of equally many entries."""
    return descend(Piecewise(z, nll_beta(z, y), segments), y, objective, max_iter)


def fit_monotone(
    z: np.ndarray,
    y: np.ndarray,
    objective: Objective,
    max_iter: int = 300,
    hidden: int = 10,
    seed: int = 0,
) -> Fitted:
    """A monotone network; needs torch."""
    return descend(Monotone(z, nll_beta(z, y), hidden, seed), y, objective, max_iter)


FITTERS: dict[str, Callable[..., Fitted]] = {
    "temperature": lambda z, y, objective, max_iter: fit_temperature(z, y, objective),
    "ensemble": fit_ensemble,
    "piecewise": fit_piecewise,
    "monotone": fit_monotone,
}


def adapted(objective: Objective, n: int, classes: int) -> Objective:
    """The objective with a window that fits the sample, with a warning where it had to shrink."""
    entries = n * classes
    if entries >= 20 * (objective.window + 1):
        return objective
    window = max(2, 2 * (entries // 40))
    if window >= objective.window:
        return objective
    warnings.warn(
        f"window is reduced from {objective.window} to {window}: {entries} entries are too few for it",
        stacklevel=3,
    )
    return replace(objective, window=window)


def fit_map(
    z: np.ndarray,
    y: np.ndarray,
    mapping: str,
    objective: Objective,
    max_iter: int,
    rng: np.random.Generator,
) -> Fitted:
    """Fit a map to standardised logits z and labels y; also the objective over its grid or iterations.

    ``"auto"`` takes the map of least cross-validated objective among temperature, ensemble and piecewise (and monotone where
    torch is installed).
    """
    if mapping != "auto":
        return FITTERS[mapping](z, y, objective, max_iter)
    from importlib.util import find_spec

    names = [name for name in FITTERS if name != "monotone" or find_spec("torch") is not None]
    fold = rng.permutation(len(z)) % FOLDS
    scores = dict.fromkeys(names, 0.0)
    for k in range(FOLDS):
        inside, outside = fold != k, fold == k
        if not outside.any() or not inside.any():
            continue
        window = max(2, min(objective.window, 2 * (int(outside.sum()) * z.shape[1] // 40)))
        judge = replace(objective, window=window)
        for name in names:
            made, _ = FITTERS[name](np.ascontiguousarray(z[inside]), y[inside], objective, max_iter)
            scores[name] += judge(made.apply(z[outside]), y[outside])
    return FITTERS[min(names, key=lambda name: scores[name])](z, y, objective, max_iter)
