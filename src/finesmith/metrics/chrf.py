"""chrF2 of the whole test set, 0 to 100; higher is better. Closeness of answers to references in character n-grams.

Popovic 2015 (W15-3049), and 2016 for beta = 2 (W16-2341), as sacreBLEU computes it
(`nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no`): for n = 1..6, matches, n-grams of the answer and n-grams of the
reference are summed over rows; precision and recall are the means over those n where both texts have n-grams;
F = 5 P R / (4 P + R). Corpus level, not the mean of sentences: long answers count by their length.

The counts are made here and not by sacreBLEU because a bootstrap needs them by row, which its public interface does
not give; a test holds the value equal to sacreBLEU's `corpus_score`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from finesmith.metrics.base import Metric, Statistics, text_of
from finesmith.types import Prediction, Target

ORDER = 6  # longest n-gram
BETA_SQUARED = 4  # recall counts twice as much as precision


@dataclass(frozen=True)
class ChrF(Metric):
    """Corpus chrF2 with one reference a row."""

    title: str = "chrF"
    digits: int = 1
    limits: tuple[float, float] = (0.0, 100.0)

    def statistics(self, targets: Sequence[Target], predictions: Sequence[Prediction]) -> Statistics:
        """[N, 3 x 6]: n-grams of the answer, of the reference, and in common, for n = 1..6."""
        rows = [_counts(text_of(p.output), text_of(t)) for t, p in zip(targets, predictions, strict=True)]
        return np.array(rows, dtype=float).reshape(-1, 3 * ORDER)

    def score(self, sums: np.ndarray) -> np.ndarray:
        """F2 of mean precision and mean recall, times 100."""
        answer, reference, common = np.split(sums, 3, axis=-1)
        counted = (answer > 0) & (reference > 0)
        orders = np.maximum(counted.sum(axis=-1), 1)
        precision = np.divide(common, answer, out=np.zeros_like(common), where=counted).sum(axis=-1) / orders
        recall = np.divide(common, reference, out=np.zeros_like(common), where=counted).sum(axis=-1) / orders
        below = BETA_SQUARED * precision + recall
        above = (1 + BETA_SQUARED) * precision * recall
        return 100 * np.divide(above, below, out=np.zeros(below.shape), where=below > 0)


def _counts(answer: str, reference: str) -> np.ndarray:
    """[3, 6] n-grams of the answer (0 where the reference has none of that length), of the reference, in common."""
    out = np.zeros((3, ORDER))
    for n in range(1, ORDER + 1):
        ours, theirs = _ngrams(answer, n), _ngrams(reference, n)
        out[:, n - 1] = ours.total() if theirs else 0, theirs.total(), (ours & theirs).total()
    return out


def _ngrams(text: str, n: int) -> Counter[str]:
    """Character n-grams of the text without its white space."""
    letters = "".join(text.split())
    return Counter(letters[start : start + n] for start in range(len(letters) - n + 1))


PLUGIN = ChrF()
