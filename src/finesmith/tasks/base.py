"""What a task is: how an example becomes tokens, what the loss is, how the model answers, which metrics judge it.

Legend for shapes: B rows, T tokens, K labels, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from finesmith.settings import Settings
from finesmith.types import Example, Input, Prediction

if TYPE_CHECKING:
    import torch
    from torch import nn

    from finesmith.models.fast import Fast
    from finesmith.models.load import Kind, Loaded

Batch = Mapping[str, Any]
"""Tensors by name, and for packed documents their layout."""
Progress = Callable[[int], None]
"""Called with the number of rows done since the last call."""


@dataclass(frozen=True)
class Encoded:
    """One training sequence. `row` is the position of its example in the split.

    `weights[t]` is the loss weight of `tokens[t]` (0: context only); None for a task that has a `target` vector
    instead: one class index, or K zeros and ones. `supervised` is the number of units that the loss counts. `segments`
    are the lengths of the sequences that were packed into this one; None for one alone. `others` are the positions of
    the examples of all but the first of them.
    """

    row: int
    tokens: np.ndarray
    weights: np.ndarray | None = None
    target: np.ndarray | None = None
    segments: np.ndarray | None = None
    others: tuple[int, ...] = ()

    @property
    def supervised(self) -> float:
        """Tokens with a loss (by weight), or 1 for a row that is classified."""
        return 1.0 if self.weights is None else float(self.weights.sum())


def silent(done: int) -> None:
    """A progress callback that shows nothing."""


class Task(Protocol):
    """What is learnt. Settings come to the constructor; what is learnt from the training rows comes out of `fit`."""

    @property
    def settings(self) -> Settings:
        """As in the recipe."""
        ...

    @property
    def kind(self) -> Kind:
        """Which form of the model: causal-lm or sequence-classification."""
        ...

    @property
    def primary(self) -> str:
        """The metric that decides."""
        ...

    def for_base(self) -> Task:
        """The same task for the model before training, which lacks what training brings besides the weights."""
        ...

    @property
    def metrics(self) -> tuple[str, ...]:
        """All metrics, the primary one first."""
        ...

    @property
    def spare(self) -> int:
        """1 where a row that is longer than the context would be cut; 0 where it becomes several windows."""
        ...

    @property
    def proves(self) -> str:
        """What `check` proves of the rows, as the words of a note."""
        ...

    def fit(self, train: Sequence[Example]) -> Task:
        """A new task that knows the label set (or the format) of the training rows."""
        ...

    def state(self) -> dict[str, Any]:
        """What `fit` learnt, as plain values; `restore` takes it back."""
        ...

    def restore(self, state: Mapping[str, Any]) -> Task:
        """The fitted task that `state` describes."""
        ...

    def default_epochs(self, steps_per_epoch: int) -> int:
        """Passes over the rows where the recipe leaves it open."""
        ...

    def load_arguments(self) -> dict[str, Any]:
        """What `models.load` has to know: labels and whether several may hold."""
        ...

    def head(self, model: nn.Module) -> tuple[str, ...]:
        """Names of the modules that the task adds; every method trains them, every save keeps them."""
        ...

    def prepare(self, loaded: Loaded) -> tuple[Task, tuple[str, ...]]:
        """Settles template and stop tokens on a loaded model; the task that knows them, and notes."""
        ...

    def encode(
        self, example: Example, row: int, tokenizer: Any, max_length: int, *, final_only: bool = False
    ) -> list[Encoded]:
        """The training sequences of an example. `final_only` supervises only what `measure` scores."""
        ...

    def check(self, example: Example, pieces: Sequence[Encoded], tokenizer: Any) -> Iterable[str]:
        """What is wrong between the training sequences of an example and what inference would send."""
        ...

    def loss(self, model: nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Sum of the losses in nats, and what to divide by; so that accumulation is right by construction."""
        ...

    def answer(self, loaded: Loaded, inputs: Sequence[Input], *, progress: Progress = silent) -> list[Prediction]:
        """Answers to inputs; targets are not passed, so they cannot leak. Ids are positions."""
        ...

    def measure(
        self, loaded: Loaded, examples: Sequence[Example], *, progress: Progress = silent
    ) -> list[dict[str, float]]:
        """Per example `nats`, `tokens` and `bytes` of the reference under the model; empty for classification."""
        ...


def epochs_for(steps: int, steps_per_epoch: int, *, least: int, most: int) -> int:
    """Passes that give about `steps` optimizer steps, within bounds; small sets need more passes."""
    return max(least, min(most, -(-steps // steps_per_epoch)))


def pad(rows: Sequence[np.ndarray], value: float, *, left: bool = False) -> np.ndarray:
    """Rows of unequal length as one array `[B, T]`, filled with `value` on the right (or left)."""
    width = max(len(row) for row in rows)
    out = np.full((len(rows), width), value, dtype=rows[0].dtype)
    for index, row in enumerate(rows):
        place = slice(width - len(row), width) if left else slice(0, len(row))
        out[index, place] = row
    return out


def collate(items: Sequence[Encoded], pad_id: int, device: Any) -> dict[str, torch.Tensor]:
    """Padded tensors: `input_ids`, `attention_mask` [B, T], and `weights` [B, T] or `target` [B] / [B, K].

    Where sequences were packed also `segments`, the number of each token's sequence in its row, and `position_ids`.
    """
    import torch

    tokens = pad([item.tokens for item in items], pad_id)
    mask = pad([np.ones(len(item.tokens), dtype=np.int64) for item in items], 0)
    batch = {"input_ids": torch.from_numpy(tokens.astype(np.int64)), "attention_mask": torch.from_numpy(mask)}
    if items[0].weights is not None:
        batch["weights"] = torch.from_numpy(pad([item.weights for item in items if item.weights is not None], 0.0))
    if items[0].target is not None:
        batch["target"] = torch.from_numpy(np.stack([item.target for item in items if item.target is not None]))
    if any(item.segments is not None for item in items):
        batch |= _segments(items, tokens.shape[1])
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


def _segments(items: Sequence[Encoded], width: int) -> dict[str, torch.Tensor]:
    """Segment number and position of every token [B, T]; padding is a segment of its own, so that it sees something."""
    import torch

    numbers, positions = np.empty((len(items), width), np.int64), np.empty((len(items), width), np.int64)
    for place, item in enumerate(items):
        lengths = [len(item.tokens)] if item.segments is None else item.segments.tolist()
        lengths.append(width - len(item.tokens))
        numbers[place] = np.repeat(np.arange(len(lengths)), lengths)
        positions[place] = np.concatenate([np.arange(length) for length in lengths])
    return {"segments": torch.from_numpy(numbers), "position_ids": torch.from_numpy(positions)}


def batch_of(model: nn.Module, items: Sequence[Encoded], pad_id: int, device: Any) -> dict[str, Any]:
    """The items as the model takes them: packed without padding where it can, padded else."""
    from finesmith.models import fast

    able = fast.of(model)
    if able.reading is not None:
        return pack_texts(items, pad_id, device, able)
    return pack(items, device, able.blocked) if able.packed else collate(items, pad_id, device)


def pack(items: Sequence[Encoded], device: Any, blocked: int = 0) -> dict[str, Any]:
    """The same without padding: `input_ids`, `position_ids`, `weights` [1, N] and the layout `documents`.

    The items stand longest first. Sequences that share a row (`segments`) stand each for itself.
    """
    import torch

    items = _apart(items)
    weights = np.concatenate([np.append(np.float32(0), item.weights[1:]) for item in items if item.weights is not None])
    return {**_in_a_row(items, device, blocked, 0), "weights": torch.from_numpy(weights)[None].to(device)}


def pack_texts(items: Sequence[Encoded], pad_id: int, device: Any, able: Fast) -> dict[str, Any]:
    """Texts to be classified without padding: as `pack`, with `target` [B] / [B, K] and `places` [B] that are read."""
    import torch

    assert able.reading is not None
    starts = np.cumsum([0, *(len(item.tokens) for item in items[:-1])])
    places = starts + [token_place(item.tokens, able.reading.token, pad_id) for item in items]
    target = torch.from_numpy(np.stack([item.target for item in items if item.target is not None]))
    row = _in_a_row(items, device, able.blocked, able.reading.first_position)
    del row["use_cache"]
    return {**row, "target": target.to(device), "places": torch.from_numpy(places).to(device)}


def _in_a_row(items: Sequence[Encoded], device: Any, blocked: int, start: int) -> dict[str, Any]:
    import torch

    from finesmith.models import fast
    from finesmith.models.documents import documents

    sizes = [len(item.tokens) for item in items]
    tokens = torch.from_numpy(np.concatenate([item.tokens for item in items]).astype(np.int64))[None].to(device)
    return fast.packed_inputs(tokens, sizes, documents(sizes, device, blocked=blocked), start)


def token_place(tokens: np.ndarray, which: str, pad_id: int) -> int:
    """Where the first token stands, or the last that is not padding, as transformers' classifiers count."""
    real = np.flatnonzero(tokens != pad_id)
    return int(real[-1]) if which == "last" and len(real) else 0


def packed_places(items: Sequence[Encoded]) -> list[tuple[int, int, int]]:
    """What stands in a packed row, in order: the item of each sequence, and where in the item it begins and ends.

    One sequence for each item; longest first where some items hold several (`segments`).
    """
    found = []
    for number, item in enumerate(items):
        ends = np.cumsum([len(item.tokens)] if item.segments is None else item.segments).tolist()
        found += [(number, begin, end) for begin, end in zip([0, *ends], ends, strict=False)]
    alone = all(item.segments is None for item in items)
    return found if alone else sorted(found, key=lambda place: place[1] - place[2])


def _apart(items: Sequence[Encoded]) -> list[Encoded]:
    """The sequences that share rows as items of their own."""
    return [
        replace(
            items[number],
            tokens=items[number].tokens[begin:end],
            weights=None if (weights := items[number].weights) is None else weights[begin:end],
            segments=None,
        )
        for number, begin, end in packed_places(items)
    ]


def predict(
    task: Task, loaded: Loaded, examples: Sequence[Example], *, progress: Progress = silent
) -> list[Prediction]:
    """Answers and reference scores of a model on examples, with the examples' ids."""
    answers = task.answer(loaded, [example.input for example in examples], progress=progress)
    answered = any(answer.output is not None for answer in answers)
    scores = task.measure(loaded, examples, progress=silent if answered else progress)
    return [
        replace(answer, id=example.id, scores={**answer.scores, **score})
        for example, answer, score in zip(examples, answers, scores, strict=True)
    ]
