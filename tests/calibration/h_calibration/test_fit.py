import warnings

import numpy as np
import pytest

from whp.calibration import HCalibrationMap, h_calibration
from whp.calibration._h_calibration import Objective, families, kernels
from whp.calibration._h_calibration import fit as fitting
from whp.calibration._h_calibration.fit import fit_temperature, nll_beta
from whp.calibration._h_calibration.maps import softmax, standardise
from whp.studies.h_calibration.worlds import labels_of as draw
from whp.studies.h_calibration.worlds import law


@pytest.mark.parametrize("factor", [1e-6, 0.01, 1.0, 200.0, 1e6])
def test_likelihood_temperature_is_the_minimum_at_any_scale(factor):
    from scipy.optimize import minimize_scalar

    rng = np.random.default_rng(0)
    C = rng.dirichlet([1, 1, 1], 400)
    y = draw(C, rng)

    def nll(at):
        return -np.log(softmax(np.exp(at) * np.log(C))[np.arange(400), y]).sum()

    found = minimize_scalar(nll, bounds=(-3, 3), method="bounded", options={"xatol": 1e-10}).x
    assert nll_beta(standardise(np.log(C) * factor), y) * factor == pytest.approx(
        np.exp(found), rel=1e-6
    )


@pytest.mark.parametrize("power", range(-4, 7))
def test_the_unit_of_logits_does_not_matter(power):
    _, z, y = law(np.random.default_rng(1), [0.5] * 3, 500)
    objective = Objective(window=50)
    base = fit_temperature(standardise(z), y, objective)[0]
    other = fit_temperature(standardise(z * 10.0**power), y, objective)[0]
    np.testing.assert_allclose(other(z * 10.0**power), base(z), atol=1e-7)


@pytest.mark.parametrize("power", [-150, -20, 50, 150])
def test_units_in_which_digits_are_lost_are_refused(power):
    _, z, y = law(np.random.default_rng(0), [0.5] * 3, 100)
    with pytest.raises(ValueError, match="unit"):
        h_calibration(z * 10.0**power, y, from_probs=False)
    if power > 0:
        with pytest.raises(ValueError, match="more than 1e\\+40 apart"):
            HCalibrationMap.temperature(1.0)(z * 10.0**power)


def test_rows_of_equal_scores_have_no_unit():
    y = np.arange(90) % 3
    for z in (
        np.zeros((90, 3)),
        np.full((90, 3), 1e9),
        np.log(np.full((90, 3), 1 / 3) * (1 + 1e-16)),
    ):
        assert h_calibration(z, y, from_probs=False, rng=0).probs == pytest.approx(1 / 3)


def test_the_edge_of_the_search_is_told():
    rng = np.random.default_rng(0)
    z = standardise(rng.normal(size=(300, 3)))
    with pytest.warns(UserWarning, match="no better than chance; are the classes those of the col"):
        fit_temperature(z, z.argmin(axis=1), Objective(window=20))
    with pytest.warns(UserWarning, match="did these rows train the classifier"):
        fit_temperature(z, z.argmax(axis=1), Objective(window=20))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit_temperature(z, draw(np.exp(z), rng), Objective(window=20))


def test_temperature_fit_finds_the_truth_and_what_a_dense_grid_finds():
    rng = np.random.default_rng(0)
    for n, classes, near in ((4000, 3, 0.06), (600, 10, 0.15)):
        C = rng.dirichlet([1] * classes, n)
        z, y = standardise(2 * np.log(C)), draw(C, rng)
        fitted, history = fit_temperature(z, y, Objective())
        assert fitted.beta == pytest.approx(0.5, rel=near)
        dense = np.exp(np.log(nll_beta(z, y)) + np.linspace(-3, 3, 400))
        u = z - z.max(axis=1, keepdims=True)
        least = Objective().over_temperatures(u, y, dense).min()
        assert Objective()(fitted.apply(z), y) <= least * 1.005
        assert len(history) < 60


def test_many_entries_are_searched_in_part_first():
    rng = np.random.default_rng(0)
    C = rng.dirichlet([0.05] * 50, 4000)
    z, y = standardise(2 * np.log(np.maximum(C, 1e-12))), draw(C, rng)
    assert z.size > fitting.FEW
    fitted = fit_temperature(z, y, Objective())[0]
    u = z - z.max(axis=1, keepdims=True)
    dense = fitted.beta * np.exp(np.linspace(-0.3, 0.3, 61))
    assert (
        Objective()(fitted.apply(z), y) <= 1.01 * Objective().over_temperatures(u, y, dense).min()
    )


def test_large_fits_take_turns_and_are_no_worse_than_where_they_began():
    rng = np.random.default_rng(0)
    C = rng.dirichlet([0.05] * 50, 2500)
    z, y = standardise(2 * np.log(np.maximum(C, 1e-12))), draw(C, rng)
    assert z.size > families.FEW
    start = families.Ensemble(z, nll_beta(z, y), 8)
    made, history = fitting.fit_ensemble(z, y, Objective(), max_iter=60)
    assert len(history) == 60 + families.POLISH
    assert Objective()(made.apply(z), y) <= 0.8 * Objective()(start.forward(start.start), y)


@pytest.mark.parametrize("size", [0, 1, 7, 5000])
def test_radix_sort_sorts_and_is_stable(size):
    rng = np.random.default_rng(size)
    p = np.round(rng.random(size) ** 9, 3) * rng.choice([1.0, 1e-300], size)
    values, places = kernels.order_of(p)
    np.testing.assert_array_equal(values, np.sort(p))
    np.testing.assert_array_equal(places, np.argsort(p, kind="stable"))


@pytest.mark.slow
def test_auto_takes_one_temperature_where_one_is_the_truth():
    chosen = []
    for seed in range(5):
        _, z, y = law(np.random.default_rng(seed), [0.5] * 5, 1000)
        made = fitting.fit_map(
            standardise(z), y, "auto", Objective(), 60, np.random.default_rng(seed)
        )[0]
        chosen.append(made.kind)
    assert chosen.count("temperature") >= 4, chosen


@pytest.mark.parametrize("family", ["ensemble", "piecewise", "monotone"])
def test_gradients_of_the_maps(family):
    if family == "monotone":
        pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    z = standardise(5 * rng.standard_normal((30, 4)))
    made = {
        "ensemble": lambda: families.Ensemble(z, 0.5, 3),
        "piecewise": lambda: families.Piecewise(z, 0.5, 6),
        "monotone": lambda: families.Monotone(z, 0.5, 4, 0),
    }[family]()
    theta = made.start + 0.05 * rng.standard_normal(len(made.start))
    upstream = rng.standard_normal(z.shape)
    made.forward(theta)
    gradient = made.backward(theta, upstream)
    for j in range(len(theta)):
        step = np.zeros(len(theta))
        step[j] = 1e-6
        slope = ((made.forward(theta + step) - made.forward(theta - step)) * upstream).sum() / 2e-6
        assert slope == pytest.approx(gradient[j], abs=1e-6)


@pytest.mark.parametrize("mapping", ["ensemble", "piecewise", "monotone", "auto"])
def test_flexible_maps_lower_the_objective_and_keep_ranks(mapping):
    if mapping == "monotone":
        pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    C = rng.dirichlet([0.3] * 4, 500)
    z, y = standardise(3 * np.log(np.maximum(C, 1e-12))), draw(C, rng)
    made, _ = fitting.fit_map(z, y, mapping, Objective(window=50), 60, np.random.default_rng(0))
    assert Objective(window=50)(made.apply(z), y) < 0.5 * Objective(window=50)(np.exp(z), y)
    order = np.argsort(z, axis=1, kind="stable")
    assert np.diff(np.take_along_axis(made.apply(z), order, axis=1), axis=1).min() >= -1e-12
