"""A small pipeline of character blocks, for tests of what loses stages."""

import os
import signal
import time

import torch
from torch import nn

from whp.distributed.char_lm import Block, Embed, Head, cross_entropy, encode, vocabulary, windows

TEXT = (
    "In the beginning God created the heaven and the earth. And the earth was without form, and void. "
    * 20
)
VOCAB = vocabulary(TEXT)
TOKENS = encode(TEXT, VOCAB)
D = 8


def parts(stages=6, seed=0):
    torch.manual_seed(seed)
    return Embed(len(VOCAB), D, 6), [Block(D, 2, 8) for _ in range(stages)], Head(D, len(VOCAB))


def batch(t, rows=8):
    return windows(TOKENS, rows, 6, 0, t)


def make(kind, model=None, **options):
    options = {"lr": 1e-2, "microbatches": 4} | options
    return kind(*(model or parts()), cross_entropy, **options)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rsplit(")", 1)[1].split()[0] != "Z"


def same(a, b, names=None):
    return [k for k in (names or a) if not torch.equal(a[k], b[k])]


def worse(logits, y):
    """A loss that raises on targets that it does not know."""
    if y.max() > 1000:
        raise ValueError("no such target")
    return cross_entropy(logits, y)


class Slow(nn.Module):
    """Hangs, awake, in its process's third forward pass."""

    def __init__(self, hang):
        super().__init__()
        self.block, self.left = Block(D, 2, 8), 1 + 2 * 4 if hang else 10**9

    def forward(self, x):
        self.left -= 1
        if not self.left:
            end = time.monotonic() + 60
            while time.monotonic() < end:
                pass
        return self.block(x)


class Deadly(nn.Module):
    """Kills its process in its fifth forward pass."""

    def __init__(self, dies):
        super().__init__()
        self.block, self.dies = Block(D, 2, 8), dies

    def forward(self, x):
        if self.dies and x.shape[0] == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.block(x)


class Growing(nn.Linear):
    """Keeps a table as long as its longest input, made when it is needed, and counts its calls."""

    def __init__(self, rows, columns):
        super().__init__(rows, columns)
        self.calls = 0
        self.register_buffer("table", torch.zeros(0), persistent=False)

    def forward(self, x):
        if len(self.table) < len(x):
            self.table = torch.ones(len(x))
        if not hasattr(self, "late"):
            self.register_buffer("late", torch.ones(()), persistent=False)
        self.calls += self.training
        return super().forward(x) * self.table[: len(x), None] / (1 + 0.1 * self.calls)


class Turning(nn.Module):
    """An embedding with tables that are no real numbers: turns, and a whole number beyond doubles."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 4)
        self.register_buffer("turns", torch.polar(torch.ones(4), torch.arange(4.0)))
        self.register_buffer("key", torch.tensor(2**60 + 1))
        self.register_buffer("mask", torch.tensor([True, False, True, True]))

    def forward(self, x):
        return self.layer(x) * self.turns.imag * self.mask
