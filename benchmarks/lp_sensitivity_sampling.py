"""ℓp and quantile regression from a coreset against solvers of the whole problem."""

from __future__ import annotations

from typing import Any

import numpy as np

from whp.datasets.tables import diamonds_regression, randhie_regression
from whp.experiment.benchmark import Case
from whp.linalg.lp_sensitivity_sampling import (
    lewis_weights,
    lp_regression,
    lp_sensitivity_sampling,
    sensitivities,
)


def table(name: str) -> Any:
    def setup() -> dict[str, Any]:
        frame, target = (
            diamonds_regression(full=True) if name == "diamonds" else randhie_regression()
        )
        A = frame.to_numpy(dtype=np.float64)
        return {"A": A / np.linalg.norm(A, axis=0), "b": target.to_numpy(dtype=np.float64)}

    return setup


def ours(p: float, rows: int) -> Any:
    return lambda data: lp_sensitivity_sampling(
        data["A"], data["b"], p=p, rows=rows, verify=False, rng=0
    )


def full(p: float) -> Any:
    return lambda data: lp_regression(data["A"], data["b"], p)


def quantile_regressor(data: dict[str, Any]) -> Any:
    from sklearn.linear_model import QuantileRegressor

    model = QuantileRegressor(quantile=0.5, alpha=0, solver="highs", fit_intercept=False)
    return model.fit(data["A"], data["b"])


def statsmodels_quantreg(data: dict[str, Any]) -> Any:
    import warnings

    from statsmodels.regression.quantile_regression import QuantReg

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that 1,000 iterations were not enough
        return QuantReg(data["b"], data["A"]).fit(q=0.5)


def cvxpy_clarabel(p: float) -> Any:
    def solve(data: dict[str, Any]) -> Any:
        import cvxpy as cp

        x = cp.Variable(data["A"].shape[1])
        problem = cp.Problem(cp.Minimize(cp.norm(data["A"] @ x - data["b"], p)))
        problem.solve(solver=cp.CLARABEL)
        return x.value

    return solve


def gaussian() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((100_000, 50))


CASES = [
    Case(
        name="least absolute deviations, diamonds 53,940×24, m = 1,500",
        setup=table("diamonds"),
        ours=ours(1.0, 1500),
        peers={"own dual LP, all rows": full(1.0), "statsmodels QuantReg": statsmodels_quantreg},
        repeats=3,
        target="≤ 1/3 of the dual LP on all rows",
        note="Scores, solution and certain gap; the cost of ours is 1.6 % above the optimum.",
    ),
    Case(
        name="least absolute deviations, randhie 20,190×10, m = 1,000",
        setup=table("randhie"),
        ours=ours(1.0, 1000),
        peers={
            "own dual LP, all rows": full(1.0),
            "statsmodels QuantReg": statsmodels_quantreg,
            "cvxpy with clarabel": cvxpy_clarabel(1.0),
            "sklearn QuantileRegressor": quantile_regressor,
        },
        repeats=2,
        target="≤ 1/15 of QuantileRegressor",
    ),
    Case(
        name="p = 1.5, diamonds 53,940×24, m = 1,500",
        setup=table("diamonds"),
        ours=ours(1.5, 1500),
        peers={"own Newton, all rows": full(1.5)},
        repeats=5,
        note="Newton on all rows is exact, and as fast or faster: sampling does not pay here.",
    ),
    Case(
        name="Lewis weights, p = 1, 100,000×50",
        setup=gaussian,
        ours=lambda A: lewis_weights(A, 1.0, tol=1e-3),
        peers={"one numpy.linalg.qr": lambda A: np.linalg.qr(A)},
        repeats=5,
        target="≤ 4 × one QR",
    ),
    Case(
        name="all sensitivities, p = 1.5, 100,000×50",
        setup=gaussian,
        ours=lambda A: sensitivities(A, 1.5),
        peers={"one numpy.linalg.qr": lambda A: np.linalg.qr(A)},
        repeats=3,
        target="seconds",
        note="pyqreg 0.4.2 has no wheel and did not build; coresets 0.2.0 knows only k-means and mixtures.",
    ),
]
