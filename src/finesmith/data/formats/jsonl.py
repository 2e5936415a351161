"""JSON Lines: one object a line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from finesmith.data import strict_json
from finesmith.data.lines import lines
from finesmith.data.rows import Bad, Row
from finesmith.errors import DataError


class JsonLines:
    """One JSON object a line; blank lines are no rows."""

    suffixes = (".jsonl", ".ndjson", ".jsonlines")

    def rows(self, stream: BinaryIO, name: str) -> Iterator[tuple[int, Row | Bad]]:
        """Yield (line, row or Bad), one line in memory at a time.

        Raises:
            DataError: the file is one JSON list, or not UTF-8 at all.
        """
        first = True
        for line in lines(stream, name):
            text = line.text.strip()
            if not text:
                continue
            if first and text.startswith("["):
                raise DataError(
                    f"{name} holds one JSON list, not one object a line.",
                    hint="Name it .json, or set data.format to json.",
                )
            first = False
            yield line.number, Bad(line.fault, text) if line.fault else strict_json.row(text)


PLUGIN = JsonLines()
