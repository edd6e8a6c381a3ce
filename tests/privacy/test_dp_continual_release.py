import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from guarantee import assert_error_rate
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.stats import chisquare

from whp.certificate import Verdict
from whp.privacy._dp_continual_release import (
    ContinualArgmax,
    ContinualCounter,
    ContinualMaxSum,
    audit_release,
    discrete_gaussian,
    discrete_laplace,
    epsilon_of_rho,
    gaussian_epsilon,
    hard_stream,
    marginals,
    plan_release,
    price,
    release_stream,
    rho_of_epsilon,
)
from whp.privacy._dp_continual_release.accuracy import levels, root_above, square_root
from whp.privacy._dp_continual_release.budget import simple_epsilon
from whp.privacy._dp_continual_release.counters import counter
from whp.privacy._dp_continual_release.noise import Noise, OsEntropy, SeededEntropy
from whp.privacy._dp_continual_release.price import lower_bound
from whp.privacy._dp_continual_release.stream import error_of

ONE = {"rho": 0.5, "neighbours": "add-remove"}
SURE = 0.99999  # an honest mechanism's noise has no seed, and at 95 % its audit would fail in one run of forty


def bits(T, d, seed=0):
    return np.random.default_rng(seed).integers(0, 2, (T, d)).astype(np.uint8)


def test_1_levels():
    assert [levels(T) for T in (1, 7, 8, 1000, 1024, 65536)] == [1, 3, 4, 10, 11, 17]


@pytest.mark.parametrize(
    ("T", "tree", "sqrt", "naive"),
    [
        (1, 2.716203, 2.716203, 2.716203),
        (8, 9.830609, 5.493846, 9.606932),
        (1000, 36.389613, 14.508837, 145.579083),
        (1024, 38.728366, 14.559885, 147.480437),
        (65536, 71.316928, 24.377675, 1391.813135),
    ],
)
def test_2_bounds_of_counts(T, tree, sqrt, naive):
    found = {a.strategy: a.bound for a in plan_release("counts", T, **ONE).alternatives}
    assert found == pytest.approx({"tree": tree, "sqrt": sqrt, "naive": naive}, abs=1e-5)


def test_2_pure_tree():
    assert plan_release("counts", 1024, epsilon=1.0, delta=0).bound == pytest.approx(
        226.442, abs=1e-3
    )


def test_3_square_root_of_prefix_sums():
    c = square_root(1024)
    np.testing.assert_allclose(c[:5], [1, 0.5, 0.375, 0.3125, 0.2734375], atol=1e-15)
    assert (c**2).sum() == pytest.approx(3.2725541502, abs=1e-9)
    L = np.array([[c[i - j] if i >= j else 0.0 for j in range(64)] for i in range(64)])
    np.testing.assert_allclose(L @ L, np.tril(np.ones((64, 64))), atol=1e-14)


@pytest.mark.parametrize(
    ("T", "zcdp", "r", "pure"),
    [(10**4, 83.51, 61, 347.86), (10**5, 190.43, 137, 1206.31), (10**6, 429.94, 306, 4104.34)],
)
def test_4_recompute(T, zcdp, r, pure):
    plan = plan_release("maxsum", T, 10**6, rho=0.5)
    assert (plan.strategy, plan.period) == ("recompute", r)
    assert plan.bound == pytest.approx(zcdp, abs=0.01)
    assert plan_release("maxsum", T, 10**6, epsilon=1.0).bound == pytest.approx(pure, abs=0.01)


def test_4_selection_and_baskets():
    plan = plan_release("sumselect", 10**4, 302, rho=0.5)
    assert (plan.period, plan.bound) == (82, pytest.approx(229.521, abs=1e-3))
    # The period is searched exhaustively: a coarser search ends at 947.339 with 556.
    assert plan_release("sumselect", 10**4, 302, epsilon=1.0).bound <= 947.339
    found = {
        a.strategy: a.bound for a in plan_release("maxsum", 155_659, 302, rho=0.5).alternatives
    }
    assert found["tree"] == pytest.approx(1619.6, abs=0.1)
    assert found["sqrt"] == pytest.approx(541.8, abs=0.1)
    assert found["recompute"] <= 222.84


def test_4_every_period_was_considered():
    for T in (1, 2, 17, 300):
        chosen = plan_release("maxsum", T, 10**4, rho=0.1, strategy="recompute").bound
        every = [
            (r - 1) / 2 + math.sqrt((T // r) / 0.1 * math.log(2 * (T // r) / 0.05))
            for r in range(1, T + 1)
        ]
        assert chosen == pytest.approx(min(every))


def test_5_conversions():
    wanted = [
        (0.005, 0.429941, 0.530652, 0.396857),
        (0.05, 1.471595, 1.712258, 1.367571),
        (0.5, 5.221534, 5.756522, 4.886554),
        (1, 7.766217, 8.433844, 7.286081),
    ]
    for rho, epsilon, loose, gaussian in wanted:
        assert epsilon_of_rho(rho, 1e-6) == pytest.approx(epsilon, abs=1e-6)
        assert simple_epsilon(rho, 1e-6) == pytest.approx(loose, abs=1e-6)
        assert gaussian_epsilon(math.sqrt(2 * rho), 1e-6) == pytest.approx(gaussian, abs=1e-6)
        assert gaussian <= epsilon <= loose
    for epsilon, delta, rho in ((1, 1e-6, 0.024356), (0.5, 1e-6, 0.006642), (2, 1e-9, 0.056131)):
        assert rho_of_epsilon(epsilon, delta) == pytest.approx(rho, abs=1e-6)


def test_6_lower_bounds():
    assert lower_bound("maxsum", 10**4, 10**6, 0.5) == (9.0, 18, 248)
    assert lower_bound("maxsum", 155_659, 10**6, 0.5) == (23.0, 46, 1608)
    assert lower_bound("maxsum", 155_659, 302, 0.5) == (9.5, 19, 276)
    assert lower_bound("maxsum", 10**4, 10**6, 1.0, pure=True)[0] == 28.0
    assert lower_bound("maxsum", 155_659, 10**6, 1.0, pure=True)[0] == 112.5
    assert lower_bound("sumselect", 10**4, 10**6, 0.5)[0] <= 9.0
    for T in np.unique(np.geomspace(10, 10**6, 30).astype(int)):
        for rho in (1e-3, 1e-2, 0.1, 1.0):
            found = price("maxsum", int(T), 10**6, rho=rho)
            assert found.lower < found.upper


def test_7_the_hard_stream_gives_its_secret_away():
    secret = np.random.default_rng(0).integers(0, 2, (7, 5))
    stream = hard_stream(secret)
    assert stream.shape == (70, 5)
    answers = np.cumsum(stream, axis=0, dtype=int).max(axis=1)
    np.testing.assert_array_equal(marginals(answers, 7, 5), secret.sum(axis=0))
    np.testing.assert_array_equal(np.sort(secret.sum(axis=0))[::-1], (5, 5, 4, 4, 4))


def coverage(mechanism, X):
    errors = error_of(mechanism.query, mechanism.run(X), np.cumsum(X, axis=0, dtype=np.int64))
    return mechanism.certificates(errors)[1]


@pytest.mark.parametrize("strategy", ["recompute", "tree", "sqrt"])
def test_8_error_bounds_keep_their_promise(strategy):
    def instance(rng):
        d = int(rng.integers(1, 4))
        X = (rng.random((400, d)) < rng.random(d)).astype(np.uint8)
        return coverage(
            ContinualMaxSum(
                d, T=400, rho=float(rng.uniform(0.2, 2)), strategy=strategy, insecure_seed=rng
            ),
            X,
        )

    assert_error_rate(instance, 0.05, n=300)


@pytest.mark.parametrize("strategy", ["recompute", "tree", "naive"])
def test_8_pure_bounds_keep_their_promise(strategy):
    def instance(rng):
        X = (rng.random((200, 2)) < 0.5).astype(np.uint8)
        return coverage(
            ContinualMaxSum(
                2, T=200, epsilon=float(rng.uniform(1, 8)), strategy=strategy, insecure_seed=rng
            ),
            X,
        )

    assert_error_rate(instance, 0.05, n=300)


@pytest.mark.parametrize("budget", [{"rho": 0.5}, {"epsilon": 2.0}], ids=str)
def test_8_the_leader_is_nearly_the_largest(budget):
    def instance(rng):
        X = (rng.random((300, 5)) < rng.random(5)).astype(np.uint8)
        return coverage(
            ContinualArgmax(5, T=300, strategy="recompute", insecure_seed=rng, **budget), X
        )

    assert_error_rate(instance, 0.05, n=300)


def test_9_discrete_gaussian_has_its_law():
    x = discrete_gaussian(2.0, 1_000_000, SeededEntropy(1))
    k = np.arange(-12, 13)
    p = np.exp(-(k**2) / 8)
    p /= np.exp(-(np.arange(-60, 61) ** 2) / 8).sum()
    counts = np.array([(x == v).sum() for v in k])
    inside = np.abs(k) <= 8
    assert (
        chisquare(counts[inside], p[inside] / p[inside].sum() * counts[inside].sum()).pvalue > 1e-3
    )
    assert x.var() == pytest.approx(4, abs=0.03)


@pytest.mark.parametrize("sigma", [0.4, 1.3, 71.65, 3000.5, 1e8])
def test_9_variances_of_all_sizes(sigma):
    x = discrete_gaussian(sigma, 100_000, SeededEntropy(2)).astype(float)
    scale = float(Noise("gaussian", sigma, OsEntropy()).scale)
    assert sigma <= scale <= sigma * (1 + 5e-5) + 1e-12
    k = np.arange(-40, 41)
    p = np.exp(-(k**2) / (2 * scale**2))
    wanted = (k**2 * p).sum() / p.sum() if scale < 2 else scale**2
    assert x.var() == pytest.approx(wanted, rel=0.03)
    assert abs(x.mean()) < 5 * x.std() / math.sqrt(1e5)


def test_9_discrete_laplace_has_its_law():
    x = discrete_laplace(10.0, 400_000, SeededEntropy(3))
    q = math.exp(-0.1)
    k = np.arange(-60, 61)
    counts = np.array([(x == v).sum() for v in k])
    p = (1 - q) / (1 + q) * q ** np.abs(k)
    assert chisquare(counts, p / p.sum() * counts.sum()).pvalue > 1e-3
    assert discrete_laplace(Fraction(7, 3), 200_000, SeededEntropy(4)).var() == pytest.approx(
        10.72, rel=0.03
    )


def test_9_no_float_is_drawn():
    assert discrete_gaussian(3.0, 10).dtype == np.int64
    assert isinstance(Noise("gaussian", 2.5, OsEntropy()).scale, Fraction)
    value = Fraction(5, 7)
    assert value <= root_above(value) ** 2 <= value * (1 + Fraction(1, 2**38))
    with pytest.raises(ValueError, match="scale"):
        discrete_gaussian(-1.0, 3)


@pytest.mark.parametrize("strategy", ["tree", "sqrt", "naive"])
def test_10_without_noise_counts_are_exact(strategy):
    for T in (*range(1, 40), 63, 64, 65, 127, 128, 200, 300):
        plan = replace(plan_release("counts", T, 2, rho=0.5, strategy=strategy), scale=Fraction(0))
        X = bits(T, 2, T)
        wanted = np.cumsum(X, axis=0)
        np.testing.assert_allclose(counter(plan, OsEntropy(), 2).advance(X), wanted, atol=1e-6)
        stepped = counter(plan, OsEntropy(), 2)
        np.testing.assert_allclose(
            np.concatenate([stepped.advance(x[None]) for x in X]), wanted, atol=1e-6
        )


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
def test_12_13_steps_blocks_and_restarts_are_one_stream(kind, options):
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
    with pytest.raises(ValueError, match="carried"):
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


def test_11_the_audit_lets_pass_and_catches():
    plan = plan_release("counts", 64, strategy="tree", **ONE)
    honest = audit_release(lambda: ContinualCounter.from_plan(plan), n=4000, confidence=SURE, rng=0)
    assert [c.verdict for c in honest.certificates] == [Verdict.HOLDS, Verdict.HOLDS]
    assert 0.6 < honest.mu_low <= honest.mu
    half = replace(plan, scale=plan.scale / 2)
    caught = audit_release(lambda: ContinualCounter.from_plan(half), n=4000, rng=0)
    assert [c.verdict for c in caught.certificates] == [Verdict.HOLDS, Verdict.FAILS]
    wide = plan_release("counts", 64, rho=0.05, strategy="tree", neighbours="add-remove")
    level = replace(wide, scale=wide.scale / 5)
    both = audit_release(lambda: ContinualCounter.from_plan(level), n=4000, rng=0)
    assert [c.verdict for c in both.certificates] == [Verdict.FAILS, Verdict.FAILS]
    broken = ContinualCounter.from_plan(half)
    broken.run(bits(64, 1))
    assert broken.certificates()[0].verdict == Verdict.FAILS


@pytest.mark.parametrize("strategy", ["sqrt", "naive"])
def test_11_other_strategies_are_as_tight(strategy):
    plan = plan_release("counts", 32, strategy=strategy, **ONE)
    for adaptive in (False, True):
        found = audit_release(
            lambda: ContinualCounter.from_plan(plan),
            n=4000,
            adaptive=adaptive,
            confidence=SURE,
            rng=0,
        )
        assert 0.6 < found.mu_low <= found.mu


class Redrawn:
    """Draws noise anew for the same count at every step, at a tree's scale: broken, and not one of ours."""

    plan = plan_release("counts", 32, rho=0.5, strategy="tree", neighbours="add-remove")

    def run(self, X):
        counts = np.cumsum(X, axis=0, dtype=np.int64)
        return counts + discrete_gaussian(self.plan.scale, len(counts))[:, None]


def test_11_foreign_mechanisms_are_attacked_from_outside():
    found = audit_release(Redrawn, n=1500, rng=0)
    assert found.attack.startswith("logistic")
    assert found.certificates[1].verdict == Verdict.FAILS
    plan = plan_release("maxsum", 32, 3, rho=0.05, strategy="recompute")
    honest = audit_release(lambda: ContinualMaxSum.from_plan(plan), n=500, confidence=SURE, rng=0)
    assert all(c.verdict == Verdict.HOLDS for c in honest.certificates)
    with pytest.raises(TypeError, match="make_mechanism"):
        audit_release(lambda: object())
    with pytest.raises(ValueError, match="adaptive"):
        audit_release(Redrawn, n=200, adaptive=True)


def test_narrow_noise_makes_the_audit_of_mu_void():
    plan = plan_release("counts", 2, 1, rho=50.0, strategy="tree", neighbours="add-remove")
    assert plan.scale < 1
    found = audit_release(lambda: ContinualCounter.from_plan(plan), n=200, rng=0)
    assert found.certificates[1].verdict == Verdict.VOID
    assert found.certificates[0].verdict == Verdict.VACUOUS
    import matplotlib.pyplot as plt

    assert len(found.plot().get_lines()) == 3
    plt.close("all")


def test_verdicts_of_a_stream():
    X = bits(500, 4)
    kept = release_stream(X, query="maxsum", T=500, rho=0.5)
    assert [c.verdict for c in kept.certificates] == [
        Verdict.HOLDS,
        Verdict.UNMEASURED,
        Verdict.VACUOUS,
    ]
    assert kept.errors is None
    shown = release_stream(X, query="counts", T=500, rho=0.5, truth="measure", reveal=True)
    assert [c.verdict for c in shown.certificates] == [Verdict.HOLDS, Verdict.HOLDS]
    hidden = release_stream(X, query="counts", T=500, rho=0.5, truth="measure")
    assert hidden.certificates[1].verdict == Verdict.UNMEASURED
    assert hidden.errors is not None
    assert "errors" not in str(hidden.artifacts()) + str(hidden.summary())
    seeded = release_stream(X, T=500, rho=0.5, insecure_seed=1)
    assert seeded.certificates[0].verdict == Verdict.VOID
    tiny = release_stream(X, query="counts", T=500, rho=1e-4)
    assert tiny.certificates[1].verdict == Verdict.VACUOUS
    wrong = ContinualCounter(4, T=500, rho=0.5)
    wrong.run(X)
    assert wrong.certificates(np.array([1e6]))[1].verdict == Verdict.FAILS
    long = plan_release("maxsum", 155_659, 302, rho=0.5)
    assert ContinualMaxSum.from_plan(long).certificates()[2].verdict == Verdict.HOLDS
    lied = ContinualMaxSum.from_plan(replace(long, bound=1.0)).certificates()[2]
    assert lied.verdict == Verdict.FAILS


def test_what_a_stream_may_be():
    X = bits(300, 3)
    labels = np.array(["b", "a", "c"])[np.random.default_rng(0).integers(0, 3, 300)]
    given = {"query": "counts", "T": 300, "rho": 5.0}
    for stream in (X, X.astype(bool), csr_array(X), X.tolist(), iter(X)):
        assert release_stream(stream, **given).answers.shape == (300, 3)
    public = release_stream(labels, categories="a,b,c", **given)
    assert public.certificates[0].verdict == Verdict.HOLDS
    assert public.plan.sensitivity == 2
    seen = release_stream(labels, **given)
    assert seen.certificates[0].verdict == Verdict.VOID
    assert seen.names == ("a", "b", "c")
    with pytest.raises(ValueError, match=r"record \d+ has a category that is not in categories"):
        release_stream(labels, categories=["a", "b"], **given)
    other = release_stream(labels, categories=["a", "b"], on_unknown="other", **given)
    assert other.names[-1] == "(other)"
    assert abs(other.answers[-1] - [np.sum(labels == v) for v in "abc"]).max() <= other.bound
    import matplotlib.pyplot as plt

    for query in ("counts", "maxsum", "sumselect"):
        shown = release_stream(X, query=query, T=300, rho=0.5)
        shown.plot()
        assert len(shown.artifacts()["answers.csv"]) == 300
    plt.close("all")


MISUSE = [
    ({"rho": -1.0}, "rho"),
    ({"rho": 1.0, "epsilon": 1.0}, "rho or epsilon"),
    ({"epsilon": 0.0}, "epsilon"),
    ({"epsilon": 1.0, "delta": 1.0}, "delta"),
    ({"T": 0}, "T"),
    ({"T": 10}, "horizon T = 10"),
    ({"query": "median"}, "query"),
    ({"strategy": "recompute", "query": "counts"}, "strategy"),
    ({"strategy": "sqrt", "epsilon": 1.0}, "strategy"),
    ({"max_ones": 9}, "max_ones"),
    ({"beta": 1.0}, "beta"),
    ({"stream": None}, "stream"),
    ({"stream": np.full((5, 2), 2)}, "record 1 must hold zeros and ones"),
    ({"stream": np.zeros((0, 2))}, "stream"),
    ({"stream": np.full((5, 2), np.nan)}, "record 1"),
    ({"stream": [[1, 0], [1]]}, "stream"),
    ({"column": "x"}, "column"),
    ({"follow": True}, "follow"),
    ({"reveal": True}, "reveal"),
    ({"neighbours": "twins"}, "neighbours"),
    ({"categories": "a,b"}, "categories"),
]


@pytest.mark.parametrize(("wrong", "named"), MISUSE, ids=str)
def test_misuse_is_named(wrong, named):
    good = {"stream": bits(40, 3), "T": 40}
    with pytest.raises((ValueError, TypeError), match=named):
        release_stream(**{**good, **wrong})


def test_no_message_shows_a_record():
    mechanism = ContinualCounter(3, T=10, rho=0.5)
    with pytest.raises(ValueError, match="record 1 must hold") as told:
        mechanism.step([0, 7, 0])
    assert "7" not in str(told.value)
    with pytest.raises(ValueError, match=r"record 1 must have 3 columns, got shape \(2,\)"):
        mechanism.step([0, 1])
    assert mechanism.t == 0


@settings(max_examples=80, deadline=None)
@given(
    st.one_of(
        st.lists(
            st.lists(st.one_of(st.integers(-1, 2), st.floats(), st.text(max_size=1)), max_size=3),
            max_size=5,
        ),
        st.lists(st.one_of(st.text(max_size=2), st.none(), st.floats()), max_size=5),
        st.integers(),
        st.text(max_size=3),
    )
)
def test_bad_streams_are_refused_by_name(stream):
    told = ""
    try:
        release_stream(stream, query="counts", rho=0.5, strategy="tree")
    except (ValueError, TypeError) as error:
        told = str(error)
    assert not told or any(
        word in told for word in ("stream", "record", "X must", "categories", "d must")
    )
