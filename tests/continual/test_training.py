import numpy as np
import pytest
import torch
from continual_streams import network, stream

from whp.continual import continual_fit


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"strategy": "none"}, "strategy"),
        ({"memory": 0}, "memory"),
        ({"gamma": 0.5}, "strategy 'er'"),
        ({"scenario": "online"}, "scenario"),
        ({"lr": -1}, "lr"),
        ({"epochs": 0}, "epochs"),
        ({"tasks": []}, "tasks"),
        ({"tasks": [(np.ones((3, 2)), [0, 1])]}, "tasks"),
        ({"tasks": [(np.full((2, 2), np.nan), [0, 1])]}, "tasks"),
        ({"tasks": [(np.ones((2, 2)), [0.5, 1.0])]}, "tasks"),
        ({"tasks": 3}, "tasks"),
        ({"model": "mlp"}, "model"),
    ],
)
def test_bad_training_is_named(change, named):
    good = {"model": network(), "tasks": stream()[0], "strategy": "er"}
    with pytest.raises((ValueError, TypeError), match=named):
        continual_fit(**(good | change))


def test_a_diverging_loss_says_where():
    with pytest.raises(FloatingPointError, match="update"):
        continual_fit(
            network(), [(1e30 * X, y) for X, y in stream()[0]], strategy="finetune", lr=1e6
        )


def test_a_task_of_one_class_is_refused_where_tasks_are_named():
    with pytest.raises(ValueError, match="one class"):
        continual_fit(
            network(), [(torch.rand(4, 6), torch.zeros(4, dtype=torch.int64))], scenario="task"
        )
