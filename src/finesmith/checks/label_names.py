"""Labels that differ only in case or blanks: one class under two names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from finesmith.checks.base import Checked, Mend, Progress, labels_of, plural
from finesmith.data.shapes import label_variants
from finesmith.types import Finding


@dataclass(frozen=True)
class LabelNames:
    """Groups of labels that read the same."""

    title: str = "label names"
    tasks: tuple[str, ...] = ("classification",)
    cost: Literal["fast"] = "fast"

    def __call__(self, data: Checked, progress: Progress) -> Iterator[Finding]:
        """One finding over all groups."""
        counts = Counter(label for row in data.rows for label in labels_of(row))
        alike = [sorted(group, key=lambda label: -counts[label]) for group in label_variants(counts)]
        if not alike:
            return
        rare = {label: group[0] for group in alike for label in group[1:]}
        found = [place for place, row in enumerate(data.rows) if any(label in rare for label in labels_of(row))]
        shown = "; ".join(" / ".join(f"'{label}' ({counts[label]:,})" for label in group) for group in alike[:5])
        yield Finding(
            "label_names",
            "warning",
            f"{plural(len(alike), 'class', 'classes')} under several names: {shown}.",
            len(alike),
            data.origins(found),
            "The model has to learn a difference that is none, and is marked wrong for the other spelling.",
            "Use one name (--fix takes the commonest).",
            {"groups": alike, "labels": rare},
        )

    def mend(self, finding: Finding, data: Checked) -> Mend:
        """The commonest name of each group for all its rows."""
        return Mend(labels=finding.detail["labels"])


PLUGIN = LabelNames()
