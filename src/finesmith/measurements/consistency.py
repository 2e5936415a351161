"""Whether like questions get like answers: five rewordings of a prompt, and samples drawn at temperature 0.7.

A model that says the same to everything is perfectly consistent: read this beside the score (`by_wording`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from finesmith.checks.target_format import TRAITS
from finesmith.data import split
from finesmith.measurements import _line, _paired
from finesmith.measurements.base import Effort, Measured, Study
from finesmith.metrics.base import edits
from finesmith.predictor import Predictor
from finesmith.tasks.generation import Generation
from finesmith.types import Conversation, Example, Input, Prediction
from finesmith.watch import Watcher

ROWS, SAMPLED_ROWS, SAMPLES = 100, 50, 5
TEMPERATURE = 0.7
EVERY = 6
"""One word in so many gets a slip of the keyboard, one at least."""

Output = str | tuple[str, ...] | None


@dataclass(frozen=True)
class Consistency:
    """The tuned model's agreement with itself against the base's, on the same rows."""

    title: str = "like answers to like questions"
    priority: int = 2
    effort: Effort = "standard"
    needs: tuple[str, ...] = ()

    def skips(self, study: Study) -> str:
        """A run that has no base in the form of the task has nothing to be compared with."""
        return _line.refusal(study.folder, study.recipe) if study.task.kind == "sequence-classification" else ""

    def cost(self, study: Study) -> float:
        """Six wordings of 100 rows and, of texts, five samples of 50 rows; each for two models."""
        samples = SAMPLES * SAMPLED_ROWS if isinstance(study.task, Generation) else 0
        rows = (1 + len(WORDINGS)) * min(ROWS, len(study.splits.test))
        return 5.0 + 2 * (rows + samples) * study.answer_seconds

    def __call__(self, study: Study, watcher: Watcher) -> Measured:
        """Both models answer every wording; of each row the pairs of answers that agree are counted."""
        rows = split.spread(study.splits.test, ROWS)
        asked, drawn = {}, {}
        with watcher.progress(self.title, 2) as progress:
            for name, open_model in (("tuned", study.tuned), ("base", lambda: _base(study))):
                model = open_model()
                asked[name] = _reworded(model, rows)
                drawn[name] = _samples(model, split.spread(rows, SAMPLED_ROWS), study.recipe.seed)
                progress(1)
        written = isinstance(study.task, Generation)
        kinds = WRITTEN if written else CHOSEN
        metrics: dict[str, Any] = {
            f"{name} under rewording": _compared(asked, agree, study.recipe.seed) for name, agree in kinds.items()
        }
        if written:
            more = {f"{name} over samples": _compared(drawn, agree, study.recipe.seed) for name, agree in kinds.items()}
            metrics |= more
        numbers: dict[str, Any] = {
            "metrics": {name: value for name, value in metrics.items() if value is not None},
            "rows": len(rows),
            "by_wording": {side: _scores(study, rows, answers) for side, answers in asked.items()},
        }
        return Measured("; ".join(_paired.said(name, each) for name, each in numbers["metrics"].items()), numbers)


def _base(study: Study) -> Predictor:
    """The base; of a classifier with a head on its frozen features, which can answer."""
    return study.base() if isinstance(study.task, Generation) else Predictor(study.task, _line.begun(study))


def _reworded(model: Predictor, rows: Sequence[Example]) -> list[list[Output]]:
    """For each row the answers to its prompt as it is and in every wording."""
    answers = [model.task.answer(model.loaded, [row.input for row in rows])]
    for word in WORDINGS.values():
        answers.append(model.task.answer(model.loaded, [reword(row.input, word) for row in rows]))
    return [[each[place].output for each in answers] for place in range(len(rows))]


def _samples(model: Predictor, rows: Sequence[Example], seed: int) -> list[list[Output]]:
    """For each row several sampled answers; none of a model that gives labels."""
    if not isinstance(model.task, Generation):
        return []
    inputs = [row.input for row in rows]
    draws = [
        model.task.sample(model.loaded, inputs, temperature=TEMPERATURE, seed=seed + number)
        for number in range(SAMPLES)
    ]
    return [[each[place].output for each in draws] for place in range(len(rows))]


def _compared(answers: dict[str, list[list[Output]]], agree: Callable[[Any, Any], float], seed: int) -> Any:
    """Mean agreement of the pairs of a row's answers, in both systems; rows are drawn as wholes."""
    rates = {side: [(agreement(row, agree), 1.0) for row in rows] for side, rows in answers.items()}
    return _paired.compared(rates["tuned"], rates["base"], seed=seed)


def agreement(answers: Sequence[Output], agree: Callable[[Any, Any], float]) -> float:
    """The mean over all pairs."""
    return float(np.mean([agree(one, other) for one, other in combinations(answers, 2)]))


def _scores(study: Study, rows: Sequence[Example], answers: Sequence[Sequence[Output]]) -> dict[str, float]:
    """The first metric that takes outputs alone, for every wording."""
    found = {}
    for place, name in enumerate(("as it is", *WORDINGS)):
        given = [Prediction(row.id, each[place]) for row, each in zip(rows, answers, strict=True)]
        found[name] = study.score(rows, given)
    return found


def reword(given: Input, word: Callable[[str], str]) -> Input:
    """The same request in other words: of a conversation the last message from the user."""
    if isinstance(given, str):
        return word(given)
    turns = list(given.messages)
    last = max((place for place, turn in enumerate(turns) if turn.role == "user"), default=None)
    if last is None:
        return given
    turns[last] = replace(turns[last], content=word(turns[last].content))
    return Conversation(tuple(turns), given.tools)


def _swapped(word: str, at: int) -> str:
    return word[: at - 1] + word[at] + word[at - 1] + word[at + 1 :]


def _missing(word: str, at: int) -> str:
    return word[:at] + word[at + 1 :]


def slips(text: str, slip: Callable[[str, int], str]) -> str:
    """The text with a slip in one of `EVERY` words with four letters or more; always the same ones."""
    words = re.split(r"(\s+)", text)
    long = [place for place, word in enumerate(words) if len(word) >= 4 and word.isalpha()]
    for place in long[:: min(EVERY, max(1, len(long)))]:
        words[place] = slip(words[place], len(words[place]) // 2)
    return "".join(words)


WORDINGS: dict[str, Callable[[str], str]] = {
    "with a word before it": lambda text: f"Request: {text}",
    "with thanks behind it": lambda text: f"{text.rstrip()}\n\nThank you.",
    "in small letters": lambda text: text.lower(),
    "with swapped letters": lambda text: slips(text, _swapped),
    "with missing letters": lambda text: slips(text, _missing).rstrip(".!?"),
}


def _alike(one: str, other: str) -> float:
    return 1 - edits(one.split(), other.split())


def _same_form(one: str, other: str) -> float:
    return float(all(form(one) == form(other) for form in TRAITS.values()))


def _same_figures(one: str, other: str) -> float:
    return float(set(re.findall(r"\d+", one)) == set(re.findall(r"\d+", other)))


def _same(one: Any, other: Any) -> float:
    return float(one == other)


CHOSEN: dict[str, Callable[[Any, Any], float]] = {"same labels": _same}
WRITTEN: dict[str, Callable[[Any, Any], float]] = {
    "same answers": _same,
    "likeness of answers": _alike,
    "same form": _same_form,
    "same figures": _same_figures,
}
"""What of two answers is compared; the likeness is the share of words that stay."""

PLUGIN = Consistency()
