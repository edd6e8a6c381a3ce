import math

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from least_squares import SKETCHES, coverage, problem, verdicts
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from whp.certificate import Verdict
from whp.linalg import SRHT, linf_regression, sketch_and_solve
from whp.linalg._linf_regression.front_door import exact_is_cheaper
from whp.studies.linf_regression.worlds import extended


def test_worked_srht():
    S = SRHT(4, 2, signs=np.array([1, -1, 1, 1]), rows=np.array([0, 2]))
    A, b = np.array([[1.0], [2], [3], [4]]), np.eye(4)[0]
    np.testing.assert_allclose(S @ A, np.array([[6], [-8]]) / math.sqrt(2))
    np.testing.assert_allclose(S @ b, np.array([1, 1]) / math.sqrt(2))
    assert sketch_and_solve(S, A, b).x[0] == pytest.approx(-0.02, abs=1e-15)


def test_operators_of_all_kinds_do_the_same():
    A, b = problem()
    S = np.random.default_rng(0).standard_normal((100, 600)) / 10
    expected = sketch_and_solve(S, A, b).x
    for operator in (S.tolist(), pd.DataFrame(S), sp.csr_array(S), aslinearoperator(S)):
        for design in (A, sp.csc_array(A)):
            np.testing.assert_allclose(sketch_and_solve(operator, design, b).x, expected, rtol=1e-9)
    with pytest.raises(TypeError, match="operator must be real"):
        sketch_and_solve(S * 1j, A, b)


def test_labels_that_are_shifted_are_refused():
    A, b = problem()
    table = pd.DataFrame(A)
    with pytest.raises(ValueError, match="shifted"):
        linf_regression(table, pd.Series(b, index=range(1, 601)))
    mixed = [1, "a", *range(5, 603)]
    with pytest.raises(ValueError, match="another order"):
        linf_regression(table.set_axis(mixed), pd.Series(b, index=["a", 1, *range(5, 603)]))


def test_a_delta_below_rounding_has_bars():
    A, b = problem()
    result = linf_regression(A, b, rows=100, delta=1e-17, rng=0)
    assert np.isfinite(result.coefficients["low"]).all()
    assert result.summary()["widest_bar_in_units_of_b"] > 0


def test_worked_error_bars():
    class Given(sp.linalg.LinearOperator):
        def __init__(self):
            super().__init__(float, (5, 5))

        def _matmat(self, X):
            return X

    SA = np.array([[1.0, 0], [0, 1], [1, 1], [1, -1], [0, 2]])
    result = sketch_and_solve(Given(), SA, np.array([1.0, 2, 3, 0, 5]))
    np.testing.assert_allclose(result.x, [4 / 3, 15 / 7], rtol=1e-12)
    np.testing.assert_allclose(result.stderr, [0.4114756, 0.2693740], rtol=1e-6)
    assert result.residual_estimate == pytest.approx(math.sqrt(5 * 1.5238095 / 3), rel=1e-7)
    low, high = result.conf_int(0.95).T
    np.testing.assert_allclose((high - low) / 2, [1.718542, 1.125050], rtol=1e-6)
    assert (
        np.diff(result.conf_int(0.95, simultaneous=False)) < np.diff(result.conf_int(0.95))
    ).all()


def test_all_rows_give_the_exact_solution():
    A, b = problem(512, 9)
    expected = np.linalg.lstsq(A, b)[0]
    np.testing.assert_allclose(linf_regression(A, b, rows=512, rng=0).x, expected, rtol=1e-12)


@pytest.mark.parametrize("sketch", SKETCHES)
def test_equivariance(sketch):
    A, b = problem()
    c, v = np.logspace(-3, 3, 7), np.arange(7.0)
    plain, scaled, shifted = (
        linf_regression(M, y, rows=100, sketch=sketch, rng=5)
        for M, y in ((A, b), (A * c, b), (A, b + A @ v))
    )
    np.testing.assert_allclose(scaled.x * c, plain.x, rtol=1e-9)
    np.testing.assert_allclose(scaled.stderr * c, plain.stderr, rtol=1e-9)
    np.testing.assert_allclose(shifted.x, plain.x + v, atol=1e-9 * np.abs(plain.x).max())
    np.testing.assert_allclose(shifted.stderr, plain.stderr, rtol=1e-7)


def test_several_right_hand_sides_are_several_problems():
    A, b = problem(k=3)
    together = linf_regression(A, b, rows=80, measure=True, rng=2)
    for j in range(3):
        alone = linf_regression(A, b[:, j], rows=80, rng=2)
        np.testing.assert_allclose(together.x[:, j], alone.x, rtol=1e-10)
        np.testing.assert_allclose(together.stderr[:, j], alone.stderr, rtol=1e-10)
    assert together.conf_int().shape == (7, 3, 2)
    assert len(together.coefficients) == 21
    assert list(together.coefficients["target"][:3]) == [0, 1, 2]
    assert together.total_stderr.shape == (7, 3)


def test_consistent_system():
    A, _ = problem(1024, 5)
    result = linf_regression(A, A @ np.ones(5), rows=64, measure=True, rng=0)
    np.testing.assert_allclose(result.x, 1, rtol=1e-10)
    assert (result.stderr * np.linalg.norm(A, axis=0) < 1e-11 * np.linalg.norm(A)).all()
    assert verdicts(result) == [Verdict.HOLDS] * 2
    zero = linf_regression(A, np.zeros(1024), rows=64, measure=True, rng=0)
    assert (zero.x == 0).all()


def test_same_seed_same_answer_whatever_the_layout():
    A, b = problem(1000, 40)
    x = linf_regression(A, b, rows=200, rng=7).x
    np.testing.assert_array_equal(
        linf_regression(A, b, rows=200, rng=np.random.default_rng(7)).x, x
    )
    np.testing.assert_allclose(
        linf_regression(np.asfortranarray(A), b, rows=200, rng=7).x, x, rtol=1e-9
    )
    np.testing.assert_allclose(linf_regression(sp.csr_array(A), b, rows=200, rng=7).x, x, rtol=1e-9)
    assert not np.array_equal(linf_regression(A, b, rows=200, rng=8).x, x)
    A0, b0 = A.copy(), b.copy()
    linf_regression(A, b, rows=200, rng=8, refine=2)
    np.testing.assert_array_equal(A, A0)
    np.testing.assert_array_equal(b, b0)


def test_number_types():
    A, b = problem(1000, 4)
    single = linf_regression(
        A.astype(np.float32), b.astype(np.float32), rows=200, rng=0, measure=True
    )
    assert single.x.dtype == np.float32
    assert single.stderr.dtype == np.float64  # bars of 1e-8 x would not do in single precision
    np.testing.assert_allclose(single.x, linf_regression(A, b, rows=200, rng=0).x, rtol=1e-3)
    assert linf_regression(np.round(A * 100).astype(int), b, rows=200, rng=0).x.dtype == np.float64


def test_dependent_columns_are_named():
    A, b = problem()
    frame = pd.DataFrame(A, columns=list("abcdefg"))
    frame["copy"] = frame["a"] + frame["b"]
    for options in ({"rows": 100}, {}):
        with pytest.raises(
            np.linalg.LinAlgError, match=r"rank 7 < d = 8; drop dependent columns: (a|b|copy)"
        ):
            linf_regression(frame, b, **options)
    with pytest.raises(np.linalg.LinAlgError, match="x2"):
        linf_regression(A * (np.arange(7) != 2), b, rows=100)


GOOD = problem(64, 3)


BAD = [
    ({"A": GOOD[0][:, 0]}, "A must be 2-dim"),
    ({"A": GOOD[0] + 1j}, "A must be real"),
    ({"A": np.where(np.arange(3) == 1, np.nan, GOOD[0])}, "A must be finite"),
    ({"A": GOOD[0][:2]}, "b must have 2"),
    ({"A": GOOD[0].T, "b": np.ones(3)}, "A must have at least as many rows"),
    ({"A": None}, "A must be"),
    ({"A": [["x", "y"]] * 64}, "A must"),
    ({"A": np.empty((0, 3))}, "A must not be empty"),
    ({"A": pd.DataFrame({"p": ["u"] * 64, "q": range(64)})}, "text in: p"),
    ({"A": sp.csr_array(GOOD[0] * np.nan)}, "A must be finite"),
    ({"A": sp.csr_array(GOOD[0] * 1j)}, "A must hold real"),
    ({"b": GOOD[1] * np.inf}, "b must be finite"),
    ({"b": GOOD[1] + 1j}, "b must be real"),
    ({"b": GOOD[1][:10]}, "b must have 64"),
    ({"b": np.zeros((64, 1, 1))}, "b must be"),
    ({"b": None}, "b must be"),
    ({"rows": 3}, "rows must be more than d = 3"),
    ({"rows": 65}, "rows must be at most 64"),
    ({"rows": 10.5}, "rows must be"),
    ({"rows": 65, "sketch": "pooled"}, "rows must be at most 64"),
    ({"epsilon": 0}, "epsilon"),
    ({"epsilon": "a"}, "epsilon"),
    ({"epsilon": float("nan")}, "epsilon"),
    ({"delta": 1}, "delta"),
    ({"delta": -0.1}, "delta"),
    ({"sketch": "countsketch"}, "sketch must be one of"),
    ({"refine": -1}, "refine"),
    ({"refine": "cg"}, "refine"),
    ({"refine": 1.5}, "refine"),
    ({"block_rows": 1}, "block_rows"),
    ({"block_rows": 16, "sketch": "pooled"}, "block_rows"),
    ({"rows": 10, "block_rows": 4}, "block_rows"),
    ({"rows": 10, "x_exact": np.ones(4)}, "x_exact"),
    ({"rows": 10, "x_exact": np.ones(3), "measure": True}, "x_exact must be None where measure"),
    ({"x_exact": np.ones(3)}, "x_exact must be None where the 3 columns are solved exactly"),
    ({"rows": 10, "epsilon": 0.1}, "epsilon must be None where rows"),
    ({"rows": 10, "replace": True, "sketch": "pooled"}, "replace must be False"),
    ({"sample_weight": np.ones(63)}, "sample_weight must have 64"),
    ({"sample_weight": -np.ones(64)}, "sample_weight must be at least 0"),
    ({"sample_weight": np.zeros(64)}, "sample_weight must be at least 0"),
    ({"sample_weight": np.full(64, np.nan)}, "sample_weight must be finite"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[str(i) for i in range(len(BAD))])
def test_bad_input_is_named(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        linf_regression(**{"A": GOOD[0], "b": GOOD[1], **arguments})


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_input_gives_an_answer_or_a_named_complaint(data):
    n, d = data.draw(st.integers(1, 20)), data.draw(st.integers(1, 5))
    number = st.one_of(st.floats(-1e3, 1e3, width=32), st.sampled_from([np.nan, np.inf, 0.0]))
    A = np.array(
        data.draw(st.lists(st.lists(number, min_size=d, max_size=d), min_size=n, max_size=n))
    )
    b = np.array(data.draw(st.lists(number, min_size=max(1, n - 1), max_size=n)))
    rows = data.draw(st.one_of(st.none(), st.integers(-1, 40)))
    try:
        result = linf_regression(
            A, b, rows=rows, sketch=data.draw(st.sampled_from(SKETCHES)), rng=0
        )
    except np.linalg.LinAlgError as error:
        assert "drop dependent columns" in str(error)  # noqa: PT017
    except ValueError as error:
        assert str(error).split()[0] in {"A", "b", "rows"}  # noqa: PT017
    else:
        assert np.isfinite(result.x).all()


def test_operator_of_a_wrong_shape_is_named():
    with pytest.raises(ValueError, match="operator must have 64 columns"):
        sketch_and_solve(SRHT(63, 10, 0), *GOOD)
    with pytest.raises(ValueError, match="operator must have more than d"):
        sketch_and_solve(SRHT(64, 3, 0), *GOOD)


def test_exact_where_a_sketch_would_not_pay():
    A, b = problem()
    result = linf_regression(A, b)
    assert result.exact
    assert result.sketch == "none"
    np.testing.assert_allclose(result.x, np.linalg.lstsq(A, b)[0], rtol=1e-10)
    assert verdicts(result) == [Verdict.HOLDS]
    assert coverage(result, extended(A, b))
    assert (np.diff(result.conf_int())[:, 0] < 1e-10 * np.abs(result.x)).all()
    wide = np.random.default_rng(0).standard_normal((1000, 200))
    with pytest.warns(UserWarning, match="solving exactly"):
        assert linf_regression(wide, np.ones(1000)).exact


def test_a_sketch_has_to_be_half_as_fast_again():
    assert exact_is_cheaper(10**6, 80, 7500)
    assert exact_is_cheaper(200_000, 96, 9103)
    assert exact_is_cheaper(400_000, 70, 6497)
    assert not exact_is_cheaper(1 << 20, 512, 20_000)
    assert exact_is_cheaper(1000, 512, 501)


@pytest.mark.parametrize(("factor", "of"), [(1e200, float), (1e-200, float), (1e30, np.float32)])
@pytest.mark.parametrize("options", [{}, {"rows": 100}, {"rows": 100, "refine": 2}])
def test_extreme_scales_change_nothing_but_units(factor, of, options):
    A, b = problem()
    A = (A / 100).astype(of)
    plain = linf_regression(A, b, rng=0, **options)
    scaled = linf_regression(A * of(factor), b, rng=0, **options)
    tolerance = 1e-12 if of is float else 1e-3
    for name in ("x", "stderr", "statistical_stderr"):
        ours, theirs = getattr(scaled, name) * factor, getattr(plain, name)
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=0)
    assert scaled.residual_estimate == pytest.approx(plain.residual_estimate, rel=tolerance)
    if of is float:
        large = linf_regression(A, b * 1e250, rng=0, **options)
        np.testing.assert_allclose(large.x / 1e250, plain.x, rtol=tolerance)
        assert large.residual_estimate / 1e250 == pytest.approx(plain.residual_estimate)
        assert verdicts(large) == verdicts(plain)


def test_coefficients_out_of_range_are_named():
    A, b = problem()
    with pytest.raises(ValueError, match="in the range of float32, that of column x0"):
        linf_regression(A.astype(np.float32), b * 1e60)


@pytest.mark.parametrize("options", [{}, {"rows": 512}, {"rows": 100, "refine": "lsqr"}])
def test_weights_are_repetitions(options):
    # 512 sketched rows of 300 padded to 512 are all there are.
    A, b = problem(300, 4)
    times = np.random.default_rng(0).integers(0, 4, 300)
    repeated = linf_regression(np.repeat(A, times, axis=0), np.repeat(b, times))
    weighted = linf_regression(A, b, sample_weight=times, rng=0, **options)
    np.testing.assert_allclose(weighted.x, repeated.x, rtol=1e-9)
    assert weighted.residual_estimate == pytest.approx(repeated.residual_estimate, rel=0.01)
    sparse = linf_regression(sp.csr_array(A), b, sample_weight=times)
    np.testing.assert_allclose(sparse.x, repeated.x, rtol=1e-9)


def test_tables_in_another_order_are_refused():
    A, b = problem()
    table, target = pd.DataFrame(A), pd.Series(b)
    with pytest.raises(
        ValueError, match=r"b has the labels of A in another order; pass b.loc\[A.index"
    ):
        linf_regression(table, target.sample(frac=1, random_state=0))
    with pytest.raises(ValueError, match="sample_weight has the labels"):
        linf_regression(table, target, sample_weight=target.abs().sort_values())
    other = target.set_axis(np.arange(600) + 700)  # labels of its own: rows go by position
    np.testing.assert_allclose(linf_regression(table, other).x, linf_regression(A, b).x)


def test_rank_lost_by_the_sketch_is_not_blamed_on_the_matrix():
    A, b = np.zeros((64, 16)), np.zeros(64)
    A[:16], b[16:20] = np.eye(16), 0.5
    exact = 0
    for seed in range(20):
        S = SRHT(64, 17, np.random.default_rng(seed))
        if np.linalg.matrix_rank(S @ A) == 16:
            continue
        exact += 1
        with pytest.raises(np.linalg.LinAlgError, match="lost the rank of A, which is full"):
            sketch_and_solve(S, A, b)
        with pytest.warns(UserWarning, match="solved exactly instead"):
            result = linf_regression(A, b, rows=17, rng=seed)
        assert result.exact
        np.testing.assert_array_equal(result.x, 0)
    assert exact > 0
    with pytest.raises(np.linalg.LinAlgError, match="A has rank 15 < d = 16"):
        linf_regression(A * (np.arange(16) != 2), b, rows=17, rng=0)


@pytest.mark.parametrize("kind", [{}, {"sketch": "circulant"}], ids=["srht", "circulant"])
def test_rows_drawn_again_widen_bars_as_much_as_they_cost(kind):
    g = np.random.default_rng(0)
    A, b = g.standard_normal((250, 40)), g.standard_normal(250)
    exact = np.linalg.lstsq(A, b)[0]
    runs = [linf_regression(A, b, rows=150, replace=True, rng=s, **kind) for s in range(60)]
    errors = np.mean([(r.x - exact) ** 2 for r in runs])
    assert np.mean([r.stderr**2 for r in runs]) == pytest.approx(errors, rel=0.25)


@pytest.mark.parametrize("arguments", [{}, {"refine": 2}, {"x_exact": np.zeros((3, 2))}])
def test_a_target_of_zeros_in_blocks(arguments):
    g = np.random.default_rng(0)
    A, b = g.standard_normal((1000, 3)), np.zeros((1000, 2))
    result = linf_regression(A, b, rows=100, block_rows=250, rng=0, **arguments)
    assert (np.abs(result.conf_int()) < 1e-12).all()


def test_an_x_exact_that_overflows_is_refused():
    g = np.random.default_rng(0)
    A, b = g.standard_normal((1000, 3)), g.standard_normal(1000)
    with pytest.raises(ValueError, match="x_exact must be near the solution"):
        linf_regression(A, b, rows=100, x_exact=np.full(3, 1e300))


def test_an_operator_that_draws_itself_anew_is_refused():
    g = np.random.default_rng(0)
    A, b = g.standard_normal((500, 3)), g.standard_normal(500)
    anew = LinearOperator((50, 500), matvec=lambda v: g.standard_normal((50, 500)) @ v, dtype=float)
    with pytest.raises(ValueError, match="same at every application"):
        sketch_and_solve(anew, A, b)
