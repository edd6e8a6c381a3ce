import numpy as np
import pytest

from whp.calibration import (
    HCalibrationMap,
    Objective,
    accuracy_preserved,
    calibration_test,
    error_band,
    overfit,
)
from whp.calibration._h_calibration import theorems as t
from whp.certificate import Status, Verdict
from whp.studies.h_calibration.worlds import labels_of as draw
from whp.studies.h_calibration.worlds import top_label_is_wrong


def sharpen(C, factor):
    return HCalibrationMap.temperature(factor)(np.log(np.maximum(C, 1e-300)))


@pytest.fixture(scope="module")
def many():
    rng = np.random.default_rng(0)
    C = rng.dirichlet([1, 1, 1], 20_000)
    return C, draw(C, rng)


def verdicts(pair):
    return [c.verdict for c in pair]


def test_the_band_holds_of_the_truth_fails_of_errors_and_says_what_it_needs(many):
    C, y = many
    assert verdicts(error_band(C, y)) == [Verdict.HOLDS] * 2
    assert verdicts(error_band(sharpen(C, 4), y, epsilon=0.02)) == [Verdict.FAILS] * 2
    few = error_band(C[:190], y[:190])[0]
    assert few.verdict is Verdict.INCONCLUSIVE
    assert "with 5 blocks a calibrated model needs about 1,500 certified rows" in few.needs
    assert "for epsilon = 0.1; there were 190" in few.needs


def test_the_failure_probability_is_spent_once(many):
    C, y = many
    assert [c.sure for c in error_band(C, y, delta=0.02)] == pytest.approx([0.98] * 2)


@pytest.mark.parametrize("classes", [100, 1000])
def test_many_classes_cannot_hide_a_wrong_top_label(classes):
    """Stated .9, right in .6: blocks over all classes hold small probabilities only."""
    made = top_label_is_wrong.make(np.random.default_rng(0), classes).arguments
    top, pooled = error_band(made["P"], made["y"], epsilon=0.05)
    assert top.verdict is Verdict.FAILS
    assert pooled.verdict is not Verdict.HOLDS
    if classes == 1000:
        assert pooled.verdict is Verdict.VACUOUS
        assert pooled.trivial == pytest.approx(5 / 1000, rel=0.1)
        assert "top-label-error" in pooled.remedy


def test_vacuous_bands():
    half = np.full((40, 2), 0.5)
    pair = error_band(half, np.arange(40) % 2, epsilon=0.6)
    assert verdicts(pair) == [Verdict.VACUOUS] * 2
    assert pair[0].trivial == pytest.approx(0.5)


def test_a_test_refutes_or_is_silent_and_never_holds(many):
    C, y = (a[:500] for a in many)
    silent = calibration_test(C, y, Objective(), rng=0)[0]
    assert silent.verdict is Verdict.INCONCLUSIVE
    assert silent.measured.high == np.inf
    assert calibration_test(sharpen(C, 3), y, Objective(), rng=0)[0].verdict is Verdict.FAILS
    few = calibration_test(C, y, Objective(), resamples=10, rng=0)[0]
    assert few.verdict is Verdict.VACUOUS
    constant = np.full((500, 3), 1 / 3)
    for labels in (y, np.zeros(500, int)):
        blind = calibration_test(constant, labels, Objective(), rng=0)[0]
        assert blind.verdict is Verdict.VACUOUS, "errors that cancel between classes"
        seen = calibration_test(constant, labels, Objective("classwise"), rng=0)[0]
    assert seen.verdict is Verdict.FAILS


@pytest.mark.parametrize("objective", ["pooled", "classwise"])
@pytest.mark.parametrize(
    ("n", "alpha"), [(500, (1, 1, 1)), (300, (8, 1, 1)), (200, (0.2, 0.4, 0.6, 0.8, 1))]
)
def test_the_level_of_the_test_is_delta(n, alpha, objective):
    refuted = 0
    for rng in np.random.default_rng(0).spawn(300):
        C = rng.dirichlet(alpha, n)
        found = calibration_test(C, draw(C, rng), Objective(objective, 50), resamples=99, rng=rng)
        refuted += found[0].verdict is Verdict.FAILS
    assert refuted <= 28  # of 300 at .05: the 99.9 % quantile


def test_power_of_the_test():
    refuted = 0
    for rng in np.random.default_rng(0).spawn(60):
        C = rng.dirichlet([1, 1, 1], 500)
        found = calibration_test(sharpen(C, 1.6), draw(C, rng), Objective(), rng=rng)[0]
        refuted += found.verdict is Verdict.FAILS
    assert refuted >= 57


def test_of_dependent_rows_one_a_group_is_tested():
    refuted = 0
    for rng in np.random.default_rng(0).spawn(60):
        C = rng.dirichlet([1, 1, 1], 150)
        y, P = np.repeat(draw(C, rng), 6), np.repeat(C, 6, axis=0)
        groups = np.repeat(np.arange(150), 6)
        found = calibration_test(P, y, Objective(window=20), rng=rng, groups=groups)[0]
        assert found.inputs["rows"] == 150
        refuted += found.verdict is Verdict.FAILS
        alone = calibration_test(P, y, Objective(window=20), rng=rng)[0]
        assert alone.verdict is Verdict.FAILS
    assert refuted <= 9


def test_changed_orders_are_counted_row_by_row():
    P = np.random.default_rng(0).dirichlet([1, 1, 1], 50)
    assert accuracy_preserved(P, P**2).verdict is Verdict.HOLDS
    swapped = P.copy()
    swapped[:3] = swapped[:3, [1, 2, 0]]
    found = accuracy_preserved(P, swapped)
    assert found.verdict is Verdict.FAILS
    assert found.measured.value == 3
    assert found.trivial == 50


def test_an_arg_max_that_moves_by_a_hair_is_a_change():
    P = np.random.default_rng(0).dirichlet([1, 1, 1], 50)
    assert accuracy_preserved(P, 1 / 3 - 1e-13 * (P - 1 / 3)).measured.value == 50
    assert accuracy_preserved(P, np.full((50, 3), 1 / 3)).measured.value == 0


def test_a_decision_against_the_largest_score_is_a_change():
    P = np.random.default_rng(0).dirichlet([1, 1, 1], 50)
    decisions = P.argmax(axis=1)
    assert accuracy_preserved(P, P**2, decisions).verdict is Verdict.HOLDS
    decisions[:4] = (decisions[:4] + 1) % 3
    assert accuracy_preserved(P, P**2, decisions).measured.value == 4


def test_minus_infinity_is_below_every_number():
    before = np.array([[0.0, -1000.0, -np.inf]])
    assert accuracy_preserved(before, np.array([[0.6, 0.4, 0.0]])).measured.value == 0
    assert accuracy_preserved(before, np.array([[0.6, 0.1, 0.3]])).measured.value == 1


def test_a_small_delta_says_what_it_needs_and_costs_no_more(many):
    C, y = (a[:100] for a in many)
    fit = overfit(C, y, Objective(window=20), delta=1e-5, rng=0)
    assert fit.verdict is Verdict.VACUOUS
    assert fit.inputs["refits"] == 999
    assert "delta = 1e-05 needs 99,999 refits; there were 999" in fit.needs
    test = calibration_test(C, y, Objective(window=20), delta=1e-3, rng=0)[0]
    assert test.verdict is Verdict.VACUOUS
    assert "needs at least 999 resamples; there were 199" in test.needs


def test_the_ranges_of_the_blocks_are_given(many):
    C, y = many
    top = error_band(C[:1500], y[:1500], blocks=5)[0]
    ranges = top.inputs["ranges of the blocks"].split(", ")
    assert len(ranges) == 2
    assert ranges[0].startswith("0.3")
    assert ranges[1] == f"0.59 to {C[:1500].max():.3g}"
    assert "errors of both signs within one cancel" in top.claim
    assert error_band(C, y, blocks=60)[1].inputs["ranges of the blocks"].startswith("widest ")


def test_groups_of_one_row_do_not_prove_independence():
    C = np.random.default_rng(0).dirichlet([1, 1], 50)
    y = draw(C, np.random.default_rng(1))
    found = overfit(C, y, Objective(window=4), rng=0, groups=np.arange(50))
    assert found.conditions[0].status is Status.UNCHECKED


def test_ties_of_saturated_scores_are_no_change():
    before = np.array([[0.0, -800.0, -900.0], [2.0, 2.0, 1.0]])
    after = np.array([[1.0, 0.0, 0.0], [0.4, 0.4, 0.2]])
    assert accuracy_preserved(before, after).measured.value == 0


def test_overfitting_is_noticed_and_one_temperature_is_none():
    rng = np.random.default_rng(0)
    C = rng.dirichlet([1, 1, 1], 300)
    y = draw(C, rng)
    objective = Objective(window=20)
    assert overfit(C, y, objective, rng=0).verdict is Verdict.HOLDS
    constant = np.full((300, 3), 1 / 3)
    assert overfit(constant, y, objective, rng=0).verdict is Verdict.VACUOUS
    # Outcomes spread as evenly as possible within equal predictions: less error than any truth leaves.
    P = np.repeat([[0.5, 0.5]], 300, axis=0) + np.linspace(0, 1e-3, 300)[:, None] * [1, -1]
    assert overfit(P, np.arange(300) % 2, objective, rng=0).verdict is Verdict.FAILS


def test_labels_of_groups_do_not_judge_the_fit():
    rng = np.random.default_rng(0)
    C = np.repeat(rng.dirichlet([1, 1], 50), 2, axis=0)
    found = overfit(C, draw(C, rng), Objective(window=4), rng=0, groups=np.repeat(range(50), 2))
    assert found.verdict is Verdict.VOID


@pytest.mark.parametrize("kind", ["classwise", "leave-one-class-out"])
def test_every_objective_is_judged_for_overfitting(kind):
    rng = np.random.default_rng(0)
    C = rng.dirichlet([1, 1, 1], 120)
    assert overfit(C, draw(C, rng), Objective(kind, 20), rng=0).verdict is Verdict.HOLDS


def test_very_many_rows_are_thinned_evenly():
    assert t.thinned((1000, 10), 10_000) == slice(None, None, 1)
    assert t.thinned((1000, 10), 2_500) == slice(None, None, 4)


def test_what_is_unknown_is_said_to_be():
    rng = np.random.default_rng(0)
    C = rng.dirichlet([1, 1], 50)
    for c in (
        *error_band(C, draw(C, rng)),
        calibration_test(C, draw(C, rng), Objective(window=4))[0],
    ):
        allowed = {Status.UNCHECKED, Status.BY_CONSTRUCTION}
        assert {a.status for a in c.conditions} <= allowed
        built = [a.name for a in c.conditions if a.status is Status.BY_CONSTRUCTION]
        assert built in ([], ["cut-by-probability"])
