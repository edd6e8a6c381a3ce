"""Worlds of recovering rewards: curves, logs and environments whose true means are known."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from whp.bandits import (
    RecoveringPlan,
    RecoveringReport,
    RecoveringRun,
    learn_recovering,
    plan_recovering,
    recovering_bandits,
)
from whp.bandits._recovering_bandits import theorems as t
from whp.bandits._recovering_bandits.learn import RecoveringPolicy, finished
from whp.certificate import Certificate
from whp.experiment.worlds import Instance, Worlds
from whp.studies.recovering_bandits.truth import optimum, played, program

__all__ = ["worlds"]

worlds = Worlds("recovering-bandits", t.THEOREMS)
HERE = "whp.bandits._recovering_bandits"
NEAR = 1e-9
Rng = np.random.Generator
Truths = Mapping[str, bool | None]


def exponential(rng: Rng, N: int, D: int, slowest: float = 4.0) -> np.ndarray:
    """a(1 − exp(−d/τ)) with a in [.2, 1] and τ in [.5, slowest]."""
    a, tau = rng.uniform(0.2, 1, N), rng.uniform(0.5, slowest, N)
    return a[:, None] * (1 - np.exp(-np.arange(1, D + 1) / tau[:, None]))


def sides(small: float, large: float, limit: float) -> bool | None:
    """Whether a number between `small` and `large` is at most `limit`; None if that is open."""
    if large <= limit + NEAR:
        return True
    return None if small <= limit + NEAR else False


def as_stated(plan: RecoveringPlan, R: np.ndarray) -> bool:
    """Whether the timetable, played on R, earns what it states, in at most K pulls a period."""
    span = math.lcm(*map(int, plan.period[plan.period > 0]), 1)
    earned, most = played(R, plan.table(2 * max(span, int(plan.period.max(initial=1)))))
    return most <= plan.K and abs(earned - plan.value) <= NEAR * max(1.0, abs(plan.value))


def upper(certificate: Certificate) -> float:
    """The largest loss that the user is told of."""
    assert certificate.measured is not None
    return certificate.measured.high


# Timetables for given curves


def judge_plan(
    R: np.ndarray, best: tuple[float, float] | None = None
) -> Callable[[RecoveringPlan], Truths]:
    """The plan against the best policy on curves R, which earns between these numbers."""

    def truths(plan: RecoveringPlan) -> Truths:
        low, high = best or optimum(R, plan.K)
        earned = played(R, plan.table(2 * 840))[0]
        by_name = {c.name: c for c in plan.certificates}
        lost = [1 - earned / max(b, 1e-300) for b in (low, high)]
        bound = by_name["share-of-the-optimum"].bound
        return {
            "loss": sides(lost[0], lost[1], upper(by_name["loss"])),
            "share-of-the-optimum": sides(bound * low - earned, bound * high - earned, 0.0),
            "timetable": as_stated(plan, R),
        }

    return truths


def planning(R: np.ndarray, K: int, given: np.ndarray | None = None, **options: Any) -> Instance:
    """A plan for `given` curves, by default the true ones R."""
    arguments = {"curves": R if given is None else given, "K": K, **options}
    return Instance(arguments, judge_plan(R))


@worlds.world(run=plan_recovering, strengths=(1, 2))
def small_instances(rng: Rng, strength: float) -> Instance:
    """Three arms with four sorted uniform rewards, one slot or two (the strength)."""
    return planning(np.sort(rng.random((3, 4)), axis=1), int(strength))


@worlds.world(run=plan_recovering, strengths=(1, 2))
def ties_and_steps(rng: Rng, strength: float) -> Instance:
    """Three arms that pay 0 or 1, each from a gap of its own on: equal points everywhere."""
    R = (np.arange(1, 5) >= rng.integers(1, 5, (3, 1))).astype(float)
    return planning(R, int(strength))


@worlds.world(run=plan_recovering)
def extreme_units(rng: Rng, strength: float) -> Instance:
    """Rewards in units of 10⁻¹²: no tolerance may be absolute."""
    R = np.sort(rng.random((3, 4)), axis=1)

    def truths(plan: RecoveringPlan) -> Truths:
        same = plan_recovering(R, 1)
        return {
            "loss": abs(plan.ratio - same.ratio) < NEAR,
            "share-of-the-optimum": plan.period.tolist() == same.period.tolist(),
        }

    return Instance({"curves": R * 1e-12, "K": 1}, truths)


@worlds.world(run=plan_recovering)
def many_slots(rng: Rng, strength: float) -> Instance:
    """Forty arms that all recover slowly, ten slots: the share known beforehand is worth having."""
    R = np.outer(rng.uniform(0.9, 1, 40), np.linspace(0.05, 1, 12))
    best = program(R, 10)

    def truths(plan: RecoveringPlan) -> Truths:
        earned = plan.value if as_stated(plan, R) else 0.0
        by_name = {c.name: c for c in plan.certificates}
        return {
            "loss": sides(0.0, 1 - earned / best, upper(by_name["loss"])),
            "share-of-the-optimum": by_name["share-of-the-optimum"].bound * best <= earned + NEAR,
        }

    return Instance({"curves": R, "K": 10, "local_search": False}, truths)


@worlds.world(run=plan_recovering, breaks=t.AS_GIVEN, strengths=(0.5, 0.2, 0.05))
def rising_fit_of_noise(rng: Rng, strength: float) -> Instance:
    """Curves measured with noise of the strength and made to rise by a fit, true curves flat."""
    R = np.clip(0.6 + strength * rng.standard_normal((3, 4)), 0, None)
    R[0] = [0.9, 0.9 - strength, 0.5, 0.4]  # one that surely falls
    return planning(R, 1, monotone="isotonic")


@worlds.world(run=plan_recovering, breaks=t.AS_GIVEN)
def always_pulled_is_best(rng: Rng, strength: float) -> Instance:
    """One arm pays 1 when always pulled and hardly anything once rested; a rising fit hides it."""
    return planning(np.array([[1.0, 0.1], [0.2, 0.3]]), 1, monotone="isotonic")


@worlds.world(run=plan_recovering, breaks=t.RISING, strengths=(0.5, 0.1, 0.01))
def falling_arms(rng: Rng, strength: float) -> Instance:
    """Curves that fall by the strength from their second gap on, planned on as they are."""
    R = np.sort(rng.random((3, 4)), axis=1)
    R[:, 2:] = R[:, 1:2] * (1 - strength)
    return planning(R, 1, monotone="envelope")


@worlds.world(run=plan_recovering, breaks=t.RISING)
def falls_that_are_tolerated(rng: Rng, strength: float) -> Instance:
    """A tolerance of a half lets curves fall."""
    R = np.tile([0.9, 0.6, 0.5, 0.5], (3, 1)) + 0.01 * rng.random((3, 1))
    return planning(R, 1, tol=0.5)


@worlds.world(run=plan_recovering, breaks=t.STATE, strengths=(0.1, 0.3, 0.9), noticeable=False)
def other_arms_matter(rng: Rng, strength: float) -> Instance:
    """Every arm pays less by the strength when another is pulled with it."""
    R = exponential(rng, 3, 4)
    alone = plan_recovering(R, 1).value

    def truths(plan: RecoveringPlan) -> Truths:
        earned = played(
            R, plan.table(1680), lambda arms, paid: paid * (1 - strength * (len(arms) > 1))
        )[0]
        lost = 1 - earned / max(earned, alone)
        return {"loss": lost <= upper(plan.certificates[0]) + NEAR}

    return Instance({"curves": R, "K": 2}, truths)


@worlds.world(run=plan_recovering, breaks=t.STATE, strengths=(0.1, 1.0), noticeable=False)
def rises_beyond_the_last_gap(rng: Rng, strength: float) -> Instance:
    """Curves that go on rising by the strength beyond the last gap that was measured."""
    R = exponential(rng, 3, 4)
    longer = np.hstack([R, R[:, -1:] * (1 + strength * np.arange(1, 5) / 4)])

    def truths(plan: RecoveringPlan) -> Truths:
        best = max(plan_recovering(longer, 1).value, plan.value)
        return {"loss": 1 - plan.value / best <= upper(plan.certificates[0]) + NEAR}

    return Instance({"curves": R, "K": 1}, truths)


# Timetables from a log


def events(
    rng: Rng,
    R: np.ndarray,
    n: int,
    sigma: float,
    *,
    shift: Callable[[np.ndarray, np.ndarray, int], np.ndarray] | None = None,
    noise: Callable[[int], np.ndarray] | None = None,
) -> pd.DataFrame:
    """A log of n events an arm, gaps uniform.

    Parameters
    ----------
    shift : callable, optional
        From means, gaps and the arm to the means of these events, in order of time.
    noise : callable, optional
        From a number of events to their noise of variance 1, normal by default.
    """
    made = []
    draw = noise or rng.standard_normal
    for i, curve in enumerate(R):
        gaps = rng.integers(1, R.shape[1] + 1, n)
        means = curve[gaps - 1]
        if shift is not None:
            means = shift(means, gaps, i)
        made.append(
            pd.DataFrame(
                {"arm": f"a{i}", "time": np.cumsum(gaps), "reward": means + sigma * draw(n)}
            )
        )
    return pd.concat(made, ignore_index=True)


def judge_log(R: np.ndarray, K: int) -> Callable[[RecoveringReport], Truths]:
    """The timetable of a log on the true curves R."""

    def truths(report: RecoveringReport) -> Truths:
        plan, fit = report.plan, report.fit
        assert fit is not None
        by_name = {c.name: c for c in report.certificates}
        earned = played(R, plan.table(1680))[0]
        best_known = plan_recovering(np.maximum(R, 0), K, monotone="envelope")
        known = max(best_known.value, earned)
        limit = program(R, K)
        told = upper(by_name["long-run-loss"])
        long_run = sides(1 - earned / known, 1 - earned / limit, told)
        if report.earns_at_least is not None and earned < report.earns_at_least - NEAR:
            long_run = False
        best = program(fit.curves, K)
        return {
            "loss": 1 - plan.value / best <= upper(by_name["loss"]) + NEAR,
            "long-run-loss": long_run,
            "timetable": as_stated(plan, fit.curves),
        }

    return truths


def log(rng: Rng, R: np.ndarray, n: int, sigma: float = 0.3, K: int = 2, **how: Any) -> Instance:
    """A plan from a log of n events an arm."""
    options = {k: how.pop(k) for k in ("at_least", "unit") if k in how}
    table = events(rng, R, n, sigma, **how)
    arguments = {"table": table, "K": K, "D": R.shape[1], "resamples": 2, "rng": 0, **options}
    return Instance(arguments, judge_log(R, K))


@worlds.world(run=recovering_bandits, strengths=(120, 1000, 10000))
def a_log(rng: Rng, strength: float) -> Instance:
    """Six arms, four gaps, two slots, normal noise of .3, so many events an arm."""
    return log(rng, exponential(rng, 6, 4), int(strength), at_least=0.9)


@worlds.world(run=recovering_bandits, strengths=(80, 120))
def flat_curves(rng: Rng, strength: float) -> Instance:
    """Six arms that do not recover at all: all there is to gain is the largest noise."""
    R = np.tile(rng.uniform(0.4, 0.6, (6, 1)), (1, 4))
    return log(rng, R, int(strength))


@worlds.world(run=recovering_bandits)
def many_equal_arms(rng: Rng, strength: float) -> Instance:
    """25 flat arms at .5, three slots, three gaps, 60 events an arm, noise .5."""
    return log(rng, np.full((25, 3), 0.5), 60, 0.5, K=3)


@worlds.world(run=recovering_bandits)
def best_of_many(rng: Rng, strength: float) -> Instance:
    """25 equal arms that do not recover, one slot: what is chosen is the largest error of a mean."""
    R = np.full((25, 2), 0.5)
    R[:, 0] = 0.49
    return log(rng, R, 60, K=1)


@worlds.world(run=recovering_bandits)
def a_log_without_noise(rng: Rng, strength: float) -> Instance:
    """Rewards are exact: limits have no width, and tests nothing to reject."""
    return log(rng, exponential(rng, 6, 4), 200, 0.0)


@worlds.world(run=recovering_bandits)
def clicks(rng: Rng, strength: float) -> Instance:
    """Rewards are 0 or 1, the rarest of them in 3 of 100: exact binomial limits."""
    R = np.sort(rng.uniform(0.03, 0.5, (4, 3)), axis=1)
    made = events(rng, R, 2000, 0.0)
    made["reward"] = (rng.random(len(made)) < made["reward"]).astype(int)
    arguments = {"table": made, "K": 1, "D": 3, "resamples": 2, "rng": 0, "at_least": 0.6}
    return Instance(arguments, judge_log(R, 1))


@worlds.world(run=recovering_bandits)
def products_of_categories(rng: Rng, strength: float) -> Instance:
    """Three arms of 40 units each, which differ in level and in how often they come."""
    R = exponential(rng, 3, 3)
    made, levels = [], rng.normal(1, 0.5, (3, 40))
    for i in range(3):
        for u in range(40):
            n = int(rng.integers(15, 40))
            gaps = rng.integers(1, 4, n)
            paid = R[i, gaps - 1] + levels[i, u] + 0.2 * rng.standard_normal(n)
            made.append(
                pd.DataFrame(
                    {"arm": i, "unit": f"{i}/{u}", "time": np.cumsum(gaps), "reward": paid}
                )
            )
    table = pd.concat(made, ignore_index=True)
    arguments = {"table": table, "K": 1, "D": 3, "unit": "unit", "resamples": 2, "rng": 0}
    return Instance(arguments, judge_log(1 + R, 1))


@worlds.world(run=recovering_bandits, strengths=(3, 20))
def units_with_gaps_of_their_own(rng: Rng, strength: float) -> Instance:
    """60 units an arm of so many events; every second one rests long, and pays less by its nature."""
    R = np.array([[1.0, 1.6, 2.0], [1.2, 1.4, 1.5], [1.0, 1.2, 1.9]])
    made = []
    for i, u in np.ndindex(3, 60):
        law = ([0.8, 0.15, 0.05], [0.05, 0.15, 0.8])[u % 2]
        gaps = np.append(1, rng.choice([1, 2, 3], int(strength), p=law))
        level = 0.5 - u % 2 + 0.1 * rng.standard_normal()
        paid = R[i, gaps - 1] + level + 0.2 * rng.standard_normal(len(gaps))
        columns = {"arm": i, "unit": f"{i}/{u}", "time": np.cumsum(gaps), "reward": paid}
        made.append(pd.DataFrame(columns))
    table = pd.concat(made, ignore_index=True)
    arguments = {"table": table, "K": 1, "D": 3, "unit": "unit", "resamples": 2, "rng": 0}
    return Instance({**arguments, "at_least": 0.8}, judge_log(R, 1))


@worlds.world(run=recovering_bandits)
def an_arm_that_costs(rng: Rng, strength: float) -> Instance:
    """One of three arms pays less than nothing; there are slots for all."""
    R = np.vstack([exponential(rng, 2, 3), np.full(3, -2.0)])
    return log(rng, R, 600, 0.1, K=3)


@worlds.world(run=recovering_bandits)
def many_arms_of_few_clicks(rng: Rng, strength: float) -> Instance:
    """Sixty equal arms that do not recover, 0 or 5 a pull, cells of five events or so."""
    R = np.full((60, 4), 2.5)
    made = []
    for i in range(60):
        gaps = rng.permutation(np.repeat(np.arange(1, 5), rng.integers(5, 12, 4)))
        paid = 5.0 * (rng.random(len(gaps) + 1) < 0.5)
        times = np.append(0, np.cumsum(gaps))
        made.append(pd.DataFrame({"arm": i, "time": times, "reward": paid}))
    table = pd.concat(made, ignore_index=True)
    arguments = {"table": table, "K": 3, "D": 4, "resamples": 2, "rng": 0}
    return Instance(arguments, judge_log(R, 3))


def pooled(rng: Rng, R: np.ndarray, D: int) -> Instance:
    """A log of all gaps of R, of which D are told apart."""
    table = events(rng, R, 600, 0.1)
    judged = judge_log(R, 1)

    def truths(report: RecoveringReport) -> Truths:
        return {"long-run-loss": judged(report)["long-run-loss"]}

    arguments = {"table": table, "K": 1, "D": D, "resamples": 2, "rng": 0, "at_least": 0.8}
    return Instance(arguments, truths)


@worlds.world(run=recovering_bandits, breaks=t.FLAT_LOG, strengths=(12, 8))
def longer_gaps_are_pooled(rng: Rng, strength: float) -> Instance:
    """Curves rise over so many gaps, and four are told apart: the last is the mean of the longer."""
    return pooled(rng, exponential(rng, 4, int(strength), 8.0), 4)


@worlds.world(run=recovering_bandits, breaks=t.FLAT_LOG)
def forgotten_after_a_while(rng: Rng, strength: float) -> Instance:
    """Beyond the fourth gap arms pay half."""
    R = 0.2 + exponential(rng, 4, 8)
    R[:, 4:] = R[:, 3:4] / 2
    return pooled(rng, R, 4)


@worlds.world(run=recovering_bandits, breaks=t.FLAT_LOG, strengths=(0.6, 0.2), broken_from=0.6)
def hardly_ever_at_the_longest_gap(rng: Rng, strength: float) -> Instance:
    """Pulled the next day or a week later, which pays more by so much; two days later five times."""
    R = np.tile([0.2, 0.4, *(0.4 + strength * np.arange(1, 6) / 5)], (3, 1))
    R *= rng.uniform(0.8, 1.2, (3, 1))
    made = []
    for i, curve in enumerate(R):
        gaps = rng.permutation(np.repeat([1, 2, 7], (100, 5, 100)))
        paid = curve[gaps - 1] + 0.3 * rng.standard_normal(len(gaps))
        times = np.append(0, np.cumsum(gaps))
        made.append(pd.DataFrame({"arm": i, "time": times, "reward": np.append(0.0, paid)}))
    judged = judge_log(R, 1)

    def truths(report: RecoveringReport) -> Truths:
        return {"long-run-loss": judged(report)["long-run-loss"]}

    table = pd.concat(made, ignore_index=True)
    return Instance({"table": table, "K": 1, "D": 2, "resamples": 2, "rng": 0}, truths)


def _rare(rng: Rng, value: float, strength: float) -> Instance:
    R = np.sort(rng.uniform(0.2, 0.6, (4, 3)), axis=1)
    table = events(rng, R, 300, 0.0)
    table["reward"] = (rng.random(len(table)) < table["reward"]).astype(float)
    table.loc[rng.random(len(table)) < strength, "reward"] = value
    arguments = {"table": table, "K": 1, "D": 3, "resamples": 2, "rng": 0}
    return Instance(arguments, judge_log(R * (1 - strength) + strength * value, 1))


@worlds.world(run=recovering_bandits, breaks=t.TWO_VALUES, strengths=(1e-3,), noticeable=False)
def a_rare_prize(rng: Rng, strength: float) -> Instance:
    """Rewards are 0 or 1, and with this probability 100: often none was seen."""
    return _rare(rng, 100.0, strength)


@worlds.world(run=recovering_bandits, breaks=t.TWO_VALUES, strengths=(1e-3,), noticeable=False)
def a_rare_return(rng: Rng, strength: float) -> Instance:
    """Rewards are 0 or 1, and with this probability −20: often none was seen."""
    return _rare(rng, -20.0, strength)


@worlds.world(
    run=recovering_bandits, breaks=t.RISING_LOG, strengths=(1.0, 0.6, 0.2), broken_from=0.6
)
def one_arm_falls(rng: Rng, strength: float) -> Instance:
    """One of six arms falls by the strength of its reward over its gaps, 400 events an arm."""
    R = exponential(rng, 6, 4)
    R[0] = 0.8 * (1 - strength * np.arange(4) / 3)
    return log(rng, R, 400)


@worlds.world(run=recovering_bandits, breaks=t.RISING_LOG)
def raw_means_of_units(rng: Rng, strength: float) -> Instance:
    """Units that pay more come more often and unit= is not given, so that means fall with the gap."""
    R = np.tile([1.3, 1.6, 1.9], (2, 1))
    made = []
    for i in range(2):
        t0, rows = 0, []
        for _ in range(600):
            rich = rng.random() < 0.5
            gap = int(rng.choice([1, 2, 3], p=[0.7, 0.2, 0.1] if rich else [0.1, 0.2, 0.7]))
            t0 += gap
            rows.append((f"a{i}", t0, 1 + 0.3 * gap + 3.0 * rich + 0.1 * rng.standard_normal()))
        made.append(pd.DataFrame(rows, columns=["arm", "time", "reward"]))
    table = pd.concat(made, ignore_index=True)
    return Instance({"table": table, "K": 1, "D": 3, "resamples": 2, "rng": 0}, judge_log(R, 1))


def _later(strength: float) -> Callable[[np.ndarray, np.ndarray, int], np.ndarray]:
    return lambda means, gaps, i: (
        means * np.where(np.arange(len(means)) < len(means) // 2, 1.0, 1 - strength)
    )


@worlds.world(
    run=recovering_bandits, breaks=t.SAME_LATER, strengths=(0.5, 0.25, 0.1), broken_from=0.5
)
def less_in_the_second_half(rng: Rng, strength: float) -> Instance:
    """All curves fall by the strength at half time, 400 events an arm; the earlier ones are meant."""
    return log(rng, exponential(rng, 6, 4), 400, shift=_later(strength))


@worlds.world(run=recovering_bandits, breaks=t.SAME_LATER, strengths=(1.0, 0.3), broken_from=1.0)
def one_arm_wears_out(rng: Rng, strength: float) -> Instance:
    """One arm loses the strength of its reward steadily from the first event to the last."""
    R = exponential(rng, 6, 4)
    R[0] = np.linspace(0.7, 0.9, 4)

    def shift(means: np.ndarray, gaps: np.ndarray, i: int) -> np.ndarray:
        return means * (1 - strength * np.linspace(0, 1, len(means))) if i == 0 else means

    return log(rng, R, 400, shift=shift)


@worlds.world(run=recovering_bandits, breaks=t.FREE_GAPS, strengths=(0.3, 1.0), noticeable=False)
def promoted_when_sales_are_high(rng: Rng, strength: float) -> Instance:
    """Long gaps end in good weeks: what is paid after three or four periods is lifted."""
    R = exponential(rng, 6, 4)
    return log(rng, R, 1000, shift=lambda means, gaps, i: means + strength * (gaps >= 3))


@worlds.world(run=recovering_bandits, breaks=t.FREE_GAPS, noticeable=False)
def rested_when_sales_are_low(rng: Rng, strength: float) -> Instance:
    """Arms are rested after bad weeks and come back in worse ones: long gaps look poorer."""
    R = exponential(rng, 6, 4)
    return log(rng, R, 1000, shift=lambda means, gaps, i: means - 0.03 * (gaps - 1))


@worlds.world(run=recovering_bandits, breaks=t.INDEPENDENT, strengths=(10, 40), noticeable=False)
def seasons(rng: Rng, strength: float) -> Instance:
    """So many events in a row share their noise."""
    R = exponential(rng, 6, 4)
    size = int(strength)
    return log(rng, R, 400, noise=lambda n: np.repeat(rng.standard_normal(-(-n // size)), size)[:n])


@worlds.world(run=recovering_bandits, breaks=t.INDEPENDENT, noticeable=False)
def units_that_are_not_named(rng: Rng, strength: float) -> Instance:
    """Four units make up an arm, each with a level of its own, and unit= is not given."""
    R = 1 + exponential(rng, 6, 4)
    level = rng.standard_normal((6, 4))

    def shift(means: np.ndarray, gaps: np.ndarray, i: int) -> np.ndarray:
        return means + level[i, rng.integers(0, 4, len(means))]

    return log(rng, R, 400, shift=shift)


@worlds.world(run=recovering_bandits, breaks=t.CELL_MEANS, strengths=(0.05, 0.01), noticeable=False)
def rare_large_rewards(rng: Rng, strength: float) -> Instance:
    """Nearly all events pay the same, and with this probability far more: 60 events an arm."""

    def noise(n: int) -> np.ndarray:
        large = rng.random(n) < strength
        return (large - strength) / math.sqrt(strength * (1 - strength))

    return log(rng, 1 + exponential(rng, 4, 3), 60, noise=noise)


@worlds.world(run=recovering_bandits, breaks=t.CELL_MEANS, noticeable=False)
def heavy_tails(rng: Rng, strength: float) -> Instance:
    """Lognormal rewards of shape 2, 60 events an arm."""

    def noise(n: int) -> np.ndarray:
        return (np.exp(2 * rng.standard_normal(n)) - math.e**2) / 54.0

    return log(rng, 1 + exponential(rng, 4, 3), 60, noise=noise)


# Learning


class Environment:
    """True curves, normal noise, all arms just pulled before the first period."""

    def __init__(self, R: np.ndarray, sigma: float, rng: Rng) -> None:
        self.R, self.sigma, self.rng = R, sigma, rng
        self.last = np.full(len(R), -1)
        self.expected = 0.0

    def means(self, t: int, arms: np.ndarray) -> np.ndarray:
        """Mean rewards of these arms, whose gaps begin anew."""
        means = self.R[arms, np.minimum(t - self.last[arms], self.R.shape[1]) - 1]
        self.last[arms] = t
        return means

    def noisy(self, means: np.ndarray) -> np.ndarray:
        """Rewards around these means."""
        return means + self.sigma * self.rng.standard_normal(len(means))

    def __call__(self, t: int, arms: np.ndarray) -> np.ndarray:
        """Rewards of these arms in period t."""
        means = self.means(t, arms)
        self.expected += float(means.sum())
        return self.noisy(means)


def judge_run(
    R: np.ndarray, K: int, environment: Environment | None, outside: list[bool] | None = None
) -> Callable[[RecoveringRun], Truths]:
    """Bands at the end and in between, and the regret of what was earned in expectation."""

    def truths(run: RecoveringRun) -> Truths:
        inside = bool(((run.lcb <= R + NEAR) & (run.ucb >= R - NEAR)).all())
        held = inside and not (outside and any(outside))
        T = len(run.reward)
        if environment is None:
            return {"bands": held}
        short = run.gamma_hat * T * program(R, K) - environment.expected
        return {"bands": held, "regret": short <= run.regret_bound + 1e-6}

    return truths


def learning(
    R: np.ndarray, K: int, T: int, environment: Environment, *, known: bool = True, **options: Any
) -> Instance:
    """A run of the learner whose bands are looked at every 20 periods."""
    N, D = R.shape
    outside: list[bool] = []

    def look(policy: RecoveringPolicy) -> None:
        if policy.t % 20 == 0:
            low, high = policy.lcb, policy.ucb
            outside.append(bool(((low > R + NEAR) | (high < R - NEAR)).any()))

    arguments = {
        "pull": environment,
        "N": N,
        "K": K,
        "T": T,
        "D": D,
        "callback": look,
        **({"truth": R} if known else {}),
        **options,
    }
    return Instance(arguments, judge_run(R, K, environment if known else None, outside))


@worlds.world(run=learn_recovering, strengths=(600, 2000))
def learnt(rng: Rng, strength: float) -> Instance:
    """Five arms, four gaps, two slots, noise .1, so many periods."""
    R = exponential(rng, 5, 4)
    return learning(R, 2, int(strength), Environment(R, 0.1, rng), noise=0.1)


@worlds.world(run=learn_recovering)
def learnt_clicks(rng: Rng, strength: float) -> Instance:
    """Rewards are 0 or 1, noise is not told: σ = ½ by their range."""
    R = exponential(rng, 5, 4)

    class Clicks(Environment):
        def noisy(self, means: np.ndarray) -> np.ndarray:
            return (self.rng.random(len(means)) < means).astype(float)

    return learning(R, 2, 1000, Clicks(R, 0.5, rng))


@worlds.world(run=learn_recovering)
def many_cells(rng: Rng, strength: float) -> Instance:
    """Twenty arms and δ = ½: bands that are too narrow show."""
    R = exponential(rng, 20, 4)
    return learning(R, 4, 800, Environment(R, 0.1, rng), noise=0.1, delta=0.5)


@worlds.world(run=learn_recovering, breaks=t.NOISE, strengths=(2.0, 3.0, 10.0), broken_from=3.0)
def noisier_than_told(rng: Rng, strength: float) -> Instance:
    """The noise is so many times what was told."""
    R = exponential(rng, 5, 4)
    environment = Environment(R, 0.1 * strength, rng)
    return learning(R, 2, 600, environment, noise=0.1)


@worlds.world(run=learn_recovering, breaks=t.NOISE)
def outside_of_their_range(rng: Rng, strength: float) -> Instance:
    """Rewards leave [0, bound], from which σ = bound/2 was taken."""
    R = exponential(rng, 5, 4)
    return learning(R, 2, 600, Environment(R, 0.7, rng))


@worlds.world(run=learn_recovering, breaks=t.MEANS_IN_RANGE)
def all_rewards_above_the_bound(rng: Rng, strength: float) -> Instance:
    """Every reward is 1.7 and the bound is 1."""
    R = np.full((4, 4), 1.7)
    return learning(R, 2, 400, Environment(R, 0.0, rng), known=False)


@worlds.world(run=learn_recovering, breaks=t.MEANS_IN_RANGE, strengths=(3.0, 2.0))
def means_above_the_bound(rng: Rng, strength: float) -> Instance:
    """The largest mean rewards are so many times the bound, and the noise is told."""
    R = exponential(rng, 5, 4)
    R *= strength / R.max()
    return learning(R, 2, 600, Environment(R, 0.1, rng), noise=0.1, known=False)


@worlds.world(run=learn_recovering, breaks=t.RISING, strengths=(0.6, 0.3), broken_from=0.6)
def arms_that_fall(rng: Rng, strength: float) -> Instance:
    """All of four arms fall by the strength over their gaps, and take turns."""
    R = rng.uniform(0.8, 0.9, (4, 1)) * (1 - strength * np.arange(3) / 2)
    return learning(R, 1, 2000, Environment(R, 0.02, rng), noise=0.02)


class Changing(Environment):
    """Curves times a factor from half of the periods on."""

    def __init__(self, R: np.ndarray, sigma: float, rng: Rng, when: int, factor: float) -> None:
        super().__init__(R, sigma, rng)
        self.when, self.factor = when, factor

    def means(self, t: int, arms: np.ndarray) -> np.ndarray:
        return super().means(t, arms) * (self.factor if t >= self.when else 1.0)


def _changed(rng: Rng, strength: float) -> Instance:
    R = exponential(rng, 5, 4)
    environment = Changing(R, 0.1, rng, 1000, 1 - strength)
    return learning(R, 2, 2000, environment, noise=0.1)


@worlds.world(run=learn_recovering, breaks=t.SAME_LATER, strengths=(0.8, 0.5))
def curves_fall_at_half_time(rng: Rng, strength: float) -> Instance:
    """Curves fall by the strength at half time; the earlier ones are meant."""
    return _changed(rng, strength)


@worlds.world(run=learn_recovering, breaks=t.SAME_LATER, strengths=(0.1, 0.05), noticeable=False)
def curves_fall_a_little(rng: Rng, strength: float) -> Instance:
    """Curves fall by a tenth or less at half time, which the limits are too wide to tell."""
    return _changed(rng, strength)


@worlds.world(run=learn_recovering, breaks=t.MEANS_IN_RANGE, strengths=(1.3,), noticeable=False)
def means_slightly_above(rng: Rng, strength: float) -> Instance:
    """The largest mean rewards, of gaps that are hardly seen, are a little above the bound."""
    R = exponential(rng, 5, 4)
    R *= strength / R.max()
    return learning(R, 2, 600, Environment(R, 0.1, rng), noise=0.1, known=False)


@worlds.world(run=learn_recovering, breaks=t.OWN_GAP, strengths=(0.1, 0.3), noticeable=False)
def arms_share_their_customers(rng: Rng, strength: float) -> Instance:
    """An arm pays less by the strength when another is pulled with it."""
    R = exponential(rng, 5, 4)

    class Shared(Environment):
        def means(self, t: int, arms: np.ndarray) -> np.ndarray:
            return super().means(t, arms) * (1 - strength * (len(arms) > 1))

    return learning(R, 2, 600, Shared(R, 0.1, rng), noise=0.1)


@worlds.world(run=learn_recovering, breaks=t.OWN_GAP, noticeable=False)
def rewards_come_late(rng: Rng, strength: float) -> Instance:
    """Rewards arrive one period late and are taken for those of the arms pulled then."""
    R = exponential(rng, 5, 4)

    class Late(Environment):
        waiting = np.zeros(0)

        def __call__(self, t: int, arms: np.ndarray) -> np.ndarray:
            came, self.waiting = self.waiting, super().__call__(t, arms)
            return np.resize(came, len(arms)) if len(came) else np.zeros(len(arms))

    return learning(R, 2, 600, Late(R, 0.1, rng), noise=0.1)


def with_refusals(
    R: np.ndarray, K: int, T: int, rng: Rng, refuse: Callable[[int, np.ndarray], np.ndarray]
) -> RecoveringRun:
    """A run by hand in which other arms than planned are pulled."""
    N, D = R.shape
    policy = RecoveringPolicy(N, K, T, D=D, noise=0.1)
    environment, reward = Environment(R, 0.1, rng), np.zeros(T)
    for when in range(T):
        arms = refuse(when, policy.act())
        paid = environment(when, arms)
        policy.update(arms, paid)
        reward[when] = paid.sum()
    return finished(policy, reward, truth=R, expected=environment.expected)


def _refused(rng: Rng, refuse: Callable[[int, np.ndarray], np.ndarray]) -> Instance:
    R = exponential(rng, 5, 4)

    def truths(run: RecoveringRun) -> Truths:
        assert run.regret is not None
        return {"regret": run.regret <= run.regret_bound}

    return Instance({"R": R, "K": 2, "T": 600, "rng": rng, "refuse": refuse}, truths)


@worlds.world(run=with_refusals, breaks=t.PULLED, strengths=(1.0, 0.05))
def pulls_are_refused(rng: Rng, strength: float) -> Instance:
    """With the strength's probability nothing is pulled in a period."""
    return _refused(rng, lambda when, arms: arms[: 0 if rng.random() < strength else None])


@worlds.world(run=with_refusals, breaks=t.PULLED)
def another_arm_is_pulled(rng: Rng, strength: float) -> Instance:
    """A tenth of the time the first arm is pulled in place of those that were planned."""
    return _refused(rng, lambda when, arms: np.array([0]) if rng.random() < 0.1 else arms)


# Mutants


def _shrunk(limits: Any) -> Any:
    def halved(self: Any, delta: float) -> Any:
        low, high = limits(self, delta)
        middle = (low + high) / 2
        return (low + middle) / 2, (middle + high) / 2

    return halved


def _half_the_value(relax: Any) -> Any:
    from dataclasses import replace

    def halved(pieces: Any, capacity: float) -> Any:
        found = relax(pieces, capacity)
        return replace(found, value=found.value / 2)

    return halved


worlds.mutant(
    "loss", "UB halved", target=f"{HERE}.plan:relax", change=_half_the_value, world=small_instances
)
worlds.mutant(
    "share-of-the-optimum",
    "what rounding of periods costs forgotten",
    target=f"{HERE}.plan:a_priori_ratio",
    change=lambda share: lambda K: 0.999,
    world=small_instances,
)
worlds.mutant(
    "timetable",
    "all offsets 0",
    target=f"{HERE}.plan:pack",
    change=lambda pack: lambda period, K: (0 * period, pack(period, K)[1]),
    world=small_instances,
)
worlds.mutant(
    "long-run-loss",
    "limits of the means halved",
    target=f"{HERE}.log:RecoveryCurves.limits",
    change=_shrunk,
    world=best_of_many,
)
worlds.mutant(
    "bands",
    "radius halved",
    target=f"{HERE}.learn:RecoveringPolicy.radius",
    change=lambda radius: lambda self, n, delta=None: radius(self, n, delta) / 2,
    world=many_cells,
)
worlds.mutant(
    "regret",
    "bound over 20; the true one is some eight times what is lost",
    target=f"{HERE}.learn:RecoveringPolicy.cost",
    change=lambda cost: lambda self, *given: cost(self, *given) / 20,
    world=learnt,
    strength=2000,
)
