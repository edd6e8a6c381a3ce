import math

import pytest
import torch

from whp.distributed._checkfree.audit import mixture, rebuilt_differs, spread_of
from whp.distributed._checkfree.recovery import SMALL, neighbour_weights, recover


@pytest.mark.parametrize("rule", ["grad", "uniform"])
@pytest.mark.parametrize("norms", [(0.25, 0.75), (0.0, 0.0), (math.nan, 1.0), (1.0, -1.0)])
@pytest.mark.filterwarnings("ignore:gradient norms")
def test_the_formula_of_the_audit_is_that_of_the_recovery(rule, norms):
    assert mixture(norms, rule) == pytest.approx(neighbour_weights(*norms, rule, SMALL), abs=1e-15)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float32, torch.float64, torch.complex64])
@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
def test_an_honest_recovery_is_within_four_digits(kind, scale):
    draw = torch.Generator().manual_seed(0)
    near = [{"w": (scale * torch.randn(1000, generator=draw)).to(kind)} for _ in range(2)]
    made = recover(*near, 0.3, 0.9, eps=SMALL)
    assert rebuilt_differs(made, near, mixture((0.3, 0.9), "grad")) <= 4
    off = {"w": made["w"] * (1 + 100 * torch.finfo(kind).eps)}
    assert rebuilt_differs(off, near, mixture((0.3, 0.9), "grad")) > 4
    assert spread_of(near) > 10
    assert spread_of([near[0], near[0]]) == 0
    assert spread_of(near[:1]) == pytest.approx(1 / torch.finfo(kind).eps)


def test_what_is_not_a_mixture_at_all():
    a = {"w": torch.ones(2), "n": torch.tensor(3)}
    assert rebuilt_differs({"w": torch.ones(2)}, [a], (1.0,)) == math.inf
    assert rebuilt_differs({"w": torch.ones(3), "n": torch.tensor(3)}, [a], (1.0,)) == math.inf
    assert rebuilt_differs({"w": torch.ones(2), "n": torch.tensor(4)}, [a], (1.0,)) == math.inf
    broken = {"w": torch.tensor([1.0, math.nan]), "n": torch.tensor(3)}
    assert rebuilt_differs(broken, [a], (1.0,)) == math.inf
    assert rebuilt_differs(a, [a], (1.0,)) == 0
