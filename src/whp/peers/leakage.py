"""Leakage by other libraries: dit's mutual information, libqif's Shannon leakage, OpenDP's randomised response."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from whp.experiment.benchmark import Peer
from whp.peers.privacy import opendp

__all__ = [
    "DIT",
    "DIT_MEASURE",
    "GUARDRAILS",
    "QIF",
    "dit_distribution",
    "dit_measure",
    "epsilon",
    "mutual_information",
    "shannon",
]


def dit_distribution(joint: np.ndarray) -> Any:
    """A joint law P(a, h) as dit holds it, outcomes without probability left out."""
    dit: Any = import_module("dit")
    a, h = np.nonzero(joint)
    outcomes = list(zip(a.tolist(), h.tolist(), strict=True))
    return dit.Distribution(outcomes, joint[a, h].tolist())


def dit_measure(distribution: Any) -> float:
    """I(A; H) of a distribution that is built, in nats."""
    dit: Any = import_module("dit")
    return float(dit.shannon.mutual_information(distribution, [0], [1])) * float(np.log(2))


def mutual_information(joint: np.ndarray) -> float:
    """I(A; H) by dit, distribution and measure, in nats."""
    return dit_measure(dit_distribution(joint))


def shannon(prior: np.ndarray, channel: np.ndarray) -> float:
    """Shannon leakage of a channel by libqif, in nats."""
    qif: Any = import_module("qif")
    return float(qif.measure.shannon.add_leakage(prior, channel)) * float(np.log(2))


def epsilon(kept: float, size: int) -> float:
    """ε of OpenDP's randomised response that keeps a category with probability `kept`."""
    made = opendp().m.make_randomized_response(list(range(size)), kept)
    return float(made.map(1))


DIT = Peer("dit, distribution and measure", mutual_information, "dit==2.3", "no restricted leakage")
DIT_MEASURE = Peer(
    "dit, the measure alone", dit_measure, "dit==2.3", "its distribution is built before"
)
QIF = Peer(
    "libqif Shannon leakage", shannon, "qif==1.6.0", "one channel; no conversations, no erasure"
)
GUARDRAILS = Peer(
    "llm-guard, nemoguardrails, garak",
    None,
    "llm-guard==0.3.16",
    "need models of a hub; they judge every message alone, and bound nothing over turns",
)
