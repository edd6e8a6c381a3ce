from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from whp.rl import Dynamics, starc, starc_sampled
from whp.rl._starc.dynamics import dynamics_of

LOW, HIGH = np.array([-np.pi, -8.0]), np.array([np.pi, 8.0])
SMALL = {"n_fit": 3000, "n_eval": 3000, "rng": 0}


def swing(states, actions, rng):
    """The pendulum of gymnasium."""
    angle, speed = states.T
    speed = np.clip(speed + (15 * np.sin(angle) + 3 * actions[:, 0]) * 0.05, -8, 8)
    return np.stack([angle + speed * 0.05, speed], axis=1)


def anywhere(n, rng):
    return rng.uniform(LOW, HIGH, (n, 2)), rng.uniform(-2, 2, (n, 1))


PENDULUM = Dynamics(swing, anywhere, LOW, HIGH, (0,))


def upright(s, a, t):
    angle = (s[:, 0] + np.pi) % (2 * np.pi) - np.pi
    return -(angle**2 + 0.1 * s[:, 1] ** 2 + 0.001 * a[:, 0] ** 2)


def shaped(s, a, t):
    def phi(x):
        return 2 * np.cos(x[:, 0]) + 0.1 * x[:, 1] ** 2

    return upright(s, a, t) + 0.95 * phi(t) - phi(s)


def sparse(s, a, t):
    return (np.cos(s[:, 0]) > 0.9).astype(float)


def negative(s, a, t):
    return -upright(s, a, t)


def test_shaping_is_nearest_and_the_negative_farthest():
    found = [
        starc_sampled(upright, other, PENDULUM, discount=0.95, **SMALL).distance
        for other in (upright, shaped, sparse, negative)
    ]
    assert found[0] < 1e-6
    assert found[1] < 0.02
    assert found == sorted(found)
    assert found[3] == pytest.approx(2)


def test_gymnasium_swings_the_same_way():
    world = dynamics_of("Pendulum-v1", None)
    rng = np.random.default_rng(0)
    states, actions = world.draw(30, rng)
    np.testing.assert_allclose(
        world.step(states, actions, rng), swing(states, actions, rng), atol=1e-6
    )
    assert world.inside(states).all()
    assert not world.inside(states + np.array([0, 20])).any()


@pytest.mark.parametrize("env", ["MountainCar-v0", "Acrobot-v1"])
def test_classic_control_can_be_put_into_a_state(env):
    world = dynamics_of(env, None)
    rng = np.random.default_rng(0)
    states, actions = world.draw(5, rng)
    assert np.isfinite(world.step(states, actions, rng)).all()


def test_states_without_bounds_want_a_coverage():
    with pytest.raises(ValueError, match="coverage must be given"):
        dynamics_of("CartPole-v1", None)
    world = dynamics_of(
        "CartPole-v1", lambda n, rng: (rng.normal(size=(n, 4)), rng.integers(2, size=(n, 1)) * 1.0)
    )
    states, actions = world.draw(5, np.random.default_rng(0))
    assert world.step(states, actions, np.random.default_rng(0)).shape == (5, 4)


# A table that is sampled: the distance on it is known.


def tabled(seed=3, S=10, A=2):
    rng = np.random.default_rng(seed)
    P = rng.dirichlet(np.ones(S), (S, A))
    R1 = rng.normal(size=(S, A, S))
    R2 = R1 + 0.7 * rng.normal(size=(S, A, S))
    steps = P.cumsum(-1)

    def step(states, actions, rng):
        rows = steps[states[:, 0].astype(int), actions[:, 0].astype(int)]
        return (rows < rng.random((len(rows), 1))).sum(1)[:, None].clip(0, S - 1) * 1.0

    def draw(n, rng):
        return rng.integers(S, size=(n, 1)) * 1.0, rng.integers(A, size=(n, 1)) * 1.0

    def reward(R):
        return lambda s, a, t: R[s[:, 0].astype(int), a[:, 0].astype(int), t[:, 0].astype(int)]

    return P, (R1, R2), Dynamics(step, draw), (reward(R1), reward(R2))


def exact_values(P, R, discount):
    r = (P * R).sum(-1)
    v = np.linalg.solve(np.eye(len(P)) - discount * P.mean(1), r.mean(1))
    return lambda states: v[states[:, 0].astype(int)]


def test_random_dynamics_do_not_blur_the_distance():
    P, tables, world, rewards = tabled()
    exact = starc(*tables, P, discount=0.9).distance
    values = {id(f): exact_values(P, R, 0.9) for f, R in zip(rewards, tables, strict=True)}
    found = starc_sampled(
        *rewards, world, discount=0.9, value=lambda f: values[id(f)], n_eval=40_000, rng=1
    )
    assert found.interval.low - 0.02 < exact < found.interval.high + 0.02
    assert not found.deterministic
    with pytest.raises(ValueError, match="n_next must be at least 2"):
        starc_sampled(*rewards, world, discount=0.9, n_next=1)


def optimal(P, R, discount):
    r, v = (P * R).sum(-1), np.zeros(len(P))
    for _ in range(400):
        v = (r + discount * P @ v).max(1)
    best = (r + discount * P @ v).argmax(1)
    return best, lambda states: best[states[:, 0].astype(int)] * 1.0


def concentrability(P, policies, discount):
    """‖(η − η′)/ν‖ in L2(ν), both visits from the uniform start, ν uniform."""
    S, A = P.shape[:2]
    visits = []
    for policy in policies:
        at = np.linalg.solve(np.eye(S) - discount * P[range(S), policy].T, np.full(S, 1 / S))
        made = np.zeros((S, A))
        made[range(S), policy] = at
        visits.append(made)
    return np.sqrt(S * A * ((visits[0] - visits[1]) ** 2).sum())


def test_a_pair_of_policies_on_a_table():
    P, tables, world, rewards = tabled()
    best = [optimal(P, R, 0.9) for R in tables]
    C = concentrability(P, [b[0] for b in best], 0.9)
    assert pytest.approx(4.5566, abs=1e-3) == C
    values = {id(f): exact_values(P, R, 0.9) for f, R in zip(rewards, tables, strict=True)}
    found = starc_sampled(
        *rewards,
        world,
        discount=0.9,
        value=lambda f: values[id(f)],
        policies=[b[1] for b in best],
        concentrability=C,
        **SMALL,
    )
    (made,) = found.certificates
    r1 = (P * tables[0]).sum(-1)
    returns = [
        np.linalg.solve(np.eye(10) - 0.9 * P[range(10), p], r1[range(10), p]).mean()
        for p, _ in best
    ]
    assert returns[0] - returns[1] == pytest.approx(0.10769, abs=1e-4)
    assert made.measured.low <= returns[0] - returns[1] <= made.measured.high
    assert made.bound > returns[0] - returns[1]
    unknown = starc_sampled(
        *rewards, world, discount=0.9, policies=[b[1] for b in best], **SMALL
    ).certificates[0]
    assert str(unknown.verdict) == "vacuous"


def test_the_same_rows_twice_are_void():
    fixed = np.random.default_rng(0)
    rows = anywhere(3000, fixed)
    world = Dynamics(swing, lambda n, rng: (rows[0][:n], rows[1][:n]), angles=(0,))

    def still(s):
        return 0 * s[:, 0]

    made = starc_sampled(
        upright, shaped, world, discount=0.5, policies=(still, still), concentrability=1.0, **SMALL
    ).certificates[0]
    assert str(made.verdict) == "void"


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (lambda s, a, t: np.random.default_rng().normal(size=len(s)), "reward2 is not a function"),
        (lambda s, a, t: s, "one finite number a row"),
        (lambda s, a, t: np.full(len(s), np.nan), "one finite number a row"),
    ],
)
def test_what_is_no_reward_is_named(reward, message):
    with pytest.raises(ValueError, match=message):
        starc_sampled(upright, reward, PENDULUM, discount=0.9, **SMALL)


FEW: dict[str, Any] = {"n_fit": 1000, "n_eval": 1000, "rng": 0, "discount": 0.95}


def swing_in_place(states, actions, rng):
    states[:] = swing(states, actions, rng)
    return states


def upright_in_place(s, a, t):
    s[:, 0] = (s[:, 0] + np.pi) % (2 * np.pi) - np.pi
    return upright(s, a, t)


def test_functions_may_work_in_place():
    pair = [lambda s: np.zeros(len(s)), lambda s: np.sign(s[:, 1])]
    options: dict[str, Any] = {"policies": pair, "concentrability": 5.0, "n_rollouts": 100, **FEW}
    plain = starc_sampled(upright, sparse, PENDULUM, **options)
    world = Dynamics(swing_in_place, anywhere, LOW, HIGH, (0,))
    other = starc_sampled(upright_in_place, sparse, world, **options)
    assert plain.distance == other.distance
    assert plain.certificates[0].measured == other.certificates[0].measured


@pytest.mark.parametrize("unit", [1e-100, 1e100, 1e160])
def test_units_of_samples_are_nothing(unit):
    plain = starc_sampled(upright, sparse, PENDULUM, **FEW)
    scaled = (lambda *x: unit * upright(*x), lambda *x: unit * sparse(*x))
    assert starc_sampled(*scaled, PENDULUM, **FEW).distance == pytest.approx(plain.distance)


def test_a_reward_of_nothing():
    def nothing(s, a, t):
        return np.zeros(len(s))

    assert starc_sampled(nothing, nothing, PENDULUM, **FEW).distance == 0
    assert starc_sampled(nothing, upright, PENDULUM, **FEW).distance == 1


@pytest.mark.parametrize("made", [lambda s: s[:, :1], lambda s: 3.0, lambda s: s[:, 0] * np.nan])
def test_a_potential_is_a_number_a_state(made):
    with pytest.raises(ValueError, match="one finite number a state"):
        starc_sampled(upright, sparse, PENDULUM, value=lambda r: made, n_next=1, **FEW)


def horizon_of(world, discount):
    pair = [lambda s: np.ones(len(s)), lambda s: -np.ones(len(s))]
    options: dict[str, Any] = {
        "policies": pair,
        "n_fit": 100,
        "n_eval": 100,
        "n_rollouts": 100,
        "rng": 0,
    }
    found = starc_sampled(upright, sparse, world, discount=discount, **options)
    answer = next(c for c in found.certificates[0].conditions if c.name == "horizon")
    return answer.status, answer.evidence


@pytest.mark.parametrize(("discount", "status"), [(0.9, "met"), (0.99, "violated")])
def test_a_time_limit_is_looked_at(discount, status):
    assert dynamics_of("Pendulum-v1", None).time_limit == 200
    found, evidence = horizon_of(replace(PENDULUM, time_limit=200), discount)
    assert found == status
    assert "beyond the limit of 200 steps" in evidence
    assert horizon_of(PENDULUM, discount)[0] == "unchecked"


def test_an_episode_that_ends_is_seen():
    status, evidence = horizon_of("MountainCarContinuous-v0", 0.5)
    assert status == "violated"
    assert "an episode of the environment ends" in evidence


def test_single_precision_does_not_leave_the_box():
    world = dynamics_of("MountainCarContinuous-v0", None)
    assert world.inside(np.array([[-1.2, 0.07]], dtype=np.float32)).all()
