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
    wrong = [
        f"entry {number}: {json.dumps(entry, ensure_ascii=False)[:80]}"
        for number, entry in enumerate(entries if isinstance(entries, list) else [entries], start=1)
        if not isinstance(entries, list)
        or not isinstance(entry, dict)
        or not isinstance(entry.get("preferred"), str)
        or not isinstance(entry.get("forbidden"), list)
    ]
    if wrong or not entries:
        raise DataError(
            f"{path} is no glossary.",
            problems=wrong,
            hint='It must be a JSON list of {"preferred": "Client", "forbidden": ["Customer", "Buyer"]}.',
        )
    if bad := [f"entry {number}: {why}" for number, entry in enumerate(entries, start=1) if (why := _trigger(entry))]:
        raise DataError(
            f"{path} has a trigger that is no regular expression.",
            problems=bad,
            hint="Write \\ before a sign that stands for itself, such as ( or *.",
        )
    return tuple(entries)


def _trigger(entry: dict[str, Any]) -> str:
    """What is wrong with the expression that says in which prompts a term is called for."""
    try:
        re.compile(entry.get("trigger") or "")
    except (re.error, TypeError, RecursionError, OverflowError) as error:
        return f"{json.dumps(entry['trigger'], ensure_ascii=False)[:80]}: {error}"
    return ""
