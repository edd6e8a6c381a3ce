"""The published findings of the studies: one JSON file a method inside the package, from which all tables are made."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd

from whp.experiment.claims import Claim, Finding
from whp.experiment.study import Loaded, Scale, Study
from whp.intervals import Estimate, bootstrap

__all__ = ["Published", "judge", "published", "relisted"]


@dataclass(frozen=True)
class Published:
    """What a study found.

    Parameters
    ----------
    slug, scale : str
        Which study, at which scale.
    trials, failed : int
        How many ran, and how many of them raised.
    seconds : float
        Sum of the trials' times.
    findings : tuple of Finding
        One a claim.
    verdicts : dict
        How often each certificate of the trials came to each verdict.
    tightness : dict
        Median measured/bound of each certificate, with its interval.
    day : str, optional
        When it was judged, as ISO 8601: what is published may be of older code.
    """

    slug: str
    scale: Scale
    trials: int
    failed: int
    seconds: float
    findings: tuple[Finding, ...]
    verdicts: dict[str, dict[str, int]]
    tightness: dict[str, Estimate]
    day: str = ""

    def write(self, path: Path) -> None:
        """Save as JSON."""
        path.write_text(
            json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )

    @classmethod
    def read(cls, text: str) -> Published:
        """From the text of a file that :meth:`write` made."""
        data = json.loads(text)
        data["findings"] = tuple(Finding.from_dict(f) for f in data["findings"])
        data["tightness"] = {k: Estimate(**v) for k, v in data["tightness"].items()}
        return cls(**data)


def judge(
    slug: str, study: Loaded | Study | ModuleType, scale: Scale, records: pd.DataFrame
) -> Published:
    """Judge all claims of a study on its records.

    Columns ``verdict_NAME`` and ``tightness_NAME`` of the records, where a study keeps them, are summed up by certificate.
    A claim whose trials failed is *failed*, one whose trials were not run at this scale *not tested*.
    """
    failed = records["error"].astype(bool)
    per_trial = records.drop_duplicates("trial")
    good = records[~failed]
    verdicts = {
        c.removeprefix("verdict_"): {
            str(k): int(v) for k, v in good[c].dropna().value_counts().items()
        }
        for c in good.columns
        if c.startswith("verdict_")
    }
    tightness = {
        c.removeprefix("tightness_"): bootstrap(
            good[c].dropna().to_numpy(float), _median, resamples=999
        )
        for c in good.columns
        if c.startswith("tightness_") and good[c].notna().sum() >= 2
    }
    return Published(
        slug,
        scale,
        len(per_trial),
        int(per_trial["error"].astype(bool).sum()),
        float(per_trial["seconds_trial"].sum()),
        tuple(claim.judge(records) for claim in study.CLAIMS),
        verdicts,
        tightness,
        date.today().isoformat(),
    )


def relisted(entry: Published, claims: Sequence[Claim]) -> Published:
    """The same measurements under what the claims now say of themselves: origin, when the threshold was set, notes.

    A claim whose relation or threshold has changed since, or that was not measured, stays as it was published.
    """
    known = {c.id: c for c in claims}

    def again(f: Finding) -> Finding:
        claim = known.get(f.id)
        same = claim is not None and (claim.relation, claim.threshold) == (f.relation, f.threshold)
        return claim.again(f.ours) if claim is not None and same and f.ours is not None else f

    return replace(entry, findings=tuple(again(f) for f in entry.findings))


def _median(values: Any) -> float:
    return float(pd.Series(values).median())


def published(slugs: Sequence[str] | None = None) -> dict[str, Published]:
    """What is published with this version, by method."""
    directory = files("whp") / "studies" / "findings"
    if not directory.is_dir():
        return {}
    entries = {}
    for file in sorted(directory.iterdir(), key=lambda f: f.name):
        if file.name.endswith(".json") and (
            slugs is None or file.name.removesuffix(".json") in slugs
        ):
            entry = Published.read(file.read_text(encoding="utf-8"))
            entries[entry.slug] = entry
    return entries
