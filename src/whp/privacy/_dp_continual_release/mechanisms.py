"""The mechanisms: a record in, a private answer out, for as long as the horizon lasts."""

from __future__ import annotations

import math
import secrets
from abc import ABC, abstractmethod
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, UInt8

from whp.certificate import Certificate
from whp.privacy._dp_continual_release.accuracy import (
    Neighbours,
    Query,
    ReleasePlan,
    Strategy,
    plan_release,
    planned,
)
from whp.privacy._dp_continual_release.budget import Budget
from whp.privacy._dp_continual_release.counters import Counter, counter
from whp.privacy._dp_continual_release.guarantee import certify
from whp.privacy._dp_continual_release.noise import BitSource, OsEntropy, SeededEntropy
from whp.privacy._dp_continual_release.releases import Recompute
from whp.validate import as_choice, as_fraction, as_int

__all__ = ["ContinualArgmax", "ContinualCounter", "ContinualMaxSum", "Mechanism"]

BLOCK = 4096  # records taken at once where only the largest count leaves
_ANSWERED: dict[
    str, int
] = {}  # stream to the last record that was answered, by anyone in this process


class Mechanism(ABC):
    """What the three queries share; use :class:`ContinualCounter`, :class:`ContinualMaxSum` or :class:`ContinualArgmax`.

    Parameters
    ----------
    d : int
        Columns of a record.
    T : int
        Longest stream, a public number; with ``horizon="double"`` the length of the first epoch.
    rho, epsilon, delta : float, optional
        Budget of the whole stream: `rho` of zCDP; or `epsilon` with `delta`, zero for pure differential privacy.
    strategy : {"auto", "recompute", "tree", "sqrt", "naive"}
        By default the one with the smallest error bound.
    max_ones : int, optional
        Ones that a record may have; those beyond, in a fixed public random order of the columns, are dropped.
    neighbours : {"replace", "add-remove"}
        What one record more or less means.
    beta : float
        Probability with which the error bound may be broken.
    horizon : {"fixed", "double"}
        Whether the stream ends at T, or goes on in epochs of twice the length: counts start afresh in each and share no
        record, so that each has the whole budget; recomputed answers see earlier records, and epoch i gets 6/(π²(i+1)²) of it.
    insecure_seed : int, optional
        Makes the noise repeatable, and the privacy certificate void: for tests and studies.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range; the message names it.
    """

    query: Query

    def __init__(
        self,
        d: int = 1,
        *,
        T: int,
        rho: float | None = None,
        epsilon: float | None = None,
        delta: float | None = None,
        strategy: Strategy = "auto",
        max_ones: int | None = None,
        neighbours: Neighbours = "replace",
        beta: float = 0.05,
        horizon: Literal["fixed", "double"] = "fixed",
        insecure_seed: int | np.random.Generator | None = None,
    ) -> None:
        as_choice(horizon, "horizon", ("fixed", "double"))
        if (
            horizon == "double" and strategy == "auto"
        ):  # one strategy for all epochs: the best after some of them
            strategy = plan_release(
                self.query,
                128 * T,
                d,
                rho=rho,
                epsilon=epsilon,
                delta=delta,
                max_ones=max_ones,
                neighbours=neighbours,
                beta=beta,
            ).strategy  # type: ignore[assignment]
        plan = plan_release(
            self.query,
            T,
            d,
            rho=rho,
            epsilon=epsilon,
            delta=delta,
            strategy=strategy,
            max_ones=max_ones,
            neighbours=neighbours,
            beta=beta,
        )
        source: BitSource = OsEntropy() if insecure_seed is None else SeededEntropy(insecure_seed)
        self._begin(plan, source, horizon)

    @classmethod
    def from_plan(cls, plan: ReleasePlan, *, source: BitSource | None = None) -> Mechanism:
        """The mechanism of a plan; `source` of its bits is the operating system by default."""
        made = {c.query: c for c in (ContinualCounter, ContinualMaxSum, ContinualArgmax)}[
            plan.query
        ]
        self = made.__new__(made)
        self._begin(plan, source or OsEntropy(), "fixed")
        return self

    def _begin(self, plan: ReleasePlan, source: BitSource, horizon: str) -> None:
        self.source, self.horizon, self.base = source, horizon, plan
        self.identity = secrets.token_hex(16)
        self.order = np.random.default_rng(plan.column_seed).permutation(plan.d)
        self.t, self.epoch, self._start = 0, 0, 0
        self._carried = np.zeros(plan.d)  # noisy totals of finished epochs
        self._bound = 0.0  # errors of finished epochs, which add up for counts
        self._spent = Fraction(0)
        self.faults: list[str] = []
        self.plan = self._epoch_plan()
        self._inner = self._make()

    def _epoch_plan(self) -> ReleasePlan:
        base, i = self.base, self.epoch
        if self.horizon == "fixed":
            return base
        # Σ 6/(π²(i+1)²) = 1; the fraction is rounded down.
        share = Fraction(math.floor(6 / (math.pi**2 * (i + 1) ** 2) * 2**40), 2**40)
        budget: Budget = base.budget.scaled(share) if base.strategy == "recompute" else base.budget
        beta = base.beta * float(share)
        return planned(
            base.query,
            base.T * 2**i,
            base.d,
            budget,
            base.strategy,
            base.max_ones,
            base.neighbours,
            beta,
        )

    def _make(self) -> Counter | Recompute:
        if self.plan.strategy == "recompute":
            return Recompute(self.plan, self.source, self.plan.d)
        return counter(self.plan, self.source, self.plan.d)

    @property
    def d(self) -> int:
        """Columns of a record."""
        return self.base.d

    def step(self, x: Any) -> Any:
        """Take one record, give the answer after it.

        Parameters
        ----------
        x : array_like, shape (d,)
            Zeros and ones.

        Returns
        -------
        ndarray, shape (d,), float or int
            Noisy counts; the largest count; the leading column.

        Raises
        ------
        ValueError
            If the record has another width or other values, or the horizon is over. The message tells no record.
        """
        return self.run(np.asarray(x)[None])[0]

    def run(self, X: Any) -> Any:
        """Take records one after the other, give the answer after each; may be called again with what follows.

        Parameters
        ----------
        X : array_like or scipy.sparse, shape (n, d)
            Zeros and ones.

        Returns
        -------
        ndarray, shape (n, d) or (n,)
        """
        rows = self.checked(X)
        if _ANSWERED.get(self.identity, 0) > self.t:
            raise RuntimeError(
                f"state at t={self.t} was already continued to t={_ANSWERED[self.identity]}"
            )
        out, done = [], 0
        while done < len(rows):
            if self.t - self._start == self.plan.T:
                self._next_epoch()
            room = self.plan.T - (self.t - self._start)
            size = min(len(rows) - done, room)
            if self.query != "counts":
                size = min(size, BLOCK if self.plan.strategy in ("tree", "naive") else size)
            out.append(self._advance(rows[done : done + size]))
            self.t += size
            done += size
        _ANSWERED[self.identity] = self.t
        return np.concatenate(out)

    def _advance(self, rows: np.ndarray) -> np.ndarray:
        answers = self._inner.advance(rows)
        if isinstance(self._inner, Recompute):
            return answers.astype(np.int64) if self.query == "sumselect" else answers
        counts = answers + self._carried
        self._latest = counts[-1]
        return self._answer(counts)

    @abstractmethod
    def _answer(self, counts: Float[np.ndarray, "n d"]) -> np.ndarray: ...

    def checked(self, X: Any) -> UInt8[np.ndarray, "n d"]:
        """Records as they are counted: zeros and ones, cut to `max_ones`; ValueError or TypeError otherwise."""
        if hasattr(X, "toarray"):
            X = X.toarray()
        rows = np.asarray(X)
        if rows.ndim != 2 or rows.shape[1] != self.d:
            shape = rows.shape[1:] if rows.ndim > 1 else rows.shape
            raise ValueError(f"record {self.t + 1} must have {self.d} columns, got shape {shape}")
        if len(rows) == 0:
            raise ValueError("X must have at least one record")
        if rows.dtype.kind not in "biuf":
            raise TypeError(f"X must hold zeros and ones, got dtype {rows.dtype}")
        wrong = (rows != 0) & (rows != 1)
        if wrong.any():
            t = self.t + 1 + int(np.flatnonzero(wrong.any(axis=1))[0])
            raise ValueError(
                f"record {t} must hold zeros and ones only"
            )  # the record itself is nobody's business
        if self.horizon == "fixed" and self.t + len(rows) > self.plan.T:
            raise ValueError(
                f"X must end at the horizon T = {self.plan.T}, got {len(rows)} records after t = {self.t}; "
                "plan a longer one, or use horizon='double'"
            )
        return self._cut(rows.astype(np.uint8))

    def _cut(self, rows: UInt8[np.ndarray, "n d"]) -> UInt8[np.ndarray, "n d"]:
        m = self.base.max_ones
        if m is None or m >= self.d:
            return rows
        ranked = rows[:, self.order]
        ranked[np.cumsum(ranked, axis=1) > m] = 0
        out = np.empty_like(rows)
        out[:, self.order] = ranked
        return out

    def _next_epoch(self) -> None:
        spent = self._inner.spent(self.plan.sensitivity)
        sums = getattr(self._inner, "sums", None)
        if isinstance(self._inner, Recompute):
            self._spent += spent
        else:
            self._spent = max(self._spent, spent)
            self._carried = self._latest
            self._bound += self.plan.bound / (2 if self.query == "sumselect" else 1)
        self._start, self.epoch = self.t, self.epoch + 1
        last = getattr(self._inner, "last", None)
        self.plan = self._epoch_plan()
        self._inner = self._make()
        if isinstance(self._inner, Recompute):
            assert sums is not None
            assert last is not None
            self._inner.sums, self._inner.last = sums, last

    def spent(self) -> float:
        """ρ, or ε, that the first record has cost by now, out of the noise that was really drawn."""
        now = self._inner.spent(self.plan.sensitivity)
        return float(
            self._spent + now if self.plan.strategy == "recompute" else max(self._spent, now)
        )

    def error_bound(self, beta: float | None = None) -> float:
        """Bound on the largest error of any answer up to the horizon, with probability 1 − β.

        Parameters
        ----------
        beta : float, optional
            By default that of the plan. With ``horizon="double"``, up to the end of the running epoch.
        """
        plan = self.plan
        if beta is not None:
            period = plan.period if plan.strategy == "recompute" else None
            beta = as_fraction(beta, "beta")
            plan = planned(
                plan.query,
                plan.T,
                plan.d,
                plan.budget,
                plan.strategy,
                plan.max_ones,
                plan.neighbours,
                beta,
                period,
            )
        return plan.bound + self._bound * (2 if self.query == "sumselect" else 1)

    def certificates(
        self, errors: Float[np.ndarray, " n"] | None = None
    ) -> tuple[Certificate, ...]:
        """Privacy spent, the error bound, and the price; `errors` are those of the answers, if they may be known."""
        return certify(
            self.base,
            self.plan,
            self.t,
            self.spent(),
            self.error_bound(),
            self.source,
            self.horizon,
            errors,
            self.faults,
        )

    def state_dict(self) -> dict[str, Any]:
        """All that the rest of the stream depends on, **secret**: exact sums and noise. Settings are the constructor's.

        Never answer twice from one state: after :meth:`load_state_dict`, a state that someone has already continued is
        refused.
        """
        return {
            "identity": self.identity,
            "t": self.t,
            "epoch": self.epoch,
            "start": self._start,
            "carried": self._carried.copy(),
            "bound": self._bound,
            "spent": [self._spent.numerator, self._spent.denominator],
            "inner": self._inner.state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken, in a mechanism of the same settings.

        Raises
        ------
        ValueError
            If something is missing or does not fit.
        RuntimeError
            If that state was already continued: answering again would draw new noise for the same records.
        """
        wanted = {"identity", "t", "epoch", "start", "carried", "bound", "spent", "inner"}
        if set(state) != wanted:
            raise ValueError(f"state must hold {', '.join(sorted(wanted))}")
        identity, t = str(state["identity"]), as_int(int(state["t"]), "state['t']", low=0)
        if _ANSWERED.get(identity, 0) > t:
            raise RuntimeError(f"state at t={t} was already continued to t={_ANSWERED[identity]}")
        carried = np.asarray(state["carried"], dtype=np.float64)
        if carried.shape != (self.d,):
            raise ValueError(f"state['carried'] must have shape ({self.d},), got {carried.shape}")
        before = (self.epoch, self.plan, self._inner)
        try:
            self.epoch = as_int(int(state["epoch"]), "state['epoch']", low=0)
            self.plan = self._epoch_plan()
            self._inner = self._make()
            start = as_int(int(state["start"]), "state['start']", low=0, high=t)
            if t - start > self.plan.T:
                raise ValueError(f"state['t'] must lie within the horizon {self.plan.T}, got {t}")
            self._inner.restore(t - start, state["inner"])
        except (KeyError, ValueError):
            self.epoch, self.plan, self._inner = before
            raise
        self.identity, self.t, self._start, self._carried = identity, t, start, carried.copy()
        self._latest = carried.copy()
        self._bound, self._spent = float(state["bound"]), Fraction(*map(int, state["spent"]))


class ContinualCounter(Mechanism):
    """All running counts after every record. Parameters as in :class:`Mechanism`.

    Examples
    --------
    >>> counter = ContinualCounter(d=2, T=1000, rho=0.5)
    >>> counter.step([1, 0]).shape
    (2,)
    """

    query = "counts"

    def _answer(self, counts: Float[np.ndarray, "n d"]) -> np.ndarray:
        return counts


class ContinualMaxSum(Mechanism):
    """The largest running count after every record. Parameters as in :class:`Mechanism`."""

    query = "maxsum"

    def _answer(self, counts: Float[np.ndarray, "n d"]) -> np.ndarray:
        return counts.max(axis=1)


class ContinualArgmax(Mechanism):
    """The column that leads after every record, ties to the first (SumSelect). Parameters as in :class:`Mechanism`."""

    query = "sumselect"

    def _answer(self, counts: Float[np.ndarray, "n d"]) -> np.ndarray:
        return counts.argmax(axis=1)
