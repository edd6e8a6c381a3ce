import numpy as np
import pytest
from feedback_problem import GRADS, PROBLEM, VALUES, breast_cancer, named

from whp.certificate import Verdict
from whp.distributed import Compressor, Identity, NaturalDeterministic, TopK, ef21, in_expectation


def test_worked_example():
    path = []
    found = ef21(GRADS, [3, 3], T=3, callback=lambda t, x: path.append(x.copy()), **PROBLEM)
    assert found.step == pytest.approx(0.0500368237, abs=1e-10)
    assert path[1] == pytest.approx([2.249447645039, 2.799852705344], abs=1e-12)
    assert path[2] == pytest.approx([1.655412373510, 2.599705410687], abs=1e-12)
    assert found.x == pytest.approx([1.209995292641, 2.419587585810], abs=1e-12)
    assert found.shifts == pytest.approx(
        np.array([[0.209995292641, 7.199410821375], [12.099952926408, 0.0]]), abs=1e-11
    )
    assert found.history["G"][0] == pytest.approx(6.3)
    assert ef21(GRADS, [3, 3], T=1, step="qm", **PROBLEM).step == pytest.approx(
        0.0436506971, abs=1e-10
    )
    assert ef21(GRADS, [3, 3], T=1, step="pl", mu=1.5, **PROBLEM).step == pytest.approx(
        0.0384833239, abs=1e-10
    )


def test_breast_cancer_numbers():
    model, known = breast_cancer()
    assert (known.L, known.qm, known.am) == pytest.approx((2.925473, 4.330681, 3.162636), rel=2e-6)
    for step, gamma, steps, bound, measured in (
        ("qm", 0.00377481, 260, 1.275047, 0.335993),
        ("am", 0.00514795, 188, 1.017536, 0.263498),
    ):
        found = model.solve(known, T=400, step=step)
        assert found.step == pytest.approx(gamma, rel=2e-6)
        assert np.flatnonzero(found.history["grad_norm2"] < 0.1)[0] == steps
        certificate = named(found.certificates)["mean-gradient"]
        assert (certificate.bound, certificate.measured.value) == pytest.approx(
            (bound, measured), rel=3e-6
        )
        assert named(found.certificates)["lyapunov"].verdict is Verdict.HOLDS
    plain, weighted = (model.solve(known, T=5, method=m) for m in ("EF21", "EF21-W"))
    assert plain.history["G"][0] == pytest.approx(2.2395636314, rel=1e-5)
    assert weighted.history["G"][0] == pytest.approx(plain.history["G"][0], rel=1e-12)


def test_equal_methods():
    model, known = breast_cancer()
    paths = {}
    for method in ("EF21", "EF21-W"):
        kept = paths[method] = []
        model.solve(
            known, T=400, method=method, callback=lambda t, x, kept=kept: kept.append(x.copy())
        )
    assert np.abs(np.array(paths["EF21"]) - np.array(paths["EF21-W"])).max() <= 1e-12
    one, two = (
        model.solve(known, T=50, method=m, compressor=NaturalDeterministic()).x
        for m in ("EF21", "EF21-W")
    )
    assert np.abs(one - two).max() > 1e-6
    whole, plain = (
        model.solve(known, T=50, compressor=Identity()),
        model.solve(known, T=50, method="GD"),
    )
    assert whole.step == pytest.approx(1 / known.L, rel=1e-15)
    assert np.abs(whole.x - plain.x).max() <= 1e-14


def test_methods_without_shifts_and_first_shifts():
    for method in ("EF14", "DCGD"):
        found = ef21(GRADS, [3, 3], T=300, method=method, **PROBLEM)
        assert found.certificates == ()
        assert found.fun < 15
    dense, zero = (ef21(GRADS, [3, 3], T=50, init=i, **PROBLEM) for i in ("dense", "zero"))
    assert dense.history["G"][0] == 0 < zero.history["G"][0]
    assert all(c.verdict is not Verdict.FAILS for r in (dense, zero) for c in r.certificates)


def test_rare_feature_run_holds():
    rng = np.random.default_rng(0)
    owned = np.kron(np.eye(6), np.ones((1, 3))).astype(bool)
    centres = rng.normal(size=(6, 18)) * owned
    found = ef21(
        [lambda x, i=i: owned[i] * (i + 1) * (x - centres[i]) for i in range(6)],
        np.full(18, 2.0),
        smoothness=np.arange(1.0, 7),
        f=[
            lambda x, i=i: (i + 1) / 2 * float((owned[i] * (x - centres[i]) ** 2).sum())
            for i in range(6)
        ],
        L=1.0,
        T=300,
        step="rf",
        supports=owned,
        weights="optimal",
    )
    assert [c.verdict for c in found.certificates] == [Verdict.HOLDS] * 2
    with pytest.raises(ValueError, match="supports"):
        ef21(GRADS, [3, 3], step="rf", **PROBLEM)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"compressor": TopK(40)}, "k=40 exceeds dimension 2"),
        ({"smoothness": [1.0, -1.0]}, "client 1"),
        ({"weights": [0.4, 0.4]}, "sum to 1"),
        ({"weights": [1.5, -0.5]}, "client 1"),
        ({"mu": 50.0, "step": "pl"}, "mu must be at most L"),
        ({"step": "pl"}, "mu"),
        ({"participation": 0.5}, "EF21-PP"),
        ({"f": VALUES[:1]}, "2 entries"),
        ({"compressor": "topk"}, "compressor"),
    ],
)
def test_wrong_arguments_of_the_solver(change, message):
    with pytest.raises((ValueError, TypeError), match=message):
        ef21(GRADS, [3.0, 3.0], T=2, **(PROBLEM | change))


def test_wrong_gradients_name_the_client():
    with pytest.raises(ValueError, match="client 1 returned NaN or infinity at x0"):
        ef21([GRADS[0], lambda x: x * np.nan], [3, 3], T=2, smoothness=[2.0, 10.0])
    with pytest.raises(ValueError, match=r"client 1 returned shape \(3,\)"):
        ef21([GRADS[0], lambda x: np.zeros(3)], [3, 3], T=2, smoothness=[2.0, 10.0])
    with pytest.raises(ValueError, match="at least one client"):
        ef21([], [3, 3], smoothness=[1.0])


def test_gradients_may_come_in_one_buffer():
    buffer = np.zeros(2)

    def gradient(x, i):
        np.copyto(buffer, GRADS[i](x))
        return buffer

    shared = ef21(gradient, [3, 3], n=2, T=50, **PROBLEM)
    assert (shared.x == ef21(GRADS, [3, 3], T=50, **PROBLEM).x).all()


def test_what_callers_change_afterwards_changes_nothing():
    L, x0, w = np.array([2.0, 10.0]), np.array([3.0, 3.0]), np.array([0.25, 0.75])
    told = PROBLEM | {"smoothness": L, "weights": w, "T": 300, "method": "EF21-PP"}
    runs = [ef21(GRADS, x0, participation=0.5, rng=seed, **told) for seed in range(20)]
    before = in_expectation(runs)
    for array in (L, x0, w):
        array *= 0.1
    assert in_expectation(runs) == before
    assert runs[0].smoothness.clients.tolist() == [2.0, 10.0]


def test_a_callback_cannot_move_the_run():
    with pytest.raises(ValueError, match="read-only"):
        ef21(GRADS, [3, 3], T=3, callback=lambda t, x: np.clip(x, 0, 1, out=x), **PROBLEM)

    def worked_on(g):
        def gradient(x):
            made = g(x)
            x *= 0  # its own copy
            return made

        return gradient

    plain = ef21(GRADS, [3, 3], T=20, **PROBLEM)
    assert ef21([worked_on(g) for g in GRADS], [3, 3], T=20, **PROBLEM).x.tolist() == (
        plain.x.tolist()
    )


def test_numbers_without_squares_are_refused_by_name():
    with pytest.raises(ValueError, match=r"smoothness of client 1 is 1e\+150"):
        ef21(GRADS, [3, 3], **PROBLEM | {"smoothness": [2, 1e150]})
    with pytest.raises(ValueError, match="grads: client 0 returned"):
        ef21([lambda x: 1e150 * x, GRADS[1]], [3, 3], **PROBLEM)


class InPlace(Compressor):
    """The largest entry, on the array that it is given."""

    def alpha(self, d):
        return 1 / d

    def count(self, d):
        return 1

    def select(self, v, generator=None):
        chosen = np.abs(v).argmax(keepdims=True)
        v[np.arange(len(v)) != chosen[0]] = 0
        return chosen


@pytest.mark.parametrize("method", ["EF21", "EF14", "DCGD"])
def test_a_compressor_may_work_in_place(method):
    made, plain = (
        ef21(GRADS, [3, 3], T=30, method=method, **PROBLEM | {"compressor": compressor})
        for compressor in (InPlace(), TopK(1))
    )
    assert (made.x == plain.x).all()
    assert (made.history["grad_norm2"] == plain.history["grad_norm2"]).all()


def test_a_compressor_that_makes_no_numbers_ends_the_run_with_its_certificates():
    class Spoils(InPlace):
        left = 20

        def decompress(self, payload):
            self.left -= 1
            return super().decompress(payload) * (1 if self.left > 0 else np.nan)

    made = ef21(GRADS, [3, 3], T=50, **PROBLEM | {"compressor": Spoils()})
    assert "compressor" in made.message
    assert not made.success
    assert [c.verdict for c in made.certificates] == [Verdict.HOLDS] * 2
    Spoils.left = 0
    with pytest.raises(ValueError, match="at x0"):
        ef21(GRADS, [3, 3], T=50, **PROBLEM | {"compressor": Spoils()})


def test_a_compressor_that_changes_the_shape_is_named():
    class Shortens(InPlace):
        def decompress(self, payload):
            return super().decompress(payload)[:1]

    with pytest.raises(ValueError, match=r"Shortens\(\) made shape \(1,\)"):
        ef21(GRADS, [3, 3], T=50, **PROBLEM | {"compressor": Shortens()})


def test_something_made_of_nothing_is_no_contraction():
    class Adds(InPlace):
        def decompress(self, payload):
            return super().decompress(payload) + (not payload.values.any())

    options = PROBLEM | {"compressor": Adds(), "smoothness": [2, 10, 1]}
    grads, f = [*GRADS, np.zeros_like], [*VALUES, lambda x: 0.0]
    assert ef21(grads, [3, 3], T=50, **options | {"f": f}).certificates[0].verdict is Verdict.VOID
