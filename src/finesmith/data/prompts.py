"""A file of prompts that a model must still answer well: with the expected answers, or without."""

from __future__ import annotations

from finesmith.data import inputs, shapes, sources
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
