"""The base prompted instead of trained: zero-shot, with fixed examples, with the nearest training rows as examples.

The prompt's form and how its answer is read are chosen on validation rows, as training chose its checkpoint there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from finesmith.data import split
from finesmith.evidence import verdict
from finesmith.measurements import _ladder
from finesmith.measurements.base import Effort, Measured, Study
from finesmith.metrics.base import Metric
from finesmith.recipe import Recipe
from finesmith.tasks.base import Task
from finesmith.types import Prediction, Splits
from finesmith.watch import Watcher

MOST_VALIDATION = {"classification": 100, "generation": 24}
"""Validation rows that a prompt is chosen on, evenly spread."""
LOOKS = 14  # passes over those rows with the least number of draws


@dataclass(frozen=True)
class Prompting:
    """Opponents called `prompt` (the best on validation rows), `prompt-zero-shot`, `-examples`, `-retrieved`."""

    title: str = "the base prompted, with and without examples"
    priority: int = 1
    effort: Effort = "quick"
    needs: tuple[str, ...] = ()

    def skips(self, study: Study) -> str:
        """An encoder cannot be prompted, nor is there an answer to plain documents or to sets of labels."""
        return why_not(study.recipe, study.task)

    def cost(self, study: Study) -> float:
        """Passes over some validation rows and three over the test rows; every label costs a little more."""
        test, kind = len(study.splits.test), study.recipe.task
        held_out = min(len(study.splits.validation), MOST_VALIDATION.get(kind, 0))
        rows = LOOKS * held_out + 2 * test + 3 * min(test, _ladder.MOST_RETRIEVED)
        labels = len(getattr(study.task, "labels", ()))
        readings = 2 if getattr(getattr(study.task, "learnt", None), "as_json", False) else 1
        return rows * readings * study.answer_seconds * (2.0 + labels / 10 if labels else 1.5)

    def __call__(self, study: Study, watcher: Watcher) -> Measured:
        """Chooses a prompt on the validation rows and answers the test rows with it."""
        looks = sum("validation" in row for row in study.folder.read_lines("steps.jsonl"))
        found = search(study.recipe, study.task, study.splits, study.primary, looks=looks, watcher=watcher)
        best = found.answers[found.best]
        gain = study.gain(best)
        score = verdict.number(study.primary, _score(study, best))
        return Measured(
            says=f"best prompt ({found.best}): {study.primary.title} {score}; the tuned model gains "
            f"{verdict.signed(study.primary, gain.value)}",
            numbers={
                **_ladder.summary(found),
                "gain": gain,
                "gains": {name: study.gain(answers) for name, answers in found.answers.items()},
                "looks_of_tuned": looks,
                "tuned_prompt_tokens": tuned_tokens(study),
            },
            systems={"prompt": best, **{f"prompt-{name}": answers for name, answers in found.answers.items()}},
        )


def search(
    recipe: Recipe, task: Task, splits: Splits, metric: Metric, *, looks: int, watcher: Watcher
) -> _ladder.Ladder:
    """The best prompt on the validation rows, and every way's answers to the test rows."""
    return _ladder.climb(
        prompts_for(recipe, task),
        splits.train,
        split.spread(splits.validation, MOST_VALIDATION[recipe.task]),
        splits.test,
        score=lambda rows, answers: metric.value([row.target for row in rows], answers),
        higher_is_better=metric.higher_is_better,
        looks=looks,
        seed=recipe.seed,
        watcher=watcher,
    )


def why_not(recipe: Recipe, task: Task) -> str:
    """Why this base cannot be prompted for this task; empty where it can."""
    from finesmith.models import load as models

    if recipe.task not in MOST_VALIDATION:
        return "plain documents ask nothing that a prompt could answer"
    if getattr(task, "multi_label", False):
        return "label scoring gives one label, and here several may hold"
    if recipe.model.from_scratch:
        return "the base has random weights: there is nothing to prompt"
    if not models.is_decoder(models.load_config(recipe.model)):
        return "the base is an encoder, which cannot be prompted"
    return ""


def prompts_for(recipe: Recipe, task: Task) -> Any:
    """The base, loaded as it was pretrained, under the prompts of the task."""
    from finesmith.models import load as models
    from finesmith.tasks._prompted_answers import AnswerPrompts
    from finesmith.tasks._prompting import LabelPrompts
    from finesmith.tasks.classification import Classification
    from finesmith.tasks.generation import Generation

    loaded = models.load(recipe.model, "causal-lm", seed=recipe.seed)
    context = models.context_length(loaded.model.config, loaded.tokenizer)
    if isinstance(task, Classification):
        return LabelPrompts(loaded, task.labels, context)
    assert isinstance(task, Generation)
    if task.learnt.end < 0:  # not settled on a model yet
        task, _ = task.prepare(loaded)
    else:
        task.prepare(loaded)
    return AnswerPrompts(loaded, task, context)


def tuned_tokens(study: Study) -> float:
    """Mean tokens that the tuned model reads for a test row."""
    from finesmith.models import load as models

    tokenizer = models.load_tokenizer(study.recipe.model)
    rows = split.spread(study.splits.test, _ladder.MOST_RETRIEVED)
    if study.recipe.task == "generation":
        task: Any = study.task
        tokenizer = study.tuned().loaded.tokenizer
        return sum(len(task.prompt(tokenizer, row.input)) for row in rows) / len(rows)
    return sum(len(tokenizer(str(row.input), verbose=False)["input_ids"]) for row in rows) / len(rows)


def _score(study: Study, answers: Sequence[Prediction]) -> float:
    by_id = {row.id: row for row in study.splits.test}
    return study.score([by_id[answer.id] for answer in answers], answers)


PLUGIN = Prompting()
