import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from censorship import BITS, PARITY

from whp.certificate import Status, Verdict
from whp.datasets.networks import asia
from whp.llm import (
    LeakageAccountant,
    audit_adversary,
    audit_log,
    censor_unknown,
    impermissible_leakage,
    read_system,
)

CENSOR = censor_unknown([0.945, 0.055], 3, 0.01)


def claimed(p):
    return replace(CENSOR, strength=p)


def status(certificate, name):
    return next(a.status for a in certificate.conditions if a.name == name)


def log(rng, n, p, s=0.0, sessions=True):
    """One question; "yes" is answered with 1 − (1 − p)(1 − s)."""
    yes = rng.random(n) < 0.3
    coin = rng.random(n) < np.where(yes, 1 - (1 - p) * (1 - s), p)
    made = pd.DataFrame(
        {"question": "x?", "answered": coin.astype(int), "answer": np.where(yes, "yes", "no")}
    )
    return made.assign(session=np.arange(n)) if sessions else made


def test_coins_that_know_the_answer_are_seen():
    rng = np.random.default_rng(0)
    seen = {
        s: [audit_log(log(rng, 2000, 0.078, s), claimed(0.16)) for _ in range(10)]
        for s in (0.0, 0.3)
    }
    assert all(a.p > 1e-6 for a in seen[0.0])
    assert status(seen[0.0][0].certificates[0], "independent-coins") is Status.NOT_REFUTED
    assert all(a.certificates[0].verdict is Verdict.VOID for a in seen[0.3])


def test_refusing_yes_more_often_is_seen_too():
    rng = np.random.default_rng(1)
    table = log(rng, 2000, 0.5)
    hide = (table["answer"] == "yes") & (rng.random(2000) < 0.5)
    table.loc[hide, "answered"] = 0
    assert audit_log(table, claimed(0.5)).certificates[0].verdict is Verdict.VOID


def test_one_coin_a_session_is_seen():
    rng = np.random.default_rng(2)
    rows = [(s, q, int(c), "a") for s, c in enumerate(rng.random(200) < 0.12) for q in "xy"]
    table = pd.DataFrame(rows, columns=["session", "question", "answered", "answer"])
    made = audit_log(table, CENSOR)
    assert made.p < 1e-6
    assert made.certificates[0].verdict is Verdict.VOID


def test_an_answer_that_is_drawn_anew_under_one_coin_is_seen():
    table = pd.DataFrame(
        {"session": 1, "question": ["x", "X "], "answered": 1, "answer": ["a", "b"]}
    )
    made = audit_log(table, CENSOR)
    assert made.repeated == 1
    assert status(made.certificates[0], "independent-coins") is Status.VIOLATED


def test_fresh_coins_for_one_question_are_interactions():
    coins = [0, 1, 0, 0, 1]
    table = pd.DataFrame({"session": 1, "question": "q", "answered": coins, "answer": "a"})
    made = audit_log(table, CENSOR)
    assert made.interactions == 5
    assert status(made.certificates[0], "at-most-k") is Status.VIOLATED
    kept = audit_log(table.assign(answered=0), CENSOR)
    assert kept.interactions == 1
    assert status(kept.certificates[0], "at-most-k") is Status.UNCHECKED


def test_more_questions_than_allowed_are_counted():
    table = pd.DataFrame({"session": 1, "question": list("abcd"), "answered": 0, "answer": "z"})
    made = audit_log(table, CENSOR)
    assert made.interactions == 4
    assert status(made.certificates[0], "at-most-k") is Status.VIOLATED


@pytest.mark.parametrize(
    ("table", "match"),
    [
        (pd.DataFrame({"question": ["a"]}), "lacks answered, answer"),
        (
            pd.DataFrame({"question": ["a"], "answered": ["maybe"], "answer": ["b"]}),
            "row 0 has 'maybe'",
        ),
        (pd.DataFrame({"question": [], "answered": [], "answer": []}), "at least one row"),
    ],
)
def test_logs_that_are_refused(table, match):
    with pytest.raises(ValueError, match=match):
        audit_log(table, CENSOR)


def test_overconfidence_needs_its_own_bound():
    """A belief that jumps to .99 at any answer, p = .1: the entropy would call a right mechanism false."""
    censor = censor_unknown([0.945, 0.055], 1, 0.1)
    rng = np.random.default_rng(0)
    coin = rng.random(20_000) < censor.strength
    after = np.where(coin[:, None], [0.01, 0.99], [0.945, 0.055])
    made = audit_adversary(after, [0.945, 0.055], censor, answered=coin, impermissible=[1])
    jump = 0.99 * math.log(0.99 / 0.055)
    assert made.gained.low <= censor.strength * jump <= made.gained.high
    assert made.gained.low > censor.strength * censor.ceiling
    assert made.certificates[0].verdict is not Verdict.FAILS
    assert status(made.certificates[0], "silence-is-ignored") is Status.MET
    modest = np.where(coin[:, None], [0.1, 0.9], [0.945, 0.055])
    made = audit_adversary(modest, [0.945, 0.055], censor, answered=coin, impermissible=[1])
    assert made.certificates[0].verdict is Verdict.HOLDS


def test_a_belief_that_moves_at_silence_is_void():
    for moved, verdict in ((0.0, Status.MET), (1e-5, Status.VIOLATED)):
        after = np.full((50, 2), [0.5 + moved, 0.5 - moved])
        for more in ({"answered": np.zeros(50)}, {"p_silent": after[:1]}):
            made = audit_adversary(after, [0.5, 0.5], CENSOR, **more)
            assert status(made.certificates[0], "silence-is-ignored") is verdict
    made = audit_adversary(after, [0.5, 0.5], CENSOR, asked=np.full(50, 9))
    assert status(made.certificates[0], "at-most-k") is Status.VIOLATED


def test_leakage_of_vectors():
    assert impermissible_leakage([0.9, 0.1], [0.5, 0.5])[0] == pytest.approx(
        0.9 * math.log(1.8) + 0.1 * math.log(0.2)
    )
    assert impermissible_leakage([9, 1], [0.5, 0.5], [0])[0] == pytest.approx(0.9 * math.log(1.8))
    assert impermissible_leakage([1.0, 0.0], [0.5, 0.5])[0] == pytest.approx(math.log(2), abs=1e-9)


@pytest.mark.parametrize(
    ("after", "before", "match"),
    [
        ([0.5, math.nan], [0.5, 0.5], "p_after row 0 column 1"),
        ([0.5, 0.5], [-1, 2], "p_before row 0 column 0"),
        ([0.5, 0.3, 0.2], [0.5, 0.5], "one shape"),
        ([0.0, 0.0], [0.5, 0.5], "0 everywhere"),
    ],
)
def test_vectors_that_are_refused(after, before, match):
    with pytest.raises(ValueError, match=match):
        impermissible_leakage(after, before)


def test_the_accountant_is_the_posterior():
    system = read_system(BITS, PARITY)
    accountant = LeakageAccountant(system, censor_unknown([0.5, 0.5], 2, 0.1))
    assert accountant.observe(0, 1) == pytest.approx(0, abs=1e-12)
    left = accountant.left
    assert accountant.observe(1, 0) == pytest.approx(math.log(2))
    assert accountant.posterior.tolist() == pytest.approx([0, 1])
    assert 0 < left < 0.1
    assert accountant.left == 0
    with pytest.raises(ValueError, match="asked before"):
        accountant.observe(1, 0)
    asia_system = read_system(asia(), "lung", "weight", "smoke,xray")
    silent = LeakageAccountant(asia_system, CENSOR)
    assert silent.observe(0, None) == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match="response"):
        silent.observe(1, 7)


def test_more_answers_than_claimed_are_seen():
    rng = np.random.default_rng(0)
    table = log(rng, 5000, 0.9)
    assert audit_log(table, claimed(0.9)).p > 1e-6
    assert audit_log(table, claimed(0.95)).p > 1e-6  # fewer than claimed give away less
    made = audit_log(table, CENSOR)
    assert made.certificates[0].verdict is Verdict.VOID
    assert "share of answers that left" in made.tests["compared"][0]


def test_a_log_without_anything_to_compare_is_no_violation():
    table = pd.DataFrame({"question": ["a", "b"], "answered": 0, "answer": "x"})
    made = audit_log(table, CENSOR)
    assert made.p == 1.0
    condition = made.certificates[0].conditions
    assert any("nothing of which they are" in a.evidence for a in condition)


def test_questions_that_never_come_twice_are_thrown_together():
    rng = np.random.default_rng(0)
    table = log(rng, 5000, 0.0, 0.05).assign(question=[f"q{i}" for i in range(5000)])
    assert audit_log(table, claimed(0.05)).p < 1e-6
    pairs = np.repeat(rng.random(300) < 0.3, 2)
    table = pd.DataFrame(
        {"question": [f"q{i}" for i in range(600)], "answered": pairs, "answer": "x"}
    )
    made = audit_log(table.assign(session=np.arange(600) // 2), claimed(0.3))
    assert made.p < 1e-6
    assert made.tests["compared"].tolist()[-1] == "first two coins of a session"


@pytest.mark.parametrize("column", ["question", "answer", "session"])
def test_empty_cells_of_a_log_are_named(column):
    table = log(np.random.default_rng(0), 20, 0.5).astype({column: object})
    table.loc[3, column] = None
    with pytest.raises(ValueError, match=f"log: {column} must be there.*row 3 has none"):
        audit_log(table, claimed(0.5))


def test_an_adversary_who_hears_more_than_claimed_is_seen():
    before = np.array([0.5, 0.5])
    after = np.repeat(before[None], 400, axis=0)
    some = np.arange(400) % 2
    for more in ({"answered": some}, {"answered": some, "asked": np.ones(400)}):
        assert (
            audit_adversary(after, before, CENSOR, **more).certificates[0].verdict is Verdict.VOID
        )
    made = audit_adversary(after, before, replace(CENSOR, k=1, strength=0.5), answered=some)
    assert status(made.certificates[0], "independent-coins") is Status.NOT_REFUTED
    with pytest.raises(ValueError, match="answered must be at most asked"):
        audit_adversary(after, before, CENSOR, answered=np.full(400, 2), asked=np.ones(400))


def test_numbers_of_answers_are_whole():
    with pytest.raises(TypeError, match="impermissible"):
        impermissible_leakage([0.9, 0.1], [0.5, 0.5], [0.9])
    with pytest.raises(TypeError, match="response"):
        LeakageAccountant(read_system(BITS, PARITY), CENSOR).observe(0, 0.7)


def test_a_log_of_many_questions_and_free_answers_fits_into_memory():
    n = 4000
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {"question": [f"q{i}" for i in range(n)], "answered": rng.random(n) < CENSOR.strength}
    ).assign(answer=[f"a{i}" for i in range(n)], session=np.arange(n) // 2)
    made = audit_log(table, CENSOR)  # no table of sessions times questions
    assert made.p > 1e-6
    assert len(made.tests) == 52  # the share, the 50 commonest answers, two coins of a session
