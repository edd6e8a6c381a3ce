"""Training on a device that is pretended: fake tensors know where they are, and refuse to be mixed."""

import numpy as np
import torch
from pretended import DEVICE, Answers, begin
from torch._subclasses.fake_tensor import FakeTensorMode

from whp.interpretability import BiasAdapter, GBASparseAutoencoder, targets


def main():
    begin()
    with FakeTensorMode(), Answers():
        for method in ("gba", "topk", "l1"):
            net = GBASparseAutoencoder(
                6,
                12,
                k=3 if method == "topk" else None,
                train_bias=method == "l1",
                generator=torch.Generator().manual_seed(0),
                device=DEVICE,
            )
            adapter = None
            if method == "gba":
                adapter = BiasAdapter(net, *targets(12, 3, 0.5, 0.1))
            optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
            for _ in range(2):
                x = torch.randn(20, 6, device=DEVICE)
                out, z, y = net(x)
                loss = (out - x).square().sum() / 40 + 0.1 * z.sum()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if adapter is not None:
                    adapter.observe(y)
                    adapter.step()
            kept = [out, z, y, net.b, *net.parameters(), *(p.grad for p in net.parameters())]
            if adapter is not None:
                kept += [adapter.fired, adapter.most, adapter.silent, adapter.target, adapter.group]
            assert all(str(t.device) == DEVICE for t in kept if t is not None)
            print(method)


if __name__ == "__main__":
    assert np.isfinite(targets(4, 2, 0.5, 0.1)[0]).all()
    main()
