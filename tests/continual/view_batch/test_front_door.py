import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from whp.certificate import Status, Verdict
from whp.continual import view_batch
from whp.datasets import images


@pytest.fixture(scope="module")
def digits():
    X, y = images.digits()
    kept = np.flatnonzero(y < 4)[:240]
    return X[kept], y[kept]


def test_10_both_see_the_same_images_from_the_same_weights(digits):
    X, y = digits
    hashes = []

    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.body = nn.Linear(64, 4)

        def forward(self, x):
            hashes.append(len(x))
            return self.body(x.flatten(1))

    model = Counting()
    before = model.body.weight.detach().clone()
    found = view_batch(
        X, y, y // 2, model=model, epochs=8, batch_size=8, strategy="finetune", rng=0
    )
    assert torch.equal(model.body.weight, before)  # what was given is copied
    assert not torch.equal(found.model.body.weight, before)
    again = view_batch(
        X, y, y // 2, model=model, epochs=8, batch_size=8, strategy="finetune", views=1, rng=0
    )
    np.testing.assert_array_equal(again.accuracy, again.accuracy_baseline)
    assert again.difference["forgetting"].value == 0


@pytest.mark.parametrize("strategy", ["finetune", "joint", "er", "gem", "lwf", "ewc", "si"])
@pytest.mark.parametrize("scenario", ["class", "task"])
def test_all_strategies_take_views(digits, strategy, scenario):
    X, y = digits
    found = view_batch(
        X,
        y,
        y // 2,
        strategy=strategy,
        scenario=scenario,
        views=2,
        epochs=2,
        batch_size=16,
        memory=20,
        ssl=True,
        warmup=0,
        compare=False,
        rng=0,
    )
    assert found.accuracy.shape == (1, 2, 2)
    assert np.isnan(found.accuracy[0, 0, 1])
    assert np.diag(found.accuracy[0]).min() >= 0
    assert found.certificates[-1].verdict == Verdict.UNMEASURED


def test_seeds_views_and_streams(digits):
    X, y = digits
    found = view_batch(
        X.reshape(-1, 8, 8),
        y,
        y // 2,
        views=4,
        views_on="memory",
        epochs=4,
        batch_size=16,
        memory=20,
        seeds=3,
        strong="affine",
        shuffle="window",
        window=3,
        rng=0,
    )
    assert found.accuracy.shape == (3, 2, 2)
    assert found.difference["forgetting"].n == 3
    new, memory = (found.recall[found.recall["stream"] == s] for s in ("new", "memory"))
    assert (new["views"] == 1).all()
    assert (memory["views"] == 4).all()
    assert (memory["min"] >= memory["C"] - 3 + 1).all()
    both = view_batch(
        X,
        y,
        y // 2,
        epochs=4,
        batch_size=16,
        shuffle="window",
        window=3,
        memory=20,
        rng=0,
        diagnostics=True,
    )
    names = [c.name for c in both.certificates]
    assert names == [
        "minimum-rest",
        "mean-recall",
        "equal-work",
        "effective-batch",
        "view-consistency",
        "forgetting",
    ]
    assert both.certificates[0].verdict in (Verdict.HOLDS, Verdict.UNMEASURED)
    same = view_batch(
        X,
        y,
        y // 2,
        epochs=4,
        batch_size=16,
        weak="none",
        memory=20,
        rng=0,
        diagnostics=True,
        compare=False,
    )
    assert same.certificates[3].verdict == Verdict.VOID  # views that are equal


def test_rotations_share_their_classes(digits):
    X, y = digits
    both = np.concatenate([X, X.reshape(-1, 8, 8).transpose(0, 2, 1).reshape(-1, 64)])
    found = view_batch(
        both,
        np.tile(y, 2),
        np.repeat([0, 1], len(y)),
        epochs=4,
        batch_size=16,
        compare=False,
        rng=0,
    )
    assert found.accuracy[0, 1].shape == (2,)
    assert set(found.artifacts()) == {"arrays.npz", "recall.csv", "model.safetensors"}


def test_saved_weights_can_be_read(digits, tmp_path):
    from safetensors.torch import load_file

    X, y = digits
    found = view_batch(X, y, y // 2, epochs=4, compare=False, rng=0)
    found.artifacts()["model.safetensors"](tmp_path / "model.safetensors")
    state = load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(state[k], v) for k, v in found.model.state_dict().items())
    assert found.plot() is not None
    assert "forgetting" in found.summary()


GOOD = {
    "X": np.random.default_rng(0).random((40, 16)),
    "y": np.arange(40) % 4,
    "task": (np.arange(40) % 4) // 2,
    "epochs": 4,
}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"X": None}, "X"),
        ({"X": 255 * GOOD["X"]}, "divide by 255"),
        ({"X": GOOD["X"] - 1}, "X"),
        ({"X": np.full((40, 16), np.nan)}, "X"),
        ({"X": np.ones(40)}, "X"),
        ({"X": [["a"]]}, "X"),
        ({"X": GOOD["X"][:, :15]}, "weak"),
        ({"y": np.arange(39) % 4}, "y"),
        ({"y": np.full(40, 0.5)}, "y"),
        ({"y": np.arange(40)}, "y must have two rows"),
        ({"task": 2 * GOOD["task"]}, "task"),
        ({"task": np.arange(40) % 4, "scenario": "task"}, "one class"),
        ({"views": 3}, "views must divide"),
        ({"views": 0}, "views"),
        ({"epochs": 2}, "never be seen"),
        ({"views_on": "old"}, "views_on"),
        ({"ssl": 1}, "ssl"),
        ({"ssl_weight": -1}, "ssl_weight"),
        ({"warmup": 2}, "warmup"),
        ({"weak": "strong"}, "weak"),
        ({"strong": 3}, "strong"),
        ({"model": "cnn"}, "model"),
        ({"strategy": "best"}, "strategy"),
        ({"test": 1.0}, "test"),
        ({"seeds": 0}, "seeds"),
        ({"window": 2}, "window"),
        ({"shuffle": "window"}, "window"),
    ],
)
def test_bad_input_is_named_before_anything_is_trained(change, named, monkeypatch):
    from whp.continual.view_batch import runs

    monkeypatch.setattr(runs, "train", lambda *_: pytest.fail("trained"))
    with pytest.raises((ValueError, TypeError), match=named):
        view_batch(**(GOOD | change))


def test_incomplete_cycles_are_told():
    with pytest.warns(UserWarning, match="not a multiple"):
        found = view_batch(**(GOOD | {"epochs": 6, "compare": False, "batch_size": 8, "rng": 0}))
    assert found.certificates[2].verdict == Verdict.VOID


values = st.one_of(st.floats(0, 1), st.none(), st.text(max_size=2), st.floats())


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(values, min_size=4, max_size=4), max_size=6),
    st.lists(st.integers(-1, 2), max_size=6),
    st.lists(st.integers(-1, 2), max_size=6),
)
def test_anything_is_trained_or_refused_by_name(X, y, task):
    told = ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            view_batch(
                X,
                y,
                task,
                epochs=1,
                views=1,
                batch_size=4,
                compare=False,
                strategy="finetune",
                rng=0,
            )
    except (ValueError, TypeError) as error:
        told = str(error)
    assert not told or told.startswith(("X ", "y ", "task "))
