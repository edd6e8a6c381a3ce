"""The front door: two rewards and transitions in, their distance and the regret of confusing them out."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pandas as pd

from whp.certificate import Certificate
from whp.door import AtLeast, Fraction, front_door
from whp.io import Data
from whp.result import PALETTE, Result
from whp.rl._starc.analysis import Comparison, Standard
from whp.rl._starc.canonical import DEPENDENT, Kind, canonical_form, trivial
from whp.rl._starc.counts import as_counts
from whp.rl._starc.environments import tabular_model
from whp.rl._starc.mdp import MDP, Table, as_policy, as_reward, as_start, as_transitions
from whp.rl._starc.regret import DISCOUNT, WorstCase
from whp.rl._starc.tables import from_tables, is_table
from whp.text import visible
from whp.validate import as_floats, as_sequence

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["StarcResult", "canonicalise", "reward_distance_matrix", "starc", "worst_case_regret"]

Norm = Literal["1", "2", "inf", "range"]
NEAR_ZERO = 1e3  # times the threshold: a reward of which little is left is warned of


@dataclass(frozen=True, eq=False)
class StarcResult(Result):
    """How far two rewards are apart, and what confusing them can cost.

    Attributes
    ----------
    distance : float
        STARC distance of the chosen norm, 0 for rewards that order all policies alike; 2 for opposite ones.
    range_distance : float
        Distance in the range of returns: what can be lost is between its half and itself.
    regret : WorstCase or None
        The worst that optimising reward 2 can cost where reward 1 is meant; None if it was not asked
        for, or reward 1 prefers nothing.
    canonical1, canonical2, standardised1, standardised2 : ndarray, shape (S, A)
        Forms that the distance compares; (S, A, S) for those that depend on the next state.
    start : ndarray, shape (S,)
    discount : float
    states, actions : tuple of str
        Names, empty where the input had none.
    """

    distance: float
    range_distance: float
    certificates: tuple[Certificate, ...]
    canonical1: np.ndarray
    canonical2: np.ndarray
    standardised1: np.ndarray
    standardised2: np.ndarray
    start: np.ndarray
    discount: float
    canonical: str
    norm: str
    regret: WorstCase | None = field(repr=False, default=None)
    states: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()

    def summary(self) -> dict[str, bool | int | float | str | None]:
        """Distances, regret, and what they rest on."""
        S, A = self.canonical1.shape[:2]
        even = np.allclose(self.start, 1 / S, rtol=1e-9)
        made: dict[str, bool | int | float | str | None] = {
            "distance": self.distance,
            "range_distance": self.range_distance,
        }
        if self.regret is not None:
            made |= {
                "worst_regret_of_optimising_reward_2": self.regret.absolute,
                "as_a_share_of_all_returns": self.regret.relative,
            }
        return made | {
            "canonical": self.canonical,
            "norm": self.norm,
            "discount": self.discount,
            "states": S,
            "actions": A,
            "start": "all states alike" if even else f"{int((self.start > 0).sum())} of {S} states",
        }

    def to_frame(self) -> pd.DataFrame:
        """A row for each state and action: forms, and what the pair that attains the worst case does."""
        S, A = self.canonical1.shape[:2]
        states = self.states or tuple(range(S))
        actions = self.actions or tuple(range(A))
        made: dict[str, Any] = {
            "state": np.repeat(np.asarray(states, dtype=object), A),
            "action": np.tile(np.asarray(actions, dtype=object), S),
        }
        if self.canonical1.ndim == 2:
            made |= {
                "canonical1": self.canonical1.ravel(),
                "canonical2": self.canonical2.ravel(),
                "standardised1": self.standardised1.ravel(),
                "standardised2": self.standardised2.ravel(),
            }
        if self.regret is not None:
            made |= {
                "policy_good": self.regret.policy_good.ravel(),
                "policy_bad": self.regret.policy_bad.ravel(),
            }
        return pd.DataFrame(made)

    def artifacts(self) -> dict[str, Any]:
        """The table, and the arrays."""
        arrays = {n: getattr(self, n) for n in ("canonical1", "canonical2", "start")}
        return {"pairs.csv": self.to_frame(), "arrays.npz": arrays}

    def draw(self, ax: Axes) -> None:
        """Each state and action by both standardised rewards, with the pair that loses most."""
        first, second = self.standardised1.ravel(), self.standardised2.ravel()
        limit = 1.08 * max(np.abs(first).max(), np.abs(second).max(), 1e-300)
        ax.plot([-limit, limit], [-limit, limit], color=PALETTE["quiet"], lw=0.8, zorder=0)
        ax.scatter(first, second, s=14, color=PALETTE["ours"], alpha=0.6, label="state and action")
        if self.regret is not None and self.canonical1.ndim == 2:
            good, bad = self.regret.policy_good.ravel(), self.regret.policy_bad.ravel()
            for policy, other, name, mark in (
                (good, bad, "what the best of the pair does", "^"),
                (bad, good, "what the worst does", "v"),
            ):
                own = policy > other + 1e-9
                colour = PALETTE["third"] if mark == "^" else PALETTE["truth"]
                ax.scatter(first[own], second[own], s=30, marker=mark, color=colour, label=name)
        ax.set(
            xlim=(-limit, limit),
            ylim=(-limit, limit),
            xlabel="reward 1, standardised",
            ylabel="reward 2, standardised",
        )
        ax.set_aspect("equal")
        ax.legend(frameon=False, fontsize=8)


@front_door
def starc(
    reward1: Annotated[Any, Data("cells")] = None,
    reward2: Annotated[Any, Data("cells")] = None,
    transitions: Annotated[Any, Data("cells")] = None,
    *,
    discount: Annotated[float, DISCOUNT] | None = None,
    start: Annotated[Any, Data("cells")] = None,
    canonical: Kind | Callable[..., Any] = "val",
    policy: Annotated[Any, Data("cells")] = None,
    norm: Norm = "2",
    distance_norm: Literal["1", "2", "inf"] | None = None,
    weights: Any = None,
    measure: bool = True,
    counts: Annotated[Any, Data("cells")] = None,
    policies: Annotated[Any, Data("cells")] = None,
    env: str | None = None,
    time_limit: Annotated[int, AtLeast(1)] | None = None,
    delta: Annotated[float, Fraction()] = 0.05,
) -> StarcResult:
    """How far two rewards are apart, and the worst that optimising the second costs by the first.

    Parameters
    ----------
    reward1, reward2 : array_like, shape (S,), (S, A) or (S, A, S), or DataFrame
        The reward that is meant, and the one that is optimised. A vector is what entering a state
        pays. A table has columns state, value, and action and next_state where it depends on them.
    transitions : array_like, shape (S, A, S), or tuple of A sparse matrices (S, S), or DataFrame
        Laws of the next state; rows may be off a sum of 1 by 1e-6. A table has columns state,
        action, next_state and p.
    discount : float
        γ in [0, 1), to be given: distance and regret depend on it.
    start : array_like, shape (S,), optional
        Law of the first state; all states alike by default.
    canonical : {"val", "minimal", "val-potential", "epic", "dard", "none"} or callable
        Canonical form: advantages of the reference policy; the smallest reward that shaping makes;
        or one for comparison, which carries no guarantee. A callable gets expected rewards (S, A),
        transitions and discount, and returns (S, A).
    policy : array_like, shape (S, A) or (S,), optional
        Reference policy of "val"; all actions alike by default.
    norm : {"1", "2", "inf", "range"}
        Norm that canonical rewards are divided by; "range" is the range of returns, whose bounds have
        the best constants there are.
    distance_norm : {"1", "2", "inf"}, optional
        Norm of the difference, that of `norm` by default.
    weights : array_like, shape (S, A), or "sas", optional
        Positive weights in both norms; "sas" are those of tables over next states, 1/‖P(·|s, a)‖².
    measure : bool
        Also find the worst case exactly, which measures what the bounds promise.
    counts : array_like of int, shape (S, A, S), or DataFrame, optional
        Visits that the transitions were estimated from, which may then be left out; adds a bound for
        the world behind them. A table has columns state, action, next_state and n, or is a log with
        one row a visit.
    policies : array_like, shape (2, S) or (2, S, A), optional
        A pair, the second of which was deployed for the first: what it loses is certified.
    env : str, optional
        Name of a gymnasium environment with a table (``FrozenLake-v1``) in place of transitions, start,
        time_limit and, where it is not given, reward 1.
    time_limit : int, optional
        Steps after which an episode is cut off.
    delta : float
        Probability with which the bound for the world may fail.

    Returns
    -------
    StarcResult

    Raises
    ------
    ValueError
        If an argument is out of range, of a wrong shape, or would be ignored; the first bad state and
        action are named.

    Examples
    --------
    >>> import numpy as np
    >>> from whp.rl import starc
    >>> P = np.full((2, 2, 2), 0.5)
    >>> result = starc([[1, 0], [0, 0]], [[0, 1], [0, 0]], P, discount=0.9)
    >>> round(result.distance, 6), result.regret.relative
    (2.0, 1.0)

    References
    ----------
    Skalse, Farnik, Motwani, Jenner, Gleave, Abate (ICLR 2024), arXiv 2309.15257.
    """
    if discount is None:
        raise ValueError("discount must be given, in [0, 1): distance and regret depend on it")
    if env is not None:
        given = {"transitions": transitions, "start": start, "counts": counts}
        if twice := [n for n, v in given.items() if v is not None]:
            raise ValueError(f"{twice[0]} must be None where env names an environment")
        model = tabular_model(env)
        transitions, start = model.transitions, model.start
        reward1 = model.reward if reward1 is None else reward1
        time_limit = model.time_limit if time_limit is None else time_limit
    mdp, named, visits = _model(
        {"reward1": reward1, "reward2": reward2, "transitions": transitions, "counts": counts},
        discount,
        start,
        {"policy": policy, "policies": policies, "weights": weights},
    )
    # The table of estimated transitions is a guess where nothing was visited, as the reward may be.
    guessed = visits if named["transitions"] is None else None
    rewards = (
        as_reward(named["reward1"], mdp, "reward1", guessed),
        as_reward(named["reward2"], mdp, "reward2", guessed),
    )
    reference = mdp.uniform if policy is None else as_policy(policy, mdp.shape, "policy")
    if policy is not None and canonical not in ("val", "val-potential"):
        raise ValueError(f"policy must be None for canonical {canonical!r}, which takes none")
    if norm == "range" and (distance_norm is not None or weights is not None):
        raise ValueError("distance_norm and weights must be None for norm 'range'")
    _needs_no_form(canonical, norm)
    w = _weights(weights, mdp)
    if w is not None and distance_norm not in (None, norm):
        raise ValueError("distance_norm must be that of norm where there are weights")
    p = np.nan if norm == "range" else float(norm)
    q = p if distance_norm is None else float(distance_norm)
    one, two = (Standard(mdp, r, canonical, reference, p, w) for r in rewards)
    found = Comparison(one, two, q, measure, time_limit, visits)
    _warn(found)
    pair = None if policies is None else _pair(policies, mdp)
    return StarcResult(
        found.distance,
        found.range_distance,
        found.certificates(pair, delta),
        one.form,
        two.form,
        one.standardised,
        two.standardised,
        mdp.start,
        discount,
        found.kind,
        norm,
        found.worst,
        mdp.states,
        mdp.actions,
    )


def _model(
    given: dict[str, Any], discount: float, start: Any, others: dict[str, Any] | None = None
) -> tuple[MDP, dict[str, Any], np.ndarray | None]:
    """The MDP, arguments with tables made arrays, and counts."""
    for name in ("reward1", "reward2"):
        if given[name] is None:
            raise TypeError(f"{name} must be a reward (S,), (S, A) or (S, A, S), got None")
    states: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    tables = {n: v for n, v in given.items() if v is not None and is_table(v)}
    if tables:
        made = from_tables(tables)
        arrays = {**given, "start": start, **(others or {})}
        beside = [
            n for n, v in arrays.items() if not (v is None or n in tables or isinstance(v, str))
        ]
        if made.text and beside:
            warnings.warn(
                f"{', '.join(beside)}: an array beside ids that are text is read in their order, "
                f"states {_listed(made.states)} and actions {_listed(made.actions)}",
                stacklevel=3,
            )
        given, states, actions = given | made.arrays, made.states, made.actions
    visits = None if given["counts"] is None else as_counts(given["counts"])
    transitions = given["transitions"]
    if transitions is None:
        if visits is None:
            raise TypeError("transitions must be an array (S, A, S), or counts, or env, got None")
        n = visits.sum(-1, keepdims=True)
        transitions = np.where(n > 0, visits / np.maximum(n, 1), 1 / visits.shape[2])
        if (n == 0).any():
            warnings.warn(
                f"{int((n == 0).sum())} pairs of state and action were never visited: the table takes "
                "all next states alike there",
                stacklevel=3,
            )
    P, A, correction = as_transitions(transitions)
    if visits is not None and visits.shape != (P.shape[1], A, P.shape[1]):
        raise ValueError(
            f"counts must be (S, A, S) = {(P.shape[1], A, P.shape[1])}, got {visits.shape}"
        )
    mdp = MDP(P, A, discount, as_start(start, P.shape[1]), correction, states, actions)
    return mdp, given, visits


def _listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(visible(repr(n)) for n in names[:4])
    return shown + (", …" if len(names) > 4 else "")


def _needs_no_form(canonical: Any, norm: str) -> None:
    """The range of returns is the same for all forms: another one would be ignored."""
    if norm == "range" and canonical != "val":
        raise ValueError(
            f"norm must be '1', '2' or 'inf' for canonical {canonical!r}: the range distance needs "
            "no canonical form"
        )


def _weights(weights: Any, mdp: MDP) -> Table | None:
    if weights is None:
        return None
    if isinstance(weights, str):
        if weights != "sas":
            raise ValueError(f"weights must be an array (S, A) or 'sas', got {weights!r}")
        squares = mdp.P.multiply(mdp.P) if mdp.sparse else mdp.P**2
        return 1 / np.asarray(squares.sum(axis=1)).reshape(mdp.shape)
    w = as_floats(weights, "weights")
    if w.shape != mdp.shape or not np.isfinite(w).all() or w.min() <= 0:
        raise ValueError(f"weights must be positive numbers of shape {mdp.shape}")
    return w


def _pair(policies: Any, mdp: MDP) -> tuple[Table, Table]:
    pair = as_sequence(policies, "policies")
    if len(pair) != 2:
        raise ValueError(f"policies must be a pair, got {len(pair)}")
    first, second = (as_policy(p, mdp.shape, f"policies[{i}]") for i, p in enumerate(pair))
    return first, second


def _warn(found: Comparison) -> None:
    """What a user has to know before trusting a distance."""
    for i, s in enumerate(found.both, 1):
        if found.counts is not None and s.reward.unknown:
            warnings.warn(
                f"reward{i} is not given at {s.reward.unknown} places that were never visited: "
                "taken as 0 there, and nothing is certified of the world",
                stacklevel=3,
            )
        scaled = 1 - (1 - found.mdp.discount) / NEAR_ZERO
        if s.spread.value > 0 and trivial(s.table, s.reward, scaled):
            warnings.warn(
                f"reward{i} is nearly shaping: what is left of it is close to rounding",
                stacklevel=3,
            )
    if found.two.spread.value == 0 and found.two.table.any():
        warnings.warn(
            "reward2 is shaping up to rounding, which hides what it prefers: it is taken to prefer "
            "nothing, and nothing is certified of what can be lost",
            stacklevel=3,
        )
    if found.one.kind == "minimal" and found.one.norm in (1, np.inf):
        warnings.warn(
            f"the smallest reward in norm {found.one.norm:g} is not linear, and there may be several: "
            "equivalent rewards can come out apart; use norm='2'",
            stacklevel=3,
        )
    if found.one.kind in DEPENDENT:
        warnings.warn(
            f"canonical {found.kind!r} carries no guarantee: small distances may hide any regret",
            stacklevel=3,
        )


@front_door
def canonicalise(
    reward: Any,
    transitions: Any,
    *,
    discount: Annotated[float, DISCOUNT],
    canonical: Kind = "val",
    policy: Any = None,
    norm: Literal["1", "2", "inf"] = "2",
    weights: Any = None,
) -> np.ndarray:
    """The canonical form of a reward.

    For the parameters see :func:`starc`.

    Returns
    -------
    ndarray, shape (S, A)
        (S, A, S) for "epic", "dard", "val-potential", and for "none" of a reward by next states.
    """
    P, A, correction = as_transitions(transitions)
    mdp = MDP(P, A, discount, as_start(None, P.shape[1]), correction)
    reference = None if policy is None else as_policy(policy, mdp.shape, "policy")
    return canonical_form(
        as_reward(reward, mdp, "reward"),
        mdp,
        canonical,
        policy=reference,
        norm=float(norm),
        weights=_weights(weights, mdp),
    )


@front_door
def worst_case_regret(
    reward1: Any,
    reward2: Any,
    transitions: Any,
    *,
    discount: Annotated[float, DISCOUNT],
    start: Any = None,
) -> WorstCase:
    """The worst that optimising reward 2 can cost where reward 1 is meant, exactly.

    For the parameters see :func:`starc`. It is not symmetric: exchange the rewards for the other
    direction.

    Raises
    ------
    ValueError
        If reward 1 prefers no policy to another: there is nothing to lose.
    """
    mdp, given, _ = _model(
        {"reward1": reward1, "reward2": reward2, "transitions": transitions, "counts": None},
        discount,
        start,
    )
    rewards = (
        as_reward(given["reward1"], mdp, "reward1"),
        as_reward(given["reward2"], mdp, "reward2"),
    )
    one, two = (Standard(mdp, r, "val", mdp.uniform, np.nan) for r in rewards)
    found = Comparison(one, two, np.nan).worst
    if found is None:
        raise ValueError("reward1 prefers no policy to another: there is nothing to lose")
    return found


@front_door
def reward_distance_matrix(
    rewards: Any,
    transitions: Any,
    *,
    discount: Annotated[float, DISCOUNT],
    start: Any = None,
    canonical: Kind = "val",
    norm: Norm = "range",
) -> np.ndarray:
    """Distances of all pairs of rewards, by default in the range of returns.

    Parameters
    ----------
    rewards : sequence of array_like
        k of them; for the others see :func:`starc`.

    Returns
    -------
    ndarray, shape (k, k)
        Symmetric, with zeros on its diagonal.
    """
    P, A, correction = as_transitions(transitions)
    mdp = MDP(P, A, discount, as_start(start, P.shape[1]), correction)
    _needs_no_form(canonical, norm)
    p = np.nan if norm == "range" else float(norm)
    each = [
        Standard(mdp, as_reward(r, mdp, f"rewards[{i}]"), canonical, mdp.uniform, p)
        for i, r in enumerate(as_sequence(rewards, "rewards"))
    ]
    made = np.zeros((len(each), len(each)))
    for i, one in enumerate(each):
        for j, two in enumerate(each[:i]):
            made[i, j] = made[j, i] = Comparison(one, two, p).distance
    return made
