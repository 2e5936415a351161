"""Puts a file or folder in the place of another: the new one is there whole, or the old one still is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from finesmith.errors import RunError


def put(target: Path, write: Callable[[Path], Any]) -> None:
    """Lets `write` make a file or folder under a temporary name and renames it when it is complete.

    Raises:
        RunError: the disk is full or the place cannot be written; what was there stays, and nothing half-written.
    """
    part = target.with_name(f".{target.name}.part")
    try:
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            remove(part)  # of a process that was killed while it wrote
            write(part)
            _as_others_are(part)
            _rename(part, target)
    finally:
        with suppress(OSError):
            remove(part)


def remove(path: Path) -> None:
    """Removes a file, a folder or a link (not what that leads to), if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What the disk refuses, as one sentence.

    Raises:
        RunError: the disk is full or the place cannot be written.
    """
    try:
        yield
    except RunError:
        raise
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise RunError(f"Cannot write {path}: {reason}.", hint="Is the disk full or the folder read-only?") from error


def _rename(part: Path, target: Path) -> None:
    """A folder cannot be renamed onto another: the old one steps aside, goes last, and comes back if that fails."""
    if not (part.is_dir() or target.is_dir()):
        os.replace(part, target)
        return
    old = target.with_name(f".{target.name}.old")
    try:
        if os.path.lexists(target):  # else an old one was left by a process that was killed in between: the only one
            remove(old)
            os.rename(target, old)
        os.replace(part, target)
    except BaseException:
        if os.path.lexists(old) and not os.path.lexists(target):
            os.rename(old, target)
        raise
    with suppress(OSError):
        remove(old)


def _as_others_are(part: Path) -> None:
    """Gives files the mode that the umask asks for: safetensors lets only their owner read them."""
    mask = os.umask(0o077)
    os.umask(mask)
    for file in [part] if part.is_file() else part.rglob("*"):
        if file.is_file():
            file.chmod(0o666 & ~mask)
