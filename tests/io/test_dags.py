import networkx as nx
import pytest

from whp.io import Data, read

EDGES = {("hour", "late"), ("late", "speed"), ("dist", "speed")}


def dag(path):
    return read([path], {"graph": Data("dag")})["graph"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.dag", "dag { hour -> late -> speed <- dist }"),
        (
            "a.txt",
            'dag "flights" {\nbb="0,1"\nhour [pos="0"]\nlate [outcome]\nhour -> late\nlate -> speed [beta=0.3]\nspeed <- dist\n}',
        ),
        ("a.txt", "hour -> late; late -> speed; dist -> speed"),
        ("a.txt", "# cause effect\nhour late\nlate speed\ndist speed\n"),
        ("a.edges", "hour late 1.0\nlate speed 2\ndist speed 1\n"),
        ("a.edgelist", "hour late {}\nlate speed {}\ndist speed {}\n"),
        ("a.csv", "source,target\nhour,late\nlate,speed\ndist,speed\n"),
        ("a.csv", "effect,cause\nlate,hour\nspeed,late\nspeed,dist\n"),
    ],
)
def test_edges_run_from_cause_to_effect(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    graph = dag(path)
    assert type(graph) is nx.DiGraph
    assert set(graph.edges) == EDGES


@pytest.mark.parametrize(
    ("write", "ending"), [(nx.write_graphml, "graphml"), (nx.write_gml, "gml")]
)
def test_graphml_and_gml(tmp_path, write, ending):
    path = tmp_path / f"a.{ending}"
    write(nx.DiGraph(EDGES), path)
    assert set(dag(path).edges) == EDGES
    write(nx.Graph(EDGES), path)
    with pytest.raises(ValueError, match="edges have no direction"):
        dag(path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("dag { a <-> b }", "draw a hidden common cause as a node"),
        ("dag { a -- b }", "has no direction"),
        ("dag { a -> }", "ends in an arrow"),
        ("a b c d\n", "line 1, 'a b c d', is no edge"),
        ("", "no nodes"),
    ],
)
def test_what_is_no_edge_is_named(tmp_path, text, told):
    path = tmp_path / "a.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=told):
        dag(path)


def test_names_with_blanks_stand_in_quotes(tmp_path):
    path = tmp_path / "a.dag"
    path.write_text('dag { "arrival delay" -> late\n"a b" }')
    assert set(dag(path).nodes) == {"arrival delay", "late", "a b"}
