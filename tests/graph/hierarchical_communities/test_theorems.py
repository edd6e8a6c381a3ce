import math

import numpy as np
import pytest
from block_graphs import planted, verdict, without_structure
from guarantee import assert_error_rate
from scipy.stats import binom
from sklearn.metrics import adjusted_mutual_info_score as ami

from whp.certificate import Status, Verdict
from whp.datasets.graph_models import block_model, btsbm_densities, path_of_powers
from whp.graph import (
    Tree,
    average_linkage,
    btsbm_threshold,
    hierarchical_communities,
    linkage_lemma,
)
from whp.graph._hierarchical_communities.theorems import THEOREMS, fewest
from whp.studies.hierarchical_communities.truth import beaten

X1 = np.array([0.432, 1.44, 4.8, 16])


@pytest.mark.slow
def test_no_branch_is_marked_in_noise():
    rngs = np.random.default_rng(0).spawn(400)
    assert sum(without_structure(r, 0.3).supported.any() for r in rngs) <= 40


def test_training_edges_would_certify_noise():
    rngs = np.random.default_rng(1).spawn(20)
    held = [without_structure(r, 0.3) for r in rngs]
    assert sum(r.supported.any() for r in held) <= 4
    reused = [without_structure(r, 0.0) for r in rngs]
    assert sum((r.support[:, 1] > 0).any() for r in reused) >= 19  # the same test on training edges
    assert not any(r.supported.any() for r in reused)  # and it is not believed
    assert {verdict(r, "supported-tree") for r in reused} == {Verdict.VOID}


def test_communities_that_avoid_themselves_fail():
    for rng in np.random.default_rng(0).spawn(20):
        A, labels = planted(rng, inside=0.02, between=0.2)
        result = hierarchical_communities(
            A, leaves=labels, labels_independent=True, holdout=0.3, rng=rng
        )
        assert verdict(result, "supported-tree") == Verdict.FAILS


def test_weights_and_no_held_out_edges_are_void_and_one_community_claims_nothing():
    A, _ = planted(np.random.default_rng(0))
    weighted = hierarchical_communities(A * 2.0, weighted=True, rng=0)
    assert verdict(weighted, "supported-tree") == Verdict.VOID
    assert np.isnan(weighted.support).all()
    assert verdict(hierarchical_communities(A, holdout=0, rng=0), "supported-tree") == Verdict.VOID
    noise, _ = block_model(np.array([[0.08]]), np.array([200]), np.random.default_rng(0))
    assert verdict(hierarchical_communities(noise, 1, rng=0), "supported-tree") == Verdict.VACUOUS
    # One community for three blocks: two or four explain its triangles, so edges need not depend.
    one = hierarchical_communities(A, 1, rng=0)
    assert verdict(one, "supported-tree") == Verdict.VACUOUS
    assert "leaves are coarser" in answer_of(one, "edges-independent").evidence


@pytest.mark.slow
def test_supported_tree_seldom_fails_where_the_tree_is_real():
    def instance(rng):
        A, labels = planted(rng, k=4, size=30, inside=0.12, between=0.1)
        made = hierarchical_communities(
            A, leaves=labels, labels_independent=True, delta=0.1, rng=rng
        )
        return made.certificates[1]

    assert_error_rate(instance, 0.1, n=300)


def test_supported_tree_holds_on_the_tree_model():
    p = btsbm_densities(path_of_powers(16, 0.3, 3, 800))
    for rng in np.random.default_rng(0).spawn(8):
        A, labels = block_model(p, np.full(8, 100), rng)
        result = hierarchical_communities(A, rng=rng)
        assert verdict(result, "supported-tree") == Verdict.HOLDS
        assert ami(labels, result.labels) > 0.9
        forced = hierarchical_communities(A, 12, rng=rng)
        assert verdict(forced, "supported-tree") != Verdict.HOLDS
        assert len(forced.contract()) < len(forced.to_networkx())


def test_no_inversion_is_never_broken_bottom_up():
    def instance(rng):
        A, _ = block_model(btsbm_densities(np.array([0.1, 0.12, 0.3])), rng.integers(5, 30, 4), rng)
        made = hierarchical_communities(A, int(rng.integers(2, 9)), rng=rng)
        assert (np.diff(made.built[made.n_communities :]) <= 1e-12).all()
        return made.certificates[0]

    assert_error_rate(instance, 1e-12, n=40)


def ternary(rng):
    a = np.arange(9)
    p = np.where(a[:, None] == a, 0.32, np.where(a[:, None] // 3 == a // 3, 0.08, 0.02))
    return block_model(p, np.full(9, 60), rng)[0]


def test_top_down_inverts_on_ternary_trees():
    inverted = 0
    for rng in np.random.default_rng(0).spawn(12):
        made = hierarchical_communities(ternary(rng), 9, method="top-down", holdout=0, rng=rng)
        assert (made.inversions > 0) == (made.certificates[0].verdict == Verdict.FAILS)
        assert verdict(made, "linkage-lemma") == Verdict.VOID
        inverted += made.inversions > 0
    assert inverted >= 1


def clades(children):
    """The sets of leaves below the merges."""
    tree = Tree(children)
    return {frozenset(np.flatnonzero(row)) for row in tree.below[tree.leaves :]}


def lemma_instance(rng, size):
    """Perturbed densities of the model K = 8, p = (.1, .2, .3, .5), and whether linkage finds the tree."""
    p = btsbm_densities(np.array([0.1, 0.2, 0.3, 0.5]))
    sizes = rng.integers(1, 50, 8)
    noise = np.triu(rng.uniform(-size, size, (8, 8)), 1)
    counts = np.maximum(p + noise + noise.T, 0) * np.outer(sizes, sizes)
    found = clades(average_linkage(counts, sizes)[0])
    wanted = {frozenset(range(i, i + w)) for w in (2, 4, 8) for i in range(0, 8, w)}
    return found == wanted, counts, sizes


def test_linkage_lemma_is_never_broken():
    """Whenever the certificate holds with the true densities, the tree is the true one; not so when it fails."""
    tree = Tree(np.array([[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 11], [12, 13]]))
    density = np.array([0.5] * 8 + [0.3] * 4 + [0.2] * 2 + [0.1])
    rng, outcomes = np.random.default_rng(0), []
    for _ in range(400):
        right, counts, sizes = lemma_instance(rng, rng.choice([0.04, 0.08, 0.2]))
        made = linkage_lemma(tree, counts, sizes, density)
        outcomes.append((made.verdict, right))
    assert (Verdict.HOLDS, False) not in outcomes
    assert {(Verdict.HOLDS, True), (Verdict.FAILS, False)} <= set(outcomes)


def test_linkage_lemma_states_the_chance_of_a_larger_error():
    tree = Tree(np.array([[0, 1], [2, 3], [4, 5]]))
    p = np.array([0.5] * 4 + [0.3, 0.3, 0.1])
    sizes, beyond, stated = np.full(4, 12), 0, 1.0
    rng = np.random.default_rng(0)
    for _ in range(400):
        counts = np.triu(rng.binomial(144, p[tree.meet]), 1)
        made = linkage_lemma(tree, counts + counts.T, sizes, p)
        beyond += made.verdict == Verdict.FAILS
        stated = made.inputs["chance of a larger error"]
    assert stated < 0.6
    assert beyond / 400 <= stated
    assert (
        linkage_lemma(Tree(np.array([[0, 1]])), np.ones((2, 2)), np.ones(2), np.ones(3)).verdict
        == Verdict.VACUOUS
    )


def test_exact_recovery_comes_to_every_verdict():
    rng = np.random.default_rng(0)
    dense, _ = planted(rng, size=80, inside=0.7, between=0.05)
    assert verdict(hierarchical_communities(dense, rng=0), "exact-recovery") == Verdict.HOLDS
    A, labels = planted(rng, k=2, size=300, inside=0.03, between=0.01)
    sparse = hierarchical_communities(A, leaves=labels, labels_independent=True, rng=0)
    assert sparse.supported.all()
    assert verdict(sparse, "exact-recovery") == Verdict.FAILS
    p = np.full((4, 4), 0.05)
    p[0, 2] = p[2, 0] = 0.3  # no tree: 0 is close to 2, which is close to nothing else
    p[1, 3] = p[3, 1] = 0.2
    p[0, 1] = p[1, 0] = 0.28
    np.fill_diagonal(p, 0.7)
    mixed = hierarchical_communities(block_model(p, np.full(4, 60), rng)[0], rng=0)
    assert verdict(mixed, "exact-recovery") == Verdict.VOID
    assert "read densities" in mixed.certificates[3].explain()
    noise = without_structure(np.random.default_rng(2), 0.3)
    assert verdict(noise, "exact-recovery") in {Verdict.VACUOUS, Verdict.VOID}
    seen = set()
    for stream in np.random.default_rng(5).spawn(10):
        x = np.array([1.0, (1 + math.sqrt(2.94)) ** 2]) * math.log(600) / 600
        A, labels = block_model(btsbm_densities(x), np.full(2, 300), stream)
        made = hierarchical_communities(A, leaves=labels, labels_independent=True, rng=0)
        seen.add(verdict(made, "exact-recovery"))
    assert Verdict.INCONCLUSIVE in seen


def test_exact_recovery_names_the_threshold():
    n = 800
    p = btsbm_densities(X1 * math.log(n) / n)
    A, labels = block_model(p, np.full(8, 100), np.random.default_rng(0))
    made = hierarchical_communities(A, leaves=labels, labels_independent=True, rng=0).certificates[
        3
    ]
    for q in (1, 2, 3):
        assert made.inputs[f"I_{q}"] == pytest.approx(btsbm_threshold(X1, q), rel=0.2)
    assert made.measured is not None
    assert made.measured.low <= 0.594868 + 100 * 7 * math.exp(-2.997) <= 1.5 * made.measured.high


@pytest.mark.slow
def test_the_model_is_seldom_refuted_where_it_is_true():
    p = btsbm_densities(np.array([0.05, 0.15, 0.4]))
    refuted = 0
    for rng in np.random.default_rng(0).spawn(300):
        A, labels = block_model(p, np.full(4, 40), rng)
        made = hierarchical_communities(A, leaves=labels, labels_independent=True, rng=rng)
        refuted += verdict(made, "exact-recovery") == Verdict.VOID
    assert refuted <= 10  # at level 0.01, 10 or more of 300 come by chance with probability 0.001


def certificate(A, **options):
    return {c.name: c for c in hierarchical_communities(A, rng=0, **options).certificates}


def test_no_certificate_of_densities_that_were_estimated_is_certain():
    A, labels = planted(np.random.default_rng(0), k=4, size=40)
    for c in certificate(A, leaves=labels, labels_independent=True).values():
        assert c.sure < 1 or c.name == "no-inversion"


def test_the_lemma_does_not_hold_on_wrong_trees():
    """Three leaves, two pairs of nearly one density: the tree is often wrong, and never certified."""
    p = np.full((3, 3), 0.04)
    p[0, 1] = p[1, 0] = 0.045
    np.fill_diagonal(p, 0.3)
    wrong = 0
    for rng in np.random.default_rng(0).spawn(60):
        A, labels = block_model(p, np.full(3, 40), rng)
        made = hierarchical_communities(A, leaves=labels, labels_independent=True, rng=rng)
        first = made.tree.children[0]
        pair = {int(labels[made.labels == leaf][0]) for leaf in first}
        wrong += pair != {0, 1}
        assert verdict(made, "linkage-lemma") != Verdict.HOLDS
    assert wrong > 5


def test_every_condition_is_answered_on_every_run():
    A, _ = planted(np.random.default_rng(0), k=4, size=40)
    for options in ({}, {"holdout": 0.0}, {"weighted": True}, {"method": "top-down"}):
        made = certificate(A, **options)
        for theorem in THEOREMS:
            names = [a.name for a in made[theorem.name].conditions]
            assert names == [c.name for c in theorem.conditions]


def test_ordinary_graphs_are_vacuous():
    """What no held-out edge could show, whatever they are."""
    rng = np.random.default_rng(0)
    A, labels = block_model(np.array([[0.2, 0.1], [0.1, 0.2]]), np.array([12, 12]), rng)
    made = certificate(A, leaves=labels, labels_independent=True)
    assert made["supported-tree"].verdict == Verdict.VACUOUS
    assert (
        made["supported-tree"].inputs["edges held out that could show a branch"]
        > (made["supported-tree"].inputs["edges held out"])
    )
    assert made["linkage-lemma"].verdict == Verdict.VACUOUS
    assert made["exact-recovery"].verdict == Verdict.VACUOUS


def test_a_void_test_says_what_to_do():
    rng = np.random.default_rng(0)
    A = np.zeros((300, 300))
    for _ in range(300):
        group = rng.choice(300, 4, replace=False)
        A[np.ix_(group, group)] = 1
    np.fill_diagonal(A, 0)
    advice = certificate(A, n_communities=4)["supported-tree"].advice
    for part in ("triangles", "z = ", "n_communities=", "two random halves", "description"):
        assert part in advice


def answer_of(result, name, theorem=1):
    return next(a for a in result.certificates[theorem].conditions if a.name == name)


def test_a_test_that_could_see_nothing_is_unchecked():
    """A matching has no path that an edge could close."""
    made = hierarchical_communities(
        np.kron(np.eye(30), 1 - np.eye(2)),
        leaves=np.arange(60) // 20,
        labels_independent=True,
        rng=0,
    )
    assert answer_of(made, "edges-independent").status is Status.UNCHECKED


def test_copies_of_nodes_are_void_by_their_squares():
    rng = np.random.default_rng(10_000)
    upper = np.triu(rng.random((100, 100)) < 12 / 300, 1).astype(float)
    made = hierarchical_communities(np.kron(upper + upper.T, np.ones((3, 3))), 4, rng=0)
    assert verdict(made, "supported-tree") == Verdict.VOID
    assert not made.supported.any()
    assert "4-cycles" in made.certificates[1].advice
    assert "triangles where" not in made.certificates[1].advice


def genie(m, a, b):
    """Wrong nodes of two blocks of m, exactly: all of two binomials, ties half."""
    inside, across = np.arange(m), np.arange(m + 1)
    ratio = (across * math.log(a / b) + (m - across) * math.log((1 - a) / (1 - b)))[None, :] - (
        inside * math.log(a / b) + (m - 1 - inside) * math.log((1 - a) / (1 - b))
    )[:, None]
    mass = np.outer(binom.pmf(inside, m - 1, a), binom.pmf(across, m, b))
    return 2 * m * float(mass[ratio > 1e-9].sum() + mass[abs(ratio) <= 1e-9].sum() / 2)


@pytest.mark.parametrize(("m", "a", "b"), [(240, 0.2272, 0.1), (100, 0.17, 0.05), (30, 0.3, 0.2)])
def test_wrong_nodes_lie_between_the_bounds(m, a, b):
    overlap = (math.sqrt(a * b) + math.sqrt((1 - a) * (1 - b))) ** (2 * m)
    least = fewest(np.array([overlap]), np.array([float(m)]), np.array([float(m)]))[0]
    exact = genie(m, a, b)
    assert 0 < least <= exact <= 2 * m * overlap ** ((2 * m - 1) / (2 * m))
    x, y = np.repeat([a, b], [m - 1, m]), np.repeat([b, a], [m - 1, m])
    low, high = (2 * m * p for p in beaten(x, y))
    assert low * (1 - 1e-9) <= exact <= high * (1 + 1e-9)
    assert high <= 1.5 * low


def test_exact_recovery_does_not_fail_by_its_upper_bound():
    assert genie(240, 0.2272, 0.1) < 0.05
    for rng in np.random.default_rng(0).spawn(5):
        A, _ = planted(rng, k=2, size=240, inside=0.2272, between=0.1)
        assert verdict(hierarchical_communities(A, rng=rng), "exact-recovery") != Verdict.FAILS


@pytest.mark.parametrize("options", [{"n_communities": 3}, {"holdout": 0.7}])
def test_coarse_leaves_are_told_from_dependent_edges(options):
    """Six blocks in fewer leaves: the cycles are more than the leaves make, and no more than six do."""
    A, _ = planted(np.random.default_rng(0), k=6, size=30, inside=0.5)
    made = hierarchical_communities(A, rng=0, **options)
    assert verdict(made, "supported-tree") != Verdict.VOID
    answer = answer_of(made, "edges-independent")
    assert answer.status is Status.NOT_REFUTED
    assert "leaves are coarser" in answer.evidence
    assert verdict(made, "exact-recovery") == Verdict.VOID
    assert "leaves hold several" in made.certificates[3].advice


def test_a_tree_with_a_mark_is_not_vacuous():
    """Single nodes as leaves: no branch was expected to be shown, and one was."""
    for seed in range(4):
        A, _ = planted(np.random.default_rng(seed), k=3, size=20, inside=0.6)
        made = hierarchical_communities(A, 60, holdout=0.9, rng=seed)
        assert not (made.supported.any() and verdict(made, "supported-tree") == Verdict.VACUOUS)


def test_the_lemma_does_not_mind_how_many_edges_are_held_out():
    p = np.where(np.eye(4, dtype=bool), 0.5, 0.08)
    p[[0, 1, 2, 3], [1, 0, 3, 2]] = 0.10
    verdicts = []
    for rng in np.random.default_rng(0).spawn(4):
        A, _ = block_model(p, np.full(4, 300), rng)
        for share in (0.2, 0.5):
            made = hierarchical_communities(A, holdout=share, rng=rng)
            verdicts.append(verdict(made, "linkage-lemma"))
    assert Verdict.FAILS not in verdicts
    assert Verdict.HOLDS in verdicts
