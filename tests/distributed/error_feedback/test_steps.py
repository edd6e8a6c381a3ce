import numpy as np
import pytest
from feedback_problem import GRADS, PROBLEM

from whp.distributed import BlockTopK, Identity, NaturalDeterministic, TopK, ef21


@pytest.mark.parametrize(
    "compressor",
    [TopK(1), TopK(2), BlockTopK(0.5, 2), NaturalDeterministic(), Identity()],
    ids=repr,
)
@pytest.mark.parametrize("init", ["compress", "dense", "zero"])
def test_the_loop_is_the_algorithm_of_the_paper(compressor, init):
    """Against the few lines of it, client by client."""
    rng = np.random.default_rng(0)
    H = [np.diag(np.exp(rng.normal(size=4))) for _ in range(3)]
    b = rng.normal(size=(3, 4))
    grads = [lambda x, i=i: H[i] @ x - b[i] for i in range(3)]

    def send(v):
        return compressor.decompress(compressor.compress(v))

    first = {"compress": send, "dense": lambda v: v, "zero": lambda v: 0 * v}[init]
    x = np.ones(4)
    shifts = [first(g(x)) for g in grads]
    for _ in range(15):
        x = x - 0.05 * np.mean(shifts, axis=0)
        shifts = [s + send(g(x) - s) for s, g in zip(shifts, grads, strict=True)]
    L = [float(h.max()) for h in H]
    made = ef21(grads, np.ones(4), smoothness=L, step=0.05, T=15, compressor=compressor, init=init)
    assert np.abs(made.x - x).max() <= 1e-14
    assert np.abs(made.shifts - shifts).max() <= 1e-14


def test_a_relative_of_topk_is_asked_for_its_own_choice():
    class Last(TopK):
        """Sends the last coordinate, whatever it is."""

        def select(self, v, generator=None):
            return np.array([len(v) - 1])

    made = ef21(GRADS, [3, 3], T=1, compressor=Last(1), **PROBLEM)
    assert made.x[0] == 3.0
    assert made.x[1] != 3.0


def test_rows_together_are_rows_one_by_one():
    rng = np.random.default_rng(0)
    options = {"smoothness": [1.0], "T": 4, "step": 0.3}
    d, target = 600, rng.normal(size=600)
    short = ef21([lambda x: x - target[:500]], np.zeros(500), compressor=TopK(7), **options)
    long = ef21([lambda x: x - target], np.zeros(d), compressor=TopK(7), **options)
    for made in (short, long):
        assert made.history["bytes_up"].tolist() == [56.0, 112.0, 168.0, 224.0, 280.0]
        assert np.count_nonzero(made.shifts) <= 35
