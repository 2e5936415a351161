"""Low-rank adapters on every linear layer (Hu et al. 2021): W' = W + (alpha / rank) B A, and only A and B move."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from finesmith.errors import RecipeError, nearest
from finesmith.methods._spared import spared
from finesmith.methods.base import layer_list, linear_names
from finesmith.settings import Settings

if TYPE_CHECKING:
    from torch import nn


class LoraSettings(Settings):
    """Size and place of the adapters."""

    rank: int = Field(default=16, ge=1)
    """Rank of the update; trainable numbers grow in proportion."""
    alpha: float = Field(default=32.0, gt=0)
    """The update is scaled by alpha / rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the adapters' input; 0.05 may help below 1,000 rows."""
    target_modules: tuple[str, ...] = Field(default=(), strict=False)
    """Names of the linear layers that get an adapter (q_proj, ...); empty: all that can take one, by structure."""

    last_layers: int | None = Field(default=None, ge=1)
    """How many blocks get adapters, counted from the output; null: all of them."""


class Lora:
    """Adapters on the linear layers, through PEFT, in PEFT's own file format."""

    Settings = LoraSettings
    adapter = True

    def __init__(self, settings: LoraSettings) -> None:
        self.settings = settings

    def apply(self, model: nn.Module, *, head: tuple[str, ...], seed: int) -> nn.Module:
        """Wraps the model; B starts at zero, so that it still computes what the base computes.

        Raises:
            RecipeError: a target that no linear layer has, or that takes no adapter; more last layers than there are.
        """
        import torch
        from peft import LoraConfig, TaskType, get_peft_model
        from transformers.pytorch_utils import Conv1D

        from finesmith.models import place
        from finesmith.models.load import quiet

        targets = self._targets(model, head)
        torch.manual_seed(seed)  # PEFT draws A from the global generator
        config = LoraConfig(
            task_type=TaskType.SEQ_CLS if head else TaskType.CAUSAL_LM,
            r=self.settings.rank,
            lora_alpha=self.settings.alpha,
            lora_dropout=self.settings.dropout,
            target_modules=targets,
            modules_to_save=list(head) or None,
            fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),  # GPT-2's are transposed
        )
        try:
            with quiet():
                wrapped = get_peft_model(model, config)
        except ValueError as error:
            raise RecipeError(f"lora: PEFT cannot put adapters on this model: {place.first_line(error)}") from error
        config.modules_to_save = list(head) or None  # for a classifier PEFT adds the names that heads usually have
        if config.target_parameters:
            raise RecipeError(f"lora: PEFT put adapters elsewhere than asked: on {sorted(config.target_parameters)}.")
        return wrapped

    def learning_rate(self, parameters: int) -> float:
        """About ten times the rate of full fine-tuning (fitted 9.8x over 14 models), 3e-4 from 400 M parameters on."""
        steps = [(15e6, 2e-3), (400e6, 1e-3)]
        return next((rate for size, rate in steps if parameters < size), 3e-4)

    def merge(self, model: Any) -> nn.Module:
        """The base with the update added to its matrices; a quantised base becomes float32 first, with the same values.

        The result is larger than the quantised base, and its update is not rounded to the base's few bits.
        """
        from finesmith.models import quantize

        return (self._on_plain_base(model) if quantize.is_quantised(model) else model).merge_and_unload()

    def _on_plain_base(self, model: Any) -> Any:
        """The same adapters on the dequantised base."""
        from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

        from finesmith.models import quantize

        config, weights = model.peft_config["default"], get_peft_model_state_dict(model)
        plain = get_peft_model(quantize.dequantise(model.unload()), config)
        set_peft_model_state_dict(plain, weights)
        return plain

    def _targets(self, model: nn.Module, head: tuple[str, ...]) -> list[str]:
        names = self._reached(model, list(linear_names(model, outside=head)))
        short = sorted({name.rpartition(".")[2] for name in names})
        unknown = [name for name in self.settings.target_modules if name not in short]
        if unknown:
            raise RecipeError(
                f"lora.target_modules: no linear layer is called '{unknown[0]}'. {nearest(unknown[0], short)}"
            )
        never = spared(model)
        for name in self.settings.target_modules:
            if name in never:
                raise RecipeError(
                    f"lora.target_modules: PEFT cannot put adapters on '{name}' of this model: {never[name]}."
                )
        wanted = list(self.settings.target_modules) or [name for name in short if name not in never]
        if not wanted:
            raise RecipeError(
                "lora: this model has no linear layer that can take an adapter.", hint="Use method: full."
            )
        others = {name.rpartition(".")[2] for name, _ in model.named_modules() if name not in names}
        if others.isdisjoint(wanted):
            return wanted
        return [name for name in names if name.rpartition(".")[2] in wanted]  # a head layer shares a short name

    def _reached(self, model: nn.Module, names: list[str]) -> list[str]:
        """The layers in the last blocks, where only these are asked for."""
        count = self.settings.last_layers
        if count is None:
            return names
        blocks = list(layer_list(model))
        if count > len(blocks):
            raise RecipeError(f"lora.last_layers is {count}, but the model has {len(blocks)} blocks.")
        inside = {id(module) for block in blocks[-count:] for module in block.modules()}
        return [name for name in names if id(model.get_submodule(name)) in inside]


PLUGIN = Lora
