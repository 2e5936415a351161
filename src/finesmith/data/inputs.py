"""Rows to answer: the same files as for training, but nobody needs labels, and the order is kept."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finesmith.data import sources
from finesmith.data.rows import Bad
from finesmith.errors import DataError, RunError, nearest

TEXT = (
    "text",
    "prompt",
    "sentence",
    "body",
    "message",
    "content",
    "question",
    "utterance",
    "instruction",
    "input",
    "document",
)


def read(path: str, *, column: str | None = None) -> list[tuple[str, Any]]:
    """Ids and inputs (a text, or a list of messages) of every row of a file.

    Raises:
        DataError: a row that cannot be read, or no column that could be the input.
    """
    found: list[tuple[str, Any]] = []
    problems: list[str] = []
    files, _ = sources.locate(path)
    for file in files:
        for line, row in file.rows():
            value, fault = (None, row.reason) if isinstance(row, Bad) else _value(row, column)
            problems += [f"{file.name}:{line}: {fault}"] if fault else []
            found.append((str(row.get("id", line)) if isinstance(row, dict) else str(line), value))
    if problems:
        raise DataError(f"{len(problems)} rows of {path} cannot be answered:", problems=problems)
    if not found:
        raise DataError(f"{path} has no rows.")
    return found


def _value(row: Mapping[str, Any], column: str | None) -> tuple[Any, str]:
    """The input of a row and the fault in it ('' when there is none)."""
    if column is None and isinstance(row.get("messages"), list):
        return _until_answer(row["messages"]), ""
    by_lower = {name.lower(): name for name in row}
    name = column or next((by_lower[known] for known in TEXT if known in by_lower), None)
    if name is None or name not in row:
        return None, f"no column '{column or 'text'}'. {nearest(column or 'text', row)}"
    value = row[name]
    if not isinstance(value, str) or not value.strip():
        return None, f"'{name}' is empty" if not value else f"'{name}' is no text"
    if name.lower() == "instruction" and row.get("input"):
        return f"{value}\n\n{row['input']}", ""
    return value, ""


def _until_answer(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The turns before a final assistant turn, which is what the model is to write."""
    last = messages[-1].get("role") if messages else None
    return list(messages[:-1] if last == "assistant" else messages)


def write_text(path: str, text: str) -> None:
    """Writes an output file in one piece.

    Raises:
        RunError: the place cannot be written.
    """
    part = Path(f"{path}.part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise RunError(f"Cannot write {path}: {error.strerror}.") from error
