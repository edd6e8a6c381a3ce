import numpy as np
import pytest

from whp.certificate import Status, Verdict
from whp.continual._view_batch.forgetting import compared, forgetting_of, paired_rows
from whp.studies.view_batch.worlds import a_run, comparison


def test_forgetting_is_the_fall_from_the_best():
    A = np.array([[0.9, np.nan, np.nan], [0.95, 0.8, np.nan], [0.7, 0.6, 0.9]])
    assert forgetting_of(A) == pytest.approx((0.25 + 0.2) / 2)
    assert forgetting_of(A[:1, :1]) == 0


@pytest.mark.parametrize(
    ("less", "more", "verdict"),
    [
        (6, 0, Verdict.HOLDS),
        (5, 0, Verdict.INCONCLUSIVE),
        (1, 0, Verdict.UNMEASURED),
        (0, 6, Verdict.FAILS),
        (9, 1, Verdict.HOLDS),
        (6, 4, Verdict.INCONCLUSIVE),
    ],
)
def test_runs_are_counted(less, more, verdict):
    made = comparison(np.array([-0.1] * less + [0.1] * more))
    assert made.verdict is verdict
    assert made.inputs["runs"] == less + more


def test_equal_runs_count_against():
    assert comparison(np.array([-0.1] * 6 + [0.0] * 6)).measured.value == 0.5
    assert comparison(np.zeros(6)).verdict is Verdict.VOID


def test_a_training_is_not_compared_with_itself():
    assert comparison(np.zeros(2), views=1).verdict is Verdict.VOID
    assert comparison(np.zeros(1), views=1).verdict is Verdict.VOID
    assert comparison(np.zeros(2), moved=0.0).verdict is Verdict.VOID


def test_the_baseline_has_the_same_start_images_and_updates():
    differences = np.full(8, -0.1)
    assert comparison(differences).verdict is Verdict.HOLDS
    near = comparison(differences, theirs={"updates": 95, "stored": 1500})
    assert near.verdict is Verdict.HOLDS
    for theirs in ({"updates": 80}, {"stored": 0}, {"new": 3201}, {"start": np.zeros(3)}):
        assert comparison(differences, theirs=theirs).verdict is Verdict.VOID


def test_without_a_baseline_nothing_is_measured():
    from whp.continual._view_batch.runs import Setting
    from whp.continual._view_batch.views import weak_view

    setting = Setting("er", "class", 4, "both", False, 1.0, 0.25, weak_view, None, 8, 32, 0.05, 200)
    made = compared(setting, [a_run(0.1, 1.0)], [], False)
    assert made.verdict is Verdict.UNMEASURED
    assert [a.status for a in made.conditions] == [Status.UNCHECKED] * 4


def on_test_rows(rng, falls, n=400):
    """A run that is right on all of the first task, and then wrong on a share of it."""
    wrong = rng.random(n) < falls
    right = [{0: np.ones(n, bool), 1: ~wrong}, {1: np.ones(n, bool)}]
    accuracy = np.array([[1, np.nan], [1 - wrong.mean(), 1.0]])
    made = a_run(0.0, 1.0)
    return type(made)(**(vars(made) | {"right": right, "accuracy": accuracy}))


def test_limits_over_test_rows_cover_the_difference_of_two_models():
    missed = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        e = paired_rows(on_test_rows(rng, 0.3), on_test_rows(rng, 0.2))
        missed += not e.low <= 0.1 <= e.high
        assert e.high - e.low < 0.3
    assert missed <= 4


@pytest.mark.parametrize("tables", [((18, 16), (17, 15)), ((9, 8), (8, 7)), ((20, 17), (19, 16))])
def test_as_much_up_to_rounding_is_not_less(tables):
    from dataclasses import replace

    def run(right, last):
        accuracy = np.array([[right / 20, np.nan], [last / 20, 0.9]])
        return replace(a_run(0.1, 1.0), accuracy=accuracy)

    from whp.continual._view_batch.runs import Setting
    from whp.continual._view_batch.views import weak_view

    setting = Setting("er", "class", 4, "both", False, 1.0, 0.25, weak_view, None, 8, 32, 0.05, 200)
    for one, other in (tables, tables[::-1]):
        ours, theirs = [run(*one)] * 8, [replace(run(*other), moved=np.zeros(3))] * 8
        made = compared(setting, ours, theirs, True)
        assert made.measured.value == 0
        assert made.verdict is Verdict.VOID  # of eight runs none differs
