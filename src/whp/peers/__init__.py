"""Peers: what other libraries and papers offer for the same work, for studies, benchmarks and tests.

A module a family; each peer says how it is called, which pin it needs and, if it cannot be installed, why.
"""

from whp.experiment.benchmark import Foreign, Peer

__all__ = ["Foreign", "Peer"]
