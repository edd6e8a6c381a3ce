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


def masked(shape, hidden):
    mask = np.zeros(shape, dtype=bool)
    mask.flat[0] = hidden
    return np.ma.array(np.ones(shape), mask=mask)


NO_NUMBERS = {
    "complex": (np.ones((2, 2)) * 1j, "must be real, got complex"),
    "complex objects": (np.array([[1, 1j]], dtype=object), "holds complex"),
    "dates": (np.array([["2024-01-01"]], "M8[D]"), "got dates"),
    "spans": (np.array([[5]], "m8[s]"), "got time spans"),
    "bytes": (np.array([[b"1"]]), "got bytes"),
    "text": (np.array([["1"]]), "got text"),
    "text objects": (np.array([["1"]], dtype=object), "holds str"),
    "a frame of text": (pd.DataFrame({"a": ["1", "2"]}), "holds str"),
    "a frame of dates": (pd.DataFrame({"a": pd.to_datetime(["2024-01-01"])}), "dates"),
    "records": (np.zeros((1, 1), dtype=[("x", "f8")]), "got records"),
    "masked": (masked((2, 2), True), "must have no masked entries"),
    "huge": ([[10**400]], "got a number beyond floats"),
    "huge objects": (np.array([[10**400]], dtype=object), "got a number beyond floats"),
}


@pytest.mark.parametrize("kind", NO_NUMBERS)
def test_what_numpy_would_cast_without_a_word_is_refused_by_name(kind):
    value, said = NO_NUMBERS[kind]
    for check in (validate.as_matrix, validate.as_floats, validate.as_sparse):
        with pytest.raises((ValueError, TypeError), match=f"^thing .*{said}"):
            check(value, "thing")


def test_an_object_whose_conversion_breaks_is_named():
    class Strange:
        def __array__(self, dtype=None, copy=None):
            raise RuntimeError("device lost")

    with pytest.raises(
        TypeError, match="thing must be an array of real numbers, got Strange: device"
    ):
        validate.as_vector(Strange(), "thing")


def test_a_mask_that_hides_nothing_is_no_mask():
    assert validate.as_matrix(masked((2, 2), False), "A").tolist() == [[1, 1], [1, 1]]


def test_decimals_and_fractions_are_numbers():
    from decimal import Decimal
    from fractions import Fraction

    got = validate.as_vector(np.array([Decimal("1.5"), Fraction(1, 4), 2], dtype=object), "b")
    assert got.tolist() == [1.5, 0.25, 2]


def test_tensors_that_require_gradients():
    torch = pytest.importorskip("torch")
    weights = torch.ones(2, 2, requires_grad=True)
    assert validate.as_matrix(weights, "A").tolist() == [[1, 1], [1, 1]]
    assert validate.as_matrix(weights.to(torch.bfloat16), "A").dtype == np.float32


def test_frames_of_other_libraries():
    import pyarrow as pa

    arrow = pa.table({"a": [1, 2], "b": [0.5, 1.5]})
    assert validate.as_matrix(arrow, "A").tolist() == [[1, 0.5], [2, 1.5]]
    assert validate.column_names(arrow) == ("a", "b")
    assert list(validate.as_frame(arrow).columns) == ["a", "b"]
    with pytest.raises(TypeError, match="A must be an array of real numbers"):
        validate.as_matrix(pa.table({"a": ["x"]}), "A")
    frame = pd.DataFrame({"a": [1]})
    assert validate.as_frame(frame) is frame
    array = np.ones(2)
    assert validate.as_frame(array) is array


@pytest.mark.parametrize("library", ["polars", "duckdb"])
def test_frames_of_libraries_that_may_be_here(library):
    module = pytest.importorskip(library)
    if library == "polars":
        frames = [module.DataFrame({"a": [1, 2]}), module.LazyFrame({"a": [1, 2]})]
    else:
        frames = [module.sql("select unnest([1, 2]) as a")]
    for frame in frames:
        assert validate.as_matrix(frame, "A").tolist() == [[1], [2]]
        assert validate.column_names(frame) == ("a",)


def test_sparse_matrices_keep_their_pattern_and_must_be_real():
    import scipy.sparse

    A = scipy.sparse.csc_array(np.diag([1, 2]))
    got = validate.as_sparse(A, "A")
    assert (got.format, got.dtype, got.nnz) == ("csr", np.float64, 2)
    with pytest.raises(TypeError, match=r"A must be dense, got csc_array; pass A.toarray\(\)"):
        validate.as_matrix(A, "A")
    with pytest.raises(ValueError, match="A must be real, got complex numbers"):
        validate.as_sparse(A * 1j, "A")
    often = (np.ones(256, np.uint8), (np.zeros(256, int), np.ones(256, int)))
    assert validate.as_sparse(scipy.sparse.coo_array(often, shape=(2, 2)), "A").sum() == 256


@pytest.mark.parametrize("layout", ["sparse_coo", "sparse_csr", "sparse_csc"])
def test_sparse_tensors_of_torch_are_sparse_matrices(layout):
    torch = pytest.importorskip("torch")
    dense = torch.tensor([[0.0, 2.0, 0.0], [1.0, 0.0, 3.0]])
    tensor = dense.to_sparse(layout=getattr(torch, layout)).requires_grad_()
    got = validate.as_sparse(tensor, "A")
    assert (got.format, got.dtype, got.nnz) == ("csr", np.float64, 3)
    assert got.toarray().tolist() == dense.tolist()


def test_flags():
    assert validate.as_bool(np.bool_(True), "loud") is True
    for wrong in ("no", 0, 1, None, np.nan, np.ones(1, dtype=bool)):
        with pytest.raises(TypeError, match="loud must be True or False, got"):
            validate.as_bool(wrong, "loud")


def test_generators():
    generator = np.random.default_rng(3)
    assert validate.as_rng(generator) is generator
    assert validate.as_rng(3).random() == validate.as_rng(np.uint8(3)).random()
    assert validate.as_rng(np.random.SeedSequence(3)).random() == validate.as_rng(3).random()
    assert validate.as_rng(None).random() != validate.as_rng(None).random()
    for wrong, kind in (
        (True, TypeError),
        (1.0, TypeError),
        ("x", TypeError),
        ([1], TypeError),
        (-1, ValueError),
        (-(10**5000), ValueError),
    ):
        with pytest.raises(kind, match=r"^rng must be "):
            validate.as_rng(wrong)


def test_sequences():
    for value in ((1, 2), [1, 2], np.array([1, 2]), range(1, 3), iter([1, 2])):
        assert validate.as_sequence(value, "windows") == [1, 2]
    for wrong in ("12", b"12", 3, {1: 2}, {1, 2}, None, np.array(3)):
        with pytest.raises(TypeError, match=r"^windows must be a sequence"):
            validate.as_sequence(wrong, "windows")
    assert validate.as_sequence([[1], [1, 2]], "windows") == [[1], [1, 2]]


def test_whole_numbers_beyond_64_bits_are_refused_by_name():
    for value in (2**63, -(2**63), 10**5000):
        with pytest.raises(ValueError, match="rows must be"):
            validate.as_int(value, "rows")
    with pytest.raises(ValueError, match="y must hold whole class numbers"):
        validate.as_labels([1.0, 1e300], "y")
    with pytest.raises(ValueError, match="delta must be finite, got a number beyond floats"):
        validate.as_real(10**400, "delta")


def paired():
    """Every public way in that takes rows and their targets apart."""
    from whp import calibration, linalg, losses, online, optim

    return {
        "HCalibrator": lambda X, y: calibration.HCalibrator().fit(X, y > 0),
        "h_calibration": lambda X, y: calibration.h_calibration(X, (y > 0) * 1),
        "comp_sum_losses": lambda X, y: losses.comp_sum_losses(X, (y > 0) * 1),
        "linf_regression": linalg.linf_regression,
        "SketchedLinearRegression": lambda X, y: linalg.SketchedLinearRegression().fit(X, y),
        "lp_sensitivity_sampling": linalg.lp_sensitivity_sampling,
        "LpRegressor": lambda X, y: linalg.LpRegressor().fit(X, y),
        "CoresetSampler": lambda X, y: linalg.CoresetSampler().fit(X, y),
        "groupwise_regret": online.groupwise_regret,
        "GroupwiseRegressor": lambda X, y: online.GroupwiseRegressor().fit(X, y),
        "GroupwiseRegressor, a part": lambda X, y: online.GroupwiseRegressor().partial_fit(X, y),
        "optimistic_mirror_descent": online.optimistic_mirror_descent,
        "OptimisticRegressor": lambda X, y: online.OptimisticRegressor().fit(X, y),
        "OptimisticClassifier": lambda X, y: online.OptimisticClassifier().fit(X, y > 0),
        "target_surrogates": optim.target_surrogates,
        "SSORegressor": lambda X, y: optim.SSORegressor().fit(X, y),
        "SSOClassifier": lambda X, y: optim.SSOClassifier().partial_fit(X, y > 0, classes=[0, 1]),
    }


@pytest.mark.parametrize("way", paired())
def test_tables_of_the_same_rows_in_another_order_are_refused(way):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(300, 2)), columns=["a", "b"])
    y = pd.Series(rng.normal(size=300)).sample(frac=1, random_state=0)
    with pytest.raises(
        ValueError, match=r"^[yb] has the labels of (X|A|logits) in another order; pass .\.loc"
    ):
        paired()[way](X, y)


def test_only_labels_that_cannot_be_meant_are_refused():
    X = pd.DataFrame(np.zeros((5, 2)))
    validate.same_order(X=X, y=X[0], z=X[0].to_numpy(), w=None)
    validate.same_order(X=X, y=X[0].set_axis(list("abcde")))  # other names for the rows
    validate.same_order(X=X.to_numpy(), y=X[0].iloc[::-1])
    with pytest.raises(ValueError, match="as if shifted"):
        validate.same_order(X=X, y=X[0].set_axis(range(1, 6)))
