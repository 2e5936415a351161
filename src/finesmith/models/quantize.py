"""A frozen base in 4 or 8 bits under adapters that stay in float32 (QLoRA); the only import of bitsandbytes.

nf4 is the 4-bit NormalFloat in blocks of 64 whose scales are quantised again, 4.13 bits a weight (Dettmers et al. 2023,
arXiv 2305.14314); int8 is LLM.int8() (Dettmers et al. 2022, arXiv 2208.07339). The linear layers of the trunk are
quantised; embeddings, norms, poolers and heads are not. No step of PEFT's `prepare_model_for_kbit_training` is taken:
the adapters are the only weights that move, so nothing else needs float32 or a gradient.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import BitsAndBytesConfig

from finesmith.errors import MissingExtraError, ModelError
from finesmith.models.settings import ModelSettings

_FORMATS: dict[str, dict[str, Any]] = {
    "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True},
    "int8": {"load_in_8bit": True},
}
_PLAINLY = ("fp8", "mxfp8", "mxfp4")
"""Formats of checkpoints that transformers can read as plain weights: their own kernels are not for training."""
WORDS = {
    "nf4": "4-bit NormalFloat, blocks of 64, double quantisation",
    "int8": "8-bit integers, one scale a row, outliers in 16 bits (LLM.int8())",
}


def _guarded_import() -> Any:
    """The library, or None where it is not installed.

    Where `kernels` is installed too, importing it fetches compiled code from a hub; so it is made to find no `kernels`.
    PEFT imports the library whenever it finds it: therefore here, before PEFT is imported.
    """
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # a line for every cast of every layer
    hidden = {"kernels": sys.modules.pop("kernels")} if "kernels" in sys.modules else {}
    sys.modules["kernels"] = None  # type: ignore[assignment]
    try:
        import bitsandbytes as library
    except ImportError:
        return None
    finally:
        del sys.modules["kernels"]
        sys.modules.update(hidden)
    return library


_LIBRARY = _guarded_import()


def bitsandbytes(purpose: str) -> Any:
    """The library bitsandbytes.

    Raises:
        MissingExtraError: it is not installed.
    """
    if _LIBRARY is None:
        raise MissingExtraError("bitsandbytes", "bitsandbytes", purpose)
    return _LIBRARY


def arguments(
    settings: ModelSettings, model_class: Any, config: Any, device: torch.device, dtype: torch.dtype
) -> dict[str, Any]:
    """What `from_pretrained` needs to quantise while it loads; nothing for `none`.

    Args:
        settings: `quantize` is none, nf4 or int8.
        model_class: the Auto class of the task.
        config: the model's configuration.
        device: where the weights go; they are quantised there, one after another.
        dtype: precision of the arithmetic.

    Raises:
        MissingExtraError: bitsandbytes is not installed.
        ModelError: the checkpoint is quantised already.
    """
    name = settings.quantize
    if name == "none":
        return {}
    bitsandbytes(f"model.quantize: {name}")
    if getattr(config, "quantization_config", None):
        raise ModelError(f"model.quantize is '{name}', but the checkpoint is quantised already.")
    spared = _outside_the_trunk(model_class, config, settings.trust_remote_code)
    made = BitsAndBytesConfig(**_FORMATS[name], bnb_4bit_compute_dtype=dtype, llm_int8_skip_modules=spared)
    return {"quantization_config": made, "device_map": {"": str(device)}}


def held(config: Any) -> str:
    """How a checkpoint says that its weights are quantised (`bitsandbytes, 4 bits`); empty where they are plain."""
    said = _said(config)
    bits = 4 if said.get("load_in_4bit") else 8 if said.get("load_in_8bit") else said.get("bits")
    return f"{_kind(said)}, {bits} bits" if bits else _kind(said) if said else ""


def stays(config: Any) -> bool:
    """Whether a checkpoint is quantised and is held so when it is loaded: its own weights cannot move."""
    return bool(said := _said(config)) and _kind(said) not in _PLAINLY


def read(settings: ModelSettings, config: Any, *, moving: bool) -> tuple[str, ...]:
    """Settles, before it is loaded, how a checkpoint of few bits is read; what there is to say of that.

    Raises:
        ModelError: it is not for adapters, and its own weights cannot move.
    """
    how = held(config)
    if settings.from_scratch and how:
        del config.quantization_config  # weights that begin at random are plain
    if not how or settings.from_scratch or settings.quantize != "none":
        return ()
    if not stays(config):
        config.quantization_config = {**_said(config), "dequantize": True}
        return (f"the checkpoint is quantised ({how}); its weights are read as plain ones, which take more memory",)
    if moving:
        raise ModelError(
            f"The weights of '{settings.name}' are quantised ({how}): they cannot move, nor be saved beside a head "
            "that moved.",
            hint="Use method: lora, or name the model that it was quantised from.",
        )
    return (f"the frozen base is quantised ({how}), as its checkpoint is",)


def check_trains(model: Any, name: str) -> None:
    """Whether gradients pass through the weights as they are held.

    Raises:
        ModelError: transformers says that they do not (NVFP4, GGUF, AutoRound).
    """
    quantizer = getattr(model, "hf_quantizer", None)
    if quantizer is not None and not quantizer.is_trainable:
        raise ModelError(
            f"'{name}' is quantised ({held(model.config)}) in a way that no training passes through.",
            hint="Name the model that it was quantised from.",
        )


def _said(config: Any) -> dict[str, Any]:
    """What a configuration says of quantisation, as plain values."""
    said = getattr(config, "quantization_config", None) or {}
    return dict(said if isinstance(said, Mapping) else said.to_dict())


def _kind(said: Mapping[str, Any]) -> str:
    kind = said.get("quant_method", "bitsandbytes")
    return str(getattr(kind, "value", kind))


def keywords(name: str, model: Any) -> dict[str, Any]:
    """What a reader gives to `BitsAndBytesConfig` to load the base of `model` as it was loaded here; empty for none."""
    if name == "none":
        return {}
    return {**_FORMATS[name], "llm_int8_skip_modules": model.config.quantization_config.llm_int8_skip_modules}


def settle(model: nn.Module, dtype: torch.dtype) -> None:
    """Makes a quantised model compute the same while it is trained and while it answers; others are left alone.

    On a CPU with AVX512-BF16 bitsandbytes (0.50) packs a layer anew in its first forward pass in eval mode, in place:
    the scales are rounded to bfloat16 and no gradient passes through the layer from then on. One validation would spoil
    the training that goes on after it, without a word. The packing is switched off.
    """
    for module in model.modules():
        if type(module).__name__ == "Linear4bit":
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]
            module.weight.quant_state.dtype = dtype  # type: ignore[union-attr]


def is_quantised(model: nn.Module) -> bool:
    """Whether some of the weights are held in 4 or 8 bits."""
    return any(type(parameter).__name__ in ("Params4bit", "Int8Params") for parameter in model.parameters())


def holds_bits(module: nn.Module) -> bool:
    """Whether a layer's own weights are codes, of which only its forward pass makes numbers."""
    own = list(module.parameters(recurse=False))
    packed = any(type(weight).__name__ in ("Params4bit", "Int8Params") for weight in own)
    return packed or any(not weight.is_floating_point() or weight.element_size() == 1 for weight in own)


def size(parameter: nn.Parameter) -> int:
    """How many weights a parameter holds; two of 4 bits share a byte."""
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else state.shape.numel()


def dequantise(model: Any) -> Any:
    """The plain model in float32 with the values that the quantised one has."""
    from finesmith.models.load import quiet

    settle(model, torch.float32)
    with quiet():
        return model.dequantize(torch.float32)


def _outside_the_trunk(model_class: Any, config: Any, trust_remote_code: bool) -> list[str]:
    """Heads and poolers, which may be new weights. Left to itself, transformers spares the very last layer only."""
    with torch.device("meta"):
        model = model_class.from_config(config, trust_remote_code=trust_remote_code)
    heads = [name for name, _ in model.named_children() if name != model.base_model_prefix]
    return heads + [name for name, _ in model.named_modules() if name.endswith(".pooler")]
