"""Whether the rows can be parted into training, validation and test rows at all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from finesmith.checks.base import Checked, Progress
from finesmith.types import Finding


@dataclass(frozen=True)
class Parting:
    """Too few rows, one class only, labels that are tested and never trained."""

    title: str = "parts"
    tasks: tuple[str, ...] = ("classification", "generation", "text")
    cost: Literal["fast"] = "fast"

    def __call__(self, data: Checked, progress: Progress) -> Iterator[Finding]:
        """What splitting said."""
        if data.split_error:
            yield Finding(
                "parting",
                "blocking",
                data.split_error.splitlines()[0],
                len(data.rows),
                (),
                "Without its own test rows nobody can tell whether the result is any good.",
                "Add rows, or mend the labels that it names.",
                {"message": data.split_error},
            )


PLUGIN = Parting()
