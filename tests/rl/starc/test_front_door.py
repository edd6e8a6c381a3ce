import pickle

import numpy as np
import pandas as pd
import pytest
from finite_mdps import FROM_0, THREE, THREE_1, THREE_2, drawn, lake, shaped, three
from hypothesis import given, settings
from hypothesis import strategies as st

from whp.rl import reward_distance_matrix, starc
from whp.rl._starc import analysis, canonical


def verdicts(result):
    return {c.name: str(c.verdict) for c in result.certificates}


def status(result, name, condition):
    (certificate,) = [c for c in result.certificates if c.name == name]
    return next(str(a.status) for a in certificate.conditions if a.name == condition)


def test_three_states():
    found = starc(**three())
    assert verdicts(found) == {
        "duality": "holds",
        "range-upper": "vacuous",
        "range-lower": "holds",
        "upper": "vacuous",
        "lower": "holds",
        "canonical": "holds",
    }
    upper, lower = (next(c for c in found.certificates if c.name == n) for n in ("upper", "lower"))
    assert upper.bound == pytest.approx(1.1282045558, abs=1e-9)
    assert upper.inputs["ell"] == pytest.approx(0.2041241452, abs=1e-9)
    assert lower.bound == pytest.approx(0.0291514781 * found.distance, abs=1e-9)


def test_an_ordinary_run_holds():
    model, other = lake()
    found = starc(model.reward, other, model.transitions, discount=0.95, start=model.start)
    assert verdicts(found)["range-upper"] == verdicts(found)["duality"] == "holds"
    assert found.range_distance == pytest.approx(0.9951918926, abs=1e-9)
    by_name = starc(reward2=other, env="FrozenLake-v1", discount=0.95)
    assert by_name.distance == found.distance
    assert status(by_name, "range-upper", "horizon") == "met"
    long = starc(reward2=other, env="FrozenLake-v1", discount=0.99)
    assert verdicts(long)["range-upper"] == "void"


@settings(max_examples=15)
@given(
    st.integers(0, 10**6),
    st.sampled_from(["1", "2", "inf"]),
    st.sampled_from([None, "1", "2", "inf"]),
    st.sampled_from(["val", "minimal"]),
    st.sampled_from([0.5, 0.9, 0.99]),
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_bound_is_kept(seed, norm, other, kind, discount):
    rng = np.random.default_rng(seed)
    S, A = rng.integers(2, 7), rng.integers(2, 4)
    P, r1, r2 = drawn(rng, S, A)
    found = starc(
        r1,
        rng.choice([0.0, 1.0]) * r1 + r2,
        P,
        discount=discount,
        norm=norm,
        distance_norm=other,
        canonical=kind,
    )
    made = verdicts(found)
    several = kind == "minimal" and norm != "2"  # the smallest reward in another norm is not unique
    if several:
        del made["canonical"]
    assert not {"fails", "inconclusive"} & set(made.values())
    assert (made["lower"] == "void") == several


def test_a_policy_without_some_action():
    policy = np.array([[1.0, 0], [0.5, 0.5], [0.5, 0.5]])
    assert verdicts(starc(**three(policy=policy)))["lower"] == "void"
    nearly = np.array([[1 - 1e-12, 1e-12], [0.5, 0.5], [0.5, 0.5]])
    assert verdicts(starc(**three(policy=nearly)))["lower"] == "holds"


def test_a_state_that_is_not_reached():
    P = np.zeros((4, 2, 4))
    P[:3, :, :3], P[3, :, 3] = THREE, 1
    r1, r2 = (np.vstack([THREE_1, extra]) for extra in ([5.0, 0], [0.0, 5]))
    found = starc(r1, r2, P, discount=0.8, start=[1, 0, 0, 0])
    assert found.distance == pytest.approx(1.4554277995)
    assert found.regret.relative == pytest.approx(0, abs=1e-12)
    assert verdicts(found)["lower"] == "void"
    assert verdicts(found)["upper"] in ("holds", "vacuous")


def test_a_reward_that_prefers_nothing():
    phi = np.array([1.0, -2, 0.5])
    shaping = 0.8 * THREE @ phi - phi[:, None]
    found = starc(**three(reward1=shaping))
    assert found.regret is None
    assert {v for n, v in verdicts(found).items() if n != "canonical"} == {"void"}
    assert found.distance == pytest.approx(1, abs=1e-12)
    found = starc(**three(reward2=shaping))
    assert (found.distance, found.regret.relative) == pytest.approx((1, 1))
    assert {v for n, v in verdicts(found).items() if n != "canonical"} == {"void"}
    nothing = starc(**three(reward2=np.full((3, 2), 7.0)))
    assert verdicts(nothing)["duality"] == "holds"
    assert nothing.regret.relative == pytest.approx(1)


@pytest.mark.parametrize("kappa", [1e-10, 1e-12, 1e-14])
def test_little_beside_shaping(kappa):
    rng = np.random.default_rng(0)
    phi = rng.normal(size=3)
    shaping = 0.8 * THREE @ phi - phi[:, None]
    shaping /= np.linalg.norm(shaping)
    noise = rng.normal(size=(3, 2))
    if kappa == 1e-14:
        assert starc(**three(reward1=shaping + kappa * noise)).regret is None
        return
    exact = starc(**three(reward1=noise)).distance
    if kappa == 1e-12:
        with pytest.warns(UserWarning, match="reward1 is nearly shaping"):
            found = starc(**three(reward1=shaping + kappa * noise))
    else:
        found = starc(**three(reward1=shaping + kappa * noise))
    assert found.distance == pytest.approx(exact, abs=1e-6 if kappa == 1e-10 else 1e-3)


def test_a_pair_of_policies():
    good, bad = np.array([1, 1, 0]), np.array([0, 0, 1])
    found = starc(**three(policies=(good, bad)))
    made = next(c for c in found.certificates if c.name == "policies")
    values = [
        [
            FROM_0 @ np.linalg.solve(np.eye(3) - 0.8 * THREE[range(3), p], r[range(3), p])
            for p in (good, bad)
        ]
        for r in (THREE_1, THREE_2)
    ]
    assert made.measured.value == pytest.approx(values[0][0] - values[0][1])
    assert (str(made.verdict) == "void") == (values[1][1] < values[1][0])
    turned = starc(**three(policies=(bad, good)))
    assert {verdicts(found)["policies"], verdicts(turned)["policies"]} & {"void"}
    same = starc(**three(policies=(good, good)))
    assert status(same, "policies", "no-worse") == "met"


@pytest.mark.filterwarnings("ignore:canonical")
@pytest.mark.parametrize("kind", ["epic", "dard", "val-potential", "none"])
def test_forms_for_comparison_guarantee_nothing(kind):
    found = starc(**three(canonical=kind))
    assert {verdicts(found)[n] for n in ("upper", "lower", "canonical")} == {"void"}
    assert verdicts(found)["range-lower"] == "holds"


def advantage(r, P, discount):
    policy = np.full(r.shape, 1 / r.shape[1])
    flow = np.einsum("sa,sat->st", policy, P)
    v = np.linalg.solve(np.eye(len(r)) - discount * flow, (policy * r).sum(1))
    return r + discount * P @ v - v[:, None]


def test_a_form_of_ones_own():
    found = starc(**three(canonical=advantage))
    assert found.distance == pytest.approx(starc(**three()).distance)
    assert status(found, "lower", "linear-and-invariant") == "unchecked"
    assert verdicts(found)["canonical"] == "holds"


@pytest.mark.parametrize(
    ("wrong", "caught"),
    [
        (lambda r, P, g: 0 * r, {"canonical", "upper"}),
        (lambda r, P, g: 2 * advantage(r, P, g), {"canonical", "upper"}),
        (lambda r, P, g: advantage(r, P, g * (1 + 1e-6)), {"canonical", "upper"}),
        (lambda r, P, g: r, {"canonical"}),
        (lambda r, P, g: advantage(r, P, g) / np.abs(r).max(), {"canonical", "upper"}),
    ],
    ids=["nothing", "twice", "another discount", "as it is", "divided before"],
)
def test_a_wrong_form_is_caught(wrong, caught):
    found = verdicts(starc(**three(canonical=wrong)))
    assert found["canonical"] == "fails"
    if "upper" in caught:
        assert found["upper"] == "void"


@pytest.mark.parametrize("share", [0.1, -0.1])
def test_a_wrong_worst_case_is_caught(monkeypatch, share):
    real = analysis.worst_case

    def wrong(mdp, rewards, forms, spreads):
        return real(mdp, rewards, (forms[0], forms[1] + share * forms[0]), spreads)

    monkeypatch.setattr(analysis, "worst_case", wrong)
    assert verdicts(starc(**three()))["duality"] == "fails"


def test_rounding_is_in_the_bounds():
    # Equal rewards, one shaped by potentials a million times larger.
    rng = np.random.default_rng(0)
    for discount in (0.5, 0.9, 0.99):
        P = np.eye(5)[rng.integers(5, size=(5, 2))]
        r = rng.integers(-1, 2, (5, 2)).astype(float)
        other = shaped(3 * r, 1e6 * rng.normal(size=5), discount)
        made = verdicts(starc(r, other, P, discount=discount))
        assert not {"fails", "inconclusive"} & set(made.values())


def test_many_rewards_at_once():
    rng = np.random.default_rng(0)
    P, a, b = drawn(rng, 5, 2)
    rewards = [a, b, -a, 0 * a]
    made = reward_distance_matrix(rewards, P, discount=0.9)
    assert made[0, 2] == pytest.approx(2)
    assert made[0, 3] == pytest.approx(1)
    np.testing.assert_allclose(made, made.T)
    assert made[0, 1] == pytest.approx(starc(a, b, P, discount=0.9).range_distance)
    by_norm = reward_distance_matrix(rewards, P, discount=0.9, norm="1", canonical="minimal")
    alone = starc(a, b, P, discount=0.9, norm="1", canonical="minimal")
    assert by_norm[0, 1] == pytest.approx(alone.distance)


def test_a_table_out():
    found = starc(**three())
    frame = found.to_frame()
    assert len(frame) == 6
    assert frame.groupby("state")["policy_bad"].sum().tolist() == pytest.approx([1, 1, 1])
    assert isinstance(found.artifacts()["pairs.csv"], pd.DataFrame)
    again = pickle.loads(pickle.dumps(found))
    assert again.distance == found.distance
    assert "all states alike" in starc(**three(start=None)).summary().values()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"discount": None}, ValueError, "discount must be given"),
        ({"discount": 1.0}, ValueError, "discount"),
        ({"reward1": None}, TypeError, "reward1"),
        ({"transitions": None}, TypeError, "transitions"),
        ({"reward2": np.ones((2, 2))}, ValueError, "reward2 must be"),
        ({"policy": [0, 1, 0], "canonical": "minimal"}, ValueError, "policy must be None"),
        ({"norm": "range", "weights": "sas"}, ValueError, "must be None for norm 'range'"),
        ({"weights": "ones"}, ValueError, "weights"),
        ({"weights": -np.ones((3, 2))}, ValueError, "positive"),
        ({"weights": "sas", "distance_norm": "1"}, ValueError, "distance_norm must be"),
        ({"policies": [[0, 0, 0]]}, ValueError, "pair"),
        ({"counts": np.ones((2, 2, 2))}, ValueError, "counts must be"),
        ({"env": "FrozenLake-v1"}, ValueError, "transitions must be None"),
        ({"canonical": lambda r, P, g: r[0]}, ValueError, "canonical must return"),
    ],
    ids=lambda o: ",".join(o) if isinstance(o, dict) else None,
)
def test_what_cannot_be_meant_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        starc(**three(**options))


def test_weights_keep_the_bounds():
    rng = np.random.default_rng(5)
    for _ in range(20):
        P, a, b = drawn(rng, 4, 2)
        for norm in ("1", "2", "inf"):
            found = starc(a, a + b, P, discount=0.9, norm=norm, weights=rng.uniform(0.1, 9, (4, 2)))
            assert not {"fails", "inconclusive"} & set(verdicts(found).values())


def test_sizes_neither_overflow_nor_vanish():
    x = np.array([[3.0, 4.0]])
    for scale in (1e-200, 1.0, 1e200):
        assert canonical.size(scale * x, 2) == pytest.approx(5 * scale)


def test_a_form_of_the_caller_may_work_in_place():
    def form(r, P, discount):
        v = np.linalg.solve(np.eye(3) - discount * P.mean(1), r.mean(1))
        r += discount * P @ v - v[:, None]
        P[:] = 1 / 3
        return r

    found, plain = starc(**three(canonical=form)), starc(**three())
    assert found.distance == pytest.approx(plain.distance)
    assert found.regret.relative == pytest.approx(plain.regret.relative)


@pytest.mark.parametrize("unit", [1e-200, 1e200])
def test_a_wrong_form_is_seen_in_any_unit(unit):
    wrong = unit * np.arange(6.0).reshape(3, 2)
    options = {"reward1": unit * THREE_1, "reward2": unit * THREE_2}
    found = verdicts(starc(**three(canonical=lambda r, P, g: wrong, **options)))
    assert (found["canonical"], found["upper"]) == ("fails", "void")


@pytest.mark.parametrize("discount", [1 - 1e-7, 1 - 1e-9])
def test_a_discount_near_1_is_no_wrong_form(discount):
    found = verdicts(starc(**three(discount=discount)))
    assert found["canonical"] in ("holds", "inconclusive")
    assert found["upper"] != "void"


def test_the_range_distance_has_no_form():
    with pytest.raises(ValueError, match="needs no canonical form"):
        starc(**three(canonical="epic", norm="range"))
    with pytest.raises(ValueError, match="needs no canonical form"):
        reward_distance_matrix([THREE_1, THREE_2], THREE, discount=0.8, canonical="epic")
