"""What a base language model knows about the labels without training: label scoring by log-probability.

Score of a label: mean log-probability of its tokens after the prompt, minus the same after a content-free prompt
(contextual calibration in the spirit of Zhao et al. 2021; the PMI form of lm-eval's `acc_mutual_info`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from finesmith.tasks import _language, _template
from finesmith.tasks.base import Encoded, Progress, collate, length_order, silent, token_batches
from finesmith.types import Message, Prediction

if TYPE_CHECKING:
    from finesmith.models.load import Loaded

CONTENT_FREE = "N/A"
PATTERN = "Text: {text}\nCategory:"
"""What a plain language model continues with a label."""


def score_labels(
    loaded: Loaded, texts: Sequence[str], labels: Sequence[str], max_length: int, *, progress: Progress = silent
) -> list[Prediction]:
    """The label whose log-probability the text raises most; with the softmax of all scores.

    Args:
        loaded: a causal language model, as it was pretrained.
        texts: rows to answer.
        labels: every label of the task.
        max_length: context in tokens; a longer text is cut at its beginning, for this opponent only.
    """
    prior = _scores(loaded, [CONTENT_FREE], labels, max_length, silent)
    scores = _scores(loaded, texts, labels, max_length, progress) - prior
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    return [
        Prediction(str(place), labels[int(row.argmax())], dict(zip(labels, row.tolist(), strict=True)))
        for place, row in enumerate(shares)
    ]


def _scores(
    loaded: Loaded, texts: Sequence[str], labels: Sequence[str], max_length: int, progress: Progress
) -> np.ndarray:
    """Mean log-probabilities [rows, K] of the labels' tokens."""
    import torch

    from finesmith.models.device import autocast

    ends = [_template.ids(loaded.tokenizer, _label_text(loaded, label)) for label in labels]
    pieces = []
    for text in texts:
        prompt = _prompt(loaded, text, labels)
        pieces += [_piece(prompt, end, max_length) for end in ends]
    lengths = [len(piece.tokens) for piece in pieces]
    out = np.zeros(len(pieces))
    loaded.model.eval()
    with torch.inference_mode(), autocast(loaded.device, loaded.dtype):
        for positions in token_batches(length_order(lengths), lengths, _language.EVALUATION_TOKENS):
            batch = collate([pieces[p] for p in positions], loaded.tokenizer.pad_token_id, loaded.device)
            nats, _ = _language.token_losses(loaded.model, batch)
            counts = (batch["weights"][:, 1:] > 0).sum(dim=1).tolist()
            out[positions] = [-float(part.double().mean()) for part in nats.split(counts)]
            progress(len(positions))
    return out.reshape(len(texts), len(labels))


def _piece(prompt: list[int], end: list[int], max_length: int) -> Encoded:
    kept = prompt[-max(1, max_length - len(end)) :]
    weights = np.concatenate([np.zeros(len(kept), np.float32), np.ones(len(end), np.float32)])
    return Encoded(0, np.asarray(kept + end, np.int32), weights)


def _prompt(loaded: Loaded, text: str, labels: Sequence[str]) -> list[int]:
    """A question for a chat model (labels named, where they are few); a bare pattern for a plain language model."""
    tokenizer = loaded.tokenizer
    if tokenizer.chat_template:
        choice = f" Answer with one of: {', '.join(labels)}." if len(labels) <= 50 else ""
        question = f"Which category does this text belong to?{choice}\n\n{text}"
        return _template.ids(tokenizer, _template.render(tokenizer, [Message("user", question)], (), ask=True))
    start = [tokenizer.bos_token_id] if tokenizer.bos_token_id is not None else []
    return start + _template.ids(tokenizer, PATTERN.format(text=text))


def _label_text(loaded: Loaded, label: str) -> str:
    return label if loaded.tokenizer.chat_template else plain_label(label)


def plain_label(label: str) -> str:
    """A label as words behind `PATTERN`: `card_arrival` becomes ` card arrival`."""
    return " " + label.replace("_", " ").replace("-", " ")
