"""A glossary file: which terms are preferred, and which variants are forbidden."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from finesmith.errors import DataError


def read(path: str) -> tuple[dict[str, Any], ...]:
    """The entries of a JSON list of `{"preferred": "Client", "forbidden": ["Customer"]}`; other keys are kept.

    Raises:
        DataError: the file is not there, not JSON, or an entry lacks one of the two.
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
    return tuple(entries)
