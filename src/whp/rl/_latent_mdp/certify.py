"""Certificates of a stream of episodes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from whp import provenance
from whp.certificate import Answer, Certificate
from whp.intervals import Estimate
from whp.rl._latent_mdp import checks
from whp.rl._latent_mdp import theorems as th
from whp.rl._latent_mdp.learner import ALIKE, LatentMDPLearner
from whp.rl._latent_mdp.model import TOLERANCE
from whp.rl._latent_mdp.optimism import KINDS
from whp.theorem import Condition, Theorem
from whp.validate import as_real

__all__ = ["certificates", "deviation"]

ROUNDING = 1e-9  # an episode
SMALL = 0.005  # level of the tests of groups and of the model


def deviation(episodes: int, planned: int | None, delta: float) -> float:
    """How far what episodes earned may lie above what their policies earn on average.

    By Azuma and Hoeffding for steps in an interval of length 1, with probability 1 − δ/2: for all
    numbers of episodes up to `planned` at once, else for each number at its share of δ.

    Parameters
    ----------
    episodes, planned : int
        Played, and planned; None for a stream without an end.
    delta : float
        δ of the certificate.
    """
    if planned is not None:
        return math.sqrt(planned * math.log(2 / delta) / 2)
    return math.sqrt(episodes * math.log(2 * episodes * (episodes + 1) / delta) / 2)


def certificates(
    learner: LatentMDPLearner, *, C: float | None = None, measure: bool = True
) -> tuple[Certificate, ...]:
    """What is promised of the regret of the episodes played so far.

    Parameters
    ----------
    learner : LatentMDPLearner
        After at least one episode.
    C : float, optional
        Constant of the published bound; with it, and a true model, ``shape`` is evaluated too. The
        paper does not state it.
    measure : bool
        Measure regret, where the learner was given the true model.

    Returns
    -------
    tuple of Certificate
        ``regret``, or ``known-context`` where no plan was exact, and perhaps ``shape``.

    Raises
    ------
    ValueError
        If no episode was played.
    """
    if not isinstance(learner, LatentMDPLearner):
        raise TypeError(f"learner must be a LatentMDPLearner, got {type(learner).__name__}")
    K = learner.n_episodes_
    if not K:
        raise ValueError("learner has played no episode yet: there is nothing to certify")
    scale, delta = learner.reward_scale, learner.delta
    earned = math.fsum(learner._earned)
    hoped = math.fsum([*learner._optimistic, *learner._gaps])
    strays = deviation(K, learner.n_episodes, delta)
    bound = hoped - earned + strays + ROUNDING * K
    answers = _answers(learner)
    theorem = th.REGRET if learner._exact else th.KNOWN_CONTEXT
    inputs = {
        "episodes": K,
        "optimistic values and gaps": scale * hoped,
        "earned": scale * earned,
        "deviation of returns": scale * strays,
        "plans": learner.n_plans_,
    }
    trivial = scale * (K - earned)
    made = [
        th.regret(
            theorem,
            scale * bound,
            delta,
            trivial,
            _measured(learner, theorem) if measure else None,
            [answers[c] for c in theorem.conditions],
            inputs,
        )
    ]
    if C is not None:
        made.append(_shape(learner, C, answers, trivial, measure))
    return tuple(made)


def _measured(learner: LatentMDPLearner, theorem: Theorem) -> Estimate | None:
    """Regret by the true model; None without one, or where somebody else decided."""
    model, K = learner.model, learner.n_episodes_
    played = math.fsum(learner._true)
    if model is None or learner._overridden or math.isnan(played):
        return None
    scale = model.reward_scale
    if theorem.name == th.KNOWN_CONTEXT.name:
        low = high = model.known_context() / scale
    else:
        best = model.best
        low, high = best.value / scale, (best.value + best.gap) / scale
    rounding = ROUNDING * K
    ends = (K * low - played - rounding, K * high - played + rounding)
    return Estimate.between(
        scale * ends[0], scale * ends[1], value=scale * (K * low - played), method="exact"
    )


def _shape(
    learner: LatentMDPLearner,
    C: float,
    answers: dict[Condition, Answer],
    trivial: float,
    measure: bool,
) -> Certificate:
    model = learner.model
    if model is None:
        raise ValueError("C must go with a true model, which gives Var*")
    constant = as_real(C, "C", low=0, high=math.inf, open_ends=True)
    M, S, A = learner.shape
    K, scale = learner.n_episodes_, learner.reward_scale
    iota = learner._iota_of(1)
    most = int((model.P > 0).sum(axis=-1).max())
    var = model.var_star() / scale**2
    bound = constant * (math.sqrt(var * M * most * S * A * K * iota) + M * S**2 * A * iota)
    given = dict(answers)
    given[th.CONSTANT] = th.CONSTANT.unchecked("the paper states no constant")
    return th.regret(
        th.SHAPE,
        scale * bound,
        learner.delta,
        trivial,
        _measured(learner, th.SHAPE) if measure else None,
        [given[c] for c in th.SHAPE.conditions],
        {"C": constant, "Var* at most": scale**2 * var, "Γ": most, "ι": iota, "episodes": K},
    )


def _answers(learner: LatentMDPLearner) -> dict[Condition, Answer]:
    steps, sizes = learner.steps(), learner.shape
    K = learner.n_episodes_
    return {
        th.RETURNS: _returns(learner),
        th.LABELS: _labels(learner),
        th.COMPLETE: th.COMPLETE.check(
            False, f"{learner._dropped} episodes were left out: nobody can see how they were chosen"
        )
        if learner._dropped
        else th.COMPLETE.unchecked(f"{K:,} episodes came; who does not come leaves no trace"),
        th.STATIONARY: checks.answer(th.STATIONARY, checks.halves(steps, sizes), 2 * checks.LEVEL),
        th.CONTEXT_SUFFICES: checks.answer(
            th.CONTEXT_SUFFICES, checks.order(steps, sizes), 2 * checks.LEVEL
        ),
        th.SHARED: checks.answer(
            th.SHARED, {"pairs of a group": checks.shared(steps, sizes, learner._row)}, SMALL
        )
        if learner._tied
        else th.SHARED.check(not learner._tied, "no pairs were tied"),
        th.STRUCTURE: _structure(learner),
        th.OPTIMISTIC: _optimistic(learner),
        th.PLANNED: _planned(learner),
        th.MODEL: _model(learner, steps),
    }


def _returns(learner: LatentMDPLearner) -> Answer:
    scale, most = learner.reward_scale, max(learner._earned) * learner.reward_scale
    if learner._learns_rewards:
        return th.RETURNS.unchecked(
            f"no episode so far earned more than {most:.4g} of {scale:g}; those to come may"
        )
    longest = learner.longest_return()
    if longest <= 1 + TOLERANCE * learner.horizon:
        return th.RETURNS.check(True, f"the table of rewards allows {longest * scale:.4g} at most")
    return th.RETURNS.unchecked(
        f"no episode so far earned more than {most:.4g} of {scale:g}, but the table of rewards would "
        f"allow {longest * scale:.4g}; possible= can rule that out"
    )


def _labels(learner: LatentMDPLearner) -> Answer:
    K = learner.n_episodes_
    if learner._wrong:
        return th.LABELS.check(False, learner._wrong)
    if learner._learns_rewards:
        return th.LABELS.unchecked("rewards are learnt, and cannot contradict a label")
    if learner._confirmed == K:
        return th.LABELS.check(True, f"in each of {K:,} episodes rewards fit the label alone")
    return th.LABELS.unchecked(
        f"rewards contradict no label, and single one out in {learner._confirmed:,} of {K:,} episodes"
    )


def _structure(learner: LatentMDPLearner) -> Answer:
    if learner._outside:
        return th.STRUCTURE.check(False, learner._outside)
    if learner._free:
        return th.STRUCTURE.check(True, "everything was taken to be possible")
    return th.STRUCTURE.unchecked(
        f"nothing ruled out was seen in {learner.n_episodes_:,} episodes; it may be rare"
    )


def _optimistic(learner: LatentMDPLearner) -> Answer:
    careless = sorted(learner._solvers - set(KINDS))
    if careless:
        return th.OPTIMISTIC.check(False, f"{', '.join(careless)} is not optimistic")
    smallest = learner._smallest
    said = f"{', '.join(sorted(learner._solvers))}; smallest bonus_scale {smallest:g}"
    return th.OPTIMISTIC.check(smallest >= 1, said)


def _planned(learner: LatentMDPLearner) -> Answer:
    if provenance.made_here(learner, LatentMDPLearner):
        how = (
            f"{learner._exact:,} episodes by exact plans, {learner._inexact:,} by plans with a gap"
        )
        return th.PLANNED.by_construction(how)
    return th.PLANNED.unchecked(
        "part of the stream was loaded or copied, and its sums are taken as they are"
    )


def _model(learner: LatentMDPLearner, steps: Any) -> Answer:
    model = learner.model
    if model is None:
        return th.MODEL.unchecked("no model was given, and nothing is measured by one")
    off = checks.pays_otherwise(steps, model.R, SMALL)
    if not learner._learns_rewards:
        off |= np.abs(model.R - learner._table) > ALIKE
    if off.any():
        m, s, a = np.argwhere(off)[0]
        return th.MODEL.check(
            False, f"context {m} does not pay what the model says in state {s} for action {a}"
        )
    found = checks.fits(steps, model.w, model.nu, model.P)
    return checks.answer(th.MODEL, {"counts against the model": found}, SMALL)
