"""A small LLaMA-style character model, cut into modules that a pipeline or a sharded trainer can place where it likes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from whp.validate import as_int

__all__ = ["Block", "Embed", "Head", "RMSNorm", "cross_entropy", "encode", "vocabulary", "windows"]


def vocabulary(text: str) -> str:
    """The distinct characters of a text, sorted."""
    return "".join(sorted(set(text)))


def encode(text: str, vocab: str) -> Tensor:
    """Place of each character in `vocab`, as int64.

    Raises
    ------
    ValueError
        If the text has a character that the vocabulary has not.
    """
    place = {character: i for i, character in enumerate(vocab)}
    try:
        return torch.tensor([place[character] for character in text], dtype=torch.long)
    except KeyError as missing:
        raise ValueError(
            f"text must be written in the vocabulary, got {missing.args[0]!r}"
        ) from None


class RMSNorm(nn.Module):
    """Scale each vector to root mean square 1, then by a learnt gain."""

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return functional.rms_norm(x, self.gain.shape, self.gain, self.eps)


class Embed(nn.Module):
    """Tokens (b, t) to vectors (b, t, dim): a table of characters plus a table of places.

    Parameters
    ----------
    vocab : int
        Number of characters.
    dim : int
        Width.
    context : int
        Longest window.
    """

    def __init__(self, vocab: int, dim: int, context: int) -> None:
        super().__init__()
        self.token = nn.Parameter(0.1 * torch.randn(vocab, dim))
        self.place = nn.Parameter(0.1 * torch.randn(context, dim))

    def forward(self, x: Tensor) -> Tensor:
        """Vectors of the tokens at their places."""
        return functional.embedding(x, self.token) + self.place[: x.shape[1]]


class Block(nn.Module):
    """Causal attention and a SwiGLU layer, each normalised before and added to its input; no biases.

    Parameters
    ----------
    dim : int
        Width, a multiple of `heads`.
    heads : int
        Of the attention.
    hidden : int
        Width inside the SwiGLU layer.
    """

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim must be a multiple of heads, got {dim} and {heads}")
        self.heads = heads
        self.before_attention, self.before_gate = RMSNorm(dim), RMSNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)
        self.gate = nn.Linear(dim, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        b, t, d = x.shape
        q, k, v = (
            self.qkv(self.before_attention(x))
            .view(b, t, 3, self.heads, d // self.heads)
            .permute(2, 0, 3, 1, 4)
        )
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(b, t, d))
        left, right = self.gate(self.before_gate(x)).chunk(2, dim=-1)
        return x + self.down(functional.silu(left) * right)


class Head(nn.Module):
    """Vectors (b, t, dim) to logits (b, t, vocab)."""

    def __init__(self, dim: int, vocab: int) -> None:
        super().__init__()
        self.norm = RMSNorm(dim)
        self.logits = nn.Linear(dim, vocab, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the next character."""
        return self.logits(self.norm(x))


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Mean loss of the next character, in nats."""
    return functional.cross_entropy(logits.flatten(0, 1), y.flatten())


def windows(
    tokens: Tensor, batch: int, context: int, seed: int, step: int
) -> tuple[Tensor, Tensor]:
    """Batch number `step` of random windows: the same in every process that asks for it.

    Parameters
    ----------
    tokens : Tensor, shape (n,)
        The text.
    batch, context : int
        Number and length of the windows.
    seed, step : int
        What names the batch.

    Returns
    -------
    x, y : Tensor, shape (batch, context)
        Characters and those that follow them.
    """
    context = as_int(context, "context", low=1)
    if len(tokens) <= context:
        raise ValueError(f"tokens must be longer than one window of {context}, got {len(tokens)}")
    generator = torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63)
    start = torch.randint(len(tokens) - context, (batch, 1), generator=generator)
    at = start + torch.arange(context)
    return tokens[at], tokens[at + 1]
