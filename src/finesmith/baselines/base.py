"""What a baseline is: a cheap opponent that learns from the training rows and answers the test inputs as texts.

It is never shown a test target. To add one: a file that ends with `PLUGIN = ...`, a frozen dataclass with `__call__`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from finesmith.types import Conversation, Example, Input, Prediction

TestInput = tuple[str, str]
"""The id of a test row and its text (`as_text`)."""
NO_MEMORY = "the memory was not enough for it"
"""Why a baseline has no answers."""


class Baseline(Protocol):
    """`title` names the baseline in a sentence; `tasks` are the names of the tasks it can answer."""

    @property
    def title(self) -> str:
        """Its name in a sentence."""
        ...

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks it applies to."""
        ...

    def __call__(self, train: Sequence[Example], test_inputs: Sequence[TestInput], *, seed: int) -> list[Prediction]:
        """Learns from `train` (one row at least) and answers every test input, in order, under its id."""
        ...


def as_text(value: Input) -> str:
    """A text as it is; of a conversation the contents of its messages, one below the other."""
    if isinstance(value, Conversation):
        return "\n".join(message.text for message in value.messages)
    return value
