import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whp.distributed._checkfree.routes import route, schedule, timeline


@pytest.mark.parametrize("stages", [4, 5, 6, 9])
def test_routes_pass_every_stage_once_and_no_message_twice(stages):
    for m in range(2):
        way = [op.rank for op in route(m, stages, True, stages - 1)][1:-1]
        assert sorted(way) == list(range(stages))
        hops = [
            (op.before, op.rank)
            for op in route(m, stages, True, stages - 1)
            if op.before not in (None, op.rank)
        ]
        assert len(hops) == len(set(hops))
    middle = list(range(2, stages - 2))
    assert way == [1, 0, *middle, stages - 1, stages - 2]


@settings(max_examples=60, deadline=None)
@given(st.integers(4, 9), st.integers(1, 9), st.booleans())
def test_orders_of_all_ranks_cannot_block(stages, microbatches, swap):
    """Each rank works through its list; somebody can always go on, forward and backward."""
    for head in (stages - 1, 0):
        ways = [route(m, stages, swap, head) for m in range(microbatches)]
        orders = [list(ops) for ops in schedule(microbatches, stages, swap, head)]
        assert (
            sum(map(len, orders))
            == microbatches * (stages + 2)
            == len(timeline(microbatches, stages, swap, head))
        )
        for backward in (False, True):
            left = [ops[::-1] if backward else list(ops) for ops in orders]
            todo = [w[::-1] if backward else list(w) for w in ways]
            while any(left):
                free = [ops for ops in left if ops and todo[ops[0].microbatch][0] == ops[0]]
                assert free
                for ops in free:
                    todo[ops.pop(0).microbatch].pop(0)
