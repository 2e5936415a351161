"""Small trainings for tests, on the library's own path: a recipe, `run.prepare`, `stages.build`, `fit`. No network."""

import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from accelerate import Accelerator

from finesmith import recipe as recipes
from finesmith import run, stages
from finesmith.models.load import Loaded
from finesmith.recipe import Recipe
from finesmith.runfolder import RunFolder
from finesmith.stages import Ready
from finesmith.tasks.base import Encoded, Task, collate
from finesmith.train import fit as fitting
from finesmith.train import loop, optim
from finesmith.train.batches import EncodedSet
from finesmith.train.fit import Checkpoints, Event
from finesmith.types import Splits, Step
from finesmith.watch import Watcher


def make_recipe(data: Path | str, model: str, /, **settings) -> Recipe:
    """A recipe in float32 on the CPU; `settings` as in YAML, nested."""
    model_settings = {"name": model, "dtype": "float32", "device": "cpu", **settings.pop("model", {})}
    speed = {"block_attention": 0, **settings.pop("speed", {})}  # like the dtype: else a race on this machine decides
    return recipes.make(
        {"data": {"path": str(data)}, "model": model_settings, "speed": speed, "out": "unused", **settings}
    )


def build(recipe: Recipe) -> tuple[Ready, Splits]:
    """Everything that step 1 needs, and the splits."""
    prepared = run.prepare(recipe)
    return stages.build(prepared.recipe, prepared.splits, Watcher()), prepared.splits


def fit(
    ready: Ready, splits: Splits, folder: Path | None = None, *, task: Task | None = None, **more
) -> Iterator[Event]:
    """The events of a training, as `stages.train` would make them; the kept weights are in `ready.model` at the end."""
    with tempfile.TemporaryDirectory() as temporary:
        place = folder or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        yield from fitting.fit(
            ready.model,
            task or ready.task,
            ready.loaded,
            ready.data,
            splits.validation,
            ready.recipe.train,
            seed=ready.recipe.seed,
            checkpoints=Checkpoints(place, RunFolder(place).write_with),
            accelerator=Accelerator(cpu=True),
            track=lambda values, step: None,
            name_of=lambda row: str(splits.train[row].origin),
            **more,
        )


def loop_steps(
    ready: Ready, *, task: Task | None = None, data: EncodedSet | None = None, total: int = 4, **more
) -> Iterator[Step]:
    """The steps of the bare loop: no validation, no saving."""
    settings = ready.recipe.train
    optimizer = optim.optimizer(
        ready.model,
        learning_rate=float(settings.learning_rate),
        weight_decay=settings.weight_decay,
        beta2=settings.beta2,
        name=settings.optimizer,
    )
    accelerator = Accelerator(cpu=True)
    model, optimizer = accelerator.prepare(ready.model, optimizer)
    torch.manual_seed(ready.recipe.seed)
    yield from loop.train(
        model,
        task or ready.task,
        data or ready.data,
        settings,
        optimizer=optimizer,
        accelerator=accelerator,
        dtype=torch.float32,
        pad_id=ready.loaded.tokenizer.pad_token_id,
        total=total,
        seed=ready.recipe.seed,
        **more,
    )


class Stop(Watcher):
    """Asks to stop after a step, as Ctrl-C does."""

    def __init__(self, at):
        self.at, self.now = at, 0

    def step(self, step, total, scores, best):
        self.now = step.index

    def should_stop(self):
        return self.now == self.at


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A copy of every tensor of a model."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def equal(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    """Bit for bit."""
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def logits(model: torch.nn.Module, items: Sequence[Encoded], pad_id: int) -> torch.Tensor:
    """What a model says to some sequences, without dropout, in one batch."""
    training = model.training
    model.eval()
    batch = collate(items, pad_id, "cpu")
    with torch.inference_mode():
        out = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.clone()
    model.train(training)
    return out


def replaced(loaded: Loaded, model: torch.nn.Module) -> Loaded:
    """The same with another model, which answers."""
    return dataclasses.replace(loaded, model=model.eval())
