"""Graphs: lists of edges in the dialects of the large collections, GML and GraphML of several programs, and matrices.

Nodes of a list of edges are text, the same at both ends of an edge, leading zeros and all. What edges carry is kept, so that
a method can ask for weights by name.
"""

from __future__ import annotations

import ast
import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from whp.io.arrays import contents, only, read_array, read_arrays, read_sparse, real
from whp.io.columns import Column, Role
from whp.io.headers import NUMBER
from whp.io.sources import suffix, text_of
from whp.io.tables import TABLES, Choice, listed, open_table, unknown
from whp.text import nearest

__all__ = ["edge_weight", "read_directed_gml", "read_directed_graphml", "read_graph"]

WHOLE = re.compile(r"-?[0-9]+(?:\.0)?")
LISTS = (".edges", ".edgelist", ".txt")
ENDS = (
    {"source", "from", "src", "node1", "fromnodeid"},
    {"target", "to", "dst", "node2", "tonodeid"},
)
# Columns that are no end of an edge by their name, where they come first and two others follow.
NO_ENDS = {"t", "time", "timestamp", "date", "datetime", "weight", "count"}
NAMES = ("name", "label")  # attributes that hold the names of nodes in GraphML of igraph and of yEd


def edge_weight(graph: Any, name: str | None = None) -> str:
    """The edge attribute that holds the weights of a networkx graph.

    Parameters
    ----------
    graph : networkx graph
    name : str, optional
        The attribute; ``"weight"`` if not given.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If edges lack the attribute, or it is no number on one of them; the message lists the attributes that there are.
    """
    chosen = name or "weight"
    for u, v, carried in graph.edges(data=True):
        value = carried.get(chosen)
        if value is None:
            known = sorted({str(k) for *_, c in graph.edges(data=True) for k in c})
            if chosen in known:
                raise ValueError(f"graph has {chosen!r} on some edges, not on {u!r} - {v!r}")
            there = f"edges carry {', '.join(map(repr, known))}" if known else "edges carry nothing"
            raise ValueError(
                f"graph has no {chosen!r} on the edge {u!r} - {v!r}; {there}{nearest(chosen, known)}"
            )
        if isinstance(value, bool) or not isinstance(value, int | float | np.number):
            raise ValueError(f"graph has {value!r} as {chosen!r} on the edge {u!r} - {v!r}")
    return chosen


def read_graph(
    path: Path, choice: Choice, notes: list[str], *, weight: str | None, undirected: bool
) -> Any:
    """A networkx graph, or a matrix for mtx, npy and npz.

    Parameters
    ----------
    path : Path
    choice : Choice
        For tables: `columns` names the two ends, `drop` columns to leave out.
    notes : list of str
        What was done to it is added here.
    weight : str, optional
        The edge attribute that is the weight, where it has another name.
    undirected : bool
        Take directed edges as undirected.
    """
    match suffix(path):
        case ".mtx" | ".npy" | ".npz":
            if weight is not None:
                raise ValueError(f"a matrix has no edge attribute {weight!r}")
            graph = _matrix(path)
            return graph + graph.T if undirected else graph
        case ".graphml":
            graph = _graphml(path, notes)
        case ".gml":
            graph = _gml(path)
        case _:
            graph = _edges(path, choice, notes)
    if undirected and graph.is_directed():
        graph = graph.to_undirected()
        notes.append("directions left out")
    if weight is not None:
        edge_weight(graph, weight)
        for *_, carried in graph.edges(data=True):
            carried["weight"] = carried[weight]
    notes.insert(0, f"{graph.number_of_nodes():,} nodes, {graph.number_of_edges():,} edges")
    return graph


def _matrix(path: Path) -> Any:
    match suffix(path):
        case ".mtx":
            return read_sparse(path)
        case ".npy":
            return real(read_array(path))
        case _:
            return (
                read_sparse(path) if "format" in contents(path) else real(only(read_arrays(path)))
            )


def read_directed_graphml(path: Path, notes: list[str]) -> Any:
    """A graph whose arrows count, those of yEd too, which calls every graph directed."""
    return _graphml(path, notes, arrows=True)


def read_directed_gml(path: Path) -> Any:
    """A graph of GML as it stands there."""
    return _gml(path)


def _graphml(path: Path, notes: list[str], *, arrows: bool = False) -> Any:
    import io

    import networkx as nx

    text = text_of(path)
    graph = nx.read_graphml(io.BytesIO(text.encode("utf-8")))
    if "yworks.com/xml" in text[:4096] and graph.is_directed() and not arrows:
        graph = graph.to_undirected()
        notes.append("yEd calls every graph directed; read as undirected")
    for attribute in NAMES:
        names = dict(graph.nodes(data=attribute))
        told = list(names.values())
        if told and all(isinstance(n, str) and n for n in told) and len(set(told)) == len(told):
            notes.append(f"nodes named by their {attribute!r}")
            return nx.relabel_nodes(graph, names)
    return graph


def _gml(path: Path) -> Any:
    import networkx as nx

    text = text_of(path)
    label = "label"
    for _ in range(3):
        try:
            return nx.parse_gml(text, label=label)
        except nx.NetworkXError as error:
            if label == "label" and re.search(
                r"no 'label' attribute|label .* is duplicated", str(error)
            ):
                label = "id"
            elif "is duplicated" in str(error) and "edge" in str(error):
                text = re.sub(r"(?m)^(\s*graph\s*\[)", r"\1 multigraph 1 ", text, count=1)
            else:
                raise
    raise ValueError("it is no GML that can be read")


def _edges(path: Path, choice: Choice, notes: list[str]) -> Any:
    import networkx as nx

    if suffix(path) in TABLES:
        rows, _, named = _from_table(path, choice, notes)
        directed = None
    else:
        rows, _, directed = _from_list(path, notes)
        named = False
    ends: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for u, v, carried in rows:
        ends.setdefault((u, v), []).append(carried)
    if not ends:
        raise ValueError("it has no edges")
    if directed is not True:
        directed = _one_way(ends, named)
    pairs: dict[tuple[str, str], list[Any]] = {}
    graph: Any = nx.DiGraph() if directed else nx.Graph()
    for (u, v), found in ends.items():
        key = (u, v) if directed or u <= v else (v, u)
        pairs.setdefault(key, []).extend(((u, v), carried) for carried in found)
        graph.add_edge(u, v)
        for carried in found:
            graph.edges[u, v].update(carried)
    repeated = {p: found for p, found in pairs.items() if len(found) > 1}
    if not repeated:
        return graph
    mirrored = all(
        len(found) == 2 and found[0][0] == found[1][0][::-1] and found[0][1] == found[1][1]
        for found in repeated.values()
    )
    if mirrored:
        notes.append(f"{len(repeated):,} edges stand in both directions")
        return graph
    notes.append(f"{len(repeated):,} edges come more than once")
    graph = nx.MultiDiGraph() if directed else nx.MultiGraph()
    graph.add_edges_from((u, v, c) for found in pairs.values() for (u, v), c in found)
    return graph


def _one_way(ends: dict[tuple[str, str], list[dict[str, Any]]], named: bool) -> bool:
    """Whether the order of ends means something: some pairs stand in both orders and some in one.

    Not so where both orders carry the same, and not in a log, in which edges carry something or
    come again, unless its columns are named as the ends of arrows.
    """
    carried = [c for found in ends.values() for c in found]
    if {str(c.get("Type", c.get("type", ""))).lower() for c in carried} == {"undirected"}:
        return False
    if not named and (len(carried) > len(ends) or any(carried)):
        return False
    both = [(u, v) for u, v in ends if u != v and (v, u) in ends]
    same = any(carried) and all(ends[u, v] == ends[v, u] for u, v in both)
    return not same and 0 < len(both) < sum(u != v for u, v in ends)


Edge = tuple[str, str, dict[str, Any]]


def _from_table(
    path: Path, choice: Choice, notes: list[str]
) -> tuple[Iterator[Edge], list[str], bool]:
    """Edges, what they carry, and whether the columns are named as the ends of arrows."""
    table = open_table(path, choice.sep, names="words")
    names = [n for n in table.names if n not in listed(choice.drop, table.names)]
    chosen = listed(choice.columns, table.names)
    for name in (*chosen, *listed(choice.drop, table.names)):
        if name not in table.names:
            raise ValueError(unknown(name, table.names))
    if not chosen:
        low = {_low(n): n for n in names}
        chosen = [low[next(iter(w & set(low)))] for w in ENDS if w & set(low)]
        if len(chosen) != 2:
            others = [n for n in names if _low(n) not in NO_ENDS]
            late = bool(names) and _low(names[0]) in NO_ENDS and len(others) > 1
            chosen = others[:2] if late else names[:2]
            _no_matrix(table, names)
    if len(chosen) != 2:
        raise ValueError("a list of edges needs two columns, one for each end")
    rest = [n for n in names if n not in chosen]
    roles: dict[str, Role] = {**dict.fromkeys(chosen, "ids"), **dict.fromkeys(rest, "any")}  # type: ignore[dict-item]
    columns: dict[str, Column] = table.load(roles)
    notes.extend(table.notes)
    faults = [f"column {n!r} {told}" for n in chosen if (told := columns[n].refusal("ids"))]
    if faults:
        raise ValueError("an edge lacks one of its ends: " + "; ".join(faults))
    ends = _names([columns[n].strings() for n in chosen])
    others = [n for n in rest if n.lower() != "weight"]
    said = others or (chosen != names[:2] and not listed(choice.columns, table.names))
    if said and not getattr(getattr(table, "header", None), "absent", False):
        notes.append(f"edges join {chosen[0]!r} and {chosen[1]!r}; --columns names others")
    _no_edge(chosen, ends)
    absent = getattr(getattr(table, "header", None), "absent", False)
    if absent and rest:  # the third column of a list without names is the weight
        _no_time_first(ends[0], ends[1], [str(v).strip() for v in columns[rest[0]].strings()])
        notes.append("edges join the first two columns, the third is their weight")
        carried = {"weight": _values(columns[rest[0]])}
    else:
        carried = {_lower(n): _values(columns[n]) for n in rest}
    keys = list(carried)
    low = [_low(n) for n in chosen]
    named = low[0] in ENDS[0] - {"node1"} and low[1] in ENDS[1] - {"node2"}
    if not keys:
        return ((u, v, {}) for u, v in zip(*ends, strict=True)), keys, named
    rows = zip(*ends, *carried.values(), strict=True)
    return (
        (
            (u, v, {k: x for k, x in zip(keys, more, strict=True) if x is not None})
            for u, v, *more in rows
        ),
        keys,
        named,
    )


def _no_matrix(table: Any, names: list[str]) -> None:
    """Refuse a table of many columns none of which is called an end: a matrix, or a log."""
    sample = getattr(getattr(table, "header", None), "sample", [])
    numbers = all(_number(cell.strip()) for row in sample for cell in row[1:])
    if len(names) > 4 and sample and numbers and len(names) <= len(sample) + 1:
        raise ValueError(
            f"it has {len(names)} columns of numbers, as an adjacency matrix has, where a list of "
            "edges is wanted; save a matrix as npy, npz or mtx, or name the two ends by --columns"
        )
    if len(names) > 4 and getattr(getattr(table, "header", None), "absent", False):
        raise ValueError(
            f"each line has {len(names)} values, and which two are the ends of an edge is not known; "
            "give it a header, and name them by --columns"
        )


def _no_time_first(first: list[str], second: list[str], third: list[str]) -> None:
    """Refuse three columns without names of which the last two, not the first two, share nodes.

    ``time i j`` is how contacts are logged; taken for ends and weight, times would be nodes. Some
    times may be equal to a node by chance.
    """
    times, one, other = set(first), set(second), set(third)
    apart = 2 * len(times & one) < len(one)
    if apart and 2 * len(one & other) > max(len(one), len(other)) > 2:
        raise ValueError(
            "its second and third columns have most nodes in common, its first and second have not, "
            "as where a time comes first; put the two ends first, or save it as csv with a header "
            "and name them by --columns"
        )


def _names(ends: list[Any]) -> list[list[str]]:
    """Names of nodes without blanks at either end; 3.0 is 3 where all are whole numbers.

    A column with a gap, or a program that has no integers, writes ids as 3.0.
    """
    stripped = [[str(v).strip() for v in end] for end in ends]
    known = {v for end in stripped for v in end}
    if any(v.endswith(".0") for v in known) and all(WHOLE.fullmatch(v) for v in known):
        stripped = [[v.removesuffix(".0") for v in end] for end in stripped]
    return stripped


def _no_edge(names: list[str], ends: list[Any]) -> None:
    """Names of columns that are nodes as well stand for a first edge without a header before it."""
    if all(_low(name) not in known for name, known in zip(names, ENDS, strict=True)):
        nodes = {*ends[0], *ends[1]}
        if twice := [n for n in names if n in nodes]:
            raise ValueError(
                f"its first line seems to be an edge, since {twice[0]!r} is a node as well; add a header such as source,target"
            )


def _low(name: str) -> str:
    return name.lower().strip("# ")


def _lower(name: str) -> str:
    return "weight" if name.lower() == "weight" else name


def _values(column: Column) -> list[Any]:
    if column.broken or (column.floats is None and not column.text):
        return [None] * len(column)
    if column.floats is not None:
        values: Any = column.whole if column.whole is not None else column.floats
        return [None if v != v else v for v in values.tolist()]
    return column.strings().tolist()


def _from_list(path: Path, notes: list[str]) -> tuple[Iterator[Edge], list[str], bool]:
    """KONECT, networkrepository, SNAP and networkx: two ends a line, perhaps a weight, perhaps a dictionary.

    The last value says whether the edges are directed, as KONECT does.
    """
    lines = []
    directed = False
    for line in text_of(path).splitlines():
        text = line.strip()
        if text[:1] in ("%", "#"):
            if re.match(r"%\s*bip\b", text):
                raise ValueError(
                    "it is a bipartite graph of KONECT, whose two sides number their nodes from 1 each"
                )
            directed |= re.match(r"%\s*asym\b", text) is not None
        elif text:
            lines.append(text)
    if not lines:
        raise ValueError("it has no edges")
    sep = next((s for s in ",;\t|" if all(s in line for line in lines[:50])), None)
    if "{" in lines[0]:
        sep = None
    rows = [_fields(line, sep, number) for number, line in enumerate(lines, 1)]
    first = rows[0][0]
    if len(rows) > 1 and not any(map(_number, first[:2])) and all(map(_number, rows[1][0][:2])):
        notes.append("first line taken for a header")
        del rows[0]
    narrow = next((j for j, (fields, _) in enumerate(rows) if len(fields) < 2), None)
    if narrow is not None:
        raise ValueError(f"an edge lacks one of its ends, in edge {narrow + 1}")
    wide = {len(fields) for fields, _ in rows}
    if len(wide) == 1 and wide <= {len(rows), len(rows) + 1} and len(rows) > 4:
        raise ValueError(
            f"it has {len(rows)} lines of {min(wide)} values, as an adjacency matrix has, where a list "
            "of edges is wanted; save the matrix as npy, npz or mtx"
        )
    if (
        min(wide) > 4
    ):  # KONECT has a weight and a time; SocioPatterns time, two people, their groups
        raise ValueError(
            f"each line has {min(wide)} values, and which two are the ends of an edge is not known; "
            "save it as csv with a header, and name them by --columns"
        )
    weighted = all(len(fields) > 2 and _number(fields[2]) for fields, _ in rows)
    if not weighted and any(len(fields) > 2 for fields, _ in rows):
        notes.append("what stands after the two ends left out")
    if weighted:
        _no_time_first(*([fields[j] for fields, _ in rows] for j in range(3)))
        notes.append("edges join the first two columns, the third is their weight")
    keys = ["weight"] if weighted else sorted({k for _, carried in rows for k in carried})

    def edges() -> Iterator[Edge]:
        for fields, carried in rows:
            more = {"weight": float(fields[2])} if weighted else carried
            yield fields[0], fields[1], more

    return edges(), keys, directed


def _number(word: str) -> bool:
    return NUMBER.fullmatch(word) is not None


def _fields(line: str, sep: str | None, number: int) -> tuple[list[str], dict[str, Any]]:
    carried: dict[str, Any] = {}
    if sep is None and line.endswith("}") and "{" in line:
        line, _, text = line.partition("{")
        try:
            carried = ast.literal_eval("{" + text)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            raise ValueError(f"edge {number} carries no dictionary of plain values") from None
        if not isinstance(carried, dict):
            raise ValueError(f"edge {number} carries no dictionary")
        carried = {str(k): v for k, v in carried.items()}
    if sep is None:
        return line.split(), carried
    return [f.strip() for f in next(csv.reader([line], delimiter=sep))], carried
