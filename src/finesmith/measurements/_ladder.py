"""The best prompt for a base, found on validation rows: forms, readings, fixed and retrieved examples. No torch.

Examples come from the training rows alone. A look is one pass over the validation rows; readings share a look.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from finesmith.baselines._neighbours import Neighbours
from finesmith.baselines.base import as_text
from finesmith.data import split
from finesmith.types import Example, Prediction
from finesmith.watch import Watcher

ZERO, EXAMPLES, RETRIEVED = "zero-shot", "examples", "retrieved"
SHOTS = 8
"""Examples in a prompt at least; one for each label where there are up to twice as many."""
DRAWS = (3, 5)
"""Draws of fixed examples, at least and at most."""
MOST_RETRIEVED = 300
"""Test rows that are asked with retrieved examples, evenly spread: such prompts share nothing that could be cached."""

Score = Callable[[Sequence[Example], Sequence[Prediction]], float]


class Prompts(Protocol):
    """Label or answer prompts: `ask` gives the answers by reading, and the mean prompt length in tokens."""

    forms: tuple[str, ...]
    readings: tuple[str, ...]
    cut: int

    def ask(
        self,
        rows: Sequence[Example],
        form: str,
        examples: Sequence[Sequence[Example]],
        progress: Callable[[int], None],
        *,
        reading: str = "",
    ) -> tuple[dict[str, list[Prediction]], float]:
        """See `tasks/_prompting.py`."""
        ...

    def written(self, answers: Sequence[Prediction], form: str) -> float:
        """Mean tokens of answers."""
        ...

    def measure(
        self, rows: Sequence[Example], form: str, examples: Sequence[Sequence[Example]]
    ) -> list[dict[str, float]]:
        """Of each row what its target costs behind the prompt (`nats`, `tokens`, `bytes`), where that is defined."""
        ...


@dataclass(frozen=True)
class Call:
    """What one answer takes: mean tokens that are read and written, and milliseconds, measured in batches."""

    read: float
    written: float
    milliseconds: float


@dataclass(frozen=True)
class Way:
    """One way to prompt, as it was chosen: its form, how the answer is read, which draw, and its validation score."""

    name: str
    form: str
    reading: str
    score: float
    draw: int = 0


@dataclass
class Ladder:
    """What the search found. `scores[way][form]` are validation scores, `draws` those of the fixed examples' draws."""

    best: str
    ways: dict[str, Way]
    answers: dict[str, list[Prediction]]
    calls: dict[str, Call]
    scores: dict[str, dict[str, float]]
    draws: list[float]
    looks: int
    validation_rows: int
    shots: int
    texts_cut: int
    readings: dict[str, float] = field(default_factory=dict)


@dataclass
class _Search:
    prompts: Prompts
    rows: Sequence[Example]
    score: Score
    sign: float
    watcher: Watcher
    looks: int = 0

    def look(self, way: str, form: str, examples: Sequence[Sequence[Example]], draw: int = 0) -> tuple[Way, dict]:
        """The best reading of one pass over the validation rows, and every reading's score."""
        self.looks += 1
        with self.watcher.progress(f"prompting: {way}, {form}", len(self.rows)) as progress:
            found, _ = self.prompts.ask(self.rows, form, examples, progress)
        scores = {reading: self.score(self.rows, found[reading]) for reading in self.prompts.readings}
        reading = max(scores, key=lambda name: self.sign * scores[name])
        return Way(way, form, reading, scores[reading], draw), scores

    def best(self, ways: Sequence[Way]) -> Way:
        return max(ways, key=lambda way: self.sign * way.score)


def climb(
    prompts: Prompts,
    train: Sequence[Example],
    validation: Sequence[Example],
    test: Sequence[Example],
    *,
    score: Score,
    higher_is_better: bool,
    looks: int,
    seed: int,
    watcher: Watcher,
    others: int | None = None,
) -> Ladder:
    """Chooses on the validation rows, then answers the test rows each way.

    Args:
        prompts: how the base is asked.
        train: where examples come from.
        validation, test: rows to choose on (all are used) and to report on.
        score: the primary metric of answers to rows.
        looks: how often the tuned model looked at the validation rows; more looks give more draws of the examples.
        others: test rows that the ways answer that are not the best one, evenly spread; all.
    """
    search = _Search(prompts, validation, score, 1.0 if higher_is_better else -1.0, watcher)
    nothing: list[Sequence[Example]] = [()] * len(validation)
    shots = shots_for(train)
    drawn = [balanced(train, shots, seed + draw) for draw in range(DRAWS[1])]
    zero = [search.look(ZERO, form, nothing) for form in prompts.forms]
    fixed = [search.look(EXAMPLES, form, [drawn[0]] * len(validation)) for form in prompts.forms]
    form = search.best([way for way, _ in fixed]).form
    draws = [way for way, _ in fixed if way.form == form]
    for draw in range(1, draws_for(looks, len(prompts.forms))):
        draws.append(search.look(EXAMPLES, form, [drawn[draw]] * len(validation), draw)[0])
    shown = Shown(train, shots, seed)
    near = search.look(RETRIEVED, form, shown.to(RETRIEVED, validation))
    ways = {way.name: way for way in (search.best([way for way, _ in zero]), search.best(draws), near[0])}
    best = search.best(list(ways.values()))
    asked = {name: _asked(name, test, None if name == best.name else others) for name in ways}
    answers, calls = _on_test(prompts, ways, shown, asked, watcher)
    return Ladder(
        best=best.name,
        ways=ways,
        answers=answers,
        calls=calls,
        scores={
            ZERO: {way.form: way.score for way, _ in zero},
            EXAMPLES: {way.form: way.score for way, _ in fixed},
            RETRIEVED: {near[0].form: near[0].score},
        },
        draws=[way.score for way in draws],
        looks=search.looks,
        validation_rows=len(validation),
        shots=shots,
        texts_cut=prompts.cut,
        readings=_readings(best, zero, fixed, near),
    )


def summary(ladder: Ladder) -> dict[str, Any]:
    """The numbers of a ladder without the answers: of the best way each form's score, their median and worst.

    Retrieved examples are asked in one form alone; then these are those of `templates_of`, the fixed examples.
    """
    of = ladder.best if ladder.best != RETRIEVED else EXAMPLES
    forms = ladder.scores[of]
    best = ladder.ways[ladder.best]
    ordered = sorted(forms.values(), key=lambda value: abs(value - best.score))
    return {
        "best": ladder.best,
        "best_template": best.form,
        "reading": best.reading,
        "templates": forms,
        "templates_of": of,
        "median": statistics.median(forms.values()),
        "worst": ordered[-1],
        "ways": {
            name: {"template": way.form, "reading": way.reading, "score": way.score, "draw": way.draw}
            for name, way in ladder.ways.items()
        },
        "all_templates": ladder.scores,
        "readings": ladder.readings,
        "draws": ladder.draws,
        "shots": ladder.shots,
        "texts_cut": ladder.texts_cut,
        "looks": ladder.looks,
        "validation_rows": ladder.validation_rows,
        "prompt_tokens": {name: call.read for name, call in ladder.calls.items()},
        "calls": {f"prompt-{name}": call for name, call in ladder.calls.items()},
    }


def shots_for(train: Sequence[Example]) -> int:
    """One example for each label where that is little more than `SHOTS`; `SHOTS` else."""
    labels = len({row.target for row in train if isinstance(row.target, str)})
    return labels if SHOTS < labels <= 2 * SHOTS else SHOTS


def draws_for(looks: int, forms: int) -> int:
    """How many draws of the fixed examples are tried: more where the tuned model looked more often."""
    return min(DRAWS[1], max(DRAWS[0], looks - 2 * forms))


def balanced(train: Sequence[Example], count: int, seed: int) -> list[Example]:
    """So many rows in random order, every label as often as any other as far as that goes; without labels any rows."""
    choose = random.Random(seed)
    rows = choose.sample(list(train), len(train))
    turns: dict[object, int] = {}
    ordered = []
    for row in rows:
        label = row.target if isinstance(row.target, str) else None
        turns[label] = turns.get(label, -1) + 1
        ordered.append((turns[label] if label is not None else 0, row))
    chosen = [row for _, row in sorted(ordered, key=lambda pair: pair[0])[:count]]
    return choose.sample(chosen, len(chosen))


def retrieved(known: Neighbours, train: Sequence[Example], rows: Sequence[Example], count: int) -> list[list[Example]]:
    """For each row the nearest training rows, the most similar last."""
    found = known.nearest([as_text(row.input) for row in rows], count)
    return [[train[int(place)] for place in near[::-1]] for near, _ in found]


class Shown:
    """The examples in a way's prompts, always the same for the same rows: `shots` training rows each."""

    def __init__(self, train: Sequence[Example], shots: int, seed: int) -> None:
        self.train, self.shots, self.seed = train, shots, seed
        self._known: Neighbours | None = None

    def to(self, way: str, rows: Sequence[Example], draw: int = 0) -> list[Sequence[Example]]:
        """Of each row the examples; none without any, the nearest for retrieved ones, else those of a draw."""
        if way == ZERO:
            return [()] * len(rows)
        if way == EXAMPLES:
            return [balanced(self.train, self.shots, self.seed + draw)] * len(rows)
        self._known = self._known or Neighbours([as_text(row.input) for row in self.train])
        return list(retrieved(self._known, self.train, rows, self.shots))


def _asked(way: str, test: Sequence[Example], most: int | None) -> list[Example]:
    """The test rows that a way answers."""
    most = len(test) if most is None else most
    return split.spread(test, min(most, MOST_RETRIEVED) if way == RETRIEVED else most)


def _on_test(
    prompts: Prompts,
    ways: Mapping[str, Way],
    shown: Shown,
    test: Mapping[str, Sequence[Example]],
    watcher: Watcher,
) -> tuple[dict[str, list[Prediction]], dict[str, Call]]:
    """Each way's answers to its test rows with what the targets cost behind its prompts, and what an answer takes."""
    answers, calls = {}, {}
    for name, way in ways.items():
        rows = test[name]
        examples = shown.to(name, rows, way.draw)
        with watcher.progress(f"testing the prompt: {name}", len(rows)) as progress:
            began = time.monotonic()
            found, read = prompts.ask(rows, way.form, examples, progress, reading=way.reading)
            took = 1000 * (time.monotonic() - began) / len(rows)
        said = found[way.reading]
        calls[name] = Call(read, prompts.written(said, way.form), took)
        costs = prompts.measure(rows, way.form, examples)
        answers[name] = [replace(one, scores={**one.scores, **cost}) for one, cost in zip(said, costs, strict=True)]
    return answers, calls


def _readings(
    best: Way, zero: Sequence[tuple[Way, dict]], fixed: Sequence[tuple[Way, dict]], near: tuple[Way, dict]
) -> dict[str, float]:
    """Every reading's validation score in the best way and form."""
    looked = {ZERO: zero, EXAMPLES: fixed, RETRIEVED: [near]}[best.name]
    return next(scores for way, scores in looked if way.form == best.form)
