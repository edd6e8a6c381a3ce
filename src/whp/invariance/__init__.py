"""Invariance: predictors that keep their word where the data come from somewhere else."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
