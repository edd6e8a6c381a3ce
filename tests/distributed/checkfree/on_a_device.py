"""A pipeline on a device that is pretended: fake tensors know where they are."""

import os
import sys

import torch
from pretended import DEVICE, Answers, begin
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from whp.distributed import Simulator, recover


def stage():
    return nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Dropout(0.5))


def places(sim):
    """Of all weights, buffers and moments; counts of steps may be on the processor."""
    for site in sim._sites:
        for unit in site.units.values():
            yield from unit.module.state_dict().values()
            for moments in unit.optimizer.state.values():
                yield from (v for k, v in moments.items() if k != "step")


def main():
    begin()
    generators, seeds = torch.get_device_module("pretended"), []
    generators.get_rng_state = lambda device: torch.zeros(1)
    generators.set_rng_state = lambda state, device: None
    generators.manual_seed = seeds.append
    with FakeTensorMode(allow_non_fake_inputs=True), Answers():
        near = [{"w": torch.randn(3, 4, device=DEVICE)} for _ in range(2)]
        assert str(recover(*near, 1.0, 2.0)["w"].device) == DEVICE
        print("recover")
        with torch.device(DEVICE):
            ends, stages = (nn.Linear(3, 4), nn.Linear(4, 1)), [stage() for _ in range(5)]
        x, y = torch.randn(8, 3, device=DEVICE), torch.randn(8, 1, device=DEVICE)
        for rule in ("grad", "random"):
            sim = Simulator(
                ends[0], stages, ends[1], nn.functional.mse_loss, microbatches=2, rule=rule
            )
            assert str(sim.device) == DEVICE
            for lost in ([], [2], [1], [3]):  # fake tensors cannot be copied as ends are
                for s in lost:
                    sim.kill(s)
                sim.step((x, y))
            sim.evaluate([(x, y)])
            assert {str(t.device) for t in places(sim)} == {DEVICE}
            assert seeds  # the device's own generator is seeded before each unit
            print(rule)


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # copies of fake tensors share storages that do not exist, and freeing them aborts
