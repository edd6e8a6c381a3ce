import warnings

import numpy as np
import pytest
import torch
from guarantee import assert_error_rate
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

from whp.certificate import Verdict
from whp.continual import (
    Schedule,
    ViewBatchSampler,
    ViewDataset,
    fit_forgetting_curve,
    recall_schedule,
    strong_view,
    view_batch,
    view_batch_loss,
    weak_view,
)
from whp.continual.view_batch import design_effect
from whp.continual.view_batch.guarantee import effective_batch, forgetting, view_consistency
from whp.continual.view_batch.loss import identity, in_views
from whp.continual.view_batch.train import forgetting_of
from whp.datasets import images
from whp.intervals import Estimate

# Schedules


@pytest.mark.parametrize(("views", "cycle"), [(1, 25), (2, 50), (4, 100), (8, 200)])
def test_1_cycles_counts_and_gaps(views, cycle):
    s = recall_schedule(800, 32, views=views, epochs=40, rng=0)
    assert (s.cycle, s.total) == (cycle, 1000)
    assert all(len(step) == 32 // views for step in s.steps)
    assert set(s.counts()) == {40}
    np.testing.assert_array_equal(s.mean_gaps(), cycle)
    assert s.gaps().std() == pytest.approx(np.sqrt((cycle**2 - 1) / 6), rel=0.08)
    assert [c.verdict for c in s.certificates] == [Verdict.VACUOUS, Verdict.HOLDS, Verdict.HOLDS]


@pytest.mark.parametrize(
    ("window", "least", "most"), [(1, 100, 100), (5, 96, 104), (20, 81, 119), (100, 1, 199)]
)
def test_2_windows_bound_every_gap(window, least, most):
    s = recall_schedule(800, 32, views=4, epochs=40, shuffle="window", window=window, rng=0)
    gaps = s.gaps()
    assert gaps.min() >= least
    assert gaps.max() <= most
    if window < 100:
        assert (gaps.min(), gaps.max()) == (least, most)
    rest = s.certificates[0]
    assert rest.bound == 100 - window + 1
    assert rest.verdict == (Verdict.HOLDS if window < 100 else Verdict.VACUOUS)
    assert (
        recall_schedule(800, 32, views=4, epochs=8, shuffle="fixed", rng=0).certificates[0].bound
        == 100
    )


def test_3_share_of_short_gaps():
    short = np.mean(
        [(recall_schedule(800, 32, epochs=40, rng=s).gaps() <= 49).mean() for s in range(40)]
    )
    assert short == pytest.approx(0.1225, abs=0.003)


@pytest.mark.parametrize(("n", "cycle"), [(10, 5), (11, 6), (1, 1), (2, 1)])
def test_4_the_last_step_may_be_short_and_nothing_is_dropped(n, cycle):
    s = recall_schedule(n, 8, views=4, epochs=16, rng=0)
    assert s.cycle == cycle
    assert set(s.counts()) == {16}
    np.testing.assert_array_equal(s.mean_gaps(), cycle)
    for c in range(s.total // cycle):
        one = np.concatenate(s.steps[c * cycle : (c + 1) * cycle])
        assert sorted(one.tolist()) == list(range(n))


def of_steps(steps, n, views, cycle, window=None):
    at = np.repeat(np.arange(len(steps)), [len(s) for s in steps])
    return Schedule(n, np.concatenate(steps), at, views, cycle, window or cycle, len(steps))


def test_4_rounding_down_is_found_out():
    """Only 768 of 800 samples in each cycle, as if the number were rounded down to a multiple of 256."""
    rng = np.random.default_rng(0)
    steps = [part for _ in range(10) for part in np.split(rng.permutation(800)[:768], 96)]
    rounded = of_steps(steps + [np.array([0])] * 40, 800, 4, 100)
    assert [c.verdict for c in rounded.certificates[1:]] == [Verdict.FAILS, Verdict.FAILS]


def test_sampling_with_replacement_and_shards_are_found_out():
    rng = np.random.default_rng(0)
    drawn = of_steps([rng.integers(0, 40, 8) for _ in range(50)], 40, 4, 5)
    assert [c.verdict for c in drawn.certificates[1:]] == [Verdict.FAILS, Verdict.FAILS]
    s = recall_schedule(80, 8, views=4, epochs=16, shuffle="window", window=2, rng=0)
    reordered = [s.steps[i] for i in rng.permutation(s.total)]
    assert of_steps(reordered, 80, 4, s.cycle, 2).certificates[0].verdict == Verdict.FAILS


def test_runs_that_end_inside_a_cycle_are_void():
    s = recall_schedule(100, 8, views=4, epochs=6, rng=0)
    assert s.certificates[2].verdict == Verdict.VOID
    assert s.certificates[1].verdict == Verdict.VOID
    once = recall_schedule(100, 8, views=4, epochs=4, shuffle="fixed", rng=0)
    assert once.certificates[0].verdict == Verdict.UNMEASURED


@settings(max_examples=80, deadline=None)
@given(
    st.integers(1, 60),
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(1, 3),
    st.integers(0, 100),
    st.data(),
)
def test_any_schedule_keeps_its_promises(n, log_views, log_distinct, cycles, seed, data):
    views, distinct = 2**log_views, 2**log_distinct
    cycle = -(-n // distinct)
    window = data.draw(st.integers(1, cycle))
    s = recall_schedule(
        n,
        views * distinct,
        views=views,
        epochs=views * cycles,
        shuffle="window",
        window=window,
        rng=seed,
    )
    assert s.cycle == cycle
    assert set(s.counts()) == {views * cycles}
    gaps = s.gaps()
    assert len(gaps) == n * (cycles - 1)
    if cycles > 1:
        assert gaps.min() >= cycle - window + 1
        assert gaps.max() <= cycle + window - 1
        np.testing.assert_allclose(s.mean_gaps(), cycle)
    brute, last = [], {}
    for step, samples in enumerate(s.steps):
        for i in samples.tolist():
            if i in last:
                brute.append(step - last[i])
            last[i] = step
    assert sorted(brute) == sorted(gaps.tolist())


def test_a_million_samples_are_quick():
    import time

    recall_schedule(10, 2, views=2, epochs=4).gaps()
    start = time.perf_counter()
    s = recall_schedule(1_000_000, 32, views=4, epochs=40, rng=0)
    assert s.gaps().mean() == pytest.approx(s.cycle)
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"n": 0}, "n "),
        ({"batch_size": 0}, "batch_size"),
        ({"views": 0}, "views"),
        ({"views": 3}, "views must divide"),
        ({"epochs": 2}, "50% of the samples would never be seen"),
        ({"shuffle": "random"}, "shuffle"),
        ({"shuffle": "window"}, "window"),
        ({"shuffle": "window", "window": 0}, "window"),
        ({"shuffle": "window", "window": 101}, "window"),
        ({"window": 5}, "window"),
    ],
)
def test_bad_schedules_are_named(change, named):
    with pytest.raises((ValueError, TypeError), match=named):
        recall_schedule(**({"n": 800, "batch_size": 32, "views": 4, "epochs": 8} | change))


# The sampler


def test_10_one_view_is_the_ordinary_loader():
    sampler = ViewBatchSampler(20, 4, views=1, epochs=3, seed=1)
    batches = list(sampler)
    assert len(batches) == len(sampler) == 15
    assert all(v == 0 for batch in batches for _, v in batch)
    for e in range(3):
        assert sorted(i for batch in batches[5 * e : 5 * e + 5] for i, _ in batch) == list(
            range(20)
        )
    logits, y = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    total, supervised, divergence = view_batch_loss(logits, y, 1)
    assert torch.equal(total, functional.cross_entropy(logits, y))
    assert torch.equal(supervised, total)
    assert float(divergence) == 0


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_with_workers_delivers_the_schedule(workers):
    X, y = torch.rand(40, 64), torch.arange(40)
    sampler = ViewBatchSampler(40, 8, views=4, epochs=8, shuffle="window", window=3, seed=0)
    loader = DataLoader(
        ViewDataset(X, y, weak=identity, strong=weak_view),
        batch_sampler=sampler,
        num_workers=workers,
    )
    seen = []
    for x, labels in loader:
        assert labels.tolist() == [i for i in labels[::4].tolist() for _ in range(4)]
        torch.testing.assert_close(x[::4], X[labels[::4]])
        assert not torch.allclose(x[1], x[2])
        seen.append(labels[::4].numpy())
    log = sampler.log
    assert [s.tolist() for s in log.steps] == [s.tolist() for s in seen]
    assert [c.verdict for c in log.certificates] == [Verdict.HOLDS] * 3
    assert sampler.epoch_of(log.total) == 8


def test_10_a_resumed_sampler_goes_on_with_the_same_samples():
    whole = list(ViewBatchSampler(30, 6, views=3, epochs=6, seed=4))
    first = ViewBatchSampler(30, 6, views=3, epochs=6, seed=4)
    iterator = iter(first)
    begun = [next(iterator) for _ in range(11)]
    again = ViewBatchSampler(30, 6, views=3, epochs=6, seed=99)
    again.load_state_dict(first.state_dict(steps=9))
    assert begun == whole[:11]
    assert list(again) == whole[9:]
    with pytest.raises(ValueError, match="30 samples"):
        ViewBatchSampler(31, 6, views=3, epochs=6).load_state_dict(first.state_dict())
    with pytest.raises(ValueError, match="equally long"):
        ViewDataset(torch.rand(3, 4), torch.arange(2), weak=identity)


# Views and their loss


def test_6_divergence_of_known_views():
    p = torch.log(
        torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.6, 0.1, 0.3]], dtype=torch.float64)
    )
    assert float(view_batch_loss(p, torch.tensor([0, 0, 0]), 3)[2]) == pytest.approx(
        0.1108982, abs=1e-7
    )
    assert float(view_batch_loss(p[:2], torch.tensor([0, 0]), 2)[2]) == pytest.approx(
        0.0851228, abs=1e-7
    )
    total, supervised, divergence = view_batch_loss(p, torch.tensor([0, 0, 0]), 3, weight=2.0)
    assert float(total) == pytest.approx(float(supervised + 2 * divergence))
    assert float(view_batch_loss(p, torch.tensor([0, 0, 0]), 3, ssl=False)[2]) == 0
    consistent = view_consistency(p[None].numpy(), 3)
    assert consistent.inputs["share that may flip"] == 0.5  # margin 0.5 against 0.4126 and 0.5228


def test_7_gradients():
    z = torch.tensor([[2.0, 0, -1], [1, 0.5, 0]], requires_grad=True)
    divergence = view_batch_loss(z, torch.tensor([0, 0]), 2)[2]
    divergence.backward()
    assert float(divergence.detach()) == pytest.approx(0.2551107, abs=1e-6)
    np.testing.assert_allclose(z.grad, [[0, 0, 0], [-0.3373, 0.1930, 0.1443]], atol=1e-4)


def test_zero_probabilities_give_no_nan():
    z = torch.tensor([[1e4, 0, 0], [0.0, 1e4, 0]], requires_grad=True)
    total = view_batch_loss(z, torch.tensor([0, 0]), 2)[0]
    total.backward()
    assert torch.isfinite(total)
    assert torch.isfinite(z.grad).all()


@pytest.mark.parametrize("shape", [(5, 64), (5, 1, 8, 8), (5, 3, 10, 6)])
def test_views_keep_shape_and_range(shape):
    x = torch.rand(shape)
    for view in (weak_view, strong_view):
        a, b = (view(x, torch.Generator().manual_seed(0)) for _ in range(2))
        assert a.shape == x.shape
        assert torch.equal(a, b)
        assert a.min() >= 0
        assert a.max() <= 1 + 1e-5
        assert not torch.allclose(a, view(x, torch.Generator().manual_seed(1)))
    views = in_views(x, 3, identity, strong_view, torch.Generator().manual_seed(0))
    assert views.shape == (15, *shape[1:])
    assert torch.equal(views[::3], x)
    with pytest.raises(ValueError, match="square"):
        weak_view(torch.rand(2, 10))


def test_a_view_that_moves_nothing_changes_nothing():
    from whp.continual.view_batch.loss import affine

    x = torch.rand(4, 1, 9, 9)
    same = affine(x, torch.Generator().manual_seed(0), degrees=0, scale=0, shear=0, shift=0)
    torch.testing.assert_close(same, x, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: view_batch_loss(torch.rand(5, 3), torch.arange(5) % 3, 2), "logits"),
        (lambda: view_batch_loss(torch.rand(4, 3), torch.arange(5) % 3, 2), "logits"),
        (lambda: view_batch_loss(torch.rand(4, 3), torch.arange(4) % 3, 0), "views"),
        (lambda: view_batch_loss(torch.rand(4, 3), torch.arange(4) % 3, 2, weight=-1), "weight"),
    ],
)
def test_bad_losses_are_named(make, named):
    with pytest.raises((ValueError, TypeError), match=named):
        make()


# Certificates


def test_5_design_effect():
    rng = np.random.default_rng(0)
    n, B, sigma = 800, 32, 1.5
    mu = rng.normal(size=n)
    for views in (1, 2, 4, 8):
        d = B // views
        chosen = np.stack([rng.choice(n, d, replace=False) for _ in range(20_000)])
        drawn = mu[chosen].mean(axis=1) + sigma / np.sqrt(B) * rng.normal(size=20_000)
        assert drawn.var() == pytest.approx(
            design_effect(n, B, views, mu.var(ddof=1), sigma**2)[0], rel=0.04
        )
    rho = 1 / (1 + sigma**2)
    factors = [np.divide(*design_effect(10**9, B, v, 1.0, sigma**2)) for v in (2, 4, 8)]
    np.testing.assert_allclose(factors, [1 + (v - 1) * rho for v in (2, 4, 8)], rtol=1e-6)
    assert np.divide(*design_effect(n, B, 4, 1.0, 0.0)) == pytest.approx((n * 4 - B) / (n - B))


def test_effective_batch_verdicts():
    near = Estimate(2.0, 1.8, 2.2)
    assert effective_batch(near, 800, 32, 4, {}, True).verdict == Verdict.HOLDS
    assert effective_batch(Estimate(9.0, 8.0, 10.0), 800, 32, 4, {}, True).verdict == Verdict.FAILS
    assert effective_batch(near, 800, 32, 4, {}, False).verdict == Verdict.VOID
    assert effective_batch(None, 800, 32, 4, {}, None).verdict == Verdict.UNMEASURED


def test_effective_batch_error_rate():
    """Bootstrap limits of the variance ratio, where the truth is the bound itself (views are copies)."""
    n, B, V = 400, 16, 4

    def instance(rng):
        mu = rng.normal(size=n)
        drawn = np.stack(
            [[mu[rng.choice(n, B // v, replace=False)].mean() for _ in range(150)] for v in (V, 1)]
        )
        ratio = drawn.var(axis=1, ddof=1)
        again = [drawn[:, rng.integers(0, 150, 150)].var(axis=1, ddof=1) for _ in range(200)]
        low, high = np.quantile([a / b for a, b in again], [0.025, 0.975])
        value = ratio[0] / ratio[1]
        return effective_batch(
            Estimate(value, min(low, value), max(high, value)), n, B, V, {}, True
        )

    assert_error_rate(instance, 0.05, n=300)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.1, 5))
def test_8_no_flip_outside_the_bound(seed, spread):
    rng = np.random.default_rng(seed)
    z = spread * rng.normal(size=(500, 1, 10)) + rng.normal(size=(500, 3, 10))
    log_p = z - np.log(np.exp(z).sum(axis=2, keepdims=True))
    assert view_consistency(log_p, 3).verdict == Verdict.HOLDS


def test_8_a_divergence_averaged_over_classes_is_found_out():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(2000, 1, 10)) + 0.5 * rng.normal(size=(2000, 2, 10))
    log_p = z - np.log(np.exp(z).sum(axis=2, keepdims=True))
    p = np.exp(log_p[:, :1])
    divergence = (p * (log_p[:, :1] - log_p[:, 1:])).sum(axis=2)
    assert view_consistency(log_p, 2, divergence).verdict == Verdict.HOLDS
    assert view_consistency(log_p, 2, divergence / 10).verdict == Verdict.FAILS


def test_forgetting_verdicts():
    assert forgetting(None, 1).verdict == Verdict.UNMEASURED
    assert forgetting(Estimate(-0.1, -0.2, -0.05), 5).verdict == Verdict.HOLDS
    assert forgetting(Estimate(0.1, 0.05, 0.2), 1).verdict == Verdict.FAILS
    A = np.array([[0.9, np.nan, np.nan], [0.95, 0.8, np.nan], [0.7, 0.6, 0.9]])
    assert forgetting_of(A) == pytest.approx((0.25 + 0.2) / 2)


# The forgetting curve


def curve(I, t, A=0.95, b=0.02, c=0.3, d=5.707110264748875):  # noqa: E741
    return A * (b * t + 1) ** -(1 + c * (np.log1p(I) - d) ** 2)


def test_9_the_curve_returns_its_parameters():
    I, t = np.repeat([75.0, 150, 300, 600], 6), np.tile([0.0, 10, 30, 100, 300, 1000], 4)  # noqa: E741
    expected = {
        1000: (0.008018, 0.029292, 0.045238, 0.029231),
        100: (0.169607, 0.270700, 0.316667, 0.270496),
    }
    for when, values in expected.items():
        np.testing.assert_allclose(curve(np.array([75.0, 150, 300, 600]), when), values, atol=1e-6)
    fit = fit_forgetting_curve(I, t, curve(I, t), resamples=20)
    assert (fit.A, fit.b, fit.c) == pytest.approx((0.95, 0.02, 0.3), abs=1e-6)
    assert fit.best_interval.value == pytest.approx(300, abs=1e-3)
    np.testing.assert_allclose(fit(I, t), curve(I, t), atol=1e-8)


def test_9_no_best_interval_where_there_is_none():
    I, t = np.repeat([75.0, 150, 300, 600], 6), np.tile([0.0, 10, 30, 100, 300, 1000], 4)  # noqa: E741
    flat = fit_forgetting_curve(I, t, curve(I, t, c=0.0), resamples=0)
    assert flat.best_interval is None
    assert "interval" in flat.reason
    outside = fit_forgetting_curve(I, t, curve(I, t, d=np.log(5001)), resamples=0)
    assert outside.best_interval is None
    assert "outside" in outside.reason


def test_the_interval_of_the_best_one_covers_it():
    I, t = np.repeat([75.0, 150, 300, 600, 1200], 6), np.tile([0.0, 10, 30, 100, 300, 1000], 5)  # noqa: E741
    covered = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        seen = rng.binomial(2000, curve(I, t)) / 2000
        fit = fit_forgetting_curve(I, t, seen, n=np.full(30, 2000.0), resamples=60, rng=seed)
        covered += (
            fit.best_interval is not None and fit.best_interval.low <= 300 <= fit.best_interval.high
        )
    assert covered >= 15


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"interval": [1.0, 1, 2, 2]}, "interval"),
        ({"elapsed": [-1.0, 1, 2, 3]}, "elapsed"),
        ({"retention": [1.5, 1, 1, 1]}, "retention"),
        ({"retention": [1.0, 1, 1]}, "retention"),
    ],
)
def test_bad_curves_are_named(change, named):
    good = {
        "interval": [1.0, 2, 3, 4],
        "elapsed": [1.0, 2, 3, 4],
        "retention": [1.0, 0.9, 0.8, 0.7],
    }
    with pytest.raises((ValueError, TypeError), match=named):
        fit_forgetting_curve(**(good | change))


# The front door


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
