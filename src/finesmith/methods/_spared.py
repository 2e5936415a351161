"""Linear layers on which no adapter is put, because there it would learn nothing or stand elsewhere than was asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from finesmith.methods.base import linear_names

_READ_PAST = {
    **dict.fromkeys(("mamba", "falcon_mamba"), ("dt_proj", "out_proj", "x_proj")),
    **dict.fromkeys(("bamba", "falcon_h1", "granitemoehybrid", "mamba2", "nemotron_h", "zamba2"), ("out_proj",)),
    "jamba": ("dt_proj",),
    "longcat_flash": ("classifier",),
}
"""By architecture: layers whose matrix the model (or its fused kernel on a GPU) reads without calling the layer."""
_PAST = "this architecture reads these matrices past their layers"
_EXPERTS = "PEFT takes these names for those of the routed experts, and would put adapters on all of these instead"


def spared(model: Any) -> Mapping[str, str]:
    """Names of linear layers that no adapter can be put on, each with the reason."""
    kind = getattr(getattr(model, "config", None), "model_type", "")
    names = {name.rpartition(".")[2] for name in linear_names(model, outside=())}
    past = dict.fromkeys(sorted(names & set(_READ_PAST.get(kind, ()))), _PAST)
    return {**past, **dict.fromkeys(_experts(model, names), _EXPERTS)}


def notes(model: Any) -> Iterator[str]:
    """The same in words, one note a reason."""
    found = spared(model)
    for reason in dict.fromkeys(found.values()):
        yield f"no adapters on {', '.join(name for name in found if found[name] == reason)}: {reason}"


def _experts(model: Any, names: set[str]) -> list[str]:
    """Layers that PEFT takes for experts under the names that they had before transformers 5 stacked them: in a mixture
    the shared experts and the dense blocks still have these. Asked of PEFT's own translation."""
    from peft import LoraConfig
    from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers

    stand_in = {"gate_proj", "up_proj", "w1", "w3"}  # a part of what stands in one stack is an error there
    config = LoraConfig(target_modules=sorted(names | stand_in))
    convert_peft_config_for_transformers(config, model=model, conversions=None)
    return sorted(names - set(config.target_modules or ()))
