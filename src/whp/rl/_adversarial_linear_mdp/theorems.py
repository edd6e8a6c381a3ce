"""What is promised of the expected regret, and of the learner at each state."""

from __future__ import annotations

from collections.abc import Iterable

from whp.certificate import Answer, Certificate, Scalar
from whp.intervals import Estimate, exact
from whp.theorem import AT_MOST, ON_AVERAGE, THIS_RUN, Condition, Derived, Theorem

__all__ = [
    "CONSTANT_RATE",
    "EXTREMES",
    "FTRL_HEDGE",
    "FTRL_LOG_BARRIER",
    "LINEAR",
    "MOVES",
    "OBLIVIOUS",
    "RANGE",
    "REGRET_LOG_BARRIER",
    "REGRET_MAGNITUDE_REDUCED",
    "THEOREMS",
    "THETA",
    "TUNING",
    "WORLD",
]

SLUG = "adversarial-linear-mdp"
PAPER = "Dai et al. 2023"

RANGE = Condition("range", "losses lie in loss_range, whose ends were known before")
LINEAR = Condition(
    "linear",
    "laws of the next state and losses are linear in the features",
    remedy="richer features; one-hot ones (from_tabular) are linear whatever the problem.",
)
THETA = Condition(
    "coefficients",
    "action values of every policy played have coefficients of norm at most √d H",
    remedy="scale the features up to norm 1.",
)
TUNING = Condition(
    "tuning",
    "rates, bonus and covariance are the theory's for exactly the episodes played, all along",
    remedy="eta='theory', covariance='exact', and n_episodes that are all played.",
)
EXTREMES = Condition(
    "extremes",
    "bonuses and estimates times the learning rate stay within what the theory allows",
    remedy="eta='theory'.",
)
OBLIVIOUS = Condition(
    "oblivious",
    "losses are a function of episode, step, state and action that was fixed before the first one",
    remedy="nothing is known of the regret where losses react to the policy.",
)
WORLD = Condition(
    "world",
    "episodes are drawn by the policies from the model's start and transitions",
    remedy="estimate the transitions anew, and play the actions that act() draws.",
)
CONSTANT_RATE = Condition(
    "constant-rate",
    "method and learning rate were the same in all episodes",
    remedy="one method and eta for a run.",
)
MOVES = Condition(
    "moves",
    "η (Q̂ − B) never falls below −1",
    remedy="a smaller eta, or method='magnitude-reduced' or 'log-barrier'.",
)

REGRET_LOG_BARRIER = Theorem(
    "regret-log-barrier",
    claim="the expected regret to the best fixed policy is at most H A ln K/η + η d K (2eH⁵ + 12H³) + "
    "H²(1 + 2√d) + 1/η",
    quantity="mean regret of the replays, in units of the losses",
    relation=AT_MOST,
    scope=ON_AVERAGE,
    source=Derived(f"{SLUG}#regret", extends=f"{PAPER}, Theorem on log-barrier"),
    conditions=(RANGE, LINEAR, THETA, TUNING, EXTREMES, OBLIVIOUS, WORLD),
    needs="the full table of losses and n_runs of 8 or more (100 for an interval that tells something): "
    "who sees only the travelled path does not know the best fixed policy.",
    remedy="more episodes: the bound grows like √K, what can be lost like K; method='magnitude-reduced' "
    "where there are many actions.",
)
REGRET_MAGNITUDE_REDUCED = REGRET_LOG_BARRIER.variant(
    name="regret-magnitude-reduced",
    claim="the expected regret to the best fixed policy is at most H ln A/η + η d K (4eH⁵ + 96H³)",
    source=Derived(f"{SLUG}#regret", extends=f"{PAPER}, Theorem on magnitude-reduced estimators"),
    remedy="more episodes: the bound grows like √K, what can be lost like K.",
)
FTRL_LOG_BARRIER = Theorem(
    "ftrl-log-barrier",
    claim="at every state Σ ⟨π_k − p′, Q̂_k − B_k⟩ is at most (A − 1) ln K/η + (η/2) Σ ⟨π_k, (Q̂_k − B_k)²⟩, p′ "
    "the best action mixed with 1/K of all",
    quantity="the left side where it comes nearest to the right, in its own estimates",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived(f"{SLUG}#ftrl", extends=f"{PAPER}, refined analysis of the log-barrier"),
    conditions=(CONSTANT_RATE,),
    remedy="more episodes make it tell something; where it fails, the policies are not the algorithm's: do "
    "not use them.",
)
FTRL_HEDGE = FTRL_LOG_BARRIER.variant(
    name="ftrl-hedge",
    claim="at every state Σ ⟨π_k − p, Q̂_k − B_k⟩ is at most ln A/η + η Σ ⟨π_k, (Q̂_k − B_k)²⟩, p the best "
    "action",
    source=Derived(f"{SLUG}#ftrl"),
    conditions=(CONSTANT_RATE, MOVES),
)
THEOREMS = (REGRET_LOG_BARRIER, REGRET_MAGNITUDE_REDUCED, FTRL_LOG_BARRIER, FTRL_HEDGE)

CLOSE = 1e-9  # of the right side: rounding of sums over all episodes


def regret(
    theorem: Theorem,
    bound: float,
    trivial: float,
    measured: Estimate | None,
    answers: Iterable[Answer],
    inputs: dict[str, Scalar],
) -> Certificate:
    """The expected regret; a statement on the mean over replays."""
    return theorem(
        bound=bound,
        confidence=1.0,
        trivial=trivial,
        measured=measured,
        answers=answers,
        inputs=inputs,
    )


def ftrl(
    theorem: Theorem,
    left: float,
    right: float,
    trivial: float,
    answers: Iterable[Answer],
    inputs: dict[str, Scalar],
) -> Certificate:
    """The regret of one state's learner in its own estimates."""
    return theorem(
        bound=right * (1 + CLOSE),
        confidence=1.0,
        trivial=trivial,
        measured=exact(left),
        answers=answers,
        inputs=inputs,
    )
