"""What a running model really is: the precision of each part, found by looking. Also the job's files."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np


def job(folder: Path) -> dict[str, Any]:
    """The job's plain values."""
    return json.loads((folder / "job.json").read_text(encoding="utf-8"))


def rows(folder: Path) -> list[dict[str, Any]]:
    """All training sequences: token ids, which tokens are learnt, and the class (-1: none)."""
    items = np.load(folder / "items.npz")
    ends = np.cumsum(items["lengths"])
    places = [slice(end - length, end) for end, length in zip(ends, items["lengths"], strict=True)]
    return [
        {"tokens": items["tokens"][place].tolist(), "learnt": (items["weights"][place] > 0).astype(int).tolist(),
         "target": int(target)}
        for place, target in zip(places, items["targets"], strict=True)
    ]  # fmt: skip


def start(folder: Path, model: Any) -> None:
    """Gives the weights that move the values that every system starts from.

    Raises:
        ValueError: another set of weights moves here.
    """
    import torch
    from safetensors.torch import load_file

    values = load_file(folder / "start.safetensors")
    moving = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    if moving.keys() != values.keys():
        odd = sorted(moving.keys() ^ values.keys())
        raise ValueError(f"{len(odd)} weights move on one side only, such as {odd[0]}")
    with torch.no_grad():
        for name, weight in moving.items():
            weight.copy_(values[name])


class Precision:
    """Types of the frozen and the moving weights, of the adapters' outputs and of the optimizer's state."""

    def __init__(self, model: Any) -> None:
        self._model, self._seen, self._handles = model, {}, []
        for name, module in model.named_modules():
            last = name.rpartition(".")[0].rpartition(".")[2]
            if last == "lora_B" and "branch" not in self._seen:
                self._watch(module, "branch")
            elif not list(module.children()) and type(module).__name__ == "Linear" and "lora" not in name:
                self._watch(module, "activations")

    def _watch(self, module: Any, part: str) -> None:
        if part in self._seen:
            return
        self._seen[part] = "not called"

        def look(module: Any, inputs: Any, output: Any) -> None:
            self._seen[part] = _short(output.dtype)
            handle.remove()

        handle = module.register_forward_hook(look)

    def describe(self, optimizer: Any) -> dict[str, str]:
        """Each part and its precision, as measured."""
        frozen, moving = Counter(), Counter()
        for weight in self._model.parameters():
            (moving if weight.requires_grad else frozen)[_short(weight.dtype)] += weight.numel()
        state = Counter(
            _short(value.dtype)
            for values in (optimizer.state.values() if optimizer is not None else ())
            for key, value in values.items()
            if key != "step"
        )
        parts = {"frozen": frozen, "moving": moving, "optimizer": state}
        return {name: "+".join(sorted(types)) or "none" for name, types in parts.items()} | self._seen


def _short(dtype: Any) -> str:
    return {"bfloat16": "bf16", "float32": "fp32", "float16": "fp16"}.get(str(dtype).removeprefix("torch."), str(dtype))
