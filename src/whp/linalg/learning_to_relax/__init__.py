"""Solver parameters learnt across a sequence of linear systems, from iteration counts alone.

Problem: a stream of related systems (time steps, sweeps, Newton steps) is solved by SOR, or by conjugate gradients with SSOR, whose
relaxation ω is left at 1, tuned by hand, or computed from an eigenvalue for every matrix.

Idea: take ω from a grid as a bandit takes arms, the cost being the iterations that the solve took. Tsallis-INF comes close to the
best fixed ω in hindsight; with a context (a shift, a diffusion coefficient) ChebCB comes close to the best ω of each system.

Cost: one pass over the matrix a sweep; tens of microseconds a system for the learner.

What is proven: the expected iterations above the best fixed ω, by a second-order bound that is executed on the run and needs no
range of costs; and for symmetric positive definite systems counts that are bounded beforehand. Multigrid beats every ω on a large
Poisson problem.

References
----------
M. Khodak, E. Chow, M.-F. Balcan, A. Talwalkar. Learning to Relax: Setting Solver Parameters Across a Sequence of Linear System
Instances. ICLR 2024. arXiv:2310.02246.
"""

from whp.linalg.learning_to_relax.sequence import (
    RelaxRun,
    learning_to_relax,
    run_grid,
    solve_sequence,
)
from whp.linalg.learning_to_relax.solvers import (
    SolveInfo,
    System,
    conjugate_gradients,
    sor,
    ssor_cg,
)
from whp.linalg.learning_to_relax.theory import (
    energy_bound,
    jacobi_radius,
    optimal_omega,
    sor_radius,
    ssor_bound,
    surrogate,
)
from whp.linalg.learning_to_relax.tuner import RelaxationTuner

__all__ = [
    "RelaxRun",
    "RelaxationTuner",
    "SolveInfo",
    "System",
    "conjugate_gradients",
    "energy_bound",
    "jacobi_radius",
    "learning_to_relax",
    "optimal_omega",
    "run_grid",
    "solve_sequence",
    "sor",
    "sor_radius",
    "ssor_bound",
    "ssor_cg",
    "surrogate",
]
