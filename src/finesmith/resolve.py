"""Every `auto` of the training becomes a value, and the run's recipe has it: a resumed run has nothing to choose."""

from __future__ import annotations

from typing import Any

from finesmith.errors import RecipeError
from finesmith.methods.base import Method
from finesmith.models import load as models
from finesmith.models import place
from finesmith.models.load import Loaded
from finesmith.recipe import Recipe
from finesmith.report.words import size
from finesmith.tasks.base import Task
from finesmith.train import budget
from finesmith.train.batches import EncodedSet


def training(recipe: Recipe, method: Method, loaded: Loaded, config: Any) -> Recipe:
    """Fills in every `auto` of the training settings that must be known before the rows become tokens."""
    settings, values = recipe.train, {}
    if settings.learning_rate == "auto":
        values["learning_rate"] = method.learning_rate(models.parameter_counts(loaded.model)[1])
    context = models.context_length(config, loaded.tokenizer)
    if settings.max_length == "auto":
        values["max_length"] = min(context, 1 << 20)
    elif settings.max_length > context:
        raise RecipeError(f"train.max_length is {settings.max_length}, but the model's context is {context} tokens.")
    narrow = str(loaded.dtype).removeprefix("torch.")  # measured here: written down, so that a resumed run keeps it
    return recipe.replace(train=values, model={"dtype": narrow, "name": place.settled(recipe.model.name)})


def epochs(recipe: Recipe, task: Task, sequences: int) -> Recipe:
    """Fills in `train.epochs`: a step takes sequences, of which a long document has many and a packed row is one."""
    if recipe.train.epochs != "auto" or recipe.train.max_steps is not None:
        return recipe
    return recipe.replace(train={"epochs": float(task.default_epochs(-(-sequences // recipe.train.batch_size)))})


def passes(recipe: Recipe, model: Any, task: Task, loaded: Loaded, data: EncodedSet) -> tuple[Recipe, tuple[str, ...]]:
    """The recipe with the passes that memory has room for, and a note where there was something to choose."""
    choice = budget.choose(model, task, loaded, data, recipe.train, recipe.speed, seed=recipe.seed)
    again = choice.checkpointing and recipe.speed.checkpointing == "auto"
    settled = recipe.replace(
        train={"micro_batch_tokens": choice.tokens},
        speed={"checkpointing": "on" if choice.checkpointing else "off", "processes": choice.processes},
    )
    if choice.problem:
        return settled, (f"memory cannot be predicted for this model: {choice.problem}",)
    if choice.free is None:
        return settled, ()
    how = f"{choice.tokens:,} tokens in a forward pass"
    if choice.processes > 1:
        how = f"{choice.tokens:,} tokens in the forward passes of {choice.processes} processes side by side"
    if choice.needed is None:
        return settled, (f"{how}, a small part of the {size(choice.free)} free",)
    said = f"{how} take {size(choice.needed)} of memory; {size(choice.free)} is free"
    if again:
        said += "; blocks are computed again in the backward pass, because without that it would not fit"
    return settled, (said if choice.fits else f"memory may be too small: {said}",)
