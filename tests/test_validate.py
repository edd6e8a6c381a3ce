import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whp import validate

ANYTHING = st.one_of(
    st.none(),
    st.text(max_size=5),
    st.booleans(),
    st.integers(-9, 9),
    st.floats(allow_nan=True),
    st.complex_numbers(),
    st.lists(
        st.one_of(st.none(), st.floats(), st.text(max_size=3), st.lists(st.floats(), max_size=3)),
        max_size=4,
    ),
    st.dictionaries(st.text(max_size=2), st.floats(), max_size=2),
    st.binary(max_size=3),
)


@given(ANYTHING)
def test_arrays_come_out_clean_or_the_argument_is_named(value):
    for check in (validate.as_matrix, validate.as_vector, validate.as_labels):
        try:
            array = check(value, "thing")
        except (ValueError, TypeError) as error:
            assert "thing" in str(error)  # noqa: PT017
        else:
            assert np.isfinite(array).all()
            assert array.size


@given(ANYTHING)
def test_scalars_come_out_clean_or_the_argument_is_named(value):
    for check in (
        lambda v: validate.as_real(v, "thing", low=0),
        lambda v: validate.as_fraction(v, "thing"),
        lambda v: validate.as_int(v, "thing", low=1, high=5),
        lambda v: validate.as_labels([0, v], "thing"),
    ):
        try:
            check(value)
        except (ValueError, TypeError) as error:
            assert "thing" in str(error)  # noqa: PT017


def test_dtypes():
    assert validate.as_matrix([[1, 2]], "A").dtype == np.float64
    assert validate.as_matrix(np.ones((2, 2), np.float32), "A").dtype == np.float32
    assert validate.as_matrix(np.ones((2, 2), np.float16), "A").dtype == np.float64
    assert validate.as_matrix(pd.DataFrame({"a": [1, 2]}), "A").shape == (2, 1)
    assert validate.as_labels([True, False], "y").tolist() == [1, 0]
    assert validate.column_names(pd.DataFrame({"a": [1]})) == ("a",)
    assert validate.column_names(np.ones(3)) is None


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: validate.as_matrix(np.ones(3), "A"), r"A must be 2-dimensional, got shape \(3,\)"),
        (lambda: validate.as_matrix([[1.0, np.nan]], "A"), r"A must be finite.*first at \(0, 1\)"),
        (lambda: validate.as_matrix(np.ones((2, 2)) * 1j, "A"), "A must be real"),
        (lambda: validate.as_matrix(np.ones((0, 2)), "A"), "A must not be empty"),
        (lambda: validate.as_vector([1.0], "b", size=2), "b must have 2 entries"),
        (
            lambda: validate.as_labels([0, 3], "y", classes=3),
            "y must hold whole class numbers 0 to 2",
        ),
        (lambda: validate.as_labels([0, 0.5], "y"), "y must hold whole"),
        (
            lambda: validate.as_choice("x", "sketch", ("a", "b")),
            "sketch must be one of 'a', 'b', got 'x'",
        ),
        (lambda: validate.as_int(0, "rows", low=1), "rows must be at least 1, got 0"),
        (lambda: validate.as_fraction(1.0, "delta"), r"delta must be in \(0, 1\), got 1"),
    ],
)
def test_messages(call, told):
    with pytest.raises(ValueError, match=told):
        call()
