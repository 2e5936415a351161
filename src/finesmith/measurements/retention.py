"""What fine-tuning cost in knowledge: bits per byte of general text and KL to the base; an encoder's drift.

Non-inferiority with a margin (1 % of the base's bits per byte): retained where the interval's upper end stays below.
See docs/explanation/retention.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from finesmith.data import split
from finesmith.measurements import _general, _line, _speaker
from finesmith.measurements._general import Language, Read, Texts, Yardstick
from finesmith.measurements.base import Effort, Measured, Study
from finesmith.types import Conversation, Example, Message
from finesmith.watch import Watcher

TASK_ROWS = 200
YOURS = "your prompts"


@dataclass(frozen=True)
class Retention:
    """The tuned model against its base on what it was not tuned for."""

    title: str = "what it cost in knowledge"
    priority: int = 1
    effort: Effort = "quick"
    needs: tuple[str, ...] = ()
    uses: tuple[str, ...] = ("prompts", "retention_margin")

    def skips(self, study: Study) -> str:
        """Only a run that has a line to its base can be compared with it text by text."""
        return _line.refusal(study.folder, study.recipe)

    def cost(self, study: Study) -> float:
        """Two readings of the passages and of some test rows; to read an answer takes a fraction of writing it. A
        classifier's head at scale 0 is fitted once."""
        rows = min(TASK_ROWS, len(study.splits.test)) * study.reading_seconds
        reading = _general.READING[study.task.kind] * study.answer_seconds
        return 2.0 + _line.cost(study) + 2 * (reading + rows)

    def __call__(self, study: Study, watcher: Watcher) -> Measured:
        """Reads the passages, the rows of the task and the user's prompts with base and tuned model."""
        _speaker.prepare(study)
        line = _line.of(study)
        loaded, between = line.predictor.loaded, line.between
        yard = _general.yardstick(study, loaded, features=True)
        more = _further(study, line, yard)
        with watcher.progress(self.title, 2, unit="model") as progress:
            between.at(0.0)
            yard.look()
            base = {name: language.read() for name, language in more.items()}
            progress(1)
            between.at(1.0)
            seen = yard.look()
            tuned = {name: language.read() for name, language in more.items()}
            progress(1)
        margin = yard.margin(study.options)
        numbers = _language(yard, seen.read, margin) if seen.read else _encoder(yard, seen, margin)
        if seen.features is not None and yard.base is not None:
            numbers["cosine"] = _general.cosine(yard.base.features, seen.features)
            numbers["cka"] = _general.cka(yard.base.features, seen.features)
        if "task" in tuned:
            numbers["kl_task"] = _kl(tuned["task"])
            read = {"base": base["task"], "tuned": tuned["task"]}
            numbers["your_rows"] = {
                f"{name}_bits_per_byte": _general.bits_per_byte(each, more["task"].texts) for name, each in read.items()
            }
        if YOURS in tuned:
            numbers["prompts"] = _prompts(base[YOURS], tuned[YOURS], more[YOURS].texts, margin, seed=study.recipe.seed)
            numbers["retained"] = numbers["retained"] and numbers["prompts"]["retained"]
            numbers["lost"] = numbers["lost"] or numbers["prompts"]["lost"]
        numbers["ends"] = dict(line.ends)
        return Measured(_says(numbers), numbers, plots=_plots(numbers), missing=_missing(study, yard))


def _further(study: Study, line: _line.Line, yard: Yardstick) -> dict[str, Language]:
    """Readers of the task's own rows, and of the user's prompts with their answers."""
    loaded = line.predictor.loaded
    if yard.language is None:
        return {}
    rows = split.spread(study.splits.test, TASK_ROWS)
    if study.task.kind == "causal-lm":
        texts = _general.answers(study, loaded, rows, "task", line.predictor.task)
    else:
        texts = _general.documents(
            loaded.tokenizer, [str(row.input) for row in rows], ["task"] * len(rows), yard.length
        )
    logits = yard.language.logits
    found = {"task": Language(loaded, texts, logits)}
    prompts = study.options.get("prompts") or ()
    if prompts and hasattr(study.task, "prompt"):
        line.between.at(0.0)
        rows = _answered(replace(line.predictor, task=line.predictor.task.for_base()), prompts)
        texts = _general.answers(study, loaded, rows, YOURS, line.predictor.task)
        found[YOURS] = Language(loaded, texts, logits)
    return found


def _answered(base: Any, prompts: Sequence[Example]) -> list[Example]:
    """The prompts with the expected answers, or those of the base where none are given."""
    asked = [row for row in prompts if row.target is None]
    answers = iter(base.predict([row.input for row in asked])) if asked else iter(())
    rows = [
        row if row.target is not None else replace(row, target=Message("assistant", str(next(answers).output)))
        for row in prompts
    ]
    return [
        replace(row, input=Conversation((Message("user", row.input, 0.0),))) if isinstance(row.input, str) else row
        for row in rows
    ]


def _language(yard: Yardstick, tuned: Read, margin: float) -> dict[str, Any]:
    assert yard.base is not None and yard.base.read is not None
    base, texts = yard.base.read, yard.texts
    numbers = _compared(base, tuned, texts, slice(None), margin, seed=yard.seed)
    kinds = {
        kind: _compared(base, tuned, texts, np.flatnonzero(texts.kinds == kind), margin, seed=yard.seed)
        for kind in dict.fromkeys(texts.kinds.tolist())
    }
    return {**numbers, "kl_general": _kl(tuned), "kinds": kinds}


def _compared(base: Read, tuned: Read, texts: Texts, chosen: Any, margin: float, *, seed: int) -> dict[str, Any]:
    """Both models on the chosen texts."""
    change = _general.change(base, tuned, chosen, seed=seed)
    return {
        "change_bits_per_byte": change,
        "margin": margin,
        "base_bits_per_byte": _general.bits_per_byte(base, texts, chosen),
        "tuned_bits_per_byte": _general.bits_per_byte(tuned, texts, chosen),
        "kl": float(tuned.kl[chosen].sum() / tuned.tokens[chosen].sum()),
        "retained": change.high <= margin,
        "lost": change.low > margin,
    }


def _prompts(base: Read, tuned: Read, texts: Texts, margin: float, *, seed: int) -> dict[str, Any]:
    return _compared(base, tuned, texts, slice(None), margin, seed=seed)


def _encoder(yard: Yardstick, seen: _general.Seen, margin: float) -> dict[str, Any]:
    """How well the kinds of passages are read off the features before and after."""
    assert yard.base is not None and yard.base.right is not None and seen.right is not None
    before, after, loss = yard.base.right, seen.right, yard.loss(seen)
    kinds = yard.texts.kinds
    return {
        "loss_probe_accuracy": loss,
        "margin": margin,
        "base_probe_accuracy": float(before.mean()),
        "tuned_probe_accuracy": float(after.mean()),
        "kinds": {
            kind: {
                "base_probe_accuracy": float(before[kinds == kind].mean()),
                "tuned_probe_accuracy": float(after[kinds == kind].mean()),
            }
            for kind in dict.fromkeys(kinds.tolist())
        },
        "retained": loss.high <= margin,
        "lost": loss.low > margin,
    }


def _kl(read: Read) -> float:
    return float(read.kl.sum() / read.tokens.sum())


def _says(numbers: dict[str, Any]) -> str:
    if "change_bits_per_byte" in numbers:
        change = numbers["change_bits_per_byte"]
        said = (
            f"{numbers['tuned_bits_per_byte']:.3f} against {numbers['base_bits_per_byte']:.3f} bits per byte of "
            f"general text for the base ({change.value:+.1%}, 95 % interval {change.low:+.1%} to {change.high:+.1%}, "
            f"n = {change.n}; KL {numbers['kl_general']:.3f} nats a token)"
        )
    else:
        loss = numbers["loss_probe_accuracy"]
        said = (
            f"a linear probe tells the kinds of general text apart in {numbers['tuned_probe_accuracy']:.1%} of the "
            f"passages, on the base's features in {numbers['base_probe_accuracy']:.1%} (change {-loss.value:+.1%}, "
            f"95 % interval {-loss.high:+.1%} to {-loss.low:+.1%}, n = {loss.n}; linear CKA {numbers['cka']:.3f})"
        )
    yours = ", your prompts included," if "prompts" in numbers else ""
    outcome = (
        f"kept{yours} within"
        if numbers["retained"]
        else f"lost{yours} by more than"
        if numbers["lost"]
        else f"not shown to be kept{yours} within"
    )
    return f"{said}: knowledge {outcome} the margin of {100 * numbers['margin']:g} %"


def _plots(numbers: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    if "change_bits_per_byte" not in numbers:
        return ()
    changes = {name: each["change_bits_per_byte"] for name, each in numbers["kinds"].items()}
    plot = {
        "kind": "intervals",
        "title": "How much worse general text is predicted than by the base, with 95 % intervals",
        "x": f"change of bits per byte, % (margin {100 * numbers['margin']:g} %; right is worse)",
        "labels": list(changes),
        "values": [[100 * each.value, 100 * each.low, 100 * each.high] for each in changes.values()],
    }
    return (plot,)


def _missing(study: Study, yard: Yardstick) -> dict[str, str]:
    missing = {}
    if study.options.get("prompts") and not (yard.language and hasattr(study.task, "prompt")):
        missing["retention on your prompts"] = "this model gives labels and does not answer prompts"
    if yard.language is None:
        missing["bits per byte of general text"] = "an encoder does not write text; its features are compared instead"
    return missing


PLUGIN = Retention()
