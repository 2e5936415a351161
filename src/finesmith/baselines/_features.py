"""TF-IDF features that suit any language: words and pairs of words beside character n-grams within words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

MOST_FEATURES = 500_000  # of each half, the most frequent first: bounds the memory of a linear model with many classes

MOST_CHARACTERS = 20_000_000
"""Most characters that are learnt from: 1.6 GB and two minutes. Of 200,000 chats the n-grams would take 28 GB."""


def part(texts: Sequence[str]) -> list[int]:
    """The places of the texts that are learnt from: all, or so many, evenly spread, as `MOST_CHARACTERS` allows."""
    total = sum(map(len, texts))
    if total <= MOST_CHARACTERS:
        return list(range(len(texts)))
    count = max(1, len(texts) * MOST_CHARACTERS // total)
    return [place * len(texts) // count for place in range(count)]


def left_out(texts: Sequence[str]) -> str:
    """What is not learnt from, as a reason in words; "" where everything is."""
    count = len(part(texts))
    if count == len(texts):
        return ""
    return (
        f"baselines and retrieved examples know {count:,} of {len(texts):,} training rows, evenly spread: "
        f"{MOST_CHARACTERS:,} characters, which fit into the memory"
    )


def features(texts: Sequence[str], *, characters: bool = True) -> Any | None:
    """Fitted TF-IDF of words (1-2) and characters (2-5, `char_wb`), sublinear; None where no text has a character.

    The halves are weighted alike and each is of length 1. Where no text has a word of two letters, only characters.
    Without `characters`, words alone wherever there are any.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import FeatureUnion

    halves = [
        (name, TfidfVectorizer(analyzer=name, ngram_range=ngrams, sublinear_tf=True, max_features=MOST_FEATURES))
        for name, ngrams in (("word", (1, 2)), ("char_wb", (2, 5)))
    ]
    usable = [(name, half) for name, half in halves if any(map(half.build_analyzer(), texts))]
    return FeatureUnion(usable if characters else usable[:1]).fit(texts) if usable else None
