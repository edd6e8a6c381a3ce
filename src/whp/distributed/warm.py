"""What a fork server imports once, so that every process forked from it is ready to train at once.

Constructing an optimizer draws in most of torch's lazy imports. No backward pass: autograd's threads do not survive a fork.
"""

import os

os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # gloo warns of names that do not resolve

import joblib.externals.loky.backend.context  # noqa: F401  # joblib's workers name it to those that they start
import numba  # noqa: F401
import torch
import torch.distributed
import torch.nn.parallel

__all__: list[str] = []

_LAYER = torch.nn.Linear(2, 2)
torch.optim.Adam(_LAYER.parameters())
torch.optim.AdamW(_LAYER.parameters())
torch.optim.SGD(_LAYER.parameters(), lr=0.1)
