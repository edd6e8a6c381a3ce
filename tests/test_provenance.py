import copy
import os
import pickle

import numpy as np
import pytest

from whp.provenance import forget, made_here, plain_generator, register


class Sketch:
    def __init__(self, rows=None):
        self.rows = np.arange(4) if rows is None else rows
        self.signs = (np.ones(3), np.zeros(0))
        if rows is None:
            register(self, "rows", "signs")

    def draw(self):
        return self.rows


class Sub(Sketch):
    pass


class Impostor:
    rows = np.arange(4)


def test_what_was_drawn_here_is_known():
    assert made_here(Sketch(), Sketch)


@pytest.mark.parametrize(
    "other",
    [
        lambda s: Sub(),
        lambda s: Impostor(),
        lambda s: Sketch(rows=np.arange(4)),
        copy.copy,
        copy.deepcopy,
        lambda s: pickle.loads(pickle.dumps(s)),
        lambda s: setattr(s, "rows", np.arange(4)) or s,
        lambda s: setattr(s, "draw", lambda: 0) or s,
        lambda s: forget(s) or s,
    ],
)
def test_nothing_else_is(other):
    assert not made_here(other(Sketch()), Sketch)


@pytest.mark.parametrize("array", [lambda s: s.rows, lambda s: s.signs[0]])
def test_entries_that_were_overwritten_are_noticed(array):
    made = Sketch()
    entries = array(made)
    with pytest.raises(ValueError, match="read-only"):
        entries[0] = 7
    entries.setflags(write=True)
    assert made_here(made, Sketch)
    entries[0] = 7
    entries.setflags(write=False)
    assert not made_here(made, Sketch)


def test_frozen_arrays_cannot_be_written():
    with pytest.raises(ValueError, match="read-only"):
        Sketch().rows[0] = 7


def test_the_child_of_a_fork_drew_nothing():
    made = Sketch()
    pid = os.fork()
    if pid == 0:
        os._exit(int(made_here(made, Sketch)))
    assert os.waitpid(pid, 0)[1] == 0


def test_a_new_object_at_the_same_address_is_not_taken_for_the_old():
    for _ in range(100):
        made = Sketch()
        del made
        assert not made_here(Sketch(rows=np.arange(4)), Sketch)


def test_generators_that_only_look_like_numpys_are_told_apart():
    class Mine(np.random.Generator):
        pass

    class PCG64(np.random.PCG64):
        pass

    assert all(map(plain_generator, (None, 3, np.int64(3), np.random.default_rng(0))))
    assert plain_generator(np.random.Generator(np.random.MT19937(0)))
    for other in (Mine(np.random.PCG64(0)), np.random.Generator(PCG64(0)), "seed", object()):
        assert not plain_generator(other)
