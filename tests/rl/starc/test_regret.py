import numpy as np
import pytest
from finite_mdps import FROM_0, THREE, THREE_1, THREE_2, TWO, TWO_1, TWO_2, drawn, lake, shaped
from hypothesis import given, settings
from hypothesis import strategies as st

from whp.peers.rewards import regret_by_program
from whp.rl import range_of_return, starc, tabular_model, worst_case_regret


def worst(r1, r2, P, discount=0.8, start=None):
    return worst_case_regret(r1, r2, P, discount=discount, start=start)


def test_three_states():
    found = worst(THREE_1, THREE_2, THREE, start=FROM_0)
    assert found.relative == pytest.approx(0.7472527473, abs=1e-10)
    assert found.lam == pytest.approx(0.4408382, abs=1e-7)
    assert found.ranges == pytest.approx((11.6666666667, 7.6411960133), abs=1e-9)
    assert found.returns[0, 0] - found.returns[0, 1] == pytest.approx(found.absolute)
    assert found.returns[1, 1] >= found.returns[1, 0] - 1e-12
    assert worst(THREE_2, THREE_1, THREE, start=FROM_0).relative == pytest.approx(0.8405797101)


def test_two_states_lose_all():
    for r1, r2 in ((TWO_1, TWO_2), (TWO_2, TWO_1)):
        found = worst(r1, r2, TWO, 0.9)
        assert found.relative == pytest.approx(1, abs=1e-12)
        assert found.lam == 0


@pytest.mark.parametrize(
    ("change", "share"), [(lambda r: -r, 1.0), (lambda r: 3 * r, 0.0), (lambda r: 0 * r, 1.0)]
)
def test_opposite_equal_and_empty_rewards(change, share):
    found = worst(THREE_1, change(THREE_1), THREE, start=FROM_0)
    assert found.relative == pytest.approx(share, abs=1e-12)


def test_a_reward_that_prefers_nothing():
    phi = np.array([1.0, -2, 0.5])
    shaping = 0.8 * THREE @ phi - phi[:, None]
    assert worst(THREE_1, shaping, THREE).relative == pytest.approx(1, abs=1e-12)
    with pytest.raises(ValueError, match="prefers no policy"):
        worst(shaping, THREE_1, THREE)


@settings(max_examples=25)
@given(
    st.integers(0, 10**6),
    st.integers(1, 6),
    st.integers(1, 3),
    st.sampled_from([0.0, 0.5, 0.9, 0.99]),
)
def test_a_linear_program_agrees(seed, S, A, discount):
    rng = np.random.default_rng(seed)
    P, r1, r2 = drawn(rng, S, A)
    r2 = r1 + rng.choice([0.1, 1.0]) * r2
    start = np.full(S, 1 / S)
    if A == 1:
        with pytest.raises(ValueError, match="prefers no policy"):
            worst(r1, r2, P, discount)
        return
    found = worst(r1, r2, P, discount)
    program = regret_by_program(P, r1, r2, start, discount)
    assert found.absolute == pytest.approx(program, abs=2e-7 * found.ranges[0])
    assert abs(found.low - found.high) <= 1e-9


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from([0.5, 0.9]))
def test_the_range_distance_encloses_it(seed, discount):
    P, r1, r2 = drawn(np.random.default_rng(seed), 5, 2)
    found = starc(r1, r2, P, discount=discount)
    lost = found.regret.relative
    assert found.range_distance / 2 - 1e-12 <= lost <= min(1, found.range_distance) + 1e-12


def test_optimal_policies_lose_no_more():
    m = starc(THREE_1, THREE_2, THREE, discount=0.8, start=FROM_0)
    low, high, _, best = range_of_return(THREE_1, THREE, discount=0.8, start=FROM_0)
    assert high - low == pytest.approx(m.regret.ranges[0])
    _, _, _, chosen = range_of_return(THREE_2, THREE, discount=0.8, start=FROM_0)
    earned = [
        FROM_0 @ np.linalg.solve(np.eye(3) - 0.8 * THREE[range(3), p], THREE_1[range(3), p])
        for p in (best, chosen)
    ]
    assert earned[0] == pytest.approx(high)
    share = (earned[0] - earned[1]) / (high - low)
    assert share == pytest.approx(0.4518272425)
    assert share <= m.regret.relative


def test_frozen_lake():
    model, other = lake()
    found = worst(model.reward, other, model.transitions, 0.95, model.start)
    assert found.relative == pytest.approx(0.8915368714, abs=1e-9)
    assert found.ranges[0] == pytest.approx(0.1804715784, abs=1e-9)
    r = (model.transitions * model.reward).sum(-1)
    for policy, earned in zip((found.policy_good, found.policy_bad), found.returns[0], strict=True):
        flow = np.einsum("sa,sat->st", policy, model.transitions)
        values = np.linalg.solve(np.eye(16) - 0.95 * flow, (policy * r).sum(1))
        assert earned == pytest.approx(values[0], abs=1e-12)
    evenly = starc(model.reward, other, model.transitions, discount=0.95)
    assert evenly.regret.relative == pytest.approx(0.8760244087, abs=1e-9)
    assert evenly.regret.ranges[0] == pytest.approx(0.2055054371, abs=1e-9)
    _, worse = lake(penalty_inside=True)
    inside = starc(model.reward, worse, model.transitions, discount=0.95, start=model.start)
    assert (inside.distance, inside.regret.relative) == pytest.approx((0.5708683060, 1), abs=1e-9)
    same = shaped(3 * model.reward, 0.3 * np.arange(16.0), 0.95)
    equal = starc(model.reward, same, model.transitions, discount=0.95, start=model.start)
    assert max(equal.distance, equal.range_distance, equal.regret.relative) < 1e-9


def test_cliff_walking():
    model = tabular_model("CliffWalking-v1")
    assert model.transitions.shape == (49, 4, 49)
    other = np.where(model.reward == -100, -10, model.reward)
    found = starc(model.reward, other, model.transitions, discount=0.95, start=model.start)
    assert found.distance == pytest.approx(0.2387615128, abs=1e-9)
    assert found.range_distance == pytest.approx(0.0488017002, abs=1e-9)
    assert found.regret.relative == pytest.approx(0.0488017002, abs=1e-9)
    assert found.regret.ranges[0] == pytest.approx(1990.26684, abs=1e-5)
    by_name = {c.name: c for c in found.certificates}
    assert by_name["upper"].bound == pytest.approx(0.20602400, abs=1e-8)
    assert str(by_name["upper"].verdict) == "holds"
    assert str(by_name["lower"].verdict) == "void"
    costly = model.reward - (np.arange(49) < 48)[:, None, None]
    found = starc(model.reward, costly, model.transitions, discount=0.95, start=model.start)
    assert found.distance == pytest.approx(0.02922889, abs=1e-8)
    assert found.regret.relative == pytest.approx(0.0051055776, abs=1e-9)
