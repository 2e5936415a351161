"""A training of the run's recipe with another method: what is settled anew for it, and what it takes."""

from __future__ import annotations

from typing import Any

from finesmith.measurements.base import Study
from finesmith.recipe import Recipe

FULL_COST = 1.5  # a full training to one with adapters: 6 N against 4 N operations a token
PASSES = 3  # what a training row takes where all weights move: a forward pass and twice that backwards


def settings(study: Study, method: str, **train: Any) -> dict[str, Any]:
    """What the run settled for its own method (the passes that fit into memory) is settled anew for another one."""
    own = {"method": method, "train": train}
    if method == study.recipe.method:
        return own
    anew = {"checkpointing": "auto", "processes": "auto"}
    return {**own, "train": {**train, "micro_batch_tokens": "auto"}, "speed": anew}


def seconds(study: Study, method: str, steps: float) -> float:
    """What a training of so many steps takes with adapters everywhere (`lora`) or with all weights (`full`)."""
    return study.preparing_seconds + steps * _step(study, method)


def _step(study: Study, method: str) -> float:
    """From the run's own steps. Frozen layers were computed once in them: reading a row, forwards and back, comes on
    top of such a step, which has its share of the looks at the validation rows."""
    own = study.recipe.method
    if method == own:
        return study.step_seconds
    if _stands_still(study.recipe):
        row = PASSES * study.reading_seconds / (1.0 if method == "full" else FULL_COST)
        return study.step_seconds + _examples(study) * row
    return study.step_seconds * (FULL_COST if method == "full" else 1 / FULL_COST)


def _examples(study: Study) -> float:
    """Training rows in a step: a packed sequence holds several, and a long document is several sequences."""
    rows = len(study.splits.train)
    sequences = study.folder.read_json("manifest.json").get("sequences", rows)
    return study.recipe.train.batch_size * rows / sequences


def _stands_still(recipe: Recipe) -> bool:
    """Whether layers below the lowest weight that moves are the same in every step."""
    moving = recipe.section(recipe.method)
    return recipe.method != "full" and (recipe.method != "lora" or getattr(moving, "last_layers", None) is not None)
