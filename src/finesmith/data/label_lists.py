"""Several labels in one cell of a table: a list in JSON (so `finesmith predict` writes it) or as pandas does."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

ITEM = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[+-]?\d+"""
LIST = re.compile(rf"\[\s*(?:(?:{ITEM})(?:\s*,\s*|\s+|(?=\])))*\]")
"""A list of texts or whole numbers as Python writes it, `['a', 'b']`, or an array as NumPy does, `['a' 'b']`."""


def parted(value: Any) -> Any:
    """The list that a cell holds as text, `["a", "b"]` or `['a', 'b']`; any other value as it is."""
    if not isinstance(value, str) or not value.strip().startswith("["):
        return value
    try:
        found = json.loads(value)
    except ValueError:
        found = _pythons(value.strip())
    except RecursionError:
        return value
    return found if isinstance(found, list) and all(isinstance(each, str | int) for each in found) else value


def _pythons(text: str) -> list[Any] | None:
    """The list that Python or NumPy would write so; item by item, as Python itself reads `['a' 'b']` as one text."""
    try:
        return [ast.literal_eval(item) for item in re.findall(ITEM, text)] if LIST.fullmatch(text) else None
    except (ValueError, SyntaxError):
        return None
