"""Directed graphs as people draw causes: DAGitty's text, lists of edges from cause to effect, GML and GraphML.

A list of edges is read as directed from the first end to the second whatever it holds; nodes are text.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from whp.io.graphs import read_directed_gml, read_directed_graphml
from whp.io.headers import NUMBER
from whp.io.sources import suffix, text_of
from whp.io.tables import TABLES, open_table

__all__ = ["read_dag"]

NAME = r'(?:"[^"]*"|[^\s"\[\];{}<>-]+)'
NODE = re.compile(rf"(?P<name>{NAME})\s*(?P<more>\[[^\]]*\])?")
ARROWS = ("->", "<-", "<->", "--")
SOURCES = ("source", "from", "src", "cause", "parent")
TARGETS = ("target", "to", "dst", "effect", "child")


def read_dag(path: Path, notes: list[str]) -> Any:
    """A networkx.DiGraph whose nodes are text.

    Parameters
    ----------
    path : Path
    notes : list of str
        What was done to it is added here.

    Raises
    ------
    ValueError
        If an edge has no direction, or a line is none.
    """
    import networkx as nx

    ending = suffix(path)
    if ending == ".graphml":
        graph = read_directed_graphml(path, notes)
    elif ending == ".gml":
        graph = read_directed_gml(path)
    elif ending in TABLES:
        graph = _table(path)
    else:
        text = text_of(path)
        graph = _dagitty(text) if re.search(r"->|<-|--|\bdag\b", text) else _lines(text)
    if not graph.is_directed():
        raise ValueError(
            "its edges have no direction; a causal graph is directed from cause to effect"
        )
    made = nx.DiGraph()
    made.add_nodes_from(map(str, graph.nodes))
    made.add_edges_from((str(u), str(v)) for u, v in graph.edges())
    if not len(made):
        raise ValueError("it has no nodes")
    notes.insert(
        0,
        f"{made.number_of_nodes():,} nodes, {made.number_of_edges():,} edges from cause to effect",
    )
    return made


def _dagitty(text: str) -> Any:
    """``dag { hour -> late; late -> speed [pos="0,1"] }``: chains of arrows, positions and roles left out."""
    import networkx as nx

    body = re.sub(r"(?s)/\*.*?\*/|//[^\n]*|#[^\n]*", "", text)
    body = re.sub(
        r"(?is)^\s*(?:dag|digraph)?\s*(?:\"[^\"]*\"|\w+)?\s*\{(.*)\}\s*;?\s*$", r"\1", body
    )
    body = re.sub(r"\bbb\s*=\s*\"[^\"]*\"", "", body)
    graph: Any = nx.DiGraph()
    for statement in re.split(r"[;\n]", body):
        rest, before, arrow = statement.strip(), None, None
        while rest:
            found = NODE.match(rest)
            if found is None:
                raise ValueError(f"{statement.strip()!r} is no edge such as 'cause -> effect'")
            name = found["name"].strip('"')
            graph.add_node(name)
            if before is not None:
                if arrow in ("<->", "--"):
                    raise ValueError(
                        f"{before!r} {arrow} {name!r} has no direction: draw a hidden common cause as a "
                        "node, and say which of two causes the other"
                    )
                graph.add_edge(*((before, name) if arrow == "->" else (name, before)))
            rest = rest[found.end() :].strip()
            arrow = next(
                (a for a in sorted(ARROWS, key=len, reverse=True) if rest.startswith(a)), None
            )
            if arrow is None and rest and before is None and found["more"] is None:
                raise ValueError(f"{statement.strip()!r} is no edge such as 'cause -> effect'")
            if arrow is None and rest:  # several nodes in one line
                before = None
                continue
            before = name
            rest = rest[len(arrow) :].strip() if arrow else rest
            if arrow and not rest:
                raise ValueError(f"{statement.strip()!r} ends in an arrow")
    return graph


def _lines(text: str) -> Any:
    """Two names a line, parted by a comma, tab or blanks."""
    import networkx as nx

    graph: Any = nx.DiGraph()
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped[0] in "#%":
            continue
        sep = next((s for s in (",", ";", "\t") if s in stripped), None)
        parts = [p.strip().strip('"') for p in stripped.split(sep)]
        parts = [p for p in parts if p != "{}"]
        if len(parts) == 3 and NUMBER.fullmatch(parts[2]):
            parts = parts[:2]
        if len(parts) != 2 or not all(parts):
            raise ValueError(
                f"line {number}, {stripped[:40]!r}, is no edge: two names, cause then effect"
            )
        graph.add_edge(*parts)
    return graph


def _table(path: Path) -> Any:
    """Two columns, cause then effect; by their names where they have some, else the first two."""
    import networkx as nx

    table = open_table(path, None, names="words")
    low = {n.lower().strip(): n for n in table.names}
    ends = [next((low[k] for k in known if k in low), None) for known in (SOURCES, TARGETS)]
    names = [n for n in ends if n is not None] if all(ends) else table.names[:2]
    if len(names) != 2:
        raise ValueError("a list of edges needs two columns, cause and effect")
    columns = table.load(dict.fromkeys(names, "ids"))
    faults = [f"column {n!r} {told}" for n in names if (told := columns[n].refusal("ids"))]
    if faults:
        raise ValueError("an edge lacks one of its ends: " + "; ".join(faults))
    graph: Any = nx.DiGraph()
    first, second = ([str(v).strip() for v in columns[n].strings()] for n in names)
    graph.add_edges_from(zip(first, second, strict=True))
    return graph
