"""Ranges in annotations: checked before the body runs, printed in the help, known to tests."""

import inspect
from dataclasses import dataclass
from fractions import Fraction as Ratio
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whp.door import Above, AtLeast, Between, Fraction, check_fields, describe, front_door, ranges


@front_door
def fit(
    A: Any,
    *,
    rows: Annotated[int, AtLeast(1)] = 10,
    delta: Annotated[float, Fraction()] = 0.05,
    scale: Annotated[float, Above(0)] = 1.0,
    share: Annotated[float | None, Between(0, 1)] = None,
    sketch: Literal["srht", "sparse"] = "srht",
    verify: bool | Literal["auto"] = "auto",
    loud: bool = False,
    ends: Annotated[int, AtLeast(1)] | list[int] | np.ndarray | None = None,
    out: Path | None = None,
    name: str = "",
    rng: np.random.Generator | int | None = None,
) -> dict[str, Any]:
    """Give back what arrived."""
    return dict(locals())


GOOD = {
    "rows": [(1, 1), (np.int64(7), 7), (2**62, 2**62)],
    "delta": [(0.5, 0.5), (np.float32(0.25), 0.25), (Ratio(1, 4), 0.25), (1e-299, 1e-299)],
    "scale": [(3, 3.0), (1e-300, 1e-300)],
    "share": [(None, None), (0, 0.0), (1.0, 1.0)],
    "sketch": [("sparse", "sparse")],
    "verify": [("auto", "auto"), (True, True), (np.bool_(False), False)],
    "loud": [(True, True), (np.bool_(True), True)],
    "ends": [(3, 3), (None, None), ([1, 2], [1, 2])],
    "out": [("x", "x"), (Path("x"), Path("x")), (None, None)],
    "name": [("anything", "anything")],
    "rng": [(None, None), (3, 3), (np.random.SeedSequence(1), None), (np.int64(3), 3)],
}
BAD = {
    "rows": [0, -1, 2.5, "3", True, None, 10**400, 2**63, [1], np.nan, 1j],
    "delta": [0, 1, 1.5, -0.1, "0.5", False, None, np.nan, np.inf, 10**400, [0.5], b"x"],
    "scale": [0, -1, np.inf, np.nan, True, None, 10**400],
    "share": [-0.1, 1.1, "half", True, np.nan],
    "sketch": ["magic", None, 3, True, ["srht"], np.array(["srht"]), b"srht"],
    "verify": ["no", "yes", 0, 1, None, np.nan, [True]],
    "loud": ["no", 0, 1, None, np.nan, "True", [True]],
    "ends": [0, "abc", 2.5, True],
    "name": [3, None, b"x", ["x"]],
    "rng": [True, -1, "seed", 1.5, [1, 2]],
}


@pytest.mark.parametrize(
    ("name", "value", "wanted"), [(n, *pair) for n in GOOD for pair in GOOD[n]]
)
def test_what_is_accepted_arrives_as_pythons_own(name, value, wanted):
    got = fit(None, **{name: value})[name]
    if wanted is not None or value is None:
        assert got == wanted
        assert name == "rng" or type(got) is type(wanted)


@pytest.mark.parametrize(("name", "value"), [(n, v) for n in BAD for v in BAD[n]])
def test_what_is_not_is_refused_by_name_before_the_body(name, value):
    with pytest.raises((ValueError, TypeError), match=f"^{name} must be ") as error:
        fit(None, **{name: value})
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"rows": 0}, ValueError, "rows must be at least 1, got 0"),
        ({"delta": 1}, ValueError, "delta must be at least 1e-300 and below 1, got 1"),
        ({"scale": 0.0}, ValueError, "scale must be above 0, got 0"),
        ({"share": 2}, ValueError, "share must be from 0 to 1, got 2"),
        ({"sketch": "magic"}, ValueError, "sketch must be one of 'srht', 'sparse', got 'magic'"),
        ({"loud": "no"}, TypeError, "loud must be True or False, got 'no'"),
        ({"verify": "no"}, ValueError, "verify must be one of 'auto' or True or False, got 'no'"),
        ({"rows": "3"}, TypeError, "rows must be a whole number at least 1, got '3'"),
        ({"rng": True}, TypeError, "rng must be None, a whole number"),
    ],
)
def test_messages(options, kind, said):
    with pytest.raises(kind, match=said):
        fit(None, **options)


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=3),
    st.complex_numbers(),
    st.just(10**400),
    st.fractions(),
    st.dates(),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=1), st.integers(), max_size=1),
    st.builds(np.float64, st.floats()),
    st.builds(np.int8, st.integers(-128, 127)),
    st.builds(object),
)


@settings(max_examples=500, deadline=None)
@given(st.sampled_from([n for n in BAD if n != "rng"]), SCALARS)
def test_any_scalar_arrives_in_range_or_is_refused_by_name(name, value):
    try:
        got = fit(None, **{name: value})[name]
    except (ValueError, TypeError) as error:
        assert str(error).startswith(f"{name} must be ")  # noqa: PT017
        return
    for limit in ranges(fit).get(name, ()):
        if isinstance(limit, tuple):
            assert got in limit or isinstance(got, bool)
        elif isinstance(got, int | float):
            assert got in limit


def test_arrays_and_objects_are_the_bodys_business():
    A = np.ones(3)
    assert fit(A)["A"] is A
    assert fit(A, ends=A)["ends"] is A


def test_it_looks_like_the_function_it_guards():
    assert fit.__name__ == "fit"
    assert fit.__doc__ == "Give back what arrived."
    assert list(inspect.signature(fit).parameters)[:3] == ["A", "rows", "delta"]
    assert get_type_hints(fit, include_extras=True)["rows"] == Annotated[int, AtLeast(1)]
    with pytest.raises(TypeError, match="missing a required argument: 'A'"):
        fit()
    with pytest.raises(TypeError, match="unexpected keyword argument 'row'"):
        fit(1, row=1)


def test_ranges_are_known_to_tests_and_help():
    found = ranges(fit)
    assert found["rows"] == (AtLeast(1),)
    assert found["sketch"] == (("srht", "sparse"),)
    assert set(found) == {"rows", "delta", "scale", "share", "sketch", "verify", "ends"}
    assert describe(Annotated[int, AtLeast(1)] | None) == "at least 1"
    assert describe(Annotated[float | int, Between(0, 1)]) == "from 0 to 1"
    assert describe(int) == ""
    assert 0.5 in Fraction()
    assert 1 not in Fraction()
    assert Fraction() == Fraction()
    assert str(Between(1, 10**6)) == "from 1 to 1,000,000"
    assert str(Between(0, 1e300)) == "from 0 to 1e+300"


def test_options_in_a_dataclass():
    @dataclass(frozen=True)
    class Training:
        epochs: Annotated[int, AtLeast(1)] = 3
        lr: Annotated[float, Above(0)] = 0.1

        def __post_init__(self) -> None:
            check_fields(self)

    assert Training(np.int64(4), 1) == Training(4, 1.0)
    assert type(Training(lr=1).lr) is float
    with pytest.raises(ValueError, match="epochs must be at least 1, got 0"):
        Training(epochs=0)
    with pytest.raises(TypeError, match="lr must be a number above 0, got 'x'"):
        Training(lr="x")

    @front_door
    def train(A, *, training: Training | None = None):
        return training

    options = Training(epochs=2)
    assert train(None, training=options) is options
    assert train(None) is None
    for wrong in ({"epochs": 2}, "fast", Training, [1], np.ones(3)):
        with pytest.raises(TypeError, match="training must be a Training or None, got"):
            train(None, training=wrong)


def test_whole_numbers_pass_for_floats_under_the_run_time_type_checker():
    from typed import typed

    guarded = front_door(typed(inspect.unwrap(fit)))
    assert guarded(None, delta=np.float32(0.5), scale=3)["scale"] == 3.0
    with pytest.raises(ValueError, match="rows must be at least 1"):
        guarded(None, rows=0)
