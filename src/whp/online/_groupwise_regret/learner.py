"""The reduction for any base learner and any bounded loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

import numpy as np

from whp.certificate import Answer, Certificate
from whp.online._groupwise_regret import theorems as th
from whp.online._groupwise_regret.hedge import AdaNormalHedge, as_active
from whp.online._groupwise_regret.ridge import Hindsight, OnlineRidge, as_range
from whp.validate import as_choice, as_fraction, as_int, as_rng

__all__ = ["GroupwiseLearner", "Learner"]


# In floats: integers of a few bits would wrap. Functions of the module, so that a learner pickles.
def _squared(z: Any, y: Any) -> float:
    return (float(z) - float(y)) ** 2


def _absolute(z: Any, y: Any) -> float:
    return abs(float(z) - float(y))


CONVEX = {"squared": _squared, "absolute": _absolute}


class Learner(Protocol):
    """What a base learner must offer."""

    def predict_one(self, x: Any) -> Any:
        """Prediction for a row."""
        ...

    def learn_one(self, x: Any, y: Any) -> Any:
        """Learn from a row and its target."""
        ...


class GroupwiseLearner:
    """A learner a group, mixed so that each group fares nearly as well as under its own.

    Parameters
    ----------
    make_learner : callable
        Makes a base learner with ``predict_one(x)`` and ``learn_one(x, y)``, e.g. one of river's.
        Where it has ``hindsight() -> (best, plain)`` and ``bound()``, in units of the loss, and the
        loss is squared, regret to the best fixed predictor is certified, else that to the group's own
        learner.
    n_groups : int
        How many.
    loss : {"squared", "absolute"} or callable
        ``loss(prediction, y)``; one of your own is taken as not convex, so that it needs
        ``prediction="sample"``.
    loss_range : (float, float)
        Losses lie in it; a loss outside is clipped, and makes all certificates void.
    prediction : {"mean", "sample"}
        Mixture of predictions, or the prediction of a group drawn from the weights.
    random_state : numpy.random.Generator, int or None
        Source of the draws.
    delta : float
        Probability with which draws may break a bound of any group.

    Attributes
    ----------
    hedge : AdaNormalHedge
        The weights.
    learners : list
        One a group.
    late : int
        Predictions whose label did not come before the next one.
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
        self.prediction = as_choice(prediction, "prediction", ("mean", "sample"))
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
        self._squared = loss == "squared" if isinstance(loss, str) else False
        self.low, self.high = as_range(loss_range, "loss_range")
        self.delta = as_fraction(delta, "delta")
        n = as_int(n_groups, "n_groups", low=1)
        self.learners = [make_learner() for _ in range(n)]
        self.hedge = AdaNormalHedge(n)
        self.rounds, self.losses, self.mixture, self.own = np.zeros((4, n))
        self.asleep, self.late, self.largest = 0, 0, 0.0
        self._random = as_rng(random_state, "random_state")
        self._waiting: tuple[Any, dict[int, Any], np.ndarray, Any] | None = None

    def predict(self, x: Any, active: Any) -> Any:
        """Prediction for a row of these groups; its :meth:`update` has to come next."""
        self.late += self._waiting is not None
        answer, self._waiting = self._predicted(x, as_active(active, len(self.learners)))
        return answer

    def _predicted(self, x: Any, awake: np.ndarray) -> tuple[Any, tuple[Any, Any, np.ndarray, Any]]:
        said = {int(g): self.learners[g].predict_one(x) for g in np.flatnonzero(awake)}
        p = self.hedge.weights(awake)
        if not said:
            answer: Any = 0.0
        elif self.prediction == "mean":
            answer = sum(p[g] * z for g, z in said.items())
        else:
            answer = said[int(self._random.choice(len(p), p=p / p.sum()))]
        return answer, (x, said, awake, answer)

    def update(self, x: Any, y: Any, active: Any) -> float:
        """Learn the target of a row; the loss of what was, or would have been, predicted.

        Raises
        ------
        ValueError
            If a loss is not a finite number, or the learner refuses the target; nothing is then
            learnt.
        """
        awake = as_active(active, len(self.learners))
        waiting = self._waiting  # kept until it is learnt: a refused target unpublishes nothing
        if waiting is None or not _same(waiting[0], x) or (waiting[2] != awake).any():
            self.late, self._waiting = self.late + (waiting is not None), None
            _, waiting = self._predicted(x, awake)
        _, said, _, answer = waiting
        if not said:
            self.asleep, self._waiting = self.asleep + 1, None
            return math.nan
        scale = self.high - self.low
        own = np.zeros(len(self.learners))
        for g, z in said.items():
            own[g] = float(self.loss(z, y))
        raw, ours = (own - self.low) / scale, float(self.loss(answer, y))
        if not np.isfinite(own).all() or not math.isfinite(ours):
            raise ValueError("loss must be finite for every active group's prediction")
        every = np.append(raw[awake], (ours - self.low) / scale)
        for g in said:  # first, since a learner may refuse the target
            self.learners[g].learn_one(x, y)
        mixture = self.hedge.update(np.clip(raw, 0, 1), awake)
        self._waiting = None
        self.largest = max(self.largest, float(every.max()), float(1 - every.min()))
        self.rounds[awake] += 1
        self.losses[awake] += ours
        self.mixture[awake] += self.low + scale * mixture
        self.own[awake] += own[awake]
        return ours

    def certificates(self, names: Any = None) -> tuple[Certificate, ...]:
        """One a group: against the best fixed predictor where learners know it, else its own learner."""
        n = len(self.learners)
        called = [f"group {g}" for g in range(n)] if names is None else [str(v) for v in names]
        if len(called) != n:
            raise ValueError(f"names must have {n} entries, one a group, got {len(called)}")
        sampled, scale = self.prediction == "sample", self.high - self.low
        largest = max(abs(self.low), abs(self.high))
        known = [self._squared and _knows(learner) for learner in self.learners]
        meta, made = scale * self.hedge.bound(), []
        for g, learner in enumerate(self.learners):
            T = float(self.rounds[g])
            best, gap = self._against(learner) if known[g] else (None, 0.0)
            group = th.Group(
                called[g],
                int(T),
                n,
                float(self.losses[g]),
                float(self.own[g]) if best is None else best.best,
                1e-12 * (1 + T) * largest if best is None else best.rounding,
                float(meta[g]),
                gap,
                scale * th.coins_bound(T, n, self.delta) if sampled else 0.0,
                self.high,
                self.delta if sampled else 0.0,
            )
            answers = self._answers(g, known[g], sampled)
            made.append(
                th.own_regret(group, answers)
                if best is None
                else th.group_regret(group, answers, {"E": gap})
            )
        return tuple(made)

    @staticmethod
    def _against(learner: Any) -> tuple[Hindsight, float]:
        if type(learner) is OnlineRidge:
            return learner.in_hindsight(), learner.bound()
        best, plain = learner.hindsight()
        return Hindsight(float(best), float(plain), 0.0), float(learner.bound())

    def _same_loss(self, g: int) -> Answer:
        """A learner that was trained before, or is shared by groups, has another optimum."""
        learner, T, own = self.learners[g], int(self.rounds[g]), float(self.own[g])
        if isinstance(learner, OnlineRidge) and learner.rounds != T:
            return th.SAME_LOSS.check(
                False, f"the learner has learnt {learner.rounds} rows, its group had {T}"
            )
        if type(learner) is not OnlineRidge:
            return th.SAME_LOSS.unchecked(f"{type(learner).__name__} says so itself")
        apart = abs(learner.loss - own)
        return th.SAME_LOSS.check(
            apart <= 1e-9 * (1 + T) * (self.high - self.low),
            f"ridge of this library, its own sum of losses apart by {apart:.2g}",
        )

    def _answers(self, g: int, known: bool, sampled: bool) -> list[Answer]:
        outside = max(0.0, self.largest - 1)
        answers = [
            th.AWAKE.check(self.asleep == 0, f"{self.asleep} of the rows lie in none"),
            th.IN_RANGE.check(
                outside <= 1e-12 and self.hedge.largest <= 1 + 1e-12,
                f"furthest outside by {outside:.4g} of its width",
            ),
            th.KNOWN_BEFORE.unchecked("data cannot show it"),
            th.LABELS_IN_TIME.check(
                self.late == 0, f"{self.late} labels came after the next prediction, or not at all"
            ),
        ]
        if known:
            answers.append(self._same_loss(g))
        return [*answers, th.COINS.unchecked("data cannot show it")] if sampled else answers


def _same(one: Any, other: Any) -> bool:
    """Whether two rows are equal, missing values too; ``X[i]`` makes a new array each time."""
    if one is other:
        return True
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(v, other[k]) for k, v in one.items())
    a, b = _array(one), _array(other)
    return a.shape == b.shape and bool(np.all((a == b) | ((a != a) & (b != b))))


def _array(row: Any) -> np.ndarray:
    return np.asarray(row.detach() if hasattr(row, "detach") else row)


def _knows(learner: Any) -> bool:
    return hasattr(learner, "hindsight") and hasattr(learner, "bound")
