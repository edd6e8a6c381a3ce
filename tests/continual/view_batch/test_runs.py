from pathlib import Path

import numpy as np
import pytest
import torch
from pretended import words_of
from torch import nn

from whp.continual import strong_view, weak_view
from whp.continual._view_batch import runs


def setting(**changes):
    given = {
        "strategy": "er",
        "scenario": "class",
        "views": 4,
        "views_on": "both",
        "ssl": False,
        "ssl_weight": 1.0,
        "warmup": 0.25,
        "weak": weak_view,
        "strong": None,
        "epochs": 4,
        "batch_size": 8,
        "lr": 0.05,
        "memory": 20,
    }
    return runs.Setting(**(given | changes))


def parts(n=40, device="cpu"):
    X, y = torch.rand(2 * n, 64, device=device), torch.arange(2 * n, device=device) % 4
    tasks = [(X[y // 2 == k], y[y // 2 == k]) for k in range(2)]
    return tasks, tasks


def test_a_device_that_is_pretended():
    assert words_of(Path(__file__).with_name("on_a_device.py")) == ["done"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no device")
@pytest.mark.parametrize("strategy", ["finetune", "er"])
def test_a_model_is_trained_where_it_is(strategy):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4)).to("cuda")
    made = runs.train(setting(strategy=strategy, strong=strong_view, ssl=True), parts(), model, 0)
    assert runs.device_of(made.model).type == "cuda"
    assert runs.gradients(setting(strategy=strategy), made, 0).batches.shape[1] == 2


def test_a_run_counts_its_images_and_keeps_its_start():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    start = runs.flat(model)
    made = runs.train(setting(), parts(), model, 0)
    np.testing.assert_array_equal(made.start, start)
    np.testing.assert_allclose(made.start + made.moved, runs.flat(made.model))
    assert made.new == 2 * 4 * 40
    assert made.updates == 2 * 20
    assert made.stored == 20 * 8
    base = runs.train(setting().without_views(), parts(), model, 0)
    assert (base.new, base.updates, base.stored) == (made.new, made.updates, made.stored)
    assert base.flipped is None


def test_a_memory_smaller_than_a_step_is_shown_in_one_view():
    made = runs.train(setting(memory=2, batch_size=16), parts(), nn.Linear(64, 4), 0)
    assert [s.views for stream, s in made.schedules if stream == "memory"] == [1]
    streams = runs._Streams(setting(batch_size=16), 0, torch.device("cpu"))
    assert [streams.memory_views(n) for n in (200, 4, 3, 1)] == [4, 4, 1, 1]


def test_the_other_stream_keeps_an_ordinary_order():
    one = setting(views_on="memory", window=2)
    assert runs.order_of(one, "new") == (None, None)
    assert runs.order_of(one, "memory") == (None, 2)
    assert runs.order_of(setting(window=2), "new") == (None, 2)


def head(*layers, width=64):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(width, 4))


@pytest.mark.parametrize(
    ("model", "alone"),
    [
        (head(), True),
        (head(nn.Dropout(0.5)), True),
        (head(nn.LayerNorm(64)), True),
        (head(nn.BatchNorm1d(64)), False),
        (head(nn.BatchNorm1d(64)).eval(), True),
    ],
    ids=["linear", "dropout", "layer norm", "batch norm", "batch norm that is frozen"],
)
def test_scores_that_depend_on_the_batch_are_seen(model, alone, monkeypatch):
    monkeypatch.setattr(runs, "BATCHES", 3)
    made = runs.train(setting(strategy="finetune"), parts(), model, 0)
    before = {k: v.clone() for k, v in made.model.state_dict().items()}
    state = torch.get_rng_state()
    found = runs.gradients(setting(strategy="finetune"), made, 0)
    assert (found.company <= 1e-4) is alone
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(v, before[k]) for k, v in made.model.state_dict().items())
    again = runs.gradients(setting(strategy="finetune"), made, 0)
    np.testing.assert_array_equal(found.batches, again.batches)


class Lifted(nn.Module):
    """Adds as much to the scores of all classes, which changes no loss."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        return self.body(x) + 1e5


def test_a_large_constant_hides_no_batch_norm():
    x = torch.rand(30, 64, generator=torch.Generator().manual_seed(0))
    assert runs.company_of(Lifted(head(nn.BatchNorm1d(64))), x, 0) > 1e-2
    assert runs.company_of(Lifted(head()), x, 0) == 0


def test_dropout_depends_on_the_seed_alone():
    state = torch.get_rng_state()
    data = parts()
    moved = []
    for _ in range(2):
        torch.rand(3)
        moved.append(runs.train(setting(), data, head(nn.Dropout(0.5)), 0).moved)
    np.testing.assert_array_equal(*moved)
    torch.set_rng_state(state)


def test_gradients_are_those_of_the_loss_that_was_trained(monkeypatch):
    """In the task scenario other tasks' classes have no part in it."""
    monkeypatch.setattr(runs, "BATCHES", 3)
    given = setting(scenario="task", strategy="finetune")
    made = runs.train(given, parts(), head(), 0)
    shifted = runs.gradients(given, made, 0)
    with torch.no_grad():
        made.model[1].bias[:2] += 50.0  # classes of the first task
    np.testing.assert_allclose(runs.gradients(given, made, 0).batches, shifted.batches, atol=1e-6)


def test_a_view_that_calls_itself_equal_is_none_of_ours():
    class Equal:
        def __call__(self, x, generator=None):
            return x

        def __eq__(self, other):
            return True

    made = setting(weak=Equal())
    assert not made.built_in
    assert runs.alike(made) is None


def test_arms_without_any_view_are_the_same_training():
    from whp.certificate import Verdict
    from whp.continual._view_batch.forgetting import compared

    given = setting(memory=1, batch_size=16, views_on="memory")
    data = parts()
    ours = [runs.train(given, data, head(), s) for s in range(2)]
    theirs = [runs.train(given.without_views(), data, head(), s) for s in range(2)]
    made = compared(given, ours, theirs, True)
    assert made.verdict is Verdict.VOID
    assert "no image was shown in views" in made.conditions[0].evidence
