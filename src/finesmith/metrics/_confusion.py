"""Class by class: precision, recall, F1, support, and which classes are taken for which. Plain values, for reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np

from finesmith.metrics.base import label_set
from finesmith.types import Target


class ClassScore(TypedDict):
    """One class. Shares in 0..1; `support` is the number of rows that have the label."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int


class Confusion(TypedDict):
    """`count` rows of class `target` were called `output`."""

    target: str
    output: str
    count: int


def indicators(targets: Sequence[Target], outputs: Sequence[Target]) -> tuple[list[str], Any, Any]:
    """The labels that occur, sorted, and for targets and outputs a sparse [N, K] array of ones."""
    target_sets, output_sets = [label_set(t) for t in targets], [label_set(o) for o in outputs]
    labels = sorted(frozenset().union(*target_sets, *output_sets))
    column = {label: index for index, label in enumerate(labels)}
    return labels, _ones(target_sets, column), _ones(output_sets, column)


def _ones(sets: Sequence[frozenset[str]], column: dict[str, int]) -> Any:
    from scipy.sparse import csr_array

    pairs = [(row, column[label]) for row, labels in enumerate(sets) for label in labels]
    rows, columns = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return csr_array((np.ones(len(pairs)), (rows, columns)), shape=(len(sets), len(column)))


def per_class(targets: Sequence[Target], outputs: Sequence[Target]) -> list[ClassScore]:
    """Scores of every class in targets or outputs, in the order of their labels; 0 where nothing could be counted.

    The same as scikit-learn's `precision_recall_fscore_support(zero_division=0)`.
    """
    labels, target, output = indicators(targets, outputs)
    support, called = target.sum(axis=0), output.sum(axis=0)
    common = target.multiply(output).sum(axis=0)
    return [
        ClassScore(
            label=label,
            precision=float(hits / out) if out else 0.0,
            recall=float(hits / there) if there else 0.0,
            f1=float(2 * hits / (there + out)),
            support=int(there),
        )
        for label, hits, there, out in zip(labels, common, support, called, strict=True)
    ]


def confusions(targets: Sequence[Target], outputs: Sequence[Target], *, limit: int = 10) -> list[Confusion]:
    """The most frequent wrong answers, the commonest first, ties by label. Empty where rows have several labels:
    there, which label was taken for which is not known."""
    pairs = Counter(
        (target, output)
        for target, output in zip(targets, outputs, strict=True)
        if isinstance(target, str) and isinstance(output, str) and target != output
    )
    ranked = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))[:limit]
    return [Confusion(target=target, output=output, count=count) for (target, output), count in ranked]


def matrix(targets: Sequence[Target], outputs: Sequence[Target], *, most: int = 40) -> dict[str, Any]:
    """`labels`, and `values` [K][K]: how many rows of label k (down) were answered with each label (across).

    Empty where rows have several labels, and for more than `most` labels, which nobody could read.
    """
    pairs = Counter(zip(targets, outputs, strict=True))
    labels = sorted({label for pair in pairs for label in pair if isinstance(label, str)})
    if len(labels) > most or not all(isinstance(label, str) for pair in pairs for label in pair):
        return {}
    return {"labels": labels, "values": [[pairs[true, said] for said in labels] for true in labels]}
