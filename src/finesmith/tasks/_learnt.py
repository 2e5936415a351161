"""What generation learns from the training rows before there is a model: how long and of which kind the answers are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from finesmith.errors import counted
from finesmith.types import Conversation, Example, Message

SHORT_ANSWER = 30  # characters: below, answers are values to match and not prose
THOUGHT_END = "</think>"
"""What ends thoughts that stand in the content of a row itself, whatever its template writes."""


@dataclass(frozen=True)
class Learnt:
    """What `fit` takes from the training rows and `prepare` from the model.

    `end` is the token that ends a turn, `stop` all tokens at which generation stops, `preamble` the text that the
    template itself puts before an answer, `opening` what of it every kind of answer begins with, `begun` what is sent
    of it with the prompt, `thought_end` what it writes between thoughts and answer. `tools`: rows offer or call tools,
    so that special tokens may stand in an answer; `calls`, `thinks`: half of the answers do; `inside`: one has thoughts
    in its content. `opened`: rows whose opening turn was to be learnt and answers nothing (dropped once that is said).
    """

    short: bool = False
    as_json: bool = False
    tools: bool = False
    calls: bool = False
    thinks: bool = False
    inside: bool = False
    new_tokens: int = 256
    end: int = -1
    stop: tuple[int, ...] = ()
    preamble: str = ""
    opening: str = ""
    thought_end: str = ""
    begun: str = ""
    opened: int = 0

    @property
    def thought_ends(self) -> tuple[str, ...]:
        """What may stand between thoughts and answer: the template's own words, and those of the rows."""
        return tuple(end for end in (self.thought_end, THOUGHT_END if self.inside else "") if end)

    def notes(self) -> tuple[str, ...]:
        """What of the rows is not learnt though they ask for it."""
        said = "the assistant's opening turn answers nobody: it is read as context and not learnt"
        return (f"{counted(self.opened, 'row')}: {said}",) if self.opened else ()


def openings(conversation: Conversation) -> list[int]:
    """Places of the assistant's turns (a greeting) before which only the system has spoken: there is nothing to answer.

    The last turn of a row, its target, is not among them.
    """
    roles = [message.role for message in conversation.messages]
    begun = next((place for place, role in enumerate(roles) if role not in ("system", "assistant")), len(roles))
    return [place for place in range(begun) if roles[place] == "assistant"]


def learn(train: Sequence[Example]) -> Learnt:
    """Reads the training rows once."""
    answers: list[Message] = []
    tools, opened = False, 0
    for example in train:
        assert isinstance(example.target, Message)
        answers.append(example.target)
        given = example.input if isinstance(example.input, Conversation) else Conversation(())
        opened += any(given.messages[place].weight > 0 for place in openings(given))
        tools = tools or bool(given.tools) or any(turn.calls for turn in (*given.messages, example.target))
    texts = [_without_thoughts(answer) for answer in answers]
    lengths = sorted(map(len, texts))
    return Learnt(
        short=lengths[len(lengths) // 2] <= SHORT_ANSWER,
        as_json=all(map(is_json, texts)),
        tools=tools,
        calls=2 * sum(bool(answer.calls) for answer in answers) >= len(answers),
        thinks=2 * sum(map(_thinks, answers)) >= len(answers),
        inside=any(THOUGHT_END in answer.content for answer in answers),
        opened=opened,
    )


def is_json(text: str) -> bool:
    """Whether a text is a JSON object or list."""
    try:
        return isinstance(json.loads(text), (dict, list))
    except ValueError:
        return False


def _thinks(answer: Message) -> bool:
    return bool(answer.thoughts) or THOUGHT_END in answer.content


def _without_thoughts(answer: Message) -> str:
    """What of an answer is scored: the text behind thoughts that stand in its content."""
    _, end, behind = answer.content.rpartition(THOUGHT_END)
    return replace(answer, content=behind.strip() if end else behind).text
