import copy
import json
import os
import pickle
import signal
import stat
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from whp.certificate import Status, Verdict
from whp.llm import CensoredModel, audit_log, censor_unknown

OPEN = censor_unknown([0.5, 0.5], 3, 10.0)  # p = 1


def half(k):
    return replace(censor_unknown([0.5, 0.5], k, 0.1), strength=0.5)


def coins(model):
    return next(
        a.status for a in model.certificates()[0].conditions if a.name == "independent-coins"
    )


def test_answers_silence_and_the_end():
    asked = []
    model = CensoredModel(lambda q: asked.append(q) or q.upper(), OPEN)
    assert [model.ask(q) for q in ("a?", "A? ", " b?", "c?", "d?")] == [
        "A?",
        "A?",
        " B?",
        "C?",
        None,
    ]
    assert asked == ["a?", " b?", "c?"]
    assert (model.used, model.mapped) == (3, 0)


def test_the_model_is_called_whether_or_not_its_answer_leaves():
    calls = []
    model = CensoredModel(lambda q: calls.append(q) or "x", half(200), rng=0)
    said = [model.ask(f"{i}") for i in range(200)]
    assert len(calls) == 200
    assert 60 < sum(s is None for s in said) < 140
    assert [model.ask(f"{i}") for i in range(200)] == said


def test_answers_are_sticky_and_not_only_coins():
    rng = np.random.default_rng(0)
    model = CensoredModel(lambda q: str(rng.random()), half(50))
    for i in range(50):
        assert len({model.ask(f"q{i}") for _ in range(4)}) == 1
    loose = CensoredModel(lambda q: str(rng.random()), OPEN, sticky=False)
    assert len({loose.ask("q") for _ in range(3)}) == 3
    assert loose.ask("q") is None


def test_what_is_no_answer_becomes_one_of_the_alphabet():
    def broken(question):
        if "error" in question:
            raise OSError("no connection")
        return 7 if "number" in question else "maybe"

    model = CensoredModel(broken, OPEN, alphabet=["yes", "no"])
    with pytest.warns(UserWarning, match="OSError"):
        assert [model.ask(q) for q in ("error", "number", "word")] == ["yes"] * 3
    assert model.mapped == 3


def test_swapped_answers_come_out_of_the_alphabet():
    censor = replace(censor_unknown([0.5, 0.5], 4000, 10.0, mechanism="krr"), strength=1.0)
    model = CensoredModel(lambda q: "b", censor, alphabet=list("abc"), rng=1)
    said = [model.ask(str(i)) for i in range(4000)]
    kept = np.e / (np.e + 2)
    assert np.mean([s == "b" for s in said]) == pytest.approx(kept, abs=0.03)
    assert abs(said.count("a") - said.count("c")) < 200


def test_a_model_of_its_own_passes_the_audit():
    rng = np.random.default_rng(3)
    for seed in range(2):
        model = CensoredModel(lambda q: "ab"[rng.integers(2)], half(600), rng=seed)
        for i in range(600):
            model.ask(f"question {i % 40} of {i}")
        table = model.log.assign(
            question=[f"q{i % 40}" for i in range(600)], session=[i // 40 for i in range(600)]
        )
        made = audit_log(table, half(600))
        assert made.p > 1e-6


def test_coins_by_construction_cannot_be_claimed_for_others():
    ours = CensoredModel(lambda q: "x", OPEN)
    assert coins(ours) is Status.BY_CONSTRUCTION
    assert ours.certificates()[0].verdict is Verdict.VACUOUS

    class Mine(CensoredModel):
        def _draw(self):
            return 0.0

    altered = CensoredModel(lambda q: "x", OPEN)
    altered._draw = lambda: 0.0
    other = CensoredModel(lambda q: "x", OPEN)
    other.censor = half(3)
    for model in (
        Mine(lambda q: "x", OPEN),
        altered,
        copy.copy(ours),
        CensoredModel(lambda q: "x", OPEN, rng=0),
        other,
    ):
        assert coins(model) is Status.UNCHECKED


def test_a_restart_forgets_nothing(tmp_path):
    path = tmp_path / "state.json"
    rng = np.random.default_rng(0)

    def answer(question):
        return str(rng.random())

    first = CensoredModel(answer, half(4), state=path)
    said = [first.ask(q) for q in "abc"]
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    second = CensoredModel(answer, half(4), state=path)
    assert second.used == 3
    assert [second.ask(q) for q in "abc"] == said
    assert coins(second) is Status.UNCHECKED
    second.ask("d")
    assert first.ask("e") is None  # the other object has used the last one
    assert first.used == 4
    assert second.log["question"].tolist() == list("abcd")


def test_states_that_are_refused(tmp_path):
    path = tmp_path / "state.json"
    model = CensoredModel(lambda q: "x", half(9), state=path)
    model.ask("a")
    old = path.read_text()
    model.ask("b")
    with pytest.raises(ValueError, match="another k"):
        CensoredModel(lambda q: "x", half(10), state=path)
    path.write_text(old)
    with pytest.raises(RuntimeError, match="older state"):
        model.ask("c")
    path.unlink()
    with pytest.raises(RuntimeError, match="gone"):
        model.ask("c")
    for text in ("{", "[]", json.dumps({"entries": 3})):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"damaged|another"):
            CensoredModel(lambda q: "x", half(9), state=path)


def test_nothing_is_returned_that_was_not_written(tmp_path):
    folder = tmp_path / "there"
    folder.mkdir()
    model = CensoredModel(lambda q: "x", OPEN, state=folder / "state.json")
    model.ask("a")
    os.rename(folder, tmp_path / "away")
    with pytest.raises((OSError, RuntimeError)):
        model.ask("b")
    assert model.used == 1


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"alphabet": []}, ValueError),
        ({"alphabet": ["a", "a"]}, ValueError),
        ({"sticky": "no"}, TypeError),
        ({"rng": "x"}, TypeError),
    ],
)
def test_options_that_are_refused(options, error):
    with pytest.raises(error):
        CensoredModel(lambda q: "x", OPEN, **options)
    with pytest.raises(TypeError, match="question"):
        CensoredModel(lambda q: "x", OPEN).ask(3)
    with pytest.raises(ValueError, match="alphabet"):
        CensoredModel(lambda q: "x", censor_unknown([0.5, 0.5], 1, 0.1, mechanism="krr"))


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (([0.5, 0.6], 1, 0.1), "sum to 1"),
        (([0.5, 0.5], 0, 0.1), "k must be"),
        (([0.5, 0.5], 1, -0.1), "eps must be"),
        ((None, 1, 0.1), "answers must be"),
    ],
)
def test_censors_that_are_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        censor_unknown(*arguments)


def test_censors_of_unknown_systems():
    assert censor_unknown([0.945, 0.055], 3, 0.01).strength == pytest.approx(
        0.0159023031, abs=1e-10
    )
    assert censor_unknown(None, 3, 0.01, answers=2).ceiling == pytest.approx(np.log(2))
    assert censor_unknown(None, 3, 0.01, answers=4, impermissible=[1]).ceiling == pytest.approx(
        1 / np.e
    )
    assert pickle.loads(pickle.dumps(OPEN)) == OPEN


def test_threads_share_one_account():
    model = CensoredModel(lambda q: time.sleep(0.005) or "x", OPEN)
    said = []
    threads = [
        threading.Thread(target=lambda i=i: said.append(model.ask(f"q{i}"))) for i in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (model.used, sum(s is not None for s in said)) == (3, 3)
    again = pickle.loads(pickle.dumps(CensoredModel(str.upper, OPEN)))
    assert again.ask("q") == "Q"


@pytest.mark.parametrize("name", ["censor", "_rng", "sticky"])
def test_a_setting_that_was_changed_and_put_back_is_remembered(name):
    model = CensoredModel(lambda q: "x", half(3))
    kept = getattr(model, name)
    setattr(model, name, {"censor": OPEN, "_rng": np.random.default_rng(0), "sticky": False}[name])
    model.ask("q")
    setattr(model, name, kept)
    assert coins(model) is Status.UNCHECKED


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("name", "none"),
        ("k", 0),
        ("strength", 1.5),
        ("strength", np.nan),
        ("eps", -1),
        ("ceiling", -0.1),
    ],
)
def test_what_is_no_censor_is_refused(name, value):
    with pytest.raises(ValueError, match=name):
        replace(half(3), **{name: value})
    with pytest.raises(ValueError, match="answers must be left out"):
        censor_unknown([0.5, 0.5], 1, 0.1, answers=2)


def test_a_child_that_was_forked_while_another_thread_asked_is_no_standstill():
    model = CensoredModel(lambda q: time.sleep(0.2) or "x", OPEN)
    thread = threading.Thread(target=model.ask, args=("a",))
    thread.start()
    time.sleep(0.05)
    child = os.fork()
    if not child:
        signal.alarm(5)
        model.ask("b")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    thread.join()


@pytest.mark.filterwarnings("error")
def test_errors_show_nothing_where_warnings_are_errors():
    model = CensoredModel(lambda q: 1 / 0, OPEN, alphabet=("no", "yes"))  # type: ignore[arg-type]
    assert (model.ask("q"), model.used, model.mapped) == ("no", 1, 1)


def test_an_alphabet_is_no_word():
    with pytest.raises(TypeError, match="got the text 'yes'"):
        CensoredModel(str.upper, OPEN, alphabet="yes")
