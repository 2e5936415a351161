"""When two inputs are the same text. Splitting holds together what is alike; the checks call equal what means the same.

`content` is the coarse key of splitting: only words count. `exactly` is the fine one of the checks for duplicates,
contradictions and leaks: signs that carry meaning (`2 + 3` and `2 - 3`, `C++` and `C#`, `:)` and `:(`) count too.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator

from finesmith.types import Conversation, Example, Input, Message

NO_WORD = re.compile(r"\W+")
UNSEEN = re.compile("[\u00ad\u200b-\u200f\u2060\ufe0f\ufeff]")
PUNCTUATION = re.compile(
    r"""[.,:](?!\d)|(?<!\d)[.,:]|[;?"'`\u2018-\u201f\u00ab\u00bb\u00bf\u00a1\u2026\u2014]"""
    r"""|(?<=[\w!?])!(?!=)|(?<=[^\W\d_]{2})-(?=[^\W\d_]{2})"""
)
"""Signs that only part words and sentences: not those inside a number, not a minus, not the mark of `!=`."""
SIGN = re.compile(r"[^\w\s]")


def normalised(text: str) -> str:
    """NFKC, case folded, each run of non-word characters one space; a text without any word stays as NFKC.

    Combining marks (vowel signs of Hindi, Thai, ...) belong to words, though `\\w` does not match them.
    """
    composed = unicodedata.normalize("NFKC", text).casefold()
    spaced = NO_WORD.sub(" " if composed.isascii() else _marks, composed)
    return " ".join(spaced.split()) or composed.strip()


def _marks(run: re.Match[str]) -> str:
    return "".join(mark if unicodedata.category(mark) in ("Mn", "Mc") else " " for mark in run.group())


def content(given: Input) -> str:
    """What is compared of an input: its text, or the texts of all messages up to the turn to be written."""
    if isinstance(given, Conversation):
        return "\n".join(normalised(message.text) for message in given.messages)
    return normalised(given)


def exactly(text: str) -> str:
    """NFKC, case folded, without punctuation, each other sign a word of its own; punctuation alone stays."""
    composed = UNSEEN.sub("", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(SIGN.sub(r" \g<0> ", PUNCTUATION.sub(" ", composed)).split()) or composed.strip()


def same_label(label: str) -> str:
    """What two labels share that only differ in case, in blanks or in how accents are encoded."""
    return " ".join(unicodedata.normalize("NFC", unicodedata.normalize("NFC", label).casefold()).split())


def exact_content(given: Input) -> str:
    """What the checks compare of an input: its text, or all messages with their tool calls, and the tools."""
    if not isinstance(given, Conversation):
        return exactly(given)
    tools = [_plain(list(given.tools))] if given.tools else []
    return "\n".join([*map(answer, given.messages), *tools])


def answer(message: Message) -> str:
    """What is compared of a message: its text, and its tool calls without their ids."""
    calls = [call["function"] for call in message.extra.get("tool_calls", ())]
    called = _plain([[call["name"], call["arguments"]] for call in calls]) if calls else ""
    return f"{exactly(message.content)} {called}".strip()


def _plain(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def exact_key(given: Input) -> bytes:
    """16 bytes that are equal for inputs with the same exact content."""
    return _key(exact_content(given))


def content_key(given: Input) -> bytes:
    """16 bytes that are equal for inputs with the same content."""
    return _key(content(given))


def turns(example: Example) -> Iterator[tuple[Input, Message]]:
    """Every answer of a row that is trained, behind what stands before it; the row's target is the last."""
    given, target = example.input, example.target
    if not isinstance(target, Message):
        return
    asked = False
    for place, message in enumerate(given.messages if isinstance(given, Conversation) else ()):
        asked |= message.role not in ("system", "assistant")
        if asked and message.role == "assistant" and message.weight > 0 and isinstance(given, Conversation):
            yield Conversation(given.messages[:place], given.tools), message
    yield given, target


def turn_keys(example: Example, *, exact: bool) -> tuple[bytes, ...]:
    """The same as 16 bytes each, equal for equal answers behind equal turns: word by word, or sign by sign."""
    if exact:
        return tuple(_key(f"{exact_content(before)}\0{answer(said)}") for before, said in turns(example))
    return tuple(_key(f"{content(before)}\0{normalised(said.text)}") for before, said in turns(example))


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
