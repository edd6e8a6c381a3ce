"""The certificates of a run: conditions answered, bounds computed, regret measured."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from whp.certificate import Answer, Certificate, Scalar
from whp.concentration import betting
from whp.intervals import Estimate
from whp.rl._adversarial_linear_mdp import passes
from whp.rl._adversarial_linear_mdp import theorems as t
from whp.rl._adversarial_linear_mdp.model import LinearQModel
from whp.rl._adversarial_linear_mdp.sums import Sums
from whp.rl._adversarial_linear_mdp.tuning import Method, Settings, regret_bound, theory
from whp.theorem import COMPUTED

__all__ = ["Run", "certificates", "without_theory"]

RESIDUAL = 1e-6  # float32 features leave 6e-8
REPLAYS = 8  # fewer say nothing of an expectation
LEVEL = 0.05  # of the interval of the mean regret
ALARM = 0.01  # how often true transitions may be refuted
EXPECTED = 5.0  # visits of a cell for the χ² test
SLACK = 1 + 1e-9


@dataclass(frozen=True, eq=False)
class Run:
    """What a learner did, as far as certificates want to know it."""

    model: LinearQModel
    sums: Sums
    method: Method
    n_episodes: int | None
    anytime: bool
    used: tuple[Settings, ...]
    used_in_stage: tuple[Settings, ...]  # since the scores began: since the last doubling
    span: tuple[float, float]
    live: int
    tables: int
    adaptive: bool
    whole: bool  # one table, in one call, by a learner that this process made
    visits: np.ndarray
    starts: np.ndarray
    overridden: int
    logged: np.ndarray | None  # (X, A) choices of the log that episodes come from

    @property
    def barrier(self) -> bool:
        return self.method == "log-barrier"

    @property
    def replayed(self) -> bool:
        """Whether whole tables are known of all episodes."""
        return self.tables > 0 and not self.live


def certificates(run: Run) -> tuple[Certificate, ...]:
    """Of the expected regret, and of the learners; none before the first episode."""
    if not run.sums.episodes:
        return ()
    return (_regret(run), _ftrl(run))


def _regret(run: Run) -> Certificate:
    H, _, A, d = run.model.shape
    K = run.sums.episodes
    theorem = t.REGRET_LOG_BARRIER if run.barrier else t.REGRET_MAGNITUDE_REDUCED
    unit = run.span[1] - run.span[0]
    K0 = run.n_episodes or max(K, 2)
    bound = regret_bound(run.method, H, A, d, K0)
    trivial, measured = float(H * K), None
    if run.replayed:
        best = float(run.model.value(run.model.best_fixed(run.sums.total), run.sums.total))
        low, high = run.sums.ends - best
        rounding = 1e-14 * H * K
        trivial = high + rounding
        if run.sums.values.size >= REPLAYS:
            measured = _mean(run.sums.values - best, low, high, rounding, unit)
    inputs: dict[str, Scalar] = {"H": H, "A": A, "d": d, "K": K, "replays": run.sums.values.size}
    return t.regret(theorem, bound * unit, trivial * unit, measured, _answers(run), inputs)


def without_theory(
    method: Method, shape: tuple[int, int, int], K: int, unit: float, why: str
) -> tuple[Certificate, ...]:
    """The certificate of the regret of a learner that no constants are known for: void."""
    H, A, d = shape
    if K < 2:
        return ()
    theorem = t.REGRET_LOG_BARRIER if method == "log-barrier" else t.REGRET_MAGNITUDE_REDUCED
    off_path = "losses and laws were not seen off the path"
    answers = [
        t.RANGE.unchecked("only losses that were seen were looked at"),
        t.LINEAR.unchecked(off_path),
        t.THETA.unchecked(off_path),
        t.TUNING.check(False, why),
        t.EXTREMES.unchecked("not followed at all states"),
        t.OBLIVIOUS.unchecked("data cannot show what losses would have been otherwise"),
        t.WORLD.unchecked("the laws of the world are not known here"),
    ]
    inputs: dict[str, Scalar] = {"H": H, "A": A, "d": d, "K": K}
    bound = regret_bound(method, H, A, d, K)
    return (t.regret(theorem, bound * unit, float(H * K) * unit, None, answers, inputs),)


def _mean(regrets: np.ndarray, low: float, high: float, rounding: float, unit: float) -> Estimate:
    """The expected regret, by bets on the replays; known where no policy differs from another."""
    if high - low <= 4 * rounding:
        return Estimate.between(
            unit * (low - rounding), unit * (high + rounding), level=1.0, method=COMPUTED
        )
    ends = low - rounding, high + rounding
    scaled = np.clip(regrets, *ends)
    mean = betting(scaled, LEVEL, low=ends[0], high=ends[1], boldness=0.9)
    return Estimate.between(
        unit * mean.low,
        unit * mean.high,
        value=unit * mean.value,
        level=mean.level,
        n=mean.n,
        method=mean.method,
    )


def _answers(run: Run) -> list[Answer]:
    return [
        t.RANGE.by_construction("a table with a loss outside is refused")
        if run.whole
        else t.RANGE.unchecked("only losses that were seen, or handed in, were looked at"),
        _linear(run),
        _theta(run),
        _tuning(run),
        _extremes(run),
        _oblivious(run),
        _world(run),
    ]


def _linear(run: Run) -> Answer:
    off = LinearQModel.residual(run.model)
    told = f"laws of the next state off by {off:.2g}"
    if run.replayed:
        losses = run.sums.residual
        return t.LINEAR.check(max(off, losses) <= RESIDUAL, f"{told}, losses by {losses:.2g}")
    if off > RESIDUAL:
        return t.LINEAR.check(False, told)
    return t.LINEAR.unchecked(f"{told}; losses were not seen off the path")


def _theta(run: Run) -> Answer:
    if not run.replayed:
        return t.THETA.unchecked("losses were not seen off the path")
    H, _, _, d = run.model.shape
    norm, limit = float(run.sums.extremes[:, passes.THETA_MAX].max()), math.sqrt(d) * H
    return t.THETA.check(norm <= limit * SLACK, f"largest norm {norm:.4g}, allowed {limit:.4g}")


def _tuning(run: Run) -> Answer:
    H, _, A, d = run.model.shape
    K = run.sums.episodes
    wrong = []
    if run.method == "hedge":
        wrong.append("estimates are plain, under hedge")
    if run.anytime:
        wrong.append("started anew at each doubling")
    elif run.n_episodes != K:
        wrong.append(f"{K:,} episodes were played, of {run.n_episodes:,}")
    right = theory(run.method, H, A, d, run.n_episodes or max(K, 2))
    for used in run.used:
        if used.covariance != "exact":
            wrong.append(f"covariance {used.covariance!r}")
        if used.bonus is None:
            wrong.append("no bonus")
        elif not run.anytime and not used.rates.near(right):
            wrong.append(f"{used.rates}; the theory has {right}")
    if len(run.used) > 1:
        wrong.append(f"{len(run.used)} settings over the run's life")
    return t.TUNING.check(not wrong, "; ".join(dict.fromkeys(wrong)) or str(right))


def _extremes(run: Run) -> Answer:
    H = run.model.shape[0]
    eta = max(s.rates.eta for s in run.used_in_stage)
    bonus = eta * float(run.sums.extremes[:, passes.BONUS_MAX].max())
    move = eta * float(run.sums.extremes[:, passes.MOVE_MIN].min())
    allowed = 1 / H if run.barrier else 1 / (2 * H)
    ok = bonus <= allowed * SLACK and (run.barrier or move >= -SLACK)
    told = f"η B up to {bonus:.3g}, allowed {allowed:.3g}"
    return t.EXTREMES.check(
        ok, told if run.barrier else f"{told}; η (Q̂ − B) down to {move:.3g}, allowed −1"
    )


def _oblivious(run: Run) -> Answer:
    if run.adaptive:
        return t.OBLIVIOUS.check(False, "losses were chosen after seeing the policy")
    if run.whole:
        return t.OBLIVIOUS.by_construction("one table, given before the first episode")
    return t.OBLIVIOUS.unchecked("data cannot show what losses would have been otherwise")


def _world(run: Run) -> Answer:
    if run.whole:
        return t.WORLD.by_construction("episodes were drawn from the model here")
    if run.overridden:
        return t.WORLD.check(
            False, f"{run.overridden:,} episodes have actions that act() did not draw"
        )
    tests = [_transitions(run)] + ([] if run.logged is None else [_uniform(run.logged)])
    p = [p for p, _ in tests if p is not None]
    told = "; ".join(told for _, told in tests)
    return t.WORLD.tested(min(1.0, len(p) * min(p)), ALARM, told) if p else t.WORLD.unchecked(told)


def _uniform(choices: np.ndarray) -> tuple[float | None, str]:
    """χ² of the log's choices in each state against the uniform ones that matching them asks for.

    States with few choices are counted as one.
    """
    from scipy.stats import chi2

    A = choices.shape[1]
    often = choices.sum(axis=1) >= EXPECTED * A
    cells = np.vstack([choices[often], choices[~often].sum(axis=0)])
    n = cells.sum(axis=1)
    cells, n = cells[n >= EXPECTED * A], n[n >= EXPECTED * A]
    if not len(cells) or A < 2:
        return None, "the log has too few choices to be tested"
    expected = n[:, None] / A
    p = float(chi2.sf(((cells - expected) ** 2 / expected).sum(), len(cells) * (A - 1)))
    return p, (
        f"a share off 1/{A} by {4.2 * math.sqrt((A - 1) / n.min()) / A:.2g} in each of {len(cells)} states "
        f"of the log, with 95 %; {choices.shape[0] - int(often.sum()):,} were not tested by themselves"
    )


def _transitions(run: Run) -> tuple[float | None, str]:
    """χ² of every visited law against the model's, the least p times their number."""
    from scipy.stats import chi2

    laws = [(run.starts, run.model.init)]
    laws += list(
        zip(
            run.visits.reshape(-1, run.visits.shape[-1])[: run.model.P[..., 0].size],
            run.model.P.reshape(-1, run.model.P.shape[-1]),
            strict=True,
        )
    )
    found: list[tuple[float, int, float]] = []
    for seen, law in laws:
        n = int(seen.sum())
        expected = n * law
        large = expected >= EXPECTED
        o, e = seen[large].astype(float), expected[large]
        if not large.all():  # the rest as one cell, where it is large enough
            rest = float(expected[~large].sum())
            if rest >= EXPECTED:
                o, e = np.append(o, seen[~large].sum()), np.append(e, rest)
        if len(e) >= 2:
            statistic = float(((o - e) ** 2 / e).sum())
            shift = 4.2 * math.sqrt(0.25 / n)
            found.append((float(chi2.sf(statistic, len(e) - 1)), n, shift))
    if not found:
        return None, "no law was visited often enough to be tested"
    least = min(p for p, _, _ in found)
    n, shift = min((n, s) for _, n, s in found)
    return min(1.0, least * len(found)), (
        f"a shift of {shift:.2g} in the least visited of {len(found)} laws ({n:,} visits), with 95 %; "
        f"{len(laws) - len(found):,} were not tested"
    )


def _ftrl(run: Run) -> Certificate:
    _H, _X, A, _ = run.model.shape
    sums, eta = run.sums, max(s.rates.eta for s in run.used_in_stage)
    K = _stage_length(run)
    scores = sums.scores
    best = scores.min(axis=-1)
    if run.barrier:
        theorem = t.FTRL_LOG_BARRIER
        mixed = (1 - 1 / K) * best + scores.mean(axis=-1) / K
        right = (A - 1) * math.log(K) / eta + eta / 2 * sums.squares
    else:
        theorem = t.FTRL_HEDGE
        mixed = best
        right = math.log(A) / eta + eta * sums.squares
    left = sums.played - mixed
    at = np.unravel_index(int(np.argmax(left / np.maximum(right, 1e-300))), left.shape)
    rates = {(s.method, s.rates.eta) for s in run.used_in_stage}
    answers = [
        t.CONSTANT_RATE.check(len(rates) == 1, "; ".join(f"{m}, η = {e:.6g}" for m, e in rates))
    ]
    if not run.barrier:
        low = eta * float(sums.extremes[:, passes.MOVE_MIN].min())
        answers.append(t.MOVES.check(low >= -SLACK, f"least η (Q̂ − B) is {low:.4g}"))
    place = {"step": int(at[1]), "state": int(at[2]), "replay": int(at[0])}
    return t.ftrl(
        theorem,
        float(left[at]),
        float(right[at]),
        float((sums.worst - mixed)[at]),
        answers,
        {**place, "K": K, "eta": eta},
    )


def _stage_length(run: Run) -> int:
    """Episodes since the scores began: since the last doubling for anytime learners."""
    K = run.sums.episodes
    if not run.anytime:
        return K
    begun = K - 1  # that of the last episode played
    return K - (0 if begun < 2 else 1 << (begun.bit_length() - 1))
