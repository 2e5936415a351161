"""Files in the system's folder for temporary ones: where it is full, the message names it and how to take another."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from finesmith.errors import RunError

PREFIX = "finesmith-"
"""How their names begin. What the system says of one that is open names none."""


@contextmanager
def written() -> Iterator[None]:
    """While temporary files are made and written.

    Raises:
        RunError: the system refuses it, mostly for want of room.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, RunError) or PREFIX not in str(error.filename or PREFIX):
            raise
        where = tempfile.tempdir or "the system's folder for them"
        raise RunError(
            f"Cannot write temporary files to {where}: {error.strerror or error}.",
            hint="Make room there, or name a folder on another disk in the environment variable TMPDIR.",
        ) from error
