"""h-calibration against other recalibrators: fit on calibration rows, then probabilities of test rows."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from whp.calibration._h_calibration import Objective, h_calibration
from whp.calibration._h_calibration.fit import fit_ensemble, fit_temperature
from whp.calibration._h_calibration.maps import softmax, standardise
from whp.experiment.benchmark import Case


def scores(n: int, classes: int) -> Any:
    def setup() -> dict[str, Any]:
        rng = np.random.default_rng(0)
        truth = rng.dirichlet(np.full(classes, 3 / classes), 2 * n)
        y = np.minimum((truth.cumsum(axis=1) < rng.random((2 * n, 1))).sum(axis=1), classes - 1)
        z = standardise(1.8 * np.log(np.maximum(truth, 1e-12)))
        return {"z": z[:n], "y": y[:n], "test": z[n:], "y_test": y[n:]}

    return setup


def ours(data: dict[str, Any]) -> Any:
    return h_calibration(
        data["z"],
        data["y"],
        logits_test=data["test"],
        y_test=data["y_test"],
        from_probs=False,
        rng=0,
    )


def map_alone(data: dict[str, Any]) -> Any:
    return fit_temperature(data["z"], data["y"], Objective())[0].apply(data["test"])


def ensemble(data: dict[str, Any]) -> Any:
    return fit_ensemble(data["z"], data["y"], Objective(), max_iter=300)[0].apply(data["test"])


def sklearn_calibration(method: str) -> Any:
    """Fitted around a classifier whose decision function is the logits themselves."""

    def work(data: dict[str, Any]) -> Any:
        from sklearn.base import BaseEstimator, ClassifierMixin
        from sklearn.calibration import CalibratedClassifierCV
        from sklearn.frozen import FrozenEstimator

        class Scores(ClassifierMixin, BaseEstimator):
            classes_ = np.arange(data["z"].shape[1])

            def __sklearn_is_fitted__(self) -> bool:
                return True

            def fit(self, X: Any, y: Any) -> Any:
                return self

            def decision_function(self, X: Any) -> Any:
                return X

            def predict(self, X: Any) -> Any:
                return X.argmax(axis=1)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = CalibratedClassifierCV(FrozenEstimator(Scores()), method=method).fit(
                data["z"], data["y"]
            )
            return model.predict_proba(data["test"])

    return work


def netcal_temperature(data: dict[str, Any]) -> Any:
    from netcal.scaling import TemperatureScaling

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return (
            TemperatureScaling().fit(softmax(data["z"]), data["y"]).transform(softmax(data["test"]))
        )


def netcal_histogram(data: dict[str, Any]) -> Any:
    from netcal.binning import HistogramBinning

    return HistogramBinning(15).fit(softmax(data["z"]), data["y"]).transform(softmax(data["test"]))


def probmetrics_ts_mix(data: dict[str, Any]) -> Any:
    from probmetrics.calibrators import get_calibrator

    return (
        get_calibrator("ts-mix")
        .fit(softmax(data["z"]), data["y"])
        .predict_proba(softmax(data["test"]))
    )


def venn_abers(data: dict[str, Any]) -> Any:
    from venn_abers import VennAbersCalibrator

    return VennAbersCalibrator().predict_proba(
        p_cal=softmax(data["z"]), y_cal=data["y"], p_test=softmax(data["test"])
    )


SCALING = {
    "scikit-learn temperature": sklearn_calibration("temperature"),
    "netcal TemperatureScaling": netcal_temperature,
    "probmetrics ts-mix": probmetrics_ts_mix,
}
OTHERS = {
    "scikit-learn isotonic": sklearn_calibration("isotonic"),
    "netcal HistogramBinning": netcal_histogram,
    "venn-abers": venn_abers,
}

CASES = [
    Case(
        name="1,500×10, one temperature, the map alone",
        setup=scores(1500, 10),
        ours=map_alone,
        peers=SCALING,
        repeats=5,
        target="≤ 5 × scikit-learn temperature",
        note="460 evaluations of an error that is not unimodal, each with a sort of 15,000 numbers, against a convex log-loss. "
        "dirichletcal 0.5.3 has no distribution for Python 3.11.",
    ),
    Case(
        name="1,500×10, one temperature with all certificates",
        setup=scores(1500, 10),
        ours=ours,
        peers={**SCALING, **OTHERS},
        repeats=5,
        target="≤ 2 s",
        note="The peers have no certificates.",
    ),
    Case(
        name="5,000×100, eight temperatures, 300 iterations",
        setup=scores(5000, 100),
        ours=ensemble,
        peers={
            "scikit-learn temperature": SCALING["scikit-learn temperature"],
            "probmetrics ts-mix": probmetrics_ts_mix,
        },
        repeats=2,
        target="≤ 60 s",
        note="A richer map than the peers' single temperature.",
    ),
]
