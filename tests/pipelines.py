"""A small pipeline of character blocks, for tests of what loses stages."""

import os

import torch

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
