"""The reduction for any base learner and any bounded loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, Protocol

import numpy as np

from whp.certificate import Certificate
from whp.intervals import Estimate, exact
from whp.online.groupwise_regret.guarantee import (
    PAPER,
    assumptions,
    azuma,
    group_certificate,
    rounding,
)
from whp.online.groupwise_regret.hedge import AdaNormalHedge, as_active
from whp.online.groupwise_regret.ridge import as_range
from whp.validate import as_choice, as_int

__all__ = ["GroupwiseLearner", "Learner"]

CONVEX = {"squared": lambda z, y: (z - y) ** 2, "absolute": lambda z, y: abs(z - y)}


class Learner(Protocol):
    """What a base learner must offer."""

    def predict_one(self, x: Any) -> Any:
        """Prediction for a row."""
        ...

    def learn_one(self, x: Any, y: Any) -> Any:
        """Learn from a row and its target."""
        ...


class GroupwiseLearner:
    """A learner a group, mixed so that on every group's own rounds the mixture is nearly as good as its learner.

    Parameters
    ----------
    make_learner : callable
        Makes a base learner with ``predict_one(x)`` and ``learn_one(x, y)``, e.g. one of river's. Where it has
        ``hindsight() -> (best, plain)`` and ``bound()``, regret to the best fixed predictor is certified, else only that to the
        group's own learner.
    n_groups : int
    loss : {"squared", "absolute"} or callable
        ``loss(prediction, y)``; one of your own is taken as not convex, so that it needs ``prediction="sample"``.
    loss_range : (float, float)
        Losses lie in it; a loss outside is clipped, and makes all certificates void.
    prediction : {"mean", "sample"}
        Mixture of predictions, or the prediction of a group drawn from the weights.
    random_state : numpy.random.Generator, int or None
        Of the draws.

    Attributes
    ----------
    hedge : AdaNormalHedge
    learners : list
    """

    def __init__(
        self,
        make_learner: Callable[[], Any],
        n_groups: int,
        *,
        loss: Literal["squared", "absolute"] | Callable[[Any, Any], Any] = "squared",
        loss_range: tuple[float, float] = (0.0, 1.0),
        prediction: Literal["mean", "sample"] = "mean",
        random_state: np.random.Generator | int | None = None,
        delta: float = 0.05,
    ) -> None:
        as_choice(prediction, "prediction", ("mean", "sample"))
        if not callable(make_learner):
            raise TypeError(f"make_learner must be callable, got {type(make_learner).__name__}")
        if callable(loss):
            if prediction == "mean":
                raise ValueError(
                    "prediction must be 'sample' with a loss of your own: a mean needs a convex one"
                )
            self.loss: Callable[[Any, Any], Any] = loss
        else:
            self.loss = CONVEX[as_choice(loss, "loss", tuple(CONVEX))]
        self.low, self.high = as_range(loss_range, "loss_range")
        n = as_int(n_groups, "n_groups", low=1)
        self.prediction, self.delta = prediction, delta
        self.learners = [make_learner() for _ in range(n)]
        self.hedge = AdaNormalHedge(n)
        self.rounds, self.losses, self.mixture, self.own = (np.zeros(n) for _ in range(4))
        self.asleep, self.largest = 0, 0.0
        self._random = np.random.default_rng(random_state)
        self._said: tuple[Any, dict[int, Any], np.ndarray, Any] | None = None

    def predict(self, x: Any, active: Any) -> Any:
        """Prediction for a row of these groups; kept for the :meth:`update` that follows."""
        awake = as_active(active, len(self.learners))
        said = {int(g): self.learners[g].predict_one(x) for g in np.flatnonzero(awake)}
        p = self.hedge.weights(awake)
        if not said:
            answer: Any = 0.0
        elif self.prediction == "mean":
            answer = sum(p[g] * z for g, z in said.items())
        else:
            answer = said[int(self._random.choice(len(p), p=p / p.sum()))]
        self._said = (x, said, awake, answer)
        return answer

    def update(self, x: Any, y: Any, active: Any) -> float:
        """Learn the target of a row; the loss of what was, or would have been, predicted.

        Raises
        ------
        ValueError
            If a loss is not a finite number; nothing is then learnt.
        """
        awake = as_active(active, len(self.learners))
        if self._said is None or self._said[0] is not x or (self._said[2] != awake).any():
            self.predict(x, active)
        assert self._said is not None
        _, said, _, answer = self._said
        self._said = None
        if not said:
            self.asleep += 1
            return math.nan
        scale = self.high - self.low
        raw = np.zeros(len(self.learners))
        for g, z in said.items():
            raw[g] = (float(self.loss(z, y)) - self.low) / scale
        ours = float(self.loss(answer, y))
        if not np.isfinite(raw).all() or not math.isfinite(ours):
            raise ValueError("loss must be finite for every active group's prediction")
        below = float(raw.min())
        self.largest = max(self.largest, float(raw.max()), 1 - below if below < 0 else 0.0)
        mixture = self.hedge.update(np.clip(raw, 0, 1), awake)
        self.rounds[awake] += 1
        self.losses[awake] += ours
        self.mixture[awake] += self.low + scale * mixture
        self.own[awake] += self.low + scale * raw[awake]
        for g in said:
            self.learners[g].learn_one(x, y)
        return ours

    def certificates(self, names: Any = None) -> tuple[Certificate, ...]:
        """One a group: against the best fixed predictor where learners know it, else against the group's own learner."""
        told = (
            [str(n) for n in names]
            if names is not None
            else [f"group {g}" for g in range(len(self.learners))]
        )
        sample = self.prediction == "sample"
        checked = assumptions(
            rows=int(self.rounds.max()),
            asleep=self.asleep,
            worst=self.hedge.largest,
            largest=self.largest,
            target_range="as the learners were told",
            oblivious=sample,
        )
        scale = self.high - self.low
        made = []
        for g, learner in enumerate(self.learners):
            T, bound = self.rounds[g], scale * float(self.hedge.bound()[g])
            extra = scale * azuma(T, len(self.learners), self.delta) if sample else 0.0
            knows = hasattr(learner, "hindsight") and hasattr(learner, "bound")
            against = learner.hindsight()[0] if knows else float(self.own[g])
            what = "the best fixed predictor in hindsight" if knows else "the group's own learner"
            total = bound + extra + rounding(T) + (learner.bound() if knows else 0.0)
            measured: Estimate | None = exact(float(self.losses[g] - against)) if T else None
            made.append(
                group_certificate(
                    told[g],
                    total,
                    measured,
                    float(self.high * T - against) if T else math.inf,
                    1 - self.delta if sample else 1.0,
                    checked,
                    {"T_g": int(T), "meta bound": bound},
                    claim=f"loss of the group's rounds ≤ that of {what} plus √(3C(ln 1/q + ln B)) and what the learner proves",
                    source=f"{PAPER}, main theorem",
                )
            )
        return tuple(made)
