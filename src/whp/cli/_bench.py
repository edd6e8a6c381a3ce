"""``whp bench``: the benchmark modules of a checkout, one after the other."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown

from whp.experiment.benchmark import compare, document, markdown

__all__ = ["bench"]


def bench(slugs: Sequence[str], source: Path, out: Path | None) -> int:
    """Run ``CASES`` of each module in `source`; put their sections into `out`."""
    modules = {p.stem.replace("_", "-"): p for p in sorted(source.glob("*.py"))}
    if unknown := [s for s in slugs if s not in modules]:
        raise ValueError(
            f"{source}: no benchmark of {', '.join(unknown)}; there are {', '.join(modules) or 'none'}"
        )
    console = Console()
    sections: dict[str, str] = {}
    for slug in slugs or modules:
        spec = importlib.util.spec_from_file_location(
            f"benchmark_{modules[slug].stem}", modules[slug]
        )
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        results = []
        for case in module.CASES:
            with console.status(f"{slug}: {case.name}"):
                results.append(compare(case))
        sections[slug] = markdown(slug, results)
        console.print(Markdown(sections[slug]))
        if out is not None:
            earlier = out.read_text(encoding="utf-8") if out.exists() else ""
            out.write_text(document(sections, earlier), encoding="utf-8")
    return 0
