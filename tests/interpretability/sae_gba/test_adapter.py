import copy
import pickle

import numpy as np
import pytest
import torch

from whp.interpretability import BiasAdapter, GBASparseAutoencoder, targets


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


def pushed(net, adapter, rounds=5):
    """The largest move of the biases that the network computes with."""
    x = torch.randn(64, 8, generator=torch.Generator().manual_seed(1)).to(net.W.dtype)
    for _ in range(rounds):
        adapter.observe(net(x)[2])
        adapter.step()
    return float(net.b.abs().max())


@pytest.mark.parametrize(
    "move",
    [
        lambda net: net.double(),
        lambda net: net.load_state_dict(copy.deepcopy(net.state_dict()), assign=True),
        lambda net: net.half().float(),
        lambda net: net.register_buffer("b", torch.zeros(12)),
    ],
    ids=["double", "assign", "there and back", "another buffer"],
)
def test_biases_that_are_moved_are_those_of_the_network_wherever_it_went(move):
    net = GBASparseAutoencoder(8, 12)
    adapter = BiasAdapter(net, *targets(12, 3, 0.2, 0.05))
    move(net)
    assert pushed(net, adapter) > 0.01


def test_copies_and_compiled_networks_are_moved_too():
    net = GBASparseAutoencoder(8, 12)
    both = (net, BiasAdapter(net, *targets(12, 3, 0.2, 0.05)))
    for made in (copy.deepcopy(both), pickle.loads(pickle.dumps(both))):
        assert pushed(*made) > 0.01
    assert float(net.b.abs().max()) == 0
    compiled = torch.compile(net, backend="eager")
    assert pushed(net, BiasAdapter(compiled, *targets(12, 3, 0.2, 0.05))) > 0.01


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_that_rounds_moves_away_is_refused(kind):
    with pytest.raises(ValueError, match="float32"):
        BiasAdapter(torch.zeros(3, dtype=kind), [0.1] * 3, [0] * 3)
    net = GBASparseAutoencoder(8, 12)
    adapter = BiasAdapter(net, *targets(12, 3, 0.2, 0.05))
    with pytest.raises(ValueError, match="float32"):
        pushed(net.to(kind), adapter)


@pytest.mark.parametrize(
    ("bias", "target", "group", "named"),
    [
        (torch.zeros(3), [np.nan, 0.1, 0.1], [0] * 3, "target"),
        (torch.zeros(3), [0.0, 0.1, 0.1], [0] * 3, "target"),
        (torch.zeros(3), [10, 0.1, 0.1], [0] * 3, "target"),
        (torch.zeros(3), [0.1] * 3, [0, 0, -1], "group"),
        (torch.zeros(3), [0.1] * 3, [0, 0, 0.5], "group"),
        (torch.zeros(3, 1), [0.1] * 3, [0] * 3, "bias"),
        (torch.zeros(3, dtype=torch.int64), [0.1] * 3, [0] * 3, "bias"),
        (torch.nn.Linear(2, 3), [0.1] * 3, [0] * 3, "bias"),
        (np.zeros(3), [0.1] * 3, [0] * 3, "bias"),
        (GBASparseAutoencoder(2, 3, k=2), [0.1] * 3, [0] * 3, "bias"),
    ],
)
def test_what_would_be_ignored_or_guessed_is_refused(bias, target, group, named):
    with pytest.raises((TypeError, ValueError), match=named):
        BiasAdapter(bias, target, group)


def test_batches_have_a_column_a_neuron():
    y = torch.randn(4, 7, 3, generator=torch.Generator().manual_seed(0))
    made = [BiasAdapter(torch.zeros(3), [0.1] * 3, [0] * 3) for _ in range(2)]
    made[0].observe(y)
    made[1].observe(y.reshape(28, 3))
    assert made[0].seen == made[1].seen == 28
    assert torch.equal(made[0].fired, made[1].fired)
    made[0].observe(torch.zeros(0, 3))
    assert made[0].seen == 28
    for wrong in (torch.zeros(5, 1), torch.zeros(5, 2), torch.zeros(3), torch.zeros(3, 5)):
        with pytest.raises(ValueError, match="preactivations"):
            made[0].observe(wrong)
