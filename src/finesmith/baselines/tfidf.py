"""TF-IDF and a linear SVM: the classical opponent that a fine-tuned classifier has to beat.

Words (1-2) and characters (`char_wb`, 2-5), sublinear, LinearSVC with C = 1; one against the rest where several labels
may hold. Source: the usual strong linear baseline (Wang and Manning 2012; SVM rows of LexGLUE, TweetEval, CLINC150).
On BANKING77 (10,003 training rows, 3,080 test rows; Casanueva et al. 2020, arXiv 2003.04807) its accuracy is 0.912.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from finesmith.baselines import _features
from finesmith.baselines.base import TestInput, as_text
from finesmith.types import Example, Prediction


@dataclass(frozen=True)
class Tfidf:
    """TF-IDF of words and characters under a linear SVM, on as many rows as `_features.part` allows.

    It gives no scores: margins are not probabilities.
    """

    title: str = "TF-IDF + linear SVM"
    tasks: tuple[str, ...] = ("classification",)

    def __call__(self, train: Sequence[Example], test_inputs: Sequence[TestInput], *, seed: int) -> list[Prediction]:
        """Fits on the training rows and labels every input."""
        if not test_inputs:
            return []
        texts = [as_text(example.input) for example in train]
        places = _features.part(texts)
        texts, labels = [texts[place] for place in places], [train[place].target for place in places]
        vectors = _features.features(texts)
        told = vectors.transform(texts) if vectors else np.zeros((len(texts), 1))
        asked = vectors.transform([text for _, text in test_inputs]) if vectors else np.zeros((len(test_inputs), 1))
        answer: Callable[..., Sequence[str | tuple[str, ...]]] = _several if isinstance(labels[0], tuple) else _one
        outputs = answer(told, labels, asked, usable=vectors is not None, seed=seed)
        return [Prediction(id=name, output=output) for (name, _), output in zip(test_inputs, outputs, strict=True)]


def _one(told: Any, labels: Sequence[Any], asked: Any, *, usable: bool, seed: int) -> list[str]:
    """One label a row; the most frequent one where there is nothing to tell the classes apart by."""
    from sklearn.dummy import DummyClassifier
    from sklearn.svm import LinearSVC

    learnable = usable and len(set(labels)) > 1
    model = LinearSVC(C=1.0, random_state=seed) if learnable else DummyClassifier(strategy="most_frequent")
    return [str(label) for label in model.fit(told, labels).predict(asked)]


def _several(told: Any, labels: Sequence[Any], asked: Any, *, usable: bool, seed: int) -> list[tuple[str, ...]]:
    """A sorted set of labels a row: each label is decided by itself."""
    from sklearn.preprocessing import MultiLabelBinarizer

    binarizer = MultiLabelBinarizer()
    wanted = binarizer.fit_transform(labels)
    columns = [_one(told, column.tolist(), asked, usable=usable, seed=seed) for column in wanted.T]
    rows = zip(*columns, strict=True) if columns else [()] * asked.shape[0]
    return [tuple(name for name, hit in zip(binarizer.classes_, row, strict=True) if hit == "1") for row in rows]


PLUGIN = Tfidf()
