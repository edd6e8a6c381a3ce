"""The front door: a table with environments in, a head that serves them all with certificates out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd

from whp.certificate import Answer, Certificate
from whp.conditions import same_law
from whp.door import Above, AtLeast, Fraction, front_door
from whp.invariance._pac_invariance import checks, search
from whp.invariance._pac_invariance import theorems as th
from whp.invariance._pac_invariance.environments import Environments, Metric, read
from whp.invariance._pac_invariance.minimax import residuals
from whp.invariance._pac_invariance.result import BINDS, InvarianceResult
from whp.invariance._pac_invariance.search import Fitted
from whp.invariance._pac_invariance.table import Table, build, hold_out
from whp.io import Data
from whp.validate import as_floats, as_sequence, as_vector, same_order

__all__ = ["certify_moments", "certify_representation", "pac_invariance"]

ALIKE = 0.01  # p-value above which environments look like parts of one population
UNKNOWN_DRAWS = (
    "data cannot show it; if environments come in groups (months, chains, batches), pass blocks=, and "
    "if they have an order, order="
)
UNKNOWN_CHOICE = (
    "data cannot show that no environment was left out because of its result; if head or features saw "
    "these environments the bound is void"
)


@front_door
def pac_invariance(
    X: Annotated[Any, Data("matrix")],
    y: Annotated[Any, Data("vector", column="target")],
    env: Annotated[Any, Data("ids")],
    *,
    eps: Annotated[float, Above(0)] | None = None,
    metric: Metric = "excess",
    subsets: Literal["all", "forward"] | Sequence[Sequence[int | str]] = "all",
    max_size: Annotated[int, AtLeast(1)] | None = None,
    delta: Annotated[float, Fraction()] = 0.05,
    center: bool = True,
    test_env: Annotated[float, Fraction()] | Sequence[Any] | None = None,
    blocks: Annotated[Any, Data("ids")] = None,
    min_rows: Annotated[int, AtLeast(3)] | None = None,
    order: Annotated[Any, Data("vector")] = None,
    rng: np.random.Generator | int | None = None,
) -> InvarianceResult:
    """Find columns and a linear head that serve all environments, and bound what a new one loses by it.

    Parameters
    ----------
    X : array_like or data frame, shape (n, p)
        Numbers; text must have become numbers before.
    y : array_like, shape (n,)
        Target.
    env : array_like, shape (n,)
        The environment of each row (hospital, site, month), compared as labels. None deals the rows
        into folds, of which nothing is certified.
    eps : float, optional
        Choose among subsets whose largest residual is at most this; by default among all.
    metric : {"excess", "excess_residual", "gradient"}
        Residual of an environment: root of the share of its target's variance that the head loses
        against the environment's own best head; the same in units of its noise, with a certificate of
        true values; or the length of its normal equations, which depends on units.
    subsets : {"all", "forward"} or sequence of sequences
        All subsets (of 12 columns, or small ones of more: at most 8,000), one column at a time, or those
        listed by number or name. The one that explains most is chosen.
    max_size : int, optional
        Largest subset that is tried; by default all columns.
    delta : float
        Failure probability of each certificate, shared by all subsets that are tried.
    center : bool
        Whether each environment has an intercept of its own, so that its mean may shift; else one
        common intercept counts as a column.
    test_env : float or sequence, optional
        Share of the environments (of the blocks, where given) that is held out at random to measure,
        or the labels of those to hold out; by default none.
    blocks : array_like, shape (n,), optional
        What makes environments alike (chain, month, batch): environments of one block are one draw,
        and a new block is promised as a whole.
    min_rows : int, optional
        Leave out environments with fewer rows, and speak of others only; by default they are refused.
    order : array_like or mapping, optional
        When each environment was observed, to test for drift: a number a row that is constant within an
        environment, one an environment in the order of sorted labels, or a mapping from labels.
    rng : numpy.random.Generator, int or None
        Source of randomness of the split.

    Returns
    -------
    InvarianceResult

    Raises
    ------
    TypeError, ValueError
        If an argument is not what is accepted; the message names it, and column and environment.

    References
    ----------
    A. Parulekar, K. Shanmugam, S. Shakkottai. PAC Generalization via Invariant Representations. ICML
    2023. arXiv:2205.15196.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> env = np.repeat(np.arange(100), 50)
    >>> x = rng.standard_normal(5000) * np.exp(0.5 * rng.standard_normal(100))[env]
    >>> y = x + rng.standard_normal(5000)
    >>> effect = y * rng.standard_normal(100)[env] + rng.standard_normal(5000)
    >>> found = pac_invariance(np.column_stack([x, effect]), y, env, eps=0.3, test_env=0.5, rng=0)
    >>> found.support
    (0,)
    """
    _refuse_other_orders(X=X, y=y, env=env, blocks=blocks, order=order)
    rows = read(X, y)
    p = rows.X.shape[1]
    if isinstance(subsets, str):
        given = None
        largest = min(p, max_size or p)
        if max_size is not None and max_size > p:
            raise ValueError(f"max_size must be at most {p}, the columns of X, got {max_size}")
        if subsets == "all" and search.number(p, largest) > search.MOST:
            raise ValueError(
                f"subsets 'all' of {p} columns are {search.number(p, largest):,}, more than "
                f"{search.MOST:,}; pass subsets='forward', or a smaller max_size"
            )
    else:
        given = search.as_subsets(subsets, rows.names, max_size)
        largest = max(map(len, given))
    table = build(rows, env, blocks, order, min_rows, largest, center)
    held, how = hold_out(table, test_env, rng)
    every = table.moments(center)
    fitted, other = every.take(~held), every.take(held)
    path: list[Fitted]
    if subsets == "forward":
        path = search.forward(fitted, p, largest, metric, delta, eps)
        searched = search.number(p, largest)
    else:
        wanted = given if given is not None else search.every(p, largest)
        searched = len(wanted)
        path = search.fit(fitted, wanted, metric, lambda _: delta / searched)
    chosen = search.best(path, eps)
    frame = search.frame(path, rows.names, fitted.draws, center, eps)
    told = [*table.notes]
    if chosen is None:
        least = min(path, key=lambda f: f.epsilon)
        told.append(
            f"no subset has epsilon at most {eps:g}; the smallest is {least.epsilon:.4g}, of "
            f"{', '.join(rows.names[j] for j in least.subset)}"
        )
        return _nothing(table, fitted, other, frame, delta, told)
    return _certified(
        table,
        fitted,
        other,
        chosen,
        frame,
        metric,
        delta,
        searched,
        None,
        how,
        _fixed(None, table),
        told,
    )


@front_door
def certify_representation(
    features: Any,
    y: Any,
    env: Any,
    *,
    head: Any = None,
    learnt_on: Sequence[Any] | None = None,
    metric: Metric = "excess",
    delta: Annotated[float, Fraction()] = 0.05,
    test_env: Annotated[float, Fraction()] | Sequence[Any] | None = None,
    blocks: Any = None,
    center: bool = True,
    rng: np.random.Generator | int | None = None,
) -> InvarianceResult:
    """The certificates of a representation, or of a whole predictor, that was learnt elsewhere.

    Parameters
    ----------
    features : array_like, shape (n, k)
        Of any kind: the last layer of a network, columns of IRM.
    y, env : array_like, shape (n,)
        Target, and environment of each row.
    head : array_like, shape (k,), optional
        Coefficients of the features; with ``center=False`` a last one of the intercept. By default the
        minimax head of these environments.
    learnt_on : sequence, optional
        Labels of the environments that features or head were learnt on; those that are also here void
        the certificates.
    metric, delta, test_env, blocks, center, rng
        As in :func:`pac_invariance`.

    Returns
    -------
    InvarianceResult
    """
    _refuse_other_orders(features=features, y=y, env=env, blocks=blocks)
    rows = read(features, y)
    k = rows.X.shape[1]
    if env is None:
        raise TypeError("env must be given: a label a row")
    table = build(rows, env, blocks, None, None, k, center)
    held, how = hold_out(table, test_env, rng)
    every = table.moments(center)
    fitted, other = every.take(~held), every.take(held)
    subset = tuple(range(k))
    if head is None:
        chosen = search.fit(fitted, [subset], metric, lambda _: delta)[0]
    else:
        raw = as_vector(head, "head", size=k + (not center), dtype=np.float64)
        chosen = _given(fitted, subset, raw, metric, delta)
    frame = search.frame([chosen], rows.names, fitted.draws, center, None)
    fixed = _fixed(learnt_on, table)
    return _certified(
        table, fitted, other, chosen, frame, metric, delta, 1, head, how, fixed, [*table.notes]
    )


@front_door
def certify_moments(
    Sigma: Any,
    c: Any,
    head: Any,
    eps: Annotated[float, Above(0)] | None = None,
    *,
    sites: tuple[int, int] | None = None,
    delta: Annotated[float, Fraction()] = 0.05,
    held_out: Sequence[Any] | None = None,
) -> Certificate:
    """The theorem for all heads at once, of covariances that are known exactly.

    A covariance that was estimated from rows is not in the family that `sites` describes.

    Parameters
    ----------
    Sigma : array_like, shape (m, k, k)
        Covariance of the representation in each environment.
    c : array_like, shape (m, k)
        Its covariance with the target.
    head : array_like, shape (k,)
        Coefficients, however found.
    eps : float, optional
        What the length of the normal equations is held against, at least the largest of them; by
        default that.
    sites : (int, int), optional
        Environments differ by interventions at so many places with so many parents each.
    delta : float
        Failure probability.
    held_out : (array_like, array_like), optional
        Sigma and c of other environments, to measure.

    Returns
    -------
    Certificate
        ``uniform-moments``.
    """
    S, b = _moments(Sigma, c, "Sigma", "c")
    k = b.shape[1]
    w = as_vector(head, "head", size=k, dtype=np.float64)
    other = (np.empty((0, k, k)), np.empty((0, k)))
    if held_out is not None:
        pair = as_sequence(held_out, "held_out")
        if len(pair) != 2:
            raise ValueError(f"held_out must be a pair, Sigma and c, got {len(pair)} arrays")
        other = _moments(pair[0], pair[1], "held_out[0]", "held_out[1]")
        if other[1].shape[1] != k:
            raise ValueError(f"held_out must have {k} columns, got {other[1].shape[1]}")
    held = _off(other[0], other[1], w, "held_out")
    off = _off(S, b, w, "Sigma, c")
    rounding = 1e-12 * float((np.linalg.norm(S, axis=(1, 2)) * np.linalg.norm(w)).max())
    largest = th.largest(off, rounding)
    if eps is not None and eps < off.max():
        raise ValueError(f"eps must be at least {off.max():.6g}, the largest of these environments")
    if sites is not None:
        pair = as_sequence(sites, "sites")
        if len(pair) != 2 or any(not isinstance(v, int | np.integer) or v < 1 for v in pair):
            raise ValueError(
                f"sites must be two whole numbers from 1: places and parents, got {sites}"
            )
        sites = (int(pair[0]), int(pair[1]))
    answers = {
        th.INDEPENDENT.name: th.INDEPENDENT.unchecked("moments do not show how they were drawn"),
        th.SAME_LAW.name: th.SAME_LAW.unchecked(th.VOUCHES),
        th.FIXED.name: th.FIXED.unchecked(UNKNOWN_CHOICE),
        th.SEM.name: th.SEM.unchecked(
            "moments do not show what model they are of, nor that they are exact"
        ),
    }
    return th.moments(
        off,
        np.linalg.norm(b, axis=1),
        held,
        largest if eps is None else eps,
        k,
        sites,
        delta,
        answers,
    )


def _off(S: np.ndarray, b: np.ndarray, w: np.ndarray, what: str) -> np.ndarray:
    """Length of the normal equations, refused beyond floats: a comparison with NaN would pass for "not above"."""
    with np.errstate(over="ignore", invalid="ignore"):
        off = np.linalg.norm(S @ w - b, axis=1)
    if not np.isfinite(off).all():
        raise ValueError(f"{what} and head have products beyond floats; rescale them")
    return off


def _moments(Sigma: Any, c: Any, first: str, second: str) -> tuple[np.ndarray, np.ndarray]:
    S, b = as_floats(Sigma, first), as_floats(c, second)
    if b.ndim != 2 or S.shape != (*b.shape, b.shape[1]) or not b.size:
        raise ValueError(
            f"{first} and {second} must have shapes (m, k, k) and (m, k), got {S.shape} and {b.shape}"
        )
    for name, array in ((first, S), (second, b)):
        if not np.isfinite(array).all():
            raise ValueError(f"{name} must be finite")
    size = np.abs(S).max(axis=(1, 2))
    if (np.abs(S - S.swapaxes(1, 2)).max(axis=(1, 2)) > 1e-9 * size).any():
        raise ValueError(f"{first} must hold symmetric matrices")
    if (np.linalg.eigvalsh(S)[:, 0] < -1e-9 * size).any():
        raise ValueError(f"{first} must hold covariances, which have no negative eigenvalue")
    return S, b


def _refuse_other_orders(**tables: Any) -> None:
    """Refuse tables whose labels are those of the first in another order; a number an environment has its own."""
    rows = getattr(next(iter(tables.values())), "shape", ())[:1]
    same = {k: t for k, t in tables.items() if rows and getattr(t, "shape", ())[:1] == rows}
    if len(same) > 1:
        same_order(**same)


def _fixed(learnt_on: Sequence[Any] | None, table: Table) -> Answer:
    if learnt_on is None:
        return th.FIXED.unchecked(UNKNOWN_CHOICE)
    known = set(map(_spelling, table.labels))
    both = [v for v in as_sequence(learnt_on, "learnt_on") if _spelling(v) in known]
    if both:
        return th.FIXED.check(
            False,
            f"learnt on {both[0]!r}"
            + (f" and {len(both) - 1} others of these" if both[1:] else ""),
        )
    return th.FIXED.unchecked(
        "learnt on other environments, as was said; the rest data cannot show"
    )


def _spelling(label: Any) -> str:
    """One text for a label, however a file or a list has it: 3, 3.0 and "3"; a day and its midnight."""
    if isinstance(label, bytes):
        label = label.decode(errors="replace")
    text = str(pd.Timestamp(label) if isinstance(label, np.datetime64) else label).strip()
    try:
        number = float(text)
    except ValueError:
        return text.removesuffix(" 00:00:00")
    return str(int(number)) if abs(number) < 2**53 and number == int(number) else text


def _given(
    environments: Environments,
    subset: tuple[int, ...],
    head: np.ndarray,
    metric: Metric,
    delta: float,
) -> Fitted:
    """A head that was given, in scaled columns, with its residuals."""
    w = head[: len(subset)] * environments.scale / environments.scale_y
    if not environments.center:
        at = head[-1] + float(environments.shift @ head[:-1]) - environments.shift_y
        w = np.append(w, at / environments.scale_y)
    S = np.array([subset])
    M, z, pivots = environments.problem(S, metric)
    found = residuals(M, z, w[None])[0]
    unit = float(np.linalg.norm(z[0], axis=1).max()) if metric == "gradient" else 1.0
    E, own, _ = environments.problem(S, "excess")
    excess = residuals(E, own, w[None])[0]
    r2 = ((own[0] ** 2).sum(axis=1) + 1 - environments.total - excess**2).mean()
    sound = bool(pivots[0] > search.PIVOT)
    return Fitted(subset, w, found, search.limit(found, unit), 0.0, unit, float(r2), sound, delta)


def _residuals(
    environments: Environments, subset: tuple[int, ...], w: np.ndarray, metric: Metric
) -> np.ndarray:
    if not len(environments):
        return np.empty(0)
    M, z, _ = environments.problem(np.array([subset]), metric)
    found = residuals(M, z, w[None])[0]
    if not np.isfinite(found).all():  # a comparison with NaN would pass for "not above"
        label = environments.labels[int(np.argmax(~np.isfinite(found)))]
        raise ValueError(f"X and y of environment {label!r} are beyond floats; rescale or drop it")
    return found


def _certified(
    table: Table,
    fitted: Environments,
    other: Environments,
    chosen: Fitted,
    frame: pd.DataFrame,
    metric: Metric,
    delta: float,
    searched: int,
    head: Any,
    how: Answer | None,
    fixed: Answer,
    told: list[str],
) -> InvarianceResult:
    """The result of one subset and head, with all certificates."""
    subset, w = np.array(chosen.subset), chosen.w
    epsilon = chosen.epsilon
    held = _residuals(other, chosen.subset, w, metric)
    zero = fitted.zero(len(subset))
    of_zero = _residuals(fitted, chosen.subset, zero, metric)
    q0 = float((fitted.of_blocks(of_zero) > epsilon).mean())
    exceed = held > epsilon
    spread = _constants(fitted, chosen)
    p = checks.heterogeneity(fitted, subset)
    binding = np.flatnonzero(chosen.residuals >= (1 - BINDS) * chosen.residuals.max())
    if p > ALIKE and len(fitted) > 1:
        told.append(
            f"these environments look like random parts of one population (p = {p:.2g}): the certificates "
            "say nothing about a real change"
        )
    if fitted.center and spread[2] > 0.5:
        told.append(
            f"intercepts of the environments spread by {spread[2]:.2g} standard deviations of the target; the "
            "certificates are about the head up to them (center=False for one intercept)"
        )
    inputs: dict[str, Any] = {
        "epsilon of saying nothing": float(of_zero.max()),
        "rows of binding environments": ", ".join(str(int(n)) for n in fitted.sizes[binding][:6]),
        "environments differ, p": p,
        "spread of intercepts, sd of the target": spread[2],
    }
    if table.min_rows is not None:
        inputs["environments with at least so many rows"] = table.min_rows
    if len(held):
        inputs["residuals held out as fitted, p (they are larger)"] = same_law(
            chosen.residuals, held
        ).p
    evidence = th.Evidence(
        draws=fitted.draws,
        size=len(w),
        variables=1 if head is not None else len(w) + 1,
        delta=delta,
        share=chosen.delta,
        searched=searched,
        epsilon=epsilon,
        trivial=q0,
        held_out=other.draws if len(other) else 0,
        exceed=int(other.of_blocks(exceed.astype(float)).sum()) if len(other) else 0,
        rows=(int(fitted.sizes.min()), int(fitted.sizes.max())),
        answers=_answers(table, fitted, other, chosen, head, how, fixed, metric),
        unit=table.unit,
        metric=metric,
        inputs=inputs,
    )
    certificates = [th.scenario(evidence)]
    if how is not None:
        nothing = _residuals(other, chosen.subset, zero, metric) > epsilon
        certificates.append(th.split(evidence, float(other.of_blocks(nothing.astype(float)).sum())))
    if not table.blocked:  # the worst environment of a block is no set of this VC dimension
        certificates.append(
            th.uniform(
                evidence,
                fitted.standard_gradient(subset, w),
                fitted.standard_gradient(subset, zero),
                other.standard_gradient(subset, w) if len(other) else np.empty(0),
            )
        )
    if metric == "excess_residual" and fitted.center and not table.blocked:
        certificates.append(th.population(evidence, of_zero))
    coef = w[: len(subset)] * fitted.scale_y / fitted.scale[subset]
    return InvarianceResult(
        support=chosen.subset,
        names=tuple(table.rows.names[j] for j in chosen.subset),
        coef=coef,
        intercept=spread[0],
        intercept_spread=spread[1],
        intercept_spread_in_sd=spread[2],
        epsilon=epsilon,
        trivial_epsilon=float(of_zero.max()),
        eta=evidence.eta,
        r2=chosen.r2,
        heterogeneity_p=p,
        residuals=pd.Series(chosen.residuals, index=pd.Index(fitted.labels), name="residual"),
        held_out_residuals=pd.Series(held, index=pd.Index(other.labels), name="residual"),
        binding=tuple(fitted.labels[e] for e in binding),
        path=frame,
        certificates=tuple(certificates),
        message="; ".join(told),
        columns=table.rows.X.shape[1],
        features=table.rows.names,
    )


def _constants(fitted: Environments, chosen: Fitted) -> tuple[float, float, float]:
    """Intercept, and the deviation of the environments' own, in the target's unit and in its deviations."""
    S = np.array(chosen.subset)
    slopes = chosen.w[: len(S)]
    own = fitted.mean_y - fitted.mean_x[:, S] @ slopes
    at = own.mean() if fitted.center else chosen.w[-1]
    coef = slopes * fitted.scale_y / fitted.scale[S]
    intercept = at * fitted.scale_y + fitted.shift_y - float(fitted.shift[S] @ coef)
    n = fitted.sizes
    mean = float(np.average(fitted.mean_y, weights=n))
    sd = math.sqrt(float(np.average(fitted.variance + (fitted.mean_y - mean) ** 2, weights=n)))
    return float(intercept), float(own.std() * fitted.scale_y), float(own.std() / sd)


def _answers(
    table: Table,
    fitted: Environments,
    other: Environments,
    chosen: Fitted,
    head: Any,
    how: Answer | None,
    fixed: Answer,
    metric: Metric,
) -> dict[str, Answer]:
    subset = np.array(chosen.subset)
    if not table.given:
        independent = th.INDEPENDENT.check(False, "no environments were given", remedy="give env.")
    elif table.too_many_shared:
        independent = th.INDEPENDENT.check(
            False,
            f"{table.shared:.0%} of their rows are also in another {table.unit}, by all columns or by one "
            "and the target",
        )
    elif table.order is not None:
        where = {v: i for i, v in enumerate(table.labels)}
        when = table.order[[where[v] for v in fitted.labels]]
        test = checks.drift(fitted, subset, chosen.w, when)
        independent = th.INDEPENDENT.tested(test.p, checks.LEVEL, test.sees)
    else:
        independent = th.INDEPENDENT.unchecked(UNKNOWN_DRAWS)
    numbers = np.concatenate([e.condition(subset) for e in (fitted, other) if len(e)])
    labels = [*fitted.labels, *other.labels]
    at = int(numbers.argmax())
    posed = th.WELL_POSED.check(
        numbers[at] <= th.CONDITION_NUMBER,
        f"the largest condition number is {numbers[at]:.3g}, of {', '.join(table.rows.names[j] for j in subset)} "
        f"in environment {labels[at]!r}",
    )
    if head is not None:
        optimum = th.OPTIMUM.by_construction(
            "the head was given: epsilon alone was fitted, exactly"
        )
    else:
        optimum = th.OPTIMUM.check(
            chosen.gap <= th.OPTIMAL, f"duality gap {chosen.gap:.2g} of epsilon"
        )
    answers = {
        th.INDEPENDENT.name: independent,
        th.SAME_LAW.name: th.SAME_LAW.unchecked(th.VOUCHES),
        th.WELL_POSED.name: posed,
        th.FIXED.name: fixed,
        th.OPTIMUM.name: optimum,
    }
    if how is not None:
        answers[th.SPLIT_HERE.name] = how
    if metric == "excess_residual":
        held = np.isin(
            table.codes, [i for i, v in enumerate(table.labels) if v in set(fitted.labels)]
        )
        codes = np.unique(table.codes[held], return_inverse=True)[1]
        rows = replace(table.rows, X=table.rows.X[held], y=table.rows.y[held])
        test = checks.gaussian(rows, codes, chosen.subset)
        answers[th.GAUSSIAN.name] = th.GAUSSIAN.tested(test.p, checks.LEVEL, test.sees)
    return answers


def _nothing(
    table: Table,
    fitted: Environments,
    other: Environments,
    frame: pd.DataFrame,
    delta: float,
    told: list[str],
) -> InvarianceResult:
    """No subset is admissible: the empty one is invariant whatever the data say, and its certificate vacuous."""
    empty = np.empty(0)
    fixed = _fixed(None, table)
    evidence = th.Evidence(
        draws=fitted.draws,
        size=0,
        variables=1,
        delta=delta,
        share=delta,
        searched=len(frame),
        epsilon=0.0,
        trivial=0.0,
        held_out=0,
        exceed=0,
        rows=(int(fitted.sizes.min()), int(fitted.sizes.max())),
        answers={
            th.INDEPENDENT.name: th.INDEPENDENT.unchecked(UNKNOWN_DRAWS),
            th.SAME_LAW.name: th.SAME_LAW.unchecked(th.VOUCHES),
            th.WELL_POSED.name: th.WELL_POSED.by_construction("no column was chosen"),
            th.FIXED.name: fixed,
            th.OPTIMUM.name: th.OPTIMUM.by_construction("no column was chosen"),
        },
        unit=table.unit,
    )
    theorem = replace(th.SCENARIO, remedy=told[-1] + "; give a larger eps, or more columns.")
    certificate = theorem(
        bound=1.0,
        confidence=1 - delta,
        trivial=0.0,
        answers=evidence.of(th.SCENARIO),
        inputs=evidence.shown(),
    )
    mean = fitted.mean_y * fitted.scale_y + fitted.shift_y
    return InvarianceResult(
        support=(),
        names=(),
        coef=empty,
        intercept=float(mean.mean()),
        intercept_spread=float(mean.std()),
        intercept_spread_in_sd=float(fitted.mean_y.std()),
        epsilon=0.0,
        trivial_epsilon=0.0,
        eta=1.0,
        r2=0.0,
        heterogeneity_p=1.0,
        residuals=pd.Series(np.zeros(len(fitted)), index=pd.Index(fitted.labels), name="residual"),
        held_out_residuals=pd.Series(
            np.zeros(len(other)), index=pd.Index(other.labels), name="residual"
        ),
        binding=(),
        path=frame,
        certificates=(certificate,),
        message="; ".join(told),
        columns=table.rows.X.shape[1],
        features=table.rows.names,
    )
