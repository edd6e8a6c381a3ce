import math

import numpy as np
import pytest

from whp.datasets.linear_systems import shifted_laplacians, stencil
from whp.linalg import RelaxationTuner, run_grid, sor

BETA = math.cos(math.pi / 11)


def test_10_grid_means_of_the_simulation():
    counts = run_grid(shifted_laplacians(300, rng=0), (1.2, 1.4, 1.6, 1.8))
    np.testing.assert_allclose(counts.mean(axis=0), (405, 257, 151, 103.8), rtol=0.2)


def test_context_beats_every_fixed_omega():
    T, grid = 500, np.linspace(1, 1.9, 10)
    systems = list(shifted_laplacians(T, rng=0))
    table = run_grid(systems, grid)
    paid = {}
    for learner, options in (
        ("tsallis", {}),
        ("chebcb", {"context_range": (-0.15, 0.45)}),
        ("young", {"jacobi": (BETA, 4.0)}),
    ):
        tuner = RelaxationTuner(learner, grid, rng=0, **options)
        total = 0
        for (matrix, b, c), row in zip(systems, table, strict=True):
            arm, omega = tuner.ask(c)
            cost = row[arm] if arm >= 0 else sor(matrix, b, omega).iterations
            tuner.tell(cost)
            total += cost
        paid[learner] = total / T
    best = table.mean(axis=0).min()
    assert paid["young"] < paid["chebcb"] < best < paid["tsallis"] < table.mean()


@pytest.mark.parametrize("learner", ["tsallis", "tsallis-cb", "chebcb"])
def test_a_saved_tuner_draws_the_same(learner):
    def new():
        return RelaxationTuner(learner, context_range=(0, 1), rng=5)

    first, second = new(), new()
    contexts = np.random.default_rng(0).random(60)
    for c in contexts[:40]:
        arm, _ = first.ask(c)
        first.tell(10 + arm + 20 * c)
    second.load_state_dict(first.state_dict())
    for c in contexts[40:]:
        assert first.ask(c) == second.ask(c)
        first.tell(9.0)
        second.tell(9.0)
    with pytest.raises(ValueError, match="state must hold"):
        new().load_state_dict({"rounds": 0})


def test_a_state_of_other_settings_is_refused():
    def state(**options):
        return RelaxationTuner("tsallis", **{"omegas": [1.0, 1.3, 1.6], **options}).state_dict()

    tuner = RelaxationTuner("tsallis", [1.0, 1.3, 1.7])
    with pytest.raises(ValueError, match=r"state is of ω = 1, 1.3, 1.6, this tuner of 1, 1.3, 1.7"):
        tuner.load_state_dict(state())
    with pytest.raises(ValueError, match="state is of rate = fixed:150"):
        tuner.load_state_dict(state(omegas=[1.0, 1.3, 1.7], rate="fixed:150"))
    cheb = RelaxationTuner("chebcb", [1.0, 1.3, 1.7], context_range=(0, 1))
    with pytest.raises(ValueError, match="state is of learner = tsallis"):
        cheb.load_state_dict(state())
    with pytest.raises(ValueError, match="state is of context_range = 0, 2"):
        cheb.load_state_dict(
            RelaxationTuner("chebcb", [1.0, 1.3, 1.7], context_range=(0, 2)).state_dict()
        )
    assert tuner.rounds == 0


def test_a_broken_state_leaves_the_tuner_as_it_was():
    tuner = RelaxationTuner("tsallis-cb", context_range=(0, 1), rng=0)
    tuner.ask(0.1)
    tuner.tell(7)
    before, broken = tuner.state_dict(), tuner.state_dict()
    broken["cells"] = [*broken["cells"][:-1], {}]
    with pytest.raises(ValueError, match="state must hold"):
        tuner.load_state_dict(broken)
    assert str(tuner.state_dict()) == str(before)


def test_young_says_where_it_has_no_formula():
    tuner = RelaxationTuner("young", jacobi=(BETA, 4.0))
    assert tuner.ask(0.0)[1] == pytest.approx(1.5603879213)
    for shift in (-4.0, -5.0, 4 * (BETA - 1)):
        with pytest.raises(ValueError, match=r"context must be above -0\.162"):
            tuner.ask(shift)


def test_contexts_outside_of_the_range_are_counted():
    for learner in ("tsallis-cb", "chebcb"):
        tuner = RelaxationTuner(learner, context_range=(0, 1), rng=0)
        for c in (-1.0, 0.5, 2.0, 1.0):
            tuner.ask(c)
            tuner.tell(3)
        assert tuner.outside == 2


def test_draws_share_nothing_with_data_of_the_same_seed():
    tuner, data = (
        RelaxationTuner("tsallis", [1.0, 1.5], rng=5),
        np.random.default_rng(5).random(200),
    )
    same = 0
    for u in data:
        arm, _ = tuner.ask()
        tuner.tell(2)
        same += arm == int(u > 0.5)
    assert 60 < same < 140


def test_misuse_is_named():
    with pytest.raises(ValueError, match="omegas"):
        RelaxationTuner(omegas=[1.0, 2.5])
    with pytest.raises(ValueError, match="context_range"):
        RelaxationTuner("tsallis-cb")
    with pytest.raises(ValueError, match="context_range"):
        RelaxationTuner("chebcb", context_range=(1, 1))
    with pytest.raises(ValueError, match="context must be given"):
        RelaxationTuner("chebcb", context_range=(0, 1)).ask()
    with pytest.raises(ValueError, match="ask must come before tell"):
        RelaxationTuner().tell(3)
    with pytest.raises(ValueError, match="jacobi"):
        RelaxationTuner("young")


@pytest.mark.parametrize("learner", ["tsallis", "tsallis-cb", "chebcb", 1.5])
def test_nothing_to_solve_costs_as_little_as_a_solve_can(learner):
    range_ = (0, 1) if learner in ("tsallis-cb", "chebcb") else None
    one, none = (RelaxationTuner(learner, context_range=range_, rng=0) for _ in range(2))
    for step in range(20):
        (arm, omega), _ = one.ask(step / 20), none.ask(step / 20)
        one.tell(1 + (step % 2) * arm)
        none.tell(sor(stencil(3), np.zeros(9), omega).iterations if step % 2 == 0 else 1 + arm)
    assert one.ask(0.5) == none.ask(0.5)
    with pytest.raises(ValueError, match="cost must be in"):
        none.tell(0.5)


def test_contexts_far_outside_of_a_narrow_range_have_a_bin():
    tuner = RelaxationTuner("tsallis-cb", context_range=(0, 1e-300), rng=0)
    for context in (1e300, -1e300):
        tuner.ask(context)
        tuner.tell(3)
    assert tuner.outside == 2
