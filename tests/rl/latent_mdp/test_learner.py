import copy
import pickle

import numpy as np
import pytest
from latent import learner, played, worked

from whp.certificate import Status, Verdict
from whp.rl import LatentMDP, LatentMDPEnv, LatentMDPLearner, latent_mdp_certificates
from whp.rl._latent_mdp.simulation import Simulation


def one(made):
    return latent_mdp_certificates(made)[0]


def status(certificate, name):
    return next(a.status for a in certificate.conditions if a.name == name)


@pytest.mark.parametrize("seed", range(5))
def test_vacuous_at_first_and_then_it_holds(seed):
    model = worked(3)
    assert one(played(model, 300, seed)).verdict is Verdict.VACUOUS
    late = one(played(model, 2000, seed))
    assert late.verdict is Verdict.HOLDS
    assert late.name == "regret"


def test_without_a_model_nothing_is_measured():
    made = one(played(worked(3), 2000, model=None))
    assert made.verdict is Verdict.UNMEASURED
    assert "true model" in made.advice


def test_resumed_from_a_file_it_is_the_same_to_the_last_bit(tmp_path):
    model, path = worked(3), tmp_path / "state.npz"
    rng = np.random.default_rng(7)
    whole = learner(model, n_episodes=2000).fit(Simulation(model, rng), 1000)
    whole.save(path)
    whole.fit(Simulation(model, np.random.default_rng(8)), 1000)
    resumed = learner(model, n_episodes=2000).load(path)
    resumed.fit(Simulation(model, np.random.default_rng(8)), 1000)
    a, b = one(whole), one(resumed)
    assert (a.bound, a.measured, a.trivial) == (b.bound, b.measured, b.trivial)
    assert whole.n_plans_ == resumed.n_plans_
    assert status(a, "optimum-of-the-boxes") is Status.BY_CONSTRUCTION
    assert status(b, "optimum-of-the-boxes") is Status.UNCHECKED


@pytest.mark.parametrize("solver", ["posterior", "mvp", "greedy"])
def test_every_solver_can_be_resumed(solver, tmp_path):
    model, path = worked(2), tmp_path / "state.npz"
    whole = learner(model, solver=solver, random_state=3)
    whole.fit(Simulation(model, np.random.default_rng(7)), 70)
    whole.save(path)
    resumed = learner(model, solver=solver, random_state=3).load(path)
    for made in (whole, resumed):
        made.fit(Simulation(model, np.random.default_rng(8)), 70)
    assert (whole.history_["earned"] == resumed.history_["earned"]).all()
    assert (whole.history_["plan"] == resumed.history_["plan"]).all()


def test_one_episode_at_a_smaller_scale_is_not_forgotten(tmp_path):
    model = worked(3)
    made = learner(model, n_episodes=1000)
    env = Simulation(model, np.random.default_rng(0))
    made.fit(env, 400)
    made.bonus_scale = 0.1
    made.fit(env, 1)
    made.bonus_scale = 1.0
    made.fit(env, 99)
    made.save(tmp_path / "state.npz")
    made = learner(model, n_episodes=1000).load(tmp_path / "state.npz").fit(env, 500)
    for kept in (made, copy.copy(made), pickle.loads(pickle.dumps(made))):
        assert one(kept).verdict is Verdict.VOID
        assert status(one(kept), "optimistic") is Status.VIOLATED


@pytest.mark.parametrize("solver", ["greedy", "posterior"])
def test_what_is_not_optimistic_is_void(solver):
    made = one(played(worked(3), 50, solver=solver))
    assert made.verdict is Verdict.VOID
    assert f"{solver} is not optimistic" in made.explain()


def test_more_episodes_than_were_bought():
    model = worked(3)
    made = learner(model, n_episodes=100).fit(LatentMDPEnv(model), 100)
    with pytest.raises(ValueError, match="n_episodes was 100"):
        made.fit(LatentMDPEnv(model), 100)
    with pytest.raises(ValueError, match="n_episodes was 100"):
        made.begin_episode(0)


@pytest.mark.parametrize("solver", ["bernstein", "mvp", "l1", "posterior", "greedy"])
@pytest.mark.parametrize("rewards", ["known", "learn"])
def test_solvers_learn(solver, rewards):
    model = worked(2)
    table = model.R if rewards == "known" else None
    made = played(
        model,
        400,
        solver=solver,
        rewards=rewards,
        reward_table=table,
        bonus_scale=0.1,
        planner="alternating",
        random_state=0,
    )
    later = np.mean(made._true[-100:])
    assert later >= 0.9 * model.optimal().value


def test_a_rare_context_is_not_forgotten():
    made = learner(worked(3), n_episodes=1000)
    made.begin_episode(0)
    made.act()
    made.observe(0, made._table[0, 0, 0], 1)
    made.end_episode(0)
    assert made.optimistic_value_ == 1.0


def test_ties_go_to_what_was_visited_least():
    model = worked(1)
    made = learner(model, n_episodes=1000, model=None, rewards="learn", reward_table=None)
    did = []
    for _ in range(4):
        made.begin_episode(0)
        did.append(made.act())
        made.observe(did[-1], 0.5, 0)
        made.end_episode(0)
    assert set(did) == {0, 1}


def test_a_wrong_label_is_seen():
    model = worked(3)
    made = learner(model, n_episodes=100)
    env = Simulation(model, np.random.default_rng(0))
    for _ in range(20):
        state, _ = env.reset()
        made.begin_episode(state)
        for _ in range(3):
            action = made.act()
            state, reward, *_, info = env.step(action)
            made.observe(action, reward, state)
        made.end_episode(1 - info["context"])
    certificate = one(made)
    assert certificate.verdict is Verdict.VOID
    assert "label 0 but reward" in certificate.explain() or "label 1 but reward" in (
        certificate.explain()
    )


def test_an_override_is_counted_and_nothing_is_measured_then():
    model = worked(3)
    made = learner(model, n_episodes=10)
    env = Simulation(model, np.random.default_rng(0))
    for _ in range(3):
        state, _ = env.reset()
        made.begin_episode(state)
        for _ in range(3):
            action = 1 - made.act()
            state, reward, *_, info = env.step(action)
            made.observe(action, reward, state)
        made.end_episode(info["context"])
    assert one(made).measured is None
    assert one(made).verdict is not Verdict.VOID


def test_errors_cost_nothing():
    model = worked(3)
    made = learner(model, n_episodes=10)
    with pytest.raises(RuntimeError, match="begin_episode"):
        made.act()
    made.begin_episode(0)
    with pytest.raises(RuntimeError, match="end_episode"):
        made.begin_episode(0)
    with pytest.raises(ValueError, match="state must be 0"):
        made.act(2)
    before = made._now.states.copy()
    for wrong, message in (
        ((0, 1.37, 0), r"episode return 1.37 > 1: pass reward_scale"),
        ((0, float("nan"), 0), "step 1 of episode 0"),
        ((0, -1.0, 0), "not negative"),
        ((2, 0.0, 0), "action"),
        ((0, 0.0, 3), "next_state"),
    ):
        with pytest.raises(ValueError, match=message):
            made.observe(*wrong)
    assert made._now.states == before
    made.observe(0, model.R[0, 0, 0], 1)
    with pytest.raises(ValueError, match=r"context 5 outside 0..1"):
        made.end_episode(5)
    with pytest.raises(RuntimeError, match="end_episode"):
        made.state_dict()
    made.end_episode(0)
    assert made.n_episodes_ == 1


def test_tenths_that_sum_to_a_hair_over_1():
    made = LatentMDPLearner(1, 1, 1, 3, rewards="learn")
    made.begin_episode(0)
    for paid in (0.1, 0.2, 0.7):
        made.observe(0, paid, 0)
    made.end_episode(0)


def test_another_unit_of_rewards():
    model = worked(3)
    from whp.rl import LatentMDP

    dollars = LatentMDP(model.w, model.nu, model.P, 64 * model.R, 3, reward_scale=64)
    a = one(played(model, 600))
    b = one(played(dollars, 600, reward_scale=64))
    assert b.bound == pytest.approx(64 * a.bound)
    assert b.trivial == pytest.approx(64 * a.trivial)
    assert b.measured.value == pytest.approx(64 * a.measured.value)
    assert a.verdict is b.verdict


def test_damaged_state_is_refused():
    model = worked(3)
    made = played(model, 60)
    good = made.state_dict()
    for name, change in (
        ("counts", lambda x: x + 1),
        ("contexts", lambda x: 1 - x),
        ("lengths", lambda x: x[:-1]),
        ("states", lambda x: x + 5),
        ("plan_child", lambda x: x + 1000),
        ("table", lambda x: x * 0.5),
        ("settings", lambda x: x.replace('"delta": 0.05', '"delta": 0.5')),
    ):
        fresh = learner(model, n_episodes=60)
        with pytest.raises(ValueError, match="state"):
            fresh.load_state_dict({**good, name: change(good[name])})
        assert fresh.n_episodes_ == 0


def test_copies_share_nothing():
    model = worked(3)
    made = played(model, 50, n_episodes=500)
    other = copy.copy(made)
    other.fit(Simulation(model, np.random.default_rng(1)), 50)
    assert (made.n_episodes_, other.n_episodes_) == (50, 100)


def test_nobody_gets_round_what_the_planner_made():
    """A subclass, a method of an instance, a copy, a loaded state: what they plan is not known."""

    class Careless(LatentMDPLearner):
        def _hopeful(self):
            plan = super()._hopeful()
            return type(plan)(plan.policy, 0.0, 0.0, True)

    model = worked(3)
    sub = Careless(*model.shape, 3, reward_table=model.R, n_episodes=50)
    sub.fit(Simulation(model, np.random.default_rng(0)), 50)
    own = learner(model, n_episodes=50)
    own._replan = own._replan
    own.fit(Simulation(model, np.random.default_rng(0)), 50)
    honest = played(model, 50)
    for made in (sub, own, copy.copy(honest), pickle.loads(pickle.dumps(honest))):
        assert status(one(made), "optimum-of-the-boxes") is Status.UNCHECKED
    assert status(one(honest), "optimum-of-the-boxes") is Status.BY_CONSTRUCTION


def test_a_model_of_another_kind_is_refused():
    model = worked(3)

    class Kind(type(model)):
        def value_of(self, policy):
            return 1.0

    other = Kind(model.w, model.nu, model.P, model.R, 3)
    with pytest.raises(TypeError, match="LatentMDP"):
        learner(model, model=other)


def test_another_model_than_that_of_the_stream_is_noticed():
    model = worked(3)
    from whp.rl import LatentMDP

    other = LatentMDP(model.w, model.nu, model.P[:, :, ::-1], model.R, 3)
    made = learner(model, n_episodes=500, model=other)
    made.fit(Simulation(model, np.random.default_rng(0)), 500)
    assert status(one(made), "model-of-the-stream") is Status.VIOLATED


def test_the_inexact_planner_certifies_against_the_known_context():
    made = one(played(worked(3), 2000, planner="alternating"))
    assert made.name == "known-context"
    assert made.verdict is Verdict.HOLDS


def test_the_published_shape_wants_a_constant_and_a_model():
    model = worked(3)
    shape = latent_mdp_certificates(played(model, 300), C=1.0)[1]
    assert shape.name == "shape"
    assert status(shape, "constant") is Status.UNCHECKED
    with pytest.raises(ValueError, match="true model"):
        latent_mdp_certificates(played(model, 30, model=None), C=1.0)


def test_what_is_given_is_checked():
    R = worked(3).R
    for options, message in (
        ({}, "reward_table must be given"),
        ({"rewards": "learn", "reward_table": R}, "left out"),
        ({"reward_table": R[:1]}, "shape"),
        ({"reward_table": R, "groups": [[0.5, 1], [1, 2], [3, 4]]}, "groups"),
        ({"reward_table": R, "possible": np.ones((3, 2, 3))}, "possible"),
        ({"reward_table": R, "bonus_scale": 0}, "bonus_scale"),
        ({"reward_table": R, "delta": 1}, "delta"),
    ):
        with pytest.raises(ValueError, match=message):
            LatentMDPLearner(2, 3, 2, 3, **options)


def test_what_was_ruled_out_and_happens_is_seen():
    model = worked(3)
    possible = np.ones((3, 2, 3), bool)
    possible[1, 0, 2] = False
    made = one(played(model, 200, possible=possible))
    assert made.verdict is Verdict.VOID
    assert status(made, "impossible-never-happens") is Status.VIOLATED


def test_attributes():
    model = worked(3)
    made = played(model, 500)
    assert made.n_visits_.sum() == 1500
    assert np.allclose(made.P_hat_.sum(-1), 1)
    assert made.w_hat_ == pytest.approx(model.w, abs=0.1)
    assert np.allclose(made.nu_hat_.sum(-1), 1)
    assert made.n_plans_ <= 12 * (np.log2(1500) + 1) + np.log2(500) + 2
    assert {k: len(v) for k, v in made.history_.items()} == dict.fromkeys(made.history_, 500)
    assert made.planning_gap_ == 0


def test_episodes_may_end_early_or_at_once():
    model = worked(3)
    made = learner(model, n_episodes=10)
    made.begin_episode(0)
    made.end_episode(0)
    made.begin_episode(1)
    made.observe(made.act(), model.R[1, 1, made.act()], 2)
    made.end_episode(1)
    steps = made.steps()
    assert steps.episode.tolist() == [1]
    assert steps.before.tolist() == [-1]
    assert steps.first.tolist() == steps.state.tolist() == [1]
    assert one(made).verdict is Verdict.VACUOUS


def test_steps_are_those_of_the_episodes():
    model = worked(3)
    steps = played(model, 20).steps()
    assert len(steps.episode) == 60
    assert (steps.before[::3] == -1).all()
    assert (steps.before[1::3] == steps.state[::3]).all()
    assert (steps.state[1::3] == steps.after[::3]).all()
    assert (steps.first == np.repeat(steps.start, 3)).all()


def test_an_environment_that_keeps_its_context():
    model = worked(3)

    class Silent(Simulation):
        def step(self, action):
            return *super().step(action)[:4], {}

    made = learner(model, n_episodes=10)
    with pytest.raises(KeyError, match="context"):
        made.fit(Silent(model, np.random.default_rng(0)), 1)
    made.fit(Simulation(model, np.random.default_rng(0)), 5)
    assert "1 episodes were left out" in one(made).explain()
    assert status(one(made), "no-episode-left-out") is Status.VIOLATED


def paying(model, share):
    return LatentMDP(model.w, model.nu, model.P, share * model.R, model.horizon)


@pytest.mark.parametrize("rewards", ["known", "learn"])
def test_a_model_that_pays_otherwise_measures_nothing(rewards):
    true = worked(3)
    table = true.R if rewards == "known" else None
    for share, right in ((1, True), (0.3, False)):
        made = learner(
            true, model=paying(true, share), rewards=rewards, reward_table=table, n_episodes=1000
        )
        made.fit(Simulation(true, np.random.default_rng(0)), 1000)
        assert (status(one(made), "model-of-the-stream") is Status.VIOLATED) is not right
        assert (one(made).verdict is Verdict.VOID) is not right


def test_a_state_goes_on_with_its_own_model_alone(tmp_path):
    model = worked(3)
    played(model, 50).save(tmp_path / "state.npz")
    for other in (paying(model, 0.3), None):
        with pytest.raises(ValueError, match="model is"):
            learner(model, model=other, n_episodes=50).load(tmp_path / "state.npz")


def test_what_was_played_by_cannot_be_changed():
    made = played(worked(3), 20)
    for model in (made.model, copy.deepcopy(made.model), pickle.loads(pickle.dumps(made.model))):
        for name in ("w", "nu", "P", "R", "horizon", "reward_scale"):
            with pytest.raises(AttributeError, match="make another"):
                setattr(model, name, 1)
        with pytest.raises(ValueError, match="read-only"):
            model.R[0] = 0
    for name in ("planner", "max_vectors", "solver", "delta", "model"):
        with pytest.raises(AttributeError):
            setattr(made, name, None)


def test_an_environment_whose_labels_are_no_whole_numbers():
    model = worked(3)

    class Halves(Simulation):
        def step(self, action):
            *rest, info = super().step(action)
            return *rest, {m: c + 0.5 for m, c in info.items()}

    with pytest.raises(TypeError, match=r"whole number|context"):
        learner(model).fit(Halves(model, np.random.default_rng(0)), 1)


@pytest.mark.parametrize(
    ("name", "value"),
    [("earned", 0.9), ("optimistic", np.nan), ("gaps", -1.0), ("true", 9.0), ("optimistic", -1.0)],
)
def test_sums_that_are_not_those_of_the_episodes(name, value):
    model = worked(2)
    made = played(model, 20)
    with pytest.raises(ValueError, match="damaged"):
        learner(model, n_episodes=20).load_state_dict(
            {**made.state_dict(), name: np.full(20, value)}
        )
