"""Whether written answers follow the house: terms of a glossary, format, wording, tone, and what is copied or invented.

Everything is counted on the test rows' answers that the run has already, tuned against base and against the best
prompt, each on the rows that both answered. Only the probability of terms asks the models again. See
docs/explanation/retention.md for how to read the numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from finesmith.baselines.base import as_text
from finesmith.data import split
from finesmith.evidence import clusters
from finesmith.measurements import _copies, _forms, _paired, _prompted, _style, _terms
from finesmith.measurements.base import Effort, Measured, Study
from finesmith.types import Estimate, Example, Message
from finesmith.watch import Watcher

ROWS = 1_000
"""Most test rows that are looked at: those that the prompt answered, and of the others evenly spread ones."""
SYSTEMS = 3
"""Tuned model, base and perhaps best prompt."""
PROMPTED = 50
"""About how many places of terms are read behind the best prompt, which may be long."""
SAMPLED = 200
"""Rows whose targets tell how long all are, to plan."""


@dataclass(frozen=True)
class Answered:
    """The test rows, and of `tuned`, `base` and perhaps `prompt` the answers by the row's place (the prompt may have
    answered only some)."""

    rows: Sequence[Example]
    prompts: Sequence[str]
    references: Sequence[str]
    sides: Mapping[str, Mapping[int, str]]
    train: Sequence[str]
    seed: int
    clusters: Sequence[int] | None = None

    def compared(self, rate: Callable[[int, str], tuple[float, float]], **more: Any) -> dict[str, Any] | None:
        """A rate of each, and `own`, that of the user's test targets; `rate` takes the row's place and an answer."""
        counted = {side: {at: rate(at, text) for at, text in texts.items()} for side, texts in self.sides.items()}
        found = self.against(counted, **more)
        own = np.sum([rate(place, text) for place, text in enumerate(self.references)], axis=0)
        return None if found is None else {**found, "own": float(own[0] / own[1]) if own[1] else None}

    def against(self, sides: Mapping[str, _paired.Table], **more: Any) -> dict[str, Any] | None:
        """The rates of each side, which were counted by the row's place."""
        return _paired.against(sides, seed=self.seed, clusters=self.clusters, **more)


@dataclass(frozen=True)
class Adherence:
    """The tuned model's answers against those of the base and of the best prompt, property by property."""

    title: str = "terms, format, wording and tone"
    priority: int = 1
    effort: Effort = "quick"
    needs: tuple[str, ...] = ("prompting",)
    uses: tuple[str, ...] = ("glossary",)

    def skips(self, study: Study) -> str:
        """Only written answers have a form."""
        if (task := study.recipe.task) != "generation":
            return "plain documents are no answers" if task == "text" else "the answers are labels, not texts"
        return "" if "base" in study.predictions else "the base's answers are not in the run"

    def cost(self, study: Study) -> float:
        """Counting, which grows with the training rows and the answers of three systems; with a glossary also some
        readings of short texts by both models and the prompt."""
        train, test = study.splits.train, study.splits.test
        count = SYSTEMS * min(ROWS, len(test))
        counting = _copies.seconds(len(train) * _letters(train), count * _letters(test), count)
        return (
            5.0 + counting + (3 * _terms.SLOTS * 0.5 * study.answer_seconds if study.options.get("glossary") else 0.0)
        )

    def __call__(self, study: Study, watcher: Watcher) -> Measured:
        """Counts, and asks for the probabilities of terms."""
        answered = _answered(study)
        metrics: dict[str, Any] = {**_form(answered), **_wording(answered), **_copying(answered)}
        tone, why = _tone(answered)
        missing = {"tone": why} if why else {}
        metrics |= tone
        tables: dict[str, Any] = {}
        if glossary := study.options.get("glossary"):
            found, tables = _terminology(study, answered, glossary, watcher)
            metrics |= found
        else:
            missing["terminology"] = "no glossary was given (--glossary FILE)"
        metrics = {name: value for name, value in metrics.items() if value is not None}
        numbers = {"metrics": metrics, "rows": len(answered.rows), **tables}
        return Measured(_says(metrics), numbers, plots=(_plot(metrics),), missing=missing)


def _answered(study: Study) -> Answered:
    """The rows that tuned model and base have answered."""
    names = [name for name in ("tuned", "base", _prompted.SYSTEM) if name in study.predictions]
    texts = {name: {each.id: each.output for each in study.predictions[name]} for name in names}
    rows = [row for row in study.splits.test if all(isinstance(texts[name].get(row.id), str) for name in names[:2])]
    rows = _looked_at(rows, {name for name, text in texts.get(_prompted.SYSTEM, {}).items() if isinstance(text, str)})
    return Answered(
        rows,
        [as_text(row.input) for row in rows],
        [_content(row) for row in rows],
        {
            name: {at: str(said[row.id]) for at, row in enumerate(rows) if isinstance(said.get(row.id), str)}
            for name, said in texts.items()
        },
        [_content(row) for row in study.splits.train],
        study.recipe.seed,
        clusters.codes([row.id for row in rows], study.clusters),
    )


def _looked_at(rows: Sequence[Example], prompted: Collection[str]) -> list[Example]:
    """Of all rows those that also the prompt answered, then evenly spread others; in their order."""
    first = split.spread([row for row in rows if row.id in prompted], ROWS)
    others = split.spread([row for row in rows if row.id not in prompted], ROWS - len(first))
    chosen = {row.id for row in (*first, *others)}
    return [row for row in rows if row.id in chosen]


def _form(answered: Answered) -> dict[str, Any]:
    """The format that dominates in training: each trait, all traits together, and the length."""
    rules = _forms.learn(answered.train)
    low, high = _forms.length_bounds(answered.train)

    def all_kept(place: int, text: str) -> tuple[float, float]:
        return float(all(rule.kept(text) != (0.0, 1.0) for rule in rules)), 1.0

    def kept(rule: _forms.Form) -> Callable[[int, str], tuple[float, float]]:
        return lambda _, text: rule.kept(text)

    each = {f"format, {rule.name}": answered.compared(kept(rule)) for rule in rules}
    whole = answered.compared(all_kept) if rules else None
    sized = answered.compared(lambda _, text: (float(low <= len(text.split()) <= high), 1.0))
    return {"format": whole, f"length, {low:.0f} to {high:.0f} words": sized, **each}


def _wording(answered: Answered) -> dict[str, Any]:
    """How near an answer is to the nearest training answer: chrF, and words to change."""
    places = [(side, at) for side, texts in answered.sides.items() for at in texts]
    values = _copies.nearest(answered.train, [answered.sides[side][at] for side, at in places])
    chrf, edits = (
        {
            side: {at: (each[which], 1.0) for (of, at), each in zip(places, values, strict=True) if of == side}
            for side in answered.sides
        }
        for which in (0, 1)
    )
    return {
        "wording, chrF to the nearest training answer": answered.against(chrf, scale=100.0),
        "wording, share of words to change": answered.against(edits, better="lower"),
    }


def _copying(answered: Answered) -> dict[str, Any]:
    """Runs of eight words from training answers, and figures that the prompt does not have."""
    texts = [text for side in answered.sides.values() for text in side.values()]
    known = _copies.runs_in(answered.train, [*answered.references, *texts])
    given = [_copies.figures(prompt) for prompt in answered.prompts]

    def copied(_: int, text: str) -> tuple[float, float]:
        found = [run in known for run in _copies.runs(text)]
        return float(sum(found)), float(len(found))

    def unsupported(place: int, text: str) -> tuple[float, float]:
        return float(bool(_copies.figures(text) - given[place])), 1.0

    return {
        f"copied runs of {_copies.NGRAM} words": answered.compared(copied, better="lower"),
        "answers with figures that the prompt lacks": answered.compared(unsupported, better="lower"),
    }


def _tone(answered: Answered) -> tuple[dict[str, Any], str]:
    """How well a classifier on style tells answers from the user's own test targets; and why it was not asked."""
    if len(answered.rows) < _style.LEAST:
        return {}, f"{len(answered.rows)} test rows are too few to learn a style from"
    found: dict[str, Any] = {}
    for side, texts in answered.sides.items():
        if side != "tuned" and len(texts) >= _style.LEAST:
            found |= _told_apart(answered, side, sorted(texts))
    return {"tone, told apart from your own texts (AUC)": {**found, "better": "lower"}}, ""


def _told_apart(answered: Answered, side: str, places: Sequence[int]) -> dict[str, Any]:
    """Tuned model and another side on the rows that both answered."""
    own = [answered.references[at] for at in places]
    sides = answered.sides["tuned"], answered.sides[side]
    told = [_style.wins([each[at] for at in places], own, seed=answered.seed) for each in sides]
    together = [answered.clusters[at] for at in places] if answered.clusters else None
    area = partial(_style.interval, seed=answered.seed, clusters=together)
    ours, theirs, gap = area(told[:1]), area(told[1:]), area(told)
    if side != "base":
        return {side: theirs.value, f"difference_{side}": gap, f"{side}_interval": theirs}
    values = {"tuned": ours.value, "base": theirs.value, "difference": gap}
    return {**values, "tuned_interval": ours, "base_interval": theirs}


def _terminology(
    study: Study, answered: Answered, entries: Sequence[Mapping[str, Any]], watcher: Watcher
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Recall of terms that are called for, answers with forbidden ones, and the probability of the preferred ones."""
    glossary = _terms.Glossary(entries)
    asked = list(zip(answered.prompts, answered.references, strict=True))
    found = {
        "term recall": answered.compared(lambda place, text: glossary.recall(*asked[place], text)),
        "answers with forbidden terms": answered.compared(lambda _, text: glossary.forbidden(text), better="lower"),
    }
    places = _terms.slots(entries, answered.references)
    if places:
        found["term probability"] = _term_probability(study, answered, places, watcher)
    tables = {
        side: glossary.table([(*asked[at], text) for at, text in texts.items()])
        for side, texts in answered.sides.items()
    }
    return found, {"terms": tables, "slots": len(places)}


def _term_probability(
    study: Study, answered: Answered, places: Sequence[_terms.Slot], watcher: Watcher
) -> dict[str, Any] | None:
    """Of each side; the base under the prompt reads it before every place."""
    where, sides = [slot.row for slot in places], {}
    with watcher.progress("the probability of terms", 3, unit="system") as progress:
        for name, load in (("tuned", study.tuned), ("base", study.base)):
            study.forget()  # one model in memory
            sides[name] = _by_row(_terms.probability(study, load(), answered.rows, places), where)
            progress(1)
        prompted = _prompted.chosen(study)
        if prompted is not None:
            some = set(sorted(set(where))[:: max(1, -(-len(places) // PROMPTED))])  # whole rows: they are paired
            few = [slot for slot in places if slot.row in some]
            shares = _terms.probability(study, prompted.predictor, prompted.as_asked(answered.rows), few)
            sides[_prompted.SYSTEM] = _by_row(shares, [slot.row for slot in few])
        progress(1)
    return answered.against(sides)


def _by_row(values: np.ndarray, rows: Sequence[int]) -> dict[int, tuple[float, float]]:
    """Sum and count of the values of each row: they are drawn together."""
    return {
        row: (float(values[np.asarray(rows) == row].sum()), float((np.asarray(rows) == row).sum()))
        for row in sorted(set(rows))
    }


def _content(row: Example) -> str:
    assert isinstance(row.target, Message)
    return row.target.text


def _letters(rows: Sequence[Example]) -> float:
    """Mean letters of a target, of some rows."""
    some = split.spread(rows, SAMPLED)
    return sum(len(_content(row)) for row in some) / max(1, len(some))


def _says(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    first = ("term recall", "answers with forbidden terms", "term probability", "format")
    names = [name for name in first if name in metrics]
    names += [name for name in metrics if name.startswith("tone")]
    return "; ".join(_paired.said(name, metrics[name]) for name in names) or "nothing could be counted"


def _plot(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What the tuned model gained, in percentage points with 95 % intervals, signed so that right is better."""
    shown = {name: each for name, each in metrics.items() if "chrF" not in name}
    return {
        "kind": "intervals",
        "title": "What the tuned model does better than the base, with 95 % intervals",
        "x": "percentage points better than the base",
        "labels": list(shown),
        "values": [_points(each["difference"], -100 if each["better"] == "lower" else 100) for each in shown.values()],
    }


def _points(gap: Estimate, times: int) -> list[float]:
    low, high = sorted((times * gap.low, times * gap.high))
    return [times * gap.value + 0.0, low, high]


PLUGIN = Adherence()
