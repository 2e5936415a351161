"""Only the task's head moves; the pretrained trunk stays as it is (a linear probe on frozen features)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finesmith.errors import RecipeError
from finesmith.methods.base import freeze_all, open_modules
from finesmith.settings import Settings

if TYPE_CHECKING:
    from torch import nn


class HeadSettings(Settings):
    """Training the head has no settings of its own."""


class Head:
    """Only the head moves."""

    Settings = HeadSettings
    adapter = False

    def __init__(self, settings: HeadSettings) -> None:
        self.settings = settings

    def apply(self, model: nn.Module, *, head: tuple[str, ...], seed: int) -> nn.Module:
        """Opens the head.

        Raises:
            RecipeError: the task adds no head (generation, text).
        """
        if not head:
            raise RecipeError("method 'head' has nothing to train: this task adds no head. Use lora or last_layers.")
        freeze_all(model)
        open_modules(model, head)
        return model

    def learning_rate(self, parameters: int) -> float:
        """A linear layer takes large steps, whatever the trunk's size."""
        return 1e-3

    def merge(self, model: nn.Module) -> nn.Module:
        """There is nothing to merge."""
        return model


PLUGIN = Head
