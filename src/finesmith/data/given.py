"""What a user gives to a comparison besides the run: a glossary, prompts, unlabelled rows; read where it is a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finesmith.data import glossary, prompts, sources
from finesmith.errors import RecipeError, nearest

READERS = {"glossary": (glossary.read, glossary.of), "prompts": (prompts.read, prompts.of)}
"""How a file is read, and what such a file holds where it is handed over."""
NAMES = (*READERS, "unlabelled", "target", "risk", "retention_margin")


def read(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options with their files read, and the same as they were given, in plain values; without those that are None.

    A glossary or prompts may come as a path or as what such a file holds, which is told as `{"entries": their number}`.

    Raises:
        RecipeError: an option that no measurement knows.
        DataError: a file is not there, or not what it must be; or what was handed over is not what a file may hold.
    """
    options = {name: value for name, value in options.items() if value is not None}
    for name in options:
        if name not in NAMES:
            raise RecipeError(f"Unknown option '{name}' for a comparison. {nearest(name, NAMES)}")
    if options.get("unlabelled"):
        sources.locate(str(options["unlabelled"]))  # read where it is used: it may be large
    values = {name: _read(name, value) for name, value in options.items()}
    told = {
        name: {"entries": len(values[name])} if name in READERS and not _is_path(value) else _plain(value)
        for name, value in options.items()
    }
    return values, told


def _read(name: str, value: Any) -> Any:
    if name not in READERS:
        return value
    from_file, handed_over = READERS[name]
    return from_file(str(value)) if _is_path(value) else handed_over(value, f"options['{name}']")


def _is_path(value: Any) -> bool:
    return isinstance(value, str | Path)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
