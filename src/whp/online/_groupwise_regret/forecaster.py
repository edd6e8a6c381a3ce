"""The whole reduction with one online ridge a group: what front door and estimator share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from whp.certificate import Answer, Certificate
from whp.online._groupwise_regret import theorems as th
from whp.online._groupwise_regret.hedge import hedge_weights, meta_bound
from whp.online._groupwise_regret.ridge import (
    AVERAGE,
    EXECUTED,
    GLOBAL,
    LOGDET,
    LOSS,
    MIXTURE,
    OWN,
    ROUNDS,
    SUMS,
    Hindsight,
    as_range,
    check_size,
    empty_factor,
    hindsight,
    learn_block,
)
from whp.validate import as_choice, as_fraction, as_real, as_vector

__all__ = ["Forecaster"]

EMPTY = np.zeros((0, 0))


class Forecaster:
    """State of the reduction; targets and predictions are in [0, 1].

    Parameters
    ----------
    dim : int
        Columns of a row.
    names : sequence of str
        Of the groups.
    lam, forecaster, prediction, loss_range, prior, delta
        As in :func:`groupwise_regret` and :class:`AdaNormalHedge`.
    """

    def __init__(
        self,
        dim: int,
        names: Sequence[str],
        *,
        lam: float = 1.0,
        forecaster: str = "ridge",
        prediction: str = "mean",
        loss_range: Any = None,
        prior: Any = None,
        delta: float = 0.05,
    ) -> None:
        as_choice(forecaster, "forecaster", ("ridge", "vaw"))
        as_choice(prediction, "prediction", ("mean", "sample"))
        self.lam = as_real(lam, "lam", low=0, high=math.inf, open_ends=True)
        low, high = (0.0, 1.0) if loss_range is None else as_range(loss_range, "loss_range")
        self.names, self.forecaster, self.prediction, self.width = (
            tuple(names),
            forecaster,
            prediction,
            high - low,
        )
        if low != 0:
            raise ValueError(f"loss_range must begin at 0 for squared errors, got {low:g}")
        self.delta = as_fraction(delta, "delta")
        N = len(self.names)
        self.prior = (
            np.full(N, 1 / N)
            if prior is None
            else as_vector(prior, "prior", size=N, dtype=np.float64)
        )
        if (self.prior <= 0).any() or abs(self.prior.sum() - 1) > 1e-9:
            raise ValueError(
                f"prior must be positive and sum to 1, got a sum of {self.prior.sum():g}"
            )
        self.factor = np.tile(empty_factor(dim, self.lam), (N + 1, 1, 1))
        self.root = np.tile(np.eye(dim) / math.sqrt(self.lam), (N + 1, 1, 1))
        self.theta = np.zeros((N + 1, dim))
        self.R, self.C = np.zeros((2, N))
        self.budget, self.sums, self.asleep = np.array([1.0, 0.0, 0.0]), np.zeros((N + 1, SUMS)), 0

    def learn(
        self,
        X: np.ndarray,
        y: np.ndarray,
        active: np.ndarray,
        coins: np.ndarray,
        weights: np.ndarray = EMPTY,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Predict, then learn, row by row; predictions, losses, and those of the global learner."""
        check_size(X, "X", self.lam)
        predictions, losses, alone = np.empty((3, len(X)))
        learn_block(
            np.ascontiguousarray(X),
            y,
            np.ascontiguousarray(active),
            coins,
            self.forecaster == "vaw",
            self.prediction == "sample",
            1 / self.width,
            self.factor,
            self.root,
            self.theta,
            self.R,
            self.C,
            self.budget,
            self.prior,
            self.sums,
            predictions,
            losses,
            alone,
            weights,
        )
        self.asleep += int((~active.any(axis=1)).sum())
        return predictions, losses, alone

    def predict(self, X: np.ndarray, active: np.ndarray) -> np.ndarray:
        """Mixtures of what the groups' learners say, without learning."""
        raw = X @ self.theta[:-1].T
        if self.forecaster == "vaw":
            raw = raw / (1 + np.stack([((X @ S) ** 2).sum(axis=1) for S in self.root[:-1]], axis=1))
        out, p = np.empty(len(X)), np.empty(len(self.names))
        for t, row in enumerate(np.ascontiguousarray(active)):
            hedge_weights(self.R, self.C, self.prior, row, p)
            out[t] = p @ np.clip(raw[t], 0, 1) if row.any() else 0.0
        return out

    def meta(self) -> np.ndarray:
        """Bound on the mixture's regret to each group's learner."""
        return self.width * meta_bound(self.C, self.prior, float(self.budget[0]))

    def _coins(self, rounds: float) -> float:
        sampled = self.prediction == "sample"
        return th.coins_bound(rounds, len(self.names), self.delta) if sampled else 0.0

    def in_hindsight(self) -> list[Hindsight]:
        """The best penalised linear predictor of each group."""
        return [hindsight(self.factor[g], self.sums[g], self.lam) for g in range(len(self.names))]

    def report(self) -> pd.DataFrame:
        """A row a group; losses are sums of squared errors, targets in [0, 1]."""
        meta, rows = self.meta(), []
        for g, (name, best) in enumerate(zip(self.names, self.in_hindsight(), strict=True)):
            total = self.sums[g]
            room = 2 * best.rounding if total[ROUNDS] else 0.0
            bound = meta[g] + total[EXECUTED] + self._coins(total[ROUNDS]) + room
            rows.append(
                {
                    "group": name,
                    "rounds": int(total[ROUNDS]),
                    "loss": total[LOSS],
                    "mixture": total[MIXTURE],
                    "global": total[GLOBAL],
                    "own": total[OWN],
                    "average": total[AVERAGE],
                    "best": best.best,
                    "best_plain": best.plain,
                    "regret": total[LOSS] - best.best,
                    "global_regret": total[GLOBAL] - best.best,
                    "bound": bound,
                    "meta_bound": meta[g],
                    "executed": total[EXECUTED],
                    "logdet": total[LOGDET],
                }
            )
        return pd.DataFrame(rows)

    def certificates(
        self, span: tuple[float, float], source: str, in_time: Answer
    ) -> tuple[Certificate, ...]:
        """One a group.

        Parameters
        ----------
        span : tuple of float
            Range of the targets that [0, 1] stands for.
        source : str
            Where it comes from.
        in_time : Answer
            Whether labels came before the next prediction.
        """
        worst, largest = float(self.budget[1]), float(self.budget[2])
        answers = [
            th.AWAKE.check(self.asleep == 0, f"{self.asleep} of the rows lie in none"),
            th.IN_RANGE.check(
                max(worst, largest) <= 1 + 1e-12,
                f"largest loss {largest:.4g} of its range, largest regret of a round {worst:.4g}",
            ),
            th.KNOWN_BEFORE.unchecked(
                f"data cannot show it; targets in [{span[0]:g}, {span[1]:g}], {source}"
            ),
            in_time,
            th.SAME_LOSS.by_construction("squared errors of the same targets scaled to [0, 1]"),
        ]
        sampled = self.prediction == "sample"
        if sampled:
            answers.append(th.COINS.unchecked("data cannot show it"))
        made, meta = [], self.meta()
        for g, (name, best) in enumerate(zip(self.names, self.in_hindsight(), strict=True)):
            total = self.sums[g]
            group = th.Group(
                name,
                int(total[ROUNDS]),
                len(self.names),
                float(total[LOSS]),
                best.best,
                best.rounding,
                float(meta[g]),
                float(total[EXECUTED]),
                self._coins(total[ROUNDS]),
                1.0,
                self.delta if sampled else 0.0,
            )
            inputs = {
                "E": float(total[EXECUTED]),
                "ln det form of E": float(total[LOGDET]),
                "R": self.width * float(self.R[g]),
                "C": float(self.C[g]),
                "B": float(self.budget[0]),
                "best in hindsight, penalised": best.best,
                "the same without penalty": best.plain,
                "λ": self.lam,
            }
            made.append(th.group_regret(group, answers, inputs))
        return tuple(made)
