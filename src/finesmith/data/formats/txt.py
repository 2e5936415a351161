"""Plain text: each file is one document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from finesmith.data.lines import lines
from finesmith.data.rows import Bad, Row


class Text:
    """One row, whose column `text` is the whole file."""

    suffixes = (".txt",)

    def rows(self, stream: BinaryIO, name: str) -> Iterator[tuple[int, Row | Bad]]:
        """Yield (1, row), or (line of the fault, Bad) when the file is empty or not UTF-8."""
        read = list(lines(stream, name))
        text = "".join(line.text for line in read)
        fault = next((line for line in read if line.fault), None)
        if fault:
            yield fault.number, Bad(fault.fault, text)
        elif not text.strip():
            yield 1, Bad("the document is empty", text)
        else:
            yield 1, {"text": text}


PLUGIN = Text()
