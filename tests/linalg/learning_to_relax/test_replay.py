import numpy as np
import pandas as pd
import pytest

from whp.bandits import TsallisINF
from whp.bandits.tsallis_inf import replays
from whp.certificate import Status, Verdict
from whp.linalg import RelaxationTuner, replay_counts
from whp.linalg._learning_to_relax.replay import _largest_bound


def table(rng, T=120, d=4):
    means = rng.uniform(5, 60, d)
    return np.ceil(1 + rng.exponential(means, (T, d)))


class Told:
    """A generator whose numbers are given."""

    def __init__(self, numbers):
        self.numbers = iter(numbers)

    def random(self):
        return next(self.numbers)


@pytest.mark.parametrize("rate", ["running", "fixed:40"])
def test_a_replay_is_the_learner_itself(rate):
    costs, u = table(np.random.default_rng(0)), np.random.default_rng(1).random((1, 120))
    learner, paid, bound = TsallisINF(4, rate), 0.0, 0.0
    learner._rng = Told(u[0])
    for t, row in enumerate(costs):
        arm = learner.ask()
        p, before, was = learner.probabilities, learner._before, learner.rate
        paid += p @ row
        a = row - 1
        if t == 0:
            scales = np.maximum(a, 1) if rate == "running" else np.full(4, 40.0)
            bound += (np.sqrt(p) * a**2 / (scales * np.sqrt(2))).sum()
        else:
            bound += (np.sqrt(p) * a**2).sum() / was
        learner.tell(row[arm])
        bound += 2 * (learner._before - before) * (np.sqrt(p).sum() - 1)
    ours, theirs = np.zeros(1), np.zeros(1)
    sigma = 0.0 if rate == "running" else 40.0
    replays(costs, np.zeros(120, dtype=np.int64), 1, sigma, u, ours, theirs)
    assert ours[0] == pytest.approx(paid, rel=1e-10)
    assert theirs[0] == pytest.approx(bound, rel=1e-10)


@pytest.mark.parametrize("learner", ["tsallis", "tsallis-cb", "chebcb"])
def test_expectations_are_those_of_the_tuner(learner):
    rng = np.random.default_rng(0)
    costs, c = table(rng, 80), rng.random(80)
    options = {} if learner == "tsallis" else {"context_range": (0, 1)}
    paid = []
    for seed in range(120):
        tuner = RelaxationTuner(learner, [1, 1.2, 1.4, 1.6], rng=seed, **options)
        total = 0.0
        for t in range(80):
            arm, _ = tuner.ask(c[t])
            tuner.tell(costs[t, arm])
            total += costs[t, arm]
        paid.append(total / 80)
    contexts = {} if learner == "tsallis" else {"contexts": c, "context_range": (0, 1)}
    made = replay_counts(costs, learner, **contexts, rng=1)
    error = np.std(paid) / np.sqrt(120) + np.std(made.paid) / np.sqrt(1000)
    assert abs(np.mean(paid) - made.expected.value) < 4 * error


@pytest.mark.parametrize("rate", ["running", "fixed:40"])
def test_no_replay_leaves_the_range_that_its_interval_bets_on(rate):
    for rng in np.random.default_rng(0).spawn(30):
        costs = table(rng, int(rng.integers(1, 60)), int(rng.integers(1, 6)))
        if rng.random() < 0.3:
            costs[: len(costs) // 2] = 1
        cell = rng.integers(0, 2, len(costs))
        sigma = 0.0 if rate == "running" else 40.0
        paid, bounds = np.zeros(50), np.zeros(50)
        replays(costs, cell, 2, sigma, rng.random((50, len(costs))), paid, bounds)
        assert bounds.max() <= _largest_bound(costs, cell, sigma) * (1 + 1e-12)
        assert costs.min(axis=1).sum() - 1e-6 <= paid.min()
        assert paid.max() <= costs.max(axis=1).sum() + 1e-6


def test_quiet_then_something_is_expected_as_it_is():
    # One run's sum is 8.33 in 57 % of the runs, its expectation a thousand times that.
    costs = np.ones((200, 2))
    costs[100:] = (200, 30)
    made = replay_counts(costs, rng=0)
    assert made.bound.low > made.regret.high > 100
    assert made.certificates[0].bound >= made.bound.value


def test_verdicts():
    rng = np.random.default_rng(0)
    steady = np.where(np.arange(6) == 2, 5.0, 60.0) * np.ones((800, 1))
    found = replay_counts(steady, rng=0).certificates[0]
    assert found.verdict is Verdict.HOLDS
    assert found.sure == pytest.approx(0.95)
    assert [a.status for a in found.conditions] == [Status.BY_CONSTRUCTION, Status.UNCHECKED]
    short = replay_counts(table(rng, 20), rng=0).certificates[0]
    assert short.verdict is Verdict.VACUOUS
    known = replay_counts(steady, rate="fixed:59", rng=0).certificates[1]
    assert known.verdict is Verdict.HOLDS
    low = replay_counts(steady, rate="fixed:58", rng=0).certificates[1]
    assert low.verdict is Verdict.VOID
    late = replay_counts(table(rng, 30), rate="fixed:1000", rng=0).certificates[1]
    assert late.verdict is Verdict.VACUOUS


def test_a_context_that_matters_is_used_and_one_that_does_not_fails():
    rng = np.random.default_rng(0)
    c, arms = rng.random(600), np.arange(4)
    costs = np.ceil(10 + 200 * np.abs(c[:, None] - arms / 3))
    good = {x.name: x for x in replay_counts(costs, "chebcb", contexts=c, rng=0).certificates}
    assert good["no-worse-than-fixed"].verdict is Verdict.HOLDS
    assert good["regret-per-system"].verdict is Verdict.HOLDS  # predictions hardly err here
    blind = replay_counts(table(rng, 200), "tsallis-cb", contexts=rng.random(200), rng=0)
    assert blind.certificates[1].verdict is Verdict.FAILS
    noisy = replay_counts(table(rng, 200), "chebcb", contexts=rng.random(200), rng=0)
    assert noisy.certificates[0].verdict is Verdict.VACUOUS
    same = replay_counts(np.full((50, 3), 7), "chebcb", contexts=rng.random(50), rng=0)
    assert {x.verdict for x in same.certificates} == {Verdict.VACUOUS}


def test_misuse_is_named():
    for wrong, told in (
        ({"counts": np.zeros((3, 2))}, "counts must be from 1"),
        ({"counts": [[1.0, np.inf]]}, "counts must be finite"),
        ({"learner": "chebcb"}, "contexts must be given"),
        ({"contexts": [1.0, 2.0, 3.0]}, "contexts must go with"),
        ({"learner": "chebcb", "contexts": [1.0, 1.0, 1.0]}, "context_range"),
        ({"learner": "chebcb", "contexts": [1.0]}, "contexts must have 3"),
        ({"rate": "quick"}, "rate"),
        ({"replays": 3}, "replays"),
        ({"bins": 3}, "bins must go with"),
        ({"degree": 3}, "degree must go with"),
        ({"learner": "chebcb", "contexts": [1.0, 2.0, 3.0], "rate": "fixed:3"}, "rate must go"),
        ({"delta": 0.0}, "delta"),
    ):
        with pytest.raises((TypeError, ValueError), match=told):
            replay_counts(**{"counts": np.ones((3, 2)), **wrong})


def test_counts_and_rates_of_any_size():
    rng = np.random.default_rng(0)
    costs = table(rng, 30)
    plain = replay_counts(costs, replays=100, rate="fixed:1", rng=0).regret
    for unit in (1e20, 1e95):
        large = 1 + (costs - 1) * unit
        made = replay_counts(large, replays=100, rate=f"fixed:{unit:g}", rng=0).regret
        assert made.value == pytest.approx(plain.value * unit, rel=1e-6)
    steady = np.tile([5.0, 30.0, 30.0], (50, 1))
    for rate in ("fixed:1e-300", "fixed:1e-20", "fixed:1e200"):
        assert 5 * 0.9 <= replay_counts(steady, replays=50, rate=rate, rng=0).expected.value <= 30


def test_contexts_of_half_the_width_say_the_same():
    c = np.random.default_rng(0).random(60).astype(np.float32)
    costs = np.ceil(10 + 50 * np.abs(c[:, None] - np.array([0.0, 0.5, 1.0])))
    narrow, wide = (
        replay_counts(costs, "chebcb", contexts=x, replays=40, rng=0)
        for x in (c, c.astype(np.float64))
    )
    np.testing.assert_array_equal(narrow.paid, wide.paid)


def test_it_prints_and_draws():
    made = replay_counts(table(np.random.default_rng(0)), replays=50, rng=0)
    assert made.summary()["replays"] == 50
    assert made.plot().has_data()


def test_the_number_of_a_system_is_no_omega():
    counts = pd.DataFrame({"system": [1, 4, 7], "1": [30, 31, 32], "1.5": [20, 21, 22]})
    made = replay_counts(counts, replays=20, rng=0)
    assert made.best_fixed == 21
