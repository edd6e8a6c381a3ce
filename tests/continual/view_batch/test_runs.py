import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
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
    script = Path(__file__).with_name("on_a_device.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "done\n"


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
