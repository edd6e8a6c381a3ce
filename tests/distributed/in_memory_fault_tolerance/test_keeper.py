import itertools
import time

import numpy as np
import pytest
from keepers import random_shards

from whp.distributed import UnrecoverableError
from whp.distributed._in_memory_fault_tolerance import client
from whp.distributed._in_memory_fault_tolerance.fleet import Fleet


@pytest.mark.parametrize(("n", "m", "codec"), [(4, 1, "auto"), (3, 1, "replica"), (1, 0, "auto")])
def test_4_every_loss_that_the_code_survives_is_rebuilt(memory, n, m, codec):
    assert_all_patterns(n, m, codec, memory, length=6400 * (n - m))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "m", "codec"), [(6, 2, "auto"), (5, 3, "auto"), (6, 4, "auto"), (5, 2, "replica")]
)
def test_4_every_loss_of_larger_groups(memory, n, m, codec):
    assert_all_patterns(n, m, codec, memory, length=64 * 300 * (n - m))


def assert_all_patterns(n, m, codec, memory, length):
    with Fleet(n, m, codec, length=length, directory=memory) as fleet:
        for u in range(m + 1):
            for lost in itertools.combinations(range(n), u):
                shards = random_shards(fleet, seed=fleet.version)
                version = fleet.save(shards)
                fleet.lose(lost)
                found = fleet.recover()
                assert (found.version, sorted(found.lost)) == (version, list(lost))
                np.testing.assert_array_equal(shards, fleet.shards(version))
        if m + 1 < n:
            fleet.save(random_shards(fleet))
            fleet.lose(range(m + 1))
            with pytest.raises(UnrecoverableError, match="lost"):
                fleet.recover()


def test_7_a_version_that_is_not_encoded_never_happened(memory):
    with Fleet(4, 1, length=64 * 300, directory=memory) as fleet:
        first = random_shards(fleet, 1)
        kept = fleet.save(first)
        fleet.members[2].hold(True)
        fleet.begin(random_shards(fleet, 2))
        time.sleep(0.1)
        states = [
            h["state"]
            for smp in fleet.members
            for h in smp.query()["held"]
            if h["version"] == kept + 1
        ]
        assert states[:2] + states[3:] == ["copied"] * 3, (
            "one that waits keeps the others from being encoded"
        )
        fleet.lose([0])
        found = fleet.recover()
        assert (found.version, list(found.lost)) == (kept, [0])
        np.testing.assert_array_equal(first, fleet.shards(kept))
        fleet.members[2].hold(False)
        again = random_shards(fleet, 3)
        version = fleet.save(again)
        assert version == kept + 2, "a number is never used again"
        np.testing.assert_array_equal(again, fleet.shards(version))


def test_a_half_written_buffer_is_forgotten_with_its_writer(memory):
    with Fleet(2, 1, length=640, directory=memory) as fleet:
        first = random_shards(fleet)
        fleet.save(first)
        fleet.members[0].begin(2, 640)[:100] = 7
        fleet.members[0].close()
        fleet.members[0] = client.SMP(fleet.members[0].found)
        told = fleet.members[0].query()
        assert [(h["version"], h["state"]) for h in told["held"]] == [(1, "committed")]
        assert told["floor"] == 2
        found = fleet.recover()
        assert (found.version, found.lost) == (1, {})
        np.testing.assert_array_equal(first, fleet.shards(1))


def test_a_damaged_byte_counts_as_a_lost_block(memory):
    with Fleet(4, 1, length=64 * 300, directory=memory) as fleet:
        shards = random_shards(fleet)
        fleet.save(shards)
        fleet.corrupt(1, 5)
        found = fleet.recover()
        assert found.lost == {1: [["d", 0]]}
        np.testing.assert_array_equal(shards, fleet.shards(1))
        fleet.corrupt(3, fleet.length + 9)
        assert fleet.recover().lost == {3: [["p", 0]]}
        fleet.corrupt(1, 5)
        fleet.lose([2])
        with pytest.raises(UnrecoverableError, match="survives 1"):
            fleet.recover()


def test_the_coordinator_may_die(memory):
    with Fleet(3, 1, length=640, directory=memory) as fleet:
        fleet.save(random_shards(fleet, 1))
        fleet.lose([0])
        fleet.recover()
        shards = random_shards(fleet, 2)
        np.testing.assert_array_equal(fleet.shards(fleet.save(shards)), shards)
