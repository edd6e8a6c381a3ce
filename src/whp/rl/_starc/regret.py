"""Worst-case regret: what optimising one reward can cost by another, exactly."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from whp.door import Range, front_door
from whp.rl._starc.canonical import canonical_form
from whp.rl._starc.mdp import MDP, Actions, Table, as_reward, as_start, as_transitions

__all__ = ["DISCOUNT", "Spread", "WorstCase", "range_of_return", "spread", "worst_case"]

DISCOUNT = Range(0.0, 1.0, open_high=True)
CLOSE = 1e-12  # of the range of returns: where the cutting planes stop
CUTS = 200
TIED = 1e-13  # of the range of reward 2: a difference of returns that is rounding
NONE = 4e-13  # of ‖r‖∞/(1 − γ)²: a range of returns that is rounding


@dataclass(frozen=True, eq=False)
class Spread:
    """Range of returns W(x) of a table x, and the two policies that attain it.

    Parameters
    ----------
    value : float
    slack : float
        What both policies may lack of the optimum, by their Bellman residuals.
    high, low : ndarray, shape (S,), int
    """

    value: float
    slack: float
    high: Actions
    low: Actions


def spread(mdp: MDP, table: Table, near: Spread | None = None) -> Spread:
    """W(x) = max_π ⟨η^π, x⟩ − min_π ⟨η^π, x⟩ by two policy iterations, from those of `near`."""
    high = mdp.best(table, None if near is None else near.high)
    low = mdp.best(-table, None if near is None else near.low)
    value = float(mdp.start @ high.values + mdp.start @ low.values)
    slack = (high.residual + low.residual) / (1 - mdp.discount)
    return Spread(max(value, 0.0), slack, high.actions, low.actions)


@dataclass(frozen=True, eq=False)
class WorstCase:
    """The worst that optimising reward 2 can cost where reward 1 is meant.

    Attributes
    ----------
    absolute, relative : float
        Largest loss of reward 1 by a policy that reward 2 finds no worse, as it is and as a share of
        the range of returns of reward 1.
    low, high : float
        Ends between which the share lies: the policies below attain `low`; `high` is by duality.
    lam : float
        λ of the dual, for rewards scaled to range 1.
    policy_good, policy_bad : ndarray, shape (S, A)
        A pair that attains it: the second loses most by reward 1 and nothing by reward 2.
    returns : ndarray, shape (2, 2)
        Of reward 1 (first row) and 2 under the good and the bad policy.
    ranges : tuple of float
        W of both rewards: best less worst return.
    off : float
        How far both ends and the pair's tie under reward 2 are from being exact, as shares of the
        ranges.
    """

    absolute: float
    relative: float
    low: float
    high: float
    lam: float
    policy_good: Table
    policy_bad: Table
    returns: Float[np.ndarray, "2 2"]
    ranges: tuple[float, float]
    off: float = 0.0
    evaluations: int = field(default=0, repr=False)


def worst_case(
    mdp: MDP,
    rewards: tuple[Table, Table],
    forms: tuple[Table, Table],
    spreads: tuple[Spread, Spread],
) -> WorstCase:
    """min over λ ≥ 0 of W(u1 − λ u2), u_i = c_i/W(c_i), by cutting planes (docs: duality).

    Each evaluation returns the pair of policies that attains W, hence a line a − λ b below the
    function; the lines of both sides meet at the next λ. The minimiser lies in [0, 2].
    """
    W1, W2 = (s.value for s in spreads)
    u1, u2 = forms[0] / W1, forms[1] / W2 if W2 > 0 else np.zeros_like(forms[1])
    evaluations = 0

    def at(lam: float, near: Spread) -> tuple[Spread, float, float]:
        nonlocal evaluations
        evaluations += 1
        found = spread(mdp, u1 - lam * u2, near)
        change = mdp.visits(found.high) - mdp.visits(found.low)
        return found, float((change * u1).sum()), float((change * u2).sum())

    left = at(0.0, spreads[0])
    least, lam = left[0].value + left[0].slack, 0.0
    mix = [(1.0, left[0])]
    if W2 > 0 and left[2] > TIED:
        right = at(2.0, Spread(0.0, 0.0, spreads[1].low, spreads[1].high))
        cut, middle = 2.0, right
        while True:
            if middle[0].value + middle[0].slack < least:
                least, lam = middle[0].value + middle[0].slack, cut
            if abs(middle[2]) <= TIED:  # indifferent by itself
                mix = [(1.0, middle[0])]
                break
            if middle[2] > 0:
                left = middle
            else:
                right = middle
            cut = (left[1] - right[1]) / (left[2] - right[2])
            height = left[1] - cut * left[2]
            # Both pairs, mixed so that reward 2 is indifferent, attain the height of the crossing.
            share = -right[2] / (left[2] - right[2])
            mix = [(share, left[0]), (1 - share, right[0])]
            if least - height <= CLOSE or evaluations >= CUTS:
                break
            middle = at(cut, left[0])
    good, bad = (_mixed(mdp, [(w, getattr(s, end)) for w, s in mix]) for end in ("high", "low"))
    returns = np.array(
        [[mdp.start @ mdp.values(p, r) for p in (good, bad)] for r in rewards], dtype=float
    )
    attained = float(returns[0, 0] - returns[0, 1])
    low = min(max(attained / W1, 0.0), 1.0)
    high = min(least, 1.0)
    # Of the rewards as they are, so that a wrong form or range cannot agree with itself.
    again = spread(mdp, rewards[0] / W1 - (lam / W2 * rewards[1] if W2 > 0 else 0.0), mix[0][1])
    ahead = float(returns[1, 0] - returns[1, 1]) / W2 if W2 > 0 else 0.0
    off = max(abs(high - low), abs(again.value + again.slack - max(attained / W1, low)), ahead)
    return WorstCase(
        max(attained, 0.0), low, low, high, lam, good, bad, returns, (W1, W2), off, evaluations
    )


def _mixed(mdp: MDP, parts: list[tuple[float, Actions]]) -> Table:
    """The policy whose visits are the mean of theirs; where none comes, the first one's actions."""
    eye = np.eye(mdp.n_actions)
    visits = sum(weight * mdp.visits(actions) for weight, actions in parts)
    there = np.asarray(visits).sum(1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(there > 0, visits / there, eye[parts[0][1]])


def no_range(found: Spread, table: Table, discount: float) -> bool:
    """Whether all policies earn alike, up to rounding."""
    return found.value <= NONE * float(np.abs(table).max()) / (1 - discount) ** 2


@front_door
def range_of_return(
    reward: Any, transitions: Any, *, discount: float, start: Any = None
) -> tuple[float, float, np.ndarray, np.ndarray]:
    """Lowest and highest discounted return of any policy, with policies that attain them.

    Parameters
    ----------
    reward : array_like, shape (S,), (S, A) or (S, A, S)
        A vector is what entering a state pays.
    transitions : array_like, shape (S, A, S), or tuple of A sparse matrices (S, S)
    discount : float
        In [0, 1).
    start : array_like, shape (S,), optional
        Law of the first state, uniform by default.

    Returns
    -------
    low, high : float
    policy_low, policy_high : ndarray, shape (S,), int
    """
    P, A, correction = as_transitions(transitions)
    mdp = MDP(P, A, discount, as_start(start, P.shape[1]), correction)
    reward = as_reward(reward, mdp, "reward")
    found = spread(mdp, canonical_form(reward, mdp))
    always = reward.offset / (1 - discount)
    low, high = (
        float(mdp.start @ mdp.values(p, reward.table)) + always for p in (found.low, found.high)
    )
    return low, high, found.low, found.high
