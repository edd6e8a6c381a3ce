"""Sparse autoencoders and dictionary learning by other libraries: some hundred steps at equal sizes."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from whp.experiment.benchmark import TORCHVISION_ON_CPU, Foreign, Peer

__all__ = ["DICTIONARY_LEARNING", "OVERCOMPLETE", "SAE_LENS", "SKLEARN", "SPARSIFY"]

# Each script takes the arrays X, M, steps and batch, and does the steps alone.
BEFORE = """
import json, sys, time
import numpy as np
import torch
torch.set_num_threads(1)
data = np.load(sys.argv[1])
X, M, steps, batch = torch.from_numpy(data["X"]), int(data["M"]), int(data["steps"]), int(data["batch"])
"""
AFTER = """
for line in sys.stdin:
    start = time.perf_counter()
    work()
    print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)
"""
OVERCOMPLETE_STEPS = """
from overcomplete.sae import TopKSAE
def work():
    torch.manual_seed(0)
    sae = TopKSAE(X.shape[1], nb_concepts=M, top_k=19, device="cpu")
    optimizer = torch.optim.Adam(sae.parameters(), lr=1e-3)
    for _ in range(steps):
        x = X[torch.randint(0, len(X), (batch,))]
        _, codes, out = sae(x)
        loss = (out - x).square().sum() / (2 * len(x))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""
DICTIONARY_STEPS = """
from dictionary_learning.trainers.top_k import AutoEncoderTopK
def work():
    torch.manual_seed(0)
    sae = AutoEncoderTopK(X.shape[1], M, 19)
    optimizer = torch.optim.Adam(sae.parameters(), lr=1e-3)
    for _ in range(steps):
        x = X[torch.randint(0, len(X), (batch,))]
        out = sae(x)
        loss = (out - x).square().sum() / (2 * len(x))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""


def _arrays(shared: dict[str, Any]) -> dict[str, Any]:
    return {k: np.asarray(v) for k, v in shared.items()}


def _sklearn(X: np.ndarray, M: int) -> Any:
    from sklearn.decomposition import MiniBatchDictionaryLearning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MiniBatchDictionaryLearning(
            M, transform_algorithm="omp", max_iter=1, batch_size=256, random_state=0
        )
        return model.fit(X[:2048])


OVERCOMPLETE = Peer(
    "overcomplete TopKSAE, steps alone",
    Foreign(
        "overcomplete==0.3.0\ntorch==2.13.0\nmatplotlib<3.9\n",
        TORCHVISION_ON_CPU + BEFORE + OVERCOMPLETE_STEPS + AFTER,
        _arrays,
    ),
    "overcomplete==0.3.0",
)
DICTIONARY_LEARNING = Peer(
    "dictionary-learning AutoEncoderTopK, steps alone",
    Foreign("dictionary-learning==0.1.0\n", BEFORE + DICTIONARY_STEPS + AFTER, _arrays),
    "dictionary-learning==0.1.0",
)
SKLEARN = Peer(
    "scikit-learn dictionary learning, one pass over 2,048 rows", _sklearn, "scikit-learn"
)
SAE_LENS = Peer(
    "sae-lens TopK and BatchTopK trainers",
    None,
    "sae-lens==6.54",
    "its trainers take their activations from a hooked transformer of its own, not a matrix",
)
SPARSIFY = Peer(
    "sparsify",
    None,
    "eai-sparsify==1.3.3",
    "its trainer takes its activations from a Hugging Face model and tokens, not a matrix",
)
