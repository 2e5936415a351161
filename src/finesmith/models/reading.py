"""A classifier over documents that share a row: from each the one token is read that its head reads.

Proved on the model, else texts are padded. Legend for shapes: N tokens of a packed row, B documents, K labels.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from finesmith.models import attention
from finesmith.models.device import refuse_for_memory

Token = Literal["first", "last"]
"""Encoders read the first token of a text; decoders the last one that is not padding."""
_places: ContextVar[Tensor | None] = ContextVar("places", default=None)


TOLERANCE, NARROW_TOLERANCE = 1e-4, 3e-2
"""Largest difference between two ways to the same logits, relative to the largest: in float32, in narrower weights."""


@dataclass(frozen=True)
class Reading:
    """Which token of a text is read, and where its positions begin (RoBERTa's begin behind the padding's)."""

    token: Token
    first_position: int = 0


def logits(model: nn.Module, inputs: dict[str, Any], places: Tensor) -> Tensor:
    """`[B, K]` of packed documents, whose read tokens stand at `places` `[B]`."""
    from finesmith.models.fast import inner

    plain = inner(model)
    with attention.packed(), _reading(places):
        if hasattr(plain, "score"):  # a decoder's head: it would look for the last token of the row
            trunk = getattr(plain, plain.base_model_prefix)
            return plain.score(trunk(**inputs, use_cache=False).last_hidden_state[0, places])
        return model(**inputs).logits


def proved(model: nn.Module, rows: list[Tensor], inputs: Any) -> Reading | None:
    """How this classifier can read packed documents, or None where no way gives the logits of each text alone.

    Args:
        model: in evaluation mode, its attention switched to documents.
        rows: two texts `[1, T]` each.
        inputs: makes the arguments of a packed pass from the two and the first position.
    """
    with torch.no_grad():
        alone = torch.cat([model(input_ids=row).logits for row in rows])
    if not bool(alone.abs().max() > 0):
        return None  # a head of zeros: nothing can be told apart
    sizes = torch.tensor([row.shape[1] for row in rows])
    ends = sizes.cumsum(0)
    decoder = hasattr(model, "score")
    places = ends - 1 if decoder else ends - sizes
    padding = getattr(model.config, "pad_token_id", None)
    for start in (0,) if decoder or padding is None else (0, int(padding) + 1):
        for point in (None,) if decoder else _points(model):
            handle = point.register_forward_hook(_gather) if point is not None else None
            try:
                with torch.no_grad():
                    together = logits(model, inputs(rows, start), places.to(alone.device))
                if together.shape == alone.shape and close(alone, together):
                    return Reading("last" if decoder else "first", start)
            except (NotImplementedError, TypeError, ValueError, RuntimeError, KeyError, IndexError) as error:
                refuse_for_memory(error)
            if handle is not None:
                handle.remove()
    return None


def _points(model: Any) -> Iterator[nn.Module]:
    """Modules behind which only a head follows: the stack of blocks, or the whole trunk."""
    trunk = getattr(model, model.base_model_prefix, None)
    for module in (getattr(trunk, "encoder", None), getattr(trunk, "transformer", None), trunk):
        if isinstance(module, nn.Module):
            yield module


def _gather(_module: nn.Module, _arguments: Any, output: Any) -> Any:
    """While documents are read: of the hidden states `[1, N, H]` only those at the places, as `[B, 1, H]`."""
    places = _places.get()
    if places is None:
        return output
    if isinstance(output, Tensor):
        return output[0, places][:, None]
    if isinstance(output, tuple):
        return (output[0][0, places][:, None], *output[1:])
    output["last_hidden_state"] = output.last_hidden_state[0, places][:, None]
    return output


@contextmanager
def _reading(places: Tensor) -> Iterator[None]:
    token = _places.set(places)
    try:
        yield
    finally:
        _places.reset(token)


def close(one: Tensor, other: Tensor) -> bool:
    """Whether two ways came to the same logits, as far as the type of the first can tell."""
    tolerance = TOLERANCE if one.dtype == torch.float32 else NARROW_TOLERANCE
    return bool((one - other).abs().max() <= tolerance * one.abs().max())
