"""The base prompted instead of trained: zero-shot, with fixed examples, with the nearest training rows as examples.

The prompt's form and how its answer is read are chosen on validation rows, as training chose its checkpoint there.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finesmith.data import split
from finesmith.evidence import verdict
from finesmith.measurements import _ladder, _prompted
from finesmith.measurements.base import Effort, Measured, Study
from finesmith.metrics.base import Metric
from finesmith.recipe import Recipe
from finesmith.tasks import _prompted_answers, _prompting
from finesmith.tasks.base import Task
from finesmith.types import Prediction, Splits
from finesmith.watch import Watcher

if TYPE_CHECKING:
    from finesmith.predictor import Predictor

MOST_VALIDATION = {"classification": 100, "generation": 24}
"""Validation rows that a prompt is chosen on, evenly spread."""
TIMED = 32
"""Test rows that the tuned model (and the base) answers once more, to time it beside the prompts."""
LOOKS = 14  # passes over those rows with the least number of draws
SHARE = 0.6
"""Of the budget that it may take: other claims want to be measured too."""


@dataclass(frozen=True)
class Size:
    """How many validation rows a prompt is chosen on, and how many test rows the ways answer that are not chosen."""

    chosen_on: int
    others: int


@dataclass(frozen=True)
class Prompting:
    """Opponents called `prompt` (the best on validation rows), `prompt-zero-shot`, `-examples`, `-retrieved`."""

    title: str = "the base prompted, with and without examples"
    priority: int = 1
    effort: Effort = "quick"
    needs: tuple[str, ...] = ()

    def skips(self, study: Study) -> str:
        """An encoder cannot be prompted, nor is there an answer to plain documents or to sets of labels."""
        return _prompted.why_not(study.recipe, study.task)

    def cost(self, study: Study) -> float:
        """Looks at some validation rows, and the test rows thrice."""
        return _seconds(study, _size(study))

    def __call__(self, study: Study, watcher: Watcher) -> Measured:
        """Chooses a prompt on the validation rows and answers the test rows with it."""
        looks = sum("validation" in row for row in study.folder.read_lines("steps.jsonl"))
        known = study.recipe, study.task, study.splits, study.primary
        size, whole = _size(study), _whole(study)
        study.forget()  # one model in memory
        found = search(*known, looks=looks, watcher=watcher, day=_prompted.day_of(study), size=size)
        told, calls = _ladder.summary(found), own_calls(study)
        best = found.answers[found.best]
        gain = study.gain(best)
        score = verdict.number(study.primary, _score(study, best))
        asked, ours = found.calls[found.best], calls["tuned"]
        return Measured(
            says=f"best prompt ({found.best}): {study.primary.title} {score}; {_of_templates(told, study.primary)}; "
            f"the tuned model gains {verdict.signed(study.primary, gain.value)}; "
            f"{_said(asked)} an answer against {_said(ours)}",
            numbers={
                **told,
                "gain": gain,
                "gains": {name: study.gain(answers) for name, answers in found.answers.items()},
                "looks_of_tuned": looks,
                "tuned_prompt_tokens": calls["tuned"].read,
                "calls": {**calls, **told["calls"]},
            },
            missing=_missing(size, whole, study),
            systems={"prompt": best, **{f"prompt-{name}": answers for name, answers in found.answers.items()}},
            plots=_plots({**calls, **told["calls"]}),
        )


def search(
    recipe: Recipe,
    task: Task,
    splits: Splits,
    metric: Metric,
    *,
    looks: int,
    watcher: Watcher,
    day: str = "auto",
    size: Size | None = None,
) -> _ladder.Ladder:
    """The best prompt on the validation rows, and every way's answers to the test rows."""
    return _ladder.climb(
        _prompted.prompts_for(recipe, task, day),
        splits.train,
        split.spread(splits.validation, size.chosen_on if size else MOST_VALIDATION[recipe.task]),
        splits.test,
        score=lambda rows, answers: metric.value([row.target for row in rows], answers),
        higher_is_better=metric.higher_is_better,
        looks=looks,
        seed=recipe.seed,
        watcher=watcher,
        others=size.others if size else None,
    )


def _whole(study: Study) -> Size:
    """As much as there is use for."""
    return Size(min(len(study.splits.validation), MOST_VALIDATION.get(study.recipe.task, 0)), len(study.splits.test))


def _size(study: Study) -> Size:
    """The whole, where that fits; else a half or a third of it, so that a prompt is measured within few minutes too."""
    whole = _whole(study)
    if math.isinf(study.budget):
        return whole
    parts = [whole, *(Size(-(-whole.chosen_on // part), -(-whole.others // part)) for part in (2, 3))]
    return next((size for size in parts if _seconds(study, size) <= SHARE * study.budget), parts[-1])


def _missing(size: Size, whole: Size, study: Study) -> dict[str, str]:
    """What a short budget has left out."""
    if size == whole:
        return {}
    again = f"finesmith compare {study.folder.path} --only prompting --again takes all"
    return {
        f"prompts chosen on {whole.chosen_on} validation rows": f"{size.chosen_on} of them fit the time; the prompts "
        f"that were not chosen answered {size.others} of {whole.others} test rows. {again}"
    }


def _seconds(study: Study, size: Size) -> float:
    """Of written answers from the time of some, with and without examples; of labels from the tuned model's answers.

    Every label costs a little more, and a prompt is several times as long as the tuned model's.
    """
    test, forms = len(study.splits.test), len(_prompted_answers.FORMS)
    near = min(test, _ladder.MOST_RETRIEVED)
    readings = 2 if getattr(getattr(study.task, "learnt", None), "as_json", False) else 1
    if study.recipe.task != "generation":
        labels = len(getattr(study.task, "labels", ()))
        looks = LOOKS + 2 * (labels > _prompting.MOST_NAMED)  # codes are one more template
        rows = looks * size.chosen_on + test + size.others + 3 * min(near, size.others)
        return rows * readings * study.answer_seconds * (2.0 + labels / 10 if labels else 1.5)
    plain, shown = _prompted.seconds(study)
    draws = _ladder.draws_for(sum("validation" in row for row in study.folder.read_lines("steps.jsonl")), forms)
    chosen = size.chosen_on * readings * (forms * plain + (forms + draws) * shown)
    answers = test * shown + size.others * plain + min(near, size.others) * shown
    read = 3 * test * study.reading_seconds * shown / plain  # what the targets cost behind the prompts
    return chosen + answers + read + min(test, TIMED) * (study.answer_seconds + plain)


def own_calls(study: Study) -> dict[str, _ladder.Call]:
    """What an answer of the tuned model takes, and where answers are written also one of the base as it is.

    Milliseconds and written tokens (thoughts included; none of a classifier) are those of some test rows answered in
    batches, after two that only warm up.
    """
    models = {"tuned": study.tuned, **({"base": study.base} if study.recipe.task == "generation" else {})}
    found = {}
    for name, load in models.items():
        study.forget()  # one model in memory
        found[name] = _call(load(), study)
    return found


def _call(model: Predictor, study: Study) -> _ladder.Call:
    asked = [row.input for row in split.spread(study.splits.test, TIMED)]
    model.task.answer(model.loaded, asked[:2])
    began = time.monotonic()
    answers = model.task.answer(model.loaded, asked)
    took = 1000 * (time.monotonic() - began) / len(asked)
    written = sum(answer.tokens for answer in answers) / len(answers)
    return _ladder.Call(_read(model, study), written, took)


def _read(model: Predictor, study: Study) -> float:
    """Mean tokens that a model reads for a test row."""
    task: Any = model.task
    tokenizer = model.loaded.tokenizer
    rows = split.spread(study.splits.test, _ladder.MOST_RETRIEVED)
    if study.recipe.task == "generation":
        return sum(len(task.prompt(tokenizer, row.input)) for row in rows) / len(rows)
    return sum(len(tokenizer(str(row.input), verbose=False)["input_ids"]) for row in rows) / len(rows)


def _said(call: _ladder.Call) -> str:
    return f"{call.read + call.written:.0f} tokens and {call.milliseconds:.3g} ms"


def _of_templates(told: Mapping[str, Any], metric: Metric) -> str:
    """The best form is chosen, so what a form taken at random gives, and the worst, belong beside it."""
    median, worst = (verdict.number(metric, told[name]) for name in ("median", "worst"))
    whose = "its" if told["templates_of"] == told["best"] else f"the {told['templates_of']} prompt's"
    return f"{whose} {len(told['templates'])} templates on the validation rows: median {median}, worst {worst}"


def _plots(calls: Mapping[str, _ladder.Call]) -> tuple[dict[str, Any], ...]:
    names = list(calls)
    tokens = [calls[name].read + calls[name].written for name in names]
    times = [calls[name].milliseconds for name in names]
    return (
        {"kind": "bars", "title": "Tokens of a call", "x": "read and written", "labels": names, "values": tokens},
        {"kind": "bars", "title": "Time of an answer", "x": "milliseconds", "labels": names, "values": times},
    )


def _score(study: Study, answers: Sequence[Prediction]) -> float:
    by_id = {row.id: row for row in study.splits.test}
    return study.score([by_id[answer.id] for answer in answers], answers)


PLUGIN = Prompting()
