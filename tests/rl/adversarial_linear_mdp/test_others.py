"""Learners without a model's list of states, or without its laws."""

import numpy as np
import pytest
from layered import linear, losses_of

from whp.certificate import Verdict
from whp.rl import LayeredEnv, LinearMDPPolicyOptimizer, LinearQModel, SimulatorPolicyOptimizer


class Laws:
    """The simulator of a model."""

    def __init__(self, model):
        self.model = model

    def reset(self, rng):
        return int(rng.choice(len(self.model.init), p=self.model.init))

    def step(self, h, state, action, rng):
        return int(rng.choice(len(self.model.init), p=self.model.P[h, state, action]))


def simulated(model, **options):
    H, _, A, d = model.shape
    return SimulatorPolicyOptimizer(
        Laws(model), lambda h, x: model.phi[h, x], A, H, d, random_state=0, **options
    )


@pytest.mark.parametrize("method", ["magnitude-reduced", "log-barrier"])
def test_a_simulator_is_learnt_from(method):
    P = np.zeros((1, 2, 2, 2))
    P[0] = np.eye(2)[None]  # the action chooses the state
    model = LinearQModel.from_tabular(P, [1.0, 0.0])
    made = simulated(model, n_episodes=300, n_sim=20, method=method, eta=0.2)
    total = made.run(lambda k, h, x, a: 1.0 if (h, x) == (1, 1) else 0.0)
    assert total < 100  # 150 for the uniform policy
    assert made.policy(0, 0)[0] > 0.7
    assert [c.verdict for c in made.certificates()] == [Verdict.VOID]


def test_its_scores_do_not_depend_on_when_a_state_is_asked_for():
    model = linear(H=1)
    early, late = (simulated(model, n_episodes=20, n_sim=10) for _ in range(2))
    for learner in (early, late):
        learner._random = np.random.default_rng(3)
    for k in range(20):
        for learner in (early, late):
            x = learner.simulator.reset(learner._random)
            learner.update([x], [learner.act(0, x)], [k / 20])
        if k == 10:
            early.policy(0, 0)  # which no episode starts in
    assert early.policy(0, 0) == pytest.approx(late.policy(0, 0))


def test_what_a_simulator_cannot_carry_is_refused():
    model = linear()
    with pytest.raises(ValueError, match="n_episodes times horizon must be at most 10,000"):
        simulated(model, n_episodes=5000)
    made = simulated(model, n_episodes=2, n_sim=2)
    with pytest.raises(ValueError, match="loss 2 at step 1 outside"):
        made.update([1, 1, 1], [0, 0, 0], [0.5, 2, 0.5])
    for _ in range(2):
        made.update([1, 1, 1], [0, 0, 0], [0.5, 0.5, 0.5])
    with pytest.raises(ValueError, match="n_episodes = 2 were played"):
        made.update([1, 1, 1], [0, 0, 0], [0.5, 0.5, 0.5])
    wrong = SimulatorPolicyOptimizer(
        Laws(model), lambda h, x: np.ones((2, 2)), 2, 3, 2, n_episodes=5
    )
    with pytest.raises(ValueError, match="are longer than 1"):
        wrong.act(0, 1)


def test_unknown_dynamics_are_learnt():
    P = np.zeros((1, 2, 2, 2))
    P[0] = np.eye(2)[None]
    model = LinearQModel.from_tabular(P, [1.0, 0.0])
    losses = np.zeros((1, 2, 2, 2))
    losses[:, 1, 1] = 1.0
    made = LinearMDPPolicyOptimizer(
        model.phi, n_episodes=4000, epoch=20, share=0.1, gamma=0.02, eta=0.5, random_state=0
    ).run(LayeredEnv(model, losses))
    assert len(made.history_) == 4000
    assert np.mean(made.history_[-500:]) < 0.25  # .5 for the uniform policy
    assert [c.verdict for c in made.certificates()] == [Verdict.VOID]
    with pytest.raises(RuntimeError, match="was run"):
        made.run(LayeredEnv(model, losses))


def test_its_defaults_run():
    model = linear()
    made = LinearMDPPolicyOptimizer(model.phi, n_episodes=300, random_state=0)
    made.run(LayeredEnv(model, losses_of(model, 300)))
    assert made.policies_.sum(axis=-1) == pytest.approx(np.ones((3, 4)))
    with pytest.raises(ValueError, match="norm at most 1"):
        LinearMDPPolicyOptimizer(2 * np.ones((1, 1, 1, 1)), n_episodes=20)


@pytest.mark.parametrize("actions", [[-1], [2], [0.5]])
def test_actions_of_the_simulator_are_looked_at(actions):
    model = LinearQModel(np.eye(2)[None, None])
    learner = SimulatorPolicyOptimizer(
        Laws(model), lambda h, x: np.eye(2), 2, 1, 2, n_episodes=10, random_state=0
    )
    with pytest.raises(ValueError, match=r"actions must be whole numbers in 0..1"):
        learner.update([0], actions, [0.5])
    assert learner.episodes_ == 0
    assert learner.run(lambda *_: 0.5, 0) == 0
