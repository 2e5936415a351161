"""The mean of several tunings of one base ("soup", Wortsman et al. 2022, arXiv 2203.05482), as a model folder.

Of adapters the mean of the updates B A, which is not that of the A and the B: it is one adapter with all ranks side by
side, larger by the number of models and exact. Of whole weights the mean of each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finesmith import predictor
from finesmith.models import between
from finesmith.runfolder import ABSTAIN, CARD, RunFolder

FOLDER = "soup"
"""In a run: the model folder of the mean, where it is no worse on the validation rows."""
ADAPTER, CONFIG = "adapter_model.safetensors", "adapter_config.json"


@dataclass
class Soup:
    """Takes the weights of one model after the other; only sums are kept of whole weights."""

    sums: dict[str, Any] = field(default_factory=dict)
    adapters: list[Mapping[str, Any]] = field(default_factory=list)
    count: int = 0

    def add(self, model: Any) -> None:
        """One more model; all have the same form."""
        self.count += 1
        if hasattr(model, "peft_config"):
            from peft import get_peft_model_state_dict

            weights = get_peft_model_state_dict(model, save_embedding_layers=False)
            self.adapters.append({name: tensor.detach().cpu().double() for name, tensor in weights.items()})
            return
        for name, weight in model.named_parameters():
            value = weight.detach().cpu().double()
            self.sums[name] = self.sums[name] + value if name in self.sums else value

    def write(self, part: Path, tuned: Path, model: predictor.Predictor, seeds: Sequence[int]) -> None:
        """The mean into a new model folder.

        Args:
            part: the folder to make.
            tuned: the model folder of one of them, for everything but the weights; it lies beside `part`.
            model: that model, loaded; whole weights are poured into it.
            seeds: what the mean is of, for the folder's card.
        """
        RunFolder(part.parent).copy(tuned.name, part.name)
        folder = RunFolder(part)
        folder.remove(ABSTAIN)  # it was set for another model
        folder.write_json(CARD, {**folder.read_json(CARD), "soup_of_seeds": list(seeds)})
        if self.adapters:
            config = folder.read_json(CONFIG)
            between.write(folder.file(ADAPTER), joined(self.adapters))
            folder.write_json(CONFIG, _wider(config, len(self.adapters)))
            return
        self.pour(model.loaded.model)
        predictor.save_weights(part, model.loaded.model, model.loaded, adapter=False)

    def pour(self, model: Any) -> None:
        """Writes the mean of whole weights into a model of the same form."""
        import torch

        with torch.no_grad():
            for name, weight in model.named_parameters():
                weight.copy_(self.sums[name] / self.count)


def joined(adapters: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One adapter whose update is the mean of theirs: [B1 B2 ...] / k times [A1; A2; ...]; other tensors' mean."""
    import torch

    found = {}
    for name in adapters[0]:
        parts = [weights[name] for weights in adapters]
        if ".lora_A." in name:
            found[name] = torch.cat(parts, dim=0).float()
        elif ".lora_B." in name:
            found[name] = (torch.cat(parts, dim=1) / len(parts)).float()
        else:
            found[name] = (torch.stack(parts).sum(0) / len(parts)).float()
    return found


def _wider(config: Mapping[str, Any], times: int) -> dict[str, Any]:
    """So many times the rank at the same alpha / rank."""
    patterns = {
        key: {name: value * times for name, value in (config.get(key) or {}).items()}
        for key in ("rank_pattern", "alpha_pattern")
    }
    return {**config, **patterns, "r": config["r"] * times, "lora_alpha": config["lora_alpha"] * times}
