import io
from pathlib import Path

from rich.console import Console

from whp.cli._soundness import _show
from whp.experiment.soundness import published_soundness


def test_rates_fit_a_narrow_terminal_and_name_their_worlds():
    """The table of every world has nine columns: at 80 characters names of worlds were cut."""
    for slug, entry in published_soundness().items():
        file = io.StringIO()
        _show(Console(file=file, width=80), entry, Path("out") / f"{slug}.md")
        shown = file.getvalue()
        assert "…" not in shown
        assert f"every world: out/{slug}.md" in shown
        real = [r for r in entry.rows if not r.mutant and not r.breaks and not r.expects]
        worst = max(real, key=lambda r: r.counts.rate("false_not_void").value)
        never = worst.counts.false_not_void == 0
        assert ("honest: claim false, not void  0.0%" if never else f"({worst.world})") in shown
