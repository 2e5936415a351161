"""What generation and text share: the token loss and the measurement of held-out text. No settings, no plug-in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from finesmith.tasks.base import Batch, Encoded, Progress, collate, length_order, token_batches
from finesmith.types import Example

if TYPE_CHECKING:
    import torch
    from torch import nn

    from finesmith.models.load import Loaded
    from finesmith.tasks.base import Task

EVALUATION_TOKENS = 8192


def token_losses(model: nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Negative log-probability in nats and weight of every supervised token, each `[N]`, in float32.

    The logits at position t predict token t + 1, so both are shifted by one against the tokens.
    """
    import torch.nn.functional as F

    seen = {"attention_mask": batch["attention_mask"]}
    if "segments" in batch:
        seen = {"attention_mask": own_segment(batch["segments"]), "position_ids": batch["position_ids"]}
    logits = model(input_ids=batch["input_ids"], **seen).logits  # [B, T, V]
    weights = batch["weights"][:, 1:]
    chosen = weights > 0
    targets = batch["input_ids"][:, 1:][chosen]
    nats = F.cross_entropy(logits[:, :-1][chosen].float(), targets, reduction="none")
    return nats, weights[chosen]


def own_segment(segments: torch.Tensor) -> torch.Tensor:
    """What is added to attention scores, [B, 1, T, T]: 0 in a token's own segment up to itself, else very low."""
    import torch

    kind, length = segments.device.type, segments.shape[1]
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32
    before = torch.ones(length, length, dtype=torch.bool, device=segments.device).tril()
    allowed = (segments[:, None, :, None] == segments[:, None, None, :]) & before
    return torch.where(allowed, 0.0, torch.finfo(dtype).min).to(dtype)


def weighted_loss(model: nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum of weight x nats, and the sum of the weights."""
    nats, weights = token_losses(model, batch)
    return (nats * weights).sum(), weights.sum()


def measure(
    task: Task, loaded: Loaded, examples: Sequence[Example], sizes: Sequence[int], max_length: int, progress: Progress
) -> list[dict[str, float]]:
    """Per example the summed `nats`, the number of `tokens` scored and the `bytes` they stand for."""
    import torch

    from finesmith.models.device import autocast

    pieces = [
        piece
        for row, example in enumerate(examples)
        for piece in task.encode(example, row, loaded.tokenizer, max_length, final_only=True)
    ]
    totals: list[dict[str, float]] = [{"nats": 0.0, "tokens": 0.0, "bytes": float(size)} for size in sizes]
    lengths = [len(piece.tokens) for piece in pieces]
    loaded.model.eval()
    with torch.inference_mode(), autocast(loaded.device, loaded.dtype):
        for positions in token_batches(length_order(lengths), lengths, EVALUATION_TOKENS):
            batch = collate([pieces[p] for p in positions], loaded.tokenizer.pad_token_id, loaded.device)
            _add(totals, [pieces[p] for p in positions], batch, loaded.model)
            progress(len({pieces[p].row for p in positions}))
    return totals


def _add(totals: list[dict[str, float]], pieces: Sequence[Encoded], batch: Mapping[str, Any], model: nn.Module) -> None:
    nats, _ = token_losses(model, batch)
    counts = (batch["weights"][:, 1:] > 0).sum(dim=1).tolist()
    for piece, part in zip(pieces, nats.split(counts), strict=True):
        totals[piece.row]["nats"] += float(part.double().sum())
        totals[piece.row]["tokens"] += len(part)
