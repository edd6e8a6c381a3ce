"""What a training run shows of the conditions under which a new task starts at rest."""

from __future__ import annotations

from typing import Any

import pandas as pd

from whp.certificate import Answer, Status
from whp.continual._stability_gap import theorems as th
from whp.continual.strategies import (
    ElasticWeights,
    Joint,
    Strategy,
    SynapticIntelligence,
    WithoutForgetting,
)
from whp.continual.training import ContinualFit
from whp.provenance import made_here

__all__ = ["conditions_of"]

CENTRED = (WithoutForgetting, ElasticWeights, SynapticIntelligence)
WITHOUT = (Strategy, Joint)  # they have no stability loss


def conditions_of(fit: Any) -> tuple[pd.DataFrame, tuple[Answer, ...]]:
    """The table of norms of a run, and an answer to each condition of ``first-step``.

    Raises
    ------
    TypeError
        If it is no run that recorded its gradients.
    """
    if not isinstance(fit, ContinualFit) or fit.gradients is None:
        raise TypeError(
            "grads must be a ContinualFit made with record_gradients=True, or its table"
        )
    kind = fit.strategy
    if kind is None:
        centred = th.CENTRED.unchecked("methods of the strategy were replaced")
    elif kind in (*CENTRED, *WITHOUT) or kind.__module__ == Strategy.__module__:
        at_rest = kind in (*CENTRED, *WITHOUT)
        centred = th.CENTRED.check(
            at_rest,
            f"{kind.__name__}: "
            + (
                "nothing else was trained on"
                if kind in WITHOUT
                else "its loss measures how far the model went from the old one"
                if at_rest
                else "rows from memory pull in their own direction from the start"
            ),
        )
    else:
        centred = th.CENTRED.unchecked(f"{kind.__name__} is a strategy of one's own")
    fresh = th.FRESH.check(
        not fit.carried,
        "momentum was kept" if fit.carried else "its state was empty at each switch",
    )
    if fit.steady is None:
        same = th.SAME_FUNCTION.unchecked("there was no switch")
    else:
        same = th.SAME_FUNCTION.check(
            fit.steady,
            "one batch at each switch, twice in training and once in evaluation: "
            + ("the same to the last bit" if fit.steady else "it differs"),
        )
    answers = (centred, fresh, same)
    if not made_here(fit, ContinualFit):
        why = "this run was not made here"
        conditions = th.FIRST_STEP.conditions
        answers = tuple(
            a if a.status is Status.VIOLATED else c.unchecked(why)
            for a, c in zip(answers, conditions, strict=True)
        )
    return fit.gradients, answers
