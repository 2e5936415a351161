"""The last blocks of the stack move, with the norm behind them and the head; nothing below them is touched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from finesmith.errors import RecipeError
from finesmith.methods.base import final_norms, freeze_all, full_learning_rate, layer_list, open_modules
from finesmith.settings import Settings

if TYPE_CHECKING:
    from torch import nn


class LastLayersSettings(Settings):
    """How many blocks move."""

    count: int = Field(default=2, ge=1)
    """Number of blocks, counted from the output."""


class LastLayers:
    """The last `count` blocks, the final norm and the head move."""

    Settings = LastLayersSettings
    adapter = False

    def __init__(self, settings: LastLayersSettings) -> None:
        self.settings = settings

    def apply(self, model: nn.Module, *, head: tuple[str, ...], seed: int) -> nn.Module:
        """Opens the last blocks, whatever is neither a block nor an embedding behind them, and the head.

        Raises:
            RecipeError: the model has fewer blocks.
        """
        blocks = layer_list(model)
        if self.settings.count > len(blocks):
            raise RecipeError(f"last_layers.count is {self.settings.count}, but the model has {len(blocks)} blocks.")
        freeze_all(model)
        for block in blocks[-self.settings.count :]:
            block.requires_grad_(True)
        for norm in final_norms(model, blocks):
            norm.requires_grad_(True)
        open_modules(model, head)
        return model

    def learning_rate(self, parameters: int) -> float:
        """As for full fine-tuning."""
        return full_learning_rate(parameters)

    def merge(self, model: nn.Module) -> nn.Module:
        """There is nothing to merge."""
        return model


PLUGIN = LastLayers
