"""Graphs as the collections and the drawing programs write them."""

import gzip
import os

import networkx as nx
import numpy as np
import pytest
import scipy.sparse

from whp.io import Choice, Data, edge_weight, read

GRAPH = {"graph": Data("graph")}


@pytest.fixture
def given(tmp_path):
    def reader(text, name, **options):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        notes = []
        graph = read([path], GRAPH, required=["graph"], notes=notes, **options)["graph"]
        return graph, "; ".join(notes)

    return reader


def edges(graph):
    return {tuple(sorted(e)) for e in graph.edges()}


TRIANGLE = {("1", "2"), ("1", "3"), ("2", "3")}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("konect.txt", "% sym unweighted\n1 2\n2 3\n3 1\n"),
        ("konect.txt", "% sym weighted\n% 3 3 3\n1 2 1\n2 3 1\n3 1 1\n"),
        ("netrepo.edges", "% sym\n1,2\n2,3\n3,1\n"),
        ("snap.txt", "# Nodes: 3 Edges: 3\n# FromNodeId\tToNodeId\n1\t2\n2\t3\n3\t1\n"),
        ("networkx.edgelist", "1 2 {'weight': 2}\n2 3 {}\n3 1 {'weight': 1.5}\n"),
        ("words.txt", "source target\n1 2\n2 3\n3 1\n"),
        ("crlf.txt", "1 2\r\n\r\n2 3\r\n3 1\r\n"),
        ("bom.csv", "\ufeffsource,target\n1,2\n2,3\n3,1\n"),
        ("excel.csv", "source;target\n1;2\n2;3\n3;1\n"),
        ("bare.csv", "1,2\n2,3\n3,1\n"),
        ("weighted.csv", "1,2,0.5\n2,3,0.5\n3,1,0.25\n"),
        ("swapped.csv", "count,target,source\n7,1,2\n7,2,3\n7,3,1\n"),
        (
            "lines.jsonl",
            '{"source": 1, "target": 2}\n{"source": 2, "target": "3"}\n{"source": 3, "target": 1}\n',
        ),
        ("both.csv", "source,target\n1,2\n2,1\n2,3\n3,2\n3,1\n1,3\n"),
    ],
)
def test_lists_of_edges(given, name, text):
    graph, _ = given(text, name)
    assert edges(graph) == TRIANGLE
    assert not graph.is_directed()
    assert not graph.is_multigraph()


def test_nodes_are_the_same_text_at_both_ends(given):
    graph, _ = given("source,target\n1,2\n2,1\n1,guest\n", "m.csv")
    assert set(graph) == {"1", "2", "guest"}
    graph, _ = given("source,target\n01,1\n1,2\n", "z.csv")
    assert set(graph) == {"01", "1", "2"}
    graph, _ = given('{"source": "01", "target": "1"}\n{"source": "1", "target": "2"}\n', "z.jsonl")
    assert set(graph) == {"01", "1", "2"}
    graph, _ = given("source,target\nDE,NA\nNA,FR\nFR,DE\n", "na.csv")
    assert set(graph) == {"DE", "NA", "FR"}
    with pytest.raises(
        ValueError, match="an edge lacks one of its ends: column 'target' has a missing"
    ):
        given("source,target\nDE,\nNA,FR\n", "na.csv")
    with pytest.raises(ValueError, match="an edge lacks one of its ends, in edge 2"):
        given("1 2\n3\n", "short.txt")
    with pytest.raises(ValueError, match="first line seems to be an edge, since 'bob' is a node"):
        given("alice,bob\nbob,carol\n", "names.csv")


def test_weights_are_found_by_name_or_asked_for(given):
    text = 'graph [\n node [ id 0 label "a" ]\n node [ id 1 label "b" ]\n edge [ source 0 target 1 value 5 ]\n]\n'
    graph, _ = given(text, "v.gml")
    with pytest.raises(ValueError, match=r"no 'weight' on the edge 'a' - 'b'; edges carry 'value'"):
        edge_weight(graph)
    assert edge_weight(graph, "value") == "value"
    graph, _ = given(text, "v.gml", weight="value")
    assert graph.edges["a", "b"]["weight"] == 5
    with pytest.raises(ValueError, match=r"did you mean 'value'\?"):
        given(text, "v.gml", weight="valu")
    graph, _ = given("source,target,count\n1,2,3\n2,3,4\n", "c.csv", weight="count")
    assert graph.edges["1", "2"]["weight"] == 3
    graph, _ = given("% sym positive\n1 2 3\n2 3 4\n", "k.txt")
    assert edge_weight(graph) == "weight"
    assert graph.edges["2", "3"]["weight"] == 4
    graph, _ = given("0 1 {'weight': 2}\n1 2 {'weight': 3}\n", "n.edgelist")
    assert graph.edges["1", "2"]["weight"] == 3
    graph, _ = given("source,target,kind\n1,2,road\n", "k.csv")
    with pytest.raises(ValueError, match="graph has 'road' as 'kind'"):
        edge_weight(graph, "kind")
    with pytest.raises(ValueError, match="edges carry nothing"):
        edge_weight(nx.path_graph(3))


def test_repeated_edges(given):
    graph, notes = given("source,target,weight\n1,2,3\n2,1,3\n2,3,1\n", "mirror.csv")
    assert not graph.is_multigraph()
    assert "1 edges stand in both directions" in notes
    graph, notes = given("source,target,weight\n1,2,3\n1,2,4\n2,3,1\n", "twice.csv")
    assert graph.is_multigraph()
    assert graph.size(weight="weight") == 8
    assert "1 edges come more than once" in notes
    graph, _ = given("1 2\n1 2\n2 3\n", "twice.txt")
    assert edges(graph) == {("1", "2"), ("2", "3")}


def test_gml_of_other_programs(given):
    nodes = "".join(f" node\n [\n id {i}\n ]\n" for i in range(2))
    edge = " edge\n [\n source 0\n target 1\n ]\n"
    igraph = f'Creator "igraph"\nVersion 1\ngraph\n[\n directed 0\n{nodes}{edge}]\n'
    graph, _ = given(igraph, "p.gml")
    assert set(graph) == {0, 1}
    assert graph.number_of_edges() == 1
    twice = igraph.replace("]\n]\n", "]\n edge\n [\n source 1\n target 0\n ]\n]\n")
    graph, _ = given(twice, "p.gml")
    assert (graph.number_of_nodes(), graph.number_of_edges()) == (2, 2)
    same = 'graph [\n node [ id 0 label "x" ]\n node [ id 1 label "x" ]\n edge [ source 0 target 1 ]\n]\n'
    graph, _ = given(same, "p.gml")
    assert set(graph) == {0, 1}


GRAPHML = """<?xml version="1.0" encoding="UTF-8"?>
<graphml xmlns="http://graphml.graphdrawing.org/xmlns" {more}>
{key}<graph id="G" edgedefault="{kind}">
<node id="n0">{n0}</node><node id="n1">{n1}</node><edge source="n0" target="n1"/>
</graph></graphml>"""


def test_graphml_of_other_programs(given):
    igraph = GRAPHML.format(
        more="",
        key='<key id="v" for="node" attr.name="name" attr.type="string"/>',
        kind="undirected",
        n0='<data key="v">Ann</data>',
        n1='<data key="v">Bob</data>',
    )
    graph, notes = given(igraph, "i.graphml")
    assert set(graph) == {"Ann", "Bob"}
    assert "nodes named by their 'name'" in notes
    label = '<data key="d"><y:ShapeNode><y:NodeLabel>{}</y:NodeLabel></y:ShapeNode></data>'
    yed = GRAPHML.format(
        more='xmlns:y="http://www.yworks.com/xml/graphml"',
        key='<key for="node" id="d" yfiles.type="nodegraphics"/>',
        kind="directed",
        n0=label.format("Ann"),
        n1=label.format("Bob"),
    )
    graph, notes = given(yed, "y.graphml")
    assert set(graph) == {"Ann", "Bob"}
    assert not graph.is_directed()
    assert "yEd calls every graph directed" in notes
    plain = GRAPHML.format(more="", key="", kind="directed", n0="", n1="")
    assert given(plain, "d.graphml")[0].is_directed()
    graph, notes = given(plain, "d.graphml", undirected=True)
    assert not graph.is_directed()
    assert "directions left out" in notes
    graph, _ = given(gzip.compress(igraph.encode()), "i.graphml.gz")
    assert set(graph) == {"Ann", "Bob"}


def test_directed_and_bipartite_graphs_of_konect(given):
    assert given("% asym unweighted\n1 2\n2 1\n", "a.txt")[0].number_of_edges() == 2
    graph, _ = given("% asym unweighted\n1 2\n2 1\n2 3\n", "a.txt", undirected=True)
    assert edges(graph) == {("1", "2"), ("2", "3")}
    with pytest.raises(ValueError, match="two sides number their nodes from 1"):
        given("% bip unweighted\n1 1\n1 2\n", "b.txt")


def test_columns_of_a_list_are_chosen(given):
    text = "when,a,b,weight\n2024,1,2,5\n2025,2,3,6\n"
    graph, _ = given(text, "t.csv", choice=Choice(columns=("a", "b"), drop=("when",)))
    assert edges(graph) == {("1", "2"), ("2", "3")}
    assert graph.edges["1", "2"] == {"weight": 5}
    with pytest.raises(ValueError, match="no column 'c'"):
        given(text, "t.csv", choice=Choice(columns=("a", "c")))
    with pytest.raises(ValueError, match="needs two columns"):
        given("a\n1\n", "t.csv")
    with pytest.raises(ValueError, match="must go with a table"):
        given("1 2\n", "t.txt", choice=Choice(drop=("a",)))


def test_an_edge_carries_data_and_never_code(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for carried in ("{'weight': __import__('os').mkdir('exploded')}", "{[]: 1}", "{" * 5000 + "}"):
        with pytest.raises(ValueError, match="edge 1 carries no dictionary"):
            given(f"0 1 {carried}\n", "e.edgelist")
    assert not os.path.exists("exploded")


def test_matrices_of_every_format_give_the_same_graph(tmp_path):
    matrix = scipy.sparse.csr_array(nx.to_scipy_sparse_array(nx.karate_club_graph()), dtype=float)
    matrix = scipy.sparse.csr_array(scipy.sparse.block_diag([matrix, matrix]))
    for form in ("csr", "csc", "coo", "dia", "bsr"):
        scipy.sparse.save_npz(tmp_path / "m.npz", matrix.asformat(form))
        got = read([tmp_path / "m.npz"], GRAPH)["graph"]
        np.testing.assert_array_equal(got.toarray(), matrix.toarray(), err_msg=form)
        one = read([tmp_path / "m.npz"], {"A": Data("matrix")}, required=["A"])["A"]
        np.testing.assert_array_equal(one.toarray(), matrix.toarray(), err_msg=form)
    with pytest.raises(ValueError, match="no edge attribute"):
        read([tmp_path / "m.npz"], GRAPH, weight="value")


def test_arrows_are_told_from_edges(given):
    mixed = "a,b\nb,a\nb,c\n"
    assert given("source,target\n" + mixed, "follows.csv")[0].is_directed()
    assert given(mixed.replace(",", " "), "follows.txt")[0].is_directed()
    assert given("source,target\n" + mixed + "a,b\n", "mails.csv")[0].is_directed()
    for text in (
        "source,target\na,b\nb,c\n",  # all in one order, as networkx writes them
        "source,target\na,b\nb,a\n",  # all in both
        "source,target,Type\na,b,Undirected\nb,a,Undirected\nb,c,Undirected\n",  # Gephi
        "t,i,j\n1,a,b\n2,b,a\n3,b,c\n".replace("t,i,j", "i,j,t").replace("1,a,b", "a,b,1"),
        "i,j\na,b\na,b\nb,a\nb,c\n",  # a log
    ):
        assert not given(text, "edges.csv")[0].is_directed(), text


def test_pairs_that_come_again_are_kept_apart(given):
    graph, notes = given("i,j\na,b\na,b\nb,a\nb,c\n", "log.csv")
    assert graph.is_multigraph()
    assert graph.number_of_edges("a", "b") == 3
    assert "1 edges come more than once" in notes


def test_names_of_nodes_are_the_same_however_a_program_wrote_them(given):
    graph, _ = given("source,target\n3.0,4\n4.0,5\n5,3\n", "floats.csv")
    assert set(graph) == {"3", "4", "5"}
    graph, _ = given("source,target\nn5 ,n7\nn7, n6\nn6,n5\n", "blanks.csv")
    assert set(graph) == {"n5", "n6", "n7"}
    graph, _ = given("source,target\n1.0,a\n1,a\n", "versions.csv")
    assert set(graph) == {"1.0", "1", "a"}  # not all numbers: these are names


def test_the_columns_that_were_taken_are_said(given):
    _, notes = given("id,person_a,person_b\n1,x,y\n2,y,z\n", "pairs.csv")
    assert "edges join 'id' and 'person_a'" in notes
    _, notes = given("source,target,weight\n1,2,3\n2,3,4\n", "plain.csv")
    assert "edges join" not in notes


def test_a_matrix_is_no_list_of_edges(given):
    rows = [",".join("1" if i != j else "0" for j in range(6)) for i in range(6)]
    for text, name in (
        ("\n".join(rows), "bare.csv"),
        (",".join("abcdef") + "\n" + "\n".join(rows), "named.csv"),
        (
            ",".join(["", *"abcdef"])
            + "\n"
            + "\n".join(map(",".join, zip("abcdef", rows, strict=True))),
            "index.csv",
        ),
        ("\n".join(rows).replace(",", " "), "bare.txt"),
    ):
        with pytest.raises(ValueError, match="as an adjacency matrix has"):
            given(text + "\n", name)
    with pytest.raises(ValueError, match="which two are the ends"):
        given("20 1558 1567 3B 3B\n20 1560 1570 3B 3B\n", "contacts.txt")
    with pytest.raises(ValueError, match="which two are the ends"):
        given("20,1,7,8,9\n20,3,5,8,9\n", "contacts.csv")
    graph, _ = given("% sym weighted\n1 2 1 1082\n2 3 1 1083\n3 1 1 1084\n", "out.txt")
    assert edges(graph) == TRIANGLE


def test_a_column_of_times_or_weights_is_no_end_of_an_edge(given):
    rng = np.random.default_rng(0)
    pairs = [rng.choice(20, 2, replace=False) + 1000 for _ in range(60)]
    bare = [f"{20 * t},{i},{j}" for t, (i, j) in enumerate(pairs)]
    for text, name in (("\n".join(bare), "bare.csv"), ("\n".join(bare).replace(",", " "), "b.txt")):
        with pytest.raises(ValueError, match="as where a time comes first"):
            given(text + "\n", name)
    for first in ("t", "Time", "timestamp", "weight"):
        graph, notes = given("\n".join([f"{first},i,j", *bare]) + "\n", "named.csv")
        assert max(map(len, graph)) == 4
        assert set(graph) <= {str(1000 + i) for i in range(20)}
        assert "edges join 'i' and 'j'" in notes
    for header in ("s,t", "s,t,w", "t,s"):
        row = ",".join("12345"[: header.count(",") + 1])
        assert set(given(f"{header}\n{row}\n{row}\n", "short.csv")[0]) == {"1", "2"}
    ratings = "".join(f"{9000 + u},{u % 50},{u % 5}\n" for u in range(200))
    assert len(given(ratings, "ratings.csv")[0]) == 250  # few ratings among many items


def test_the_third_column_of_a_bare_list_is_said_to_be_the_weight(given):
    for text, name in (("1,2,5\n2,3,6\n", "bare.csv"), ("1 2 5\n2 3 6\n", "bare.txt")):
        graph, notes = given(text, name)
        assert graph.edges["1", "2"]["weight"] == 5
        assert "edges join the first two columns, the third is their weight" in notes


def test_a_weight_on_some_edges_only_is_said_so():
    graph = nx.Graph([(0, 1, {"weight": 1.0}), (1, 2)])
    with pytest.raises(ValueError, match="'weight' on some edges, not on 1 - 2"):
        edge_weight(graph)
