"""What inference sends for inputs, and which of them cannot be answered: all are looked at before the first answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from finesmith.errors import DataError, ProofError, counted
from finesmith.types import Input

Sent = tuple[np.ndarray, str]
"""The tokens of a prompt, and why it cannot be answered; empty where it can."""


def sent(prompt: Callable[[Input], list[int]], inputs: Sequence[Input], room: int) -> Iterator[Sent]:
    """The prompts of inputs, one after the other, in a context of `room` tokens."""
    for item in inputs:
        try:
            tokens = np.asarray(prompt(item), np.int64)
        except ProofError as error:  # that another template would take it does not help a model that is trained
            yield np.zeros(0, np.int64), error.message.rstrip(".")
            continue
        full = f"{len(tokens)} tokens leave no room for an answer in the context of {room}"
        yield tokens, full if len(tokens) >= room else ""


def prompts(prompt: Callable[[Input], list[int]], inputs: Sequence[Input], room: int) -> list[np.ndarray]:
    """The prompts of inputs, every one of which can be answered.

    Raises:
        DataError: some cannot, all of them with their numbers.
    """
    found = list(sent(prompt, inputs, room))
    refused = [f"input {place}: {why}" for place, (_, why) in enumerate(found, start=1) if why]
    if refused:
        raise DataError(f"{counted(len(refused), 'input')} cannot be answered:", problems=refused)
    return [tokens for tokens, _ in found]
