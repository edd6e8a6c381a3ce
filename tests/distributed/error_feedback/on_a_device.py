"""What is sent from a device that is pretended: fake tensors know where they are."""

import torch
from pretended import DEVICE, Answers, begin
from torch._subclasses.fake_tensor import FakeTensorMode

from whp.distributed import BlockTopK, Identity, NaturalDeterministic, TopK
from whp.distributed._error_feedback.hook import _add, _difference, contraction_of


def main():
    begin()
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
