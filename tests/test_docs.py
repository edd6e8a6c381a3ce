import re
from pathlib import Path

import pytest

from whp.catalogue import CATALOGUE

ROOT = Path(__file__).parent.parent
BUILT = [m.slug for m in CATALOGUE if m.status == "built"]


@pytest.mark.parametrize("slug", BUILT)
def test_the_code_of_a_methods_page_runs(slug, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "methods" / f"{slug}.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    assert blocks, "a method's page shows how to use it"
    namespace: dict = {}
    for block in blocks:
        exec(compile(block, f"docs/methods/{slug}.md", "exec"), namespace)


@pytest.mark.parametrize("page", ["README.md", "docs/certificates.md"])
def test_the_code_of_other_pages_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace: dict = {}
    for block in re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.S):
        exec(compile(block, page, "exec"), namespace)


def test_links_lead_somewhere():
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
