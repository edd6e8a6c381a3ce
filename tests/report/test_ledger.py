import re

import pytest

from whp.experiment.claims import Finding, Origin, Outcome
from whp.experiment.findings import Published, published
from whp.intervals import Estimate, exact
from whp.report import ledger, ledger_page


def finding(id, outcome, ours=None, **settings):
    texts = {"statement": f"claim {id}", "paper": "Table 2 | 3", "quantity": "q"}
    return Finding(
        id=id, relation="<=", threshold=1.0, ours=ours, outcome=outcome, **texts, **settings
    )


ENTRY = Published(
    "linf-regression",
    "standard",
    7,
    1,
    12.0,
    (
        finding("C1", Outcome.REPRODUCED, Estimate(0.5, 0.4, 0.6, n=9, method="t"), note="shared"),
        finding("C2", Outcome.NOT_REPRODUCED, Estimate(2.0, 1.5, 3.0), origin=Origin.OURS),
        finding("C3", Outcome.INCONCLUSIVE, Estimate(1.0, 0.5, 3.0), note="shared"),
        finding("C4", Outcome.NOT_TESTED, reason="nothing was run with K = 64; there was 4"),
        finding("C5", Outcome.DESCRIBED, exact(0.5), reason="one run, no interval"),
        finding("C6", Outcome.FAILED, reason="1 of its trials failed: ValueError"),
        finding("C7", Outcome.REPRODUCED, exact(0.5), computed=True),
    ),
    {"bars": {"holds": 3, "fails": 1}},
    {"bars": exact(0.5)},
)


def rows(text, first):
    return [line.split(" | ") for line in text.splitlines() if line.startswith(first)]


def test_a_paper_is_a_row_and_the_failed_claims_stand_above():
    text = ledger({"linf-regression": ENTRY})
    (row,) = rows(text, "| [linf-regression]")
    assert row[1:6] == ["2", "", "1", "1", ""], "theirs: reproduced, not, undecided, not tested"
    assert row[6:9] == ["1", "", "1"], "ours: not reproduced; described"
    assert row[9] == "1", "failed trials"
    failed = text[: text.index("## Papers")]
    assert "C2 claim C2" in failed
    assert "C6 claim C6" in failed
    assert "C1 claim" not in failed
    assert "7 claims about 1 papers" in text


def test_a_page_shows_failed_first_and_notes_once():
    text = ledger_page(ENTRY, ["linf-regression-spike.svg"])
    order = re.findall(r"\*\*(C\d)\*\*", text)
    assert order == ["C2", "C6", "C3", "C1", "C7", "C5", "C4"]
    assert len(re.findall(r"^\[\^\d+\]: shared", text, flags=re.M)) == 1
    assert "Nothing was run with K = 64; there was 4." in text
    assert "| ✓ reproduced | **C1**" in text
    assert "9, t | seeds" in text
    assert "exact | computed" in text
    assert "Table 2 \\| 3" in text
    assert "| bars | 3 holds, 1 fails |" in text
    assert "![spike](linf-regression-spike.svg)" in text
    marks = set(re.findall(r"(?<!^)\[\^(\d+)\](?!:)", text))
    assert marks == set(re.findall(r"^\[\^(\d+)\]:", text, flags=re.M))


@pytest.mark.parametrize("slug", sorted(published()))
def test_pages_are_tables_of_equal_width(slug):
    for text in (ledger(published([slug])), ledger_page(published()[slug])):
        for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.M):
            widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
            assert len(widths) == 1


def test_what_is_in_the_repository_was_generated_from_what_is_published():
    from pathlib import Path

    root = Path(__file__).parents[2]
    assert (root / "LEDGER.md").read_text() == ledger(published())
    for slug, entry in published().items():
        pages = root / "docs" / "ledger"
        figures = sorted(p.name for p in pages.glob(f"{slug}-*.svg"))
        assert (pages / f"{slug}.md").read_text() == ledger_page(entry, figures)
