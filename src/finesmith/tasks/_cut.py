"""What is said of what is not whole: texts longer than a classifier reads, answers at the limit of their length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from finesmith.errors import counted
from finesmith.types import Input, Prediction


def inputs(task: Any, tokenizer: Any, rows: Sequence[Input], names: Sequence[str] = ()) -> str:
    """Of which texts a classifier reads only the beginning, by name, else by number; empty where it reads all."""
    places = task.cut(tokenizer, rows) if hasattr(task, "cut") else []
    if not places:
        return ""
    long = f"longer than the {task.max_length} tokens that the model reads; only the beginning counted"
    named = [names[place] if names else str(place + 1) for place in places]
    return f"{len(places):,} of {counted(len(rows), 'input')} {long}: {_listed(named)}"


def answers(task: Any, found: Sequence[Prediction]) -> str:
    """Which answers are written only in part, by number; empty where all are whole."""
    places = [str(place) for place, answer in enumerate(found, start=1) if answer.cut]
    return f"{ended(task, len(places), len(found))}: {_listed(places)}" if places else ""


def by_system(task: Any, predictions: Mapping[str, Sequence[Prediction]]) -> tuple[str, ...]:
    """A note for each system some of whose answers to the test rows are not whole."""
    cut = {name: sum(answer.cut for answer in found) for name, found in predictions.items()}
    return tuple(
        f"test rows, {name}: {ended(task, count, len(predictions[name]))}" for name, count in cut.items() if count
    )


def ended(task: Any, cut: int, of: int) -> str:
    """How many answers of a task are not whole, and why."""
    limit = f"the limit of {task.learnt.new_tokens:,} tokens (generation.max_new_tokens) or of the context"
    return f"{cut:,} of {counted(of, 'answer')} cut off at {limit}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
