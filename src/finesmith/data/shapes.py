"""Which columns mean what: the shape of a data set, found from its first rows or given. Converting is next door."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from finesmith.data.duplicates import same_label
from finesmith.data.guess import text_and_label
from finesmith.data.label_lists import parted
from finesmith.data.names import check_columns, check_words, codes, find, settings
from finesmith.data.rows import Row
from finesmith.errors import DataError, RecipeError, nearest


@dataclass(frozen=True)
class Shape:
    """What a row of this shape has. `task` is the task that suits it unless the recipe says otherwise."""

    required: tuple[str, ...]
    optional: tuple[str, ...]
    task: str
    meaning: str


SHAPES: dict[str, Shape] = {
    "messages": Shape(("messages",), ("tools",), "generation", "a column messages, with lists of {role, content}"),
    "sharegpt": Shape(
        ("messages",), ("tools", "system"), "generation", "a column conversations, with lists of {from, value}"
    ),
    "turns": Shape(
        ("prompt", "completion"), ("tools",), "generation", "columns prompt and completion, of {role, content}"
    ),
    "alpaca": Shape(
        ("instruction", "output"), ("input", "system"), "generation", "columns instruction, output and perhaps input"
    ),
    "prompt": Shape(("prompt", "completion"), ("system",), "generation", "columns prompt and completion"),
    "labels": Shape(("text", "label"), (), "classification", "columns text and label"),
    "text": Shape(("text",), (), "text", "a column text alone"),
}

COMMON = ("id", "group")
PREFERENCES = (("chosen", "rejected"), ("preferred_output", "non_preferred_output"))
"""Columns of a better and a worse answer: TRL and OpenAI."""


@dataclass(frozen=True)
class Plan:
    """How each row of a data set is read. `columns` maps our words to its columns; `several`: labels are lists."""

    shape: str
    columns: Mapping[str, str]
    several: bool = False
    unused: tuple[str, ...] = ()
    guessed: bool = False

    @property
    def required(self) -> tuple[str, ...]:
        """The columns that every row must have."""
        return tuple(self.columns[word] for word in SHAPES[self.shape].required)

    def note(self) -> str:
        """What was detected, as a sentence."""
        told = ", ".join(f"{word} is the column '{column}'" for word, column in self.columns.items())
        how = (
            " (guessed from the values; data.columns.text=COLUMN and data.columns.label=COLUMN say otherwise)"
            if self.guessed
            else ""
        )
        kind = ", several labels a row" if self.several else ""
        unused = f" Columns not used: {', '.join(self.unused)}." if self.unused else ""
        if self.unused and self.shape == "text":
            unused += f" Only texts are learnt; if one of those is the label: data.columns.label={self.unused[0]}"
        return f"Shape {self.shape}{kind}: {told}{how}.{unused}"


def shape_task(shape: str) -> str:
    """The task that suits a shape: classification, generation or text."""
    return SHAPES[shape].task


def settled_task(task: str, shape: str) -> str:
    """The task of data of this shape: the one asked for, or with `auto` the one that suits it.

    Raises:
        RecipeError: the shape is for another task.
    """
    fitting = task if "." in task else shape_task(shape)
    if task not in ("auto", fitting):
        raise RecipeError(f"task is '{task}', but the data has the shape '{shape}', which is for {fitting}.")
    return fitting


def task_shape(task: str) -> str | None:
    """The shape that a task asks for; generation takes whichever of its shapes the data has."""
    return {"classification": "labels", "text": "text"}.get(task)


def label_variants(labels: Iterable[str]) -> list[tuple[str, ...]]:
    """Labels that differ only in case, in spaces or in how accents are encoded, as sorted groups; never altered."""
    groups: dict[str, set[str]] = {}
    for label in labels:
        groups.setdefault(same_label(label), set()).add(label)
    return sorted(tuple(sorted(group)) for group in groups.values() if len(group) > 1)


def detect(
    rows: Sequence[Row], *, name: str, columns: Mapping[str, str] | None = None, shape: str | None = None
) -> Plan:
    """The shape of a data set from its first readable rows. `name` is what errors call the file.

    Raises:
        DataError: nothing recognisable, more than one reading possible, or `columns` does not fit the file.
    """
    columns = dict(columns or {})
    check_words(columns)
    if shape is not None and shape not in SHAPES:
        raise DataError(f"Unknown shape '{shape}'. {nearest(shape, SHAPES)}")
    check_columns(columns, {key for row in rows for key in row}, name=name)
    if shape:
        _check_void(shape, columns)
    rows = _majority(rows, columns)
    keys = list(dict.fromkeys(key for row in rows for key in row))
    short = codes(rows, keys) if "text" not in columns else set()
    rows = [{key: value for key, value in row.items() if key not in short} for row in rows]
    plan = _detect(rows, [key for key in keys if key not in short], name=name, columns=columns, shape=shape)
    return replace(plan, unused=tuple(key for key in keys if key in short or key in plan.unused))


def _check_void(shape: str, columns: Mapping[str, str]) -> None:
    """Words of `columns` that rows of the shape do not have."""
    words = (*SHAPES[shape].required, *SHAPES[shape].optional, *COMMON)
    for word in columns:
        if word not in words:
            raise DataError(f"data.columns.{word} has no effect: rows of the shape {shape} have {', '.join(words)}.")


def _detect(
    rows: Sequence[Row], keys: Sequence[str], *, name: str, columns: Mapping[str, str], shape: str | None
) -> Plan:
    shapes = [shape] if shape else possible(rows, columns)
    if len(shapes) > 1:
        raise _two_readings(name, shapes, keys, columns)
    if shape or (shapes and shapes != ["text"]):
        return _plan(shapes[0], rows, keys, columns, name)
    guessed = text_and_label(rows, keys, columns, name)
    if guessed:
        return _plan("labels", rows, keys, guessed, name, guessed=True)
    if shapes:
        return _plan("text", rows, keys, columns, name)
    raise _preferences(name, rows, keys) or _unrecognised(name, keys)


def possible(rows: Sequence[Row], columns: Mapping[str, str]) -> list[str]:
    """The shapes that rows can have by their column names; one, unless it cannot be told."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    fits = [shape for shape in SHAPES if _fits(shape, rows, keys, columns)]
    for first in ("sharegpt", "messages", "turns", "alpaca"):
        if first in fits:
            return [first]
    return [shape for shape in fits if shape != "text"] or fits


def candidates(shape: str, word: str, keys: Sequence[str], columns: Mapping[str, str]) -> list[str]:
    """The columns that can be `word` in this shape."""
    found = find("document" if shape == "text" else word, keys, columns=columns)
    if shape != "labels" or word in columns:
        return found
    if word == "text" and find("completion", keys, columns={}):
        return [key for key in found if key.strip().lower() != "question"]
    if word == "label" and set(find("text", keys, columns=columns)) & set(find("prompt", keys, columns={})):
        return [key for key in found if key.strip().lower() != "target"]
    return found


def _fits(shape: str, rows: Sequence[Row], keys: Sequence[str], columns: Mapping[str, str]) -> bool:
    needs = SHAPES[shape]
    if not set(columns) <= {*needs.required, *needs.optional, *COMMON}:
        return False
    found = {word: candidates(shape, word, keys, columns) for word in (*needs.required, *needs.optional)}
    if not all(found[word] for word in needs.required):
        return False
    if shape in ("messages", "sharegpt"):
        return _holds_turns(rows, found["messages"][0], "from" if shape == "sharegpt" else "role")
    if shape == "turns":
        return any(_is_spoken(row.get(found[word][0])) for row in rows[:1] for word in needs.required)
    if shape == "alpaca":  # `instruction` with `response` alone is a prompt and its completion
        return bool(found["input"]) or found["output"][0].lower() == "output"
    if shape == "text":
        return "text" in columns or not any(find(word, keys, columns=columns) for word in ("label", "completion"))
    return True


def _holds_turns(rows: Sequence[Row], column: str, key: str) -> bool:
    """Whether a column holds lists of turns (perhaps as JSON text), whose first turn has the key `key`."""
    value = next((row[column] for row in rows if row.get(column)), None)
    if isinstance(value, str):
        return value.lstrip().startswith("[") and (f'"{key}"' in value or (key == "role" and '"from"' not in value))
    if not isinstance(value, list):
        return False
    turn = value[0] if value else None
    return isinstance(turn, dict) and (key in turn or (key == "role" and "from" not in turn))


def _is_spoken(value: Any) -> bool:
    """Whether a cell holds turns: a list of them, or an object with `messages` (a preference file of OpenAI)."""
    turns = value.get("messages") if isinstance(value, Mapping) else value
    return (
        isinstance(turns, list)
        and bool(turns)
        and isinstance(turns[0], Mapping)
        and bool({"role", "from"} & {*turns[0]})
    )


def _majority(rows: Sequence[Row], columns: Mapping[str, str]) -> list[Row]:
    """The rows of the commonest shape (the earliest, when two are as common): the others are reported one by one."""
    kinds = [tuple(possible([row], columns)) for row in rows]
    counts = Counter(kind for kind in kinds if kind) or Counter(kinds)
    commonest = counts.most_common(1)[0][0]
    return [row for row, kind in zip(rows, kinds, strict=True) if kind == commonest]


def _plan(
    shape: str, rows: Sequence[Row], keys: Sequence[str], columns: Mapping[str, str], name: str, guessed: bool = False
) -> Plan:
    chosen: dict[str, str] = {}
    for word in SHAPES[shape].required:
        found = candidates(shape, word, keys, columns)
        if not found:
            raise DataError(f"{name} has no column for {word}. Columns found: {', '.join(keys)}.", hint=_how(word))
        if len(found) > 1:
            raise _two_columns(name, word, found)
        chosen[word] = found[0]
    for word in (*SHAPES[shape].optional, *COMMON):
        free = [key for key in find(word, keys, columns=columns) if key not in chosen.values()]
        if free:
            chosen[word] = free[0]
    unused = tuple(key for key in keys if key not in chosen.values())
    several = shape == "labels" and _several(rows, chosen["label"])
    return Plan(shape, chosen, several, unused, guessed)


def _several(rows: Sequence[Row], column: str) -> bool:
    return isinstance(parted(next((row[column] for row in rows if row.get(column) is not None), None)), list)


def _how(word: str) -> str:
    return f"Say which it is: data.columns.{word}=COLUMN."


def _two_columns(name: str, word: str, found: Sequence[str]) -> DataError:
    ways = " or ".join(settings({word: column}) for column in found)
    return DataError(f"{name}: more than one column may be the {word}: {', '.join(found)}.", hint=f"Write {ways}.")


def _two_readings(name: str, shapes: Sequence[str], keys: Sequence[str], columns: Mapping[str, str]) -> DataError:
    def way(shape: str) -> str:
        return settings({word: candidates(shape, word, keys, columns)[0] for word in SHAPES[shape].required})

    return DataError(
        f"{name} can be read in more than one way: {' or '.join(shapes)}.",
        hint=f"Write {' or '.join(way(shape) for shape in shapes)}.",
    )


def _preferences(name: str, rows: Sequence[Row], keys: Sequence[str]) -> DataError | None:
    """What to say of pairs of a better and a worse answer; None where there are none."""
    pair = next((pair for pair in PREFERENCES if {*pair} <= {*keys}), None)
    if pair is None:
        return None
    better = next((row[pair[0]] for row in rows if row.get(pair[0])), "")
    whole = isinstance(better, list) and _is_spoken(better) and better[0].get("role") != "assistant"
    alone = "text" if isinstance(better, str) else "messages"
    word = "completion" if find("prompt", keys, columns={}) and not whole else alone
    return DataError(
        f"{name} holds preferences ({' and '.join(pair)}), and preference training (DPO) is not supported.",
        hint=f"{settings({word: pair[0]})} trains the preferred answers alone.",
    )


def _unrecognised(name: str, keys: Sequence[Any]) -> DataError:
    return DataError(
        f"{name}: cannot tell what its columns mean. Columns found: {', '.join(map(str, keys))}.",
        problems=[f"{shape}: {needs.meaning}" for shape, needs in SHAPES.items()],
        hint="Those shapes are known. Say which column is what, for example data.columns.text=COLUMN "
        "data.columns.label=COLUMN, or data.columns.prompt=COLUMN data.columns.completion=COLUMN.",
    )
