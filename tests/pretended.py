"""A device that is pretended: fake tensors know where they are, and refuse to be mixed.

A script about it runs in a process of its own, because such a device is there for good.
"""

import os
import subprocess
import sys
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

DEVICE = "pretended:0"


def begin():
    _setup_privateuseone_for_python_backend("pretended")


class Answers(TorchDispatchMode):
    """Answers questions for a value of a fake tensor, which has none."""

    def __init__(self, nonzero=True):
        super().__init__()
        self.answers = {
            torch.ops.aten.equal.default: True,
            torch.ops.aten.is_nonzero.default: nonzero,
        }

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten._local_scalar_dense.default:
            return 0.25 if args[0].is_floating_point() else 1
        if function in self.answers:
            return self.answers[function]
        return function(*args, **(kwargs or {}))


def words_of(script, *arguments):
    """What a script beside this folder's tests prints, word by word, if it ends well."""
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, script, *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()
