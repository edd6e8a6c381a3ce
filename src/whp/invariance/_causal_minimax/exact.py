"""The method on a given model, where every risk is a sum."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from whp.certificate import Certificate
from whp.invariance._causal_minimax import theorems as th
from whp.invariance._causal_minimax.graph import GraphCondition, condition
from whp.invariance._causal_minimax.model import DiscreteSCM, in_units, predictor_table, risk_of
from whp.invariance._causal_minimax.risk import Worst
from whp.result import PALETTE, Result
from whp.validate import as_int, as_rng

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["ModelMinimax", "chosen_row", "minimax_of_model"]

TIE = 1e-9  # risks that differ by less are one
PAIRS = 20
SUBSETS = 4096
REACHED = 1e-280  # of a cell, below which a probability has lost digits to underflow


@dataclass(frozen=True, eq=False)
class ModelMinimax(Result):
    """The best subset of a given model.

    Attributes
    ----------
    subset : tuple of str
        Smallest member of the best class.
    worst_risk, upper_risk : float
        Its worst case; a bracket where the adversary has too many functions to compare.
    adversary : dict of str to ndarray
        Value that each mutable node takes, by the cell of its parents.
    table : DataFrame
        A class a row: its smallest member, and its worst case.
    graph_condition : GraphCondition
    certificates : tuple of Certificate
    """

    subset: tuple[str, ...]
    worst_risk: float
    upper_risk: float
    adversary: dict[str, np.ndarray] = field(repr=False)
    table: pd.DataFrame = field(repr=False)
    graph_condition: GraphCondition = field(repr=False)
    certificates: tuple[Certificate, ...] = field(repr=False)

    def summary(self) -> dict[str, bool | int | float | str | None]:
        """The choice and its price."""
        return {
            "subset": ", ".join(self.subset) or "none",
            "worst_risk": self.worst_risk,
            "upper_value": self.upper_risk,
            "classes": len(self.table),
            "whole_set_is_best_by_the_graph": self.graph_condition.holds,
        }

    def draw(self, ax: Axes) -> None:
        """Worst case of each class by its size."""
        ax.plot(self.table["size"], self.table["worst_risk"], "o", color=PALETTE["ours"])
        ax.set(xlabel="variables in the subset", ylabel="worst-case risk")


def chosen_row(risks: np.ndarray, sizes: np.ndarray) -> int:
    """The smallest risk; of those within a relative 1e-9 the one with fewest variables."""
    near = np.flatnonzero(risks <= risks.min() * (1 + TIE) + 1e-300)
    return int(near[np.argmin(sizes[near])])


def minimax_of_model(
    model: DiscreteSCM, *, max_classes: int = SUBSETS, rng: np.random.Generator | int | None = None
) -> ModelMinimax:
    """The subset of stable nodes with the smallest worst case in a given model.

    Parameters
    ----------
    model : DiscreteSCM
    max_classes : int
        Where to give up.
    rng : None, int or Generator
        Of starts, where functions are too many, and of the pairs that are compared.

    Returns
    -------
    ModelMinimax

    Examples
    --------
    >>> import networkx as nx
    >>> G = nx.DiGraph([("Y", "M"), ("M", "Z"), ("Y", "W")])
    >>> tables = {"Y": [0.3, 0.7], "W": [[0.8, 0.2], [0.4, 0.6]]}
    >>> tables |= {"M": [[0.2, 0.8], [0.6, 0.4]], "Z": [[0.3, 0.7], [0.9, 0.1]]}
    >>> made = minimax_of_model(DiscreteSCM(G, tables, "Y", ["M"]))
    >>> made.subset, round(made.worst_risk, 6)
    (('W',), 0.181731)
    """
    if not isinstance(model, DiscreteSCM):
        raise TypeError(f"model must be a DiscreteSCM, got {type(model).__name__}")
    as_int(max_classes, "max_classes", low=1)
    generator = as_rng(rng)
    model, width = in_units(model)
    square = width**2
    dag = model.dag
    rule = condition(dag)
    found = dag.classes(max_classes)
    played = {c: _risk(model, c, generator) for c in found}
    risks = np.array([played[c].lower for c in found])
    sizes = np.array([c.bit_count() for c in found])
    best = found[chosen_row(risks, sizes)]
    worst = played[best]
    table = pd.DataFrame(
        {
            "subset": [", ".join(v for v in dag.order if v in dag.names(c)) for c in found],
            "size": sizes,
            "worst_risk": risks * square,
            "upper_value": [played[c].upper * square for c in found],
        }
    )
    return ModelMinimax(
        tuple(v for v in dag.order if v in dag.names(best)),
        worst.lower * square,
        (worst.lower if worst.exact else worst.upper) * square,
        worst.choice,
        table,
        rule,
        _certificates(model, played, best, width, generator),
    )


def _risk(model: DiscreteSCM, subset: int, rng: np.random.Generator) -> Worst:
    return risk_of(model, predictor_table(model, model.dag.names(subset)), rng)


def _own(model: Any) -> bool:
    """Whether it is the library's own class, with its own methods: then its law is the graph's."""
    return type(model) is DiscreteSCM and vars(model).keys().isdisjoint({"kept", "law", "_spread"})


def _certificates(
    model: DiscreteSCM, played: dict[int, Worst], best: int, width: float, rng: np.random.Generator
) -> tuple[Certificate, ...]:
    dag = model.dag
    if _own(model):
        how = "the law is the product of the model's own tables, and the claim is about that law"
        graph, kept, hidden = (c.by_construction(how) for c in (th.GRAPH, th.KEPT, th.HIDDEN))
    else:
        why = "the model is of another class, whose law may not be that of its graph"
        graph, kept, hidden = (c.unchecked(why) for c in (th.GRAPH, th.KEPT, th.HIDDEN))
    unit = width**2
    stable = dag.mask(dag.stable)
    # Every subset by itself, where they are few: a class that the search missed would show.
    many = 1 << len(dag.stable) > SUBSETS
    subsets = list(played) if many else _subsets(stable)
    all_played = {c: played[c] if c in played else _risk(model, c, rng) for c in subsets}
    all_played.setdefault(stable, _risk(model, stable, rng))
    lows = min(w.lower for w in all_played.values())
    highs = min(w.lower if w.exact else w.upper for w in all_played.values())
    spread = (max(w.lower for w in all_played.values()) - highs) * unit

    def gap(worst: Worst) -> tuple[float, float]:
        top = worst.lower if worst.exact else worst.upper
        return (worst.lower - highs) * unit, (top - lows) * unit

    rule = condition(dag)
    told = f"K = {{{', '.join(sorted(rule.K))}}}" + (
        f", of which the target has the children {', '.join(sorted(rule.offending))}"
        if rule.offending
        else ""
    )
    made = [
        th.whole_of_model(
            graph,
            kept,
            hidden,
            th.RULE.check(rule.holds, told),
            *gap(all_played[stable]),
            spread,
            unit,
        )
    ]
    if not many:
        made.append(th.best_of_model(graph, *gap(played[best]), spread, unit, len(subsets)))
    difference, pairs = 0.0, 0
    members = _drawn(stable, rng) if many else subsets
    for s in rng.permutation(len(members))[: 50 * PAIRS]:
        subset = members[int(s)]
        other = dag.boundary(subset, dag.mask(dag.mutable))
        if other == subset:
            continue
        first, second = (predictor_table(model, dag.names(m)) for m in (subset, other))
        reached = np.broadcast_to(model.kept() > REACHED, model.kept().shape)
        gaps = np.abs(first - second) * np.ones(reached.shape)
        difference = max(difference, float(gaps[reached].max(initial=0.0)))
        pairs += 1
        if pairs == PAIRS:
            break
    if pairs:
        made.append(th.same_class(graph, difference * width, pairs, width))
    return tuple(made)


def _subsets(mask: int) -> list[int]:
    found, part = [0], mask
    while part:
        found.append(part)
        part = (part - 1) & mask
    return found


def _drawn(mask: int, rng: np.random.Generator) -> list[int]:
    """Some subsets of many."""
    bits = [1 << i for i in range(mask.bit_length()) if mask >> i & 1]
    return [sum(b for b in bits if rng.random() < 0.5) for _ in range(10 * PAIRS)]
