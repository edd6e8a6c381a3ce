import itertools
from copy import deepcopy

import networkx as nx
import numpy as np
import pytest

from whp.certificate import Verdict
from whp.online import GroupwiseShortestPath, grid
from whp.online._groupwise_regret.paths import follow_the_perturbed_leader_bound


def all_paths(graph, source, target):
    return [list(itertools.pairwise(p)) for p in nx.all_simple_paths(graph, source, target)]


def test_8_paths_on_a_grid():
    g = grid(5, 5)
    learner = GroupwiseShortestPath(g, (0, 0), (4, 4), 1, random_state=0)
    assert (learner.n, learner.K) == (40, 8)
    costs = (np.arange(1, 41) % 7) / 7
    value, path = learner._solve(costs)
    assert value == pytest.approx(22 / 7)
    assert path.tolist() == [0, 2, 4, 6, 8, 17, 26, 35]
    paths = all_paths(g, (0, 0), (4, 4))
    assert len(paths) == 70
    place = {e: i for i, e in enumerate(learner.edges)}
    for rng in np.random.default_rng(0).spawn(200):
        costs = rng.standard_normal(40)
        best = min(sum(costs[place[e]] for e in p) for p in paths)
        assert learner._solve(costs)[0] == pytest.approx(best)
    assert 1 + sum(1 / m for m in range(9, 41)) == pytest.approx(2.5606858959)
    assert follow_the_perturbed_leader_bound(40, 8, 100) == pytest.approx(137.0691539681)


def two_roads():
    g = nx.DiGraph([("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")])
    return g, "a", "d"


def test_8_noise_saves_from_alternating_costs():
    lost = {}
    for noise in (False, True):
        learner = GroupwiseShortestPath(*two_roads(), 1, noise=noise, random_state=0)
        for t in range(400):
            learner.choose([True])
            up = (0.5 if t == 0 else 1.0) * (t % 2 == 0)
            learner.update(
                {("a", "b"): up, ("a", "c"): (t % 2) * 1.0, ("b", "d"): 0.0, ("c", "d"): 0.0}
            )
        lost[noise] = learner.regret()[0]
    assert lost[False] > 90
    assert lost[True] < 25


def test_8_the_bound_on_paths_holds_in_expectation():
    costs = np.random.default_rng(1).random((150, 12)) * np.linspace(0.2, 1, 12)
    active = np.column_stack(
        [np.random.default_rng(2).random((150, 1)) < 0.3, np.ones(150, dtype=bool)]
    )
    runs, last = [], None
    for seed in range(20):
        last = GroupwiseShortestPath(grid(3, 3), (0, 0), (2, 2), 2, random_state=seed)
        for c, a in zip(costs, active, strict=True):
            last.choose(a)
            last.update(c)
        runs.append(last.regret())
    regrets = np.array(runs)
    assert (regrets.mean(axis=0) + 3 * regrets.std(axis=0) / np.sqrt(20) <= last.bound()).all()
    certificates = last.certificates(regrets, ["some", "everyone"])
    assert {c.measured.method for c in certificates} == {"betting"}
    assert {str(c.verdict) for c in certificates} <= {"vacuous", "inconclusive", "holds"}
    assert {c.verdict for c in last.certificates()} <= {Verdict.UNMEASURED, Verdict.VACUOUS}
    last.choose([True, True])
    last.update(np.full(12, 1.5))
    assert last.certificates(regrets)[0].verdict == Verdict.VOID


def test_misuse_of_paths_is_named():
    for graph, error, message in (
        (nx.DiGraph([(0, 1), (1, 0)]), ValueError, "cycle"),
        (nx.Graph([(0, 1)]), TypeError, "graph"),
    ):
        with pytest.raises(error, match=message):
            GroupwiseShortestPath(graph, 0, 1, 1)
    with pytest.raises(ValueError, match="target must differ"):
        GroupwiseShortestPath(nx.DiGraph([(0, 1)]), 0, 0, 1)
    with pytest.raises(ValueError, match="reached"):
        GroupwiseShortestPath(nx.DiGraph([(0, 1)]), 1, 0, 1)
    paths = GroupwiseShortestPath(nx.DiGraph([(0, 1)]), 0, 1, 1)
    with pytest.raises(ValueError, match="choose must come before"):
        paths.update([0.5])
    assert paths.choose([True]) == [0, 1]
    with pytest.raises(ValueError, match="edge_costs must be finite and not negative, edge 0"):
        paths.update([-0.5])
    with pytest.raises(ValueError, match="missing"):
        paths.update({})


def run_of(rounds, seed=0, **options):
    learner = GroupwiseShortestPath(*two_roads(), 1, random_state=seed, **options)
    for t in range(rounds):
        learner.choose([True])
        learner.update([t % 2, (t + 1) % 2, 0, 0])
    return learner


def test_runs_must_have_seen_the_same():
    runs = [run_of(40, seed) for seed in range(5)]
    (whole,) = runs[0].certificates(runs)
    (numbers,) = runs[0].certificates([r.regret() for r in runs])
    assert whole.measured == numbers.measured
    assert whole.verdict is not Verdict.VOID
    for others in ([*runs, run_of(39)], [run_of(40, noise=False)], [[41.0]]):
        (other,) = runs[0].certificates(others)
        assert other.verdict is Verdict.VOID
        assert other.measured is None
    (without,) = run_of(40, noise=False).certificates()
    assert without.verdict is Verdict.VOID


def test_two_edges_between_two_nodes_are_refused():
    with pytest.raises(ValueError, match="at most one edge"):
        GroupwiseShortestPath(nx.MultiDiGraph([("a", "b"), ("a", "b")]), "a", "b", 1)


def test_runs_have_coins_of_their_own():
    """Twenty runs of one random_state are one run; one generator may serve them all in turn."""
    costs = np.random.default_rng(0).random((20, 4))

    def walk(source):
        learner = GroupwiseShortestPath(*two_roads(), 1, random_state=source)
        for c in costs:
            learner.choose([True])
            learner.update(c)
        return learner

    def void(runs):
        return runs[0].certificates(runs)[0].verdict is Verdict.VOID

    shared = np.random.default_rng(1)
    assert not void([walk(seed) for seed in range(5)])
    assert not void([walk(shared) for _ in range(5)])
    assert void([walk(0) for _ in range(5)])
    assert void([walk(0), walk(1), walk(1)])
    one = walk(0)
    assert void([one, one])
    assert void([one, deepcopy(one)])


def test_the_budget_of_the_mixture_is_of_all_groups():
    """A group of few rounds pays for the budget that the others' rounds have used."""
    learner = GroupwiseShortestPath(*two_roads(), 2, random_state=0)
    costs = np.ones(4)
    for t in range(200):
        learner.choose([t < 5, True])
        learner.update(costs)
    budget = 2.5 + 1.5 * (np.log(6) + np.log(201)) / 2
    mixture = np.sqrt(3 * learner.rounds * (np.log(2) + np.log(budget)))
    leader = [follow_the_perturbed_leader_bound(4, 2, t) for t in (5, 200)]
    np.testing.assert_allclose(learner.bound(), mixture + leader)
