"""Likely label errors by confident learning: out-of-fold probabilities of a cheap model, judged by cleanlab.

TF-IDF of words and characters under a logistic regression (one class against the rest, by stochastic gradient), five
folds. Northcutt, Jiang and Chuang 2021, Confident Learning (JAIR 70:1373).
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from finesmith.checks.base import Checked, Progress, label_of

FOLDS = 5
FIT_ROWS = 16_000
"""Most rows that one fold learns from; all rows are judged. Bounds the time on large sets."""
FIT_CELLS = 2_400_000
"""Most rows times classes of one fold."""
WORDS, CHARACTERS = 50_000, 30_000
MANY_ROWS = 40_000
"""From so many rows on the features are words alone: characters take five times as long for two points of recall."""
LEAST = 2 * FOLDS
"""Rows that a class needs to be judged."""


@dataclass(frozen=True)
class Judged:
    """Rows that a cheap model thinks mislabelled.

    `places` are the rows of the data that were judged [M], `flagged` those of them (as positions in `places`) that
    confident learning calls errors, the least plausible first; `confidence` is the probability of the given label
    [M], `expected` the most probable label [M], `classes` the names, `accuracy` that of the cheap model.
    """

    places: np.ndarray
    flagged: np.ndarray
    confidence: np.ndarray
    expected: np.ndarray
    classes: tuple[str, ...]
    accuracy: float


def unjudged(data: Checked) -> str:
    """Why there is nothing to judge labels with: several labels a row, or no two classes with rows enough."""
    if any(isinstance(row.target, tuple) for row in data.rows[:1]):
        return "several labels a row: confident learning is for one label a row"
    counts = Counter(label_of(row) for row in data.rows)
    if sum(count >= LEAST for count in counts.values()) < 2:
        return f"fewer than two classes have {LEAST} rows"
    return ""


def judge(data: Checked, labels: Sequence[str], progress: Progress, *, seed: int, texts: Any = None) -> Judged:
    """Judges every row whose class is large enough, under the labels given."""
    names, codes, sizes = np.unique(np.asarray(labels, object).astype(str), return_inverse=True, return_counts=True)
    places = np.flatnonzero(sizes[codes] >= LEAST)
    kept = np.unique(codes[places])
    codes = np.searchsorted(kept, codes[places])
    features = (vectors(data) if texts is None else texts)[places]
    chances = out_of_fold(features, codes, len(kept), progress, seed=seed)
    confidence, expected = chances[np.arange(len(codes)), codes], chances.argmax(axis=1)
    return Judged(
        places,
        _flagged(codes, chances),
        confidence,
        expected,
        tuple(names[kept].tolist()),
        float((expected == codes).mean()),
    )


def vectors(data: Checked) -> Any:
    """Sparse features of every row [N, F]; made once."""
    if "vectors" not in data._found:
        data._found["vectors"] = _vectors(data.contents, seed=data.recipe.seed)
    return data._found["vectors"]


def _vectors(texts: Sequence[str], *, seed: int) -> Any:
    from scipy.sparse import csr_matrix, hstack
    from sklearn.feature_extraction.text import TfidfVectorizer

    sample = [texts[place] for place in _sample(np.arange(len(texts)), 2 * FIT_ROWS, seed)]
    halves: list[dict[str, Any]] = [{"analyzer": "word", "ngram_range": (1, 2), "max_features": WORDS}]
    if len(texts) <= MANY_ROWS:
        halves.append({"analyzer": "char_wb", "ngram_range": (2, 5), "max_features": CHARACTERS})
    found = []
    for half in halves:
        vectorizer = TfidfVectorizer(sublinear_tf=True, dtype=np.float32, min_df=min(2, len(sample)), **half)
        try:
            found.append(vectorizer.fit(sample).transform(texts))
        except ValueError:  # no word, or no n-gram, stands twice
            continue
    return csr_matrix(hstack(found)) if found else csr_matrix((len(texts), 1), dtype=np.float32)


def out_of_fold(features: Any, codes: np.ndarray, classes: int, progress: Progress, *, seed: int) -> np.ndarray:
    """Probabilities [N, K] of each row's classes from a model that has not seen the row."""
    from sklearn.linear_model import SGDClassifier
    from sklearn.model_selection import StratifiedKFold

    most = max(classes * LEAST, min(FIT_ROWS, FIT_CELLS // classes))
    chances = np.zeros((len(codes), classes), np.float32)
    for learn, apply in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(features, codes):
        learn = _sample(learn, most, seed, codes)
        model = SGDClassifier(loss="log_loss", alpha=1e-5, max_iter=5, tol=None, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(features[learn], codes[learn])
        found = model.predict_proba(features[apply])
        chances[np.ix_(apply, model.classes_)] = found
        progress(len(apply))
    return chances


def _sample(places: np.ndarray, most: int, seed: int, codes: np.ndarray | None = None) -> np.ndarray:
    """At most so many places, drawn at random, in order; at least two of every class."""
    if len(places) <= most:
        return places
    drawn = np.random.default_rng(seed).permutation(places)
    keep = drawn[:most]
    if codes is not None:
        order = drawn[np.argsort(codes[drawn], kind="stable")]
        first = np.unique(codes[order], return_index=True)[1]
        keep = np.unique(np.concatenate([keep, order[first], order[np.minimum(first + 1, len(order) - 1)]]))
    return np.sort(keep)


def _flagged(codes: np.ndarray, chances: np.ndarray) -> np.ndarray:
    from cleanlab.filter import find_label_issues

    if chances.shape[1] < 2:
        return np.zeros(0, np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sums = chances.sum(axis=1, keepdims=True)
        flat = np.full_like(chances, 1 / chances.shape[1])
        sure = np.divide(chances, sums, out=flat, where=sums > 0)
        return np.asarray(find_label_issues(codes, sure, return_indices_ranked_by="self_confidence", n_jobs=1))
