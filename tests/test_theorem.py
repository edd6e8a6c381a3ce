import math
import pickle

import pytest

from whp.certificate import Status, Verdict
from whp.concentration import hoeffding
from whp.intervals import Estimate, exact, mean
from whp.theorem import (
    AT_LEAST,
    AT_MOST,
    COMPUTED,
    ON_AVERAGE,
    THIS_RUN,
    Condition,
    Derived,
    Theorem,
)

RANK = Condition("full-rank", "A has full rank", remedy="drop a column.")
FIXED = Condition("fixed-before", "A was fixed before the draw")
THEOREM = Theorem(
    "bars",
    "bars cover",
    "largest error, in bars",
    AT_MOST,
    THIS_RUN,
    Derived("some-method#bars"),
    (RANK, FIXED),
    needs="measure=True",
    remedy="take more rows.",
)
ANSWERS = (FIXED.unchecked("no data show it"), RANK.check(True, "rank 3"))


def call(theorem=THEOREM, **changes):
    base = {
        "bound": 1.0,
        "confidence": 0.95,
        "trivial": 5.0,
        "measured": exact(0.5),
        "answers": ANSWERS,
    }
    return theorem(**(base | changes))


def test_a_certificate_has_the_texts_of_its_theorem_and_the_answers_in_its_order():
    c = call(inputs={"m": 3})
    assert (c.name, c.claim, c.quantity, c.scope) == (
        "bars",
        "bars cover",
        "largest error, in bars",
        THIS_RUN,
    )
    assert [a.name for a in c.conditions] == ["full-rank", "fixed-before"]
    assert c.source == "derived here: docs/methods/some-method.md#bars"
    assert c.verdict is Verdict.HOLDS
    assert c.headline == "holds, given 1 unchecked"
    assert pickle.loads(pickle.dumps(c)) == c


@pytest.mark.parametrize(
    ("answers", "complaint"),
    [
        (ANSWERS[:1], "without an answer: \\['full-rank'\\]"),
        ((), "full-rank"),
        ((*ANSWERS, RANK.check(True, "again")), "answered twice: \\['full-rank'\\]"),
        ((*ANSWERS, Condition("other", "x").unchecked("y")), "not of this theorem: \\['other'\\]"),
    ],
)
def test_each_condition_is_answered_exactly_once(answers, complaint):
    with pytest.raises(ValueError, match=complaint):
        call(answers=answers)


def test_trivial_is_mandatory():
    with pytest.raises(TypeError, match="trivial"):
        THEOREM(bound=1.0, confidence=0.95, answers=ANSWERS)  # type: ignore[call-arg]


def test_answers_are_what_they_are():
    assert RANK.check(False, "rank 2").status is Status.VIOLATED
    assert RANK.check(False, "rank 2").remedy == "drop a column."
    assert RANK.check(False, "rank 2", remedy="drop x1.").remedy == "drop x1."
    assert RANK.check(True, "rank 3").remedy == ""
    kept = FIXED.tested(0.3, 0.01, "a drift of one standard deviation, with 90 %")
    assert kept.status is Status.NOT_REFUTED
    assert "p = 0.3; would have seen a drift" in kept.evidence
    assert FIXED.tested(0.001, 0.01, "a drift").status is Status.VIOLATED
    assert FIXED.by_construction("drawn here").status is Status.BY_CONSTRUCTION
    for empty in (
        lambda: RANK.check(True, ""),
        lambda: FIXED.unchecked(""),
        lambda: FIXED.tested(0.5, 0.01, ""),
    ):
        with pytest.raises(ValueError, match=r"evidence|sees"):
            empty()
    with pytest.raises(ValueError, match="p must be"):
        FIXED.tested(math.nan, 0.01, "a drift")


def test_an_expectation_needs_an_interval_that_is_valid_at_its_number_of_runs():
    average = THEOREM.variant(scope=ON_AVERAGE)
    values = [0.1, 0.2, 0.3]
    for wrong in (exact(0.5), mean(values), Estimate(0.5, 0.4, 0.6, 1.0, 3, "Hoeffding")):
        with pytest.raises(ValueError, match="holds at its number of runs"):
            call(average, measured=wrong)
    assert call(average, measured=hoeffding(values, 0.05)).sure == pytest.approx(0.9)
    assert call(average, measured=None).verdict is Verdict.UNMEASURED


def test_an_expectation_that_was_summed_is_certain_and_one_that_was_sampled_is_not():
    average = THEOREM.variant(scope=ON_AVERAGE)
    summed = Estimate.between(0.4, 0.6, method=COMPUTED)
    assert call(average, measured=summed, confidence=1.0).sure == 1.0
    assert call(average, measured=summed).verdict is Verdict.HOLDS
    sampled = (
        Estimate.between(0.4, 0.6, method=COMPUTED, n=20),
        Estimate.between(0.4, 0.6, method=COMPUTED, n=1),
        Estimate.between(0.4, 0.6, method=COMPUTED, level=0.95),
        Estimate.between(0.4, 0.6, method="computed"),
        Estimate.between(0.4, 0.6),
        exact(0.5, 0.1),
    )
    for wrong in sampled:
        with pytest.raises(ValueError, match="summed over all draws"):
            call(average, measured=wrong)
        assert call(measured=wrong).verdict is Verdict.HOLDS  # of this run it may speak


def test_names_are_identifiers_and_conditions_are_distinct():
    for bad in ("", "Full rank", "full_rank", "Bars"):
        with pytest.raises(ValueError, match="lower case"):
            Condition(bad, "x")
    with pytest.raises(ValueError, match="twice"):
        THEOREM.variant(conditions=(RANK, RANK))


def test_at_least_and_identities():
    least = THEOREM.variant(relation=AT_LEAST)
    assert call(least, bound=0.2, trivial=0.0).verdict is Verdict.HOLDS
    assert call(least, bound=0.0, trivial=0.0).verdict is Verdict.VACUOUS
    assert call(bound=1.0, trivial=math.inf).verdict is Verdict.HOLDS


def test_a_derivation_names_what_it_completes():
    assert (
        str(Derived("a#b", extends="Theorem 2"))
        == "derived here from Theorem 2: docs/methods/a.md#b"
    )
