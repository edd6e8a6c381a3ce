"""The attack by decomposition, and the terms of what answers give away together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from scipy.special import entr

from whp.door import AtLeast, front_door
from whp.llm._information_censorship.leakage import Measure, plain, tensor
from whp.llm._information_censorship.system import System, named, read_system

__all__ = ["Terms", "composed", "decompose", "greedy"]


@dataclass(frozen=True)
class Terms:
    """Leakage of all questions together and what it is made of, nats.

    Attributes
    ----------
    single : float
        Σ_j of each answer alone.
    dependence : float
        Σ_j Σ_A P(a) I(Z_j; Z_{<j} | a).
    rest : float
        Σ_j max(0, −Σ_A P(a) E_a ln P(z_j|z_{<j})/P(z_j)); 0 where all answers are impermissible.
    joint : float
        Of all together.
    """

    single: float
    dependence: float
    rest: float
    joint: float


def composed(system: System, channels: Sequence[np.ndarray], mask: np.ndarray) -> Terms:
    """The terms of the composition theorem for channels (W, Z_j)."""
    P = system.probabilities

    def entropies(chosen: Sequence[np.ndarray]) -> tuple[float, float]:
        """Σ_A P(a) of the entropy of Q_a, and of its cross-entropy to the mixture R."""
        if not chosen:
            return 0.0, 0.0
        own = cross = 0.0
        R = tensor(system.prior, chosen)
        logs = np.log(R, out=np.zeros_like(R), where=R > 0)
        for a in np.flatnonzero(mask & (P > 0)):
            here = system.answer == a
            Q = tensor(system.prior[here] / P[a], [c[here] for c in chosen])
            own += P[a] * float(entr(Q).sum())
            cross -= P[a] * float(Q @ logs)
        return own, cross

    single = dependence = rest = 0.0
    before = (0.0, 0.0)
    for j in range(len(channels)):
        alone, until = entropies(channels[j : j + 1]), entropies(channels[: j + 1])
        single += alone[1] - alone[0]
        dependence += before[0] + alone[0] - until[0]
        rest += max(0.0, until[1] - before[1] - alone[1])
        before = until
    return Terms(single, max(dependence, 0.0), rest, before[1] - before[0])


def greedy(system: System, measure: Measure, k: int, most: int) -> tuple[list[int], list[float]]:
    """Questions in the order of the largest increase of their joint leakage, and that leakage.

    Raises
    ------
    TooMany
        If there are more histories than `most`.
    """
    chosen: list[int] = []
    gained: list[float] = []
    while len(chosen) < k:
        left = [j for j in range(len(system.sizes)) if j not in chosen]
        values = [plain(system.only([*chosen, j]), measure, most) for j in left]
        best = int(np.argmax(values))
        chosen.append(left[best])
        gained.append(values[best])
    return chosen, gained


@front_door
def decompose(
    table: Any,
    target: str | Sequence[Any] | np.ndarray | pd.Series = "target",
    *,
    k: Annotated[int, AtLeast(1)] = 3,
    prior: str | Sequence[Any] | np.ndarray | pd.Series | None = None,
    ask: str | Sequence[Any] | None = None,
    impermissible: str | Sequence[Any] = "all",
    strategy: Literal["greedy", "exhaustive"] = "greedy",
    max_cells: Annotated[int, AtLeast(1)] = 2_000_000,
) -> pd.DataFrame:
    """The innocent questions that together give away most of one that is refused.

    Parameters
    ----------
    table, target, prior, ask, impermissible
        As of :func:`information_censorship`.
    k : int
        How many questions.
    strategy : {"greedy", "exhaustive"}
        The largest increase each time, or all sets of k.
    max_cells : int
        Histories that are looked at at once; also the most sets of k.

    Returns
    -------
    DataFrame
        `question`, `alone` and `together` (nats of its own, and of all up to it), in the order asked.

    Raises
    ------
    ValueError
        If there are fewer than k questions, or too many sets.

    Examples
    --------
    >>> bits = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    >>> decompose(bits, [0, 1, 1, 0], k=2)["together"].round(4).tolist()
    [0.0, 0.6931]
    """
    system = read_system(table, target, prior, ask)
    measure = Measure(named(impermissible, system.names))
    J = len(system.sizes)
    if k > J:
        raise ValueError(f"k must be at most the {J} questions, got {k}")
    if strategy == "greedy":
        chosen, together = greedy(system, measure, k, max_cells)
    else:
        if math.comb(J, k) > max_cells:
            raise ValueError(
                f"max_cells: {math.comb(J, k):,} sets of {k} are more than {max_cells:,}"
            )
        sets = combinations(range(J), k)
        chosen = list(max(sets, key=lambda T: plain(system.only(T), measure, max_cells)))
        together = [plain(system.only(chosen[: i + 1]), measure, max_cells) for i in range(k)]
    alone = [plain(system.only([j]), measure, max_cells) for j in chosen]
    names = [system.questions[j] for j in chosen]
    gained = [max(t, 0.0) for t in together]
    return pd.DataFrame({"question": names, "alone": np.maximum(alone, 0.0), "together": gained})
