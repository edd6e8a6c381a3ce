"""``whp run METHOD``: a command generated from the signature and docstring of a front door."""

from __future__ import annotations

import inspect
import json
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from cyclopts import Parameter
from docstring_parser import DocstringStyle, parse
from rich.console import Console
from rich.markup import escape

from whp import __version__
from whp.catalogue import Method
from whp.certificate import Certificate, Verdict
from whp.io import ACCEPTED, Data, read, save
from whp.result import Result

__all__ = ["command"]


def _data(annotation: Any) -> Data | None:
    if get_origin(annotation) is Annotated:
        return next((m for m in get_args(annotation) if isinstance(m, Data)), None)
    return None


def command(method: Method) -> Callable[..., int]:
    """The function behind ``whp run METHOD``, its parameters those of the front door that are not data."""
    front_door = method.load()
    hints = get_type_hints(front_door, include_extras=True)
    signature = inspect.signature(front_door)
    described = parse(inspect.getdoc(front_door) or "", style=DocstringStyle.NUMPYDOC)
    help_of = {
        name: p.description or "" for p in described.params for name in p.arg_name.split(", ")
    }
    wants: dict[str, Data] = {}
    required: list[str] = []
    options: list[inspect.Parameter] = []
    column_of: dict[str, str] = {}
    for name, parameter in signature.parameters.items():
        if data := _data(hints[name]):
            wants[name] = data
            if parameter.default is inspect.Parameter.empty:
                required.append(name)
            if data.kind in ("vector", "labels"):
                option = data.column or name
                column_of[option] = name
                text = f"Column of a table to read as {name}; by default the one called {option}."
                options.append(_option(option, str | None, None, text))
        elif name != "rng" and _offered(hints[name]):
            options.append(_option(name, hints[name], parameter.default, help_of.get(name, "")))
    if "rng" in signature.parameters:
        options.append(
            _option(
                "seed", int | None, None, "Seed of all randomness; drawn and printed if not given."
            )
        )
    options += [
        _option(
            "out",
            Path | None,
            None,
            "Directory to write result arrays, certificates and a picture to.",
        ),
        _option("json", bool, False, "Print one JSON object instead of text.", negative=""),
        _option(
            "require",
            Literal["holds"] | None,
            None,
            "Exit with code 3 unless every certificate comes to this verdict.",
        ),
    ]

    def run(*files: str, **chosen: Any) -> int:
        own = {k: chosen.pop(k, None) for k in ("seed", "out", "json", "require")}
        columns = {
            column_of[k]: v for k in list(column_of) if (v := chosen.pop(k, None)) is not None
        }
        seed = None  # a method that takes none draws from the operating system, or not at all
        if "rng" in signature.parameters:
            seed = secrets.randbits(32) if own["seed"] is None else own["seed"]
        if files:
            arguments = read(files, wants, required=required, columns=columns)
        else:
            arguments = _example(method)
        arguments |= chosen
        if "rng" in signature.parameters:
            arguments["rng"] = seed
        start = time.perf_counter()
        result = front_door(**arguments)
        seconds = time.perf_counter() - start
        written = [] if own["out"] is None else _save(own["out"], method, result, seconds)
        certificates = tuple(result.certificates)
        if own["json"]:
            print(
                json.dumps(
                    _record(method, seed, seconds, result, certificates, written), allow_nan=False
                )
            )
        else:
            _show(method, seed, seconds, result, certificates, written, example=not files)
        broken = [c.name for c in certificates if c.verdict is not Verdict.HOLDS]
        return 3 if own["require"] and broken else 0

    kinds = sorted({e for d in wants.values() for e in ACCEPTED[d.kind]})
    files_help = f"Input ({', '.join(kinds)}); none: the built-in real example. Arrays go to {', '.join(wants)} by name."
    files = inspect.Parameter(
        "files",
        inspect.Parameter.VAR_POSITIONAL,
        annotation=Annotated[str, Parameter(help=files_help)],
    )
    run.__name__ = method.slug.replace("-", "_")
    run.__doc__ = f"{described.short_description or method.problem}\n\n{method.problem}\n\nGuarantee: {method.guarantee}."
    run.__signature__ = inspect.Signature([files, *options], return_annotation=int)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in (files, *options)} | {"return": int}
    return run


def _typed(annotation: Any) -> bool:
    """Whether a value of that type can be typed in."""
    if get_origin(annotation) in (Sequence, list, tuple):
        return all(a is Ellipsis or _typed(a) for a in get_args(annotation))
    return get_origin(annotation) is Literal or annotation in (
        str,
        int,
        float,
        bool,
        NoneType,
        Path,
    )


def _offered(annotation: Any) -> bool:
    """Whether some value of it can be typed in; objects of every kind come from Python."""
    parts = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return any(_typed(p) and p is not NoneType for p in parts)


def _option(
    name: str, annotation: Any, default: Any, text: str, **settings: Any
) -> inspect.Parameter:
    if get_origin(annotation) in (
        Union,
        UnionType,
    ):  # arrays, tables and functions come from Python, not from a command line
        annotation = Union[tuple(a for a in get_args(annotation) if _typed(a))]  # noqa: UP007
    annotated = Annotated[annotation, Parameter(help=" ".join(text.split()), **settings)]
    if default is inspect.Parameter.empty:
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotated)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, annotation=annotated, default=default
    )


def _example(method: Method) -> dict[str, Any]:
    from whp.experiment.study import load

    try:
        return load(method.slug).example()
    except ModuleNotFoundError as error:
        if "pip install" in str(error) or (error.name or "").startswith("whp"):
            raise
        told = f"the example of {method.slug} needs {error.name}: pip install 'whp[study]', or give a FILE of your own"
        raise ModuleNotFoundError(told) from error


def _save(directory: Path, method: Method, result: Result, seconds: float) -> list[Path]:
    artifacts = dict(result.artifacts())
    artifacts["certificates.json"] = [c.to_dict() for c in result.certificates]
    try:
        import jinja2  # noqa: F401
        import matplotlib
    except ModuleNotFoundError as error:
        print(
            f"no picture and no page: they need {error.name} (pip install 'whp[report]')",
            file=sys.stderr,
        )
    else:
        artifacts["picture.png"] = lambda path: _draw(matplotlib, result, path)
        artifacts["report.html"] = _page(method, result, seconds)
    return save(directory, artifacts)


def _page(method: Method, result: Result, seconds: float) -> str:
    from whp.report import Card, page, svg

    card = Card(
        method,
        seconds=seconds,
        certificates=tuple(result.certificates),
        picture=svg(lambda figure: result.plot(figure.subplots()), salt=method.slug),
        summary=result.summary(),
    )
    return page([card], title=method.title)


def _draw(matplotlib: Any, result: Result, path: Path) -> None:
    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    result.plot(figure.subplots())
    figure.savefig(path, dpi=150)


def _record(
    method: Method,
    seed: int | None,
    seconds: float,
    result: Result,
    certificates: tuple[Certificate, ...],
    files: list[Path],
) -> dict[str, Any]:
    def finite(value: Any) -> Any:
        return str(value) if isinstance(value, float) and value - value != 0 else value

    return {
        "method": method.slug,
        "version": __version__,
        "seed": seed,
        "seconds": seconds,
        "result": {k: finite(v) for k, v in result.summary().items()},
        "certificates": [c.to_dict() for c in certificates],
        "files": [str(f) for f in files],
    }


def _show(
    method: Method,
    seed: int | None,
    seconds: float,
    result: Result,
    certificates: tuple[Certificate, ...],
    files: list[Path],
    *,
    example: bool,
) -> None:
    console = Console()
    source = "built-in example" if example else "your file"
    told = "" if seed is None else f", seed {seed}"
    console.print(f"[bold]{method.slug}[/] on {source}, {seconds:.2f} s{told}", highlight=False)
    console.print(result)
    for certificate in certificates:
        console.print(certificate)
    if files:
        console.print(
            "wrote " + escape(", ".join(map(str, files))), highlight=False, soft_wrap=True
        )
