"""Which of two columns with unknown names is a text and which its label, by their values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from finesmith.data.names import find
from finesmith.data.rows import Row
from finesmith.errors import DataError

GUESS_LABELS = 200
"""More distinct values than this in the sample are no labels."""
GUESS_LENGTH = 80
"""Characters; a longer value is no label."""


def text_and_label(
    rows: Sequence[Row], keys: Sequence[str], columns: Mapping[str, str], name: str
) -> dict[str, str] | None:
    """Two columns of unknown names, one with long texts and one with few short values: a text and its label."""
    rest = [key for key in keys if key not in {*find("id", keys, columns={}), *find("group", keys, columns={})}]
    if len(rest) != 2 or columns:
        return None
    for label, text in (rest, rest[::-1]):
        if _label_like(rows, label) and _text_like(rows, text, label):
            if label in {str(row.get(label)) for row in rows}:
                raise DataError(f"{name} seems to have no header line: its first line is '{text},{label}'.")
            return {"text": text, "label": label}
    return None


def _label_like(rows: Sequence[Row], column: str) -> bool:
    values = [row.get(column) for row in rows]
    if not all(isinstance(value, str | int) and len(str(value)) <= GUESS_LENGTH for value in values):
        return False
    distinct = len({str(value) for value in values})
    return 2 <= distinct <= min(GUESS_LABELS, len(rows) / 2)


def _text_like(rows: Sequence[Row], column: str, other: str) -> bool:
    values = [row.get(column) for row in rows]
    if not all(isinstance(value, str) for value in values):
        return False
    length, label_length = (sum(len(str(row.get(key))) for row in rows) for key in (column, other))
    return len(set(map(str, values))) > len({str(row.get(other)) for row in rows}) and length >= 2 * label_length
