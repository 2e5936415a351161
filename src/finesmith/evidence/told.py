"""Probabilities of labels with the truth, of one label a row or of several; everything that calibration asks of them.

Where several labels may hold, each is a yes-or-no of its own: one temperature makes all of them true, an answer is
right where the whole set is, and it is as sure as the product of what its labels are (as if these were independent).

Legend for shapes: N rows, K labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from finesmith.evidence import calibration


@dataclass(frozen=True)
class Told:
    """`chances` [N, K]; `truth` [N] has each row's column, or [N, K] whether each label holds."""

    chances: np.ndarray
    truth: np.ndarray

    @property
    def several(self) -> bool:
        """Whether more than one label may hold."""
        return self.truth.ndim == 2

    def part(self, rows: slice) -> Told:
        """Some of the rows."""
        return Told(self.chances[rows], self.truth[rows])

    def temperature(self) -> float:
        """What makes the probabilities least surprised by the truth."""
        if not self.several:
            return calibration.temperature(self.chances, self.truth)
        return calibration.temperature(_sides(self.chances), self.truth.ravel().astype(int))

    def tempered(self, temperature: float) -> Told:
        """Flatter above 1, sharper below."""
        return Told(tempered(self.chances, temperature, several=self.several), self.truth)

    @property
    def confidence(self) -> np.ndarray:
        """[N]: how sure each row's answer is."""
        return confidence(self.chances, several=self.several)

    @property
    def right(self) -> np.ndarray:
        """[N]: 1 where the answer is the truth, the whole set of labels where there are several."""
        if self.several:
            return ((self.chances > 0.5) == self.truth).all(axis=1).astype(float)
        return (self.chances.argmax(axis=1) == self.truth).astype(float)

    @property
    def held(self) -> np.ndarray:
        """[N, K]: whether each label holds."""
        return self.truth if self.several else self.truth[:, None] == np.arange(self.chances.shape[1])

    def nll(self) -> float:
        """Mean nats of a row's truth; of several labels the sum over them."""
        if not self.several:
            return calibration.nll(self.chances, self.truth)
        each = calibration.nll(_sides(self.chances), self.truth.ravel().astype(int))
        return each * self.chances.shape[1]

    def brier(self) -> float:
        """Mean squared distance from the truth, summed over labels."""
        return calibration.brier(self.chances, self.truth)

    def quantile(self, alpha: float) -> float:
        """How far from 1 a probability may be in a set: see `calibration.conformal` and `calibration.controlled`."""
        if self.several:
            return calibration.controlled(self.chances, self.truth, alpha)
        return calibration.conformal(self.chances, self.truth, alpha)


def tempered(chances: np.ndarray, temperature: float, *, several: bool) -> np.ndarray:
    """The probabilities [N, K] at a temperature; of several labels each for itself."""
    if not several:
        return calibration.tempered(chances, temperature)
    return calibration.tempered(_sides(chances), temperature)[:, 1].reshape(chances.shape)


def confidence(chances: np.ndarray, *, several: bool) -> np.ndarray:
    """[N]: the largest probability, or the probability of the whole set if its labels were independent."""
    return np.maximum(chances, 1 - chances).prod(axis=1) if several else chances.max(axis=1)


def _sides(chances: np.ndarray) -> np.ndarray:
    """[N K, 2]: each label's probability not to hold, and to hold."""
    return np.stack([1 - chances.ravel(), chances.ravel()], axis=1)
