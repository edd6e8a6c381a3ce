"""Exact noise and private trees by other libraries."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from whp.experiment.benchmark import Foreign, Peer

__all__ = ["DIFFPRIVLIB", "GAUSSIAN", "JAX_PRIVACY", "LAPLACE", "TREE", "opendp"]


def opendp() -> Any:
    """OpenDP's prelude with what its makers have not vetted switched on."""
    dp: Any = import_module("opendp.prelude")
    dp.enable_features("contrib")
    return dp


def _noise(law: str) -> Callable[[list[int]], list[int]]:
    def add(data: list[int]) -> list[int]:
        dp = opendp()
        domain = dp.vector_domain(dp.atom_domain(T=int))
        if law == "gaussian":
            return dp.m.make_gaussian(domain, dp.l2_distance(T=int), 20.0)(data)
        return dp.m.make_laplace(domain, dp.l1_distance(T=int), 20.0)(data)

    return add


def tree(X: np.ndarray) -> list[Any]:
    """The whole stream at once: nodes of a binary tree with discrete Laplace noise, column by column."""
    dp = opendp()
    domain, metric = dp.vector_domain(dp.atom_domain(T=int)), dp.l1_distance(T=int)
    nodes = dp.t.make_b_ary_tree(domain, metric, leaf_count=len(X), branching_factor=2)
    noisy = nodes >> dp.m.then_laplace(20.0)
    return [noisy(column.tolist()) for column in X.T]


GAUSSIAN = Peer("OpenDP make_gaussian", _noise("gaussian"), "opendp==0.16.0", "exact, as ours")
LAPLACE = Peer("OpenDP make_laplace", _noise("laplace"), "opendp==0.16.0", "exact, as ours")
TREE = Peer(
    "OpenDP b-ary tree, whole stream at once",
    tree,
    "opendp==0.16.0",
    "ends with the noisy nodes, before any prefix is summed: it has no continual counter",
)
DIFFPRIVLIB = Peer(
    "diffprivlib GaussianDiscrete",
    Foreign(
        requirements="diffprivlib==0.6.6\nscikit-learn==1.4.2\nnumpy==2.4.6\nscipy==1.17.1\n",
        script="""
import json, sys, time
import numpy as np
from diffprivlib.mechanisms import GaussianDiscrete
draws = int(np.load(sys.argv[1])["draws"])
mechanism = GaussianDiscrete(epsilon=0.2, delta=1e-6, sensitivity=1)
for _ in sys.stdin:
    start = time.perf_counter()
    for _ in range(draws):
        mechanism.randomise(0)
    print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)
""",
        arrays=lambda data: {"draws": np.array(len(data))},
    ),
    "diffprivlib==0.6.6",
    "one number a call",
)
JAX_PRIVACY = Peer("jax-privacy", None, "jax-privacy==2.0.0", "needs jax, which is not pinned here")
