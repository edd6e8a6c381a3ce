"""Recalibration of a classifier with a bound on the error that is left.

Problem: the probabilities of a trained classifier are off, and the usual remedies minimise log-loss,
which a few extreme logits dominate, or change the decisions, and none says how far off the result
may still be.

Idea: sort all stated probabilities of all classes; in a window of neighbours the mean of *stated
minus happened* is the error of the statement, up to noise. Fit a map that keeps the order of the
classes so that the mean of these windowed errors, over clusters of probabilities that weigh alike,
is least. On rows held back, blocks of top labels and of all entries give a simultaneous band on what
is left, and redrawing labels from the stated probabilities gives an exact test whether anything is.

Cost: O(N) for one evaluation with its gradient, N = samples × classes (a radix sort), and for each of
the redrawn label sets, since the order does not change. Memory is about 8 N floats.

What is proven: the paper's statement is asymptotic (window → ∞, window/N → 0). The band and the test
are derived here and hold for any number of rows, given that they are independent of the fit. The
authors' code sums over windows with one class's samples left out in turn
(``objective="leave-one-class-out"``); that selects on the label and is biased for unequal classes, so
the default here is ``"pooled"``.

References
----------
W. Huang, G. Cao, J. Xia, J. Chen, H. Wang, J. Zhang. h-calibration: Rethinking Classifier
Recalibration with Probabilistic Error-Bounded Objective. IEEE TPAMI 2025. arXiv:2506.17968.
"""

from whp.calibration._h_calibration.band import band, kl_interval
from whp.calibration._h_calibration.estimator import HCalibrator
from whp.calibration._h_calibration.front_door import Fitting, h_calibration
from whp.calibration._h_calibration.maps import HCalibrationMap
from whp.calibration._h_calibration.objective import Objective, windowed_calibration_error
from whp.calibration._h_calibration.result import HCalibrationResult
from whp.calibration._h_calibration.theorems import (
    accuracy_preserved,
    calibration_test,
    error_band,
    overfit,
)

HCalibration = HCalibrationResult

__all__ = [
    "Fitting",
    "HCalibration",
    "HCalibrationMap",
    "HCalibrationResult",
    "HCalibrator",
    "Objective",
    "accuracy_preserved",
    "band",
    "calibration_test",
    "error_band",
    "h_calibration",
    "kl_interval",
    "overfit",
    "windowed_calibration_error",
]
