"""What a study is made of: experiments with their own grids, claims, figures and a showcase."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from itertools import product
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from whp.certificate import Certificate
from whp.experiment.claims import (
    Claim,
    Finding,
    Measure,
    NotTested,
    Origin,
    Outcome,
    ThresholdSet,
    select,
)
from whp.experiment.source import fingerprint
from whp.experiment.task import Rows, Task

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "Claim",
    "Experiment",
    "Finding",
    "Loaded",
    "Measure",
    "NotTested",
    "Origin",
    "Outcome",
    "Scale",
    "Showcase",
    "Study",
    "ThresholdSet",
    "load",
    "select",
]

Scale = Literal["quick", "standard", "full"]
Configs = Iterable[Mapping[str, Any]]
Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Experiment:
    """A function with its grid; made by :meth:`Study.experiment`.

    Parameters
    ----------
    function : callable
        ``(config, rng)`` to a row or a list of rows.
    seeds : mapping
        How many seeds at each scale; none where a scale is missing.
    threads : int
        How many threads each library may use while it runs.
    grid : callable, mapping, sequence or None
        Configurations that are no product.
    axes : mapping
        Values, or one value, of each parameter.
    overrides : mapping
        What a scale has in place of the axes.
    """

    function: Callable[..., Any]
    seeds: Mapping[str, int]
    threads: int = 1
    grid: Callable[[Scale], Configs] | Mapping[str, Configs] | Configs | None = None
    axes: Mapping[str, Any] = field(default_factory=dict)
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The function's name with spaces."""
        return self.function.__name__.strip("_").replace("_", " ")

    def configs(self, scale: Scale) -> list[dict[str, Any]]:
        """Configurations of all trials at a scale."""
        if callable(self.grid):
            rows: Any = self.grid(scale)
        elif isinstance(self.grid, Mapping):
            by_scale: Mapping[Any, Any] = self.grid
            rows = by_scale.get(scale, ())
        else:
            rows = [{}] if self.grid is None else self.grid
        axes = {**self.axes, **self.overrides.get(scale, {})}
        values = [_values(v) for v in axes.values()]
        return [
            {"experiment": self.name, **dict(zip(axes, point, strict=True)), **row, "seed": seed}
            for row in rows
            for point in product(*values)
            for seed in range(self.seeds.get(scale, 0))
        ]


def _values(axis: Any) -> Sequence[Any]:
    if isinstance(axis, str) or not isinstance(axis, Iterable):
        return (axis,)
    return tuple(axis)


class Study:
    """Experiments of one method, each with a grid, a cache and a fingerprint of its own.

    Parameters
    ----------
    slug : str
        Of the method, e.g. ``"linf-regression"``.

    Examples
    --------
    >>> study = Study("linf-regression")
    >>> @study.experiment(seeds={"quick": 2, "standard": 30}, d=(16, 64, 256), quick={"d": (16, 64)})
    ... def dimension(config, rng):
    ...     return {"error": rng.normal() / config["d"]}
    >>> len(study.trials("quick")), len(study.trials("standard")), len(study.trials("full"))
    (4, 90, 0)
    """

    def __init__(self, slug: str) -> None:
        self.slug = slug
        self.experiments: dict[str, Experiment] = {}
        self.CLAIMS: tuple[Claim, ...] = ()

    def experiment(
        self,
        *,
        seeds: int | Mapping[str, int],
        threads: int = 1,
        grid: Callable[[Scale], Configs] | Mapping[str, Configs] | Configs | None = None,
        quick: Mapping[str, Any] | None = None,
        standard: Mapping[str, Any] | None = None,
        full: Mapping[str, Any] | None = None,
        **axes: Any,
    ) -> Callable[[Function], Function]:
        """Enter a function ``(config, rng) -> row or rows`` as an experiment; the function stays as it is.

        Its name with spaces for underscores is the experiment's. A trial is a point of the grid with a seed; the runner
        pins threads, times, and keeps the rows under the trial and the fingerprint of this function alone.

        Parameters
        ----------
        seeds : int or mapping
            How many, at all scales or by scale; a scale that is missing runs nothing.
        threads : int
            How many threads each library may use.
        grid : callable, mapping or sequence of mappings, optional
            Configurations that are no product: a function of the scale, a sequence a scale, or one sequence. Each is
            combined with the axes.
        quick, standard, full : mapping, optional
            Axes that a scale has in place of the others.
        **axes
            A value, or a sequence of values, of each parameter.

        Raises
        ------
        ValueError
            If an experiment of this name exists, or a scale is unknown.
        """
        by_scale = dict.fromkeys(get_args(Scale), seeds) if isinstance(seeds, int) else dict(seeds)
        if unknown := set(by_scale) - set(get_args(Scale)):
            raise ValueError(f"seeds: no scale {', '.join(sorted(unknown))}")
        overrides = {"quick": quick or {}, "standard": standard or {}, "full": full or {}}

        def enter(function: Function) -> Function:
            entry = Experiment(function, by_scale, threads, grid, axes, overrides)
            if entry.name in self.experiments:
                raise ValueError(f"{self.slug} has two experiments named {entry.name!r}")
            self.experiments[entry.name] = entry
            return function

        return enter

    def claims(self, *claims: Claim) -> tuple[Claim, ...]:
        """Add claims; their numbers must differ."""
        ids = [c.id for c in (*self.CLAIMS, *claims)]
        if twice := {i for i in ids if ids.count(i) > 1}:
            raise ValueError(f"{self.slug} has two claims {', '.join(sorted(twice))}")
        self.CLAIMS = (*self.CLAIMS, *claims)
        return self.CLAIMS

    def trials(self, scale: Scale) -> list[dict[str, Any]]:
        """Configurations of all experiments."""
        return [config for e in self.experiments.values() for config in e.configs(scale)]

    def tasks(self, scale: Scale) -> list[Task]:
        """What the runner is to do.

        Raises
        ------
        ValueError
            If an experiment is a function inside a function, which no worker could import.
        """
        tasks = []
        for e in self.experiments.values():
            module, name = e.function.__module__, e.function.__qualname__
            if "<locals>" in name:
                raise ValueError(f"experiment {e.name!r} must stand at the top of a module")
            source = fingerprint(module, name)
            tasks += [Task(f"{module}:{name}", c, source, e.threads) for c in e.configs(scale)]
        return tasks

    def run(self, config: dict[str, Any], rng: np.random.Generator) -> Rows:
        """Rows of one trial of the experiment that `config` names.

        Raises
        ------
        ValueError
            If there is no such experiment.
        """
        name = config.get("experiment")
        if name not in self.experiments:
            raise ValueError(f"experiment must be one of {list(self.experiments)}, got {name!r}")
        result = self.experiments[name].function(config, rng)
        return [dict(result)] if isinstance(result, Mapping) else list(result)


class Loaded:
    """All that a study offers, each part imported when it is asked for.

    A study is a package with ``experiments.py`` (has ``study``), ``claims.py`` (``CLAIMS``, perhaps ``FIGURES``),
    ``showcase.py`` (``example``, ``showcase``) and perhaps ``worlds.py``, or one module with ``trials``, ``run`` and the
    rest.

    Parameters
    ----------
    name : str
        Of the package or module, e.g. ``"whp.studies.linf_regression"``.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def _part(self, part: str) -> ModuleType:
        module = import_module(self.name)
        return import_module(f"{self.name}.{part}") if self.is_package else module

    @property
    def is_package(self) -> bool:
        """Whether it is a package."""
        return hasattr(import_module(self.name), "__path__")

    @property
    def CLAIMS(self) -> tuple[Claim, ...]:
        """What is tested."""
        return tuple(self._part("claims").CLAIMS)

    @property
    def FIGURES(self) -> Mapping[str, Callable[[pd.DataFrame, Axes], None]]:
        """Pictures of the records, by name."""
        return getattr(self._part("claims"), "FIGURES", {})

    def trials(self, scale: Scale) -> list[dict[str, Any]]:
        """Configurations of all trials."""
        module = self._part("experiments")
        return list((module.study if self.is_package else module).trials(scale))

    def run(self, config: dict[str, Any], rng: np.random.Generator) -> Rows:
        """Rows of one trial."""
        module = self._part("experiments")
        return (module.study if self.is_package else module).run(config, rng)

    def tasks(self, scale: Scale) -> list[Task]:
        """What the runner is to do."""
        if self.is_package:
            return self._part("experiments").study.tasks(scale)
        source = fingerprint(self.name)
        return [Task(f"{self.name}:run", config, source) for config in self.trials(scale)]

    def example(self) -> dict[str, Any]:
        """Arguments of the front door for the built-in real example."""
        return self._part("showcase").example()

    def showcase(self) -> Showcase:
        """The method on real data against its baseline, in at most 20 s."""
        return self._part("showcase").showcase()


@dataclass(frozen=True)
class Showcase:
    """A method at work on real data, for the tour: one row of its table and one card of its page.

    Parameters
    ----------
    data : str
        The data in a few words, e.g. ``"53,940 diamonds, 24 columns"``.
    quantity : str
        What the two numbers are, e.g. ``"error bars that cover all coefficients"``.
    ours, baseline : str
        The headline number, formatted with its unit, for the method and for its baseline.
    baseline_name : str
        Who the baseline is, e.g. ``"uniform row sampling"``.
    certificates : tuple of Certificate
        Those of the run that is shown.
    draw : callable
        Draws the picture that shows the method against its baseline on an empty matplotlib figure.
    caption : str
        What to see in the picture, in one or two sentences.
    """

    data: str
    quantity: str
    ours: str
    baseline: str
    baseline_name: str
    certificates: tuple[Certificate, ...]
    draw: Callable[[Figure], None]
    caption: str
    code: str = ""


def load(slug: str) -> Loaded:
    """The study of a method."""
    return Loaded(f"whp.studies.{slug.replace('-', '_')}")
