"""From the memory that a training will take to what is chosen by it: tokens in a forward pass, and checkpointing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import product

from torch import nn

from finesmith.methods._frozen import frozen_part
from finesmith.methods.base import layer_list
from finesmith.models import allocator, fast, recompute
from finesmith.models import together as company
from finesmith.models.device import free_memory, used_memory, weights_bytes
from finesmith.models.load import Loaded
from finesmith.tasks._language import EVALUATION_TOKENS
from finesmith.tasks._order import length_order, token_batches
from finesmith.tasks.base import Encoded, Task
from finesmith.train import divide, memory, optim
from finesmith.train.batches import EncodedSet, Plan
from finesmith.train.cache import pays
from finesmith.train.fit import total_steps
from finesmith.train.settings import TrainSettings
from finesmith.train.speed import SpeedSettings
from finesmith.types import Together

FASTEST = {"cpu": 2048, "cuda": 16384}
"""Tokens in a forward pass from which on more gain nothing (measured: docs/explanation/what-did-not-work.md)."""
LEAST = 128
LATER = 96
"""Forward passes of a longer run that the allocator is asked for."""
AMPLE = 0.25
"""Share of the free memory below which no estimate is needed."""
ROOM = 0.9
"""Share of the free memory that is planned with: the estimate is right within 15 %, and others need some too."""


@dataclass(frozen=True)
class Forecast:
    """Peak memory of a training in bytes, by what holds it at the moment at which most is held.

    `base` is everything else in the process before the first step (libraries, data, what loading left). `kernels` is
    what oneDNN keeps for each shape that it met in bfloat16, `holes` memory between blocks that the allocator keeps
    and no block fits into, `read_back` the file of the best weights, which is read at the end, `processes` what the
    others of `speed.processes` hold for themselves.
    """

    base: int
    weights: int
    gradients: int
    moments: int
    activations: int
    kernels: int
    temporary: int
    holes: int
    read_back: int
    processes: int = 0

    @property
    def peak(self) -> int:
        """All of it."""
        return sum(getattr(self, field.name) for field in fields(self))

    @property
    def growth(self) -> int:
        """What the process takes from the first step on."""
        return self.peak - self.base - self.weights


@dataclass(frozen=True)
class Choice:
    """Tokens in a forward pass, whether blocks are computed again in the backward pass, and in how many processes.

    `needed` is what that takes beyond what is in use now and `free` what there is, in bytes, where both are known;
    `problem` says why not.
    """

    tokens: int
    checkpointing: bool
    needed: int | None = None
    free: int | None = None
    problem: str = ""
    processes: int = 1

    @property
    def fits(self) -> bool:
        """False only where it is known that memory will be too small."""
        return self.needed is None or fits(self.needed, self.free)


def fits(needed: int, free: int | None) -> bool:
    """Whether so many bytes more may be taken; True where it is not known what is free."""
    return free is None or needed <= ROOM * free


def forecast(
    model: nn.Module,
    task: Task,
    loaded: Loaded,
    data: EncodedSet,
    settings: TrainSettings,
    tokens: int,
    *,
    seed: int,
    keep_memory: bool,
    evaluation: Sequence[Encoded] = (),
    kinds: int = 3,
    processes: int = 1,
) -> Forecast:
    """Peak memory of a training with passes of at most so many tokens, on the process as it stands.

    Args:
        model: with the weights open that will move, on the ways that it will go.
        evaluation: the sequences of the validation rows; their largest batch counts too.
        processes: in how many the passes are computed, side by side.
        kinds: how many different steps are looked at: that with the largest pass, with the longest row, the middle one.

    Raises:
        UnforeseenError: this model's steps cannot be rehearsed.
    """
    packed = fast.of(model).packed
    plan = Plan(data.lengths, settings.batch_size, seed, company.training(model))
    _touch(model)
    rehearsal = memory.Rehearsal(model, task, loaded, settings)
    steps = [[[data[i] for i in items] for items in passes] for passes in _steps(plan, settings, tokens, packed)]
    traces = rehearsal.steps(steps[:kinds], _largest(evaluation, packed, plan.together))
    parts = memory.joined(traces).parts()
    held, holes = sum(parts.values()), 0
    on_cpu = loaded.device.type == "cpu"
    if on_cpu and keep_memory:
        sizes = {weight.numel() * width for weight in model.parameters() for width in (2, 4)}
        grown = allocator.growth(memory.replay(traces, _scales(plan, settings, tokens, packed), sizes))
        holes = (grown - held) if grown is not None else 0
    trained = sum(weight.nbytes for weight in optim.trainable(model).values())
    weights = weights_bytes(model)
    return Forecast(
        base=max(0, used_memory(loaded.device) - weights),
        weights=weights,
        holes=holes,
        read_back=trained if on_cpu and settings.keep == "best" else 0,
        processes=(processes - 1) * divide.memory(model, loaded.dtype),
        **parts,
    )


def choose(
    model: nn.Module,
    task: Task,
    loaded: Loaded,
    data: EncodedSet,
    settings: TrainSettings,
    speed: SpeedSettings,
    *,
    seed: int,
) -> Choice:
    """The largest passes that are worth it and fit into memory; blocks are computed again only where none fits else.

    What was asked for by number or by `on` and `off` stays as it is. Leaves the model on the way that was chosen.
    """
    fixed = settings.micro_batch_tokens
    sizes = [fixed] if fixed != "auto" else _sizes(FASTEST.get(loaded.device.type, 16384), max(data.lengths))
    ways = [speed.checkpointing == "on"] if speed.checkpointing != "auto" else [False, True]
    processes = _processes(model, loaded, data, settings, speed)
    numbers = range(processes, 0 if speed.processes == "auto" else processes - 1, -1)
    choice, free = Choice(sizes[0], ways[0], processes=processes), free_memory(loaded.device)
    if len(sizes) * len(ways) * len(numbers) == 1 or free is None:
        return _taken(model, choice)
    if _ample(model, sizes[0], free):
        return _taken(model, replace(choice, free=free))
    for again, number, tokens in product(ways, numbers, sizes):
        _taken(model, Choice(tokens, again))
        try:
            found = forecast(
                model,
                task,
                loaded,
                data,
                settings,
                tokens,
                seed=seed,
                keep_memory=speed.keep_memory,
                kinds=1,
                processes=number,
            )
        except memory.UnforeseenError as error:
            return _taken(model, replace(choice, problem=str(error)))
        choice = Choice(tokens, again, found.growth, free, processes=number)
        if choice.fits:
            return choice
    return choice


def _processes(
    model: nn.Module, loaded: Loaded, data: EncodedSet, settings: TrainSettings, speed: SpeedSettings
) -> int:
    """In how many processes each step is computed, as far as memory does not decide it."""
    total, epoch = total_steps(settings, len(data)), -(-len(data) // settings.batch_size)
    one = speed.compile or pays(frozen_part(model), speed.cache_gigabytes, total, epoch)  # one reads the kept states
    asked = 1 if speed.processes == "auto" and one else speed.processes
    rows = min(settings.batch_size, len(data))
    return divide.chosen(asked, model, loaded.device, sum(data.lengths) / len(data) * rows, rows)


def _ample(model: nn.Module, tokens: int, free: int) -> bool:
    """Whether a bound that is too high by far is still a small share of the free memory: then no step is rehearsed.

    16 bytes a weight, and for each token 64 numbers of 4 bytes a feature of every block and 4 a word of the vocabulary.
    """
    config = fast.inner(model).config.get_text_config()
    names = ("num_hidden_layers", "hidden_size", "vocab_size")
    layers, width, words = (int(getattr(config, name, 0) or 0) for name in names)
    inside = int(getattr(config, "intermediate_size", 0) or 4 * width)
    if not layers * width * words:
        return False
    weights = sum(weight.numel() for weight in model.parameters())
    return 16 * weights + 4 * tokens * (64 * layers * max(width, inside // 4) + 4 * words) < AMPLE * free


def _touch(model: nn.Module) -> None:
    """Weights that still lie in the mapped file count as used from now on: the first step reads them anyway."""
    for tensor in model.parameters():
        if tensor.device.type == "cpu" and tensor.is_contiguous():
            tensor.detach().flatten()[:: max(1, 4096 // tensor.element_size())].sum()


def _taken(model: nn.Module, choice: Choice) -> Choice:
    recompute.end(model)
    if choice.checkpointing:
        recompute.begin(model, layer_list(model))
    return choice


def _sizes(most: int, longest: int) -> list[int]:
    """Tokens in a pass, the largest first; below the longest row a smaller number is of little use."""
    sizes = [most]
    while sizes[-1] // 2 >= max(LEAST, longest):
        sizes.append(sizes[-1] // 2)
    return sizes


def _steps(plan: Plan, settings: TrainSettings, tokens: int, packed: bool) -> list[list[list[int]]]:
    """Steps of the first epoch by their passes: that with the largest, that with the longest row, the middle one."""
    batches = plan.epoch(0)[: settings.max_steps]
    steps = [plan.micro_batches(batch, tokens, packed=packed) for batch in batches]
    for passes in steps:
        passes.sort(key=lambda items: -_area(plan, items, packed))
    order = sorted(steps, key=lambda passes: -_area(plan, passes[0], packed))
    longest = max(steps, key=lambda passes: max(plan.lengths[i] for items in passes for i in items))
    found = [order[0], longest, order[len(order) // 2]]
    return [step for place, step in enumerate(found) if step not in found[:place]]


def _scales(plan: Plan, settings: TrainSettings, tokens: int, packed: bool) -> list[float]:
    """Sizes of the first forward passes of a run, as shares of the largest: holes come from their differences."""
    steps = total_steps(settings, len(plan.lengths))
    epochs = min(-(-steps // plan.steps_per_epoch), -(-LATER // plan.steps_per_epoch))
    batches = [batch for epoch in range(epochs) for batch in plan.epoch(epoch)][: min(steps, LATER)]
    passes = [items for batch in batches for items in plan.micro_batches(batch, tokens, packed=packed)]
    areas = [_area(plan, items, packed) for items in passes]
    return [area / max(areas) for area in areas[:LATER]]


def _area(plan: Plan, items: Sequence[int], packed: bool) -> int:
    sizes = [plan.lengths[i] for i in items]
    return sum(sizes) if packed else len(sizes) * max(sizes)


def _largest(pieces: Sequence[Encoded], packed: bool, together: Together) -> Sequence[Encoded]:
    """The batch of an evaluation that has most tokens."""
    lengths = [len(piece.tokens) for piece in pieces]
    batches = token_batches(length_order(lengths), lengths, EVALUATION_TOKENS, packed=packed, together=together)
    most = max(batches, key=lambda items: sum(lengths[i] for i in items), default=[])
    return [pieces[i] for i in most]
