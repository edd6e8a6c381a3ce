"""How often a classifier can be fooled at most: bounds on the robust error from margins over the whole ball."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from whp.certificate import Certificate
from whp.intervals import exact
from whp.losses.comp_sum_losses.loss import check_tau, comp_sum
from whp.result import Result
from whp.undeclared import Assumption, met, unchecked, undeclared, violated
from whp.validate import as_choice, as_int, as_labels, as_matrix, as_real, as_vector

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["RobustBound", "robust_error_bound"]


@dataclass(frozen=True, eq=False)
class RobustBound(Result):
    """What attacks within a ball can do at most.

    Attributes
    ----------
    bound : float
        Upper bound of the robust error by the adversarial ρ-margin loss.
    smooth : float
        That by the smooth adversarial comp-sum loss.
    error, attacked : float
        Error as it is, and under the attack that was tried; exact for a linear model.
    least_margin : ndarray, shape (n,)
        Least margin of each row over the ball, or a lower bound of it.
    certificates : tuple of Certificate
        ``robust-margin`` and ``robust-smooth``.
    """

    bound: float
    smooth: float
    error: float
    attacked: float
    radius: float
    least_margin: np.ndarray
    certificates: tuple[Certificate, ...]

    def plot(self, ax: Axes | None = None) -> Axes:
        """Share of rows whose margin can fall below each value."""
        if ax is None:
            import matplotlib.pyplot as plt

            ax = plt.subplots()[1]
        ax.ecdf(self.least_margin, color="tab:blue")
        ax.axvline(0, color="0.5", linewidth=0.8)
        ax.set(xlabel=f"least margin within radius {self.radius:g}", ylabel="share of rows")
        return ax


def robust_error_bound(
    model: Any,
    x: Any,
    y: Any,
    radius: float,
    *,
    tau: float = 1.0,
    rho: float = 1.0,
    nu: float | None = None,
    sup: Literal["interval", "pgd"] = "interval",
    norm: Literal["linf", "l2"] = "linf",
    box: tuple[float, float] | None = None,
    steps: int = 40,
    restarts: int = 2,
    rng: np.random.Generator | int | None = None,
) -> RobustBound:
    """Bound the share of these rows that some attack within the ball makes wrong.

    An attack succeeds only where some margin reaches 0, which makes the ρ-margin loss at least Φ^τ(1): hence the robust error is at
    most E ℓ̃/Φ^τ(1), and that is at most E ℓ_smooth/Φ^τ(1) if ν ≥ √(C−1)/ρ (derived here; with minimizability gaps it is the
    paper's Theorem of Section 5).

    Parameters
    ----------
    model : (W, b) or torch.nn.Module
        A linear model z = W x + b, W of shape (C, d); or, for ``sup="interval"``, a ``Sequential`` of ``Flatten``, ``Linear``,
        ``Conv2d``, ``ReLU`` and modules that do nothing in evaluation; any module for ``sup="pgd"``.
    x : array-like, shape (n, ...)
        Inputs.
    y : array-like, shape (n,)
        Class numbers.
    radius : float
        Radius γ of the ball.
    tau, rho : float
        Dial and margin.
    nu : float, optional
        Weight ν of the smooth loss; by default the least that makes it a bound, √(C−1)/ρ.
    sup : {"interval", "pgd"}
        Lower bounds of the margins by interval arithmetic, which are exact for a linear model; or margins under attack, which
        are too large and leave an assumption unchecked.
    norm : {"linf", "l2"}
        Of the ball; ``"l2"`` for linear models and ``sup="pgd"``.
    box : (float, float), optional
        Least and largest value of inputs.
    steps, restarts : int
        Of the attack.
    rng : Generator or int, optional
        Source of the attack's starts.

    Returns
    -------
    RobustBound

    Raises
    ------
    TypeError, ValueError
        If an argument is not what is accepted; the message names it.
    """
    tau, rho = check_tau(tau), as_real(rho, "rho", low=0, high=1e9, open_ends=True)
    radius = as_real(radius, "radius", low=0, high=1e9)
    as_choice(sup, "sup", ("interval", "pgd"))
    as_choice(norm, "norm", ("linf", "l2"))
    steps, restarts = as_int(steps, "steps", low=1), as_int(restarts, "restarts", low=1)
    linear = isinstance(model, tuple)
    rng = np.random.default_rng(rng)
    assumptions: list[Assumption] = []
    if linear:
        if len(model) != 2:
            raise ValueError(f"model must be (W, b) or a torch module, got {len(model)} parts")
        X = as_matrix(x, "x", dtype=np.float64)
        W = as_matrix(model[0], "model", dtype=np.float64)
        if W.shape[1] != X.shape[1]:
            raise ValueError(f"model must have {X.shape[1]} columns as x has, got {W.shape[1]}")
        b = as_vector(model[1], "model", size=len(W), dtype=np.float64)
        labels = as_labels(y, "y", size=len(X), classes=len(W))
        here, least, moved = _linear(W, b, X, labels, radius, norm, box)
        attacked = least.min(axis=1)
    else:
        X = np.asarray(x, dtype=np.float32)
        if X.ndim < 2 or not X.size or not np.isfinite(X).all():
            raise ValueError(f"x must hold rows of finite numbers, got shape {X.shape}")
        from whp.losses.comp_sum_losses import network

        labels = as_labels(y, "y", size=len(X))
        if norm == "l2" and sup == "interval":
            raise ValueError("norm must be 'linf' for interval arithmetic through a network")
        assumptions.append(network.deterministic(model))
        here, attacked = network.attack(model, X, labels, radius, norm, box, steps, restarts, rng)
        if sup == "interval":
            least, moved = network.interval_margins(model, X, labels, radius, box)
        else:
            least, moved = network.moved_margins(model, X, labels, radius, norm, box, steps, rng)
    n, classes = here.shape[0], here.shape[1] + 1
    if labels.max() >= classes:
        raise ValueError(f"y must hold whole class numbers 0 to {classes - 1}, got {labels.max()}")
    if box is not None:
        inside = bool(((box[0] <= X) & (box[1] >= X)).all())
        assumptions.append(
            (met if inside else violated)(
                "inputs lie in the box", f"{X.min():.4g} to {X.max():.4g}"
            )
        )
    if sup == "pgd" and not linear:
        assumptions.append(
            unchecked("the attack finds the largest loss in the ball", "it is a lower bound of it")
        )
    scale = float(comp_sum(1.0, tau))
    margin = comp_sum(np.clip(1 - least / rho, 0, 1).sum(axis=1), tau)
    wanted = math.sqrt(classes - 1) / rho
    nu = wanted if nu is None else as_real(nu, "nu", low=0, high=1e12)
    smooth = comp_sum(np.exp(np.minimum(-here / rho, 700)).sum(axis=1), tau) + nu * moved
    error, robust = float((here.min(axis=1) <= 0).mean()), float((attacked <= 0).mean())
    enough = (met if nu >= wanted * (1 - 1e-12) else violated)(
        "ν is at least √(C − 1)/ρ", f"ν = {nu:.4g}, needed is {wanted:.4g}"
    )
    inputs = {
        "rows": n,
        "classes": classes,
        "radius": radius,
        "norm": norm,
        "tau": tau,
        "rho": rho,
        "margins by": sup,
    }
    told = (
        "exact"
        if linear
        else "the share that an attack fooled, a lower bound: holds means not refuted"
    )

    def certificate(
        name: str, loss: str, value: float, more: tuple[Assumption, ...]
    ) -> Certificate:
        return undeclared(
            name,
            f"the share of these rows that an attack within the ball makes wrong is at most the mean {loss} over Φ(1); measured is "
            + told,
            "derived here: an adversarial error makes the loss at least Φ(1); Mao, Mohri, Zhong 2023, Section 5",
            "<=",
            value / scale,
            1.0,
            exact(robust),
            trivial=1.0,
            assumptions=(*assumptions, *more),
            inputs={**inputs, "Φ(1)": scale},
            remedy="choose a smaller rho; a bound by intervals is loose for deep networks.",
        )

    return RobustBound(
        float(margin.mean()) / scale,
        float(smooth.mean()) / scale,
        error,
        robust,
        radius,
        least.min(axis=1),
        (
            certificate("robust-margin", "ρ-margin loss", float(margin.mean()), ()),
            certificate("robust-smooth", "smooth loss", float(smooth.mean()), (enough,)),
        ),
    )


def others(n_classes: int) -> np.ndarray:
    """Row y holds the classes other than y."""
    grid = np.tile(np.arange(n_classes), (n_classes, 1))
    return grid[~np.eye(n_classes, dtype=bool)].reshape(n_classes, n_classes - 1)


def _linear(
    W: np.ndarray, b: np.ndarray, X: np.ndarray, y: np.ndarray, radius: float, norm: str, box: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Margins (n, C−1), their least values over the ball, and a bound of how far the vector of margins moves."""
    z = X @ W.T + b
    rest = others(len(W))[y]
    here = np.take_along_axis(z, y[:, None], 1) - np.take_along_axis(z, rest, 1)
    least = np.empty_like(here)
    fall = np.empty_like(here)
    for c in range(len(W)):
        rows = y == c
        D = W[c] - W[others(len(W))[c]]
        if norm == "l2":
            drop = np.broadcast_to(radius * np.linalg.norm(D, axis=1), here[rows].shape)
            most = drop
        else:
            part = X[rows]
            low = (
                np.full(part.shape, radius)
                if box is None
                else part - np.maximum(part - radius, box[0])
            )
            high = (
                np.full(part.shape, radius)
                if box is None
                else np.minimum(part + radius, box[1]) - part
            )
            up, down = np.maximum(D, 0), np.maximum(-D, 0)
            drop = low @ up.T + high @ down.T
            most = np.maximum(drop, high @ up.T + low @ down.T)
        least[rows], fall[rows] = here[rows] - drop, most
    return here, least, np.linalg.norm(fall, axis=1)
