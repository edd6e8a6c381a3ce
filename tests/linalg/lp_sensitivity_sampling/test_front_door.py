import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from lp_problem import problem

from whp.certificate import Verdict
from whp.linalg import CoresetSampler, LpRegressor, lp_regression, lp_sensitivity_sampling
from whp.linalg._lp_sensitivity_sampling import front_door
from whp.linalg._lp_sensitivity_sampling.basis import whiten
from whp.linalg._lp_sensitivity_sampling.sampling import Draw


def test_all_rows_are_exact():
    A, b = problem(400, 3)
    for p in (1, 1.5, 2, 3):
        made = lp_sensitivity_sampling(A, b, p=p, rows=400, rng=0)
        assert made.exact
        assert {c.verdict for c in made.certificates} == {Verdict.HOLDS}
        assert made.certificates[0].measured.value == 0
        np.testing.assert_allclose(made.x, lp_regression(A, b, p), atol=1e-7)
    np.testing.assert_allclose(lp_regression(A, b, 2), np.linalg.lstsq(A, b)[0], rtol=1e-10)


def test_a_small_file_keeps_all_rows_and_everything_holds():
    A, b = problem(312, 8)
    with pytest.warns(UserWarning, match="keeping all"):
        made = lp_sensitivity_sampling(A, b, rng=0)
    assert made.exact
    assert {c.headline.split(",")[0] for c in made.certificates} == {"holds"}


def test_refine_comes_closer():
    A, b = problem(4000, 4)
    for p in (1, 1.5, 3):
        plain, refined = (
            lp_sensitivity_sampling(A, b, p=p, rows=200, refine=r, rng=0) for r in (False, True)
        )
        best = (np.abs(b - A @ lp_regression(A, b, p)) ** p).sum()
        assert refined.cost - best < 0.2 * (plain.cost - best)


@pytest.mark.parametrize(
    "scores", ["lewis", "sensitivity", "augmented", "root-leverage", "leverage", "uniform"]
)
def test_every_score_gives_rows(scores):
    A, b = problem(2000, 3)
    made = lp_sensitivity_sampling(A, b, p=1.5, rows=300, scores=scores, measure=True, rng=0)
    assert 200 < len(made.index) < 400
    assert made.distortion.value < 1
    refit = lp_regression(made.transform(A), made.transform(b), 1.5)
    np.testing.assert_allclose(refit, made.x, rtol=1e-5)
    table = made.artifacts()["coreset.csv"]
    saved = lp_regression(A[table["row"]], b[table["row"]], 1.5, weights=table["weight"])
    np.testing.assert_allclose(saved, made.x, rtol=1e-6)


def test_mix_and_own_importance():
    A, b = problem(2000, 3)
    mixed = lp_sensitivity_sampling(A, b, p=3, rows=300, scores="mix", measure=True, rng=0)
    assert mixed.distortion.value < 1
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
    assert made.summary()["columns_left_out"] == frame.columns[int(np.argmin(np.abs(made.x)))]


def test_the_default_rows_reach_epsilon():
    A, _ = problem(20_000, 3)
    made = lp_sensitivity_sampling(A, p=2, epsilon=0.3, rng=0)
    assert made.certificates[0].bound <= 0.3
    assert made.certificates[0].verdict == Verdict.HOLDS
    with pytest.warns(UserWarning, match="keeping all"):
        assert lp_sensitivity_sampling(A[:300], p=1, rng=0).exact


def test_an_offset_does_not_move_the_slopes_of_a_coreset():
    A, b = problem(3000, 4)
    A = np.column_stack([np.ones(3000), A])
    for p, tolerance in ((1, 1e-5), (1.5, 1e-5), (3, 1e-5)):
        plain, moved = (lp_sensitivity_sampling(A, b + c, p=p, rows=600, rng=0) for c in (0, 1.7e9))
        np.testing.assert_array_equal(plain.index, moved.index)
        np.testing.assert_allclose(moved.x[1:], plain.x[1:], atol=tolerance)
        assert moved.gap == pytest.approx(plain.gap, rel=1e-2, abs=1e-3)


def test_few_rows_that_carry_the_cost_are_said():
    A, b = problem(3000, 4)
    b[:3] = 999999999
    with pytest.warns(UserWarning, match="3 rows carry 99 % of the cost"):
        made = lp_sensitivity_sampling(A, b, rows=800, rng=0)
    assert made.summary()["rows_that_carry_99_%_of_the_cost"] == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert lp_sensitivity_sampling(*problem(3000, 4), rows=800, rng=0).heavy == 0


def test_a_demand_is_what_the_gap_is_held_against():
    A, b = problem(3000, 4)
    for demand, verdict in ((0.2, Verdict.HOLDS), (1e-4, Verdict.INCONCLUSIVE)):
        made = lp_sensitivity_sampling(A, b, rows=300, gap=demand, rng=0)
        assert made.certificates[3].verdict is verdict
        assert made.certificates[3].bound == 1 + demand
    measured = lp_sensitivity_sampling(A, b, rows=300, gap=1e-4, measure=True, rng=0)
    assert measured.certificates[3].verdict is Verdict.FAILS


def test_draws_with_replacement_are_void_and_a_foreign_generator_is_not_vouched_for():
    A, b = problem(3000, 4)
    many = lp_sensitivity_sampling(A, b, p=2, rows=600, sampling="multinomial", rng=0)
    assert {c.verdict for c in many.certificates[:3]} == {Verdict.VOID}

    class Loaded(np.random.Generator):
        def random(self, *arguments, **named):
            return np.zeros(*arguments, **named)

    loaded = Loaded(np.random.PCG64(0))
    for rng, status in ((loaded, "unchecked"), (np.random.default_rng(0), "by construction")):
        made = lp_sensitivity_sampling(A, b, p=2, rows=600, rng=rng)
        coins = made.certificates[0].conditions[0]
        assert (coins.name, str(coins.status)) == ("independent-coins", status)


def test_all_rows_kept_by_chance_are_not_all_rows_as_they_are():
    A, b = problem(60, 3)
    xi = np.random.default_rng(0).lognormal(0.3, 0.6, 60)
    drawn = Draw(np.arange(60), xi, 1 / xi)
    x = front_door._regress(A, b, whiten(A), drawn, 1.0, 0.8, False).x

    def cost(x):
        """Absolute residuals of the weighted rows, and the linear part of all rows."""
        return xi @ np.abs(b - A @ x) / 2 + 0.3 * (b - A @ x).sum()

    own = lp_regression(A, b, 1, weights=xi, quantile=0.8)
    assert cost(x) < cost(own) * (1 - 1e-6)


def test_a_plain_draw_is_the_only_one_by_construction():
    A, _ = problem(3000, 4)
    for sampling, status in (("poisson", "by construction"), ("fixed", "unchecked")):
        made = lp_sensitivity_sampling(A, p=2, rows=600, sampling=sampling, rng=0)
        assert str(made.certificates[0].conditions[0].status) == status


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
    ({"p": 0.5}, "p must be"),
    ({"p": "x"}, "p must be"),
    ({"quantile": 1}, "quantile"),
    ({"quantile": 0.5, "p": 2}, "quantile"),
    ({"quantile": 0.5, "b": None}, "quantile needs b"),
    ({"rows": 4}, "rows must be more than 4"),
    ({"rows": 1.5}, "rows must be"),
    ({"epsilon": 0}, "epsilon"),
    ({"delta": 1}, "delta"),
    ({"scores": "best"}, "scores must be one of"),
    ({"scores": "mix"}, "scores must not be 'mix'"),
    ({"scores": "root-leverage", "p": 3}, "scores must not be"),
    ({"importance": -np.ones(64)}, "importance"),
    ({"sampling": "all"}, "sampling"),
    ({"measure": "no"}, "measure"),
    ({"on_rank": "x"}, "on_rank"),
    ({"epsilon": 0.3}, "epsilon must be None"),
    ({"gap": 0.1, "b": None}, "gap needs b"),
    ({"refine": True, "b": None}, "refine needs b"),
    ({"gap": 0}, "gap must be"),
    ({"importance": np.ones(64), "scores": "uniform"}, "scores must be left out"),
    ({"scores": "root-leverage", "sampling": "fixed"}, "scores must not be"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[str(i) for i in range(len(BAD))])
def test_bad_input_is_named(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        lp_sensitivity_sampling(**{"A": GOOD[0], "b": GOOD[1], "rows": 20, **arguments})


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


@pytest.mark.parametrize(
    ("of_A", "of_b"), [(1e-300, 1.0), (1e300, 1.0), (1.0, 1e-170), (1.0, 1e300)]
)
def test_rows_and_verdicts_have_no_unit(of_A, of_b):
    A, b = problem(500, 3)
    b[7] += 1e3  # a row that is kept for its entry of b alone
    plain = lp_sensitivity_sampling(A, b, p=1, rows=100, rng=0)
    other = lp_sensitivity_sampling(A * of_A, b * of_b, p=1, rows=100, rng=0)
    assert 7 in other.index
    np.testing.assert_array_equal(other.index, plain.index)
    np.testing.assert_allclose(other.x * of_A / of_b, plain.x)
    assert [c.verdict for c in other.certificates] == [c.verdict for c in plain.certificates]


def test_a_sparse_table_is_transformed_as_a_dense_one():
    A, _ = problem(500, 3)
    made = lp_sensitivity_sampling(A, rows=100, rng=0)
    np.testing.assert_array_equal(made.transform(sp.csr_array(A)), made.transform(A))


@pytest.mark.parametrize("p", [1, 2, 3])
def test_the_coreset_of_a_weighted_fit_is_of_the_rows_given(p):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2000, 3))
    y = X @ np.arange(3.0) + rng.standard_t(3, 2000)
    weights = (rng.random(2000) < 0.5) * rng.uniform(1, 5, 2000)
    model = LpRegressor(p=p, rows=300, random_state=0).fit(X, y, sample_weight=weights)
    rows = model.result_
    assert rows.shape[0] == 2000
    assert (weights[rows.index] > 0).all()
    assert rows.probabilities[weights == 0].max() == 0
    A = np.column_stack([X, np.ones(2000)])
    again = lp_regression(A[rows.index], y[rows.index], p, weights=rows.xi)
    np.testing.assert_allclose(again, [*model.coef_, model.intercept_], rtol=1e-6, atol=1e-9)
    r = y - model.predict(X)
    assert rows.cost == pytest.approx((weights * np.abs(r) ** p).sum())


def test_parameters_of_the_sampler_are_checked_for_small_tables_too():
    with pytest.raises(ValueError, match="p must be"):
        CoresetSampler(p=0.5).fit(np.ones((3, 2)))
