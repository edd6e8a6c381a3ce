import itertools
import os
import time

import pytest

from whp.experiment import benchmark
from whp.experiment.benchmark import (
    Case,
    Comparison,
    Foreign,
    Peer,
    Target,
    compare,
    document,
    markdown,
)
from whp.intervals import Estimate


def compared(case, ours=(1.0, 0.9, 1.1), **ratios):
    peers = {k: (1.0, Estimate(v[1], v[0], v[2])) for k, v in ratios.items()}
    return Comparison(case, ours[0], Estimate(ours[0], ours[1], ours[2]), peers)


def case(**settings):
    return Case(
        **{"name": "work", "setup": dict, "ours": lambda data: None, "peers": {}, **settings}
    )


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_everybody_takes_every_place(count):
    names = list("abcde"[:count])
    for start in (0, count):
        rounds = [benchmark.order(names, turn) for turn in range(start, start + count)]
        for place in range(count):
            assert sorted(r[place] for r in rounds) == names
    if count > 2:
        before, after = (set(itertools.pairwise(benchmark.order(names, t))) for t in (0, count))
        assert before.isdisjoint(after), "neighbours change sides"


def test_rounds_are_enough_for_all_places():
    calls = []
    peers = {name: lambda data, n=name: calls.append(n) for name in "abcd"}
    result = compare(case(ours=lambda data: calls.append(""), peers=peers, repeats=1))
    assert len(calls) == 5 + 5 * 5, "a warm-up and five rounds"
    rounds = [calls[5 + 5 * i : 10 + 5 * i] for i in range(5)]
    for place in range(5):
        assert {r[place] for r in rounds} == {"", *"abcd"}
    assert set(result.peers) == set("abcd")


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((0.2, 0.5, 0.9), "faster"),
        ((1.1, 2.0, 3.0), "slower"),
        ((0.8, 1.0, 1.3), "even"),
        ((0.0232, 0.423, 7.72), "undecided"),
        ((0.6, 0.9, 1.1), "undecided"),
        ((0.9, 1.1, 1.5), "undecided"),
    ],
)
def test_even_is_only_what_is_close_to_one(interval, verdict):
    low, value, high = interval
    assert benchmark.against(Estimate(value, low, high)) == verdict


@pytest.mark.parametrize(
    ("target", "verdict"),
    [
        (Target("river", 1.1), "missed"),
        (Target("river", 1.5), "met"),
        (Target("river", 1.41), "undecided"),
        (Target("other", 1.5), "not run"),
        (Target(seconds=1.2), "met"),
        (Target(seconds=0.5), "missed"),
        (Target(seconds=1.0), "undecided"),
    ],
)
def test_targets_are_judged(target, verdict):
    result = compared(case(target=target), river=(1.38, 1.41, 1.44))
    assert target.judge(result) == verdict
    text = markdown("x", [result])
    assert f"target {target}: **{verdict}**" in text


def test_a_target_is_a_ratio_to_a_peer_or_seconds():
    for wrong in ({}, {"peer": "a"}, {"ratio": 1.0}, {"peer": "a", "ratio": 1.0, "seconds": 1.0}):
        with pytest.raises(ValueError, match="a target is"):
            Target(**wrong)


def test_a_case_without_peers_appears_with_its_time():
    result = compare(case(ours=lambda data: time.sleep(0.01), target=Target(seconds=5)))
    text = markdown("x", [result])
    assert "| work | 1" in text
    assert "no peer" in text
    assert "target ≤ 5 s: **met**" in text


def test_a_peer_that_cannot_be_installed_says_why_once():
    absent = Peer("ristretto", None, "ristretto==0.1.2", "does not build")
    result = compare(case(peers=[absent], repeats=2))
    assert result.absent == {"ristretto": "does not build"}
    assert "not run: does not build" in markdown("x", [result])
    with pytest.raises(ValueError, match="say why"):
        Peer("ristretto", None)


def test_a_peer_that_cannot_be_imported_is_reported():
    def missing(data):
        raise ImportError("no module named peer")

    result = compare(case(peers={"peer": missing}, repeats=2))
    assert result.absent == {"peer": "no module named peer"}


def test_a_peer_takes_its_arguments_from_the_data():
    seen = []
    peer = Peer("peer", lambda a, b: seen.append((a, b))).on(lambda data: (data["a"], 2))
    compare(case(setup=lambda: {"a": 1}, peers=[peer], repeats=2))
    assert set(seen) == {(1, 2)}
    foreign = Peer("f", Foreign("", "", lambda data: {}))
    assert foreign.on(lambda data: ()) is foreign


def test_prose_is_shown_and_not_judged():
    result = compared(case(target="≤ 2 s", note="A note."), river=(0.5, 0.6, 0.7))
    assert result.judged == {}
    assert "aimed at ≤ 2 s, not judged. A note." in markdown("x", [result])


def test_threads_are_one_setting_for_all():
    seen = []
    compare(case(ours=lambda data: seen.append(os.environ["OMP_NUM_THREADS"]), threads=2))
    assert set(seen) == {"2"}


def test_the_document_counts_says_where_and_keeps_the_other_methods():
    met = compared(case(target=Target("a", 0.7)), a=(0.5, 0.6, 0.65), b=(0.9, 1.0, 1.1))
    missed = compared(case(target=Target("a", 1.0)), a=(1.5, 1.6, 1.7), b=(0.1, 1.0, 9.0))
    text = document({"x": markdown("x", [met])})
    assert "2 comparisons: 1 faster, 1 even, 0 undecided, 0 slower" in text
    assert "Targets: 1 met." in text
    assert "numpy" in text
    assert "cores" in text
    both = document({"a": markdown("a", [missed])}, text)
    assert "4 comparisons: 1 faster, 1 even, 1 undecided, 1 slower" in both
    assert "Targets: 1 met, 1 missed." in both
    assert both.index("## a") < both.index("## x")
    assert text[text.index("## x") :] == both[both.index("## x") :]
    again = document({"x": markdown("x", [missed])}, both)
    assert "1 met" not in again
    assert again == document({"x": markdown("x", [missed])}, again)
