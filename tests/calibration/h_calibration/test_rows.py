import numpy as np
import pandas as pd
import pytest

from whp.calibration import h_calibration
from whp.calibration._h_calibration.maps import HCalibrationMap, standardise
from whp.calibration._h_calibration.rows import Rows, answers, held_back
from whp.certificate import Status, Verdict
from whp.studies.h_calibration.worlds import labels_of, law

pytestmark = pytest.mark.filterwarnings("ignore:window is reduced")


def rows(n=400, seed=0, alpha=(0.5,) * 3, **more):
    _, z, y = law(np.random.default_rng(seed), alpha, n)
    return Rows(standardise(z), y, **more)


MAP = HCalibrationMap.temperature(0.5)


def answer(fit, certify, name, *, split=False, refitted=False):
    return answers(fit, certify, MAP, split=split, refitted=refitted)[name]


@pytest.mark.parametrize("alpha", [(1, 1), (0.5,) * 3, (0.3,) * 10])
def test_continuous_scores_of_different_rows_are_no_copies(alpha):
    found = answer(rows(2000, 0, alpha), rows(2000, 1, alpha), "no-near-copies")
    assert found.status is Status.NOT_REFUTED


def test_two_classes_and_very_many_rows_are_no_copies():
    found = answer(rows(60_000, 0, (1, 1)), rows(60_000, 1, (1, 1)), "no-near-copies")
    assert found.status is Status.NOT_REFUTED, found.evidence


@pytest.mark.parametrize("jitter", [1e-9, 1e-7])
def test_copies_with_another_rounding_are_found(jitter):
    a = rows()
    b = Rows(a.z * (1 + jitter * np.random.default_rng(1).normal(size=a.z.shape)), a.y)
    assert answer(a, b, "no-near-copies").status is Status.VIOLATED
    single = Rows(a.z.astype(np.float32).astype(float), a.y)
    assert answer(a, single, "no-near-copies").status is Status.VIOLATED


def test_a_few_extreme_logits_do_not_make_copies_of_the_others():
    a, b = rows(500, 0, (1, 1)), rows(500, 1, (1, 1))
    a.z[0] = [-1e8, 0]
    assert answer(a, b, "no-near-copies").status is Status.NOT_REFUTED


def test_ties_are_no_copies_and_cannot_be_told_from_them():
    a, b = (
        Rows(np.log(np.round(np.exp(rows(500, s).z), 1) + 1e-3), rows(500, s).y) for s in (0, 1)
    )
    found = answer(a, b, "no-near-copies")
    assert found.status is Status.UNCHECKED
    assert "trees" in found.evidence


@pytest.mark.parametrize("way", ["twice", "five times", "drawn with replacement"])
def test_exact_copies_never_differ_in_class_and_ties_do(way):
    a, g = rows(300), np.random.default_rng(2)
    again = {
        "twice": np.repeat(np.arange(300), 2),
        "five times": np.repeat(np.arange(300), 5),
        "drawn with replacement": g.integers(0, 300, 600),
    }[way]
    found = answer(rows(300, 1), a.take(g.permutation(again)), "no-near-copies")
    assert found.status is Status.VIOLATED
    assert "differ in class" in found.evidence


@pytest.mark.parametrize("power", [0.5, 1, 3])
def test_ties_of_sorted_or_badly_calibrated_scores_are_no_copies(power):
    g = np.random.default_rng(0)
    P = np.round(g.dirichlet([0.5] * 3, 1000) * 10) + 0.02
    P /= P.sum(1, keepdims=True)
    C = P**power / (P**power).sum(1, keepdims=True)
    y = np.sort(labels_of(C, g)) if power == 1 else labels_of(C, g)
    made = HCalibrationMap.temperature(1.0)
    found = answers(Rows(np.log(P), y), rows(9, 1), made, split=False, refitted=False)
    assert found["no-near-copies"].status is Status.UNCHECKED


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("way", ["half", "bfloat16", "noise", "two decimals"])
def test_rows_of_the_fit_scored_again_do_not_certify_it(classes, way):
    g = np.random.default_rng(classes)
    _, z, y = law(g, (0.5,) * classes, 400)
    single = z.astype(np.float32)
    w = {
        "half": z.astype(np.float16),
        "bfloat16": (single.view(np.uint32) & 0xFFFF0000).view(np.float32),
        "noise": z * (1 + 0.01 * g.normal(size=z.shape)),
        "two decimals": np.round(z, 2),
    }[way].astype(float)
    order = g.permutation(400)
    fit, certify = Rows(standardise(z), y), Rows(standardise(w[order]), y[order])
    found = answer(fit, certify, "unused-rows")
    assert found.status is Status.VIOLATED
    assert "scored again" in found.evidence
    _, other, theirs = law(g, (0.5,) * classes, 400)
    fresh = Rows(standardise(other), theirs)
    assert answer(fit, fresh, "unused-rows").status is Status.UNCHECKED


def test_rows_held_back_at_random_are_no_test_of_a_drift():
    a, b = rows(), rows(seed=1)
    assert answer(a, b, "one-law").status is Status.NOT_REFUTED
    found = answer(a, b, "one-law", split=True)
    assert found.status is Status.UNCHECKED
    assert "rows to come" in found.evidence


def test_groups_may_hold_copies():
    a = rows(300)
    twice = np.repeat(np.arange(300), 2)
    z = a.z[twice] * (1 + 1e-9 * np.random.default_rng(0).normal(size=(600, 3)))
    grouped = Rows(z, a.y[twice], groups=twice.astype(str))
    other = rows(300, 1, groups=np.arange(1000, 1300).astype(str))
    assert answer(other, grouped, "no-near-copies").status is Status.NOT_REFUTED
    assert answer(other, grouped, "independent-events").status is Status.UNCHECKED


def test_copies_with_coarse_noise_are_not_seen_and_nothing_says_they_are():
    a, again = rows(), np.repeat(np.arange(300), 5)
    jitter = 1 + 1e-4 * np.random.default_rng(1).normal(size=(1500, 3))
    found = answer(a, Rows(rows(300, 1).z[again] * jitter, rows(300, 1).y[again]), "no-near-copies")
    assert found.status is Status.NOT_REFUTED
    assert "within 1e-06 of the spread, not coarser" in found.evidence


def test_rows_of_the_fit_in_another_order_do_not_certify_it():
    a = rows()
    order = np.random.default_rng(0).permutation(400)
    found = answer(a, Rows(a.z[order], a.y[order]), "unused-rows")
    assert found.status is Status.VIOLATED
    assert "100.0% of the certified rows" in found.evidence
    assert answer(a, rows(seed=1), "unused-rows").status is Status.UNCHECKED
    # Of scores that tie by nature the same cannot be said.
    one, other = (Rows(np.round(rows(seed=s).z), rows(seed=s).y) for s in (0, 1))
    assert answer(one, other, "unused-rows").status is Status.UNCHECKED


@pytest.mark.parametrize("few", [10, 20, 40])
def test_rounded_scores_of_a_small_fit_tie_with_others_by_nature(few):
    for seed in range(20):
        _, z, y = law(np.random.default_rng(seed), (1, 1), few + 500)
        P = np.round(np.exp(standardise(z / 2)), 2) + 1e-3
        parts = [Rows(np.log(P[part]), y[part]) for part in (slice(few), slice(few, None))]
        assert answer(*parts, "unused-rows").status is Status.UNCHECKED
        again = np.arange(few).repeat(2)
        fit = rows(few, seed)
        copied = answer(fit, fit.take(again), "unused-rows")
        assert copied.status is Status.VIOLATED or (
            answer(fit, fit.take(again), "no-near-copies").status is Status.VIOLATED
        )


@pytest.mark.parametrize("kind", [float, int, str, object])
def test_ids_are_the_same_whatever_their_type(kind):
    _, z, y = law(np.random.default_rng(0), (0.5,) * 3, 400)
    moved = z + 1e-2 * np.random.default_rng(1).normal(size=z.shape)
    ids = np.arange(400)
    options = {"logits_test": moved, "y_test": y, "ids": ids.astype(float)}
    found = h_calibration(z, y, ids_test=ids.astype(kind), rng=0, from_probs=False, **options)
    assert found.certificates[0].verdict is Verdict.VOID
    unused = {c.name: c for c in found.certificates[0].conditions}["unused-rows"]
    assert "100.00% of the certified rows share ids" in unused.evidence


@pytest.mark.parametrize("name", ["ids", "groups"])
@pytest.mark.parametrize("missing", [np.nan, None, pd.NA, pd.NaT])
def test_rows_without_an_id_are_refused(name, missing):
    _, z, y = law(np.random.default_rng(0), (0.5,) * 3, 40)
    units = np.arange(40).astype(object)
    units[7] = missing
    with pytest.raises(ValueError, match=f"{name} must name every row; row 7 has none"):
        h_calibration(z, y, from_probs=False, **{name: units})


def test_repeated_ids_are_violations_with_a_remedy_that_keeps_the_rows():
    ids = np.arange(400).astype(str)
    clean = answer(rows(ids=ids), rows(seed=1, ids=np.char.add("b", ids)), "independent-events")
    assert clean.status is Status.UNCHECKED
    ids_twice = np.where(np.arange(400) < 20, "same", np.char.add("b", ids))
    broken = answer(rows(ids=ids), rows(seed=1, ids=ids_twice), "independent-events")
    assert broken.status is Status.VIOLATED
    assert "groups=" in broken.remedy
    assert "drop" not in broken.remedy


def test_what_the_map_was_fitted_to_is_known_only_of_rows_held_back_here():
    a, b = rows(), rows(seed=1)
    assert answer(a, b, "unused-rows", split=True).status is Status.BY_CONSTRUCTION
    assert answer(a, b, "unused-rows").status is Status.UNCHECKED
    assert answer(a, b, "unused-rows", split=True, refitted=True).status is Status.UNCHECKED
    assert answer(a, a, "unused-rows").status is Status.VIOLATED


def test_no_array_of_a_user_gets_round_the_rows_held_back():
    """An array that hides rows behind its indexing is copied to a plain one before it is parted."""

    class Sly(np.ndarray):
        def __getitem__(self, which):
            return np.asarray(self)

    a = rows(300)
    plain, sly = (h_calibration(z, a.y, from_probs=False, rng=0) for z in (a.z, a.z.view(Sly)))
    assert plain.rows == sly.rows == (200, 100)
    np.testing.assert_array_equal(plain.probs, sly.probs)
    assert plain.certificates == sly.certificates


@pytest.mark.parametrize("name", ["groups", "ids"])
def test_a_group_is_held_back_whole(name):
    rng = np.random.default_rng(0)
    units = rng.integers(100, size=600).astype(str)
    chosen = held_back(rows(600, **{name: units}), 1 / 3, rng)
    assert not set(units[chosen]) & set(units[~chosen])
    assert 0.28 < chosen.mean() < 0.36


def test_without_groups_every_class_is_held_back_alike():
    a = rows(600)
    chosen = held_back(a, 1 / 3, np.random.default_rng(0))
    assert chosen.sum() == 200
    np.testing.assert_allclose(np.bincount(a.y[chosen]), np.bincount(a.y) / 3, atol=1)


@pytest.mark.parametrize("share", [0.1, 1 / 3])
@pytest.mark.parametrize("rare", [0, 2])
def test_a_rare_class_is_held_back_as_often_as_any(share, rare):
    y = np.full(300, 1)
    y[7] = rare
    g = np.random.default_rng(0)
    held = sum(held_back(Rows(np.zeros((300, 3)), y), share, g)[7] for _ in range(2000))
    assert abs(held / 2000 - share) < 4 * np.sqrt(share / 2000)


def test_ids_that_differ_prove_no_rows_new():
    a, b = rows(ids=np.arange(400).astype(str)), rows(seed=1, ids=np.arange(400, 800).astype(str))
    found = answer(a, b, "unused-rows")
    assert found.status is Status.UNCHECKED
    assert "0.00% of the certified rows share ids" in found.evidence


def test_one_law_is_tested_and_says_what_it_would_have_seen():
    a, b = rows(1000), rows(1000, 1)
    same = answer(a, b, "one-law")
    assert same.status is Status.NOT_REFUTED
    assert "would have seen" in same.evidence
    kept = b.y != 0
    moved = Rows(b.z[kept], b.y[kept])
    assert answer(a, moved, "one-law").status is Status.VIOLATED
    rare = rows(300, 2, (0.02,) * 60)
    assert answer(rare, rows(300, 3, (0.02,) * 60), "one-law").status is Status.NOT_REFUTED


def test_training_of_the_classifier_is_never_checked():
    assert answer(rows(), rows(seed=1), "new-to-the-model").status is Status.UNCHECKED
