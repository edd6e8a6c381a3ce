import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from whp.certificate import Verdict
from whp.distributed import error_feedback


def data(seed=0, m=120, p=4):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(m, p)) * (1 + np.arange(m)[:, None] / 20)
    return X, (X[:, 0] + 0.5 * rng.normal(size=m) > 0).astype(float)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"step": "guarded"},
        {"method": "EF21-W"},
        {"step": "rf"},
        {"step": "qm"},
        {"compressor": "natural"},
        {"by_size": True},
        {"method": "EF21-PP", "seeds": 3},
        {"method": "EF21-SGD", "seeds": 2},
        {"compressor": "randk", "seeds": 3},
        {"step": 0.005},
        {"compressor": "block", "ratio": 0.5},
        {"loss": "squared"},
        {"compare": False},
        {"standardise": False},
    ],
    ids=str,
)
def test_front_door(options):
    X, y = data()
    found = error_feedback(X, y, n_clients=5, steps=60, rng=0, **options)
    assert found.clients == 5
    assert not [c.name for c in found.certificates if c.verdict in (Verdict.FAILS, Verdict.VOID)]
    assert found.grad_norm2 <= found.history["grad_norm2"].iloc[0]
    found.plot()
    assert set(found.artifacts()) == {"arrays.npz", "history.csv"}


def test_front_door_with_clients_and_repeatable():
    X, y = data()
    labels = np.arange(120) % 6
    one, two = (
        error_feedback(X, y, labels, steps=20, rng=3, method="EF21-PP", seeds=2) for _ in range(2)
    )
    assert one.clients == 6
    assert (one.x == two.x).all()


@settings(max_examples=60, deadline=None)
@given(
    arrays(
        np.float64,
        st.tuples(st.integers(0, 8), st.integers(0, 3)),
        elements=st.floats(allow_nan=True, allow_infinity=True),
    ),
    st.data(),
)
def test_hostile_input_is_refused_by_name(X, draw):
    y = draw.draw(arrays(np.float64, len(X), elements=st.sampled_from([0.0, 1.0, np.nan])))
    try:
        found = error_feedback(X, y, n_clients=2, steps=3, rng=0)
    except (ValueError, TypeError) as error:
        assert any(name in str(error) for name in ("X", "y", "n_clients", "grads", "k"))  # noqa: PT017
    else:
        assert np.isfinite(found.x).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 40}, "k must be in 1..5"),
        ({"steps": 0}, "steps"),
        ({"loss": "hinge"}, "loss"),
        ({"reg": -1}, "reg"),
        ({"method": "SGD"}, "method"),
        ({"step": "long"}, "step"),
        ({"method": "EF21-SGD", "loss": "squared"}, "logistic"),
        ({"compare": 1}, "compare"),
        ({"participation": 0, "method": "EF21-PP"}, "participation"),
        ({"n_clients": 500}, "n_clients"),
    ],
)
def test_wrong_arguments(change, message):
    X, y = data()
    with pytest.raises((ValueError, TypeError), match=message):
        error_feedback(X, y, rng=0, **change)


def test_clients_have_names():
    X, y = data()
    names = np.array(["Köln 3", "Ulm", "3"])[np.arange(120) % 3]
    made = error_feedback(X, y, names, steps=20, rng=0)
    assert made.clients == 3
    assert made.rows_of_clients == "3: 40, Köln 3: 40, Ulm: 40"
    by_number = error_feedback(X, y, np.array([1, 7, 0])[np.arange(120) % 3], steps=20, rng=0)
    assert np.allclose(by_number.x, made.x, atol=1e-12)
    assert (
        error_feedback(X, np.where(y > 0, "yes", "no"), names, steps=20, rng=0).x == made.x
    ).all()
    with pytest.raises(ValueError, match=r"clients: row 5 is missing"):
        error_feedback(X, y, [*range(5), None, *range(114)], steps=2)
    with pytest.raises(ValueError, match=r"y: row 3 is missing"):
        error_feedback(X, np.r_[0.0, 1, 0, np.nan, y[4:]], names, steps=2)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"participation": 0.5}, "participation"),
        ({"batch": 4}, "batch"),
        ({"seeds": 3}, "seeds"),
        ({"delta": 0.1}, "delta"),
        ({"k": 2, "compressor": "natural"}, "k"),
        ({"ratio": 0.2, "compressor": "randk"}, "ratio"),
        ({"k": 2, "ratio": 0.2}, "k and ratio"),
        ({"clients": np.arange(120) % 3, "n_clients": 3}, "n_clients"),
    ],
    ids=str,
)
def test_what_would_be_ignored_is_refused(options, name):
    X, y = data()
    with pytest.raises(ValueError, match=name):
        error_feedback(X, y, steps=2, rng=0, **options)


def test_badly_scaled_columns_are_named_as_the_reason():
    X, y = data()
    X[:, 1] *= 1e4
    made = error_feedback(X, y, steps=20, standardise=False, rng=0)
    assert made.condition_number > 1e6
    assert "standardise" in made.summary()["advice"]
    assert "advice" not in error_feedback(X, y, steps=20, rng=0).summary()


def test_the_best_of_several_runs_is_returned():
    X, y = data()
    made = error_feedback(X, y, n_clients=4, steps=60, method="EF21-PP", seeds=5, delta=0.1, rng=0)
    certificates = {c.name: c for c in made.certificates}
    assert certificates.keys() == {"expected-gradient", "best-run"}
    assert certificates["best-run"].confidence == 0.9
    own = made.history[made.history["method"].str.startswith("EF21-PP")]["grad_norm2"][:-1].mean()
    assert certificates["best-run"].measured.value == pytest.approx(own)


def test_an_ordinary_run_holds():
    from sklearn.datasets import load_breast_cancer

    X, y = load_breast_cancer(return_X_y=True)
    made = error_feedback(X, y, steps=400, compare=False, rng=0)
    assert [c.headline for c in made.certificates] == [
        "holds, given 4 unchecked",
        "holds, given 1 unchecked",
    ]
    assert made.speedup > 1.3


def test_a_constant_column_is_left_at_zero():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 2))
    y = X[:, 0] > 0
    plain = error_feedback(X, y, n_clients=3, steps=20, compare=False)
    for value in (0.1, 1e9 + 0.1):  # whose mean is off by rounding
        more = np.column_stack([X, np.full(200, value)])
        found = error_feedback(more, y, n_clients=3, steps=20, compare=False)
        assert found.x[2] == 0
        assert np.isclose(found.L, plain.L, rtol=1e-6)


@pytest.mark.parametrize("unit", [1e-300, 1e-200, 1e-160, 1e160, 1e300])
def test_standardised_columns_may_be_of_any_scale(unit):
    X, y = data()
    plain = error_feedback(X, y, steps=30, n_clients=4, k=3)
    X[:, 1] *= unit
    other = error_feedback(X, y, steps=30, n_clients=4, k=3)
    assert other.x == pytest.approx(plain.x, rel=1e-9, abs=1e-12)
    assert other.x[1] != 0


def test_runs_of_which_some_diverge_are_told_and_have_no_certificates():
    X = np.random.default_rng(0).normal(size=(60, 3))
    options = {"loss": "squared", "method": "EF21-PP", "step": 20.0, "compressor": "none"}
    made = error_feedback(
        *(X, X @ [1, 2, 3]), n_clients=3, seeds=6, steps=58, compare=False, rng=0, **options
    )
    assert "diverged" in made.ended
    assert made.certificates == ()
    assert made.steps_made < 58
