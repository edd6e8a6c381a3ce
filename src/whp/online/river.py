"""river's duck: what its evaluation asks of a model, without importing it."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["LearnsOneByOne"]


class LearnsOneByOne:
    """A model that river's metrics and ``progressive_val_score`` take for one of its own, `_river` saying of which kind."""

    _supervised = True
    _river = "Regressor"

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """River asks isinstance; where it is loaded, tell it. It is never imported for that."""
        if (river := sys.modules.get("river.base")) is not None:
            getattr(river, cls._river).register(cls)
        return super().__new__(cls)
