"""One adversary followed answer by answer."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import rel_entr

from whp.llm._information_censorship.audit import chosen_answers
from whp.llm._information_censorship.mechanism import Censor
from whp.llm._information_censorship.system import System
from whp.validate import as_int

__all__ = ["LeakageAccountant"]


class LeakageAccountant:
    """Posterior and leakage of one adversary as answers leave, O(W) each.

    Parameters
    ----------
    system : System
        From :func:`read_system`.
    censor : Censor
        How its answers are censored.
    impermissible : sequence of int, optional
        Numbers of the answers that count; all by default.

    Attributes
    ----------
    posterior : ndarray, shape (m,)
        P(a | what was returned).
    """

    def __init__(
        self, system: System, censor: Censor, impermissible: Sequence[int] | None = None
    ) -> None:
        if censor.name != "erase":
            raise ValueError("censor must be one of erasure: silence is what is taken in")
        self.system, self.censor = system, censor
        self.chosen = chosen_answers(impermissible, len(system.names))
        self._logs = np.log(system.prior)
        self._asked: set[int] = set()

    @property
    def posterior(self) -> np.ndarray:
        """P(a | what was returned), shape (m,)."""
        weights = np.exp(self._logs - self._logs.max())
        return np.bincount(self.system.answer, weights, len(self.system.names)) / weights.sum()

    @property
    def leakage(self) -> float:
        """Σ_A p ln p/p₀ of the history so far, nats."""
        return float(rel_entr(self.posterior, self.system.probabilities)[self.chosen].sum())

    @property
    def left(self) -> float:
        """What the answers that are still allowed can add at most in the mean, nats: the universal bound from here on."""
        rest = self.censor.k - len(self._asked)
        P = self.posterior[self.chosen]
        ceiling = float(-np.sum(P[P > 0] * np.log(P[P > 0])))
        return (
            0.0
            if rest <= 0
            else -math.expm1(rest * math.log1p(-min(self.censor.strength, 1 - 1e-16))) * ceiling
        )

    def observe(self, question: int, response: int | None) -> float:
        """Take in one answer, None for silence, and return the leakage so far.

        Raises
        ------
        ValueError
            If there is no such question or response, it was asked before, or the response is impossible after the others.
        """
        j = as_int(question, "question")
        if not 0 <= j < len(self.system.sizes):
            raise ValueError(
                f"question must be from 0 to {len(self.system.sizes) - 1}, got {question}"
            )
        if j in self._asked:
            raise ValueError(f"question {question} was asked before")
        logs = self._logs
        if response is not None:
            response = as_int(response, "response")
            if not 0 <= response < self.system.sizes[j]:
                raise ValueError(
                    f"response must be from 0 to {self.system.sizes[j] - 1}, got {response}"
                )
            channel = self.system.channels[j]
            chance = (
                (channel == response).astype(float) if channel.ndim == 1 else channel[:, response]
            )
            with np.errstate(divide="ignore"):
                logs = logs + np.log(chance)
            if np.isneginf(logs).all():
                raise ValueError(
                    f"response {response} to question {question} is impossible after the others"
                )
        self._logs = logs
        self._asked.add(j)
        return self.leakage
