import copy

import numpy as np
import pandas as pd
import pytest
import torch
from guarantee import assert_error_rate
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from whp.certificate import Verdict
from whp.continual import ContinualEvaluator, continual_fit, stability_gap
from whp.continual.stability_gap import Curves, count_interval, metrics, paired_limits, windowed
from whp.continual.stability_gap.guarantee import band_audit, hidden_drop
from whp.continual.stability_gap.intervals import Limits
from whp.continual.stability_gap.outcomes import Audit, Outcomes
from whp.continual.strategies import STRATEGIES, GradientEpisodicMemory, Memory, quadratic_programme

NAN = np.nan
A = np.array(
    [
        [0.2, 0.6, 0.9, 0.95, 0.4, 0.5, 0.8, 0.85, 0.3, 0.7, 0.75, 0.8],
        [NAN] * 4 + [0.1, 0.5, 0.9, 0.92, 0.6, 0.7, 0.88, 0.9],
        [NAN] * 8 + [0.2, 0.7, 0.85, 0.96],
    ]
)
ENDS = [4, 8, 12]


# The metrics


def test_1_all_metrics_of_a_small_run():
    r = stability_gap(A, ENDS, windows=(2, 3, 5, 12))
    assert r.acc.value == pytest.approx(0.886667, abs=1e-6)
    assert r.forg.value == pytest.approx(0.085)
    assert r.min_acc_task.tolist() == [0.3, 0.6]
    assert r.min_acc.value == pytest.approx(0.45)
    assert r.wc_acc.value == pytest.approx(0.62)
    np.testing.assert_allclose(
        r.wc_curve[4:], [0.25, 0.45, 0.65, 0.66, 0.366667, 0.533333, 0.583333, 0.62], atol=1e-6
    )
    np.testing.assert_allclose(
        r.acc_curve[4:], [0.25, 0.5, 0.85, 0.885, 0.366667, 0.7, 0.826667, 0.886667], atol=1e-6
    )
    assert [r.wf[w].value for w in (2, 3, 5, 12)] == pytest.approx(
        [0.29, 0.29, 0.29, 0.323333], abs=1e-6
    )
    assert [r.wp[w].value for w in (2, 3, 5, 12)] == pytest.approx(
        [0.433333, 0.716667, 0.776667, 0.776667], abs=1e-6
    )
    first = r.gaps.iloc[0]
    assert (first["before"], first["minimum"], first["iteration"], first["after"]) == (
        0.95,
        0.4,
        5,
        0.85,
    )
    assert first["drop"] == pytest.approx(0.55)
    assert first["recovery"] == pytest.approx(0.45)


def test_2_coarse_evaluation_hides_it():
    two = stability_gap(A, ENDS, every=2)
    assert two.min_acc_task.tolist() == [0.5, 0.7]
    assert two.wc_acc.value == pytest.approx(0.72)
    four = stability_gap(A, ENDS, every=4)
    assert four.wc_acc.value == pytest.approx(four.acc.value)
    columns = stability_gap(A[:, 1::2], ENDS, every=2)
    assert columns.wc_acc.value == two.wc_acc.value


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.integers(2, 25))
def test_windows_against_all_pairs(a, window):
    a = np.array(a)
    fall, rise = windowed(a, window)
    pairs = [(s, t) for t in range(len(a)) for s in range(max(0, t - window + 1), t)]
    for x in range(len(a)):
        some = [a[s] - a[t] for s, t in pairs if t <= x]
        assert fall[x] == pytest.approx(max([0.0, *some]))
        assert rise[x] == pytest.approx(max([0.0, *(-d for d in some)]))


def curves_of(seed, K=3, steps=8):
    rng = np.random.default_rng(seed)
    T = K * steps
    accuracy = np.where(np.arange(T) >= np.arange(K)[:, None] * steps, rng.random((K, T)), np.nan)
    return accuracy, [steps * (k + 1) for k in range(K)]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_10_inequalities_and_invariances(seed):
    accuracy, ends = curves_of(seed)
    r = stability_gap(accuracy, ends, windows=(3, 5, 24))
    assert (r.wc_curve <= r.acc_curve + 1e-12).all()
    assert r.wf[3].value <= r.wf[5].value <= r.wf[24].value
    assert r.wf[24].value <= np.ceil(23 / 2) * r.wf[3].value + 1e-12
    upside = stability_gap(1 - accuracy, ends, windows=(3, 5, 24))
    for w in (3, 5, 24):
        assert upside.wf[w].value == pytest.approx(r.wp[w].value)
    lower = stability_gap(accuracy / 2, ends, windows=(3,))
    raised = stability_gap(accuracy / 2 + 0.3, ends, windows=(3,))
    assert raised.wf[3].value == pytest.approx(lower.wf[3].value)
    np.testing.assert_allclose(raised.gaps["drop"], lower.gaps["drop"])
    coarse = stability_gap(accuracy, ends, every=4)
    assert stability_gap(accuracy, ends, every=2).wc_acc.value <= coarse.wc_acc.value + 1e-12
    assert r.certificates[-1].verdict == Verdict.HOLDS
    found = metrics(Curves(accuracy, np.arange(1, 25), np.array([7, 15, 23])), (3,))
    assert found.wf[3] == r.wf[3].value
    table = r.to_frame()
    again = stability_gap(table, windows=(3, 5, 24))
    assert again.wc_acc.value == r.wc_acc.value
    assert again.task_ends.tolist() == ends


# Intervals


def test_3_clopper_pearson_at_a_small_level():
    level = 0.05 / 2500 / 2
    low, high = count_interval([0, 5, 900], 1000, level)
    np.testing.assert_allclose(low, [0, 0.000273094, 0.8540432], rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(high, [0.0114469, 0.0223414, 0.9358866], rtol=1e-5)
    low, high = count_interval(180, 200, level)
    assert (float(low), float(high)) == pytest.approx((0.7825817, 0.9675354), abs=1e-7)


def test_4_hypergeometric():
    level = 0.05 / 625 / 2
    for count, expected in ((180, (0.804, 0.957)), (0, (0, 0.044))):
        assert tuple(
            float(v) for v in count_interval(count, 200, level, 1000, "set")
        ) == pytest.approx(expected)
    assert tuple(float(v) for v in count_interval(50, 100, 0.025, 200, "set")) == pytest.approx(
        (0.43, 0.57)
    )
    assert [float(v) for v in count_interval(50, 100, 0.025, 100, "set")] == [0.5, 0.5]


def test_4_hypergeometric_by_brute_force():
    from scipy.stats import hypergeom

    n, N, level = 7, 20, 0.02
    for count in range(n + 1):
        possible = [
            K
            for K in range(N + 1)
            if hypergeom.sf(count - 1, N, K, n) > level and hypergeom.cdf(count, N, K, n) > level
        ]
        low, high = count_interval(count, n, level, N, "set")
        assert (round(float(low) * N), round(float(high) * N)) == (min(possible), max(possible))


def test_5_a_redrawn_subset_is_biased_and_a_fixed_one_is_not():
    rng = np.random.default_rng(0)
    redrawn = rng.binomial(1000, 0.9, (2000, 500)).min(axis=1).mean() / 1000
    assert redrawn == pytest.approx(0.870127, abs=5e-4)
    right = rng.random(100) < 0.9
    same = [np.tile(right, (6, 1)), np.tile(right, (3, 1))]
    fixed = stability_gap(None, [3, 6], correct=same)
    assert fixed.min_acc.value == right.mean()


def dipping(rng, rows, T=60, N=400):
    dip = 0.9 - 0.5 * np.exp(-(((np.arange(T) - 20) / 6) ** 2))
    hardness = rng.random(N)
    return (hardness[None] + 0.15 * rng.normal(size=(T, N))) < dip[:, None], hardness


def test_6_error_rate_of_the_band():
    def instance(rng):
        correct, _ = dipping(rng, 100)
        chosen = rng.permutation(400)[:100]
        curves = Curves(correct[:, chosen].mean(axis=1)[None], np.arange(1, 61), np.array([59]))
        limits = Limits(curves, (100,), (400,), "set", 0.05, True)
        full = tuple((0, t, float(correct[t].mean())) for t in range(60))
        return band_audit(limits, Audit(full))

    assert_error_rate(instance, 0.05, n=400)


def test_6_the_easiest_rows_are_found_out():
    correct, hardness = dipping(np.random.default_rng(0), 100)
    chosen = np.argsort(hardness)[:100]
    curves = Curves(correct[:, chosen].mean(axis=1)[None], np.arange(1, 61), np.array([59]))
    audit = Audit(tuple((0, t, float(correct[t].mean())) for t in (19, 20, 21)))
    assert (
        band_audit(Limits(curves, (100,), (400,), "set", 0.05, True), audit).verdict
        == Verdict.FAILS
    )


def test_6_error_rate_of_the_hidden_drop():
    """A model that is the same at all times but for noise around each row: nothing is hidden beyond what rows really do."""

    def instance(rng):
        N, T = 2000, 30
        hardness = rng.random(N)
        level = 0.8 - 0.2 * np.exp(-(((np.arange(T) - 20) / 3) ** 2))
        correct = hardness[None] + 0.1 * rng.normal(size=(T, N)) < level[:, None]
        true = correct.mean(axis=1)
        gap = (true[-1] - true[15:].min()) / 2  # the truth itself: two tasks, the second at rest
        chosen = rng.permutation(N)[:150]
        other = np.ones((15, 150), dtype=bool)
        outcomes = Outcomes.of([correct[:, chosen], other])
        accuracy = np.full((2, T), np.nan)
        accuracy[0], accuracy[1, 15:] = outcomes.accuracy(0), 1.0
        limits = Limits(
            Curves(accuracy, np.arange(1, T + 1), np.array([14, T - 1])),
            (150, 150),
            (N, N),
            "set",
            0.05,
            True,
            outcomes,
        )
        return hidden_drop(limits, float(gap), ())

    assert_error_rate(instance, 0.05, n=300)


def test_7_paired_limits():
    level = 0.05 / (4 * 1250)
    assert float(paired_limits(100, 0, 200, level)[0]) == pytest.approx(0.29447, abs=1e-5)
    assert float(paired_limits(153, 0, 200, level)[0]) == pytest.approx(0.5649, abs=1e-4)
    assert [float(v) for v in paired_limits(10, 4, 50, level, 50, "set")] == pytest.approx(
        [0.12, 0.12]
    )


def test_outcomes_count_bits():
    rng = np.random.default_rng(0)
    rows = rng.random((9, 21)) < 0.5
    outcomes = Outcomes.of([rows])
    np.testing.assert_allclose(outcomes.accuracy(0), rows.mean(axis=1))
    expected = [(rows[3] & ~rows[t]).sum() for t in range(9)]
    assert outcomes.lost(0, 3, np.arange(9)).tolist() == expected


# Verdicts


def run_of(drop, n=400, K=2, T=20, seed=0, recover=True):
    """The first task falls by `drop` in the middle of the second."""
    rng = np.random.default_rng(seed)
    hardness = rng.random(n)
    level = np.full(2 * T, 0.9)
    level[T : T + 5] -= drop
    if not recover:
        level[T:] = 0.9 - drop
    return [hardness[None] < level[:, None], np.ones((T, n), dtype=bool)], [T, 2 * T]


def test_verdicts_of_a_gap():
    correct, ends = run_of(0.5)
    deep = stability_gap(None, ends, correct=correct)
    assert [c.verdict for c in deep.certificates] == [Verdict.FAILS, Verdict.HOLDS, Verdict.HOLDS]
    correct, ends = run_of(0.0)
    flat = stability_gap(None, ends, correct=correct, gap=0.1)
    assert [c.verdict for c in flat.certificates] == [Verdict.HOLDS, Verdict.FAILS, Verdict.HOLDS]
    assert (
        stability_gap(None, ends, correct=correct, gap=0.6).certificates[0].verdict
        == Verdict.VACUOUS
    )
    few = stability_gap(None, ends, correct=[c[:, :20] for c in correct], gap=0.1)
    assert few.certificates[0].verdict == Verdict.INCONCLUSIVE
    coarse = stability_gap(None, ends, correct=[c[4::5] for c in correct], every=5, gap=0.1)
    assert coarse.certificates[0].verdict == Verdict.INCONCLUSIVE
    assert coarse.wc_acc.low < 0.6
    shown = Audit((), 3, ())
    assert (
        stability_gap(None, ends, correct=correct, audit=shown).certificates[0].verdict
        == Verdict.VOID
    )
    moved = Audit((), 0, ("buffers",))
    assert (
        stability_gap(None, ends, correct=correct, audit=moved).certificates[0].verdict
        == Verdict.VOID
    )
    lied = stability_gap(A, ENDS, reported={"acc": 0.8867, "wc_acc": 0.9})
    assert lied.certificates[-1].verdict == Verdict.FAILS
    assert (
        stability_gap(A, ENDS, reported={"acc": 0.8867, "wc_acc": 0.72}).certificates[-1].verdict
        == Verdict.HOLDS
    )
    exact = stability_gap(A, ENDS)
    assert exact.certificates[0].verdict == Verdict.FAILS
    assert "n, the number of rows" in str(exact.certificates[0].assumptions)


def test_paired_limits_are_narrower_than_those_of_the_band():
    correct, ends = run_of(0.3)
    paired = stability_gap(None, ends, correct=correct).certificates[0].measured
    accuracy = np.full((2, 40), np.nan)
    accuracy[0], accuracy[1, 20:] = correct[0].mean(axis=1), 1.0
    alone = stability_gap(accuracy, ends, n=400).certificates[0].measured
    assert paired.value == pytest.approx(alone.value)
    assert paired.high - paired.low < 0.8 * (alone.high - alone.low)


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
    assert r.certificates[2].verdict == Verdict.HOLDS
    table.loc[3, "stability"] = 0.1
    assert stability_gap(A, ENDS, grads=table).certificates[2].verdict == Verdict.FAILS
    assert (
        stability_gap(A, ENDS, grads=table[table["task"] == 0]).certificates[2].verdict
        == Verdict.UNMEASURED
    )


# Strategies and the recorder


def stream(K=3, n=60, seed=0, d=6):
    """Classes 2k and 2k + 1 in task k, far from each other."""
    rng = np.random.default_rng(seed)
    centres = 2 * rng.normal(size=(2 * K, d))
    train, test = [], []
    for k in range(K):
        for part, size in ((train, n), (test, 40)):
            y = np.repeat([2 * k, 2 * k + 1], size // 2)
            X = (centres[y] + rng.normal(size=(size, d))).astype(np.float32)
            part.append((torch.from_numpy(X), torch.from_numpy(y)))
    return train, test


def network(d=6, classes=6, seed=0, norm=False):
    torch.manual_seed(seed)
    layers = [
        nn.Linear(d, 16),
        *([nn.BatchNorm1d(16)] if norm else []),
        nn.ReLU(),
        nn.Linear(16, classes),
    ]
    return nn.Sequential(*layers)


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


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
    expected = {"lwf": Verdict.HOLDS, "ewc": Verdict.HOLDS, "si": Verdict.HOLDS}
    step = next(c for c in result.certificates if c.name == "first-step")
    assert step.verdict == expected.get(strategy, Verdict.VOID)


@pytest.mark.parametrize("strategy", ["er", "ewc", "lwf"])
def test_9_the_recorder_changes_nothing(strategy):
    train, test = stream()
    plain, watched = network(norm=True), network(norm=True)
    continual_fit(plain, train, strategy=strategy, random_state=3)
    before = torch.random.get_rng_state()
    evaluator = ContinualEvaluator(test, random_state=0)
    continual_fit(watched, train, strategy=strategy, random_state=3, evaluator=evaluator)
    assert torch.equal(before, torch.random.get_rng_state())
    for a, b in zip(plain.state_dict().values(), watched.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    first = evaluator.result().certificates[0]
    assert [a.status for a in first.assumptions][:2] == ["met", "met"]


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
    assert evaluator.result(grads=fit).certificates[2].verdict == Verdict.FAILS


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
        assert stability_gap(accuracy, ends, grads=fit).certificates[2].verdict == Verdict.VOID


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


def test_a_loop_of_ones_own_needs_no_change():
    train, test = stream()
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    evaluator = ContinualEvaluator(test, subset=20, random_state=0)
    for k, (X, y) in enumerate(train):
        loader = torch.utils.data.DataLoader(
            torch.utils.data.TensorDataset(X, y), batch_size=10, shuffle=True
        )
        with evaluator.task(k, model, optimizer):
            for x, labels in loader:
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x), labels).backward()
                optimizer.step()
    result = evaluator.result(target="set")
    assert result.times.tolist() == list(range(1, 19))
    names = [c.name for c in result.certificates]
    assert "band-audit" in names
    assert result.certificates[names.index("band-audit")].verdict in (
        Verdict.HOLDS,
        Verdict.UNMEASURED,
    )
    optimizer.step()  # the hook is gone
    assert evaluator.updates == 18


def test_trained_rows_are_found_among_evaluation_rows():
    train, test = stream()
    test[0] = (torch.cat([test[0][0], train[0][0][:3]]), torch.cat([test[0][1], train[0][1][:3]]))
    evaluator = ContinualEvaluator(test, random_state=0)
    continual_fit(network(), train, strategy="finetune", evaluator=evaluator, random_state=0)
    assert evaluator.overlap == 3
    assert evaluator.result().certificates[0].verdict == Verdict.VOID


def test_a_prediction_that_uses_the_generator_is_noticed():
    train, test = stream()

    def noisy(model, X, task):
        return (model(X) + 0.01 * torch.randn(len(X), 6)).argmax(dim=1)

    evaluator = ContinualEvaluator(test, predict=noisy, random_state=0)
    continual_fit(network(), train, strategy="finetune", evaluator=evaluator, random_state=0)
    assert "generator of torch" in str(evaluator.changed)
    assert evaluator.result().certificates[0].verdict == Verdict.VOID


def test_9_save_and_resume_in_the_middle_of_a_task(tmp_path):
    _, test = stream()
    model = network()
    whole = ContinualEvaluator(test, subset=15, random_state=0)
    states = []
    for k in range(2):
        whole.before_task(k)
        for step in range(4):
            with torch.no_grad():
                for p in model.parameters():
                    p += 0.05 * torch.randn(
                        p.shape, generator=torch.Generator().manual_seed(10 * k + step)
                    )
            whole.after_step(model)
            states.append(copy.deepcopy(model))
            if (k, step) == (1, 1):
                torch.save(whole.state_dict(), tmp_path / "evaluator.pt")
        whole.after_task(k, model)
    again = ContinualEvaluator(test, subset=15, random_state=7)
    again.load_state_dict(torch.load(tmp_path / "evaluator.pt", weights_only=True))
    for saved in states[6:]:
        again.after_step(saved)
    again.after_task(1, states[-1])
    np.testing.assert_array_equal(whole.result().accuracy, again.result().accuracy)
    with pytest.raises(ValueError, match="every"):
        ContinualEvaluator(test, every=2).load_state_dict(whole.state_dict())
    with pytest.raises(ValueError, match="other evaluation sets"):
        ContinualEvaluator(test[:2]).load_state_dict(whole.state_dict())


def test_a_long_run_is_quick():
    import time

    rng = np.random.default_rng(0)
    K, steps = 20, 500
    outcomes = Outcomes.of([rng.random((steps * (K - k), 200)) < 0.9 for k in range(K)])
    start = time.perf_counter()
    result = stability_gap(None, [steps * (k + 1) for k in range(K)], correct=outcomes)
    assert time.perf_counter() - start < 4
    assert len(result.gaps) == 190


GOOD = {"accuracy": A, "task_ends": ENDS}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"accuracy": None}, "accuracy"),
        ({"accuracy": A * 100}, "divide by 100"),
        ({"accuracy": A - 0.5}, "accuracy"),
        (
            {"accuracy": np.where(np.arange(12) == 9, np.nan, A)},
            "task 1 has no value at iteration 10",
        ),
        ({"accuracy": A[0]}, "accuracy"),
        ({"accuracy": "a"}, "accuracy"),
        ({"task_ends": None}, "task_ends"),
        ({"task_ends": [4, 4, 12]}, "task_ends"),
        ({"task_ends": [4, 8]}, "task_ends"),
        ({"task_ends": [4, 8, 11]}, "accuracy"),
        ({"task_ends": [4.0, 8.0, 12.0]}, "task_ends"),
        ({"windows": (1,)}, "windows"),
        ({"every": 0}, "every"),
        ({"n": 0}, "n "),
        ({"n": [1, 2]}, "n "),
        ({"n": 100, "n_total": 50}, "n must not exceed"),
        ({"n": 100, "target": "set"}, "n_total"),
        ({"target": "all"}, "target"),
        ({"gap": 2}, "gap"),
        ({"delta": 0}, "delta"),
        ({"correct": [np.ones((12, 5))] * 3}, "correct"),
        ({"correct": [np.ones((12, 5), bool)] * 3}, "correct"),
        ({"grads": 3}, "grads"),
        ({"grads": pd.DataFrame({"task": [1]})}, "grads"),
        ({"audit": "mine"}, "audit"),
        ({"reported": {"accuracy": 1}}, "reported"),
        ({"accuracy": pd.DataFrame({"task": [0]})}, "columns"),
    ],
)
def test_bad_input_is_named(change, named):
    with pytest.raises((ValueError, TypeError), match=named):
        stability_gap(**(GOOD | change))


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


def test_recorder_is_used_in_order():
    _, test = stream()
    evaluator = ContinualEvaluator(test)
    with pytest.raises(RuntimeError, match="before_task"):
        evaluator.after_step(network())
    with pytest.raises(ValueError, match="k must be 0"):
        evaluator.before_task(1)
    evaluator.before_task(0)
    with pytest.raises(RuntimeError, match="no update"):
        evaluator.after_task(0, network())
    with pytest.raises(RuntimeError, match="have ended"):
        evaluator.result()


values = st.one_of(st.floats(), st.none(), st.text(max_size=2), st.integers(-1, 2))


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.lists(values, max_size=4), max_size=3),
    st.lists(st.integers(-1, 5), max_size=3),
    st.one_of(st.none(), st.integers(-1, 5)),
)
def test_anything_comes_out_or_is_refused_by_name(accuracy, ends, n):
    told = ""
    try:
        stability_gap(accuracy, ends, n=n)
    except (ValueError, TypeError) as error:
        told = str(error)
    assert not told or told.startswith(("accuracy", "task_ends", "n "))


def test_picture_and_files(tmp_path):
    import matplotlib.pyplot as plt

    correct, ends = run_of(0.5)
    result = stability_gap(None, ends, correct=correct)
    assert result.plot() is not None
    assert set(result.artifacts()) == {"gaps.csv", "curves.csv"}
    assert "worst_case_accuracy" in result.summary()
    plt.close("all")
