"""Classification: one label (or several) for a text, from a head on an encoder or a decoder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from finesmith.errors import counted
from finesmith.settings import Settings
from finesmith.tasks import _evaluation
from finesmith.tasks.base import Batch, Encoded, Progress, collate, epochs_for, silent
from finesmith.types import Example, Input, Prediction

if TYPE_CHECKING:
    import torch
    from torch import nn

    from finesmith.models.load import Kind, Loaded


class ClassificationSettings(Settings):
    """How a classifier is begun."""

    head_first: bool = True
    """Fit the head on frozen features before the trunk moves (LP-FT, Kumar et al. 2022, arXiv 2202.10054)."""


class Classification:
    """A label for a text. Several labels may hold at once where the training rows' labels are lists."""

    Settings = ClassificationSettings
    kind: Kind = "sequence-classification"
    spare = 1
    proves = "the tokens trained on are those that inference sends"

    def __init__(
        self,
        settings: ClassificationSettings,
        *,
        labels: tuple[str, ...] = (),
        multi_label: bool = False,
        max_length: int = 512,
    ) -> None:
        self.settings = settings
        self.labels, self.multi_label, self.max_length = labels, multi_label, max_length

    @property
    def primary(self) -> str:
        """Accuracy; micro-F1 where several labels may hold."""
        return "micro_f1" if self.multi_label else "accuracy"

    @property
    def metrics(self) -> tuple[str, ...]:
        """The primary metric, and macro-F1, in which small classes count as much as large ones."""
        return ("micro_f1", "macro_f1", "accuracy") if self.multi_label else ("accuracy", "macro_f1")

    def fit(self, train: Sequence[Example]) -> Classification:
        """Learns the label set, sorted, from the training rows only."""
        multi_label = isinstance(train[0].target, tuple)
        labels = {label for example in train for label in _labels(example)}
        return Classification(
            self.settings, labels=tuple(sorted(labels)), multi_label=multi_label, max_length=self.max_length
        )

    def for_base(self) -> Classification:
        """Itself: labels are scored as they are."""
        return self

    def state(self) -> dict[str, Any]:
        """The label set."""
        return {"labels": list(self.labels), "multi_label": self.multi_label, "max_length": self.max_length}

    def restore(self, state: Mapping[str, Any]) -> Classification:
        """The fitted task."""
        return Classification(self.settings, **{**state, "labels": tuple(state["labels"])})

    def default_epochs(self, steps_per_epoch: int) -> int:
        """About 1000 steps."""
        return epochs_for(1000, steps_per_epoch, least=4, most=15)

    def load_arguments(self) -> dict[str, Any]:
        """The classes of the head."""
        return {"labels": self.labels, "multi_label": self.multi_label}

    def head(self, model: nn.Module) -> tuple[str, ...]:
        """The modules beside the trunk that have weights (`score`, `classifier`, `pre_classifier`, ...)."""
        trunk = model.base_model_prefix
        return tuple(
            name for name, module in model.named_children() if name != trunk and any(True for _ in module.parameters())
        )

    def prepare(self, loaded: Loaded) -> tuple[Classification, tuple[str, ...]]:
        """A classifier needs no template."""
        return self, ()

    def encode(
        self, example: Example, row: int, tokenizer: Any, max_length: int, *, final_only: bool = False
    ) -> list[Encoded]:
        """The text with the special tokens the model was pretrained with, and the class index (or K zeros and ones)."""
        tokens = np.asarray(self._tokens(example.input, tokenizer, max_length), np.int32)
        index = {label: position for position, label in enumerate(self.labels)}
        places = [index[label] for label in _labels(example)]
        if not self.multi_label:
            return [Encoded(row, tokens, target=np.asarray(places[0], np.int64))]
        target = np.zeros(len(self.labels), np.float32)
        target[places] = 1.0
        return [Encoded(row, tokens, target=target)]

    def check(self, example: Example, pieces: Sequence[Encoded], tokenizer: Any) -> Iterable[str]:
        """The training tokens are those that `answer` sends."""
        sent = self._tokens(example.input, tokenizer, self.max_length)
        if pieces[0].tokens.tolist() != sent:
            yield f"trained on {counted(len(pieces[0].tokens), 'token')}, inference would send {len(sent)}"

    def loss(self, model: nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Cross-entropy in nats summed over rows (binary, averaged over K labels, where several may hold); and B."""
        import torch
        import torch.nn.functional as F

        logits = _logits(model, batch).float()  # [B, K]
        rows = torch.tensor(len(logits), dtype=torch.float32, device=logits.device)
        if self.multi_label:
            return F.binary_cross_entropy_with_logits(logits, batch["target"], reduction="sum") / logits.shape[1], rows
        return F.cross_entropy(logits, batch["target"], reduction="sum"), rows

    def answer(self, loaded: Loaded, inputs: Sequence[Input], *, progress: Progress = silent) -> list[Prediction]:
        """The most probable label, or all labels above one half; with every label's probability."""
        probabilities = self.probabilities(loaded, inputs, progress=progress)
        return [self._decide(str(position), row) for position, row in enumerate(probabilities)]

    def probabilities(self, loaded: Loaded, inputs: Sequence[Input], *, progress: Progress = silent) -> np.ndarray:
        """Probabilities [rows, K] of the labels."""
        logits = run_batches(
            loaded,
            [self._tokens(item, loaded.tokenizer, self.max_length) for item in inputs],
            lambda batch: loaded.model(**batch).logits,
            progress=progress,
        )
        if self.multi_label:
            return 1 / (1 + np.exp(-logits))
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        return shifted / shifted.sum(axis=1, keepdims=True)

    def measure(
        self, loaded: Loaded, examples: Sequence[Example], *, progress: Progress = silent
    ) -> list[dict[str, float]]:
        """A classifier's scores come with its answers."""
        return [{} for _ in examples]

    def cut(self, tokenizer: Any, inputs: Sequence[Input]) -> list[int]:
        """Positions of the inputs of which `answer` reads only the beginning."""
        return [
            place
            for place, item in enumerate(inputs)
            if len(self._tokens(item, tokenizer, self.max_length + 1)) > self.max_length
        ]

    def _tokens(self, item: Input, tokenizer: Any, limit: int) -> list[int]:
        """At most `limit` tokens; a text that is cut keeps the special tokens at its end."""
        tokens = tokenizer(str(item), truncation=True, max_length=limit, verbose=False)["input_ids"]
        return tokens or [tokenizer.pad_token_id]

    def _decide(self, identifier: str, row: np.ndarray) -> Prediction:
        scores = {label: float(value) for label, value in zip(self.labels, row, strict=True)}
        if self.multi_label:
            return Prediction(identifier, tuple(label for label, value in scores.items() if value > 0.5), scores)
        return Prediction(identifier, self.labels[int(row.argmax())], scores)


def run_batches(
    loaded: Loaded, rows: Sequence[Sequence[int]], forward: Any, *, progress: Progress = silent
) -> np.ndarray:
    """Applies `forward(batch) -> [B, D]` to token rows in length order, without gradients; float64 `[rows, D]`."""
    import torch

    from finesmith.models.device import autocast

    lengths = [len(row) for row in rows]
    out: list[np.ndarray | None] = [None] * len(rows)
    loaded.model.eval()

    def run(positions: list[int]) -> None:
        items = [Encoded(position, np.asarray(rows[position], np.int32)) for position in positions]
        values = forward(collate(items, loaded.tokenizer.pad_token_id, loaded.device)).cpu().double().numpy()
        for position, value in zip(positions, values, strict=True):
            out[position] = value
        progress(len(positions))

    with torch.inference_mode(), autocast(loaded.device, loaded.dtype):
        _evaluation.in_batches(loaded.model, lengths, run)
    return np.stack([value for value in out if value is not None]) if rows else np.zeros((0, 1))


def _logits(model: nn.Module, batch: Batch) -> torch.Tensor:
    """`[B, K]`, of padded texts or of texts that share a row."""
    if "places" not in batch:
        return model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    from finesmith.models import reading

    inputs = {name: value for name, value in batch.items() if name not in ("places", "target")}
    return reading.logits(model, inputs, batch["places"])


def _labels(example: Example) -> tuple[str, ...]:
    return example.target if isinstance(example.target, tuple) else (str(example.target),)


PLUGIN = Classification
