"""What every trial of a study has in common."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd

from whp.experiment.claims import Claim, Finding


def assert_flat_and_repeatable(study: ModuleType, config: dict[str, Any]) -> None:
    """The same rows twice, of scalars alone."""
    first, second = (study.run(config | {"seed": 0}, np.random.default_rng(3)) for _ in range(2))
    assert str(first) == str(second)
    assert first
    for row in first:
        assert all(isinstance(v, bool | int | float | str | None) for v in row.values())


def records_of(
    study: ModuleType, configs: list[dict[str, Any]], seeds: tuple[int, ...] = (0, 1)
) -> pd.DataFrame:
    """Each trial once a seed, as the runner would record it."""
    rows = []
    for config in configs:
        for seed in seeds:
            again = {**config, "seed": seed}
            rows += [again | row for row in study.run(again, np.random.default_rng(seed))]
    return pd.DataFrame(rows)


def judged(claim: Claim, records: pd.DataFrame) -> Finding:
    """On which side of its threshold a claim comes out, be it that the ledger only describes it.

    Records of a test have no spread where real ones would.
    """
    return replace(claim, computed=True, threshold_set="before").judge(records)
