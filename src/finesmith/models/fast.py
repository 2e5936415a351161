"""What is done to a model so that it trains fast: proved on the model itself, else left out and said.

A model that was prepared is known here; `of` answers for every other that nothing was done to it.
"""

from __future__ import annotations

import inspect
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from finesmith.errors import ModelError, RecipeError
from finesmith.models import attention, blocked, reading
from finesmith.models.device import autocast, refuse_for_memory
from finesmith.models.documents import Documents, documents
from finesmith.models.reading import Reading, close


@dataclass(frozen=True)
class Output:
    """A language model cut in two: `trunk` gives hidden states, and logits are `scale` x `layer` of them."""

    trunk: nn.Module
    layer: nn.Linear
    scale: float = 1.0


@dataclass(frozen=True)
class Fast:
    """What a model can do: `output`, if it can be cut before its output layer; `packed`, if documents can share a row,
    with attention in blocks for documents of up to `blocked` tokens; `reading`, of a classifier that can."""

    output: Output | None = None
    packed: bool = False
    blocked: int = 0
    reading: Reading | None = None


_KNOWN: WeakKeyDictionary[nn.Module, Fast] = WeakKeyDictionary()


def of(model: nn.Module) -> Fast:
    """What was prepared for a model; nothing for one that was not."""
    return _KNOWN.get(model, Fast())


def remember(model: nn.Module, fast: Fast) -> None:
    """Says what a model can do from now on."""
    _KNOWN[model] = fast


def compile_blocks(model: nn.Module, blocks: nn.ModuleList) -> None:
    """Compiles the model's blocks one by one, at their first forward pass, for inputs of any length.

    Raises:
        RecipeError: what the compiler needs is not installed.
    """
    device = next(model.parameters()).device.type
    missing = {
        "cpu": None if shutil.which(os.environ.get("CXX", "g++")) else "a C++ compiler (g++)",
        "cuda": None if find_spec("triton") else "the package triton",
    }.get(device, f"a backend for {device}")
    if missing:
        raise RecipeError(f"speed.compile is true, but {missing} is not installed.")
    for block in blocks:
        block.compile(dynamic=True)


def release(model: nn.Module) -> None:
    """Forgets a model, and gives it PyTorch's attention back."""
    if _KNOWN.pop(model, Fast()).packed:
        inner(model).set_attn_implementation("sdpa")


def cut(model: nn.Module) -> Output | None:
    """The model cut before its output layer, if that gives the logits that the model gives; None otherwise.

    A constant factor on the logits (Granite, Cohere) is found; a cap on them (Gemma 2) cannot be cut.
    """
    plain = inner(model)
    layer = plain.get_output_embeddings()
    trunk = getattr(plain, plain.base_model_prefix, None)
    capped = getattr(plain.config.get_text_config(), "final_logit_softcapping", None)
    if type(layer) is not nn.Linear or trunk is None or trunk is plain or capped:
        return None
    tokens = probe(plain)
    with asking(plain):
        said = plain(input_ids=tokens).logits
        whole, part = said.cpu().double(), layer(trunk(input_ids=tokens).last_hidden_state).cpu().double()
    scale = float((whole * part).sum() / (part * part).sum())
    scale = 1.0 if abs(scale - 1) < 1e-3 else scale
    return Output(trunk, layer, scale) if close(said.cpu(), scale * part) else None


def can_pack(model: nn.Module) -> bool:
    """Switches the model's attention to documents, if documents in one row then get the logits that each gets alone.

    And if other tokens in the first document change nothing in the second, to the last bit.
    """
    plain = inner(model)
    before = plain.config._attn_implementation
    if before != "sdpa" or "position_ids" not in inspect.signature(plain.forward).parameters or _limited(plain):
        return False
    tokens, sizes = probe(plain, 12), (7, 5)
    other = torch.cat([tokens[:, 1:8], tokens[:, 7:]], dim=1)
    try:
        with asking(plain):
            alone = torch.cat([plain(input_ids=part).logits for part in tokens.split(sizes, dim=1)], dim=1)
            plain.set_attn_implementation(attention.NAME)
            layout = documents(sizes, tokens.device)
            with attention.packed(), attention.windows() as named:
                together = plain(**packed_inputs(tokens, sizes, layout)).logits
                beside = plain(**packed_inputs(other, sizes, layout)).logits
        right = close(alone, together) and torch.equal(together[:, 7:], beside[:, 7:])
        right = right and _named(plain, named)
    except (NotImplementedError, TypeError, ValueError, RuntimeError, KeyError) as error:
        refuse_for_memory(error)
        right = False
    if not right:
        plain.set_attn_implementation(before)
    return right


def can_mask(model: nn.Module, length: int) -> bool:
    """Whether documents in one row of so many tokens, behind a mask of their own, get the logits that each gets alone.

    Layers that carry a state past the mask (recurrences, convolutions) fail; so do windows shorter than the row,
    because a mask of one's own takes the place of theirs.
    """
    plain = inner(model)
    if _window(plain) < length:
        return False
    tokens, sizes = probe(plain, 12), (7, 5)
    try:
        with asking(plain):
            alone = torch.cat([plain(input_ids=part).logits for part in tokens.split(sizes, dim=1)], dim=1)
            places = torch.tensor([[*range(sizes[0]), *range(sizes[1])]], device=tokens.device)
            mask = attention.own_segment(torch.tensor([[0] * sizes[0] + [1] * sizes[1]], device=tokens.device))
            together = plain(input_ids=tokens, attention_mask=mask, position_ids=places, use_cache=False).logits
        return close(alone, together)
    except (NotImplementedError, TypeError, ValueError, RuntimeError, KeyError) as error:
        refuse_for_memory(error)
        return False


def _limited(model: Any) -> bool:
    """Whether layers see less than all that stands before, in a way that only their own mask knows."""
    config = model.config.get_text_config()
    return any(getattr(config, name, None) for name in ("attention_chunk_size", "keep_window_size"))


def _named(model: Any, windows: set[int]) -> bool:
    """Whether attention was told of the model's window, if it has one: a few tokens do not show one that is wider."""
    layers = getattr(model.config.get_text_config(), "layer_types", None) or ["sliding_attention"]
    return bool(windows) or _window(model) == math.inf or not any("sliding" in layer for layer in layers)


def _window(model: Any) -> float:
    """How many tokens the layer that sees least sees back; infinity where all see everything."""
    config = model.config.get_text_config()
    sizes = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size", "keep_window_size")]
    return min((size for size in sizes if size and getattr(config, "use_sliding_window", True)), default=math.inf)


def can_read(model: nn.Module) -> Reading | None:
    """The same for a classifier: how it reads documents in one row, if it then gives the logits that each gets alone.

    And if other tokens in the first document change nothing in the second, to the last bit.
    """
    plain = inner(model)
    before = plain.config._attn_implementation
    if before != "sdpa" or _limited(plain):
        return None
    tokens = probe(plain, 12)
    rows, other = [tokens[:, :7], tokens[:, 7:]], [tokens[:, 1:8], tokens[:, 7:]]

    def inputs(parts: list[Tensor], start: int) -> dict[str, Any]:
        sizes = [part.shape[1] for part in parts]
        packed = packed_inputs(torch.cat(parts, dim=1), sizes, documents(sizes, tokens.device), start)
        return {name: value for name, value in packed.items() if name != "use_cache"}

    with asking(plain), attention.windows() as named:
        plain.set_attn_implementation(attention.NAME)
        found = reading.proved(plain, rows, inputs)
        if found is not None:
            places = torch.tensor([6, 11] if found.token == "last" else [0, 7], device=tokens.device)
            one, two = (reading.logits(plain, inputs(parts, found.first_position), places) for parts in (rows, other))
            found = found if torch.equal(one[1], two[1]) and _named(plain, named) else None
    if found is None:
        plain.set_attn_implementation(before)
    return found


def packed_inputs(tokens: Tensor, sizes: Any, layout: Documents, start: int = 0) -> dict[str, Any]:
    """The arguments of a pass over packed documents: tokens `[1, N]`, positions from `start` in each, the layout."""
    positions = torch.cat([torch.arange(start, start + size) for size in sizes]).to(tokens.device)
    return {"input_ids": tokens, "position_ids": positions[None], "documents": layout, "use_cache": False}


def race(model: nn.Module, dtype: torch.dtype, device: torch.device) -> float:
    """How many times faster attention in blocks is on this machine; 0 where nothing races: elsewhere than on a CPU."""
    if device.type != "cpu":
        return 0.0
    config = inner(model).config.get_text_config()
    try:
        heads = config.num_attention_heads
        shared = heads // (getattr(config, "num_key_value_heads", None) or heads)
        size = getattr(config, "head_dim", None) or config.hidden_size // heads
    except (RuntimeError, AttributeError):  # layers of different shapes (Gemma 4): no one shape stands for all
        return 0.0
    return blocked.speedup(attention.fused, blocked.RACED, heads, shared, size, dtype)


def check_reads(model: Any, tokens: Sequence[int], name: str) -> None:
    """Whether a classifier reads a text of this length at all; some architectures take one length only.

    Raises:
        ModelError: it does not.
    """
    ids = torch.tensor([list(tokens)], device=next(model.parameters()).device)
    try:
        with asking(model):
            model(input_ids=ids, attention_mask=torch.ones_like(ids))
    except (NotImplementedError, TypeError, ValueError, RuntimeError, LookupError, AttributeError) as error:
        refuse_for_memory(error)
        raise ModelError(
            f"'{name}' ({model.config.model_type}) cannot read a text of {len(tokens)} tokens: "
            f"{str(error).splitlines()[0] if str(error) else type(error).__name__}",
            hint="Use another model: a few architectures take texts of one fixed length only.",
        ) from error


def inner(model: Any) -> Any:
    """The transformers model inside an adapter's wrapper."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def probe(model: Any, length: int = 8) -> Tensor:
    """A few tokens of the vocabulary, without special meaning for the result."""
    device = next(model.parameters()).device
    words = model.get_input_embeddings().weight.shape[0]  # not all layers say `num_embeddings` (I-BERT's do not)
    return (torch.arange(length, device=device)[None] * 31 + 7) % words


@contextmanager
def asking(model: nn.Module) -> Iterator[None]:
    """A question to the model that leaves no trace: no gradients, no dropout; in the type of its narrow weights."""
    training, first = model.training, next(model.parameters())
    model.eval()
    try:
        with torch.no_grad(), autocast(first.device, narrow(model)):
            yield
    finally:
        model.train(training)


def narrow(model: nn.Module) -> torch.dtype:
    """The type of its narrow weights, float32 where it has none: what a model computes in that holds some of each."""
    found = {weight.dtype for weight in model.parameters()} & {torch.bfloat16, torch.float16}
    return found.pop() if found else torch.float32
