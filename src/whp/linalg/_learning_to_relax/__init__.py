"""Solver parameters learnt across a sequence of linear systems, from iteration counts alone.

Problem: a stream of related systems (time steps, sweeps, Newton steps) is solved by SOR, or by
conjugate gradients with SSOR, whose relaxation ω is left at 1, tuned by hand, or computed from an
eigenvalue for every matrix.

Idea: take ω from a grid as a bandit takes arms, the cost being the iterations that the solve took.
Tsallis-INF comes close to the best fixed ω in hindsight; with a context (a shift, a diffusion
coefficient) ChebCB comes close to the best ω of each system.

Cost: one pass over the matrix a sweep; tens of microseconds a system for the learner.

What is proven: expected regret, by second-order bounds that need no range of costs; they are
expectations, so the learner is replayed on the table of all counts where there is one. And for
symmetric positive definite systems counts that are bounded beforehand. Multigrid beats every ω on a
large Poisson problem.

References
----------
M. Khodak, E. Chow, M.-F. Balcan, A. Talwalkar. Learning to Relax: Setting Solver Parameters Across a
Sequence of Linear System Instances. ICLR 2024. arXiv:2310.02246.
J. Zimmert, Y. Seldin. Tsallis-INF: An Optimal Algorithm for Stochastic and Adversarial Bandits. JMLR
2021.
D. Foster, A. Rakhlin. Beyond UCB: Optimal and Efficient Contextual Bandits with Regression Oracles.
ICML 2020.
"""

from whp.linalg._learning_to_relax.bounds import energy_bound, ssor_bound
from whp.linalg._learning_to_relax.front_door import learning_to_relax
from whp.linalg._learning_to_relax.replay import Replay, replay_counts
from whp.linalg._learning_to_relax.result import RelaxRun
from whp.linalg._learning_to_relax.sequence import run_grid, solve_sequence
from whp.linalg._learning_to_relax.solvers import SolveInfo, conjugate_gradients, sor, ssor_cg
from whp.linalg._learning_to_relax.system import System
from whp.linalg._learning_to_relax.tuner import RelaxationTuner
from whp.linalg._learning_to_relax.young import jacobi_radius, optimal_omega, sor_radius, surrogate

__all__ = [
    "RelaxRun",
    "RelaxationTuner",
    "Replay",
    "SolveInfo",
    "System",
    "conjugate_gradients",
    "energy_bound",
    "jacobi_radius",
    "learning_to_relax",
    "optimal_omega",
    "replay_counts",
    "run_grid",
    "solve_sequence",
    "sor",
    "sor_radius",
    "ssor_bound",
    "ssor_cg",
    "surrogate",
]
