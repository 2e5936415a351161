"""The base under the prompt that `prompting` chose on validation rows, ready to be asked more."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from finesmith.data import split
from finesmith.measurements import _ladder
from finesmith.measurements.base import Study
from finesmith.predictor import Predictor
from finesmith.recipe import Recipe
from finesmith.tasks.base import Progress, Task
from finesmith.types import Example, Input, Prediction

PROBED, PROBED_SECONDS = (1, 4, 16), 5.0
"""Validation rows that are asked to find out how long prompts take: more until that takes so long, as a row alone takes
longer than one of many."""
SYSTEM = "prompt"
"""What the best prompt is called among the run's systems."""


@dataclass(frozen=True)
class Prompted:
    """The base, one way to prompt it, and where its examples come from."""

    prompts: Any
    way: _ladder.Way
    shown: _ladder.Shown

    def answer(self, rows: Sequence[Example], inputs: Sequence[Input] = ()) -> list[Prediction]:
        """Answers to rows, or to other inputs in their place."""
        asked = _with(rows, inputs)
        found, _ = self.prompts.ask(asked, self.way.form, self._examples(asked), reading=self.way.reading)
        return list(found[self.way.reading])

    def sample(self, rows: Sequence[Example], *, temperature: float, seed: int) -> list[Prediction]:
        """Drawn answers, where answers are written."""
        reading = self.way.reading
        return self.prompts.sample(
            rows, self.way.form, self._examples(rows), reading=reading, temperature=temperature, seed=seed
        )

    def as_asked(self, rows: Sequence[Example]) -> list[Example]:
        """The rows as the base is sent them, where answers are written: instruction and examples before the request."""
        inputs = self.prompts.prompts(rows, self.way.form, self._examples(rows))
        return [replace(row, input=item) for row, item in zip(rows, inputs, strict=True)]

    @property
    def predictor(self) -> Predictor:
        """The model itself."""
        return Predictor(self.prompts.task, self.prompts.loaded)

    def _examples(self, rows: Sequence[Example]) -> list[Sequence[Example]]:
        return self.shown.to(self.way.name, rows, self.way.draw)


def chosen(study: Study) -> Prompted | None:
    """The prompt that was chosen, with the base loaded, alone; None where `prompting` was not measured."""
    found = study.found.get("prompting")
    if not found or SYSTEM not in study.predictions:
        return None
    name = found["best"]
    kept = found["ways"][name]
    way = _ladder.Way(name, kept["template"], kept["reading"], kept["score"], kept["draw"])
    shown = _ladder.Shown(study.splits.train, found["shots"], study.recipe.seed)
    study.forget()  # one model in memory
    return Prompted(prompts_for(study.recipe, study.task, day_of(study)), way, shown)


def seconds(study: Study) -> tuple[float, float]:
    """What a written answer of the base takes without and with examples: some validation rows, timed once a study."""
    if "prompted" not in study.timed:
        study.forget()  # one model in memory
        prompts = prompts_for(study.recipe, study.task, day_of(study))
        shown = _ladder.Shown(study.splits.train, _ladder.shots_for(study.splits.train), study.recipe.seed)
        ways = (_ladder.ZERO, _ladder.EXAMPLES)
        with study.watcher.progress("timing some prompts", len(ways), unit="way") as progress:
            study.timed["prompted"] = [_timed(prompts, shown, way, study, progress) for way in ways]
    plain, with_examples = study.timed["prompted"]
    return plain, with_examples


def _timed(prompts: Any, shown: _ladder.Shown, way: str, study: Study, progress: Progress) -> float:
    form = prompts.forms[len(prompts.forms) // 2]
    took = 0.0
    for count in PROBED:
        rows = split.spread(study.splits.validation, count)
        began = time.monotonic()
        prompts.ask(rows, form, shown.to(way, rows), reading=prompts.readings[0])
        took = (time.monotonic() - began) / len(rows)
        if took * count > PROBED_SECONDS:
            break
    progress(1)
    return took


def day_of(study: Study) -> str:
    """The day on which the run asked its base for labels: with another date in a prompt it may answer otherwise."""
    return str(study.folder.read_json("manifest.json")["created"])[:10]


def _with(rows: Sequence[Example], inputs: Sequence[Input]) -> Sequence[Example]:
    return [replace(row, input=item) for row, item in zip(rows, inputs, strict=True)] if inputs else rows


def why_not(recipe: Recipe, task: Task) -> str:
    """Why this base cannot be prompted for this task; empty where it can."""
    from finesmith.models import load as models

    if recipe.task not in ("classification", "generation"):
        return "plain documents ask nothing that a prompt could answer"
    if getattr(task, "multi_label", False):
        return "label scoring gives one label, and here several may hold"
    if recipe.model.from_scratch:
        return "the base has random weights: there is nothing to prompt"
    if not models.is_decoder(models.load_config(recipe.model)):
        return "the base is an encoder, which cannot be prompted"
    return ""


def prompts_for(recipe: Recipe, task: Task, day: str = "auto") -> Any:
    """The base, loaded as it was pretrained, under the prompts of the task; `day` is the date in prompts for labels."""
    from finesmith.models import load as models
    from finesmith.tasks._prompted_answers import AnswerPrompts
    from finesmith.tasks._prompting import LabelPrompts
    from finesmith.tasks.classification import Classification
    from finesmith.tasks.generation import Generation

    loaded = models.load(recipe.model, "causal-lm", seed=recipe.seed)
    context = models.context_length(loaded.model.config, loaded.tokenizer)
    if isinstance(task, Classification):
        return LabelPrompts(loaded, task.labels, context, day)
    assert isinstance(task, Generation)
    if task.learnt.end < 0:  # not settled on a model yet
        task, _ = task.prepare(loaded)
    else:
        task.prepare(loaded)
    return AnswerPrompts(loaded, task.for_base(), context)
