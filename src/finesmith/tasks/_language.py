"""What generation and text share: the token loss and the measurement of held-out text. No settings, no plug-in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from finesmith.tasks import _evaluation
from finesmith.tasks.base import Batch, Encoded, Progress, batch_of, pad
from finesmith.types import Example

if TYPE_CHECKING:
    import torch
    from torch import nn

    from finesmith.models.load import Loaded
    from finesmith.tasks.base import Task

EVALUATION_TOKENS = _evaluation.MOST_TOKENS
NEUTRAL = {"repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "min_new_tokens": None, "min_length": 0}
"""Settings of transformers' `generate` under which nothing but the model's probabilities counts."""


def token_losses(model: nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Negative log-probability in nats and weight of every supervised token, each `[N]`, in float32."""
    import torch.nn.functional as F

    from finesmith.models import fast
    from finesmith.tasks import _cross_entropy

    targets, weights, before = _supervised(batch)
    output = fast.of(model).output
    if output is None:
        logits = _forward(model, batch).logits.flatten(0, 1)[before]  # [N, V]
        return F.cross_entropy(logits.float(), targets, reduction="none"), weights
    hidden = _forward(output.trunk, batch).last_hidden_state.flatten(0, 1)[before]
    return _cross_entropy.nats(hidden, output.layer.weight, output.layer.bias, output.scale, targets), weights


def weighted_loss(model: nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum of weight x nats, and the sum of the weights."""
    from finesmith.models import fast
    from finesmith.tasks import _cross_entropy

    output = fast.of(model).output
    if output is None:
        nats, weights = token_losses(model, batch)
        return (nats * weights).sum(), weights.sum()
    targets, weights, before = _supervised(batch)
    hidden = _forward(output.trunk, batch).last_hidden_state.flatten(0, 1)[before]
    layer = output.layer
    total = _cross_entropy.weighted_sum(hidden, layer.weight, layer.bias, output.scale, targets, weights)
    return total, weights.sum()


def _supervised(batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Token, weight and place of the token before it, of all supervised tokens, each `[N]`.

    What stands at place t is predicted by what the model says at t - 1; places count through the rows of the batch.
    """
    weights = batch["weights"].clone()
    weights[:, 0] = 0
    places = weights.flatten().nonzero().squeeze(1)
    return batch["input_ids"].flatten()[places], weights.flatten()[places], places - 1


def _forward(module: nn.Module, batch: Batch) -> Any:
    from finesmith.models import attention

    inputs = {name: value for name, value in batch.items() if name not in ("weights", "segments")}
    if "segments" in batch:
        inputs["attention_mask"] = attention.own_segment(batch["segments"])
    with attention.packed() if "documents" in batch else nullcontext():
        return module(**inputs)


def generate(
    loaded: Loaded,
    prompts: Sequence[np.ndarray],
    *,
    new_tokens: int,
    temperature: float,
    stop: Sequence[int],
    steering: Any = None,
) -> list[list[int]]:
    """The tokens that follow each prompt: the most probable ones, or drawn where the temperature is above 0.

    Whatever the base's generation settings say of repetitions and the like: answers are the model's own.
    """
    import torch

    from finesmith.models.device import autocast

    tokens = torch.from_numpy(pad(prompts, loaded.tokenizer.pad_token_id, left=True)).to(loaded.device)
    mask = torch.from_numpy(pad([np.ones(len(p), np.int64) for p in prompts], 0, left=True)).to(loaded.device)
    loaded.model.eval()
    with torch.inference_mode(), autocast(loaded.device, loaded.dtype):
        out = loaded.model.generate(
            input_ids=tokens,
            attention_mask=mask,
            do_sample=temperature > 0,
            num_beams=1,
            max_new_tokens=new_tokens,
            eos_token_id=list(stop),
            pad_token_id=loaded.tokenizer.pad_token_id,
            temperature=temperature or None,
            top_p=1.0 if temperature else None,
            top_k=0 if temperature else None,
            logits_processor=steering,
            **NEUTRAL,
        )
    return out[:, tokens.shape[1] :].tolist()


def neutralise(config: Any) -> tuple[str, ...]:
    """Takes what bends probabilities out of a model's generation settings, so that every server answers as measured.

    Returns:
        A note where something was there.
    """
    bent = {name: getattr(config, name, None) for name in NEUTRAL}
    bent = {name: found for name, found in bent.items() if found is not None and found != (NEUTRAL[name] or 0)}
    for name in bent:
        setattr(config, name, NEUTRAL[name])
    said = ", ".join(f"{name} {found:g}" for name, found in bent.items())
    return (f"the base's generation settings lose what bends its answers: {said}",) if bent else ()


def measure(
    task: Task, loaded: Loaded, examples: Sequence[Example], sizes: Sequence[int], max_length: int, progress: Progress
) -> list[dict[str, float]]:
    """Per example the summed `nats`, the number of `tokens` scored and the `bytes` they stand for."""
    import torch

    from finesmith.models import fast
    from finesmith.models.device import autocast

    pieces = [
        piece
        for row, example in enumerate(examples)
        for piece in task.encode(example, row, loaded.tokenizer, max_length, final_only=True)
    ]
    totals: list[dict[str, float]] = [{"nats": 0.0, "tokens": 0.0, "bytes": float(size)} for size in sizes]
    lengths, left = [len(piece.tokens) for piece in pieces], Counter(piece.row for piece in pieces)
    loaded.model.eval()
    packed = fast.of(loaded.model).packed

    def score(positions: list[int]) -> None:
        items = [pieces[p] for p in positions]
        batch = batch_of(loaded.model, items, loaded.tokenizer.pad_token_id, loaded.device)
        _add(totals, items, token_losses(loaded.model, batch)[0])
        left.subtract(piece.row for piece in items)
        progress(sum(left[row] == 0 for row in {piece.row for piece in items}))

    with torch.inference_mode(), autocast(loaded.device, loaded.dtype):
        _evaluation.in_batches(loaded.model, lengths, score, packed=packed)
    return totals


def _add(totals: list[dict[str, float]], pieces: Sequence[Encoded], nats: torch.Tensor) -> None:
    counts = [int((piece.weights[1:] > 0).sum()) for piece in pieces if piece.weights is not None]
    for piece, part in zip(pieces, nats.cpu().double().split(counts), strict=True):
        totals[piece.row]["nats"] += float(part.sum())
        totals[piece.row]["tokens"] += len(part)
