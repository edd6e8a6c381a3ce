"""What is promised of censored answers, and what each promise rests on."""

from __future__ import annotations

import math
from dataclasses import dataclass

from whp.certificate import Answer, Certificate
from whp.intervals import Estimate
from whp.llm._information_censorship.mechanism import Censor
from whp.theorem import (
    AT_LEAST,
    AT_MOST,
    COMPUTED,
    FITTED,
    ON_AVERAGE,
    THIS_RUN,
    Condition,
    Derived,
    Theorem,
)

__all__ = [
    "ADVERSARY",
    "COINS",
    "COMPOSITION",
    "ERASED",
    "IGNORES",
    "LEAKAGE",
    "LIMIT",
    "PRIOR",
    "ROWS",
    "SIDE",
    "SWAPPED",
    "TABLE",
    "THEOREMS",
    "UTILITY",
    "WHOLE",
    "WITHIN",
    "Evidence",
]

PAGE = "information-censorship"
PAPER = "Glukhov et al. 2025"

COINS = Condition(
    "independent-coins",
    "coins have the probability that the bound is of, and are independent of world, response, history and each other",
    "draw a coin of that probability for every question, before the answer is looked at, and keep answers that were returned.",
)
LIMIT = Condition(
    "at-most-k",
    "one adversary gets at most k answers, over all accounts together",
    "count interactions of all accounts of a person, or calibrate for a larger k.",
)
PRIOR = Condition(
    "known-prior",
    "the adversary's prior is among those that the budget was calibrated for",
    "calibrate with priors='any'.",
)
SIDE = Condition(
    "no-side-channel",
    "nothing but the returned text tells of an erased answer: neither latency nor the length of a refusal",
    "answer behind the coin in any case, and refuse in the same words after the same time.",
)
TABLE = Condition(
    "true-table",
    "the table is the system that answers: all worlds, P(response | world) known, not estimated, and no response depending on "
    "another one but through the world",
    "calibrate with 'universal', which needs no table.",
)
IGNORES = Condition(
    "silence-is-ignored",
    "the adversary's belief does not move at silence",
    "take an adversary that is not shown what was refused.",
)
WHOLE = Condition(
    "all-answers", "all answers of the target are impermissible", "say impermissible='all'."
)
WITHIN = Condition(
    "within-budget", "what is returned leaks at most ε", "take mechanism 'erase' or 'krr'."
)

LEAKAGE = Theorem(
    "leakage",
    "an adversary who asks k of these questions, each by what came before, gains at most ε of impermissible information",
    "expected impermissible leakage of the returned answers, nats",
    AT_MOST,
    ON_AVERAGE,
    f"{PAPER}, (k, ε)-information censorship",
    (COINS, LIMIT, PRIOR, SIDE, TABLE),
    needs="fewer histories than max_cells, or one more sample (n_mc).",
    remedy="take mechanism 'erase' or 'krr', a smaller ε, or fewer questions.",
)
# Of rows drawn from a population prior and leakage are estimates.
ROWS = LEAKAGE.variant(
    name="leakage-of-these-rows",
    scope=FITTED,
    conditions=(COINS, LIMIT, PRIOR, SIDE),
    claim="were these rows all worlds, an adversary who asks k of these questions would gain at most ε",
)
ERASED = Theorem(
    "universal-erasure",
    "whatever system answers, and whatever k questions are asked, one by one, at most (1 − (1 − p)^k) H is gained",
    "impermissible leakage of the returned answers, nats",
    AT_MOST,
    ON_AVERAGE,
    Derived(f"{PAGE}#erasure", f"{PAPER}, randomised response"),
    (COINS, LIMIT, PRIOR, SIDE),
    needs="a table P(response | world) of the system.",
    remedy="take a smaller ε: silence must be more frequent.",
)
SWAPPED = ERASED.variant(
    name="universal-swapping",
    claim="whatever system answers, and whatever k questions are asked, one by one, at most the bound of k swapped answers "
    "is gained: P(A) kη tanh(η/2) in the mean, kη in the worst case",
    source=Derived(f"{PAGE}#swapping"),
)
COMPOSITION = Theorem(
    "composition",
    "together the returned answers give away at most what each gives away alone, what they depend on each other given the "
    "impermissible answer, and what restricting the answers takes away",
    "expected impermissible leakage of all returned answers, nats",
    AT_MOST,
    ON_AVERAGE,
    Derived(f"{PAGE}#composition", f"{PAPER}, Theorem 5.3"),
    (COINS, TABLE),
    needs="fewer histories than max_cells.",
)
UTILITY = Theorem(
    "utility",
    "whoever keeps what leaks of A within ε leaves honest users at least I(A; B) − ε uncertain of B",
    "H(B | returned answers), nats",
    AT_LEAST,
    ON_AVERAGE,
    Derived(f"{PAGE}#utility", f"{PAPER}, Theorems 5.6 and 5.7"),
    (WHOLE, WITHIN, TABLE),
    remedy="nothing is promised where A and B share no more than ε.",
)
ADVERSARY = Theorem(
    "adversary",
    "an adversary of any kind, overconfident ones too, gains at most (1 − (1 − p)^k) max ln 1/p₀ in the mean over coins",
    "mean impermissible leakage of its probability vectors, nats",
    AT_MOST,
    ON_AVERAGE,
    Derived(f"{PAGE}#adversary"),
    (COINS, LIMIT, IGNORES),
    needs="more conversations.",
)
THEOREMS = (LEAKAGE, ROWS, ERASED, SWAPPED, COMPOSITION, UTILITY, ADVERSARY)


def computed(value: float) -> Estimate:
    """An expectation that was summed over all coins, responses and worlds."""
    return Estimate(value, value, value, 1.0, None, COMPUTED)


def rounded(bound: float) -> float:
    """A bound that sums of rounded numbers are compared with: T1 and 'exact' are equalities."""
    return bound * (1 + 1e-9) + 1e-12


@dataclass(frozen=True)
class Evidence:
    """What the certificates of one table are made from.

    Attributes
    ----------
    k : int
        Interactions.
    eps, ceiling, uncensored : float
        Budget, H, and the leakage of the same questions without a censor, nats.
    measured : Estimate or None
        Leakage of what is returned, by another route than the calibration took.
    coins, limit, prior, side, table : Answer
        To the conditions that the leakage rests on.
    """

    k: int
    eps: float
    ceiling: float
    uncensored: float
    measured: Estimate | None
    coins: Answer
    limit: Answer
    prior: Answer
    side: Answer
    table: Answer
    kind: str
    how: str
    delta: float = 0.0


def leakage(e: Evidence, *, sample: bool = False) -> Certificate:
    """The demand ε against the exact leakage; of a sample it is about its rows."""
    theorem = ROWS if sample else LEAKAGE
    if e.kind == "pointwise":
        theorem = theorem.variant(
            quantity="largest ln p(a|h)/p(a) over all that can be returned",
            scope=FITTED if sample else THIS_RUN,
        )
    elif e.kind != "expected":
        theorem = theorem.variant(
            quantity=f"{e.kind} impermissible leakage of the returned answers, nats"
        )
    answers = (e.coins, e.limit, e.prior, e.side)
    return theorem(
        bound=rounded(e.eps),
        confidence=1.0,
        trivial=min(e.ceiling, e.uncensored),
        measured=e.measured,
        inputs={
            "ε": e.eps,
            "k": e.k,
            "H": e.ceiling,
            "without a censor": e.uncensored,
            "calibrated": e.how,
        },
        answers=answers if sample else (*answers, e.table),
    )


def universal(
    censor: Censor, measured: Estimate | None, answers: tuple[Answer, ...]
) -> Certificate:
    """The bound that needs no table."""
    theorem = ERASED if censor.name == "erase" else SWAPPED
    strength = {"p": censor.strength} if censor.name == "erase" else {"η": censor.strength}
    return theorem(
        bound=rounded(censor.bound),
        confidence=1.0,
        trivial=censor.ceiling,
        measured=measured,
        inputs={**strength, "k": censor.k, "H": censor.ceiling, "P(A)": censor.mass},
        answers=answers,
    )


def composition(
    single: float,
    dependence: float,
    rest: float,
    ceiling: float,
    joint: float,
    table: Answer,
    coins: Answer,
) -> Certificate:
    """The sum of single leakages is no bound; with dependence and the rest it is."""
    return COMPOSITION(
        bound=rounded(single + dependence + rest),
        confidence=1.0,
        trivial=ceiling,
        measured=computed(joint),
        inputs={"each alone, summed": single, "dependence": dependence, "of restricting": rest},
        answers=(coins, table),
    )


def utility(
    eps: float, shared: float, left: float, leaked: float, whole: bool, table: Answer
) -> Certificate:
    """What a budget must cost those who want to know B."""
    return UTILITY(
        bound=shared - eps - 1e-12 * (1 + shared),
        confidence=1.0,
        trivial=0.0,
        measured=computed(left),
        inputs={"I(A; B)": shared, "ε": eps},
        answers=(
            WHOLE.check(whole, "all answers" if whole else "some answers only"),
            WITHIN.check(leaked <= rounded(eps), f"{leaked:.6g} of {eps:.6g}"),
            table,
        ),
    )


def adversary(
    censor: Censor, most: float, measured: Estimate, answers: tuple[Answer, ...]
) -> Certificate:
    """Probability vectors of a black box against the bound that overconfidence respects."""
    share = censor.strength
    once = -math.expm1(censor.k * math.log1p(-share)) if share < 1 else 1.0
    return ADVERSARY(
        bound=rounded(once * most),
        confidence=1.0,
        trivial=most,
        measured=measured,
        inputs={"p": share, "k": censor.k, "mean of max ln 1/p₀": most},
        answers=answers,
    )
