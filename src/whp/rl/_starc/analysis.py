"""Two rewards on one table: standardised forms, the numbers behind the certificates, their answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Int

from whp.certificate import Answer, Certificate
from whp.rl._starc import theorems as t
from whp.rl._starc.canonical import DEPENDENT, Kind, canonical_form, size, trivial
from whp.rl._starc.counts import world_bound
from whp.rl._starc.mdp import MDP, Reward, Table
from whp.rl._starc.regret import Spread, WorstCase, no_range, spread, worst_case

__all__ = ["Comparison", "Standard", "cut_off"]

TRIALS = 20  # random potentials that a canonical form of the caller's is tried on
LEFT_OUT = 0.01  # of the value lies beyond a time limit, at most
EPS = float(np.finfo(np.float64).eps)
Form = Kind | Callable[..., Any]


@dataclass(frozen=True, eq=False)
class Standard:
    """One reward on an MDP, with its canonical form, its range of returns and its standardised form.

    Parameters
    ----------
    mdp : MDP
    reward : Reward
    kind : str or callable
        Of the canonical form.
    policy : ndarray, shape (S, A)
        Reference policy.
    norm : float
        Of the normaliser; NaN for the range of returns.
    weights : ndarray, shape (S, A), or None
    """

    mdp: MDP
    reward: Reward
    kind: Form
    policy: Table
    norm: float
    weights: Table | None = None

    def form_of(self, reward: Reward) -> np.ndarray:
        """The canonical form of another reward, made in the same way."""
        norm = 2.0 if np.isnan(self.norm) else self.norm
        return canonical_form(
            reward, self.mdp, self.kind, policy=self.policy, norm=norm, weights=self.weights
        )

    @cached_property
    def form(self) -> np.ndarray:
        """c(R)."""
        return self.form_of(self.reward)

    @cached_property
    def table(self) -> Table:
        """A form (S, A) for returns: VAL's, whatever the distance is made of."""
        if self.kind == "val":
            return self.form
        return canonical_form(self.reward, self.mdp, policy=self.policy)

    @cached_property
    def spread(self) -> Spread:
        """Range of returns W(r) with its policies; 0 where it is rounding."""
        found = spread(self.mdp, self.table)
        flat = no_range(found, self.reward.table, self.mdp.discount)
        if flat or trivial(self.table, self.reward, self.mdp.discount):
            return Spread(0.0, 0.0, found.high, found.low)
        return found

    @cached_property
    def size(self) -> float:
        """n(c(R)), 0 where nothing is left of the reward but rounding."""
        if np.isnan(self.norm):
            return self.spread.value
        if trivial(self.form, self.reward, self.mdp.discount):
            return 0.0
        return size(self.form, self.norm, self.weights)

    @cached_property
    def standardised(self) -> np.ndarray:
        """s(R) = c(R)/n(c(R)), 0 for a trivial reward."""
        return self.form / self.size if self.size > 0 else np.zeros_like(self.form)

    @property
    def in_range(self) -> Table:
        """The reward scaled to a range of returns of 1, 0 for a trivial one."""
        W = self.spread.value
        return self.table / W if W > 0 else np.zeros_like(self.table)

    @property
    def magnitude(self) -> float:
        """‖r‖₂."""
        return size(self.reward.table, 2)  # scaled: no unit makes it 0 or infinite

    @cached_property
    def off_shaping(self) -> float:
        """‖(c − r) − its projection on potentials‖₂/‖r‖₂."""
        off = in_mean(self.mdp, self.form) - self.reward.table
        # A constant is shaping, and may be large beside the reward.
        return _share(size(self.mdp.shaping.rest(off - off.mean()), 2), self.magnitude)

    def off_class(self, trials: int) -> float:
        """‖c(R + shaping + redistribution) − c(R)‖/‖r‖, the largest of some random ones."""
        rng = np.random.default_rng(0)
        S, A = self.mdp.shape
        norm, worst = self.magnitude, 0.0
        for _ in range(trials if norm > 0 else 0):
            phi = norm * rng.standard_normal(S)
            table = self.reward.table + self.mdp.shaping.of(phi)
            given = table
            if self.form.ndim == 3:
                moved = norm * rng.standard_normal((S, A, S))
                moved -= in_mean(self.mdp, moved)[..., None]
                given = (
                    self.reward.whole((S, A)) + self.mdp.discount * phi - phi[:, None, None] + moved
                )
            other = self.form_of(Reward(table, 0.0, given))
            worst = max(worst, _share(size(other - self.form, 2), norm))
        return worst

    def deviation(self) -> float:
        """The largest of what a canonical form must not do."""
        found = [self.off_shaping, self.off_class(1)]
        if self.form.ndim == 2:
            again = self.form_of(Reward(self.form, 0.0, self.form))
            found.append(_share(size(again - self.form, 2), self.magnitude))
        if self.kind == "val":
            means = (self.policy * self.form).sum(1)
            found.append(_share(size(means, 2), self.magnitude))
        return max(found)


def cut_off(discount: float, limit: int) -> Answer:
    """Whether a time limit leaves out more of the value than may be neglected."""
    left = discount**limit
    return t.HORIZON.check(
        left <= LEFT_OUT,
        f"beyond the limit of {limit} steps lie γ^{limit} = {left:.2g} of the value",
    )


def in_mean(mdp: MDP, table: np.ndarray) -> Table:
    """The mean over next states of a table that has them."""
    if table.ndim == 2:
        return table
    P = mdp.P.toarray() if mdp.sparse else mdp.P
    return (P.reshape(table.shape) * table).sum(-1)


def _share(off: float, norm: float) -> float:
    return off / norm if norm > 0 else 0.0


@dataclass(frozen=True, eq=False)
class Comparison:
    """Reward 1, which is meant, and reward 2, which is optimised.

    Parameters
    ----------
    one, two : Standard
        On the same MDP, standardised alike.
    distance_norm : float
        NaN for the range of returns.
    measure : bool
        Whether to find the worst case.
    time_limit : int, optional
    counts : ndarray, shape (S, A, S), optional
    """

    one: Standard
    two: Standard
    distance_norm: float
    measure: bool = True
    time_limit: int | None = None
    counts: Int[np.ndarray, "S A S2"] | None = None

    @property
    def mdp(self) -> MDP:
        """Of both."""
        return self.one.mdp

    @property
    def both(self) -> tuple[Standard, Standard]:
        """In order."""
        return self.one, self.two

    @cached_property
    def distance(self) -> float:
        """d(R1, R2), from 0 to 2 for equal norms."""
        if np.isnan(self.distance_norm):
            return self.range_distance
        off = self.one.standardised - self.two.standardised
        return size(off, self.distance_norm, self.one.weights)

    @cached_property
    def range_distance(self) -> float:
        """d_W = W(r1/W(r1) − r2/W(r2))."""
        return spread(self.mdp, self.one.in_range - self.two.in_range).value

    @cached_property
    def difference_range(self) -> float:
        """W(s1 − s2); forms by next state are taken in their mean."""
        off = self.one.standardised - self.two.standardised
        return spread(self.mdp, in_mean(self.mdp, off)).value

    @cached_property
    def worst(self) -> WorstCase | None:
        """The worst case; None where it is not wanted, or reward 1 prefers nothing."""
        if not self.measure or self.one.spread.value == 0:
            return None
        one, two = self.both
        found = worst_case(
            self.mdp,
            (one.reward.table, two.reward.table),
            (one.table, two.table),
            (one.spread, two.spread),
        )
        # Returns of the rewards as they were given, not as they were centred.
        always = np.array([[s.reward.offset] for s in self.both]) / (1 - self.mdp.discount)
        return replace(found, returns=found.returns + always)

    @cached_property
    def tau(self) -> float:
        """Rounding of shares: 64 ulp (‖r1‖∞/W(r1) + ‖r2‖∞/W(r2))/(1 − γ)²."""
        parts = (
            float(np.abs(s.reward.table).max()) / s.spread.value
            for s in self.both
            if s.spread.value > 0
        )
        return 64 * EPS * sum(parts) / (1 - self.mdp.discount) ** 2

    # Conditions

    @cached_property
    def model(self) -> tuple[Answer, Answer, Answer]:
        """The table, the horizon, the axes."""
        if self.counts is None:
            table = t.TABLE.unchecked("nothing here says where the transitions come from")
        else:
            table = t.TABLE.unchecked("they are frequencies: certificate world speaks of the world")
        return table, self.horizon, self.axes

    @property
    def kind(self) -> str:
        """Name of the canonical form."""
        kind = self.one.kind
        return kind if isinstance(kind, str) else getattr(kind, "__name__", "own")

    @property
    def horizon(self) -> Answer:
        """Whether a time limit cuts off what the discount still counts."""
        if self.time_limit is None:
            return t.HORIZON.unchecked("no time limit was given")
        return cut_off(self.mdp.discount, self.time_limit)

    @property
    def axes(self) -> Answer:
        """Whether the shape tells states from actions."""
        S, A = self.mdp.shape
        if S == A and not self.mdp.states:
            return t.AXES.unchecked(
                f"there are as many actions as states, {S}: axis 1 is the action"
            )
        return t.AXES.by_construction("their shape, or their columns' names, tell them apart")

    @property
    def prefers(self) -> Answer:
        """Whether reward 1 is more than shaping."""
        found = self.one.spread.value
        return t.PREFERS.check(found > 0, f"its returns range over {found:.4g}")

    @property
    def resolved(self) -> Answer:
        """Whether reward 2 is more than shaping up to rounding, or exactly nothing."""
        hidden = self.two.spread.value == 0 and bool(self.two.table.any())
        told = "it is shaping up to rounding, and that is not to prefer nothing"
        return t.RESOLVED.check(
            not hidden, told if hidden else f"its returns range over {self.two.spread.value:.4g}"
        )

    @property
    def slack(self) -> float:
        """Rounding of canonical forms, as a share of the reward: values lose 1/(1 − γ) of it."""
        return 8 * EPS / (1 - self.mdp.discount)

    @cached_property
    def shaping(self) -> Answer:
        """Whether both forms are their rewards plus potentials."""
        off = max(s.off_shaping for s in self.both)
        return t.SHAPING.check(
            off <= t.AGREE + self.slack, f"off any potential by {off:.2g} of the reward"
        )

    @property
    def redistribution(self) -> Answer:
        """Whether the form sees expected rewards alone."""
        if self.one.kind in DEPENDENT:
            return t.REDISTRIBUTION.check(False, f"{self.one.kind} looks at next states")
        return t.REDISTRIBUTION.by_construction("it is made of expected rewards")

    @cached_property
    def invariant(self) -> Answer:
        """Whether the form is linear, and one for each class."""
        if self.one.kind == "val":
            return t.INVARIANT.by_construction("an advantage is linear, and blind to potentials")
        if self.one.kind == "minimal" and self.one.norm == 2:
            return t.INVARIANT.by_construction("a projection is linear, and blind to potentials")
        if self.one.kind == "minimal":
            return t.INVARIANT.check(
                False, f"the smallest reward in norm {self.one.norm:g} is not linear"
            )
        if self.one.kind in DEPENDENT:
            return t.INVARIANT.check(False, f"{self.one.kind} is another after redistribution")
        one, two = self.both
        off = max(s.off_class(TRIALS) for s in self.both)
        total = one.reward.table + two.reward.table
        added = one.form_of(Reward(total, 0.0, total)) - one.form - two.form
        off = max(off, _share(size(added, 2), one.magnitude + two.magnitude))
        if off > t.AGREE + self.slack:
            return t.INVARIANT.check(False, f"off by {off:.2g} of the reward on random potentials")
        return t.INVARIANT.unchecked(f"{TRIALS} random potentials and a sum show nothing")

    # Certificates

    def certificates(
        self, pair: tuple[Table, Table] | None, delta: float
    ) -> tuple[Certificate, ...]:
        """All that can be said."""
        worst, tau = self.worst, self.tau
        regret = None if worst is None else (worst.low, worst.high)
        W1 = self.one.spread.value
        shared = (*self.model, self.prefers, self.resolved)
        inputs: t.Inputs = {
            "distance": self.distance,
            "range distance": self.range_distance,
            "range of returns of reward 1": W1,
            "range of returns of reward 2": self.two.spread.value,
            "discount": self.mdp.discount,
        }
        made: list[Certificate] = []
        if worst is not None:
            made.append(t.duality(worst.low, worst.high, worst.off, tau, shared[2:]))
        d_W = self.range_distance
        made.append(t.at_most(t.RANGE_UPPER, d_W, regret, tau, shared, inputs))
        made.append(t.at_least(t.RANGE_LOWER, d_W / 2, regret, tau, shared, inputs))
        if not np.isnan(self.one.norm):
            made += self._of_norms(regret, shared, inputs)
        off = max(s.deviation() for s in self.both)
        made.append(
            t.canonical(off, self.slack, (self.axes, self.redistribution), {"kind": self.kind})
        )
        if pair is not None:
            made.append(self._of_policies(pair, (*self.model, self.prefers)))
        if self.counts is not None:
            made.append(self._of_world(delta))
        return tuple(made)

    def _of_norms(
        self, regret: tuple[float, float] | None, shared: tuple[Answer, ...], inputs: t.Inputs
    ) -> list[Certificate]:
        """The metric's bounds, with their constants."""
        S, A = self.mdp.shape
        p, q, gamma = self.one.norm, self.distance_norm, self.mdp.discount
        W1, n1 = self.one.spread.value, self.one.size
        upper = self.difference_range * n1 / W1 if W1 > 0 else 1.0
        w, policy = self.one.weights, self.one.policy
        total = S * A if w is None else float(w.sum())
        rho = self.mdp.first_visits(policy)
        smallest = float(rho.min()) * total ** (-1 / p)
        B = 2 ** (1 - 1 / q) / (1 - gamma)
        if w is not None and np.isfinite(q):
            B *= float((w ** (-1 / q)).max())
        known = {
            **inputs,
            "size of the canonical reward 1": n1,
            "range of the difference": self.difference_range,
            "B": B,
            "smallest first visit": float(rho.min()),
            "ell": smallest,
            "B d n(c1)/W(r1)": B * self.distance * n1 / W1 if W1 > 0 else 1.0,
        }
        reached = self.mdp.reached(policy)
        last = int(np.argmin(np.where(reached, rho, -1.0)))
        answers = (*shared, self.shaping, self.redistribution)
        lower = smallest * self.distance * (S * A) ** -max(0.0, 1 / q - 1 / p) / 2
        return [
            t.at_most(t.UPPER, upper, regret, self.tau, answers, known),
            t.at_least(
                t.LOWER,
                lower * n1 / W1 if W1 > 0 else 0.0,
                regret,
                self.tau,
                (
                    *answers,
                    self.invariant,
                    t.REACHED.check(
                        bool(reached.all()), f"state {self._name(last)}: ρ = {rho[last]:.2g}"
                    ),
                    t.SUPPORT.check(
                        bool((policy > 0).all()),
                        f"least probability of an action {policy.min():.2g}",
                    ),
                ),
                known,
            ),
        ]

    def _name(self, state: int) -> str:
        return repr(self.mdp.states[state]) if self.mdp.states else str(state)

    def _of_policies(self, pair: tuple[Table, Table], shared: tuple[Answer, ...]) -> Certificate:
        """What the second of a pair loses, as it is."""
        first, second = (s.reward for s in self.both)
        earned = np.array(
            [[self.mdp.start @ self.mdp.values(p, r.table) for p in pair] for r in (first, second)]
        )
        largest = [float(np.abs(r.table).max()) / (1 - self.mdp.discount) for r in (first, second)]
        rounding = [64 * EPS * x / (1 - self.mdp.discount) for x in largest]
        ahead = float(earned[1, 1] - earned[1, 0])
        answers = (
            *shared,
            self.shaping,
            self.redistribution,
            t.NO_WORSE.check(ahead >= -rounding[1], f"it earns {ahead:.4g} more of reward 2"),
        )
        bound = self.difference_range * self.one.size
        # What the second may lack of reward 2 within rounding costs n(c1)/n(c2) times as much.
        if self.two.size > 0:
            bound += 2 * rounding[1] * self.one.size / self.two.size
        return t.policies(
            bound,
            float(earned[0, 0] - earned[0, 1]),
            rounding[0],
            self.one.spread.value,
            answers,
            {
                f"reward {i + 1}, policy {j + 1}": float(earned[i, j])
                for i in (0, 1)
                for j in (0, 1)
            },
        )

    def _of_world(self, delta: float) -> Certificate:
        """What counts say of the law behind them."""
        assert self.counts is not None
        worst, (W1, W2) = self.worst, (s.spread.value for s in self.both)
        # Any λ ≥ 0 will do; where the worst case is not looked for, that of the range distance.
        lam = (1.0 if worst is None else worst.lam) * W1 / W2 if W2 > 0 else 0.0
        first, second = (s.reward.whole(self.mdp.shape) - s.reward.offset for s in self.both)
        found = world_bound(self.mdp, self.counts, (first, second), lam, delta)
        n = self.counts.sum(-1)
        unknown = sum(s.reward.unknown for s in self.both)
        answers = (
            self.horizon,
            self.axes,
            t.KNOWN.check(unknown == 0, f"{unknown} numbers are not given and taken as 0"),
            t.DRAWN.unchecked("counts do not show how they came about"),
        )
        return t.world(
            found.bound,
            delta,
            answers,
            {
                "highest range of R1 − λR2": found.highest,
                "lowest range of R1": found.lowest,
                "fewest visits": int(n.min()),
                "unvisited": found.unvisited,
            },
        )
