"""TF-IDF features that suit any language: words and pairs of words beside character n-grams within words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

MOST_FEATURES = 500_000  # of each half, the most frequent first: bounds the memory of a linear model with many classes


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
