import copy
import pickle
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from pretended import words_of
from torch import nn

from whp.optim import SSO, loss_oracle

X3 = np.array([[1.0, 2], [3, -1], [0, 1]])


def oracle_of(y):
    return loss_oracle(nn.CrossEntropyLoss(reduction="sum"), y)


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))


def batch(seed=0, n=40):
    g = torch.Generator().manual_seed(seed)
    X = torch.randn(n, 6, generator=g)
    return X, (X[:, 0] > 0).long() + (X[:, 1] > 0.5).long()


@pytest.mark.parametrize("inner", ["adam", "gd", "armijo", "lbfgs"])
def test_the_loss_falls_and_the_oracle_is_asked_once_a_step(inner):
    X, y = batch()
    model, calls = network(), []
    oracle = oracle_of(y)

    def counted(z):
        calls.append(z.shape)
        return oracle(z)

    opt = SSO(
        model.parameters(), eta=2.0, m=10, inner=inner, inner_lr=0.02 if inner != "gd" else 0.05
    )
    infos = [opt.step(lambda: model(X), counted) for _ in range(15)]
    assert len(calls) == 15
    assert infos[-1].loss < 0.8 * infos[0].loss
    for before, after in pairwise(infos):
        assert after.loss <= before.surrogate + 1e-4 * abs(before.loss)  # majorisation, η = 1/L
        assert before.surrogate <= before.loss + 1e-5
    assert infos[3].n_oracle == 1
    assert infos[3].inner_steps <= 10
    if inner in ("adam", "gd"):
        assert infos[3].n_forward in (11, 12)  # one more to go back to the best
        assert infos[3].n_backward == 10


def test_exact_on_a_linear_model():
    torch.manual_seed(0)
    model = nn.Linear(2, 1, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.5, -0.5]]))
    X, y = torch.tensor(X3), torch.tensor([1.0, 0, 1], dtype=torch.float64)
    opt = SSO(model.parameters(), m=200, inner="lbfgs", tol=1e-12)
    info = opt.step(lambda: model(X)[:, 0], loss_oracle(nn.BCEWithLogitsLoss(reduction="sum"), y))
    assert info.eta == 4.0
    assert info.loss == pytest.approx(4.075081979403)
    assert info.surrogate == pytest.approx(1.061415586590, abs=1e-6)
    np.testing.assert_allclose(
        model.weight.detach()[0], [-0.135350260665, 1.226225004278], atol=1e-5
    )


def test_numpy_oracles_are_welcome():
    X, _ = batch()
    model = nn.Linear(6, 1)

    def oracle(z):
        z = z.numpy()
        return 0.5 * np.square(z - 1).sum(), z - 1

    opt = SSO(model.parameters(), eta=1.0, m=20, inner_lr=0.05)
    losses = [opt.step(lambda: model(X)[:, 0], oracle).loss for _ in range(10)]
    assert losses[-1] < 0.1 * losses[0]


def test_search_needs_no_smoothness_and_no_gradient():
    X, _ = batch()
    y = torch.poisson(torch.exp(X[:, 0]), generator=torch.Generator().manual_seed(0))
    oracle = loss_oracle(nn.PoissonNLLLoss(reduction="sum"), y)
    assert oracle.L is None
    model = nn.Linear(6, 1)
    opt = SSO(model.parameters(), m=20, inner_lr=0.02)
    infos = [opt.step(lambda: model(X)[:, 0], oracle) for _ in range(12)]
    assert all(i.n_oracle == 1 and i.n_values >= 1 for i in infos)
    assert infos[-1].loss < infos[0].loss


def test_dropout_masks_stay_within_a_step_and_go_on_between():
    X, y = batch()
    model = nn.Sequential(nn.Linear(6, 16), nn.Dropout(0.5), nn.Linear(16, 3))
    opt = SSO(model.parameters(), m=5, inner_lr=0.01)
    torch.manual_seed(0)
    masks = []
    model[1].register_forward_hook(lambda *a: masks.append((a[2] == 0).detach()))
    split = opt.step(lambda: model(X), oracle_of(y)).n_forward
    opt.step(lambda: model(X), oracle_of(y))
    first, second = masks[:split], masks[split:]
    assert all(torch.equal(first[0], m) for m in first[1:])
    assert not torch.equal(first[0], second[0])


@pytest.mark.parametrize("rate", [0.0, 0.5])
@pytest.mark.parametrize("measure", [False, True])
def test_an_oracle_that_draws_goes_on_drawing(rate, measure):
    X, _ = batch()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Dropout(rate), nn.Linear(8, 1))
    drawn = []

    def oracle(z):
        noise = torch.randn_like(z)
        drawn.append(float(noise[0]))
        return ((z + noise) ** 2).sum() / 2, z + noise

    opt = SSO(model.parameters(), eta=1.0, m=3, measure=measure)
    for _ in range(3):
        opt.step(lambda: model(X), oracle)
    assert len(set(drawn)) == len(drawn) >= 3


@pytest.mark.parametrize("way", ["in place", "one array"])
def test_an_oracle_may_use_its_memory_again(way):
    X, y = regression()
    model = nn.Linear(5, 1)
    memory = np.empty(tuple(y.shape), dtype=np.float32)

    def oracle(z):
        z = z.numpy()
        off = np.subtract(z, y.numpy(), out=z if way == "in place" else memory)
        return np.square(off).sum() / 2, off

    oracle.L = 1.0
    opt = SSO(model.parameters(), m=10, inner="lbfgs", measure=True)
    for _ in range(4):
        opt.step(lambda: model(X), oracle)
    assert "void" not in verdicts(opt).values()


@pytest.mark.parametrize("error", [TimeoutError, KeyboardInterrupt])
@pytest.mark.parametrize("where", ["oracle", "value", "closure"])
@pytest.mark.parametrize("rule", ["sgd", "adagrad"])
def test_a_step_that_raises_costs_itself_alone(error, where, rule):
    X, y = batch()
    models = [network(), network()]
    opts = [
        SSO(m.parameters(), m=5, inner="gd", inner_lr=0.1, rule=rule, eta=2.0, measure=True)
        for m in models
    ]
    down = {"oracle": 0, "value": 0, "closure": 0}

    class Simulator:
        L = 0.5

        def ask(self, what, z):
            if down[where] and what == where:
                raise error
            return oracle_of(y)(z) if what == "oracle" else oracle_of(y).value(z)

        def __call__(self, z):
            return self.ask("oracle", z)

        def value(self, z):
            return self.ask("value", z)

    def forward(model):
        down["closure"] = max(down["closure"] - 1, 0)
        if down["closure"] == 1 and where == "closure":
            raise error
        return model(X)

    for k in range(4):
        opts[0].step(lambda: models[0](X), Simulator())
        if k == 2:
            down[where] = 6
            with pytest.raises(error):
                opts[1].step(lambda: forward(models[1]), Simulator())
            down[where] = 0
        opts[1].step(lambda: forward(models[1]), Simulator())
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(a, b)
    assert verdicts(opts[0]) == verdicts(opts[1])
    assert [r.eta for r in opts[0].progress.records] == [r.eta for r in opts[1].progress.records]


def test_what_differs_within_a_step_is_refused():
    X, y = batch()
    model = network()
    noise = iter(range(100))
    with pytest.raises(RuntimeError, match="not deterministic"):
        SSO(model.parameters()).step(lambda: model(X) + next(noise), oracle_of(y))


@pytest.mark.parametrize(
    ("oracle", "error", "named"),
    [
        (lambda z: (1.0, z[:, :1]), ValueError, r"grad_z has shape \(40, 1\), expected \(40, 3\)"),
        (lambda z: (float("nan"), z), FloatingPointError, "step 1"),
        (lambda z: (1.0, z * float("inf")), FloatingPointError, "step 1"),
        (lambda z: z, TypeError, "oracle must return"),
    ],
)
def test_bad_oracles_are_named(oracle, error, named):
    X, _ = batch()
    model = network()
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(error, match=named):
        SSO(model.parameters(), eta=1.0).step(lambda: model(X), oracle)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize("L", [float("nan"), float("inf"), -1.0])
def test_an_l_that_is_none_is_named(L):
    X, y = regression()
    model = nn.Linear(5, 1)

    def oracle(z):
        return ((z - y) ** 2).sum() / 2, z - y

    oracle.L = L
    with pytest.raises(ValueError, match="L of the oracle"):
        SSO(model.parameters()).step(lambda: model(X), oracle)


def test_nothing_asked_about_and_nothing_to_train_are_named():
    X, y = regression()
    model = nn.Linear(5, 1)
    opt = SSO(model.parameters())
    with pytest.raises(ValueError, match="at least one row"):
        opt.step(lambda: model(X[:0]), loss_oracle(nn.MSELoss(reduction="sum"), y[:0]))
    assert not opt.progress.records
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter requires"):
        opt.step(lambda: model(X), loss_oracle(nn.MSELoss(reduction="sum"), y))


def test_infinities_in_the_inner_loop_are_undone():
    X, y = batch()
    model = network()
    opt = SSO(model.parameters(), eta=1e-37, m=6, inner="gd", inner_lr=9e5)
    info = opt.step(lambda: model(X), oracle_of(y))
    assert info.restarts > 0
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert opt.inner_lr < 9e5
    assert info.surrogate <= info.loss + 1e-5


def test_a_search_below_rounding_does_not_stall_later_steps():
    torch.manual_seed(0)
    model = nn.Linear(20, 1)
    X, y = torch.randn(100, 20), (torch.randn(100, 1) > 0) * 1.0
    oracle = loss_oracle(nn.BCEWithLogitsLoss(reduction="sum"), y)
    opt = SSO(model.parameters(), m=100, inner="armijo")
    infos = [opt.step(lambda: model(X), oracle) for _ in range(12)]
    best = nn.Linear(20, 1)
    best.load_state_dict(model.state_dict())
    full = torch.optim.LBFGS(best.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        full.zero_grad()
        loss = oracle.loss(best(X), y)
        loss.backward()
        return loss

    full.step(closure)
    assert infos[-1].loss == pytest.approx(closure().item(), rel=1e-4)
    assert infos[-1].n_forward < 40  # at the optimum the search ends soon
    assert opt.progress.trial > 1e-3


def test_steps_that_would_be_worse_than_none_are_not_taken():
    X, y = batch()
    model = network()
    before = [p.clone() for p in model.parameters()]
    info = SSO(model.parameters(), eta=2.0, m=1, inner="gd", inner_lr=1e4).step(
        lambda: model(X), oracle_of(y)
    )
    assert info.kept
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_saving_and_resuming():
    X, y = batch()
    runs = []
    for stop in (None, 3):
        model = network()
        opt = SSO(model.parameters(), m=5, inner_lr=0.01, schedule="sqrt")
        for t in range(6):
            if t == stop:
                state = opt.state_dict()
                opt = SSO(model.parameters(), m=5, inner_lr=0.01, schedule="sqrt")
                opt.load_state_dict(state)
            opt.step(lambda model=model: model(X), oracle_of(y))
        runs.append([p.detach().clone() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
    with pytest.raises(ValueError, match="another inner"):
        SSO(network().parameters(), inner="armijo").load_state_dict(state)


def test_a_state_that_is_not_whole_changes_nothing():
    X, y = batch()
    model = network()
    opt = SSO(model.parameters(), m=3)
    opt.step(lambda: model(X), oracle_of(y))
    state = opt.state_dict()
    state["surrogates"]["records"][0]["unknown"] = 1.0
    fresh = SSO(model.parameters(), m=3)
    with pytest.raises(TypeError):
        fresh.load_state_dict(state)
    assert not fresh.state
    assert not fresh.progress.records


def test_weight_decay_belongs_to_the_surrogate():
    X, y = batch()
    norms = []
    for decay in (0.0, 0.5):
        model = network()
        opt = SSO(model.parameters(), m=20, inner_lr=0.01, weight_decay=decay)
        for _ in range(10):
            opt.step(lambda model=model: model(X), oracle_of(y))
        norms.append(float(sum(p.square().sum() for p in model.parameters()).detach()))
    assert norms[1] < 0.7 * norms[0]


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda p: SSO(p, eta=0), "eta"),
        (lambda p: SSO(p, m=0), "m "),
        (lambda p: SSO(p, inner="rmsprop"), "inner"),
        (lambda p: SSO(p, inner_lr=0), "inner_lr"),
        (lambda p: SSO(p, rule="newton"), "rule"),
        (lambda p: SSO(p, inner="armijo", armijo={"beta": 1.0}), "beta of armijo"),
        (lambda p: SSO(p, schedule="cosine"), "schedule"),
        (lambda p: SSO(p, schedule="exponential"), "T must"),
        (lambda p: SSO(p, armijo={"gamma": 1.0}), "armijo"),
        (lambda p: SSO([]), "params"),
        (lambda p: loss_oracle(nn.CrossEntropyLoss(), torch.tensor([0])), "reduction"),
        (lambda p: loss_oracle(nn.MSELoss(reduction="sum"), torch.tensor([0.0]), L=-1), "L "),
    ],
)
def test_bad_settings_are_named(make, named):
    with pytest.raises((ValueError, TypeError), match=named):
        make(list(network().parameters()))


# A torch optimizer


def regression(dtype=torch.float32):
    g = torch.Generator().manual_seed(1)
    X = torch.randn(60, 5, generator=g, dtype=dtype)
    return X, X[:, :1] - X[:, 1:2] + 0.1 * torch.randn(60, 1, generator=g, dtype=dtype)


def verdicts(opt, **options):
    return {c.name: str(c.verdict) for c in opt.certificates(**options)}


def statuses(certificate):
    return {a.name: str(a.status) for a in certificate.conditions}


def test_it_is_an_optimizer_with_groups():
    X, y = batch()
    model = network()
    opt = SSO(
        [{"params": model[0].parameters(), "lr": 0.0}, {"params": model[2].parameters()}],
        inner_lr=0.02,
        m=5,
    )
    assert isinstance(opt, torch.optim.Optimizer)
    first, last = model[0].weight.clone(), model[2].weight.clone()
    opt.step(lambda: model(X), oracle_of(y))
    assert torch.equal(first, model[0].weight)
    assert not torch.equal(last, model[2].weight)
    opt.param_groups[0]["lr"] = 0.02
    opt.step(lambda: model(X), oracle_of(y))
    assert not torch.equal(first, model[0].weight)


def test_a_group_that_is_added_is_trained_and_decays_by_itself():
    X, y = batch()
    model = network()
    opt = SSO(model[0].parameters(), inner_lr=0.02, m=5)
    opt.step(lambda: model(X), oracle_of(y))
    opt.add_param_group({"params": list(model[2].parameters()), "weight_decay": 10.0})
    before = model[2].weight.square().sum()
    for _ in range(5):
        opt.step(lambda: model(X), oracle_of(y))
    assert model[2].weight.square().sum() < 0.5 * before


@pytest.mark.parametrize(
    ("inner", "group", "named"),
    [
        ("adam", {"lr": -1.0}, "lr of a group"),
        ("adam", {"weight_decay": -0.1}, "weight_decay of a group"),
        ("adam", {"betas": (0.5, 0.5)}, "betas is not used"),
        ("gd", {"maximize": True}, "maximize is not used"),
        ("armijo", {"lr": 0.0}, "lr must be the same"),
        ("lbfgs", {"lr": 0.0}, "lr must be the same"),
    ],
)
def test_what_a_group_cannot_have_is_refused(inner, group, named):
    model = network()
    opt = SSO(model[0].parameters(), inner=inner)
    with pytest.raises(ValueError, match=named):
        opt.add_param_group({"params": model[2].parameters(), **group})
    assert len(opt.param_groups) == 1  # as before
    X, y = batch()
    assert opt.step(lambda: model(X), oracle_of(y)).n_oracle == 1
    with pytest.raises(ValueError, match=named):
        SSO(
            [{"params": model[0].parameters()}, {"params": model[2].parameters(), **group}],
            inner=inner,
        )


def test_a_decay_below_zero_is_refused_at_the_step():
    X, y = batch()
    model = network()
    opt = SSO(model.parameters())
    opt.param_groups[0]["weight_decay"] = -0.1
    with pytest.raises(ValueError, match="weight_decay of a group"):
        opt.step(lambda: model(X), oracle_of(y))


@pytest.mark.parametrize("inner", ["adam", "gd", "armijo", "lbfgs"])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_complex_parameters_with_real_outputs(inner, decay):
    torch.manual_seed(0)
    W = nn.Parameter(torch.randn(4, 1, dtype=torch.complex64))
    X, y = torch.randn(30, 4, dtype=torch.complex64), torch.randn(30, 1)
    opt = SSO([W], m=10, inner=inner, inner_lr=0.01, weight_decay=decay, measure=True)
    oracle = loss_oracle(nn.MSELoss(reduction="sum"), y)
    losses = [opt.step(lambda: (X @ W).real, oracle).loss for _ in range(4)]
    assert losses[-1] < losses[0]
    assert "void" not in verdicts(opt).values()
    with pytest.raises(TypeError, match="real outputs"):
        opt.step(lambda: X @ W, oracle)


@pytest.mark.parametrize(
    "make",
    [
        lambda o: torch.optim.lr_scheduler.StepLR(o, 1, 0.5),
        lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda t: 0.5**t),
        lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.5),
    ],
    ids=["step", "lambda", "exponential"],
)
def test_schedulers_act_on_the_inner_rate(make):
    X, y = batch()
    model = network()
    opt = SSO(model.parameters(), m=3, inner_lr=0.01)
    schedule = make(opt)
    for k in range(3):
        assert opt._optimizer().param_groups[0]["lr"] == pytest.approx(0.01 * 0.5**k)
        opt.step(lambda: model(X), oracle_of(y))
        schedule.step()


@pytest.mark.parametrize("cleared", [False, True])
def test_grad_scaler_steps_it_and_sees_overflow(cleared):
    X, y = batch()
    model = network()
    opt = SSO(model.parameters(), m=5, inner_lr=0.01)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    scaler.scale(torch.zeros(()))  # it makes its scale when it first scales something
    plain = network()
    same = SSO(plain.parameters(), m=5, inner_lr=0.01)
    for _ in range(3):
        if cleared:
            opt.zero_grad()
        info = scaler.step(opt, lambda: model(X), oracle_of(y))
        scaler.update()
        other = same.step(lambda: plain(X), oracle_of(y))
        assert info.loss == pytest.approx(other.loss, rel=1e-4)
    before = [p.detach().clone() for p in model.parameters()]
    scaler = torch.amp.GradScaler("cpu", init_scale=3e38)
    scaler.scale(torch.zeros(()))
    info = scaler.step(opt, lambda: 1e3 * model(X), oracle_of(y))
    scaler.update()
    assert info.kept
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    scaler.step(opt, lambda: 1e3 * model(X), oracle_of(y))
    scaler.update()
    assert scaler.get_scale() < 3e38  # told at the call after the one that overflowed


@pytest.mark.parametrize("inner", ["adam", "armijo", "lbfgs"])
@pytest.mark.parametrize("cleared", [False, True])
def test_training_goes_on_after_an_overflow(inner, cleared):
    X, y = regression()
    model = nn.Linear(5, 1)
    opt = SSO(model.parameters(), m=5, inner=inner, inner_lr=0.05, measure=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=3e38)
    scaler.scale(torch.zeros(()))
    oracle, kept = loss_oracle(nn.MSELoss(reduction="sum"), y), []
    for _ in range(40):
        if cleared:
            opt.zero_grad()
        kept.append(scaler.step(opt, lambda: 100 * model(X), oracle).kept)
        scaler.update()
        assert "void" not in verdicts(opt).values()  # of steps that overflowed as well
    assert not all(kept)
    assert scaler.get_scale() > 1e20 or inner == "lbfgs"


def test_a_closure_by_name_as_lightning_hands_it_over():
    X, y = batch()
    model = network()
    opt = SSO(model.parameters(), m=3)
    assert opt.step(closure=lambda: model(X), oracle=oracle_of(y)).inner_steps == 3
    with pytest.raises(TypeError, match="oracle"):
        opt.step(lambda: model(X))
    with pytest.raises(TypeError, match="closure must give a tensor"):
        opt.step(lambda: 1.0, oracle_of(y))


@pytest.mark.parametrize("way", ["pickle", "deepcopy", "state_dict"])
def test_copies_go_on_alike_and_no_longer_vouch_for_the_past(way):
    X, y = regression()
    models = [nn.Linear(5, 1), nn.Linear(5, 1)]
    models[1].load_state_dict(models[0].state_dict())
    oracle = loss_oracle(nn.MSELoss(reduction="sum"), y)
    first = SSO(models[0].parameters(), m=5, inner_lr=0.01, measure=True)
    for _ in range(3):
        first.step(lambda: models[0](X), oracle)
    if way == "state_dict":
        models[1].load_state_dict(models[0].state_dict())
        second = SSO(models[1].parameters(), m=5, inner_lr=0.01, measure=True)
        second.load_state_dict(pickle.loads(pickle.dumps(first.state_dict())))
    else:
        both = {"model": models[0], "opt": first}
        # Of this test's own making.
        both = copy.deepcopy(both) if way == "deepcopy" else pickle.loads(pickle.dumps(both))
        models[1], second = both["model"], both["opt"]
    for model, opt in zip(models, (first, second), strict=True):
        opt.step(lambda model=model: model(X), oracle)
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(a, b)
    mine, theirs = first.certificates()[0], second.certificates()[0]
    assert mine.bound == theirs.bound
    assert statuses(mine)["smooth-in-outputs"] == "by construction"
    assert statuses(theirs)["smooth-in-outputs"] == "unchecked"


def test_a_step_that_was_too_long_is_not_forgotten_by_saving():
    X, y = regression()
    model = nn.Linear(5, 1)
    oracle = loss_oracle(nn.MSELoss(reduction="sum"), y)
    long = SSO(model.parameters(), eta=0.6, m=5, inner_lr=0.01)
    long.step(lambda: model(X), oracle)
    short = SSO(model.parameters(), eta=0.5, m=5, inner_lr=0.01)
    short.load_state_dict(long.state_dict())
    short.step(lambda: model(X), oracle)
    assert verdicts(short)["majorisation"] == "void"


# One oracle call a step


def counted(oracle):
    calls = []

    class Counted:
        L = getattr(oracle, "L", None)

        def __call__(self, z):
            calls.append("gradient")
            return oracle(z)

        def value(self, z):
            calls.append("value")
            return oracle.value(z)

    return Counted(), calls


def test_a_plain_oracle_without_l_is_refused_and_never_called_to_search():
    X, y = regression()
    model, calls = nn.Linear(5, 1), []

    def oracle(z):
        calls.append(1)
        return 0.5 * (z - y).square().sum(), z - y

    with pytest.raises(ValueError, match="eta must be a number, or the oracle"):
        SSO(model.parameters()).step(lambda: model(X), oracle)
    assert len(calls) <= 1
    calls.clear()
    opt = SSO(model.parameters(), eta=1.0, m=5)
    for _ in range(4):
        assert opt.step(lambda: model(X), oracle).n_oracle == 1
    assert len(calls) == 4


@pytest.mark.parametrize(
    "options",
    [{}, {"rule": "sls"}, {"measure": True}, {"inner": "lbfgs", "measure": True}],
    ids=str,
)
def test_every_call_is_counted(options):
    X, y = regression()
    model = nn.Linear(5, 1)
    oracle, calls = counted(loss_oracle(nn.MSELoss(reduction="sum"), y))
    opt, passes = SSO(model.parameters(), m=5, **options), []

    def forward():
        passes.append(1)
        return model(X)

    for _ in range(3):
        calls.clear()
        passes.clear()
        info = opt.step(forward, oracle)
        assert calls.count("gradient") == info.n_oracle == 1
        assert calls.count("value") == info.n_values
        assert len(passes) == info.n_forward


def test_noise_from_a_later_step_on_is_refused():
    X, y = batch()
    model = network()
    opt = SSO(model.parameters(), m=3)
    opt.step(lambda: model(X), oracle_of(y))
    noise = iter(np.random.default_rng(0).normal(size=100))
    with pytest.raises(RuntimeError, match="not deterministic"):
        opt.step(lambda: model(X) + 0.01 * next(noise), oracle_of(y))


# Certificates of networks


def trained(model, X, oracle, steps=6, **options):
    opt = SSO(model.parameters(), **{"m": 8, "inner_lr": 0.02, "measure": True, **options})
    for _ in range(steps):
        opt.step(lambda: model(X), oracle)
    return opt


@pytest.mark.parametrize("inner", ["adam", "gd", "armijo", "lbfgs"])
def test_an_ordinary_network_holds(inner):
    X, y = batch()
    rate = 0.2 if inner == "gd" else 0.02
    opt = trained(network(), X, oracle_of(y), inner=inner, inner_lr=rate, steps=10)
    assert verdicts(opt) == {"majorisation": "holds", "descent": "holds"}


def test_without_measure_nothing_is_claimed():
    X, y = batch()
    opt = trained(network(), X, oracle_of(y), measure=False)
    assert verdicts(opt)["majorisation"] == "unmeasured"
    with pytest.raises(ValueError, match="no step"):
        SSO(network().parameters()).certificates()


def test_minibatches_void_the_descent_alone():
    X, y = batch(n=80)
    model = network()
    opt = SSO(model.parameters(), m=5, inner_lr=0.02, measure=True)
    for part in (slice(0, 40), slice(40, 80)):
        opt.step(lambda part=part: model(X[part]), oracle_of(y[part]))
    assert verdicts(opt) == {"majorisation": "holds", "descent": "void"}


def test_other_targets_void_the_descent():
    X, y = batch()
    model = network()
    opt = SSO(model.parameters(), m=5, inner_lr=0.02, measure=True)
    for shift in range(2):
        opt.step(lambda: model(X), oracle_of((y + shift) % 3))
    assert verdicts(opt)["descent"] == "void"


def change_decay(opt, model):
    opt.param_groups[0]["weight_decay"] = 0.5


def freeze(opt, model):
    next(model.parameters()).requires_grad_(False)


@pytest.mark.parametrize("change", [change_decay, freeze])
@pytest.mark.parametrize("measure", [False, True])
@pytest.mark.parametrize("saved", [False, True])
def test_another_objective_voids_the_descent(change, measure, saved):
    X, y = batch()
    model = network()
    opt = trained(model, X, oracle_of(y), measure=measure)
    assert verdicts(opt)["descent"] != "void"
    change(opt, model)
    if saved:
        opt.load_state_dict(copy.deepcopy(opt.state_dict()))
    opt.step(lambda: model(X), oracle_of(y))
    assert verdicts(opt)["descent"] == "void"
    assert verdicts(opt)["majorisation"] == ("holds" if measure else "unmeasured")


@pytest.mark.parametrize("factor", [1.5, 2, 4])
def test_an_l_that_is_too_small_is_void(factor):
    X, y = regression(torch.float64)
    model = nn.Linear(5, 1).double()
    oracle = loss_oracle(nn.MSELoss(reduction="sum"), y, L=2 / factor)
    assert verdicts(trained(model, X, oracle))["majorisation"] == "void"


@pytest.mark.parametrize("which", ["value", "gradient"])
def test_a_mean_for_one_of_two_is_void(which):
    X, y = regression()
    model = nn.Linear(5, 1)

    def oracle(z):
        value, G = 0.5 * (z - y).square().sum(), z - y
        return (value / 60, G) if which == "value" else (value, G / 60)

    oracle.L = 1.0
    assert verdicts(trained(model, X, oracle))["majorisation"] == "void"


def test_a_loss_below_its_bound_is_void():
    X, y = regression()

    def oracle(z):
        return 0.5 * (z - y).square().sum() - 1e4, z - y

    oracle.L = 1.0
    opt = trained(nn.Linear(5, 1), X, oracle)
    assert verdicts(opt)["descent"] == "void"
    assert verdicts(opt, lower=-1e4)["descent"] in ("holds", "vacuous")


def test_weight_decay_is_in_both_sides_of_the_descent():
    X, y = batch()
    opt = trained(network(), X, oracle_of(y), weight_decay=0.5, steps=10)
    assert verdicts(opt) == {"majorisation": "holds", "descent": "holds"}


def test_half_precision_outputs_do_not_overflow():
    X, y = batch()
    model = network()

    def forward():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return 300 * model(X)

    opt = SSO(model.parameters(), m=5, inner_lr=1e-3, measure=True)
    info = opt.step(forward, oracle_of(y))
    assert np.isfinite([info.loss, info.surrogate, info.after]).all()
    assert info.after <= info.surrogate * (1 + 1e-3)


# Devices


@pytest.mark.parametrize("inner", ["adam", "gd", "armijo", "lbfgs"])
def test_a_step_stays_on_the_device_of_the_model(inner):
    words = words_of(Path(__file__).with_name("on_a_device.py"), inner)
    assert words == ["cross-entropy", "bce", "numpy"]


@pytest.mark.gpu
def test_dropout_masks_stay_within_a_step_on_a_device():
    if not torch.cuda.is_available():
        pytest.skip("no device")
    X, y = (t.cuda() for t in batch())
    model = nn.Sequential(nn.Linear(6, 16), nn.Dropout(0.5), nn.Linear(16, 3)).cuda()
    opt = SSO(model.parameters(), m=5, inner_lr=0.01, measure=True)
    for _ in range(4):
        opt.step(lambda: model(X), oracle_of(y))
    assert str(opt.certificates()[0].verdict) == "holds"
