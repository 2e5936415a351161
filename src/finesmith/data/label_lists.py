"""Several labels in one cell of a table: a JSON list as text, as `finesmith predict` writes it into CSV."""

from __future__ import annotations

import json
from typing import Any


def parted(value: Any) -> Any:
    """The list that a cell holds as text, `["a", "b"]`; any other value as it is."""
    if not isinstance(value, str) or not value.strip().startswith("["):
        return value
    try:
        found = json.loads(value)
    except ValueError:
        return value
    return found if isinstance(found, list) and all(isinstance(each, str | int) for each in found) else value
