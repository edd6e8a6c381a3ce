import numpy as np
import pytest

from whp.bandits import TsallisINF, tsallis_probabilities


def test_4_probabilities():
    np.testing.assert_allclose(tsallis_probabilities(np.zeros(4), 1.0), 0.25)
    np.testing.assert_allclose(
        tsallis_probabilities([0, 1, 2, 4], 2.0),
        (0.48200019, 0.26559962, 0.16791361, 0.08448658),
        atol=1e-8,
    )
    for rng in np.random.default_rng(0).spawn(50):
        k, R = 10 ** rng.uniform(-3, 6) * rng.random(7), 10 ** rng.uniform(-2, 4)
        p = tsallis_probabilities(k, R)
        assert p.sum() == pytest.approx(1, abs=1e-12)
        np.testing.assert_array_equal(np.argsort(-p, kind="stable"), np.argsort(k, kind="stable"))
        np.testing.assert_allclose(tsallis_probabilities(k + 5 * R, R), p, rtol=1e-8)


def test_rates_below_the_rounding_of_the_estimates():
    for R in (1e-3, 1e-12, 1e-20, 1e-300):
        np.testing.assert_allclose(tsallis_probabilities([1e4, 1e4], R), 0.5)
        p = tsallis_probabilities([1e4, 2e4, 2e4], R)
        assert p[0] == pytest.approx(1)
        np.testing.assert_allclose(p[1:], (R / 1e4) ** 2, rtol=1e-6)


def test_5_two_rounds_by_hand():
    learner = TsallisINF(3)
    learner._arm = 0
    learner.tell(11)
    assert learner.rate == pytest.approx(14.14213562)
    np.testing.assert_allclose(
        learner.probabilities, (0.077431856, 0.461284072, 0.461284072), atol=1e-9
    )
    learner._arm = 1
    learner.tell(5)
    np.testing.assert_allclose(learner.k, (30, 8.671446171, 0), atol=1e-8)
    np.testing.assert_allclose(
        learner.probabilities, (0.087373932, 0.284475243, 0.628150824), atol=1e-9
    )
    assert learner.bound == pytest.approx(34.61876426, abs=1e-7)


def regret_and_bound(rng, costs, rate="running"):
    learner = TsallisINF(costs.shape[1], rate, rng)
    paid = 0.0
    for row in costs:
        arm = learner.ask()
        learner.tell(row[arm])
        paid += row[arm]
    return paid - costs.sum(axis=0).min(), learner.bound


@pytest.mark.parametrize("rate", ["running", "fixed:100"])
def test_11_mean_regret_is_below_the_executed_bound(rate):
    model = np.random.default_rng(0)
    gaps = []
    for rng in model.spawn(400):
        means = 1 + 200 * rng.random(5)
        switch = int(rng.integers(20, 150))
        costs = 1 + rng.exponential(means, (150, 5))
        costs[switch:] = costs[switch:, ::-1]
        regret, bound = regret_and_bound(rng, costs, rate)
        gaps.append(regret - bound)
    gaps = np.array(gaps)
    assert gaps.mean() + 1.96 * gaps.std() / 20 < 0


def test_it_finds_the_best_arm():
    rng = np.random.default_rng(0)
    costs = 1 + rng.exponential([50.0, 10.0, 60.0], (2000, 3))
    learner = TsallisINF(3, rng=1)
    arms = []
    for row in costs:
        arms.append(learner.ask())
        learner.tell(row[arms[-1]])
    assert np.mean(np.array(arms[1000:]) == 1) > 0.7


def test_a_saved_learner_draws_the_same():
    first, second = TsallisINF(4, rng=0), TsallisINF(4, rng=99)
    for c in (3, 10, 2):
        first.ask()
        first.tell(c)
    second.load_state_dict(first.state_dict())
    for c in (5, 1, 8, 8):
        assert first.ask() == second.ask()
        first.tell(c)
        second.tell(c)
    assert first.bound == second.bound


def test_misuse_is_named():
    with pytest.raises(ValueError, match="rate"):
        TsallisINF(2, "fixed")
    with pytest.raises(ValueError, match="rate"):
        TsallisINF(2, "fixed:zero")
    with pytest.raises(ValueError, match="n_arms"):
        TsallisINF(0)
    learner = TsallisINF(2)
    with pytest.raises(ValueError, match="ask must come before tell"):
        learner.tell(3)
    learner.ask()
    with pytest.raises(ValueError, match="cost"):
        learner.tell(0.5)
    with pytest.raises(ValueError, match="state must hold"):
        learner.load_state_dict({})
    with pytest.raises(ValueError, match="R must"):
        tsallis_probabilities([1.0], 0.0)
