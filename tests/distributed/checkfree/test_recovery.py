import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pipelines import D, batch, make, parts

from whp.distributed import Simulator, UnrecoverableStageError, recover
from whp.distributed._checkfree.audit import mixture
from whp.distributed._checkfree.recovery import copies, neighbour_weights, plan, twin
from whp.distributed.char_lm import Block


def sd(*values):
    return {"w": torch.tensor(values)}


def test_recover_by_hand():
    assert recover(sd(1.0, 2.0), sd(3.0, 6.0), 1, 3)["w"].tolist() == [2.5, 5.0]
    assert recover(sd(1.0, 2.0), sd(3.0, 6.0), 0, 0)["w"].tolist() == [2.0, 4.0]
    a, b = neighbour_weights(0.25, 0.75, "grad", 1e-4)
    assert (a, b) == pytest.approx((0.2501 / 1.0002, 0.7501 / 1.0002), abs=1e-15)
    assert recover(sd(1.0), sd(3.0), 0.25, 0.75, eps=1e-4)["w"].item() == pytest.approx(
        a + 3 * b, abs=1e-6
    )
    assert recover(sd(1.0), sd(3.0), 1, 9, "uniform")["w"].item() == 2
    assert recover(sd(1.0), sd(3.0), 1, 9, "copy")["w"].item() == 1
    assert recover(sd(1.0), None, 1, 9)["w"].item() == 1


def test_recover_copies_whole_numbers_and_never_shares():
    a, b = {"w": torch.ones(2), "n": torch.tensor(3)}, {"w": torch.zeros(2), "n": torch.tensor(8)}
    found = recover(a, b, 1, 1)
    assert found["n"] == 3
    found["w"].fill_(7)
    found["n"].fill_(7)
    assert a["w"].tolist() == [1, 1]
    assert a["n"] == 3


def test_zero_makes_a_residual_stage_the_identity():
    block = Block(D, 2, 8)
    block.load_state_dict(recover(block.state_dict(), block.state_dict(), 1, 1, "zero"))
    x = torch.randn(2, 6, D)
    assert torch.equal(block(x), x)
    with pytest.raises(ValueError, match="output projections"):
        recover(sd(1.0), sd(1.0), 1, 1, "zero")


def test_useless_norms_count_equally_and_are_told():
    for bad in (math.nan, math.inf, -1.0):
        with pytest.warns(UserWarning, match="neighbours count equally"):
            assert recover(sd(1.0), sd(3.0), bad, 1.0)["w"].item() == 2


def test_different_shapes_are_named():
    other = {"w": torch.ones(2, 3)}
    with pytest.raises(
        ValueError,
        match=r"stage 3 cannot be rebuilt from stages 2 and 4: 'w' is \(2,\) vs \(2, 3\)",
    ):
        recover(sd(1.0, 2.0), other, stage=3)
    with pytest.raises(ValueError, match="only one of them has 'v'"):
        recover(sd(1.0), {"w": torch.ones(1), "v": torch.ones(1)})
    model = parts()
    model[1][3] = Block(D, 2, 16)
    with pytest.raises(
        ValueError,
        match=r"stage 2 cannot be rebuilt from stages 1 and 3: 'gate.weight' is \(16, 8\)",
    ):
        make(Simulator, model)
    assert make(Simulator, model, mode="none").step(batch(0)).iteration == 0


@settings(max_examples=100, deadline=None)
@given(
    st.floats(0, 1e6),
    st.floats(0, 1e6),
    st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=5),
)
def test_recovery_stays_between_its_neighbours(a, b, values):
    x = torch.tensor(values)
    y = x.flip(0) + 1
    found = recover({"w": x}, {"w": y}, a, b)["w"]
    low, high = torch.minimum(x, y), torch.maximum(x, y)
    assert (found >= low - 1e-4).all()
    assert (found <= high + 1e-4).all()


def test_who_stands_in_for_whom():
    assert [twin(i, 6) for i in range(6)] == [1, 0, None, None, 5, 4]
    assert [(t.unit, t.sources, t.how) for t in plan([2, 4], 6, "checkfree", "grad")] == [
        ("2", (1, 3), "rebuild"),
        ("4", (3, 5), "rebuild"),
    ]
    assert [(t.unit, t.to, t.sources, t.how) for t in plan([0], 6, "checkfree+", "grad")] == [
        ("0", 0, (1,), "rebuild"),
        ("embed", 0, (1,), "restore"),
    ]
    assert [(t.unit, t.how) for t in plan([1], 6, "checkfree+", "grad")] == [
        ("1", "rebuild"),
        ("embed", "copy"),
    ]
    assert len(plan([2, 3], 6, "checkfree", "random")) == 2
    assert set(copies(6, "redundant", False)) == {*map(str, range(6)), "embed", "head"}
    for lost, mode in (
        ([2, 3], "checkfree"),
        ([0, 1], "checkfree+"),
        ([4, 5], "checkfree+"),
        ([2, 3], "redundant"),
        ([0], "checkfree"),
        ([5], "checkfree"),
        ([2], "none"),
    ):
        with pytest.raises(UnrecoverableStageError):
            plan(lost, 6, mode, "grad")


def test_complex_weights_are_averaged():
    a, b = ({"w": torch.tensor([v + v * 1j])} for v in (1.0, 3.0))
    assert recover(a, b, 1, 1)["w"].tolist() == [2 + 2j]


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_kind_of_number_is_rounded_once(kind):
    a, b = (torch.rand(100, generator=torch.Generator().manual_seed(i)).to(kind) for i in (0, 1))
    made = recover({"w": a}, {"w": b}, 1, 3)["w"]
    assert made.dtype == kind
    assert torch.allclose(
        made.double(), (a.double() + 3 * b.double()) / 4, rtol=torch.finfo(kind).eps
    )


def test_masks_and_counters_are_copied():
    a = {"m": torch.tensor([True, False]), "n": torch.tensor(3)}
    b = {"m": torch.tensor([False, False]), "n": torch.tensor(8)}
    made = recover(a, b, 1, 1)
    assert made["m"].tolist() == [True, False]
    assert made["n"] == 3


def test_large_norms_are_weights_too():
    """Their sum is beyond floats."""
    near = {"w": torch.ones(2)}, {"w": torch.zeros(2)}
    assert recover(*near, 1.5e308, 0.5e308)["w"].tolist() == pytest.approx([0.75, 0.75])
    assert mixture((1.5e308, 0.5e308), "grad") == pytest.approx((0.75, 0.25))
    with pytest.raises(ValueError, match="eps"):
        recover(*near, 1, 2, eps=-5)
