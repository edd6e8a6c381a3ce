import numpy as np
import pytest
import torch
from comp_sum import centroids
from torch import nn
from torch.nn import functional

from whp.certificate import Status, Verdict
from whp.losses import robust_error_bound


@pytest.mark.parametrize(
    ("radius", "error", "bounds"),
    [
        (0.0, 0.095159, (0.150871, 0.133967, 0.227555)),
        (0.02, 0.135225, (0.212233, 0.186113, 0.316933)),
        (0.05, 0.208125, (0.352458, 0.296507, 0.505051)),
        (0.1, 0.409015, (0.759975, 0.600037, 1.021706)),
    ],
)
def test_a_linear_classifier(radius, error, bounds):
    X, y, centres, *_ = centroids()
    model = (2 * centres, -(centres**2).sum(axis=1))
    for (tau, rho), bound in zip(((1.0, 0.3), (2.0, 0.3), (1.0, 1.0)), bounds, strict=True):
        found = robust_error_bound(model, X, y, radius, tau=tau, rho=rho)
        assert found.attacked == pytest.approx(error, abs=1e-6)
        assert found.bound == pytest.approx(bound, abs=1e-6)
        assert found.counted == found.attacked
        assert found.bound >= found.counted
        assert found.rows_to_come > found.counted
        verdicts = {c.name: c.verdict for c in found.certificates}
        assert verdicts["robust-count"] is Verdict.HOLDS
        assert verdicts["robust-error"] is Verdict.UNMEASURED
        assert verdicts["robust-margin"] is Verdict.VACUOUS  # the count is never above it
    if radius == 0.02:
        assert found.smooth == pytest.approx(6.48, abs=0.01)
        assert found.certificates[3].verdict == Verdict.VACUOUS


def trained():
    X, y, *_ = centroids()
    X, y = torch.tensor(X, dtype=torch.float32), torch.tensor(y)
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 10)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        functional.cross_entropy(model(X), y).backward()
        optimizer.step()
    return model.eval(), X.numpy()[:300], y.numpy()[:300]


@pytest.fixture(scope="module")
def network():
    return trained()


def verdict(found, name):
    return next(c.verdict for c in found.certificates if c.name == name)


def test_a_demand_is_decided_by_what_was_found_and_proven(network):
    model, X, y = network
    easy = robust_error_bound(model, X, y, 0.005, at_most=0.3, rng=0)
    assert verdict(easy, "robust-count") is Verdict.HOLDS
    assert verdict(easy, "robust-error") is Verdict.HOLDS
    assert easy.certificates[0].measured.low == easy.attacked
    assert easy.certificates[0].measured.high == easy.counted
    hard = robust_error_bound(model, X, y, 0.3, at_most=0.01, rng=0)
    assert verdict(hard, "robust-count") is Verdict.FAILS
    assert verdict(hard, "robust-error") is Verdict.FAILS
    between = robust_error_bound(model, X, y, 0.05, at_most=0.4, rng=0)
    assert between.attacked < 0.4 < between.counted
    assert verdict(between, "robust-count") is Verdict.INCONCLUSIVE
    plain = robust_error_bound(model, X, y, 0.005, rng=0)
    assert verdict(plain, "robust-count") is Verdict.UNMEASURED
    assert plain.certificates[0].passes("stands")


def test_what_is_void(network):
    model, X, y = network
    small = robust_error_bound(model, X, y, 0.005, nu=0.1, rng=0)
    assert verdict(small, "robust-smooth") is Verdict.VOID
    assert verdict(small, "robust-count") is not Verdict.VOID
    outside = robust_error_bound(model, X, y, 0.005, box=(0.2, 0.8), rng=0)
    assert {c.verdict for c in outside.certificates} == {Verdict.VOID}
    model.train()
    training = robust_error_bound(model, X, y, 0.005, rng=0)
    assert {c.verdict for c in training.certificates} == {Verdict.VOID}
    assert all(m.training for m in model.modules())
    model.eval()


def test_attacks_prove_nothing(network):
    model, X, y = network
    tried = robust_error_bound(model, X, y, 0.02, sup="pgd", steps=5, rng=0)
    for c in tried.certificates:
        assert c.verdict in (Verdict.UNMEASURED, Verdict.VACUOUS), c.name
        assert any(a.status is Status.UNCHECKED for a in c.conditions)
    assert tried.bound <= robust_error_bound(model, X, y, 0.02, rng=0).bound + 1e-9
    assert tried.rows_to_come == 1.0
    asked = robust_error_bound(model, X, y, 0.02, sup="pgd", at_most=0.9, steps=5, rng=0)
    assert verdict(asked, "robust-count") is Verdict.INCONCLUSIVE
    caught = robust_error_bound(model, X, y, 0.3, sup="pgd", at_most=0.1, rng=0)
    assert verdict(caught, "robust-count") is Verdict.FAILS


def test_rows_to_come_have_a_limit_of_their_own():
    """The count of these rows is below the law's robust error in a good part of samples; the limit is not."""
    rng = np.random.default_rng(0)
    W, missed, below = rng.normal(size=(3, 5)), 0, 0
    X = rng.normal(size=(200_000, 5))
    y = (X @ W.T + 0.3 * rng.normal(size=(200_000, 3))).argmax(axis=1)
    truth = robust_error_bound((W, np.zeros(3)), X, y, 0.1).counted
    for _ in range(200):
        rows = rng.integers(0, 200_000, 50)
        found = robust_error_bound((W, np.zeros(3)), X[rows], y[rows], 0.1)
        below += found.counted < truth
        missed += found.rows_to_come < truth
    assert below > 50
    assert missed <= 15


def test_the_smooth_loss_bounds_the_margin_loss_if_nu_is_large_enough():
    X, y, centres, *_ = centroids()
    model = (2 * centres, -(centres**2).sum(axis=1))
    for radius in (0.0, 0.02):
        for tau in (0.5, 1.0, 2.0):
            found = robust_error_bound(model, X, y, radius, tau=tau, rho=0.5)
            assert found.smooth >= found.bound
    l2 = robust_error_bound(model, X, y, 0.1, norm="l2")
    assert l2.attacked < robust_error_bound(model, X, y, 0.1).attacked

    assert l2.plot() is not None


def test_the_same_seed_as_the_data_gives_other_starts():
    """Starts of attacks are drawn from a stream of their own."""
    from whp.validate import private_stream

    assert private_stream(3).integers(2**62) != np.random.default_rng(3).integers(2**62)
    model = nn.Sequential(nn.Linear(2, 2)).eval()
    X, y = np.random.default_rng(3).random((20, 2)).astype(np.float32), np.arange(20) % 2
    state = torch.random.get_rng_state()
    first, second = (robust_error_bound(model, X, y, 0.1, rng=3).attacked for _ in range(2))
    assert first == second
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model": (np.ones((3, 4)),)}, "model"),
        ({"model": (np.ones((3, 5)), np.zeros(3))}, "model"),
        ({"model": "network"}, "model"),
        ({"radius": -1}, "radius"),
        ({"rho": 0}, "rho"),
        ({"sup": "exact"}, "sup"),
        ({"norm": "l1"}, "norm"),
        ({"y": [5, 0]}, "y"),
        ({"x": np.ones((2, 0))}, "x"),
        ({"box": (1.0, 0.0)}, "box"),
        ({"at_most": 1.5}, "at_most"),
        ({"steps": 0}, "steps"),
    ],
)
def test_bad_input_of_the_robust_bound_is_named(change, named):
    good = {
        "model": (np.ones((3, 4)), np.zeros(3)),
        "x": np.ones((2, 4)),
        "y": [0, 1],
        "radius": 0.1,
    }
    with pytest.raises((ValueError, TypeError), match=named):
        robust_error_bound(**(good | change))


def test_copies_void_the_limit_for_rows_to_come():
    X = np.repeat(np.random.default_rng(0).normal(size=(20, 3)), 50, axis=0)
    given = ((np.eye(3), np.zeros(3)), X, X.argmax(axis=1), 0.05)
    assert verdict(robust_error_bound(*given, at_most=0.9), "robust-error") is Verdict.VOID
    assert verdict(robust_error_bound(*given, at_most=0.9), "robust-count") is Verdict.HOLDS
    said = robust_error_bound(*given, at_most=0.9, distinct=False)
    assert verdict(said, "robust-error") is Verdict.HOLDS


def test_a_round_ball_is_cut_by_the_box():
    W, b = np.array([[1.0, 1.0], [0.0, 0.0]]), np.array([-0.5, 0.0])
    x = np.array([[0.1, 1.0]])  # falls by .1 to the wall, and by √(.25 − .01) along it
    found = robust_error_bound((W, b), x, [0], 0.5, norm="l2", box=(0, 1))
    assert found.least_margin[0] == pytest.approx(0.6 - 0.1 - np.sqrt(0.24), abs=1e-9)
    free = robust_error_bound((W, b), x, [0], 0.5, norm="l2")
    assert free.least_margin[0] == pytest.approx(0.6 - 0.5 * np.sqrt(2), abs=1e-9)
    assert (free.attacked, found.attacked) == (1, 0)
