import numpy as np
import pytest
import torch
from continual_streams import network, stream
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from whp.certificate import Verdict
from whp.continual import ContinualEvaluator, continual_fit
from whp.continual.strategies import (
    STRATEGIES,
    ElasticWeights,
    GradientEpisodicMemory,
    Memory,
    quadratic_programme,
)

ALL = [*STRATEGIES, "agem"]


@pytest.mark.parametrize("strategy", ALL)
@pytest.mark.parametrize("scenario", ["class", "task", "domain"])
def test_every_strategy_trains_in_every_scenario(strategy, scenario):
    train, test = stream()
    if scenario == "domain":
        train, test = ([(X, y % 2) for X, y in part] for part in (train, test))
    model = network()
    evaluator = ContinualEvaluator(test, scenario=scenario, random_state=0)
    fit = continual_fit(
        model,
        train,
        strategy=strategy,
        scenario=scenario,
        batch_size=10,
        epochs=4,
        evaluator=evaluator,
        record_gradients=True,
        random_state=0,
    )
    assert fit.task_ends == ((24, 48, 72) if strategy != "joint" else (24, 72, 144))
    result = evaluator.result(grads=fit)
    assert result.accuracy[0, fit.task_ends[0] - 1] > 0.8
    assert result.accuracy[-1, -1] > 0.3
    assert len(fit.gradients) == fit.task_ends[-1]
    expected = dict.fromkeys(["lwf", "ewc", "si"], Verdict.HOLDS)
    expected |= dict.fromkeys(["finetune", "joint"], Verdict.VACUOUS)
    step = next(c for c in result.certificates if c.name == "first-step")
    assert step.verdict == expected.get(strategy, Verdict.VOID)


def test_fisher_information_is_that_of_single_rows():
    train, _ = stream(2)
    model = network()
    learner = STRATEGIES["ewc"](strength=1.0, samples=1000)
    learner.setup("class", 10, None, torch.Generator().manual_seed(0))
    X, y = train[0]
    learner.begin(model, 0, X, y)
    learner.end(model, 0, X, y)
    total = [torch.zeros_like(p) for p in model.parameters()]
    for x, label in zip(X, y, strict=True):
        grads = torch.autograd.grad(
            nn.functional.cross_entropy(model(x[None]), label[None]), list(model.parameters())
        )
        total = [t + g.square() / len(y) for t, g in zip(total, grads, strict=True)]
    for ours, expected in zip(learner.anchors[0][0], total, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-8)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.5]))
def test_9_quadratic_programme_by_active_sets(seed, gamma):
    rng = np.random.default_rng(seed)
    H = rng.normal(size=(2, 5))
    P, q = H @ H.T + 1e-3 * np.eye(2), rng.normal(size=2)
    v = quadratic_programme(P, q, gamma)
    best = np.inf
    for active in ((), (0,), (1,), (0, 1)):
        w = np.full(2, gamma)
        free = [i for i in range(2) if i not in active]
        if free:
            w[free] = np.linalg.solve(
                P[np.ix_(free, free)], -q[free] - P[np.ix_(free, active)] @ w[list(active)]
            )
        if (w >= gamma - 1e-12).all():
            best = min(best, 0.5 * w @ P @ w + q @ w)
    assert (v >= gamma - 1e-12).all()
    assert 0.5 * v @ P @ v + q @ v == pytest.approx(best, rel=1e-6, abs=1e-8)


def test_9_projection_does_not_raise_old_losses():
    train, _ = stream()
    model = network()
    learner = GradientEpisodicMemory(gamma=0.0)
    learner.setup("class", 10, None, torch.Generator().manual_seed(0))
    for k, (X, y) in enumerate(train):
        learner.begin(model, k, X, y)
        for _ in range(8):
            model.zero_grad()
            nn.functional.cross_entropy(model(X), y).backward()
            learner.project(model, k)
            if k:
                g = torch.cat([p.grad.flatten() for p in model.parameters()])
                G = learner._old_gradients(model, k)
                assert ((G @ g) >= -1e-3 * (1 + float(g.norm()))).all()
            with torch.no_grad():
                for p in model.parameters():
                    p -= 0.1 * p.grad
        learner.end(model, k, X, y)


def test_memory_is_shared_evenly():
    memory = Memory(10, torch.Generator().manual_seed(0))
    for k, (X, y) in enumerate(stream(3)[0]):
        memory.add(X, y, k)
        assert len(memory) == 10
    counts = torch.bincount(memory.rows()[1])
    assert counts.max() - counts.min() <= 1
    assert set(memory.rows(1)[1].tolist()) <= {2, 3}


def test_elastic_weights_leave_statistics_of_batches_alone():
    """The width of the outputs was looked up in training mode, which one row cannot be."""
    train, _ = stream(2)
    model = network(norm=True)
    ends = []

    class AtTheEnd(ElasticWeights):
        def end(self, model, k, X, y):
            before = [b.clone() for b in model.buffers()]
            super().end(model, k, X, y)
            ends.append(all(map(torch.equal, before, model.buffers())))

    continual_fit(model, train, strategy=AtTheEnd(samples=8), scenario="task", epochs=1)
    assert ends == [True, True]


@pytest.mark.parametrize("strategy", ["lwf", "ewc", "si"])
def test_batch_norms_that_are_frozen_stay_so(strategy):
    """Fine-tuning keeps them in evaluation mode while the rest trains: in the teacher as well."""
    train, _ = stream()
    norm = nn.BatchNorm1d(16)
    model = nn.Sequential(nn.Linear(train[0][0].shape[1], 16), norm, nn.ReLU(), nn.Linear(16, 6))
    with torch.no_grad():
        norm.running_mean += 0.5
        norm.running_var *= 2
    norm.eval()
    mean = norm.running_mean.clone()
    fit = continual_fit(
        model, train, strategy=strategy, lr=0.01, epochs=1, record_gradients=True, random_state=0
    )
    assert model.training
    assert not norm.training
    assert torch.equal(norm.running_mean, mean)
    table = fit.gradients
    first = table[(table["task"] > 0) & (table["step"] == 0)]
    assert (first["stability"] < 1e-5 * first["plasticity"]).all()
