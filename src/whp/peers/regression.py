"""Solvers of least absolute deviations and of ℓp regression on all rows."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from whp.experiment.benchmark import Peer

__all__ = ["ABSENT", "CVXPY", "NUMPY_QR", "SKLEARN_QUANTILE", "STATSMODELS_QUANTILE"]


def sklearn_quantile(A: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The primal linear program, by HiGHS."""
    from sklearn.linear_model import QuantileRegressor

    model = QuantileRegressor(quantile=0.5, alpha=0, solver="highs", fit_intercept=False)
    return model.fit(A, b).coef_


def statsmodels_quantile(A: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Iteratively reweighted least squares."""
    from statsmodels.regression.quantile_regression import QuantReg

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that 1,000 iterations were not enough
        return QuantReg(b, A).fit(q=0.5).params


def cvxpy_norm(A: np.ndarray, b: np.ndarray, p: Any) -> np.ndarray:
    """The norm as a cone program, by an interior-point method."""
    import cvxpy as cp

    x = cp.Variable(A.shape[1])
    cp.Problem(cp.Minimize(cp.pnorm(A @ x - b, p))).solve(solver=cp.CLARABEL)
    assert x.value is not None
    return x.value


SKLEARN_QUANTILE = Peer("sklearn QuantileRegressor", sklearn_quantile)
STATSMODELS_QUANTILE = Peer("statsmodels QuantReg", statsmodels_quantile)
CVXPY = Peer("cvxpy with clarabel", cvxpy_norm, needs="cvxpy==1.9.3 clarabel==0.11.1")
NUMPY_QR = Peer("one numpy.linalg.qr", np.linalg.qr)
ABSENT = (
    Peer("pyqreg", None, "pyqreg==0.4.2", "has no wheel and did not build"),
    Peer("coresets", None, "coresets==0.2.0", "knows only k-means and mixtures"),
)
