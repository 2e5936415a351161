"""Domain text: continued training on plain documents, judged by bits per byte on held-out documents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from finesmith.settings import Settings
from finesmith.tasks import _language
from finesmith.tasks.base import Batch, Encoded, Progress, epochs_for, silent
from finesmith.types import Example, Input, Prediction

if TYPE_CHECKING:
    import torch
    from torch import nn

    from finesmith.models.load import Kind, Loaded


class TextSettings(Settings):
    """Training on plain documents has no settings of its own."""


class Text:
    """The next token of a document. A document longer than the context becomes several windows; no token is lost."""

    Settings = TextSettings
    kind: Kind = "causal-lm"
    spare = 0
    proves = "every token of a document is learnt, once"
    primary = "bits_per_byte"
    metrics: tuple[str, ...] = ("bits_per_byte", "held_out_loss")

    def __init__(self, settings: TextSettings, max_length: int = 512) -> None:
        self.settings = settings
        self.max_length = max_length

    def fit(self, train: Sequence[Example]) -> Text:
        """Nothing is learnt from the rows before training."""
        return self

    def for_base(self) -> Text:
        """Itself: documents need no preamble."""
        return self

    def state(self) -> dict[str, Any]:
        """The window that held-out text is measured with."""
        return {"max_length": self.max_length}

    def restore(self, state: Mapping[str, Any]) -> Text:
        """With the window of the run."""
        return Text(self.settings, state["max_length"])

    def default_epochs(self, steps_per_epoch: int) -> int:
        """About 300 steps."""
        return epochs_for(300, steps_per_epoch, least=1, most=5)

    def load_arguments(self) -> dict[str, Any]:
        """A language model needs no labels."""
        return {}

    def head(self, model: nn.Module) -> tuple[str, ...]:
        """No head is added."""
        return ()

    def prepare(self, loaded: Loaded) -> tuple[Text, tuple[str, ...]]:
        """Documents need no template."""
        return self, ()

    def encode(
        self, example: Example, row: int, tokenizer: Any, max_length: int, *, final_only: bool = False
    ) -> list[Encoded]:
        """Windows of `max_length` tokens; each starts with the last token of the one before, so all are predicted.

        A start and an end that stand in the text are not put there again.
        """
        tokens = tokenizer(str(example.input), add_special_tokens=False, verbose=False)["input_ids"]
        return self._windows(row, tokens, tokenizer, max_length)

    def encode_many(
        self, examples: Sequence[Example], first: int, tokenizer: Any, max_length: int
    ) -> list[list[Encoded]]:
        """`encode` of rows `first`, `first` + 1, ...; a fast tokenizer takes them together, on all cores."""
        texts = [str(example.input) for example in examples]
        found = tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
        return [self._windows(first + place, tokens, tokenizer, max_length) for place, tokens in enumerate(found)]

    def _windows(self, row: int, tokens: list[int], tokenizer: Any, max_length: int) -> list[Encoded]:
        start, end = _ends(tokenizer)
        begun = tokens if start is None or tokens[:1] == [start] else [start, *tokens]
        ended = begun if end is None or begun[1:][-1:] == [end] else [*begun, end]
        whole = np.asarray(ended, dtype=np.int32)
        windows = [whole[at : at + max_length] for at in range(0, max(len(whole) - 1, 1), max_length - 1)]
        return [
            Encoded(row, window, weights=np.append(np.float32(0), np.ones(len(window) - 1, np.float32)))
            for window in windows
            if len(window) > 1
        ]

    def check(self, example: Example, pieces: Sequence[Encoded], tokenizer: Any) -> Iterable[str]:
        """Every token of the document is predicted exactly once, the last one too."""
        tokens = tokenizer(str(example.input), add_special_tokens=False, verbose=False)["input_ids"]
        start, end = _ends(tokenizer)
        written = tokens[:1] == [start], len(tokens) > (tokens[:1] == [start]) and tokens[-1] == end
        whole = len(tokens) + (start is not None and not written[0]) + (end is not None and not written[1])
        if sum(piece.supervised for piece in pieces) != whole - 1:
            yield f"{sum(piece.supervised for piece in pieces):g} of {whole - 1} tokens would be learnt"

    def loss(self, model: nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Nats over all tokens but the first, and their number."""
        return _language.weighted_loss(model, batch)

    def answer(self, loaded: Loaded, inputs: Sequence[Input], *, progress: Progress = silent) -> list[Prediction]:
        """A language model of documents gives scores, not answers."""
        return [Prediction(str(position), None) for position in range(len(inputs))]

    def measure(
        self, loaded: Loaded, examples: Sequence[Example], *, progress: Progress = silent
    ) -> list[dict[str, float]]:
        """Nats, tokens and bytes of each document."""
        sizes = [len(str(example.input).encode()) for example in examples]
        return _language.measure(self, loaded, examples, sizes, self.max_length, progress)


def _ends(tokenizer: Any) -> tuple[int | None, int | None]:
    """The tokens with which a document begins and ends; the one that ends it also begins it where there is no other."""
    end = tokenizer.eos_token_id
    return (end if tokenizer.bos_token_id is None else tokenizer.bos_token_id), end


PLUGIN = Text
