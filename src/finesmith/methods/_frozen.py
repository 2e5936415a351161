"""The part of a model below the lowest weight that moves: what it computes for a text is the same in every epoch.

It runs without dropout: noise in what never learns only blurs what the layers above it see, and without noise its
results can be kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from finesmith.methods.base import final_norms, layer_list
from finesmith.models import fast

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Frozen:
    """`blocks` of the stack, lowest first, and `modules`: these, what stands before the stack, and all inside them."""

    blocks: tuple[nn.Module, ...] = ()
    modules: tuple[nn.Module, ...] = ()

    def quiet(self) -> None:
        """Switches the part's dropout off, after a `model.train()`."""
        for module in self.modules:
            module.training = False


def frozen_part(model: nn.Module) -> Frozen:
    """The blocks below the lowest one with a weight that moves, with the embeddings; empty if anything there moves."""
    blocks = list(layer_list(model))
    moving = [_moves(block) for block in blocks]
    blocks = blocks[: moving.index(True)] if True in moving else blocks
    holders, before = _surroundings(model)
    if blocks and any(_moves(root) for root in before):  # OPT's last norm stands before its blocks
        behind = {id(norm) for norm in final_norms(model, layer_list(model))}
        before = [root for root in before if id(root) not in behind]
    roots = [*before, *blocks]
    if not blocks or any(_moves(root) for root in roots):
        return Frozen()
    return Frozen(tuple(blocks), (*holders, *(module for root in roots for module in root.modules())))


def _moves(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


def _surroundings(model: nn.Module) -> tuple[list[nn.Module], list[nn.Module]]:
    """The modules that hold the stack, from the trunk inwards, and those that stand before it in them."""
    trunk, stack = fast.inner(model).base_model, layer_list(model)
    name = next((name for name, module in trunk.named_modules() if module is stack), "")
    holders, before = [trunk], []
    for part in name.split("."):
        before += list(_children_before(holders[-1], part))
        holders.append(holders[-1].get_submodule(part))
    return holders, before


def _children_before(holder: nn.Module, name: str) -> Iterator[nn.Module]:
    for other, child in holder.named_children():
        if other == name:
            return
        yield child
