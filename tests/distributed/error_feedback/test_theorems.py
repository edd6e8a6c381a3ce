import numpy as np
import pytest
from feedback_problem import BEST, GRADS, PROBLEM, VALUES, breast_cancer, named, quadratic, status
from guarantee import assert_error_rate

from whp.certificate import Verdict
from whp.distributed import BlockTopK, Compressor, Identity, NaturalDeterministic, RandK, TopK, ef21
from whp.distributed._error_feedback import theorems
from whp.distributed._error_feedback.stepsizes import constants, stepsize


def test_linear_rate_of_the_worked_example():
    found = ef21(GRADS, [3, 3], T=200, step="pl", mu=1.5, f_inf=BEST, **PROBLEM)
    rate = named(found.certificates)["linear-rate"]
    assert rate.inputs["Ψ⁰"] == pytest.approx(30.850486077)
    assert rate.bound == pytest.approx(2.1125017e-4, rel=1e-6)
    assert rate.measured.value == pytest.approx(2.94e-10, rel=0.01)
    assert rate.verdict is Verdict.HOLDS
    psi = found.history["f"] - BEST + found.step / constants(0.5).theta * found.history["G"]
    assert (psi <= (1 - 1.5 * found.step) ** np.arange(201) * psi[0] + 1e-12).all()


def test_a_step_far_too_long_breaks_the_inequality_and_a_long_one_does_not():
    model, known = breast_cancer()
    base = stepsize("am", known, 1 / 31)
    far, long = (model.solve(known, T=300, step=m * base) for m in (3000, 100))
    assert named(far.certificates)["lyapunov"].verdict is Verdict.FAILS
    assert named(far.certificates)["mean-gradient"].verdict is Verdict.VOID
    assert [c.verdict for c in long.certificates] == [Verdict.HOLDS] * 2
    answer = next(a for a in long.certificates[0].conditions if a.name == "step")
    assert "the inequality held at all 300 steps" in answer.evidence


def test_guarded_steps_grow_and_their_bound_is_measured():
    model, known = breast_cancer()
    found = model.solve(known, T=200, step="guarded")
    assert found.history["gamma"].max() > 50 * found.step
    assert [c.verdict for c in found.certificates] == [Verdict.HOLDS] * 2
    plain = model.solve(known, T=200)
    assert found.certificates[0].bound < plain.certificates[0].bound / 20


def test_bounds_hold_on_random_problems():
    def instance(rng):
        problem = quadratic(rng)
        step, method = rng.choice(["am", "qm", "guarded"]), rng.choice(["EF21", "EF21-W"])
        compressor = [TopK(1), BlockTopK(0.34, 3), NaturalDeterministic(), Identity()][
            rng.integers(4)
        ]
        made = ef21(
            **problem, step=str(step), method=str(method), compressor=compressor, T=30
        ).certificates
        return [c for c in made if c.name == "lyapunov"] + [
            c for c in made if c.name == "mean-gradient"
        ]

    assert_error_rate(instance, delta=1e-9, n=100)


def test_the_linear_rate_holds_on_random_problems():
    def instance(rng):
        problem = quadratic(rng)
        H = np.stack(
            [np.stack([g(e) - g(0 * e) for e in np.eye(5)]) for g in problem["grads"]]
        ).mean(axis=0)
        mu = float(np.linalg.eigvalsh(H)[0]) * (1 - 1e-9)
        problem["f_inf"] += 1e-9
        made = ef21(**problem, step="pl", mu=mu, T=40).certificates
        return next(c for c in made if c.name == "linear-rate")

    assert_error_rate(instance, delta=1e-9, n=100)


def test_wrong_smoothness_is_void():
    found = ef21(GRADS, [3, 3], T=50, f=VALUES, smoothness=[0.2, 1.0], L=5.5)
    certificate = found.certificates[0]
    assert certificate.verdict is Verdict.VOID
    assert status(certificate, "clients-smooth") == "violated"


class Scaled(Compressor):
    """RandK times d/k."""

    deterministic = False

    def alpha(self, d):
        return 1 / d

    def count(self, d):
        return 1

    def select(self, v, generator=None):
        return generator.choice(len(v), 1)

    def compress(self, v, generator=None):
        from dataclasses import replace

        payload = super().compress(v, generator)
        return replace(payload, values=payload.values * len(v))


def test_scaled_randk_is_void_and_refused():
    model, known = breast_cancer()
    certificate = model.solve(known, T=20, compressor=Scaled(), rng=0).certificates[0]
    assert certificate.verdict is Verdict.VOID
    assert status(certificate, "contracts") == "violated"
    with pytest.raises(ValueError, match="contractive"):
        RandK(3, scaled=True)


def test_a_short_run_is_vacuous_and_a_false_minimum_void():
    assert ef21(GRADS, [3, 3], T=2, **PROBLEM).certificates[0].verdict is Verdict.VACUOUS
    assert ef21(GRADS, [3, 3], T=300, f_inf=5.0, **PROBLEM).certificates[0].verdict is Verdict.VOID


def test_estimated_smoothness_says_so():
    model, known = breast_cancer()
    n = len(model.groups)
    found = ef21(
        [model.gradient(i) for i in range(n)],
        np.zeros(31),
        f=[model.value(i) for i in range(n)],
        smoothness="estimate",
        T=50,
    )
    assert found.smoothness.estimated
    assert found.smoothness.am == pytest.approx(known.am, rel=1e-3)
    assert "unchecked" in [str(a.status) for a in found.certificates[0].conditions]


def test_hook_certificates_can_fail():
    assert theorems.contraction(1.2, 0.01, 10).verdict is Verdict.FAILS
    assert theorems.contraction(0.9, 1e-6, 10).verdict is Verdict.VACUOUS
    assert theorems.contraction(None, 0.01, 10).verdict is Verdict.UNMEASURED
    assert theorems.invariant(1e-3, 10).verdict is Verdict.FAILS
    assert theorems.invariant(1e-7, 10).verdict is Verdict.HOLDS


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ({"L": 5.5 / 3}, "f-smooth"),
        ({"L": 5.5 / 10}, "f-smooth"),
        ({"smoothness": [0.5, 2.5]}, "clients-smooth"),
        ({"f": [lambda x, v=v: 100 * v(x) for v in VALUES]}, "gradients-of-f"),
        ({"grads": [lambda x, g=g: g(x) / 2 for g in GRADS]}, "gradients-of-f"),
        ({"f_inf": 5.0}, "lower-bound"),
        ({"step": 0.5}, "step"),
    ],
)
@pytest.mark.parametrize("compressor", [TopK(1), Identity()], ids=repr)
def test_what_was_told_is_held_against_the_run(change, broken, compressor):
    told = {"grads": GRADS, "f_inf": BEST, **PROBLEM, **change}
    grads = told.pop("grads")
    certificate = ef21(grads, [3, 3], T=40, compressor=compressor, **told).certificates[0]
    assert status(certificate, broken) == "violated"
    assert certificate.verdict is Verdict.VOID
    honest = ef21(GRADS, [3, 3], T=40, compressor=compressor, f_inf=BEST, **PROBLEM)
    assert status(honest.certificates[0], broken) in ("unchecked", "met")


def test_a_run_that_diverges_returns_with_a_certificate():
    told = PROBLEM | {"smoothness": [0.02, 0.1], "L": 0.05}
    made = ef21(GRADS, [3, 3], T=400, compressor=Identity(), **told)
    assert not made.success
    assert "diverged" in made.message
    assert 0 < made.nit < 400
    assert np.isfinite(made.x).all()
    assert made.certificates[0].verdict is Verdict.VOID


def test_gradients_that_differ_when_asked_again_are_noticed():
    noise = np.random.default_rng(0)
    grads = [lambda x, g=g: g(x) + 1e-6 * noise.normal(size=2) for g in GRADS]
    certificate = ef21(grads, [3, 3], T=40, **PROBLEM).certificates[0]
    assert status(certificate, "gradients-of-f") == "violated"


@pytest.mark.parametrize("shift", [0.0, 1e3, 1e6, 1e9])
def test_values_far_from_zero_break_nothing(shift):
    values = [lambda x, v=v: v(x) + shift for v in VALUES]
    told = PROBLEM | {"f": values, "f_inf": BEST + shift, "mu": 1.5}
    certificates = named(ef21(GRADS, [3, 3], T=200, **told).certificates)
    assert {str(c.verdict) for c in certificates.values()} == {"holds"}
    assert len(certificates) == 3


def test_gradients_in_single_precision_break_nothing():
    problem = quadratic(np.random.default_rng(0), n=3)
    problem["grads"] = [
        lambda x, g=g: g(x).astype(np.float32).astype(float) for g in problem["grads"]
    ]
    for T in (50, 1000):
        made = ef21(**problem, T=T, compressor=TopK(3))
        assert [c.verdict for c in made.certificates] == [Verdict.HOLDS] * 2


@pytest.mark.parametrize("unit", [1e12, 1.0, 1e-12])
def test_units_change_nothing(unit):
    told = {
        "f": [lambda x, v=v: unit * v(x) for v in VALUES],
        "smoothness": [2 * unit, 10 * unit],
        "L": 5.5 * unit,
        "f_inf": BEST * unit,
        "mu": 1.5 * unit,
    }
    made = ef21([lambda x, g=g: unit * g(x) for g in GRADS], [3, 3], T=200, **told)
    assert [c.verdict for c in made.certificates] == [Verdict.HOLDS] * 3
    plain = ef21(GRADS, [3, 3], T=200, f_inf=BEST, mu=1.5, **PROBLEM).certificates[0]
    assert made.certificates[0].bound == pytest.approx(unit**2 * plain.bound, rel=1e-9)


def test_the_contraction_of_a_relative_is_not_taken_on_trust():
    class Own(TopK):
        """A subclass may do anything."""

    told = {"T": 200, "f_inf": BEST, **PROBLEM}
    certificate = ef21(GRADS, [3, 3], compressor=Own(1), **told).certificates[0]
    assert status(certificate, "contracts") == "unchecked"
    changed = TopK(1)
    changed.alpha = lambda d: 0.9
    certificate = ef21(GRADS, [3, 3], compressor=changed, **told).certificates[0]
    assert status(certificate, "contracts") == "violated"
    certificate = ef21(GRADS, [3, 3], compressor=TopK(1), **told).certificates[0]
    assert status(certificate, "contracts") == "by construction"
    drawn = ef21(GRADS, [3, 3], compressor=RandK(1), rng=0, **told).certificates[0]
    assert status(drawn, "contracts") == "by construction"


def test_the_step_of_another_theorem_voids_the_linear_rate():
    made = named(ef21(GRADS, [3, 3], T=50, mu=1.5, f_inf=BEST, step="am", **PROBLEM).certificates)
    assert status(made["linear-rate"], "step") == "violated"
    assert made["mean-gradient"].verdict is Verdict.HOLDS
