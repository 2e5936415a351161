"""AdamW (Loshchilov & Hutter 2019) with bias correction, fused, over the open weights; decay on matrices only."""

from __future__ import annotations

from torch import nn
from torch.optim import AdamW


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The open weights by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def optimizer(model: nn.Module, *, learning_rate: float, weight_decay: float, beta2: float = 0.999) -> AdamW:
    """AdamW over the open weights; vectors (norms, biases) do not decay."""
    weights = list(trainable(model).values())
    matrices = [weight for weight in weights if weight.ndim >= 2]
    vectors = [weight for weight in weights if weight.ndim < 2]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    fused = all(weight.device.type in ("cpu", "cuda") for weight in weights)
    return AdamW([group for group in groups if group["params"]], lr=learning_rate, betas=(0.9, beta2), fused=fused)
