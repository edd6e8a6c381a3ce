"""Linear models of several clients: f_i, their gradients and how smooth they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from whp.distributed._error_feedback.solver import ef21
from whp.distributed._error_feedback.stepsizes import Smoothness, glm_smoothness

__all__ = ["LinearModel", "in_groups"]


class LinearModel:
    """f = (1/n) Σ f_i of a linear model: client means of a loss, plus reg · Σ x_j²/(1 + x_j²).

    Parameters
    ----------
    groups : list of (matrix, vector)
        Rows and targets of each client; dense or scipy.sparse.
    loss : {"logistic", "squared"}
        Targets are ±1 for the first.
    reg : float
        Weight of the regulariser, which is not convex; its derivative is 2 reg-smooth.
    by_size : bool
        Weigh clients by their rows.
    own : bool
        Regularise for each client only the features that it owns, so that its gradient stays sparse.
    """

    def __init__(
        self,
        groups: list[tuple[Any, np.ndarray]],
        loss: str,
        reg: float,
        by_size: bool = False,
        own: bool = False,
    ) -> None:
        self.groups, self.loss, self.reg = groups, loss, reg
        n, sizes = len(groups), np.array([len(t) for _, t in groups])
        self.factor = n * sizes / sizes.sum() if by_size else np.ones(n)
        self.supports = np.stack(
            [np.asarray((A != 0).sum(axis=0)).reshape(-1) > 0 for A, _ in groups]
        )
        self.regularised = self.supports if own else np.ones_like(self.supports)

    @property
    def smoothness(self) -> Smoothness:
        """Upper bounds of L and all L_i, by power iteration."""
        curvature = 0.25 if self.loss == "logistic" else 1.0
        clients = np.array(
            [
                a * glm_smoothness(A, curvature) + 2 * self.reg
                for (A, _), a in zip(self.groups, self.factor, strict=True)
            ]
        )
        pooled = _stack(
            [
                A * np.sqrt(a / (len(self.groups) * A.shape[0]))
                for (A, _), a in zip(self.groups, self.factor, strict=True)
            ]
        )
        return Smoothness(
            min(
                glm_smoothness(pooled, curvature * pooled.shape[0]) + 2 * self.reg,
                float(clients.mean()),
            ),
            clients,
        )

    def _slope(self, t: np.ndarray, z: np.ndarray) -> np.ndarray:
        from scipy.special import expit

        return -t * expit(-t * z) if self.loss == "logistic" else z - t

    def gradient(
        self, i: int, rows: np.ndarray | None = None
    ) -> Callable[[np.ndarray], np.ndarray]:
        """∇f_i, of all rows or of some."""
        A, t = (
            self.groups[i] if rows is None else (self.groups[i][0][rows], self.groups[i][1][rows])
        )
        factor, mask = self.factor[i] / len(t), self.regularised[i]

        def of(x: np.ndarray) -> np.ndarray:
            return (
                factor * (A.T @ self._slope(t, A @ x)) + 2 * self.reg * mask * x / (1 + x**2) ** 2
            )

        return of

    def noisy(self, i: int, batch: int) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
        """Gradients of f_i from `batch` rows drawn with replacement."""

        def of(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
            return self.gradient(i, rng.integers(len(self.groups[i][1]), size=batch))(x)

        return of

    def variance(self, i: int, batch: int) -> float:
        """A bound of the variance of such gradients, for the logistic loss.

        Its slope is at most 1, so that rows' norms bound it.
        """
        A, _ = self.groups[i]
        norms = np.asarray((A.multiply(A) if hasattr(A, "multiply") else A**2).sum(axis=1))
        return float(self.factor[i] ** 2 * norms.mean() / batch)

    def value(self, i: int) -> Callable[[np.ndarray], float]:
        """f_i."""
        A, t = self.groups[i]
        factor, mask = self.factor[i], self.regularised[i]

        def of(x: np.ndarray) -> float:
            z = A @ x
            loss = (
                np.logaddexp(0, -t * z).mean()
                if self.loss == "logistic"
                else ((z - t) ** 2).mean() / 2
            )
            return factor * float(loss) + self.reg * float((mask * x**2 / (1 + x**2)).sum())

        return of

    def solve(self, known: Smoothness, **options: Any) -> Any:
        """:func:`ef21` from 0, certificates and all."""
        n = len(self.groups)
        return ef21(
            [self.gradient(i) for i in range(n)],
            np.zeros(self.supports.shape[1]),
            f=[self.value(i) for i in range(n)],
            smoothness=known.clients,
            L=known.L,
            **options,
        )


def _stack(parts: list[Any]) -> Any:
    import scipy.sparse

    return (
        scipy.sparse.vstack(parts).tocsr()
        if scipy.sparse.issparse(parts[0])
        else np.concatenate(parts)
    )


def in_groups(
    X: np.ndarray, y: np.ndarray, labels: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows and targets by label, in the order of labels."""
    return [(X[labels == g], y[labels == g]) for g in np.unique(labels)]
