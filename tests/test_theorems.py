"""What every declared theorem owes its reader."""

import re
from pathlib import Path

import pytest

from whp.catalogue import CATALOGUE
from whp.report.docs import refreshed
from whp.theorem import Derived

ROOT = Path(__file__).parent.parent
DECLARED = [m for m in CATALOGUE if m.theorems]


@pytest.mark.parametrize("method", DECLARED, ids=lambda m: m.slug)
def test_the_page_shows_the_theorems_as_declared(method):
    page = (ROOT / "docs" / "methods" / f"{method.slug}.md").read_text()
    assert refreshed(page, method.load_theorems()) == page, "say make docs"


@pytest.mark.parametrize("method", DECLARED, ids=lambda m: m.slug)
def test_every_derivation_stands_on_the_page(method):
    for theorem in method.load_theorems():
        if not isinstance(theorem.source, Derived):
            assert theorem.source
            continue
        slug, _, anchor = theorem.source.anchor.partition("#")
        page = (ROOT / theorem.source.page).read_text()
        assert slug == method.slug
        proofs = page.partition("## Why it is true")[2]
        start = proofs.find(f'<a id="{anchor}"></a>')
        assert start >= 0, f"{theorem.source.page} has no derivation {anchor!r}"
        derivation = re.split(r"<a id=|\n## ", proofs[start + 1 :])[0]
        assert len(derivation.split()) >= 40, f"{anchor}: a derivation that a reader can check"


@pytest.mark.parametrize("method", DECLARED, ids=lambda m: m.slug)
def test_names_are_unique_and_texts_are_sentences_without_end(method):
    theorems = method.load_theorems()
    names = [t.name for t in theorems]
    assert len(set(names)) == len(names)
    for t in theorems:
        for text in (t.claim, t.quantity, *(c.statement for c in t.conditions)):
            assert text, t.name
            assert not text.endswith("."), text
        for remedy in (t.remedy, *(c.remedy for c in t.conditions)):
            assert not remedy or remedy.endswith("."), remedy


def test_certificates_are_made_by_theorems_alone():
    homes = {"certificate.py", "theorem.py"}
    for path in (ROOT / "src" / "whp").rglob("*.py"):
        if path.name not in homes:
            made = re.findall(r"(?<![\w\[`.])Certificate\(", path.read_text())
            assert not made, f"{path} makes a certificate without a theorem"
