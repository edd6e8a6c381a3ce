"""Fast least squares with an error bar on every coefficient.

Problem: ``x* = argmin ‖Ax − b‖₂`` for a tall n×d matrix A costs O(nd²), and cheap randomized
solvers bound the residual only, not how far any single coefficient is off.

Idea: a dense random sketch S of m ≪ n rows spreads every entry over all rows, so that the sketched
solution ``x̃ = argmin ‖SAx − Sb‖₂`` errs in every direction alike. Its error in one coordinate is
then √d smaller than its error in norm: ``‖x̃ − x*‖∞ ≤ (ε/√d) ‖b − Ax*‖ ‖A†‖`` with m ∝ ε⁻² d rows
up to logarithms. Given SA the error is normal in the limit (exactly so for a Gaussian sketch), so
the sketch alone yields an error bar for each coefficient, without x*.

Cost: O(nd log n + md²) time, in practice one pass over A; m(d + 1) numbers besides A. Where that is
not 1.5 times as fast as the exact solution by the Gram matrix, the exact solution is computed.

What is proven: Theorem 1.1 of Song, Ye, Yin & Zhang applies a coordinate-wise embedding to a
direction that depends on the sketch, so its proof for the subsampled Hadamard transform is
incomplete; m = ε⁻² d^{1+o(1)} is rigorous (Price, Song & Woodruff 2017). The balanced
Gaussian-pooled transform (``sketch="pooled"``) has a complete proof, the Gaussian sketch explicit
constants.

References
----------
Z. Song, M. Ye, J. Yin, L. Zhang. A Nearly-Optimal Bound for Fast Regression with ℓ∞ Guarantee. ICML
2023. arXiv:2302.00248.
E. Price, Z. Song, D. Woodruff. Fast Regression with an ℓ∞ Guarantee. ICALP 2017.
Z. Song, L. Zhang. Hadamard Flattening and Gaussian Pooling Sketch for Least Squares with
Coordinate-wise Guarantee. 2026.
"""

from whp.linalg._linf_regression.blocks import BlockSRHT
from whp.linalg._linf_regression.bounds import eps_explicit, rows_needed
from whp.linalg._linf_regression.estimator import SketchedLinearRegression
from whp.linalg._linf_regression.front_door import linf_regression, sketch_and_solve
from whp.linalg._linf_regression.hadamard import fwht
from whp.linalg._linf_regression.sketches import (
    SRHT,
    GaussianSketch,
    PooledHadamard,
    Sketch,
    SubsampledCirculant,
    TensorSRHT,
)
from whp.linalg._linf_regression.solution import LinfRegression
from whp.linalg._linf_regression.tensor import tensor_linf_regression

__all__ = [
    "SRHT",
    "BlockSRHT",
    "GaussianSketch",
    "LinfRegression",
    "PooledHadamard",
    "Sketch",
    "SketchedLinearRegression",
    "SubsampledCirculant",
    "TensorSRHT",
    "eps_explicit",
    "fwht",
    "linf_regression",
    "rows_needed",
    "sketch_and_solve",
    "tensor_linf_regression",
]
