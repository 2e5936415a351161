"""A glossary file: which terms are preferred, and which variants are forbidden."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from finesmith.errors import DataError


def read(path: str) -> tuple[dict[str, Any], ...]:
    """The entries of a JSON list of `{"preferred": "Client", "forbidden": ["Customer"]}`; other keys are kept.

    Raises:
        DataError: the file is not there, not JSON, or an entry lacks one of the two, or its `trigger` is no regular
            expression.
    """
    try:
        entries = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(f"Cannot read the glossary {path}: {error}.") from error
    return of(entries, path)


def of(entries: Any, name: str) -> tuple[dict[str, Any], ...]:
    """The same of what such a file holds; `name` is what errors call it.

    Raises:
        DataError: as for `read`.
    """
    listed = isinstance(entries, list | tuple)
    wrong = [
        f"entry {number}: {_shown(entry)}"
        for number, entry in enumerate(entries if listed else [entries], start=1)
        if not listed
        or not isinstance(entry, dict)
        or not isinstance(entry.get("preferred"), str)
        or not isinstance(entry.get("forbidden"), list)
    ]
    if wrong or not entries:
        raise DataError(
            f"{name} is no glossary.",
            problems=wrong,
            hint='It must be a list of {"preferred": "Client", "forbidden": ["Customer", "Buyer"]}.',
        )
    if bad := [f"entry {number}: {why}" for number, entry in enumerate(entries, start=1) if (why := _trigger(entry))]:
        raise DataError(
            f"{name} has a trigger that is no regular expression.",
            problems=bad,
            hint="Write \\ before a sign that stands for itself, such as ( or *.",
        )
    return tuple(entries)


def _trigger(entry: dict[str, Any]) -> str:
    """What is wrong with the expression that says in which prompts a term is called for."""
    try:
        re.compile(entry.get("trigger") or "")
    except (re.error, TypeError, RecursionError, OverflowError) as error:
        return f"{_shown(entry['trigger'])}: {error}"
    return ""


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)[:80]
