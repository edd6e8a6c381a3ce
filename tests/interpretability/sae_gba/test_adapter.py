import numpy as np
import pytest
import torch

from whp.interpretability import BiasAdapter, GBASparseAutoencoder


def test_2_one_adaptation():
    b = torch.tensor([-0.10, -0.05, -0.02])
    adapter = BiasAdapter(b, [0.5] * 3, [0] * 3)
    adapter.observe(
        torch.tensor([[0.4, -0.1, -0.3], [0.2, 0.3, -0.2], [-0.1, -0.2, -0.5], [0.6, -0.4, -0.1]])
    )
    adapter.step()
    np.testing.assert_allclose(b, [-0.106, -0.05, -0.0155], atol=1e-7)
    with pytest.raises(RuntimeError, match="observe"):
        adapter.step()


def test_biases_stay_in_their_range_and_silent_groups_are_revived():
    b = torch.tensor([-0.999, -0.001, -0.5])
    adapter = BiasAdapter(b, [0.1, 0.1, 0.1], [0, 0, 1], gamma_up=1.0, gamma_down=1.0)
    for _ in range(6):
        adapter.observe(torch.tensor([[1.0, -1.0, -1.0], [1.0, -1.0, -1.0]]))
        adapter.step()
    assert float(b[0]) == -1
    assert float(b[1]) == 0
    assert (
        float(b[2]) == 0
    )  # its group never fired: raised by the mean of all live neurons after three rounds
    assert adapter.revived > 0
    with pytest.raises(ValueError, match="target and group"):
        BiasAdapter(b, [0.1], [0])


def test_it_goes_on_from_its_state():
    made = [BiasAdapter(torch.full((4,), -0.1), [0.2] * 4, [0, 0, 1, 1]) for _ in range(2)]
    first, second = torch.randn(2, 30, 4, generator=torch.Generator().manual_seed(0))
    made[0].observe(first)
    made[1].load_state_dict(made[0].state_dict())
    made[0].fired += 0  # the copy shares nothing
    for adapter in made:
        adapter.observe(second)
        adapter.step()
    torch.testing.assert_close(made[0].bias, made[1].bias)
    with pytest.raises(ValueError, match="fired"):
        BiasAdapter(torch.zeros(3), [0.2] * 3, [0] * 3).load_state_dict(made[0].state_dict())


def test_any_encoder_with_a_bias_will_do():
    layer = torch.nn.Linear(5, 6).double()
    adapter = BiasAdapter(layer.bias.data, [0.1] * 6, [0] * 6)
    adapter.observe(layer(torch.randn(40, 5, dtype=torch.float64)))
    adapter.step()
    assert layer.bias.dtype == torch.float64
    assert (layer.bias <= 0.5).all()


def test_frequencies_fall_to_their_ceilings():
    net = GBASparseAutoencoder(8, 12, generator=torch.Generator().manual_seed(0))
    x = torch.nn.functional.normalize(torch.randn(500, 8), dim=1)
    adapter = BiasAdapter(net, [0.1] * 12, [0] * 12)
    with torch.no_grad():
        for _ in range(300):
            adapter.observe(net(x)[2])
            adapter.step()
        rate = (net(x)[2] > 0).float().mean(dim=0)
    assert (rate <= 0.1).all()
    assert (rate > 0.05).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_bad_batch_does_not_cost_the_biases(bad):
    biases = []
    for first in (-1.0, bad):
        b = torch.full((3,), -0.1)
        adapter = BiasAdapter(b, [0.3] * 3, [0] * 3)
        adapter.observe(torch.tensor([[first, 0.4, -0.2], [0.5, -0.3, -0.1]]))
        adapter.step()
        biases.append(b)
    torch.testing.assert_close(*biases)
