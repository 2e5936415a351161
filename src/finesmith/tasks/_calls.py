"""Conversations on their way through a template: nothing may be left out, and what is written is what is scored.

Templates write tools in many forms (JSON, XML, Python). What all of them must hold are the names of the tools, and of
each call its name and the keys and values of its arguments. Thoughts of earlier turns are left out by many on purpose.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby, product
from typing import Any

from finesmith.data.store import Examples
from finesmith.errors import ProofError
from finesmith.tasks._learnt import THOUGHT_END
from finesmith.types import Example, Message, Splits

HINT = (
    "Take a model whose chat template writes tools, or the plain template, which does: generation.template=plain. "
    "Rows without tools need neither."
)


TEXTS = "Take a model whose chat template writes it, or the plain template, which does: generation.template=plain."
CALL = 9
"""Characters of a call's id: what Mistral's templates ask for."""


def ordered(messages: Sequence[Message]) -> list[Message]:
    """The results of calls in the order of the calls: most templates write no ids."""
    found: list[Message] = []
    calls: list[Any] = []
    for role, turns in groupby(messages, key=lambda message: message.role):
        run = list(turns)
        names = [message.extra.get("tool_call_id") for message in run]
        if role == "tool" and set(names) <= set(calls):
            run.sort(key=lambda message: calls.index(message.extra.get("tool_call_id")))
        elif role == "assistant":
            calls = [call.get("id") for call in run[-1].extra.get("tool_calls") or ()]
        found += run
    return found


def forms(messages: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The messages as templates take them: the arguments of a call as an object, for some (DeepSeek's) as JSON text;
    with ids of nine characters, which some ask for (Mistral's); thoughts first also by the name that others read
    (gpt-oss): without it those write the rest, as if nothing had been left out.
    """
    calls = any(message.get("tool_calls") for message in messages)
    thoughts = any(message.get("reasoning_content") for message in messages)
    for named, texts, alias in product(
        (False, True) if calls else (False,),
        (False, True) if calls else (False,),
        (True, False) if thoughts else (False,),
    ):
        found = _with_ids(messages) if named else messages
        found = [_with_text(message) for message in found] if texts else found
        yield [_with_alias(message) for message in found] if alias else found


def _with_alias(message: dict[str, Any]) -> dict[str, Any]:
    return {**message, "thinking": message["reasoning_content"]} if message.get("reasoning_content") else message


def _with_ids(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Calls numbered through, with ids of nine digits; results by the id that they had, or by their order."""
    found: list[dict[str, Any]] = []
    names: dict[str, str] = {}
    waiting: list[str] = []
    for message in messages:
        if message.get("tool_calls"):
            waiting = [f"{len(names) + place:0{CALL}}" for place in range(len(message["tool_calls"]))]
            pairs = list(zip(message["tool_calls"], waiting, strict=True))
            names |= {str(call.get("id") or new): new for call, new in pairs}
            message = {**message, "tool_calls": [{**call, "id": new} for call, new in pairs]}
        elif message["role"] == "tool":
            new = names.get(str(message.get("tool_call_id")), waiting[0] if waiting else "0" * CALL)
            waiting = [name for name in waiting if name != new]
            message = {**message, "tool_call_id": new}
        found.append(message)
    return found


def _with_text(message: dict[str, Any]) -> dict[str, Any]:
    if not message.get("tool_calls"):
        return message
    functions = [call["function"] for call in message["tool_calls"]]
    written = [{**each, "arguments": json.dumps(each["arguments"], ensure_ascii=False)} for each in functions]
    calls = [{**call, "function": each} for call, each in zip(message["tool_calls"], written, strict=True)]
    return {**message, "tool_calls": calls}


def refuse_losses(
    text: str, messages: Sequence[Message], tools: Sequence[Any] = (), *, learnt: bool = False, template: Any = ""
) -> None:
    """Stops where a template that wrote `text` has left out a tool, a call or the result of one, or what was said.

    Args:
        learnt: it is the answer that is trained: its thoughts count too.
        template: the source, or several by name; words that it reads as switches may be left out of a system text.

    Raises:
        ProofError: names what is missing.
    """
    if gone := next(_left_out(text, messages, tools), ""):
        raise ProofError(f"The chat template leaves out {gone}.", hint=HINT)
    if gone := next(_unsaid(text, messages, learnt, template), ""):
        raise ProofError(f"The chat template leaves out {gone}.", hint=TEXTS)


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


def _unsaid(text: str, messages: Sequence[Message], learnt: bool, template: Any) -> Iterator[str]:
    for message in messages:
        missing = [part for part in _parts(message.content, learnt) if not _holds(text, part)]
        if message.role == "system":
            missing = [part for part in missing if not _holds(text, _without_switches(part, template))]
        if missing and message.role != "tool":
            beside = "what is said beside a call" if message.calls else f"what the {message.role} says"
            yield f"{beside}, {missing[0].strip()[:60]!r}"
        if learnt and not _holds(text, message.thoughts):
            yield f"the thoughts (reasoning_content) of an answer, {message.thoughts.strip()[:60]!r}"


def _parts(content: str, learnt: bool) -> list[str]:
    """Of a content the thoughts in it, which the prompt may open, and what stands behind them."""
    thoughts, _, answer = content.rpartition(THOUGHT_END)
    return [thoughts.strip().removeprefix("<think>"), answer] if learnt else [answer]


def _without_switches(said: str, template: Any) -> str:
    """A system text without words such as `/no_think` that its template names, obeys and takes out (SmolLM3's)."""
    source = "\n".join(template.values()) if isinstance(template, Mapping) else str(template)
    for _, switch in re.findall(r"""(["'])(/\w+)\1""", source):
        said = re.sub(rf"(?<!\S){switch}(?!\w)", "", said)
    return said


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
    if value.strip() in text:
        return True
    once = [json.dumps(value, ensure_ascii=plain) for plain in (True, False)]
    forms = [value, *once, *map(json.dumps, once), repr(value)]
    words = _words(text)
    return any(_words(form) in words for form in forms)


def _words(text: str) -> str:
    return re.sub(r"[\W_]+", "", text).casefold()
