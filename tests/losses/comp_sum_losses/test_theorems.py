import pytest

from whp.certificate import Scope, Status, Verdict
from whp.intervals import Estimate
from whp.losses._comp_sum_losses import theorems as t


def answers(theorem):
    return [c.unchecked("a test") for c in theorem.conditions]


def made(theorem, value, **changed):
    given = {
        "bound": 0.3,
        "trivial": 0.9,
        "delta": 0.05,
        "measured": Estimate(value, value - 0.01, value + 0.01, 0.95, 100, "Clopper-Pearson"),
        "answers": answers(theorem),
        "sharp": False,
        "inputs": {},
    }
    return t.excess(theorem, **given | changed)


@pytest.mark.parametrize("theorem", [t.H_CONSISTENCY, t.POINTWISE], ids=lambda t: t.name)
def test_every_verdict_can_be_reached(theorem):
    assert made(theorem, 0.1).verdict is Verdict.HOLDS
    assert made(theorem, 0.5).verdict is Verdict.FAILS
    assert made(theorem, 0.3).verdict is Verdict.INCONCLUSIVE
    assert made(theorem, 0.1, measured=None).verdict is Verdict.UNMEASURED
    assert made(theorem, 0.1, bound=0.95).verdict is Verdict.VACUOUS
    broken = [t.INDEPENDENT.check(False, "copies"), *answers(theorem)[1:]]
    assert made(theorem, 0.1, answers=broken).verdict is Verdict.VOID
    assert made(theorem, 0.1).sure == pytest.approx(0.9)


def test_the_sharper_transformation_adds_a_condition():
    sharp = made(t.H_CONSISTENCY, 0.1, sharp=True)
    assert sharp.conditions[-1].name == t.SHARP.name
    assert sharp.conditions[-1].status is Status.UNCHECKED
    assert not sharp.passes("checked")


def test_nothing_about_labels_is_certain():
    for theorem in (t.H_CONSISTENCY, t.POINTWISE, t.ROBUST_ERROR):
        assert theorem.scope is Scope.POPULATION
    assert t.ROBUST_COUNT.scope is Scope.THIS_RUN
