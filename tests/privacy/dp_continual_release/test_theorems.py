from dataclasses import replace

import numpy as np
import pytest

from whp.certificate import Verdict
from whp.privacy import (
    ContinualArgmax,
    ContinualCounter,
    ContinualMaxSum,
    plan_release,
    release_stream,
)
from whp.privacy._dp_continual_release.theorems import Evidence, max_error, privacy, proven_price


def bits(T, d, seed=0):
    return np.random.default_rng(seed).integers(0, 2, (T, d)).astype(np.uint8)


def test_verdicts_of_a_stream():
    X = bits(500, 4)
    kept = release_stream(X, query="maxsum", T=500, rho=0.5)
    assert [c.verdict for c in kept.certificates] == [
        Verdict.HOLDS,
        Verdict.UNMEASURED,
        Verdict.VACUOUS,
    ]
    assert kept.errors is None
    sure = {"beta": 1e-6, "measure": True, "reveal": True}
    shown = release_stream(X, query="counts", T=500, rho=0.5, **sure)
    assert [c.verdict for c in shown.certificates] == [Verdict.HOLDS, Verdict.HOLDS]
    hidden = release_stream(X, query="counts", T=500, rho=0.5, measure=True)
    assert hidden.certificates[1].verdict == Verdict.UNMEASURED
    assert hidden.errors is not None
    assert "errors" not in str(hidden.artifacts()) + str(hidden.summary())
    seeded = release_stream(X, T=500, rho=0.5, insecure_seed=1)
    assert seeded.certificates[0].verdict == Verdict.VOID
    tiny = release_stream(X, query="counts", T=500, rho=1e-4)
    assert tiny.certificates[1].verdict == Verdict.VACUOUS
    wrong = ContinualCounter(4, T=500, rho=0.5)
    wrong.run(X)
    assert wrong.certificates(np.full(500, 1e6))[1].verdict == Verdict.FAILS
    long = plan_release("maxsum", 155_659, 302, rho=0.5)
    assert ContinualMaxSum.from_plan(long).certificates()[2].verdict == Verdict.HOLDS
    lied = Evidence(base=long, plan=long, t=0, room=long.T, spent=0.0, bound=1.0)
    assert proven_price(lied).verdict == Verdict.FAILS


def evidence(query="maxsum", **changes):
    plan = plan_release(query, 100, 4, rho=0.5)
    return replace(Evidence(base=plan, plan=plan, t=100, room=0, spent=0.4, bound=20.0), **changes)


def test_each_condition_of_privacy_can_be_violated_or_is_unchecked():
    def status(name, **changes):
        answers = {a.name: str(a.status) for a in privacy(evidence(**changes)).conditions}
        return answers[name]

    assert status("records") == "met"
    assert status("records", exposed=1) == "violated"
    assert status("horizon") == "met"
    assert status("horizon", room=-1) == "violated"
    assert status("fresh-noise") == "unchecked"
    assert status("fresh-noise", drawn_here=True) == "by construction"
    assert status("fresh-noise", drawn_here=True, seeded=True) == "violated"
    assert status("fresh-noise", restored=5) == "unchecked"
    assert status("public-plan") == "unchecked"
    assert status("public-plan", faults=("T was read from the data",)) == "violated"
    assert status("one-record-each") == status("released-once") == "unchecked"
    assert privacy(evidence(spent=0.51)).verdict == Verdict.FAILS


def test_a_bound_no_better_than_half_of_the_records_is_vacuous():
    """Of those that came, not of those that might have."""
    assert max_error(evidence(t=100)).verdict == Verdict.UNMEASURED
    assert max_error(evidence(t=40)).verdict == Verdict.VACUOUS
    assert max_error(evidence("sumselect", t=40)).verdict == Verdict.UNMEASURED
    assert max_error(evidence("sumselect", t=20)).verdict == Verdict.VACUOUS
    early = ContinualCounter(1, T=1000, rho=0.5, strategy="tree")
    early.step([1])
    assert early.certificates()[1].verdict == Verdict.VACUOUS


def test_an_owner_of_more_records_reads_what_protects_them():
    made = release_stream(list("ab") * 20, categories="a,b", epsilon=1.0, delta=1e-6)
    owner = next(a for a in made.certificates[0].conditions if a.name == "one-record-each")
    assert "5 records has ρ = 0.6089, ε = 5.839" in owner.evidence


def test_the_price_is_not_stated_for_records_that_are_cut():
    """The hard stream has rows of many ones, which cannot come where a record is cut."""
    whole = ContinualMaxSum(9, T=100, rho=0.5, strategy="recompute")
    cut = ContinualMaxSum(9, T=100, rho=0.5, strategy="recompute", max_ones=2)
    assert [c.name for c in whole.certificates()] == ["privacy", "max-error", "price"]
    assert [c.name for c in cut.certificates()] == ["privacy", "max-error"]


def test_the_price_is_vacuous_on_a_short_stream():
    assert proven_price(evidence()).verdict == Verdict.VACUOUS
    long = plan_release("maxsum", 155_659, 302, rho=0.5)
    assert (
        proven_price(
            Evidence(base=long, plan=long, t=9, room=1, spent=0.1, bound=long.bound)
        ).verdict
        == Verdict.HOLDS
    )


@pytest.mark.parametrize("kind", [ContinualCounter, ContinualMaxSum, ContinualArgmax])
def test_certificates_survive_json(kind):
    from whp.certificate import Certificate

    made = kind(3, T=50, rho=0.5)
    made.run(bits(50, 3))
    for c in made.certificates(np.ones(50)):
        assert Certificate.from_json(c.to_json()) == c
