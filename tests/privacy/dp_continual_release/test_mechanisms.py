import copy
import math
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from scipy.sparse import csr_array, issparse

from whp.certificate import Verdict
from whp.privacy import ContinualArgmax, ContinualCounter, ContinualMaxSum, plan_release
from whp.privacy._dp_continual_release.accuracy import planned
from whp.privacy._dp_continual_release.noise import Noise, OsEntropy, SeededEntropy


def bits(T, d, seed=0):
    return np.random.default_rng(seed).integers(0, 2, (T, d)).astype(np.uint8)


MECHANISMS = [
    (ContinualCounter, {"strategy": "tree"}),
    (ContinualCounter, {"strategy": "sqrt"}),
    (ContinualCounter, {"strategy": "naive"}),
    (ContinualMaxSum, {"strategy": "recompute"}),
    (ContinualMaxSum, {"strategy": "sqrt"}),
    (ContinualArgmax, {"strategy": "recompute"}),
    (ContinualArgmax, {"strategy": "tree"}),
    (ContinualCounter, {"strategy": "tree", "T": 20, "horizon": "double"}),
    (ContinualMaxSum, {"strategy": "recompute", "T": 20, "horizon": "double"}),
    (ContinualCounter, {"strategy": "sqrt", "T": 20, "horizon": "double"}),
]


@pytest.mark.parametrize(("kind", "options"), MECHANISMS, ids=str)
def test_steps_blocks_and_restarts_are_one_stream(kind, options):
    options = {"T": 300, "rho": 0.5, "insecure_seed": 7, **options}
    X = bits(300, 3)
    whole = kind(3, **options).run(X)
    one = kind(3, **options)
    np.testing.assert_allclose([one.step(x) for x in X], whole, atol=1e-6)
    blocks = kind(3, **options)
    np.testing.assert_allclose(
        np.concatenate([blocks.run(X[a : a + 70]) for a in range(0, 300, 70)]), whole, atol=1e-6
    )
    first = kind(3, **options)
    before = first.run(X[:111])
    state = first.state_dict()
    second = kind(3, **options)
    second.load_state_dict(state)
    # Noise of what was answered is kept: go on with the same source of bits.
    second.source.__dict__.update(first.source.__dict__)
    np.testing.assert_allclose(np.concatenate([before, second.run(X[111:])]), whole, atol=1e-6)
    assert second.spent() == pytest.approx(one.spent())
    with pytest.raises(RuntimeError, match="state at t=111 was already continued to t=300"):
        kind(3, **options).load_state_dict(state)
    with pytest.raises(RuntimeError, match="already continued"):
        first.run(X[111:])


def test_states_are_checked():
    mechanism = ContinualCounter(2, T=10, rho=0.5)
    with pytest.raises(ValueError, match="state must hold"):
        mechanism.load_state_dict({})
    good = ContinualCounter(3, T=10, rho=0.5).state_dict()
    with pytest.raises(ValueError, match="another columns"):
        mechanism.load_state_dict(good)
    assert mechanism.step([0, 1]).shape == (2,)


def test_epochs_double_and_keep_the_budget():
    counts = ContinualCounter(2, T=16, rho=0.5, horizon="double")
    counts.run(bits(100, 2))
    assert (counts.epoch, counts.plan.T) == (2, 64)
    assert counts.spent() <= 0.5
    assert counts.error_bound() > counts.plan.bound
    maxsum = ContinualMaxSum(50, T=16, rho=0.5, horizon="double", strategy="recompute")
    maxsum.run(bits(2000, 50))
    assert maxsum.epoch == 6
    assert maxsum.spent() <= 0.5


def test_cutting_keeps_few_ones_in_a_public_order():
    mechanism = ContinualCounter(6, T=50, rho=0.5, max_ones=2)
    rows = mechanism.checked(np.ones((3, 6)))
    assert (rows.sum(axis=1) == 2).all()
    assert (rows == rows[0]).all()
    np.testing.assert_array_equal(mechanism.checked([[1, 0, 0, 0, 0, 1]]), [[1, 0, 0, 0, 0, 1]])
    assert mechanism.plan.sensitivity == 4
    assert (
        plan_release("counts", 50, 6, rho=0.5, max_ones=2, neighbours="add-remove").sensitivity == 2
    )


def test_no_message_shows_a_record():
    mechanism = ContinualCounter(3, T=10, rho=0.5)
    with pytest.raises(ValueError, match="record 1 must hold") as told:
        mechanism.step([0, 7, 0])
    assert "7" not in str(told.value)
    with pytest.raises(ValueError, match=r"record 1 must have 3 columns, got shape \(2,\)"):
        mechanism.step([0, 1])
    assert mechanism.t == 0


EPOCHS = [
    (ContinualCounter, s, stop) for s in ("tree", "sqrt", "naive") for stop in (64, 192, 100)
] + [
    (ContinualMaxSum, "recompute", 64),
    (ContinualArgmax, "recompute", 192),
    (ContinualMaxSum, "tree", 64),
]


@pytest.mark.parametrize(("kind", "strategy", "stop"), EPOCHS, ids=str)
def test_a_stream_that_stops_at_an_epochs_end_keeps_its_total(kind, strategy, stop):
    options = {"T": 64, "rho": 1e5, "horizon": "double", "strategy": strategy}
    X = np.ones((stop + 1, 2), int)
    X[:, 1] = 0
    first = kind(2, **options)
    first.run(X[:stop])
    second = kind(2, **options)
    second.load_state_dict(first.state_dict())
    answer = second.step(X[stop])
    if kind is ContinualArgmax:
        assert answer == 0
    else:
        assert abs(np.max(answer) - (stop + 1)) <= second.error_bound()
        assert second.error_bound() < 20


@pytest.mark.parametrize("T", [64, 100, 1000])
def test_the_bound_over_epochs_holds_for_a_column_that_is_always_one(T):
    """Rates of 34 to 62 in a hundred without the staleness over an epoch's end."""
    broken = 0
    for seed in range(60):
        made = ContinualMaxSum(
            8, T=T, rho=20.0, horizon="double", strategy="recompute", insecure_seed=seed
        )
        X = np.zeros((7 * T, 8), np.uint8)
        X[:, 0] = 1
        errors = np.abs(made.run(X) - np.arange(1, 7 * T + 1))
        broken += errors.max() > made.error_bound()
    assert broken <= 9  # of 60 at 5 %: more than nine has probability 1e-3


def test_between_epochs_the_answer_is_in_the_middle_of_what_may_come():
    made = ContinualMaxSum(1, T=16, rho=1e5, horizon="double", strategy="recompute")
    made.run(np.ones((16, 1)))
    period, left = made.plan.period, 16 % made.plan.period
    made.step([1])
    stale = (left + made.plan.period - 1) / 2
    if made.plan.period > 1:
        assert made._inner.last[0] == pytest.approx(16 - left + stale, abs=1)
    assert period >= 1


def test_settings_of_a_state_must_agree():
    first = ContinualCounter(2, T=64, rho=50.0)
    first.run(bits(33, 2))
    state = first.state_dict()
    for other, named in (
        ({"rho": 0.05}, "budget"),
        ({"T": 65}, "T"),
        ({"beta": 0.1}, "beta"),
        ({"delta": 1e-9}, "delta"),
        ({"neighbours": "add-remove"}, "neighbours"),
        ({"max_ones": 1}, "max_ones"),
        ({"strategy": "naive"}, "strategy"),
        ({"horizon": "double", "strategy": first.plan.strategy}, "horizon"),
    ):
        options = {"T": 64, "rho": 50.0, **other}
        with pytest.raises(ValueError, match=f"written with another {named}"):
            ContinualCounter(2, **options).load_state_dict(state)
    with pytest.raises(ValueError, match="written with another query"):
        ContinualMaxSum(2, T=64, rho=50.0, strategy=first.plan.strategy).load_state_dict(state)
    used = ContinualCounter(2, T=64, rho=50.0)
    used.step([0, 1])
    with pytest.raises(ValueError, match="before the first record"):
        used.load_state_dict(state)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("carried", [np.nan, 0.0]),
        ("latest", [np.inf, 0.0]),
        ("t", -1),
        ("t", 65),
        ("start", 3),
        ("epoch", 1),
        ("spent", [1, 0]),
        ("spent", "x"),
        ("least", ["x"]),
        ("inner", {}),
        ("inner", None),
        ("inner", {"sums": np.zeros(2)}),
        ("settings", None),
        ("exposed", -1),
    ],
)
def test_a_damaged_state_is_refused(name, value):
    first = ContinualCounter(2, T=64, rho=0.5, strategy="tree")
    first.run(bits(5, 2))
    fresh = ContinualCounter(2, T=64, rho=0.5, strategy="tree")
    with pytest.raises((ValueError, TypeError), match="state"):
        fresh.load_state_dict({**first.state_dict(), name: value})
    assert fresh.t == 0
    assert fresh.step([0, 1]).shape == (2,)


def fresh_of(mechanism):
    answers = mechanism.certificates()[0].conditions
    return next(a for a in answers if a.name == "fresh-noise")


def test_fresh_noise_is_by_construction_for_what_was_drawn_here_alone(monkeypatch):
    def made(**options):
        mechanism = ContinualCounter(2, T=64, rho=0.5, strategy="tree", **options)
        mechanism.run(bits(5, 2))
        return mechanism

    def loaded(**options):
        mechanism = ContinualCounter(2, T=64, rho=0.5, strategy="tree")
        mechanism.load_state_dict(made(**options).state_dict())
        return mechanism

    assert fresh_of(made()).status == "by construction"
    assert fresh_of(made(insecure_seed=1)).status == "violated"
    assert fresh_of(loaded()).status == "unchecked"
    assert "copy" in fresh_of(loaded()).evidence
    assert fresh_of(loaded(insecure_seed=1)).status == "violated"

    class Mine(ContinualCounter):
        pass

    mine = Mine(2, T=64, rho=0.5)
    assert fresh_of(mine).status == "unchecked"
    assert fresh_of(copy.deepcopy(made())).status == "unchecked"
    # Its own bytes: what travelled was not made by this process.
    assert fresh_of(pickle.loads(pickle.dumps(made()))).status == "unchecked"

    def altered(change):
        mechanism = made()
        change(mechanism)
        return fresh_of(mechanism).status

    other = made()
    assert altered(lambda m: setattr(m, "run", len)) == "unchecked"
    assert altered(lambda m: setattr(m, "source", other.source)) == "unchecked"
    assert altered(lambda m: setattr(m, "_inner", other._inner)) == "unchecked"
    assert altered(lambda m: setattr(m._inner, "noise", other._inner.noise)) == "unchecked"
    assert altered(lambda m: setattr(m._inner.noise, "scale", Fraction(1, 9))) == "unchecked"
    assert altered(lambda m: setattr(m._inner.noise, "draw", np.zeros)) == "unchecked"
    assert altered(lambda m: setattr(m._inner.noise, "source", other.source)) == "unchecked"
    assert altered(lambda m: setattr(m.source, "words", np.zeros)) == "unchecked"
    assert altered(lambda m: setattr(m, "base", other.base)) == "unchecked"


def test_an_epoch_does_not_make_altered_noise_fresh():
    mechanism = ContinualCounter(2, T=4, rho=0.5, strategy="tree", horizon="double")
    mechanism.run(bits(5, 2))
    assert fresh_of(mechanism).status == "by construction"
    mechanism._inner.noise.scale = Fraction(1, 9)
    mechanism.run(bits(9, 2))
    assert mechanism.epoch == 2
    assert fresh_of(mechanism).status == "unchecked"
    assert str(mechanism.certificates()[0].verdict) == "fails", "the account remembers"


def test_answers_taken_by_a_replaced_part_are_missed():
    mechanism = ContinualCounter(2, T=64, rho=0.5, strategy="tree")
    own = mechanism._inner
    mechanism._inner = ContinualCounter(2, T=64, rho=1e5, strategy="tree")._inner
    mechanism.run(bits(9, 2))
    mechanism._inner = own
    assert fresh_of(mechanism).status == "unchecked"


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy])
def test_a_copy_is_not_continued_twice(way):
    mechanism = ContinualCounter(2, T=64, rho=0.5, strategy="tree")
    mechanism.run(bits(9, 2))
    twin = way(mechanism)
    mechanism.step([1, 0])
    with pytest.raises(RuntimeError, match="already continued"):
        twin.step([0, 1])


def test_another_process_does_not_go_on():
    mechanism = ContinualCounter(2, T=64, rho=0.5, strategy="tree")
    mechanism.step([1, 0])
    read, write = os.pipe()
    if os.fork() == 0:
        try:
            mechanism.step([1, 0])
        except RuntimeError as error:
            os.write(write, str(error).encode())
        os._exit(0)
    os.wait()
    os.close(write)
    assert b"belongs to another process" in os.read(read, 1000)
    os.close(read)
    assert mechanism.step([0, 1]).shape == (2,)


def test_masked_records_are_refused():
    with pytest.raises(TypeError, match="masked"):
        ContinualCounter(2, T=9, rho=0.5).run(np.ma.masked_array(np.ones((3, 2)), mask=True))


def test_a_bound_at_another_beta():
    made = ContinualMaxSum(3, T=64, rho=5.0, horizon="double", strategy="recompute")
    made.run(bits(100, 3))
    assert made.error_bound(0.2) < made.error_bound() < made.error_bound(0.001)
    assert made.error_bound(made.base.beta) == pytest.approx(made.error_bound())
    fixed = ContinualCounter(1, T=1000, rho=0.5, strategy="tree", neighbours="add-remove")
    plan = plan_release(
        "counts", 1000, rho=0.5, strategy="tree", neighbours="add-remove", beta=0.01
    )
    assert fixed.error_bound(0.01) == pytest.approx(plan.bound)
    assert math.isclose(fixed.error_bound(), 36.389613, abs_tol=1e-5)


@pytest.mark.parametrize("shared", [False, True])
def test_threads_draw_noise_of_their_own(shared):
    source = OsEntropy()
    plan = plan_release("counts", 400, 50, rho=0.5, strategy="naive")
    made = [ContinualCounter.from_plan(plan, source=source) for _ in range(4 if shared else 1)]
    ready = threading.Barrier(4)

    def steps(i):
        ready.wait()
        return [made[i % len(made)].step(np.zeros(50)) for _ in range(100)]

    with ThreadPoolExecutor(4) as pool:
        rows = np.array([a for part in pool.map(steps, range(4)) for a in part])
    assert len(np.unique(rows, axis=0)) == 400
    assert sum(m.t for m in made) == 400
    assert all(fresh_of(m).status == "by construction" for m in made)


@pytest.mark.parametrize(
    "bad",
    [[2, 0], [0.5, 0], [1], [None, 0], csr_array(([1, 1], [1, 1], [0, 2]), shape=(1, 2))],
    ids=str,
)
def test_an_error_that_told_of_a_record_is_remembered(bad):
    mechanism = ContinualCounter(2, T=64, rho=0.5, strategy="tree")
    mechanism.step([1, 0])
    with pytest.raises((ValueError, TypeError)):
        mechanism.run(bad if issparse(bad) else [bad])
    mechanism.step([0, 1])
    later = ContinualCounter(2, T=64, rho=0.5, strategy="tree")
    later.load_state_dict(mechanism.state_dict())
    for made in (mechanism, later):
        assert str(made.certificates()[0].verdict) == "void"
        assert made.certificates()[0].conditions[0].status == "violated"
    fine = ContinualCounter(2, T=2, rho=0.5, strategy="tree")
    fine.run(bits(2, 2))
    with pytest.raises(ValueError, match="horizon"):
        fine.step([1, 0])
    assert str(fine.certificates()[0].verdict) == "holds"


def test_noise_that_was_put_back_is_not_fresh():
    mechanism = ContinualCounter(1, T=64, rho=0.5, strategy="tree")
    own = mechanism._inner.noise
    mechanism._inner.noise = Noise("gaussian", mechanism.plan.scale, SeededEntropy(0))
    mechanism.run(np.ones((40, 1)))
    mechanism._inner.noise = own
    mechanism.step([1])
    assert fresh_of(mechanism).status == "unchecked"


def test_no_one_goes_on_after_an_interruption(monkeypatch):
    mechanism = ContinualCounter(2, T=64, rho=0.5, strategy="tree")
    mechanism.run(bits(9, 2))
    state = mechanism.state_dict()

    def stop(self, count):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Noise, "draw", stop)
        with pytest.raises(KeyboardInterrupt):
            mechanism.step([1, 0])
    with pytest.raises(RuntimeError, match="interrupted"):
        mechanism.step([1, 0])
    later = ContinualCounter(2, T=64, rho=0.5, strategy="tree")
    later.load_state_dict(state)
    assert later.step([1, 0]).shape == (2,)


def max_error_of(mechanism, errors):
    return mechanism.certificates(errors)[1].verdict


def test_errors_of_either_sign_and_of_all_answers_are_measured():
    mechanism = ContinualCounter(2, T=4000, rho=0.5, strategy="tree")
    X = bits(4000, 2)
    errors = mechanism.run(X) - np.cumsum(X, axis=0, dtype=np.int64)
    measured = mechanism.certificates(errors)[1].measured
    assert measured is not None
    assert measured.value == np.abs(errors).max()
    assert max_error_of(mechanism, np.full(4000, -500.0)) == Verdict.FAILS
    assert max_error_of(mechanism, [0.0] * 4000) == Verdict.HOLDS
    for wrong in (errors[-10:], np.zeros(0), np.full(4000, np.nan), np.zeros((4000, 2, 1))):
        with pytest.raises(ValueError, match="errors must be finite, one for each of the 4000"):
            mechanism.certificates(wrong)
    with pytest.raises(ValueError, match="cut"):
        mechanism.certificates(errors, cut=math.nan)


@pytest.mark.parametrize(
    ("query", "options", "altered"),
    [
        ("counts", {"d": 1}, {"d": 5}),
        ("counts", {"d": 5, "max_ones": 1}, {"max_ones": None}),
        ("counts", {"d": 5, "max_ones": 1, "neighbours": "add-remove"}, {"neighbours": "replace"}),
        ("counts", {}, {"beta": 1e-6}),
        ("counts", {}, {"T": 1000}),
        ("counts", {}, {"strategy": "naive"}),
        ("counts", {}, {"bound": 0.1}),
        ("maxsum", {"strategy": "recompute", "T": 2000}, {"period": 600}),
        ("sumselect", {"strategy": "recompute", "T": 2000}, {"period": 600}),
    ],
)
def test_an_altered_plan_is_refused(query, options, altered):
    """What the error bound and the cost of a record rest on is the plan's own."""
    plan = plan_release(query, **{"T": 16, "d": 3, "rho": 0.5, "strategy": "tree", **options})
    with pytest.raises(ValueError, match="plan must be as plan_release made it"):
        ContinualCounter.from_plan(replace(plan, **altered))


@pytest.mark.parametrize("query", ["counts", "maxsum", "sumselect"])
@pytest.mark.parametrize("budget", [{"rho": 0.5}, {"epsilon": 1.0}])
def test_the_bound_of_a_plan_with_wider_noise_is_that_of_its_budget(query, budget):
    """Three times the noise is the plan of a budget of a ninth, or a third."""
    strategy = "tree" if query == "counts" else "recompute"
    options = {"T": 2000, "d": 3, "strategy": strategy}
    plan = plan_release(query, **options, **budget)
    sharp = query == "sumselect"
    wide = replace(plan, scale=plan.scale / 3 if sharp else plan.scale * 3)
    mechanism = ContinualCounter.from_plan(wide)
    small = {k: v / (9 if k == "rho" else 3) for k, v in budget.items()}
    right = planned(
        query,
        2000,
        3,
        plan_release(query, 2000, 3, **small).budget,
        strategy,
        None,
        "replace",
        0.05,
        plan.period,
    ).bound
    assert mechanism.error_bound() >= right * (1 - 1e-9)
    assert mechanism.error_bound(0.01) > mechanism.error_bound() >= mechanism.error_bound(0.5)
    narrow = replace(plan, scale=plan.scale * 3 if sharp else plan.scale / 3)
    assert ContinualCounter.from_plan(narrow).error_bound() == pytest.approx(plan.bound)
    assert ContinualCounter.from_plan(plan).error_bound() == pytest.approx(plan.bound)


@pytest.mark.parametrize("way", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_of_noise_draws_its_own(way):
    noise = Noise("gaussian", 1000, OsEntropy())
    noise.draw(3)  # more bits were fetched than used
    assert (noise.draw(8) != way(noise).draw(8)).any()


@pytest.mark.parametrize("strategy", ["tree", "naive", "recompute"])
@pytest.mark.parametrize("budget", [{"rho": 1e-20}, {"epsilon": 1e-12}])
def test_a_budget_without_room_for_its_noise_is_named(strategy, budget):
    with pytest.raises(ValueError, match="rho or epsilon must be larger"):
        ContinualMaxSum(2, T=100, strategy=strategy, **budget)


def test_the_square_root_keeps_its_binary_places():
    """Of what it rounds, the errors add up as its bound says: Σ L² is that of the exact coefficients."""
    T = 30_000
    exact = plan_release("counts", T, rho=0.5, strategy="sqrt")
    least = float(exact.scale / 2**13) ** 2 * 0.5 * 1.01
    inner = ContinualCounter(1, T=T, rho=least, strategy="sqrt")._inner
    k = np.arange(1, T)
    right = np.cumsum(np.concatenate([[1.0], np.cumprod((2 * k - 1) / (2 * k))]) ** 2)
    assert (np.cumsum(inner.L**2) <= right * (1 + 1e-5)).all()
    with pytest.raises(ValueError, match="strategy must be 'tree'"):
        ContinualCounter(1, T=T, rho=least / 4, strategy="sqrt")
    assert plan_release("counts", T, rho=least / 4).strategy != "sqrt"
