"""What answering continually must cost: a lower bound on the error of every private mechanism, with its constants.

The hard stream (after the paper's reduction from marginals): n rows that all equal a secret v ∈ {0, 1}^d; then for each column j
n rows e_j, and n rows 1 − e_j. After the j-th block of e_j MaxSum is S_j + jn, so an error below n/2 at all times reveals v; but n
records carry at most n²ρ (or nε) of information about v, and Fano's inequality needs (1 − β) d ln 2 − ln 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from whp.privacy._dp_continual_release.accuracy import Query, ReleasePlan, plan_release
from whp.validate import as_choice, as_int, as_matrix, as_vector

__all__ = ["Price", "batch_bound", "hard_stream", "lower_bound", "marginals", "price"]


@dataclass(frozen=True)
class Price:
    """The price of continual observation.

    Attributes
    ----------
    lower : float
        No private mechanism errs by less at all times with probability 1 − β.
    upper : float
        Error bound of the best mechanism here.
    batch : float
        Error bound of one release at the end: what answering once would cost.
    n, d : int
        Size of the hard stream behind `lower`: secret records, columns.
    """

    lower: float
    upper: float
    batch: float
    n: int
    d: int

    @property
    def ratio(self) -> float:
        """Upper over lower."""
        return self.upper / self.lower if self.lower else math.inf


def lower_bound(
    query: str, T: int, d: int, size: float, *, pure: bool = False, beta: float = 0.05
) -> tuple[float, int, int]:
    """Largest n/2 for which the hard stream fits, with its n and number of columns; zero where none does.

    Parameters
    ----------
    query : {"maxsum", "sumselect"}
        SumSelect needs one more column, and n/2 more rows to lift it.
    T, d : int
        Longest stream, and columns that a stream may have.
    size : float
        ρ, or ε where `pure`.
    pure : bool
        Which of them.
    beta : float
        Probability of a larger error that is allowed.
    """
    best = (0.0, 0, 0)
    if query == "counts":
        return best
    spare = 1 if query == "sumselect" else 0
    n = 1
    while True:
        carried = n * size if pure else n * n * size
        columns = math.floor((carried / math.log(2) + 1) / (1 - beta)) + 1
        if columns + spare > d or 2 * n * columns + spare * math.ceil(n / 2) > T:
            return best
        best = (n / 2, n, columns)
        n += 1


def price(
    query: Query,
    T: int,
    d: int,
    *,
    rho: float | None = None,
    epsilon: float | None = None,
    delta: float | None = None,
    beta: float = 0.05,
) -> Price:
    """Lower and upper bound on the error of a query at all times, and that of answering once.

    Parameters
    ----------
    query, T, d, rho, epsilon, delta, beta
        As in :func:`plan_release`.

    Raises
    ------
    ValueError
        As there; and for "counts", whose price is polylogarithmic and has no such bound.
    """
    as_choice(query, "query", ("maxsum", "sumselect"))
    plan = plan_release(query, T, d, rho=rho, epsilon=epsilon, delta=delta, beta=beta)
    b, pure = plan.budget.size, plan.budget.pure
    lower, n, columns = lower_bound(query, T, d, b, pure=pure, beta=beta)
    return Price(lower, plan.bound, batch_bound(plan), n, columns)


def batch_bound(plan: ReleasePlan) -> float:
    """Error bound of answering MaxSum or SumSelect once, at the end, with the whole budget."""
    b, pure, beta = plan.budget.size, plan.budget.pure, plan.beta
    if plan.query == "maxsum":
        return (
            math.log(2 / (beta * (1 + math.exp(-b)))) / b
            if pure
            else math.sqrt(math.log(2 / beta) / b)
        )
    return 2 / (b if pure else math.sqrt(8 * b)) * math.log(plan.d / beta)


def hard_stream(secret: Any) -> UInt8[np.ndarray, "T d"]:
    """The stream of 2nd rows whose MaxSum answers give away the column sums of a 0/1 matrix.

    Parameters
    ----------
    secret : array_like, shape (n, d)
        Zeros and ones.
    """
    rows = as_matrix(secret, "secret")
    if not np.isin(rows, (0, 1)).all():
        raise ValueError("secret must hold zeros and ones")
    n, d = rows.shape
    blocks = [rows.astype(np.uint8)]
    for j in range(d):
        one = np.zeros((n, d), dtype=np.uint8)
        one[:, j] = 1
        blocks += [one, 1 - one]
    return np.concatenate(blocks[:-1])  # the last complement would tell nothing


def marginals(answers: Any, n: int, d: int) -> Float[np.ndarray, " d"]:
    """Column sums of the secret from MaxSum answers on :func:`hard_stream`, as exact as the answers.

    Parameters
    ----------
    answers : array_like, shape (2nd,)
        One a row of the stream.
    n, d : int
        Shape of the secret.
    """
    n, d = as_int(n, "n", low=1), as_int(d, "d", low=1)
    told = as_vector(answers, "answers", size=2 * n * d)
    # After block j every column has had jn more, the j-th all of it in the form of ones.
    return told[2 * n * np.arange(1, d + 1) - 1] - n * np.arange(1, d + 1)
