"""A file that a command writes: everything that can be wrong with its name is said before the work."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from finesmith.errors import RecipeError, RunError, nearest


def free(out: str, endings: Collection[str], what: str, *, force: bool) -> Path:
    """The path of a file that may be written. `what` begins the sentence about a wrong ending: `Answers`.

    Raises:
        RecipeError: another ending than one of `endings`.
        RunError: the file is there already (and `force` is not), or its folder is not, or it is a folder itself.
    """
    path = Path(out)
    if path.suffix.lower() not in endings:
        raise RecipeError(f"{what} cannot be written as '{path.suffix}' ({out}). {nearest(path.suffix, endings)}")
    if not path.parent.is_dir():
        raise RunError(f"Cannot write {out}: there is no folder '{path.parent}'.", hint="Make it, or name another.")
    if path.is_dir():
        raise RunError(f"'{out}' is a folder, and a file is to be written.", hint="Name a file.")
    if path.exists() and not force:
        raise RunError(f"'{out}' exists already.", hint="Name another file, or add --force to write over it.")
    return path
