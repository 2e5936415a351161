"""Tone as a two-sample test: can a classifier on style tell a system's answers from the user's own? 0.5: it cannot.

Function words, punctuation, letters, sentence lengths: little of what is said and much of how (Lopez-Paz and Oquab
2017, arXiv 1610.06545, for the test). An answer and the user's own to the same prompt are held out together.
"""

from __future__ import annotations

import re
import string
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from finesmith.evidence import levels
from finesmith.evidence.stats import over_rows
from finesmith.types import Estimate

FUNCTION_WORDS = (
    "a about after all also an and any are as at be because been before both but by can could do does each for from "
    "had has have he her his how however i if in into is it its may me might more most must my no not of on or other "
    "our out over own please she shall should since so some such than thank that the their them then there these they "
    "this those through to under up us was we were what when where which while who will with would you your"
)
MARKS = ".,;:!?()[]-–—'\"“”’/%&*#\n"
FOLDS = 2
WIDER = 2**0.5
"""The bootstrap does not fit the classifier again. With equal writers the area varies by about so much more than that
says (100 rows, shipped passages; with five folds by 1.7)."""
LEAST = 20
"""Rows below which a classifier learns nothing that could be tested."""


def features(texts: Sequence[str]) -> np.ndarray:
    """[N, F]: shares of function words among the words, of marks and letters among the characters, and lengths."""
    return np.array([_features(text) for text in texts])


def _features(text: str) -> list[float]:
    words = re.findall(r"\w+(?:['’]\w+)*", text.lower())
    sentences = [len(part.split()) for part in re.split(r"[.!?]+\s|\n", text) if part.strip()] or [0]
    letters, size, count = text.lower(), max(1, len(text)), max(1, len(words))
    bag = dict.fromkeys(FUNCTION_WORDS.split(), 0)
    for word in words:
        if word in bag:
            bag[word] += 1
    return [
        *(value / count for value in bag.values()),
        *(text.count(mark) / size for mark in MARKS),
        *(letters.count(letter) / size for letter in string.ascii_lowercase),
        sum(letter.isupper() for letter in text) / size,
        sum(letter.isdigit() for letter in text) / size,
        sum("'" in word or "’" in word for word in words) / count,
        sum(map(len, words)) / count,
        float(np.mean(sentences)),
        float(np.std(sentences)) / max(1.0, float(np.mean(sentences))),
    ]


def wins(answers: Sequence[str], own: Sequence[str], *, seed: int) -> np.ndarray:
    """[N, N]: 1 where answer i looks less like the user's own than own text j does, 1/2 for equal ones."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    count = len(answers)
    codes, rows = np.repeat([1, 0], count), np.tile(np.arange(count), 2)
    model: Any = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
    folds = GroupKFold(FOLDS, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scores = cross_val_predict(
            model, features([*answers, *own]), codes, groups=rows, cv=folds, method="decision_function"
        )
    gap = np.round(scores[:count, None] - scores[None, count:], 9)
    return (gap > 0) + 0.5 * (gap == 0)


def area(wins_of: Sequence[np.ndarray], weights: np.ndarray) -> list[np.ndarray]:
    """The area under the curve of each [N, N] under weights [D, N] of the rows: [D] each."""
    total = weights.sum(axis=1) ** 2
    return [np.einsum("di,di->d", weights @ each, weights) / total for each in wins_of]


def interval(wins_of: Sequence[np.ndarray], *, seed: int, clusters: Sequence[int] | None = None) -> Estimate:
    """The area of one, or of the first minus the second, over resampled rows, or whole `clusters` [N] of them."""

    def score(weights: np.ndarray) -> np.ndarray:
        areas = area(wins_of, weights)
        return areas[0] if len(areas) == 1 else areas[0] - areas[1]

    each = np.eye(len(wins_of[0]))
    drawn = each if clusters is None else levels.sums(each, clusters)
    least = 0.0 if len(wins_of) == 1 else -1.0
    found = over_rows(score, drawn, seed=seed, limits=(least, 1.0))
    low, high = (found.value + WIDER * (end - found.value) for end in (found.low, found.high))
    groups = None if clusters is None else len(drawn)
    return Estimate(found.value, max(least, low), min(1.0, high), len(each), groups)
