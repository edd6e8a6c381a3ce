"""What is promised of the chosen predictor, and what each promise rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from whp.certificate import Answer, Certificate
from whp.intervals import Estimate, exact
from whp.theorem import AT_MOST, POPULATION, THIS_RUN, Condition, Derived, Theorem

__all__ = [
    "ADDITIVE",
    "BEST",
    "BINS",
    "CERTIFIED",
    "CLASS",
    "GRAPH",
    "HIDDEN",
    "KEPT",
    "MUTABLE",
    "RANGE",
    "RISK",
    "ROWS",
    "RULE",
    "SELECTION",
    "SUPPORT",
    "THEOREMS",
    "WHOLE",
    "Evidence",
]

PAGE = "causal-minimax"
PAPER = "Liu et al. 2023"
TOLERANCE = 1e-10  # of sums of probabilities, in units of the largest loss
ALIKE = 1e-12  # of two predictions, in units of the target's range

GRAPH = Condition(
    "graph-is-right",
    "the graph is right: every edge that there is is drawn, in its direction",
    "draw the edge that is missing, or bin more finely: a binned cause does not screen off its effects. Copies of "
    "rows make dependence out of chance, too: leave them out.",
)
KEPT = Condition(
    "kept-mechanisms",
    "between environments nothing changes but the mechanisms of the mutable variables",
    "name the variable as mutable, or leave it and what follows from it out of the graph; if it is the "
    "target itself, nothing is promised.",
)
SUPPORT = Condition(
    "within-support",
    "an environment uses only supported combinations: of all mutable variables' values and their parents', seen "
    "together in half A, in no smaller share than support=",
    "add rows of such environments, or merge the values.",
)
HIDDEN = Condition(
    "no-hidden-cause",
    "no hidden variable acts on a mutable variable and on what follows from it, nor on the target and "
    "another variable of the graph",
    "add it to the table and the graph.",
)
ADDITIVE = Condition(
    "additive-equations",
    "every variable is a function of its parents plus noise that does not depend on them, and the fitted "
    "function is that one",
    "bin the columns (method='tabular').",
)
BINS = Condition(
    "within-bins",
    "a mechanism may move the shares of bins, not the distribution inside a bin",
    "take finer bins.",
)
ROWS = Condition(
    "independent-rows",
    "rows are independent draws from the population: no copies, no class balancing, no clusters",
    "leave out copies; take one row of each cluster.",
)
RANGE = Condition(
    "bounded-loss",
    "the target stays in its range, so that a squared error is at most its width squared",
    "give y_range= wide enough for all environments.",
)
MUTABLE = Condition(
    "something-mutable",
    "some variable is mutable, so that there is an adversary",
    "name the variables whose mechanism may change: mutable=.",
)
CERTIFIED = Condition(
    "certified-is-returned",
    "the predictor that is returned is the one fitted on half A that half B certifies",
    "leave refit=False to keep it.",
)
RULE = Condition(
    "no-child-below",
    "the target has no child among the descendants of its mutable children",
    "search the classes; the whole set may be beaten.",
)

RISK = Theorem(
    "worst-case-risk",
    "in every environment that differs from the sampled population only in the mechanisms of the mutable "
    "variables, on supported combinations of their values and their parents', the mean squared error of this "
    "predictor is at most U",
    "largest mean squared error over held-out environments, rows outside of the support counted as 0",
    AT_MOST,
    POPULATION,
    Derived(f"{PAGE}#risk", f"{PAPER}, minimax risk"),
    (GRAPH, KEPT, SUPPORT, HIDDEN, ADDITIVE, BINS, ROWS, RANGE, MUTABLE, CERTIFIED),
    needs="rows of environments that were not trained on (test_env=).",
    remedy="take more rows, or coarser bins: U pays for every cell of the parents. With several mutable "
    "variables that stable ones separate, or with method='regression', name one mutable variable, or bin "
    "the columns (method='tabular').",
)
SELECTION = Theorem(
    "selection",
    "the worst case of the chosen predictor exceeds that of the best of all classes, as fitted, by at most "
    "the bound",
    "worst case of the chosen predictor less the least one",
    AT_MOST,
    POPULATION,
    Derived(f"{PAGE}#selection"),
    (GRAPH, KEPT, SUPPORT, HIDDEN, ADDITIVE, BINS, ROWS, RANGE, MUTABLE, CERTIFIED),
    needs="the model itself: minimax_of_model.",
    remedy="take more rows.",
)
WHOLE = Theorem(
    "whole-set",
    "with the population's predictors no subset of the stable variables has a smaller worst case than all of "
    "them; that says nothing of predictors fitted on few rows",
    "worst case with all stable variables less the least one",
    AT_MOST,
    THIS_RUN,
    f"{PAPER}, Theorem 1",
    (GRAPH, KEPT, HIDDEN, RULE),
    needs="the model itself: minimax_of_model.",
)
BEST = Theorem(
    "best-of-all-subsets",
    "no subset of the stable variables has a smaller worst case in this model than the chosen one",
    "worst case of the chosen subset less the least of all subsets",
    AT_MOST,
    THIS_RUN,
    Derived(f"{PAGE}#worst-case", f"{PAPER}, minimax risk"),
    (GRAPH,),
    needs="fewer stable variables, or fewer functions from parents to values.",
)
CLASS = Theorem(
    "same-class",
    "subsets of one class predict alike",
    "largest difference between predictions of two members of a class, over the pairs that were drawn",
    AT_MOST,
    THIS_RUN,
    Derived(f"{PAGE}#classes", f"{PAPER}, equivalence of subsets"),
    (GRAPH,),
)
THEOREMS = (RISK, SELECTION, WHOLE, BEST, CLASS)


@dataclass(frozen=True)
class Evidence:
    """What the certificates of one table are made from; risks in the target's unit squared.

    Attributes
    ----------
    upper, trivial : float
        U of the chosen predictor, and the worst case of a constant on the same rows; infinite U where
        no limit is derived.
    gap : float
        U less the least lower limit, both at a level that pays for both sides.
    delta : float
        Failure probability of each.
    measured : Estimate or None
        Of held-out environments.
    answers : dict of str to Answer
        By the name of the condition.
    inputs : mapping
        What went into U.
    """

    upper: float
    trivial: float
    gap: float
    gap_trivial: float
    delta: float
    measured: Estimate | None
    answers: Mapping[str, Answer]
    inputs: Mapping[str, float | int | str]


def _for(theorem: Theorem, e: Evidence) -> tuple[Answer, ...]:
    return tuple(e.answers[c.name] for c in theorem.conditions)


def risk(e: Evidence) -> Certificate:
    """The upper limit of the worst case against environments that were held out."""
    return RISK(
        bound=e.upper,
        confidence=1 - e.delta,
        trivial=e.trivial,
        measured=e.measured,
        answers=_for(RISK, e),
        inputs=e.inputs,
    )


def selection(e: Evidence) -> Certificate:
    """How far the choice may be from the best; never measured on rows."""
    return SELECTION(
        bound=e.gap,
        confidence=1 - e.delta,
        trivial=e.gap_trivial,
        answers=_for(SELECTION, e),
        inputs={"δ of either side": e.delta / 3, **e.inputs},
    )


def whole_on_rows(e: Evidence, rule: Answer, spread: float) -> Certificate:
    """Theorem 1 for a table: about the population's predictors, which rows do not show."""
    return WHOLE.variant(scope=POPULATION)(
        bound=0.0,
        confidence=1.0,
        trivial=spread,
        answers=(e.answers[GRAPH.name], e.answers[KEPT.name], e.answers[HIDDEN.name], rule),
    )


def whole_of_model(
    graph: Answer,
    kept: Answer,
    hidden: Answer,
    rule: Answer,
    low: float,
    high: float,
    trivial: float,
    unit: float,
) -> Certificate:
    """Theorem 1 for a given model."""
    return WHOLE(
        bound=TOLERANCE * unit,
        confidence=1.0,
        trivial=trivial,
        measured=Estimate.between(low, high, method="exact"),
        answers=(graph, kept, hidden, rule),
    )


def best_of_model(
    graph: Answer, low: float, high: float, trivial: float, unit: float, subsets: int
) -> Certificate:
    """The chosen subset against all others, not only one of each class."""
    return BEST(
        bound=TOLERANCE * unit,
        confidence=1.0,
        trivial=trivial,
        measured=Estimate.between(low, high, method="exact"),
        answers=(graph,),
        inputs={"subsets": subsets},
    )


def same_class(graph: Answer, difference: float, pairs: int, width: float) -> Certificate:
    """Members of a class in a given model."""
    return CLASS(
        bound=ALIKE * width,
        confidence=1.0,
        trivial=width,
        measured=exact(difference),
        answers=(graph,),
        inputs={"pairs": f"{pairs} drawn, not all"},
    )
