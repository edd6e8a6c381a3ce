"""What every trial of a study has in common."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd


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
