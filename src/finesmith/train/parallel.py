"""Data parallelism on a CPU: processes of one core each compute a share of every step's gradients.

One forward pass on two cores leaves part of both idle, between the matrix products and inside the smaller ones; two
passes side by side do not. The processes are forks: frozen weights are the same pages of memory, weights that move
and gradients lie in memory that all of them see. Everything else of a training (optimizer, validation, saving) stays
in the first process, and the sum of the gradients is the same but for the order in which it is taken.
"""

from __future__ import annotations

import gc
import mmap
import os
import signal
import traceback
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import Pipe
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from finesmith.errors import TrainingError
from finesmith.methods._frozen import frozen_part
from finesmith.models import allocator
from finesmith.models.device import is_out_of_memory, private_memory
from finesmith.train.gradients import Work


@dataclass
class Helper:
    """A forked process: `link` sends it passes and brings back their loss.

    In `gradients` it leaves those of the weights for which `there` is true.
    """

    pid: int
    link: Any
    gradients: list[Tensor]
    there: Tensor
    busy: bool = False


@dataclass
class Processes:
    """The processes of a training; none but this one before `start`.

    `count` is how many there are, this one included. `memory` is what those that have ended held for themselves alone,
    in bytes, and `notes` say why they ended early.
    """

    count: int = 1
    memory: int = 0
    notes: tuple[str, ...] = ()
    helpers: list[Helper] = field(default_factory=list)
    weights: list[nn.Parameter] = field(default_factory=list)

    def start(self, work: Work, seed: int) -> None:
        """Forks, where more than one is wanted; weights that move lie in shared memory from now on."""
        if self.count == 1:
            return
        if work.cache.count:
            self.notes += (f"one process, not {self.count}: what the frozen layers give is read from a file",)
            self.count = 1
            return
        self.weights = [weight for weight in work.model.parameters() if weight.requires_grad]
        for weight, shared in zip(self.weights, _shared(self.weights), strict=True):
            shared.copy_(weight.detach())
            weight.data = shared
        gc.collect()
        allocator.give_back()
        gc.freeze()  # what is never collected is never written to, and stays one page for all processes
        for number in range(1, self.count):
            there, *gradients = _shared([torch.zeros(len(self.weights), dtype=torch.bool), *self.weights])
            ours, theirs = Pipe()
            try:
                pid = _fork()
            except OSError as error:
                self.notes += (f"the system makes no further process ({error}): {number} of {self.count}",)
                break
            if not pid:
                ours.close()
                for other in self.helpers:
                    other.link.close()
                _serve(theirs, work, self.weights, Helper(0, theirs, gradients, there), (seed, number))
            theirs.close()
            self.helpers.append(Helper(pid, ours, gradients, there))
        gc.unfreeze()
        self.count = 1 + len(self.helpers)

    def gradients(
        self, work: Work, shares: Sequence[Sequence[Sequence[int]]], count: float, scale: float, step: int
    ) -> float:
        """One step's gradients, each process computing a share of its passes; returns the step's loss in nats.

        Raises:
            TrainingError: a loss that is not a number.
            OutOfMemoryError: memory ran out in one of them, or the system ended one.
        """
        threads = torch.get_num_threads()
        if self.helpers:
            torch.set_num_threads(1)
        try:
            for helper, passes in zip(self.helpers, shares[1:], strict=True):
                helper.busy = True
                helper.link.send((passes, count, scale, step))
            found = [_attempt(work, shares[0], count, scale)]
            for helper in self.helpers:
                found.append(helper.link.recv())
                helper.busy = False
        except (EOFError, OSError) as error:
            self.close()
            self.notes += (
                f"the system ended a process of speed.processes in step {step + 1}: the training went on in one",
            )
            raise torch.OutOfMemoryError(self.notes[-1]) from error
        finally:
            torch.set_num_threads(threads)
        failures = [failure for _, failure in found if failure]
        if failures:
            try:
                raise failures[0]
            finally:
                del failures, found  # this frame is in the error's traceback: the failed pass would keep itself alive
        for helper in self.helpers:
            _add(self.weights, helper)
        return sum(loss for loss, _ in found)

    def held(self) -> int:
        """Bytes that the others hold for themselves alone, or held before they ended."""
        return self.memory + sum(private_memory(helper.pid) for helper in self.helpers)

    def go_on(self, facts: Mapping[str, Any]) -> None:
        """As many as there were when a state was saved; one that was saved before this was kept changes nothing."""
        self.count = facts.get("count", self.count)
        self.notes = tuple(facts.get("notes", self.notes))

    def facts(self) -> dict[str, Any]:
        """What `go_on` takes."""
        return {"count": self.count, "notes": self.notes}

    def close(self) -> None:
        """Ends the other processes."""
        for helper in self.helpers:
            try:
                if not helper.busy:
                    helper.link.send(None)
                    self.memory += helper.link.recv()
            except (EOFError, OSError):  # it is gone already
                helper.busy = True
            helper.link.close()
            with suppress(OSError):  # someone else has seen to it already
                if helper.busy:
                    os.kill(helper.pid, signal.SIGKILL)
                os.waitpid(helper.pid, 0)
        self.helpers, self.count = [], 1


def _fork() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads: none of them is used
        return os.fork()


def _serve(link: Any, work: Work, weights: Sequence[nn.Parameter], helper: Helper, seed: tuple[int, int]) -> None:
    """The life of a forked process: it never returns."""
    try:
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, signal.SIG_IGN)  # it ends when the first process does
        torch.set_num_threads(1)
        work.model.train()
        frozen_part(work.model).quiet()
        for place, weight in enumerate(weights):
            weight.grad = None
            weight.register_post_accumulate_grad_hook(_moved(place, helper))
        while (order := link.recv()) is not None:
            passes, count, scale, step = order
            helper.there.fill_(False)
            torch.manual_seed(int(np.random.SeedSequence([*seed, step]).generate_state(1)[0]))  # for dropout
            link.send(found := _sendable(_attempt(work, passes, count, scale)))
            if found[1]:
                gc.collect()  # what a failed pass leaves in circles is given back before the next
        link.send(private_memory())
    except (EOFError, OSError):  # the first process is gone
        pass
    except Exception:
        traceback.print_exc()
    finally:
        os._exit(0)


def _sendable(found: tuple[float, Exception | None]) -> tuple[float, Exception | None]:
    """The same with an error that can be sent: where it came from becomes text."""
    loss, error = found
    if error is None or isinstance(error, TrainingError):
        return found
    text = "".join(traceback.format_exception(error))
    return loss, torch.OutOfMemoryError(text) if is_out_of_memory(error) else RuntimeError(text)


def _attempt(work: Work, passes: Sequence[Sequence[int]], count: float, scale: float) -> tuple[float, Exception | None]:
    """The loss of some passes, or why there is none: each process waits for the others before one of them fails."""
    try:
        return work.accumulate(passes, count, scale), None
    except Exception as error:
        return 0.0, error


def _moved(place: int, helper: Helper) -> Any:
    """What is done with a gradient as soon as it is there: it goes to shared memory, and its own is given back."""

    def move(weight: Tensor) -> None:
        assert weight.grad is not None
        shared = helper.gradients[place]
        shared.add_(weight.grad) if helper.there[place] else shared.copy_(weight.grad)
        helper.there[place], weight.grad = True, None

    return move


def _add(weights: Sequence[nn.Parameter], helper: Helper) -> None:
    """Adds another process's gradients, where it has some, to this one's."""
    mine, theirs = [], []
    for weight, gradient, there in zip(weights, helper.gradients, helper.there.tolist(), strict=True):
        if there and weight.grad is None:
            weight.grad = gradient.clone()
        elif there and weight.grad is not None:
            mine.append(weight.grad)
            theirs.append(gradient)
    if mine:
        torch._foreach_add_(mine, theirs)


def _shared(like: Sequence[Tensor]) -> list[Tensor]:
    """Empty tensors of these shapes in memory that forked processes see (and that no limit of /dev/shm is for)."""
    sizes = [-(-tensor.nbytes // 64) * 64 for tensor in like]
    block, starts = mmap.mmap(-1, max(1, sum(sizes))), np.cumsum([0, *sizes]).tolist()
    return [
        torch.frombuffer(block, dtype=tensor.dtype, count=tensor.numel(), offset=start).view(tensor.shape)
        for tensor, start in zip(like, starts, strict=False)
    ]
