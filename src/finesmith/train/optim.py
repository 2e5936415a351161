"""The optimizers: AdamW with decay on matrices only, the same with 8-bit moments, and Muon for hidden matrices.

AdamW: Loshchilov & Hutter 2019, with bias correction, fused. 8 bits: Dettmers et al. 2022 (arXiv 2110.02861). Muon:
Jordan et al. 2024, with the scale of Liu et al. 2025 (arXiv 2502.16982), under which AdamW's rate and decay fit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from finesmith.errors import RecipeError
from finesmith.methods.base import layer_list
from finesmith.models.quantize import bitsandbytes

Groups = list[dict[str, Any]]


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The open weights by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def optimizer(
    model: nn.Module, *, learning_rate: float, weight_decay: float, beta2: float = 0.999, name: str = "adamw"
) -> Optimizer:
    """An optimizer over the open weights; vectors (norms, biases) do not decay.

    Raises:
        MissingExtraError: adamw_8bit without bitsandbytes.
        RecipeError: muon without a hidden matrix that is open, or with a torch that has none.
    """
    weights = list(trainable(model).values())
    shared: dict[str, Any] = {"lr": learning_rate, "betas": (0.9, beta2)}
    if name == "adamw_8bit":
        library = bitsandbytes("train.optimizer: adamw_8bit")
        return library.optim.AdamW8bit(_groups(weights, weight_decay), **shared)
    shared["fused"] = all(weight.device.type in ("cpu", "cuda") for weight in weights)
    if name == "adamw":
        return AdamW(_groups(weights, weight_decay), **shared)
    hidden = _hidden(model)
    others = [weight for weight in weights if not any(weight is matrix for matrix in hidden)]
    return MuonWithAdamW(hidden, AdamW(_groups(others, weight_decay), **shared), learning_rate, weight_decay)


def state_bytes(model: nn.Module, name: str) -> int:
    """Bytes that the optimizer called `name` remembers of the open weights."""
    single = {id(weight) for weight in _hidden(model)} if name == "muon" else set()
    each = eight_bit_bytes if name == "adamw_8bit" else lambda weight: 8 * weight.numel()
    return sum(4 * weight.numel() if id(weight) in single else each(weight) for weight in trainable(model).values())


def eight_bit_bytes(weight: Tensor) -> int:
    """Bytes of a weight's two moments in bitsandbytes: a byte each and a scale for 256; small weights take 4 bytes."""
    return 2 * weight.numel() + 8 * -(-weight.numel() // 256) if weight.numel() >= 4096 else 8 * weight.numel()


def _hidden(model: nn.Module) -> list[nn.Parameter]:
    return [weight for weight in layer_list(model).parameters() if weight.requires_grad and weight.ndim == 2]


class MuonWithAdamW(Optimizer):
    """Muon for hidden matrices and AdamW for everything else, in one: one list of groups, one state."""

    def __init__(self, hidden: list[nn.Parameter], rest: AdamW, learning_rate: float, weight_decay: float) -> None:
        if not hidden:
            raise RecipeError("train.optimizer: muon moves hidden matrices, and none of the open weights is one.")
        if not hasattr(torch.optim, "Muon"):
            raise RecipeError(f"train.optimizer: muon needs torch 2.9 or newer; this is {torch.__version__}.")
        muon = torch.optim.Muon(hidden, lr=learning_rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
        self.rules: dict[str, Optimizer] = {"muon": muon, "adamw": rest}
        super().__init__(
            [{**group, "rule": rule} for rule, part in self.rules.items() for group in part.param_groups], {}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Each rule moves its groups. Groups and state are this object's: loading a state replaces both."""
        for rule, part in self.rules.items():
            part.param_groups = [group for group in self.param_groups if group["rule"] == rule]
            part.state = self.state
            part.step()


def _groups(weights: list[nn.Parameter], weight_decay: float) -> Groups:
    matrices = [weight for weight in weights if weight.ndim >= 2]
    vectors = [weight for weight in weights if weight.ndim < 2]
    groups: Groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
