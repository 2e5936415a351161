"""Rows to answer: the same files as for training, but nobody needs labels, and the order is kept."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

from finesmith import registry
from finesmith.data import convert, messages, names, sources
from finesmith.data.names import NAMES
from finesmith.data.rows import Bad, Fault, Row
from finesmith.data.shapes import Plan
from finesmith.errors import DataError, counted, nearest
from finesmith.types import Conversation, Input, Message, Origin

WRITTEN = {"role": "assistant", "content": "(to be written)"}
ASKED = {"messages": "messages", "instruction": "alpaca", "text": "labels", "prompt": "prompt"}
"""Our words for a column that holds the input, in the order in which they count, and the shape that each belongs to."""

REQUEST = ("messages", *NAMES["tools"].strong, "model")
"""What a request says of the question, and the model that it was meant for; all else says how to answer."""


@dataclass(frozen=True)
class Asked:
    """Ids and inputs of every row, in order; `note` says which column was taken where it had to be chosen, and what
    of requests is not used. `places` are file:line of each row, `errors` the rows that cannot be read (their inputs are
    empty), by position, with the reason: of files that were read so that they may be skipped.
    """

    ids: tuple[str, ...]
    inputs: tuple[Input, ...]
    note: str = ""
    places: tuple[str, ...] = field(default=(), compare=False)
    errors: Mapping[int, str] = field(default_factory=dict, compare=False)

    @property
    def names(self) -> list[str]:
        """What each row is called in messages: its place, and its id where it has one of its own."""
        pairs = zip(self.places, self.ids, strict=True)
        return [place if id in (place, own_name(place)) else f"{place} (id {id})" for place, id in pairs]


def read(
    path: str,
    *,
    columns: Mapping[str, str] | None = None,
    column: str | None = None,
    format: str | None = None,
    stream: BinaryIO | None = None,
    skip: bool = False,
) -> Asked:
    """The rows of a file or folder. An id is the row's own, else `file:line`.

    A line of an OpenAI batch file counts as its `body`, with its `custom_id` as id.

    Args:
        path: what `data.read` reads; a final assistant turn is left out, it is for the model to write.
        columns: what the columns of the training data meant, our words to names; they count where the file has them.
        column: the column with the input, whatever the others are called.
        format: a format's name, where the ending does not say it.
        stream: what is read in the place of a file, in this format; `path` is then what messages call it.
        skip: rows that cannot be answered stand in `errors`.

    Raises:
        DataError: no column for the input, or rows that cannot be answered, all of them with file:line and reason.
    """
    unused: dict[str, None] = {}
    records = [
        (Origin(name, line), unwrapped(row, unused))
        for name, rows in _sources(path, format, stream)
        for line, row in rows
    ]
    return of_records(path, records, columns or {}, column, unused, skip=skip)


def _sources(path: str, format: str | None, stream: BinaryIO | None) -> Iterator[tuple[str, Iterable[tuple[int, Any]]]]:
    """What each file is called, and its rows."""
    if stream is not None:
        yield path, registry.resolve("formats", format or "jsonl").rows(io.BytesIO(stream.read()), path)
        return
    for source in sources.locate(path, format=format)[0]:
        yield source.name, source.rows()


def of_records(
    path: str,
    records: Sequence[tuple[Origin | str, Any]],
    columns: Mapping[str, str],
    column: str | None,
    unused: Iterable[str],
    *,
    skip: bool,
) -> Asked:
    """The inputs that rows hold, by the column that is chosen for all of them."""
    keys = list(dict.fromkeys(key for _, row in records if not isinstance(row, Bad) for key in row))
    plan, note = _choose(path, keys, columns, column) if keys else (Plan("text", {}), "")
    found = gathered(records, lambda origin, row: answerable(origin, row, plan), f"row of {path}", skip=skip)
    return replace(found, note=noted(note, unused))


def gathered(
    records: Sequence[tuple[Origin | str, Any]],
    read_one: Callable[[Origin | str, Any], tuple[str, Input]],
    what: str,
    *,
    skip: bool,
) -> Asked:
    """The id and the input that `read_one` gives for each place and row, and what is wrong with those that it refuses.

    Raises:
        DataError: it refuses some, all of them with their places (`what` they are: `row of FILE`); not with `skip`.
    """
    found: list[tuple[str, Input]] = []
    problems: dict[int, str] = {}
    for place, (origin, row) in enumerate(records):
        try:
            found.append(read_one(origin, row))
        except Fault as fault:
            problems[place] = str(fault)
            found.append((own_name(origin), ""))
    places = tuple(str(origin) for origin, _ in records)
    if problems and not skip:
        noun, of, path = what.partition(" of ")
        said = [f"{places[place]}: {why}" for place, why in problems.items()]
        raise DataError(f"{counted(len(problems), noun)}{of}{path} cannot be answered:", problems=said)
    return Asked(tuple(name for name, _ in found), tuple(value for _, value in found), "", places, problems)


def noted(note: str, unused: Iterable[str]) -> str:
    """A note, and behind it what of the requests has no effect: a run answers as it was trained to, greedily."""
    names = ", ".join(unused)
    return "; ".join(filter(None, (note, f"not used from the requests: {names}" if names else "")))


def unwrapped(row: Any, unused: dict[str, None]) -> Any:
    """The request in a line of an OpenAI batch file, with its id; any other row as it is. What of the request says how
    to answer goes to `unused`.
    """
    body = row.get("body") if isinstance(row, dict) else None
    if not isinstance(body, dict) or "messages" not in body:
        return row
    unused |= dict.fromkeys(key for key in body if key not in REQUEST)
    return {**body, "id": row.get("custom_id")}


def conversation(value: object, tools: object = None, lead: tuple[Message, ...] = ()) -> Conversation:
    """What is to be answered: messages as files have them, behind `lead`; a final assistant turn is left out.

    Raises:
        Fault: no list of messages, or one that no training file may hold.
    """
    turns = [*messages.listed(value)]
    if turns:
        turns = [*(turns[:-1] if messages.is_answer(turns[-1]) else turns), WRITTEN]
    before, _ = messages.conversation(turns)
    return Conversation((*lead, *before), messages.tools(tools))


def _choose(path: str, keys: Sequence[str], columns: Mapping[str, str], column: str | None) -> tuple[Plan, str]:
    """How the input is read: from the column that was named, else as in training, else by the columns' names."""
    if column is not None:
        if column not in keys:
            raise DataError(f"{path} has no column '{column}'. {nearest(column, keys)}")
        return _plan("text" if "text" in columns else "prompt", column, keys, columns), ""
    trained = {word: columns[word] for word in ASKED if word in columns}
    for word, name in trained.items():
        if name in keys:
            return _plan(word, name, keys, columns), ""
    found = {word: names.find(word, keys, columns={}) for word in ASKED}
    exact = [word for word in ASKED if word in {key.strip().lower() for key in keys}]
    words = [*exact, *(word for word in ASKED if found[word])]
    lacks = f" '{next(iter(trained.values()))}', as the training data had" if trained else " that is known as the input"
    if not words:
        raise DataError(
            f"{path} has no column{lacks}. Columns found: {', '.join(map(str, keys))}.",
            hint="Name the column with the input: --column NAME.",
        )
    chosen = found[words[0]][0]
    beside = names.find("input", keys, columns={}) if words[0] == "instruction" else []
    others = sorted({name for each in found.values() for name in each} - {chosen, *beside})
    why = f"{path} has no column{lacks}; " if trained else ""
    also = f" (not {', '.join(others)})" if others else ""
    note = f"{why}the input is the column '{chosen}'{also}; --column says otherwise" if why or others else ""
    return _plan(words[0], chosen, keys, columns), note


def _plan(word: str, name: str, keys: Sequence[str], columns: Mapping[str, str]) -> Plan:
    """The plan that reads the input from a column, and what stands beside it from those of the training data."""
    if word in ("text", "prompt"):
        word = "text" if "text" in columns else "prompt"  # a classifier takes the text alone, without a system prompt
    beside = {key: value for key, value in columns.items() if value in keys and key not in ASKED and value != name}
    return Plan(ASKED[word], {**beside, word: name})


def answerable(origin: Origin | str, row: Row | Bad, plan: Plan) -> tuple[str, Input]:
    """The id and the input of a row; without an id of its own it has its origin."""
    if isinstance(row, Bad):
        raise Fault(row.reason)
    if not row:
        raise Fault("the row is empty")
    word = next(word for word, shape in ASKED.items() if shape == plan.shape)
    if plan.columns[word] not in row:
        raise Fault(
            f"the column '{plan.columns[word]}' is missing (columns here: {', '.join(map(str, row)) or 'none'})"
        )
    return convert.own_id(row, plan) or own_name(origin), _input(row, plan, word)


def own_name(origin: Origin | str) -> str:
    """The id of a row without one: its place in a file, or the bare number of its line on stdin."""
    return str(origin).removeprefix("line ") if isinstance(origin, str) else str(origin)


def _input(row: Row, plan: Plan, word: str) -> Input:
    if word == "text":
        return convert.written(row, plan, "text")
    value = row[plan.columns[word]]
    if isinstance(value, dict) and "messages" in value:
        return conversation(value["messages"], value.get("tools"))
    if word == "messages" or isinstance(value, list):
        return _conversation(value, row, plan)
    asked = convert.asked(row, plan)
    return asked.messages[0].content if len(asked.messages) == 1 else asked


def _conversation(value: object, row: Row, plan: Plan) -> Conversation:
    lead: tuple[Message, ...] = convert.system(row, plan) if "system" in plan.columns else ()
    return conversation(value, convert.optional(row, plan, "tools"), lead)
