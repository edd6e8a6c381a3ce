"""The run-time type checker of the tests: whole numbers pass where a float is asked, as PEP 484 says."""

from beartype import BeartypeConf, beartype

__all__ = ["typed"]

typed = beartype(conf=BeartypeConf(is_pep484_tower=True))
