"""What a tuning method is: settings, and `apply`, which opens exactly the weights that it names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

from finesmith.errors import ModelError

if TYPE_CHECKING:
    from torch import nn


class Method(Protocol):
    """A way of choosing which parameters move. `adapter` says that only the moved weights are saved."""

    adapter: bool

    def apply(self, model: nn.Module, *, head: tuple[str, ...], seed: int) -> nn.Module:
        """The model with `requires_grad` true for exactly the named weights and for the `head` modules."""
        ...

    def learning_rate(self, parameters: int) -> float:
        """The default peak learning rate for a model of so many parameters."""
        ...

    def merge(self, model: nn.Module) -> nn.Module:
        """A plain transformers model that computes the same."""
        ...


def full_learning_rate(parameters: int) -> float:
    """Default peak learning rate when whole matrices move, by model size.

    The range for 1-7 B models is 1e-5..2e-5, up to 5e-5 below; BERT-base 2e-5..5e-5; the small BERTs choose from
    3e-4..3e-5 (google-research/bert README). The first row is measured on the embedded model.
    """
    steps = [(15e6, 5e-4), (60e6, 1e-4), (400e6, 5e-5), (3e9, 2e-5), (10e9, 1e-5)]
    return next((rate for size, rate in steps if parameters < size), 5e-6)


def freeze_all(model: nn.Module) -> None:
    """Closes every weight."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)


def open_modules(model: nn.Module, names: tuple[str, ...]) -> None:
    """Opens every weight of the named modules, wherever they stand in the tree."""
    for name, module in model.named_modules():
        if name in names or name.rpartition(".")[2] in names:
            for parameter in module.parameters():
                parameter.requires_grad_(True)


def linear_names(model: Any, *, outside: tuple[str, ...]) -> Iterator[str]:
    """Full names of all linear layers (also GPT-2's Conv1D) that are neither in `outside` nor the output embedding.

    By structure, not by a list of architectures. Of a model that also sees or hears, only those of its language model.
    A layer that only stores its weights like a linear one (a router of experts, a product in groups) is none.
    """
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    output = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    ours = {id(module) for module in _language_model(model).modules()}
    for name, module in model.named_modules():
        inside = any(part in outside for part in name.split("."))
        if not isinstance(module, (nn.Linear, Conv1D)) or module is output or inside or id(module) not in ours:
            continue
        if isinstance(module, Conv1D) or _answers_like_a_linear(module):
            yield name


def _answers_like_a_linear(module: nn.Linear) -> bool:
    """Whether a row of `in_features` gives one of `out_features`. A subclass with a forward pass of its own is tried
    (Falcon's computes the same in another order); quantised weights are taken as they are."""
    import torch

    from finesmith.models import quantize
    from finesmith.models.device import refuse_for_memory

    weight, computes = module.weight, (torch.float32, torch.float64, torch.float16, torch.bfloat16)
    if type(module).forward is torch.nn.Linear.forward or quantize.is_quantised(module) or weight.dtype not in computes:
        return True
    row = torch.zeros(1, module.in_features, dtype=weight.dtype, device=weight.device)
    try:
        with torch.no_grad():
            found = module(row)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        refuse_for_memory(error)
        return False
    return isinstance(found, torch.Tensor) and found.shape == (1, module.out_features)


def unreached(model: Any) -> float:
    """The share of the blocks' weights that stand in stacked matrices (the experts of a mixture), which adapters on
    linear layers do not reach."""
    sizes = [(parameter.ndim, parameter.numel()) for parameter in layer_list(model).parameters()]
    return sum(size for ndim, size in sizes if ndim > 2) / max(1, sum(size for _, size in sizes))


def _language_model(model: Any) -> Any:
    """The part of a model that reads and writes text: all of it, but for one with a configuration for another sense."""
    config = getattr(model, "config", None)
    several = config is not None and config.get_text_config() is not config and hasattr(model, "get_decoder")
    return model.get_decoder() if several else model


def layer_list(model: nn.Module) -> nn.ModuleList:
    """The model's stack of transformer blocks: of its outermost lists of modules, the one with most weights.

    Raises:
        ModelError: the model has no such list.
    """
    from torch import nn

    stacks = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    inside = {id(part) for stack in stacks for block in stack for part in block.modules()}
    outer = [stack for stack in stacks if id(stack) not in inside and len(stack)]
    if not outer:
        raise ModelError(f"No stack of blocks was found in this model ({type(model).__name__}).")
    return max(outer, key=lambda stack: sum(parameter.numel() for parameter in stack.parameters()))


def final_norms(model: nn.Module, blocks: nn.ModuleList) -> list[nn.Module]:
    """The norm behind the stack of blocks: beside it in the tree, and called after the last block and never before.

    Found in a pass of a few tokens, as the order in the tree can mislead: the norm that stands behind DeBERTa's blocks
    is that of the relative positions, which every block reads, and OPT's last norm stands before them.
    """
    parent = next(module for module in model.modules() if any(child is blocks for child in module.children()))
    norms = [child for child in parent.children() if "norm" in type(child).__name__.lower()]
    called = _order(model, [blocks[-1], *norms]) if norms else []
    return [norm for norm in norms if norm in called and called.index(norm) > called.index(blocks[-1])]


def _order(model: Any, modules: list[nn.Module]) -> list[nn.Module]:
    """These modules as a forward pass calls them, without the model's dropout."""
    import torch

    called: list[nn.Module] = []
    hooks = [module.register_forward_pre_hook(lambda module, _: called.append(module)) for module in modules]
    table, training = model.get_input_embeddings().weight, model.training
    tokens = (torch.arange(4, device=table.device)[None] * 31 + 7) % table.shape[0]
    wide = table.device.type == "cpu"  # elsewhere attention may take 16 bits only
    try:
        with torch.no_grad(), torch.autocast(table.device.type, torch.bfloat16, enabled=not wide):
            model.eval()(input_ids=tokens)
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return called
