"""Brings a hub's weights to this machine, by themselves: what loading takes later is not what the network took."""

from __future__ import annotations

from pathlib import Path

from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, cached_file
from transformers.utils.hub import get_checkpoint_shard_files

from finesmith.models import place
from finesmith.models.load import quiet
from finesmith.models.settings import ModelSettings


def weights(settings: ModelSettings) -> None:
    """Into the hub's cache, where they are not there yet. A folder has them, and random weights are nowhere.

    What goes wrong is left to be said where the model is loaded.
    """
    where = place.of(settings)
    if settings.from_scratch or Path(where).expanduser().is_dir():
        return
    lenient = {
        f"_raise_exceptions_for_{what}": False for what in ("gated_repo", "missing_entries", "connection_errors")
    }
    try:
        with quiet():
            if cached_file(where, SAFE_WEIGHTS_NAME, revision=settings.revision, **lenient):
                return
            if index := cached_file(where, SAFE_WEIGHTS_INDEX_NAME, revision=settings.revision, **lenient):
                get_checkpoint_shard_files(where, index, revision=settings.revision)
    except Exception:  # a network has many ways to fail; loading meets the same one, and says what it means
        return
