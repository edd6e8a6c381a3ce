import io
import pickle

import numpy as np
import pandas as pd
import pytest
from least_squares import problem
from rich.console import Console

from whp.linalg import linf_regression


def test_result_reports_itself():
    A, b = problem()
    names = list("abcdefg")
    result = linf_regression(pd.DataFrame(A, columns=names), pd.Series(b), rows=100, rng=0)
    table = result.artifacts()["coefficients.csv"]
    assert list(table.columns) == [
        "name",
        "coefficient",
        "distance_stderr",
        "low",
        "high",
        "statistical_stderr",
    ]
    assert list(table["name"]) == names
    np.testing.assert_allclose(
        table["high"] - table["coefficient"], np.diff(result.conf_int(0.95))[:, 0] / 2
    )
    assert result.summary()["columns_of_A"] == 7
    assert [t.get_text() for t in result.plot().get_yticklabels()] == names[::-1]
    # Its own bytes: a study's processes exchange results so.
    again = pickle.loads(pickle.dumps(result))
    assert again.x.tolist() == result.x.tolist()


def test_the_terminal_shows_the_largest_effects_first():
    A, b = problem(3000, 14)
    b = b + 1e4 * A[:, 3]
    result = linf_regression(A, b, rng=0)
    console = Console(file=io.StringIO(), width=200)
    console.print(result)
    shown = console.file.getvalue()
    assert "10 of 14 coefficients" in shown
    lines = [line.split() for line in shown.splitlines()]
    first = next(line for line in lines if line and line[0].startswith("x"))
    assert first[:2] == ["x3", f"{result.x[3]:.5g}"]


def test_levels_and_simultaneity():
    A, b = problem(2000, 5)
    result = linf_regression(A, b, rows=200, rng=0)
    narrow, wide = result.half_widths(0.5), result.half_widths(0.99)
    assert (narrow < wide).all()
    assert (result.half_widths(0.95, simultaneous=False) < result.half_widths(0.95)).all()
    exact = linf_regression(A, b)
    np.testing.assert_array_equal(exact.half_widths(0.5), exact.half_widths(0.99))
    assert (exact.half_widths() > 0).all()


def test_a_pickle_carries_the_statistics_and_not_the_data():
    A, b = problem(5000, 4)
    result = linf_regression(A, b, rows=100, rng=0)
    content = pickle.dumps(result)
    assert len(content) < A.nbytes / 4
    again = pickle.loads(content)  # made two lines above
    np.testing.assert_array_equal(again.statistical_stderr, result.statistical_stderr)
    np.testing.assert_array_equal(again.conf_int(), result.conf_int())


def test_a_model_of_data_changed_in_place_can_be_pickled():
    A, b = problem(1000, 4)
    result = linf_regression(A, b, rows=100, rng=0)
    A *= 2
    # Its own bytes, as a user's joblib makes them.
    again = pickle.loads(pickle.dumps(result))
    np.testing.assert_array_equal(again.conf_int(), result.conf_int())
    with pytest.raises(ValueError, match="where the data are"):
        _ = again.statistical_stderr
