import dataclasses

import numpy as np
import pytest
from guarantee import assert_error_rate

from whp.certificate import Status, Verdict
from whp.conditions import Test as Outcome
from whp.interpretability import bias_adaptation, targets
from whp.interpretability._sae_gba import theorems as t
from whp.interpretability._sae_gba.chance import Chance
from whp.interpretability._sae_gba.formulas import unit_rows
from whp.studies.sae_gba.experiments import simulated

KNOWN = (t.INDEPENDENT.unchecked("drawn"), t.HELD_OUT.unchecked("drawn"))
SEEDS = t.SEEDS.unchecked("drawn")
NONE = Chance(0.0, 0.0, 0.0)


def status(certificate, name):
    return {a.name: a.status for a in certificate.conditions}[name]


# Recovery


@pytest.fixture(scope="module")
def model():
    X, V, H = simulated(24, 200, (2,), 3000, np.random.default_rng(0))
    return X, V, H, bias_adaptation(X, 600, 1 / 12, rng=0)[0]


def of(model, decoder=None, truth=None, codes=None, activations=None, **options):
    X, V, H, W = model
    made = t.Model(
        V if truth is None else truth,
        H if codes is None else codes,
        X if activations is None else activations,
    )
    options = {"p": 1 / 12, "own": True, "rng": np.random.default_rng(5), "cosine": 0.8} | options
    return t.recovery(W if decoder is None else decoder, made, **options)


def test_recovery_holds_on_an_ordinary_run_of_the_theorems_algorithm(model):
    good = of(model)
    assert good.verdict is Verdict.HOLDS
    assert str(good.scope) == "this run"
    assert status(good, "width-and-frequency") is Status.UNCHECKED
    assert "not published" in good.explain()


def test_recovery_fails_where_features_are_missed(model):
    assert of(model, decoder=model[3][:4]).verdict is Verdict.FAILS


def test_the_theorems_own_model_is_no_certain_failure():
    """With all conditions true, and constants of 1, features are missed."""
    X, V, H = simulated(8, 32, (3,), 4000, np.random.default_rng(1))
    W, _ = bias_adaptation(X, 512, 0.25, rng=1)
    c = t.recovery(W, t.Model(V, H, X), p=0.25, own=True, rng=np.random.default_rng(0))
    assert c.verdict is Verdict.FAILS  # of the demand, as V says
    assert status(c, "width-and-frequency") is Status.UNCHECKED
    assert float(c.inputs["neurons by the theorem, constants 1"]) == 512


@pytest.mark.parametrize(
    ("changed", "condition"),
    [
        ({"own": False}, "its-own-algorithm"),
        ({"activations": "noise"}, "codes-times-features"),
        ({"codes": "negative"}, "nonnegative-codes"),
        ({"codes": "uneven"}, "rows-alike"),
        ({"codes": "together"}, "features-apart"),
        ({"truth": "axes"}, "gaussian-directions"),
    ],
)
def test_each_condition_of_recovery_is_looked_at(model, changed, condition):
    X, _V, H, _ = model
    rng = np.random.default_rng(3)
    both = H.copy()
    both[:, 1] = both[:, 0]
    other = {
        "noise": rng.normal(size=X.shape),
        "negative": np.where(rng.random(H.shape) < 0.1, -2.0, 1.0) * H,
        "uneven": H * rng.uniform(0.5, 1, H.shape),
        "together": both,
        "axes": np.eye(24, 200),
    }
    changed = {k: other[v] if isinstance(v, str) else v for k, v in changed.items()}
    c = of(model, **changed)
    assert status(c, condition) is Status.VIOLATED
    assert c.verdict is Verdict.VOID


def test_features_of_unit_length_are_as_good_as_gaussian_ones():
    """The kurtosis of a unit row's entries is 3d/(d + 2), which is no fault; 200 draws of each."""
    refuted = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        V = unit_rows(rng.normal(size=(400, 20)))
        refuted += t._gaussian(V, rng).status is Status.VIOLATED
    assert refuted <= 3


def test_lengths_may_vary_as_those_of_gaussian_vectors_do_and_no_more():
    refuted, seen = 0, 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        V = rng.normal(size=(60, 12))
        refuted += t._gaussian(V, rng).status is Status.VIOLATED
        unlike = unit_rows(V) * np.exp(0.6 * rng.normal(size=(60, 1)))
        seen += t._gaussian(unlike, rng).status is Status.VIOLATED
    assert refuted <= 3
    assert seen >= 180


@pytest.mark.parametrize("unit", [1e-200, 1e200])
def test_features_in_any_unit_are_found_and_explained(unit):
    rng = np.random.default_rng(0)
    V = unit_rows(rng.normal(size=(30, 40)))
    H = np.argsort(np.argsort(rng.random((300, 30)), axis=1), axis=1) < 3
    model = t.Model(unit * V, H / unit, (H @ V).astype(np.float32))
    c = t.recovery(V.astype(np.float32), model, p=0.1, own=True, rng=rng)
    assert c.verdict is Verdict.HOLDS


def test_recovery_without_codes_and_without_truth(model):
    _X, V, _, W = model
    rng = np.random.default_rng(0)
    unknown = t.recovery(W, None, p=0.1, own=True, rng=rng)
    assert unknown.verdict is Verdict.UNMEASURED
    half = t.recovery(W, t.Model(V), p=0.1, own=True, cosine=0.8, rng=rng)
    assert half.verdict is Verdict.HOLDS
    assert status(half, "rows-alike") is Status.UNCHECKED
    assert (
        t.recovery(W, t.Model(V), p=0.1, own=True, cosine=0.01, rng=rng).verdict is Verdict.VACUOUS
    )


# Frequency


def test_error_rate_of_the_frequency_certificate():
    target = targets(64, 8, 0.5, 1e-3)[0]

    def instance(rng):
        return t.frequency(rng.binomial(2000, target), 2000, target, answers=KNOWN, slack=0.01)

    assert_error_rate(instance, 0.05, n=300)


def test_few_rows_hold_nothing():
    """Neurons that never fired on 500 rows may fire at a hundred times a target of 1e-4."""
    target = np.full(100, 1e-4)
    c = t.frequency(np.zeros(100, int), 500, target, answers=KNOWN)
    assert c.verdict is Verdict.INCONCLUSIVE
    assert "independent rows" in c.advice


def test_rows_that_are_needed_decide():
    rng = np.random.default_rng(0)
    target = targets(96, 5, 0.2, 0.01)[0]
    n = t.rows_needed(0.01, 96, 1.0, 0.05, 19)
    held = [
        t.frequency(rng.binomial(2 * n, target), 2 * n, target, answers=KNOWN).verdict
        for _ in range(20)
    ]
    assert 2000 < n < 8000
    assert held.count(Verdict.HOLDS) >= 18
    few = [
        t.frequency(rng.binomial(n // 4, target), n // 4, target, answers=KNOWN).verdict
        for _ in range(20)
    ]
    assert Verdict.HOLDS not in few


def test_frequency_verdicts():
    target = np.full(10, 0.1)
    over = np.full(10, 1000)
    given = {"answers": KNOWN, "untrained": 5.0}
    assert t.frequency(over, 10_000, target, **given).verdict is Verdict.HOLDS
    assert t.frequency(over, 10_000, target, **given, slack=4.5).verdict is Verdict.VACUOUS
    over[3] = 4000
    failed = t.frequency(over, 10_000, target, **given)
    assert failed.verdict is Verdict.FAILS
    assert failed.inputs["neuron with the largest"] == 3
    grouped = t.frequency(over, 10_000, target, **given, grouped=True)
    assert "a row drawn from a new group" in grouped.claim


def test_independence_is_answered_by_what_was_seen():
    seen = Outcome(0.4, "much")
    assert t.independence(seen, 0.0, 100, False).status is Status.UNCHECKED
    assert t.independence(Outcome(5e-4, "much"), 0.0, 100, True).status is Status.VIOLATED
    assert t.independence(seen, 0.05, 100, False).status is Status.VIOLATED
    assert t.independence(seen, 0.05, 100, True).status is Status.VIOLATED
    assert t.independence(seen, 0.005, 100, True).status is Status.UNCHECKED


# Coming back


def test_coming_back_is_counted_in_the_run_with_fewest():
    W = np.eye(10, dtype=np.float32)
    c = t.came_back(W, [W, -W, W[:4]], NONE, seeds=SEEDS)
    assert c.measured is not None
    assert c.measured.value == 0  # features are signed
    assert t.came_back(W, [W, W[:4]], NONE, seeds=SEEDS).verdict is Verdict.HOLDS
    assert t.came_back(W, [W[:1]], NONE, seeds=SEEDS).verdict is Verdict.FAILS
    assert t.came_back(W, [], NONE, seeds=SEEDS).verdict is Verdict.UNMEASURED
    assert t.came_back(W[:0], [W], NONE, seeds=SEEDS).verdict is Verdict.FAILS
    chance = Chance(0.3, 0.1, 0.0)
    assert t.came_back(W, [W], chance, seeds=SEEDS).verdict is Verdict.VACUOUS


def test_one_neuron_in_a_thousand_is_not_enough():
    rng = np.random.default_rng(0)
    W, other = unit_rows(rng.normal(size=(2, 500, 64))[0]), unit_rows(rng.normal(size=(500, 64)))
    other[:5] = W[:5]
    c = t.came_back(W, [other], Chance(1e-9, 1e-9, 1e-55), seeds=SEEDS)
    assert c.verdict is Verdict.FAILS


def test_two_seeds_say_nothing_of_new_ones_and_many_do():
    W = np.eye(20, dtype=np.float32)
    two = t.consistency(W, [W[:16]], NONE, seeds=SEEDS)
    assert two.verdict is Verdict.INCONCLUSIVE
    assert "n_seeds of about" in two.advice
    many = t.consistency(W, [W[:16]] * 9, NONE, seeds=SEEDS)
    assert many.verdict is Verdict.HOLDS
    assert many.sure == pytest.approx(0.95)
    assert t.consistency(W, [W[:0]] * 30, NONE, seeds=SEEDS).verdict is Verdict.FAILS


@pytest.mark.parametrize("runs", [1, 2, 3])
def test_more_seeds_make_consistency_no_worse(runs):
    """Dictionaries drawn with one covariance: the mean given the first one, which 300 others tell."""
    spread = np.sqrt(1 / np.arange(1, 17))
    missed = 0
    for seed in range(25):
        rng = np.random.default_rng(seed)
        first, *others = (
            unit_rows(rng.normal(size=(32, 16)) * spread).astype(np.float32)
            for _ in range(1 + runs)
        )
        fresh = unit_rows(rng.normal(size=(100 * 32, 16)) * spread).astype(np.float32)
        best = (first @ fresh.T).reshape(32, 100, 32).max(axis=2)
        mean = float((best > 0.7).mean())
        e = t.consistency(first, others, NONE, seeds=SEEDS).measured
        missed += not e.low <= mean <= e.high
    assert missed <= 3


def test_copies_from_elsewhere_are_seen():
    rng = np.random.default_rng(0)
    W, other = (unit_rows(rng.normal(size=(50, 30))).astype(np.float32) for _ in "ab")
    assert t.seeds_by_hand(W, [other]).status is Status.UNCHECKED
    assert t.seeds_by_hand(W, [other, W[::-1]]).status is Status.VIOLATED


# Codes


def test_unique_code_verdicts():
    rng = np.random.default_rng(0)
    Q = np.linalg.qr(rng.normal(size=(40, 20)))[0].T
    Q[1] = 0.1 * Q[0] + np.sqrt(1 - 0.01) * Q[1]
    few = np.full(500, 4)
    assert t.unique_code(few, Q, answers=KNOWN).verdict is Verdict.HOLDS  # below 5.5
    assert t.unique_code(few + 2, Q, answers=KNOWN).verdict is Verdict.FAILS
    twins = np.concatenate([Q, unit_rows(Q + 1e-3 * rng.normal(size=Q.shape))])
    assert t.unique_code(few, twins, answers=KNOWN).verdict is Verdict.FAILS  # they never fired
    assert t.unique_code(np.zeros(500, int), Q, answers=KNOWN).verdict is Verdict.FAILS
    assert t.unique_code(few, Q, answers=KNOWN, unbiased=few).verdict is Verdict.VACUOUS
    assert t.unique_code(few[:30], Q, answers=KNOWN).verdict is Verdict.INCONCLUSIVE


def test_unique_code_error_rate_is_that_of_its_delta():
    Q = np.linalg.qr(np.random.default_rng(0).normal(size=(40, 20)))[0].T
    Q[1] = 0.1 * Q[0] + np.sqrt(1 - 0.01) * Q[1]

    def instance(rng):
        return t.unique_code(np.where(rng.random(400) < 0.05, 9, 3), Q, answers=KNOWN, delta=0.2)

    assert instance(np.random.default_rng(0)).confidence == pytest.approx(0.8)
    assert_error_rate(instance, 0.2, n=200)


def test_donoho_and_elad_by_brute_force():
    """Below the bound no other combination of as few directions gives the same sum; at it one may."""
    W = np.eye(4)
    W = np.concatenate([W, unit_rows(np.ones((1, 4)))])  # cosine ½ with each axis: below 1.5
    x = W[4] * 2  # one direction, or all four axes
    assert np.linalg.matrix_rank(W[:4]) == 4
    np.testing.assert_allclose(W[:4].sum(axis=0), x)


def test_certificates_are_plain_values():
    W = np.eye(4, dtype=np.float32)
    c = t.came_back(W, [W], NONE, seeds=SEEDS)
    assert dataclasses.replace(c) == c
