import itertools
import math

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from guarantee import assert_error_rate
from hypothesis import given, settings
from hypothesis import strategies as st

from whp.certificate import Verdict
from whp.datasets import tables
from whp.intervals import mean
from whp.online.groupwise_regret import (
    AdaNormalHedge,
    GroupwiseLearner,
    GroupwiseRegressor,
    GroupwiseShortestPath,
    OnlineRidge,
    grid,
    groupwise_regret,
)
from whp.online.groupwise_regret.hedge import log_weight
from whp.online.groupwise_regret.paths import follow_the_perturbed_leader_bound


def stream(T=200, d=3, N=3, seed=0):
    rng = np.random.default_rng(seed)
    X, G = rng.random((T, d)), rng.random((T, N)) < 0.5
    return (
        X,
        np.clip(X @ rng.random(d) / d + 0.2 * G[:, 0] + 0.05 * rng.standard_normal(T), 0, 1),
        G,
    )


def test_1_log_weights():
    wanted = {
        (0, 0): -1.6204674521,
        (2, 3): -0.6634952107,
        (0.5, 7): -3.0130296106,
        (-0.5, 0): -3.1360978286,
        (-1, 0): -math.inf,
        (-2, 5): -math.inf,
        (300, 300): 99.3326178144,
    }
    for (R, C), w in wanted.items():
        assert log_weight(float(R), float(C)) == pytest.approx(w, abs=1e-9)
    assert math.isfinite(log_weight(3000.0, 3000.0))


def test_2_five_rounds_by_hand():
    hedge = AdaNormalHedge(3)
    rounds = [
        ((1, 0, 1), (0.2, 0, 0.6)),
        ((1, 1, 1), (0.1, 0.9, 0.5)),
        ((0, 1, 1), (0, 0.3, 0.4)),
        ((1, 1, 1), (0.8, 0.2, 0.5)),
        ((1, 0, 1), (0, 0, 1)),
    ]
    p = [
        (0.5, 0, 0.5),
        (0.45455276, 0.36563174, 0.17981551),
        (0, 0.31017505, 0.68982495),
        (0.73639803, 0.10000516, 0.16359681),
        (0.70862428, 0, 0.29137572),
    ]
    for (active, losses), weights, mixture in zip(
        rounds, p, (0.4, 0.46443159, 0.3689825, 0.69091786, 0.29137572), strict=True
    ):
        np.testing.assert_allclose(hedge.weights(active), weights, atol=1e-8)
        assert hedge.update(losses, active) == pytest.approx(mixture, abs=1e-8)
    np.testing.assert_allclose(hedge.R, (0.74672518, 0.12433195, -0.78429233), atol=1e-8)
    np.testing.assert_allclose(hedge.C, (0.96488945, 0.99546876, 1.16612805), atol=1e-8)
    assert pytest.approx(2.2245538571, abs=1e-9) == hedge.B
    np.testing.assert_allclose(hedge.bound(), (2.34404966, 2.38090379, 2.57692126), atol=1e-8)


def test_3_no_meta_bound_is_broken():
    for rng in np.random.default_rng(0).spawn(300):
        N, kind = int(rng.integers(2, 6)), rng.integers(4)
        hedge, fixed = AdaNormalHedge(N), rng.random(N)
        for t in range(60):
            active = rng.random(N) < 0.7
            losses = [
                rng.random(N),
                fixed,
                (np.arange(N) + t) % 2 * 1.0,
                (hedge.weights(active) > 1 / N) * 1.0,
            ][kind]
            hedge.update(losses, active)
        assert (hedge.bound() + 1e-12 >= hedge.R).all()


def test_3_symmetries():
    rng = np.random.default_rng(0)
    losses, active = rng.random((50, 4)), rng.random((50, 4)) < 0.8
    order = rng.permutation(4)
    plain, turned, doubled = AdaNormalHedge(4), AdaNormalHedge(4), AdaNormalHedge(8)
    sure = AdaNormalHedge(4, prior=[1 - 3e-12, 1e-12, 1e-12, 1e-12])
    for ell, a in zip(losses, active, strict=True):
        np.testing.assert_allclose(turned.weights(a[order]), plain.weights(a)[order], atol=1e-12)
        np.testing.assert_allclose(
            doubled.weights(np.tile(a, 2)).reshape(2, 4).sum(axis=0), plain.weights(a), atol=1e-12
        )
        if a[0]:
            assert sure.weights(a)[0] > 0.999
        plain.update(ell, a)
        turned.update(ell[order], a[order])
        doubled.update(np.tile(ell, 2), np.tile(a, 2))
    saved = AdaNormalHedge(4)
    saved.load_state_dict(plain.state_dict())
    np.testing.assert_array_equal(saved.weights(active[0]), plain.weights(active[0]))
    np.testing.assert_array_equal(plain.weights([False] * 4), np.full(4, 0.25))


@pytest.mark.parametrize(
    ("forecaster", "said", "loss", "executed"),
    [
        ("vaw", (0, 0.0235294118, 0.2615384615, 0.3627906977), 1.2334079846, 0.7766637986),
        ("ridge", (0, 0.05, 0.4, 0.6), 0.9225, 0.4657558140),
    ],
)
def test_4_ridge_and_vaw(forecaster, said, loss, executed):
    learner = OnlineRidge(2, forecaster=forecaster)
    for x, y, z in zip(((1, 0), (0.5, 1), (0, 1), (1, 1)), (0.2, 0.9, 0.4, 1), said, strict=True):
        assert learner.predict_one(x) == pytest.approx(z, abs=1e-9)
        learner.learn_one(x, y)
    assert learner.loss == pytest.approx(loss, abs=1e-9)
    assert learner.hindsight() == pytest.approx((0.4567441860, 0.1545484045), abs=1e-9)
    # Nothing was clipped, so that the bound is attained.
    assert learner.bound() == pytest.approx(executed, abs=1e-9)
    assert learner.loss - learner.hindsight()[0] == pytest.approx(executed, abs=1e-9)
    assert learner.rounds == 4


@pytest.mark.parametrize("forecaster", ["ridge", "vaw"])
def test_4_the_executed_bound_holds_with_clipping(forecaster):
    for rng in np.random.default_rng(0).spawn(100):
        learner = OnlineRidge(3, lam=float(rng.uniform(0.1, 2)), forecaster=forecaster)
        for _ in range(40):
            x = 2 * rng.standard_normal(3)
            learner.predict_one(x)
            learner.learn_one(x, float(rng.integers(2)))
        assert (
            learner.loss - learner.hindsight()[0]
            <= learner.bound() + 1e-9
            <= learner._sums[7] + 2e-9
        )


def test_5_census():
    X, y, G = tables.census_groups()
    order = np.random.default_rng(0).permutation(len(X))
    rows, target, groups = X.to_numpy()[order], y.to_numpy()[order], G.iloc[order]
    found = groupwise_regret(rows, target, groups, target_range=(0, 1))
    report = found.report.set_index("group")
    everyone, female, other = report.loc["everyone"], report.loc["Female"], report.loc["Other"]
    assert (everyone["mixture"], everyone["loss"], everyone["global"]) == pytest.approx(
        (3676.8828996, 3651.1439839, 3745.3088802)
    )
    assert found.certificates[0].inputs["B"] == pytest.approx(8.8379763)
    assert (female["loss"], female["global"], female["own"]) == pytest.approx(
        (675.2313328, 707.1919301, 679.8761296)
    )
    assert (female["bound"], female["regret"]) == pytest.approx((46.01, -5.23), abs=0.01)
    assert (female["best"], female["best_plain"], female["logdet"]) == pytest.approx(
        (680.4616685, 678.6935158, 210.1696109)
    )
    assert (other["loss"], other["global"], other["own"]) == pytest.approx(
        (18.7430104, 19.7876390, 20.2431058)
    )
    assert (other["bound"], other["regret"]) == pytest.approx((19.48, 3.48), abs=0.01)
    vaw = groupwise_regret(rows, target, groups, target_range=(0, 1), forecaster="vaw")
    again = vaw.report.set_index("group")
    assert tuple(again.loc["everyone", ["mixture", "loss", "global"]]) == pytest.approx(
        (3675.7321532, 3666.5143253, 3745.5655880)
    )
    assert vaw.certificates[0].inputs["B"] == pytest.approx(8.7108417)
    assert {c.verdict for c in (*found.certificates, *vaw.certificates)} == {Verdict.HOLDS}


def test_6_medical_costs():
    X, y, G = tables.medical_costs()
    order = np.random.default_rng(0).permutation(len(X))
    found = groupwise_regret(
        X.to_numpy()[order], y.to_numpy()[order], G.iloc[order], target_range=(0, 1)
    )
    report = found.report.set_index("group")
    assert tuple(report.loc["everyone", ["mixture", "loss", "global"]]) == pytest.approx(
        (151.3076924, 150.4454857, 149.9175415)
    )
    assert tuple(report.loc["black", ["mixture", "global", "own", "best"]]) == pytest.approx(
        (16.0248946, 15.6703297, 17.0089425, 15.2574721)
    )
    assert found.certificates[0].inputs["B"] == pytest.approx(4.0314628)
    assert {c.verdict for c in found.certificates} == {Verdict.HOLDS}
    assert report["global_wins"].sum() == 14


def test_7_single_and_disjoint_groups():
    X, y, _ = stream()
    alone = groupwise_regret(X, y, target_range=(0, 1))
    learner = OnlineRidge(3)
    for x, target, said in zip(X, y, alone.predictions, strict=True):
        assert learner.predict_one(x) == said
        learner.learn_one(x, target)
    assert alone.report.loc[0, "meta_bound"] == 0
    assert alone.certificates[0].inputs["B"] == 1
    halves = GroupwiseLearner(lambda: OnlineRidge(3), 2)
    apart = [OnlineRidge(3), OnlineRidge(3)]
    for t, (x, target) in enumerate(zip(X, y, strict=True)):
        active = [t % 2 == 0, t % 2 == 1]
        assert halves.predict(x, active) == pytest.approx(apart[t % 2].predict_one(x), abs=1e-12)
        halves.update(x, target, active)
        apart[t % 2].learn_one(x, target)


def all_paths(graph, source, target):
    return [list(itertools.pairwise(p)) for p in nx.all_simple_paths(graph, source, target)]


def test_8_paths_on_a_grid():
    g = grid(5, 5)
    learner = GroupwiseShortestPath(g, (0, 0), (4, 4), 1, random_state=0)
    assert (learner.n, learner.K) == (40, 8)
    costs = (np.arange(1, 41) % 7) / 7
    value, path = learner._solve(costs)
    assert value == pytest.approx(22 / 7)
    assert path.tolist() == [0, 2, 4, 6, 8, 17, 26, 35]
    paths = all_paths(g, (0, 0), (4, 4))
    assert len(paths) == 70
    place = {e: i for i, e in enumerate(learner.edges)}
    for rng in np.random.default_rng(0).spawn(200):
        costs = rng.standard_normal(40)
        best = min(sum(costs[place[e]] for e in p) for p in paths)
        assert learner._solve(costs)[0] == pytest.approx(best)
    assert 1 + sum(1 / m for m in range(9, 41)) == pytest.approx(2.5606858959)
    assert follow_the_perturbed_leader_bound(40, 8, 100) == pytest.approx(137.0691539681)


def two_roads():
    g = nx.DiGraph([("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")])
    return g, "a", "d"


def test_8_noise_saves_from_alternating_costs():
    lost = {}
    for noise in (False, True):
        learner = GroupwiseShortestPath(*two_roads(), 1, noise=noise, random_state=0)
        for t in range(400):
            learner.choose([True])
            up = (0.5 if t == 0 else 1.0) * (t % 2 == 0)
            learner.update(
                {("a", "b"): up, ("a", "c"): (t % 2) * 1.0, ("b", "d"): 0.0, ("c", "d"): 0.0}
            )
        lost[noise] = learner.regret()[0]
    assert lost[False] > 90
    assert lost[True] < 25


def test_8_the_bound_on_paths_holds_in_expectation():
    costs = np.random.default_rng(1).random((150, 12)) * np.linspace(0.2, 1, 12)
    active = np.column_stack(
        [np.random.default_rng(2).random((150, 1)) < 0.3, np.ones(150, dtype=bool)]
    )
    runs, last = [], None
    for seed in range(20):
        last = GroupwiseShortestPath(grid(3, 3), (0, 0), (2, 2), 2, random_state=seed)
        for c, a in zip(costs, active, strict=True):
            last.choose(a)
            last.update(c)
        runs.append(last.regret())
    estimates = [mean(r) for r in np.array(runs).T]
    certificates = last.certificates(estimates, ["some", "everyone"])
    assert all(c.measured.high <= c.bound for c in certificates)
    assert {c.verdict for c in last.certificates()} <= {Verdict.UNMEASURED, Verdict.VACUOUS}
    last.choose([True, True])
    last.update(np.full(12, 1.5))
    assert last.certificates(estimates)[0].verdict == Verdict.VOID


def test_9_sampled_groups_have_the_mixtures_loss():
    X, y, G = stream(T=60)
    runs = [
        groupwise_regret(X, y, G, target_range=(0, 1), prediction="sample", rng=s)
        for s in range(400)
    ]
    losses = np.array([r.report["loss"].iloc[-1] for r in runs])
    mixture = runs[0].report["mixture"].iloc[-1]
    assert abs(losses.mean() - mixture) <= 4 * losses.std() / 20


def test_9_the_bound_with_coins_keeps_its_promise():
    def instance(rng):
        T, N = 150, int(rng.integers(1, 4))
        X, G = rng.random((T, 2)), rng.random((T, N)) < 0.6
        y = (rng.random(T) < 0.5) * 1.0
        return groupwise_regret(
            X, y, G, target_range=(0, 1), prediction="sample", rng=rng
        ).certificates[-1]

    assert_error_rate(instance, 0.05, n=300)


def test_8_no_group_breaks_its_bound():
    def instance(rng):
        T, d, N = 80, int(rng.integers(1, 4)), int(rng.integers(1, 5))
        X, G = rng.standard_normal((T, d)), rng.random((T, N)) < rng.random(N)
        kind = rng.integers(3)
        y = [
            rng.random(T),
            (rng.random(T) < 0.5) * 1.0,
            np.clip(X[:, 0] * np.where(G[:, 0], 1, -1), 0, 1),
        ][kind]
        forecaster = "vaw" if rng.random() < 0.5 else "ridge"
        made = groupwise_regret(
            X, y, G, target_range=(0, 1), forecaster=forecaster, lam=float(rng.uniform(0.1, 3))
        )
        return [c for c in made.certificates if c.measured is not None]

    assert_error_rate(instance, 0.0, n=300)


def test_10_blocks_rows_and_permuted_groups_agree():
    X, y, G = stream()
    whole = groupwise_regret(X, y, G, target_range=(0, 1), track=True)
    model = GroupwiseRegressor(target_range=(0, 1), fit_intercept=False)
    rows = GroupwiseRegressor(target_range=(0, 1), fit_intercept=False)
    flags = np.column_stack([G, np.ones(200, dtype=bool)])
    for start in range(0, 200, 60):
        model.partial_fit(
            X[start : start + 60], y[start : start + 60], groups=flags[start : start + 60]
        )
    for t in range(200):
        x = dict(enumerate(X[t]))
        if t > 1:
            assert rows.predict_one(x, flags[t]) == pytest.approx(whole.predictions[t], abs=1e-9)
        rows.learn_one(x, y[t], flags[t])
    for found in (model, rows):
        np.testing.assert_allclose(found.group_report_["loss"], whole.report["loss"], atol=1e-12)
        np.testing.assert_allclose(found.group_report_["bound"], whole.report["bound"], atol=1e-10)
    order = [2, 0, 1]
    turned = groupwise_regret(X, y, G[:, order], group_names=["c", "a", "b"], target_range=(0, 1))
    np.testing.assert_allclose(turned.report["loss"][:3], whole.report["loss"][order], atol=1e-9)
    np.testing.assert_allclose(whole.weights.sum(axis=1), 1)
    generic = GroupwiseLearner(lambda: OnlineRidge(3), 4)
    for x, target, a in zip(X, y, flags, strict=True):
        generic.predict(x, a)
        generic.update(x, target, a)
    np.testing.assert_allclose(generic.losses, whole.report["loss"], atol=1e-9)
    assert [c.bound for c in generic.certificates()] == pytest.approx(list(whole.report["bound"]))


def test_long_runs_stay_exact():
    X, y, G = stream(T=5000, d=4)
    found = groupwise_regret(X, y, G, target_range=(0, 1))
    for g, name in enumerate(found.report["group"]):
        member = np.ones(5000, dtype=bool) if name == "everyone" else G[:, g]
        A = np.eye(4) + X[member].T @ X[member]
        b = X[member].T @ y[member]
        best = y[member] @ y[member] - b @ np.linalg.solve(A, b)
        assert found.report.loc[g, "best"] == pytest.approx(best, abs=1e-8)


def test_11_void_vacuous_fails_and_unmeasured():
    X, y, G = stream(T=60)
    narrow = groupwise_regret(X, y, G, target_range=(0, 1), loss_range=(0, 0.01))
    assert {c.verdict for c in narrow.certificates} == {Verdict.VOID}
    late = groupwise_regret(
        np.ones((50, 1)), np.ones(50), (np.arange(50) == 49)[:, None], target_range=(0, 1)
    )
    assert [c.verdict for c in late.certificates] == [Verdict.VACUOUS, Verdict.HOLDS]
    hedge = AdaNormalHedge(2)
    hedge.update([0.0, 1.0], [True, True])
    assert (hedge.C[0], hedge.B, hedge.bound()[0]) == pytest.approx((0.5, 1.75, 1.3708), abs=1e-4)
    empty = groupwise_regret(X, y, np.column_stack([G, np.zeros(60)]), target_range=(0, 1))
    assert empty.certificates[3].verdict == Verdict.UNMEASURED

    class Liar(OnlineRidge):
        def hindsight(self):
            return -100.0, -100.0

    for make, verdict in ((Liar, Verdict.FAILS), (OnlineRidge, None)):
        learner = GroupwiseLearner(lambda make=make: make(3), 2)
        for x, target in zip(X, y, strict=True):
            learner.update(x, target, [True, True])
        found = {c.verdict for c in learner.certificates()}
        assert found == {verdict} if verdict else Verdict.FAILS not in found


class Constant:
    """A learner that knows nothing of hindsight."""

    def predict_one(self, x):
        return 0.5

    def learn_one(self, x, y):
        pass


def test_any_learner_and_any_loss():
    X, y, G = stream(T=300)
    plain = GroupwiseLearner(Constant, 3, loss="absolute")
    own = GroupwiseLearner(
        Constant,
        3,
        loss=lambda z, t: float(round(z) != round(t)),
        prediction="sample",
        random_state=0,
    )
    for x, target, a in zip(X, y, G, strict=True):
        for learner in (plain, own):
            learner.predict(x, a)
            learner.update(x, target, a)
    assert all(c.measured.value <= c.bound + 1e-9 for c in plain.certificates(["a", "b", "c"]))
    assert "own learner" in plain.certificates()[0].claim
    wrong = GroupwiseLearner(Constant, 1, loss=lambda z, t: 7.0, prediction="sample")
    wrong.update(X[0], 0.0, [True])
    assert wrong.certificates()[0].verdict == Verdict.VOID
    with pytest.raises(ValueError, match="prediction"):
        GroupwiseLearner(Constant, 1, loss=lambda z, t: 0.0)
    broken = GroupwiseLearner(Constant, 1, loss=lambda z, t: math.nan, prediction="sample")
    with pytest.raises(ValueError, match="loss must be finite"):
        broken.update(X[0], 0.0, [True])
    assert broken.hedge.B == 1


def test_groups_of_all_kinds():
    table = pd.DataFrame(
        {
            "age": [20, 40, 60, 80],
            "sex": ["f", "m", "f", "m"],
            "member": [1, 0, 0, 1],
            "x": [0.1, 2.0, 0.3, 9.0],
        }
    )
    y = [0.0, 1.0, 0.5, 0.2]
    by_name = groupwise_regret(table, y, "sex,age:35:65,member")
    assert by_name.report["group"].tolist() == [
        "sex = f",
        "sex = m",
        "age ≤ 35",
        "35 < age ≤ 65",
        "age > 65",
        "member = 0",
        "member = 1",
        "everyone",
    ]
    assert by_name.report["rounds"].tolist() == [2, 2, 1, 2, 1, 2, 2, 4]
    assert by_name.scaled == "features and targets"
    predicates = groupwise_regret(
        table, y, {"rich": lambda t: t["x"] > 1, "old": table["age"] > 50}
    )
    assert predicates.report["rounds"].tolist() == [2, 2, 4]
    texts = groupwise_regret(table[["x"]], y, pd.DataFrame({"a": ["1", "0", "true", "False"]}))
    assert texts.report["rounds"].tolist() == [2, 4]
    import matplotlib.pyplot as plt

    assert by_name.plot().get_legend() is not None
    plt.close("all")
    assert set(by_name.artifacts()) == {"predictions.csv", "groups.csv"}
    words = groupwise_regret(table[["x"]], ["no", "yes", "no", "yes"])
    assert (
        set(words.predictions.tolist()) <= set(np.linspace(0, 1, 10**6).tolist())
        or words.predictions.max() <= 1
    )


MISUSE = [
    ({"X": None}, "X"),
    ({"X": np.full((40, 3), np.nan)}, "X"),
    ({"y": np.ones(3)}, "y"),
    ({"y": None}, "y"),
    ({"y": ["a", "b", "c", "d"] * 10}, "y must be numbers or two labels"),
    ({"target_range": (0, 0.5)}, "target_range .* row"),
    ({"target_range": (1, 0)}, "target_range"),
    ({"groups": np.full((40, 1), 0.5)}, "groups contains values other than 0/1"),
    ({"groups": np.full((40, 1), np.nan)}, "groups contains values other than 0/1"),
    ({"groups": np.ones((3, 1))}, "groups must have shape"),
    ({"groups": np.zeros((40, 0))}, "groups must have shape"),
    ({"groups": "age"}, "groups"),
    ({"lam": 0.0}, "lam"),
    ({"forecaster": "lasso"}, "forecaster"),
    ({"prediction": "median"}, "prediction"),
    ({"loss_range": (0.5, 1)}, "loss_range"),
    ({"order": "sorted"}, "order"),
    ({"group_names": ["a"]}, "group_names"),
]


@pytest.mark.parametrize(("wrong", "named"), MISUSE, ids=str)
def test_misuse_is_named(wrong, named):
    X, y, G = stream(T=40)
    with pytest.raises((ValueError, TypeError), match=named):
        groupwise_regret(**{"X": X, "y": y, "groups": G, "target_range": (0, 1), **wrong})


def test_misuse_of_parts_is_named():
    with pytest.raises(ValueError, match="prior"):
        AdaNormalHedge(2, prior=[0.5, 0.4])
    with pytest.raises(ValueError, match="losses"):
        AdaNormalHedge(2).update([0.5, 1.5], [True, True])
    with pytest.raises(ValueError, match="state"):
        AdaNormalHedge(2).load_state_dict({})
    with pytest.raises(ValueError, match="groups must name columns"):
        groupwise_regret(pd.DataFrame({"a": [1.0, 2]}), [0, 1], "sex")
    with pytest.raises(ValueError, match="edges for the numbers"):
        groupwise_regret(pd.DataFrame({"a": np.arange(50.0)}), np.arange(50) % 2, "a")
    with pytest.raises(ValueError, match="cycle"):
        GroupwiseShortestPath(nx.DiGraph([(0, 1), (1, 0)]), 0, 1, 1)
    with pytest.raises(ValueError, match="target must differ"):
        GroupwiseShortestPath(nx.DiGraph([(0, 1)]), 0, 0, 1)
    with pytest.raises(ValueError, match="reached"):
        GroupwiseShortestPath(nx.DiGraph([(0, 1)]), 1, 0, 1)
    with pytest.raises(TypeError, match="graph"):
        GroupwiseShortestPath(nx.Graph([(0, 1)]), 0, 1, 1)
    paths = GroupwiseShortestPath(nx.DiGraph([(0, 1)]), 0, 1, 1)
    with pytest.raises(ValueError, match="choose must come before"):
        paths.update([0.5])
    assert paths.choose([True]) == [0, 1]
    with pytest.raises(ValueError, match="edge_costs must be finite and not negative, edge 0"):
        paths.update([-0.5])
    with pytest.raises(ValueError, match="missing"):
        paths.update({})
    model = GroupwiseRegressor(target_range=(0, 1)).fit([[0.0], [1.0]], [0.0, 1.0])
    with pytest.raises(ValueError, match="row 1 has 2"):
        model.partial_fit([[0.0], [1.0]], [0.0, 2.0])
    with pytest.raises(ValueError, match="groups must be those of the first call"):
        model.partial_fit([[0.0]], [0.0], groups=[[0]])


values = st.one_of(st.floats(), st.text(max_size=2), st.none(), st.integers(-1, 2))


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.lists(values, max_size=3), max_size=4),
    st.lists(values, max_size=4),
    st.one_of(st.none(), st.text(max_size=4), st.lists(st.lists(values, max_size=2), max_size=4)),
)
def test_bad_input_is_refused_by_name(X, y, groups):
    told = ""
    try:
        groupwise_regret(X, y, groups)
    except (ValueError, TypeError) as error:
        told = str(error)
    assert not told or told.startswith(("X ", "y ", "group"))


def test_targets_that_no_float_can_part_are_scaled_or_refused():
    one = groupwise_regret([[0.0], [1.0]], [2.0**53, 2.0**53])
    assert np.isfinite(one.predictions).all()
    with pytest.raises(ValueError, match="y must span a finite range"):
        groupwise_regret([[0.0], [1.0]], [-1.5e308, 1.5e308])
