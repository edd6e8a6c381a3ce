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
    assert again.certificates[-1].verdict is Verdict.VOID


@pytest.mark.parametrize("strategy", ["finetune", "joint", "er", "gem", "agem", "lwf", "ewc", "si"])
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
        memory=21 if strategy in ("er", "gem", "agem") else None,
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
    assert names == ["minimum-rest", "mean-recall", "equal-work", "effective-batch", "forgetting"]
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


def test_what_was_read_as_something_else_is_said():
    random = np.random.default_rng(0)
    X = random.integers(0, 256, (80, 8, 6, 3), dtype=np.uint8)
    y, month = np.array(["cat", "dog"])[np.arange(80) % 2], np.repeat(["2023-01", "2023-02"], 40)
    found = view_batch(X, y, month, epochs=8, batch_size=8, window=2, compare=False, rng=0)
    assert found.accuracy.shape == (1, 2, 2)
    assert found.summary()["read_as"] == (
        "bytes as shares of 255; the last axis as channels; classes cat, dog as 0 to 1; "
        "tasks 2023-01, 2023-02 as 0 to 1"
    )
    assert [str(c.verdict) for c in found.certificates[:3]] == ["holds"] * 3


def test_tasks_and_classes_may_be_numbered_from_anywhere(digits):
    X, y = digits
    given = {"epochs": 4, "strategy": "finetune", "compare": False, "rng": 0}
    plain = view_batch(X, y, y // 2, **given)
    other = view_batch(X, 1000 * y + 1, y // 2 + 1, **given)
    np.testing.assert_array_equal(plain.accuracy, other.accuracy)
    sizes = [[p.shape for p in f.model.parameters()] for f in (plain, other)]
    assert sizes[0] == sizes[1]


def test_an_ordinary_good_run_holds(digits):
    X, y = digits
    found = view_batch(X, y, y // 2, epochs=8, batch_size=8, window=8, memory=20, rng=0)
    by_name = {c.name: c for c in found.certificates}
    for name in ("minimum-rest", "mean-recall", "equal-work"):
        assert by_name[name].headline == "holds"
        assert by_name[name].conditions[0].status is Status.BY_CONSTRUCTION
    assert by_name["forgetting"].verdict is Verdict.UNMEASURED  # of one run
    assert "6 runs" in by_name["forgetting"].needs


def test_several_runs_are_counted(digits):
    X, y = digits
    given = {"batch_size": 8, "strategy": "finetune", "epochs": 2, "views": 2, "rng": 0}
    found = view_batch(X[:80], y[:80], y[:80] // 2, seeds=3, **given)
    judged = found.certificates[-1]
    assert judged.measured.method == "Clopper-Pearson"
    assert judged.measured.n == 3
    assert judged.verdict in (Verdict.INCONCLUSIVE, Verdict.VOID)


@pytest.mark.parametrize("change", [{"views": 1}, {"lr": 1e-12}], ids=str)
@pytest.mark.parametrize("seeds", [1, 2])
def test_identical_arms_prove_nothing(digits, change, seeds):
    X, y = digits
    given = {"epochs": 4, "batch_size": 8, "strategy": "finetune", "seeds": seeds, "rng": 0}
    judged = view_batch(X[:80], y[:80], y[:80] // 2, **(given | change)).certificates[-1]
    assert judged.verdict is Verdict.VOID
    assert judged.name == "forgetting"


def test_a_strategy_of_ones_own_leaves_no_state_and_makes_nothing_certain(digits):
    from whp.continual import Strategy

    class Skipping(Strategy):
        calls = 0

        def losses(self, model, x, y, k):
            self.calls += 1
            return super().losses(model, x, y, k)

    X, y = digits
    own = Skipping()
    given = {"epochs": 4, "batch_size": 8, "compare": False, "rng": 0}
    found = view_batch(X, y, y // 2, strategy=own, **given)
    assert own.calls == 0
    for c in found.certificates[:3]:
        assert c.conditions[0].status is Status.UNCHECKED


def test_views_of_ones_own_are_tested_and_not_taken_for_alike(digits):
    X, y = digits
    given = {"epochs": 4, "batch_size": 8, "strategy": "finetune", "compare": False, "rng": 0}

    def weak(x, generator):
        return x + 0.01 * torch.rand(x.shape, generator=generator)

    def strong(x, generator):
        return x + torch.rand(x.shape, generator=generator)

    statuses = {}
    for name, views in {"weak": {"weak": weak}, "strong": {"weak": weak, "strong": strong}}.items():
        made = view_batch(X, y, y // 2, diagnostics=True, **views, **given).certificates[3]
        statuses[name] = made.conditions[0].status
        assert made.name == "effective-batch"
    assert statuses == {"weak": Status.NOT_REFUTED, "strong": Status.VIOLATED}
    mixed = view_batch(X, y, y // 2, diagnostics=True, strong="affine", **given).certificates[3]
    assert mixed.verdict is Verdict.VOID
    assert mixed.measured is not None


def test_views_that_lose_images_are_named_and_others_make_nothing_certain(digits):
    X, y = digits
    given = {"epochs": 4, "batch_size": 8, "strategy": "finetune", "rng": 0}
    with pytest.raises(ValueError, match="as many images"):
        view_batch(X, y, y // 2, weak=lambda x, g: x[1:], **given)
    found = view_batch(X, y, y // 2, weak=lambda x, g: x.flip(0), **given)
    statuses = {c.name: [a.status for a in c.conditions] for c in found.certificates}
    for name in ("minimum-rest", "mean-recall", "equal-work"):
        assert statuses[name][0] is Status.UNCHECKED
    assert statuses["forgetting"][2] is Status.UNCHECKED


def test_runs_from_the_weights_of_one_model_are_not_independent_by_construction(digits):
    X, y = digits
    given = {"epochs": 4, "batch_size": 8, "strategy": "finetune", "rng": 0}
    judged = view_batch(X, y, y // 2, model=nn.Linear(64, 4), **given).certificates[-1]
    assert judged.conditions[2].status is Status.UNCHECKED
    plain = view_batch(X, y, y // 2, **given).certificates[-1]
    assert plain.conditions[2].status is Status.BY_CONSTRUCTION


def test_images_of_one_colour_are_no_copies():
    X = np.zeros((80, 8, 8), np.float32)
    X[::2, 2:6, 2:6] = 1.0  # half of the images are black, and so are all of their views
    y = np.arange(80) % 4
    made = view_batch(
        X, y, y // 2, epochs=4, batch_size=8, diagnostics=True, compare=False, rng=0
    ).certificates[3]
    assert made.conditions[1].status is Status.MET


def test_rows_that_a_strategy_projects_on_are_no_views(digits):
    """A memory of GEM has an odd number of rows, which no tie of views may be laid on."""
    X, y = digits
    given = {"strategy": "gem", "memory": 21, "epochs": 4, "batch_size": 8, "compare": False}
    found = view_batch(X, y, y // 2, ssl=True, warmup=0, rng=0, **given)
    assert np.isfinite(np.diag(found.accuracy[0])).all()


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
        ({"task": GOOD["task"][:-1]}, "task"),
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
        ({"window": 2, "shuffle": "full"}, "window"),
        ({"window": 99}, "window must be in .* for task 0 of 16 rows"),
        ({"memory": 20, "strategy": "finetune"}, "memory"),
        ({"ssl_weight": 1.0}, "ssl_weight goes with ssl=True"),
        ({"warmup": 0.5}, "warmup goes with ssl=True"),
        ({"views": 1, "diagnostics": True}, "diagnostics"),
        ({"views": 1, "ssl": True}, "ssl"),
        ({"views": 1, "strong": "affine"}, "strong"),
        ({"views_on": "memory", "strategy": "gem"}, "views_on"),
        ({"lr": 0.0}, "lr"),
        ({"lr": float("inf")}, "lr"),
        ({"model": nn.Linear(16, 3)}, "model must give logits of 4 classes"),
        ({"model": nn.Linear(15, 4)}, "model must take images"),
        ({"model": nn.Identity()}, "model must have parameters"),
        ({"shuffle": "window"}, "window"),
    ],
)
def test_bad_input_is_named_before_anything_is_trained(change, named, monkeypatch):
    from whp.continual._view_batch import runs

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


def test_a_batch_of_one_image_is_refused_where_the_model_cannot_take_it(monkeypatch):
    """Of 33 rows batches of 32 leave one, of which batch norm has no statistics."""
    from whp.continual._view_batch import runs

    X, y = np.random.default_rng(0).random((43, 16)), np.arange(43) % 2
    model = nn.Sequential(nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    given = {"weak": "none", "views": 2, "epochs": 4, "strategy": "finetune", "rng": 0}
    with monkeypatch.context() as patched:
        patched.setattr(runs, "train", lambda *_: pytest.fail("trained"))
        with pytest.raises(
            ValueError, match=r"batch_size=32 leaves a batch of one image of task 0"
        ):
            view_batch(X, y, 0 * y, model=model, test=0.22, **given)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    alone = view_batch(X, y, 0 * y, model=model, test=0.22, compare=False, **given)
    assert alone.summary()["forgetting"] == "there was one task"
    view_batch(X, y, 0 * y, model=nn.Linear(16, 2), test=0.22, **given)
