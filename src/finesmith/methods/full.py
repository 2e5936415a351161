"""Every weight moves: the strongest and the most expensive way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finesmith.methods.base import full_learning_rate
from finesmith.settings import Settings

if TYPE_CHECKING:
    from torch import nn


class FullSettings(Settings):
    """Full fine-tuning has no settings of its own."""


class Full:
    """Every weight moves."""

    Settings = FullSettings
    adapter = False

    def __init__(self, settings: FullSettings) -> None:
        self.settings = settings

    def apply(self, model: nn.Module, *, head: tuple[str, ...], seed: int) -> nn.Module:
        """Opens all weights."""
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        return model

    def learning_rate(self, parameters: int) -> float:
        """By model size."""
        return full_learning_rate(parameters)

    def merge(self, model: nn.Module) -> nn.Module:
        """There is nothing to merge."""
        return model


PLUGIN = Full
