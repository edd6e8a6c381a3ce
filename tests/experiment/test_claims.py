import json

import numpy as np
import pandas as pd
import pytest

from whp.experiment.claims import Claim, Finding, NotTested, Origin, Outcome, select
from whp.experiment.findings import Published, published, relisted
from whp.intervals import Estimate, exact, mean

FRAME = pd.DataFrame(
    {
        "experiment": "size",
        "K": [4, 4, 16, 16],
        "seed": [0, 1, 0, 1],
        "value": [1.0, 1.2, 2.0, 2.2],
        "error": "",
    }
)


def claim(measure, **settings):
    settings = {"at_most": 3.0, "paper": "Table 1", **settings}
    return Claim("C1", "It is small.", measure=measure, **settings)


def value(records):
    return mean(select(records, "size")["value"])


def test_select_takes_one_value_or_several():
    assert select(FRAME, "size", K=4)["value"].tolist() == [1.0, 1.2]
    assert len(select(FRAME, K=[4, 16])) == 4


def test_nothing_selected_says_what_there_was_and_passes_through_a_measure():
    with pytest.raises(NotTested, match="nothing was run with K = 64; there was 4, 16"):
        select(FRAME, "size", K=64)
    finding = claim(lambda r: exact(float(select(r, "size", K=64)["value"].max()))).judge(FRAME)
    assert finding.outcome is Outcome.NOT_TESTED
    assert finding.reason == "nothing was run with K = 64; there was 4, 16"
    assert finding.ours is None
    assert finding.measured == "–"
    returned = claim(lambda r: NotTested("no machine")).judge(FRAME)
    assert (returned.outcome, returned.reason) == (Outcome.NOT_TESTED, "no machine")


@pytest.mark.parametrize(
    ("bound", "outcome"),
    [
        ({"at_most": 3.0}, Outcome.REPRODUCED),
        ({"at_most": 1.0}, Outcome.NOT_REPRODUCED),
        ({"at_most": 1.6}, Outcome.INCONCLUSIVE),
        ({"at_least": 0.1}, Outcome.REPRODUCED),
        ({"at_least": 9.0}, Outcome.NOT_REPRODUCED),
    ],
)
def test_the_whole_interval_decides(bound, outcome):
    made = Claim("C1", "x", paper="p", measure=lambda r: Estimate(1.6, 1.2, 2.0, n=4), **bound)
    assert made.judge(FRAME).outcome is outcome


@pytest.mark.parametrize(
    ("estimate", "reason"),
    [
        (Estimate(1.0, 1.0, 1.0, 0.95, 1, "one run"), "one run, no interval"),
        (Estimate(1.0, 1.0, 1.0, 0.95, 20, "t"), "no interval: 20 runs gave the same number"),
        (exact(1.0), "a number without an interval"),
    ],
)
def test_a_number_without_an_interval_is_described_unless_computed(estimate, reason):
    finding = claim(lambda r: estimate).judge(FRAME)
    assert (finding.outcome, finding.reason) == (Outcome.DESCRIBED, reason)
    assert claim(lambda r: estimate, computed=True).judge(FRAME).outcome is Outcome.REPRODUCED
    wrong = claim(lambda r: estimate, computed=True, at_most=0.5).judge(FRAME)
    assert wrong.outcome is Outcome.NOT_REPRODUCED


def test_a_threshold_set_after_a_look_is_never_reproduced():
    for settings in (
        {"threshold_set": "after"},
        {"note": "The threshold was set after a first look at these data."},
    ):
        finding = claim(value, **settings).judge(FRAME)
        assert finding.outcome is Outcome.DESCRIBED
        assert "after a look" in finding.reason


def test_failed_trials_show_as_failed_and_never_as_not_tested():
    lost = FRAME.assign(error=np.where(FRAME["K"] == 16, "Traceback\nValueError: no", ""))
    one = claim(lambda r: mean(select(r, "size", K=16)["value"])).judge(lost)
    assert one.outcome is Outcome.FAILED
    assert one.reason == "2 of its trials failed: ValueError: no"
    other = claim(lambda r: mean(select(r, "size", K=64)["value"])).judge(lost)
    assert other.outcome is Outcome.NOT_TESTED, "those that failed had another K"
    unmeasured = claim(lambda r: mean(select(r, "size", sketch="srht")["value"])).judge(lost)
    assert unmeasured.outcome is Outcome.FAILED, "a failed trial has no measured columns"
    kept = claim(lambda r: mean(select(r, "size", K=4)["value"])).judge(lost)
    assert kept.outcome is not Outcome.FAILED
    assert "left out, failed trials: 2 of size" in kept.reason


def test_the_positional_form_and_the_origin_that_its_text_tells():
    old = Claim("C1", "x", "not in the paper: derived here", "q", "<=", 0, value)
    assert (old.relation, old.threshold, old.origin) == ("<=", 0, Origin.OURS)
    assert claim(value).origin is Origin.PAPER
    assert claim(value, origin=Origin.OURS).origin is Origin.OURS
    assert claim(value, paper="none").origin is Origin.OURS


def test_a_claim_has_one_threshold_and_a_measure():
    with pytest.raises(ValueError, match="exactly one"):
        Claim("C1", "x", measure=value)
    with pytest.raises(ValueError, match="exactly one"):
        Claim("C1", "x", measure=value, at_least=1.0, at_most=2.0)
    with pytest.raises(ValueError, match="exactly one"):
        Claim("C1", "x", measure=value, at_least=float("nan"))
    with pytest.raises(ValueError, match="measure"):
        Claim("C1", "x", at_least=1.0)


@pytest.mark.parametrize("measure", [value, lambda r: NotTested("no machine")])
def test_findings_round_trip_as_json(measure):
    finding = claim(measure, note="a note").judge(FRAME)
    assert Finding.from_dict(json.loads(json.dumps(finding.to_dict()))) == finding


def test_files_of_the_first_version_are_read_and_judged_as_now():
    old = {
        "id": "C1",
        "statement": "x",
        "paper": "not in the paper",
        "quantity": "q",
        "relation": "<=",
        "threshold": 1,
        "ours": {"value": 0.5, "low": 0.4, "high": 0.6, "level": 0.95, "n": 9, "method": "t"},
        "outcome": "reproduced",
        "note": "",
    }
    assert Finding.from_dict(old).outcome is Outcome.REPRODUCED
    assert Finding.from_dict(old).origin is Origin.OURS
    after = Finding.from_dict(old | {"note": "the threshold was set after a first look"})
    assert after.outcome is Outcome.DESCRIBED
    flat = Finding.from_dict(old | {"ours": {"value": 0.5, "low": 0.5, "high": 0.5, "n": 9}})
    assert flat.outcome is Outcome.DESCRIBED


def test_all_that_is_published_can_be_read():
    entries = published()
    assert len(entries) >= 17
    findings = [f for e in entries.values() for f in e.findings]
    assert len(findings) >= 361
    for f in findings:
        if f.outcome in (Outcome.REPRODUCED, Outcome.NOT_REPRODUCED):
            assert f.threshold_set == "before"
            assert f.computed or f.ours.low < f.ours.high


def test_relisting_keeps_what_was_measured_under_another_threshold():
    finding = claim(lambda r: exact(2.0)).judge(FRAME)
    entry = Published("linf-regression", "quick", 1, 0, 1.0, (finding,), {}, {})
    (again,) = relisted(entry, [claim(value, computed=True, note="more")]).findings
    assert (again.outcome, again.note, again.ours) == (Outcome.REPRODUCED, "more", exact(2.0))
    assert relisted(entry, [claim(value, computed=True, at_most=2.5)]) == entry
