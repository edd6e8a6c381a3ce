import numpy as np
import pytest
import scipy.sparse as sp
import statsmodels.api as sm
from least_squares import problem

from whp.linalg import SketchedLinearRegression, linf_regression


def uneven(n=3000):
    """Noise that grows with a column, a rare group, and three outliers."""
    rng = np.random.default_rng(0)
    A = rng.standard_normal((n, 5))
    A[:, 0], A[:, 1] = 1, rng.random(n) < 0.01
    b = A.sum(axis=1) + rng.standard_normal(n) * (0.2 + np.abs(A[:, 3]))
    b[:3] += 300
    return A, b


@pytest.mark.parametrize("options", [{}, {"rows": 100}, {"rows": 100, "measure": True}])
def test_it_is_hc3_of_all_rows_whatever_the_sketch(options):
    A, b = uneven()
    expected = sm.OLS(b, A).fit().HC3_se
    result = linf_regression(A, b, rng=0, **options)
    np.testing.assert_allclose(result.statistical_stderr, expected, rtol=1e-9)
    np.testing.assert_allclose(result.total_stderr, np.hypot(result.stderr, expected), rtol=1e-9)


def test_it_is_hc3_of_weighted_rows_of_many_blocks_sparse_and_in_single_precision(monkeypatch):
    from whp.linalg._linf_regression import problem as module

    monkeypatch.setattr(module, "BLOCK_ENTRIES", 700)
    A, b = uneven()
    weights = np.random.default_rng(1).random(len(A))
    weights[:100] = 0
    expected = sm.WLS(b, A, weights=weights).fit().HC3_se
    for design, tolerance in ((A, 1e-9), (sp.csr_array(A), 1e-9), (A.astype(np.float32), 1e-3)):
        result = linf_regression(design, b, sample_weight=weights)
        np.testing.assert_allclose(result.statistical_stderr, expected, rtol=tolerance)


def test_an_ill_conditioned_matrix_has_its_leverages_from_the_triangle():
    rng = np.random.default_rng(0)
    A = rng.standard_normal((400, 3))
    A[:, 2] = A[:, 1] + 1e-7 * A[:, 2]
    b = rng.standard_normal(400)
    q, r = np.linalg.qr(A)
    left = b - q @ (q.T @ b)
    weighted = left / (1 - (q**2).sum(axis=1))
    expected = np.sqrt(((q @ np.linalg.inv(r).T) ** 2).T @ weighted**2)
    np.testing.assert_allclose(linf_regression(A, b).statistical_stderr, expected, rtol=1e-5)


def test_a_coefficient_that_one_row_determines_has_no_standard_error():
    rng = np.random.default_rng(0)
    A = np.column_stack([np.ones(50), np.arange(50) == 7, rng.standard_normal(50)]).astype(float)
    found = linf_regression(A, rng.standard_normal(50)).statistical_stderr
    np.testing.assert_array_equal(np.isinf(found), [False, True, False])


def test_one_standard_error_is_not_taken_for_the_other():
    A, b = problem(8192, 6)
    table = linf_regression(A, b, rows=1024, rng=0).coefficients
    assert {"distance_stderr", "statistical_stderr"} <= set(table.columns)
    assert (table["distance_stderr"] > table["statistical_stderr"]).all()
    exact = linf_regression(A, b).coefficients
    assert (exact["distance_stderr"] < 1e-9 * exact["statistical_stderr"]).all()


@pytest.mark.parametrize("weighted", [False, True])
def test_the_leverage_of_an_intercept_that_was_centred_out_counts(weighted):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((12, 2)), rng.standard_normal(12)
    X[0] *= 10
    weights = rng.uniform(0.1, 3, 12) if weighted else np.ones(12)
    found = SketchedLinearRegression().fit(X, y, weights if weighted else None).result_
    expected = sm.WLS(y, sm.add_constant(X), weights=weights).fit(cov_type="HC3").bse[1:]
    np.testing.assert_allclose(found.statistical_stderr, expected, rtol=1e-9)
    alone = np.column_stack([X, np.arange(12) == 5])
    assert np.isinf(SketchedLinearRegression().fit(alone, y).result_.statistical_stderr[2])


@pytest.mark.parametrize("rows", [None, 100])
@pytest.mark.parametrize("change", ["A", "b", "order"])
def test_data_changed_in_place_since_are_refused(rows, change):
    rng = np.random.default_rng(5)
    A, b = rng.standard_normal((500, 3)), rng.standard_normal(500)
    result = linf_regression(A, b, rows=rows, measure=True, rng=0)
    if change == "A":
        A *= 2
    elif change == "b":
        b[:100] += 10
    else:
        rng.shuffle(A)
    with pytest.raises(ValueError, match="changed in place"):
        _ = result.statistical_stderr
