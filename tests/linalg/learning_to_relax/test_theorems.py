import math

import pytest

from whp.certificate import Verdict
from whp.intervals import Estimate
from whp.linalg._learning_to_relax import theorems as th


def answers():
    return th.OBLIVIOUS.by_construction("a list"), th.COSTS.check(True, "all")


def facts(measured, bound, uniform=500.0):
    def mean(value):
        return Estimate(value, value - 5, value + 5, 0.975, 1000, "betting")

    return th.Regret("tsallis", 4, 100, 0.05, 11_000, mean(measured), mean(bound), uniform)


def test_every_verdict_of_regret():
    assert th.regret(facts(50, 100), answers()).verdict is Verdict.HOLDS
    assert th.regret(facts(150, 100), answers()).verdict is Verdict.FAILS
    assert th.regret(facts(104, 100), answers()).verdict is Verdict.INCONCLUSIVE
    assert th.regret(facts(50, 100, 90.0), answers()).verdict is Verdict.VACUOUS
    broken = (th.OBLIVIOUS.check(False, "said so"), answers()[1])
    assert th.regret(facts(50, 100), broken).verdict is Verdict.VOID
    one_run = th.regret(th.Regret("tsallis", 4, 100, 0.05, 11_000, executed=12.0), answers())
    assert one_run.verdict is Verdict.VACUOUS
    assert one_run.bound == 10_999 * 100
    assert one_run.sure == 1


def test_an_expectation_is_not_measured_by_one_number():
    with pytest.raises(ValueError, match="holds at its number of runs"):
        th.regret(
            th.Regret(
                "tsallis", 4, 100, 0.05, 9.0, Estimate(5, 5, 5, 1.0, 1, "every system audited")
            ),
            answers(),
        )


def counted(counts, bounds, ended, cap=1000, **other):
    fine = (
        th.SYMMETRIC.check(other.get("symmetric", True), "seen"),
        th.POSITIVE_DEFINITE.check(True, "seen"),
        th.TOL_REACHABLE.check(True, "seen"),
    )
    return th.iteration_bound(th.Counted(counts, bounds, ended, cap), fine)


def test_every_verdict_of_counts():
    assert counted([5, 9], [10, 9], [True, True]).verdict is Verdict.HOLDS
    assert counted([11], [10], [True]).verdict is Verdict.FAILS
    assert counted([10], [10], [False]).verdict is Verdict.FAILS
    assert counted([9], [10], [False]).verdict is Verdict.INCONCLUSIVE  # the tenth is open
    assert counted([9, 900], [10, 2000], [True, False]).verdict is Verdict.INCONCLUSIVE
    assert counted([5], [math.nan], [True]).verdict is Verdict.UNMEASURED
    assert counted([5], [10], [True], cap=10).verdict is Verdict.VACUOUS
    assert counted([5], [10], [True], symmetric=False).verdict is Verdict.VOID


def test_the_textbooks_bound():
    assert th.worst_case_regret(4, 100, 10.0) == 10 * (4 * 20 + 1)
