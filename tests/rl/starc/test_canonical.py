import numpy as np
import pytest
from finite_mdps import THREE, THREE_1, THREE_2, TWO, TWO_1, TWO_2, drawn, lake, shaped, three
from hypothesis import given, settings
from hypothesis import strategies as st

from whp.rl import canonicalise, starc

KINDS = ("val", "minimal")


def distance(**options):
    with pytest.warns() if options.get("canonical") in ("epic", "dard", "none") else _nothing():
        return starc(**three(**options)).distance


class _nothing:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False


def test_advantages_of_the_uniform_policy():
    c = canonicalise(THREE_1, THREE, discount=0.8)
    np.testing.assert_allclose(c[:, 0], [0.458333333, -1.291666667, 1.916666667], atol=1e-8)
    np.testing.assert_allclose(c[:, 1], -c[:, 0])
    c = canonicalise(THREE_2, THREE, discount=0.8)
    np.testing.assert_allclose(c, [[1, -1], [-1, 1], [0, 0]], atol=1e-12)
    c = canonicalise(TWO_1, TWO, discount=0.9)
    np.testing.assert_allclose(c, [[0.08150685, -0.08150685], [0.55821918, -0.55821918]], atol=1e-8)


@pytest.mark.parametrize(
    ("options", "value"),
    [
        ({"norm": "1"}, 1.0454545455),
        ({"norm": "2"}, 0.9745110164),
        ({"norm": "inf"}, 1.0),
        ({"canonical": "minimal"}, 0.9619088062),
        ({"canonical": "epic"}, 0.9563671325),
        ({"canonical": "dard"}, 1.0010527439),
        ({"canonical": "none"}, 0.6918976380),
        ({"norm": "range"}, 1.0596947373),
    ],
    ids=lambda o: ",".join(o) if isinstance(o, dict) else None,
)
def test_distances_of_three_states(options, value):
    assert distance(**options) == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize(
    ("options", "value"),
    [
        ({}, 1.8159971956),
        ({"norm": "inf"}, 1.6285949055),
        ({"canonical": "minimal"}, 1.7602187322),
        ({"norm": "range"}, 1.8556918745),
    ],
    ids=lambda o: ",".join(o) if isinstance(o, dict) else None,
)
def test_distances_of_rewards_by_next_state(options, value):
    found = starc(TWO_1, TWO_2, TWO, discount=0.9, **options)
    assert found.distance == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize(
    ("canonical", "value"),
    [("val", 0.3244988897), ("minimal", 0.6963919970), ("epic", 1.270832), ("dard", 1.000779)],
)
@pytest.mark.filterwarnings("ignore:canonical")
def test_frozen_lake_with_a_penalty_for_holes(canonical, value):
    model, other = lake()
    found = starc(
        model.reward,
        other,
        model.transitions,
        discount=0.95,
        start=model.start,
        canonical=canonical,
    )
    assert found.distance == pytest.approx(value, abs=1e-6)


@pytest.mark.filterwarnings("ignore:canonical")
@pytest.mark.parametrize("M", [1, 10, 100, 1000])
def test_earlier_distances_vanish_where_all_is_lost(M):
    P = np.zeros((3, 2, 3))
    P[0, 0, 1] = P[0, 1, 2] = 1
    P[1, :, 0] = P[2, :, 0] = 1
    noise = np.where(P > 0, 0, M * np.sin(np.arange(18.0)).reshape(3, 2, 3))
    R1, R2 = noise.copy(), noise.copy()
    R1[0, 0, 1] += 1
    R2[0, 1, 2] += 1
    made = {
        k: starc(R1, R2, P, discount=0.9, start=[1, 0, 0], canonical=k)
        for k in ("val", "epic", "dard")
    }
    assert made["val"].distance == pytest.approx(2)
    assert made["val"].regret.relative == pytest.approx(1)
    at = [1, 10, 100, 1000].index(M)
    epic = [0.26709604, 0.02821197, 0.00282104, 0.00028209][at]
    assert made["epic"].distance / 2 == pytest.approx(epic, abs=1e-8)
    if M in (1, 1000):
        dard = {1: 0.26394783, 1000: 0.00028026}[M]
        assert made["dard"].distance / 2 == pytest.approx(dard, abs=1e-8)


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from(KINDS), st.sampled_from([0.0, 0.5, 0.95]))
def test_shaping_redistribution_and_scale_are_nothing(seed, kind, discount):
    rng = np.random.default_rng(seed)
    P, r1, _ = drawn(rng, 4, 2)
    moved = rng.normal(size=(4, 2, 4))
    moved -= (P * moved).sum(-1, keepdims=True)
    other = shaped(3 * r1, rng.normal(size=4), discount) + moved
    assert starc(r1, other, P, discount=discount, canonical=kind).distance < 1e-9
    assert starc(r1, -r1, P, discount=discount, canonical=kind).distance == pytest.approx(2)


@settings(max_examples=8)
@given(st.integers(0, 10**6), st.sampled_from(["1", "2", "inf", "range"]))
def test_it_is_a_metric(seed, norm):
    rng = np.random.default_rng(seed)
    P, a, b = drawn(rng, 4, 2)
    c = a + rng.normal(size=a.shape)
    d = {
        (i, j): starc(x, y, P, discount=0.9, norm=norm, measure=False).distance
        for i, x in enumerate((a, b, c))
        for j, y in enumerate((a, b, c))
    }
    assert d[0, 1] == pytest.approx(d[1, 0])
    assert d[0, 2] <= d[0, 1] + d[1, 2] + 1e-9
    assert d[0, 0] < 1e-12


@settings(max_examples=25)
@given(st.integers(0, 10**6))
def test_names_of_states_and_actions_do_not_matter(seed):
    rng = np.random.default_rng(seed)
    P, a, b = drawn(rng, 5, 3)
    s, k = rng.permutation(5), rng.permutation(3)
    one = starc(a, b, P, discount=0.9)
    other = starc(a[s][:, k], b[s][:, k], P[s][:, k][:, :, s], discount=0.9)
    assert one.distance == pytest.approx(other.distance, abs=1e-9)
    assert one.regret.relative == pytest.approx(other.regret.relative, abs=1e-9)


@pytest.mark.parametrize("change", [lambda r: 1e-12 * r, lambda r: 1e12 * r, lambda r: r + 1e6])
@pytest.mark.parametrize("kind", KINDS)
def test_units_do_not_matter(change, kind):
    plain = starc(**three(canonical=kind))
    other = starc(**three(reward1=change(THREE_1), reward2=change(THREE_2), canonical=kind))
    assert other.distance == pytest.approx(plain.distance, abs=1e-9)
    assert other.range_distance == pytest.approx(plain.range_distance, abs=1e-9)
    assert other.regret.relative == pytest.approx(plain.regret.relative, abs=1e-9)


@pytest.mark.parametrize("norm", ["1", "2", "inf"])
def test_the_smallest_is_smallest(norm):
    rng = np.random.default_rng(0)
    P, r, _ = drawn(rng, 5, 3)
    p = float(norm)
    least = canonicalise(r, P, discount=0.9, canonical="minimal", norm=norm)
    for _ in range(50):
        other = (P * shaped(r, rng.normal(size=5), 0.9)).sum(-1)
        assert np.linalg.norm(least.ravel(), p) <= np.linalg.norm(other.ravel(), p) + 1e-9


def test_weights_of_tables_by_next_state():
    rng = np.random.default_rng(1)
    P, r, _ = drawn(rng, 4, 2)
    c = canonicalise(r, P, discount=0.9, canonical="minimal", weights="sas")
    w = 1 / (P**2).sum(-1)
    for _ in range(50):
        other = (P * shaped(r, rng.normal(size=4), 0.9)).sum(-1)
        assert (w * c**2).sum() <= (w * other**2).sum() + 1e-9


def test_dard_by_its_definition():
    rng = np.random.default_rng(2)
    P, _, _ = drawn(rng, 3, 2)
    R = rng.normal(size=(3, 2, 3))
    found = canonicalise(R, P, discount=0.7, canonical="dard")
    m = np.array([[P[s, a] @ R[s, a] for a in range(2)] for s in range(3)]).mean(1)
    for s, a, t in np.ndindex(3, 2, 3):
        after = np.mean([P[s, b] @ [P[t, b] @ R[u, b] for u in range(3)] for b in range(2)])
        assert found[s, a, t] == pytest.approx(R[s, a, t] + 0.7 * m[t] - m[s] - 0.7 * after)
