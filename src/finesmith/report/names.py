"""Plain names on the page of the verdict, for those who do not train models: of systems, measurements, grades, numbers.

Technical names stand beside them, so that an expert finds what is meant.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from finesmith import registry
from finesmith.errors import counted
from finesmith.evidence import verdict
from finesmith.metrics.base import Metric
from finesmith.report import words
from finesmith.types import Evidence

SYSTEMS = {
    "tuned": "the tuned model",
    "base": "the base (the model before fine-tuning)",
    "frozen": "the base unchanged, with a simple classifier on what it reads",
    "zero-shot": "the base, asked without examples",
    "prompt": "the base with the best prompt",
    "prompt-zero-shot": "the base, asked without examples",
    "prompt-examples": "the base, with fixed examples in the prompt",
    "prompt-retrieved": "the base, with similar examples in the prompt",
    "scratch": "the same model trained from nothing",
    "lora": "LoRA (small added weights), retrained",
    "full": "full fine-tuning (all weights), retrained",
}
HEAD = "the base unchanged, with a simple classifier that learnt from your rows"
"""What the base is called that cannot answer without one."""
OPPONENTS = {
    "tfidf": "a small program that counts words",
    "knn": "it copies the label of the most similar rows",
    "nearest": "it copies the answer to the most similar request",
    "majority": "it always says the same",
}
"""What a cheap opponent does, beside its name."""
WAYS = {
    "zero-shot": "without examples",
    "examples": "with fixed examples in the prompt",
    "retrieved": "with similar examples in the prompt",
}
METRICS = {
    "accuracy": "Accuracy is the share of the test rows that are answered right; a point is one row in a hundred.",
    "micro_f1": "Micro-F1 weighs labels that are missing against labels that are wrong, over all rows: 0 is worst, "
    "1 is best.",
    "macro_f1": "Macro-F1 is the same for each label, and then the mean, so that rare labels count as much.",
    "chrf": "chrF says how far the letters of an answer agree with those of the approved answer: 0 is nothing, 100 "
    "is the same text. It does not say whether an answer is legally or factually right.",
    "exact_match": "Exact match is the share of the answers that agree with the approved one letter for letter.",
    "bits_per_byte": "Bits per byte say how much a text surprises the model: lower is better.",
    "held_out_loss": "The held-out loss says how much the approved answers surprise the model: lower is better.",
    "json_valid": "Valid JSON is the share of the answers that a program can read.",
}
GRADES = {
    "A": "three trainings or more agree, the 95 % interval does not include 0, and no test row was trained on",
    "B": "the 95 % interval of one training decides; that other trainings come out the same has not been shown",
    "C": "no interval decides: it is a direction at most",
}
OUTCOMES = {
    "supported": "the numbers show it for this model and these rows",
    "not supported": "the numbers speak against it",
    "inconclusive": "the numbers leave it open",
    "not measured": "nobody looked; it may be true or false",
}
KEYS = {
    "ece": "calibration error (ECE)",
    "ece_by_chance": "calibration error that perfect probabilities would show",
    "ece_corrected": "calibration error without what few rows bring",
    "classwise_ece": "calibration error, mean over the labels",
    "nll": "log loss",
    "brier": "Brier score",
    "aurc": "area under risk and coverage",
    "kl": "KL to the base, nats a token",
    "kl_general": "KL to the base on general text, nats a token",
    "kl_task": "KL to the base on the task's rows, nats a token",
    "cka": "likeness of the features to the base's (linear CKA)",
    "p_holm": "p-value after Holm's correction",
    "x1": "at the labels there are",
    "x2": "with twice the labels",
    "x4": "with four times the labels",
    "gain_2x": "gain from twice the labels",
    "delta": "margin",
    "detectable": "difference that these test rows show four times out of five",
    "low90": "90 % interval from",
    "high90": "90 % interval to",
    "mcnemar": "McNemar's p-value",
    "f1": "F1",
    "id": "row",
    "sd": "standard deviation",
}
"""What the names of numbers mean that do not explain themselves."""


def key(name: str) -> str:
    """`ece` is `calibration error (ECE)`; other names lose their underscores."""
    return KEYS.get(name, str(name).replace("_", " "))


def system(name: str, evidence: Evidence | None = None) -> str:
    """What a system is called in a table; the base of this evidence may have a head that learnt from the rows."""
    if name == "base" and evidence is not None and verdict.base_is_head(evidence):
        return HEAD
    if name in SYSTEMS:
        return SYSTEMS[name]
    title = words.system_title(name)
    return f"{title} ({OPPONENTS[name]})" if name in OPPONENTS else title.replace("_", " ")


def measurement(name: str) -> str:
    """What a measurement is called: its title, which its plug-in knows."""
    known = registry.available("measurements")
    return registry.resolve("measurements", name).title if name in known else key(name)


def advice(sentence: str) -> str:
    """A decision that says what its opponent does."""
    for name, does in OPPONENTS.items():
        title = words.system_title(name)
        sentence = sentence.replace(title, f"{title} ({does})", 1)
    sentence = sentence.replace("of the cheaper ways", "of the cheaper ways that were tried")
    sentence = re.sub(r"([Ll]abel (?:about|at least) [\d,]+) more first", r"\1 more rows first", sentence)
    return plainly(sentence)


def plainly(sentence: str) -> str:
    """A sentence whose internal names (of prompts and measurements) are told in words."""
    for way, told in WAYS.items():
        sentence = sentence.replace(f"best prompt ({way})", f"best prompt ({told})")
    for name in registry.available("measurements"):
        if sentence.startswith(f"{name}: "):
            sentence = f"{measurement(name)}: {sentence.removeprefix(f'{name}: ')}"
    return reason(sentence)


def reason(why: str) -> str:
    """Why something was not measured, as a whole thought."""
    return re.sub(r"(?:it is )?part of --effort (\w+)", r"it is only made with --effort \1 or more", why).replace(
        "--effort full or more", "--effort full"
    )


def phrase(metric: Metric, value: float, *, answered: int | None = None) -> str:
    """A score for people who do not know the metric: `right in 74 % of the test rows`, or `chrF 26.5`. `answered` is
    how many test rows the system answered, where others answered more."""
    rows = "the test rows" if answered is None else f"the {counted(answered, 'test row')} that it answered"
    if metric.title == "accuracy":
        return f"right in {100 * value:.{_digits(100 * value)}f} % of {rows}"
    shown = f"{value:.{metric.digits}f}"
    told = f"{shown} {metric.unit}" if metric.unit == metric.title else f"{metric.title} {shown}"
    return told if answered is None else f"{told} on {rows}"


def _digits(percent: float) -> int:
    """One decimal where none would say all or nothing of what is neither."""
    return int(round(percent) in (0, 100) and percent not in (0, 100))


def apart(metric: Metric, value: float) -> str:
    """A gain in words: `12 points better` (shares, in hundredths), or `16.0 chrF worse`."""
    if not math.isfinite(value):
        return f"without limit {'better' if value > 0 else 'worse'}"
    times, unit, digits = (100, "points", 0) if metric.kind == "share" else (1, metric.title, metric.digits)
    digits = 1 if unit == "points" and 0 < round(times * abs(value), 1) < 1 else digits
    size = round(times * abs(value), digits)
    shown = f"{size:.{digits}f} {'point' if unit == 'points' and size == 1 else unit}"
    return f"{shown} {'better' if value > 0 else 'worse'}" if size else shown


def explained(names: Mapping[str, object] | list[str]) -> list[str]:
    """What each of some metrics means."""
    return [METRICS[name] for name in names if name in METRICS]
