"""Fitting: a search for one temperature, gradients for the maps with more parameters."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec

import numpy as np

from whp.calibration._h_calibration import kernels
from whp.calibration._h_calibration.families import Ensemble, Fitted, Monotone, Piecewise, descend
from whp.calibration._h_calibration.maps import FAR, HCalibrationMap
from whp.calibration._h_calibration.objective import Objective

__all__ = [
    "MAPPINGS",
    "adapted",
    "fit_ensemble",
    "fit_map",
    "fit_monotone",
    "fit_piecewise",
    "fit_temperature",
    "nll_beta",
]

LOG_BETA = (-9.0, 4.0)  # for logits whose median distance from their row's largest is 1
SPAN, COARSE, FINE, GOLDEN = 3.0, 31, 15, 9
FEW = 100_000  # entries of the coarse search; of more, evenly taken rows serve
FOLDS = 5


def scaled(z: np.ndarray) -> tuple[np.ndarray, float]:
    """Logits below their row's largest, in units of their median distance from it, and that unit."""
    u = z - z.max(axis=1, keepdims=True)
    lower = u[(u < 0) & (u > FAR)]
    scale = float(-np.median(lower)) if lower.size else 1.0
    return np.ascontiguousarray(u / scale), scale


def _likeliest(u: np.ndarray, y: np.ndarray) -> float:
    """Logarithm of the inverse temperature of least log-loss, at most one of the ends of LOG_BETA.

    Newton's method, kept inside a bracket that shrinks with the sign of the slope.
    """
    possible = u[np.arange(len(u)), y] > FAR  # no temperature helps the others
    u, y = np.ascontiguousarray(u[possible]), y[possible]
    low, high = LOG_BETA
    at = 0.0
    for _ in range(60):
        beta = float(np.exp(at))
        first, second = kernels.temperature_moments(u, y, beta)
        if first > 0:
            high = at
        else:
            low = at
        slope, curvature = beta * first, beta * beta * second + beta * first  # by log beta
        proposed = at - slope / curvature if curvature > 0 else np.inf
        if not low < proposed < high:
            proposed = (low + high) / 2
        if abs(proposed - at) < 1e-10:
            return proposed
        at = proposed
    return at


def nll_beta(z: np.ndarray, y: np.ndarray) -> float:
    """Inverse temperature of least log-loss, whatever the scale of z; log-loss is convex in it."""
    u, scale = scaled(z)
    return float(np.exp(_likeliest(u, y))) / scale


def fit_temperature(z: np.ndarray, y: np.ndarray, objective: Objective) -> Fitted:
    """A coarse and a fine grid on log beta around the likelihood's choice, then golden section.

    The error has many local minima, all of them shallow beside the one that a coarse grid sees.
    """
    u, scale = scaled(z)
    start = _likeliest(u, y)
    edge = not LOG_BETA[0] + 1e-3 < start < LOG_BETA[1] - 1e-3
    if edge:
        warnings.warn(
            "the likeliest temperature is at the edge of the search: "
            + (
                "the scores do no better than chance; are the classes those of the columns?"
                if start < 0
                else "nearly every row is right; did these rows train the classifier?"
            ),
            stacklevel=2,
        )
    every = -(-u.size // FEW)
    few, labels = np.ascontiguousarray(u[::every]), y[::every]
    grid = np.linspace(start - SPAN, start + SPAN, COARSE)
    values = objective.over_temperatures(few, labels, np.exp(grid))
    best = int(values.argmin())
    if not edge and best in (0, COARSE - 1) and values[best] < np.delete(values, best).min():
        warnings.warn(
            "the windowed error still falls at the edge of the temperatures tried, e³ times off the "
            "likeliest; compare metrics before and after",
            stacklevel=2,
        )
    step = float(grid[1] - grid[0])
    fine = np.linspace(grid[best] - step, grid[best] + step, FINE)
    around = objective.over_temperatures(few, labels, np.exp(fine))
    history = [*values, *around]
    at = float(fine[around.argmin()])
    found, least = at, np.inf
    ratio = (np.sqrt(5) - 1) / 2
    reach = (fine[1] - fine[0]) * (1 if every == 1 else 3)  # the part's minimum is a little off
    low, high = at - reach, at + reach

    def error(at: float) -> float:
        nonlocal found, least
        value = float(objective.over_temperatures(u, y, np.exp(np.array([at])))[0])
        history.append(value)
        if value < least:
            found, least = at, value
        return value

    error(at)
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = error(left), error(right)
    for _ in range(GOLDEN - 2):
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = error(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = error(right)
    return HCalibrationMap.temperature(float(np.exp(found)) / scale), np.array(history)


def fit_ensemble(
    z: np.ndarray, y: np.ndarray, objective: Objective, max_iter: int = 300, members: int = 8
) -> Fitted:
    """Mean of `members` temperatures, all about the likelihood's choice at first."""
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


# From the simplest to the most flexible: "auto" takes the first that is good enough.
FITTERS: dict[str, Callable[..., Fitted]] = {
    "temperature": lambda z, y, objective, max_iter: fit_temperature(z, y, objective),
    "piecewise": fit_piecewise,
    "ensemble": fit_ensemble,
    "monotone": fit_monotone,
}
MAPPINGS = (*FITTERS, "auto")


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

    ``"auto"`` takes the simplest map whose cross-validated error is within one standard error of the
    least (monotone takes part where torch is installed).
    """
    if mapping != "auto":
        return FITTERS[mapping](z, y, objective, max_iter)
    names = [name for name in FITTERS if name != "monotone" or find_spec("torch") is not None]
    fold = rng.permutation(len(z)) % min(FOLDS, len(z))
    scores = np.empty((fold.max() + 1, len(names)))
    for k in range(len(scores)):
        inside, outside = fold != k, fold == k
        window = max(2, min(objective.window, 2 * (int(outside.sum()) * z.shape[1] // 40)))
        judge = replace(objective, window=window)
        part = np.ascontiguousarray(z[inside])
        for i, name in enumerate(names):
            made, _ = FITTERS[name](part, y[inside], objective, max_iter)
            scores[k, i] = judge(made.apply(z[outside]), y[outside])
    means = scores.mean(axis=0)
    best = int(means.argmin())
    error = scores[:, best].std(ddof=1) / np.sqrt(len(scores)) if len(scores) > 1 else 0.0
    chosen = names[int(np.argmax(means <= means[best] + error))]
    return FITTERS[chosen](z, y, objective, max_iter)
