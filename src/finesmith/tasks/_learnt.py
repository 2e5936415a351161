"""What generation learns from the training rows before there is a model: how long and of which kind the answers are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from finesmith.types import Conversation, Example, Message

SHORT_ANSWER = 30  # characters: below, answers are values to match and not prose


@dataclass(frozen=True)
class Learnt:
    """What `fit` takes from the training rows and `prepare` from the model.

    `end` is the token that ends a turn, `stop` all tokens at which generation stops, `preamble` the text that the
    template itself puts before an answer, `begun` what of it is sent with the prompt, `longest` the longest training
    answer and `calling` the longest one that calls tools, as JSON (dropped once they are counted). `tools`: rows offer
    or call tools, so that special tokens may stand in an answer; `calls`: half of the answers call.
    """

    short: bool = False
    as_json: bool = False
    tools: bool = False
    calls: bool = False
    longest: str = ""
    calling: str = ""
    new_tokens: int = 256
    end: int = -1
    stop: tuple[int, ...] = ()
    preamble: str = ""
    begun: str = ""


def learn(train: Sequence[Example]) -> Learnt:
    """Reads the training rows once."""
    answers: list[Message] = []
    tools = False
    for example in train:
        assert isinstance(example.target, Message)
        answers.append(example.target)
        given = example.input if isinstance(example.input, Conversation) else Conversation(())
        tools = tools or bool(given.tools) or any(turn.calls for turn in (*given.messages, example.target))
    lengths = sorted(len(answer.text) for answer in answers)
    calls = [json.dumps(answer.as_dict()) for answer in answers if answer.calls]
    return Learnt(
        short=lengths[len(lengths) // 2] <= SHORT_ANSWER,
        as_json=all(is_json(answer.text) for answer in answers),
        tools=tools,
        calls=2 * len(calls) >= len(answers),
        longest=max((answer.content for answer in answers if not answer.calls), key=_size, default=""),
        calling=max(calls, key=_size, default=""),
    )


def is_json(text: str) -> bool:
    """Whether a text is a JSON object or list."""
    try:
        return isinstance(json.loads(text), (dict, list))
    except ValueError:
        return False


def _size(text: str) -> tuple[int, str]:
    return len(text), text
