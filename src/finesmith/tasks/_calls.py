"""Tool calls on their way through a template: nothing of them may be left out, and what is written is what is scored.

Templates write tools in many forms (JSON, XML, Python). What all of them must hold are the names of the tools, and of
each call its name and the keys and values of its arguments.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from finesmith.data.store import Examples
from finesmith.errors import ProofError
from finesmith.types import Example, Message, Splits

HINT = (
    "Take a model whose chat template writes tools, or the plain template, which does: generation.template=plain. "
    "Rows without tools need neither."
)


def forms(messages: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The messages as templates take them: the arguments of a call as an object, for some (DeepSeek's) as JSON text."""
    yield messages
    if any(message.get("tool_calls") for message in messages):
        yield [_with_text(message) for message in messages]


def _with_text(message: dict[str, Any]) -> dict[str, Any]:
    if not message.get("tool_calls"):
        return message
    functions = [call["function"] for call in message["tool_calls"]]
    written = [{**each, "arguments": json.dumps(each["arguments"], ensure_ascii=False)} for each in functions]
    calls = [{**call, "function": each} for call, each in zip(message["tool_calls"], written, strict=True)]
    return {**message, "tool_calls": calls}


def refuse_losses(text: str, messages: Sequence[Message], tools: Sequence[Any] = ()) -> None:
    """Stops where a template that wrote `text` has left out a tool, a call or the result of one.

    Raises:
        ProofError: names what is missing.
    """
    gone = next(_left_out(text, messages, tools), "")
    if gone:
        raise ProofError(f"The chat template leaves out {gone}.", hint=HINT)


def written(task: Any, tokenizer: Any, splits: Splits) -> Splits:
    """The rows with their targets as the template writes them, for a task that has such a text."""
    write = getattr(task, "written", None)
    if write is None:
        return splits

    def changed(rows: Sequence[Example]) -> Sequence[Example]:
        if isinstance(rows, Examples):
            return rows.changed(lambda row: write(tokenizer, row))
        return [write(tokenizer, row) for row in rows]

    train, validation, test = map(changed, (splits.train, splits.validation, splits.test))
    return replace(splits, train=train, validation=validation, test=test)


def _left_out(text: str, messages: Sequence[Message], tools: Sequence[Any]) -> Iterator[str]:
    for tool in tools:
        name = tool.get("function", tool).get("name", "")
        if name and not _names(text, name, messages):
            yield f"the tool '{name}'"
    for message in messages:
        for call in message.calls:
            if not _names(text, call["name"], messages):
                yield f"the call of '{call['name']}'"
            yield from (
                f"{leaf!r} in the arguments of '{call['name']}'"
                for leaf in _leaves(call["arguments"])
                if not _holds(text, leaf)
            )
        if message.role == "tool" and not _holds(text, message.content):
            yield f"the result of a tool, {message.content[:60]!r}"


def _names(text: str, name: str, messages: Sequence[Message]) -> bool:
    """Whether a name stands in a text more often than in what was said, where a word like `weather` may stand too."""
    said = (message.content for message in messages if name in message.content and message.content.strip() in text)
    return text.count(name) > sum(content.count(name) for content in said)


def _leaves(value: Any) -> Iterator[str]:
    """Keys and values at the ends; null may be left out."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield str(key)
            yield from _leaves(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _leaves(each)
    elif value is not None:
        yield value if isinstance(value, str) else json.dumps(value)


def _holds(text: str, value: str) -> bool:
    """Whether a text has a value, perhaps escaped; white space, signs and case may differ."""
    if value in text:
        return True
    once = [json.dumps(value, ensure_ascii=plain) for plain in (True, False)]
    forms = [value, *once, *map(json.dumps, once), repr(value)]
    words = _words(text)
    return any(_words(form) in words for form in forms)


def _words(text: str) -> str:
    return re.sub(r"[\W_]+", "", text).casefold()
