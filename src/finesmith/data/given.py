"""What a user gives to a comparison besides the run: a glossary, prompts, unlabelled rows; read where it is a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finesmith.data import glossary, prompts, sources

READERS = {"glossary": glossary.read, "prompts": prompts.read}


def read(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options with their files read, and the same as they were given, in plain values.

    A glossary or prompts may come as a path or as what such a file holds, which is told as `{"entries": their number}`.

    Raises:
        DataError: a file is not there, or not what it must be.
    """
    if options.get("unlabelled"):
        sources.locate(str(options["unlabelled"]))  # read where it is used: it may be large
    values = {
        name: READERS[name](str(value)) if name in READERS and isinstance(value, str | Path) else value
        for name, value in options.items()
    }
    told = {
        name: {"entries": len(value)} if name in READERS and not isinstance(value, str | Path) else _plain(value)
        for name, value in options.items()
    }
    return values, told


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
