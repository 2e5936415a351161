"""What is said of what is not whole: texts longer than a classifier reads, answers at the limit of their length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from finesmith.errors import counted
from finesmith.types import Input, Prediction


def told(task: Any, tokenizer: Any, inputs: Sequence[Input], answers: Sequence[Prediction]) -> str:
    """Which inputs were read, or which answers written, only in part; empty where all are whole."""
    if hasattr(task, "cut"):
        places = task.cut(tokenizer, inputs)
        long = f"longer than the {task.max_length} tokens that the model reads; only the beginning counted"
        return f"{len(places):,} of {counted(len(inputs), 'input')} {long}: {_listed(places)}" if places else ""
    places = [place for place, answer in enumerate(answers) if answer.cut]
    return f"{_ended(task, answers)}: {_listed(places)}" if places else ""


def by_system(task: Any, predictions: Mapping[str, Sequence[Prediction]]) -> tuple[str, ...]:
    """A note for each system some of whose answers to the test rows are not whole."""
    found = {name: answers for name, answers in predictions.items() if any(answer.cut for answer in answers)}
    return tuple(f"test rows, {name}: {_ended(task, answers)}" for name, answers in found.items())


def _ended(task: Any, answers: Sequence[Prediction]) -> str:
    cut = sum(answer.cut for answer in answers)
    limit = f"the limit of {task.learnt.new_tokens:,} tokens (generation.max_new_tokens) or of the context"
    return f"{cut:,} of {counted(len(answers), 'answer')} cut off at {limit}"


def _listed(places: Sequence[int]) -> str:
    return ", ".join(str(place + 1) for place in places[:10]) + (", ..." if len(places) > 10 else "")
