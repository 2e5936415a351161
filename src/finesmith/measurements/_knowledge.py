"""What each of several trainings makes of the shipped passages, beside their one base: what it cost in knowledge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from finesmith.evidence import stats
from finesmith.measurements import _general
from finesmith.measurements.base import Study
from finesmith.types import Estimate

if TYPE_CHECKING:
    from finesmith.models.load import Loaded


@dataclass(frozen=True)
class Knowledge:
    """Nats of each passage, or of an encoder (no `language`) whether its kind is read off the features: [R]."""

    passages: np.ndarray
    language: bool

    @property
    def name(self) -> str:
        """What is lost, as `retention` calls it."""
        return "change_bits_per_byte" if self.language else "loss_probe_accuracy"


def look(study: Study, loaded: Loaded) -> Knowledge:
    """Reads the passages.

    All in the run's arithmetic: a model that was just trained holds its frozen weights in it, one that was loaded
    may not.
    """
    from finesmith.models.device import autocast

    yard = _general.yardstick(study, loaded, features=False)
    with autocast(loaded.device, loaded.dtype):
        if yard.language is not None:
            read = _general.Language(loaded, yard.texts, yard.language.logits, remember=False).read()
            return Knowledge(read.nats, True)
        right = yard.look().right
    assert right is not None
    return Knowledge(right.astype(float), False)


def lost(base: Knowledge, one: Knowledge, other: Knowledge | None = None, *, seed: int) -> Estimate:
    """How much worse one is than the base, or than another (both measured by the base): relative bits per byte, or the
    share of passages whose kind is no longer read off the features."""
    other = other or base
    if not base.language:
        return stats.newcombe(other.passages, one.passages)
    read = np.stack([base.passages, one.passages, other.passages], axis=1)
    return stats.over_rows(lambda sums: (sums[..., 1] - sums[..., 2]) / sums[..., 0], read, seed=seed)
