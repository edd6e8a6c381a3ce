"""Private answers after every record of a stream, what they must cost, and an audit that attacks them.

Problem: records arrive one by one, and after each an answer leaves: all running counts, the largest one (MaxSum), or which column
leads (SumSelect). Noise at every step costs √T; a library for single tables has spent its budget after a day.

Idea: each record touches only few noisy numbers, whose noise is drawn once and kept: the nodes of a binary tree, the rows of a
square root of the prefix-sum matrix, or one release every r records. The plan takes the smallest error bound, from public numbers
alone. The paper shows that MaxSum and SumSelect over many columns must nevertheless cost T^{1/3} (ρ-zCDP) or √T (pure): a lower
bound is evaluated with its constants.

Cost: recompute O(d) a record; tree O(d) noise a record and O(d log T) memory; the square root O(d log² T) a record and O(dT)
memory. Noise is integer and exact, above a million draws a second.

What is proven: privacy by composition, also for adaptive streams; error bounds by union bounds; the lower bound by group privacy
and Fano's inequality in the place of the paper's fingerprinting. Constants are derived here.

References
----------
P. Jain, S. Raskhodnikova, S. Sivakumar, A. Smith. The Price of Differential Privacy under Continual Observation. ICML 2023.
arXiv:2112.00828.
C. Canonne, G. Kamath, T. Steinke. The Discrete Gaussian for Differential Privacy. NeurIPS 2020.
C. Dwork, M. Naor, T. Pitassi, G. Rothblum. Differential Privacy under Continual Observation. STOC 2010.
H. Fichtenberger, M. Henzinger, J. Upadhyay. Constant Matters: Fine-grained Error Bound on Differentially Private Continual
Observation. ICML 2023.
"""

from whp.privacy._dp_continual_release.accuracy import ReleasePlan, plan_release
from whp.privacy._dp_continual_release.audit import PrivacyAudit, audit_release
from whp.privacy._dp_continual_release.budget import (
    Budget,
    epsilon_of_rho,
    gaussian_epsilon,
    rho_of_epsilon,
)
from whp.privacy._dp_continual_release.front_door import release_stream
from whp.privacy._dp_continual_release.mechanisms import (
    ContinualArgmax,
    ContinualCounter,
    ContinualMaxSum,
    Mechanism,
)
from whp.privacy._dp_continual_release.noise import Noise, discrete_gaussian, discrete_laplace
from whp.privacy._dp_continual_release.price import Price, hard_stream, marginals, price
from whp.privacy._dp_continual_release.result import PrivateStream
from whp.privacy._dp_continual_release.state import StateFile

__all__ = [
    "Budget",
    "ContinualArgmax",
    "ContinualCounter",
    "ContinualMaxSum",
    "Mechanism",
    "Noise",
    "Price",
    "PrivacyAudit",
    "PrivateStream",
    "ReleasePlan",
    "StateFile",
    "audit_release",
    "discrete_gaussian",
    "discrete_laplace",
    "epsilon_of_rho",
    "gaussian_epsilon",
    "hard_stream",
    "marginals",
    "plan_release",
    "price",
    "release_stream",
    "rho_of_epsilon",
]
