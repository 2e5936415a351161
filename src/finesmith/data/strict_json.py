"""JSON as the standard has it: no NaN, no key twice, no half characters. Faults are said in words."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

from finesmith.data.rows import Bad, Fault, Row, kind

HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise Fault(f"the key '{twice}' stands twice in one object")
    return value


def _no_constant(name: str) -> Any:
    raise Fault(f"{name} is not a JSON value")


STRICT = json.JSONDecoder(object_pairs_hook=_unique_keys, parse_constant=_no_constant)


def row(text: str) -> Row | Bad:
    """The object that a line of JSON holds, or why it holds none."""
    try:
        value = STRICT.decode(text)
    except json.JSONDecodeError as error:
        return Bad(f"not valid JSON: {error.msg} (column {error.colno})", text)
    except Fault as fault:
        return Bad(str(fault), text)
    except ValueError:  # the interpreter's limit for numbers
        return Bad(f"holds a whole number of more than {sys.get_int_max_str_digits():,} digits", text)
    except RecursionError:
        return Bad("nested too deeply", text)
    return as_row(value, text)


def as_row(value: Any, text: str) -> Row | Bad:
    """A decoded value as a row: it must be an object, and its texts must be whole characters."""
    if not isinstance(value, dict):
        return Bad(f"holds {kind(value)} where an object was expected", text)
    half = half_character(value) if HALF_CHARACTER.search(text) else ""
    return Bad(half, text) if half else value


def half_character(value: Any) -> str:
    """What is wrong with a decoded value whose texts are not whole characters, else nothing."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        return f"holds half a character (\\u{ord(error.object[error.start]):04x} without its pair)"
    return ""
