"""What the theorem says of each group, and its certificate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from whp.certificate import Certificate
from whp.intervals import Estimate
from whp.undeclared import Assumption, met, unchecked, undeclared, violated

__all__ = ["PAPER", "assumptions", "azuma", "group_certificate", "rounding"]

PAPER = "Acharya, Arunachaleswaran, Kannan, Roth & Ziani 2024"


def azuma(rounds: float, groups: int, delta: float) -> float:
    """√(½ T_g ln(N/δ)): how far sampled losses stray above the mixture's, all groups at once."""
    return math.sqrt(rounds / 2 * math.log(groups / delta))


def rounding(rounds: float) -> float:
    """Room for rounding: a bound that is attained exactly must not fail for its last digit."""
    return 1e-9 * (1 + rounds)


def assumptions(
    *, rows: int, asleep: int, worst: float, largest: float, target_range: str, oblivious: bool
) -> tuple[Assumption, ...]:
    """A1-A4."""
    awake = "every row lies in a group"
    inside = "losses scaled by their range lie in [0, 1]"
    told = f"largest loss {largest:.4g}, largest regret of a round {worst:.4g}"
    found = [
        met(awake, f"{rows} rows")
        if not asleep
        else violated(awake, f"{asleep} rows lie in none", "add a group of everyone."),
        violated(inside, told, "give a wider loss_range.")
        if max(worst, largest) > 1 + 1e-12
        else met(inside, told),
        met("targets lie in their range", target_range),
    ]
    if oblivious:
        found.append(
            unchecked(
                "nature does not see the coins of a round before it chooses", "no data can show it"
            )
        )
    return tuple(found)


def group_certificate(
    name: str,
    bound: float,
    measured: Estimate | None,
    trivial: float,
    confidence: float,
    checked: Sequence[Assumption],
    inputs: Mapping[str, Any],
    *,
    claim: str,
    source: str = PAPER,
) -> Certificate:
    """Regret of one group on its own rounds."""
    return undeclared(
        f"regret of {name}",
        claim,
        f"{source}; AdaNormalHedge after Luo & Schapire 2015; constants derived here and executed on the run",
        "<=",
        bound,
        confidence,
        measured,
        trivial=trivial,
        assumptions=tuple(checked),
        inputs=dict(inputs),
        needs="rounds in this group, and a base learner that knows its best fixed predictor in hindsight.",
        remedy="a group of so few rounds has no bound better than being wrong by the whole range. If it fails, a learner "
        "misreports its own loss or hindsight.",
    )
