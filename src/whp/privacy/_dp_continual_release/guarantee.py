"""What the theorems say of a run: privacy that was spent, error at all times at once, and the price of answering continually."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from whp.certificate import Certificate
from whp.intervals import exact
from whp.privacy._dp_continual_release.accuracy import ReleasePlan
from whp.privacy._dp_continual_release.budget import epsilon_of_rho, simple_epsilon
from whp.privacy._dp_continual_release.noise import BitSource
from whp.privacy._dp_continual_release.price import batch_bound, lower_bound
from whp.undeclared import Assumption, met, unchecked, undeclared, violated

__all__ = ["certify"]

PAPER = "Jain, Raskhodnikova, Sivakumar & Smith 2023"
GROUPS = (2, 5, 10)


def noise_is_fresh(source: BitSource) -> Assumption:
    """A4, by construction."""
    statement = "noise is drawn exactly, unforeseeably and once for each number"
    if not source.secure:
        return violated(statement, f"bits come from {source.name}", "leave insecure_seed out.")
    evidence = f"integers by rejection from {source.name}; every number gets its noise when it is made, and keeps it"
    return met(statement, evidence)


def certify(
    base: ReleasePlan,
    plan: ReleasePlan,
    t: int,
    spent: float,
    bound: float,
    source: BitSource,
    horizon: str,
    errors: Float[np.ndarray, " n"] | None,
    faults: Sequence[str] = (),
) -> tuple[Certificate, ...]:
    """The certificates of a mechanism after t records."""
    budget, delta = base.budget, base.budget.delta
    binary = met("records are zeros and ones of fixed width", f"all {t} were checked")
    within = met(
        "the stream ends within the horizon", f"{t} records, T = {plan.T}, horizon {horizon}"
    )
    public = met(
        "T, columns, strategy and release times were chosen without the data", "all in the plan"
    )
    if faults:
        public = violated(
            public.statement, "; ".join(faults), "give them as arguments, from public knowledge."
        )
    fresh = noise_is_fresh(source)
    alone = unchecked(
        "a person owns one record",
        "not in the data; who owns g has "
        + ", ".join(
            f"{'ε' if budget.pure else 'ρ'} = {budget.group(g):.4g} for g = {g}" for g in GROUPS
        ),
    )
    inputs: dict[str, Any] = {
        "query": base.query,
        "strategy": plan.strategy,
        "T": plan.T,
        "d": plan.d,
        "neighbours": plan.neighbours,
        "entries of a record that can change": plan.sensitivity,
        "noise scale": float(plan.scale),
        "period": plan.period,
    }
    told = dict(inputs)
    if not budget.pure:
        told |= {
            f"ε at δ = {delta:g}": epsilon_of_rho(budget.size, delta),
            "ε by ρ + 2√(ρ ln 1/δ)": simple_epsilon(budget.size, delta),
        }
    unit = "ε" if budget.pure else "ρ"
    private = undeclared(
        "privacy",
        f"all answers together are {'ε-DP' if budget.pure else 'ρ-zCDP'} for streams that differ in one record, also where "
        f"records are chosen after seeing answers; measured is the {unit} that the noise really drawn adds up to",
        "derived here by composition over the noisy numbers that hold a record; exact noise after Canonne, Kamath & Steinke 2020",
        "<=",
        budget.size,
        1.0,
        exact(spent),
        assumptions=(binary, within, alone, fresh, public),
        inputs=told,
        remedy="the mechanism drew less noise than it was planned for: do not release its answers.",
    )
    measured = None if errors is None else exact(float(np.max(errors)))
    unit_of_error = (
        "largest count short of the true maximum" if base.query == "sumselect" else "largest error"
    )
    accurate = undeclared(
        "max-error",
        f"with probability 1 − β the {unit_of_error} of all answers, all times at once, is below the bound",
        f"derived here: sub-Gaussian tails and a union bound; orders as in {PAPER}",
        "<=",
        bound,
        1 - base.beta,
        measured,
        trivial=float(plan.T) if base.query == "sumselect" else plan.T / 2,
        assumptions=(binary, within),
        inputs=inputs,
        needs="truth='measure', which looks at the true counts: the measured error is not private and is not saved.",
        remedy="a longer stream, fewer columns, max_ones or a larger budget: the bound is no better than answering T/2.",
    )
    if base.query == "counts":
        return private, accurate
    length = plan.T if horizon == "fixed" else max(t, 1)
    lower, n, columns = lower_bound(
        base.query, length, plan.d, budget.size, pure=budget.pure, beta=base.beta
    )
    priced = undeclared(
        "price",
        "no private mechanism has an error below the bound at all times on every stream so long; measured is the proven error "
        "of this one, which must lie above",
        f"explicit constants derived here; the reduction is that of {PAPER}, Theorem 1",
        ">=",
        lower,
        1.0,
        exact(bound),
        trivial=batch_bound(base),
        assumptions=(within,),
        inputs={
            "rows of the hard stream": 2 * n * columns,
            "secret records": n,
            "columns used": columns,
        },
        remedy="where it is vacuous, the stream is too short or has too few columns for continual answers to cost more than one "
        "at the end. If it fails, one of the two bounds is wrong: report it.",
    )
    return private, accurate, priced
