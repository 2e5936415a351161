"""Are the detectors any good here? Known errors are planted in a copy of these rows, and what is found is counted."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from finesmith.checks import _confident
from finesmith.checks.base import Checked, Progress, label_of, percent
from finesmith.data import near
from finesmith.data.duplicates import normalised
from finesmith.types import Finding

FLIPPED, PERTURBED, LEAKED = 0.05, 0.02, 0.01
LEAST = 50
"""Fewer rows say nothing about a detector."""
GOOD, USEFUL = 0.75, 0.5
"""Recall, and precision among as many suspects as were planted, below which a detector is called weak."""
MOST_COPIES = 2_000


@dataclass(frozen=True)
class SelfTest:
    """5 % flipped labels, 2 % perturbed copies, 1 % of the test rows in training: recall and precision of each."""

    title: str = "self test"
    tasks: tuple[str, ...] = ("classification", "generation", "text")
    cost: Literal["slow"] = "slow"

    def skips(self, data: Checked) -> str:
        """Why nothing can be planted."""
        return f"fewer than {LEAST} rows" if len(data.rows) < LEAST else ""

    def __call__(self, data: Checked, progress: Progress) -> Iterator[Finding]:
        """One finding over all detectors."""
        found = _twins(data)
        if data.task == "classification" and not _confident.unjudged(data):
            found.insert(0, _labels(data, progress))
        weak = [
            each["what"] for each in found if each["recall"] < GOOD or each.get("precision_at_planted", 1.0) < USEFUL
        ]
        yield Finding(
            "self_test",
            "warning" if weak else "note",
            f"Of errors planted in a copy of your rows the checks find {'; '.join(line['said'] for line in found)}.",
            sum(line["planted"] for line in found),
            (),
            "A list of errors is worth what its detector finds. Planted ones are easier than real confusions: flips "
            "are uniform over the classes, copies have one or two typos or an added word.",
            f"Do not rely on the lists here: {', '.join(weak)} are missed or drowned in false alarms."
            if weak
            else "The lists can be relied on this far.",
            {line["what"]: {key: line[key] for key in line if key not in ("what", "said")} for line in found},
        )


def _labels(data: Checked, progress: Progress) -> dict[str, Any]:
    """Flips labels and judges them."""
    labels = np.array([str(label_of(row)) for row in data.rows], object)
    flipped = flip(labels, seed=data.recipe.seed)
    wrong = np.zeros(len(labels), bool)
    wrong[list(flipped)] = True
    planted = labels.copy()
    planted[list(flipped)] = list(flipped.values())
    judged = _confident.judge(data, planted.tolist(), progress, seed=data.recipe.seed)
    hit = wrong[judged.places]
    suspect = np.argsort(judged.confidence, kind="stable")[: len(flipped)]
    recall, precision = hit[judged.flagged].sum() / len(flipped), hit[suspect].mean()
    return {
        "what": "flipped labels",
        "planted": len(flipped),
        "flagged": len(judged.flagged),
        "recall": float(recall),
        "precision": float(hit[judged.flagged].mean()) if len(judged.flagged) else 0.0,
        "precision_at_planted": float(precision),
        "cheap_model_accuracy": judged.accuracy,
        "said": f"{percent(recall)} of {len(flipped):,} flipped labels ({percent(precision)} of the {len(flipped):,} "
        "most suspect rows were flipped)",
    }


def flip(labels: np.ndarray, *, seed: int, share: float = FLIPPED) -> dict[int, str]:
    """Places and their new labels, each another class drawn uniformly."""
    draw = np.random.default_rng(seed)
    names = sorted(set(labels.tolist()))
    chosen = draw.choice(len(labels), max(1, round(share * len(labels))), replace=False)
    shifts = draw.integers(1, len(names), len(chosen))
    code = {name: place for place, name in enumerate(names)}
    return {
        int(place): names[(code[labels[place]] + int(shift)) % len(names)]
        for place, shift in zip(chosen, shifts, strict=True)
    }


def _twins(data: Checked) -> list[dict[str, Any]]:
    """Perturbed copies of any rows; test rows copied into training, every other one perturbed."""
    draw = random.Random(data.recipe.seed)
    test = np.flatnonzero(data.parts == "test").tolist()
    copied = draw.sample(range(len(data.rows)), _size(PERTURBED, len(data.rows), len(data.rows)))
    leaked = draw.sample(test, _size(LEAKED, len(data.rows), len(test)))
    copies = [normalised(perturbed(data.contents[place], draw)) for place in copied]
    copies += [
        normalised(perturbed(data.contents[place], draw)) if number % 2 else data.contents[place]
        for number, place in enumerate(leaked)
    ]
    met = _found(data, copies, data.unique[[*copied, *leaked]].tolist())
    lines = [("perturbed copies", met[: len(copied)]), ("leaked test rows", met[len(copied) :])]
    return [_line(what, hits) for what, hits in lines if hits]


def _size(share: float, rows: int, most: int) -> int:
    return min(most, MOST_COPIES, max(1, round(share * rows)))


def _found(data: Checked, copies: Sequence[str], sources: Sequence[int]) -> list[bool]:
    """Whether each copy is found to be equal or near to the content it was made from."""
    distinct = [data.contents[row] for row in data.first_rows]
    pairs = near.near_pairs([*distinct, *copies], seed=0, among=len(distinct)).places
    met = set(map(tuple, pairs.tolist()))
    return [
        copy == distinct[source] or (source, len(distinct) + number) in met
        for number, (copy, source) in enumerate(zip(copies, sources, strict=True))
    ]


def perturbed(text: str, draw: random.Random) -> str:
    """A copy with one or two typos (letters swapped, dropped or doubled), or with a polite word at an end."""
    if draw.random() < 0.25:
        return draw.choice((f"please {text}", f"{text} thanks", f"hello {text}", f"{text} please"))
    for _ in range(draw.randint(1, 2) if len(text) > 40 else 1):
        if len(text) > 3:
            at = draw.randrange(1, len(text) - 1)
            kind = draw.choice(("swap", "drop", "double"))
            middle = {"swap": text[at + 1] + text[at], "drop": text[at + 1], "double": text[at] * 2 + text[at + 1]}[
                kind
            ]
            text = text[:at] + middle + text[at + 2 :]
    return text


def _line(what: str, hits: Sequence[bool]) -> dict[str, Any]:
    recall = sum(hits) / len(hits)
    said = f"{percent(recall)} of {len(hits):,} {what}"
    return {"what": what, "planted": len(hits), "found": sum(hits), "recall": recall, "said": said}


PLUGIN = SelfTest()
