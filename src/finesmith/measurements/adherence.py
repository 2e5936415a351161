"""Whether written answers follow the house: terms of a glossary, format, wording, tone, and what is copied or invented.

Everything is counted on the test rows' answers that the run has already, tuned against base on the same rows. Only the
probability of terms asks the models again. See docs/explanation/retention.md for how to read the numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from finesmith import registry
from finesmith.baselines import _features
from finesmith.baselines.base import as_text
from finesmith.measurements import _forms, _paired, _style, _terms
from finesmith.measurements.base import Effort, Measured, Study
from finesmith.metrics.base import edits
from finesmith.types import Estimate, Example, Message, Prediction
from finesmith.watch import Watcher

ROWS = 1_000
"""Most test rows that are looked at."""
NGRAM = 8
"""Words in a row that stand in a training answer too: copied."""
NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
NEAR = 3
"""Training answers that are compared letter by letter; they are chosen by TF-IDF."""


@dataclass(frozen=True)
class Answered:
    """The test rows with the answers of the tuned model and of another system."""

    rows: Sequence[Example]
    prompts: Sequence[str]
    references: Sequence[str]
    tuned: Sequence[str]
    base: Sequence[str]
    train: Sequence[str]
    seed: int

    def compared(self, rate: Callable[[int, str], tuple[float, float]], **more: Any) -> dict[str, Any] | None:
        """A rate of both, and `own`, that of the user's test targets; `rate` takes the row's place and an answer."""
        ours, theirs = ([rate(place, text) for place, text in enumerate(side)] for side in (self.tuned, self.base))
        found = _paired.compared(ours, theirs, seed=self.seed, **more)
        own = np.sum([rate(place, text) for place, text in enumerate(self.references)], axis=0)
        return None if found is None else {**found, "own": float(own[0] / own[1]) if own[1] else None}


@dataclass(frozen=True)
class Adherence:
    """The tuned model's answers against the base's, property by property."""

    title: str = "terms, format, wording and tone"
    priority: int = 1
    effort: Effort = "quick"
    needs: tuple[str, ...] = ()
    uses: tuple[str, ...] = ("glossary",)

    def skips(self, study: Study) -> str:
        """Only written answers have a form."""
        if study.recipe.task != "generation":
            return "the answers are labels, not texts"
        return "" if "base" in study.predictions else "the base's answers are not in the run"

    def cost(self, study: Study) -> float:
        """Counting; with a glossary also some readings of short texts by both models."""
        return 5.0 + (2 * _terms.SLOTS * 0.5 * study.answer_seconds if study.options.get("glossary") else 0.0)

    def __call__(self, study: Study, watcher: Watcher) -> Measured:
        """Counts, and asks both models for the probabilities of terms."""
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
    """The rows that both have answered."""
    texts = {name: {each.id: each.output for each in study.predictions[name]} for name in ("tuned", "base")}
    rows = [row for row in study.splits.test if all(isinstance(texts[name].get(row.id), str) for name in texts)][:ROWS]
    return Answered(
        rows,
        [as_text(row.input) for row in rows],
        [_content(row) for row in rows],
        [str(texts["tuned"][row.id]) for row in rows],
        [str(texts["base"][row.id]) for row in rows],
        [_content(row) for row in study.splits.train],
        study.recipe.seed,
    )


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
    nearest = {side: _nearest(answered.train, texts) for side, texts in _sides(answered).items()}
    chrf = [[(score, 1.0) for score, _ in nearest[side]] for side in ("tuned", "base")]
    edits = [[(edit, 1.0) for _, edit in nearest[side]] for side in ("tuned", "base")]
    return {
        "wording, chrF to the nearest training answer": _paired.compared(*chrf, seed=answered.seed, scale=100.0),
        "wording, share of words to change": _paired.compared(*edits, seed=answered.seed, better="lower"),
    }


def _nearest(known: Sequence[str], texts: Sequence[str]) -> list[tuple[float, float]]:
    """Of each text the chrF with the nearest known one, and the word edits to it as a share of the longer one."""
    metric, vectors = registry.resolve("metrics", "chrf"), _features.features(known)
    if vectors is None:
        return [(0.0, 1.0)] * len(texts)
    told: Any = vectors.transform(known).T.tocsr()
    alike = np.round((vectors.transform(texts) @ told).toarray(), 9)
    found = []
    for text, row in zip(texts, alike, strict=True):
        some = [known[int(place)] for place in np.argsort(-row, kind="stable")[:NEAR]]
        scores = [metric.value([Message("assistant", near)], [Prediction("", text)]) for near in some]
        best = some[int(np.argmax(scores))]
        found.append((max(scores), edits(text.split(), best.split())))
    return found


def _copying(answered: Answered) -> dict[str, Any]:
    """Runs of eight words from training answers, and figures that the prompt does not have."""
    known = {gram for text in answered.train for gram in _grams(text)}

    def copied(_: int, text: str) -> tuple[float, float]:
        grams = _grams(text)
        return float(sum(gram in known for gram in grams)), float(len(grams))

    def unsupported(place: int, text: str) -> tuple[float, float]:
        given = {_figure(match) for match in NUMBER.findall(answered.prompts[place])}
        return float(any(_figure(match) not in given for match in NUMBER.findall(text))), 1.0

    return {
        f"copied runs of {NGRAM} words": answered.compared(copied, better="lower"),
        "answers with figures that the prompt lacks": answered.compared(unsupported, better="lower"),
    }


def _grams(text: str) -> list[tuple[str, ...]]:
    words = text.lower().split()
    return [tuple(words[start : start + NGRAM]) for start in range(len(words) - NGRAM + 1)]


def _figure(match: str) -> str:
    """12,500 and 12500 are the same."""
    return match.replace(",", "") if re.fullmatch(r"\d{1,3}(?:,\d{3})+", match) else match.lstrip("0") or "0"


def _tone(answered: Answered) -> tuple[dict[str, Any], str]:
    """How well a classifier on style tells answers from the user's own test targets; and why it was not asked."""
    if len(answered.rows) < _style.LEAST:
        return {}, f"{len(answered.rows)} test rows are too few to learn a style from"
    told = [_style.wins(texts, answered.references, seed=answered.seed) for texts in _sides(answered).values()]
    ours, theirs = (_style.interval([each], seed=answered.seed) for each in told)
    gap = _style.interval(told, seed=answered.seed)
    return {
        "tone, told apart from your own texts (AUC)": {
            "tuned": ours.value,
            "base": theirs.value,
            "difference": gap,
            "better": "lower",
            "tuned_interval": ours,
            "base_interval": theirs,
        }
    }, ""


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
        sides = []
        with watcher.progress("the probability of terms", 2) as progress:
            for model in (study.tuned, study.base):
                shares = _terms.probability(study, model(), answered.rows, places)
                sides.append(_by_row(shares, [slot.row for slot in places]))
                progress(1)
        found["term probability"] = _paired.compared(*sides, seed=answered.seed)
    tables = {
        side: glossary.table([(*row, text) for row, text in zip(asked, texts, strict=True)])
        for side, texts in _sides(answered).items()
    }
    return found, {"terms": tables, "slots": len(places)}


def _by_row(values: np.ndarray, rows: Sequence[int]) -> list[tuple[float, float]]:
    """Sum and count of the values of each row: they are drawn together."""
    return [
        (float(values[np.asarray(rows) == row].sum()), float((np.asarray(rows) == row).sum()))
        for row in sorted(set(rows))
    ]


def _sides(answered: Answered) -> dict[str, Sequence[str]]:
    return {"tuned": answered.tuned, "base": answered.base}


def _content(row: Example) -> str:
    assert isinstance(row.target, Message)
    return row.target.content


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
