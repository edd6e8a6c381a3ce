import sys
from types import ModuleType

import pandas as pd
import pytest

from whp.cli import _study
from whp.experiment.claims import Claim, select
from whp.experiment.findings import judge, published
from whp.experiment.measures import mean
from whp.experiment.study import Loaded


@pytest.fixture
def root(tmp_path, monkeypatch):
    (tmp_path / "src" / "whp" / "studies").mkdir(parents=True)
    monkeypatch.setattr(_study, "_root", lambda: tmp_path)
    return tmp_path


def test_publishing_writes_findings_figures_and_the_ledger(root, monkeypatch):
    records = pd.DataFrame(
        {
            "experiment": "size",
            "seed": [0, 1, 2],
            "trial": [0, 1, 2],
            "x": [1.0, 2.0, float("nan")],
            "error": ["", "", "ValueError"],
            "seconds_trial": 1.0,
        }
    )
    module = ModuleType("toy_published")
    module.CLAIMS = (Claim("C1", "x", measure=mean("x"), at_most=100.0),)
    module.FIGURES = {
        "all sizes": lambda r, ax: ax.plot(r["seed"], r["x"]),
        "not run": lambda r, ax: ax.plot(select(r, "other")["x"]),
    }
    monkeypatch.setitem(sys.modules, "toy_published", module)
    fake = Loaded("toy_published")
    pages = root / "docs" / "ledger"
    pages.mkdir(parents=True)
    (pages / "linf-regression-old.svg").write_text("<svg/>")
    entry = judge("linf-regression", fake, "quick", records)
    assert entry.findings[0].ours.n == 2, "the failed trial is left out"
    _study._publish(entry, fake, records)
    assert (root / "src/whp/studies/findings/linf-regression.json").exists()
    assert [p.name for p in pages.glob("*.svg")] == ["linf-regression-all_sizes.svg"]
    assert "<svg" in (pages / "linf-regression-all_sizes.svg").read_text()
    assert (
        "![all sizes](linf-regression-all_sizes.svg)" in (pages / "linf-regression.md").read_text()
    )
    assert (root / "LEDGER.md").exists()


def test_relisting_runs_nothing_and_writes_a_page_a_paper(root, monkeypatch):
    monkeypatch.setattr(_study, "published", lambda: published(["linf-regression", "view-batch"]))
    assert _study.relist() == 0
    assert {p.stem for p in (root / "docs" / "ledger").iterdir()} == {
        "linf-regression",
        "view-batch",
    }
    assert "## Claims that failed" in (root / "LEDGER.md").read_text()


def test_an_installed_package_has_no_ledger_to_write(tmp_path, monkeypatch):
    monkeypatch.setattr(_study, "files", lambda name: tmp_path / "site-packages" / "whp")
    with pytest.raises(ValueError, match="checkout of the source"):
        _study.relist()
