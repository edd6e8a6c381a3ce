"""Reads damaged files of every kind; run by test_hostile.py in a process of its own, since the worst would kill it."""

import io
import json
import sys
import tempfile
import warnings
from pathlib import Path

import networkx as nx
import numpy as np
import pandas as pd
import scipy.io
import scipy.sparse
from safetensors.numpy import save

from whp.io import Data, read

TABLE = pd.DataFrame(
    {"x": np.linspace(0, 1, 40), "c": ["a", "b"] * 20, "target": np.arange(40) * 0.5}
)
SPARSE = scipy.sparse.random_array((30, 30), density=0.1, rng=np.random.default_rng(0))
WANTS = (
    {"A": Data("design"), "b": Data("vector", "target")},
    {"A": Data("matrix")},
    {"t": Data("table")},
    {"g": Data("graph")},
    {"s": Data("stream")},
    {"y": Data("labels", "c")},
)


def written(writer):
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "f"
        writer(path)
        return next(Path(directory).iterdir()).read_bytes()


def bytes_of(function, *args, **kwargs):
    buffer = io.BytesIO()
    function(buffer, *args, **kwargs)
    return buffer.getvalue()


def seeds():
    """One valid file of each kind."""
    graph = nx.karate_club_graph()
    yield ".csv", TABLE.to_csv(index=False).encode()
    yield ".tsv", TABLE.to_csv(index=False, sep="\t").encode()
    yield ".jsonl", TABLE.to_json(orient="records", lines=True).encode()
    yield ".parquet", bytes_of(lambda f: TABLE.to_parquet(f))
    yield ".npy", bytes_of(np.save, np.eye(6))
    yield ".npz", bytes_of(np.savez, A=np.eye(6), b=np.ones(6))
    for form in ("csr", "coo", "bsr", "dia"):
        yield (
            ".npz",
            written(
                lambda p, f=form: scipy.sparse.save_npz(p, SPARSE.asformat(f), compressed=False)
            ),
        )
    yield ".safetensors", save({"A": np.eye(6), "b": np.ones(6)})
    yield ".mtx", bytes_of(scipy.io.mmwrite, SPARSE)
    yield ".gml", "\n".join(nx.generate_gml(graph)).encode()
    yield ".graphml", "\n".join(nx.generate_graphml(graph)).encode()
    yield ".edges", "\n".join(nx.generate_edgelist(graph)).encode()
    yield ".csv.gz", __import__("gzip").compress(TABLE.to_csv(index=False).encode(), mtime=0)


def damaged(data, rng):
    """Cut, flipped, overwritten, repeated, or with a number changed for a hostile one."""
    made = bytearray(data)
    match rng.integers(6):
        case 0:
            del made[int(rng.integers(len(made))) :]
        case 1:
            for place in rng.integers(len(made), size=int(rng.integers(1, 6))):
                made[place] ^= 1 << int(rng.integers(8))
        case 2:
            place = int(rng.integers(len(made)))
            made[place : place + 8] = rng.bytes(8)
        case 3:
            a, b = sorted(rng.integers(len(made), size=2))
            made[a:a] = made[a:b]
        case 4:
            place = int(rng.integers(max(1, len(made) - 8)))
            hostile = (2**63 - 1, 2**31, 0, 2**64 - 1)[rng.integers(4)]
            made[place : place + 8] = hostile.to_bytes(8, "little")
        case 5:
            digits = [i for i, b in enumerate(made) if chr(b).isdigit()]
            if digits:
                place = digits[rng.integers(len(digits))]
                made[place : place + 1] = (b"99999999999", b"-1", b"1e999", b"nan", b"")[
                    rng.integers(5)
                ]
    return bytes(made)


def main(count):
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(0)
    kinds = list(seeds())
    seen = {"read": 0, "refused": 0, "bad": []}
    with tempfile.TemporaryDirectory() as directory:
        for number in range(count):
            ending, data = kinds[number % len(kinds)]
            path = Path(directory) / f"f{number}{ending}"
            path.write_bytes(damaged(data, rng))
            for wants in WANTS:
                try:
                    value = next(iter(read([path], wants, required=list(wants)).values()))
                    if scipy.sparse.issparse(value):
                        (value @ value.T).sum()
                    elif hasattr(value, "batches"):
                        list(value.batches())
                    seen["read"] += 1
                except ValueError as error:
                    seen["refused"] += 1
                    if path.name not in str(error):
                        seen["bad"].append(f"{ending} {wants}: names no file: {error}")
                except BaseException as error:
                    seen["bad"].append(f"{ending} {wants}: {type(error).__name__}: {error}")
            path.unlink()
    print(json.dumps(seen))


if __name__ == "__main__":
    main(int(sys.argv[1]))
