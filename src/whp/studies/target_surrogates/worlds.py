"""Worlds of target surrogates: losses and gradients are computed apart, from the parameters.

Of linear models the parameters after each step are kept as the run makes them; losses and gradients
are then taken in extended precision. The mean over batches is that of the second moments of the
errors, in extended precision too, after Gram and Schmidt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
from scipy.sparse import csr_array

from whp.certificate import Certificate
from whp.experiment.worlds import Instance, Worlds
from whp.optim import TargetSurrogateFit, target_surrogates
from whp.optim._target_surrogates import theorems as t
from whp.optim._target_surrogates.linear import fit_linear

__all__ = ["worlds"]

worlds = Worlds("target-surrogates", t.THEOREMS)
HERE = "whp.optim._target_surrogates"
Rng = np.random.Generator
Truths = Mapping[str, bool | None]
LONG = np.longdouble


# Linear models


@dataclass(frozen=True)
class Run:
    """The front door's result, and the coefficients before and after each step."""

    made: TargetSurrogateFit
    path: tuple[np.ndarray, ...]

    @property
    def certificates(self) -> tuple[Certificate, ...]:
        """Of the whole run."""
        return self.made.certificates


def fitted(X: np.ndarray, y: np.ndarray, **options: Any) -> Run:
    """A run, of which a look over its shoulder keeps the coefficients."""
    path: list[np.ndarray] = []

    def watched(*given: Any, stop: Callable[..., bool], **more: Any) -> Any:
        def watch(t: int, theta: np.ndarray, after: float) -> bool:
            path.append(theta.T.copy())
            return stop(t, theta, after)

        return fit_linear(*given, stop=watch, **more)

    with patch(f"{HERE}.front_door.fit_linear", watched):
        made = target_surrogates(X, y, compare=False, **options)
    return Run(made, (np.zeros_like(made.coef), *path[:-1], made.coef))


def once(X: Any, y: np.ndarray, measure: bool = True, **options: Any) -> Run:
    """A run with batches."""
    made = target_surrogates(X, y, compare=False, measure=measure, **options)
    return Run(made, ())


def losses_and_gradients(
    X: np.ndarray, y: np.ndarray, loss: str, theta: np.ndarray, alpha: float
) -> tuple[float, float]:
    """Sum of losses, and squared norm of its gradient with a ridge on all but constant columns."""
    A, w = X.astype(LONG), theta.T.astype(LONG)
    z = A @ w
    if loss == "squared":
        value, G = ((z - y) ** 2).sum() / 2, z - y
    elif loss == "huber":
        off = z - y
        near = np.clip(off, -1, 1)
        value, G = (near * (off - near / 2)).sum(), near
    elif loss == "poisson":
        value, G = (np.exp(z) - y * z).sum(), np.exp(z) - y
    elif loss == "logistic":
        value = (np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z))) - y * z).sum()
        G = 1 / (1 + np.exp(-z)) - y
    else:
        shifted = z - z.max(axis=1, keepdims=True)
        total = np.exp(shifted).sum(axis=1, keepdims=True)
        hot = np.eye(z.shape[1])[y.astype(int)]
        value = (np.log(total)[:, 0] - (shifted * hot).sum(axis=1)).sum()
        G = np.exp(shifted) / total - hot
    penalty = len(X) * alpha * (np.ptp(X, axis=0) > 0)
    slope = A.T @ G + (penalty * w.T).T
    return float(value), float((slope**2).sum())


def judge(X: np.ndarray, y: np.ndarray, loss: str, alpha: float = 0.0) -> Callable[[Run], Truths]:
    """Losses after each step against the surrogate given, least gradient against its bound."""

    def truths(run: Run) -> Truths:
        seen = [losses_and_gradients(X, y, loss, theta, alpha) for theta in run.path]
        history = run.made.history
        most = (history["surrogate"] + history["slack"]).to_numpy()
        fine = np.array([value for value, _ in seen[1:]]) <= most
        judged: dict[str, bool | None] = {"majorisation": bool(fine.all())}
        for c in run.certificates:
            if c.name == "descent":
                least = min(norm2 for _, norm2 in seen[:-1])
                judged["descent"] = bool(least <= c.bound)
        return judged

    return truths


def linear(rng: Rng, n: int, d: int, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Normal features, a linear signal, normal noise."""
    X = rng.standard_normal((n, d))
    return X, X @ rng.standard_normal(d) + noise * rng.standard_normal(n)


def clicks(rng: Rng, n: int = 200, d: int = 5, steep: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels of a logistic model."""
    X = rng.standard_normal((n, d))
    p = 1 / (1 + np.exp(-steep * X @ rng.standard_normal(d)))
    y = (rng.random(n) < p) * 1.0
    y[:2] = 0.0, 1.0
    return X, y


def fit(
    X: np.ndarray, y: np.ndarray, loss: str, max_iter: int = 4, alpha: float = 0.0, **options: Any
) -> Instance:
    """An instance of the front door with full batches."""
    given = {"loss": loss, "max_iter": max_iter, "alpha": alpha, "tol": 0.0, **options}
    wanted = y.astype(int) if loss in ("logistic", "softmax") else y
    return Instance({"X": X, "y": wanted, **given}, judge(X, y, loss, alpha))


@worlds.world(run=fitted, strengths=(1.0, 1e-9, 1e9))
def squares_in_any_unit(rng: Rng, strength: float) -> Instance:
    """Least squares, 100 × 10, targets in units of the strength; five inner steps."""
    X, y = linear(rng, 100, 10)
    return fit(X, strength * y, "squared", inner="gd", m=5)


@worlds.world(run=fitted, strengths=(0.0, 1e6))
def squares_exactly(rng: Rng, strength: float) -> Instance:
    """Least squares with an intercept and targets around the strength, exact: surrogate and loss are equal."""
    X, y = linear(rng, 100, 10)
    return fit(np.column_stack([X, np.ones(100)]), y + strength, "squared", max_iter=3)


@worlds.world(run=fitted, strengths=(0.0, 1e-9, 1e-6))
def exact_fits(rng: Rng, strength: float) -> Instance:
    """Noise of that size, on 100 × 10, 30 × 30 or 20 × 200: losses fall to rounding."""
    n, d = ((100, 10), (30, 30), (20, 200))[rng.integers(3)]
    X, y = linear(rng, n, d, strength)
    return fit(X, y, "squared")


@worlds.world(run=fitted, strengths=(0, 1, 2))
def clicks_three_ways(rng: Rng, strength: float) -> Instance:
    """Logistic regression, exact, by five gradient steps (1) or by Armijo's rule (2)."""
    way = ({}, {"inner": "gd", "m": 5}, {"inner": "armijo", "m": 5})[int(strength)]
    return fit(*clicks(rng), "logistic", **way)


@worlds.world(run=fitted)
def an_ordinary_run(rng: Rng, strength: float) -> Instance:
    """Logistic regression, 12 steps at the defaults: both theorems decide."""
    return fit(*clicks(rng), "logistic", max_iter=12)


@worlds.world(run=fitted)
def separable(rng: Rng, strength: float) -> Instance:
    """Logistic regression with more columns than rows: the loss has no minimiser."""
    return fit(*clicks(rng, 20, 40), "logistic", max_iter=8)


@worlds.world(run=fitted)
def three_classes(rng: Rng, strength: float) -> Instance:
    """Softmax."""
    X = rng.standard_normal((90, 4))
    y = (X[:, :3] + rng.standard_normal((90, 3))).argmax(axis=1).astype(float)
    y[:3] = 0, 1, 2
    return fit(X, y, "softmax")


@worlds.world(run=fitted)
def outliers(rng: Rng, strength: float) -> Instance:
    """Huber's loss, t noise with 1.5 degrees of freedom."""
    X, y = linear(rng, 80, 5, 0.0)
    return fit(X, y + rng.standard_t(1.5, 80), "huber")


@worlds.world(run=fitted, strengths=(1.0, 1e-3))
def ridge_with_an_intercept(rng: Rng, strength: float) -> Instance:
    """Logistic regression with a penalty, which the gradient and the loss at the start have too."""
    X, y = clicks(rng)
    return fit(np.column_stack([X, np.ones(200)]), y, "logistic", alpha=strength)


@worlds.world(run=fitted)
def orthogonal_columns(rng: Rng, strength: float) -> Instance:
    """Columns of one length at right angles, no noise, one step: the bound on the gradient is attained."""
    X = 3 * np.linalg.qr(rng.standard_normal((40, 6)))[0]
    return fit(X, X @ rng.standard_normal(6), "squared", max_iter=1)


@worlds.world(run=fitted, breaks=t.STEP, strengths=(2.5, 1.5, 1.001))
def long_steps_on_squares(rng: Rng, strength: float) -> Instance:
    """η is so many times 1/L, squared loss."""
    return fit(*linear(rng, 100, 10), "squared", eta=strength)


@worlds.world(run=fitted, breaks=t.STEP, strengths=(10, 2, 1.1))
def long_steps_on_clicks(rng: Rng, strength: float) -> Instance:
    """The same for logistic regression."""
    return fit(*clicks(rng), "logistic", eta=4 * strength)


@worlds.world(run=fitted, breaks=t.STEP)
def searched_steps(rng: Rng, strength: float) -> Instance:
    """η is searched by function values, on steep clicks, where long steps are accepted."""
    return fit(*clicks(rng, steep=4.0), "logistic", max_iter=6, rule="sls")


@worlds.world(run=fitted, breaks=t.STEP, strengths=(100, 30))
def adaptive_steps(rng: Rng, strength: float) -> Instance:
    """AdaGrad from so many times 1/L on."""
    return fit(*clicks(rng), "logistic", rule="adagrad", eta=4 * strength)


@worlds.world(run=fitted, breaks=t.SMOOTH, strengths=(1000, 30, 1))
def counts(rng: Rng, strength: float) -> Instance:
    """Poisson, means of about the strength: there is no L."""
    X = rng.standard_normal((60, 3)) / 4
    y = rng.poisson(strength * np.exp(X[:, 0])).astype(float)
    return fit(np.column_stack([X, np.ones(60)]), y, "poisson", max_iter=3)


# The mean over batches


def orthogonal(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Q and R of independent columns in extended precision, by Gram and Schmidt, twice."""
    Q, R = X.astype(LONG), np.zeros((X.shape[1],) * 2, LONG)
    for j in range(Q.shape[1]):
        for _ in range(2):
            along = Q[:, :j].T @ Q[:, j]
            Q[:, j] -= Q[:, :j] @ along
            R[:j, j] += along
        R[j, j] = np.sqrt(Q[:, j] @ Q[:, j])
        Q[:, j] /= R[j, j]
    return Q, R


def exact_mean(
    X: np.ndarray, y: np.ndarray, b: int, etas: np.ndarray, m: int | None = None
) -> float:
    """E‖z_T − z*‖² by second moments in extended precision; columns of X are independent.

    Batches are drawn without replacement, independently. With z − z* = Qu, a batch S takes u to
    u − η(n/b) F Σ_S q_i(q_iᵀu + r_i), F what inner steps take of the exact one.
    """
    n, d = X.shape
    Q, R = orthogonal(X)
    u, F = -(Q.T @ y), np.eye(d, dtype=LONG)
    r = -(Q @ u) - y
    if m is not None:
        left, H = F, R @ R.T / LONG(np.linalg.norm(X, 2)) ** 2
        for _ in range(m):
            left = left - H @ left
        F = F - left
    C, one, two = np.outer(u, u), LONG(b) / n, LONG(b * (b - 1)) / (n * (n - 1))
    for eta in etas:
        e = LONG(eta) * n / b
        v = ((Q @ C) * Q).sum(axis=1) + 2 * r * (Q @ u) + r**2
        K = (one - two) * (Q.T * v) @ Q + two * C
        pulled = F @ C
        C = C - e * one * (pulled + pulled.T) + e**2 * F @ K @ F.T
        C = (C + C.T) / 2
        u = u - e * one * F @ u
    return float(np.trace(C))


def batches(
    X: np.ndarray,
    y: np.ndarray,
    b: int,
    steps: int,
    mean: Callable[[np.ndarray], float] | None = None,
    **options: Any,
) -> Instance:
    """An instance of the front door with minibatches; `mean` from the steps to the truth."""

    def truths(run: Run) -> Truths:
        etas = run.made.history["eta"].to_numpy()
        true = exact_mean(X, y, b, etas, options.get("m")) if mean is None else mean(etas)
        bound = next(c.bound for c in run.certificates if c.name == "recursion")
        close = abs(true - bound) <= 1e-9 * bound
        return {"recursion": None if close else true <= bound}

    given = {"loss": "squared", "batch_size": b, "max_iter": steps, "rng": 1, **options}
    return Instance({"X": X, "y": y, **given}, truths)


def noisy(rng: Rng) -> tuple[np.ndarray, np.ndarray]:
    """60 × 4, columns of any scale, normal or heavy noise, with a signal or none."""
    X = rng.standard_normal((60, 4)) * np.exp(2 * rng.standard_normal(4))
    noise = rng.standard_normal(60) if rng.random() < 0.5 else rng.standard_t(1.5, 60)
    return X, noise + (rng.random() < 0.5) * X @ rng.standard_normal(4)


@worlds.world(run=once, strengths=(40, 150))
def batches_of_six(rng: Rng, strength: float) -> Instance:
    """So many steps with 6 of 60 rows each."""
    return batches(*noisy(rng), 6, int(strength))


@worlds.world(run=once)
def batches_in_part(rng: Rng, strength: float) -> Instance:
    """The same with ten gradient steps in place of the projection."""
    return batches(*noisy(rng), 6, 40, inner="gd", m=10)


@worlds.world(run=once, strengths=(5, 59))
def batches_that_interpolate(rng: Rng, strength: float) -> Instance:
    """No noise: the mean falls towards 0; batches of that size."""
    X, y = linear(rng, 60, 4, 0.0)
    return batches(X, y, int(strength), 200)


@worlds.world(run=once)
def batches_of_a_few_leverages(rng: Rng, strength: float) -> Instance:
    """One row carries its column alone; eta falls like the root of the steps."""
    X, y = linear(rng, 60, 4)
    X[:, 3] = 0.0
    X[0, 3] = 5.0
    return batches(X, y, 6, 60, schedule="sqrt")


@worlds.world(run=once, breaks=t.HALF_STEP, strengths=(20, 2, 1.01))
def long_steps_with_batches(rng: Rng, strength: float) -> Instance:
    """η is so many times b/(2n)."""
    return batches(*noisy(rng), 6, 20, eta=strength * 6 / 120)


@worlds.world(run=once, breaks=t.HALF_STEP)
def the_step_of_full_batches(rng: Rng, strength: float) -> Instance:
    """η = 1/L, as for all rows."""
    return batches(*noisy(rng), 6, 20, eta=1.0)


RUNS = 50


def average(
    X: np.ndarray,
    y: np.ndarray,
    b: int,
    steps: int,
    step: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
    passes: bool = False,
) -> float:
    """Mean squared distance to the best outputs over 50 runs, which go side by side.

    `step` gives what a step adds: of the rows of the batches, shape (50, b, d), what outputs are
    above their targets, (50, b, 1), and θ, (50, d, 1).
    """
    n, d = X.shape
    best = X @ np.linalg.lstsq(X, y, rcond=None)[0]
    rng, theta = np.random.default_rng(0), np.zeros((RUNS, d, 1))
    order, at = np.empty((RUNS, 0), int), 0
    for _ in range(steps):
        if not passes or at + b > order.shape[1]:
            order, at = rng.permuted(np.tile(np.arange(n), (RUNS, 1)), axis=1), 0
        part, at = order[:, at : at + b], at + b
        rows = X[part]
        theta = theta + step(rows, rows @ theta - y[part][:, :, None], theta)
    return float(np.square(theta[:, :, 0] @ X.T - best).sum(axis=1).mean())


@worlds.world(run=once, breaks=t.FULL_PROJECTION, strengths=(25, 6))
def projection_on_the_batch(rng: Rng, strength: float) -> Instance:
    """The proximity term covers the batch of so many rows, which is fitted exactly."""
    X, y = linear(rng, 60, 4)
    b = int(strength)

    def step(rows: np.ndarray, off: np.ndarray, theta: np.ndarray) -> np.ndarray:
        return -b / 120 * np.linalg.pinv(rows) @ off

    def mean(etas: np.ndarray) -> float:
        return average(X, y, b, 10, step)

    return batches(X, y, b, 10, mean, projection="batch", eta=b / 120)


@worlds.world(run=once, breaks=t.FULL_PROJECTION, strengths=(10.0, 1e-3))
def ridge_with_batches(rng: Rng, strength: float) -> Instance:
    """A penalty moves the limit away from the best outputs."""
    X, y = linear(rng, 60, 4)
    H = X.T @ X / 0.05 + 60 * strength * np.eye(4)

    inverse = np.linalg.inv(H)

    def step(rows: np.ndarray, off: np.ndarray, theta: np.ndarray) -> np.ndarray:
        return -inverse @ (10 * rows.swapaxes(1, 2) @ off + 60 * strength * theta)

    def mean(etas: np.ndarray) -> float:
        return average(X, y, 6, 30, step)

    return batches(X, y, 6, 30, mean, alpha=strength)


@worlds.world(run=once, breaks=t.FULL_PROJECTION)
def line_search_with_batches(rng: Rng, strength: float) -> Instance:
    """Armijo's inner steps, of which it is not known how far they fall short."""
    X, y = noisy(rng)
    return batches(X, y, 6, 20, lambda etas: 0.0, inner="armijo", m=2)


def twins(rng: Rng, gap: float) -> tuple[np.ndarray, np.ndarray]:
    """Two of four columns differ by so much of their size, and the targets by what they differ in."""
    X, other = rng.standard_normal((60, 3)), rng.standard_normal(60)
    y = X @ np.array([1.0, 2.0, 3.0]) + 5 * other + 0.1 * rng.standard_normal(60)
    return np.column_stack([X, X[:, 0] + gap * other]), y


def left_out(X: np.ndarray, y: np.ndarray) -> float:
    """‖z_0 − z*‖² along what the last column adds, where a run that takes it for a copy stays."""
    return float((orthogonal(X)[0][:, -1] @ y) ** 2)


@worlds.world(run=once, strengths=(1e-3, 1e-7))
def columns_that_are_much_alike(rng: Rng, strength: float) -> Instance:
    """Two columns differ by so much of their size, and are told apart."""
    return batches(*twins(rng, strength), 30, 20)


@worlds.world(run=once, breaks=t.FULL_PROJECTION, strengths=(1e-11, 1e-12), rising=False)
def columns_that_are_taken_for_one(rng: Rng, strength: float) -> Instance:
    """They differ by so little that the run takes them for copies."""
    X, y = twins(rng, strength)
    return batches(X, y, 30, 15, lambda etas: left_out(X, y))


@worlds.world(run=once, breaks=t.FULL_PROJECTION, strengths=(1e-6, 1e-8), rising=False)
def sparse_columns_that_are_taken_for_one(rng: Rng, strength: float) -> Instance:
    """The same in a sparse matrix, where XᵀX is factored and both are one much sooner."""
    X, y = twins(rng, strength)
    made = batches(X, y, 30, 15, lambda etas: left_out(X, y))
    return Instance({**made.arguments, "X": csr_array(X)}, made.truths)


def passes(rng: Rng, b: int) -> Instance:
    """Rows in shuffled passes of batches of b."""
    X, y = linear(rng, 60, 4)

    inverse = np.linalg.inv(X.T @ X)

    def step(rows: np.ndarray, off: np.ndarray, theta: np.ndarray) -> np.ndarray:
        return -inverse @ rows.swapaxes(1, 2) @ off / 2  # η n/b = 1/2

    def mean(etas: np.ndarray) -> float:
        return average(X, y, b, 20, step, passes=True)

    return batches(X, y, b, 20, mean, batches="passes")


@worlds.world(run=once, breaks=t.BATCHES, strengths=(30, 6))
def shuffled_passes(rng: Rng, strength: float) -> Instance:
    """Batches go through the rows in shuffled passes."""
    return passes(rng, int(strength))


@worlds.world(run=once, breaks=t.BATCHES, strengths=(40, 25))
def passes_that_leave_rows_out(rng: Rng, strength: float) -> Instance:
    """The same with a size that does not divide the rows."""
    return passes(rng, int(strength))


# Models of torch


@dataclass(frozen=True)
class Trained:
    """Certificates of the optimizer, and how each step judged itself and was."""

    certificates: tuple[Certificate, ...]
    fine: bool
    least: float


def trained(
    X: np.ndarray,
    losses: list[Callable[[Any], Any]],
    oracles: list[Any],
    hidden: int = 0,
    outputs: int = 1,
    seed: int = 0,
    double: bool = True,
    wide: bool = False,
    lower: float = 0.0,
    rows: list[slice] | None = None,
    between: Callable[[int, Any, Any], None] | None = None,
    **options: Any,
) -> Trained:
    """A loop with SSO; `losses` say at each step what the loss of outputs is, `oracles` what is told.

    Outputs of single precision are turned into double ones if `wide`.
    """
    import torch
    from torch import nn

    from whp.optim import SSO

    torch.default_generator.manual_seed(seed)  # of this processor alone, which is much cheaper
    kind = torch.float64 if double else torch.float32
    d = X.shape[1]
    layers = (
        [nn.Linear(d, hidden), nn.Tanh(), nn.Linear(hidden, outputs)]
        if hidden
        else [nn.Linear(d, outputs)]
    )
    model = nn.Sequential(*layers).to(kind)
    inputs = torch.as_tensor(X, dtype=kind)
    given = {"m": 5, "inner_lr": 0.02, "measure": True, **options}
    opt = SSO(model.parameters(), **given)
    parts = rows or [slice(None)] * len(oracles)
    fine, least = True, np.inf
    for k, (loss, oracle, part) in enumerate(zip(losses, oracles, parts, strict=True)):
        if between is not None:
            between(k, model, opt)
        x = inputs[part]
        every = {name: p.detach().double().requires_grad_() for name, p in model.named_parameters()}
        value = loss(torch.func.functional_call(model, every, (x.double(),)))
        slopes = torch.autograd.grad(value, list(every.values()))
        decay = len(x) * opt.param_groups[0]["weight_decay"]
        pulled = [g + decay * p.detach() for g, p in zip(slopes, every.values(), strict=True)]
        least = min(least, sum(float(g.square().sum()) for g in pulled))
        info = opt.step(lambda x=x: model(x).double() if wide else model(x), oracle)
        with torch.no_grad():
            ended = {name: p.double() for name, p in model.named_parameters()}
            after = float(loss(torch.func.functional_call(model, ended, (x.double(),))))
        fine &= after <= info.surrogate + opt.progress.records[-1].slack
    return Trained(opt.certificates(lower), fine, least)


def judge_trained(run: Trained) -> Truths:
    """Losses above their surrogates, and the least gradient against its bound."""
    bound = next(c.bound for c in run.certificates if c.name == "descent")
    return {"majorisation": run.fine, "descent": bool(run.least <= bound)}


def torch_loss(kind: str, rng: Rng, n: int, weight: float = 1.0) -> tuple[Any, Any, int]:
    """A loss of torch that is a sum, targets, and how many outputs it wants."""
    import torch
    from torch import nn

    heavy = torch.tensor(weight, dtype=torch.float64)
    if kind == "cross-entropy":
        w = torch.stack([torch.ones(()).double(), heavy, torch.ones(()).double()])
        return (
            nn.CrossEntropyLoss(weight=w, reduction="sum"),
            torch.as_tensor(rng.integers(0, 3, n)),
            3,
        )
    if kind == "bce":
        y = torch.as_tensor((rng.random((n, 1)) < 0.5) * 1.0)
        return nn.BCEWithLogitsLoss(pos_weight=heavy, reduction="sum"), y, 1
    y = torch.as_tensor(3 * rng.standard_normal((n, 1)))
    made = {
        "mse": nn.MSELoss(reduction="sum"),
        "huber": nn.HuberLoss(reduction="sum", delta=0.5),
        "smooth l1": nn.SmoothL1Loss(reduction="sum", beta=0.1),
    }
    return made[kind], y, 1


KINDS = ("mse", "huber", "smooth l1", "bce", "cross-entropy")


def lesson(
    rng: Rng, kind: str, weight: float = 1.0, steps: int = 3, L: float | None = None, **options: Any
) -> Instance:
    """An instance of SSO on a loss of torch."""
    from whp.optim import loss_oracle

    X = rng.standard_normal((40, 4))
    loss, y, outputs = torch_loss(kind, rng, 40, weight)
    arguments = {
        "X": X,
        "losses": [lambda z: loss(z, y)] * steps,
        "oracles": [loss_oracle(loss, y, L=L)] * steps,
        "outputs": outputs,
        "seed": int(rng.integers(1 << 31)),
        **options,
    }
    return Instance(arguments, judge_trained)


@worlds.world(run=trained, strengths=range(len(KINDS)))
def losses_of_torch(rng: Rng, strength: float) -> Instance:
    """A linear layer under MSE, Huber, smooth L1, BCE, cross-entropy; inner L-BFGS comes near the minimum."""
    return lesson(rng, KINDS[int(strength)], inner="lbfgs", m=5)


@worlds.world(run=trained, strengths=(2, 50))
def class_weights(rng: Rng, strength: float) -> Instance:
    """One of three classes weighs so much."""
    return lesson(rng, "cross-entropy", strength, inner="lbfgs", m=5)


@worlds.world(run=trained, strengths=(2, 50))
def positive_weights(rng: Rng, strength: float) -> Instance:
    """Positives weigh so much."""
    return lesson(rng, "bce", strength, inner="lbfgs", m=5)


@worlds.world(run=trained, strengths=(0, 1))
def a_small_network(rng: Rng, strength: float) -> Instance:
    """Eight hidden units, Adam inside; with (1) weight decay, which the gradient has too."""
    return lesson(rng, "cross-entropy", hidden=8, weight_decay=0.1 * strength)


@worlds.world(run=trained)
def single_precision(rng: Rng, strength: float) -> Instance:
    """The same network in float32."""
    return lesson(rng, "bce", hidden=8, double=False)


@worlds.world(run=trained)
def outputs_finer_than_the_parameters(rng: Rng, strength: float) -> Instance:
    """Double outputs of a float32 layer that fits them exactly in one step, so that the bound is attained."""
    from whp.optim import loss_oracle

    X = rng.standard_normal((6, 10)).astype(np.float32)
    loss, y, _ = torch_loss("mse", rng, 6)
    arguments = {
        "X": X,
        "losses": [lambda z: loss(z, y)],
        "oracles": [loss_oracle(loss, y)],
        "seed": int(rng.integers(1 << 31)),
        "double": False,
        "wide": True,
        "inner": "lbfgs",
        "m": 200,
        "tol": 1e-12,
    }
    return Instance(arguments, judge_trained)


@worlds.world(run=trained, strengths=(0, 1))
def an_oracle_that_uses_memory_again(rng: Rng, strength: float) -> Instance:
    """It subtracts targets from the outputs in place, or (1) answers with the same array each time."""
    import torch

    X, y = rng.standard_normal((40, 4)), torch.as_tensor(3 * rng.standard_normal((40, 1)))
    memory = torch.empty_like(y)

    def oracle(z: Any) -> Any:
        off = torch.sub(z, y, out=memory) if strength else z.sub_(y)
        return (off**2).sum() / 2, off

    oracle.L = 1.0  # type: ignore[attr-defined]
    arguments = {
        "X": X,
        "losses": [lambda z: ((z - y) ** 2).sum() / 2] * 4,
        "oracles": [oracle] * 4,
        "seed": int(rng.integers(1 << 31)),
        "inner": "lbfgs",
    }
    return Instance(arguments, judge_trained)


@worlds.world(run=trained, breaks=t.STEP, strengths=(4, 2, 1.01))
def long_steps_of_torch(rng: Rng, strength: float) -> Instance:
    """η is so many times 1/L of a loss that is known."""
    return lesson(rng, "mse", eta=strength / 2, inner="lbfgs", m=5)


@worlds.world(run=trained, breaks=t.SMOOTH, strengths=(4, 2), broken_from=2)
def an_l_that_is_too_small(rng: Rng, strength: float) -> Instance:
    """The user's L is so many times too small."""
    return lesson(rng, "mse", L=2 / strength, inner="lbfgs", m=5)


@worlds.world(run=trained, breaks=t.SMOOTH, strengths=(50, 10), broken_from=10)
def weights_forgotten(rng: Rng, strength: float) -> Instance:
    """The L of cross-entropy is given, and that a class weighs so much is forgotten."""
    return lesson(rng, "cross-entropy", strength, L=0.5, inner="lbfgs", m=5)


@worlds.world(run=trained, breaks=t.SMOOTH, strengths=(4, 2), noticeable=False)
def an_l_that_nobody_looks_at(rng: Rng, strength: float) -> Instance:
    """The user's L is too small, and no value is asked for."""
    return lesson(rng, "mse", L=2 / strength, inner="lbfgs", m=5, measure=False)


@worlds.world(run=trained, breaks=t.SMOOTH, strengths=(0, 1))
def a_mean_for_one_of_two(rng: Rng, strength: float) -> Instance:
    """The oracle's value is a mean and its gradient that of the sum, or (1) the other way round."""
    from torch.nn import MSELoss

    from whp.optim import loss_oracle

    X = rng.standard_normal((40, 4))
    loss, y, _ = torch_loss("mse", rng, 40)
    right = loss_oracle(MSELoss(reduction="sum"), y)

    def oracle(z: Any) -> Any:
        value, G = right(z)
        return (value, G / 40) if strength else (value / 40, G)

    oracle.L = 2.0  # type: ignore[attr-defined]
    scale = 1.0 if strength else 1 / 40
    arguments = {
        "X": X,
        "losses": [lambda z: loss(z, y) * scale] * 4,
        "oracles": [oracle] * 4,
        "seed": int(rng.integers(1 << 31)),
    }
    return Instance(arguments, judge_trained)


@worlds.world(run=trained, breaks=t.SMOOTH, strengths=(0, 1))
def absolute_errors(rng: Rng, strength: float) -> Instance:
    """Smooth L1 with beta = 0, which has no L; with (1) one that the user gives."""
    from torch.nn import SmoothL1Loss

    from whp.optim import loss_oracle

    X = rng.standard_normal((40, 4))
    _, y, _ = torch_loss("mse", rng, 40)
    loss = SmoothL1Loss(beta=0.0, reduction="sum")
    arguments = {
        "X": X,
        "losses": [lambda z: loss(z, y)] * 4,
        "oracles": [loss_oracle(loss, y, L=2.0 if strength else None)] * 4,
        "eta": 0.5,
        "seed": int(rng.integers(1 << 31)),
    }
    return Instance(arguments, judge_trained)


@worlds.world(run=trained, breaks=t.SMOOTH, strengths=(0, 1))
def a_loss_that_is_not_everywhere(rng: Rng, strength: float) -> Instance:
    """Its value is NaN, or (1) infinite, where outputs leave the place where they began."""
    import torch

    X = rng.standard_normal((40, 4))
    loss, y, _ = torch_loss("mse", rng, 40)
    none, first = torch.tensor((np.nan, np.inf)[int(strength)]).double(), []

    def value(z: Any) -> Any:
        first.append(z.detach().clone())
        return loss(z, y) if float((z - first[0]).abs().max()) < 0.01 else none

    def oracle(z: Any) -> Any:
        return value(z), 2 * (z - y)

    oracle.L = 2.0  # type: ignore[attr-defined]
    arguments = {
        "X": X,
        "losses": [value],
        "oracles": [oracle],
        "seed": int(rng.integers(1 << 31)),
        "inner": "lbfgs",
    }
    return Instance(arguments, judge_trained)


@worlds.world(run=trained, breaks=t.SMOOTH, refuses=(ValueError,))
def a_mean_that_does_not_say_so(rng: Rng, strength: float) -> Instance:
    """`functional.cross_entropy`, a mean, is handed in as a loss."""
    from torch.nn import functional

    from whp.optim import loss_oracle

    X = rng.standard_normal((40, 4))
    _, y, _ = torch_loss("cross-entropy", rng, 40)
    arguments = {
        "X": X,
        "losses": [lambda z: functional.cross_entropy(z, y)] * 3,
        "oracles": [loss_oracle(functional.cross_entropy, y, L=0.5)] * 3,
        "outputs": 3,
    }
    return Instance(arguments, judge_trained)


@worlds.world(run=trained, breaks=t.SAME_ROWS, strengths=(20, 5))
def minibatches_in_turn(rng: Rng, strength: float) -> Instance:
    """Each step sees so many other rows."""
    from whp.optim import loss_oracle

    X, b = rng.standard_normal((40, 4)), int(strength)
    loss, y, _ = torch_loss("mse", rng, 40)
    parts = [slice(k * b, (k + 1) * b) for k in range(40 // b)][:6]
    arguments = {
        "X": X,
        "losses": [lambda z, p=p: loss(z, y[p]) for p in parts],
        "oracles": [loss_oracle(loss, y[p]) for p in parts],
        "rows": parts,
        "seed": int(rng.integers(1 << 31)),
    }
    return Instance(arguments, judge_trained)


@worlds.world(run=trained, breaks=t.SAME_ROWS, strengths=(1.0, 0.025))
def targets_that_change(rng: Rng, strength: float) -> Instance:
    """The rows stay, and that share of the targets is drawn anew at each step."""
    from whp.optim import loss_oracle

    X = rng.standard_normal((40, 4))
    loss, y, _ = torch_loss("mse", rng, 40)
    every = []
    for _ in range(5):
        y = y.clone()
        changed = rng.permutation(40)[: max(1, int(40 * strength))]
        y[changed] += 3 * rng.choice([-1.0, 1.0], (len(changed), 1))
        every.append(y)
    arguments = {
        "X": X,
        "losses": [lambda z, y=y: loss(z, y) for y in every],
        "oracles": [loss_oracle(loss, y) for y in every],
        "seed": int(rng.integers(1 << 31)),
    }
    return Instance(arguments, judge_trained)


@worlds.world(run=trained, breaks=t.SAME_ROWS, strengths=(1.0, 0.1))
def weight_decay_that_changes(rng: Rng, strength: float) -> Instance:
    """Every second step has that weight decay, the others none, so that the objective changes."""

    def between(k: int, model: Any, opt: Any) -> None:
        opt.param_groups[0]["weight_decay"] = strength * (k % 2)

    return lesson(rng, "mse", steps=4, inner="gd", inner_lr=0.2, m=5, between=between)


@worlds.world(run=trained, breaks=t.SAME_ROWS, strengths=(100, 10))
def weights_that_outputs_do_not_show(rng: Rng, strength: float) -> Instance:
    """The weight of a column of zeros, which decays, is set to that before each step but the first."""
    from whp.optim import loss_oracle

    X = rng.standard_normal((40, 4))
    X[:, 3] = 0.0
    loss, y, _ = torch_loss("mse", rng, 40)

    def between(k: int, model: Any, opt: Any) -> None:
        if k:
            model[0].weight.data[0, 3] = strength

    arguments = {
        "X": X,
        "losses": [lambda z: loss(z, y)] * 6,
        "oracles": [loss_oracle(loss, y)] * 6,
        "seed": int(rng.integers(1 << 31)),
        "inner": "gd",
        "inner_lr": 0.2,
        "weight_decay": 0.5,
        "between": between,
    }
    return Instance(arguments, judge_trained)


@worlds.world(run=trained, breaks=t.SAME_ROWS)
def layers_that_are_frozen_in_turn(rng: Rng, strength: float) -> Instance:
    """The bias alone is trained, then the rest; all of the gradient is judged."""

    def between(k: int, model: Any, opt: Any) -> None:
        model[0].weight.requires_grad_(k >= 2)
        model[0].bias.requires_grad_(k < 2)

    return lesson(rng, "mse", steps=4, inner="gd", inner_lr=0.2, m=5, between=between)


def lowered(rng: Rng, less: Callable[[float], float], steps: int = 3) -> Instance:
    """Squared errors less a constant, made of the first loss, while 0 is said to be the least."""
    import torch

    X = rng.standard_normal((40, 4))
    y = torch.as_tensor(3 * rng.standard_normal((40, 1)))
    off = less(float((y**2).sum()) / 2)

    def oracle(z: Any) -> Any:
        return ((z - y) ** 2).sum() / 2 - off, z - y

    oracle.L = 1.0  # type: ignore[attr-defined]
    arguments = {
        "X": X,
        "losses": [lambda z: ((z - y) ** 2).sum() / 2 - off] * steps,
        "oracles": [oracle] * steps,
        "seed": int(rng.integers(1 << 31)),
        "inner": "lbfgs",
        "m": 5,
    }
    return Instance(arguments, judge_trained)


@worlds.world(run=trained, breaks=t.LOWER, strengths=(10, 2))
def a_loss_below_zero(rng: Rng, strength: float) -> Instance:
    """The loss is that many times its scale below what it is said to be."""
    return lowered(rng, lambda first: strength * first)


@worlds.world(run=trained, breaks=t.LOWER, strengths=(3.0, 0.3), refuses=(ValueError,))
def a_decay_that_pushes_away(rng: Rng, strength: float) -> Instance:
    """Weight decay is less than zero by so much, set before the first step: loss and penalty have no least."""

    def between(k: int, model: Any, opt: Any) -> None:
        opt.param_groups[0]["weight_decay"] = -strength

    return lesson(rng, "mse", steps=4, inner="gd", inner_lr=0.2, m=5, between=between)


@worlds.world(run=trained, breaks=t.LOWER, strengths=(0.9, 0.1), noticeable=False)
def a_least_that_is_not_reached(rng: Rng, strength: float) -> Instance:
    """The loss could fall below zero, and in this run hardly does."""
    return lowered(rng, lambda first: strength * first)


# Mutants


worlds.mutant(
    "majorisation",
    "half of the proximity term",
    target=f"{HERE}.linear:proximity",
    change=lambda proximity: lambda *given: proximity(*given) / 2,
    world=squares_exactly,
)
worlds.mutant(
    "descent",
    "half of the bound",
    target=f"{HERE}.theorems:descent_bound",
    change=lambda bound: lambda *given: bound(*given) / 2,
    world=orthogonal_columns,
)
# The theorem is loose by about four at the end of a run, so that half of the noise is not seen.
worlds.mutant(
    "recursion",
    "a quarter of the noise",
    target=f"{HERE}.front_door:target_noise",
    change=lambda noise: lambda *given: noise(*given) / 4,
    world=batches_of_six,
    strength=150,
)
