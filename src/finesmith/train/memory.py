"""How much memory a training will take, found by running its steps without numbers.

The step that will be trained runs on tensors that have a shape and no content (PyTorch's FakeTensorMode), and a ledger
notes every block of memory that is taken and given back. So nothing is modelled: packed rows, fused adapters, chunked
loss, autocast's copies and the optimizer's moments are counted because the same code asks for them.
"""

from __future__ import annotations

import logging
import weakref
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from finesmith.methods import _fused
from finesmith.models import blocked
from finesmith.models.device import autocast
from finesmith.models.load import Loaded
from finesmith.tasks.base import Encoded, Task, batch_of
from finesmith.train import optim
from finesmith.train.settings import TrainSettings

PRODUCTS = {torch.ops.aten.mm.default, torch.ops.aten.addmm.default, torch.ops.aten.bmm.default}
KERNEL, KERNELS = 300_000, 64
"""Bytes that oneDNN keeps for each shape of a product in bfloat16 on a CPU (measured), and for how many shapes."""
PASSES = 2
"""Forward passes of a step that are traced: the second one finds gradients that the first one left; others add none."""


FAILURES = (RuntimeError, TypeError, ValueError, NotImplementedError, LookupError, AttributeError, AssertionError)
"""What a model raises whose layers look at numbers that are not there, or call kernels that know nothing of shapes."""
TALK = logging.getLogger("torch._subclasses.fake_tensor")
"""Where PyTorch writes a traceback of each of them before it raises it."""


class UnforeseenError(Exception):
    """Why the memory of a training cannot be found without running it."""


@dataclass(frozen=True)
class Trace:
    """Blocks of memory in order: `(number, bytes)` when one is taken, `(number, 0)` when it is given back.

    `kinds` says of some blocks what they hold: gradients, moments, activations, kernels; others are temporary.
    """

    events: tuple[tuple[int, int], ...]
    kinds: dict[int, str]

    def closed(self) -> set[int]:
        """The blocks that are both taken and given back: those that a later run of the same asks for again."""
        taken = {number for number, size in self.events if size}
        return taken & {number for number, size in self.events if not size}

    def parts(self) -> dict[str, int]:
        """Bytes by kind at the moment at which most are taken."""
        live = most = best = 0
        sizes: dict[int, int] = {}
        for place, (number, size) in enumerate(self.events, 1):
            live += size if size else -sizes[number]
            sizes[number] = size or sizes[number]
            most, best = (live, place) if live > most else (most, best)
        found = dict.fromkeys(("gradients", "moments", "activations", "kernels", "temporary"), 0)
        for number, size in self.events[:best]:
            found[self.kinds.get(number, "temporary")] += size or -sizes[number]
        return found


def joined(traces: Sequence[Trace]) -> Trace:
    """One trace of several that follow one another."""
    kinds = {number: kind for trace in traces for number, kind in trace.kinds.items()}
    return Trace(tuple(event for trace in traces for event in trace.events), kinds)


class Ledger(TorchDispatchMode):
    """Notes every storage that an operation makes, and when it is gone.

    `supervised` is the answer to the one question about content that a step asks: how many places are not zero.
    """

    def __init__(self) -> None:
        super().__init__()
        self.events: list[tuple[int, int]] = []
        self.live: dict[int, int] = {}
        self.supervised = 0
        self.kernels: dict[Any, int] = {}
        self._count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.nonzero.default:
            out = args[0].new_empty((self.supervised, args[0].dim()), dtype=torch.int64)
        elif func is torch.ops.aten._local_scalar_dense.default:
            return 1
        else:
            out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._note(tensor)
        if func in PRODUCTS and out.device.type == "cpu" and out.dtype != torch.float32:
            self._note_kernel((func, *(tuple(item.shape) for item in args if isinstance(item, Tensor))))
        return out

    def known(self, tensors: Sequence[Tensor]) -> None:
        """Storages that were there before, which are not counted."""
        for tensor in tensors:
            self._remember(tensor.untyped_storage(), 0)

    def number(self, tensor: Tensor) -> int:
        """The number of the block that a tensor lies in; 0 for one that was there before."""
        return self.live.get(tensor.untyped_storage()._cdata, 0)

    def _note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata in self.live or not storage.nbytes():
            return
        self._count += 1
        self.events.append((self._count, storage.nbytes()))
        self._remember(storage, self._count)

    def _note_kernel(self, key: Any) -> None:
        if key not in self.kernels:
            self._count += 1
            self.kernels[key] = self._count
            self.events.append((self._count, KERNEL))

    def _remember(self, storage: Any, number: int) -> None:
        key = storage._cdata
        self.live[key] = number

        def gone() -> None:
            self.live.pop(key, None)
            if number:
                self.events.append((number, 0))

        weakref.finalize(storage, gone).atexit = False


class Rehearsal:
    """The steps of one training, run without numbers. The model is given back as it was."""

    def __init__(self, model: nn.Module, task: Task, loaded: Loaded, settings: TrainSettings) -> None:
        self.model, self.task, self.loaded, self.settings = model, task, loaded, settings

    def steps(self, steps: Sequence[Sequence[Sequence[Encoded]]], evaluation: Sequence[Encoded] = ()) -> list[Trace]:
        """A trace of each step, which is given by the items of its passes, and of one pass of an evaluation.

        Raises:
            UnforeseenError: this model does not run without numbers.
        """
        training = self.model.training
        try:
            with torch.random.fork_rng(), _without_numbers(self.model) as ledger:
                return self._traces(ledger, steps, evaluation)
        except FAILURES as error:
            text = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UnforeseenError(text) from error
        finally:
            self.model.train(training)

    def _traces(
        self, ledger: Ledger, steps: Sequence[Sequence[Sequence[Encoded]]], evaluation: Sequence[Encoded]
    ) -> list[Trace]:
        optimizer = self._optimizer()
        traces = [self._step(ledger, optimizer, passes[:PASSES]) for passes in steps]
        if evaluation:
            traces.append(self._evaluation(ledger, evaluation))
        optimizer.state.clear()
        return traces

    def _optimizer(self) -> torch.optim.Optimizer:
        if self.settings.optimizer == "adamw_8bit":
            return _EightBits(optim.trainable(self.model).values(), {})
        return optim.optimizer(
            self.model,
            learning_rate=1e-9,
            weight_decay=self.settings.weight_decay,
            beta2=self.settings.beta2,
            name=self.settings.optimizer,
        )

    def _step(self, ledger: Ledger, optimizer: Any, passes: Sequence[Sequence[Encoded]]) -> Trace:
        start, kinds = len(ledger.events), dict[int, str]()
        self.model.train()
        for items in passes:
            before = set(ledger.live.values())
            loss = self._loss(ledger, items)
            kinds |= dict.fromkeys(set(ledger.live.values()) - before, "activations")
            loss.backward()
            del loss
        weights = optim.trainable(self.model).values()
        kinds |= {ledger.number(weight.grad): "gradients" for weight in weights if weight.grad is not None}
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip or 1e9)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        held = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
        kinds |= {ledger.number(value): "moments" for value in held}
        return Trace(tuple(ledger.events[start:]), kinds | dict.fromkeys(ledger.kernels.values(), "kernels"))

    def _evaluation(self, ledger: Ledger, items: Sequence[Encoded]) -> Trace:
        start = len(ledger.events)
        self.model.eval()
        with torch.no_grad():
            self._loss(ledger, items)
        return Trace(tuple(ledger.events[start:]), {})

    def _loss(self, ledger: Ledger, items: Sequence[Encoded]) -> Tensor:
        ledger.supervised = sum(int((item.weights[1:] > 0).sum()) for item in items if item.weights is not None)
        inputs = batch_of(self.model, items, self.loaded.tokenizer.pad_token_id, self.loaded.device)
        with autocast(self.loaded.device, self.loaded.dtype):
            return self.task.loss(self.model, inputs)[0]


class _EightBits(torch.optim.Optimizer):
    """Takes the memory of bitsandbytes' AdamW, whose kernels cannot run without numbers."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """What is remembered is taken where it is missing; the rest happens in place."""
        for weight in (weight for group in self.param_groups for weight in group["params"]):
            if weight.grad is not None and weight not in self.state:
                moments = torch.empty(optim.eight_bit_bytes(weight), dtype=torch.uint8, device=weight.device)
                self.state[weight] = {"moments": moments}


def replay(traces: Sequence[Trace], scales: Sequence[float], fixed: Collection[int]) -> Iterator[tuple[int, int]]:
    """The events of a longer run: the traced steps, then as many again as there are scales, each of another size.

    Args:
        scales: sizes of the later forward passes, as shares of the traced ones.
        fixed: sizes of blocks that do not go by the number of tokens: those of the weights.
    """
    first, count = joined(traces), 0
    kernels = deque(number for number, kind in first.kinds.items() if kind == "kernels")
    yield from first.events
    for turn, scale in enumerate(scales):
        again = traces[turn % len(traces)]
        both = again.closed()
        for number, size in again.events:
            if again.kinds.get(number) == "kernels":  # of the new shape, in the place of the oldest
                count += 1
                yield -(1 << 40) - count, size
                kernels.append(-(1 << 40) - count)
                if len(kernels) > KERNELS:
                    yield kernels.popleft(), 0
            elif number in both:  # all of the turn before are given back
                yield -number, size if size in fixed or not size else max(1, int(size * scale))


@contextmanager
def _without_numbers(model: nn.Module) -> Iterator[Ledger]:
    """While this lasts the model's tensors have shapes and no content, and a ledger is kept."""
    places: list[tuple[dict[str, Any], str, Tensor]] = [
        (store, name, tensor)
        for module in model.modules()
        for store in (module._parameters, module._buffers)
        for name, tensor in store.items()
        if tensor is not None
    ]
    blocked.forget()
    _fused.forget()
    silent, TALK.disabled = TALK.disabled, True
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), Ledger() as ledger:
            hollow = {id(tensor): _hollow(tensor) for _, _, tensor in places}
            for store, name, tensor in places:
                store[name] = hollow[id(tensor)]
            ledger.events.clear()
            ledger.known(list(hollow.values()))
            yield ledger
    finally:
        TALK.disabled = silent
        for store, name, tensor in places:
            store[name] = tensor
        blocked.forget()
        _fused.forget()


def _hollow(tensor: Tensor) -> Tensor:
    empty = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device)
    return nn.Parameter(empty, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
