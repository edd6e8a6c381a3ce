"""``whp run METHOD``: a command generated from the signature and docstring of a front door."""

from __future__ import annotations

import dataclasses
import inspect
import json
import secrets
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from cyclopts import Parameter, Token, convert
from docstring_parser import DocstringStyle, parse
from rich.markup import escape

from whp import __version__
from whp.catalogue import Method
from whp.certificate import Certificate, Require, Verdict
from whp.cli._console import STDIN, noted
from whp.cli._console import console as make_console
from whp.door import describe
from whp.io import ACCEPTED, Choice, Data, read, save
from whp.result import Result

__all__ = ["command"]

SCHEMA = "whp-run/2"
OWN = ("seed", "out", "json", "require", "only")
TABLE = ("columns", "drop", "id", "missing", "sep")
GRAPH = ("weight", "undirected")
PLURAL = {Verdict.HOLDS: "hold", Verdict.FAILS: "fail"}


def _data(annotation: Any) -> Data | None:
    if get_origin(annotation) is Annotated:
        return next((m for m in get_args(annotation) if isinstance(m, Data)), None)
    return None


@dataclass
class _Door:
    """A front door, taken apart: what comes from files, what from options."""

    method: Method
    wants: dict[str, Data] = field(default_factory=dict)
    required: list[str] = field(default_factory=list)
    options: list[inspect.Parameter] = field(default_factory=list)
    column_of: dict[str, str] = field(default_factory=dict)  # option to parameter
    bundles: dict[str, tuple[Any, list[str]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.function = self.method.load()
        hints = get_type_hints(self.function, include_extras=True)
        self.signature = inspect.signature(self.function)
        doc = inspect.getdoc(self.function) or ""
        self.described = parse(doc, style=DocstringStyle.NUMPYDOC)
        texts = _help(self.described)
        for name, parameter in self.signature.parameters.items():
            hint = hints[name]
            if data := _data(hint):
                self._wanted(name, data, parameter)
            elif is_dataclass(hint):
                self._bundle(name, hint)
            elif name != "rng" and _offered(hint):
                self.options.append(_option(name, hint, parameter.default, texts.get(name, "")))
        if "rng" in self.signature.parameters:
            text = "Seed of all randomness; drawn and printed if not given."
            self.options.append(_option("seed", int | None, None, text))
        kinds = {d.kind for d in self.wants.values()}
        taken = {p.name for p in self.options}
        general = []
        if kinds - {"text"}:
            general += _table_options()
        if "graph" in kinds:
            general += _graph_options()
        if "text" in kinds:
            how = "How the characters of the text are written, e.g. latin-1; by default UTF-8."
            general.append(_option("encoding", str | None, None, how))
        self.options += [p for p in general if p.name not in taken]
        self.general = {p.name for p in general} - taken
        self.options += _output_options()

    def _wanted(self, name: str, data: Data, parameter: inspect.Parameter) -> None:
        self.wants[name] = data
        if parameter.default is inspect.Parameter.empty:
            self.required.append(name)
        if data.kind in ("vector", "labels", "ids"):
            option = data.column or name
            self.column_of[option] = name
            text = f"Column of a table to read as {name}; by default the one called {option}."
            self.options.append(_option(option, str | None, None, text))

    def _bundle(self, name: str, kind: Any) -> None:
        """A dataclass of options: each field is an option of its own."""
        texts = _help(parse(inspect.getdoc(kind) or "", style=DocstringStyle.NUMPYDOC))
        hints = get_type_hints(kind, include_extras=True)
        chosen = []
        for entry in dataclasses.fields(kind):
            if entry.init and _offered(hints[entry.name]):
                default: Any = entry.default
                if default is dataclasses.MISSING:
                    made: Any = entry.default_factory
                    default = inspect.Parameter.empty if made is dataclasses.MISSING else made()
                text = texts.get(entry.name, "")
                self.options.append(_option(entry.name, hints[entry.name], default, text))
                chosen.append(entry.name)
        self.bundles[name] = (kind, chosen)

    def arguments(
        self, files: Sequence[str], chosen: dict[str, Any], notes: list[str]
    ) -> dict[str, Any]:
        """Arguments of the front door out of files and options; what was done to files is added to `notes`."""
        columns = {
            self.column_of[k]: v for k in self.column_of if (v := chosen.pop(k, None)) is not None
        }
        general = {k: v for k in self.general if (v := chosen.pop(k, None)) is not None}
        if files:
            given = ["-" if f == STDIN else f for f in files]
            table = {k: v for k, v in general.items() if k in TABLE}
            graph = {k: v for k, v in general.items() if k in GRAPH}
            found = read(
                given,
                self.wants,
                required=self.required,
                columns=columns,
                choice=Choice(**table),
                notes=notes,
                encoding=general.get("encoding"),
                **graph,
            )
            if general.get("weight") and "weighted" in self.signature.parameters:
                chosen.setdefault("weighted", True)
        elif columns or general:
            raise ValueError(
                f"--{next(iter({**general, **columns})).replace('_', '-')} is about a FILE, and none is given"
            )
        else:
            found = _example(self.method)
        for name, (kind, entries) in self.bundles.items():
            if values := {k: chosen.pop(k) for k in entries if k in chosen}:
                found[name] = (
                    dataclasses.replace(found[name], **values) if name in found else kind(**values)
                )
        return found | chosen


def command(method: Method) -> Callable[..., int]:
    """The function behind ``whp run METHOD``, its parameters those of the front door that are not data."""
    door = _Door(method)

    def run(*files: str, **chosen: Any) -> int:
        own = {k: chosen.pop(k, None) for k in OWN}
        seed = None  # a method that takes none draws from the operating system, or not at all
        if "rng" in door.signature.parameters:
            seed = secrets.randbits(32) if own["seed"] is None else own["seed"]
        given = {k: v for k, v in chosen.items() if v is not None}
        notes: list[str] = []
        with noted() as warned:
            arguments = door.arguments(files, dict(chosen), notes)
            if "rng" in door.signature.parameters:
                arguments["rng"] = seed
            start = time.perf_counter()
            result = door.function(**arguments)
            seconds = time.perf_counter() - start
            written = [] if own["out"] is None else _save(own["out"], method, result, seconds)
        run = _Run(method, seed, seconds, result, tuple(files), given, notes, warned, written)
        if own["json"]:
            print(json.dumps(run.record(), allow_nan=False))
        else:
            run.show()
        require = own["require"]
        gated = _gated(run.certificates, own["only"] or ())
        met = require is None or all(c.passes(require) for c in gated)
        return 0 if met else 3

    kinds = sorted({e for d in door.wants.values() for e in ACCEPTED[d.kind]})
    files_help = (
        f"Input ({', '.join(kinds)}, or - for csv on the standard input); none: the built-in real example. "
        f"Arrays go to {', '.join(door.wants)} by name."
    )
    files = inspect.Parameter(
        "files",
        inspect.Parameter.VAR_POSITIONAL,
        annotation=Annotated[str, Parameter(help=files_help)],
    )
    run.__name__ = method.slug.replace("-", "_")
    run.__doc__ = f"{door.described.short_description or method.problem}\n\n{method.problem}\n\nGuarantee: {method.guarantee}."
    run.__signature__ = inspect.Signature([files, *door.options], return_annotation=int)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in (files, *door.options)} | {"return": int}
    return run


def _gated(certificates: Sequence[Certificate], only: Sequence[str]) -> list[Certificate]:
    """The certificates that a gate looks at: those of these names, all if none is named."""
    names = [name for part in only for name in part.split(",")]
    known = {c.name for c in certificates}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(
            f"--only must name certificates of this run, got {', '.join(unknown)}; there are "
            f"{', '.join(sorted(known))}"
        )
    return [c for c in certificates if not names or c.name in names]


def _help(described: Any) -> dict[str, str]:
    return {n: p.description or "" for p in described.params for n in p.arg_name.split(", ")}


def _table_options() -> list[inspect.Parameter]:
    names = tuple[str, ...]
    return [
        _option(
            "columns",
            names,
            (),
            "Columns of a table that are the features; by default all others. May be repeated.",
        ),
        _option("drop", names, (), "Columns of a table to leave out. May be repeated."),
        _option("id", str | None, None, "Column of a table that names its rows and is no feature."),
        _option(
            "missing", Literal["error", "drop"], "error", "What to do with rows that lack a value."
        ),
        _option(
            "sep",
            str | None,
            None,
            "What parts the fields of a csv file, e.g. ';' or tab; looked for if not given.",
        ),
    ]


def _graph_options() -> list[inspect.Parameter]:
    return [
        _option(
            "weight",
            str | None,
            None,
            "Edge attribute that is the weight, where it is not called weight.",
        ),
        _option("undirected", bool, False, "Take directed edges as undirected.", negative=""),
    ]


def _output_options() -> list[inspect.Parameter]:
    return [
        _option(
            "out",
            Path | None,
            None,
            "Directory to write result arrays, certificates and a picture to.",
        ),
        _option("json", bool, False, "Print one JSON object instead of text.", negative=""),
        _option(
            "require",
            Require | None,
            None,
            "Exit with code 3 unless every certificate holds (holds), holds or is unmeasured (stands), or holds with nothing "
            "unchecked (checked).",
        ),
        _option(
            "only",
            tuple[str, ...],
            (),
            "Names of the certificates that --require looks at; by default all. May be repeated.",
        ),
    ]


def _bare(annotation: Any) -> Any:
    """Without what an annotation says of ranges."""
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _parts(annotation: Any) -> tuple[Any, ...]:
    annotation = _bare(annotation)
    if get_origin(annotation) in (Union, UnionType):
        return tuple(p for a in get_args(annotation) for p in _parts(a))
    return (annotation,)


def _typed(annotation: Any) -> bool:
    """Whether a value of that type can be typed in."""
    if get_origin(annotation) in (Sequence, list, tuple):
        return all(a is Ellipsis or _typed(_bare(a)) for a in get_args(annotation))
    scalars = (str, int, float, bool, NoneType, Path)
    return get_origin(annotation) is Literal or annotation in scalars


def _many(annotation: Any) -> bool:
    """Whether it is a list of any length."""
    kind = get_origin(annotation)
    return kind in (Sequence, list) or (kind is tuple and Ellipsis in get_args(annotation))


def _parted(kind: Any, tokens: Sequence[Token]) -> Any:
    """The numbers of a repeated option, some of them parted by commas."""
    parts = [t.evolve(value=v) for t in tokens for v in t.value.split(",")]
    return convert(kind, parts)


def _offered(annotation: Any) -> bool:
    """Whether some value of it can be typed in; objects of every kind come from Python."""
    return any(_typed(p) and p is not NoneType for p in _parts(annotation))


def _option(
    name: str, annotation: Any, default: Any, text: str, **settings: Any
) -> inspect.Parameter:
    limits = describe(annotation)
    text = " ".join(text.split())
    if limits:
        text = f"{text.rstrip('.')} ({limits})."
    # Arrays, tables and functions come from Python, not from a command line.
    typed = tuple(p for p in _parts(annotation) if _typed(p))
    if any(get_origin(p) in (Sequence, list, tuple) for p in typed):
        settings = {"negative": ""} | settings  # no --empty-…, which none of them takes
    names = any(str in get_args(p) for p in typed)  # which may have commas
    if any(_many(p) for p in typed) and not names:
        settings["converter"] = _parted
        text = f"{text.rstrip('.')} (may be repeated, or parted by commas)."
    annotated = Annotated[Union[typed], Parameter(help=text, **settings)]  # noqa: UP007
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

    figure = Figure(figsize=result.figure_size, layout="constrained")
    result.plot(figure.subplots())
    figure.savefig(path, dpi=150)


@dataclass(frozen=True)
class _Run:
    """One run, to be shown or recorded."""

    method: Method
    seed: int | None
    seconds: float
    result: Result
    files: tuple[str, ...]
    options: Mapping[str, Any]
    notes: list[str]
    warnings: list[str]
    written: list[Path]

    @property
    def certificates(self) -> tuple[Certificate, ...]:
        return tuple(self.result.certificates)

    def record(self) -> dict[str, Any]:
        """One JSON object; where the result offers numbers, they are numbers and not sentences."""
        numbers: Any = getattr(self.result, "numbers", self.result.summary)
        return {
            "schema": SCHEMA,
            "method": self.method.slug,
            "version": __version__,
            "seed": self.seed,
            "seconds": self.seconds,
            "input": {"files": list(self.files), "read_as": self.notes},
            "options": {k: _json(v) for k, v in self.options.items()},
            "result": {k: _json(v) for k, v in numbers().items()},
            "certificates": [c.to_dict() for c in self.certificates],
            "verdicts": dict(self.verdicts()),
            "warnings": self.warnings,
            "files": [str(f) for f in self.written],
        }

    def verdicts(self) -> list[tuple[str, int]]:
        """How many certificates came to which verdict, the best first."""
        counts = Counter(c.verdict for c in self.certificates)
        return [(str(v), counts[v]) for v in reversed(Verdict) if counts[v]]

    def show(self) -> None:
        """Print it: what it was read as, the summary, the certificates, and one line of verdicts at the end."""
        console = make_console(markup=False)
        source = ", ".join(self.files).replace(STDIN, "standard input") or "built-in example"
        told = "" if self.seed is None else f", seed {self.seed}"
        head = f"[bold]{self.method.slug}[/] on {escape(source)}, {self.seconds:.2f} s{told}"
        plain = make_console()
        plain.print(head, highlight=False, soft_wrap=True)
        for note in self.notes:
            plain.print(f"[dim]read as: {escape(note)}[/]", highlight=False, soft_wrap=True)
        console.print(self.result)
        for certificate in self.certificates:
            console.print(certificate)
        if self.written:
            names = ", ".join(map(str, self.written))
            console.print(f"wrote {names}", highlight=False, soft_wrap=True)
        said = [f"{n} {PLURAL.get(Verdict(v), v) if n > 1 else v}" for v, n in self.verdicts()]
        console.print(", ".join(said) or "no certificates", highlight=False)


def _json(value: Any) -> Any:
    """As JSON has it: no infinities, no paths."""
    if isinstance(value, float) and value - value != 0:
        return str(value)
    if isinstance(value, list | tuple):
        return [_json(v) for v in value]
    if isinstance(value, Mapping):
        return {str(k): _json(v) for k, v in value.items()}
    plain = getattr(value, "item", lambda: value)()
    return plain if isinstance(plain, str | int | float | bool | NoneType) else str(plain)
