"""A linear probe on the base's frozen features: a cheap stand-in for the tuned model, fitted in seconds."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from finesmith.baselines.base import as_text
from finesmith.checks._features import Base
from finesmith.measurements.base import Study
from finesmith.types import Input


def features(study: Study, inputs: Sequence[Input]) -> np.ndarray:
    """The mean last hidden state of each input under the base [N, D], each column with mean 0 and variance 1."""
    found = Base(study.recipe).features([as_text(item) for item in inputs])
    return (found - found.mean(axis=0)) / (found.std(axis=0) + 1e-6)


RIDGE = 100.0  # columns have variance 1: about the shrinking of C = 0.1


@dataclass(frozen=True)
class Probe:
    """A fitted probe; with one class in its rows it always answers that."""

    classes: np.ndarray
    model: Any

    def chances(self, rows: np.ndarray) -> np.ndarray:
        """Probabilities [N, K] of `classes`."""
        return np.ones((len(rows), 1)) if self.model is None else self.model.predict_proba(rows)

    def answers(self, rows: np.ndarray) -> np.ndarray:
        """The most probable class of each row."""
        return self.classes[self.chances(rows).argmax(axis=1)]


def fit(rows: np.ndarray, labels: Sequence[str]) -> Probe:
    """A logistic regression."""
    from sklearn.linear_model import LogisticRegression

    names = np.asarray(labels, dtype=str)
    if len(set(names.tolist())) < 2:
        return Probe(names[:1], None)
    with warnings.catch_warnings():  # a fit that is cut short is only regularised a little more
        warnings.simplefilter("ignore")
        model = LogisticRegression(C=0.1, max_iter=100).fit(rows, names)
    return Probe(model.classes_, model)


@dataclass(frozen=True)
class Several:
    """Of several labels a row: a ridge regression of each label's yes and no (1 and -1), all fitted at once."""

    weights: np.ndarray

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """[N, K]: above 0 where the label is thought to hold."""
        return _with_ones(rows) @ self.weights


def fit_several(rows: np.ndarray, held: np.ndarray) -> Several:
    """`held` [N, K] says which labels hold."""
    known = _with_ones(rows)
    wanted = np.where(held, 1.0, -1.0)
    penalty = RIDGE * np.eye(known.shape[1])
    return Several(np.linalg.solve(known.T @ known + penalty, known.T @ wanted))


def _with_ones(rows: np.ndarray) -> np.ndarray:
    return np.concatenate([rows, np.ones((len(rows), 1))], axis=1)


def margins_of_several(chances: np.ndarray) -> np.ndarray:
    """How far the least sure label is from one half, times two [N]: 0 where it could as well hold."""
    return np.abs(2 * chances - 1).min(axis=1)


def margins(chances: np.ndarray) -> np.ndarray:
    """How much more probable the first label is than the second [N]; 1 where there is one label."""
    if chances.shape[1] < 2:
        return np.ones(len(chances))
    top = np.sort(chances, axis=1)
    return top[:, -1] - top[:, -2]


def diverse(rows: np.ndarray, candidates: np.ndarray, count: int, *, seed: int) -> np.ndarray:
    """`count` of the candidates (positions in `rows`), spread out: the row nearest to the centre of each cluster."""
    from sklearn.cluster import KMeans

    if len(candidates) <= count:
        return candidates
    chosen = rows[candidates]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = KMeans(count, n_init=1, random_state=seed).fit(chosen)
    distance = found.transform(chosen)
    nearest = [
        int(members[distance[members, cluster].argmin()])
        for cluster in range(count)
        if len(members := np.flatnonzero(found.labels_ == cluster))
    ]
    rest = [place for place in range(len(candidates)) if place not in set(nearest)][: count - len(nearest)]
    return candidates[[*nearest, *rest]]
