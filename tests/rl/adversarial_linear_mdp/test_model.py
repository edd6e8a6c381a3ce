import itertools

import numpy as np
import pytest
from layered import example, linear, losses_of

from whp.rl import LinearQModel, regret_against_best_fixed
from whp.rl._adversarial_linear_mdp.model import as_losses


def all_policies(model):
    H, X, A, _ = model.shape
    for choice in itertools.product(range(A), repeat=H * X):
        yield np.eye(A)[np.array(choice).reshape(H, X)]


def test_best_and_worst_policies_by_enumeration():
    model = linear(H=2, X=3)
    table = losses_of(model, 5)
    values = np.array([model.value(pi, table) for pi in all_policies(model)])
    assert model.extremes(table) == pytest.approx(values.min(axis=0))
    assert model.extremes(table, -1) == pytest.approx(values.max(axis=0))
    best = model.best_fixed(table.sum(axis=0))
    assert model.value(best, table).sum() == pytest.approx(values.sum(axis=1).min())


def test_occupancies_sum_to_one():
    model = linear()
    pi = np.full(model.shape[:3], 0.5)
    assert model.occupancy(pi).sum(axis=1) == pytest.approx(np.ones(3))


def test_what_is_linear_and_what_is_not():
    assert linear().residual() < 1e-12
    made = example(False)
    assert made.residual() < 1e-12  # two laws of a start in state 0, and two features
    anywhere = LinearQModel(made.phi, made.P, [0.5, 0.5])
    assert anywhere.residual() == pytest.approx(0.305, abs=1e-3)
    model = linear()
    assert model.loss_residual(losses_of(model, 4)) < 1e-12
    assert model.loss_residual(np.random.default_rng(0).random((4, *model.shape[:3]))) > 0.1
    tabular = LinearQModel.from_tabular(np.full((2, 2, 2), 0.5), [1, 0], horizon=4)
    assert tabular.shape == (4, 2, 2, 4)
    assert tabular.residual() == 0


def test_single_precision_is_linear_enough():
    model = linear()
    with pytest.warns(UserWarning, match="divided by their sums"):
        single = LinearQModel(model.phi.astype(np.float32), model.P.astype(np.float32), model.init)
    assert 0 < single.residual() < 1e-6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"phi": 1.7 * np.ones((1, 1, 2, 1))},
            "phi norm 1.7 > 1, first at step 0, state 0, action 0",
        ),
        ({"phi": np.ones((2, 1, 2, 1)), "P": [[[[0.9], [1.0]]]]}, r"P\[0,0,0\] sums to 0.9"),
        ({"phi": np.ones((2, 1, 2, 1))}, "P must have shape"),
        ({"phi": np.ones((1, 2, 2, 1))}, "init must give the law of the first of 2 states"),
        ({"phi": np.ones((1, 2, 2, 1)), "init": [1.5, -0.5]}, "init must hold probabilities"),
        ({"phi": np.full((1, 1, 2, 1), np.nan)}, "phi must be finite"),
        ({"phi": np.ones((2, 2))}, "phi must have shape"),
    ],
)
def test_what_is_no_model_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        LinearQModel(**change)


def test_a_model_does_not_change_with_the_callers_arrays():
    phi = np.ones((1, 1, 2, 1))
    model = LinearQModel(phi)
    phi[:] = 0
    assert (model.phi == 1).all()
    with pytest.raises(ValueError, match="read-only"):
        model.phi[0] = 0


def test_losses_are_read_in_their_range():
    model = linear()
    table = losses_of(model, 3)
    assert as_losses(10 * table - 2, model, -2, 8) == pytest.approx(table)
    theta = np.random.default_rng(1).random((3, 3, 3))
    assert as_losses(theta, model) == pytest.approx(table)
    table[1, 2, 3, 1] = 1.02
    with pytest.raises(ValueError, match=r"loss 1.02 at losses\[1, 2, 3, 1\]"):
        as_losses(table, model)
    with pytest.raises(ValueError, match="losses must have shape"):
        as_losses(table[0], model)


def test_regret_by_enumeration():
    model = linear(H=2, X=3)
    table = losses_of(model, 4)
    played = np.random.default_rng(0).dirichlet(np.ones(2), (4, 2, 3))
    best = min(model.value(pi, table).sum() for pi in all_policies(model))
    ours = sum(model.value(pi, t) for pi, t in zip(played, table, strict=True))
    assert regret_against_best_fixed(model, table, played) == pytest.approx(ours - best)
    with pytest.raises(ValueError, match="policies must be finite"):
        regret_against_best_fixed(model, table, played[:2])


@pytest.mark.parametrize("offset", [0.0, 1.7e9, -1e12])
def test_a_loss_outside_is_refused_whatever_the_offset(offset):
    model = LinearQModel(np.eye(2)[None, None])
    table = offset + np.tile([0.0, 1.0], (5, 1, 1, 1))
    assert as_losses(table, model, offset, offset + 1)[0, 0, 0].tolist() == [0, 1]
    table[3, 0, 0, 1] += 0.01
    with pytest.raises(ValueError, match=r"losses\[3, 0, 0, 1\]"):
        as_losses(table, model, offset, offset + 1)


@pytest.mark.parametrize("policy", [[0.0, 0.0], [2.0, -1.0], [0.5, 0.6], [np.nan, 1.0]])
def test_a_policy_that_is_none(policy):
    model = LinearQModel(np.eye(2)[None, None])
    played = np.tile(policy, (5, 1, 1, 1))
    with pytest.raises(ValueError, match=r"policy must hold probabilities|must be finite"):
        regret_against_best_fixed(model, np.ones((5, 1, 1, 2)), played)
