import numpy as np
import pytest

from whp.certificate import Verdict
from whp.optim._target_surrogates import theorems as th
from whp.optim._target_surrogates.front_door import majorised, steps_of
from whp.optim._target_surrogates.linear import Settings, fit_linear
from whp.optim._target_surrogates.losses import LOSSES, Loss
from whp.studies.target_surrogates.experiments import breast_cancer


def history(**settings):
    X, y = breast_cancer()
    start, rng = np.zeros(31), np.random.default_rng(0)
    run = fit_linear(X, y, LOSSES["logistic"], Settings(tol=0.0, **settings), start, rng)[1]
    return run, y


def test_6_the_descent_bound():
    run, y = history(m=5, inner="gd", eta=4.0, max_iter=100)
    beta = 0.5 / run.rows[0]["share"]
    assert beta == pytest.approx(1889.3086928, rel=1e-8)
    assert run.rows[0]["loss"] == pytest.approx(394.400745739)
    assert run.rows[-1]["after"] == pytest.approx(37.309041667)
    found = majorised(run, LOSSES["logistic"], y, True)[1]
    assert found.bound == pytest.approx(14902.9, rel=1e-5)
    assert found.measured.value == pytest.approx(110.94163, rel=0.02)
    total = run.column("gradient").sum() / (2 * beta)
    assert total == pytest.approx(227.508, rel=1e-4)
    assert total <= 394.400745739 - 37.309041667


def steps(**changes):
    ones = np.ones(3)
    values = {
        "loss": 3 * ones,
        "after": 2 * ones,
        "surrogate": 2.5 * ones,
        "slack": 1e-9 * ones,
        "rounding": 0 * ones,
        "eta": ones,
        "gradient": ones,
        "gradient_rounding": 0 * ones,
        "share": 2 * ones,
        "penalty": 0.0,
    }
    return th.Steps(**{**values, **changes})


GOOD = (th.STEP.check(True, "short"), th.SMOOTH.by_construction("known"))


def test_the_step_that_came_nearest_decides():
    def verdict(**changes):
        return th.majorisation(steps(**changes), GOOD, {}).verdict

    assert verdict() is Verdict.HOLDS
    made = th.majorisation(steps(after=np.array([2.0, 2.4, 1.0])), GOOD, {})
    assert made.inputs["step"] == 2
    assert verdict(after=np.array([2.0, 2.0, 2.6])) is Verdict.FAILS
    assert verdict(after=np.array([2.0, np.nan, 2.0])) is Verdict.UNMEASURED
    assert verdict(after=np.array([2.0, np.inf, 2.0])) is Verdict.FAILS
    assert verdict(surrogate=3 * np.ones(3)) is Verdict.VACUOUS
    assert verdict(rounding=np.ones(3)) is Verdict.INCONCLUSIVE
    empty = {k: np.empty(0) for k in vars(steps()) if k != "penalty"}
    for theorem in (th.majorisation, lambda s, a, i: th.descent(s, 0.0, a, i)):
        with pytest.raises(ValueError, match="no step"):
            theorem(steps(**empty), GOOD, {})


def test_the_descent_counts_penalty_and_room():
    answers = (*GOOD, th.SAME_ROWS.check(True, "one call"), th.LOWER.by_construction("a sum"))

    def made(lower=0.0, **changes):
        return th.descent(steps(**changes), lower, answers, {})

    assert made().bound == pytest.approx(0.5)
    assert made(penalty=3.0).bound == pytest.approx(1.0)
    assert made(lower=-3.0).bound == pytest.approx(1.0)
    assert made().verdict is Verdict.FAILS
    assert made(gradient=np.array([2.0, 1.0, 0.4])).verdict is Verdict.HOLDS
    assert made(share=np.zeros(3)).verdict is Verdict.VACUOUS
    assert made(share=0.1 * np.ones(3)).verdict is Verdict.VACUOUS


def test_a_least_is_refuted_by_what_was_seen():
    losses = np.array([3.0, 1.0, np.nan])
    assert str(th.lower_bound(0.0, losses).status) == "unchecked"
    assert str(th.lower_bound(0.0, losses, "a sum of squares").status) == "by construction"
    assert str(th.lower_bound(2.0, losses, "a sum of squares").status) == "violated"


def test_steps_are_held_against_l():
    for largest, L, status in (
        (4.0, 0.25, "met"),
        (4.0 * 1.001, 0.25, "violated"),
        (1e-9, None, "violated"),
    ):
        assert str(th.step_size([largest / 2, largest], L).status) == status
    assert str(th.half_step(np.array([0.05]), 60, 6).status) == "met"
    assert str(th.half_step(np.array([0.0501]), 60, 6).status) == "violated"


def test_a_loss_that_looks_like_ours_is_not_vouched_for():
    run, y = history(max_iter=3)
    ours = LOSSES["logistic"]
    other = Loss("logistic", ours.value, ours.gradient, 0.25)
    answers = {a.name: str(a.status) for a in majorised(run, other, y, True)[1].conditions}
    assert answers["smooth-in-outputs"] == "unchecked"
    assert answers["lower-bound"] == "unchecked"
    assert len(steps_of(run).loss) == 3


def test_the_recursion_rounds_and_measures():
    answers = (
        th.half_step(np.array([0.1]), 10, 5),
        th.FULL_PROJECTION.check(True, "all rows"),
        th.BATCHES.by_construction("drawn here"),
    )
    bounds = np.array([3.0, 1.0])

    def made(mean, radius=0.0, start=5.0):
        values = None if mean is None else np.array([2.0, mean])
        return th.recursion(bounds, 1e-9, start, values, radius, answers, {})

    assert made(0.9).verdict is Verdict.HOLDS
    assert made(1.1).verdict is Verdict.FAILS
    assert made(1.0, radius=0.1).bound > 1.1
    assert made(None).verdict is Verdict.UNMEASURED
    assert made(0.9, start=0.5).verdict is Verdict.VACUOUS
    assert made(0.9).sure == 1.0
