import copy

import numpy as np
import pytest
from recovering import World

from whp.bandits import RecoveringPolicy, learn_recovering, plan_recovering, upper_bound
from whp.bandits._recovering_bandits import theorems as th
from whp.certificate import Status, Verdict


def c3_curves():
    rng = np.random.default_rng(3)
    a = rng.uniform(0.2, 1, 10)
    tau = rng.uniform(0.5, 4, 10)
    return a[:, None] * (1 - np.exp(-np.arange(1, 9) / tau[:, None]))


def test_11_learning():
    R = c3_curves()
    assert upper_bound(R, 3) == pytest.approx(1.1861983858, abs=1e-9)
    assert plan_recovering(R, 3, local_search=False).value == pytest.approx(1.1733036132, abs=1e-9)
    short = learn_recovering(World(R, 0.1, 0), 10, 3, 1000, D=8, noise=0.1, truth=R)
    assert short.certificates[0].verdict == Verdict.VACUOUS
    long = learn_recovering(World(R, 0.1, 0), 10, 3, 4000, D=8, noise=0.1, truth=R)
    assert long.certificates[0].verdict == Verdict.HOLDS
    assert long.gamma_hat == pytest.approx(0.962, abs=0.01)
    assert long.regret_bound == pytest.approx(2760, rel=0.05)
    assert long.reward.mean() / long.benchmark > short.reward.mean() / short.benchmark > 0.8
    blind = learn_recovering(World(R, 0.1, 0), 10, 3, 200, D=8, noise=0.1)
    assert blind.certificates[0].verdict in (Verdict.UNMEASURED, Verdict.VACUOUS)
    import matplotlib.pyplot as plt

    long.plot()
    plan_recovering(R, 3).plot()
    plt.close("all")


def test_the_policy_can_be_stopped_and_continued():
    R = c3_curves()
    first, second = (RecoveringPolicy(10, 3, 400, D=8, noise=0.1) for _ in range(2))
    one, two = World(R, 0.1, 0), World(R, 0.1, 0)
    for t in range(150):
        first.update(first.act(), one(t, first.act()))
    for t in range(150):
        second.act()
        second.update(second.act(), two(t, second.act()))
    third = RecoveringPolicy(10, 3, 400, D=8, noise=0.1)
    third.load_state_dict(first.state_dict())
    for t in range(150, 250):
        assert third.act().tolist() == second.act().tolist()
        rewards = two(t, second.act())
        second.update(second.act(), rewards)
        third.update(third.act(), rewards)
    assert third.regret_bound == pytest.approx(second.regret_bound)
    assert third.plan.channel.tolist() == second.plan.channel.tolist()
    assert third.plan.ratio == second.plan.ratio
    with pytest.raises(ValueError, match="state must hold"):
        third.load_state_dict({})


def test_a_damaged_state_changes_nothing():
    policy = RecoveringPolicy(3, 1, 50, D=2, periods=2)
    policy.update(policy.act(), np.full(len(policy.act()), 0.5))
    before = policy.state_dict()
    for damage in ({"began": 99}, {"totals": ["x"] * 4}, {"planned": [1.0]}):
        fresh = RecoveringPolicy(3, 1, 50, D=2, periods=2)
        with pytest.raises((TypeError, ValueError)):
            fresh.load_state_dict({**before, **damage})
        assert (fresh.t, fresh.counts.sum()) == (0, 0)


def test_rounding_beyond_the_bound_is_no_reward_outside():
    policy = RecoveringPolicy(1, 1, 20, D=1, bound=0.3)
    policy.update(policy.act(), [0.1 + 0.2])
    assert policy.answers()[th.NOISE].status is Status.MET


def test_rewards_outside_of_their_range_are_void():
    """σ = bound/2 is Hoeffding's, which needs every reward in [0, bound]."""
    run = learn_recovering(lambda t, arms: np.full(len(arms), 1.7), 4, 2, 400, D=4)
    assert [str(c.verdict) for c in run.certificates] == ["void", "void"]
    run = learn_recovering(lambda t, arms: np.full(len(arms), 50.0), 10, 3, 100, D=8, noise=0.1)
    assert run.certificates[0].verdict is Verdict.VOID
    with pytest.raises(ValueError, match="truth must not exceed bound = 1"):
        learn_recovering(
            lambda t, arms: np.ones(len(arms)), 4, 2, 400, D=4, truth=np.full((4, 4), 1.7)
        )


def test_pulls_that_were_refused_are_void():
    R = c3_curves()
    policy = RecoveringPolicy(10, 3, 100, D=8, noise=0.1)
    world = World(R, 0.1, 0)
    for t in range(100):
        arms = policy.act()[: 2 if t < 50 else 3]
        policy.update(arms, world(t, arms))
    assert policy.refused > 0
    assert policy.answers()[th.PULLED].status is Status.VIOLATED


def test_a_state_of_other_settings_is_refused():
    first = RecoveringPolicy(10, 3, 400, D=8, noise=0.1)
    other = RecoveringPolicy(10, 3, 400, D=8, noise=0.2)
    with pytest.raises(ValueError, match=r"noise is 0\.1 there and 0\.2 here"):
        other.load_state_dict(first.state_dict())
    state = first.state_dict()
    state["sums"][0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="finite sums"):
        RecoveringPolicy(10, 3, 400, D=8, noise=0.1).load_state_dict(state)


def test_arms_may_have_rested_before_the_first_period():
    rested = RecoveringPolicy(3, 1, 20, D=4, start="rested")
    assert rested.gaps([0, 1]).tolist() == [4, 4]
    assert RecoveringPolicy(3, 1, 20, D=4).gaps([0, 1]).tolist() == [1, 1]
    rested.update(rested.act(), [0.5])
    assert rested.counts[:, 3].sum() == 1


def test_misuse_of_the_policy_is_named():
    with pytest.raises(ValueError, match="T must"):
        RecoveringPolicy(3, 1, 5, D=4)
    policy = RecoveringPolicy(3, 1, 20, D=4)
    with pytest.raises(ValueError, match="arms must be at most 1"):
        policy.update([0, 1], [0.1, 0.2])
    with pytest.raises(ValueError, match="rewards must be finite"):
        policy.update([0], [np.nan])
    with pytest.raises(ValueError, match="whole numbers"):
        policy.update([0.5], [0.1])
    assert policy.t == 0


def test_noise_is_seen_under_large_means():
    """Sums of squares less squares of sums are all rounding there."""
    R = 1e7 * (1 + c3_curves())
    for told, status in ((1.0, Status.VIOLATED), (3.0, Status.NOT_REFUTED)):
        run = learn_recovering(World(R, 3.0, 0), 10, 3, 400, D=8, bound=3e7, noise=told)
        noise = next(c for c in run.certificates[1].conditions if c.name == "noise")
        assert noise.status is status


def test_a_shallow_copy_learns_by_itself():
    policy = RecoveringPolicy(4, 2, 40, D=3)
    other = copy.copy(policy)
    arms = policy.act()
    policy.update(arms, np.full(len(arms), 0.5))
    assert policy.counts.sum() == len(arms) > 0 == other.counts.sum()
    assert (other.last == -1).all()


def test_hidden_rewards_are_not_learnt():
    policy = RecoveringPolicy(4, 1, 40, D=3)
    arms = policy.act()
    for rewards in (np.ma.masked_array([0.5], [True]), ["0.5"]):
        with pytest.raises((TypeError, ValueError), match="rewards"):
            policy.update(arms, rewards)
    assert policy.t == policy.counts.sum() == 0


def test_an_environment_may_change_its_arms():
    world = World(c3_curves(), 0.1, 0)

    def pull(t, arms):
        paid = world(t, arms)
        arms[:] = 0
        return paid

    run = learn_recovering(pull, 10, 3, 100, D=8, noise=0.1)
    assert run.certificates[0].verdict is not Verdict.VOID
