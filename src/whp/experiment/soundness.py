"""How often certificates err in their worlds: tasks of ``whp soundness``, and what came out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Any

from whp.experiment.source import fingerprint
from whp.experiment.task import Task
from whp.experiment.worlds import BLOCK, Counts, Worlds

__all__ = ["Row", "Soundness", "published_soundness", "soundness_tasks", "summed"]

# Of a broken world it is asked whether nine in ten runs notice, of a mutant whether it shows; only
# the rates of honest worlds, small ones, need all seeds.
BROKEN_SEEDS = 300


@dataclass(frozen=True)
class Row:
    """One theorem in one world at one strength.

    Parameters
    ----------
    theorem, world, description : str
        Which, and the world in a sentence.
    breaks : str
        Name of the condition that is broken; empty in an honest world.
    expects : str
        The verdict that the world expects, where it breaks a demand and no condition.
    strength : float
        How strongly.
    blatant, noticeable : bool
        Whether a break of that strength must be noticed, and whether data can.
    mutant : str
        What is wrong with the code; empty for the code as it is.
    caught : bool
        Whether the rate that the mutant must raise is above delta, at 95 %.
    counts : Counts
        What became of it.
    """

    theorem: str
    world: str
    description: str
    breaks: str
    expects: str
    strength: float
    blatant: bool
    noticeable: bool
    mutant: str
    caught: bool
    counts: Counts


@dataclass(frozen=True)
class Soundness:
    """All rows of a method, with the number of seeds of each world and the day they were run."""

    slug: str
    seeds: int
    theorems: tuple[str, ...]
    rows: tuple[Row, ...]
    constructed: tuple[str, ...]
    day: str = ""

    def write(self, path: Path) -> None:
        """Save as JSON."""
        path.write_text(
            json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )

    @classmethod
    def read(cls, text: str) -> Soundness:
        """From the text of a file that :meth:`write` made."""
        data = json.loads(text)
        rows = tuple(Row(**{**row, "counts": Counts(**row["counts"])}) for row in data["rows"])
        lists = {k: tuple(data[k]) for k in ("theorems", "constructed")}
        return cls(**{**data, **lists, "rows": rows})


def soundness_tasks(worlds: Worlds, seeds: int) -> list[Task]:
    """Blocks of seeds of every world and strength, and of every mutant in its world."""
    module = f"whp.studies.{worlds.slug.replace('-', '_')}.worlds"
    source = fingerprint(module, None) + fingerprint("whp.experiment.worlds", None)

    def blocks(world: str, strength: float, mutant: int | None, total: int) -> Iterable[Task]:
        for first in range(0, total, BLOCK):
            config = {
                "slug": worlds.slug,
                "world": world,
                "strength": strength,
                "mutant": mutant,
                "first": first,
                "count": min(BLOCK, total - first),
                "seed": 0,
            }
            yield Task("whp.experiment.worlds:run_block", config, source)

    tasks: list[Task] = []
    for world in worlds.worlds.values():
        total = min(seeds, world.seeds or seeds, BROKEN_SEEDS if world.breaks else seeds)
        for strength in world.strengths:
            tasks += blocks(world.name, strength, None, total)
    for index, mutant in enumerate(worlds.mutants):
        total = max(min(seeds, BROKEN_SEEDS), mutant.seeds)  # never fewer than it takes to tell
        tasks += blocks(mutant.world, mutant.strength, index, total)
    return tasks


def summed(worlds: Worlds, seeds: int, tasks: Sequence[Task], rows: Sequence[Any]) -> Soundness:
    """The rows of all tasks added up."""
    from whp.experiment.worlds import caught

    totals: dict[tuple[str, float, int | None], dict[str, Counts]] = {}
    for task, results in zip(tasks, rows, strict=True):
        key = (task.config["world"], task.config["strength"], task.config["mutant"])
        part = totals.setdefault(key, {})
        for row in results:
            if row.get("error") and "theorem" not in row:  # the task itself failed
                raise ValueError(f"{worlds.slug}, {key}: {row['error']}")
            counts = Counts(**{k: row[k] for k in Counts.__dataclass_fields__})
            name = row["theorem"]
            part[name] = part[name] + counts if name in part else counts
    made = []
    for (name, strength, index), part in totals.items():
        world = worlds.worlds[name]
        mutant = None if index is None else worlds.mutants[index]
        judged = {k: v for k, v in part.items() if k}
        blank = part.get("", Counts())
        for theorem, counts in (judged or {"": Counts()}).items():
            if mutant is not None and theorem != mutant.theorem:
                continue
            made.append(
                Row(
                    theorem,
                    name,
                    world.description,
                    world.breaks.name if world.breaks else "",
                    str(world.expects or ""),
                    strength,
                    world.blatant(strength),
                    world.noticeable,
                    mutant.how if mutant else "",
                    mutant is not None and caught(mutant, {theorem: counts}, 0.025),
                    counts + blank,
                )
            )
    return Soundness(
        worlds.slug,
        seeds,
        tuple(t.name for t in worlds.theorems),
        tuple(made),
        tuple(worlds.constructed),
        date.today().isoformat(),
    )


def published_soundness(slugs: Sequence[str] | None = None) -> Mapping[str, Soundness]:
    """What is published with this version, by method."""
    directory = files("whp") / "studies" / "soundness"
    if not directory.is_dir():
        return {}
    entries = {}
    for file in sorted(directory.iterdir(), key=lambda f: f.name):
        if file.name.endswith(".json"):
            entry = Soundness.read(file.read_text(encoding="utf-8"))
            if slugs is None or entry.slug in slugs:
                entries[entry.slug] = entry
    return entries
