import numpy as np
import pytest
from feedback_problem import GRADS, PROBLEM, named, quadratic, status
from guarantee import error_rate
from scipy.stats import binom

from whp.certificate import Verdict
from whp.distributed import Identity, RandK, TopK, ef21, in_expectation
from whp.distributed._error_feedback.expectation import lower_end


def test_the_lower_end_is_where_the_bets_say():
    values = np.array([2.0, 2.0, 2.0, 2.0])
    seen = lower_end(values, 0.05)
    capital = np.mean([(1 + b * (2 / seen.low - 1)) ** 4 for b in (0.1, 0.3, 0.6, 0.9, 0.99)])
    assert capital == pytest.approx(20, rel=1e-6)
    assert (seen.value, seen.high, seen.level) == (2.0, np.inf, 0.95)
    assert lower_end(np.zeros(5), 0.05).low == 0
    assert lower_end(1e-200 * values, 0.05).low == pytest.approx(1e-200 * seen.low)


@pytest.mark.parametrize("rare", [0.5, 0.02])
def test_the_lower_end_is_above_the_mean_at_most_as_often_as_it_says(rare):
    rng = np.random.default_rng(0)
    draws = (rng.random((400, 20)) < rare) / rare
    above = sum(lower_end(row, 0.05).low > 1 for row in draws)
    assert above <= binom.ppf(0.999, 400, 0.05)


def test_a_run_that_draws_waits_for_others():
    options = {"T": 400, "method": "EF21-PP", "participation": 0.5, **PROBLEM}
    one, two = (ef21(GRADS, [3, 3], rng=seed, **options) for seed in (0, 1))
    certificate = named(one.certificates)["expected-gradient"]
    assert certificate.verdict is Verdict.UNMEASURED
    with pytest.raises(ValueError, match="two runs"):
        in_expectation([one])
    plain = ef21(GRADS, [3, 3], T=5, **PROBLEM)
    with pytest.raises(ValueError, match="drew nothing"):
        in_expectation([plain, plain])
    shorter = ef21(GRADS, [3, 3], rng=2, **{**options, "T": 300})
    with pytest.raises(ValueError, match="one problem"):
        in_expectation([one, shorter])
    assert named(in_expectation([one, two]))["best-run"].verdict is Verdict.HOLDS


def test_copies_of_one_run_are_noticed():
    options = {"T": 50, "method": "EF21-PP", "participation": 0.5, **PROBLEM}
    runs = [ef21(GRADS, [3, 3], rng=7, **options) for _ in range(20)]
    for certificate in in_expectation(runs):
        assert certificate.verdict is Verdict.VOID
        assert status(certificate, "independent-runs") == "violated"
    shared = np.random.default_rng(7)
    runs = [ef21(GRADS, [3, 3], rng=shared, **options) for _ in range(3)]
    assert status(in_expectation(runs)[0], "independent-runs") == "unchecked"


def test_the_best_run_of_twenty_is_bounded_by_a_sixth_more():
    options = {"T": 30, "method": "EF21-PP", "participation": 0.5, **PROBLEM}
    runs = [ef21(GRADS, [3, 3], rng=seed, **options) for seed in range(20)]
    made = named(in_expectation(runs))
    ratio = made["best-run"].bound / made["expected-gradient"].bound
    assert ratio == pytest.approx(20 ** (1 / 20))
    least = min(r.history["grad_norm2"][:-1].mean() for r in runs)
    assert made["best-run"].measured.value == pytest.approx(least)


def sgd(rng, noise, *, T=20, **options):
    """f = ½x² where nothing but the noise is left after a step of 1."""
    return ef21(
        [lambda x: x],
        [3.0],
        f=[lambda x: float(x @ x) / 2],
        smoothness=[1.0],
        compressor=Identity(),
        method="EF21-SGD",
        noisy_grads=[lambda x, r: x + noise(r)],
        T=T,
        rng=rng,
        **options,
    )


def test_the_default_step_with_noisy_gradients_is_the_one_of_its_theorem():
    problem = quadratic(np.random.default_rng(0), n=3, d=3)
    noisy = [lambda x, r, g=g: g(x) + 0.1 * r.normal(size=3) for g in problem["grads"]]
    options = {"method": "EF21-SGD", "noisy_grads": noisy, "variance": 0.03, "T": 10}
    default = ef21(**problem, **options, rng=0)
    assert default.step == ef21(**problem, **options, rng=0, step="sgd").step
    assert status(default.certificates[0], "step") == "met"
    assert (
        status(ef21(**problem, **options, rng=0, step="am").certificates[0], "step") == "violated"
    )


def test_noise_is_held_against_what_is_said_of_it():
    def runs(noise, variance):
        seeds = np.random.default_rng(0).spawn(10)
        return named(in_expectation([sgd(r, noise, variance=variance) for r in seeds]))

    honest = runs(lambda r: r.normal(size=1), 1.0)["best-run"]
    assert honest.verdict is Verdict.HOLDS
    assert status(honest, "variance") == status(honest, "unbiased") == "not refuted"
    assert status(runs(lambda r: r.normal(size=1), 0.5)["best-run"], "variance") == "violated"
    biased = runs(lambda r: 1 + r.normal(size=1), 2.0)["best-run"]
    assert status(biased, "unbiased") == "violated"


def test_runs_that_stopped_early_have_no_certificate_of_an_expectation():
    early = sgd(0, lambda r: 0.1 * r.normal(size=1), variance=0.01, tol=0.5)
    assert early.nit < 20
    assert early.certificates == ()
    whole = sgd(1, lambda r: 0.1 * r.normal(size=1), variance=0.01)
    with pytest.raises(ValueError, match="run 1 has no certificates"):
        in_expectation([whole, early])


@pytest.mark.slow
def test_the_bounds_break_at_most_one_time_in_twenty():
    def instance(rng):
        problem = quadratic(rng, n=4, d=4)
        return in_expectation(
            [
                ef21(**problem, method="EF21-PP", participation=0.5, T=15, rng=r)
                for r in rng.spawn(20)
            ]
        )

    rates = error_rate(instance, n=100)
    assert max(rate.value for rate in rates.values()) <= 0.05


def test_noisy_gradients_have_a_floor_that_holds():
    def instance(rng):
        problem = quadratic(rng, n=3, d=3)
        noisy = [lambda x, r, g=g: g(x) + 0.1 * r.normal(size=3) for g in problem["grads"]]
        options = {"method": "EF21-SGD", "noisy_grads": noisy, "variance": 0.03, "T": 10}
        return in_expectation([ef21(**problem, **options, rng=r) for r in rng.spawn(5)])

    rates = error_rate(instance, n=15)
    assert max(rate.value for rate in rates.values()) <= 0.05


@pytest.fixture
def halves():
    """Five runs in which clients take part half of the time."""
    options = {"T": 30, "method": "EF21-PP", "participation": 0.5, **PROBLEM}
    return [ef21(GRADS, [3, 3], rng=seed, **options) for seed in range(5)]


def test_what_is_done_to_results_does_not_change_their_certificates(halves):
    before = in_expectation(halves)
    for run in halves:
        run.history["grad_norm2"] /= 1e9 * run.history["grad_norm2"][0]
        run.history["f"] -= 100
        run.weights *= 2
        with pytest.raises(ValueError, match="read-only"):
            run.smoothness.clients[:] = 1
    assert in_expectation(halves) == before


def test_every_run_is_asked_whether_its_compressor_contracts(halves):
    class Boasts(TopK):
        def alpha(self, d):
            return 0.9 if type(self) is Boasts else super().alpha(d)

    class Own(TopK):
        pass

    options = {"T": 30, "method": "EF21-PP", "participation": 0.5, **PROBLEM}
    own = ef21(GRADS, [3, 3], rng=9, **options | {"compressor": Own(1)})
    assert status(in_expectation([*halves, own])[1], "contracts") == "unchecked"
    runs = [
        ef21(GRADS, [3, 3], rng=seed, **options | {"compressor": Boasts(k)})
        for seed, k in enumerate((2, 2, 1))
    ]
    assert status(in_expectation(runs[:2])[1], "contracts") == "unchecked"
    assert in_expectation(runs)[1].verdict is Verdict.VOID


def test_a_compressor_that_is_changed_in_a_run_is_not_taken_on_trust():
    def run(seed, later, compressor):
        def change(t, x):
            compressor.k = later(t)

        return ef21(
            GRADS, [3, 3], T=20, rng=seed, callback=change, **PROBLEM | {"compressor": compressor}
        )

    falls, cycles, grows = (lambda t: 1), (lambda t: 1 + t % 2), (lambda t: 1 + (t > 5))
    for later in (falls, cycles):
        runs = [run(seed, later, RandK(2)) for seed in range(2)]
        assert status(in_expectation(runs)[1], "contracts") == "violated"
    runs = [run(seed, grows, RandK(1)) for seed in range(2)]
    assert status(in_expectation(runs)[1], "contracts") == "not refuted"
    assert status(run(0, falls, TopK(2)).certificates[0], "contracts") == "violated"
    assert status(run(0, grows, TopK(1)).certificates[0], "contracts") == "unchecked"


def test_who_takes_part_is_drawn_by_a_generator_of_numpy():
    class Never(np.random.Generator):
        def random(self, *given):
            return np.ones(*given)

    options = {"T": 30, "method": "EF21-PP", "participation": 0.5, **PROBLEM}
    plain, rigged = (
        ef21(GRADS, [3, 3], rng=kind(np.random.PCG64(0)), **options).certificates[0]
        for kind in (np.random.Generator, Never)
    )
    assert status(plain, "contracts") == "by construction"
    assert status(rigged, "contracts") == "unchecked"


def test_a_delta_that_is_lost_in_rounding_is_refused(halves):
    with pytest.raises(ValueError, match="at least 1e-15"):
        in_expectation(halves, delta=1e-300)
