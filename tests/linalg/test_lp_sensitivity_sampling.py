import inspect
import math

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from guarantee import assert_error_rate
from hypothesis import given, settings
from hypothesis import strategies as st

from whp.certificate import Verdict
from whp.linalg.lp_sensitivity_sampling import (
    certify,
    distortion,
    inclusion,
    leverage_scores,
    lewis_weights,
    lp_regression,
    lp_sensitivity_sampling,
    one_sided_ratio,
    optimality_gap,
    root_leverage_sampling,
    rows_needed,
    sensitivities,
)
from whp.linalg.lp_sensitivity_sampling.gap import OptimalityGap
from whp.linalg.lp_sensitivity_sampling.guarantee import (
    Evidence,
    chernoff_bound,
    gap_certificate,
    khintchine,
    net_bound,
    rademacher_bound,
    rademacher_mean,
    regression_cost,
)
from whp.linalg.lp_sensitivity_sampling.sampling import draw

A4 = np.array([[1.0, 0], [0, 1], [1, 1], [2, -1]])
EXACT = {
    1: [1 / 4, 1 / 3, 1 / 2, 3 / 5],
    1.5: [0.2081500717, 0.3485866540, 0.5758601568, 0.7237155546],
    2: [3 / 17, 6 / 17, 11 / 17, 14 / 17],
    3: [0.1272011971, 0.3516935603, 0.7773890089, 0.9353676827],
}
LEWIS = {
    1: [0.3082353282, 0.4292228182, 0.5623583759, 0.7001834777],
    1.5: [0.2350759837, 0.3905407950, 0.6035509794, 0.7708322419],
    2: [3 / 17, 6 / 17, 11 / 17, 14 / 17],
    3: [0.0953778594, 0.2834066694, 0.7291354022, 0.8920800690],
    4: [0.0491329904, 0.2238268934, 0.7959789808, 0.9310611354],
}


def problem(n=3000, d=5, seed=0):
    rng = np.random.default_rng(seed)
    A = rng.standard_t(3, (n, d))
    return A, A @ np.arange(1.0, d + 1) + rng.standard_t(3, n)


# Acceptance checks


@pytest.mark.parametrize("p", EXACT)
def test_1_exact_sensitivities(p):
    np.testing.assert_allclose(sensitivities(A4, p, method="exact").lower, EXACT[p], rtol=1e-7)


@pytest.mark.parametrize("p", LEWIS)
def test_1_lewis_weights(p):
    found = lewis_weights(A4, p, tol=1e-12)
    np.testing.assert_allclose(found.weights, LEWIS[p], rtol=1e-8)
    v = found.one_sided
    np.testing.assert_allclose(found.R.T @ found.R, (A4.T * v ** (1 - 2 / p)) @ A4, rtol=1e-9)


def test_1_total_at_four():
    assert sensitivities(A4, 4, method="exact").total == pytest.approx(2.289303987, rel=1e-8)


@pytest.mark.parametrize(
    ("p", "upper"),
    [
        (1, LEWIS[1]),
        (1.5, [0.2097228825, 0.3579946801, 0.5787166210, 0.7398134961]),
        (3, [0.1293722351, 0.3621012498, 0.7870885926, 0.9784512587]),
    ],
)
def test_2_bracket(p, upper):
    found = sensitivities(A4, p)
    np.testing.assert_allclose(found.upper, upper, rtol=1e-6)
    assert (found.lower <= np.array(EXACT[p]) + 1e-12).all()
    assert (np.array(EXACT[p]) <= found.upper + 1e-12).all()
    if p == 1:
        np.testing.assert_allclose(
            found.lower, [0.2383933237, 1 / 3, 0.4815093621, 0.5883408006], rtol=1e-6
        )


@pytest.mark.parametrize("p", [1, 1.5, 2, 3, 6])
def test_3_closed_forms_and_invariance(p):
    a = np.array([[1.0], [-2], [0], [3]])
    share = np.abs(a[:, 0]) ** p / (np.abs(a) ** p).sum()
    for found in (
        sensitivities(a, p).lower,
        sensitivities(a, p, method="exact").lower,
        lewis_weights(a, p).weights,
    ):
        np.testing.assert_allclose(found, share, rtol=1e-5)
    np.testing.assert_allclose(lewis_weights(np.eye(3), p).weights, 1, rtol=1e-6)
    A, _ = problem(200, 4)
    w = lewis_weights(A, p, tol=1e-10).weights
    assert w.sum() == pytest.approx(4, rel=1e-6)
    B = np.random.default_rng(1).standard_normal((4, 4))
    np.testing.assert_allclose(lewis_weights(A @ B, p, tol=1e-10).weights, w, rtol=1e-6)
    s = sensitivities(A, p).lower
    np.testing.assert_allclose(sensitivities(A @ B, p).lower, s, rtol=1e-5)
    np.testing.assert_allclose(
        lewis_weights(np.repeat(A, 3, axis=0), p, tol=1e-10).weights[::3], w / 3, rtol=1e-6
    )
    np.testing.assert_allclose(
        sensitivities(np.repeat(A, 3, axis=0), p).lower[::3], s / 3, rtol=1e-5
    )


def test_4_inclusion():
    q, alpha = inclusion(LEWIS[1], 2)
    assert alpha == pytest.approx(1, rel=1e-8)
    q, alpha = inclusion(LEWIS[1], 3)
    assert alpha == pytest.approx(0.6499082611, rel=1e-8)
    np.testing.assert_allclose(q, [0.47427513, 0.66043601, 0.86528886, 1], rtol=1e-7)


@pytest.mark.parametrize(
    ("p", "low", "high"),
    [
        (1, 0.8333333, 1.5),
        (1.5, 0.7553858, 1.5052070),
        (2, 0.7165241, 1.5187700),
        (3, 0.6996903, 1.5212773),
    ],
)
def test_5_distortion(p, low, high):
    found = distortion(A4, [0, 2, 3], [2, 1, 1.5], p, rng=0)
    assert found.low_ratio == pytest.approx(low, abs=1e-6)
    assert found.high_ratio == pytest.approx(high, abs=1e-6)
    for x, ratio in ((found.x_low, found.low_ratio), (found.x_high, found.high_ratio)):
        sizes = np.abs(A4 @ x) ** p
        assert sizes @ [2, 0, 1, 1.5] / sizes.sum() == pytest.approx(ratio, rel=1e-9)


def test_6_bounds():
    for p, value in ((1, 0.35889), (2, 0.38319), (3, 0.39682)):
        assert net_bound(1e-3, 10, p, 0.05) == pytest.approx(value, abs=1e-3)
    assert net_bound(1e-4, 10, 1, 0.05) == pytest.approx(0.11950, abs=1e-3)
    assert rademacher_bound(1e-3, 10, 1, 0.05, 20_000) == pytest.approx(0.4109273, rel=1e-5)
    assert rademacher_bound(1e-3, 10, 1.5, 0.05, 20_000) == pytest.approx(0.3531119, rel=1e-5)
    assert rademacher_bound(1e-4, 10, 1, 0.05, 20_000) == pytest.approx(0.1227634, rel=1e-5)
    assert chernoff_bound(1e-2, 10, 0.05) == pytest.approx(0.3656065, rel=1e-6)
    assert chernoff_bound(1e-3, 10, 0.05) == pytest.approx(0.1114460, rel=1e-5)
    assert rademacher_mean(1e-2, 10) == pytest.approx(1.2221456, rel=1e-5)
    assert khintchine(3) == pytest.approx(1.1685753, rel=1e-7)
    assert khintchine(4) == pytest.approx(1.3160740, rel=1e-7)


@pytest.mark.parametrize(
    ("d", "p", "n", "bound", "rows"),
    [
        (11, 1, 20190, "rademacher", 7673),
        (11, 1, 20190, "net", 6108),
        (11, 1.5, 20190, "rademacher", 6070),
        (11, 1.5, 20190, "net", 6653),
        (11, 2, 20190, "chernoff", 619),
        (50, 1, 10**6, "rademacher", 44493),
        (50, 1, 10**6, "net", 118597),
    ],
)
def test_7_rows_needed(d, p, n, bound, rows):
    assert rows_needed(d, p, n=n, bound=bound) == pytest.approx(rows, rel=0.01)


def test_9_all_rows_are_exact():
    A, b = problem(400, 3)
    for p in (1, 1.5, 2, 3):
        made = lp_sensitivity_sampling(A, b, p=p, rows=400, rng=0)
        assert made.exact
        assert made.distortion.value <= 1e-12
        np.testing.assert_allclose(made.x, lp_regression(A, b, p), atol=1e-7)
    np.testing.assert_allclose(lp_regression(A, b, 2), np.linalg.lstsq(A, b)[0], rtol=1e-10)


def test_10_one_sided():
    assert one_sided_ratio(A4, np.ones(4), 1) == pytest.approx(0.8235294, abs=1e-7)
    assert one_sided_ratio(A4, leverage_scores(A4), 1) == pytest.approx(2.6916667, abs=1e-7)
    assert one_sided_ratio(A4, lewis_weights(A4, 1, tol=1e-12).weights, 1) == pytest.approx(
        1, abs=1e-9
    )


@pytest.mark.parametrize("sampling", ["poisson", "fixed", "multinomial"])
def test_11_unbiased(sampling):
    A, _ = problem(60, 3)
    q = inclusion(lewis_weights(A, 1.5).weights, 20)[0]
    sizes = np.abs(A @ np.ones(3)) ** 1.5
    sums = []
    for rng in np.random.default_rng(0).spawn(2000):
        made = draw(q, sampling, rng)
        sums.append(made.xi @ sizes[made.index])
    error = np.std(sums) / math.sqrt(2000)
    assert np.mean(sums) == pytest.approx(sizes.sum(), abs=4 * error)


def test_11_root_leverage_is_unbiased():
    A, _ = problem(60, 3)
    sizes = np.abs(A @ np.ones(3))
    drawn = [
        root_leverage_sampling(A, 1, 20, 3, rng) for rng in np.random.default_rng(0).spawn(1000)
    ]
    sums = [made.xi @ sizes[made.index] for made in drawn]
    assert np.mean(sums) == pytest.approx(sizes.sum(), abs=4 * np.std(sums) / math.sqrt(1000))


# Solvers and the gap


@pytest.mark.parametrize("p", [1.01, 1.05, 1.2, 1.5, 3, 4, 10, 20])
def test_newton_against_the_gap(p):
    A, b = problem(800, 4)
    x = lp_regression(A, b, p)
    assert optimality_gap(A, b, x, p).gap < 1e-8
    assert optimality_gap(A, b, x + 0.3, p).gap > 1e-3


def test_the_gap_is_valid_whatever_x():
    A, b = problem(300, 3)
    rng = np.random.default_rng(0)
    for p in (1, 1.5, 3):
        best = (np.abs(b - A @ lp_regression(A, b, p)) ** p).sum()
        for _ in range(20):
            assert optimality_gap(A, b, rng.standard_normal(3), p).lower_bound <= best * (1 + 1e-9)


@pytest.mark.parametrize("q", [0.1, 0.5, 0.8])
def test_quantiles_agree_with_sklearn(q):
    from sklearn.linear_model import QuantileRegressor

    A, b = problem(300, 3)
    theirs = (
        QuantileRegressor(quantile=q, alpha=0, fit_intercept=False, solver="highs").fit(A, b).coef_
    )
    np.testing.assert_allclose(lp_regression(A, b, 1, quantile=q), theirs, atol=1e-6)
    assert optimality_gap(A, b, theirs, 1, q).gap < 0.05
    made = lp_sensitivity_sampling(A, b, quantile=q, rows=150, refine=True, rng=0)
    assert made.gap < 0.05


def test_weights_are_repeats():
    A, b = problem(200, 3)
    k = np.random.default_rng(0).integers(0, 4, 200)
    for p in (1.5, 3):
        repeated = lp_regression(np.repeat(A, k, axis=0), np.repeat(b, k), p)
        np.testing.assert_allclose(lp_regression(A, b, p, weights=k), repeated, rtol=1e-6)


def test_consistent_system_has_no_gap():
    A, _ = problem(500, 3)
    made = lp_sensitivity_sampling(A, A @ np.ones(3), p=1, rows=100, rng=0)
    np.testing.assert_allclose(made.x, 1, rtol=1e-9)
    assert made.gap == 0


def test_refine_comes_closer():
    A, b = problem(4000, 4)
    for p in (1, 1.5, 3):
        plain, refined = (
            lp_sensitivity_sampling(A, b, p=p, rows=200, refine=r, rng=0) for r in (False, True)
        )
        best = (np.abs(b - A @ lp_regression(A, b, p)) ** p).sum()
        assert refined.cost - best < 0.2 * (plain.cost - best)


# Sampling


def test_many_rows_against_a_coreset():
    A, _ = problem(9000, 4)
    full, quick = (sensitivities(A, 1.5, coreset_rows=k) for k in ("all", 2000))
    assert quick.approximate
    assert not full.approximate
    assert quick.total == pytest.approx(full.total, rel=0.15)
    assert (full.lower <= quick.certified * (1 + 1e-9)).all()


@pytest.mark.parametrize(
    "scores", ["lewis", "sensitivity", "augmented", "root-leverage", "leverage", "uniform"]
)
def test_every_score_gives_rows(scores):
    A, b = problem(2000, 3)
    made = lp_sensitivity_sampling(A, b, p=1.5, rows=300, scores=scores, rng=0)
    assert 200 < len(made.index) < 400
    assert made.distortion.value < 1
    refit = lp_regression(made.transform(A), made.transform(b), 1.5)
    np.testing.assert_allclose(refit, made.x, rtol=1e-5)
    table = made.artifacts()["coreset.csv"]
    saved = lp_regression(A[table["row"]], b[table["row"]], 1.5, weights=table["weight"])
    np.testing.assert_allclose(saved, made.x, rtol=1e-6)


def test_mix_and_own_importance():
    A, b = problem(2000, 3)
    assert lp_sensitivity_sampling(A, b, p=3, rows=300, scores="mix", rng=0).distortion.value < 1
    own = lp_sensitivity_sampling(A, b, p=1, rows=300, importance=np.ones(2000), rng=0)
    np.testing.assert_allclose(own.probabilities, 0.15)
    assert own.plot().get_xscale() == "log"


def test_same_seed_same_rows_and_sparse_and_frames():
    A, b = problem(1000, 3)
    one, two, three, four = (
        lp_sensitivity_sampling(M, b, p=1.5, rows=200, rng=s)
        for M, s in (
            (A, 1),
            (sp.csr_array(A), 1),
            (pd.DataFrame(A, columns=list("uvw")), 1),
            (A, 2),
        )
    )
    np.testing.assert_array_equal(one.index, two.index)
    np.testing.assert_array_equal(one.index, three.index)
    assert three.names == ("u", "v", "w")
    assert not np.array_equal(one.index, four.index)


def test_dependent_columns():
    A, b = problem(500, 3)
    frame = pd.DataFrame(np.column_stack([A, A[:, 0] + A[:, 1]]), columns=list("uvwz"))
    with pytest.raises(
        np.linalg.LinAlgError, match=r"rank 3 < d = 4; drop dependent columns: [uvz]"
    ):
        lp_sensitivity_sampling(frame, b, rows=100)
    made = lp_sensitivity_sampling(frame, b, rows=100, on_rank="drop", rng=0)
    assert np.isfinite(made.x).all()
    assert (made.x == 0).sum() == 1


# Certificates


def spiked(rng):
    return np.vstack([5 * np.eye(5), 1e-3 * rng.standard_normal((19_995, 5))])


def test_uniform_rows_logged_as_lewis_rows_fail():
    A = spiked(np.random.default_rng(0))
    q = inclusion(lewis_weights(A, 1).one_sided, 2000)[0]
    for rng in np.random.default_rng(1).spawn(3):
        index = rng.choice(len(A), 2000, replace=False)
        liar = certify(A, index, 1 / q[index], 1, probabilities=q, rng=rng)[0]
        assert liar.verdict == Verdict.FAILS
        honest = draw(q, "poisson", rng)
        assert (
            certify(A, honest.index, honest.xi, 1, probabilities=q, rng=rng)[0].verdict
            == Verdict.HOLDS
        )


def test_void_vacuous_and_unmeasured():
    A, b = problem(4000, 3)
    index = np.arange(500)
    assert certify(A, index, np.full(500, 8.0), 1)[0].verdict == Verdict.VOID
    v = lewis_weights(A, 1).one_sided
    q = inclusion(v, 1500)[0]
    made = draw(q, "poisson", np.random.default_rng(0))
    assert certify(A, made.index, made.xi, 1, probabilities=q)[0].verdict == Verdict.HOLDS
    forged = certify(A, made.index, made.xi, 1, probabilities=q, one_sided=v / 10)[0]
    assert forged.verdict == Verdict.VOID
    assert "one-sided" in forged.explain()
    few = lp_sensitivity_sampling(A, b, rows=30, rng=0)
    assert few.certificates[0].verdict == Verdict.VACUOUS
    assert (
        lp_sensitivity_sampling(A, b, rows=2500, verify=False, rng=0).certificates[0].verdict
        == Verdict.UNMEASURED
    )
    assert len(few.certificates) == 4
    gap = OptimalityGap(100.0, 1.0, 99.0, np.zeros(3), 0.0)
    assert gap_certificate(gap, 1e9, optimum=0.5).verdict == Verdict.FAILS
    assert gap_certificate(gap, 1e9).verdict == Verdict.HOLDS
    assert gap_certificate(gap, 50.0).verdict == Verdict.VACUOUS
    broken = OptimalityGap(100.0, 1.0, 99.0, np.zeros(3), 1e-3)
    assert gap_certificate(broken, 1e9).verdict == Verdict.VOID


def test_the_default_rows_reach_epsilon():
    A, _ = problem(20_000, 3)
    made = lp_sensitivity_sampling(A, p=2, epsilon=0.3, rng=0)
    assert made.certificates[0].bound <= 0.3
    assert made.certificates[0].verdict == Verdict.HOLDS
    with pytest.warns(UserWarning, match="keeping all"):
        assert lp_sensitivity_sampling(A[:300], p=1, rng=0).exact


@pytest.mark.parametrize(
    ("p", "scores"), [(1, "lewis"), (1.5, "sensitivity"), (2, "lewis"), (3, "lewis")]
)
def test_bounds_break_no_more_often_than_promised(p, scores):
    def instance(rng):
        A = rng.standard_t(3, (400, 2))
        made = lp_sensitivity_sampling(
            A, p=p, rows=150, scores=scores, delta=0.1, rng=rng, sharp_constant=4
        )
        return made.certificates[0]

    assert_error_rate(instance, 0.1, n=300)


def test_the_gap_never_lies():
    def instance(rng):
        A = rng.standard_t(3, (200, 2))
        b = rng.standard_t(3, 200)
        made = lp_sensitivity_sampling(A, b, p=1.5, rows=50, verify=False, rng=rng)
        gap = optimality_gap(A, b, made.x, 1.5)
        best = (np.abs(b - A @ lp_regression(A, b, 1.5)) ** 1.5).sum()
        return gap_certificate(gap, math.inf, best)

    assert_error_rate(instance, 1e-9, n=300)


# Bad input

GOOD = problem(64, 3)
BAD = [
    ({"A": GOOD[0][:, 0]}, "A must be 2-dim"),
    ({"A": GOOD[0] + 1j}, "A must be real"),
    ({"A": GOOD[0] * np.nan}, "A must be finite"),
    ({"A": GOOD[0].T}, "A must have at least"),
    ({"A": np.zeros((64, 3))}, "A must not be zero"),
    ({"A": None}, "A must be"),
    ({"A": pd.DataFrame({"u": ["a"] * 64, "v": 1.0})}, "text in: u"),
    ({"b": GOOD[1][:9]}, "b must have 64"),
    ({"b": GOOD[1] * np.inf}, "b must be finite"),
    ({"p": 0.5}, "p must be in"),
    ({"p": "x"}, "p must be"),
    ({"quantile": 1}, "quantile"),
    ({"quantile": 0.5, "p": 2}, "quantile"),
    ({"quantile": 0.5, "b": None}, "b must be given"),
    ({"rows": 4}, "rows must be more than 4"),
    ({"rows": 1.5}, "rows must be"),
    ({"epsilon": 0}, "epsilon"),
    ({"delta": 1}, "delta"),
    ({"scores": "best"}, "scores must be one of"),
    ({"scores": "mix"}, "scores must not be 'mix'"),
    ({"scores": "root-leverage", "p": 3}, "scores must not be"),
    ({"importance": -np.ones(64)}, "importance"),
    ({"sampling": "all"}, "sampling"),
    ({"verify": "no"}, "verify"),
    ({"on_rank": "x"}, "on_rank"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[str(i) for i in range(len(BAD))])
def test_bad_input_is_named(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        inspect.unwrap(lp_sensitivity_sampling)(
            **{"A": GOOD[0], "b": GOOD[1], "rows": 20, **arguments}
        )


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_input_gives_an_answer_or_a_named_complaint(data):
    n, d = data.draw(st.integers(1, 20)), data.draw(st.integers(1, 4))
    number = st.one_of(st.floats(-1e3, 1e3, width=32), st.sampled_from([np.nan, 0.0]))
    A = np.array(
        data.draw(st.lists(st.lists(number, min_size=d, max_size=d), min_size=n, max_size=n))
    )
    b = np.array(data.draw(st.lists(number, min_size=max(1, n - 1), max_size=n)))
    p, rows = data.draw(st.sampled_from([1, 1.5, 2, 3])), data.draw(st.integers(-1, 30))
    try:
        made = lp_sensitivity_sampling(A, b, p=p, rows=rows, rng=0)
    except np.linalg.LinAlgError as error:
        assert "drop dependent columns" in str(error)  # noqa: PT017
    except ValueError as error:
        assert str(error).split()[0] in {"A", "b", "rows"}  # noqa: PT017
    else:
        assert np.isfinite(made.x).all()


def test_a_wide_gap_leaves_the_cost_inconclusive():
    A, b = problem(20_000, 2)
    made = lp_sensitivity_sampling(A, b, p=2, rows=12_000, rng=0)
    bound = next(c for c in made.certificates if c.name == "regression-cost")
    assert bound.verdict == Verdict.HOLDS
    wide = OptimalityGap(100.0, 20.0, 4.0, np.zeros(3), 0.0)
    facts = evidence(rows=12_000)
    assert regression_cost(facts, wide, 1e9).verdict == Verdict.INCONCLUSIVE


def evidence(rows):
    return Evidence(
        n=20_000,
        d=3,
        rows=rows,
        p=2.0,
        delta=0.05,
        origin="poisson",
        alphas=(3 / rows,),
        alpha_lewis=3 / rows,
        mass=3.0,
        one_sided=1.0,
        total=3.0,
    )
