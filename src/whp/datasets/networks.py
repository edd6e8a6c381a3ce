"""Small worlds that are known by heart: Bayesian networks and the periodic table."""

from __future__ import annotations

import gzip
import re
import sqlite3
import tempfile
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from whp.datasets.packaged import available, packaged

__all__ = ["asia", "child", "elements", "has_child", "has_elements"]

CHILD_SHA256 = "2bc3236dcbdbf9c9f1bbdeb060aa93c0bdee389d23a549b7248b9d89ed8a980c"
ELEMENTS_SHA256 = "8a6312b57603e22c58ab28005bb8cacfbff721bc859eea8ddc2b784c17ffd717"
# Lauritzen and Spiegelhalter (1988): parents, and P(yes | parents) with parents in the order of product((no, yes), …).
ASIA = {
    "asia": ((), (0.01,)),
    "tub": (("asia",), (0.01, 0.05)),
    "smoke": ((), (0.5,)),
    "lung": (("smoke",), (0.01, 0.1)),
    "bronc": (("smoke",), (0.3, 0.6)),
    "either": (("lung", "tub"), (0.0, 1.0, 1.0, 1.0)),
    "xray": (("either",), (0.05, 0.98)),
    "dysp": (("bronc", "either"), (0.1, 0.7, 0.8, 0.9)),
}


def asia() -> pd.DataFrame:
    """The 128 kinds of patients of the chest clinic that can occur: eight findings, yes or no, and their `weight`.

    S. Lauritzen, D. Spiegelhalter. Local computations with probabilities on graphical structures. JRSS B 1988.
    """
    rows = []
    for values in product((0, 1), repeat=len(ASIA)):
        state, weight = dict(zip(ASIA, values, strict=True)), 1.0
        for name, (parents, chances) in ASIA.items():
            place = int("".join(str(state[q]) for q in parents) or "0", 2)
            weight *= chances[place] if state[name] else 1 - chances[place]
        if weight > 0:
            rows.append({n: ("no", "yes")[v] for n, v in state.items()} | {"weight": weight})
    return pd.DataFrame(rows)


def has_child() -> bool:
    """Whether the package that carries the network is installed."""
    return available("pgmpy")


def child(n: int, rng: np.random.Generator) -> pd.DataFrame:
    """`n` newborns drawn from the network of Spiegelhalter et al. (1992): 20 columns, among them `Disease` with six values.

    Carried by the package pgmpy 0.1.26 (MIT licence).
    """
    raw = packaged("pgmpy==0.1.26", "utils/example_models/child.bif.gz", CHILD_SHA256)
    return sampled(gzip.decompress(raw).decode("utf-8"), n, rng)


def sampled(bif: str, n: int, rng: np.random.Generator) -> pd.DataFrame:
    """`n` draws from a network in the BIF format."""
    states = {
        name: [v.strip() for v in values.split(",")]
        for name, values in re.findall(r"variable\s+(\w+)\s*\{[^{]*\{([^}]*)\}", bif)
    }
    blocks = re.findall(r"probability\s*\(\s*(\w+)\s*(?:\|\s*([^)]*))?\)\s*\{([^}]*)\}", bif)
    parents = {
        name: [p.strip() for p in given.split(",") if p.strip()] for name, given, _ in blocks
    }
    chances: dict[str, dict[tuple[str, ...], list[float]]] = {}
    for name, _, body in blocks:
        rows = re.findall(r"(?:\(([^)]*)\)|table)\s*([^;]*);", body)
        chances[name] = {
            tuple(k.strip() for k in key.split(",") if k.strip()): [
                float(x) for x in law.split(",")
            ]
            for key, law in rows
        }
    made: dict[str, np.ndarray] = {}
    while len(made) < len(states):
        for name in states:
            if name in made or any(p not in made for p in parents[name]):
                continue
            keys = list(chances[name])
            laws = np.array([chances[name][key] for key in keys])
            if parents[name]:
                at = {key: i for i, key in enumerate(keys)}
                place = np.array(
                    [at[key] for key in zip(*(made[p] for p in parents[name]), strict=True)]
                )
            else:
                place = np.zeros(n, dtype=np.int64)
            drawn = (laws.cumsum(axis=1)[place] < rng.random((n, 1))).sum(axis=1)
            made[name] = np.array(states[name])[np.minimum(drawn, len(states[name]) - 1)]
    return pd.DataFrame({name: made[name] for name in states})


def has_elements() -> bool:
    """Whether the package that carries the table is installed."""
    return available("mendeleev")


def elements() -> pd.DataFrame:
    """The 118 chemical elements: symbol, period, group, block, series, goldschmidt_class, radioactive (37 are).

    Carried by the package mendeleev 1.3.0 (MIT licence).
    """
    raw = packaged("mendeleev==1.3.0", "elements.db", ELEMENTS_SHA256)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "elements.db"
        path.write_bytes(raw)
        connection = sqlite3.connect(path)
        try:
            query = (
                "select symbol, period, group_id as 'group', block, series_id as series, goldschmidt_class, "
                "is_radioactive as radioactive from elements order by atomic_number"
            )
            table = pd.read_sql_query(query, connection)
        finally:
            connection.close()
    table["radioactive"] = np.where(table["radioactive"].astype(bool), "yes", "no")
    return table.astype({"group": object}).where(table.notna(), None)
