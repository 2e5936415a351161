"""The ways of computing a step that the `speed` settings ask for: proved on the model, taken to train, left after."""

from __future__ import annotations

from torch import nn

from finesmith.errors import RecipeError
from finesmith.methods import _fused
from finesmith.methods.base import layer_list
from finesmith.models import allocator, blocked, fast, kernels, recompute, together
from finesmith.models.load import Kind, Loaded
from finesmith.train.speed import SpeedSettings


def prepare(
    speed: SpeedSettings, kind: Kind, loaded: Loaded, attention: str = "auto", *, shared: int = 0
) -> tuple[int, tuple[str, ...]]:
    """Finds out which ways this model can go, and remembers them.

    Args:
        attention: `model.attention`; any but auto stays as it is, and then sequences are padded.
        shared: tokens of a row that several sequences share (`train.packing`); 0 where each has its own.

    Returns:
        Up to how many tokens attention is computed in blocks (0: nowhere), and notes.

    Raises:
        RecipeError: rows are shared, and in this model sequences would see or change one another.
    """
    model, notes = loaded.model, []
    turns = together.turns(model)
    if turns and shared > turns:
        raise RecipeError(
            f"train.packing: this model ({model.config.model_type}) turns positions otherwise above {turns} tokens, "
            f"which a row of {shared} tokens would decide for all that share it.",
            hint=f"Leave train.packing out, or set train.max_length to {turns} at most.",
        )
    if speed.keep_memory and loaded.device.type == "cpu":
        allocator.keep_blocks()
    if speed.kernels == "liger":
        layers = kernels.use_liger(model, loaded.device)
        notes.append(
            f"Liger's kernels in {layers} layers" if layers else "Liger's kernels do not fit this model: left out"
        )
    asked, language = attention != "auto", kind == "causal-lm"
    output = fast.cut(model) if speed.chunked_loss and language else None
    may = speed.packing and not asked
    reading = fast.can_read(model) if may and not language else None
    packed = may and (fast.can_pack(model) if language else reading is not None)
    if shared and not packed and not fast.can_mask(model, shared):
        raise RecipeError(
            f"train.packing: in this model ({model.config.model_type}) sequences that share a row of {shared} tokens "
            "would see one another.",
            hint="Leave train.packing out: each sequence then has a row of its own.",
        )
    asked_for = speed.block_attention  # read for packed rows only
    gain = fast.race(model, loaded.dtype, loaded.device) if packed and asked_for == "auto" else 0.0
    limit = blocked.up_to(gain) if asked_for == "auto" else asked_for
    fast.remember(model, fast.Fast(output, packed, limit, reading))
    if speed.chunked_loss and language and output is None:
        notes.append("this model's output layer cannot be run apart: all logits are computed")
    if speed.packing and not packed:
        reason = "attention is computed as asked" if asked else "this model cannot take several sequences in one row"
        notes.append(f"{reason}: sequences are padded")
    company = together.training(model)
    if company == "equal":
        notes.append("padding would change what this model says: only sequences of one length are computed together")
    if company == "none":
        notes.append(
            "not shown that sequences in one batch leave one another alone in this model: each is computed alone"
        )
    if turns:
        notes.append(
            f"sequences of more than {turns:,} tokens are computed only with others of the same length: there "
            "this model turns positions otherwise"
        )
    raced = f": blocks are {gain:.1f} times as fast as PyTorch's attention here" if gain else ""
    if limit and packed:
        notes.append(f"attention in blocks up to {limit} tokens{raced}")
    elif raced:
        notes.append(f"attention not in blocks{raced}")
    return limit, tuple(notes)


def take(speed: SpeedSettings, model: nn.Module, loaded: Loaded) -> None:
    """The model that a method opened goes the ways of the loaded one; adapters are fused."""
    fast.remember(model, fast.of(loaded.model))
    if speed.adapter != "peft":
        _fused.fuse(model, speed.adapter)


def compile_blocks(speed: SpeedSettings, model: nn.Module) -> None:
    """Compiles the model's blocks where that is asked for: last, when nothing about them will change any more."""
    if speed.compile:
        fast.compile_blocks(model, layer_list(model))


def leave(model: nn.Module) -> None:
    """The model computes again as its library wrote it."""
    fast.release(model)
    recompute.end(model)
    _fused.unfuse(model)
    kernels.release(model)
