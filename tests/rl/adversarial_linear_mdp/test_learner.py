import pickle

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from layered import linear, losses_of

from whp.certificate import Status, Verdict
from whp.rl import AdversarialPolicyOptimizer, LayeredEnv, LinearQModel, LogBarrierFTRL

ARMS = LinearQModel(np.eye(2)[None, None])


def gap(K, losses=(0.0, 1.0)):
    return np.tile(np.array(losses), (K, 1, 1, 1))


def answer(certificate, name):
    return next(a for a in certificate.conditions if a.name == name)


def test_one_state_is_the_learner_of_one_state():
    learner = AdversarialPolicyOptimizer(
        ARMS, method="log-barrier", n_episodes=50, eta=0.2, random_state=0
    )
    alone = LogBarrierFTRL(2, 0.2)
    rng = np.random.default_rng(0)
    for _ in range(50):
        assert learner.policy_(0)[0] == pytest.approx(alone.policy_, abs=1e-12)
        a = learner.act(0, 0)
        learner.update([0], [a], [rng.random()])
        alone.update(learner.last_estimate_[0, 0] - learner.last_bonus_[0, 0])
    assert learner.cum_scores_[0, 0] == pytest.approx(alone.scores_)


def test_live_and_replayed_are_the_same_learner():
    model = linear()
    table = losses_of(model, 40)
    made = AdversarialPolicyOptimizer(model, n_episodes=40, eta=0.1, random_state=0).run(table)
    again = AdversarialPolicyOptimizer(model, n_episodes=40, eta=0.1, random_state=0).run(table)
    assert (made.cum_scores_ == again.cum_scores_).all()
    live = AdversarialPolicyOptimizer(model, n_episodes=40, eta=0.1, random_state=1)
    rng = np.random.default_rng(0)
    scores = np.zeros(model.shape[:3])
    for k in range(40):
        x, path, taken = int(rng.choice(4, p=model.init)), [], []
        for h in range(3):
            path.append(x)
            taken.append(live.act(h, x))
            x = int(rng.choice(4, p=model.P[h, x, taken[-1]])) if h < 2 else x
        live.update(path, taken, table[k, range(3), path, taken])
        scores += live.last_estimate_ - live.last_bonus_
    assert live.cum_scores_ == pytest.approx(scores)


@pytest.mark.parametrize(
    ("method", "bound", "mean"), [("magnitude-reduced", 3442.76, 1823), ("log-barrier", 7625, 919)]
)
def test_a_better_arm_in_20_000_episodes(method, bound, mean):
    made = AdversarialPolicyOptimizer(
        ARMS, method=method, n_episodes=20_000, n_runs=8, random_state=0
    ).run(gap(20_000))
    regret, ftrl = made.certificates()
    assert regret.bound == pytest.approx(bound, rel=1e-4)
    assert regret.measured.value == pytest.approx(mean, rel=0.02)
    assert regret.verdict is Verdict.INCONCLUSIVE  # eight replays tell little
    assert ftrl.verdict is Verdict.HOLDS


@pytest.mark.parametrize("method", ["magnitude-reduced", "log-barrier"])
def test_an_ordinary_run_holds(method):
    made = AdversarialPolicyOptimizer(
        ARMS, method=method, n_episodes=5000, n_runs=100, random_state=0
    ).run(gap(5000))
    assert [c.verdict for c in made.certificates()] == [Verdict.HOLDS, Verdict.HOLDS]


@pytest.mark.parametrize(("c", "mean"), [(0.1, 1856), (0.01, 3596)])
def test_features_that_were_shrunk_are_void(c, mean):
    made = AdversarialPolicyOptimizer(
        LinearQModel(c * np.eye(2)[None, None]), n_episodes=20_000, n_runs=8, random_state=0
    ).run(gap(20_000))
    regret = made.certificates()[0]
    assert regret.verdict is Verdict.VOID
    assert answer(regret, "coefficients").status is Status.VIOLATED
    assert regret.measured.value == pytest.approx(mean, rel=0.02)


def test_a_learner_that_does_not_learn_fails(monkeypatch):
    from whp.rl._adversarial_linear_mdp import passes

    played = passes.replay

    def frozen(*arguments):  # at this rate all policies stay uniform
        played(*arguments[:5], 1e-300, *arguments[6:])

    monkeypatch.setattr(passes, "replay", frozen)
    made = AdversarialPolicyOptimizer(ARMS, n_episodes=8000, n_runs=40, random_state=0)
    made.run(gap(8000))
    regret, ftrl = made.certificates()
    assert regret.verdict is Verdict.FAILS
    assert ftrl.verdict is Verdict.FAILS


def test_vacuous_where_the_bound_is_more_than_can_be_lost():
    made = AdversarialPolicyOptimizer(ARMS, n_episodes=100, n_runs=8, random_state=0)
    assert made.run(gap(100)).certificates()[0].verdict is Verdict.VACUOUS
    alike = AdversarialPolicyOptimizer(ARMS, n_episodes=5000, n_runs=8, random_state=0)
    regret = alike.run(gap(5000, (0.3, 0.3))).certificates()[0]
    assert regret.verdict is Verdict.VACUOUS
    assert regret.measured.high < 1e-6


def test_a_comparator_that_changes_makes_the_regret_negative():
    table = gap(20_000)
    table[10_000:] = table[10_000:, ..., ::-1]
    made = AdversarialPolicyOptimizer(ARMS, n_episodes=20_000, n_runs=16, random_state=0).run(table)
    assert made.certificates()[0].measured.value == pytest.approx(-654, rel=0.1)


def test_one_hot_features_make_both_methods_one():
    model = LinearQModel.from_tabular(np.full((1, 2, 2, 2), 0.5), [0.5, 0.5])
    table = np.random.default_rng(0).random((30, 2, 2, 2))
    made = [
        AdversarialPolicyOptimizer(
            model, method=m, n_episodes=30, eta=0.1, beta=0.01, gamma=0.01, random_state=0
        ).run(table)
        for m in ("magnitude-reduced", "hedge")
    ]
    assert made[0].cum_scores_ == pytest.approx(made[1].cum_scores_)
    assert made[0].min_estimate_ >= 0


def test_no_regularisation_leaves_no_bias():
    rng = np.random.default_rng(0)
    phi = rng.normal(size=(3, 2))
    phi /= np.linalg.norm(phi, axis=1, keepdims=True)
    made = []
    for seed in range(1500):
        learner = AdversarialPolicyOptimizer(
            LinearQModel(phi[None, None]),
            n_episodes=2,
            eta=1e-9,
            beta=0.0,
            gamma=1e-12,
            random_state=seed,
        )
        a = learner.act(0, 0)
        learner.update([0], [a], [float(phi[a] @ [0.2, 0.1] + 0.3)])
        made.append(learner.last_estimate_[0, 0])
    mean, spread = np.mean(made, axis=0), np.std(made, axis=0) / np.sqrt(len(made))
    # A constant is not linear here: its projection is.
    weights = np.linalg.inv(phi.T @ phi / 3) @ phi.T / 3
    assert (np.abs(mean - phi @ weights @ (phi @ [0.2, 0.1] + 0.3)) < 5 * spread + 1e-9).all()


def test_an_environment_is_played_and_checked():
    model = linear()
    env = LayeredEnv(model, losses_of(model, 50))
    check_env(env, skip_render_check=True)
    made = AdversarialPolicyOptimizer(model, n_episodes=50, random_state=0).run(env)
    assert made.episodes_ == 50
    regret = made.certificates()[0]
    assert regret.measured is None
    assert answer(regret, "oblivious").status is Status.UNCHECKED
    short = LayeredEnv(linear(H=2), losses_of(linear(H=2), 5))
    with pytest.raises(ValueError, match="must end its episodes after H = 3 steps"):
        AdversarialPolicyOptimizer(model, n_episodes=5, random_state=0).run(short)


def test_anytime_starts_anew_at_each_doubling():
    made = AdversarialPolicyOptimizer(ARMS, anytime=True, n_runs=3, random_state=0).run(gap(100))
    regret, ftrl = made.certificates()
    assert regret.verdict is Verdict.VOID
    assert ftrl.inputs["K"] == 100 - 64
    assert ftrl.verdict in (Verdict.HOLDS, Verdict.VACUOUS)
    step = AdversarialPolicyOptimizer(ARMS, anytime=True, random_state=0)
    rates = set()
    for _ in range(20):
        a = step.act(0, 0)
        step.update([0], [a], [float(a)])
        rates.add(step.rates.eta)
    assert len(rates) == 4  # 2, 4, 8 and 16


@pytest.mark.parametrize(
    "options",
    [
        {"eta": "tuned"},
        {"covariance": "plugin", "n_sim": 20},
        {"covariance": "mgr", "n_sim": 200},
        {"bonus": None},
        {"method": "hedge"},
        {"gamma": 0.1},
    ],
)
def test_other_settings_are_void(options):
    made = AdversarialPolicyOptimizer(ARMS, n_episodes=30, random_state=0, **options).run(gap(30))
    regret = made.certificates()[0]
    assert regret.verdict is Verdict.VOID
    assert answer(regret, "tuning").status is Status.VIOLATED


def test_state_survives_saving():
    made = AdversarialPolicyOptimizer(ARMS, n_episodes=60, random_state=0)
    for _ in range(30):
        made.update([0], [made.act(0, 0)], [0.5])
    loaded = pickle.loads(pickle.dumps(made))
    for learner in (made, loaded):
        for _ in range(30):
            learner.update([0], [learner.act(0, 0)], [0.5])
    assert (made.cum_scores_ == loaded.cum_scores_).all()
    assert made.certificates()[0].to_dict() == loaded.certificates()[0].to_dict()
    loaded.eta = 5.0
    loaded.update([0], [loaded.act(0, 0)], [0.5])
    assert all(c.verdict is Verdict.VOID for c in loaded.certificates())


def test_what_was_not_made_here_is_not_said_to_be():
    made = AdversarialPolicyOptimizer(ARMS, n_episodes=30, n_runs=8, random_state=0).run(gap(30))
    names = ("range", "oblivious", "world")
    assert all(answer(made.certificates()[0], n).status is Status.BY_CONSTRUCTION for n in names)
    loaded = pickle.loads(pickle.dumps(made))

    class Mine(AdversarialPolicyOptimizer):
        pass

    mine = Mine(ARMS, n_episodes=30, n_runs=8, random_state=0).run(gap(30))
    twice = AdversarialPolicyOptimizer(ARMS, n_episodes=30, n_runs=8, random_state=0)
    twice.run(gap(15)).run(gap(15))
    for other in (loaded, mine, twice):
        regret = other.certificates()[0]
        assert all(answer(regret, n).status is Status.UNCHECKED for n in names)


def test_a_table_cannot_be_made_to_suit_a_seed():
    curves = []
    for loss in (1.0, 0.999):
        made = AdversarialPolicyOptimizer(ARMS, n_episodes=200, eta=1e-9, random_state=0)
        curves.append(made.run(gap(200, (0, loss))).history_["loss"].to_numpy() / loss)
    assert not np.allclose(*curves)


def test_an_interrupted_chunk_is_not_learnt(monkeypatch):
    from whp.rl._adversarial_linear_mdp import passes

    made = AdversarialPolicyOptimizer(ARMS, n_episodes=1000, n_runs=3, random_state=0)
    plain, calls = passes.replay, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 8:
            raise KeyboardInterrupt
        plain(*arguments)

    monkeypatch.setattr(passes, "replay", interrupted)
    with pytest.raises(KeyboardInterrupt):
        made.run(gap(1000))
    done = made.episodes_
    assert done == 520  # two times 260 episodes, in three replays
    monkeypatch.setattr(passes, "replay", plain)
    whole = AdversarialPolicyOptimizer(ARMS, n_episodes=1000, n_runs=3, random_state=0)
    whole.run(gap(1000))
    made.run(gap(1000 - done))
    assert (made.cum_scores_ == whole.cum_scores_).all()
    assert answer(made.certificates()[0], "oblivious").status is Status.UNCHECKED


def test_the_curve_is_what_was_lost():
    made = AdversarialPolicyOptimizer(ARMS, n_episodes=900, n_runs=3, random_state=0).run(gap(900))
    curve = made.history_
    assert curve["episode"].is_monotonic_increasing
    assert len(curve) >= 180
    assert curve["episode"].iloc[-1] == 900
    assert (curve["loss"].diff().dropna() >= 0).all()
    uniform = np.cumsum(np.full(900, 0.5))[curve["episode"] - 1]
    assert (curve["expected_loss"] <= uniform + 1e-9).all()  # the first arm loses nothing


def test_mistakes_are_named_and_nothing_is_learnt():
    model = linear()
    sure = LinearQModel.from_tabular(np.eye(2)[None, :, None].repeat(2, axis=2), [1, 0])
    made = AdversarialPolicyOptimizer(sure, n_episodes=10, random_state=0)
    with pytest.raises(RuntimeError, match="update called before act"):
        made.update([0, 0], [0, 0], [0.1, 0.1])
    made.act(0, 0)
    for wrong, message in (
        (([0, 0], [0, 0], [-0.2, 0.1]), r"loss -0.2 at step 0 outside \(0, 1\)"),
        (([1, 0], [0, 0], [0.2, 0.1]), "no episode starts in state 1"),
        (([0, 1], [0, 0], [0.2, 0.1]), "step 1: state 1 cannot follow state 0, action 0"),
        (([0, 0], [0, 5], [0.2, 0.1]), "step 1: 5 is not in 0..1"),
        (([0], [0], [0.2]), "states must be 2 whole numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            made.update(*wrong)
    assert made.episodes_ == 0
    for options, message in (
        ({}, "n_episodes required"),
        ({"n_episodes": 10, "anytime": True}, "n_episodes must be None"),
        ({"n_episodes": 10, "covariance": "plugin"}, "n_sim must be given"),
        ({"n_episodes": 10, "n_sim": 5}, "n_sim must be None"),
        ({"n_episodes": 10, "bonus": None, "beta": 0.1}, "beta must be None"),
        ({"n_episodes": 10, "loss_range": (1, 0)}, "lower first"),
    ):
        with pytest.raises(ValueError, match=message):
            AdversarialPolicyOptimizer(model, **options)
    with pytest.raises(ValueError, match="n_runs must be 1 for act"):
        AdversarialPolicyOptimizer(model, n_episodes=5, n_runs=2).act(0, 1)
    with pytest.raises(TypeError, match="model must be a LinearQModel"):
        AdversarialPolicyOptimizer(model.phi, n_episodes=5)


def test_overridden_actions_are_told():
    made = AdversarialPolicyOptimizer(ARMS, n_episodes=20, random_state=0)
    for _ in range(20):
        made.update([0], [1 - made.act(0, 0)], [0.5])
    assert answer(made.certificates()[0], "world").status is Status.VIOLATED


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", ARMS),
        ("loss_range", (0, 0.001)),
        ("n_runs", 1),
        ("n_episodes", 7),
        ("anytime", True),
    ],
)
def test_what_sums_are_made_of_is_fixed(name, value):
    made = AdversarialPolicyOptimizer(ARMS, n_episodes=30, n_runs=8, random_state=0)
    with pytest.raises(AttributeError, match=f"{name} of a learner is fixed"):
        setattr(made, name, value)
    with pytest.raises(AttributeError, match="phi of a model is fixed"):
        made.model.phi = 0.1 * made.model.phi


@pytest.mark.parametrize("episodes", [2, 4, 8])
def test_asking_for_a_policy_changes_no_certificate(episodes):
    made = AdversarialPolicyOptimizer(ARMS, anytime=True, random_state=0)
    for _ in range(episodes):
        made.update([0], [made.act(0, 0)], [0.5])
    before = [c.to_dict() for c in made.certificates()]
    assert made.policy_(0)[0] == pytest.approx([0.5, 0.5])  # a new start
    assert [c.to_dict() for c in made.certificates()] == before
    made.update([0], [made.act(0, 0)], [0.5])
    assert made.certificates()[1].inputs["K"] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma": 1e-20}, "gamma must be at least 1e-13"),
        ({"eta": 1e300}, "eta, beta and gamma must be finite"),
        ({"loss_range": (-1e308, 1e308)}, "loss_range must be wider"),
    ],
)
def test_numbers_that_rounding_eats(options, message):
    with pytest.raises(ValueError, match=message):
        AdversarialPolicyOptimizer(ARMS, n_episodes=30, **options)


def test_who_reacted_is_not_forgotten():
    made = AdversarialPolicyOptimizer(ARMS, n_episodes=5, random_state=0)
    made.run(lambda k, policy: policy)
    made.adaptive = False
    assert answer(made.certificates()[0], "oblivious").status is Status.VIOLATED


def test_expected_losses_are_not_known_of_what_came_from_outside():
    made = AdversarialPolicyOptimizer(ARMS, n_episodes=8, random_state=0)
    made.update([0], [made.act(0, 0)], [0.5])
    made.run(gap(7))
    assert np.isnan(made.history_["expected_loss"]).all()
    assert made.history_["episode"].iloc[-1] == 8


@pytest.mark.parametrize("K", [2.5, True, "3"])
def test_a_number_of_episodes_is_whole(K):
    made = AdversarialPolicyOptimizer(ARMS, n_episodes=8, random_state=0)
    for losses in (gap(8), LayeredEnv(ARMS, gap(8)), lambda k, policy: policy):
        with pytest.raises(TypeError, match="K"):
            made.run(losses, K)
    assert made.episodes_ == 0


@pytest.mark.parametrize("change", [{"eta": 5.0}, {"method": "log-barrier"}])
def test_policies_of_other_settings_are_told(change):
    made = AdversarialPolicyOptimizer(ARMS, n_episodes=30, random_state=0)
    plain = {name: getattr(made, name) for name in change}
    for _ in range(10):
        for name, value in change.items():
            setattr(made, name, value)
        a = made.act(0, 0)
        for name, value in plain.items():
            setattr(made, name, value)
        made.update([0], [a], [float(a)])
    regret, ftrl = made.certificates()
    assert answer(regret, "tuning").status is Status.VIOLATED
    assert ftrl.verdict is Verdict.VOID


def test_a_look_at_the_policy_does_not_keep_it():
    made, fresh = (AdversarialPolicyOptimizer(ARMS, n_episodes=30, random_state=0) for _ in "ab")
    for learner in (made, fresh):
        learner.update([0], [learner.act(0, 0)], [0.5])
    made.policy_(0)
    made.eta = fresh.eta = 5.0
    assert (made.policy_(0) == fresh.policy_(0)).all()
