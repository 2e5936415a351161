"""A file of prompts that a model must still answer well: with the expected answers, or without."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from finesmith.data import inputs, shapes, sources, temporary
from finesmith.data.read import read as read_rows
from finesmith.errors import DataError
from finesmith.types import Example, Origin

ANSWERED = ("alpaca", "prompt", "turns")
"""Shapes with a column for the answer: then every row must have one."""


def read(path: str) -> tuple[Example, ...]:
    """The prompts of a file in any format that training rows come in; the target is None where no answers are given.

    Raises:
        DataError: no prompts, or rows of which only some have an answer (all are listed).
    """
    rows = [row for source in sources.locate(path)[0] for _, row in source.rows() if isinstance(row, dict)]
    readings = shapes.possible(rows, {}) if rows else []
    try:
        found = read_rows(path)
    except DataError:
        if set(readings) & set(ANSWERED):
            raise
    else:
        if shapes.shape_task(found.shape) == "generation":
            return tuple(row for part in found.parts.values() for row in part)
    asked = inputs.read(path)
    return tuple(
        Example(name, given, None, Origin(path, place))
        for place, (name, given) in enumerate(zip(asked.ids, asked.inputs, strict=True), start=1)
    )


def of(rows: Any, name: str) -> tuple[Example, ...]:
    """The same of the rows that such a file holds, or of prompts that were read; `name` is what errors call them.

    Raises:
        DataError: as for `read`.
    """
    if not isinstance(rows, list | tuple) or not rows:
        raise DataError(f"{name} must be a path or a list of rows, such as [{{'prompt': 'Where is my parcel?'}}].")
    if all(isinstance(row, Example) for row in rows):
        return tuple(rows)
    with (
        temporary.written(),
        tempfile.TemporaryDirectory(prefix=temporary.PREFIX) as folder,
    ):  # the readers of files say what may be in a row
        path = Path(folder) / "prompts.jsonl"
        path.write_text(_lines(rows, name), encoding="utf-8")
        try:
            found = read(str(path))
        except DataError as error:
            said = [text.replace(str(path), name) for text in (error.message, error.hint, *error.problems)]
            raise DataError(said[0], problems=said[2:], hint=said[1]) from None
    return tuple(
        replace(row, id=f"prompts:{place}", origin=Origin(name, place)) for place, row in enumerate(found, start=1)
    )


def _lines(rows: Sequence[Any], name: str) -> str:
    lines = []
    for place, row in enumerate(rows, start=1):
        try:
            lines.append(json.dumps(row) + "\n")
        except (TypeError, ValueError) as error:
            raise DataError(f"{name}:{place} is no row that a file could hold: {error}.") from error
    return "".join(lines)
