"""The mechanisms: a record in, a private answer out, for as long as the horizon lasts."""

from __future__ import annotations

import math
import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, UInt8

from whp.certificate import Certificate
from whp.privacy._dp_continual_release.accuracy import (
    LONGEST,
    Neighbours,
    Query,
    ReleasePlan,
    Strategy,
    over_epochs,
    plan_release,
    planned,
)
from whp.privacy._dp_continual_release.counters import (
    Counter,
    NaiveCounter,
    SquareRootCounter,
    TreeCounter,
    counter,
)
from whp.privacy._dp_continual_release.noise import (
    WIDEST,
    BitSource,
    Lock,
    Noise,
    OsEntropy,
    SeededEntropy,
)
from whp.privacy._dp_continual_release.releases import Recompute
from whp.privacy._dp_continual_release.theorems import Evidence, certify
from whp.provenance import forget, made_here, register
from whp.validate import as_choice, as_fraction, as_int, as_real

__all__ = ["ContinualArgmax", "ContinualCounter", "ContinualMaxSum", "Mechanism"]

BLOCK = 4096  # records taken at once where only the largest count leaves
INNER = (TreeCounter, SquareRootCounter, NaiveCounter, Recompute)
_ANSWERED: dict[str, int] = {}  # stream to the last record that anyone in this process answered
_CLAIMS = Lock()


_planned = lru_cache(maxsize=64)(planned)


def _as_planned(plan: ReleasePlan) -> ReleasePlan:
    """The plan, if its bound and sensitivity are its own; with another scale its bound is at least as much larger."""
    kind = (plan.budget, plan.strategy, plan.max_ones, plan.neighbours, plan.beta, plan.period)
    made = _planned(plan.query, plan.T, plan.d, *kind)
    if plan.sensitivity != made.sensitivity or not math.isclose(plan.bound, made.bound):
        raise ValueError(
            "plan must be as plan_release made it, but for its scale: its error bound and sensitivity are those of another one"
        )
    return replace(plan, bound=_bound_at(made, plan.scale))


def _bound_at(plan: ReleasePlan, scale: Fraction) -> float:
    """Error bound of the plan with another scale: noise that is wider by a factor errs by no more than that factor."""
    # The scale of a selection is its sharpness, and a sharper one errs less.
    sharp = plan.query == "sumselect" and plan.strategy == "recompute"
    new, old = (plan.scale, scale) if sharp else (scale, plan.scale)
    return plan.bound * max(1.0, float(new / old) if old else math.inf)


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
        Whether neighbouring streams have one record replaced, or one that is there in one of them and a row of zeros in the
        other: that somebody came at all is protected, and at which record is not.
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
        options: dict[str, Any] = {
            "rho": rho,
            "epsilon": epsilon,
            "delta": delta,
            "max_ones": max_ones,
            "neighbours": neighbours,
            "beta": beta,
        }
        if horizon == "double" and strategy == "auto":
            # One strategy for all epochs: the best after some of them.
            later = min(128 * as_int(T, "T", low=1, high=LONGEST), LONGEST)
            strategy = plan_release(self.query, later, d, **options).strategy  # type: ignore[assignment]
        plan = plan_release(self.query, T, d, strategy=strategy, **options)
        source: BitSource = OsEntropy() if insecure_seed is None else SeededEntropy(insecure_seed)
        self._begin(plan, source, horizon)

    @classmethod
    def from_plan(cls, plan: ReleasePlan, *, source: BitSource | None = None) -> Mechanism:
        """The mechanism of a plan; `source` of its bits is the operating system by default.

        Raises
        ------
        ValueError
            If anything but the scale was altered since :func:`plan_release` made the plan: the scale and the bound of one
            plan say nothing of another.
        """
        plan = _as_planned(plan)
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
        self._latest = np.zeros(plan.d)  # noisy totals after the last record
        self._spent = Fraction(0)
        self._process = os.getpid()
        self._lock = Lock()
        self._torn = False
        self.faults: list[str] = []
        self.exposed = 0
        self.restored = 0
        self.seeded = not source.secure
        self.plan = self._epoch_plan()
        self._plans = [self.plan]
        self._inner = self._make()
        register(self, "source", "base", "_inner")

    def _epoch_plan(self, epoch: int | None = None, beta: float | None = None) -> ReleasePlan:
        base, i = self.base, self.epoch if epoch is None else epoch
        beta = base.beta if beta is None else beta
        period = base.period if beta != base.beta and base.strategy == "recompute" else None
        length, budget = base.T, base.budget
        if self.horizon == "double":
            # Σ 6/(π²(i+1)²) = 1; the fraction is rounded down.
            share = Fraction(math.floor(6 / (math.pi**2 * (i + 1) ** 2) * 2**40), 2**40)
            if base.strategy == "recompute":
                budget = budget.scaled(share)
                period = self._epoch_plan(i).period if beta != base.beta else None
            length, beta = length * 2**i, beta * float(share)
        elif beta == base.beta:
            return base
        kind = (budget, base.strategy, base.max_ones, base.neighbours, beta, period)
        made = planned(base.query, length, base.d, *kind)
        return (
            made
            if self.horizon == "double"
            else replace(made, scale=base.scale, bound=_bound_at(made, base.scale))
        )

    def _make(self) -> Counter | Recompute:
        if self.plan.scale >= WIDEST:
            raise ValueError(
                f"rho or epsilon must be larger: the noise of {self.plan.budget} has a scale of {float(self.plan.scale):.3g}, "
                f"and none is drawn from {WIDEST:.3g} on"
            )
        if self.plan.strategy == "recompute":
            return Recompute(self.plan, self.source, self.plan.d)
        return counter(self.plan, self.source, self.plan.d)

    @property
    def d(self) -> int:
        """Columns of a record."""
        return self.base.d

    @property
    def drawn_here(self) -> bool:
        """Whether this process drew all noise, from the operating system, by the unaltered code of this library."""
        inner = self._inner
        noise = getattr(inner, "noise", None)
        return (
            made_here(self, ContinualCounter, ContinualMaxSum, ContinualArgmax)
            and made_here(inner, *INNER)
            and made_here(self.source, OsEntropy)
            and (noise is None or (made_here(noise, Noise) and noise.source is self.source))
            and inner.t == self.t - self._start
        )

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

        Raises
        ------
        ValueError, TypeError
            If a record is not as described; none is counted then.
        RuntimeError
            If the stream was already continued elsewhere, or this is another process than the one that made the mechanism.
        """
        self._owned()
        with self._lock:
            return self._claimed(self.checked(X))

    def _claimed(self, rows: UInt8[np.ndarray, "n d"]) -> np.ndarray:
        """Answers that no one else in this process gives, whatever interrupts."""
        if self._torn:
            raise RuntimeError(
                "this mechanism was interrupted between two answers: go on from a state"
            )
        start, claimed = self.t, self.t + len(rows)
        with _CLAIMS:
            before = _ANSWERED.get(self.identity, 0)
            if before > start:
                raise RuntimeError(f"state at t={start} was already continued to t={before}")
            _ANSWERED[self.identity] = claimed
        try:
            return self._answered(rows)
        except BaseException:
            # No answer left; noise and sums may be of different records.
            if _ANSWERED.get(self.identity) == claimed:
                _ANSWERED[self.identity] = before
            self._torn, self.t = True, start
            raise

    def withdraw(self, t: int) -> None:
        """What was answered after record t did not leave and never will; a state at t may be continued, this object not."""
        with self._lock, _CLAIMS:
            self._torn = True
            if _ANSWERED.get(self.identity) == self.t:
                _ANSWERED[self.identity] = t

    def _owned(self) -> None:
        """Before any lock is taken: in the child of a fork no one may be left to give it back."""
        if os.getpid() != self._process:
            raise RuntimeError(
                "this mechanism belongs to another process, which may go on with the same noise: "
                "make it in the process that uses it, and hand a stream over by its state"
            )

    def _answered(self, rows: UInt8[np.ndarray, "n d"]) -> np.ndarray:
        if not self.drawn_here:
            forget(self)  # for ever: what was altered may be put back
        out, done = [], 0
        while done < len(rows):
            if self.t - self._start == self.plan.T:
                self._next_epoch()
            size = min(len(rows) - done, self.plan.T - (self.t - self._start))
            if self.query != "counts" and self.plan.strategy in ("tree", "naive"):
                size = min(size, BLOCK)
            out.append(self._advance(rows[done : done + size]))
            self.t += size
            done += size
        return out[0] if len(out) == 1 else np.concatenate(out)

    def _advance(self, rows: np.ndarray) -> np.ndarray:
        answers = self._inner.advance(rows)
        if isinstance(self._inner, Recompute):
            return answers.astype(np.int64) if self.query == "sumselect" else answers
        counts = answers + self._carried if self.epoch else answers
        self._latest = counts[-1].copy()
        return self._answer(counts)

    @abstractmethod
    def _answer(self, counts: Float[np.ndarray, "n d"]) -> np.ndarray: ...

    def checked(self, X: Any) -> UInt8[np.ndarray, "n d"]:
        """Records as they are counted: zeros and ones, cut to `max_ones`; ValueError or TypeError otherwise.

        An error about a record tells of it, which is not forgotten.
        """
        try:
            rows = self._bits(X)
        except (TypeError, ValueError):
            self.exposed = 1
            raise
        if len(rows) == 0:
            raise ValueError("X must have at least one record")
        if self.horizon == "fixed" and self.t + len(rows) > self.plan.T:
            raise ValueError(
                f"X must end at the horizon T = {self.plan.T}, got {len(rows)} records after t = {self.t}; "
                "plan a longer one, or use horizon='double'"
            )
        return self._cut(rows.astype(np.uint8))

    def _bits(self, X: Any) -> np.ndarray:
        if hasattr(X, "toarray"):
            X = X.toarray()
        if isinstance(X, np.ma.MaskedArray):
            raise TypeError("X must be no masked array: what is masked would be counted")
        rows = np.asarray(X)
        if rows.ndim != 2 or rows.shape[1] != self.d:
            shape = rows.shape[1:] if rows.ndim > 1 else rows.shape
            raise ValueError(f"record {self.t + 1} must have {self.d} columns, got shape {shape}")
        if rows.dtype.kind not in "biuf":
            raise TypeError(f"X must hold zeros and ones, got dtype {rows.dtype}")
        if rows.dtype != np.bool_:
            right = (rows == 0) | (rows == 1)
            if not right.all():
                t = self.t + 1 + int(np.flatnonzero(~right.all(axis=1))[0])
                # The record itself is nobody's business.
                raise ValueError(f"record {t} must hold zeros and ones only")
        return rows

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
        intact = self.drawn_here
        old, before = self.plan, self._inner
        spent = before.spent(old.sensitivity)
        self._start, self.epoch = self.t, self.epoch + 1
        self.plan = self._epoch_plan()
        self._plans.append(self.plan)
        self._inner = self._make()
        if isinstance(before, Recompute):
            self._spent += spent  # earlier records are looked at again
            self._inner.resume(before, old.T % old.period)  # type: ignore[union-attr]
        else:
            self._spent = max(self._spent, spent)  # a record lives in one epoch
            self._carried = self._latest
        forget(self)
        if intact:
            register(self, "source", "base", "_inner")

    def spent(self) -> float:
        """ρ, or ε, that the noise drawn so far has cost the record it cost most: what the noise was, not what was planned."""
        spent = self._inner.spent(self.plan.sensitivity)
        return float(
            self._spent + spent if isinstance(self._inner, Recompute) else max(self._spent, spent)
        )

    def error_bound(self, beta: float | None = None) -> float:
        """Bound on the largest error of any answer up to the horizon, with probability 1 − β.

        Parameters
        ----------
        beta : float, optional
            By default that of the plan. With ``horizon="double"``, up to the end of the running epoch.
        """
        if beta is None:
            return over_epochs(self._plans)
        beta = as_fraction(beta, "beta")
        return over_epochs([self._epoch_plan(i, beta) for i in range(self.epoch + 1)])

    def certificates(
        self, errors: Any = None, *, cut: float | None = None
    ) -> tuple[Certificate, ...]:
        """Privacy spent, the error bound, and the price.

        Parameters
        ----------
        errors : ndarray, shape (t,) or (t, d), optional
            Errors of all the answers against the stream as it came, of either sign, if they may be known.
        cut : float, optional
            Share of the ones that `max_ones` cut, if it may be known.

        Raises
        ------
        ValueError
            If errors are not finite, or not one for each record that was answered.
        """
        if errors is not None:
            errors = np.asarray(errors, dtype=np.float64)
            if errors.ndim not in (1, 2) or len(errors) != self.t or not np.isfinite(errors).all():
                raise ValueError(
                    f"errors must be finite, one for each of the {self.t} records, got shape {errors.shape}"
                )
        if cut is not None:
            cut = as_real(cut, "cut", low=0, high=1)
        with self._lock:
            return self._certified(errors, cut)

    def _certified(self, errors: np.ndarray | None, cut: float | None) -> tuple[Certificate, ...]:
        return certify(
            Evidence(
                base=self.base,
                plan=self.plan,
                t=self.t,
                room=self.plan.T - (self.t - self._start),
                spent=self.spent(),
                bound=self.error_bound(),
                horizon=self.horizon,
                drawn_here=self.drawn_here,
                seeded=self.seeded or not self.source.secure,
                restored=self.restored,
                faults=tuple(self.faults),
                exposed=self.exposed,
                error=None if errors is None else float(np.abs(errors).max(initial=0.0)),
                cut=cut,
            )
        )

    def settings(self) -> dict[str, Any]:
        """What two runs must agree on to be one stream; in a state."""
        plan = self.base
        return {
            "query": plan.query,
            "strategy": plan.strategy,
            "T": plan.T,
            "columns": plan.d,
            "budget": f"{'epsilon' if plan.budget.pure else 'rho'} {plan.budget.epsilon or plan.budget.rho}",
            "delta": plan.budget.delta,
            "beta": plan.beta,
            "max_ones": plan.max_ones,
            "neighbours": plan.neighbours,
            "horizon": self.horizon,
            "period": plan.period,
            "column_seed": plan.column_seed,
        }

    def state_dict(self) -> dict[str, Any]:
        """All that the rest of the stream depends on, **secret**: exact sums and noise, settings, and what made it void.

        Never answer twice from one state: after :meth:`load_state_dict`, a state that someone has already continued is
        refused.
        """
        with self._lock:
            return self._state()

    def _state(self) -> dict[str, Any]:
        if self._torn:
            raise RuntimeError(
                "this mechanism was interrupted between two answers: go on from a state"
            )
        least = self._inner.least
        return {
            "settings": self.settings(),
            "identity": self.identity,
            "t": self.t,
            "epoch": self.epoch,
            "start": self._start,
            "carried": self._carried.copy(),
            "latest": self._latest.copy(),
            "spent": [self._spent.numerator, self._spent.denominator],
            "least": None if least is None else [least.numerator, least.denominator],
            "seeded": self.seeded,
            "faults": list(self.faults),
            "exposed": self.exposed,
            "inner": self._inner.state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken, in a mechanism of the same settings.

        Whether somebody else goes on from the same state in another process cannot be seen: that noise is fresh is
        *unchecked* from then on. What made the first part void keeps the whole void.

        Raises
        ------
        ValueError
            If something is missing or does not fit, or this mechanism has answered already.
        RuntimeError
            If that state was already continued: answering again would draw new noise for the same records.
        """
        fresh = type(self).__new__(type(self))
        fresh._begin(self.base, self.source, self.horizon)
        if set(state) != set(fresh.state_dict()):
            raise ValueError(f"state must hold {', '.join(sorted(fresh.state_dict()))}")
        if self.t:
            raise ValueError("state must be loaded before the first record")
        if (given := state["settings"]) != self.settings():
            known: Any = given if isinstance(given, Mapping) else {}
            other = [k for k, v in self.settings().items() if known.get(k) != v]
            raise ValueError(f"state was written with another {', '.join(other) or 'setting'}")
        try:
            fresh._restore(state)
        except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
            if isinstance(error, ValueError) and str(error).startswith("state"):
                raise
            raise ValueError(f"state is damaged: {error}") from error
        t, identity = fresh.t, fresh.identity
        if _ANSWERED.get(identity, 0) > t:
            raise RuntimeError(f"state at t={t} was already continued to t={_ANSWERED[identity]}")
        fresh.faults = list(dict.fromkeys([*fresh.faults, *self.faults]))
        fresh.exposed += self.exposed
        forget(self)
        with self._lock:
            vars(self).update({k: v for k, v in vars(fresh).items() if k != "_lock"})

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.identity = str(state["identity"])
        self.t = as_int(state["t"], "state['t']", low=0)
        self.epoch = as_int(state["epoch"], "state['epoch']", low=0, high=40)
        self._plans = [self._epoch_plan(i) for i in range(self.epoch + 1)]
        self.plan = self._plans[-1]
        self._inner = self._make()
        self._start = as_int(state["start"], "state['start']", low=0, high=self.t)
        inside = self.t - self._start
        if (
            self._start != sum(self.base.T * 2**i for i in range(self.epoch))
            or inside > self.plan.T
        ):
            raise ValueError(f"state['t'] must lie within its epoch, got {self.t}")
        for name in ("carried", "latest"):
            array = np.array(state[name], dtype=np.float64)
            if array.shape != (self.d,) or not np.isfinite(array).all():
                raise ValueError(
                    f"state[{name!r}] must be finite of shape ({self.d},), got {array.shape}"
                )
            setattr(self, f"_{name}", array)
        self._inner.restore(inside, state["inner"])
        self._spent = Fraction(*map(int, state["spent"]))
        if state["least"] is not None:
            self._inner.least = Fraction(*map(int, state["least"]))
        self.seeded = self.seeded or bool(state["seeded"])
        self.faults = [str(f) for f in state["faults"]]
        self.exposed = as_int(state["exposed"], "state['exposed']", low=0)
        self.restored = self.t


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
