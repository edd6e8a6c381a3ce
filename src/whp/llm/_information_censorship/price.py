"""What a censor costs honest users: true answers that leave, laws that are bent, and what they can still learn of B."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import entr

from whp.llm._information_censorship.leakage import tensor
from whp.llm._information_censorship.mechanism import output
from whp.llm._information_censorship.system import System

__all__ = ["left", "shared", "utility"]


def utility(
    system: System, matrices: Sequence[np.ndarray], k: int, benign: np.ndarray | None, most: int
) -> dict[str, float]:
    """Share of answers that leave as they are, distance of laws, and what honest users learn from the first k questions."""
    kept = distance = 0.0
    for channel, matrix in zip(
        output(system, [np.eye(s) for s in system.sizes]), matrices, strict=True
    ):
        size = matrix.shape[0]
        truth = np.zeros((size, max(size, matrix.shape[1])))
        truth[:, :size] = np.eye(size)
        back = np.zeros_like(truth)
        back[:, : matrix.shape[1]] = matrix
        if matrix.shape[1] == 1 and size > 1:  # never answered
            back = np.hstack([np.zeros((size, size)), np.ones((size, 1))])
            truth = np.hstack([truth, np.zeros((size, 1))])
        law = system.prior @ channel
        kept += float(law @ np.diag(back[:, :size]))
        distance += float(system.prior @ np.abs(channel @ back - channel @ truth).sum(axis=1))
    J = len(matrices)
    made = {"true_answers": kept / J, "distance_of_laws": distance / J}
    if benign is not None and math.prod(m.shape[1] for m in matrices[:k]) <= most:
        part = system.only(range(k))
        if len(benign) == len(system.prior):
            rest, accuracy = left(part, matrices[:k], benign)
            made |= {"accuracy_of_honest_users": accuracy, "uncertain_of_benign": rest}
    return made


def shared(system: System, benign: np.ndarray) -> float:
    """I(A; B)."""
    P = np.zeros((len(system.names), int(benign.max()) + 1))
    np.add.at(P, (system.answer, benign), system.prior)
    return max(_entropy(P.sum(axis=0)) + _entropy(P.sum(axis=1)) - _entropy(P.ravel()), 0.0)


def left(system: System, matrices: Sequence[np.ndarray], benign: np.ndarray) -> tuple[float, float]:
    """H(B | returned), and the accuracy of the best guess of B."""
    P = _joint(system, matrices, benign)
    return max(_entropy(P.ravel()) - _entropy(P.sum(axis=0)), 0.0), float(P.max(axis=0).sum())


def _joint(system: System, matrices: Sequence[np.ndarray], benign: np.ndarray) -> np.ndarray:
    """P(b, returned), shape (B, ΠZ_j)."""
    channels = output(system, matrices)
    return np.stack(
        [
            tensor(system.prior[benign == b], [c[benign == b] for c in channels])
            for b in range(int(benign.max()) + 1)
        ]
    )


def _entropy(p: np.ndarray) -> float:
    return float(entr(p).sum())
