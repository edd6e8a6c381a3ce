"""Sketched least squares against exact solvers and other sketches."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg as sl

from whp.experiment.benchmark import Case
from whp.linalg._linf_regression import fwht, linf_regression


def problem(n: int, d: int) -> Any:
    def setup() -> dict[str, Any]:
        rng = np.random.default_rng(0)
        A = rng.standard_normal((n, d))
        return {"A": A, "b": A @ rng.standard_normal(d) + rng.standard_normal(n), "rows": 4 * d}

    return setup


def ours(sketch: str) -> Any:
    return lambda data: linf_regression(
        data["A"], data["b"], rows=data["rows"], sketch=sketch, rng=0
    )


def numpy_lstsq(data: dict[str, Any]) -> Any:
    return np.linalg.lstsq(data["A"], data["b"])


def scipy_gelsy(data: dict[str, Any]) -> Any:
    return sl.lstsq(data["A"], data["b"], lapack_driver="gelsy", check_finite=False)


def normal_equations(data: dict[str, Any]) -> Any:
    A, b = data["A"], data["b"]
    return sl.cho_solve(sl.cho_factor(A.T @ A, check_finite=False), A.T @ b, check_finite=False)


def countsketch(data: dict[str, Any]) -> Any:
    sketched = sl.clarkson_woodruff_transform(
        np.column_stack([data["A"], data["b"]]), data["rows"], seed=0
    )
    return sl.lstsq(sketched[:, :-1], sketched[:, -1], lapack_driver="gelsy", check_finite=False)


def sklearn_projection(data: dict[str, Any]) -> Any:
    from sklearn.random_projection import GaussianRandomProjection

    both = np.column_stack([data["A"], data["b"]])
    sketched = GaussianRandomProjection(data["rows"], random_state=0).fit_transform(both.T).T
    return sl.lstsq(sketched[:, :-1], sketched[:, -1], lapack_driver="gelsy", check_finite=False)


def torch_fwht(data: Any) -> Any:
    import torch
    from hadamard_transform import hadamard_transform

    return hadamard_transform(torch.from_numpy(data.T)).T


EXACT = {
    "numpy.linalg.lstsq": numpy_lstsq,
    "scipy.linalg.lstsq gelsy": scipy_gelsy,
    "normal equations": normal_equations,
}
SKETCHED = {"scipy clarkson_woodruff_transform": countsketch}

CASES = [
    Case(
        name="65,536×512, m = 2,048, SRHT",
        setup=problem(65536, 512),
        ours=ours("srht"),
        peers={**EXACT, **SKETCHED},
        repeats=5,
        target="≤ 0.2 × numpy.linalg.lstsq and ≤ 1.2 × normal equations",
        note="The exact solvers are exact; ours adds error bars to a sketched solution. The CountSketch has no error bars.",
    ),
    Case(
        name="65,536×512, m = 2,048, pooled",
        setup=problem(65536, 512),
        ours=ours("pooled"),
        peers=EXACT,
        repeats=3,
        note="The sketch whose proof is complete: it needs the whole transform.",
    ),
    Case(
        name="262,144×64, m = 256, SRHT",
        setup=problem(262144, 64),
        ours=ours("srht"),
        peers={**EXACT, **SKETCHED},
        repeats=5,
        note="Close to the break-even: up to 64 columns linf_regression solves exactly unless rows are asked for.",
    ),
    Case(
        name="262,144×16, m = 64, SRHT",
        setup=problem(262144, 16),
        ours=ours("srht"),
        peers={**EXACT, **SKETCHED},
        repeats=5,
        note="Few columns: a sketch has nothing to win here.",
    ),
    Case(
        name="16,384×128, m = 512, SRHT",
        setup=problem(16384, 128),
        ours=ours("srht"),
        peers={**EXACT, **SKETCHED, "sklearn GaussianRandomProjection": sklearn_projection},
        repeats=5,
    ),
    Case(
        name="fwht of 65,536×128",
        setup=lambda: np.random.default_rng(0).standard_normal((65536, 128)),
        ours=fwht,
        peers={"hadamard-transform (PyTorch)": torch_fwht},
        repeats=5,
        note="ristretto 0.1.2 does not build on Python 3.11; pylspack is not on PyPI; fast-hadamard-transform needs CUDA.",
    ),
]
