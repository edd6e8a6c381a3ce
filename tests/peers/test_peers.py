import importlib.util
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from whp.experiment.benchmark import Foreign
from whp.peers import (
    Peer,
    calibration,
    communities,
    invariance,
    latent,
    leakage,
    minimax,
    policy_optimisation,
    privacy,
    rewards,
    sketches,
)

BENCHMARKS = sorted((Path(__file__).parents[2] / "benchmarks").glob("*.py"))
FAMILIES = (
    calibration,
    communities,
    invariance,
    latent,
    leakage,
    minimax,
    policy_optimisation,
    privacy,
    rewards,
    sketches,
)
PEERS = [p for family in FAMILIES for p in vars(family).values() if isinstance(p, Peer)]


def call(peer, *arguments):
    assert callable(peer.call)
    try:
        return peer.call(*arguments)
    except ImportError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("peer", PEERS, ids=lambda p: p.name)
def test_a_peer_has_a_call_or_a_reason(peer):
    assert callable(peer.call) or isinstance(peer.call, Foreign) or peer.note
    if isinstance(peer.call, Foreign):
        assert peer.needs in peer.call.requirements


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda p: p.stem)
def test_benchmarks_name_their_peers_and_targets(path):
    spec = importlib.util.spec_from_file_location(f"bench_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.CASES
    for case in module.CASES:
        names = [p.name for p in case.all_peers]
        assert len(set(names)) == len(names)
        for target in case.targets:
            assert not target.peer or target.peer in names


@pytest.mark.parametrize(
    "peer", [sketches.LSTSQ, sketches.GELSY, sketches.NORMAL_EQUATIONS], ids=lambda p: p.name
)
def test_exact_solvers_solve(peer):
    rng = np.random.default_rng(0)
    A, x = rng.standard_normal((60, 4)), np.arange(4.0)
    np.testing.assert_allclose(call(peer, A, A @ x, 20), x, atol=1e-10)


@pytest.mark.parametrize(
    "peer", [sketches.CLARKSON_WOODRUFF, sketches.GAUSSIAN_PROJECTION], ids=lambda p: p.name
)
def test_sketches_solve_what_has_no_residual(peer):
    rng = np.random.default_rng(0)
    A, x = rng.standard_normal((400, 3)), np.arange(3.0)
    np.testing.assert_allclose(call(peer, A, A @ x, 60), x, atol=1e-8)


def test_hadamard_is_a_transform():
    H = call(sketches.HADAMARD, np.eye(4))
    np.testing.assert_allclose(H @ H.T, np.eye(4) * (H @ H.T)[0, 0], atol=1e-6)


def test_row_sampling_and_countsketch_keep_norms_on_average():
    X = np.random.default_rng(1).standard_normal((64, 2))
    for make in (sketches.CountSketch, sketches.RowSampling):
        norms = [np.square(make(64, 32, s) @ X).sum() for s in range(300)]
        assert np.mean(norms) == pytest.approx(np.square(X).sum(), rel=0.05)
        S = make(64, 32, 0)
        np.testing.assert_allclose((S.T @ np.eye(32)).T, S @ np.eye(64))


@pytest.mark.parametrize(
    "peer",
    [
        calibration.SKLEARN_TEMPERATURE,
        calibration.SKLEARN_ISOTONIC,
        calibration.NETCAL,
        calibration.HISTOGRAM,
        calibration.TS_MIX,
        calibration.VENN_ABERS,
        Peer("temperature scaling", calibration.temperature_scaling),
    ],
    ids=lambda p: p.name,
)
def test_recalibration_lowers_log_loss_of_overconfident_scores(peer):
    rng = np.random.default_rng(0)
    truth = rng.dirichlet(np.ones(3), 1200)
    y = np.minimum((truth.cumsum(1) < rng.random((1200, 1))).sum(1), 2)
    z = 3 * np.log(np.maximum(truth, 1e-9))
    z = z - np.log(np.exp(z).sum(1, keepdims=True))
    P = call(peer, z[:600], y[:600], z[600:])
    np.testing.assert_allclose(P.sum(1), 1, atol=1e-5)
    loss = -np.log(np.maximum(P[np.arange(600), y[600:]], 1e-4)).mean()
    assert loss < -np.maximum(z[600:][np.arange(600), y[600:]], np.log(1e-4)).mean()


def test_communities_of_two_cliques():
    graph = nx.connected_caveman_graph(2, 8)
    csr = communities.int32_csr(nx.to_scipy_sparse_array(graph))
    truth = np.repeat([0, 1], 8)
    edges = communities.edges_of(csr)
    assert len(edges) == graph.number_of_edges()
    labels = [
        communities.cut(call(communities.PARIS, csr), 2),
        communities.cut(call(communities.LOUVAIN, csr), 2),
        call(communities.LEIDEN, 16, edges),
        communities.walktrap(16, edges, 2),
    ]
    for found in labels:
        assert (found == found[0]).tolist() == (truth == truth[0]).tolist()


def test_noise_of_opendp():
    for peer, deviation in ((privacy.GAUSSIAN, 20.0), (privacy.LAPLACE, 20 * 2**0.5)):
        noise = np.array(call(peer, [0] * 4000))
        assert noise.std() == pytest.approx(deviation, rel=0.1)
    assert len(call(privacy.TREE, np.ones((8, 2), dtype=np.uint8))) == 2


def test_leakage_by_other_libraries_is_ours():
    from whp.llm import Censor, read_system
    from whp.llm._information_censorship.leakage import Measure
    from whp.llm._information_censorship.leakage import leakage as ours

    rng = np.random.default_rng(0)
    channel, prior = rng.dirichlet(np.ones(5), 4), rng.dirichlet(np.ones(4))
    system = read_system([channel], np.arange(4), prior)
    whole = ours(system, [channel], Measure(np.ones(4, bool)))
    assert call(leakage.DIT, prior[:, None] * channel) == pytest.approx(whole, abs=1e-12)
    assert call(leakage.QIF, prior, channel) == pytest.approx(whole, abs=1e-12)
    kept = float(Censor("krr", 1, 1.0, 1.3, 1.0).matrix(4)[0, 0])
    assert leakage.epsilon(kept, 4) == pytest.approx(1.3, abs=1e-9)


def test_loops_play_as_ours_do():
    from whp.rl import AdversarialPolicyOptimizer, LinearQModel

    P = np.full((1, 2, 2, 2), 0.5)
    model = LinearQModel.from_tabular(P, [0.5, 0.5])
    losses = np.random.default_rng(0).random((300, 2, 2, 2))
    losses[..., 0] /= 4
    made = AdversarialPolicyOptimizer(
        model, n_episodes=300, eta=0.05, beta=0.0, gamma=0.01, n_runs=40, random_state=0
    ).run(losses)
    theirs = [
        call(policy_optimisation.LOOPS, model, losses, (0.05, 0.0, 0.01), np.random.default_rng(s))
        for s in range(20)
    ]
    spread = np.std(theirs) * np.sqrt(1 / 20 + 1 / 40)
    assert abs(made.history_["loss"].iloc[-1] - np.mean(theirs)) < 4 * spread


def test_invariant_causal_prediction_and_penalties_find_the_cause():
    rng = np.random.default_rng(0)
    env = np.repeat(np.arange(12), 300)
    X = rng.standard_normal((3600, 2)) * np.exp(0.5 * rng.standard_normal((12, 1)))[env]
    y = X[:, 0] + rng.standard_normal(3600)
    X[:, 1] += (1 + rng.standard_normal(12))[env] * y
    estimate, accepted = call(invariance.CAUSALICP, X, y, env)
    assert estimate == {0}
    assert (0,) in accepted
    of = invariance.moments(X, y, env)
    A, b, v = of
    np.testing.assert_allclose(A[0], np.cov(X[env == 0].T, bias=True))
    pooled = invariance.pooled(of)
    assert abs(pooled[1]) > 0.1
    assert abs(invariance.irm(of, 1e3)[1]) < abs(pooled[1])
    assert abs(invariance.vrex(of, 1e3)[1]) < abs(pooled[1])
    risks = lambda w: np.einsum("i,mij,j->m", w, A, w) - 2 * b @ w + v  # noqa: E731
    assert risks(invariance.vrex(of, 1e3)).var() < risks(pooled).var()


def test_anchor_regression_of_ivmodels_is_ours():
    rng = np.random.default_rng(0)
    env = np.repeat(np.arange(6), 100)
    X = rng.standard_normal((600, 2)) + 0.3 * env[:, None]
    y = X[:, 0] + rng.standard_normal(600) + 0.2 * env
    theirs = call(invariance.IVMODELS, X, y, env, 7.0)
    np.testing.assert_allclose(invariance.anchor(X, y, env, 7.0), theirs, atol=1e-6)


def test_networkx_finds_the_same_classes():
    from whp.invariance import stable_classes

    graph = nx.DiGraph([("Y", "B"), ("B", "C"), ("D", "C"), ("Y", "D")])
    assert call(minimax.NETWORKX, graph, "Y", []) == set(stable_classes(graph, "Y", []))


def test_predictors_for_other_environments_predict():
    import pandas as pd

    rng = np.random.default_rng(0)
    a = rng.normal(size=300)
    y = a + 0.1 * rng.normal(size=300)
    env = np.arange(300) % 3
    table = pd.DataFrame({"a": a, "b": (env + 1) * y + rng.normal(size=300), "y": y, "env": env})
    for made in (
        minimax.anchor_predictions(table, table, "y", ["a", "b"], "env", 7.0),
        minimax.invariant_predictions(table, table, "y", ["a", "b"], "env", "vREx"),
        minimax.invariant_predictions(table, table, "y", ["a", "b"], "env", "IRM"),
    ):
        assert ((made - y) ** 2).mean() < 0.1
    assert minimax.icp_subset(table, "y", ["a", "b"], "env") in (["a"], [])
