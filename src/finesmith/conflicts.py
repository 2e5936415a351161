"""Settings that contradict each other or would have no effect, found on what was written and not on defaults."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from finesmith import registry
from finesmith.errors import RecipeError, nearest

Conflict = tuple[list[str], str]
"""The key and what is wrong with it."""


KEPT = 4.0
"""Default of speed.cache_gigabytes: every run's recipe has it, also where it has no effect."""
UNSUPPORTED = "Regression is not supported; cut the numbers into a few named classes."


def found(values: Mapping[str, Any], method: Any) -> Iterator[Conflict]:
    """All conflicts between nested plain values; `method` is the one that holds, given or by default."""
    train = values.get("train") if isinstance(values.get("train"), Mapping) else {}
    model = values.get("model") if isinstance(values.get("model"), Mapping) else {}
    speed = values.get("speed") if isinstance(values.get("speed"), Mapping) else {}
    assert isinstance(train, Mapping) and isinstance(model, Mapping) and isinstance(speed, Mapping)
    for kind, chosen in (("tasks", values.get("task", "auto")), ("methods", method)):
        yield from _of_plugins(values, kind, chosen)
    if train.get("epochs", "auto") != "auto" and train.get("max_steps"):
        yield ["train", "max_steps"], "give either train.epochs or train.max_steps, not both."
    if model.get("from_scratch") and method in ("lora", "last_layers", "head"):
        reason = f"model.from_scratch with method '{method}' leaves most weights random. Use method: full."
        yield ["model", "from_scratch"], reason
    attention = model.get("attention", "auto")
    if attention != "auto" and speed.get("block_attention", 0) not in (0, "auto"):
        reason = f"speed.block_attention has no effect: model.attention is '{attention}', and that is what computes it."
        yield ["speed", "block_attention"], reason
    if attention == "flash_attention_2" and train.get("packing"):
        reason = (
            "train.packing masks the rows of a packed sequence from one another, which flash_attention_2 cannot do."
        )
        yield ["train", "packing"], f"{reason} Leave out one of the two."
    adapter = _is_adapter(method)
    if model.get("quantize", "none") != "none" and adapter is False:
        reason = f"model.quantize needs adapters: method '{method}' moves weights of the base. Use method: lora."
        yield ["model", "quantize"], reason
    if train.get("optimizer") == "muon" and (adapter or method == "head"):
        reason = f"train.optimizer: muon is for whole hidden matrices, and method '{method}' moves none."
        yield ["train", "optimizer"], f"{reason} Use method: full or last_layers."
    data = values.get("data")
    if values.get("task") == "text" and isinstance(data, Mapping) and data.get("over_length", "error") != "error":
        reason = "documents are read in windows, so that none is too long."
        yield ["data", "over_length"], f"data.over_length has no effect: {reason}"
    yield from _of_speed(speed, values, method, adapter)


def _of_speed(
    speed: Mapping[str, Any], values: Mapping[str, Any], method: Any, adapter: bool | None
) -> Iterator[Conflict]:
    """Ways of computing that nothing in the run could take."""
    lora = values.get("lora") if isinstance(values.get("lora"), Mapping) else {}
    model = values.get("model") if isinstance(values.get("model"), Mapping) else {}
    assert isinstance(lora, Mapping) and isinstance(model, Mapping)
    quantised = model.get("quantize", "none") != "none"
    reasons = {}
    if speed.get("packing") is False and speed.get("block_attention", 0) not in (0, "auto"):
        reasons["block_attention"] = "speed.packing is false, and only packed sequences are computed so."
    if adapter is False and speed.get("adapter", "float32") != "float32":
        reasons["adapter"] = f"method '{method}' trains no adapters."
    elif speed.get("adapter") == "compute" and lora.get("dropout"):
        reasons["adapter"] = "with lora.dropout above 0 adapters are computed as PEFT does."
    elif speed.get("adapter") == "compute" and quantised:
        reasons["adapter"] = "the layers of a quantised base have their adapters computed as PEFT does."
    everywhere = method == "lora" and not lora.get("last_layers") and not lora.get("target_modules")
    if (method == "full" or everywhere) and speed.get("cache_gigabytes", KEPT) not in (0, KEPT):
        why = (
            "method 'full' moves every layer" if method == "full" else "every layer has adapters (see lora.last_layers)"
        )
        reasons["cache_gigabytes"] = f"{why}, so that none gives the same in every epoch."
    if values.get("task") == "classification" and speed.get("chunked_loss") is False:
        reasons["chunked_loss"] = "a classifier has no output layer over a vocabulary."
    yield from ((["speed", name], f"speed.{name} has no effect: {reason}") for name, reason in reasons.items())


def _of_plugins(values: Mapping[str, Any], kind: str, chosen: Any) -> Iterator[Conflict]:
    """A task or method that does not exist, and sections of those that are not chosen."""
    names = registry.available(kind)
    if isinstance(chosen, str) and chosen != "auto" and "." not in chosen and chosen not in names:
        why = UNSUPPORTED if chosen == "regression" else nearest(chosen, names)
        yield [kind[:-1]], f"unknown {kind[:-1]} '{chosen}'. {why}"
    for name in names:
        if values.get(name) and chosen != "auto" and name != str(chosen).rpartition(".")[2]:
            yield [name], f"'{name}' has no effect: the {kind[:-1]} is '{chosen}'."


def _is_adapter(method: Any) -> bool | None:
    """Whether a method trains adapters; None where there is no such method (which is an error of its own)."""
    try:
        return getattr(registry.resolve("methods", str(method)), "adapter", None)
    except RecipeError:
        return None
