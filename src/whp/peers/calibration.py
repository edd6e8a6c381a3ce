"""Recalibration by other libraries and papers: fitted on logits `z` with labels `y`, applied to logits `t`."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import minimize

from whp.calibration._h_calibration.fit import nll_beta
from whp.calibration._h_calibration.maps import HCalibrationMap, softmax
from whp.calibration._h_calibration.metrics import METRICS
from whp.experiment.benchmark import Peer

__all__ = [
    "DIRICHLETCAL",
    "HISTOGRAM",
    "NETCAL",
    "SKLEARN_ISOTONIC",
    "SKLEARN_TEMPERATURE",
    "TS_MIX",
    "VENN_ABERS",
    "dirichlet",
    "isotonic",
    "temperature_scaling",
]

Probs = np.ndarray


def temperature_scaling(z: np.ndarray, y: np.ndarray, t: np.ndarray) -> Probs:
    """One temperature by log-loss (Guo et al. 2017), to its minimum."""
    return HCalibrationMap.temperature(nll_beta(z, y)).apply(t)


def isotonic(P: Probs, y: np.ndarray) -> Callable[[Probs], Probs]:
    """Isotonic regression of each class against the rest, normalised: what scikit-learn does."""
    from sklearn.isotonic import IsotonicRegression

    made = [
        IsotonicRegression(out_of_bounds="clip").fit(P[:, c], y == c) for c in range(P.shape[1])
    ]

    def apply(Q: Probs) -> Probs:
        out = np.column_stack([m.predict(Q[:, c]) for c, m in enumerate(made)])
        total = out.sum(axis=1, keepdims=True)
        return np.where(total > 0, out / np.where(total > 0, total, 1), 1 / out.shape[1])

    return apply


def dirichlet(
    z: np.ndarray, y: np.ndarray, penalties: tuple[float, ...] = (1e-3, 1e-2, 1e-1, 1.0)
) -> Callable[[np.ndarray], Probs]:
    """Dirichlet calibration: softmax(W z + b) by log-loss, off-diagonal entries and b penalised (ODIR, Kull et al. 2019).

    The penalty is chosen by log-loss on a fifth of the rows.
    """
    classes = z.shape[1]
    outside = ~np.eye(classes, dtype=bool)
    scale = max(float(np.abs(z).mean()), 1e-12)  # Gaussian naive Bayes has logits in the hundreds

    def fit(z: np.ndarray, y: np.ndarray, penalty: float) -> np.ndarray:
        target = np.eye(classes)[y]

        def objective(theta: np.ndarray) -> tuple[float, np.ndarray]:
            W, b = theta[:-classes].reshape(classes, classes), theta[-classes:]
            P = softmax(z @ W.T + b)
            value = -np.log(np.maximum((P * target).sum(axis=1), 1e-300)).mean()
            value += penalty * ((W[outside] ** 2).mean() + (b**2).mean())
            by_score = (P - target) / len(z)
            by_W = by_score.T @ z + 2 * penalty * np.where(outside, W, 0) / outside.sum()
            return value, np.append(by_W.ravel(), by_score.sum(axis=0) + 2 * penalty * b / classes)

        start = np.append(np.eye(classes).ravel() * nll_beta(z, y), np.zeros(classes))
        return minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 200}).x

    def apply(theta: np.ndarray, z: np.ndarray) -> Probs:
        return softmax(z @ theta[:-classes].reshape(classes, classes).T + theta[-classes:])

    z = np.ascontiguousarray(z / scale)
    held = np.arange(len(z)) % 5 == 0
    inside = np.ascontiguousarray(z[~held])
    scores = [METRICS["nll"](apply(fit(inside, y[~held], p), z[held]), y[held]) for p in penalties]
    theta = fit(z, y, penalties[int(np.argmin(scores))])
    return lambda other: apply(theta, other / scale)


def _sklearn(method: str) -> Callable[[np.ndarray, np.ndarray, np.ndarray], Probs]:
    """scikit-learn's, fitted around a classifier whose decision function is the logits themselves."""

    def fit(z: np.ndarray, y: np.ndarray, t: np.ndarray) -> Probs:
        from sklearn.base import BaseEstimator, ClassifierMixin
        from sklearn.calibration import CalibratedClassifierCV
        from sklearn.frozen import FrozenEstimator

        class Scores(ClassifierMixin, BaseEstimator):
            classes_ = np.arange(z.shape[1])

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
            model = CalibratedClassifierCV(FrozenEstimator(Scores()), method=method).fit(z, y)
            return model.predict_proba(t)

    return fit


def netcal_temperature(z: np.ndarray, y: np.ndarray, t: np.ndarray) -> Probs:
    """netcal's temperature scaling."""
    from netcal.scaling import TemperatureScaling

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return TemperatureScaling().fit(softmax(z), y).transform(softmax(t))


def netcal_histogram(z: np.ndarray, y: np.ndarray, t: np.ndarray) -> Probs:
    """netcal's histogram binning, 15 bins."""
    from netcal.binning import HistogramBinning

    return HistogramBinning(15).fit(softmax(z), y).transform(softmax(t))


def ts_mix(z: np.ndarray, y: np.ndarray, t: np.ndarray) -> Probs:
    """probmetrics' temperature scaling mixed with the uniform law."""
    from probmetrics.calibrators import get_calibrator

    return get_calibrator("ts-mix").fit(softmax(z), y).predict_proba(softmax(t))


def venn_abers(z: np.ndarray, y: np.ndarray, t: np.ndarray) -> Probs:
    """Venn-Abers predictors, one against one."""
    from venn_abers import VennAbersCalibrator

    return VennAbersCalibrator().predict_proba(p_cal=softmax(z), y_cal=y, p_test=softmax(t))


SKLEARN_TEMPERATURE = Peer("scikit-learn temperature", _sklearn("temperature"), "scikit-learn>=1.8")
SKLEARN_ISOTONIC = Peer("scikit-learn isotonic", _sklearn("isotonic"))
NETCAL = Peer("netcal TemperatureScaling", netcal_temperature, "netcal==1.4.0")
HISTOGRAM = Peer("netcal HistogramBinning", netcal_histogram, "netcal==1.4.0")
TS_MIX = Peer("probmetrics ts-mix", ts_mix, "probmetrics==1.3.0")
VENN_ABERS = Peer("venn-abers", venn_abers, "venn-abers==1.5.4")
DIRICHLETCAL = Peer(
    "dirichletcal", None, "dirichletcal==0.5.3", "has no distribution for Python 3.11"
)
