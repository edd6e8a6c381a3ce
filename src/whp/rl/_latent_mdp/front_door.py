"""The front door: a labelled table, a log of tests or a known model in, the best policy over histories out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pandas as pd

from whp import conditions
from whp.certificate import Answer, Certificate
from whp.door import Above, AtLeast, Between, Fraction, front_door
from whp.intervals import Estimate, proportion
from whp.io import Data
from whp.result import PALETTE, Result
from whp.rl._latent_mdp import planning, selection
from whp.rl._latent_mdp import theorems as th
from whp.rl._latent_mdp.certify import certificates
from whp.rl._latent_mdp.learner import LatentMDPLearner
from whp.rl._latent_mdp.model import LatentMDP
from whp.rl._latent_mdp.planning import PlanResult
from whp.rl._latent_mdp.policy import Policy
from whp.rl._latent_mdp.selection import TestSelection
from whp.text import nearest, visible
from whp.validate import as_frame, as_rng

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["LatentMDPResult", "latent_mdp"]

MODEL = ("w", "nu", "P", "R")
REPEATED = 0.01  # share of copies among rows that are no accident
ON_ITS_OWN = 0.9  # share of different values from which a column of fractions tells rows apart
LEAST = 20  # different rows
SHOWN = 20  # rows of a plan on a screen


@dataclass(frozen=True, eq=False)
class LatentMDPResult(Result):
    """The best policy over histories, and what it is worth.

    Attributes
    ----------
    value : float
        What the policy earns in the model, on average: with a table the share of right labels.
    context_known : float
        What could be earned by somebody who is told the context.
    plan : PlanResult
        The policy, and whether it is exact.
    model : LatentMDP
        That was given or fitted.
    accuracy : Estimate or None
        Share of right labels in the half of the rows that was not fitted.
    majority : float or None
        Share of the commonest label in the half that was fitted.
    steps : DataFrame or None
        The plan of a table: what it asks or names after which results.
    curve : DataFrame or None
        Value and accuracy by number of tests.
    regret, regret_bound : float or None
        Of the learner, where `episodes` were asked for.
    """

    value: float
    context_known: float
    plan: PlanResult = field(repr=False)
    model: LatentMDP = field(repr=False)
    certificates: tuple[Certificate, ...]
    accuracy: Estimate | None = None
    majority: float | None = None
    steps: pd.DataFrame | None = field(repr=False, default=None)
    curve: pd.DataFrame | None = field(repr=False, default=None)
    rows: int = 0
    repeats: bool = False
    learner: LatentMDPLearner | None = field(repr=False, default=None)

    def summary(self) -> dict[str, bool | int | float | str | None]:
        """What the plan does first and earns, and what stands behind it."""
        M, S, A = self.model.shape
        exact = "exact" if self.plan.exact else f"at most {self.plan.gap:.4g} below the best"
        made: dict[str, bool | int | float | str | None]
        if self.steps is None:
            made = {"value": self.value, "with_the_context_known": self.context_known}
        else:
            assert self.accuracy is not None or self.curve is not None
            made = {
                "first": str(self.steps["does"].iloc[0]),
                "value_of_the_fitted_model": self.value,
                "with_the_label_known": self.context_known,
            }
            if self.accuracy is not None:
                made["right_of_rows_not_fitted"] = self.accuracy.value
                made["which_is_at_least"] = self.accuracy.low
            made["commonest_label"] = self.majority
            made["rows_not_fitted"] = self.rows
            made["asks_a_test_twice"] = self.repeats
        made |= {
            "plan": exact,
            "contexts": M,
            "states": S,
            "actions": A,
            "steps": self.model.horizon,
        }
        if self.learner is not None:
            regret = next(c for c in self.certificates if c.name in ("regret", "known-context"))
            made |= {
                "episodes_learnt": self.learner.n_episodes_,
                "regret_at_most": regret.bound,
                "regret": None if regret.measured is None else regret.measured.value,
            }
        return made

    def __rich__(self) -> Any:
        """The figures and, of a table, the plan: what it asks or names after which results."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        figures = super().__rich__()
        if self.steps is None:
            return figures
        table = Table("after", "it does", "share of units", box=None, padding=(0, 2, 0, 0))
        for row in self.steps.head(SHOWN).itertuples():
            cells = (str(row.after), str(row.does), f"{100 * float(str(row.share)):.1f} %")
            table.add_row(*(Text(visible(cell)) for cell in cells))
        left = len(self.steps) - SHOWN
        more = [Text(f"… and {left:,} rows more in plan.csv (--out)")] if left > 0 else []
        return Group(figures, Text(""), table, *more)

    def artifacts(self) -> dict[str, Any]:
        """The plan as a table and as nodes, and the model."""
        layers = self.plan.policy.layers
        nodes = {
            "state": np.concatenate([layer.state for layer in layers]),
            "action": np.concatenate([layer.action for layer in layers]),
            "nodes_of_a_step": np.array([len(layer.state) for layer in layers]),
            "root": self.plan.policy.root,
        }
        if sum(layer.child.size for layer in layers) <= 10_000_000:
            nodes["child"] = np.concatenate([layer.child for layer in layers])
        scale = self.model.reward_scale
        arrays = {
            "w": self.model.w,
            "nu": self.model.nu,
            "P": self.model.P,
            "R": self.model.R * scale,
        }
        made: dict[str, Any] = {"policy.npz": nodes, "model.npz": arrays}
        if self.steps is not None:
            made["plan.csv"] = self.steps
        if self.curve is not None:
            made["curve.csv"] = self.curve
        return made

    def draw(self, ax: Axes) -> None:
        """Value and accuracy by number of tests; of a model what knowing more is worth."""
        if self.curve is not None:
            rows = self.curve
            ax.plot(
                rows["tests"],
                rows["value"],
                "o--",
                color=PALETTE["quiet"],
                label="of the fitted model",
            )
            known = rows.dropna(subset=["accuracy"])
            if len(known):
                spread = np.abs(known[["low", "high"]].to_numpy().T - known["accuracy"].to_numpy())
                ax.errorbar(
                    known["tests"],
                    known["accuracy"],
                    spread,
                    fmt="o-",
                    capsize=3,
                    color=PALETTE["ours"],
                    label="rows not fitted",
                )
            ax.set(xlabel="tests asked at most", ylabel="share of right labels", ylim=(0, 1.02))
            ax.set_xticks(rows["tests"])
            ax.legend(frameon=False, loc="lower right")
            return
        names = ["plan over histories", "context known"]
        ax.barh(names, [self.value, self.context_known], color=[PALETTE["ours"], PALETTE["quiet"]])
        ax.invert_yaxis()
        ax.set_xlabel("earned an episode")


@front_door
def latent_mdp(
    data: Annotated[Any, Data("worlds")],
    *,
    context: str | None = None,
    features: tuple[str, ...] | None = None,
    bins: Annotated[int, Between(2, 100)] = 3,
    tests: Annotated[int, AtLeast(1)] = 6,
    queries: Annotated[int, AtLeast(0)] = 2,
    episode: str | None = None,
    test: str | None = None,
    result: str | None = None,
    on_missing: Literal["error", "drop"] = "error",
    horizon: Annotated[int, AtLeast(1)] | None = None,
    reward_scale: Annotated[float, Above(0)] | None = None,
    at_least: Annotated[float, Fraction()] | None = None,
    episodes: Annotated[int, AtLeast(0)] = 0,
    max_nodes: Annotated[int, AtLeast(1)] = planning.MAX_NODES,
    measure: bool = True,
    delta: Annotated[float, Fraction()] = 0.05,
    rng: np.random.Generator | int | None = None,
) -> LatentMDPResult:
    """Which test to ask next, or what to do next, where the type of the case comes to light afterwards.

    Parameters
    ----------
    data : DataFrame or mapping of str to ndarray
        A table with a unit a row and a column of labels: half of its rows fit a model, the others
        count how often the plan names the right label. Or a log with a row for each test that was
        done. Or a model: arrays w (M,), nu (M, S), P (M, S, A, S) and R (M, S, A).
    context : str, optional
        Column of labels; in a log, of the label, which one row of each episode holds.
    features : tuple of str, optional
        Columns that can be asked for; by default all others. Columns chosen after a look at all rows
        make accuracy look better than it is.
    bins : int
        Into how many results numbers are cut, at quantiles of the half that is fitted.
    tests : int
        Features that are offered: those that say most about the label in that half.
    queries : int
        Tests that may be asked of a unit.
    episode : str, optional
        Column of a log that says which episode a row belongs to; "episode" if not given.
    test : str, optional
        Column of a log that names the test that was done; "test" if not given.
    result : str, optional
        Column of a log that holds its result; "result" if not given.
    on_missing : {"error", "drop"}
        What to do with episodes of a log, or rows of a table, without a label.
    horizon : int, optional
        Steps of an episode of a given model.
    reward_scale : float, optional
        Most that an episode of a given model can earn; 1 if not given.
    at_least : float, optional
        Demand on the share of right labels; by default halfway from the commonest label's share to
        the fitted model's value, both of the half that is fitted.
    episodes : int
        Also learn from nothing, on so many episodes drawn from the model, with a certificate of
        regret.
    max_nodes : int
        Nodes times contexts of a step of the plan; beyond, the plan has a gap.
    measure : bool
        Count right labels in the other half, and compare learning with the best policy.
    delta : float
        Failure probability of each certificate that is not certain.
    rng : numpy.random.Generator, int or None
        Source of the halves, and of episodes.

    Returns
    -------
    LatentMDPResult

    Raises
    ------
    TypeError, ValueError
        If data are none of these, or an option does not go with them.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"fever": ["yes", "no"] * 20, "label": ["flu", "cold"] * 20})
    >>> found = latent_mdp(table, context="label", queries=1, rng=0)
    >>> found.steps["does"].tolist()
    ['ask fever', 'name cold', 'name flu']

    References
    ----------
    Zhou, Wang, Du (ICML 2023), arXiv 2210.11604.
    """
    random = as_rng(rng)
    if isinstance(data, Mapping):
        given = {
            "context": context,
            "features": features,
            "episode": episode,
            "test": test,
            "result": result,
            "at_least": at_least,
        }
        if wrong := [n for n, v in given.items() if v is not None]:
            raise ValueError(f"{wrong[0]} must go with a table, and data hold a model")
        return _known(data, horizon, reward_scale, episodes, max_nodes, measure, delta, random)
    table = as_frame(data)
    if not isinstance(table, pd.DataFrame):
        raise TypeError(
            f"data must be a table, or arrays {', '.join(MODEL)} by name, got {type(data).__name__}"
        )
    for name, value in {"horizon": horizon, "reward_scale": reward_scale}.items():
        if value is not None:
            raise ValueError(f"{name} must go with a model (w, nu, P, R), and data are a table")
    if context is None:
        raise ValueError(
            f"context must name the column of labels; data have {', '.join(map(str, table.columns[:10]))}"
        )
    log = {"episode": episode or "episode", "test": test or "test", "result": result or "result"}
    columns = [str(c) for c in table.columns]
    is_log = bool(episode or test or result) or set(log.values()) <= set(columns)
    if is_log:
        if features is not None:
            raise ValueError("features must go with a table that has a unit a row, not with a log")
        wide, labels, notes = selection.from_visits(
            table, log["episode"], log["test"], log["result"], context, on_missing == "drop"
        )
        raw = None
    else:
        wide, labels, notes = _features(table, context, features, on_missing == "drop")
        raw = wide
    names, y = _labels(labels)
    rows = selection.halved(y, random)
    found, more = selection.outcomes(wide, rows, bins, log=is_log)
    notes = (*notes, *more)
    fit = selection.fitted(found, y, len(names), rows, tests, notes)
    by_hand = features is not None
    made = _chosen(
        fit,
        names,
        y,
        ~rows,
        queries,
        by_hand,
        raw,
        at_least,
        episodes,
        max_nodes,
        measure,
        delta,
        random,
    )
    selection.warned(notes)
    return made


def _labels(labels: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    names, y = np.unique(labels.astype(str), return_inverse=True)
    y = y.ravel()
    if len(names) < 2:
        raise ValueError(f"all labels are {visible(str(names[0]))}: there is nothing to find out")
    if rare := [n for n, c in zip(names, np.bincount(y), strict=True) if c < 2]:
        raise ValueError(
            f"label {visible(str(rare[0]))} stands in one row alone: half of the rows cannot show it; "
            "leave it out, or put it together with another"
        )
    if len(names) > 1000:
        raise ValueError(f"there are {len(names):,} labels: is this the column of labels?")
    return tuple(map(str, names)), y


def _features(
    table: pd.DataFrame, context: str, features: tuple[str, ...] | None, drop: bool
) -> tuple[pd.DataFrame, np.ndarray, tuple[str, ...]]:
    """Features, labels as text, and what was left out."""
    frame = selection.named_apart(table)
    have = list(frame.columns)
    # Names may be given one by one or joined by commas.
    wanted = (
        None
        if features is None
        else [n for part in features for n in ([part] if part in have else part.split(","))]
    )
    for column in (context, *(wanted or ())):
        if column not in have:
            raise ValueError(
                f"data has no column {visible(column)!r}{nearest(column, have)}; it has "
                f"{', '.join(map(visible, have[:10]))}"
            )
    if wanted is not None and context in wanted:
        raise ValueError(f"features must not hold the column of labels {context!r}")
    notes: tuple[str, ...] = ()
    bare = frame[context].isna().to_numpy()
    if bare.any():
        if not drop:
            raise ValueError(
                f"row {int(bare.argmax()) + 1} has no {context}: leaving out rows without a label is "
                "a selection nobody can check (pass on_missing='drop' to do it and see it printed)"
            )
        notes = (f"{int(bare.sum())} of {len(bare)} rows have no label and were left out",)
        frame = frame[~bare]
    if not len(frame):
        raise ValueError(f"no row has a label in column {context!r}")
    labels = frame[context]
    number = pd.to_numeric(labels, errors="coerce")
    if labels.dtype.kind == "f" and (number == np.floor(number)).all():
        labels = number.astype(np.int64)  # 1.0 is 1
    kept = [c for c in have if c != context] if wanted is None else wanted
    if not kept:
        raise ValueError("no column is left that could be asked for")
    return frame[kept].reset_index(drop=True), labels.astype(str).to_numpy(dtype=object), notes


def _chosen(
    fit: selection.Fit,
    names: tuple[str, ...],
    y: np.ndarray,
    kept: np.ndarray,
    queries: int,
    by_hand: bool,
    raw: pd.DataFrame | None,
    at_least: float | None,
    episodes: int,
    max_nodes: int,
    measure: bool,
    delta: float,
    random: np.random.Generator,
) -> LatentMDPResult:
    """The plan for a fitted model, what it is worth there, and how often it is right elsewhere."""
    rows = []
    problem = plan = accuracy = None
    code = fit.tests.code[kept]
    for asked in range(queries + 1):
        problem = TestSelection.of(fit.w, fit.laws, names, asked)
        plan = problem.model.optimal(max_nodes=max_nodes)
        row: dict[str, Any] = {"tests": asked, "value": plan.value}
        accuracy = None
        if measure:
            accuracy = _counted(problem, plan.policy, code, y[kept], 1 - delta)
        ends = ("value", "low", "high")
        found = [np.nan if accuracy is None else getattr(accuracy, end) for end in ends]
        row |= dict(zip(("accuracy", *ends[1:]), found, strict=True))
        rows.append(row)
    assert problem is not None
    assert plan is not None
    majority = float(fit.w.max())
    demand = (majority + max(plan.value, majority)) / 2 if at_least is None else at_least
    answers = [
        th.SPLIT.unchecked("features were chosen by hand, perhaps after a look at all rows")
        if by_hand
        else th.SPLIT.by_construction("rows were parted before anything was looked at"),
        _distinct(raw, y),
        th.ROWS.unchecked("rows do not show where others come from, or which belong to one unit"),
    ]
    made = [
        _planned(plan, 1.0),
        th.accuracy(
            demand,
            majority,
            accuracy,
            answers,
            {
                "rows not fitted": int(kept.sum()),
                "commonest label": majority,
                "value of the fit": plan.value,
            },
        ),
    ]
    learner = None
    if episodes:
        learner = _learnt(problem.model, episodes, delta, random, problem.groups)
        made += certificates(learner, measure=measure)
    return LatentMDPResult(
        value=plan.value,
        context_known=problem.model.known_context(),
        plan=plan,
        model=problem.model,
        certificates=tuple(made),
        accuracy=accuracy,
        majority=majority,
        steps=problem.table(plan.policy, fit.tests.names, fit.tests.values),
        curve=pd.DataFrame(rows),
        rows=int(kept.sum()),
        repeats=problem.repeats(plan.policy),
        learner=learner,
    )


def _counted(
    problem: TestSelection, policy: Policy, code: np.ndarray, y: np.ndarray, level: float
) -> Estimate | None:
    """Share of right labels; None where the plan asks some unit for a test that was not done."""
    # A policy that runs out of steps without a name is wrong; one that lacks a result is unknown.
    named, _ = problem.play(policy, code)
    if (code < 0).any() and (named < 0).any():
        return None
    return proportion(int((named == y).sum()), len(y), level=level) if len(y) else None


def _distinct(raw: pd.DataFrame | None, y: np.ndarray) -> Answer:
    """Whether rows repeat each other, as those of one unit do."""
    if raw is None:
        return th.DISTINCT.unchecked("a log does not show which episodes are of one unit")
    numbers = raw.apply(pd.to_numeric, errors="coerce")
    once = numbers.drop_duplicates()  # copies must not hide that values tell rows apart
    own = [
        c
        for c in numbers.columns
        if numbers[c].notna().all()
        and (numbers[c] % 1 != 0).any()
        and once[c].nunique() >= ON_ITS_OWN * len(once)
    ]
    # In few rows, or of one column alone, each value that differs is a row that differs.
    if not own or len(once) < LEAST or numbers.shape[1] < 2:
        return th.DISTINCT.unchecked("no column tells rows apart by its values")
    exact, near = conditions.copies(numbers[own].to_numpy(dtype=float), y)
    why = f"{exact:.1%} of the rows repeat another one exactly, {near:.1%} nearly"
    if max(exact, near) > REPEATED:
        return th.DISTINCT.check(False, why)
    return th.DISTINCT.unchecked(f"{why}; rows of one unit that differ cannot be seen")


def _planned(plan: PlanResult, scale: float) -> Certificate:
    """The plan by its alpha vectors against the optimum by weights of histories."""
    lacking = plan.upper - plan.value
    return th.plan(
        lacking,
        plan.exact,
        plan.upper,
        scale,
        [th.TRUE_MODEL.unchecked("a model does not show what it was fitted to")],
        {"value of the plan": plan.value, "no policy above": plan.upper, "nodes": plan.n_nodes},
    )


def _learnt(
    model: LatentMDP, episodes: int, delta: float, random: np.random.Generator, groups: Any = None
) -> LatentMDPLearner:
    """A learner after so many episodes of a model."""
    from whp.rl._latent_mdp.simulation import Simulation

    learner = LatentMDPLearner(
        *model.shape,
        model.horizon,
        n_episodes=episodes,
        model=model,
        reward_table=model.R * model.reward_scale,
        reward_scale=model.reward_scale,
        groups=groups,
        possible=(model.P > 0).any(axis=0),
        starts=(model.nu > 0).any(axis=0),
        delta=delta,
        random_state=random,
    )
    return learner.fit(Simulation(model, random), episodes)


def _known(
    arrays: Mapping[str, Any],
    horizon: int | None,
    reward_scale: float | None,
    episodes: int,
    max_nodes: int,
    measure: bool,
    delta: float,
    random: np.random.Generator,
) -> LatentMDPResult:
    """The plan for a model that was given."""
    if missing := [n for n in MODEL if n not in arrays]:
        raise ValueError(
            f"data have no array {', '.join(missing)}; they hold {', '.join(map(str, arrays)) or 'nothing'}"
        )
    if strange := [str(n) for n in arrays if n not in (*MODEL, "horizon")]:
        warnings.warn(f"{', '.join(map(visible, strange))} left out", stacklevel=4)
    if horizon is None and "horizon" in arrays:
        horizon = int(np.asarray(arrays["horizon"]).ravel()[0])
    if horizon is None:
        raise ValueError("horizon must be given, the steps of an episode")
    scale = 1.0 if reward_scale is None else reward_scale
    model = LatentMDP(
        arrays["w"], arrays["nu"], arrays["P"], arrays["R"], horizon, reward_scale=scale
    )
    plan = model.optimal(max_nodes=max_nodes)
    made = [_planned(plan, scale)]
    learner = None
    if episodes:
        learner = _learnt(model, episodes, delta, random)
        made += certificates(learner, measure=measure)
    return LatentMDPResult(
        plan.value, model.known_context(), plan, model, tuple(made), learner=learner
    )
