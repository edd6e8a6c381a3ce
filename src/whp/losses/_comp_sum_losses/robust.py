"""How often a classifier can be fooled at most: margins over the whole ball, counted."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np

from whp.certificate import Answer, Certificate
from whp.concentration import simultaneous_proportions
from whp.door import Above, AtLeast, Between, Fraction, Range, front_door
from whp.intervals import Estimate, exact
from whp.losses._comp_sum_losses import theorems as t
from whp.losses._comp_sum_losses.evidence import REPEATED
from whp.losses._comp_sum_losses.loss import check_tau, comp_sum
from whp.result import PALETTE, Result
from whp.theorem import Theorem
from whp.validate import as_labels, as_matrix, as_real, as_vector, private_stream

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["RobustBound", "robust_error_bound"]

ROUNDING = 1e-12
BISECTIONS = 60


@dataclass(frozen=True, eq=False)
class RobustBound(Result):
    """What attacks within a ball can do at most.

    Attributes
    ----------
    counted : float
        Share of these rows whose margin is not positive over the whole ball: the robust error is at
        most that; with ``sup="pgd"`` the share that attacks found, which bounds nothing.
    rows_to_come : float
        Upper limit of the robust error of rows from the same law.
    bound : float
        Upper bound by the adversarial ρ-margin loss, never below `counted`.
    smooth : float
        That by the smooth adversarial comp-sum loss.
    error, attacked : float
        Error as it is, and under the attack that was tried; exact for a linear model.
    radius : float
        Of the ball.
    least_margin : ndarray, shape (n,)
        Least margin of each row over the ball, or a lower bound of it.
    certificates : tuple of Certificate
        ``robust-count``, ``robust-error``, ``robust-margin`` and ``robust-smooth``.
    """

    counted: float
    rows_to_come: float
    bound: float
    smooth: float
    error: float
    attacked: float
    radius: float
    least_margin: np.ndarray = field(repr=False)
    certificates: tuple[Certificate, ...]

    def draw(self, ax: Axes) -> None:
        """Share of rows whose margin can fall below each value."""
        ax.ecdf(self.least_margin, color=PALETTE["ours"])
        ax.axvline(0, color=PALETTE["quiet"], linewidth=0.8)
        ax.set(xlabel=f"least margin within radius {self.radius:g}", ylabel="share of rows")


@dataclass(frozen=True)
class _Margins:
    """Margins (n, C − 1) as they are and at least, how far their vector moves, least ones under attack."""

    here: np.ndarray
    least: np.ndarray
    moved: np.ndarray
    attacked: np.ndarray
    alike: Answer
    sup: Answer
    proven: bool
    exact: bool


@front_door
def robust_error_bound(
    model: Any,
    x: Any,
    y: Any,
    radius: Annotated[float, Range(0, 1e9)],
    *,
    at_most: Annotated[float, Between(0, 1)] | None = None,
    tau: Annotated[float, Range(0, 1e6)] = 1.0,
    rho: Annotated[float, Above(0)] = 1.0,
    nu: Annotated[float, AtLeast(0)] | None = None,
    sup: Literal["interval", "pgd"] = "interval",
    norm: Literal["linf", "l2"] = "linf",
    box: tuple[float, float] | None = None,
    steps: Annotated[int, AtLeast(1)] = 40,
    restarts: Annotated[int, AtLeast(1)] = 2,
    delta: Annotated[float, Fraction()] = 0.05,
    distinct: bool = True,
    rng: np.random.Generator | int | None = None,
) -> RobustBound:
    """Bound the share of rows that some attack within the ball makes wrong.

    A row whose margins stay positive over the whole ball cannot be made wrong: the others are
    counted. An attack succeeds only where a margin reaches 0, which makes the ρ-margin loss at least
    Φ^τ(1); hence the paper's bounds E ℓ̃/Φ^τ(1) and, if ν ≥ √(C−1)/ρ, E ℓ_smooth/Φ^τ(1), which are
    never better than the count.

    Parameters
    ----------
    model : (W, b) or torch.nn.Module
        A linear model z = W x + b, W of shape (C, d); or, for ``sup="interval"``, a plain
        ``Sequential`` of linear and convolution layers, rising activations, pooling, batch, layer and
        group norm, and dropout; any module for ``sup="pgd"``. It is evaluated on its own device, in
        evaluation mode, and comes back as it was.
    x : array-like, shape (n, ...)
        Inputs.
    y : array-like, shape (n,)
        Class numbers.
    radius : float
        Radius γ of the ball.
    at_most : float, optional
        The robust error that can be tolerated; what the certificates then decide.
    tau, rho : float
        Dial and margin of the losses.
    nu : float, optional
        Weight ν of the smooth loss; by default the least that makes it a bound, √(C−1)/ρ.
    sup : {"interval", "pgd"}
        Lower bounds of the margins by interval arithmetic, which are exact for a linear model; or
        margins under attack, which are too large and prove nothing.
    norm : {"linf", "l2"}
        Of the ball; ``"l2"`` for linear models and ``sup="pgd"``.
    box : (float, float), optional
        Least and largest value of inputs.
    steps, restarts : int
        Of the attack.
    delta : float
        Failure probability of the limit for rows to come.
    distinct : bool
        Whether equal rows are copies, which void the limit for rows to come; False where inputs are
        discrete and repeat by themselves.
    rng : Generator or int, optional
        Source of the attack's starts.

    Returns
    -------
    RobustBound

    Raises
    ------
    TypeError, ValueError
        If an argument is not what is accepted; the message names it.

    Examples
    --------
    >>> W, b = np.array([[1.0, 0.0], [0.0, 1.0]]), np.zeros(2)
    >>> X = np.random.default_rng(0).normal(size=(500, 2))
    >>> found = robust_error_bound((W, b), X, (X @ W.T).argmax(axis=1), 0.01, at_most=0.1)
    >>> str(found.certificates[0].verdict)
    'holds'
    """
    tau = check_tau(tau)
    if box is not None:
        low, high = (as_real(v, "box") for v in box)
        if not low < high:
            raise ValueError(f"box must be (least, largest), got {box}")
        box = (low, high)
    stream = private_stream(rng)
    if isinstance(model, tuple):
        X, labels, m = _of_matrix(model, x, y, radius, norm, box)
    else:
        X, labels, m = _of_network(
            model, x, y, radius, norm, box, sup, steps, restarts, int(stream.integers(2**62))
        )
    if not np.isfinite(m.here).all():
        row = int(np.argwhere(~np.isfinite(m.here))[0][0])
        raise ValueError(f"model gives logits that are not finite, first in row {row}")
    n, classes = m.here.shape[0], m.here.shape[1] + 1
    if labels.max() >= classes:
        raise ValueError(f"y must hold whole class numbers 0 to {classes - 1}, got {labels.max()}")
    inside = t.BOX.by_construction("there is no box: attacks go wherever the ball is")
    if box is not None:
        within = bool(((box[0] <= X) & (box[1] >= X)).all())
        inside = t.BOX.check(within, f"{X.min():.4g} to {X.max():.4g} in {box[0]:g} to {box[1]:g}")
    open_rows, fooled = (m.least.min(axis=1) <= 0), (m.attacked <= 0)
    counted, robust = float(open_rows.mean()), float(fooled.mean())
    scale = float(comp_sum(1.0, tau))
    margin = float(comp_sum(np.clip(1 - m.least / rho, 0, 1).sum(axis=1), tau).mean()) / scale
    wanted = math.sqrt(classes - 1) / rho
    nu = wanted if nu is None else nu
    surely = comp_sum(np.exp(np.minimum(-m.here / rho, 700)).sum(axis=1), tau)
    smooth = float((surely + nu * m.moved).mean()) / scale
    if m.proven:  # no mean loss is below the count, but for rounding
        margin, smooth = (
            counted if abs(loss - counted) <= ROUNDING else loss for loss in (margin, smooth)
        )
    # One end of each interval is used, at delta/2.
    limit, above = simultaneous_proportions([fooled.sum(), open_rows.sum()], [n, n], 2 * delta)
    shown = {"rows": n, "classes": classes, "radius": radius, "norm": norm, "margins by": sup}
    shown |= {"attacked": robust, "not proven safe": counted}
    known = (m.alike, inside, m.sup)
    losses = {**shown, "tau": tau, "rho": rho, "Φ(1)": scale}
    rows_to_come = float(above[1]) if m.proven else 1.0
    rows = (
        _independent(X, labels, distinct),
        t.NOT_TRAINED_ON.unchecked("rows cannot show what the model was trained on"),
    )

    def made(
        theorem: Theorem, bound: float, trivial: float, answers: Any, inputs: Any, **kind: Any
    ) -> Certificate:
        return theorem(
            bound=bound, confidence=1.0, trivial=trivial, answers=answers, inputs=inputs, **kind
        )

    upper = counted if m.proven else 1.0
    refuted = _refutes(robust, counted, counted, m.exact)
    both = Estimate.between(
        robust, max(robust, upper), value=robust, n=n, method="attack and proof"
    )
    count = made(
        t.ROBUST_COUNT,
        counted if at_most is None else at_most,
        1.0,
        known,
        shown,
        measured=refuted if at_most is None else both,
    )
    to_come = t.ROBUST_ERROR(
        bound=rows_to_come if at_most is None else at_most,
        confidence=1 - delta,
        trivial=1.0,
        measured=None
        if at_most is None
        # The failure probability of the interval is the certificate's own and is spent once.
        else Estimate.between(
            float(limit[0]),
            max(float(limit[0]), rows_to_come),
            value=robust,
            n=n,
            method="Clopper-Pearson",
        ),
        answers=(*rows, *known),
        inputs={**shown, "limit for rows to come": rows_to_come},
    )
    # A count over intervals is itself a bound, and no mean loss is below it.
    worst = counted if m.proven else 1.0
    enough = t.NU_LARGE.check(nu >= wanted * (1 - 1e-12), f"ν = {nu:.4g}, needed is {wanted:.4g}")
    return RobustBound(
        counted=counted,
        rows_to_come=rows_to_come,
        bound=margin,
        smooth=smooth,
        error=float((m.here.min(axis=1) <= 0).mean()),
        attacked=robust,
        radius=radius,
        least_margin=m.least.min(axis=1),
        certificates=(
            count,
            to_come,
            made(
                t.ROBUST_MARGIN,
                margin,
                worst,
                known,
                losses,
                measured=_refutes(robust, counted, margin, m.exact),
            ),
            made(
                t.ROBUST_SMOOTH,
                smooth,
                worst,
                (*known, enough),
                {**losses, "nu": nu},
                measured=_refutes(robust, counted, smooth, m.exact),
            ),
        ),
    )


def _refutes(attacked: float, counted: float, bound: float, known: bool) -> Estimate | None:
    """The robust error where it is known, or where an attack already exceeds the bound."""
    if known:
        return Estimate.between(attacked, counted, value=attacked, method="exact")
    return exact(attacked) if attacked > bound else None


def _independent(X: np.ndarray, y: np.ndarray, distinct: bool) -> Answer:
    """Copies show that rows are not independent; nothing shows that they are."""
    if not distinct:
        return t.INDEPENDENT.unchecked("equal rows are said to be no copies")
    rows = np.column_stack([X.reshape(len(X), -1), y])
    exact = 1 - len(np.unique(rows, axis=0)) / len(rows)
    why = f"{exact:.1%} of the rows repeat another one exactly"
    if exact > REPEATED:
        return t.INDEPENDENT.check(False, why)
    return t.INDEPENDENT.unchecked(f"{why}; rows that depend on each other cannot be seen")


def _of_matrix(
    model: Any, x: Any, y: Any, radius: float, norm: str, box: Any
) -> tuple[np.ndarray, np.ndarray, _Margins]:
    if len(model) != 2:
        raise ValueError(f"model must be (W, b) or a torch module, got {len(model)} parts")
    X = as_matrix(x, "x", dtype=np.float64)
    W = as_matrix(model[0], "model", dtype=np.float64)
    if W.shape[1] != X.shape[1] or len(W) < 2:
        raise ValueError(
            f"model must have {X.shape[1]} columns as x has and 2 rows or more, got shape {W.shape}"
        )
    b = as_vector(model[1], "model", size=len(W), dtype=np.float64)
    labels = as_labels(y, "y", size=len(X), classes=len(W))
    here, least, reached, moved, rounding = linear_margins(W, b, X, labels, radius, norm, box)
    return (
        X,
        labels,
        _Margins(
            here,
            least - rounding,
            moved,
            (reached + rounding).min(axis=1),
            t.EVAL_MODE.by_construction("a matrix has no mode"),
            t.SUP_TRUE.by_construction("the least value of a linear function over the ball"),
            proven=True,
            exact=True,
        ),
    )


def _of_network(
    model: Any,
    x: Any,
    y: Any,
    radius: float,
    norm: Any,
    box: Any,
    sup: str,
    steps: int,
    restarts: int,
    seed: int,
) -> tuple[np.ndarray, np.ndarray, _Margins]:
    from torch import inference_mode
    from torch.nn import Module

    from whp.losses._comp_sum_losses.intervals import flattened
    from whp.losses._comp_sum_losses.network import Network

    # Rows are checked as numpy arrays; the caller's tensor stays put, the network gets its own copy.
    value = x.detach().cpu() if hasattr(x, "detach") else x
    X = np.asarray(value, dtype=np.float64)
    if X.ndim < 2 or not X.size or not np.isfinite(X).all():
        raise ValueError(f"x must hold rows of finite numbers, got shape {X.shape}")
    labels = as_labels(y, "y", size=len(X))
    if norm == "l2" and sup == "interval":
        raise ValueError("norm must be 'linf' for interval arithmetic through a network")
    if sup == "interval" and isinstance(model, Module):
        flattened(model)  # names what it does not know before anything is run
    proven = sup == "interval"
    with inference_mode(False):  # attacks need gradients, wherever they are called
        network = Network(model, X, labels, radius, norm, box, seed)
        alike, attacked = network.alike(), network.attacked(steps, restarts)
        outside = 0.0
        if proven:
            least, moved, outside = network.over_the_ball()
        else:
            least, moved = network.moved(steps)
    if proven:
        answer = t.SUP_TRUE.by_construction(
            "interval arithmetic through layers of known types, without hooks, rounding included"
        )
        if outside > 0:
            answer = t.SUP_TRUE.check(
                False, f"intervals of radius 0 miss the model's own logits by {outside:.3g}"
            )
    else:
        least = np.minimum(least, attacked[:, None])
        answer = t.SUP_TRUE.unchecked("attacks find margins of some points of the ball, not of all")
    here = network.here.double().cpu().numpy()  # margins, counted with numpy from here on
    return X, labels, _Margins(here, least, moved, attacked, alike, answer, proven, exact=False)


def others(n_classes: int) -> np.ndarray:
    """Row y holds the classes other than y."""
    grid = np.tile(np.arange(n_classes), (n_classes, 1))
    return grid[~np.eye(n_classes, dtype=bool)].reshape(n_classes, n_classes - 1)


def linear_margins(
    W: np.ndarray, b: np.ndarray, X: np.ndarray, y: np.ndarray, radius: float, norm: str, box: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Margins (n, C−1), their least values over the ball, how far their vector moves at most, rounding.

    The least values come twice: proven, and reached by a point of the ball.
    """
    z = X @ W.T + b
    size = (np.abs(X) + radius) @ np.abs(W).T + np.abs(b)
    slack = 4 * (W.shape[1] + 4) * np.finfo(float).eps * size
    rest = others(len(W))[y]
    here = np.take_along_axis(z, y[:, None], 1) - np.take_along_axis(z, rest, 1)
    least = np.empty_like(here)
    reached = np.empty_like(here)
    fall = np.empty_like(here)
    for c in range(len(W)):
        rows = y == c
        D = W[c] - W[others(len(W))[c]]
        if norm == "l2":
            most = drop = found = np.broadcast_to(
                radius * np.linalg.norm(D, axis=1), here[rows].shape
            )
            if box is not None and radius:
                falls = [_fall_in_box(one, X[rows], radius, box) for one in D]
                drop, found = (np.column_stack(part) for part in zip(*falls, strict=True))
        else:
            part = X[rows]
            low = high = np.full(part.shape, radius)
            if box is not None:
                low = part - np.maximum(part - radius, box[0])
                high = np.minimum(part + radius, box[1]) - part
            up, down = np.maximum(D, 0), np.maximum(-D, 0)
            drop = found = low @ up.T + high @ down.T
            most = np.maximum(drop, high @ up.T + low @ down.T)
        least[rows], reached[rows], fall[rows] = here[rows] - drop, here[rows] - found, most
    rounding = np.take_along_axis(slack, y[:, None], 1) + np.take_along_axis(slack, rest, 1)
    return here, least, reached, np.linalg.norm(fall, axis=1), rounding


def _fall_in_box(
    direction: np.ndarray, X: np.ndarray, radius: float, box: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """How far direction·x falls within an ℓ₂ ball and a box: at most, by duality, and by a point found.

    The least of direction·δ for ‖δ‖₂ ≤ radius in the box is where δ = −direction/λ, cut at the box,
    is as long as the radius; its value + λ(‖δ‖² − radius²)/2 is a lower bound at every λ ≥ 0.
    """
    low, high = np.minimum(box[0] - X, 0), np.maximum(box[1] - X, 0)
    size = float(np.linalg.norm(direction))
    if size == 0:
        return np.zeros(len(X)), np.zeros(len(X))
    w = direction / size
    corner = np.where(w > 0, low, high) * (w != 0)
    free = np.linalg.norm(corner, axis=1) <= radius
    above, below = np.full(len(X), 1 / radius), np.zeros(len(X))

    def cut(pull: np.ndarray) -> np.ndarray:
        return np.clip(-w / pull[:, None], low, high)

    for _ in range(BISECTIONS):
        middle = (above + below) / 2
        long = np.linalg.norm(cut(middle), axis=1) > radius
        below, above = np.where(long, middle, below), np.where(long, above, middle)
    delta = cut(above)
    short = radius**2 - (delta**2).sum(axis=1)
    found = -(delta @ w)
    proven = np.where(free, -(corner @ w), found + above * np.maximum(short, 0) / 2)
    proven = np.minimum(proven, radius)
    return size * proven, size * np.where(free, -(corner @ w), np.minimum(found, proven))
