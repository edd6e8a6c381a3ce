"""The front door: a table of worlds in; how to answer, what leaks and what it costs out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd

from whp.door import AtLeast, Fraction, front_door
from whp.intervals import Estimate
from whp.io import Data
from whp.llm._information_censorship import theorems as th
from whp.llm._information_censorship.attack import greedy
from whp.llm._information_censorship.certify import Setting, certify
from whp.llm._information_censorship.leakage import (
    Kind,
    Measure,
    TooMany,
    Truth,
    plain,
    sampled,
    subset_terms,
    subsets,
)
from whp.llm._information_censorship.mechanism import (
    Calibrate,
    Censor,
    any_prior,
    calibrated,
    filters,
    given,
    leaked,
    output,
)
from whp.llm._information_censorship.price import utility
from whp.llm._information_censorship.result import CensorshipResult
from whp.llm._information_censorship.system import System, looks_like_a_sample, named, read_system
from whp.validate import as_frame, as_rng

__all__ = ["information_censorship"]

SETS = 12  # questions up to which every set is looked at
STEPS = 12  # of the attack
LARGEST = 1 << 27  # entries of a channel, 1 GB


@front_door
def information_censorship(
    table: Annotated[Any, Data("worlds")],
    target: str | Sequence[Any] | np.ndarray | pd.Series = "target",
    *,
    prior: str | Sequence[Any] | np.ndarray | pd.Series | None = None,
    ask: str | Sequence[Any] | None = None,
    impermissible: str | Sequence[Any] = "all",
    eps: Annotated[float, AtLeast(0)] = 0.1,
    k: Annotated[int, AtLeast(1)] | None = None,
    mechanism: Literal["erase", "krr", "filter", "none"] | Sequence[np.ndarray] = "erase",
    calibrate: Calibrate = "universal",
    kind: Kind = "expected",
    lam: Annotated[float, AtLeast(1e-6)] = 1.0,
    truth: Truth = "average",
    benign: str | Sequence[Any] | np.ndarray | pd.Series | None = None,
    priors: Literal["any"] | Sequence[np.ndarray] | None = None,
    rows: Literal["universe", "sample"] = "universe",
    max_cells: Annotated[int, AtLeast(1)] = 2_000_000,
    n_mc: Annotated[int, AtLeast(2)] = 20_000,
    delta: Annotated[float, Fraction()] = 0.05,
    measure: bool = True,
    rng: np.random.Generator | int | None = None,
) -> CensorshipResult:
    """Answer questions so that no chain of them gives away more than a budget of what is refused.

    Parameters
    ----------
    table : DataFrame, array_like of shape (W, J), or list or mapping of array_like of shape (W, Y_j)
        Rows are worlds (patients, elements, hypotheses), columns are questions; every distinct value, a missing one too, is a
        response. Or arrays P(response | world), one a question, each row summing to 1; in an npz archive beside an array
        called as `target` says.
    target : str or array_like, shape (W,)
        What must not become inferable: its answer in each world, or the column that holds it.
    prior : str or array_like, shape (W,), optional
        Weights of the worlds, or their column; all alike by default.
    ask : str or sequence of str, optional
        The questions that may be asked, with commas between; all other columns by default.
    impermissible : str or sequence, optional
        The answers of the target that must stay hidden, "all" by default.
    eps : float
        Budget in nats.
    k : int, optional
        Questions that one adversary may ask, all by default.
    mechanism : {"erase", "krr", "filter", "none"} or list of ndarray of shape (Y_j, Z_j)
        Erase answers at random; swap them at random; refuse questions whose own leakage is above ε/k, which bounds nothing;
        nothing; or own matrices P(returned | response).
    calibrate : {"universal", "answers", "exact"}
        For whatever system answers; for whatever is asked of this table; or for the exact leakage of the best adaptive
        adversary, which answers most and rests on the table.
    kind : {"expected", "pointwise", "exponential"}
        Mean, largest, or exponential leakage.
    lam : float
        λ of the exponential leakage; towards 0 it is the expected one.
    truth : {"average", "worst"}
        Mean over the prior, or in the worst world.
    benign : str or array_like, shape (W,), optional
        What an honest user wants to know, for the price.
    priors : "any" or sequence of array_like of shape (W,), optional
        Priors that adversaries may have instead of `prior`, of which the worst counts.
    rows : {"universe", "sample"}
        Whether the rows are all worlds, or drawn from a population, of which only the universal bound then speaks.
    max_cells : int
        Histories that are summed exactly; beyond, they are sampled.
    n_mc : int
        Histories that are sampled.
    delta : float
        Failure probability of the interval of sampled leakage.
    measure : bool
        Compute what is returned leaks; without it the bounds stand unmeasured.
    rng : None, int or Generator
        Source of sampled histories.

    Returns
    -------
    CensorshipResult

    Raises
    ------
    ValueError
        If something is missing, is no probability, or cannot be combined; the message names it.

    References
    ----------
    Glukhov, Han, Shumailov, Papyan, Papernot (ICLR 2025), arXiv 2407.02551.

    Examples
    --------
    >>> bits = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    >>> made = information_censorship(bits, [0, 1, 1, 0], eps=0.01, calibrate="exact")
    >>> round(made.strength, 4), round(made.leakage_uncensored, 4)
    (0.1201, 0.6931)
    """
    table = as_frame(table)
    if prior is None and isinstance(table, dict) and "prior" in table:
        prior = "prior"
    wanted = None if benign is None else _benign(table, benign)
    if isinstance(benign, str) and ask is None:
        ask = [c for c in map(str, table) if c not in (benign, target, prior)]
    system = read_system(table, target, prior, ask)
    if rows == "universe" and prior is None:
        looks_like_a_sample(system)
    _not_ids(system)
    mask = named(impermissible, system.names)
    how = Measure(mask, kind, truth, lam)
    J = len(system.sizes)
    k = J if k is None else k
    if k > J:
        raise ValueError(f"k must be at most the {J} questions, got {k}")
    _refuse(mechanism, calibrate, kind, lam, truth, priors, rows, k, J)
    systems = _believed(table, target, prior, ask, priors, system)
    censor, matrices, ceiling = _censor(
        systems, system, how, mechanism, calibrate, eps, k, priors, max_cells
    )
    seen = as_rng(rng)
    benefit = None
    if wanted is not None:
        if len(wanted) != system.height:
            raise ValueError(
                f"benign must have one entry a world ({system.height}), got {len(wanted)}"
            )
        benefit = wanted[systems[0].rows]

    measured = (
        _measured(systems, matrices, k, how, max_cells, n_mc, delta, seen) if measure else None
    )
    identity = [np.eye(size) for size in system.sizes]
    uncensored = _without(systems, identity, k, how, max_cells, ceiling)
    filtered = filters(systems[0], how, eps / k, max_cells)
    own = [max(plain(systems[0].only([j]), how, max_cells), 0.0) for j in range(J)]
    per_question = _per_question(systems[0], matrices, how, own)
    trace = _trace(systems[0], matrices, filtered, how, k, own, max_cells)
    setting = Setting(systems, matrices, how, k, eps, ceiling, max_cells, censor)
    certificates = certify(
        setting,
        measured,
        uncensored,
        calibrate=calibrate,
        any_prior=isinstance(priors, str),
        sample=rows == "sample",
        benign=benefit,
    )
    spent = utility(systems[0], matrices, k, benefit, max_cells)
    few = J <= SETS and math.prod(s + 1 for s in system.sizes) <= max_cells
    sets: dict[tuple[str, ...], float] = {}
    if few and kind == "expected" and truth == "average":
        found = subsets(subset_terms(systems[0], how)[0])
        sets = {tuple(system.questions[j] for j in S): max(v, 0.0) for S, v in found.items() if S}
    return CensorshipResult(
        mechanism if isinstance(mechanism, str) else "given",
        eps,
        k,
        None if censor is None else censor.strength,
        None if measured is None else measured.value,
        uncensored,
        ceiling,
        certificates,
        per_question,
        sets,
        spent,
        trace,
        censor,
        len(system.prior),
        system.notes,
    )


def _not_ids(system: System) -> None:
    """Refuse questions whose channel no memory holds, worlds times what can be returned."""
    for question, size in zip(system.questions, system.sizes, strict=True):
        if len(system.prior) * (size + 1) > LARGEST:
            raise ValueError(
                f"ask: {question!r} has {size:,} responses in {len(system.prior):,} worlds; leave it out if it is an id, else "
                "give it fewer responses"
            )


def _benign(table: Any, benign: Any) -> np.ndarray:
    """What the honest user wants to know, as a number in each row."""
    if isinstance(benign, str):
        names = [str(c) for c in table] if hasattr(table, "keys") else []
        if benign not in names:
            raise ValueError(
                f"benign: no column {benign!r}; there are {', '.join(names) or 'none'}"
            )
        values = np.asarray(table[list(table)[names.index(benign)]])
    else:
        values = np.asarray(as_frame(benign))
    if values.ndim != 1:
        raise ValueError(f"benign must have one entry a world, got shape {values.shape}")
    return np.unique(values.astype(str), return_inverse=True)[1].ravel()


def _refuse(
    mechanism: Any,
    calibrate: str,
    kind: str,
    lam: float,
    truth: str,
    priors: Any,
    rows: str,
    k: int,
    J: int,
) -> None:
    """Combinations that mean nothing."""
    own = not isinstance(mechanism, str) or mechanism in ("filter", "none")
    if own and calibrate != "universal":
        raise ValueError("calibrate must be left out but for mechanism 'erase' and 'krr'")
    if own and isinstance(priors, str):
        raise ValueError("priors='any' must go with mechanism 'erase' or 'krr'")
    if kind != "exponential" and lam != 1.0:
        raise ValueError("lam must be left out but for kind='exponential'")
    if kind == "pointwise" and mechanism == "erase":
        raise ValueError(
            "kind='pointwise' must go with mechanism='krr': a returned answer leaks all of it"
        )
    if kind == "pointwise" and truth == "worst":
        raise ValueError("truth must be 'average' with kind='pointwise', which takes no mean")
    if kind == "exponential" and truth == "worst":
        raise ValueError("truth must be 'average' with kind='exponential'")
    if isinstance(priors, str) and (
        calibrate != "universal" or kind != "expected" or truth != "average"
    ):
        raise ValueError(
            "priors='any' must go with calibrate='universal', kind='expected' and truth='average'"
        )
    if truth == "worst" and k < J:
        raise ValueError("k must be the number of questions with truth='worst'")
    if rows == "sample" and calibrate != "universal":
        raise ValueError(
            "calibrate must be 'universal' with rows='sample': the rows are an estimate"
        )


def _believed(
    table: Any, target: Any, prior: Any, ask: Any, priors: Any, system: System
) -> tuple[System, ...]:
    """The system under each prior that counts."""
    if priors is None or isinstance(priors, str):
        return (system,)
    made = []
    for i, p in enumerate(priors):
        weights = np.asarray(p, dtype=np.float64)
        whole = read_system(table, target, None, ask)
        if weights.shape != whole.prior.shape:
            raise ValueError(
                f"priors[{i}] must have one entry a world ({len(whole.prior)}), got shape {weights.shape}"
            )
        if not np.isfinite(weights).all() or (weights < 0).any() or weights.sum() <= 0:
            raise ValueError(f"priors[{i}] must be finite, at least 0 and above 0 somewhere")
        made.append(whole.believed(weights))
    if not made:
        raise ValueError("priors must hold at least one prior")
    return tuple(made)


def _censor(
    systems: Sequence[System],
    system: System,
    how: Measure,
    mechanism: Any,
    calibrate: Calibrate,
    eps: float,
    k: int,
    priors: Any,
    most: int,
) -> tuple[Censor | None, list[np.ndarray], float]:
    """The calibrated censor, its matrices, and H."""
    laws = [s.probabilities for s in systems]
    anything = isinstance(priors, str)
    ceiling = (
        any_prior(len(system.names), int(how.mask.sum()))
        if anything
        else max(how.ceiling(P) for P in laws)
    )
    if not isinstance(mechanism, str):
        return None, given(mechanism, system), ceiling
    if mechanism == "none":
        return None, [np.eye(size) for size in system.sizes], ceiling
    if mechanism == "filter":
        return None, filters(systems[0], how, eps / k, most), ceiling
    mass = 1.0 if anything else max(float(P[how.mask].sum()) for P in laws)
    named_kind = "worst" if how.truth == "worst" else how.kind
    moment = max(how.moment(P) for P in laws) if how.kind == "exponential" else 1.0
    censor = Censor(mechanism, k, eps, 0.0, ceiling, mass, named_kind, how.lam, moment)
    censor = calibrated(censor, systems, how, calibrate, most)
    return censor, [censor.matrix(size) for size in system.sizes], ceiling


def _measured(
    systems: Sequence[System],
    matrices: Sequence[np.ndarray],
    k: int,
    how: Measure,
    most: int,
    n: int,
    delta: float,
    rng: np.random.Generator,
) -> Estimate | None:
    """Leakage of what is returned, from its full law; sampled where that is too large and all questions are asked."""
    try:
        return th.computed(max(leaked(s, matrices, k, how, most) for s in systems))
    except TooMany:
        if k < len(matrices) or how.kind != "expected" or how.truth == "worst":
            return None
    made = []
    for system in systems:
        merged = system.merged()
        made.append(sampled(merged, output(merged, matrices), how, n, delta / len(systems), rng))
    worst = max(made, key=lambda e: e.value)
    return replace(
        worst, low=max(e.low for e in made), high=max(e.high for e in made), level=1 - delta
    )


def _without(
    systems: Sequence[System],
    identity: Sequence[np.ndarray],
    k: int,
    how: Measure,
    most: int,
    ceiling: float,
) -> float:
    try:
        if k == len(identity):
            return max(plain(s, how, most) for s in systems)
        return max(leaked(s, identity, k, how, most) for s in systems)
    except ValueError:  # too many histories: H is what is left
        return ceiling


def _per_question(
    system: System, matrices: Sequence[np.ndarray], how: Measure, own: Sequence[float]
) -> pd.DataFrame:
    behind = [
        max(leaked(system.only([j]), [matrices[j]], 1, how, 1 << 40), 0.0) for j in range(len(own))
    ]
    return pd.DataFrame(
        {
            "question": system.questions,
            "responses": system.sizes,
            "alone": own,
            "behind_the_censor": behind,
        }
    )


def _trace(
    system: System,
    matrices: Sequence[np.ndarray],
    filtered: Sequence[np.ndarray],
    how: Measure,
    k: int,
    own: Sequence[float],
    most: int,
) -> pd.DataFrame:
    """The attack step by step, as far as histories can be summed; NaN where those of the censor cannot."""
    reach = min(k, STEPS)
    while True:
        try:
            chosen, together = greedy(system, how, reach, most)
            break
        except TooMany:
            reach -= 1
            if not reach:
                raise

    def behind(laws: Sequence[np.ndarray], count: int) -> float:
        part = chosen[:count]
        try:
            return max(leaked(system.only(part), [laws[j] for j in part], count, how, most), 0.0)
        except TooMany:
            return math.nan

    steps = range(1, len(chosen) + 1)
    return pd.DataFrame(
        {
            "question": [system.questions[j] for j in chosen],
            "alone": [own[j] for j in chosen],
            "summed": np.cumsum([own[j] for j in chosen]),
            "together": np.maximum(together, 0.0),
            "filtered": [behind(filtered, i) for i in steps],
            "censored": [behind(matrices, i) for i in steps],
        }
    )
