"""What a fork server imports once, so that every process forked from it is ready to train at once.

Constructing an optimizer draws in most of torch's lazy imports. No backward pass: autograd's threads do not survive a fork.
"""

import os
import signal

_BEFORE = signal.signal(
    signal.SIGINT, signal.SIG_IGN
)  # Ctrl-C is for the process that asked, not for half an import
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # gloo warns of names that do not resolve

import joblib.externals.loky.backend.context  # noqa: E402, F401  # joblib's workers name it to those that they start
import numba  # noqa: E402, F401
import torch  # noqa: E402
import torch.distributed  # noqa: E402
import torch.nn.parallel  # noqa: E402

__all__: list[str] = []

_LAYER = torch.nn.Linear(2, 2)
torch.optim.Adam(_LAYER.parameters())
torch.optim.AdamW(_LAYER.parameters())
torch.optim.SGD(_LAYER.parameters(), lr=0.1)
signal.signal(signal.SIGINT, _BEFORE)
