import json

import numpy as np
import pytest
from recovering import THREE, exponential

from whp.bandits import plan_recovering
from whp.bandits._recovering_bandits import theorems as th
from whp.bandits._recovering_bandits.curves import as_curves
from whp.bandits._recovering_bandits.plan import play_out
from whp.certificate import Verdict
from whp.studies.recovering_bandits.truth import played

MISUSE = [
    ({"curves": None}, "curves"),
    ({"curves": []}, "curves"),
    ({"curves": [[]]}, "curves"),
    ({"curves": [[0.1, -0.2]]}, "arm 0 has -0.2 at d = 2"),
    ({"curves": [[0.1, np.nan]]}, "curves must be finite"),
    ({"curves": [["a"]]}, "curves"),
    ({"K": 0}, "K"),
    ({"K": 1.5}, "K"),
    ({"periods": "odd"}, "periods"),
    ({"periods": (3, 2)}, "periods"),
    ({"periods": 0}, "periods"),
    ({"monotone": "ignore"}, "monotone"),
    ({"names": ["a"]}, "names"),
]


@pytest.mark.parametrize(("wrong", "named"), MISUSE, ids=str)
def test_misuse_is_named(wrong, named):
    given = {"curves": THREE, "K": 1, **wrong}
    with pytest.raises((ValueError, TypeError), match=named):
        plan_recovering(**given)


def verdicts(plan):
    return {c.name: str(c.verdict) for c in plan.certificates}


def test_10_a_played_timetable_earns_its_value():
    rng = np.random.default_rng(0)
    for N, K, D in ((5, 1, 6), (20, 4, 12), (60, 9, 24)):
        R = exponential(rng, N, D)
        plan = plan_recovering(R, K)
        earned, most = played(R, plan.table(3000))
        assert most <= K
        assert earned == pytest.approx(plan.value, rel=0.02)
        assert play_out(R, plan.period, plan.offset, plan.channel) == (
            pytest.approx(plan.value, rel=1e-12),
            pytest.approx(K, abs=K),
        )
        assert verdicts(plan)["timetable"] == "holds"


def test_conflicts_are_counted_whatever_the_common_multiple():
    R = np.ones((3, 2))
    period, channel = np.array([101, 103, 4096]), np.zeros(3, dtype=int)
    assert play_out(R, period, np.array([0, 0, 0]), channel)[1] == 3
    assert play_out(R, np.array([4, 6, 0]), np.array([0, 1, 0]), channel)[1] == 1
    assert play_out(R, np.array([4, 6, 0]), np.array([0, 4, 0]), channel)[1] == 2


def test_12_falling_curves():
    with pytest.raises(ValueError, match=r"arm 0 pays 1 at d = 1 and 0\.8 at d = 2"):
        plan_recovering([(1, 0.8, 0.9)], 1)
    with pytest.raises(ValueError, match=r"arm 0 \(squats\) pays"):
        plan_recovering([(1, 0.8, 0.9)], 1, names=["squats"])
    # The bound needs no rising curves, the share known beforehand does.
    kept = plan_recovering([(1, 0.8, 0.9), (0.1, 0.1, 0.9)], 1, monotone="envelope")
    assert verdicts(kept) == {
        "loss": "vacuous",
        "share-of-the-optimum": "void",
        "timetable": "holds",
    }
    fitted = plan_recovering([(1, 0.8, 0.9)], 1, monotone="isotonic")
    assert set(verdicts(fitted).values()) == {"void"}
    tolerated = plan_recovering([(0.9, 0.6, 0.6)] * 2, 1, tol=0.5)
    assert verdicts(tolerated)["share-of-the-optimum"] == "void"
    assert "holds" in verdicts(plan_recovering([(1, 1 - 1e-12, 1)], 1))["timetable"]


def test_the_demand_is_the_bound():
    assert verdicts(plan_recovering(THREE, 2))["loss"] == "holds"
    assert verdicts(plan_recovering(THREE, 2, at_least=0.999))["loss"] == "holds"
    static = plan_recovering(THREE, 2).static / 1.2
    easy = plan_recovering(THREE, 2, at_least=0.99 * static)
    assert verdicts(easy)["loss"] == "vacuous"
    for scale in (1, 0.1, 1 / 3):  # 1 - static / UB is 2e-16 at .1
        flat = plan_recovering(scale * 0.3 * np.outer(np.arange(1, 7), np.ones(4)), 2)
        assert verdicts(flat)["loss"] == "vacuous", "nothing recovers: no timetable is needed"
    pinwheel = plan_recovering([(0, 1, 1), (0, 0, 1)], 1, at_least=0.99)
    assert verdicts(pinwheel)["loss"] == "inconclusive", "value 3/4 of a bound of 5/6"


def test_the_share_known_beforehand():
    assert verdicts(plan_recovering(THREE, 1))["share-of-the-optimum"] == "vacuous"
    rested = np.tile(np.linspace(0.05, 1, 20), (40, 1))
    made = plan_recovering(rested, 10, local_search=False)
    assert verdicts(made)["share-of-the-optimum"] == "holds"


def test_broken_timetables_fail():
    answer = [th.AS_GIVEN.check(True, "given")]
    for value, played_out, pulls in ((0.7, 0.7, 2), (0.9, 0.2, 1)):
        made = th.timetable(value, played_out, pulls, 1, answer, fitted=False)
        assert made.verdict is Verdict.FAILS
    poor = th.Played(0.25, 1.2, 0.0, 1, 3, 4)
    answers = [c.check(True, "so") for c in (th.AS_GIVEN, th.RISING)] + [th.STATE.unchecked("so")]
    assert th.share(poor, 0.25, answers).verdict is Verdict.FAILS


def test_what_leaves_the_plan():
    plan = plan_recovering(THREE, 1, names=["a", "b;\nX", "c"])
    assert plan.artifacts()["plan.csv"]["period"].tolist() == [3, 3, 3]
    assert plan.schedule["reward"].tolist() == [0.9, 0.65, 1.2]
    calendar = plan.to_ics("2026-01-01", 6)
    assert calendar.count("BEGIN:VEVENT") == 6
    assert "SUMMARY:b\\;X" in calendar
    assert json.dumps(plan.summary())


def test_units_are_free():
    R = as_curves(THREE)
    for unit in (1e-12, 1e12):
        plan = plan_recovering(R * unit, 2)
        assert plan.period.tolist() == plan_recovering(R, 2).period.tolist()
        assert verdicts(plan) == verdicts(plan_recovering(R, 2))
    with pytest.raises(ValueError, match="of a size between"):
        plan_recovering(R * 1e200, 2)
