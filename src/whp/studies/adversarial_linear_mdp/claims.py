"""What is claimed, and how it is measured from the records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from whp.experiment.measures import difference, largest, mean, ratio, share, slope
from whp.experiment.study import Claim, select
from whp.result import PALETTE
from whp.studies.adversarial_linear_mdp.experiments import GRID, METHODS, study

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["CLAIMS", "FIGURES"]

NONE = "not in the paper"
RATE = "abstract: √K in place of K^{2/3}"
COLOURS = {"log-barrier": "ours", "magnitude-reduced": "third", "hedge": "other"}
POWER = "exponent of the regret in K, arms that turn every five episodes"
SHARE = "regret from April on, as a share of the uniform policy's"


def growth(method: str) -> Any:
    return slope("regret", "K", {"experiment": "rates", "method": method})


def by_arms(method: str) -> Any:
    return ratio("regret", A=128, over=32, where={"experiment": "many arms", "method": method})


def over(learner: str, losses: str) -> Any:
    """Less than the log-barrier's share, if negative."""
    return difference(
        "share_of_uniform",
        learner="log-barrier",
        less=learner,
        where={"experiment": "delays", "losses": losses},
    )


CLAIMS = study.claims(
    Claim(
        "C1a",
        "Regret under the log-barrier grows like √K.",
        RATE,
        POWER,
        at_most=0.56,
        measure=growth("log-barrier"),
    ),
    Claim(
        "C1b",
        "And with magnitude-reduced estimates.",
        RATE,
        POWER,
        at_most=0.56,
        measure=growth("magnitude-reduced"),
    ),
    Claim(
        "C1c",
        "Hedge on plain estimates grows faster.",
        RATE,
        POWER,
        at_least=0.56,
        measure=growth("hedge"),
    ),
    Claim(
        "C2a",
        "Many arms cost magnitude-reduced estimates next to nothing.",
        "abstract: no polynomial in A",
        "regret with 128 arms over that with 32",
        at_most=1.15,
        measure=by_arms("magnitude-reduced"),
    ),
    Claim(
        "C2b",
        "They cost the log-barrier.",
        NONE,
        "regret with 128 arms over that with 32",
        at_least=1.2,
        measure=by_arms("log-barrier"),
    ),
    Claim(
        "C3a",
        "Magnitude-reduced estimates are never below −H/√γ.",
        "Section 4",
        "least estimate, over −H/√γ",
        at_most=1.0,
        measure=largest("reduced", {"experiment": "magnitude"}),
        computed=True,
    ),
    Claim(
        "C3b",
        "Plain ones go far below on badly conditioned features.",
        "Section 4",
        "least estimate, over −H/√γ, mean over draws",
        at_least=0.25,
        measure=mean("plain", {"experiment": "magnitude"}),
    ),
    Claim(
        "C3c",
        "Both have the same mean.",
        "Section 4",
        "largest difference",
        at_most=1e-12,
        measure=largest("means_off", {"experiment": "magnitude"}),
        computed=True,
    ),
    Claim(
        "C4a",
        "A step under the log-barrier gains no more than its bound, whatever the losses.",
        "Section 3, refined analysis",
        "largest gain over its bound",
        at_most=1.0,
        measure=largest("log_barrier", {"experiment": "lemma"}),
        computed=True,
    ),
    Claim(
        "C4b",
        "Hedge has no such bound for losses far below −1/η.",
        "Section 3",
        "largest gain over its bound, mean over draws",
        at_least=1.0,
        measure=mean("hedge", {"experiment": "lemma"}),
    ),
    Claim(
        "C5",
        "The plugged-in covariance is nearer than resampling at the same draws.",
        NONE,
        "spectral error over that of matrix geometric resampling, 20,000 draws",
        at_most=0.5,
        measure=ratio("plugin", over="resampling", where={"experiment": "covariance", "n": 20000}),
    ),
    Claim(
        "C6a",
        "On delays as they were, greedy on means does better than the log-barrier.",
        NONE,
        f"{SHARE}, log-barrier less greedy",
        at_least=0.0,
        measure=over("greedy", "as they were"),
    ),
    Claim(
        "C6b",
        "Where a carrier turns bad in April, greedy does worse.",
        NONE,
        f"{SHARE}, log-barrier less greedy",
        at_most=0.0,
        measure=over("greedy", "changed"),
    ),
    Claim(
        "C6c",
        "So does optimism on means (UCBVI).",
        NONE,
        f"{SHARE}, log-barrier less UCBVI",
        at_most=0.0,
        measure=over("UCBVI", "changed"),
    ),
    Claim(
        "C6d",
        "And greedy with a share of exploration.",
        NONE,
        f"{SHARE}, log-barrier less ε-greedy",
        at_most=0.0,
        measure=over("epsilon-greedy", "changed"),
    ),
    Claim(
        "C7a",
        "The bonus pays on a chain whose end alone is good.",
        NONE,
        "regret with the bonus over that without",
        at_most=1.0,
        measure=ratio(
            "regret",
            bonus="dilated",
            over="none",
            where={"experiment": "bonus", "problem": "a long chain"},
        ),
    ),
    Claim(
        "C7b",
        "It costs where every state is visited anyway.",
        NONE,
        "regret with the bonus over that without",
        at_least=1.0,
        measure=ratio(
            "regret",
            bonus="dilated",
            over="none",
            where={"experiment": "bonus", "problem": "flights"},
        ),
    ),
    Claim(
        "C6e",
        "Greedy's regret on changed delays is beyond the uniform policy's.",
        NONE,
        "share of runs",
        at_least=0.5,
        measure=share(
            "share_of_uniform",
            {"experiment": "delays", "losses": "changed", "learner": "greedy"},
            at_least=1.0,
        ),
    ),
)


def _draw_rates(records: pd.DataFrame, ax: Axes) -> None:
    rows = select(records, "rates")
    for name in METHODS:
        line = rows[rows["method"] == name].groupby("K")["regret"].mean()
        ax.plot(line.index, line, "o-", color=PALETTE[COLOURS[name]], label=name)
    ax.set(xscale="log", yscale="log", xlabel="episodes", ylabel="regret")
    ax.legend(frameon=False)


def _draw_delays(records: pd.DataFrame, ax: Axes) -> None:
    rows = select(records, "delays")
    for shift, (name, colour) in zip(
        (-0.2, 0.2), (("as they were", "ours"), ("changed", "other")), strict=True
    ):
        means = rows[rows["losses"] == name].groupby("learner")["share_of_uniform"].mean()
        places = [i + shift for i, g in enumerate(GRID) if g in means]
        ax.bar(
            places, [means[g] for g in GRID if g in means], 0.4, color=PALETTE[colour], label=name
        )
    ax.axhline(1, color=PALETTE["quiet"], lw=1)
    ax.set_xticks(range(len(GRID)), list(GRID), rotation=20)
    ax.set_ylabel("regret, share of the uniform policy's")
    ax.legend(frameon=False)


FIGURES = {"rates": _draw_rates, "delays": _draw_delays}
