import numpy as np
import pytest
from layered import linear, losses_of

from whp.certificate import Status, Verdict
from whp.rl import AdversarialPolicyOptimizer, LinearQModel


def answer(certificate, name):
    return next(a for a in certificate.conditions if a.name == name)


def regret(model, table, **options):
    options = {"n_episodes": len(table), "n_runs": 8, "random_state": 0} | options
    return AdversarialPolicyOptimizer(model, **options).run(table).certificates()[0]


def test_one_law_that_is_not_linear():
    model = linear()
    table = losses_of(model, 20)
    assert answer(regret(model, table), "linear").status is Status.MET
    # No episode starts in state 0: what follows it there is no matter.
    for x, move, status in (
        (1, 1e-8, Status.MET),
        (1, 1e-4, Status.VIOLATED),
        (0, 1e-2, Status.MET),
    ):
        P = model.P.copy()
        P[0, x, 0] += move * np.array([1, -1, 0, 0])
        off = LinearQModel(model.phi, P, model.init)
        assert answer(regret(off, table), "linear").status is status


def test_losses_outside_the_span():
    model = linear()
    table = losses_of(model, 20)
    table[7, 1, 2, 1] = 0.999
    assert answer(regret(model, table), "linear").status is Status.VIOLATED


@pytest.mark.parametrize("runs", [1, 7])
def test_few_replays_measure_nothing(runs):
    made = regret(linear(), losses_of(linear(), 20), n_runs=runs)
    assert made.measured is None
    assert "100 for an interval" in made.needs


def test_the_bound_is_in_the_units_of_the_losses():
    model = linear()
    table = losses_of(model, 20)
    plain = regret(model, table)
    other = regret(model, 1e6 * table - 5e6, loss_range=(-5e6, -4e6))
    assert other.bound == pytest.approx(1e6 * plain.bound)
    assert other.trivial == pytest.approx(1e6 * plain.trivial)
    assert other.verdict is plain.verdict


def live(model, laws, K=400, seed=0):
    made = AdversarialPolicyOptimizer(model, n_episodes=K, random_state=seed)
    rng = np.random.default_rng(seed)
    for _ in range(K):
        x = int(rng.choice(len(model.init), p=model.init))
        a = made.act(0, x)
        y = int(rng.choice(len(model.init), p=laws[0, x, a]))
        made.update([x, y], [a, made.act(1, y)], [0.5, 0.5])
    return answer(made.certificates()[0], "world")


def test_laws_of_a_live_run_are_tested():
    model = linear(H=2)
    right = [live(model, model.P, seed=s).status for s in range(8)]
    assert right.count(Status.VIOLATED) <= 2
    moved = 0.6 * model.P + 0.4 * np.roll(model.P, 1, axis=-1)
    assert live(model, moved).status is Status.VIOLATED
    assert live(model, model.P, K=10).status is Status.UNCHECKED
    assert "a shift of" in live(model, model.P).evidence


def test_an_adversary_is_told():
    model = LinearQModel(np.eye(2)[None, None])
    made = AdversarialPolicyOptimizer(model, n_episodes=50, random_state=0)
    made.run(lambda k, policy: (policy == policy.max(axis=-1, keepdims=True)).astype(float))
    first = made.certificates()[0]
    assert first.verdict is Verdict.VOID
    assert answer(first, "oblivious").status is Status.VIOLATED
    told = AdversarialPolicyOptimizer(model, n_episodes=50, adaptive=True, random_state=0)
    told.run(np.tile([0.0, 1.0], (50, 1, 1, 1)))
    assert told.certificates()[0].verdict is Verdict.VOID


def test_before_the_first_episode_there_is_nothing_to_say():
    assert AdversarialPolicyOptimizer(linear(), n_episodes=5).certificates() == ()


def test_losses_need_to_be_linear_only_where_a_policy_comes():
    model = linear()
    assert (model.reachable == [[False, True, True, True], [True] * 4, [True] * 4]).all()
    table = losses_of(model, 20)
    table[:, 0, 0] = np.random.default_rng(0).random((20, 2))
    assert answer(regret(model, table), "linear").status is Status.MET
    table[:, 0, 1] = table[:, 0, 0]
    assert answer(regret(model, table), "linear").status is Status.VIOLATED


class Obliging(LinearQModel):
    """Says of itself what the theory wants."""

    def inverses(self):
        return 0 * super().inverses()

    def loss_residual(self, losses):
        return 0.0


def test_a_model_does_not_answer_for_itself():
    table = np.tile([0.0, 1.0], (50, 1, 1, 1))
    model = Obliging(0.01 * np.eye(2)[None, None])
    model.inverses = model.inverses
    assert answer(regret(model, table), "coefficients").status is Status.VIOLATED


def test_certificates_are_of_the_method_that_was_played():
    table = np.tile([0.0, 1.0], (2000, 1, 1, 1))
    made = AdversarialPolicyOptimizer(
        LinearQModel(np.eye(2)[None, None]),
        method="log-barrier",
        n_episodes=2000,
        n_runs=8,
        random_state=0,
    ).run(table)
    before = [c.to_dict() for c in made.certificates()]
    made.method = "magnitude-reduced"
    assert [c.to_dict() for c in made.certificates()] == before


def test_one_action_at_a_rate_of_ones_own():
    made = regret(LinearQModel(np.eye(1)[None, None]), np.full((9, 1, 1, 1), 0.5), eta=0.1)
    assert made.bound == 0
    assert made.verdict is Verdict.VOID
