import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from continual_streams import ENDS, A, network, stream, weights
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from whp.certificate import Verdict
from whp.continual import ContinualEvaluator, continual_fit, stability_gap
from whp.continual._stability_gap.first_step import conditions_of
from whp.continual.strategies import STRATEGIES


def test_first_step_verdicts():
    table = pd.DataFrame(
        {
            "task": [0, 1, 1, 2],
            "step": [0, 0, 1, 0],
            "plasticity": 1.0,
            "stability": [0, 0, 0.3, 0.0],
        }
    )
    r = stability_gap(A, ENDS, grads=table)
    assert r.certificates[-1].verdict == Verdict.HOLDS
    table.loc[3, "stability"] = 0.1
    assert stability_gap(A, ENDS, grads=table).certificates[-1].verdict == Verdict.FAILS
    assert (
        stability_gap(A, ENDS, grads=table[table["task"] == 0]).certificates[-1].verdict
        == Verdict.UNMEASURED
    )


@pytest.mark.parametrize("strategy", ["ewc", "si"])
def test_8_the_first_step_is_fine_tuning_bit_for_bit(strategy):
    """After one update of the second task the weights are those of fine-tuning from the same point."""
    train, _ = stream(2)
    states = {}

    class Stop(Exception):
        pass

    for name in (strategy, "finetune"):
        model, count = network(), iter(range(10**6))

        def hook(*_, model=model, name=name, count=count):
            if next(count) == 5 * 6:
                states[name] = weights(model).clone()
                raise Stop

        handle = register_optimizer_step_post_hook(hook)
        try:
            with pytest.raises(Stop):
                continual_fit(model, train, strategy=name, batch_size=10, random_state=0)
        finally:
            handle.remove()
    assert torch.equal(states[strategy], states["finetune"])


def test_8_many_anchors_pull_at_the_third_task():
    train, test = stream()
    fit = continual_fit(
        network(),
        train,
        strategy="ewc",
        online=False,
        strength=10.0,
        record_gradients=True,
        random_state=0,
        batch_size=10,
    )
    first = fit.gradients[fit.gradients["step"] == 0].set_index("task")["stability"]
    assert first[1] == 0
    assert first[2] > 1e-5
    evaluator = ContinualEvaluator(test, random_state=0)
    fit = continual_fit(
        network(),
        train,
        strategy="ewc",
        online=False,
        strength=10.0,
        record_gradients=True,
        random_state=0,
        batch_size=10,
        evaluator=evaluator,
    )
    assert evaluator.result(grads=fit).certificates[-1].verdict == Verdict.FAILS


def test_8_dropout_and_momentum_make_it_void():
    train, _ = stream()
    model = nn.Sequential(nn.Linear(6, 16), nn.Dropout(0.2), nn.ReLU(), nn.Linear(16, 6))
    dropped = continual_fit(model, train, strategy="lwf", record_gradients=True, random_state=0)
    carried = continual_fit(
        network(),
        train,
        strategy="lwf",
        record_gradients=True,
        momentum=0.9,
        reset_optimizer=False,
        lr=0.01,
        random_state=0,
    )
    for fit in (dropped, carried):
        ends = np.array(fit.task_ends)
        accuracy = np.where(np.arange(ends[-1]) >= np.r_[0, ends[:-1]][:, None], 0.5, np.nan)
        assert stability_gap(accuracy, ends, grads=fit).certificates[-1].verdict == Verdict.VOID


def first_step_of(model, strategy="lwf", **options):
    train, _ = stream()
    fit = continual_fit(
        model, train, strategy=strategy, record_gradients=True, random_state=0, **options
    )
    ends = np.array(fit.task_ends)
    accuracy = np.where(np.arange(ends[-1]) >= np.r_[0, ends[:-1]][:, None], 0.5, np.nan)
    return stability_gap(accuracy, ends, grads=fit).certificates[-1]


class Changing(nn.Module):
    """Computes something else in training, in one of many ways."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.first, self.last = nn.Linear(6, 16), nn.Linear(16, 6)
        self.cell = nn.LSTM(16, 16, num_layers=2, dropout=0.5) if how == "lstm" else None
        self.attention = nn.MultiheadAttention(16, 2, dropout=0.5) if how == "attention" else None

    def forward(self, x):
        h = torch.relu(self.first(x))
        if self.cell is not None:
            h = self.cell(h)[0]
        if self.attention is not None:
            h = self.attention(h, h, h)[0]
        if self.how == "functional":
            h = nn.functional.dropout(h, 0.5, self.training)
        if self.how == "noise" and self.training:
            h = h + 1e-4 * torch.randn_like(h)
        return self.last(h)


@pytest.mark.parametrize("how", ["functional", "lstm", "attention", "noise"])
def test_whatever_changes_in_training_is_seen(how):
    assert first_step_of(Changing(how)).verdict is Verdict.VOID


def test_a_dropout_that_drops_nothing_is_none():
    model = nn.Sequential(nn.Linear(6, 16), nn.Dropout(0.0), nn.ReLU(), nn.Linear(16, 6))
    assert first_step_of(model).verdict is Verdict.HOLDS


def test_a_loss_that_never_pulls_says_nothing():
    assert first_step_of(network(), "ewc", strength=0.0).verdict is Verdict.VACUOUS
    assert first_step_of(network(), "finetune").verdict is Verdict.VACUOUS


def test_a_strategy_of_ones_own_is_taken_at_no_word():
    class Own(STRATEGIES["lwf"]):
        still = True

    made = first_step_of(network(), Own())
    assert "centred" in [a.name for a in made.conditions if a.status == "unchecked"]


def test_a_run_that_was_not_made_here_vouches_for_nothing():
    train, _ = stream()
    fit = continual_fit(network(), train, strategy="lwf", record_gradients=True, random_state=0)
    ends = np.array(fit.task_ends)
    accuracy = np.where(np.arange(ends[-1]) >= np.r_[0, ends[:-1]][:, None], 0.5, np.nan)
    for other in (replace(fit, carried=False), copy.copy(fit)):
        made = stability_gap(accuracy, ends, grads=other).certificates[-1]
        assert {str(a.status) for a in made.conditions} == {"unchecked"}
    carried = stability_gap(accuracy, ends, grads=replace(fit, carried=True)).certificates[-1]
    assert carried.verdict is Verdict.VOID


def test_methods_put_into_a_strategy_are_noticed():
    made = STRATEGIES["si"]()
    made.data = lambda k, X, y: (X, y)
    told = first_step_of(network(), made)
    assert "centred" in [a.name for a in told.conditions if a.status == "unchecked"]


def test_every_new_task_needs_its_first_step():
    table = pd.DataFrame({"task": [0, 1, 2], "step": [0, 0, 1], "plasticity": 1.0, "stability": 0})
    with pytest.raises(ValueError, match="step 0 of every task"):
        stability_gap(A, ENDS, grads=table)


def test_nothing_over_nothing_is_no_pull():
    table = pd.DataFrame({"task": [0, 1], "step": 0, "plasticity": [1.0, 0.0], "stability": 0.0})
    assert stability_gap(A, ENDS, grads=table).certificates[-1].measured.value == 0


@pytest.mark.parametrize("strength", [1e-6, 1e-5, 1e-4, 1e-3])
def test_a_weak_anchor_is_not_at_rest(strength):
    """One anchor a task pulls from the first step on, however little: that it did not was "held"."""
    verdict = first_step_of(network(), "ewc", online=False, strength=strength, samples=8).verdict
    assert verdict in (Verdict.FAILS, Verdict.VACUOUS, Verdict.INCONCLUSIVE)


def test_rounding_of_a_strong_distillation_is_no_pull():
    made = first_step_of(network(), "lwf", strength=1e4, lr=5e-6)
    assert made.verdict is Verdict.INCONCLUSIVE
    assert made.measured.low < 1e-6


def test_weights_of_a_table_are_looked_at():
    table = pd.DataFrame(
        {
            "task": [0, 1, 1],
            "step": [0, 0, 1],
            "plasticity": 1.0,
            "stability": [0, 1e-6, 0.3],
            "weight": [1, 1e-5, 1e-5],
        }
    )
    made = stability_gap(A, ENDS, grads=table).certificates[-1]
    assert (made.verdict, made.measured.high) == (Verdict.INCONCLUSIVE, pytest.approx(0.1))
    for wrong in (-1.0, np.nan):
        with pytest.raises(ValueError, match="weights"):
            stability_gap(A, ENDS, grads=table.assign(weight=wrong))


def test_a_table_altered_in_place_is_not_that_of_the_run():
    train, _ = stream(2)
    fit = continual_fit(
        network(), train, strategy="ewc", record_gradients=True, random_state=0, epochs=1
    )
    assert str(conditions_of(fit)[1][0].status) == "met"
    fit.gradients.loc[fit.gradients["step"] == 0, "stability"] = 0.0
    assert str(conditions_of(fit)[1][0].status) == "met"  # it was zero before
    fit.gradients.loc[fit.gradients["step"] == 1, "stability"] = 1.0
    assert str(conditions_of(fit)[1][0].status) == "unchecked"
