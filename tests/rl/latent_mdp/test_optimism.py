import numpy as np
import pytest
from latent import as_seen, nothing_ruled_out, worked
from scipy.stats import binom

from whp.rl import PlanningBudgetError
from whp.rl._latent_mdp import kernels
from whp.rl._latent_mdp.learner import log_term
from whp.rl._latent_mdp.optimism import KINDS, alternating, exact


@pytest.mark.parametrize(
    ("n", "solver", "value"),
    [
        (500, "bernstein", 0.76751),
        (500, "mvp", 1.0),
        (5000, "bernstein", 0.666342),
        (5000, "mvp", 0.830426),
        (5000, "l1", 0.857515),
        (50000, "bernstein", 0.645548),
        (50000, "mvp", 0.659074),
        (50000, "l1", 0.707708),
    ],
)
def test_optimistic_values(n, solver, value):
    model = worked(3)
    found = exact(nothing_ruled_out(model), as_seen(model, n, 10), KINDS[solver], 2_000_000)
    assert found.value == pytest.approx(value, abs=1e-5)
    assert found.value >= model.optimal().value
    assert model.value(found.policy) <= model.optimal().value + 1e-12


@pytest.mark.parametrize("solver", list(KINDS))
def test_values_come_down_to_the_best(solver):
    model = worked(3)
    found = exact(nothing_ruled_out(model), as_seen(model, 1e13, 10), KINDS[solver], 2_000_000)
    assert found.value == pytest.approx(model.optimal().value, abs=1e-4)
    assert model.value(found.policy) == pytest.approx(model.optimal().value, abs=1e-4)


@pytest.mark.parametrize("solver", list(KINDS))
@pytest.mark.parametrize("n", [200, 2000, 20000])
def test_alternating_is_between_with_its_gap(solver, n):
    model = worked(3)
    known, seen = nothing_ruled_out(model), as_seen(model, n, 10)
    best = exact(known, seen, KINDS[solver], 2_000_000)
    found = alternating(known, seen, KINDS[solver])
    assert found.value <= best.value + 1e-9 <= found.value + found.gap + 2e-9
    assert found.value + found.gap >= model.known_context() - 1e-9


def test_the_kindest_law():
    q = np.zeros(3)
    p, v = np.array([0.5, 0.3, 0.2]), np.array([1.0, 0.0, 0.5])
    assert kernels.kindest(v, p - 0.1, p + 0.1, q) == pytest.approx(0.7)
    assert q == pytest.approx([0.6, 0.2, 0.2])


def test_the_kindest_law_is_that_of_a_linear_program():
    from scipy.optimize import linprog

    rng = np.random.default_rng(0)
    for _ in range(50):
        p, v, q = rng.dirichlet(np.ones(4)), rng.random(4), np.zeros(4)
        low, high = np.maximum(0, p - rng.random(4) / 3), np.minimum(1, p + rng.random(4) / 3)
        found = linprog(-v, A_eq=[[1] * 4], b_eq=[1], bounds=list(zip(low, high, strict=True)))
        assert kernels.kindest(v, low, high, q) == pytest.approx(-found.fun, abs=1e-9)


def test_the_bonus_is_monotone_and_the_sum_of_both_parts_is_not():
    rng = np.random.default_rng(0)
    falls = 0
    q, yes = np.zeros(4), np.ones(4, bool)
    for _ in range(20_000):
        p, v = rng.dirichlet(np.ones(4)), rng.random(4)
        n, iota = 10 ** rng.uniform(0, 5), rng.uniform(1, 20)
        up, j = v.copy(), rng.integers(4)
        up[j] += (1 - v[j]) * rng.random()
        ends = [kernels.backup(x, p, yes, n, iota, 4, kernels.MVP, q) for x in (v, up)]
        assert ends[1] >= ends[0] - 1e-12
        sums = [
            p @ x + 4 * np.sqrt(4 * (p @ (x - p @ x) ** 2) * iota / n) + 16 * 4 * iota / n
            for x in (v, up)
        ]
        falls += sums[1] < sums[0]
    assert 0.08 < falls / 20_000 < 0.18


@pytest.mark.parametrize("kind", [kernels.BERNSTEIN, kernels.MVP, kernels.L1])
def test_backups_are_monotone(kind):
    rng = np.random.default_rng(1)
    q, yes = np.zeros(3), np.ones(3, bool)
    for _ in range(2000):
        p, v = rng.dirichlet(np.ones(3)), rng.random(3)
        n, iota = 10 ** rng.uniform(0, 5), rng.uniform(1, 20)
        up = v + (1 - v) * rng.random(3)
        a, b = (kernels.backup(x, p, yes, n, iota, 3, kind, q) for x in (v, up))
        assert b >= a - 1e-12


@pytest.mark.parametrize("n", [2, 10, 100, 1000])
@pytest.mark.parametrize("p", [0.01, 0.2, 0.5])
def test_the_box_covers(n, p):
    """Failure of a coordinate is at most 2 exp(-iota), by exact summation of the binomial law."""
    for iota in (3.0, 5.0, log_term(1, 1, 0.05)):
        k = np.arange(n + 1)
        hat = k / n
        wide = 2 * np.sqrt(hat * iota / n) + 5 * iota / n
        outside = (np.abs(hat - p) > wide) & (n > 5 * iota)
        assert binom.pmf(k[outside], n, p).sum() <= 2 * np.exp(-iota)


def test_a_known_law_has_no_bonus():
    q = np.zeros(3)
    only = np.array([False, True, False])
    v = np.array([1.0, 0.25, 0.5])
    for kind in KINDS.values():
        assert kernels.backup(v, np.zeros(3), only, 0, 9.0, 1, kind, q) == 0.25


def test_the_budget_is_told():
    model = worked(4)
    with pytest.raises(PlanningBudgetError, match="alternating"):
        exact(nothing_ruled_out(model), as_seen(model, 1000, 10), kernels.BERNSTEIN, 100)
