"""A file of prompts that a model must still answer well: with the expected answers, or without."""

from __future__ import annotations

from finesmith.data import inputs, shapes
from finesmith.data.read import read as read_rows
from finesmith.errors import DataError
from finesmith.types import Example, Origin


def read(path: str) -> tuple[Example, ...]:
    """The prompts of a file in any format that training rows come in; the target is None where no answers are given.

    Raises:
        DataError: no prompts, or rows of which only some have an answer (all are listed).
    """
    try:
        found = read_rows(path)
    except DataError as error:
        if error.problems:
            raise
    else:
        if shapes.shape_task(found.shape) == "generation":
            return tuple(row for part in found.parts.values() for row in part)
    asked = inputs.read(path)
    return tuple(
        Example(name, given, None, Origin(path, place))
        for place, (name, given) in enumerate(zip(asked.ids, asked.inputs, strict=True), start=1)
    )
