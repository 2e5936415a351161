"""Inputs as a program gives them: texts, lists of messages, rows with messages and tools."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from finesmith.data import strict_json
from finesmith.data.inputs import conversation
from finesmith.data.rows import Fault
from finesmith.errors import DataError
from finesmith.types import Conversation, Input


def as_inputs(inputs: Iterable[Any]) -> list[Input]:
    """Texts and Conversations as they are; messages, alone or with their tools, as Conversations, read as from files.

    Raises:
        DataError: one input instead of a list of them, or what is no input.
    """
    if isinstance(inputs, str | bytes | Mapping | Conversation):
        what = "text" if isinstance(inputs, str | bytes) else "conversation"
        raise DataError(f"predict takes a list of inputs, not one {what}.", hint=f"For one answer write: [{what}].")
    found = [_as_input(item, place) for place, item in enumerate(inputs, start=1)]
    for number, item in enumerate(found, start=1):
        if half := strict_json.half_character(item if isinstance(item, str) else [m.content for m in item.messages]):
            raise DataError(f"Input {number} {half}.")
    return found


def _as_input(item: Any, place: int) -> Input:
    if isinstance(item, str | Conversation):
        return item
    row = item if isinstance(item, Mapping) and "messages" in item else {"messages": item}
    turns, tools = row["messages"], row.get("tools", row.get("functions"))
    if isinstance(turns, Mapping):
        raise DataError(
            f"Input {place} is one message or row, not a text or a list of messages.",
            hint='One conversation is [[{"role": "user", "content": "..."}]]; of a row give the text.',
        )
    if not isinstance(turns, Sequence) or not all(isinstance(turn, Mapping) for turn in turns):
        raise DataError(f"Input {place} is neither a text nor a list of messages: {type(turns).__name__}.")
    try:
        return conversation([dict(turn) for turn in turns], None if tools is None else [*tools])
    except Fault as fault:
        raise DataError(f"Input {place}: {fault}.") from fault
