"""The n-gram model that the embedded base is compared with: against nltk, against the formula, and a distribution."""

import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "pretrain"))
from ngram import KneserNey, _estimated

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "kneser_ney.json").read_text(encoding="utf-8"))


def test_against_nltk():
    """nltk has one discount for all counts and none for unigrams."""
    discounts = [(0.0, 0.0, 0.0), (0.75,) * 3, (0.75,) * 3]
    model = KneserNey([np.array(GOLDEN["train"])], end=0, vocabulary=12, order=3, discounts=discounts)
    found = 2.0 ** model.log2(np.array(GOLDEN["test"]))
    assert found == pytest.approx(GOLDEN["probabilities"], rel=1e-9)


def by_the_book(documents, end, vocabulary, context, word):
    """Modified Kneser-Ney of order 3 with dictionaries, after Chen & Goodman 1998."""
    grams = [
        tuple(padded[at - 2 : at + 1])
        for document in documents
        for padded in [[end, end, *document, end]]
        for at in range(2, len(padded))
    ]
    counts = {3: Counter(grams)}
    for length in (2, 1):
        counts[length] = Counter(gram[1:] for gram in counts[length + 1])
    probability = 1 / vocabulary
    for length in (1, 2, 3):
        level, before = counts[length], tuple(context[len(context) - length + 1 :])
        discounts = _estimated(np.array(list(level.values())))
        behind = {gram: count for gram, count in level.items() if gram[:-1] == before}
        if behind:
            total = sum(behind.values())
            left = sum(discounts[min(count, 3) - 1] for count in behind.values())
            own = behind.get((*before, word), 0)
            kept = own - discounts[min(own, 3) - 1] if own else 0.0
            probability = (kept + left * probability) / total
    return probability


@pytest.fixture
def documents():
    random = np.random.default_rng(0)
    return [random.zipf(1.4, size).clip(1, 29) for size in (400, 3, 700, 1)]


def test_against_the_formula(documents):
    model = KneserNey(documents, end=0, vocabulary=30, order=3)
    test = np.random.default_rng(1).integers(1, 30, 50)
    padded = [0, 0, *test.tolist(), 0]
    wanted = [by_the_book(documents, 0, 30, padded[at - 2 : at], padded[at]) for at in range(2, len(padded))]
    assert 2.0 ** model.log2(test) == pytest.approx(wanted, rel=1e-9)


def test_it_is_a_distribution(documents):
    model = KneserNey(documents, end=0, vocabulary=30)
    for before in ([], [1, 2, 1, 1], [29, 28, 27]):
        total = sum(2.0 ** model.log2(np.array([*before, word]))[len(before)] for word in range(1, 30))
        end = 2.0 ** model.log2(np.array(before, int))[len(before)]
        assert total + end == pytest.approx(1.0, abs=1e-9)
