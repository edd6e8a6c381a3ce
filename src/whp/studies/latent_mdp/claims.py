"""What is claimed, and how it is measured from the records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from whp.experiment.measures import difference, least, mean, ratio, share, slope
from whp.experiment.study import Claim, select
from whp.result import PALETTE
from whp.studies.latent_mdp.experiments import study

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["CLAIMS", "FIGURES"]

NONE = "not in the paper"
HORIZON = "regret without the horizon, but for logarithms"
VAR = "regret √(Var* M Γ S A K) + M S² A"
LOWER = "lower bound Ω(√(V M S A K))"
BOUND = "Kwon et al. 2021: regret √(M S² A H K)"


def of(experiment: str, **wanted: Any) -> dict[str, Any]:
    """Rows of an experiment."""
    return {"experiment": experiment, **wanted}


def wine(solver: str) -> dict[str, Any]:
    return of("tests on wine", solver=solver)


SCALED = "At scale .1 nothing is certified; the instance and the scale are ours."

CLAIMS = study.claims(
    Claim(
        "C1a",
        "Regret of value-optimistic learning does not grow with the horizon.",
        HORIZON,
        "regret at H = 16 over that at H = 4, bonuses at .1",
        at_most=1.3,
        measure=mean("ratio", of("horizons", solver="mvp .1")),
        note=SCALED,
        threshold_set="before",
    ),
    Claim(
        "C1b",
        "That of L-UCRL does.",
        BOUND,
        "regret at H = 16 over that at H = 4, bonuses at .1",
        at_least=2.0,
        measure=mean("ratio", of("horizons", solver="l1 .1")),
        note=f"{SCALED} At H = 4 and 8 L-UCRL has the smaller regret.",
        threshold_set="before",
    ),
    Claim(
        "C2a",
        "Where next states are certain, regret stops growing.",
        VAR,
        "regret of the second half of the episodes",
        at_most=1.0,
        measure=mean("certain_after_half", of("spread")),
        threshold_set="before",
    ),
    Claim(
        "C2b",
        "Else it grows no faster than √K by much.",
        VAR,
        "regret after four times the episodes",
        at_most=2.3,
        measure=mean("noisy_four_times", of("spread")),
        note="√K would be 2; the claim allows logarithms.",
        threshold_set="before",
    ),
    Claim(
        "C3a",
        "On the lower bound's family regret grows like √K.",
        LOWER,
        "slope of log regret over log K, M = 2, posterior sampling",
        at_most=0.62,
        measure=slope("regret", "K", of("lower", solver="posterior", M=2)),
        threshold_set="before",
    ),
    Claim(
        "C4",
        "No solver beats the lower bound.",
        LOWER,
        "mean regret in units of √(Var* M S A K), posterior sampling",
        at_least=0.02,
        measure=mean("floor", of("lower", solver="posterior")),
        threshold_set="before",
    ),
    Claim(
        "C5",
        "Remembering is worth something.",
        NONE,
        "value of the best plan over histories of the worked model",
        at_least=0.6125 + 1e-6,
        measure=least("best", of("history")),
        note="The best plan that forgets earns .6125, one that is told the context .6826.",
        computed=True,
        threshold_set="before",
    ),
    Claim(
        "C6a",
        "Without exploration learning sticks to the commonest label.",
        NONE,
        "regret of greedy plans less that of posterior sampling, wine, 3,000 episodes",
        at_least=100.0,
        measure=difference("regret", solver="greedy", less="posterior", where=of("tests on wine")),
        threshold_set="before",
    ),
    Claim(
        "C6b",
        "The theory's constants cost several times the regret.",
        NONE,
        "regret at scale 1 over that at scale .1, wine",
        at_least=5.0,
        measure=ratio("regret", solver="bernstein", over="bernstein .1", where=of("tests on wine")),
        threshold_set="before",
    ),
    Claim(
        "C6c",
        "Two questions tell tumours apart in rows that were not fitted.",
        NONE,
        "share of right labels on breast cancer in rows that were not fitted",
        at_least=0.85,
        measure=mean("accuracy", of("held out", data="breast_cancer")),
        threshold_set="before",
    ),
    Claim(
        "C6d",
        "On wine two questions find the cultivar nine times in ten.",
        NONE,
        "share of right labels in rows that were not fitted",
        at_least=0.85,
        measure=mean("accuracy", of("held out", data="wine")),
        threshold_set="before",
    ),
    Claim(
        "C6e",
        "The demand halfway to the fitted value is met by rows that were not fitted.",
        NONE,
        "share of splits of wine in which the certificate holds",
        at_least=0.5,
        measure=share("verdict", of("held out", data="wine"), equals="holds"),
        threshold_set="before",
    ),
    Claim(
        "C7",
        "Model-optimism is far ahead of value-optimism with the theory's constants.",
        NONE,
        "regret of value-optimism over that of model-optimism, worked model",
        at_least=2.0,
        measure=ratio("regret", solver="mvp", over="bernstein", where=of("solvers")),
        threshold_set="before",
    ),
)


def _draw_horizons(records: pd.DataFrame, ax: Axes) -> None:
    for solver, colour in (("mvp .1", "ours"), ("l1 .1", "other")):
        rows = select(records, "horizons", solver=solver)
        means = [rows[f"regret_{H}"].mean() for H in (4, 8, 16)]
        ax.plot([4, 8, 16], means, "o-", color=PALETTE[colour], label=solver)
    ax.set(xlabel="horizon", ylabel="regret, mean over seeds", ylim=(0, None))
    ax.legend(frameon=False)


def _draw_wine(records: pd.DataFrame, ax: Axes) -> None:
    rows = select(records, "tests on wine").groupby("solver")["regret"].mean().sort_values()
    ax.barh(rows.index.tolist(), rows.to_numpy(), color=PALETTE["ours"])
    ax.set_xlabel("regret, mean over seeds")


FIGURES = {"horizons": _draw_horizons, "wine": _draw_wine}
