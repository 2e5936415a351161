"""A finished run's model on the line to its base: what scale 0 is, whether the ends are right, where there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from finesmith.data import passages
from finesmith.errors import FinesmithError
from finesmith.measurements.base import Study
from finesmith.tasks.classification import Classification

if TYPE_CHECKING:
    from finesmith.models.between import Between
    from finesmith.models.load import Loaded
    from finesmith.predictor import Predictor
    from finesmith.recipe import Recipe
    from finesmith.runfolder import RunFolder

START = "start.safetensors"
"""In a run: the head at scale 0, a logistic regression on the base's frozen features."""
_NOISY = 1024
"""Most rows that the fit of that head reads with dropout (fewer than twice `_head_first.NOISE_ROWS`)."""
CHECKED = 64
"""Tokens of each passage on which the ends of a line are compared."""
TOLERANCE = 1e-3
"""Largest difference of logits at an end of the line, relative to the largest of them; more is an error.

Equal tensors that lie otherwise aligned in memory are multiplied by other instructions: 3e-5 were seen."""


@dataclass(frozen=True)
class Line:
    """The tuned model, movable. `ends` are the largest relative differences of the logits at scale 0 from the base's
    and at scale 1 from the tuned model's: 0 where they are equal to the bit."""

    predictor: Predictor
    between: Between
    ends: Mapping[str, float]


def refusal(folder: RunFolder, recipe: Recipe) -> str:
    """Why this run has no line to its base; empty where it has one. Reads configurations only."""
    from finesmith.models import between

    if recipe.model.from_scratch:
        return "the run began from random weights: there is no base to go back to"
    place = "tuned" if folder.file("tuned").is_dir() else "model"  # as in Study.tuned_folder
    if folder.file(f"{place}/adapter_config.json").exists():
        return between.refusal(folder.read_json(f"{place}/adapter_config.json"))
    if getattr(recipe.model, "quantize", "none") != "none":
        return "the base is quantised: weights of a few bits cannot be interpolated"
    return _resized(folder.read_json(f"{place}/config.json"), recipe)


def _resized(tuned: Mapping[str, Any], recipe: Recipe) -> str:
    from finesmith.models import load as models

    base = models.load_config(recipe.model)
    if getattr(base, "quantization_config", None) is not None:
        return "the base is quantised: weights of a few bits cannot be interpolated"
    sizes = getattr(base.get_text_config(), "vocab_size", None), tuned.get("vocab_size")
    if None not in sizes and sizes[0] != sizes[1]:
        return f"the embeddings were resized from {sizes[0]:,} to {sizes[1]:,} tokens"
    return ""


def cost(study: Study) -> float:
    """Seconds for the head at scale 0 where the run holds none yet: it reads all rows, and some more with dropout."""
    if not isinstance(study.task, Classification) or study.folder.file(START).exists():
        return 0.0
    train, held_out = len(study.splits.train), len(study.splits.validation)
    return (train + min(train, _NOISY) + held_out) * study.answer_seconds


def begun(study: Study) -> Loaded:
    """The base as training began with it: a classifier's head is fitted on frozen features, and kept in the run."""
    from finesmith import stages
    from finesmith.models import between
    from finesmith.models import load as models
    from finesmith.tasks import _head_first

    task, recipe, folder = study.task, study.recipe, study.folder
    loaded = models.load(recipe.model, task.kind, **task.load_arguments(), seed=recipe.seed)  # as narrow as `tuned`
    if not isinstance(task, Classification):
        task.prepare(loaded)
        return loaded
    if folder.file(START).exists():
        loaded.model.load_state_dict(between.read(folder.file(START)), strict=False)
        return loaded
    limit = int(recipe.train.max_length)
    parts = [stages.pieces(task, loaded, rows, limit) for rows in (study.splits.train, study.splits.validation)]
    _head_first.fit_head(task, loaded, *parts)
    head = between.heads(loaded.model, task.head(loaded.model))
    folder.write_with(START, lambda path: between.write(path, head))
    return loaded


def of(study: Study) -> Line:
    """The line of a run, with both ends compared on a few passages.

    Raises:
        FinesmithError: an end is not what it should be.
    """
    from finesmith.models.between import Between

    rows = _tokens(study)
    start = begun(study)
    base = logits(start, rows)
    weights = dict(start.model.named_parameters())
    tuned = study.tuned()
    own = logits(tuned.loaded, rows)
    between = Between(tuned.loaded.model, weights, tuned.loaded.stored)
    del start, weights
    between.at(0.0)
    ends = {"0": _apart(base, logits(tuned.loaded, rows))}
    between.at(1.0)
    ends["1"] = _apart(own, logits(tuned.loaded, rows))
    for scale, apart in ends.items():
        if apart > TOLERANCE:
            what = "the base's" if scale == "0" else "the tuned model's"
            raise FinesmithError(f"At scale {scale} the logits differ from {what} by {apart:.2g} of the largest.")
    return Line(tuned, between, ends)


def logits(loaded: Loaded, rows: Sequence[Sequence[int]]) -> list[np.ndarray]:
    """What a model says to token rows, each by itself, in the type of its narrow weights: [K] or [T, V] each."""
    import torch

    from finesmith.models import fast

    with fast.asking(loaded.model):
        asked = (torch.tensor([list(row)], device=loaded.device) for row in rows)
        return [loaded.model(input_ids=ids).logits[0].float().cpu().numpy() for ids in asked]


def _tokens(study: Study) -> list[list[int]]:
    """A few passages, as every run has them."""
    from finesmith.models import load as models

    tokenizer: Any = models.load_tokenizer(study.recipe.model)
    texts = [texts[0] for texts in passages.by_kind().values()]
    return [list(row) for row in tokenizer(texts, truncation=True, max_length=CHECKED, verbose=False)["input_ids"]]


def _apart(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> float:
    """The largest difference, relative to the largest value."""
    largest = max(float(np.abs(part).max()) for part in one)
    return max(float(np.abs(a - b).max()) for a, b in zip(one, other, strict=True)) / max(largest, 1e-12)
