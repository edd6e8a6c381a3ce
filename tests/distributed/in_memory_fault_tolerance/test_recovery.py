import pytest

from whp.distributed import ErasureGroup
from whp.distributed._in_memory_fault_tolerance.recovery import agree


def test_a_commit_that_got_lost_half_way_is_found_out(memory):
    code = ErasureGroup(3, 1)

    def told(*held):
        return {
            "n": 3,
            "floor": 4,
            "held": [{"version": v, "state": s, "bad": []} for v, s in held],
        }

    mixed = [
        told((5, "committed")),
        told((4, "committed"), (5, "encoded")),
        told((4, "committed"), (5, "encoded")),
    ]
    assert agree(code, mixed).version == 5
    late = [
        told((4, "committed"), (5, "copied")),
        told((4, "committed"), (5, "encoded")),
        told((4, "committed"), (5, "dirty")),
    ]
    assert agree(code, late).version == 4
    gone = [told(), told((4, "committed"), (5, "encoded")), told((4, "committed"), (5, "encoded"))]
    assert (agree(code, gone).version, list(agree(code, gone).lost)) == (5, [0])
    assert agree(code, [told(), told(), told((4, "committed"))]).version == 0
    assert "survives 1" in agree(code, [told(), told(), told((4, "committed"))]).why
    assert agree(code, [told()] * 3).why == ""
    with pytest.raises(ValueError, match="copies in memory are of 3 ranks and this group has 2"):
        agree(ErasureGroup(2, 1), mixed[:2])
