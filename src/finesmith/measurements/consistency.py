"""Whether like questions get like answers: five rewordings of a prompt, and samples drawn at temperature 0.7.

A model that says the same to everything is perfectly consistent: read this beside the score (`by_wording`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Protocol

import numpy as np

from finesmith.checks.target_format import TRAITS
from finesmith.data import split
from finesmith.evidence import clusters
from finesmith.measurements import _line, _paired, _prompted
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
    """The tuned model's agreement with itself against that of the base and of the best prompt, on the same rows."""

    title: str = "like answers to like questions"
    priority: int = 2
    effort: Effort = "standard"
    needs: tuple[str, ...] = ("prompting",)

    def skips(self, study: Study) -> str:
        """A run that has no base in the form of the task has nothing to be compared with; documents have no answers."""
        if study.task.kind == "causal-lm" and not hasattr(study.task, "prompt"):
            return "plain documents ask no questions"
        return _line.refusal(study.folder, study.recipe) if study.task.kind == "sequence-classification" else ""

    def cost(self, study: Study) -> float:
        """Six wordings of 100 rows and, of texts, five samples of 50; two models and a longer prompt."""
        samples = SAMPLES * SAMPLED_ROWS if isinstance(study.task, Generation) else 0
        rows = (1 + len(WORDINGS)) * min(ROWS, len(study.splits.test))
        prompted = (
            0.0 if _prompted.why_not(study.recipe, study.task) else 2.0 + len(getattr(study.task, "labels", ())) / 10
        )
        return 5.0 + (2 + prompted) * (rows + samples) * study.answer_seconds

    def __call__(self, study: Study, watcher: Watcher) -> Measured:
        """All answer every wording; of each row the pairs of answers that agree are counted."""
        rows = split.spread(study.splits.test, ROWS)
        fewer = split.spread(rows, SAMPLED_ROWS)
        asked, drawn = {}, {}
        with watcher.progress(self.title, 3, unit="system") as progress:
            for name, open_system in (("tuned", _tuned), ("base", _base), ("prompt", _prompted.chosen)):
                study.forget()  # one model in memory
                found = _answers(open_system(study), rows, fewer, study)
                if found is not None:
                    asked[name], drawn[name] = found
                progress(1)
        written = isinstance(study.task, Generation)
        kinds = WRITTEN if written else CHOSEN
        metrics: dict[str, Any] = {
            f"{name} under rewording": _compared(asked, agree, study, rows) for name, agree in kinds.items()
        }
        if written:
            more = {f"{name} over samples": _compared(drawn, agree, study, fewer) for name, agree in kinds.items()}
            metrics |= more
        numbers: dict[str, Any] = {
            "metrics": {name: value for name, value in metrics.items() if value is not None},
            "rows": len(rows),
            "by_wording": {side: _scores(study, rows, answers) for side, answers in asked.items()},
        }
        return Measured("; ".join(_paired.said(name, each) for name, each in numbers["metrics"].items()), numbers)


class System(Protocol):
    """What answers rows, perhaps with other inputs in their place, and draws answers where they are written."""

    def answer(self, rows: Sequence[Example], inputs: Sequence[Input] = ()) -> list[Prediction]:
        """Its answers."""
        ...

    def sample(self, rows: Sequence[Example], *, temperature: float, seed: int) -> list[Prediction]:
        """Drawn answers."""
        ...


@dataclass(frozen=True)
class _Model:
    """A model as it is."""

    predictor: Predictor

    def answer(self, rows: Sequence[Example], inputs: Sequence[Input] = ()) -> list[Prediction]:
        return self.predictor.task.answer(self.predictor.loaded, list(inputs) or [row.input for row in rows])

    def sample(self, rows: Sequence[Example], *, temperature: float, seed: int) -> list[Prediction]:
        task: Any = self.predictor.task
        inputs = [row.input for row in rows]
        return task.sample(self.predictor.loaded, inputs, temperature=temperature, seed=seed)


def _tuned(study: Study) -> System:
    return _Model(study.tuned())


def _base(study: Study) -> System:
    """The base; of a classifier with a head on its frozen features, which can answer."""
    written = isinstance(study.task, Generation)
    return _Model(study.base() if written else Predictor(study.task, _line.begun(study)))


def _answers(
    system: System | None, rows: Sequence[Example], fewer: Sequence[Example], study: Study
) -> tuple[list[list[Output]], list[list[Output]]] | None:
    """In every wording, and samples; nobody holds the system afterwards. None where there is no such system."""
    return None if system is None else (_reworded(system, rows), _samples(system, fewer, study))


def _reworded(system: System, rows: Sequence[Example]) -> list[list[Output]]:
    """For each row the answers to its prompt as it is and in every wording."""
    answers = [system.answer(rows)]
    for word in WORDINGS.values():
        answers.append(system.answer(rows, [reword(row.input, word) for row in rows]))
    return [[each[place].output for each in answers] for place in range(len(rows))]


def _samples(system: System, rows: Sequence[Example], study: Study) -> list[list[Output]]:
    """For each row several sampled answers; none of a model that gives labels."""
    if not isinstance(study.task, Generation):
        return []
    draws = [system.sample(rows, temperature=TEMPERATURE, seed=study.recipe.seed + number) for number in range(SAMPLES)]
    return [[each[place].output for each in draws] for place in range(len(rows))]


def _compared(
    answers: dict[str, list[list[Output]]], agree: Callable[[Any, Any], float], study: Study, asked: Sequence[Example]
) -> Any:
    """Mean agreement of the pairs of a row's answers, in each system; rows are drawn as wholes."""
    rates = {side: {at: (agreement(row, agree), 1.0) for at, row in enumerate(rows)} for side, rows in answers.items()}
    together = clusters.codes([row.id for row in asked], study.clusters)
    return _paired.against(rates, seed=study.recipe.seed, clusters=together)


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
