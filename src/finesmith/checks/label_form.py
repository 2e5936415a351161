"""Labels that are no names: decimal numbers, which ask for regression, and several labels joined in one cell."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from finesmith.checks.base import Checked, Progress, labels_of, plural, share
from finesmith.types import Finding

_DECIMAL = re.compile(r"[+-]?\d*[.,]\d+")
_WHOLE = re.compile(r"[+-]?\d+")
FEW = 0.5
"""Joined names are meant where this share of the labels has the mark, and parting leaves fewer names than labels."""


@dataclass(frozen=True)
class LabelForm:
    """What labels look like, all together."""

    title: str = "form of the labels"
    tasks: tuple[str, ...] = ("classification",)
    cost: Literal["fast"] = "fast"

    def __call__(self, data: Checked, progress: Progress) -> Iterator[Finding]:
        """One finding for numbers, one for joined names."""
        labels = sorted({label for row in data.rows for label in labels_of(row)})
        if _decimal(labels):
            yield _numbers(labels)
        for mark in ";|":
            parts = {part.strip() for label in labels for part in label.split(mark)}
            joined = [label for label in labels if mark in label]
            if len(joined) >= FEW * len(labels) and 2 <= len(parts) < len(labels):
                rows = tuple(str(row.origin) for row in data.rows if any(mark in label for label in labels_of(row)))
                yield _joined(mark, labels, sorted(parts), rows, len(data.rows))


def _decimal(labels: Sequence[str]) -> bool:
    """All are numbers, and some have digits behind a point."""
    decimal = [label for label in labels if _DECIMAL.fullmatch(label.strip())]
    return len(decimal) >= 2 and all(_DECIMAL.fullmatch(x.strip()) or _WHOLE.fullmatch(x.strip()) for x in labels)


def _numbers(labels: Sequence[str]) -> Finding:
    return Finding(
        "label_form",
        "warning",
        f"All labels are decimal numbers ({plural(len(labels), 'value')}, such as {labels[0]}): regression is not "
        "supported, and each number becomes a class of its own.",
        len(labels),
        (),
        "A class knows nothing of its neighbours: to take 3.4 for 3.5 counts as wrong as to take it for 9.",
        "Cut the numbers into a few named classes, such as low, middle and high, in a column of their own.",
        {"labels": list(labels[:20])},
    )


def _joined(mark: str, labels: Sequence[str], parts: Sequence[str], rows: tuple[str, ...], total: int) -> Finding:
    shown = ", ".join(parts[:5]) + (", ..." if len(parts) > 5 else "")
    return Finding(
        "label_form",
        "warning",
        f"The labels of {share(len(rows), total)} rows seem to be several in one, joined by '{mark}': "
        f"{len(labels)} labels are made of {plural(len(parts), 'name')} ({shown}).",
        len(rows),
        rows,
        "Each combination is learnt as a class of its own, and one that was never seen cannot be answered.",
        'Write a list in every row: in JSONL ["a", "b"], in a CSV cell the same as text.',
        {"names": list(parts[:50])},
    )


PLUGIN = LabelForm()
