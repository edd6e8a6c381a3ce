import numpy as np
import pytest
import torch

from whp.interpretability import GBASparseAutoencoder
from whp.studies.sae_gba.experiments import simulated


@pytest.mark.parametrize(
    ("activation", "expected"), [("jumprelu", (2.7, 0.7)), ("relu", (2.0, 0.3))]
)
def test_3_forward(activation, expected):
    net = GBASparseAutoencoder(2, 2, activation=activation)
    with torch.no_grad():
        net.W.copy_(torch.tensor([[0.6, 0.8], [1.0, 0.0]]))
        net.a.copy_(torch.tensor([1.0, 2.0]))
        net.b.copy_(torch.tensor([-0.5, -0.2]))
        net.c.copy_(torch.tensor([0.1, -0.1]))
    out, _, y = net(torch.tensor([[1.1, 0.4]]))
    np.testing.assert_allclose(out.detach(), [expected], atol=1e-6)
    np.testing.assert_allclose(y.detach(), [[0.5, 0.8]], atol=1e-6)
    out.sum().backward()
    assert not net.b.requires_grad
    assert net.b.grad is None
    assert net.W.grad is not None


def test_topk_keeps_the_largest():
    net = GBASparseAutoencoder(6, 10, k=3)
    _, z, y = net(torch.randn(50, 6))
    assert ((z > 0).sum(dim=1) <= 3).all()
    for row, u in zip(z, y, strict=True):
        assert set(torch.nonzero(row)[:, 0].tolist()) <= set(u.topk(3).indices.tolist())


def test_rotating_activations_rotates_the_decoder():
    X = torch.from_numpy(simulated(40, 20, (2,), 256, np.random.default_rng(0))[0]).float()
    Q = torch.linalg.qr(torch.randn(20, 20, generator=torch.Generator().manual_seed(0)))[0]
    nets = []
    for turn in (torch.eye(20), Q):
        net = GBASparseAutoencoder(20, 24, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            net.W.copy_(net.W @ turn)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(50):
            out, _, _ = net(X @ turn)
            loss = (out - X @ turn).square().sum() / (2 * len(X))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        nets.append(net.directions().detach())
    torch.testing.assert_close(nets[0] @ Q, nets[1], atol=1e-4, rtol=0)


def test_a_generator_gives_the_same_directions_wherever_the_network_lives():
    nets = [GBASparseAutoencoder(3, 4, generator=torch.Generator().manual_seed(0)) for _ in "ab"]
    torch.testing.assert_close(nets[0].W, nets[1].W)
    assert GBASparseAutoencoder(3, 4, device="meta").W.device.type == "meta"
