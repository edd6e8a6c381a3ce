"""What is sent from a device that is pretended: fake tensors know where they are."""

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from whp.distributed import BlockTopK, Identity, NaturalDeterministic, TopK
from whp.distributed._error_feedback.hook import _add, _difference, contraction_of

DEVICE = "pretended:0"


class Answers(TorchDispatchMode):
    """Answers questions for a value of a fake tensor, which has none."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten._local_scalar_dense.default:
            return 0.25 if args[0].is_floating_point() else 1
        if function is torch.ops.aten.is_nonzero.default:
            return True
        return function(*args, **(kwargs or {}))


def main():
    _setup_privateuseone_for_python_backend("pretended")
    with FakeTensorMode(), Answers():
        for compressor in (TopK(30), BlockTopK(0.1), NaturalDeterministic(), Identity()):
            v = torch.randn(1234, device=DEVICE)
            shift = torch.zeros(1234, device=DEVICE)
            values, indices, _ = _difference(compressor, v, shift)
            _add(shift, indices, values)
            contraction_of(v, values, indices)
            kept = [values, shift] if indices is None else [values, shift, indices]
            assert all(str(t.device) == DEVICE for t in kept)
            assert values.shape[0] == compressor.count(1234)
            print(type(compressor).__name__)


if __name__ == "__main__":
    main()
