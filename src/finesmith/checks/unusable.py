"""Rows that cannot be read: no text, no label, broken JSON, unknown roles, tool calls that do not parse."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from finesmith.checks.base import SHOWN, Checked, Mend, Progress, plural
from finesmith.data.private import excerpt
from finesmith.types import Finding


@dataclass(frozen=True)
class Unusable:
    """What reading has left out, by reason."""

    title: str = "unusable rows"
    tasks: tuple[str, ...] = ("classification", "generation", "text")
    cost: Literal["fast"] = "fast"

    def __call__(self, data: Checked, progress: Progress) -> Iterator[Finding]:
        """One finding with all reasons."""
        if not data.rejected:
            return
        accepted = data.recipe.data.max_bad_rows
        reasons = Counter(_kind(row.reason) for row in data.rejected)
        first = {
            _kind(row.reason): excerpt(row.reason) for row in reversed(data.rejected)
        }  # one as it is, names and all
        common = "; ".join(f"{first[kind]}{_more(count)}" for kind, count in reasons.most_common(4))
        yield Finding(
            "unusable",
            "blocking" if len(data.rejected) > accepted else "warning",
            f"{plural(len(data.rejected), 'row')} cannot be used: {common}.",
            len(data.rejected),
            tuple(str(row.origin) for row in data.rejected),
            "A row that cannot be read teaches nothing, and often the rows beside it are wrong too.",
            f"Mend them, or accept them with --max-bad-rows {len(data.rejected)}.",
            {
                "reasons": dict(reasons),
                "samples": [{"row": str(r.origin), "reason": excerpt(r.reason)} for r in data.rejected[:SHOWN]],
            },
        )

    def mend(self, finding: Finding, data: Checked) -> Mend:
        """Leaves them out."""
        return Mend(drop=finding.rows)


def _more(count: int) -> str:
    """What stands behind one of several reasons of a kind."""
    return f" ({plural(count, 'row')})" if count > 1 else ""


def _kind(reason: str) -> str:
    """A reason without what differs from row to row."""
    return excerpt(re.sub(r"\s+", " ", re.sub(r"'[^']*'|\b\d+\b|\(.*", "...", reason)).strip(" .:")[:80] or reason[:80])


PLUGIN = Unusable()
