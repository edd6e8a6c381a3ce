"""One-loop φ³ theory at finite time after the interaction was switched on, each number with its error bar.

Problem: a young process (m·t not ≫ 1) or a state that is not thermal has no textbook self-energy, and
a logarithmically divergent loop inside a causal chain, regularised by hand, breaks causality.

Idea: on the finite-time path retarded and advanced functions multiply as at infinite time if the
product vanishes at infinity. So keep d = 4 − 2κ < 4, or multiply by a propagator first; subtract the
pole in the product; only then let κ go to 0.

Cost: closed forms for the vacuum, one-dimensional integrals for the medium: 10⁴ energies in
hundredths of a second, 10³ with a medium in tenths.

What is proven: a dispersion relation with its remainder, energy conservation by two routes, causality
in time, thermal balance, the late tadpole, and the error bars themselves against other
representations. Nothing here looks beyond one loop.

References
----------
I. Dadić, D. Klabučar. Causality and Renormalization in Finite-Time-Path Out-of-Equilibrium φ³ QFT.
Particles 2019, arXiv:2001.00124.
"""

from whp.qft._finite_time_path.certify import causality, split_of, tadpole_decay, vertex_of
from whp.qft._finite_time_path.composite import composite, self_energy_at, self_energy_time
from whp.qft._finite_time_path.field import Field
from whp.qft._finite_time_path.front_door import FiniteTimePath, finite_time_path
from whp.qft._finite_time_path.propagators import convolve, propagator
from whp.qft._finite_time_path.self_energy import self_energy
from whp.qft._finite_time_path.tadpole import Tadpole, oscillation, pairs, tadpole

__all__ = [
    "Field",
    "FiniteTimePath",
    "Tadpole",
    "causality",
    "composite",
    "convolve",
    "finite_time_path",
    "oscillation",
    "pairs",
    "propagator",
    "self_energy",
    "self_energy_at",
    "self_energy_time",
    "split_of",
    "tadpole",
    "tadpole_decay",
    "vertex_of",
]
