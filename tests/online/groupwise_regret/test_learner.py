import copy
import math
import pickle

import numpy as np
import pytest
from groupwise import Constant, stream

from whp.certificate import Status, Verdict
from whp.online import GroupwiseLearner, OnlineRidge
from whp.online._groupwise_regret import theorems as th


def test_any_learner_and_any_loss():
    X, y, G = stream(T=300)
    plain = GroupwiseLearner(Constant, 3, loss="absolute")
    own = GroupwiseLearner(
        Constant,
        3,
        loss=lambda z, t: float(round(z) != round(t)),
        prediction="sample",
        random_state=0,
    )
    for x, target, a in zip(X, y, G, strict=True):
        for learner in (plain, own):
            learner.predict(x, a)
            learner.update(x, target, a)
    assert all(c.measured.value <= c.bound + 1e-9 for c in plain.certificates(["a", "b", "c"]))
    assert "own learner" in plain.certificates()[0].claim
    wrong = GroupwiseLearner(Constant, 1, loss=lambda z, t: 7.0, prediction="sample")
    wrong.update(X[0], 0.0, [True])
    assert wrong.certificates()[0].verdict == Verdict.VOID
    with pytest.raises(ValueError, match="prediction"):
        GroupwiseLearner(Constant, 1, loss=lambda z, t: 0.0)
    broken = GroupwiseLearner(Constant, 1, loss=lambda z, t: math.nan, prediction="sample")
    with pytest.raises(ValueError, match="loss must be finite"):
        broken.update(X[0], 0.0, [True])
    assert broken.hedge.B == 1


def run(learner, X, y, active):
    for x, target, a in zip(X, y, active, strict=True):
        learner.predict(x, a)
        learner.update(x, target, a)
    return learner.certificates()


def test_units_of_learners_and_losses_agree():
    """Coins times 10: regret is in squared units of the target on both sides."""
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.random(300), np.ones(300)])
    y = 10.0 * (rng.random(300) < 0.5)
    wide = GroupwiseLearner(lambda: OnlineRidge(2, clip=(0, 10)), 1, loss_range=(0, 100))
    (ten,) = run(wide, X, y, np.ones((300, 1)))
    unit = GroupwiseLearner(lambda: OnlineRidge(2), 1)
    (one,) = run(unit, X, y / 10, np.ones((300, 1)))
    assert ten.verdict is one.verdict is Verdict.HOLDS
    assert ten.measured.value == pytest.approx(100 * one.measured.value)
    assert ten.bound == pytest.approx(100 * one.bound)


def test_a_learner_that_always_says_zero_fails():
    class Zero(OnlineRidge):
        def predict_one(self, x):
            return 0.0

    rng = np.random.default_rng(0)
    X = np.column_stack([rng.random(2000), np.ones(2000)])
    y = 0.7 * (rng.random(2000) < 0.5)
    lazy = GroupwiseLearner(lambda: Zero(2, clip=(0, 0.7)), 1, loss_range=(0, 0.49))
    (certificate,) = run(lazy, X, y, np.ones((2000, 1)))
    assert certificate.verdict is Verdict.FAILS


def test_another_loss_is_compared_with_the_own_learner():
    X, y, G = stream(T=500)
    learner = GroupwiseLearner(lambda: OnlineRidge(3), 3, loss="absolute")
    for certificate in run(learner, X, y, G | (np.arange(3) == 0)):
        assert certificate.name.startswith("own-regret")
        assert certificate.verdict in (Verdict.HOLDS, Verdict.VACUOUS)


def test_a_subclass_vouches_for_itself():
    """What is checked of the library's ridge is not of what calls itself one."""

    class Liar(OnlineRidge):
        def hindsight(self):
            return -100.0, -100.0

    X, y, _ = stream(T=60)
    both = np.ones((60, 2))
    for make, status in ((Liar, Status.UNCHECKED), (OnlineRidge, Status.MET)):
        certificate, _ = run(GroupwiseLearner(lambda make=make: make(3), 2), X, y, both)
        (answer,) = [a for a in certificate.conditions if a.name == th.SAME_LOSS.name]
        assert answer.status is status
        assert (certificate.verdict is Verdict.FAILS) == (make is Liar)


def test_labels_that_come_late_are_seen():
    X, y, _ = stream(T=20)
    learner = GroupwiseLearner(lambda: OnlineRidge(3), 1)
    for x in X:
        learner.predict(x, [True])
    for x, target in zip(X, y, strict=True):
        learner.update(x, target, [True])
    assert learner.late == 20
    assert learner.certificates()[0].verdict is Verdict.VOID


def test_a_trained_or_shared_ridge_makes_it_void():
    X, y, _ = stream(T=60)
    old = OnlineRidge(3)
    old.learn_one(X[0], 1.0)
    for make in (lambda: copy.deepcopy(old), lambda: old):
        learner = GroupwiseLearner(make, 2)
        assert run(learner, X, y, np.ones((60, 2)))[0].verdict is Verdict.VOID


def test_losses_do_not_wrap_and_the_learner_pickles():
    class Last:
        said = np.uint8(0)

        def predict_one(self, x):
            return self.said

        def learn_one(self, x, y):
            self.said = y

    learner = GroupwiseLearner(Last, 1, loss_range=(0, 255**2), prediction="sample")
    for y in np.array([0, 100, 0], dtype=np.uint8):
        learner.predict(None, [1])
        learner.update(None, y, [1])
    assert learner.losses.tolist() == [20_000]
    # Its own bytes, as a user keeps a learner between two days.
    whole = pickle.loads(pickle.dumps(GroupwiseLearner(Constant, 2)))
    assert whole.update([1.0], 1.0, [1, 1]) == 0.25


def test_rows_with_missing_values_or_arrays_are_known_again():
    learner = GroupwiseLearner(Constant, 1)
    for row in (
        lambda: np.array([np.nan, 1.0]),
        lambda: {"a": np.arange(3), "b": float("nan")},
        lambda: ["a", None],
    ):
        learner.predict(row(), [1])
        learner.update(row(), 0.5, [1])
    learner.predict({"a": 1}, [1])
    assert learner.late == 0
    learner.update({"a": 2}, 0.5, [1])
    assert learner.late == 1


def test_a_refused_target_costs_nothing():
    X, y, _ = stream(T=60)
    learner = GroupwiseLearner(lambda: OnlineRidge(3), 1)
    with pytest.raises(ValueError, match="y must"):
        learner.update(X[0], 1.001, [1])
    assert learner.rounds[0] == learner.hedge.largest == learner.losses[0] == 0
    assert run(learner, X, y, np.ones((60, 1)))[0].verdict is not Verdict.VOID


def test_after_a_refused_target_what_was_published_counts():
    learner = GroupwiseLearner(
        lambda: OnlineRidge(1), 2, prediction="sample", random_state=0, delta=0.1
    )
    learner.learners[0].learn_one([1.0], 1.0)
    for _ in range(20):
        said = learner.predict([1.0], [1, 1])
        with pytest.raises(ValueError, match="finite"):
            learner.update([1.0], np.nan, [1, 1])
        assert learner.update([1.0], 0.5, [1, 1]) == (said - 0.5) ** 2
    assert learner.late == 0
    learner.predict([1.0], [1, 1])
    with pytest.raises(ValueError, match="finite"):
        learner.update([1.0], np.nan, [1, 1])
    learner.predict([2.0], [1, 1])
    assert learner.late == 1


def test_losses_of_a_narrow_range_far_from_zero():
    learner = GroupwiseLearner(
        Constant,
        1,
        loss=lambda z, y: 1e9 + abs(z - y),
        loss_range=(1e9, 1e9 + 1),
        prediction="sample",
    )
    rng = np.random.default_rng(0)
    for t in range(200):
        learner.update(t, rng.random(), [1])
    (certificate,) = learner.certificates()
    assert certificate.measured is not None
    assert certificate.measured.value == 0
