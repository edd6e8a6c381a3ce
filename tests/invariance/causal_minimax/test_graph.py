import time
from itertools import combinations, product

import networkx as nx
import numpy as np
import pytest
from minimax import SIMULATION, K, random_dag

from whp.invariance import minimal_representative, stable_classes, whole_stable_set_is_optimal
from whp.invariance._causal_minimax.graph import as_dag, reversible_edges


def chain(n):
    return nx.DiGraph([("Y" if i == 0 else f"A{i}", f"A{i + 1}") for i in range(n)])


def words(classes):
    return ["".join(sorted(c)) for c in classes]


def subsets(names):
    return [set(s) for r in range(len(names) + 1) for s in combinations(names, r)]


@pytest.mark.parametrize(("graph", "count"), [(chain(5), 6), (chain(10), 11)])
def test_chains_have_one_class_more_than_nodes(graph, count):
    assert len(stable_classes(graph, "Y", [])) == count


def test_a_star_has_all_subsets():
    star = nx.DiGraph([("Y", f"A{i}") for i in range(5)])
    assert len(stable_classes(star, "Y", [])) == 32
    with pytest.raises(ValueError, match="max_classes: the graph has more than 31 classes"):
        stable_classes(star, "Y", [], max_classes=31)


def test_small_graphs():
    first = nx.DiGraph([("Y", "B"), ("B", "C"), ("D", "C"), ("Y", "D")])
    assert words(stable_classes(first, "Y", [])) == ["", "B", "C", "D", "BC", "BD", "CD"]
    second = nx.DiGraph([("A", "Y"), ("A", "B"), ("Y", "B"), ("B", "C")])
    assert words(stable_classes(second, "Y", [])) == ["", "A", "B", "C", "AB", "AC"]


def test_the_papers_simulation_has_45_classes_in_milliseconds():
    times = []
    for _ in range(5):
        start = time.process_time()
        found = stable_classes(SIMULATION, "Y", ["X9", "X10"])
        times.append(time.process_time() - start)
    assert len(found) == len(set(found)) == 45
    assert min(times) < 0.01
    start = time.process_time()
    assert len(stable_classes(chain(60), "Y", [])) == 61
    assert time.process_time() - start < 1


@pytest.mark.parametrize("seed", range(100))
def test_classes_and_reversible_edges_equal_brute_force(seed):
    rng = np.random.default_rng(seed)
    graph = random_dag(rng, 7)
    mutable = [str(v) for v in rng.choice(6, 2, replace=False) + 1]
    stable = [v for v in graph if v != "0" and v not in mutable]
    left = graph.copy()
    left.remove_nodes_from(mutable)
    wanted = {
        frozenset(v for v in s if not nx.is_d_separator(left, {"0"}, {v}, s - {v}))
        for s in subsets(stable)
    }
    found = stable_classes(graph, "0", mutable)
    assert len(found) == len(set(found))
    assert set(found) == wanted
    one = stable[: len(stable) // 2]
    assert minimal_representative(graph, "0", mutable, one) in wanted
    if graph.number_of_edges() <= 8:
        assert set(reversible_edges(as_dag(graph, "0", mutable))) == reversed_somewhere(graph)


def reversed_somewhere(graph):
    """By going through all orientations with the same skeleton and colliders."""

    def colliders(g):
        return frozenset(
            (frozenset(pair), v)
            for v in g
            for pair in combinations(sorted(g.predecessors(v)), 2)
            if not (g.has_edge(*pair) or g.has_edge(*pair[::-1]))
        )

    edges, found = list(graph.edges), set()
    for turned in product((False, True), repeat=len(edges)):
        other = nx.DiGraph()
        other.add_nodes_from(graph)
        other.add_edges_from(e[::-1] if t else e for e, t in zip(edges, turned, strict=True))
        if nx.is_directed_acyclic_graph(other) and colliders(other) == colliders(graph):
            found |= {e for e, t in zip(edges, turned, strict=True) if t}
    return found


def test_separation_is_that_of_networkx():
    rng = np.random.default_rng(0)
    for _ in range(60):
        graph = random_dag(rng, 6)
        dag = as_dag(graph, "0", ["1"])
        a, b = (str(v) for v in rng.choice(6, 2, replace=False))
        given = {str(v) for v in range(6) if rng.random() < 0.4} - {a, b}
        ours = dag.separated(dag.mask([a]), dag.mask([b]), dag.mask(given))
        assert ours == nx.is_d_separator(graph, {a}, {b}, given)


def test_the_condition_names_what_offends():
    made = whole_stable_set_is_optimal(K, "Y", ["M"])
    assert not made.holds
    assert made.K == made.offending == {"X"}
    assert whole_stable_set_is_optimal(nx.DiGraph([("Y", "M"), ("M", "Z"), ("Y", "W")]), "Y", ["M"])
    # A mutable descendant of a mutable child belongs to K unless it is a child of the target itself.
    graph = nx.DiGraph([("Y", "M"), ("M", "N"), ("N", "X")])
    below = whole_stable_set_is_optimal(graph, "Y", ["M", "N"]).K
    assert below == {"N", "X"}
    assert whole_stable_set_is_optimal(graph, "Y", ["M", "N"]).holds


@pytest.mark.parametrize(
    ("graph", "target", "mutable", "told"),
    [
        (nx.DiGraph([("Y", "A"), ("A", "B"), ("B", "Y")]), "Y", [], "cycle"),
        (nx.DiGraph([("Y", "M"), ("M", "Y")]), "Y", ["M"], "no direction for 'M' - 'Y'|'Y' - 'M'"),
        (nx.DiGraph([("Y", "M")]), "Y", ["Y"], "must not name the target"),
        (nx.DiGraph([("Y", "M")]), "Y", ["m"], "no node 'm'; did you mean 'M'"),
        (nx.DiGraph([("Y", "M")]), "Z", [], "target: the graph has no node 'Z'"),
    ],
)
def test_what_is_no_graph_for_this_is_named(graph, target, mutable, told):
    with pytest.raises(ValueError, match=told):
        stable_classes(graph, target, mutable)


def test_an_undirected_graph_is_refused():
    with pytest.raises(TypeError, match=r"must be a networkx.DiGraph"):
        stable_classes(nx.Graph([("Y", "A")]), "Y", [])
    with pytest.raises(ValueError, match="must name stable variables, got 'M'"):
        minimal_representative(K, "Y", ["M"], ["M"])


def test_a_text_is_one_name():
    graph = nx.relabel_nodes(K, {"M": "treated", "W": "lab"})
    assert stable_classes(graph, "Y", "treated") == stable_classes(graph, "Y", ["treated"])
    assert minimal_representative(graph, "Y", "treated", "lab") == {"lab"}
