"""A fingerprint of the code that a trial runs, so that cached results of changed code are not used again."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

__all__ = ["fingerprint"]

PACKAGE = "whp"
REGISTERING = ("experiment", "world")  # decorators that only enter a function in a list


def fingerprint(module: str, entry: str | None = "run") -> str:
    """Digest of `module`'s top-level definitions that `entry` reaches and of all whp modules that these import.

    Comments, docstrings and layout do not count, nor do other definitions of `module` itself: rewording a claim does
    not throw results away. Nor do the decorators ``@study.experiment(...)`` and ``@worlds.world(...)``: what they say,
    grid and seeds, is in the configuration of each trial. Code of other packages does not count; clear the cache after
    an upgrade that matters.

    Parameters
    ----------
    module : str
        Dotted name, e.g. ``"whp.studies.linf_regression"``.
    entry : str, optional
        Qualified name of the function that is run; of a method its class counts. None: all of `module`.

    Raises
    ------
    ValueError
        If the module has no source or does not define `entry`.
    """
    whole = _parse(_file(module))
    reached = whole.body if entry is None else _reachable(whole, entry.split(".")[0])
    digest = hashlib.sha256(_canonical(reached))
    for name in sorted(_closure(_imports(reached, module))):
        digest.update(name.encode() + _canonical(_parse(_file(name)).body))
    return digest.hexdigest()[:16]


def _file(module: str) -> Path:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ValueError(f"module {module!r} has no source")
    return Path(spec.origin)


def _parse(path: Path) -> ast.Module:
    """The syntax tree without docstrings and registering decorators."""
    return _parsed(path.read_text(encoding="utf-8"))


@lru_cache(maxsize=1024)  # a study's experiments reach the same modules
def _parsed(text: str) -> ast.Module:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and len(body) > 1
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
            and isinstance(body[0].value.value, str)
        ):
            del body[0]
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.decorator_list = [d for d in node.decorator_list if not _registers(d)]
    return tree


def _registers(decorator: ast.expr) -> bool:
    function = decorator.func if isinstance(decorator, ast.Call) else decorator
    return isinstance(function, ast.Attribute) and function.attr in REGISTERING


def _canonical(nodes: Iterable[ast.stmt]) -> bytes:
    """The syntax tree as text: free of comments and layout."""
    return "\n".join(_dumped(node) for node in nodes).encode()


@lru_cache(maxsize=100_000)
def _dumped(node: ast.stmt) -> str:
    return ast.dump(node)


def _names(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


def _defines(node: ast.stmt) -> set[str]:
    """Names that a top-level statement binds."""
    match node:
        case ast.FunctionDef() | ast.ClassDef() | ast.AsyncFunctionDef():
            return {node.name}
        case ast.Import() | ast.ImportFrom():
            return {(a.asname or a.name).split(".")[0] for a in node.names}
        case _:
            return {
                n.id
                for n in ast.walk(node)
                if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
            }


def _reachable(tree: ast.Module, entry: str) -> list[ast.stmt]:
    wanted, taken = {entry}, set()
    grew = True
    while grew:
        grew = False
        for index, node in enumerate(tree.body):
            if index not in taken and _defines(node) & wanted:
                taken.add(index)
                wanted |= _names(node)
                grew = True
    if not taken:
        raise ValueError(f"no definition of {entry!r}")
    return [tree.body[i] for i in sorted(taken)]


def _exists(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the parent is a module, not a package
        return False


def _imports(nodes: Iterable[ast.AST], module: str, is_package: bool = False) -> set[str]:
    """whp modules that statements import, at any depth."""
    found: set[str] = set()
    parent = module.split(".") if is_package else module.split(".")[:-1]
    for top in nodes:
        for node in ast.walk(top):
            if isinstance(node, ast.Import):
                found |= {a.name for a in node.names}
            elif isinstance(node, ast.ImportFrom):
                base = ".".join(parent[: len(parent) - node.level + 1]) if node.level else ""
                source = ".".join(filter(None, (base, node.module)))
                found.add(source)
                for alias in node.names:
                    name = f"{source}.{alias.name}"
                    if name.startswith(f"{PACKAGE}.") and _exists(name):
                        found.add(name)
                    elif source.startswith(f"{PACKAGE}."):
                        found |= _behind_stub(source, alias.name)
    return {name for name in found if name.startswith(f"{PACKAGE}.")}


def _behind_stub(package: str, name: str) -> set[str]:
    """Where a lazily loading package takes `name` from, according to its stub."""
    stub = _file(package).with_suffix(".pyi")
    if not stub.exists():
        return set()
    return {
        f"{package}.{node.module}"
        for node in _parse(stub).body
        if isinstance(node, ast.ImportFrom)
        and node.module
        and any(a.name == name for a in node.names)
    }


def _closure(modules: set[str]) -> set[str]:
    todo, seen = set(modules), set()
    while todo:
        module = todo.pop()
        seen.add(module)
        path = _file(module)
        todo |= _imports(_parse(path).body, module, is_package=path.name == "__init__.py") - seen
    return seen
